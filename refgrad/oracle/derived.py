"""Cases made from cases: the same in the other dtype, and the same geometry with numbers that a small device can make.

In: a case. Out: a case, with a name that says how it was made, so that it can be found by its name.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.cases import AnyCase, Case, largest_exponent
from refgrad.oracle.ladder.cases import LadderCase, each_array

__all__ = ["CAST", "SEEDED", "filled", "in_dtype", "redrawn", "seed_of", "seeded"]

CAST: Final = ", in "
"""What stands between the name of a case and the dtype that it was rounded to."""

SEEDED: Final = ", seeded"
"""What stands after the name of a case whose arrays were filled from seeds."""

REDRAWN: Final = ", redrawn "
"""What stands after the name of a case whose arrays were drawn anew, before the number of the draw."""

WITH_A_POINT: Final = ("rank", "subspace_iteration")
"""Operations on arrays that cannot be random: a spectrum falls, and a start is orthonormal."""


def in_dtype(case: AnyCase, dtype: str) -> AnyCase | None:
    """Return a case in the other dtype, its numbers rounded; None where they leave the range whose squares fit.

    Examples
    --------
    >>> from refgrad.oracle import find_case_of
    >>> in_dtype(find_case_of("rank", "zero energy"), "float32").describe()
    'float32, singular_values (3,), explained_variance 4/5'
    """
    largest = np.ldexp(1.0, largest_exponent(np.dtype(np.float32)))
    for _, _, array in each_array(case.parts):
        magnitudes = np.abs(array[array != 0.0])
        if not ((magnitudes <= largest) & (magnitudes >= 1.0 / largest)).all():
            return None
    return _with_arrays(case, f"{case.name}{CAST}{dtype}", lambda _, array: array.astype(dtype))


def seeded(case: AnyCase) -> AnyCase | None:
    """Return a case with arrays of the same shapes, filled from seeds; None where what is in them is its point.

    Examples
    --------
    >>> from refgrad.oracle import find_case_of
    >>> seeded(find_case_of("unfold", "matrix, mode 0")).array("tensor")[0, :3]
    array([ 1.359375, -1.21875 , -1.359375])
    """
    if case.operation in WITH_A_POINT:
        return None
    return _with_arrays(
        case,
        f"{case.name}{SEEDED}",
        lambda name, array: filled(seed_of(case.operation, case.name, name), array.shape).astype(array.dtype),
    )


def redrawn(case: AnyCase, number: int) -> AnyCase | None:
    """Return a case with random numbers of the same signs and scale; None where what is in its arrays is its point.

    What rounding does to them has no pattern, which it can have in a case that was made by hand. Sums that do not
    cancel still do not, so that an error of scale stays as visible as it was.

    Parameters
    ----------
    case : Case or LadderCase
        The shapes, the attributes, the signs and the scales.
    number : int
        Which of many.

    Examples
    --------
    >>> from refgrad.oracle import find_case_of
    >>> redrawn(find_case_of("unfold", "matrix, mode 0"), 1).describe()
    'float64, tensor (3, 4), mode 0'
    """
    if case.operation in WITH_A_POINT:
        return None

    def drawn(name: str, array: Array) -> Array:
        generator = np.random.default_rng([number, seed_of(case.operation, case.name, name)])
        exponent = np.frexp(np.max(np.abs(array), initial=0.0))[1]
        return (np.sign(array) * np.ldexp(generator.random(array.shape), exponent)).astype(array.dtype)

    return _with_arrays(case, f"{case.name}{REDRAWN}{number}", drawn)


def seed_of(operation: str, case: str, array: str) -> int:
    """Return the seed of an array of a seeded case: not 0, from which nothing would follow."""
    return zlib.crc32(f"{operation}: {case}: {array}".encode()) or 1


def filled(seed: int, shape: tuple[int, ...]) -> Array:
    """Return numbers from -2 to 127/64 in steps of 1/64, which every dtype holds, from a xorshift32 sequence.

    state ^= state << 13; state ^= state >> 17; state ^= state << 5, in 32 bits, and then (state >> 24) / 64 - 2.

    Parameters
    ----------
    seed : int
        The first state, from 1 to 2^32 - 1.
    shape : tuple of int
        Of the array, the last axis running fastest.

    Examples
    --------
    >>> filled(1, (4,))
    array([-2.      , -1.9375  ,  0.453125, -1.71875 ])
    """
    state, numbers = seed, np.empty(shape)
    for index in np.ndindex(*shape):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        numbers[index] = (state >> 24) / 64.0 - 2.0
    return numbers


def _with_arrays(case: AnyCase, name: str, changed: Callable[[str, Array], Array]) -> AnyCase:
    parts: Mapping[str, Any] = {
        key: tuple(changed(f"{key}[{number}]", array) for number, array in enumerate(part))
        if isinstance(part, tuple)
        else changed(key, part)
        for key, part in case.parts.items()
    }
    if isinstance(case, Case):
        return replace(case, name=name, **parts)
    assert isinstance(case, LadderCase)
    return replace(case, name=name, parts=parts)
