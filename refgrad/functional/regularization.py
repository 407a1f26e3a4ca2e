"""Dropout: random zeros in training, nothing otherwise.

In: an activation and the generator to draw from. Out: the same shape; backward keeps one bit an element.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from refgrad.arguments import Array, float_array
from refgrad.functional.operands import OperandT, number_in, where_set
from refgrad.tape import BitMask, Keeper, Primitive

__all__ = ["dropout"]


@dataclass(frozen=True, slots=True, eq=False)
class DropoutSaved:
    """Which elements stayed, and by what they were multiplied."""

    stayed: BitMask
    scale: float


def _dropout_forward(
    keeper: Keeper, x: Array, *, p: float, generator: np.random.Generator
) -> tuple[Array, DropoutSaved | None]:
    float_array("x", x)
    stayed = generator.random(x.shape) >= p
    scale = 1.0 / (1.0 - p)
    saved = DropoutSaved(BitMask.pack(stayed), scale) if "x" in keeper.needs else None
    return np.where(stayed, x * scale, x.dtype.type(0)), saved


def _dropout_grad_x(saved: DropoutSaved, grad_output: Array) -> Array:
    return where_set(saved.stayed, grad_output * saved.scale)


_dropout = Primitive("dropout", _dropout_forward, {"x": _dropout_grad_x})


def dropout(x: OperandT, p: float = 0.5, *, generator: np.random.Generator, training: bool) -> OperandT:
    """Zero each element with probability p and divide the others by 1 - p; without training, return `x`.

    Backward keeps one bit an element.

    Parameters
    ----------
    x : array or Tensor
        Any shape.
    p : float
        In [0, 1).
    generator : numpy.random.Generator
        What the zeros are drawn from: one float64 an element, whatever the dtype of `x`; none without training.
    training : bool
        Whether anything happens.

    Returns
    -------
    array or Tensor
        The shape and dtype of `x`; `x` itself without training.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array, or is empty, `p` lies outside, or `generator` is no generator.

    Examples
    --------
    >>> dropout(np.ones(6), 0.5, generator=np.random.default_rng(0), training=True)
    array([2., 0., 0., 0., 2., 2.])
    """
    p = number_in("p", p, 0.0, 1.0, open_end=True)
    if not isinstance(generator, np.random.Generator):
        raise TypeError(
            f"generator must be a numpy.random.Generator, got {generator!r}; "
            "make one with numpy.random.default_rng(seed), so that a run can be repeated"
        )
    if not isinstance(training, bool):
        raise TypeError(f"training must be True or False, got {training!r}")
    return cast(OperandT, _dropout(x, p=p, generator=generator)) if training else x
