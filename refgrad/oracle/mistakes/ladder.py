"""Mistakes in the operations below and beside a whole convolution.

In: an operation's name. Out: its mistakes; many of a convolution's can be made in a smaller operation too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.convolution import linear_forward
from refgrad.multilinear import hosvd, unfold
from refgrad.oracle.mistakes.base import ArrayMistake, Mistake, RankMistake, SubspaceMistake
from refgrad.oracle.mistakes.decomposition import RANKS, decomposition_mistakes
from refgrad.oracle.mistakes.geometry import geometry_mistakes, group_mistakes
from refgrad.oracle.mistakes.parts import Parts
from refgrad.oracle.mistakes.steps import STEPS
from refgrad.oracle.mistakes.values import precision_mistakes, value_mistakes
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.protocol import KEYS
from refgrad.oracle.reference import tucker_product

__all__ = ["ladder_mistakes"]

Wrong = tuple[str, str, Callable[[Parts], Array | None]]

OF_ONE_SPECTRUM = (
    "one short",
    "one more",
    "sigma",
    "norm",
    "fourth power",
    "what may be lost",
    "share of the largest",
    "each against the largest",
    "share of the number of columns",
)
"""The rules for ranks that look at one spectrum only."""

OF_X = ("grad_weight: uncompressed activation", "grad_weight: batch mean", "grad_weight: mean over all positions")
"""Mistakes in a weight gradient that need the activation, which an operation on factors is not given."""


def ladder_mistakes(operation: str) -> Iterator[Mistake]:
    """Yield the mistakes of an operation, in the order in which a failure is compared with them.

    Examples
    --------
    >>> next(ladder_mistakes("unfold")).cause
    'the tensor is reshaped without moving the mode to the front'
    """
    if operation in ("rank", "svd"):
        for name, cause, rule in RANKS:
            if name in OF_ONE_SPECTRUM:
                yield RankMistake(f"ranks: {name}", "ranks", cause, partial(_of_the_first_mode, rule))
    for key, wrongs in ARRAYS.get(operation, {}).items():
        for name, cause, wrong in wrongs:
            yield ArrayMistake(f"{key}: {name}", KEYS[key], cause, key, wrong)
    if operation in ("hosvd", "sequential_hosvd", "linear"):
        for mistake in decomposition_mistakes():
            if operation != "sequential_hosvd" or not mistake.name.endswith(": sequential"):
                yield mistake
    if operation == "sequential_hosvd":
        cause = "every factor is taken from the tensor itself (HOSVD, THEORY D3)"
        yield SubspaceMistake("factors: not sequential", "factors", cause, lambda parts, mode, _: unfold(parts.x, mode))
    if operation == "subspace_iteration":
        for name, cause, matrix in ITERATIONS:
            yield SubspaceMistake(f"factors: {name}", "factors", cause, matrix)
    if operation == "weight_gradient":
        for mistake in (*value_mistakes(), *geometry_mistakes(), *group_mistakes()):
            if mistake.row == "grad_weight" and mistake.name not in OF_X:
                yield mistake
    if operation in ("hosvd", "sequential_hosvd", "linear", "weight_gradient"):
        rows = {KEYS[key] for key in OPERATIONS[operation].results}
        yield from (mistake for mistake in precision_mistakes() if mistake.row in rows)


def _of_the_first_mode(rule: Callable[[Any], tuple[int, ...]], reference: Any) -> tuple[int, ...]:
    return rule(reference)[:1]


def _mode(parts: Parts) -> int:
    return int(parts.case.attributes["mode"])


def _reshaped(parts: Parts) -> Array:
    return parts.x.reshape(parts.x.shape[_mode(parts)], -1)


def _swapped_axes(parts: Parts) -> Array:
    swapped = np.swapaxes(parts.x, _mode(parts), 0)
    return swapped.reshape(len(swapped), -1)


def _columns_backwards(parts: Parts) -> Array:
    """Return the unfolding with its columns in Kolda and Bader's order."""
    moved = np.moveaxis(parts.x, _mode(parts), 0)
    return moved.reshape(len(moved), -1, order="F")


def _columns_cyclic(parts: Parts) -> Array:
    """Return the unfolding with its columns in De Lathauwer's order."""
    mode, ndim = _mode(parts), parts.x.ndim
    order = [(mode + step) % ndim for step in range(ndim)]
    return parts.x.transpose(order).reshape(parts.x.shape[mode], -1)


def _transposed(key: str) -> Callable[[Parts], Array]:
    return lambda parts: np.ascontiguousarray(parts.right(key).T)


def _transposed_factors(parts: Parts) -> Array | None:
    if any(factor.shape[0] != factor.shape[1] for factor in parts.factors):
        return None
    return tucker_product(parts.core, tuple(factor.T for factor in parts.factors))


def _factors_backwards(parts: Parts) -> Array | None:
    backwards = parts.factors[::-1]
    if any(factor.shape[1] != rank for factor, rank in zip(backwards, parts.core.shape, strict=True)):
        return None
    return tucker_product(parts.core, backwards)


def _last_mode_not_expanded(parts: Parts) -> Array:
    return tucker_product(parts.core, parts.factors[:-1])


def _first_mode_not_expanded(parts: Parts) -> Array:
    return np.moveaxis(tucker_product(np.moveaxis(parts.core, 0, -1), parts.factors[1:]), -1, 0)


def _singular_values(parts: Parts) -> Array:
    values: Array = np.linalg.norm(parts.right("left"), axis=0)
    return values


def _left_not_scaled(parts: Parts) -> Array:
    values = _singular_values(parts)
    result: Array = parts.right("left") / np.where(values == 0.0, 1.0, values)
    return result


def _left_scaled_twice(parts: Parts) -> Array:
    return parts.right("left") * _singular_values(parts)


def _output(parts: Parts, x: Array, times_bias: float) -> Array:
    return linear_forward(x, parts.weight, times_bias * parts.bias)


def _batch_mean(key: str) -> Callable[[Parts], Array]:
    return lambda parts: parts.right(key) / parts.x.shape[0]


def _sample_mean(key: str) -> Callable[[Parts], Array]:
    return lambda parts: parts.right(key) / parts.reference.positions


def _compressed_gradient(parts: Parts) -> Array:
    return hosvd(parts.grad_output, float(parts.case.explained_variance)).reconstruct()


def _input_gradient_of_a_compressed_gradient(parts: Parts) -> Array:
    result: Array = _compressed_gradient(parts) @ parts.weight
    return result


def _first_sample(parts: Parts) -> Array:
    only = np.zeros_like(parts.activation)
    only[:1] = parts.activation[:1]
    result: Array = parts.reference.grad_weight_at(only)
    return result


def _uncompressed(parts: Parts) -> Array:
    result: Array = parts.reference.grad_weight_exact
    return result


def _weight_not_transposed(parts: Parts) -> Array | None:
    if parts.weight.shape[0] != parts.weight.shape[1]:
        return None
    result: Array = parts.grad_output @ parts.weight.T
    return result


def _first_bias(parts: Parts) -> Array:
    first = parts.grad_output[0].reshape(-1, parts.grad_output.shape[-1])
    result: Array = first.sum(axis=0)
    return result


def _start(parts: Parts, mode: int) -> Array:
    return np.asarray(parts.case.factors()[mode], np.float64)


def _on_the_core(parts: Parts, mode: int, before: tuple[Array, ...]) -> Array:
    matrix = unfold(tucker_product(parts.x, tuple(factor.T for factor in before)), mode)
    result: Array = matrix @ (matrix.T @ _start(parts, mode))
    return result


ITERATIONS: tuple[tuple[str, str, Callable[[Parts, int, tuple[Array, ...]], Array]], ...] = (
    (
        "starts anew",
        "the factors of the step before are not used (HOSVD, THEORY D3)",
        lambda parts, mode, _: unfold(parts.x, mode),
    ),
    ("does not move", "the factors of the step before are returned", lambda parts, mode, _: _start(parts, mode)),
    ("projects first", "a mode is iterated on the core that the modes before it left", _on_the_core),
)

MEAN = "the mean over the batch is taken, not the sum"
SAMPLE_MEAN = "the mean over the leading axes is taken, not the sum"

ARRAYS: dict[str, dict[str, tuple[Wrong, ...]]] = {
    "unfold": {
        "matrix": (
            ("reshaped", "the tensor is reshaped without moving the mode to the front", _reshaped),
            ("axes swapped", "the mode is swapped with axis 0, not moved before it", _swapped_axes),
            ("columns backwards", "the first of the other axes runs fastest in the columns", _columns_backwards),
            ("columns cyclic", "the columns begin with the axis after the mode", _columns_cyclic),
            ("transposed", "the mode is in the columns", _transposed("matrix")),
        ),
    },
    "svd": {
        "left": (
            ("not scaled", "the singular values are not multiplied to the left vectors", _left_not_scaled),
            ("scaled twice", "the singular values are multiplied twice", _left_scaled_twice),
        ),
    },
    "reconstruct": {
        "reconstruction": (
            ("factors transposed", "the factors are transposed", _transposed_factors),
            ("modes backwards", "the factors are applied to the modes in the opposite order", _factors_backwards),
            ("last mode not expanded", "the core is not multiplied by the last factor", _last_mode_not_expanded),
            ("first mode not expanded", "the core is not multiplied by the first factor", _first_mode_not_expanded),
        ),
    },
    "linear": {
        "output": (
            ("no bias", "the bias is left out", lambda parts: _output(parts, parts.x, 0.0)),
            ("bias twice", "the bias is added twice", lambda parts: _output(parts, parts.x, 2.0)),
            (
                "compressed activation",
                "the forward pass runs on the compressed activation",
                lambda parts: _output(parts, parts.activation, 1.0),
            ),
        ),
        "grad_weight": (
            ("uncompressed activation", "the uncompressed activation is used", _uncompressed),
            ("transposed", "it is transposed", _transposed("grad_weight")),
            ("batch mean", MEAN, _batch_mean("grad_weight")),
            ("mean over all samples", SAMPLE_MEAN, _sample_mean("grad_weight")),
            ("first sample only", "only the first sample counts", _first_sample),
            ("sign", "the sign is turned round", lambda parts: -parts.right("grad_weight")),
            ("twice", "it is added up twice", lambda parts: 2.0 * parts.right("grad_weight")),
        ),
        "grad_input": (
            ("weight not transposed", "the weight is transposed", _weight_not_transposed),
            ("batch mean", "it is divided by the batch size", _batch_mean("grad_input")),
            (
                "compressed grad_output",
                "the gradient by the output is compressed as well",
                _input_gradient_of_a_compressed_gradient,
            ),
        ),
        "grad_bias": (
            ("batch mean", MEAN, _batch_mean("grad_bias")),
            ("mean over all samples", SAMPLE_MEAN, _sample_mean("grad_bias")),
            ("batch only", "only the batch is summed over", lambda parts: parts.grad_output.sum(axis=0)),
            ("first sample only", "only the first sample counts", _first_bias),
        ),
    },
    "step": STEPS,
}
"""Operation -> array -> what can be wrong with it: a name, a clause, and the wrong array."""
