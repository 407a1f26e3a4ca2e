"""What the specification's files share: its arithmetic, and its look at the arguments.

In: float64 arrays. Out: numbers, or an error that names what is wrong.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Pair", "fits", "float64_array", "inner", "linear_operand", "mode_of", "scaled", "with_bias"]

Array: TypeAlias = npt.NDArray[np.float64]
Pair: TypeAlias = tuple[int, int]


def inner(left: Array, right: Array) -> float:
    """Return the inner product: every product rounded once, their sum rounded once."""
    return math.fsum((left * right).tolist())


def scaled(array: Array) -> tuple[Array, int]:
    """Return a copy with entries of at most 1 and the exponent t with array = copy * 2^t.

    The square of 1e200 is infinite and that of 1e-200 is zero. A power of two brings the entries to where they can be
    squared and rounds none of them.
    """
    exponent = int(np.frexp(np.max(np.abs(array)))[1])
    return np.ldexp(array, -exponent), exponent


def float64_array(name: str, value: Any, *, axes: int | None = None) -> None:
    """Refuse what is no finite float64 array, is empty, or has not that many axes."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        kind = f"an array of dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{name} must be a float64 array, in which the specification computes, got {kind}")
    if value.ndim == 0 or (axes is not None and value.ndim != axes):
        raise ValueError(f"{name} must have {axes or '1 or more'} axes, got shape {value.shape}")
    if value.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {value.shape}")
    if not np.isfinite(value).all():
        worst = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
        raise ValueError(f"{name} must be finite, got {value[worst]} at index {worst}")


def linear_operand(name: str, value: Array) -> None:
    """Refuse what is no float64 array with 2, 3 or 4 axes."""
    float64_array(name, value)
    if value.ndim not in (2, 3, 4):
        raise ValueError(f"{name} must have 2, 3 or 4 axes, got shape {value.shape}")


def fits(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a shape that is not the expected one."""
    if shape != expected:
        raise ValueError(f"{name} must have shape {expected} to fit the other arguments, got {shape}")


def mode_of(mode: int, modes: int) -> None:
    """Refuse a mode that a tensor of so many modes has not."""
    if not 0 <= mode < modes:
        raise ValueError(f"mode must be at least 0 and at most {modes - 1}, got {mode}")


def with_bias(result: Array, bias: Array | None, axis: int) -> Array:
    """Add b[o] to all of channel o, which lies on axis 1 or on the last one, -1."""
    if bias is None:
        return result
    float64_array("bias", bias, axes=1)
    fits("bias (O,)", bias.shape, (result.shape[axis],))
    for o in range(len(bias)):
        channel = (slice(None), o) if axis == 1 else (..., o)
        result[channel] = result[channel] + bias[o]
    return result
