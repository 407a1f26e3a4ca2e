"""Mistakes in the decomposition: the rule for the ranks, the subspaces, the core, the rebuilt tensor, the count.

In: a `Reference` or the parts of a case. Out: wrong ranks, matrices to take singular vectors of, cores, counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from refgrad.arguments import Array
from refgrad.multilinear import explained_variance_rank, mode_product, sequential_hosvd, unfold
from refgrad.oracle.mistakes.base import ArrayMistake, Mistake, NumberMistake, RankMistake, SubspaceMistake
from refgrad.oracle.mistakes.parts import Parts
from refgrad.oracle.reference import Mode, Reference, tucker_product

__all__ = ["decomposition_mistakes"]

Rule = Callable[[Reference], tuple[int, ...]]


def decomposition_mistakes() -> Iterator[Mistake]:
    """Yield the mistakes in ranks, factors, core, reconstruction and stored numbers."""
    for name, cause, rule in RANKS:
        yield RankMistake(f"ranks: {name}", "ranks", cause, rule)
    for name, cause, matrix in SUBSPACES:
        yield SubspaceMistake(f"factors: {name}", "factors", cause, matrix)
    for name, cause, wrong in CORES:
        yield ArrayMistake(f"core: {name}", "factors", cause, "core", wrong)
    for name, cause, wrong in RECONSTRUCTIONS:
        yield ArrayMistake(f"reconstruction: {name}", "reconstruction", cause, "reconstruction", wrong)
    for name, cause, number in NUMBERS:
        yield NumberMistake(f"stored numbers: {name}", "stored_numbers", cause, number)


def _first(shares: Array, threshold: float) -> int:
    """Return the first k, counted from 1, whose share reaches the threshold; the last where none does."""
    reached = np.flatnonzero(shares >= threshold)
    return int(reached[0]) + 1 if reached.size else int(shares.size)


def _each(rank: Callable[[Mode, float], int]) -> Rule:
    """Make a rule of one that looks at one mode's spectrum and eps; a zero tensor has rank 1."""

    def rule(reference: Reference) -> tuple[int, ...]:
        eps = float(reference.case.explained_variance)
        return tuple(rank(mode, eps) if mode.energy > 0.0 else 1 for mode in reference.modes)

    return rule


def _right(mode: Mode, eps: float) -> int:
    return explained_variance_rank(np.sqrt(mode.squares), eps)


def _shares(squares: Array) -> Array:
    result: Array = np.cumsum(squares) / squares.sum()
    return result


def _of_spectra(spectra: Callable[[Reference], list[Array]]) -> Rule:
    """Make a rule of other matrices' spectra: D1, applied to them."""

    def rule(reference: Reference) -> tuple[int, ...]:
        eps = float(reference.case.explained_variance)
        found = spectra(reference)
        return tuple(
            min(explained_variance_rank(np.sort(values)[::-1], eps), mode.squares.size)
            for values, mode in zip(found, reference.modes, strict=True)
        )

    return rule


def _reshaped(x: Array, mode: int) -> Array:
    """Return what a reshape alone makes of a tensor: rows that are no slices of the mode, but for mode 0."""
    return x.reshape(x.shape[mode], -1)


def _centred(x: Array, mode: int) -> Array:
    matrix = unfold(x, mode)
    result: Array = matrix - matrix.mean(axis=1, keepdims=True)
    return result


def _scaled(reference: Reference) -> Array:
    return np.ldexp(reference.x, -reference.exponent)


def _spectra_of(matrix: Callable[[Array, int], Array]) -> Callable[[Reference], list[Array]]:
    return lambda reference: [
        np.linalg.svd(matrix(_scaled(reference), mode), compute_uv=False) for mode in range(reference.x.ndim)
    ]


def _sequential(reference: Reference) -> tuple[int, ...]:
    return sequential_hosvd(reference.x, float(reference.case.explained_variance)).multilinear_rank


def _one_for_all(choose: Callable[[tuple[int, ...]], int]) -> Rule:
    right = _each(_right)

    def rule(reference: Reference) -> tuple[int, ...]:
        rank = choose(right(reference))
        return tuple(min(rank, mode.squares.size) for mode in reference.modes)

    return rule


def _batch_kept(reference: Reference) -> tuple[int, ...]:
    return (reference.modes[0].squares.size, *_each(_right)(reference)[1:])


RANKS: tuple[tuple[str, str, Rule], ...] = (
    (
        "one short",
        "every mode keeps one column too few",
        _each(lambda mode, eps: max(1, _right(mode, eps) - 1)),
    ),
    (
        "one more",
        "every mode keeps one column too many",
        _each(lambda mode, eps: min(mode.squares.size, _right(mode, eps) + 1)),
    ),
    (
        "sigma",
        "the explained variance is taken of the singular values, not of their squares",
        _each(lambda mode, eps: _first(_shares(np.sqrt(mode.squares)), eps)),
    ),
    (
        "norm",
        "the explained variance is taken of the norm, not of its square",
        _each(lambda mode, eps: _first(_shares(mode.squares), eps * eps)),
    ),
    (
        "fourth power",
        "the singular values are squared twice",
        _each(lambda mode, eps: _first(_shares(mode.squares**2), eps)),
    ),
    (
        "what may be lost",
        "the explained variance is taken for the share that may be lost",
        _each(lambda mode, eps: _first(_shares(mode.squares), 1.0 - eps)),
    ),
    (
        "error split over the modes",
        "1 - explained_variance is split over the four modes",
        _each(lambda mode, eps: _first(_shares(mode.squares), 1.0 - (1.0 - eps) / 4.0)),
    ),
    (
        "share of the largest",
        "the energy is compared with that of the largest singular value, not with the total",
        _each(lambda mode, eps: _first(np.cumsum(mode.squares) / mode.squares[0], eps)),
    ),
    (
        "each against the largest",
        "a singular value is kept where its energy is a share 1 - explained_variance of the largest one's",
        _each(lambda mode, eps: int(np.count_nonzero(mode.squares >= (1.0 - eps) * mode.squares[0]))),
    ),
    (
        "share of the number of columns",
        "the explained variance is taken for the share of the columns to keep",
        _each(lambda mode, eps: max(1, math.ceil(eps * mode.squares.size))),
    ),
    ("largest rank for all", "one rank, the largest, is used for every mode", _one_for_all(max)),
    ("smallest rank for all", "one rank, the smallest, is used for every mode", _one_for_all(min)),
    ("first rank for all", "the rank of the batch is used for every mode", _one_for_all(lambda ranks: ranks[0])),
    ("batch kept", "the batch mode is not compressed", _batch_kept),
    ("sequential", "each mode is truncated before the next is looked at (sequential HOSVD)", _sequential),
    (
        "reshape in place of unfold",
        "the tensor is reshaped to (n_j, ...) without moving mode j to the front",
        _of_spectra(_spectra_of(_reshaped)),
    ),
    (
        "centred",
        "the mean is subtracted before the singular values are taken (as in PCA)",
        _of_spectra(_spectra_of(_centred)),
    ),
)


def _left_by_the_modes_before(parts: Parts, mode: int, before: tuple[Array, ...]) -> Array:
    core = parts.x
    for earlier, factor in enumerate(before):
        core = mode_product(core, factor.T, earlier)
    return unfold(core, mode)


def _smallest_first(parts: Parts, mode: int, _: tuple[Array, ...]) -> Array:
    """Return a matrix with the same left singular vectors in the opposite order: its leading ones are the trailing."""
    left, values, _right_vectors = np.linalg.svd(unfold(_scaled(parts.reference), mode))
    padded = np.zeros(left.shape[0])
    padded[: values.size] = values
    result: Array = np.ldexp(left * (padded[0] + padded[-1] - padded), parts.reference.exponent)
    return result


SUBSPACES: tuple[tuple[str, str, Callable[[Parts, int, tuple[Array, ...]], Array]], ...] = (
    (
        "sequential",
        "each mode is truncated before the next is looked at (sequential HOSVD, THEORY D4)",
        _left_by_the_modes_before,
    ),
    (
        "reshape in place of unfold",
        "the tensor is reshaped to (n_j, ...) without moving mode j to the front",
        lambda parts, mode, _: _reshaped(parts.x, mode),
    ),
    (
        "centred",
        "the mean is subtracted before the singular vectors are taken (as in PCA)",
        lambda parts, mode, _: _centred(parts.x, mode),
    ),
    (
        "trailing vectors",
        "the columns of the smallest singular values are kept (eigh sorts them upwards)",
        _smallest_first,
    ),
)


def _full_core(parts: Parts) -> Array:
    """Return the core of the factors before they were cut."""
    full: Array = parts.reference.compressed(tuple(mode.squares.size for mode in parts.reference.modes))[0]
    return full


def _without_signs(parts: Parts) -> Array:
    return np.abs(parts.core_of(parts.factors))


def _one_mode_missing(parts: Parts) -> Array:
    return tucker_product(parts.x, tuple(factor.T for factor in parts.factors[:-1]))


CORES: tuple[tuple[str, str, Callable[[Parts], Array]], ...] = (
    ("not recomputed", "the factors are cut to their ranks, but the core is not", _full_core),
    ("without signs", "the core has lost its signs", _without_signs),
    ("last mode not projected", "the core is not multiplied by the last factor", _one_mode_missing),
)


def _last_mode_not_expanded(parts: Parts) -> Array:
    return tucker_product(parts.core, parts.factors[:-1])


RECONSTRUCTIONS: tuple[tuple[str, str, Callable[[Parts], Array]], ...] = (
    ("uncompressed", "the input itself is returned", lambda parts: parts.x.copy()),
    ("last mode not expanded", "the core is not multiplied by the last factor", _last_mode_not_expanded),
    (
        "batch projected twice",
        "the batch factor is applied as a projection to what is rebuilt already",
        lambda parts: mode_product(parts.activation, np.abs(parts.factors[0] @ parts.factors[0].T), 0),
    ),
)


def _numbers(count: Callable[[tuple[int, ...], tuple[int, ...]], int]) -> Callable[[Parts], int]:
    return lambda parts: count(parts.x.shape, parts.ranks)


NUMBERS: tuple[tuple[str, str, Callable[[Parts], int]], ...] = (
    ("core only", "the factors are not counted", _numbers(lambda _, ranks: math.prod(ranks))),
    (
        "factors only",
        "the core is not counted",
        _numbers(lambda shape, ranks: sum(n * k for n, k in zip(shape, ranks, strict=True))),
    ),
    ("uncompressed", "the uncompressed activation is counted", _numbers(lambda shape, _: math.prod(shape))),
    (
        "square factors",
        "the factors are counted as they were before they were cut",
        _numbers(lambda shape, ranks: math.prod(ranks) + sum(n * n for n in shape)),
    ),
    (
        "bytes",
        "bytes are counted, not numbers",
        lambda parts: (
            parts.case.dtype.itemsize
            * (parts.core.size + sum(n * k for n, k in zip(parts.x.shape, parts.ranks, strict=True)))
        ),
    ),
    (
        "batch factor forgotten",
        "the factor of the batch is not counted",
        _numbers(lambda shape, ranks: math.prod(ranks) + sum(n * k for n, k in zip(shape[1:], ranks[1:], strict=True))),
    ),
)
