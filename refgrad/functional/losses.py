"""Losses: how far an output is from what it should be, each beside its derivative.

In: outputs and targets. Out: one number, or one a sample. Sums are accumulated in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, overload

import numpy as np

from refgrad.arguments import Array, float_array, floats_of_one_dtype, one_of, shape_text
from refgrad.functional.operands import OperandT, same_shape
from refgrad.tape import CONSTANT, Keeper, Operand, Primitive, Tensor

__all__ = ["cross_entropy", "mse_loss"]

REDUCTIONS = ("mean", "sum", "none")


def _reduced(losses: Array, reduction: str) -> Array:
    if reduction == "none":
        return losses
    total = np.mean if reduction == "mean" else np.sum
    return np.asarray(total(losses, dtype=np.float64)).astype(losses.dtype)


def _per_loss(grad_output: Array, losses: int, reduction: str) -> Array:
    """Return the gradient with respect to each single loss: of their shape, or one number for all."""
    return np.asarray(grad_output / losses) if reduction == "mean" else grad_output


@dataclass(frozen=True, slots=True, eq=False)
class CrossEntropySaved:
    """Softmax probabilities, and labels in the smallest integer dtype that holds them."""

    probabilities: Array
    labels: Array
    reduction: str


def _cross_entropy_forward(
    keeper: Keeper, x: Array, labels: Array, *, reduction: str
) -> tuple[Array, CrossEntropySaved | None]:
    float_array("x", x, minimum_axes=2)
    labels = _checked_labels(labels, x)
    shifted = x - np.max(x, axis=1, keepdims=True)
    powers = np.exp(shifted)
    totals = np.sum(powers, axis=1, keepdims=True)
    losses = np.log(totals) - np.take_along_axis(shifted, labels.astype(np.intp)[:, np.newaxis], axis=1)
    saved = None
    if "x" in keeper.needs:
        saved = CrossEntropySaved(keeper.keep(powers / totals, own=True), keeper.keep(labels, own=True), reduction)
    return _reduced(losses[:, 0], reduction), saved


def _checked_labels(labels: object, x: Array) -> Array:
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        came = f"an array of dtype {labels.dtype}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise TypeError(f"labels must be a NumPy array of integers, the index of the right class, got {came}")
    expected = (x.shape[0], *x.shape[2:])
    if labels.shape != expected:
        raise ValueError(
            f"labels must have the shape of x without its class axis, {shape_text(expected)}, got "
            f"{shape_text(labels.shape)} for x of shape {shape_text(x.shape)}, whose axis 1 has the classes"
        )
    classes = x.shape[1]
    wrong = np.argwhere((labels < 0) | (labels >= classes))
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        raise ValueError(
            f"labels must be in [0, {classes}), one of the classes of x, got {labels[index]} at index {index}"
        )
    return labels.astype(np.min_scalar_type(classes - 1))


def _cross_entropy_grad_x(saved: CrossEntropySaved, grad_output: Array) -> Array:
    labels = saved.labels.astype(np.intp)[:, np.newaxis]
    grad_x = saved.probabilities.copy()
    np.put_along_axis(grad_x, labels, np.take_along_axis(grad_x, labels, axis=1) - 1.0, axis=1)
    share = _per_loss(grad_output, labels.size, saved.reduction)
    grad_x *= share[:, np.newaxis] if saved.reduction == "none" else share
    return grad_x


_cross_entropy = Primitive("cross_entropy", _cross_entropy_forward, {"x": _cross_entropy_grad_x, "labels": CONSTANT})


def cross_entropy(x: OperandT, labels: Array, *, reduction: str = "mean") -> OperandT:
    """Return -log softmax(x) at the right class, without overflow for any x.

    dL/dx = (softmax(x) - one_hot(labels)) dL/dloss. Backward keeps the probabilities and the labels.

    Parameters
    ----------
    x : array or Tensor (B, classes, ...)
        Logits.
    labels : array of integers (B, ...)
        The right class of each sample, in [0, classes).
    reduction : {"mean", "sum", "none"}
        Over all samples; "none" returns one loss a sample.

    Returns
    -------
    array or Tensor () or (B, ...)
        The loss, in the dtype of `x`.

    Raises
    ------
    TypeError
        Where `x` is not a float array, or `labels` not an array of integers.
    ValueError
        Where shapes do not fit, a label is no class, or `reduction` is another word.

    Examples
    --------
    >>> cross_entropy(np.array([[0.0, 0.0], [1000.0, 0.0]]), np.array([1, 0]), reduction="none").round(4)
    array([0.6931, 0.    ])
    """
    return cast(OperandT, _cross_entropy(x, labels, reduction=one_of("reduction", reduction, REDUCTIONS)))


@dataclass(frozen=True, slots=True, eq=False)
class MseSaved:
    """x - target: one array, for both gradients."""

    difference: Array
    reduction: str


def _mse_loss_forward(keeper: Keeper, x: Array, target: Array, *, reduction: str) -> tuple[Array, MseSaved | None]:
    floats_of_one_dtype(x=float_array("x", x), target=float_array("target", target))
    same_shape("x", x.shape, "target", target.shape)
    difference = x - target
    saved = MseSaved(keeper.keep(difference, own=True), reduction) if keeper.needs else None
    return _reduced(np.square(difference), reduction), saved


def _mse_loss_grad_x(saved: MseSaved, grad_output: Array) -> Array:
    grad_x: Array = saved.difference * (2.0 * _per_loss(grad_output, saved.difference.size, saved.reduction))
    return grad_x


def _mse_loss_grad_target(saved: MseSaved, grad_output: Array) -> Array:
    return -_mse_loss_grad_x(saved, grad_output)


_mse_loss = Primitive("mse_loss", _mse_loss_forward, {"x": _mse_loss_grad_x, "target": _mse_loss_grad_target})


@overload
def mse_loss(x: Array, target: Array, *, reduction: str = "mean") -> Array: ...
@overload
def mse_loss(x: Tensor, target: Operand, *, reduction: str = "mean") -> Tensor: ...
@overload
def mse_loss(x: Operand, target: Tensor, *, reduction: str = "mean") -> Tensor: ...
@overload
def mse_loss(x: Operand, target: Operand, *, reduction: str = "mean") -> Operand: ...
def mse_loss(x: Operand, target: Operand, *, reduction: str = "mean") -> Operand:
    """Return (x - target)^2, its mean or its sum.

    Backward keeps the difference.

    Parameters
    ----------
    x, target : array or Tensor
        Of one shape: nothing is broadcast.
    reduction : {"mean", "sum", "none"}
        Over all entries; "none" returns one loss an entry.

    Returns
    -------
    array or Tensor
        The loss, in the dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        Where shapes or dtypes differ, or `reduction` is another word.

    Examples
    --------
    >>> mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    array(2.)
    """
    return _mse_loss(x, target, reduction=one_of("reduction", reduction, REDUCTIONS))
