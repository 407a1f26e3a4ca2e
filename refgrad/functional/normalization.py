"""Batch and layer normalisation: one normalisation and one derivative, over different axes.

In: an activation, and scale and shift if wanted. Out: the same shape. What is kept for backward is the normalised input
and the inverse standard deviations, no more of either than the gradients in demand need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, Unpack, overload

import numpy as np

from refgrad.arguments import Array, float_array, floats_of_one_dtype, positive_integer, shape_text
from refgrad.functional.operands import number_in
from refgrad.tape import CONSTANT, Keeper, Operand, Primitive, Tensor

__all__ = ["batch_norm", "layer_norm"]


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


def _centred(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the mean over `axes` and x - mean, both in float64, where squares of float32 neither overflow nor vanish.

    The first value is taken off before the rest is averaged: so a large mean costs no digits of the differences, and
    where all values are the same these are exactly 0.
    """
    first = x[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(x.ndim))].astype(np.float64)
    shifted = x - first
    offset = np.mean(shifted, axis=axes, keepdims=True)
    return first + offset, shifted - offset


def _inverse_deviation(variance: Array, eps: float) -> Array:
    if eps == 0.0 and np.any(variance == 0.0):
        raise ValueError("eps must be positive where a variance is 0, as it is for constant values; got eps=0.0")
    return np.asarray(1.0 / np.sqrt(variance + eps))


def _normalise(
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
        output = output * _along(weight, affine_axes, output.ndim)
    if bias is not None:
        output = output + _along(bias, affine_axes, output.ndim)
    return output, saved


def _along(values: Array, axes: tuple[int, ...], ndim: int) -> Array:
    """Return `values` with its axes where x has them, and length 1 elsewhere."""
    shape = [1] * ndim
    for axis, length in zip(axes, values.shape, strict=True):
        shape[axis] = length
    return values.reshape(shape)


def _grad_x(saved: NormSaved, grad_output: Array) -> Array:
    """Ioffe and Szegedy, arXiv:1502.03167, section 3, with the mean and the deviation differentiated too.

    dL/dx = (h - mean(h) - x^ mean(h x^)) / deviation, h = dL/dy * weight, x^ the normalised input.
    """
    assert saved.inverse_deviation is not None
    scaled = grad_output
    if saved.weight is not None:
        scaled = scaled * _along(saved.weight, saved.affine_axes, grad_output.ndim)
    if saved.own_statistics:
        assert saved.normalised is not None
        mean = np.mean(scaled, axis=saved.axes, keepdims=True)
        projection = np.mean(scaled * saved.normalised, axis=saved.axes, keepdims=True)
        scaled = scaled - mean - saved.normalised * projection
    return np.asarray(scaled * saved.inverse_deviation)


def _other_axes(saved: NormSaved, ndim: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(ndim) if axis not in saved.affine_axes)


def _grad_weight(saved: NormSaved, grad_output: Array) -> Array:
    assert saved.normalised is not None
    return np.asarray(np.sum(grad_output * saved.normalised, axis=_other_axes(saved, grad_output.ndim)))


def _grad_bias(saved: NormSaved, grad_output: Array) -> Array:
    return np.asarray(np.sum(grad_output, axis=_other_axes(saved, grad_output.ndim)))


def _batch_norm_forward(
    keeper: Keeper,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Array, NormSaved]:
    float_array("x", x, minimum_axes=2)
    given = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    for name, values in given.items():
        if values is not None:
            _one_per_channel(name, float_array(name, values), x)
    floats_of_one_dtype(x=x, **given)
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must be given together, or neither of them")
    axes = (0, *range(2, x.ndim))
    if training:
        count = x.size // x.shape[1]
        if count == 1:
            raise ValueError(
                f"batch_norm in training needs more than one value per channel, got x of shape {_named(x.shape)}: "
                "the variance of one value is 0; take a larger batch, or evaluate with training=False"
            )
        mean, centred = _centred(x, axes)
        variance = np.asarray(np.mean(np.square(centred), axis=axes, keepdims=True))
        inverse_deviation = _inverse_deviation(variance, eps)
        if running_mean is not None and running_var is not None:
            _check_writeable(running_mean=running_mean, running_var=running_var)
            _move(running_mean, mean, momentum)
            _move(running_var, variance * (count / (count - 1)), momentum)
    else:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm with training=False needs running_mean and running_var, got None")
        if not np.all(running_var >= 0.0):
            raise ValueError(f"running_var must not be negative, got {float(np.min(running_var))!r}")
        centred = x - _along(running_mean, (1,), x.ndim).astype(np.float64)
        inverse_deviation = _inverse_deviation(_along(running_var, (1,), x.ndim).astype(np.float64), eps)
    return _normalise(keeper, centred, inverse_deviation, weight, bias, axes, (1,), training, x.dtype)


def _named(shape: Sequence[int]) -> str:
    return shape_text(shape, {2: "B C", 3: "B C L", 4: "B C H W"}.get(len(shape)))


def _one_per_channel(name: str, values: Array, x: Array) -> None:
    if values.shape != (x.shape[1],):
        raise ValueError(
            f"{name} must have one value per channel, (C={x.shape[1]},), got {shape_text(values.shape)} "
            f"for x of shape {_named(x.shape)}"
        )


def _check_writeable(**running: Array) -> None:
    for name, values in running.items():
        if not values.flags.writeable:
            raise ValueError(f"{name} must be writeable in training, which moves it in place; got a read-only array")


def _move(running: Array, current: Array, momentum: float) -> None:
    """Move running statistics towards those of this batch, in place."""
    running[...] = (1.0 - momentum) * running + momentum * current.reshape(running.shape)


_batch_norm = Primitive(
    "batch_norm",
    _batch_norm_forward,
    {
        "x": _grad_x,
        "weight": _grad_weight,
        "bias": _grad_bias,
        "running_mean": CONSTANT,
        "running_var": CONSTANT,
    },
)


class BatchNormAttributes(TypedDict):
    """The keyword arguments of `batch_norm`."""

    training: bool
    momentum: NotRequired[float]
    eps: NotRequired[float]


@overload
def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    **attributes: Unpack[BatchNormAttributes],
) -> Array: ...
@overload
def batch_norm(
    x: Tensor,
    weight: Operand | None,
    bias: Operand | None,
    running_mean: Array | None,
    running_var: Array | None,
    **attributes: Unpack[BatchNormAttributes],
) -> Tensor: ...
@overload
def batch_norm(
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    running_mean: Array | None,
    running_var: Array | None,
    **attributes: Unpack[BatchNormAttributes],
) -> Operand: ...
def batch_norm(
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Operand:
    """Normalise each channel over the batch and its positions: (x - mean) / sqrt(variance + eps) * weight + bias.

    In training mean and (biased) variance are those of `x`, and `running_mean` and `running_var`, where given, move
    towards them by `momentum`, the variance unbiased; leave both out, and nothing is changed. Otherwise they are the
    mean and the variance. Ioffe and Szegedy, arXiv:1502.03167, algorithms 1 and 2.

    Parameters
    ----------
    x : array or Tensor (B, C, ...)
        Two axes or more.
    weight, bias : array or Tensor (C,), or None
        Scale and shift.
    running_mean, running_var : array (C,), or None
        Changed in place in training.
    training : bool
        Which of the two.
    momentum : float
        In [0, 1]: how far the running statistics move.
    eps : float
        At least 0, added to the variance.

    Returns
    -------
    array or Tensor (B, C, ...)
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        Where shapes or dtypes do not fit, there is one value per channel in training, running statistics are missing
        otherwise, or one of them comes without the other.

    Examples
    --------
    >>> mean, variance = np.zeros(1), np.ones(1)
    >>> batch_norm(np.array([[1.0], [3.0]]), None, None, mean, variance, training=True, eps=0.0)
    array([[-1.],
           [ 1.]])
    >>> mean, variance
    (array([0.2]), array([1.1]))
    """
    if not isinstance(training, bool):
        raise TypeError(f"training must be True or False, got {training!r}")
    return _batch_norm(
        x,
        weight,
        bias,
        running_mean,
        running_var,
        training=training,
        momentum=number_in("momentum", momentum, 0.0, 1.0),
        eps=number_in("eps", eps, 0.0, np.inf, open_end=True),
    )


def _layer_norm_forward(
    keeper: Keeper, x: Array, weight: Array | None, bias: Array | None, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Array, NormSaved]:
    float_array("x", x, minimum_axes=len(normalized_shape))
    if x.shape[x.ndim - len(normalized_shape) :] != normalized_shape:
        raise ValueError(
            f"x must end in the axes of normalized_shape, {shape_text(normalized_shape)}, got shape "
            f"{shape_text(x.shape)}"
        )
    for name, values in (("weight", weight), ("bias", bias)):
        if values is not None and float_array(name, values).shape != normalized_shape:
            raise ValueError(
                f"{name} must have the shape of normalized_shape, {shape_text(normalized_shape)}, "
                f"got {shape_text(values.shape)}"
            )
    floats_of_one_dtype(x=x, weight=weight, bias=bias)
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    _, centred = _centred(x, axes)
    inverse_deviation = _inverse_deviation(np.asarray(np.mean(np.square(centred), axis=axes, keepdims=True)), eps)
    return _normalise(keeper, centred, inverse_deviation, weight, bias, axes, axes, True, x.dtype)


_layer_norm = Primitive("layer_norm", _layer_norm_forward, {"x": _grad_x, "weight": _grad_weight, "bias": _grad_bias})


@overload
def layer_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
) -> Array: ...
@overload
def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Operand | None = None,
    bias: Operand | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor: ...
@overload
def layer_norm(
    x: Operand,
    normalized_shape: int | Sequence[int],
    weight: Operand | None = None,
    bias: Operand | None = None,
    *,
    eps: float = 1e-5,
) -> Operand: ...
def layer_norm(
    x: Operand,
    normalized_shape: int | Sequence[int],
    weight: Operand | None = None,
    bias: Operand | None = None,
    *,
    eps: float = 1e-5,
) -> Operand:
    """Normalise over the last axes: (x - mean) / sqrt(variance + eps) * weight + bias, the variance biased.

    Ba, Kiros and Hinton, arXiv:1607.06450, equation 4.

    Parameters
    ----------
    x : array or Tensor (..., I)
        Its last axes are those of `normalized_shape`.
    normalized_shape : int or sequence of int
        The shape of what is normalised together.
    weight, bias : array or Tensor of shape `normalized_shape`, optional
        Scale and shift.
    eps : float
        At least 0, added to the variance.

    Returns
    -------
    array or Tensor
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        Where shapes or dtypes do not fit.

    Examples
    --------
    >>> layer_norm(np.array([[1.0, 3.0], [10.0, 30.0]]), 2, eps=0.0)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    return _layer_norm(
        x,
        weight,
        bias,
        normalized_shape=checked_shape(normalized_shape),
        eps=number_in("eps", eps, 0.0, np.inf, open_end=True),
    )


def checked_shape(normalized_shape: object) -> tuple[int, ...]:
    """Return `normalized_shape` as a tuple of positive integers, at least one.

    Raises
    ------
    TypeError, ValueError
        Where it is not.
    """
    lengths = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not lengths:
        raise ValueError("normalized_shape must name at least one axis, got ()")
    return tuple(positive_integer("normalized_shape", length) for length in lengths)
