"""The two layers whose input is kept compressed: convolution and linear.

In: an activation, a weight and a bias. Out: the exact output. The input goes to the storage of the layer or the tape
(THEORY D7), and is kept only where the weight wants a gradient; the weight only where the input does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypedDict, Unpack, cast, overload

import refgrad.numpy_vjps  # noqa: F401 - registers what Tensor.reshape needs
from refgrad.arguments import Array, float_array
from refgrad.convolution import (
    conv2d_bias_gradient,
    conv2d_forward,
    conv2d_input_gradient,
    linear_bias_gradient,
    linear_forward,
    linear_input_gradient,
)
from refgrad.functional.operands import OperandT, axis_in_range
from refgrad.geometry import ConvGeometry, IntOrPair, Padding
from refgrad.storage import Storage
from refgrad.tape import Keeper, KeptActivation, Operand, Primitive, Tensor

__all__ = ["conv2d", "flatten", "linear"]


@dataclass(frozen=True, slots=True, eq=False)
class ConvSaved:
    """What a convolution keeps.

    Parameters
    ----------
    activation : KeptActivation, or None
        x, as the storage keeps it; None where weight wants no gradient.
    weight : array (O, C / groups, k_h, k_w), or None
        None where x wants no gradient.
    geometry : ConvGeometry
        How the input is read.
    input_size : pair of int
        (H, W).
    """

    activation: KeptActivation | None
    weight: Array | None
    geometry: ConvGeometry
    input_size: tuple[int, int]


def _conv2d_forward(
    keeper: Keeper,
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: IntOrPair,
    padding: Padding,
    dilation: IntOrPair,
    groups: int,
) -> tuple[Array, ConvSaved]:
    float_array("weight", weight, axes="O C/groups k_h k_w")
    kernel = (weight.shape[2], weight.shape[3])
    geometry = ConvGeometry.of(kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    output = conv2d_forward(x, weight, bias, geometry)
    saved = ConvSaved(
        activation=keeper.store(x) if "weight" in keeper.needs else None,
        weight=keeper.keep(weight) if "x" in keeper.needs else None,
        geometry=geometry,
        input_size=(x.shape[2], x.shape[3]),
    )
    return output, saved


def _conv2d_grad_x(saved: ConvSaved, grad_output: Array) -> Array:
    assert saved.weight is not None
    return conv2d_input_gradient(grad_output, saved.weight, saved.geometry, saved.input_size)


def _conv2d_grad_weight(saved: ConvSaved, grad_output: Array) -> Array:
    assert saved.activation is not None
    return saved.activation.weight_gradient(grad_output, saved.geometry)


def _conv2d_grad_bias(saved: ConvSaved, grad_output: Array) -> Array:
    return conv2d_bias_gradient(grad_output)


_conv2d = Primitive(
    "conv2d",
    _conv2d_forward,
    {"x": _conv2d_grad_x, "weight": _conv2d_grad_weight, "bias": _conv2d_grad_bias},
)


class ConvAttributes(TypedDict, total=False):
    """The keyword arguments of `conv2d`."""

    stride: IntOrPair
    padding: Padding
    dilation: IntOrPair
    groups: int
    store: Storage | None


@overload
def conv2d(x: Array, weight: Array, bias: Array | None = None, **attributes: Unpack[ConvAttributes]) -> Array: ...
@overload
def conv2d(x: Tensor, weight: Operand, bias: Operand | None = None, **attributes: Unpack[ConvAttributes]) -> Tensor: ...
@overload
def conv2d(x: Operand, weight: Tensor, bias: Operand | None = None, **attributes: Unpack[ConvAttributes]) -> Tensor: ...
@overload
def conv2d(x: Operand, weight: Operand, bias: Tensor, **attributes: Unpack[ConvAttributes]) -> Tensor: ...
@overload
def conv2d(
    x: Operand, weight: Operand, bias: Operand | None = None, **attributes: Unpack[ConvAttributes]
) -> Operand: ...
def conv2d(
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    *,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    store: Storage | None = None,
) -> Operand:
    """Convolve (cross-correlate) images with a weight and add a bias; THEORY D6, D7.

    y[b, o, i, j] = bias[o] + sum_{c, u, v} weight[o, c, u, v] x[b, c', i s_h + u d_h - top, j s_w + v d_w - left],
    c' the c-th channel of o's group. The output is exact. Backward keeps `x` as the storage says, where the weight
    wants a gradient, and the weight where `x` does.

    Parameters
    ----------
    x : array or Tensor (B, C, H, W)
        The input.
    weight : array or Tensor (O, C / groups, k_h, k_w)
        The kernel.
    bias : array or Tensor (O,), optional
        Added to every position.
    stride, dilation : int or pair of int
        One number for both axes, or (height, width).
    padding : int, pair, two pairs, "same" or "valid"
        As `refgrad.geometry.ConvGeometry.of` takes it.
    groups : int
        Into how many independent convolutions the channels are split.
    store : Storage, optional
        How this layer keeps `x`; the tape's own storage where left out.

    Returns
    -------
    array or Tensor (B, O, H', W')
        A Tensor where one of the arguments is one.

    Raises
    ------
    TypeError, ValueError
        Where shapes, dtypes or the geometry do not fit; on a tape, where `x` is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), padding=1)
    array([[[[4., 6., 4.],
             [6., 9., 6.],
             [4., 6., 4.]]]])
    """
    return _conv2d(x, weight, bias, store=store, stride=stride, padding=padding, dilation=dilation, groups=groups)


@dataclass(frozen=True, slots=True, eq=False)
class LinearSaved:
    """What a linear layer keeps.

    Parameters
    ----------
    activation : KeptActivation, or None
        x, as the storage keeps it; None where weight wants no gradient.
    weight : array (O, I), or None
        None where x wants no gradient.
    """

    activation: KeptActivation | None
    weight: Array | None


def _linear_forward(keeper: Keeper, x: Array, weight: Array, bias: Array | None) -> tuple[Array, LinearSaved]:
    output = linear_forward(x, weight, bias)
    saved = LinearSaved(
        activation=keeper.store(x) if "weight" in keeper.needs else None,
        weight=keeper.keep(weight) if "x" in keeper.needs else None,
    )
    return output, saved


def _linear_grad_x(saved: LinearSaved, grad_output: Array) -> Array:
    assert saved.weight is not None
    return linear_input_gradient(grad_output, saved.weight)


def _linear_grad_weight(saved: LinearSaved, grad_output: Array) -> Array:
    assert saved.activation is not None
    return saved.activation.weight_gradient(grad_output)


def _linear_grad_bias(saved: LinearSaved, grad_output: Array) -> Array:
    return linear_bias_gradient(grad_output)


_linear = Primitive(
    "linear",
    _linear_forward,
    {"x": _linear_grad_x, "weight": _linear_grad_weight, "bias": _linear_grad_bias},
)


@overload
def linear(x: Array, weight: Array, bias: Array | None = None, *, store: Storage | None = None) -> Array: ...
@overload
def linear(x: Tensor, weight: Operand, bias: Operand | None = None, *, store: Storage | None = None) -> Tensor: ...
@overload
def linear(x: Operand, weight: Tensor, bias: Operand | None = None, *, store: Storage | None = None) -> Tensor: ...
@overload
def linear(x: Operand, weight: Operand, bias: Tensor, *, store: Storage | None = None) -> Tensor: ...
@overload
def linear(x: Operand, weight: Operand, bias: Operand | None = None, *, store: Storage | None = None) -> Operand: ...
def linear(x: Operand, weight: Operand, bias: Operand | None = None, *, store: Storage | None = None) -> Operand:
    """Return x weight^T + bias over the last axis; THEORY D6, D7.

    The output is exact. Backward keeps `x` as the storage says, where the weight wants a gradient, and the weight where
    `x` does.

    Parameters
    ----------
    x : array or Tensor (B, ..., I)
        Two, three or four axes.
    weight : array or Tensor (O, I)
        The matrix.
    bias : array or Tensor (O,), optional
        Added to every row.
    store : Storage, optional
        How this layer keeps `x`; the tape's own storage where left out.

    Returns
    -------
    array or Tensor (B, ..., O)
        A Tensor where one of the arguments is one.

    Raises
    ------
    TypeError, ValueError
        Where shapes or dtypes do not fit; on a tape, where `x` is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([0.0, 100.0]))
    array([[ 11., 117.]])
    """
    return _linear(x, weight, bias, store=store)


def flatten(x: OperandT, start_axis: int = 1, end_axis: int = -1) -> OperandT:
    """Join neighbouring axes into one, in row-major order.

    Parameters
    ----------
    x : array or Tensor
        One axis or more.
    start_axis, end_axis : int
        The first and the last of the axes that are joined.

    Returns
    -------
    array or Tensor
        A view of an array where there can be one. Backward keeps nothing.

    Raises
    ------
    TypeError, ValueError
        Where `x` has no such axes, or the last comes before the first.

    Examples
    --------
    >>> import numpy as np
    >>> flatten(np.zeros((2, 3, 4, 5))).shape, flatten(np.zeros((2, 3, 4, 5)), 0, 1).shape
    ((2, 60), (6, 4, 5))
    """
    if not isinstance(x, Tensor):
        float_array("x", x, minimum_axes=1)
    start, end = axis_in_range("start_axis", start_axis, x.ndim), axis_in_range("end_axis", end_axis, x.ndim)
    if start > end:
        raise ValueError(f"start_axis must not come after end_axis, got {start_axis} and {end_axis} for {x.ndim} axes")
    return cast(OperandT, x.reshape(*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))
