"""The three truncated decompositions of a tensor.

In: a tensor and either an explained variance or the ranks. Out: `svd` gives a `LowRank` (D2), `hosvd` (D3) and
`sequential_hosvd` (D4) give a `Tucker`. Where the ranks are chosen after a look at all spectra, `full_hosvd` gives a
`FullHOSVD`, which shows them and is then truncated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refgrad.arguments import Array, explained_variance_in_range, one_of, positive_integer
from refgrad.multilinear.compressed import LowRank, Tucker
from refgrad.multilinear.scaled import Scaled, frozen_copy, scaled_to_one
from refgrad.multilinear.spectrum import (
    METHODS,
    Spectrum,
    Subspace,
    gram_subspace,
    lapack_svd,
    leading_subspace,
    spectrum_of,
    subspace_of,
    unfolded_shape,
)
from refgrad.multilinear.unfolding import mode_of

__all__ = ["FullHOSVD", "full_hosvd", "hosvd", "sequential_hosvd", "svd"]


def svd(
    tensor: Array, explained_variance: float | None = None, *, rank: int | None = None, method: str = "svd"
) -> LowRank:
    """Return the truncated SVD of the mode-0 unfolding, kept as (U_K S_K, V_K^T) (THEORY D2).

    No tensor whose mode-0 unfolding has rank K is nearer: |A - A~|^2 = tau_1 <= (1 - eps) |A|^2 (THEORY T7).

    Parameters
    ----------
    tensor : array (n_1, ..., n_d)
        float32 or float64, finite, d >= 1. A batch of activations has its samples on mode 0.
    explained_variance : float, optional
        eps in (0, 1]: the least share of |A|^2 to keep; K follows from it (THEORY D1).
    rank : int, optional
        K itself, at most min(n_1, N / n_1). Just one of the two is given.
    method : {"svd", "gram"}
        "gram" works on A_(1) A_(1)^T, faster where n_1 < N / n_1. It gives way to "svd" wherever its rounding
        (`gram_energy_bound`) leaves the rank in doubt or a singular value that is kept lost, so both give the same
        rank. Rows i, j of V_K^T are then orthogonal to within `gram_energy_bound` over s_i s_j (THEORY T15).

    Returns
    -------
    LowRank
        Of the tensor's dtype.

    Raises
    ------
    TypeError
        Where the tensor is no float array, or a number of the wrong kind.
    ValueError
        Where the tensor is empty or not finite, not just one of explained variance and rank is given, or one is out of
        range.

    Examples
    --------
    >>> activation = np.random.default_rng(0).standard_normal((8, 3, 5, 5))
    >>> svd(activation, explained_variance=0.8).multilinear_rank
    (6,)
    """
    one_of("method", method, METHODS)
    number = _one_request(explained_variance, rank, "rank")
    scaled = scaled_to_one(tensor)
    rows, columns = unfolded_shape(scaled, 0)
    if rank is not None:
        rank = positive_integer("rank", rank)
        if rank > min(rows, columns):
            raise ValueError(
                f"rank must be at most {min(rows, columns)}, as the mode-0 unfolding of {tensor.shape} is "
                f"{rows} x {columns}, got {rank}"
            )
    found = None
    if method == "gram":
        found = gram_subspace(scaled, 0, explained_variance=number, rank=rank)
    if found is not None:
        left, right = _rows_of_range(scaled, found.vectors)
    else:
        # QR first: of the tall one of A and A^T, so that the SVD is of a small square matrix.
        wide = rows <= columns
        matrix = scaled.unfolding(0)
        orthonormal, triangle = np.linalg.qr(matrix.T if wide else matrix)
        inner, values, short = lapack_svd(triangle)
        found = subspace_of(inner, values, explained_variance=number, rank=rank)
        kept = found.vectors.shape[1]
        long = orthonormal @ found.vectors
        left, right = (short[:kept].T, long.T) if wide else (long, short[:kept])
        left = left * values[:kept]
        right = frozen_copy(right.reshape(-1, *tensor.shape[1:]), tensor.dtype)
    return LowRank(
        left=scaled.restored(left),
        right=right,
        norm=scaled.norm,
        discarded_fraction=(_fraction(found.discarded_energy, found.energy),),
    )


def hosvd(
    tensor: Array,
    explained_variance: float | None = None,
    *,
    ranks: Sequence[int] | None = None,
    method: str = "svd",
) -> Tucker:
    """Return the truncated HOSVD: U_j the K_j leading left singular vectors of A_(j) (THEORY D3).

    Each U_j is taken from the ORIGINAL tensor, and the core is A x_1 U_1^T ... x_d U_d^T.
    max_j tau_j <= |A - A~|^2 <= sum_j tau_j <= d (1 - eps) |A|^2 (THEORY T3), and |A - A~| is at most sqrt(d) times
    the best error at the same ranks (THEORY T4).

    Parameters
    ----------
    tensor : array (n_1, ..., n_d)
        float32 or float64, finite, d >= 1; (B, C, H, W) for the input of a convolution.
    explained_variance : float, optional
        eps in (0, 1]: the least share of |A|^2 that each mode keeps; the K_j follow from it (THEORY D1).
    ranks : sequence of d ints, optional
        The K_j themselves, each at most n_j. Just one of the two is given.
    method : {"svd", "gram"}
        "gram" works on A_(j) A_(j)^T, several times faster where n_j is much less than N / n_j. In each mode it gives
        way to "svd" wherever its rounding (`gram_energy_bound`) leaves the rank in doubt or a singular value that is
        kept lost, so both give the same ranks; its tau_j are right to within n_j times that bound (THEORY T15).

    Returns
    -------
    Tucker
        Of the tensor's dtype.

    Raises
    ------
    TypeError
        Where the tensor is no float array, or a number of the wrong kind.
    ValueError
        Where the tensor is empty or not finite, not just one of explained variance and ranks is given, or one is out of
        range.

    Examples
    --------
    >>> activation = np.random.default_rng(0).standard_normal((8, 3, 5, 5))
    >>> hosvd(activation, explained_variance=0.8)
    Tucker(shape=(8, 3, 5, 5), multilinear_rank=(6, 3, 4, 4), dtype=float64, relative_error_bound=0.675, nbytes=3080)
    """
    one_of("method", method, METHODS)
    number = _one_request(explained_variance, ranks, "ranks")
    scaled = scaled_to_one(tensor)
    wanted = _ranks_in_range(ranks, tensor.shape)
    subspaces = scaled.of_modes(
        lambda mode: leading_subspace(scaled, mode, explained_variance=number, rank=wanted[mode], method=method),
        by_gram=method == "gram",
    )
    return _projected(tensor, scaled, subspaces)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FullHOSVD:
    """The singular vectors and values of every unfolding of a tensor, of which nothing has been cut off yet.

    It holds the tensor, and is to be let go of once it has been truncated; `full_hosvd` makes it.

    Attributes
    ----------
    tensor : array (n_1, ..., n_d)
        What was decomposed.
    scaled : Scaled
        The same, as it was computed with.
    spectra : tuple of d Spectrum
        Of the unfoldings A_(j).
    """

    tensor: Array
    scaled: Scaled
    spectra: tuple[Spectrum, ...]

    @property
    def norm(self) -> float:
        """|A|."""
        return self.scaled.norm

    @property
    def energy_fractions(self) -> tuple[Array, ...]:
        """s_ji^2 / |A|^2 of every mode, descending; zeros for a zero tensor."""
        parts = [spectrum.values * spectrum.values for spectrum in self.spectra]
        return tuple(part / part.sum() if part[0] > 0.0 else part for part in parts)

    def truncated(self, ranks: Sequence[int]) -> Tucker:
        """Return what `hosvd` does at these ranks.

        Parameters
        ----------
        ranks : sequence of d ints
            The K_j, each at most min(n_j, N / n_j): as many singular values as the unfolding has.

        Returns
        -------
        Tucker

        Raises
        ------
        TypeError
            Where a rank is no integer.
        ValueError
            Where there is not one a mode, or one is out of range.
        """
        wanted = _ranks_in_range(ranks, self.tensor.shape)
        subspaces = []
        for mode, (spectrum, rank) in enumerate(zip(self.spectra, wanted, strict=True)):
            assert rank is not None
            if rank > len(spectrum.values):
                raise ValueError(
                    f"ranks[{mode}] must be at most {len(spectrum.values)}, as many as the mode-{mode} unfolding of "
                    f"{self.tensor.shape} has singular values, got {rank}"
                )
            subspaces.append(
                spectrum.leading(rank)
                or leading_subspace(self.scaled, mode, explained_variance=None, rank=rank, method="svd")
            )
        return _projected(self.tensor, self.scaled, subspaces)


def full_hosvd(tensor: Array, *, method: str = "svd") -> FullHOSVD:
    """Decompose every unfolding once, so that the ranks can be chosen with all spectra in sight (THEORY D3).

    Parameters
    ----------
    tensor : array (n_1, ..., n_d)
        float32 or float64, finite, d >= 1.
    method : {"svd", "gram"}
        As for `hosvd`. "gram" knows an energy to within `gram_energy_bound`; where a singular value that is kept lies
        below that, truncating decomposes that unfolding again by its SVD.

    Returns
    -------
    FullHOSVD

    Raises
    ------
    TypeError
        Where the tensor is no float array.
    ValueError
        Where the tensor is empty or not finite, or the method unknown.

    Examples
    --------
    >>> full = full_hosvd(np.diag([3.0, 1.0]))
    >>> [fractions.round(3).tolist() for fractions in full.energy_fractions]
    [[0.9, 0.1], [0.9, 0.1]]
    >>> full.truncated((1, 1)).multilinear_rank
    (1, 1)
    """
    one_of("method", method, METHODS)
    scaled = scaled_to_one(tensor)
    spectra = tuple(scaled.of_modes(lambda mode: spectrum_of(scaled, mode, method), by_gram=method == "gram"))
    return FullHOSVD(tensor, scaled, spectra)


def sequential_hosvd(
    tensor: Array,
    explained_variance: float | None = None,
    *,
    ranks: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
    method: str = "svd",
) -> Tucker:
    """Return the sequentially truncated HOSVD: each U_j from the core that the modes before it left (THEORY D4).

    |A - A~|^2 = sum_j tau'_j exactly (THEORY T8). It is not what `hosvd` gives: the factors differ, and with an
    explained variance the ranks may, as each step applies D1 to the core before it, relative to that core's own energy.

    Parameters
    ----------
    tensor : array (n_1, ..., n_d)
        float32 or float64, finite, d >= 1.
    explained_variance : float, optional
        eps in (0, 1]: the least share that each step keeps of what the step before it left.
    ranks : sequence of d ints, optional
        The K_j, by mode and not by order, each at most n_j. Just one of the two is given.
    order : sequence of d ints, optional
        The modes, each once, in the order in which they are truncated; 0, 1, ..., d - 1 if left out.
    method : {"svd", "gram"}
        As for `hosvd`: in each step "gram" gives the rank that the SVD of the same core would.

    Returns
    -------
    Tucker
        Of the tensor's dtype, with ``sequential=True``.

    Raises
    ------
    TypeError
        Where the tensor is no float array, or a number of the wrong kind.
    ValueError
        Where the tensor is empty or not finite, not just one of explained variance and ranks is given, one is out of
        range, or the order is no permutation of the modes.

    Examples
    --------
    >>> activation = np.random.default_rng(0).standard_normal((8, 3, 5, 5))
    >>> sequential_hosvd(activation, ranks=(4, 3, 2, 2), order=(3, 2, 1, 0)).multilinear_rank
    (4, 3, 2, 2)
    """
    one_of("method", method, METHODS)
    number = _one_request(explained_variance, ranks, "ranks")
    scaled = scaled_to_one(tensor)
    wanted = _ranks_in_range(ranks, tensor.shape)
    left = scaled
    found: dict[int, Subspace] = {}
    for mode in _permutation(order, tensor.ndim):
        found[mode] = leading_subspace(left, mode, explained_variance=number, rank=wanted[mode], method=method)
        core = left.mode_projected(found[mode].vectors, mode)
        left = Scaled(core, 0, math.nan)  # the energies that are asked for are those of its unfoldings
    subspaces = [found[mode] for mode in range(tensor.ndim)]
    return Tucker(
        core=scaled.restored(left.tensor),
        factors=tuple(frozen_copy(subspace.vectors, tensor.dtype) for subspace in subspaces),
        norm=scaled.norm,
        discarded_fraction=tuple(_fraction(subspace.discarded_energy, scaled.energy) for subspace in subspaces),
        sequential=True,
    )


def _projected(tensor: Array, scaled: Scaled, subspaces: Sequence[Subspace]) -> Tucker:
    """Return the Tucker tensor whose factors are subspaces of the original tensor's unfoldings (THEORY D3)."""
    return Tucker(
        core=scaled.projected([subspace.vectors for subspace in subspaces]),
        factors=tuple(frozen_copy(subspace.vectors, tensor.dtype) for subspace in subspaces),
        norm=scaled.norm,
        discarded_fraction=tuple(_fraction(found.discarded_energy, found.energy) for found in subspaces),
    )


def _rows_of_range(scaled: Scaled, vectors: Array) -> tuple[Array, Array]:
    """Return U S and V^T from the left singular vectors U, scaled: the rows of U^T A_(1), and their norms.

    What is found is written in the tensor's dtype at once; only their norms are looked at before.
    """
    energies = np.zeros(vectors.shape[1])
    for _, piece in scaled.columns(0):
        part = vectors.T @ piece
        energies += np.einsum("km,km->k", part, part)
        del piece, part  # or they would stand beside those of the second reading
    values = np.sqrt(energies)
    right = np.empty((vectors.shape[1], *scaled.tensor.shape[1:]), scaled.tensor.dtype)
    directions = (vectors / values).T
    for place, piece in scaled.columns(0):
        target = right[(slice(None), *place[1:])]
        target[...] = (directions @ piece).reshape(target.shape)
    right.flags.writeable = False
    return vectors * values, right


def _one_request(explained_variance: object, ranks: object, name: str) -> float | None:
    """Return the explained variance, checked, or None where `ranks` is given in its place."""
    if (explained_variance is None) == (ranks is None):
        given = "neither" if ranks is None else f"explained_variance={explained_variance!r} and {name}={ranks!r}"
        raise ValueError(f"exactly one of explained_variance and {name} must be given, got {given}")
    return None if explained_variance is None else explained_variance_in_range(explained_variance)


def _ranks_in_range(ranks: Sequence[int] | None, shape: tuple[int, ...]) -> list[int | None]:
    """Return one rank for every mode, or None for every mode where no ranks are given."""
    if ranks is None:
        return [None] * len(shape)
    if not isinstance(ranks, Sequence | np.ndarray) or isinstance(ranks, str | bytes):
        raise TypeError(f"ranks must be a sequence of {len(shape)} integers, one for each mode, got {ranks!r}")
    if len(ranks) != len(shape):
        raise ValueError(f"ranks must have {len(shape)} entries, one for each mode of {shape}, got {tuple(ranks)}")
    numbers = [positive_integer(f"ranks[{mode}]", rank) for mode, rank in enumerate(ranks)]
    for mode, (number, length) in enumerate(zip(numbers, shape, strict=True)):
        if number > length:
            raise ValueError(
                f"ranks[{mode}] must be at most {length}, the length of that mode of {shape}, got {number}"
            )
    return list(numbers)


def _permutation(order: Sequence[int] | None, axes: int) -> tuple[int, ...]:
    """Return the order of the modes, known to name each of them once."""
    if order is None:
        return tuple(range(axes))
    if not isinstance(order, Sequence | np.ndarray) or isinstance(order, str | bytes):
        raise TypeError(f"order must be a sequence of {axes} modes, got {order!r}")
    modes = tuple(mode_of(mode, axes) for mode in order)
    if sorted(modes) != list(range(axes)):
        raise ValueError(f"order must name each of the modes 0 to {axes - 1} once, got {modes}")
    return modes


def _fraction(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else 0.0
