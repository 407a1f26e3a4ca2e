"""The smallest input that fails: an own, deterministic descent over shapes, geometry and values.

In: a failing `Case` and a test whether a case still fails in the same way. Out: a case that does, from which no single
step leads further down. Steps are tried from the boldest to the finest; each makes the case simpler in a fixed order,
so the descent ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.geometry import ConvGeometry
from refgrad.oracle.cases import Case
from refgrad.oracle.ladder.shrink import descend, ladder_complexity, replace_ladder_case, simpler_ladder

__all__ = ["complexity", "complexity_of", "renamed", "replace_case", "shrink", "simpler", "smallest_of"]

EVALUATIONS = 400
"""How often the target may be called for one failure."""

FEW_ENTRIES = 40
"""Up to how many entries each is tried on its own."""

PLAIN_FRACTIONS = (Fraction(1), Fraction(1, 2), Fraction(3, 4), Fraction(4, 5), Fraction(9, 10))
"""Explained variances that are easy to think about, the plainest first."""


def shrink(case: Case, still_fails: Callable[[Case], bool], *, evaluations: int = EVALUATIONS) -> Case:
    """Return a simpler case that still fails.

    Parameters
    ----------
    case : Case
        One that fails.
    still_fails : callable
        Whether a case fails in the same way.
    evaluations : int
        How often that may be asked.

    Returns
    -------
    Case
        The simplest found; `case` itself where nothing simpler fails.

    Examples
    --------
    >>> from refgrad.oracle.catalogue import catalogue
    >>> small = shrink(catalogue()[0], lambda case: case.x.shape[1] >= 2)
    >>> small.x.shape, small.weight.shape, small.x.ravel().tolist()
    ((1, 2, 1, 1), (1, 2, 1, 1), [0.0, 0.0])
    """
    return descend(case, still_fails, simpler, evaluations=evaluations)


def complexity(case: Case) -> tuple[float, ...]:
    """Return what is to become small, the weightiest first; every step of `shrink` makes it smaller."""
    arrays = (case.x, case.weight, case.bias, case.grad_output)
    geometry = sum(case.stride) + sum(case.dilation) + sum(map(sum, case.padding)) + case.groups
    fraction = case.explained_variance
    plain = PLAIN_FRACTIONS.index(fraction) if fraction in PLAIN_FRACTIONS else len(PLAIN_FRACTIONS)
    values = [_values_complexity(array) for array in arrays]
    return (
        float(sum(array.size for array in arrays)),
        float(geometry),
        float(case.layout != "C"),
        float(sum(first for first, _ in values)),
        float(sum(second for _, second in values)),
        float(plain),
        float(case.dtype == np.float32),
    )


def _values_complexity(array: Array) -> tuple[int, float]:
    """Count the entries that are no integers of one digit; and add up those that are."""
    small = (np.abs(array) < 10) & (array == np.rint(array))
    return int(np.count_nonzero(~small)), float(np.abs(array[small]).sum() + (array[small] < 0).sum() / 2)


def simpler(case: Case) -> Iterator[Case]:
    """Yield cases that are simpler than a case, the boldest steps first."""
    before = complexity(case)
    for candidate in _candidates(case):
        if complexity(candidate) < before:
            yield candidate


@dataclass(frozen=True, slots=True)
class _Shape:
    """Everything about a case but its values."""

    batch: int
    channels: int
    out_channels: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, case: Case) -> _Shape:
        batch, per_group, out_channels = case.x.shape[0], case.weight.shape[1], case.weight.shape[0]
        height, width = case.x.shape[2:]
        geometry = case.geometry
        return cls(
            batch,
            per_group,
            out_channels // case.groups,
            (height, width),
            geometry.kernel_size,
            case.stride,
            case.padding,
            case.dilation,
            case.groups,
        )


def _candidates(case: Case) -> Iterator[Case]:
    for from_end in (False, True):
        for shape in _shapes(_Shape.of(case)):
            candidate = _reshaped(case, shape, from_end=from_end)
            if candidate is not None:
                yield candidate
    if case.layout != "C":
        yield replace_case(case, layout="C")
    yield from _with_simpler_values(case)
    for fraction in PLAIN_FRACTIONS:
        yield replace_case(case, explained_variance=fraction)
    if case.dtype == np.float32:
        wide = {name: getattr(case, name).astype(np.float64) for name in ("x", "weight", "bias", "grad_output")}
        yield replace_case(case, **wide)


def _fewer(number: int, lowest: int = 1) -> list[int]:
    """Return smaller numbers to try: the lowest, half, one less."""
    return sorted({n for n in (lowest, number // 2, number - 1) if lowest <= n < number})


def _shapes(shape: _Shape) -> Iterator[_Shape]:
    yield from (replace(shape, batch=number) for number in _fewer(shape.batch))
    yield from (replace(shape, groups=number) for number in _fewer(shape.groups))
    yield from (replace(shape, channels=number) for number in _fewer(shape.channels))
    yield from (replace(shape, out_channels=number) for number in _fewer(shape.out_channels))
    for axis in (0, 1):
        for number in _fewer(shape.size[axis]):
            yield replace(shape, size=_put(shape.size, axis, number))
        for number in _fewer(shape.kernel[axis]):
            yield from _with_and_without_room(shape, replace(shape, kernel=_put(shape.kernel, axis, number)))
    for number in _fewer(min(*shape.stride, *shape.dilation)):
        yield from _with_and_without_room(shape, replace(shape, stride=(number, number), dilation=(number, number)))
    for axis in (0, 1):
        for number in _fewer(shape.stride[axis]):
            smaller = replace(shape, stride=_put(shape.stride, axis, number))
            yield from _with_and_without_room(shape, smaller)
            both = replace(smaller, dilation=_put(shape.dilation, axis, min(number, shape.dilation[axis])))
            yield from _with_and_without_room(shape, both)
        for number in _fewer(shape.dilation[axis]):
            yield from _with_and_without_room(shape, replace(shape, dilation=_put(shape.dilation, axis, number)))
            (top, bottom), (left, right) = shape.padding
            less = ((max(0, top - 1), max(0, bottom - 1)), (max(0, left - 1), max(0, right - 1)))
            both = replace(shape, dilation=_put(shape.dilation, axis, number), padding=less)
            yield from _with_and_without_room(shape, both)
    for axis in (0, 1):
        for side in (0, 1):
            for number in _fewer(shape.padding[axis][side], 0):
                pads = _put(shape.padding[axis], side, number)
                padding = (pads, shape.padding[1]) if axis == 0 else (shape.padding[0], pads)
                yield from _with_and_without_room(shape, replace(shape, padding=padding))


def _put(pair: tuple[int, int], axis: int, number: int) -> tuple[int, int]:
    return (number, pair[1]) if axis == 0 else (pair[0], number)


def _with_and_without_room(old: _Shape, new: _Shape) -> Iterator[_Shape]:
    """Yield a shape cut down to what as many output positions as before need, and as it is.

    The input is cut first, then the pads: those after it and then those before, and the other way round.
    """
    needed = []
    for axis in (0, 1):
        span = old.dilation[axis] * (old.kernel[axis] - 1) + 1
        positions = (old.size[axis] + sum(old.padding[axis]) - span) // old.stride[axis] + 1
        needed.append((positions - 1) * new.stride[axis] + new.dilation[axis] * (new.kernel[axis] - 1) + 1)
    for side in (1, 0):
        height, vertical = _cut(new.size[0], new.padding[0], needed[0], side)
        width, horizontal = _cut(new.size[1], new.padding[1], needed[1], side)
        cut = replace(new, size=(height, width), padding=(vertical, horizontal))
        if cut != new:
            yield cut
    yield new


def _cut(size: int, pads: tuple[int, int], needed: int, side: int) -> tuple[int, tuple[int, int]]:
    """Cut an axis and its pads to a length, the pad of the given side first."""
    size = min(size, max(1, needed - sum(pads)))
    for each in (side, 1 - side):
        pads = _put(pads, each, max(0, pads[each] - max(0, size + sum(pads) - needed)))
    return size, pads


def _reshaped(case: Case, shape: _Shape, *, from_end: bool) -> Case | None:
    """Cut, or where it has to grow repeat, the arrays of a case; None where the kernel does not fit.

    What stays are the first entries along each axis, or the last ones.
    """
    for n, pads, d, k in zip(shape.size, shape.padding, shape.dilation, shape.kernel, strict=True):
        if n + sum(pads) < d * (k - 1) + 1:
            return None
    geometry = ConvGeometry(shape.kernel, shape.stride, shape.padding, shape.dilation, shape.groups)
    x_shape = (shape.batch, shape.groups * shape.channels, *shape.size)
    weight_shape = (shape.groups * shape.out_channels, shape.channels, *shape.kernel)
    old = _Shape.of(case)
    inputs = _kept(old.groups, old.channels, shape.groups, shape.channels, from_end)
    outputs = _kept(old.groups, old.out_channels, shape.groups, shape.out_channels, from_end)
    output_shape = geometry.output_shape(x_shape, weight_shape)
    return replace_case(
        case,
        x=_fitted(case.x[:, inputs], x_shape, from_end),
        weight=_fitted(case.weight[outputs], weight_shape, from_end),
        bias=case.bias[outputs],
        grad_output=_fitted(case.grad_output[:, outputs], output_shape, from_end),
        stride=shape.stride,
        padding=shape.padding,
        dilation=shape.dilation,
        groups=shape.groups,
    )


def _kept(old_groups: int, old_each: int, groups: int, each: int, from_end: bool) -> Array:
    """Return which channels stay: the first (or last) `each` of the first (or last) `groups` groups."""
    channels = np.arange(old_groups * old_each).reshape(old_groups, old_each)
    return (channels[-groups:, -each:] if from_end else channels[:groups, :each]).ravel()


def _fitted(array: Array, shape: tuple[int, ...], from_end: bool) -> Array:
    for axis, length in enumerate(shape):
        old = array.shape[axis]
        offset = old - length if from_end and length < old else 0
        array = np.take(array, (np.arange(length) + offset) % old, axis=axis)
    return array


def _with_simpler_values(case: Case) -> Iterator[Case]:
    for name in ("bias", "weight", "grad_output", "x"):
        array = getattr(case, name)
        largest = float(np.max(np.abs(array)))
        if name != "x":
            yield replace_case(case, **{name: np.zeros_like(array)})
        yield replace_case(case, **{name: np.ones_like(array)})
        for highest in (1, 2, 3, 9):
            if largest > 0.0:
                rounded = np.rint(array * (highest / largest)) + array.dtype.type(0)
                yield replace_case(case, **{name: rounded})
    for name in ("bias", "weight", "grad_output", "x"):
        array = getattr(case, name)
        if array.size <= FEW_ENTRIES:
            for index in np.ndindex(array.shape):
                for value in (0, 1, 2):
                    yield replace_case(case, **{name: _with_entry(array, index, value)})


def _with_entry(array: Array, index: tuple[int, ...], value: int) -> Array:
    result = array.copy()
    result[index] = value
    return result


def smallest_of(case: Any, still_fails: Callable[[Any], bool]) -> Any:
    """Return a simpler case of any operation that still fails."""
    if isinstance(case, Case):
        return shrink(case, still_fails)
    return descend(case, still_fails, simpler_ladder, evaluations=EVALUATIONS)


def complexity_of(case: Any) -> tuple[float, ...]:
    """Return what is to become small, for a case of any operation."""
    return complexity(case) if isinstance(case, Case) else ladder_complexity(case)


def renamed(case: Any, name: str) -> Any:
    """Return the same case under another name."""
    return replace_case(case, name=name) if isinstance(case, Case) else replace_ladder_case(case, name=name)


def replace_case(case: Case, **changes: object) -> Case:
    """Return a case with some of its fields changed."""
    fields = (
        "name", "x", "weight", "bias", "grad_output", "stride", "padding", "dilation", "groups", "explained_variance",
        "layout", "effect",
    )  # fmt: skip
    return Case(**{**{name: getattr(case, name) for name in fields}, **changes})
