"""Mistakes in what is summed: means for sums, mirrored kernels, the wrong activation, a missing axis, a short dtype.

In: the parts of a case. Out: the wrong array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from refgrad.arguments import Array
from refgrad.convolution import conv2d_forward, conv2d_input_gradient
from refgrad.multilinear import hosvd
from refgrad.oracle.mistakes.base import ArrayMistake, Mistake, PrecisionMistake
from refgrad.oracle.mistakes.parts import Parts
from refgrad.oracle.reference import tucker_product

__all__ = ["precision_mistakes", "value_mistakes"]


def value_mistakes() -> Iterator[Mistake]:
    """Yield the mistakes in forward, grad_weight, grad_input and grad_bias that are not ones of geometry."""
    for key, rows in (
        ("output", OUTPUTS),
        ("grad_weight", GRAD_WEIGHTS),
        ("grad_input", GRAD_INPUTS),
        ("grad_bias", GRAD_BIASES),
    ):
        row = "forward" if key == "output" else key
        for name, cause, wrong in rows:
            yield ArrayMistake(f"{row}: {name}", row, cause, key, wrong)


def precision_mistakes() -> Iterator[Mistake]:
    """Yield float32 accumulation; it explains any small error, so it is to be asked last."""
    rows = {"output": "forward", "core": "factors"}
    for key in ("output", "grad_input", "grad_weight", "grad_bias", "core", "reconstruction"):
        row = rows.get(key, key)
        cause = "its sums were accumulated in float32"
        yield PrecisionMistake(f"{row}: float32", row, cause, key)


def _size(parts: Parts) -> tuple[int, int]:
    return parts.x.shape[2], parts.x.shape[3]


def _mirrored(array: Array) -> Array:
    return array[:, :, ::-1, ::-1]


def _forward(parts: Parts, x: Array, weight: Array, bias: Array) -> Array:
    return conv2d_forward(x, np.ascontiguousarray(weight), bias, parts.case.geometry)


def _backward(parts: Parts, grad_output: Array, weight: Array) -> Array:
    return conv2d_input_gradient(grad_output, np.ascontiguousarray(weight), parts.case.geometry, _size(parts))


def _compressed(parts: Parts, array: Array) -> Array:
    return hosvd(array, float(parts.case.explained_variance)).reconstruct()


def _covered(parts: Parts) -> Array | None:
    """Return dA without the rows and columns after the last that the stride reaches; None where there are none."""
    read = parts.case.geometry.multiplicity(_size(parts))
    rows, columns = np.flatnonzero(read.any(axis=1)), np.flatnonzero(read.any(axis=0))
    if not rows.size or (rows[-1] + 1, columns[-1] + 1) == read.shape:
        return None
    return parts.right("grad_input")[:, :, : rows[-1] + 1, : columns[-1] + 1]


def _first_sample(parts: Parts) -> Array:
    only = np.zeros_like(parts.activation)
    only[:1] = parts.activation[:1]
    result: Array = parts.reference.grad_weight_at(only)
    return result


def _channels_swapped(parts: Parts) -> Array:
    return np.ascontiguousarray(parts.right("grad_weight").swapaxes(0, 1))


def _projected(parts: Parts) -> Array:
    projectors = tuple(factor @ factor.T for factor in parts.factors)
    return tucker_product(parts.right("grad_input"), projectors)


Wrong = tuple[str, str, Callable[[Parts], Array | None]]

OUTPUTS: tuple[Wrong, ...] = (
    ("no bias", "the bias is left out", lambda p: _forward(p, p.x, p.weight, np.zeros_like(p.bias))),
    ("bias twice", "the bias is added twice", lambda p: _forward(p, p.x, p.weight, 2.0 * p.bias)),
    (
        "mirrored kernel",
        "the kernel is mirrored (a true convolution)",
        lambda p: _forward(p, p.x, _mirrored(p.weight), p.bias),
    ),
    (
        "compressed activation",
        "the forward pass runs on the compressed activation",
        lambda p: _forward(p, p.activation, p.weight, p.bias),
    ),
)

GRAD_WEIGHTS: tuple[Wrong, ...] = (
    ("uncompressed activation", "the uncompressed activation is used", lambda p: p.reference.grad_weight_exact),
    ("batch mean", "the mean over the batch is taken, not the sum", lambda p: p.right("grad_weight") / p.x.shape[0]),
    (
        "mean over all positions",
        "the mean over the batch and the positions is taken, not the sum",
        lambda p: p.right("grad_weight") / p.reference.positions,
    ),
    ("mirrored kernel", "the kernel is mirrored (a true convolution)", lambda p: _mirrored(p.right("grad_weight"))),
    (
        "kernel axes swapped",
        "height and width of the kernel are swapped",
        lambda p: np.ascontiguousarray(p.right("grad_weight").swapaxes(2, 3)),
    ),
    ("channels swapped", "input and output channels are swapped", _channels_swapped),
    ("first sample only", "only the first sample counts", _first_sample),
    ("sign", "the sign is turned round", lambda p: -p.right("grad_weight")),
    ("twice", "it is added up twice", lambda p: 2.0 * p.right("grad_weight")),
)

GRAD_INPUTS: tuple[Wrong, ...] = (
    (
        "kernel not mirrored",
        "the kernel is not mirrored in the transposed convolution",
        lambda p: _backward(p, p.grad_output, _mirrored(p.weight)),
    ),
    (
        "projected on the factors",
        "it is projected on the factors of the compressed activation",
        _projected,
    ),
    (
        "compressed grad_output",
        "the gradient by the output is compressed as well",
        lambda p: _backward(p, _compressed(p, p.grad_output), p.weight),
    ),
    ("batch mean", "it is divided by the batch size", lambda p: p.right("grad_input") / p.x.shape[0]),
    ("cropped", "what the stride does not reach is missing, not 0", _covered),
)

GRAD_BIASES: tuple[Wrong, ...] = (
    ("batch mean", "the mean over the batch is taken, not the sum", lambda p: p.right("grad_bias") / p.x.shape[0]),
    (
        "mean over all positions",
        "the mean over the batch and the positions is taken, not the sum",
        lambda p: p.right("grad_bias") / p.reference.positions,
    ),
    (
        "mean over the positions",
        "the mean over the positions is taken, not the sum",
        lambda p: p.right("grad_bias") / math.prod(p.grad_output.shape[2:]),
    ),
    ("batch not summed", "the batch is not summed over", lambda p: p.grad_output.sum(axis=(2, 3))),
    ("width not summed", "the width is not summed over", lambda p: p.grad_output.sum(axis=(0, 2))),
    ("height not summed", "the height is not summed over", lambda p: p.grad_output.sum(axis=(0, 3))),
    ("first sample only", "only the first sample counts", lambda p: p.grad_output[0].sum(axis=(1, 2))),
    (
        "compressed grad_output",
        "the gradient by the output is compressed as well",
        lambda p: _compressed(p, p.grad_output).sum(axis=(0, 2, 3)),
    ),
)
