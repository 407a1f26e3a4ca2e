"""How far two right answers can lie apart: the roundoff of a dtype and what it does to sums (THEORY T15).

Every tolerance in refgrad, in its tests and in its oracle starts from one of these functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array

__all__ = [
    "LAPACK_THRESHOLD",
    "Precision",
    "gamma",
    "inner_product_bound",
    "rounded_to",
    "singular_value_bound",
    "smallest_normal",
    "unit_roundoff",
]

LAPACK_THRESHOLD = 30.0
"""LAPACK's own test suite accepts a factorisation whose residual, over (size x norm x u), is under this."""


Precision = npt.DTypeLike
"""What sums are accumulated in: a NumPy float dtype, or "bfloat16", which NumPy does not have."""

BFLOAT16 = "bfloat16"


def unit_roundoff(dtype: Precision) -> float:
    """Return u, the largest relative error of one correctly rounded operation.

    Examples
    --------
    >>> unit_roundoff(np.float64) == 2.0**-53, unit_roundoff(np.float32) == 2.0**-24
    (True, True)
    >>> unit_roundoff("float16") == 2.0**-11, unit_roundoff("bfloat16") == 2.0**-8
    (True, True)
    """
    if isinstance(dtype, str) and dtype == BFLOAT16:  # 8 bits of significand
        return 2.0**-8
    return float(np.finfo(np.dtype(dtype)).eps) / 2.0


def rounded_to(number: float, dtype: Precision) -> float:
    """Return the nearest number that a format holds.

    Examples
    --------
    >>> rounded_to(0.8, np.float64), rounded_to(0.8, "bfloat16")
    (0.8, 0.80078125)
    """
    if isinstance(dtype, str) and dtype == BFLOAT16:
        fraction, exponent = math.frexp(number)
        return math.ldexp(round(math.ldexp(fraction, 8)), exponent - 8)
    return float(np.array(number, dtype))


def smallest_normal(dtype: Precision) -> float:
    """Return the smallest number that has all its digits; below it a product may vanish.

    Examples
    --------
    >>> smallest_normal("bfloat16") == smallest_normal(np.float32) == 2.0**-126
    True
    """
    if isinstance(dtype, str) and dtype == BFLOAT16:  # the exponents of float32
        dtype = np.float32
    return float(np.finfo(np.dtype(dtype)).tiny)


def gamma(length: int, dtype: Precision) -> float:
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
        raise ValueError(f"length must be below 1/u = {1 / unit_roundoff(dtype):.3g} for {dtype}, got {length}")
    return product / (1.0 - product)


def inner_product_bound(length: int, majorant: Array | float, dtype: Precision) -> Any:
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
        gamma_n (majorant + n lambda) + n lambda with the smallest normal number lambda: it covers products that
        underflow, and sums that do in an arithmetic that flushes what is below lambda to zero.

    Examples
    --------
    >>> inner_product_bound(3, 10.0, np.float64) < 1e-14
    True
    """
    lost = length * smallest_normal(dtype)
    return gamma(length, dtype) * (majorant + lost) + lost


def singular_value_bound(size: int, norm: float, dtype: Precision) -> float:
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
