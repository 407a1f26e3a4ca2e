"""Decompositions by other ways than refgrad's: other drivers, the Gram matrix, turned signs, rotated columns.

In: an unfolding, or factors. Out: left singular vectors with squared singular values, or factors of the same subspaces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from refgrad.arguments import Array

__all__ = [
    "leading",
    "left_full",
    "left_gesvd",
    "left_gram",
    "left_qr",
    "left_svd",
    "rotations",
    "signs",
]


def left_svd(matrix: Array) -> tuple[Array, Array]:
    """Return left singular vectors and squared singular values, by LAPACK's gesdd."""
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return left, values**2


def left_gesvd(matrix: Array) -> tuple[Array, Array]:
    """Return the same by LAPACK's gesvd."""
    left, values, _ = scipy.linalg.svd(matrix, full_matrices=False, lapack_driver="gesvd")
    return left, values**2


def left_full(matrix: Array) -> tuple[Array, Array]:
    """Return the same with a full square of left vectors."""
    left, values, _ = np.linalg.svd(matrix, full_matrices=True)
    return left, np.append(values**2, np.zeros(left.shape[0] - values.size, values.dtype))


def left_qr(matrix: Array) -> tuple[Array, Array]:
    """Return the same by a QR decomposition first, and the SVD of the triangle."""
    left, values, _ = np.linalg.svd(np.linalg.qr(matrix.T)[1].T, full_matrices=False)
    return left, values**2


def left_gram(matrix: Array) -> tuple[Array, Array]:
    """Return the eigenvectors of the Gram matrix: half of the digits of small singular values are lost, honestly."""
    values, left = np.linalg.eigh(matrix @ matrix.T)
    return left[:, ::-1], np.maximum(values[::-1], 0)


def leading(squares: Array, explained_variance: float) -> int:
    """Return the rank of D1, computed in the dtype of the squares."""
    total = squares.sum(dtype=squares.dtype)
    if total == 0:
        return 1
    reached = np.flatnonzero(np.cumsum(squares) >= squares.dtype.type(explained_variance) * total)
    return int(reached[0]) + 1 if reached.size else int(squares.size)


def signs(factors: Sequence[Array], generator: np.random.Generator) -> list[Array]:
    """Turn the signs of random columns round."""
    return [factor * generator.choice(np.array([-1, 1], factor.dtype), factor.shape[1]) for factor in factors]


def rotations(factors: Sequence[Array], generator: np.random.Generator) -> list[Array]:
    """Rotate the columns of every factor among themselves: the subspace is the same."""
    return [
        factor @ np.linalg.qr(generator.standard_normal((factor.shape[1],) * 2))[0].astype(factor.dtype)
        for factor in factors
    ]
