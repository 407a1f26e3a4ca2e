"""Eigenpairs of a Gram matrix kept as one triangle: those of LAPACK's eigh, within THEORY T15, in half the memory."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.linalg.lapack as lapack
from hypothesis import example, given

from refgrad.kernels import tridiagonal
from refgrad.multilinear import hosvd
from refgrad.multilinear.eigenpairs import FEW, SHARE, SIDE, Triangle, eigenpairs_of
from refgrad.rounding import LAPACK_THRESHOLD, unit_roundoff
from tests import other_registers
from tests.assertions import assert_same_bits, assert_within
from tests.matrices import FAMILIES, triangle_of

LENGTHS = (1, 2, 7, 8, 9, 15, 16, 17, 24, 25, 33, 64, 65, 71, 100, 130)
ENERGY = 2.0**-300, 1.0, 2.0**300
"""What a scaled tensor may have, at the least and at the most."""


def allowed(length):
    return LAPACK_THRESHOLD * length * unit_roundoff(np.float64)


def assert_eigenpairs(matrix, ranks):
    """Eigenvalues by Weyl, and vectors that are orthonormal and eigenvectors, each to within a multiple of n u."""
    length = len(matrix)
    norm = np.linalg.norm(matrix)
    for rank in ranks:
        found = eigenpairs_of(triangle_of(matrix))
        vectors = found.vectors(rank)
        assert vectors.shape == (length, rank)
        assert found.energies.shape == (length,)
        assert (np.diff(found.energies) <= 0.0).all()
        assert (found.energies >= 0.0).all()
        assert_within(found.energies, np.linalg.eigvalsh(matrix)[::-1], 2.0 * allowed(length) * norm)
        assert_within(vectors.T @ vectors, np.eye(rank), 2.0 * allowed(length))
        assert_within(matrix @ vectors, vectors * found.energies[:rank], 2.0 * allowed(length) * norm)


def ranks_that_tell(matrix):
    """One, those around where all vectors are found at once, and all whose eigenvalue is no rounding error."""
    length = len(matrix)
    values = np.linalg.eigvalsh(matrix)
    last = int(np.count_nonzero(values > allowed(length) * values.sum()))
    many = max(FEW, length // SHARE)
    return sorted({min(last, rank) for rank in (1, length // 3 + 1, many, many + 1, last)})


def matrix_of(family, length, seed):
    matrix = FAMILIES[family](length, np.random.default_rng(seed))
    return (matrix + matrix.T) / 2.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", LENGTHS)
def test_T15_a_triangle_has_the_eigenpairs_of_its_matrix(family, length):
    matrix = matrix_of(family, length, length)
    assert_eigenpairs(matrix, ranks_that_tell(matrix))


@given(
    family=st.sampled_from(list(FAMILIES)),
    length=st.integers(1, 90),
    seed=st.integers(0, 2**32 - 1),
    energy=st.sampled_from(ENERGY),
)
@example(family="graded up", length=80, seed=0, energy=2.0**-300)
@example(family="random", length=90, seed=0, energy=2.0**300)
def test_T15_eigenpairs_of_any_size_and_magnitude(family, length, seed, energy):
    matrix = matrix_of(family, length, seed)
    matrix = matrix * 2.0 ** math.floor(math.log2(energy / matrix.trace()))
    assert_eigenpairs(matrix, ranks_that_tell(matrix))


@given(family=st.sampled_from(list(FAMILIES)), length=st.integers(9, 70), power=st.sampled_from([-290, -7, 1, 250]))
def test_T21_a_power_of_two_changes_no_bit_of_the_vectors(family, length, power):
    matrix = matrix_of(family, length, length)
    rank = ranks_that_tell(matrix)[-1]
    one, other = (eigenpairs_of(triangle_of(each)) for each in (matrix, np.ldexp(matrix, 2 * (power // 2))))
    assert_same_bits(np.ldexp(one.energies, 2 * (power // 2)), other.energies)
    assert_same_bits(one.vectors(rank), other.vectors(rank))


def test_vectors_of_several_ranks_can_be_asked_for():
    found = eigenpairs_of(triangle_of(matrix_of("decaying", 70, 0)))
    twice = [found.vectors(rank) for rank in (3, 70, 3)]
    assert_same_bits(twice[0], twice[2])
    assert_within(twice[1][:, :3] * np.sign(np.sum(twice[1][:, :3] * twice[0], axis=0)), twice[0], 100 * allowed(70))


# the reduction


@pytest.mark.parametrize("length", [2, 3, 8, 9, 16, 17, 31, 40, 65])
@pytest.mark.parametrize("family", ["random", "graded up", "graded down", "zero rows", "diagonal"])
def test_reflections_turn_the_matrix_into_a_tridiagonal_one(family, length):
    matrix = matrix_of(family, length, length)
    triangle = triangle_of(matrix)
    side = length + -length % SIDE
    guarded = np.full(len(triangle.numbers) + 2 * SIDE, -7.25)
    numbers = guarded[SIDE:-SIDE]
    numbers[:] = triangle.numbers
    diagonal, beside, scales = np.full(length, np.nan), np.full(length, np.nan), np.zeros(side)
    tridiagonal.tridiagonalize(numbers, length, diagonal, beside, scales)
    assert beside[-1] == 0.0
    tridiagonal_matrix = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    vectors = np.eye(length)
    combined, chunk = np.empty((side // SIDE, SIDE, SIDE)), np.empty((side + 2 * SIDE, tridiagonal.CHUNK))
    tridiagonal.reflect(numbers, length, scales, vectors, combined, chunk)
    basis = vectors.T  # column i is what the reflections make of the i-th unit vector
    assert_within(basis.T @ basis, np.eye(length), allowed(length))
    assert_within(basis @ tridiagonal_matrix @ basis.T, matrix, 2.0 * allowed(length) * np.linalg.norm(matrix))
    assert (guarded[:SIDE] == -7.25).all()
    assert (guarded[-SIDE:] == -7.25).all()


def test_defects_are_the_largest_entries():
    generator = np.random.default_rng(0)
    diagonal, beside, values = (generator.standard_normal(n) for n in (9, 8, 4))
    vectors = generator.standard_normal((4, 9))
    skew, residual = tridiagonal.defects(diagonal, beside, values, vectors)
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    assert_within(skew, np.abs(vectors @ vectors.T - np.eye(4)).max(), allowed(9) * 10.0)
    assert_within(residual, np.abs(vectors @ matrix - values[:, np.newaxis] * vectors).max(), allowed(9) * 10.0)


def test_defects_do_not_overlook_what_is_no_number():
    for place in ((0, 0), (3, 8), (2, 4)):
        vectors = np.eye(9)[:4]
        vectors[place] = np.nan
        assert np.isnan(tridiagonal.defects(np.ones(9), np.zeros(8), np.ones(4), vectors)).all()


# what LAPACK may do


@pytest.mark.parametrize("spoil", ["says so", "skew", "no eigenvector", "no number"])
def test_vectors_that_are_not_good_enough_are_found_all_at_once(spoil, monkeypatch):
    found = lapack.dstein
    calls = []

    def spoiled(*arguments):
        vectors, _ = found(*arguments)
        calls.append(spoil)
        if spoil == "skew":
            vectors[:, 1] += 1e-10 * vectors[:, 0]
        elif spoil == "no eigenvector":
            vectors = np.linalg.qr(vectors + 1e-10 * np.arange(vectors.size).reshape(vectors.shape))[0]
        elif spoil == "no number":
            vectors[3, 2] = np.nan
        return vectors, int(spoil == "says so")

    monkeypatch.setattr(lapack, "dstein", spoiled)
    assert_eigenpairs(matrix_of("decaying", 40, 0), [5])
    assert calls == [spoil]


def test_where_no_eigenvalues_are_found_the_SVD_takes_over(monkeypatch):
    tensor = np.random.default_rng(0).standard_normal((40, 30, 8, 8))
    expected = hosvd(tensor, 0.8, method="svd")
    monkeypatch.setattr(lapack, "dsterf", lambda diagonal, beside: (diagonal, 1))
    found = hosvd(tensor, 0.8, method="gram")
    assert found.multilinear_rank == expected.multilinear_rank
    for one, other in zip(found.factors[:2], expected.factors[:2], strict=True):
        assert_same_bits(one, other)


def test_where_no_vectors_are_found_the_SVD_takes_over(monkeypatch):
    tensor = np.random.default_rng(0).standard_normal((40, 30, 8, 8))
    expected = hosvd(tensor, 0.8, method="svd")
    monkeypatch.setattr(lapack, "dstein", lambda *arguments: (np.zeros((len(arguments[0]), len(arguments[2]))), 1))
    monkeypatch.setattr(lapack, "dstevd", lambda diagonal, beside: (diagonal, np.eye(len(diagonal)), 1))
    found = hosvd(tensor, 0.8, method="gram")
    assert found.multilinear_rank == expected.multilinear_rank
    for one, other in zip(found.factors[:2], expected.factors[:2], strict=True):
        assert_same_bits(one, other)


# registers and memory


def eigenpairs_by_these_registers():
    for family, length in (("random", 17), ("graded up", 40), ("decaying", 65), ("zero rows", 31)):
        matrix = matrix_of(family, length, 1)
        assert_eigenpairs(matrix, ranks_that_tell(matrix))
    return "all right"


@pytest.mark.parametrize("vector", other_registers.VECTORS)
def test_registers_of_any_length_find_them(vector, tmp_path):
    found = other_registers.run(vector, "tests.test_eigenpairs:eigenpairs_by_these_registers", tmp_path)
    assert found == "all right"


def test_a_triangle_takes_little_more_than_half_of_its_matrix():
    assert Triangle.size(512) == 512 * 520 // 2
    assert Triangle.size(20) == 64 * 6
