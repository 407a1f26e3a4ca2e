"""What the primitives of this package share: checks of their arguments, and how a bit mask is applied.

In: what a caller passed to a primitive. Out: the same, known to be right, or an error that names the argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import TypeVar

import numpy as np

from refgrad.arguments import Array, shape_text
from refgrad.tape import BitMask, Operand

__all__ = ["OperandT", "axis_in_range", "number_in", "same_shape", "where_set"]

OperandT = TypeVar("OperandT", bound=Operand)
"""Arrays in, array out; tensors in, tensor out."""


def where_set(mask: BitMask, array: Array) -> Array:
    """Return `array` where the mask is set, and zero elsewhere: an infinity that was not chosen vanishes too.

    Examples
    --------
    >>> where_set(BitMask.pack(np.array([True, False])), np.array([1.0, np.inf]))
    array([1., 0.])
    """
    return np.where(mask.unpack(), array, array.dtype.type(0))


def axis_in_range(name: str, value: object, axes: int) -> int:
    """Return an axis of an array that has `axes` of them, counted from the front.

    Raises
    ------
    TypeError
        Where it is no integer.
    ValueError
        Where the array has no such axis.

    Examples
    --------
    >>> axis_in_range("axis", -1, 3)
    2
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    axis = int(value)
    if not -axes <= axis < axes:
        raise ValueError(f"{name} must be in [{-axes}, {axes}) for an array of {axes} axes, got {axis}")
    return axis % axes


def number_in(name: str, value: object, lowest: float, highest: float, *, open_end: bool = False) -> float:
    """Return `value` as a float in [lowest, highest], or in [lowest, highest) where the end is open.

    Raises
    ------
    TypeError
        Where it is no real number.
    ValueError
        Where it is NaN or lies outside.

    Examples
    --------
    >>> number_in("p", 1, 0, 1, open_end=True)
    Traceback (most recent call last):
        ...
    ValueError: p must be in [0, 1), got 1.0
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    number = float(value)
    if not lowest <= number <= highest or (open_end and number == highest):
        end = f"{highest:g})" if open_end or highest == np.inf else f"{highest:g}]"
        raise ValueError(f"{name} must be in [{lowest:g}, {end}, got {number!r}")
    return number


def same_shape(name: str, shape: Sequence[int], other_name: str, other: Sequence[int]) -> None:
    """Refuse two arrays of different shapes: nothing is broadcast in silence.

    Raises
    ------
    ValueError
        Where the shapes differ.
    """
    if tuple(shape) != tuple(other):
        raise ValueError(
            f"{name} and {other_name} must have one shape, got {shape_text(shape)} and {shape_text(other)}; "
            "reshape or broadcast them yourself"
        )
