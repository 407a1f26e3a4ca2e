"""How a length, or an array, is cut into pieces that are worked on one after the other.

In: a length, and the longest piece; a shape, and the largest one, or its strides. Out: slices, or offsets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Place", "offsets", "places", "ranges"]

Place: TypeAlias = tuple[slice, ...]
"""Where in an array a piece stands: a slice for each axis."""


def ranges(length: int, longest: int) -> Iterator[slice]:
    """Cut 0 ... length into slices of at most `longest`.

    Examples
    --------
    >>> list(ranges(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, length, longest):
        yield slice(start, min(start + longest, length))


def places(shape: tuple[int, ...], kept: int | None, numbers: int) -> Iterator[Place]:
    """Cut an array, leaving one axis whole, into parts of at most so many numbers, or the smallest that there are.

    The axes are cut from the first one on, so that the parts follow one another in C order.
    """
    size = math.prod(shape)
    axis = next((axis for axis, length in enumerate(shape) if axis != kept and length > 1), None)
    whole = tuple(slice(0, length) for length in shape)
    if size <= numbers or axis is None:
        yield whole
        return
    some = max(1, numbers * shape[axis] // size)
    for part in ranges(shape[axis], some):
        if some > 1:
            yield (*whole[:axis], part, *whole[axis + 1 :])
            continue
        for place in places((*shape[:axis], 1, *shape[axis + 1 :]), kept, numbers):
            yield (*place[:axis], part, *place[axis + 1 :])


def offsets(shape: Sequence[int], strides: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return where the entries of an array stand, in C order, from its first one on.

    Examples
    --------
    >>> offsets((2, 3), (100, 1)).tolist()
    [0, 1, 2, 100, 101, 102]
    """
    result = np.zeros(1, np.int64)
    for length, stride in zip(shape, strides, strict=True):
        result = np.add.outer(result, np.arange(length) * stride).reshape(-1)
    return result
