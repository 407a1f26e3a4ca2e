"""How far two right answers can lie apart: the roundoff of a dtype and what it does to sums (THEORY T15).

Every tolerance in refgrad, in its tests and in its oracle starts from one of these functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array

__all__ = ["LAPACK_THRESHOLD", "gamma", "inner_product_bound", "singular_value_bound", "unit_roundoff"]

LAPACK_THRESHOLD = 30.0
"""LAPACK's own test suite accepts a factorisation whose residual, over (size x norm x u), is under this."""


def unit_roundoff(dtype: npt.DTypeLike) -> float:
    """Return u, the largest relative error of one correctly rounded operation.

    Examples
    --------
    >>> unit_roundoff(np.float64) == 2.0**-53, unit_roundoff(np.float32) == 2.0**-24
    (True, True)
    """
    return float(np.finfo(np.dtype(dtype)).eps) / 2.0


def gamma(length: int, dtype: npt.DTypeLike) -> float:
    """Return gamma_n = n u / (1 - n u), the relative error of n rounded operations in a row (THEORY T15).

    Parameters
    ----------
    length : int
        n, how many roundings one result goes through: the length of a sum, plus one for each further product.
    dtype : dtype
        What the sum is accumulated in.

    Raises
    ------
    ValueError
        Where n u >= 1: so long a sum has no bound.

    Examples
    --------
    >>> gamma(1000, np.float32) < 6.1e-5
    True
    """
    product = length * unit_roundoff(dtype)
    if product >= 1.0:
        raise ValueError(
            f"length must be below 1/u = {1 / unit_roundoff(dtype):.3g} for {np.dtype(dtype)}, got {length}"
        )
    return product / (1.0 - product)


def inner_product_bound(length: int, majorant: Array | float, dtype: npt.DTypeLike) -> Any:
    """Bound, entry by entry, the error of inner products evaluated in any order (THEORY T15).

    Parameters
    ----------
    length : int
        How many roundings a result goes through, see `gamma`.
    majorant : array or float
        The same expression with every number replaced by its absolute value, |x|^T |y|.
    dtype : dtype
        What the sum is accumulated in.

    Returns
    -------
    array or float
        gamma_n * majorant + n * (smallest normal number). The second term covers products that underflow.

    Examples
    --------
    >>> inner_product_bound(3, 10.0, np.float64) < 1e-14
    True
    """
    return gamma(length, dtype) * majorant + length * float(np.finfo(np.dtype(dtype)).tiny)


def singular_value_bound(size: int, norm: float, dtype: npt.DTypeLike) -> float:
    """Bound |s^ - s| for every singular value that a backward stable SVD returns (THEORY T15, Weyl).

    Parameters
    ----------
    size : int
        The longer side of the matrix.
    norm : float
        |A|, the Frobenius norm of the matrix.
    dtype : dtype
        What the SVD computes in.
    """
    return LAPACK_THRESHOLD * size * unit_roundoff(dtype) * norm
