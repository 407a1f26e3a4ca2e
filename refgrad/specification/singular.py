"""Matrices: a singular value decomposition by Jacobi rotations, ranks by explained variance, the truncated SVD.

In: a matrix, or a tensor that is unfolded along its first mode. Out: factors and singular values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from refgrad.specification.shared import Array, float64_array, inner, scaled
from refgrad.specification.tensors import unfold

__all__ = ["chosen_rank", "explained_variance_rank", "jacobi_svd", "orthonormal_columns", "truncated_svd"]

UNIT_ROUNDOFF = 2.0**-53
ORTHOGONAL = 8 * UNIT_ROUNDOFF  # two rows count as orthogonal when |<p, q>| <= ORTHOGONAL |p| |q|
SWEEPS = 100  # Jacobi converges quadratically: 10 sweeps are many, and rows of pure noise need a few more to vanish


def jacobi_svd(matrix: Array) -> tuple[Array, Array, Array]:
    """Return U, the singular values and V^T of a matrix, by one-sided Jacobi rotations of its rows.

    Rows p and q are turned in their plane until they are orthogonal, pair after pair, until no pair has to be turned:
    then J M = diag(s) V^T with J orthogonal, and U = J^T (M. R. Hestenes, "Inversion of matrices by
    biorthogonalization and related results", 1958). A row of norm u |M| or less is rounding noise and is left alone.

    Parameters
    ----------
    matrix : float64 array (n, m)
        M, finite.

    Returns
    -------
    left : float64 array (n, n)
        U, orthogonal, also where M has a lower rank.
    singular_values : float64 array (min(n, m),)
        Descending; each within 30 max(n, m) u |M| of the true one (THEORY T15).
    right : float64 array (min(n, m), m)
        V^T, its rows orthonormal.

    Raises
    ------
    TypeError
        Where `matrix` is no float64 array.
    ValueError
        Where it has not two axes, is empty or not finite.
    RuntimeError
        Where the rotations do not come to rest.

    Examples
    --------
    >>> left, singular_values, right = jacobi_svd(np.array([[0.0, 2.0], [3.0, 0.0]]))
    >>> singular_values
    array([3., 2.])
    """
    float64_array("matrix", matrix, axes=2)
    size = min(matrix.shape)
    rows, exponent = scaled(matrix)
    turned = np.eye(matrix.shape[0])
    noise = UNIT_ROUNDOFF * math.sqrt(math.fsum(inner(row, row) for row in rows))
    for _ in range(SWEEPS):
        at_rest = True
        for p in range(len(rows)):
            for q in range(p + 1, len(rows)):
                pp, qq, pq = inner(rows[p], rows[p]), inner(rows[q], rows[q]), inner(rows[p], rows[q])
                if math.sqrt(min(pp, qq)) <= noise or abs(pq) <= ORTHOGONAL * math.sqrt(pp) * math.sqrt(qq):
                    continue
                at_rest = False
                cotangent = (qq - pp) / (2.0 * pq)  # of twice the angle; the smaller of the two angles that serve
                tangent = math.copysign(1.0, cotangent) / (abs(cotangent) + math.hypot(1.0, cotangent))
                cosine = 1.0 / math.hypot(1.0, tangent)
                sine = cosine * tangent
                for array in (rows, turned):
                    array[p], array[q] = cosine * array[p] - sine * array[q], sine * array[p] + cosine * array[q]
        if at_rest:
            break
    else:
        raise RuntimeError(f"the Jacobi rotations of a {matrix.shape} matrix did not come to rest in {SWEEPS} sweeps")
    norms = np.array([math.sqrt(inner(row, row)) for row in rows])
    order = np.argsort(-norms, kind="stable")
    left = np.ascontiguousarray(turned[order].T)
    right = np.ascontiguousarray(orthonormal_columns(np.ascontiguousarray(rows[order[:size]].T)).T)
    return left, np.ldexp(norms[order[:size]], exponent), right


def orthonormal_columns(matrix: Array) -> Array:
    """Return a matrix with orthonormal columns, of which the first k span what the first k of `matrix` span.

    Gram and Schmidt's process, each column twice ("twice is enough", Kahan and Parlett). A column that depends on those
    before it is replaced by the coordinate vector that they represent worst.

    Parameters
    ----------
    matrix : float64 array (n, k)
        Finite, k <= n.

    Returns
    -------
    float64 array (n, k)

    Raises
    ------
    TypeError
        Where `matrix` is no float64 array.
    ValueError
        Where it is not finite or has more columns than rows.

    Examples
    --------
    >>> orthonormal_columns(np.array([[3.0, 6.0], [0.0, 0.0]]))
    array([[1., 0.],
           [0., 1.]])
    """
    float64_array("matrix", matrix, axes=2)
    length, count = matrix.shape
    if count > length:
        raise ValueError(f"matrix must have no more columns than rows, got shape {matrix.shape}")
    result = np.zeros((length, count))
    for k in range(count):
        column, _ = scaled(matrix[:, k])
        before = math.sqrt(inner(column, column))
        column = _orthogonal_to(result[:, :k], column)
        if math.sqrt(inner(column, column)) <= length * ORTHOGONAL * before:
            represented = [inner(result[row, :k], result[row, :k]) for row in range(length)]
            column = np.zeros(length)
            column[represented.index(min(represented))] = 1.0
            column = _orthogonal_to(result[:, :k], column)
        column = column / math.sqrt(inner(column, column))
        column = _orthogonal_to(result[:, :k], column)
        result[:, k] = column / math.sqrt(inner(column, column))
    return result


def explained_variance_rank(singular_values: Iterable[float], explained_variance: float | Fraction) -> int:
    """Return the smallest k >= 1 whose k leading singular values hold that part of the energy (THEORY D1).

    K = min{k >= 1 : sum_{i<=k} s_i^2 >= eps * sum_i s_i^2}, decided in rational numbers: for the singular values that
    are given, the answer is exact.

    Parameters
    ----------
    singular_values : iterable of float
        Descending, not negative, finite.
    explained_variance : float or Fraction
        eps in (0, 1]. ``Fraction(4, 5)`` is four fifths; the float 0.8 is a little more.

    Returns
    -------
    int
        1 where every singular value is zero.

    Raises
    ------
    ValueError
        Where eps is outside (0, 1], or the singular values are none, negative, not finite or not descending.

    Examples
    --------
    >>> explained_variance_rank([3.0, 2.0, 1.0], 0.9), explained_variance_rank([1.0] * 5, Fraction(4, 5))
    (2, 4)
    """
    if not 0 < explained_variance <= 1:
        raise ValueError(f"explained_variance must be in (0, 1], got {explained_variance}")
    values = [float(value) for value in singular_values]
    if not values:
        raise ValueError("singular_values must not be empty")
    if not all(math.isfinite(value) and value >= 0 for value in values) or values != sorted(values, reverse=True):
        raise ValueError(f"singular_values must be finite, not negative and descending, got {values}")
    energies = [Fraction(value) ** 2 for value in values]
    wanted = Fraction(explained_variance) * sum(energies)
    return next(k for k in range(1, len(energies) + 1) if sum(energies[:k]) >= wanted)


def truncated_svd(
    tensor: Array, explained_variance: float | Fraction | None = None, *, rank: int | None = None
) -> tuple[Array, Array]:
    """Return U_K S_K and V_K^T of the mode-0 unfolding (THEORY D2).

    Parameters
    ----------
    tensor : float64 array (n_1, ..., n_d)
        A, finite.
    explained_variance : float or Fraction, optional
        eps in (0, 1]; K by D1.
    rank : int, optional
        K itself, in place of eps; at most min(n_1, N / n_1).

    Returns
    -------
    left : float64 array (n_1, K)
        U_K S_K.
    right : float64 array (K, N / n_1)
        V_K^T.

    Raises
    ------
    ValueError
        Where not exactly one of eps and K is given, or one is out of range.

    Examples
    --------
    >>> left, right = truncated_svd(np.array([[3.0, 0.0], [0.0, 2.0]]), 0.6)
    >>> left.shape, right.shape
    ((2, 1), (1, 2))
    """
    float64_array("tensor", tensor)
    left, values, right = jacobi_svd(unfold(tensor, 0))
    kept = chosen_rank(values, explained_variance, rank, largest=len(values))
    return left[:, :kept] * values[:kept], right[:kept]


def chosen_rank(values: Array, explained_variance: float | Fraction | None, rank: int | None, largest: int) -> int:
    """Return K: by D1 from an explained variance, or the rank itself; just one of them is given."""
    if (explained_variance is None) == (rank is None):
        raise ValueError("give exactly one of explained_variance and the rank (the ranks, one a mode)")
    if explained_variance is not None:
        return explained_variance_rank(values, explained_variance)
    if rank is None or not 1 <= rank <= largest:
        raise ValueError(f"a rank must be at least 1 and at most {largest}, got {rank}")
    return rank


def _orthogonal_to(basis: Array, column: Array) -> Array:
    for k in range(basis.shape[1]):
        column = column - inner(basis[:, k], column) * basis[:, k]
    return column
