"""Singular spectra of unfoldings, the ranks that an explained variance asks for, and leading subspaces.

In: a tensor, or its unfolding. Out: singular values, ranks, orthonormal columns. Everything is computed in float64:
squares neither overflow nor vanish (see `scaled`), float32 and float64 decide the same rank, and scaling the input by a
power of two changes no bit but the exponents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from refgrad.arguments import Array, explained_variance_in_range, float_array, one_of, positive_integer
from refgrad.multilinear.eigenpairs import eigenpairs_of
from refgrad.multilinear.scaled import Scaled, scaled_to_one
from refgrad.multilinear.unfolding import mode_of
from refgrad.rounding import LAPACK_THRESHOLD, gamma, singular_value_bound, unit_roundoff

__all__ = [
    "METHODS",
    "Spectrum",
    "Subspace",
    "admissible_ranks",
    "explained_variance_rank",
    "gram_energy_bound",
    "gram_subspace",
    "lapack_svd",
    "leading_subspace",
    "singular_values",
    "spectrum_of",
]

METHODS = ("svd", "gram")
"""How singular values are found: from the unfolding itself, or from the eigenvalues of its Gram matrix."""


@dataclass(frozen=True, slots=True)
class Subspace:
    """The leading left singular vectors of a matrix (n, K), and the energies tau that they leave out and had in all."""

    vectors: Array
    discarded_energy: float
    energy: float


@dataclass(frozen=True, slots=True)
class Spectrum:
    """All singular values (p,) of a matrix, and the energy up to which one is not known, if its square was found.

    vectors(K) returns the K leading left singular vectors, (n, K).
    """

    vectors: Callable[[int], Array]
    values: Array
    energy_error: float | None = None

    def leading(self, rank: int) -> Subspace | None:
        """Return the subspace of so many vectors.

        None where a value that it keeps is lost in the rounding of its square (THEORY T15), or LAPACK does not find the
        vectors.
        """
        energies = self.values * self.values
        if self.energy_error is not None and energies[rank - 1] <= self.energy_error:
            return None
        try:
            vectors = self.vectors(rank)
        except np.linalg.LinAlgError:
            return None
        discarded = float(energies[rank:].sum())
        return Subspace(vectors, discarded, discarded + float(energies[:rank].sum()))


def singular_values(tensor: Array, mode: int, *, method: str = "svd") -> Array:
    """Return the singular values s_j1 >= s_j2 >= ... of the mode-j unfolding.

    Parameters
    ----------
    tensor : array (n_1, ..., n_d)
        float32 or float64, finite.
    mode : int
        Which mode is unfolded, counted from 0.
    method : {"svd", "gram"}
        "svd" errs by at most `refgrad.rounding.singular_value_bound` in each value. "gram" is faster where
        n_mode < N / n_mode, but it is the SQUARES that it finds to within `gram_energy_bound`: values under about
        sqrt(u) |A|, 1e-8 |A|, are lost (THEORY T15). With no fewer rows than columns "gram" has nothing to gain and is
        "svd".

    Returns
    -------
    array (min(n_mode, N / n_mode),)
        In the tensor's dtype, descending.

    Raises
    ------
    TypeError
        Where the tensor is no float array or the mode no integer.
    ValueError
        Where an entry is not finite, the mode none of the tensor's, or the method unknown.

    Examples
    --------
    >>> singular_values(np.diag([3.0, 2.0, 0.0]), 0)
    array([3., 2., 0.])
    """
    one_of("method", method, METHODS)
    scaled = scaled_to_one(tensor)
    number = mode_of(mode, tensor.ndim)
    spectrum = _gram_spectrum(scaled, number) if method == "gram" else None
    values = lapack_svd(scaled.triangle(number))[1] if spectrum is None else spectrum.values
    return np.ldexp(values, scaled.exponent).astype(tensor.dtype)


def explained_variance_rank(singular_values: Array, explained_variance: float) -> int:
    """Return K = min{k >= 1 : sum_{i<=k} s_i^2 >= eps |A|^2}, 1 where all are zero (THEORY D1).

    It is decided on what is left out, sum_{i>K} s_i^2 <= (1 - eps) |A|^2, which loses no digits as eps nears 1: with
    eps = 1 every value that is not zero is kept. An explained variance means the decimal number that it prints as: 0.8
    is 4/5.

    Parameters
    ----------
    singular_values : array (n,)
        float32 or float64, not negative, descending.
    explained_variance : float
        eps in (0, 1].

    Raises
    ------
    TypeError
        Where the values are no float array, or the explained variance no real number.
    ValueError
        Where the values are not finite, negative, ascending or not on one axis, or the explained variance is outside
        (0, 1].

    Examples
    --------
    >>> explained_variance_rank(np.array([2.0, 1.0, 1.0, 1.0, 1.0]), 0.75)
    3
    """
    return _admissible(_checked_spectrum(singular_values), explained_variance_in_range(explained_variance), 0.0)[1]


def admissible_ranks(singular_values: Array, explained_variance: float, energy_error: float) -> tuple[int, int]:
    """Return the least and the greatest rank that D1 gives when no sum of squares is off by more than `energy_error`.

    Two right evaluations of D1 differ where a cumulative energy lies within rounding of eps |A|^2 (THEORY D1, T15):
    every rank between the two is right, and where they are one number, the rank is sure.

    Parameters
    ----------
    singular_values : array (n,)
        float32 or float64, not negative, descending.
    explained_variance : float
        eps in (0, 1].
    energy_error : float
        By how much (1 - eps) |A|^2 minus a tail energy may be off, as a fraction of |A|^2.

    Returns
    -------
    (int, int)
        The two ranks, both in [1, n].

    Raises
    ------
    TypeError
        Where the values are no float array, or a number no real number.
    ValueError
        Where the values are no spectrum, the explained variance is outside (0, 1], or the error negative or NaN.

    Examples
    --------
    >>> admissible_ranks(np.ones(5), 0.8, 1e-12), admissible_ranks(np.ones(5), 0.81, 1e-12)
    ((4, 5), (5, 5))
    """
    spectrum = _checked_spectrum(singular_values)
    number = explained_variance_in_range(explained_variance)
    if not energy_error >= 0.0:
        raise ValueError(f"energy_error must be at least 0, got {energy_error!r}")
    return _admissible(spectrum, number, float(energy_error))


def gram_energy_bound(rows: int, columns: int, energy: float = 1.0) -> float:
    """Bound |s^^2 - s^2| for every singular value found from the Gram matrix of a matrix (THEORY T15).

    gamma_m |A|^2 for the inner products of length m = columns that make the Gram matrix, and the backward error of its
    eigenvalues, a multiple of n u |A|^2 with n = rows. Both are in float64, whatever the tensor's dtype.

    Parameters
    ----------
    rows, columns : int
        The shape of the unfolding.
    energy : float
        |A|^2, the squared Frobenius norm.

    Examples
    --------
    >>> gram_energy_bound(64, 2048) < 1e-12
    True
    """
    positive_integer("rows", rows)
    positive_integer("columns", columns)
    length_error = gamma(columns, np.float64)
    return (length_error + LAPACK_THRESHOLD * rows * unit_roundoff(np.float64) * (1.0 + length_error)) * energy


def leading_subspace(
    scaled: Scaled, mode: int, *, explained_variance: float | None, rank: int | None, method: str
) -> Subspace:
    """Return the leading left singular vectors of an unfolding, as many as explained variance or rank says."""
    if method == "gram":
        subspace = gram_subspace(scaled, mode, explained_variance=explained_variance, rank=rank)
        if subspace is not None:
            return subspace
    # More columns than the unfolding has: the complement of its range completes them.
    complete = rank is not None and rank > unfolded_shape(scaled, mode)[1]
    vectors, values, _ = lapack_svd(scaled.triangle(mode), full_matrices=complete)
    return subspace_of(vectors, values, explained_variance=explained_variance, rank=rank)


def spectrum_of(scaled: Scaled, mode: int, method: str) -> Spectrum:
    """Return the singular values and left singular vectors of an unfolding."""
    spectrum = _gram_spectrum(scaled, mode) if method == "gram" else None
    if spectrum is None:
        vectors, values, _ = lapack_svd(scaled.triangle(mode))
        return Spectrum(lambda rank: vectors[:, :rank], values)
    return spectrum


def subspace_of(vectors: Array, values: Array, *, explained_variance: float | None, rank: int | None) -> Subspace:
    """Cut singular vectors (n, p) and values (p,) at the rank that is asked for."""
    if rank is None:
        assert explained_variance is not None
        rank = _admissible(values, explained_variance, 0.0)[1]
    subspace = Spectrum(lambda rank: vectors[:, :rank], values).leading(rank)
    assert subspace is not None
    return subspace


def gram_subspace(scaled: Scaled, mode: int, *, explained_variance: float | None, rank: int | None) -> Subspace | None:
    """Return the leading eigenvectors of an unfolding's Gram matrix, or None where it cannot tell what the SVD would.

    That is where the threshold of D1 lies within the errors of the two methods of a tail energy, where a singular value
    that is kept is lost in the rounding of its square, and where the unfolding has no fewer rows than columns.
    """
    spectrum = _gram_spectrum(scaled, mode)
    if spectrum is None:
        return None
    if rank is None:
        assert explained_variance is not None
        low, rank = _admissible(spectrum.values, explained_variance, _decision_error(*unfolded_shape(scaled, mode)))
        if low != rank:
            return None
    return spectrum.leading(rank)


def lapack_svd(matrix: Array, *, full_matrices: bool = False) -> tuple[Array, Array, Array]:
    """Return U (n, p), s (p,), V^T (p, m), p = min(n, m), by LAPACK's gesdd, or gesvd where that does not converge.

    With `full_matrices`, U is (n, n) and V^T is (m, m).
    """
    try:
        left, values, right = np.linalg.svd(matrix, full_matrices=full_matrices)
    except np.linalg.LinAlgError:
        import scipy.linalg

        left, values, right = scipy.linalg.svd(
            matrix, full_matrices=full_matrices, check_finite=False, lapack_driver="gesvd"
        )
    return left, values, right


def unfolded_shape(scaled: Scaled, mode: int) -> tuple[int, int]:
    """Return (n_mode, N / n_mode)."""
    rows = scaled.tensor.shape[mode]
    return rows, scaled.tensor.size // rows


def _gram_spectrum(scaled: Scaled, mode: int) -> Spectrum | None:
    """Return the spectrum of A_(j) from A_(j) A_(j)^T, to within `gram_energy_bound`.

    None where the unfolding is not wide, or LAPACK does not find the eigenvalues.
    """
    rows, columns = unfolded_shape(scaled, mode)
    if rows >= columns:
        return None
    found = eigenpairs_of(scaled.gram(mode))
    if found is None:
        return None
    error = gram_energy_bound(rows, columns, float(found.energies.sum()))
    return Spectrum(found.vectors, np.sqrt(found.energies), error)


def _decision_error(rows: int, columns: int) -> float:
    """Bound how far apart a Gram matrix and an SVD can put a tail energy and its threshold, over |A|^2 (THEORY T15).

    Each of at most `rows` eigenvalues is off by `gram_energy_bound`, in the tail and in the total that the threshold is
    taken of. The root of a tail energy is a distance, which the SVD's backward error moves by no more than itself.
    """
    from_gram = 2.0 * rows * gram_energy_bound(rows, columns)
    backward = math.sqrt(rows) * singular_value_bound(columns, 1.0, np.float64)
    return from_gram + 2.0 * (2.0 * backward + backward * backward)


def _checked_spectrum(values: Array) -> Array:
    """Return singular values that somebody passed, known to be finite, not negative and descending."""
    float_array("singular_values", values, axes="n", finite=True)
    if values[-1] < 0.0 or (np.diff(values) > 0.0).any():
        raise ValueError(f"singular_values must be descending and not negative, got {values}")
    return values


def _admissible(values: Array, explained_variance: float, energy_error: float) -> tuple[int, int]:
    """Return the least and greatest rank of `admissible_ranks` for arguments that are right."""
    nonzero = int(np.count_nonzero(values))
    if nonzero == 0:
        return 1, 1
    scaled = np.ldexp(values.astype(np.float64), -math.frexp(float(values[0]))[1])
    tails = np.append(np.cumsum((scaled * scaled)[::-1])[::-1], 0.0)  # tails[k] is what rank k leaves out
    threshold = float(1 - Fraction(repr(explained_variance))) * tails[0]
    allowance = energy_error * tails[0]
    count = len(values)
    low = 1 + int(np.count_nonzero(tails[1:count] > threshold + allowance))
    high = 1 + int(np.count_nonzero(tails[1:count] > threshold - allowance))
    if threshold == 0.0 and allowance == 0.0:
        # A value whose square vanishes beside the largest is still not zero.
        low = high = nonzero
    return low, high
