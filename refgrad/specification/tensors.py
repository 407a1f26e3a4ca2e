"""Tensors: unfold, fold, mode product, and the reconstruction of a Tucker form.

In: a tensor, or a core and factors. Out: a matrix or a tensor, every entry by the definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refgrad.specification.shared import Array, float64_array, inner, mode_of

__all__ = ["fold", "mode_product", "reconstruct", "unfold"]


def unfold(tensor: Array, mode: int) -> Array:
    """Write a tensor as the matrix whose rows are the slices of one mode (notation A_(j) of THEORY.md).

    The remaining modes keep their order and the last of them varies fastest.

    Parameters
    ----------
    tensor : float64 array (n_0, ..., n_{d-1})
        Any tensor with at least one axis.
    mode : int
        0-based, 0 <= mode < d.

    Returns
    -------
    float64 array (n_mode, N / n_mode)

    Raises
    ------
    TypeError
        Where `tensor` is no float64 array.
    ValueError
        Where `tensor` has no axis or no entry, or there is no such mode.

    Examples
    --------
    >>> unfold(np.arange(24.0).reshape(2, 3, 4), 1)[0]
    array([ 0.,  1.,  2.,  3., 12., 13., 14., 15.])
    """
    float64_array("tensor", tensor)
    mode_of(mode, tensor.ndim)
    result = np.zeros((tensor.shape[mode], tensor.size // tensor.shape[mode]))
    for index in np.ndindex(*tensor.shape):
        result[index[mode], _column(index, mode, tensor.shape)] = tensor[index]
    return result


def fold(matrix: Array, mode: int, shape: Sequence[int]) -> Array:
    """Undo `unfold`: return the tensor of the given shape whose mode-`mode` unfolding is `matrix`.

    Parameters
    ----------
    matrix : float64 array (n_mode, N / n_mode)
        An unfolding.
    mode : int
        0-based.
    shape : sequence of int
        (n_0, ..., n_{d-1}).

    Returns
    -------
    float64 array (n_0, ..., n_{d-1})

    Raises
    ------
    TypeError
        Where `matrix` is no float64 array.
    ValueError
        Where `matrix` has not the shape that the unfolding of such a tensor has.

    Examples
    --------
    >>> tensor = np.arange(24.0).reshape(2, 3, 4)
    >>> bool(np.all(fold(unfold(tensor, 2), 2, (2, 3, 4)) == tensor))
    True
    """
    float64_array("matrix", matrix, axes=2)
    mode_of(mode, len(shape))
    expected = (shape[mode], math.prod(shape) // shape[mode])
    if matrix.shape != expected:
        raise ValueError(f"matrix must have shape {expected} to fold into {tuple(shape)}, got {matrix.shape}")
    result = np.zeros(tuple(shape))
    for index in np.ndindex(*result.shape):
        result[index] = matrix[index[mode], _column(index, mode, shape)]
    return result


def mode_product(tensor: Array, matrix: Array, mode: int) -> Array:
    """Multiply every mode-j fibre of a tensor by a matrix: the A x_j M of THEORY.md.

    Parameters
    ----------
    tensor : float64 array (n_0, ..., n_{d-1})
        A.
    matrix : float64 array (r, n_mode)
        M.
    mode : int
        j, 0-based.

    Returns
    -------
    float64 array (n_0, ..., r, ..., n_{d-1})
        Its mode-j unfolding is M A_(j).

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the matrix has not n_mode columns.

    Examples
    --------
    >>> mode_product(np.ones((2, 3)), np.array([[1.0, 2.0, 3.0]]), 1)
    array([[6.],
           [6.]])
    """
    float64_array("tensor", tensor)
    float64_array("matrix", matrix, axes=2)
    mode_of(mode, tensor.ndim)
    if matrix.shape[1] != tensor.shape[mode]:
        raise ValueError(
            f"matrix must have as many columns as mode {mode} of the tensor is long, {tensor.shape[mode]}, "
            f"got shape {matrix.shape}"
        )
    before, after = tensor.shape[:mode], tensor.shape[mode + 1 :]
    result = np.zeros((*before, matrix.shape[0], *after))
    for left in np.ndindex(*before):
        for right in np.ndindex(*after):
            fibre = tensor[(*left, slice(None), *right)]
            for row in range(matrix.shape[0]):
                result[(*left, row, *right)] = inner(matrix[row], fibre)
    return result


def reconstruct(core: Array, factors: Sequence[Array]) -> Array:
    """Return A~ = S x_1 U_1 ... x_d U_d (THEORY D3).

    Parameters
    ----------
    core : float64 array (K_1, ..., K_d)
        S.
    factors : sequence of d float64 arrays (n_j, K_j)
        U_j.

    Returns
    -------
    float64 array (n_1, ..., n_d)

    Raises
    ------
    ValueError
        Where the number of factors, or the columns of one, do not fit the core.

    Examples
    --------
    >>> reconstruct(np.array([[2.0]]), [np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])])
    array([[0., 2.],
           [0., 0.]])
    """
    if len(factors) != core.ndim:
        raise ValueError(f"factors must be one matrix a mode, {core.ndim}, got {len(factors)}")
    result = core
    for mode, factor in enumerate(factors):
        result = mode_product(result, factor, mode)
    return result


def _column(index: Sequence[int], mode: int, shape: Sequence[int]) -> int:
    column = 0
    for axis, i in enumerate(index):
        if axis != mode:
            column = column * shape[axis] + i
    return column
