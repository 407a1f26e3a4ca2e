"""Layer normalisation: over the last axes, each sample by itself.

In: (..., I). Out: the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, overload

import numpy as np

from refgrad.arguments import Array, float_array, floats_of_one_dtype, positive_integer, shape_text
from refgrad.functional.normalization import (
    NormSaved,
    centred_on_mean,
    grad_bias,
    grad_weight,
    grad_x,
    inverse_deviation_of,
    normalise,
)
from refgrad.functional.operands import number_in
from refgrad.tape import Keeper, Operand, Primitive, Tensor

__all__ = ["layer_norm"]

Lengths: TypeAlias = int | Sequence[int]
"""The shape of what is normalised together; one number for one axis."""


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
    _, centred = centred_on_mean(x, axes)
    inverse_deviation = inverse_deviation_of(np.asarray(np.mean(np.square(centred), axis=axes, keepdims=True)), eps)
    return normalise(keeper, centred, inverse_deviation, weight, bias, axes, axes, True, x.dtype)


_layer_norm = Primitive("layer_norm", _layer_norm_forward, {"x": grad_x, "weight": grad_weight, "bias": grad_bias})


@overload
def layer_norm(
    x: Array, normalized_shape: Lengths, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5
) -> Array: ...
@overload
def layer_norm(
    x: Tensor,
    normalized_shape: Lengths,
    weight: Operand | None = None,
    bias: Operand | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor: ...
@overload
def layer_norm(
    x: Operand, normalized_shape: Lengths, weight: Tensor, bias: Operand | None = None, *, eps: float = 1e-5
) -> Tensor: ...
@overload
def layer_norm(
    x: Operand,
    normalized_shape: Lengths,
    weight: Operand | None = None,
    bias: Operand | None = None,
    *,
    eps: float = 1e-5,
) -> Operand: ...
def layer_norm(
    x: Operand,
    normalized_shape: Lengths,
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
