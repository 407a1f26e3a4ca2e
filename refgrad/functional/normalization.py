"""What batch and layer normalisation share: one normalisation and one derivative, over different axes.

In: an activation, centred, and scale and shift if wanted. Out: the same shape. What is kept for backward is the
normalised input and the inverse standard deviations, no more of either than the gradients in demand need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.tape import Keeper

__all__ = [
    "NormSaved",
    "along",
    "centred_on_mean",
    "grad_bias",
    "grad_weight",
    "grad_x",
    "inverse_deviation_of",
    "normalise",
]


@dataclass(frozen=True, slots=True, eq=False)
class NormSaved:
    """What a normalisation keeps.

    Parameters
    ----------
    normalised : array of x's shape, or None
        (x - mean) / deviation; None where neither x (with statistics of its own) nor weight wants a gradient.
    inverse_deviation : array, or None
        1 / deviation, with x's axes; None where x wants no gradient.
    weight : array, or None
        As below; None where x wants no gradient, or there is no weight.
    axes : tuple of int
        The axes that mean and deviation are taken over.
    affine_axes : tuple of int
        The axes of x that weight and bias have; their gradients are summed over the others.
    own_statistics : bool
        Whether mean and deviation are those of x, or given constants.
    """

    normalised: Array | None
    inverse_deviation: Array | None
    weight: Array | None
    axes: tuple[int, ...]
    affine_axes: tuple[int, ...]
    own_statistics: bool


def centred_on_mean(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the mean over `axes` and x - mean, both in float64, where squares of float32 neither overflow nor vanish.

    The first value is taken off before the rest is averaged: so a large mean costs no digits of the differences, and
    where all values are the same these are exactly 0.
    """
    first = x[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(x.ndim))].astype(np.float64)
    shifted = x - first
    offset = np.mean(shifted, axis=axes, keepdims=True)
    return first + offset, shifted - offset


def inverse_deviation_of(variance: Array, eps: float) -> Array:
    """Return (variance + eps)^(-1/2).

    Raises
    ------
    ValueError
        Where that is not finite.
    """
    if eps == 0.0 and np.any(variance == 0.0):
        raise ValueError("eps must be positive where a variance is 0, as it is for constant values; got eps=0.0")
    return np.asarray(1.0 / np.sqrt(variance + eps))


def normalise(
    keeper: Keeper,
    centred: Array,
    inverse_deviation: Array,
    weight: Array | None,
    bias: Array | None,
    axes: tuple[int, ...],
    affine_axes: tuple[int, ...],
    own_statistics: bool,
    dtype: np.dtype[Any],
) -> tuple[Array, NormSaved]:
    """Return centred * inverse_deviation * weight + bias, in `dtype`, and what the gradients in demand need of it."""
    needs_x, needs_weight = "x" in keeper.needs, "weight" in keeper.needs
    normalised = (centred * inverse_deviation).astype(dtype)
    keeps_normalised = needs_weight or (needs_x and own_statistics)
    if keeps_normalised:
        normalised = keeper.keep(normalised, own=True)
    saved = NormSaved(
        normalised=normalised if keeps_normalised else None,
        inverse_deviation=keeper.keep(inverse_deviation.astype(dtype), own=True) if needs_x else None,
        weight=keeper.keep(weight) if needs_x and weight is not None else None,
        axes=axes,
        affine_axes=affine_axes,
        own_statistics=own_statistics,
    )
    output = normalised
    if weight is not None:
        output = output * along(weight, affine_axes, output.ndim)
    if bias is not None:
        output = output + along(bias, affine_axes, output.ndim)
    return output, saved


def along(values: Array, axes: tuple[int, ...], ndim: int) -> Array:
    """Return `values` with its axes where x has them, and length 1 elsewhere."""
    shape = [1] * ndim
    for axis, length in zip(axes, values.shape, strict=True):
        shape[axis] = length
    return values.reshape(shape)


def grad_x(saved: NormSaved, grad_output: Array) -> Array:
    """Ioffe and Szegedy, arXiv:1502.03167, section 3, with the mean and the deviation differentiated too.

    dL/dx = (h - mean(h) - x^ mean(h x^)) / deviation, h = dL/dy * weight, x^ the normalised input.
    """
    assert saved.inverse_deviation is not None
    scaled = grad_output
    if saved.weight is not None:
        scaled = scaled * along(saved.weight, saved.affine_axes, grad_output.ndim)
    if saved.own_statistics:
        assert saved.normalised is not None
        mean = _mean(scaled, saved.axes)
        projection = _mean(scaled * saved.normalised, saved.axes)
        scaled = scaled - mean - saved.normalised * projection
    return np.asarray(scaled * saved.inverse_deviation)


def _mean(values: Array, axes: tuple[int, ...]) -> Array:
    """Average in float64; return the dtype of `values`, with axes of length 1."""
    return np.asarray(np.mean(values, axis=axes, keepdims=True, dtype=np.float64)).astype(values.dtype)


def _sum(values: Array, axes: tuple[int, ...]) -> Array:
    """Sum in float64; return the dtype of `values`."""
    return np.asarray(np.sum(values, axis=axes, dtype=np.float64)).astype(values.dtype)


def _other_axes(saved: NormSaved, ndim: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(ndim) if axis not in saved.affine_axes)


def grad_weight(saved: NormSaved, grad_output: Array) -> Array:
    """Return sum(dL/dy x^) over the axes that the weight does not have."""
    assert saved.normalised is not None
    return _sum(grad_output * saved.normalised, _other_axes(saved, grad_output.ndim))


def grad_bias(saved: NormSaved, grad_output: Array) -> Array:
    """Return sum(dL/dy) over the axes that the bias does not have."""
    return _sum(grad_output, _other_axes(saved, grad_output.ndim))
