"""The rules of the functions that pick entries: indexing, take, where, diagonals, sorting.

In: NumPy's basic and advanced indexing. Out: entries in `function_rules`; `operator.getitem` is the key of ``t[...]``.
Where an index names an entry twice, its gradients add up.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.numpy_vjps.rules import axes_of, numpy_says, operand, rule, unbroadcast
from refgrad.tape import CONSTANT, BitMask, Keeper, Operand, Primitive, Tensor

__all__ = ["diagonal", "getitem", "where"]


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """The shape before indexing, and the index: slices, integers, integer arrays and bit masks."""

    shape: tuple[int, ...]
    key: tuple[Any, ...]


def _getitem(keeper: Keeper, x: Array, *, key: tuple[Any, ...]) -> tuple[Array, Picked | None]:
    with numpy_says("indexing", x):
        output = np.asarray(x[key])
    if "x" not in keeper.needs:
        return output, None
    kept = (
        (BitMask.pack(part) if part.dtype == bool else keeper.keep(part)) if isinstance(part, np.ndarray) else part
        for part in key
    )
    return output, Picked(x.shape, tuple(kept))


def _getitem_vjp(saved: Picked, g: Array) -> Array:
    gradient = np.zeros(saved.shape, g.dtype)
    key = tuple(part.unpack() if isinstance(part, BitMask) else part for part in saved.key)
    if any(isinstance(part, np.ndarray) and part.dtype != bool for part in key):
        np.add.at(gradient, key, g)
    else:
        gradient[key] = g
    return gradient


getitem = Primitive("getitem", _getitem, {"x": _getitem_vjp})


@rule(operator.getitem)
def _getitem_rule(x: Tensor, key: Any) -> Operand:
    parts = []
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, Tensor):
            raise TypeError("a Tensor cannot be an index; use its .value, converted to integers or booleans")
        if isinstance(part, (list, np.ndarray, bool, np.bool_)):
            array = np.asarray(part, dtype=np.intp) if isinstance(part, list) and not part else np.asarray(part)
            if array.dtype.kind not in "iub":
                raise TypeError(f"an index array must hold integers or booleans, got dtype {array.dtype}")
            parts.append(array)
        else:
            parts.append(part)
    return getitem(x, key=tuple(parts))


@rule(np.take)
def _take_rule(a: Tensor, indices: Any, axis: int | None = None) -> Operand:
    places = _integers("indices of np.take", indices)
    if axis is None:
        return getitem(a.ravel(), key=(places,))
    return getitem(a, key=(*(slice(None),) * axes_of("np.take", axis, a.ndim)[0], places))


@rule(np.take_along_axis)
def _take_along_axis_rule(arr: Tensor, indices: Any, axis: int | None = -1) -> Any:
    places = _integers("indices of np.take_along_axis", indices)
    if axis is None:
        return _take_along_axis_rule(arr.ravel(), places, 0)
    along = axes_of("np.take_along_axis", axis, arr.ndim)[0]
    if places.ndim != arr.ndim:
        raise ValueError(f"indices of np.take_along_axis must have the {arr.ndim} axes of the array, got {places.ndim}")
    key = [np.arange(n).reshape([-1 if i == j else 1 for j in range(arr.ndim)]) for i, n in enumerate(arr.shape)]
    key[along] = places
    return getitem(arr, key=tuple(key))


@rule(np.sort)
def _sort_rule(a: Tensor, axis: int | None = -1, *, kind: Any = None) -> Any:
    if axis is None:
        return _sort_rule(a.ravel(), 0, kind=kind)
    along = axes_of("np.sort", axis, a.ndim)[0]
    return _take_along_axis_rule(a, np.argsort(a.value, axis=along, kind=kind or "stable"), along)


def _integers(name: str, values: Any) -> Array:
    if isinstance(values, Tensor):
        raise TypeError(f"{name} cannot be a Tensor; use its .value, converted to integers")
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What `np.where` keeps: one bit an entry of its condition."""

    condition: BitMask
    shapes: tuple[tuple[int, ...], tuple[int, ...]]


def _where(keeper: Keeper, condition: Array, x: Any, y: Any) -> tuple[Array, Choice | None]:
    with numpy_says("np.where", condition, x, y):
        output = np.where(condition, x, y)
    if not keeper.needs:
        return output, None
    return output, Choice(BitMask.pack(condition), (np.shape(x), np.shape(y)))


def _where_x(saved: Choice, g: Array) -> Array:
    return unbroadcast(np.where(saved.condition.unpack(), g, g.dtype.type(0)), saved.shapes[0])


def _where_y(saved: Choice, g: Array) -> Array:
    return unbroadcast(np.where(saved.condition.unpack(), g.dtype.type(0), g), saved.shapes[1])


where = Primitive("where", _where, {"condition": CONSTANT, "x": _where_x, "y": _where_y})


@rule(np.where)
def _where_rule(condition: Any, *branches: Any) -> Any:
    if not branches:
        return np.where(condition.value)
    if len(branches) != 2:
        raise TypeError(f"np.where takes a condition alone, or with x and y, got {1 + len(branches)} arguments")
    if isinstance(condition, Tensor):
        raise TypeError("condition of where cannot be a Tensor; compare it, as in np.where(t > 0, x, y), or use .value")
    return where(np.asarray(condition), *(operand("np.where", branch) for branch in branches))


@rule(np.tril)
def _tril_rule(m: Tensor, k: int = 0) -> Operand:
    return where(_triangle("np.tril", m, k), m, np.zeros((), m.dtype))


@rule(np.triu)
def _triu_rule(m: Tensor, k: int = 0) -> Operand:
    return where(~_triangle("np.triu", m, k - 1), m, np.zeros((), m.dtype))


def _triangle(name: str, m: Tensor, k: int) -> Array:
    if m.ndim < 2:
        raise ValueError(f"{name} of a Tensor needs 2 axes or more, got shape {m.shape}")
    return np.tri(m.shape[-2], m.shape[-1], operator.index(k), dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Diagonal:
    """The shape before the diagonal was taken, and which diagonal it was."""

    shape: tuple[int, ...]
    offset: int
    axes: tuple[int, int]


def _diagonal(keeper: Keeper, a: Array, *, offset: int, axes: tuple[int, int]) -> tuple[Array, Diagonal | None]:
    return np.diagonal(a, offset, *axes), Diagonal(a.shape, offset, axes) if keeper.needs else None


def _diagonal_vjp(saved: Diagonal, g: Array) -> Array:
    gradient = np.zeros(saved.shape, g.dtype)
    places = np.arange(g.shape[-1])
    rows, columns = places + max(-saved.offset, 0), places + max(saved.offset, 0)
    np.moveaxis(gradient, saved.axes, (-2, -1))[..., rows, columns] = g
    return gradient


diagonal = Primitive("diagonal", _diagonal, {"a": _diagonal_vjp})


def _diagonal_of(name: str, a: Tensor, offset: Any, axis1: Any, axis2: Any) -> Operand:
    if a.ndim < 2:
        raise ValueError(f"{name} of a Tensor needs 2 axes or more, got shape {a.shape}")
    first, second = axes_of(name, axis1, a.ndim)[0], axes_of(name, axis2, a.ndim)[0]
    if first == second:
        raise ValueError(f"axis1 and axis2 of {name} must differ, got {axis1!r} and {axis2!r}")
    return diagonal(a, offset=operator.index(offset), axes=(first, second))


@rule(np.diagonal)
def _diagonal_rule(a: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Operand:
    return _diagonal_of("np.diagonal", a, offset, axis1, axis2)


@rule(np.trace)
def _trace_rule(a: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return np.sum(_diagonal_of("np.trace", a, offset, axis1, axis2), axis=-1)
