"""Elementwise activations and softmax, each beside its derivative and beside what it keeps for it.

In: an array or a tensor of any shape. Out: the same shape. Semantics are those of torch.nn.functional.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from refgrad.arguments import Array, float_array, one_of
from refgrad.functional.operands import OperandT, axis_in_range, where_set
from refgrad.tape import BitMask, Keeper, Primitive

__all__ = ["gelu", "log_softmax", "relu", "sigmoid", "softmax", "tanh"]

SQRT_2_OVER_PI = float(np.sqrt(2.0 / np.pi))
CUBIC = 0.044715  # Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415, equation 2
SATURATED = 100.0  # beyond it both forms of GELU' are 0 or 1 to the last bit, even in extended precision


@dataclass(frozen=True, slots=True, eq=False)
class ReluSaved:
    """Where x > 0, one bit an element."""

    positive: BitMask


def _relu_forward(keeper: Keeper, x: Array) -> tuple[Array, ReluSaved | None]:
    float_array("x", x)
    output = np.asarray(np.maximum(x, x.dtype.type(0)))
    # Not x > 0: a NaN hands its gradient on, so that it is seen.
    return output, ReluSaved(BitMask.pack(~(x <= 0))) if "x" in keeper.needs else None


def _relu_grad_x(saved: ReluSaved, grad_output: Array) -> Array:
    return where_set(saved.positive, grad_output)


_relu = Primitive("relu", _relu_forward, {"x": _relu_grad_x})


def relu(x: OperandT) -> OperandT:
    """Return max(x, 0), entry by entry.

    Backward keeps one bit an element. ReLU'(0) = 0.

    Parameters
    ----------
    x : array or Tensor
        Any shape.

    Returns
    -------
    array or Tensor
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array, or is empty.

    Examples
    --------
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return cast(OperandT, _relu(x))


@dataclass(frozen=True, slots=True, eq=False)
class GeluSaved:
    """The input itself: GELU is not monotonic, so its output does not determine its derivative."""

    x: Array
    approximate: str


def _gelu_forward(keeper: Keeper, x: Array, *, approximate: str) -> tuple[Array, GeluSaved | None]:
    float_array("x", x)
    saved = GeluSaved(keeper.keep(x), approximate) if "x" in keeper.needs else None
    return np.asarray(x * _gelu_gate(x, approximate), dtype=x.dtype), saved


def _gelu_gate(x: Array, approximate: str) -> Array:
    """Return GELU(x) / x: Phi(x), or sigmoid(2 u) = (1 + tanh u) / 2, neither of which cancels for negative x."""
    return _normal_distribution(x) if approximate == "none" else _sigmoid_values(_twice_tanh_argument(x))


def _normal_distribution(x: Array) -> Array:
    from scipy.special import ndtr

    phi: Array = ndtr(x)
    return phi


def _twice_tanh_argument(x: Array) -> Array:
    near = np.clip(x, -SATURATED, SATURATED)  # the cube of a large number would overflow
    twice: Array = 2.0 * SQRT_2_OVER_PI * (near + CUBIC * (near * near * near))
    return twice


def _gelu_grad_x(saved: GeluSaved, grad_output: Array) -> Array:
    near = np.clip(saved.x, -SATURATED, SATURATED)
    if saved.approximate == "none":
        gate = _normal_distribution(saved.x)
        slope = np.exp(-0.5 * (near * near)) / np.sqrt(2.0 * np.pi, dtype=near.dtype)
    else:
        twice = _twice_tanh_argument(saved.x)
        gate = _sigmoid_values(twice)
        # sigmoid(-v) = 1 - sigmoid(v), without the cancellation
        slope = gate * _sigmoid_values(-twice) * (2.0 * SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * (near * near)))
    grad_x: Array = grad_output * (gate + near * slope)
    return grad_x


_gelu = Primitive("gelu", _gelu_forward, {"x": _gelu_grad_x})


def gelu(x: OperandT, *, approximate: str = "none") -> OperandT:
    """Return x Phi(x), Phi the normal distribution function, or its approximation by a tanh.

    "none": x (1 + erf(x / sqrt 2)) / 2; "tanh": x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. Backward keeps x.

    Parameters
    ----------
    x : array or Tensor
        Any shape.
    approximate : {"none", "tanh"}
        Which of the two.

    Returns
    -------
    array or Tensor
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array, or is empty, or `approximate` is another word.

    Examples
    --------
    >>> gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    return cast(OperandT, _gelu(x, approximate=one_of("approximate", approximate, ("none", "tanh"))))


@dataclass(frozen=True, slots=True, eq=False)
class OutputSaved:
    """The output, from which the derivative follows; shared with whoever holds the output."""

    output: Array


def _sigmoid_values(x: Array) -> Array:
    decay = np.exp(-np.abs(x))  # at most 1: nothing overflows
    return np.asarray(np.where(x >= 0, x.dtype.type(1), decay) / (1.0 + decay), dtype=x.dtype)


def _sigmoid_forward(keeper: Keeper, x: Array) -> tuple[Array, OutputSaved | None]:
    output = _owned(keeper, _sigmoid_values(float_array("x", x)))
    return output, OutputSaved(output) if "x" in keeper.needs else None


def _owned(keeper: Keeper, output: Array) -> Array:
    """Return a fresh output in the form that it can be kept in, where it will be."""
    return keeper.keep(np.asarray(output), own=True) if "x" in keeper.needs else np.asarray(output)


def _sigmoid_grad_x(saved: OutputSaved, grad_output: Array) -> Array:
    grad_x: Array = grad_output * (saved.output * (1.0 - saved.output))
    return grad_x


_sigmoid = Primitive("sigmoid", _sigmoid_forward, {"x": _sigmoid_grad_x})


def sigmoid(x: OperandT) -> OperandT:
    """Return 1 / (1 + exp(-x)), without overflow for any x.

    Backward keeps the output.

    Parameters
    ----------
    x : array or Tensor
        Any shape.

    Returns
    -------
    array or Tensor
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array, or is empty.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return cast(OperandT, _sigmoid(x))


def _tanh_forward(keeper: Keeper, x: Array) -> tuple[Array, OutputSaved | None]:
    output = _owned(keeper, np.tanh(float_array("x", x)))
    return output, OutputSaved(output) if "x" in keeper.needs else None


def _tanh_grad_x(saved: OutputSaved, grad_output: Array) -> Array:
    grad_x: Array = grad_output * ((1.0 - saved.output) * (1.0 + saved.output))
    return grad_x


_tanh = Primitive("tanh", _tanh_forward, {"x": _tanh_grad_x})


def tanh(x: OperandT) -> OperandT:
    """Return the hyperbolic tangent of x, entry by entry.

    Backward keeps the output.

    Parameters
    ----------
    x : array or Tensor
        Any shape.

    Returns
    -------
    array or Tensor
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array, or is empty.

    Examples
    --------
    >>> tanh(np.array([-1000.0, 0.0, 1000.0]))
    array([-1.,  0.,  1.])
    """
    return cast(OperandT, _tanh(x))


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxSaved:
    """The output of softmax or log_softmax, and the axis that it was taken along."""

    output: Array
    axis: int


def _softmax_forward(keeper: Keeper, x: Array, *, axis: int) -> tuple[Array, SoftmaxSaved | None]:
    axis = axis_in_range("axis", axis, float_array("x", x, minimum_axes=1).ndim)
    powers = np.exp(x - np.max(x, axis=axis, keepdims=True))
    output = _owned(keeper, powers / np.sum(powers, axis=axis, keepdims=True))
    return output, SoftmaxSaved(output, axis) if "x" in keeper.needs else None


def _softmax_grad_x(saved: SoftmaxSaved, grad_output: Array) -> Array:
    mean = np.sum(grad_output * saved.output, axis=saved.axis, keepdims=True)
    grad_x: Array = saved.output * (grad_output - mean)
    return grad_x


_softmax = Primitive("softmax", _softmax_forward, {"x": _softmax_grad_x})


def softmax(x: OperandT, axis: int = -1) -> OperandT:
    """Return exp(x) / sum exp(x) along an axis, without overflow for any x.

    Backward keeps the output.

    Parameters
    ----------
    x : array or Tensor
        One axis or more.
    axis : int
        Along which the output sums to 1.

    Returns
    -------
    array or Tensor
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array, or is empty, or has no such axis.

    Examples
    --------
    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    return cast(OperandT, _softmax(x, axis=axis))


def _log_softmax_forward(keeper: Keeper, x: Array, *, axis: int) -> tuple[Array, SoftmaxSaved | None]:
    axis = axis_in_range("axis", axis, float_array("x", x, minimum_axes=1).ndim)
    shifted = x - np.max(x, axis=axis, keepdims=True)
    output = _owned(keeper, shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)))
    return output, SoftmaxSaved(output, axis) if "x" in keeper.needs else None


def _log_softmax_grad_x(saved: SoftmaxSaved, grad_output: Array) -> Array:
    grad_x: Array = grad_output - np.exp(saved.output) * np.sum(grad_output, axis=saved.axis, keepdims=True)
    return grad_x


_log_softmax = Primitive("log_softmax", _log_softmax_forward, {"x": _log_softmax_grad_x})


def log_softmax(x: OperandT, axis: int = -1) -> OperandT:
    """Return x - log sum exp(x) along an axis, without overflow for any x.

    Backward keeps the output.

    Parameters
    ----------
    x : array or Tensor
        One axis or more.
    axis : int
        Along which the exponentials of the output sum to 1.

    Returns
    -------
    array or Tensor
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array, or is empty, or has no such axis.

    Examples
    --------
    >>> log_softmax(np.array([0.0, -1000.0]))
    array([    0., -1000.])
    """
    return cast(OperandT, _log_softmax(x, axis=axis))
