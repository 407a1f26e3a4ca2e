"""The rules of the functions that only move entries: their VJPs keep shapes, never values.

In: NumPy's functions on shapes, and those that join and split arrays. Out: their entries in `function_rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.numpy_vjps.rules import axes_of, numpy_says, operands, rule, unbroadcast, value_of
from refgrad.tape import Keeper, Operand, Primitive, Tensor

__all__ = ["astype", "broadcast_to", "concatenate", "flip", "pad", "repeat", "reshape", "roll", "tile", "transpose"]


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The shape of the argument."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """The axes that were permuted, flipped or shifted, and by how much."""

    axes: tuple[int, ...]
    shift: tuple[int, ...] = ()


def _reshape(keeper: Keeper, a: Array, *, shape: Any) -> tuple[Array, Shape | None]:
    with numpy_says("np.reshape", a):
        output = a.reshape(shape)
    return output, Shape(a.shape) if keeper.needs else None


def _transpose(keeper: Keeper, a: Array, *, axes: tuple[int, ...]) -> tuple[Array, Axes | None]:
    return a.transpose(axes), Axes(axes) if keeper.needs else None


def _broadcast_to(keeper: Keeper, a: Array, *, shape: Any) -> tuple[Array, Shape | None]:
    with numpy_says("np.broadcast_to", a):
        output = np.broadcast_to(a, shape)
    return output, Shape(a.shape) if keeper.needs else None


def _astype(keeper: Keeper, a: Array, *, dtype: np.dtype[Any]) -> tuple[Array, None]:
    return a.astype(dtype), None


def _flip(keeper: Keeper, m: Array, *, axes: tuple[int, ...]) -> tuple[Array, Axes | None]:
    return np.flip(m, axes), Axes(axes) if keeper.needs else None


def _roll(keeper: Keeper, a: Array, *, shift: tuple[int, ...], axes: tuple[int, ...]) -> tuple[Array, Axes | None]:
    return np.roll(a, shift, axes), Axes(axes, shift) if keeper.needs else None


reshape = Primitive("reshape", _reshape, {"a": lambda saved, g: g.reshape(saved.shape)})
transpose = Primitive("transpose", _transpose, {"a": lambda saved, g: g.transpose(np.argsort(saved.axes))})
broadcast_to = Primitive("broadcast_to", _broadcast_to, {"a": lambda saved, g: unbroadcast(g, saved.shape)})
astype = Primitive("astype", _astype, {"a": lambda saved, g: g})
flip = Primitive("flip", _flip, {"m": lambda saved, g: np.flip(g, saved.axes)})
roll = Primitive("roll", _roll, {"a": lambda saved, g: np.roll(g, tuple(-s for s in saved.shift), saved.axes)})


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Where each array went: its first place and its length along the axis."""

    axis: int
    starts: tuple[int, ...]
    lengths: tuple[int, ...]


def _concatenate(keeper: Keeper, *arrays: Array, axis: int) -> tuple[Array, Joined | None]:
    with numpy_says("np.concatenate", *arrays):
        output = np.concatenate(arrays, axis=axis)
    if not keeper.needs:
        return output, None
    axis = axis % output.ndim
    lengths = tuple(array.shape[axis] for array in arrays)
    starts = (0, *np.cumsum(lengths[:-1]).tolist()) if lengths else ()
    return output, Joined(axis, starts, lengths)


def _concatenate_vjp(saved: Joined, g: Array, position: int) -> Array:
    start, length = saved.starts[position], saved.lengths[position]
    part: Array = g[(slice(None),) * saved.axis + (slice(start, start + length),)]
    return part


concatenate = Primitive("concatenate", _concatenate, {"arrays": _concatenate_vjp})


@dataclass(frozen=True, slots=True, eq=False)
class Padded:
    """The shape before padding, and the first pads."""

    shape: tuple[int, ...]
    before: tuple[int, ...]


def _pad(
    keeper: Keeper, array: Array, *, pads: tuple[tuple[int, int], ...], constant_values: Any
) -> tuple[Array, Padded | None]:
    with numpy_says("np.pad", array):
        output = np.pad(array, pads, mode="constant", constant_values=constant_values)
    return output, Padded(array.shape, tuple(before for before, _ in pads)) if keeper.needs else None


def _pad_vjp(saved: Padded, g: Array) -> Array:
    inner = tuple(slice(before, before + length) for before, length in zip(saved.before, saved.shape, strict=True))
    part: Array = g[inner]
    return part


pad = Primitive("pad", _pad, {"array": _pad_vjp})


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """How often the array was repeated along each axis, or each entry along one."""

    shape: tuple[int, ...]
    repeats: tuple[int, ...]
    axis: int = 0


def _tile(keeper: Keeper, A: Array, *, repeats: tuple[int, ...]) -> tuple[Array, Repeated | None]:
    return np.tile(A, repeats), Repeated(A.shape, repeats) if keeper.needs else None


def _tile_vjp(saved: Repeated, g: Array) -> Array:
    ndim = len(saved.repeats)
    shape = (1,) * (ndim - len(saved.shape)) + saved.shape
    pairs = [entry for pair in zip(saved.repeats, shape, strict=True) for entry in pair]
    return np.asarray(g.reshape(pairs).sum(axis=tuple(range(0, 2 * ndim, 2))).reshape(saved.shape))


tile = Primitive("tile", _tile, {"A": _tile_vjp})


def _repeat(keeper: Keeper, a: Array, *, repeats: tuple[int, ...], axis: int) -> tuple[Array, Repeated | None]:
    with numpy_says("np.repeat", a):
        output = np.repeat(a, repeats, axis=axis)
    return output, Repeated(a.shape, repeats, axis) if keeper.needs else None


def _repeat_vjp(saved: Repeated, g: Array) -> Array:
    if len(saved.repeats) == 1:
        shape = [*saved.shape[: saved.axis + 1], saved.repeats[0], *saved.shape[saved.axis + 1 :]]
        return np.asarray(g.reshape(shape).sum(axis=saved.axis + 1))
    gradient = np.zeros(saved.shape, g.dtype)
    places = np.repeat(np.arange(saved.shape[saved.axis]), saved.repeats)
    where: Any = (*(slice(None),) * saved.axis, places)
    np.add.at(gradient, where, g)
    return gradient


repeat = Primitive("repeat", _repeat, {"a": _repeat_vjp})


@rule(np.reshape)
def _reshape_rule(a: Tensor, shape: Any = None, order: str = "C", *, newshape: Any = None) -> Operand:
    if order != "C":
        raise TypeError(f"np.reshape of a Tensor reads its entries in C order, got order={order!r}; transpose it first")
    return reshape(a, shape=newshape if shape is None else shape)


@rule(np.ravel)
def _ravel_rule(a: Tensor, order: str = "C") -> Operand:
    if order != "C":
        raise TypeError(f"np.ravel of a Tensor reads its entries in C order, got order={order!r}; transpose it first")
    return reshape(a, shape=-1)


@rule(np.expand_dims)
def _expand_dims_rule(a: Tensor, axis: Any) -> Operand:
    with numpy_says("np.expand_dims", a.value):
        shape = np.expand_dims(a.value, axis).shape
    return reshape(a, shape=shape)


@rule(np.squeeze)
def _squeeze_rule(a: Tensor, axis: Any = None) -> Operand:
    with numpy_says("np.squeeze", a.value):
        shape = np.squeeze(a.value, axis).shape
    return reshape(a, shape=shape)


def _at_least(count: int, a: Tensor) -> Operand:
    return a if a.ndim >= count else reshape(a, shape=(1,) * (count - a.ndim) + a.shape)


@rule(np.atleast_1d)
def _atleast_1d_rule(*arrays: Tensor) -> Any:
    results = tuple(_at_least(1, array) for array in operands("np.atleast_1d", arrays))
    return results[0] if len(results) == 1 else results


@rule(np.atleast_2d)
def _atleast_2d_rule(*arrays: Tensor) -> Any:
    results = tuple(_at_least(2, array) for array in operands("np.atleast_2d", arrays))
    return results[0] if len(results) == 1 else results


@rule(np.transpose)
def _transpose_rule(a: Tensor, axes: Any = None) -> Operand:
    if axes is None:
        return transpose(a, axes=tuple(range(a.ndim))[::-1])
    order = tuple(axes_of("np.transpose", axis, a.ndim)[0] for axis in axes)
    if sorted(order) != list(range(a.ndim)):
        raise ValueError(f"axes of np.transpose must name each of the {a.ndim} axes once, got {axes!r}")
    return transpose(a, axes=order)


@rule(np.swapaxes)
def _swapaxes_rule(a: Tensor, axis1: int, axis2: int) -> Operand:
    (first,), (second,) = (axes_of("np.swapaxes", axis, a.ndim) for axis in (axis1, axis2))
    order = list(range(a.ndim))
    order[first], order[second] = second, first
    return transpose(a, axes=tuple(order))


@rule(np.moveaxis)
def _moveaxis_rule(a: Tensor, source: Any, destination: Any) -> Operand:
    with numpy_says("np.moveaxis", a.value):
        np.moveaxis(a.value, source, destination)
    sources, targets = (
        [axis % a.ndim for axis in (axes if isinstance(axes, (tuple, list)) else (axes,))]
        for axes in (source, destination)
    )
    order = [axis for axis in range(a.ndim) if axis not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return transpose(a, axes=tuple(order))


@rule(np.broadcast_to)
def _broadcast_to_rule(array: Tensor, shape: Any) -> Operand:
    return broadcast_to(array, shape=shape)


@rule(np.broadcast_arrays)
def _broadcast_arrays_rule(*args: Any) -> tuple[Operand, ...]:
    arrays = operands("np.broadcast_arrays", args)
    with numpy_says("np.broadcast_arrays", *map(value_of, arrays)):
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
    return tuple(broadcast_to(array, shape=shape) for array in arrays)


@rule(np.ndarray.astype)
def _astype_rule(a: Tensor, dtype: Any) -> Operand:
    return astype(a, dtype=np.dtype(dtype))


@rule(np.flip)
def _flip_rule(m: Tensor, axis: Any = None) -> Operand:
    return flip(m, axes=axes_of("np.flip", axis, m.ndim))


@rule(np.flipud)
def _flipud_rule(m: Tensor) -> Operand:
    return flip(m, axes=axes_of("np.flipud", 0, m.ndim))


@rule(np.fliplr)
def _fliplr_rule(m: Tensor) -> Operand:
    return flip(m, axes=axes_of("np.fliplr", 1, m.ndim))


@rule(np.roll)
def _roll_rule(a: Tensor, shift: Any, axis: Any = None) -> Operand:
    if axis is None:
        return reshape(_roll_rule(a.ravel(), shift, 0), shape=a.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(axes) == 1 and len(shifts) > 1:
        axes = tuple(axes) * len(shifts)
    if len(axes) != len(shifts):
        raise ValueError(f"np.roll needs one shift or as many as axes, got shift={shift!r} and axis={axis!r}")
    places = tuple(axes_of("np.roll", one, a.ndim)[0] for one in axes)
    return roll(a, shift=tuple(index(entry) for entry in shifts), axes=places)


@rule(np.concatenate)
def _concatenate_rule(arrays: Any, axis: int | None = 0) -> Operand:
    parts = operands("np.concatenate", arrays)
    if axis is None:
        return concatenate(*(reshape(part, shape=-1) for part in parts), axis=0)
    return concatenate(*parts, axis=index(axis))


@rule(np.stack)
def _stack_rule(arrays: Any, axis: int = 0) -> Operand:
    parts = operands("np.stack", arrays)
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        raise ValueError(f"np.stack needs arrays of one shape, got {', '.join(str(part.shape) for part in parts)}")
    ndim = parts[0].ndim + 1
    place = axes_of("np.stack", axis, ndim)[0]
    shape = (*parts[0].shape[:place], 1, *parts[0].shape[place:])
    return concatenate(*(reshape(part, shape=shape) for part in parts), axis=place)


@rule(np.vstack)
def _vstack_rule(tup: Any) -> Operand:
    return concatenate(*(_at_least(2, part) for part in operands("np.vstack", tup)), axis=0)


@rule(np.hstack)
def _hstack_rule(tup: Any) -> Operand:
    parts = [_at_least(1, part) for part in operands("np.hstack", tup)]
    return concatenate(*parts, axis=0 if parts[0].ndim == 1 else 1)


@rule(np.split)
def _split_rule(ary: Tensor, indices_or_sections: Any, axis: int = 0) -> list[Operand]:
    return _split("np.split", ary, indices_or_sections, axis)


@rule(np.array_split)
def _array_split_rule(ary: Tensor, indices_or_sections: Any, axis: int = 0) -> list[Operand]:
    return _split("np.array_split", ary, indices_or_sections, axis)


def _split(name: str, ary: Tensor, indices_or_sections: Any, axis: int) -> list[Operand]:
    place = axes_of(name, axis, ary.ndim)[0]
    function = np.split if name == "np.split" else np.array_split
    with numpy_says(name, ary.value):
        parts = function(np.arange(ary.shape[place]), indices_or_sections)
    ends = np.cumsum([len(part) for part in parts]).tolist()
    cuts = [slice(end - len(part), end) for part, end in zip(parts, ends, strict=True)]
    if not isinstance(indices_or_sections, (int, np.integer)):  # cut points may overlap, or lie beyond the end
        points: Sequence[int] = [0, *(index(point) for point in indices_or_sections), ary.shape[place]]
        cuts = [slice(*pair) for pair in pairwise(points)]
    return [ary[(slice(None),) * place + (cut,)] for cut in cuts]


@rule(np.pad)
def _pad_rule(array: Tensor, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Operand:
    if mode != "constant":
        raise TypeError(f"np.pad of a Tensor has mode 'constant' only, got {mode!r}")
    if isinstance(pad_width, dict):
        places = {axes_of("np.pad", axis, array.ndim)[0]: pads for axis, pads in pad_width.items()}
        pad_width = [places.get(i, 0) for i in range(array.ndim)]
        pad_width = [(pads, pads) if isinstance(pads, (int, np.integer)) else pads for pads in pad_width]
    with numpy_says("np.pad", array.value):
        pads = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist()
    return pad(
        array, pads=tuple((index(before), index(after)) for before, after in pads), constant_values=constant_values
    )


@rule(np.tile)
def _tile_rule(A: Tensor, reps: Any) -> Operand:
    repeats = tuple(index(entry) for entry in (reps if isinstance(reps, (tuple, list)) else (reps,)))
    return tile(A, repeats=(1,) * (A.ndim - len(repeats)) + repeats)


@rule(np.repeat)
def _repeat_rule(a: Tensor, repeats: Any, axis: int | None = None) -> Operand:
    counts = tuple(index(entry) for entry in np.atleast_1d(repeats))
    if axis is None:
        return repeat(a.ravel(), repeats=counts, axis=0)
    return repeat(a, repeats=counts, axis=axes_of("np.repeat", axis, a.ndim)[0])
