"""Eigenpairs of a Gram matrix, the leading vectors once it is known how many are wanted.

In: a Gram matrix, as an array or as one triangle of it. Out: all eigenvalues, and a function of a number of vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refgrad.arguments import Array
from refgrad.rounding import LAPACK_THRESHOLD, unit_roundoff

__all__ = ["SIDE", "Eigenpairs", "Triangle", "eigenpairs_of"]

SIDE = 8
"""What the lengths of rows are filled up to a multiple of."""

FEW, SHARE = 64, 4
"""Up to so many vectors, or one over this of all, are found one by one, each made orthogonal to those before it; for
more it is faster to find all at once."""


@dataclass(frozen=True, slots=True)
class Eigenpairs:
    """Of a positive semidefinite matrix (n, n).

    Attributes
    ----------
    energies : array (n,)
        The eigenvalues, descending; none is negative.
    vectors : callable
        vectors(K) returns the eigenvectors of the K largest, (n, K), in their order.
    """

    energies: Array
    vectors: Callable[[int], Array]


@dataclass(frozen=True, slots=True)
class Triangle:
    """The lower triangle of a symmetric matrix (n, n), in the rows of `refgrad.kernels.unfoldings.row_of`.

    Attributes
    ----------
    numbers : array (some,)
        float64.
    rows : int
        n.
    """

    numbers: Array
    rows: int

    @staticmethod
    def size(rows: int) -> int:
        """Return how many numbers it takes."""
        blocks = -(-rows // SIDE)
        return SIDE * SIDE * blocks * (blocks + 1) // 2

    def dense(self) -> Array:
        """Return the matrix."""
        result = np.empty((self.rows, self.rows))
        for first in range(0, self.rows, SIDE):
            some = min(SIDE, self.rows - first)
            block = self.numbers[self.size(first) : self.size(first + SIDE)].reshape(SIDE, -1)[:some, : first + some]
            result[first : first + some, : first + some] = block
            result[:first, first : first + some] = block[:, :first].T
        return result


def eigenpairs_of(gram: Array | Triangle) -> Eigenpairs | None:
    """Return the eigenpairs of a Gram matrix, or None where LAPACK does not find them.

    Parameters
    ----------
    gram : array (n, n) or Triangle
        An array is read above the diagonal. A triangle is overwritten.

    Returns
    -------
    Eigenpairs or None
    """
    if isinstance(gram, Triangle):
        if gram.rows > SIDE:
            return _of_triangle(gram)
        gram = gram.dense()
    try:
        energies, vectors = np.linalg.eigh(gram, UPLO="U")
    except np.linalg.LinAlgError:
        return None
    return Eigenpairs(_descending(energies), lambda rank: vectors[:, : -rank - 1 : -1])


def _of_triangle(triangle: Triangle) -> Eigenpairs | None:
    """Reduce the matrix to a tridiagonal one, in its place, and leave that one's eigenpairs to LAPACK.

    No threads: waking one takes longer than all of it with matrices of some hundred rows.
    """
    from scipy.linalg.lapack import dsterf

    from refgrad.kernels.tridiagonal import tridiagonalize

    rows = triangle.rows
    diagonal, beside, scales = np.empty(rows), np.empty(rows), np.zeros(-(-rows // SIDE) * SIDE)
    tridiagonalize(triangle.numbers, rows, diagonal, beside, scales)
    # To one, for LAPACK's inverse iteration compares with numbers of its own.
    exponent = math.frexp(max(np.abs(diagonal).max(), np.abs(beside).max()))[1]
    diagonal, beside = np.ldexp(diagonal, -exponent), np.ldexp(beside[:-1], -exponent)
    values, failed = dsterf(diagonal, beside)
    if failed:
        return None

    def vectors(rank: int) -> Array:
        from refgrad.kernels.tridiagonal import CHUNK, reflect

        found = _tridiagonal_vectors(diagonal, beside, values[rows - rank :])
        combined = np.empty((len(scales) // SIDE, SIDE, SIDE))
        reflect(triangle.numbers, rows, scales, found, combined, np.empty((len(scales) + 2 * SIDE, CHUNK)))
        return found[::-1].T

    return Eigenpairs(_descending(np.ldexp(values, exponent)), vectors)


def _tridiagonal_vectors(diagonal: Array, beside: Array, values: Array) -> Array:
    """Return the eigenvectors of the largest eigenvalues of a tridiagonal matrix, (K, n), ascending.

    Raises
    ------
    numpy.linalg.LinAlgError
        Where LAPACK does not find them.
    """
    from scipy.linalg.lapack import dstein, dstevd

    from refgrad.kernels.tridiagonal import defects

    count, rank = len(diagonal), len(values)
    allowed = LAPACK_THRESHOLD * count * unit_roundoff(np.float64)
    if rank <= max(FEW, count // SHARE):
        ends = np.zeros(count, np.int32)
        ends[0] = count  # as one block: where the matrix falls into several, it is not known whose a value is
        vectors, failed = dstein(diagonal, beside, values, np.ones(count, np.int32), ends)
        if not failed:
            skew, residual = defects(diagonal, beside, values, vectors.T)
            if skew <= allowed and residual <= allowed * values[-1]:
                return np.asarray(vectors.T)
    _, vectors, failed = dstevd(diagonal, beside)
    if failed:
        raise np.linalg.LinAlgError("the eigenvectors of a tridiagonal matrix did not converge")
    return np.ascontiguousarray(vectors.T[count - rank :])


def _descending(energies: Array) -> Array:
    return np.maximum(energies[::-1], 0.0)
