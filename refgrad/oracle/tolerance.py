"""Every tolerance of the oracle, each derived (THEORY T15) and each with its majorant stated.

In: a dtype, the lengths of the sums, and magnitudes found in the case. Out: how far two right answers can lie apart.
No other module of the oracle holds a number that decides between right and wrong.

`u` is the unit roundoff of the dtype under judgement. A reference value is itself computed, in float64; its own error
is part of every bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from refgrad.arguments import Array
from refgrad.rounding import (
    LAPACK_THRESHOLD,
    Precision,
    gamma,
    inner_product_bound,
    rounded_to,
    smallest_normal,
    unit_roundoff,
)

__all__ = [
    "INCONCLUSIVE_SHARE",
    "SHRINK_MARGIN",
    "admissible_ranks",
    "decomposition_bound",
    "energy_bound",
    "guaranteed_digits",
    "image_bound",
    "match_bound",
    "orthonormality_bound",
    "projector_bound",
    "rank_margin",
    "residual_bound",
    "rounding_of_exact_sums",
    "roundoff_it_behaves_like",
    "step_bound",
    "sum_bound",
    "truncation_bound",
    "typical_share",
    "weight_gradient_length",
]

INCONCLUSIVE_SHARE = 0.1
"""A bound above this share of the reference decides nothing: what passes under it is INCONCLUSIVE."""

SHRINK_MARGIN = 10.0
"""A failure is shrunk among inputs that fail by this many times what is allowed, so as not to land on the threshold."""

RANK_ROUNDINGS = 8
"""Roundings per entry in a cumulative energy: an SVD, its squares, their sum and the comparison."""

ENERGY_ROUNDINGS = 16
"""The same for the energy that a returned subspace keeps: the target's decomposition, and the judge's projection."""

TYPICAL_DEVIATIONS = 8.0
"""What is farther off than this many times sqrt(n) u majorant is not explained by n roundings that do not conspire."""

LARGEST_GROWTH_THAT_AVERAGES = 1.0 / 16.0
"""Where n u is larger, the last terms of a sum can be lost as a whole, all with one sign."""

EXACT_DIGITS = 12
"""Operands of no more binary digits are looked at for sums that are exact; others are as good as never."""

STEP_ROUNDINGS = 8
"""Of an SGD step: three rates rounded to the dtype, three products and three sums, of which no entry sees more."""


def sum_bound(length: int, majorant: Array, dtype: Precision) -> Array:
    """Bound the difference of two right evaluations, one in `dtype` in any order, one in float64 (THEORY T15).

    (gamma_n(u) + gamma_n(2^-53)) majorant + underflow; exactly 0 where the majorant is, for a sum of zeros has no
    rounding error.

    Parameters
    ----------
    length : int
        n, how many roundings one entry goes through.
    majorant : array
        The same expression with every number replaced by its absolute value.
    dtype : dtype
        What the target computes in.
    """
    safe = np.asarray(majorant) / (1.0 - gamma(length, np.float64))  # the majorant, too, was computed
    if not _has_bound(length, dtype):
        return np.where(safe == 0.0, 0.0, np.inf)
    bound = inner_product_bound(length, safe, dtype) + inner_product_bound(length, safe, np.float64)
    return np.where(safe == 0.0, 0.0, bound)


def typical_share(length: int, dtype: Precision) -> float:
    """Return the share of `sum_bound` that n roundings reach where they are independent (the statistical tier).

    An entry is then off by about sqrt(n) u majorant at most, not by n u majorant: 8 / sqrt(n) of the bound leaves room
    for 8 standard deviations. It is 1, so that nothing more is asked, for short sums, and where n u is not small.

    Parameters
    ----------
    length : int
        n, how many roundings one entry goes through.
    dtype : dtype
        What the target computes in.

    Examples
    --------
    >>> typical_share(64, "float32"), typical_share(6400, "float32"), typical_share(6400, "float16")
    (1.0, 0.1, 1.0)
    """
    if length * unit_roundoff(dtype) > LARGEST_GROWTH_THAT_AVERAGES:
        return 1.0
    return min(1.0, TYPICAL_DEVIATIONS / math.sqrt(length))


def roundoff_it_behaves_like(ratio: float, length: int, dtype: Precision) -> float:
    """Return the roundoff u' at which an error would be typical: error = sqrt(n) u' majorant.

    Parameters
    ----------
    ratio : float
        Error over `sum_bound`.
    length : int
        n.
    dtype : dtype
        What the bound was made for.

    Examples
    --------
    >>> roundoff_it_behaves_like(0.5, 4, "float32") == 2.0**-24
    True
    """
    return ratio * math.sqrt(length) * unit_roundoff(dtype)


def rounding_of_exact_sums(
    bound: Array, majorant: Array, operands: Sequence[Array], factors_of_a_product: int, dtype: Precision
) -> Array:
    """Return 0 for the entries in which no rounding can happen, whatever the order, and the bound for the others.

    Where all operands are integers times one power of two each, a product is an integer times their product, and so is
    every partial sum; while the majorant, counted in that unit, is below 1 / (2 u), each is representable. Such sums
    have to come out exactly (the exact tier).

    Parameters
    ----------
    bound : array
        What rounding allows elsewhere.
    majorant : array
        The sums of absolute values.
    operands : sequence of array
        Everything that is multiplied or added; each counts in its own unit, and what is only added in theirs.
    factors_of_a_product : int
        How many of the operands, from the first on, make a product.
    dtype : dtype
        What the target computes in.

    Examples
    --------
    >>> ones, thirds = np.ones(3), np.ones(3) / 3
    >>> rounding_of_exact_sums(np.array([1.0]), np.array([3.0]), [ones, ones], 2, np.float32)
    array([0.])
    >>> rounding_of_exact_sums(np.array([1.0]), np.array([3.0]), [ones, thirds], 2, np.float32)
    array([1.])
    """
    exponents = [_unit_exponent(operand) for operand in operands]
    if None in exponents:
        return bound
    unit = sum(exponent or 0 for exponent in exponents[:factors_of_a_product])
    if any((exponent or 0) < unit for exponent in exponents[factors_of_a_product:]):
        return bound
    representable = np.ldexp(np.asarray(majorant, np.float64), -unit) * unit_roundoff(dtype) < 1 / 2
    in_range = np.ldexp(1.0, unit) >= smallest_normal(dtype)
    return np.where(representable & in_range, 0.0, bound)


def _unit_exponent(operand: Array) -> int | None:
    """Return the largest e such that all entries are small integers times 2^e; None where there is none."""
    largest = float(np.max(np.abs(operand), initial=0.0))
    if largest == 0.0:
        return 0
    fractions, exponents = np.frexp(operand[operand != 0.0].astype(np.float64))
    digits = np.ldexp(fractions, EXACT_DIGITS)  # what has no more digits than these is an integer here
    if not (digits == np.rint(digits)).all():
        return None
    whole = digits.astype(np.int64)
    trailing = np.log2((whole & -whole).astype(np.float64)).astype(int)
    return int(np.min(exponents - EXACT_DIGITS + trailing))


def _has_bound(length: int, dtype: Precision) -> bool:
    """Whether n u < 1: a longer sum in so short a format has no bound."""
    return length * unit_roundoff(dtype) < 1.0


def _growth(length: int, dtype: Precision) -> float:
    """Return gamma_n, infinite where there is none."""
    return gamma(length, dtype) if _has_bound(length, dtype) else math.inf


def weight_gradient_length(positions: int, ranks: tuple[int, ...]) -> int:
    """Count the roundings of one entry of dW contracted from factors, in any order (THEORY T14).

    Rebuilding A~ sums over all core entries; the convolution sums over the batch and the output positions; one term is
    a product of core, four factor entries and G. T14's order, and any other that contracts the factors with each other
    and with G one after the other, has shorter sums.

    Parameters
    ----------
    positions : int
        B H' W'.
    ranks : tuple of int
        K_1 ... K_4.
    """
    return positions + math.prod(ranks) + len(ranks) + 2


def orthonormality_bound(rows: int, dtype: Precision) -> float:
    """Bound |U^T U - I| for a factor of `rows` rows: 30 n u, LAPACK's own threshold."""
    return LAPACK_THRESHOLD * rows * unit_roundoff(dtype)


def rank_margin(rows: int, columns: int, dtype: Precision, explained_variance: Fraction) -> float:
    """Bound the error of a cumulative energy share: (8n + 8) u + |fl(eps) - eps|, n the longer side.

    A backward stable SVD moves a share by a small multiple of n u. A Gram matrix has entries off by
    gamma_columns |A| |A|^T, and a sum of its leading eigenvalues moves by no more than the nuclear norm of that. eps
    is a rational number that the target is given rounded, and may round again.
    """
    n = max(rows, columns)
    rounded = Fraction(rounded_to(float(explained_variance), dtype))
    return _growth(RANK_ROUNDINGS * (n + 1), dtype) + float(abs(rounded - explained_variance))


def admissible_ranks(
    squares: Array, rows: int, columns: int, dtype: Precision, explained_variance: Fraction
) -> tuple[int, int]:
    """Return [k_lo, k_hi], every rank that a right evaluation of D1 can find.

    Parameters
    ----------
    squares : array, (min(rows, columns),)
        Squared singular values, falling.
    rows, columns : int
        Of the unfolding.
    dtype : dtype
        What the target computes in.
    explained_variance : Fraction
        eps of D1.

    Examples
    --------
    >>> squares = np.array([1.0, 1.0, 1.0, 1.0])
    >>> admissible_ranks(squares, 4, 64, np.float64, Fraction(3, 4))
    (3, 4)
    >>> admissible_ranks(squares, 4, 64, np.float64, Fraction(4, 5))
    (4, 4)
    """
    total = float(squares.sum())
    if total == 0.0:
        return 1, rows
    shares = np.cumsum(squares) / total
    margin = rank_margin(rows, columns, dtype, explained_variance)
    low = np.flatnonzero(shares >= float(explained_variance) - margin)
    high = np.flatnonzero(shares >= float(explained_variance) + margin)
    return int(low[0]) + 1, int(high[0]) + 1 if high.size else rows


def energy_bound(rows: int, columns: int, energy: float, dtype: Precision) -> float:
    """Bound what |U^T A_(j)|^2 can lack of sum_{i<=k} s_i^2: 16 (n + 1) u |A|^2, n the longer side of A_(j)."""
    return _growth(ENERGY_ROUNDINGS * (max(rows, columns) + 1), dtype) * energy if energy > 0.0 else 0.0


def residual_bound(rank: int, columns: int, largest_square: float, absolute_gram: float, dtype: Precision) -> float:
    """Bound |(I - P) A A^T U| for a right subspace of dimension k, found by an SVD or honestly by a Gram matrix.

    sqrt(k) (30 u s_1^2 + gamma_columns(u) | |A| |A|^T |): the first term is a backward stable decomposition's, the
    second the rounding of the Gram matrix's entries.

    Parameters
    ----------
    rank : int
        k.
    columns : int
        Of the unfolding: the length of the Gram matrix's inner products.
    largest_square : float
        s_1^2.
    absolute_gram : float
        The Frobenius norm of |A| |A|^T.
    dtype : dtype
        What the target computes in.
    """
    decomposition = LAPACK_THRESHOLD * unit_roundoff(dtype) * largest_square
    gram = _growth(columns, dtype) * absolute_gram if absolute_gram > 0.0 else 0.0
    return math.sqrt(rank) * (decomposition + gram)


def projector_bound(squares: Array, rank: int, rows: int, residual: float) -> float:
    """Bound |P^ - P| by Davis and Kahan: sqrt(2) residual / gap, the gap taken between the SQUARED singular values.

    Infinite at a degenerate cut, 0 where everything is kept.

    Parameters
    ----------
    squares : array
        Squared singular values, falling.
    rank : int
        k.
    rows : int
        n_j.
    residual : float
        What `residual_bound` allows.
    """
    if rank >= rows:
        return 0.0
    padded = np.zeros(rows + 1)
    padded[: squares.size] = squares
    gap = float(padded[rank - 1] - padded[rank]) - residual
    if residual == 0.0 and not squares.any():
        return 0.0
    return math.sqrt(2.0) * residual / gap if gap > 0.0 else math.inf


def decomposition_bound(longest: int, magnitude: float, dtype: Precision) -> float:
    """Bound, for all entries alike, the backward error of a truncated SVD: 30 n u |A|, n the longer side."""
    return LAPACK_THRESHOLD * longest * unit_roundoff(dtype) * magnitude


def image_bound(shape: tuple[int, ...], absolute_gram: float, rank: int, dtype: Precision) -> float:
    """Bound |(I - P) A A^T U| where P projects on an orthonormal basis of the computed A A^T U.

    The product has entries off by gamma of both sums' lengths in |A| |A|^T |U|, and |U| is at most sqrt(k); a backward
    stable orthonormalisation adds 30 n u of its norm.

    Parameters
    ----------
    shape : pair of int
        Of A_(j).
    absolute_gram : float
        The Frobenius norm of |A| |A|^T.
    rank : int
        k.
    dtype : dtype
        What the target computes in.
    """
    rows, columns = shape
    growth = _growth(rows + columns, dtype) + LAPACK_THRESHOLD * rows * unit_roundoff(dtype)
    return growth * absolute_gram * math.sqrt(rank) if absolute_gram > 0.0 else 0.0


def step_bound(majorant: Array, dtype: Precision) -> Array:
    """Bound the rounding of a step of SGD, majorant the same sum of absolute values."""
    return sum_bound(STEP_ROUNDINGS, majorant, dtype)


def truncation_bound(discarded: float, energy: float, modes: int, longest: int, dtype: Precision) -> float:
    """Bound |A - A~|, the root of T3's sum of discarded energies, each of them off by what `energy_bound` allows."""
    return math.sqrt(discarded + modes * energy_bound(longest, longest, energy, dtype))


def match_bound(length: int, magnitude: float, dtype: Precision) -> float:
    """Bound, for all entries alike, how far a target that makes a known mistake lies from that mistake's own values.

    Twice gamma_n times the product of the operands' norms: by Cauchy and Schwarz this majorises a sum of n products
    in which no entry is used twice, whatever entries a mistake takes.
    """
    return float(2.0 * inner_product_bound(length, magnitude, dtype)) if _has_bound(length, dtype) else math.inf


def guaranteed_digits(allowed: Array, expected: Array) -> float | None:
    """Return -log10 (|allowed| / |expected|), the decimal digits that a PASS guarantees; None for a zero result.

    Examples
    --------
    >>> guaranteed_digits(np.array([1.0]), np.array([1000.0]))
    3.0
    >>> guaranteed_digits(np.array([0.0]), np.array([0.0])) is None
    True
    """
    scale = float(np.max(np.abs(expected), initial=0.0))
    if scale == 0.0:
        return None
    share = float(np.linalg.norm(allowed / scale) / np.linalg.norm(expected / scale))
    return math.inf if share == 0.0 else max(0.0, -math.log10(share))
