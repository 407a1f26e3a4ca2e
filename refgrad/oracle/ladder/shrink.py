"""The smallest input of an operation that fails: axes of one name are cut together, then values are made plain.

In: a failing `LadderCase`. Out: simpler ones to try; and the descent itself, which serves the convolution as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TypeVar

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.ladder.cases import LadderCase, Parts, each_array

__all__ = ["descend", "ladder_complexity", "replace_ladder_case", "simpler_ladder"]

AnyCaseT = TypeVar("AnyCaseT")

PLAIN_FRACTIONS = (Fraction(1), Fraction(1, 2), Fraction(3, 4), Fraction(4, 5), Fraction(9, 10))

FEW_ENTRIES = 16
"""Up to how many entries each is tried on its own."""

FIXED = ("H", "W", "H'", "W'", "k_h", "k_w", "C/groups")
"""Axes that a convolution ties to others; they are not cut."""


def descend(
    case: AnyCaseT,
    still_fails: Callable[[AnyCaseT], bool],
    simpler: Callable[[AnyCaseT], Iterator[AnyCaseT]],
    *,
    evaluations: int,
) -> AnyCaseT:
    """Return a case from which no single step leads further down; `case` itself where nothing simpler fails.

    Parameters
    ----------
    case : case
        One that fails.
    still_fails : callable
        Whether a case fails in the same way.
    simpler : callable
        What to try next, the boldest steps first.
    evaluations : int
        How often `still_fails` may be asked.
    """
    first, left = 0, evaluations
    while left > 0:
        for number, candidate in enumerate(simpler(case)):
            if number < first:
                continue  # steps of these kinds led nowhere a moment ago; they are tried again before giving up
            if left == 0:
                return case
            left -= 1
            if still_fails(candidate):
                case, first = candidate, number
                break
        else:
            if first == 0:
                return case
            first = 0
    return case


def ladder_complexity(case: LadderCase) -> tuple[float, ...]:
    """Return what is to become small, the weightiest first; every step makes it smaller."""
    arrays = [array for _, _, array in each_array(case.parts)]
    odd = sum(int(np.count_nonzero((np.abs(a) >= 10) | (a != np.rint(a)))) for a in arrays)
    plain = case.explained_variance in PLAIN_FRACTIONS
    where = PLAIN_FRACTIONS.index(case.explained_variance) if plain else len(PLAIN_FRACTIONS)
    return (
        float(sum(array.size for array in arrays)),
        float(case.layout != "C"),
        float(odd),
        float(sum(np.abs(array[np.abs(array) < 10]).sum() for array in arrays)),
        float(where),
        float(case.dtype == np.float32),
    )


def simpler_ladder(case: LadderCase) -> Iterator[LadderCase]:
    """Yield cases that are simpler than a case, the boldest steps first.

    Examples
    --------
    >>> case = LadderCase("rank", "long", {"singular_values": np.ones(4)})
    >>> [candidate.array("singular_values").size for candidate in simpler_ladder(case)][:3]
    [1, 2, 3]
    """
    before = ladder_complexity(case)
    for candidate in _candidates(case):
        if ladder_complexity(candidate) < before:
            yield candidate


def replace_ladder_case(case: LadderCase, **changes: object) -> LadderCase:
    """Return a case with some of its fields changed."""
    fields = ("operation", "name", "parts", "given", "explained_variance", "layout", "effect")
    return LadderCase(**{**{name: getattr(case, name) for name in fields}, **changes})


def _candidates(case: LadderCase) -> Iterator[LadderCase]:
    for axis, length in _lengths(case).items():
        for shorter in sorted({n for n in (1, length // 2, length - 1) if 1 <= n < length}):
            cut = _cut(case, axis, shorter)
            if cut is not None:
                yield cut
    if case.layout != "C":
        yield replace_ladder_case(case, layout="C")
    yield from _with_plainer_values(case)
    for fraction in PLAIN_FRACTIONS:
        yield replace_ladder_case(case, explained_variance=fraction)
    if case.dtype == np.float32:
        yield _mapped(case, lambda _, array: array.astype(np.float64))


def _lengths(case: LadderCase) -> dict[str, int]:
    """Return the axes that may be cut on their own, with their lengths."""
    fixed = {*FIXED, *(("B", "C", "O") if case.groups > 1 else ())}
    if case.operation == "subspace_iteration":  # the factors' columns must stay orthonormal
        fixed |= {f"n{mode}" for mode in range(case.array("tensor").ndim)}
    if case.operation in ("weight_gradient", "step"):
        fixed |= {"C"} if case.operation == "step" else set()
    arrays = {(name, number): array for name, number, array in each_array(case.parts)}
    found = {
        axis: length for key, axes in case.axes().items() for axis, length in zip(axes, arrays[key].shape, strict=True)
    }
    return {axis: length for axis, length in found.items() if axis not in fixed}


def _cut(case: LadderCase, axis: str, length: int) -> LadderCase | None:
    axes = case.axes()

    def cut(key: tuple[str, int | None], array: Array) -> Array:
        places = tuple(slice(length) if each == axis else slice(None) for each in axes[key])
        return np.ascontiguousarray(array[places])

    if axis.startswith("n") and case.operation == "reconstruct":  # a factor needs as many rows as columns
        factor = case.factors()[int(axis[1:])]
        if factor.shape[1] > length:
            return None
    return _mapped(case, cut)


def _mapped(case: LadderCase, change: Callable[[tuple[str, int | None], Array], Array]) -> LadderCase:
    parts: Parts = {
        name: tuple(change((name, number), array) for number, array in enumerate(value))
        if isinstance(value, tuple)
        else change((name, None), value)
        for name, value in case.parts.items()
    }
    return replace_ladder_case(case, parts=parts)


def _with_plainer_values(case: LadderCase) -> Iterator[LadderCase]:
    names = [name for name, value in case.parts.items() if not isinstance(value, tuple)]
    for name in names:
        array = case.array(name)
        largest = float(np.max(np.abs(array)))
        yield _with(case, name, np.ones_like(array))
        for highest in (1, 2, 3, 9):
            if largest > 0.0:
                yield _with(case, name, np.rint(array * (highest / largest)) + array.dtype.type(0))
    for name in names:
        array = case.array(name)
        if array.size <= FEW_ENTRIES:
            for index in np.ndindex(array.shape):
                for value in (0, 1, 2):
                    changed = array.copy()
                    changed[index] = value
                    yield _with(case, name, changed)


def _with(case: LadderCase, name: str, array: Array) -> LadderCase:
    if case.operation == "rank":  # a spectrum falls
        array = np.sort(array)[::-1].copy()
    return replace_ladder_case(case, parts={**case.parts, name: array})
