"""Memory for compiled loops.

In: a shape and a dtype. Out: zeros that begin where a cache line does: a vector that crosses two is read twice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LINE", "aligned_zeros", "filled_up"]

LINE = 64
"""Bytes of a cache line."""


def aligned_zeros(rows: int, columns: int, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[np.floating]:
    """Return a C-contiguous matrix of zeros.

    Examples
    --------
    >>> aligned_zeros(3, 5).ctypes.data % LINE
    0
    """
    numbers = LINE // np.dtype(dtype).itemsize
    memory = np.zeros(rows * columns + numbers, dtype)
    start = -memory.ctypes.data % LINE // memory.itemsize
    return memory[start : start + rows * columns].reshape(rows, columns)


def filled_up(matrix: npt.NDArray[np.floating], rows: int, columns: int) -> npt.NDArray[np.floating]:
    """Return a copy with zeros behind its rows and columns, until there are so many.

    Examples
    --------
    >>> filled_up(np.ones((1, 2)), 2, 3)
    array([[1., 1., 0.],
           [0., 0., 0.]])
    """
    result = aligned_zeros(rows, columns, matrix.dtype)
    result[: len(matrix), : matrix.shape[1]] = matrix
    return result
