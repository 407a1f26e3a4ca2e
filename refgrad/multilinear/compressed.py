"""What is left of a tensor after a truncated SVD or HOSVD.

In: factors, as `decompositions` makes them. Out: `LowRank` and `Tucker`: their ranks, what they discarded, what they
hold in memory, and the tensor rebuilt. Both are immutable: their arrays are compact, own their data and are read-only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.multilinear.unfolding import mode_products

__all__ = ["LowRank", "Tucker"]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False, repr=False)
class LowRank:
    """A tensor as the product of two matrices, A~_(1) = left right, the truncated SVD U_K S_K V_K^T (THEORY D2).

    Attributes
    ----------
    left : array (n_1, K)
        U_K S_K.
    right : array (K, n_2, ..., n_d)
        V_K^T, its columns folded back into the modes they came from. Orthonormal rows.
    norm : float
        |A|, the Frobenius norm of the tensor that was decomposed.
    discarded_fraction : tuple of 1 float
        tau_1 / |A|^2, from the singular values that were discarded.
    """

    left: Array
    right: Array
    norm: float
    discarded_fraction: tuple[float, ...]

    def __repr__(self) -> str:
        return _description("LowRank", self)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (n_1, ..., n_d) of the tensor that it stands for."""
        return (self.left.shape[0], *self.right.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the tensor and of the factors."""
        return self.left.dtype

    @property
    def multilinear_rank(self) -> tuple[int, ...]:
        """(K,), the one rank that was truncated."""
        return (self.left.shape[1],)

    @property
    def core(self) -> Array:
        """The singular values (K,) that were kept: the norms of the columns of `left`, computed when asked for."""
        exponent = math.frexp(float(np.abs(self.left).max()))[1]
        columns = np.ldexp(self.left.astype(np.float64), -exponent)
        norms = np.sqrt(np.einsum("ik,ik->k", columns, columns))
        values: Array = np.ldexp(norms, exponent).astype(self.dtype)
        return values

    @property
    def factors(self) -> tuple[Array, ...]:
        """The two matrices, left (n_1, K) and right (K, N / n_1), whose product is the mode-0 unfolding."""
        return (self.left, self.right.reshape(self.right.shape[0], -1))

    @property
    def discarded_energy(self) -> tuple[float, ...]:
        """(tau_1,), the squared norm of A - A~ (THEORY T7); inf or 0 where it overflows or vanishes."""
        return _energies(self.norm, self.discarded_fraction)

    @property
    def relative_error_bound(self) -> float:
        """sqrt(tau_1) / |A|, which is the relative error |A - A~| / |A| itself (THEORY T7)."""
        return _relative_error_bound(self.discarded_fraction)

    @property
    def nbytes(self) -> int:
        """The bytes that the two arrays hold."""
        return self.left.nbytes + self.right.nbytes

    @property
    def stored_numbers(self) -> int:
        """K (n_1 + N / n_1) (THEORY D2)."""
        return self.left.size + self.right.size

    def reconstruct(self) -> Array:
        """Return A~ (n_1, ..., n_d), a new array of the tensor's dtype.

        Examples
        --------
        >>> from refgrad.multilinear import svd
        >>> svd(np.ones((2, 3)), rank=1).reconstruct().shape
        (2, 3)
        """
        left, right = self.factors
        return (left @ right).reshape(self.shape)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False, repr=False)
class Tucker:
    """A tensor as a small core multiplied by a matrix along every mode, A~ = S x_1 U_1 ... x_d U_d (THEORY D3, D4).

    Attributes
    ----------
    core : array (K_1, ..., K_d)
        S = A x_1 U_1^T ... x_d U_d^T.
    factors : tuple of d arrays (n_j, K_j)
        U_j, orthonormal columns.
    norm : float
        |A|, the Frobenius norm of the tensor that was decomposed.
    discarded_fraction : tuple of d floats
        tau_j / |A|^2 from the discarded singular values of the mode-j unfolding: of the original tensor (D3), or of the
        core that the modes before it left (D4).
    sequential : bool
        Whether each U_j was taken from the core left by the modes before it (D4) and not from the original (D3).
    """

    core: Array
    factors: tuple[Array, ...]
    norm: float
    discarded_fraction: tuple[float, ...]
    sequential: bool = False

    def __repr__(self) -> str:
        return _description("Tucker", self)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (n_1, ..., n_d) of the tensor that it stands for."""
        return tuple(factor.shape[0] for factor in self.factors)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the tensor, the core and the factors."""
        return self.core.dtype

    @property
    def multilinear_rank(self) -> tuple[int, ...]:
        """(K_1, ..., K_d)."""
        return self.core.shape

    @property
    def discarded_energy(self) -> tuple[float, ...]:
        """tau_j of every mode, squared norms (THEORY T3, T8); inf or 0 where one overflows or vanishes."""
        return _energies(self.norm, self.discarded_fraction)

    @property
    def relative_error_bound(self) -> float:
        """sqrt(sum_j tau_j) / |A|: |A - A~| / |A| is at most this (THEORY T3), and just this if sequential (T8)."""
        return _relative_error_bound(self.discarded_fraction)

    @property
    def nbytes(self) -> int:
        """The bytes that the core and the factors hold."""
        return self.core.nbytes + sum(factor.nbytes for factor in self.factors)

    @property
    def stored_numbers(self) -> int:
        """prod_j K_j + sum_j n_j K_j (THEORY D3)."""
        return self.core.size + sum(factor.size for factor in self.factors)

    def reconstruct(self) -> Array:
        """Return A~ (n_1, ..., n_d), a new array of the tensor's dtype.

        Examples
        --------
        >>> from refgrad.multilinear import hosvd
        >>> hosvd(np.ones((2, 3, 4)), explained_variance=0.9).reconstruct().shape
        (2, 3, 4)
        """
        return mode_products(self.core, self.factors)


def _description(name: str, stored: LowRank | Tucker) -> str:
    """Write what it is and not its numbers."""
    return (
        f"{name}(shape={stored.shape}, multilinear_rank={stored.multilinear_rank}, dtype={stored.dtype}, "
        f"relative_error_bound={stored.relative_error_bound:.3g}, nbytes={stored.nbytes})"
    )


def _energies(norm: float, fractions: tuple[float, ...]) -> tuple[float, ...]:
    """Return fraction * norm^2, in an order in which 0 stays 0 where norm^2 overflows."""
    return tuple(fraction * norm * norm for fraction in fractions)


def _relative_error_bound(fractions: tuple[float, ...]) -> float:
    return math.sqrt(math.fsum(fractions))
