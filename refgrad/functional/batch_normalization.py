"""Batch normalisation: each channel over the batch and its positions.

In: (B, C, ...), and running statistics, which move in training. Out: the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict, Unpack, overload

import numpy as np

from refgrad.arguments import Array, float_array, floats_of_one_dtype, shape_text
from refgrad.functional.normalization import (
    NormSaved,
    along,
    centred_on_mean,
    grad_bias,
    grad_weight,
    grad_x,
    inverse_deviation_of,
    normalise,
)
from refgrad.functional.operands import number_in
from refgrad.tape import CONSTANT, Keeper, Operand, Primitive, Tensor

__all__ = ["batch_norm"]


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
        mean, centred = centred_on_mean(x, axes)
        variance = np.asarray(np.mean(np.square(centred), axis=axes, keepdims=True))
        inverse_deviation = inverse_deviation_of(variance, eps)
        if running_mean is not None and running_var is not None:
            _check_writeable(running_mean=running_mean, running_var=running_var)
            _move(running_mean, mean, momentum)
            _move(running_var, variance * (count / (count - 1)), momentum)
    else:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm with training=False needs running_mean and running_var, got None")
        if not np.all(running_var >= 0.0):
            raise ValueError(f"running_var must not be negative, got {float(np.min(running_var))!r}")
        centred = x - along(running_mean, (1,), x.ndim).astype(np.float64)
        inverse_deviation = inverse_deviation_of(along(running_var, (1,), x.ndim).astype(np.float64), eps)
    return normalise(keeper, centred, inverse_deviation, weight, bias, axes, (1,), training, x.dtype)


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
        "x": grad_x,
        "weight": grad_weight,
        "bias": grad_bias,
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
    weight: Tensor,
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
