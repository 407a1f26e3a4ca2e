"""How a batch is cut so that what is formed on the way stays small.

In: shapes, and what one position costs. Out: pieces, in order, that together are the whole, each once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar

import numpy as np

from refgrad.arguments import Array
from refgrad.ranges import places, ranges

__all__ = [
    "OBJECTS",
    "Block",
    "affordable",
    "affordable_beside",
    "all_finite",
    "contiguous_rows",
    "fitting_cut",
    "output_blocks",
]

WORKING_MEMORY = 8 * 2**20
"""Bytes that one call may allocate besides its result and one array of weight's shape.

A single patch (C k_h k_w numbers and O more) and a single row of a linear layer are taken whole, should they be larger.
"""

LEAST_MEMORY = 2**16
"""Bytes that a gradient may take in any case: with smaller blocks, calls would be what it spends its time on.

They are more than a quarter of inputs of less than 352 KiB: four times as much, and `OBJECTS`.
"""

OBJECTS = 3 * 2**13
"""Bytes for what is no array: of Python's objects for a task that waits for a thread there are two thousand."""

MASKED = 2**16
"""Of so many numbers together it is asked whether they are finite: a mask of all would be a quarter of their bytes."""

OPERANDS = 3
"""A ufunc of two arguments walks over so many arrays, and NumPy may keep a buffer for each."""

Block: TypeAlias = tuple[slice, slice, slice]
"""Images, rows and columns of an output."""

Cut = TypeVar("Cut")


def affordable() -> int:
    """Return how many bytes blocks may take: the working memory without the buffers of NumPy's own loops."""
    return max(1, WORKING_MEMORY - OPERANDS * np.getbufsize() * np.dtype(np.float64).itemsize)


def affordable_beside(nbytes: int, copied: int = 0) -> int:
    """Return how many bytes the blocks of a gradient may take: with what is copied, a quarter of its layer's input.

    Of that, `OBJECTS` are left over. Of a small input it is `LEAST_MEMORY`, and where the copy alone takes more, small
    blocks would save little and cost much: an eighth of it is added.

    Examples
    --------
    >>> affordable_beside(2**22) + OBJECTS == 2**20
    True
    """
    return min(affordable(), max(LEAST_MEMORY, nbytes // 4 - copied - OBJECTS, copied // 8))


def all_finite(array: Array) -> bool:
    """Tell whether there is neither infinity nor NaN in an array.

    Examples
    --------
    >>> all_finite(np.array([1.0, 2.0])), all_finite(np.array([1.0, math.inf]))
    (True, False)
    """
    return all(np.isfinite(array[place]).all() for place in places(array.shape, None, MASKED))


def fitting_cut(into: Callable[[int], Cut | None], parts: int) -> Cut | None:
    """Return how work is cut into so many parts that have room at once, or half as many, ...; None where none has.

    Examples
    --------
    >>> fitting_cut(lambda parts: f"{parts} parts" if parts <= 3 else None, 4)
    '2 parts'
    """
    while (cut := into(parts)) is None and parts > 1:
        parts //= 2
    return cut


def output_blocks(
    images: int, rows: int, columns: int, position_bytes: int, image_bytes: int, memory: int
) -> tuple[int, Iterator[Block]]:
    """Cut an output into blocks that cost no more than so many bytes each.

    As many whole images as fit; where not even two do, one after the other, each whole, or as many of its rows as fit,
    or part of a row.

    Parameters
    ----------
    images, rows, columns : int
        B, H' and W'.
    position_bytes : int
        What an output position costs.
    image_bytes : int
        What an image costs beyond its positions, in a block of more than one.
    memory : int
        Bytes.

    Returns
    -------
    largest : int
        How many positions the largest block has.
    blocks : iterator of Block
        Every position is in just one.

    Examples
    --------
    >>> largest, blocks = output_blocks(3, 4, 4, 25, 0, 1000)
    >>> largest, [block[0] for block in blocks]
    (32, [slice(0, 2, None), slice(2, 3, None)])
    """
    some_images = max(1, min(images, memory // (rows * columns * position_bytes + image_bytes)))
    capacity = max(1, memory // position_bytes)
    some_rows = max(1, min(rows, capacity // columns))
    some_columns = min(columns, capacity)

    def blocks() -> Iterator[Block]:
        for image_range in ranges(images, some_images):
            for row_range in ranges(rows, some_rows):
                for column_range in ranges(columns, some_columns):
                    yield image_range, row_range, column_range

    return some_images * some_rows * some_columns, blocks()


def contiguous_rows(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Cut arrays (..., n_i) that share their leading axes into C-contiguous matrices (rows, n_i), in order.

    A contiguous array is never copied. Others are copied piece by piece, within `WORKING_MEMORY` unless a single row
    is larger.

    Parameters
    ----------
    *arrays : array (..., n_i)
        At least two axes each; all but the last agree.

    Examples
    --------
    >>> [part.tolist() for part, in contiguous_rows(np.arange(4.0).reshape(2, 2).T)]
    [[[0.0, 2.0], [1.0, 3.0]]]
    """
    copied = sum(array.nbytes for array in arrays if not array.flags.c_contiguous)
    memory = affordable() // 2  # the piece before is still in use when the next is made
    length, *more = arrays[0].shape[:-1]
    if copied <= memory or math.prod(arrays[0].shape[:-1]) == 1:
        yield tuple(np.ascontiguousarray(array).reshape(-1, array.shape[-1]) for array in arrays)
    elif length == 1:
        yield from contiguous_rows(*(array.reshape(*more, array.shape[-1]) for array in arrays))
    else:
        for part in ranges(length, max(1, length * memory // copied)):
            yield from contiguous_rows(*(array[part] for array in arrays))
