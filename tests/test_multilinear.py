"""The multilinear module on named examples: what it refuses and in which words, what results hold, sharp bounds."""

import gc
import subprocess
import sys
import tracemalloc
import weakref
from fractions import Fraction

import numpy as np
import pytest

from refgrad.multilinear import (
    LowRank,
    Tucker,
    admissible_ranks,
    explained_variance_rank,
    fold,
    gram_energy_bound,
    hosvd,
    mode_product,
    sequential_hosvd,
    singular_values,
    svd,
    unfold,
)
from refgrad.multilinear.spectrum import _decision_error
from refgrad.multilinear.unfolding import mode_products
from refgrad.rounding import LAPACK_THRESHOLD, gamma, singular_value_bound, unit_roundoff
from tests.assertions import assert_same_bits, assert_within

DECOMPOSITIONS = {"svd": svd, "hosvd": hosvd, "sequential_hosvd": sequential_hosvd}
decompositions = pytest.mark.parametrize("decompose", DECOMPOSITIONS.values(), ids=DECOMPOSITIONS.keys())


def random_tensor(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def orthogonal(size, seed=0):
    return np.linalg.qr(random_tensor(size, size, seed=seed))[0]


# unfold, fold, mode_product


def test_unfold_of_a_2_by_3_by_4_tensor_in_every_mode():
    tensor = np.arange(24.0).reshape(2, 3, 4)
    assert unfold(tensor, 0)[0].tolist() == list(range(12))
    assert unfold(tensor, 1)[1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    assert unfold(tensor, 2)[3].tolist() == [3, 7, 11, 15, 19, 23]


@pytest.mark.parametrize("mode", [0, 3])
def test_unfold_of_the_first_and_the_last_mode_copies_nothing(mode):
    tensor = random_tensor(2, 3, 4, 5)
    assert np.shares_memory(unfold(tensor, mode), tensor)


@pytest.mark.parametrize("mode", [-1, 3])
def test_a_mode_that_is_none_is_refused(mode):
    text = "mode must be at least 0, got -1" if mode < 0 else r"mode must be below 3, the number of axes .*, got 3"
    for call in (
        lambda tensor: unfold(tensor, mode),
        lambda tensor: singular_values(tensor, mode),
        lambda tensor: mode_product(tensor, np.eye(2), mode),
        lambda tensor: fold(np.ones((2, 12)), mode, tensor.shape),
    ):
        with pytest.raises(ValueError, match=text):
            call(np.ones((2, 3, 4)))


def test_a_mode_that_is_no_integer_is_refused():
    with pytest.raises(TypeError, match=r"mode must be an integer of at least 0, got 1\.0"):
        unfold(np.ones((2, 3)), 1.0)


def test_unfold_refuses_what_is_no_tensor():
    with pytest.raises(TypeError, match="tensor must be a float32 or float64 NumPy array, got list"):
        unfold([[1.0]], 0)
    with pytest.raises(ValueError, match="tensor must have at least 1 axes, got 0"):
        unfold(np.array(1.0), 0)
    with pytest.raises(ValueError, match=r"tensor must not be empty, got shape \(2, 0\)"):
        unfold(np.ones((2, 0)), 0)


def test_fold_refuses_a_matrix_that_does_not_unfold_the_shape():
    text = (
        r"matrix must have shape \(rows=3, columns=8\), the mode-1 unfolding of \(2, 3, 4\), got \(rows=8, columns=3\)"
    )
    with pytest.raises(ValueError, match=text):
        fold(np.ones((8, 3)), 1, (2, 3, 4))
    with pytest.raises(ValueError, match=r"shape must have at least 1 axis, got \(\)"):
        fold(np.ones((1, 1)), 0, ())
    with pytest.raises(ValueError, match="every length in shape must be at least 1, got 0"):
        fold(np.ones((1, 1)), 0, (1, 0))
    with pytest.raises(ValueError, match=r"matrix must have 2 axes \(rows columns\), got 1"):
        fold(np.ones(3), 0, (3,))


def test_mode_product_refuses_a_matrix_that_does_not_fit():
    with pytest.raises(
        ValueError,
        match=r"matrix must have 3 columns, the length of mode 1 of the tensor \(2, 3, 4\), got \(rows=3, columns=5\)",
    ):
        mode_product(np.ones((2, 3, 4)), np.ones((3, 5)), 1)
    with pytest.raises(TypeError, match="tensor and matrix must have one dtype, got float64 and float32"):
        mode_product(np.ones((2, 3)), np.ones((3, 3), dtype=np.float32), 1)


@pytest.mark.parametrize("shape", [(300, 2, 300), (2, 300, 300)])
@pytest.mark.parametrize("last", [False, True])
def test_products_along_all_modes_start_at_the_end_where_the_tensor_shrinks(shape, last):
    """From the other end, the first product would be as large as the tensor."""
    shape = shape if last else shape[::-1]
    tensor = np.ones(shape)
    shrinking = len(shape) - 1 if last else 0
    matrices = [np.ones((1 if mode == shrinking else length, length)) for mode, length in enumerate(shape)]
    tracemalloc.start()
    try:
        result = mode_products(tensor, matrices)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_same_bits(result, np.full([len(matrix) for matrix in matrices], float(tensor.size)))
    assert peak < tensor.nbytes / 4


# ranks


def test_D1_examples():
    spectrum = np.array([3.0, 2.0, 1.0, 1.0, 1.0])  # energies 9, 4, 1, 1, 1 of 16
    for sixteenths, rank in ((1, 1), (9, 1), (9.01, 2), (13, 2), (13.01, 3), (14, 3), (15, 4), (15.01, 5), (16, 5)):
        assert explained_variance_rank(spectrum, sixteenths / 16) == rank


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_D1_at_a_tie_the_smaller_rank_is_enough(dtype):
    """Five equal energies, and 0.8 means 4/5, which four of them are."""
    assert explained_variance_rank(np.ones(5, dtype), 0.8) == 4
    assert explained_variance_rank(np.ones(10, dtype), 0.7) == 7
    assert explained_variance_rank(np.ones(10, dtype), 0.3) == 3


def test_D1_uses_the_energy_and_not_the_values():
    """Of (10, 1, ..., 1) the first holds 100 of 190 in energy, 10 of 100 in sum."""
    assert explained_variance_rank(np.array([10.0] + [1.0] * 90), 0.5) == 1


def test_T6_an_explained_variance_of_one_keeps_every_value_that_is_not_zero():
    assert explained_variance_rank(np.array([1.0, 1e-9, 1e-300, 0.0]), 1.0) == 3
    assert explained_variance_rank(np.array([1e300, 1e-9, 1e-300]), 1.0) == 3


def test_D1_an_explained_variance_just_under_one_is_told_from_one():
    """The tail 1e-20 is far under the roundoff of the sum of all energies, and far over 1 - eps = 0."""
    assert explained_variance_rank(np.array([1.0, 1e-10]), 1.0) == 2
    assert explained_variance_rank(np.array([1.0, 1e-10]), 1.0 - 2.0**-53) == 1
    assert explained_variance_rank(np.array([1.0, 1e-7]), 1.0 - 2.0**-53) == 2


def test_D1_a_zero_spectrum_has_rank_one():
    assert explained_variance_rank(np.zeros(4), 1.0) == 1
    assert admissible_ranks(np.zeros(4), 0.5, 0.1) == (1, 1)


def test_D1_squares_neither_overflow_nor_vanish():
    for scale in (2.0**1000, 2.0**-1040):
        assert explained_variance_rank(scale * np.array([3.0, 2.0, 1.0]), 0.9) == 2


def test_admissible_ranks_at_and_beside_a_tie():
    energies = np.array([2.0, 1.0, 1.0])
    spectrum = np.sqrt(energies)
    assert admissible_ranks(spectrum, 0.75, 1e-15) == (2, 3)
    assert admissible_ranks(spectrum, 0.74, 1e-3) == (2, 2)
    assert admissible_ranks(spectrum, 0.7401, 0.01) == (2, 3)
    assert admissible_ranks(np.array([1.0, 1e-9, 1e-12]), 1.0, 1e-16) == (1, 3)
    assert admissible_ranks(np.array([1.0, 1e-7, 1e-12]), 1.0, 1e-16) == (2, 3)


def test_explained_variance_rank_refuses_what_is_no_spectrum():
    for spectrum in (np.array([1.0, 2.0]), np.array([1.0, -1.0])):
        with pytest.raises(ValueError, match=r"singular_values must be descending and not negative, got \["):
            explained_variance_rank(spectrum, 0.5)
    with pytest.raises(ValueError, match=r"singular_values must be finite, got nan at index \(0,\)"):
        explained_variance_rank(np.array([np.nan, 1.0]), 0.5)
    with pytest.raises(ValueError, match=r"singular_values must have 1 axes \(n\), got 2"):
        explained_variance_rank(np.ones((2, 2)), 0.5)
    with pytest.raises(ValueError, match=r"singular_values must not be empty"):
        explained_variance_rank(np.ones(0), 0.5)


@pytest.mark.parametrize("eps", [0.0, -0.1, 1.2, float("nan"), float("inf")])
def test_an_explained_variance_out_of_range_is_refused(eps):
    text = r"explained_variance must be in \(0, 1\], got "
    with pytest.raises(ValueError, match=text):
        explained_variance_rank(np.ones(2), eps)
    with pytest.raises(ValueError, match=text):
        admissible_ranks(np.ones(2), eps, 0.0)
    for decompose in DECOMPOSITIONS.values():
        with pytest.raises(ValueError, match=text):
            decompose(np.ones((2, 3)), eps)


@pytest.mark.parametrize("error", [-1e-3, float("nan")])
def test_admissible_ranks_refuses_an_error_that_is_none(error):
    with pytest.raises(ValueError, match="energy_error must be at least 0, got"):
        admissible_ranks(np.ones(2), 0.5, error)


# what the decompositions refuse


@decompositions
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_entries_that_are_not_finite_are_refused(decompose, bad):
    tensor = np.ones((2, 3), dtype=np.float32)
    tensor[1, 2] = bad
    with pytest.raises(ValueError, match=rf"tensor must be finite, got {bad} at index \(1, 2\)"):
        decompose(tensor, 0.5)
    with pytest.raises(ValueError, match="tensor must be finite"):
        singular_values(tensor, 0)


@decompositions
@pytest.mark.parametrize(
    "bad", [np.ones((2, 3), int), np.ones((2, 3), complex), np.ones((2, 3), object), np.ones((2, 3), ">f8")]
)
def test_other_dtypes_are_refused(decompose, bad):
    with pytest.raises(
        TypeError, match=f"tensor must be a float32 or float64 NumPy array, got an array of dtype {bad.dtype}"
    ):
        decompose(bad, 0.5)


@decompositions
def test_an_empty_tensor_and_one_without_axes_are_refused(decompose):
    with pytest.raises(ValueError, match=r"tensor must not be empty, got shape \(0, 3\)"):
        decompose(np.ones((0, 3)), 0.5)
    with pytest.raises(ValueError, match="tensor must have at least 1 axes, got 0"):
        decompose(np.array(1.0), 0.5)


@decompositions
def test_an_unknown_method_is_refused(decompose):
    with pytest.raises(ValueError, match="method must be one of 'svd', 'gram', got 'qr'"):
        decompose(np.ones((2, 3)), 0.5, method="qr")
    with pytest.raises(ValueError, match="method must be one of 'svd', 'gram', got 'qr'"):
        singular_values(np.ones((2, 3)), 0, method="qr")


@decompositions
def test_an_explained_variance_that_is_no_number_is_refused(decompose):
    with pytest.raises(TypeError, match=r"explained_variance must be a real number in \(0, 1\], got str"):
        decompose(np.ones((2, 3)), "0.8")


def test_just_one_of_explained_variance_and_ranks_is_given():
    tensor = np.ones((2, 3))
    with pytest.raises(ValueError, match="exactly one of explained_variance and rank must be given, got neither"):
        svd(tensor)
    with pytest.raises(
        ValueError,
        match=r"exactly one of explained_variance and rank must be given, got explained_variance=0\.5 and rank=1",
    ):
        svd(tensor, 0.5, rank=1)
    for decompose in (hosvd, sequential_hosvd):
        with pytest.raises(ValueError, match="exactly one of explained_variance and ranks must be given, got neither"):
            decompose(tensor)
        with pytest.raises(ValueError, match=r"exactly one of .*, got explained_variance=0\.5 and ranks=\(1, 1\)"):
            decompose(tensor, 0.5, ranks=(1, 1))


def test_a_rank_that_the_shape_does_not_allow_is_refused():
    with pytest.raises(
        ValueError, match=r"rank must be at most 2, as the mode-0 unfolding of \(5, 2\) is 5 x 2, got 3"
    ):
        svd(np.ones((5, 2)), rank=3)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        svd(np.ones((5, 2)), rank=0)
    with pytest.raises(TypeError, match=r"rank must be an integer of at least 1, got 1\.5"):
        svd(np.ones((5, 2)), rank=1.5)
    for decompose in (hosvd, sequential_hosvd):
        with pytest.raises(
            ValueError, match=r"ranks\[1\] must be at most 3, the length of that mode of \(2, 3, 4\), got 4"
        ):
            decompose(np.ones((2, 3, 4)), ranks=(2, 4, 4))
        with pytest.raises(ValueError, match=r"ranks\[2\] must be at least 1, got 0"):
            decompose(np.ones((2, 3, 4)), ranks=(2, 3, 0))
        with pytest.raises(
            ValueError, match=r"ranks must have 3 entries, one for each mode of \(2, 3, 4\), got \(2, 3\)"
        ):
            decompose(np.ones((2, 3, 4)), ranks=(2, 3))
        for bad in (2, "234"):
            with pytest.raises(TypeError, match="ranks must be a sequence of 3 integers, one for each mode, got"):
                decompose(np.ones((2, 3, 4)), ranks=bad)


def test_an_order_that_is_no_permutation_of_the_modes_is_refused():
    tensor = np.ones((2, 3, 4))
    with pytest.raises(ValueError, match=r"order must name each of the modes 0 to 2 once, got \(0, 1, 1\)"):
        sequential_hosvd(tensor, 0.5, order=(0, 1, 1))
    with pytest.raises(ValueError, match=r"order must name each of the modes 0 to 2 once, got \(0, 1\)"):
        sequential_hosvd(tensor, 0.5, order=(0, 1))
    with pytest.raises(ValueError, match="mode must be below 3"):
        sequential_hosvd(tensor, 0.5, order=(0, 1, 3))
    with pytest.raises(TypeError, match="order must be a sequence of 3 modes, got 3"):
        sequential_hosvd(tensor, 0.5, order=3)


@decompositions
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_norm_that_the_dtype_cannot_hold_is_refused(decompose, dtype):
    largest = np.finfo(dtype).max
    name = np.dtype(dtype).name
    with pytest.raises(
        ValueError, match=rf"tensor must have a Frobenius norm of at most .*, half of the largest {name}"
    ):
        decompose(np.full((2, 2), largest, dtype), 0.5)
    assert np.isfinite(decompose(np.full((2, 2), largest / 4, dtype), 0.5).reconstruct()).all()


# what the results are


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_LowRank_says_what_it_is(dtype):
    tensor = random_tensor(4, 3, 5, dtype=dtype)
    stored = svd(tensor, rank=2)
    assert isinstance(stored, LowRank)
    assert stored.shape == (4, 3, 5)
    assert stored.dtype == dtype
    assert stored.multilinear_rank == (2,)
    assert stored.left.shape == (4, 2)
    assert stored.right.shape == (2, 3, 5)
    assert [factor.shape for factor in stored.factors] == [(4, 2), (2, 15)]
    assert stored.stored_numbers == 2 * (4 + 15)
    assert stored.nbytes == stored.stored_numbers * np.dtype(dtype).itemsize
    assert stored.core.dtype == dtype
    assert stored.relative_error_bound == stored.discarded_fraction[0] ** 0.5
    assert repr(stored).startswith(f"LowRank(shape=(4, 3, 5), multilinear_rank=(2,), dtype={np.dtype(dtype).name}, ")
    # LowRank.core squares float64 columns of `left`, rounded to `dtype` once.
    spectrum = np.linalg.svd(tensor.astype(np.float64).reshape(4, 15), compute_uv=False)[:2]
    rounding = (
        2 * singular_value_bound(15, float(np.linalg.norm(tensor)), np.float64) + 2 * unit_roundoff(dtype) * spectrum
    )
    assert_within(stored.core, spectrum, rounding)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_Tucker_says_what_it_is(dtype):
    stored = hosvd(random_tensor(4, 3, 5, dtype=dtype), ranks=(2, 3, 1))
    assert isinstance(stored, Tucker)
    assert stored.shape == (4, 3, 5)
    assert stored.dtype == dtype
    assert stored.multilinear_rank == stored.core.shape == (2, 3, 1)
    assert [factor.shape for factor in stored.factors] == [(4, 2), (3, 3), (5, 1)]
    assert stored.stored_numbers == 2 * 3 * 1 + 4 * 2 + 3 * 3 + 5 * 1
    assert stored.nbytes == stored.stored_numbers * np.dtype(dtype).itemsize
    assert not stored.sequential
    assert len(repr(stored)) < 200
    assert "array" not in repr(stored)


def test_discarded_energy_is_the_fraction_of_the_squared_norm():
    stored = hosvd(np.diag([2.0, 1.0]), ranks=(1, 1))
    # diag(2, 1) and its norm^2 = 5: LAPACK's values of a diagonal matrix, their squares, a quotient and two products.
    assert_within(stored.discarded_energy, (1.0, 1.0), gamma(12, np.float64))
    assert_within(stored.discarded_fraction, (0.2, 0.2), gamma(10, np.float64))
    assert_within(stored.relative_error_bound, 0.4**0.5, gamma(10, np.float64))
    assert_within(stored.norm, 5**0.5, gamma(4, np.float64))


def test_discarded_energies_come_from_the_discarded_values_and_not_from_a_difference():
    """1 + 2^-60 is 1 in float64: what is left of |A|^2 after the first value would be 0."""
    tensor = np.diag([1.0, 2.0**-30])
    for stored in (svd(tensor, rank=1), hosvd(tensor, ranks=(1, 1)), sequential_hosvd(tensor, ranks=(1, 2))):
        assert_within(stored.discarded_fraction[0], 2.0**-60, gamma(20, np.float64) * 2.0**-60)


@decompositions
def test_subnormal_numbers_are_decomposed_like_any_other(decompose):
    """2^-1060 has no reciprocal in float64, and its square is nothing."""
    tensor = np.ldexp(np.diag([3.0, 2.0, 1.0]), -1060)
    stored = decompose(tensor, 0.9)
    assert set(stored.multilinear_rank) == {2}
    assert stored.norm == np.ldexp(np.sqrt(14.0), -1060)
    allowed = 2 * singular_value_bound(3, stored.norm, np.float64) + 4 * np.finfo(np.float64).smallest_subnormal
    assert_within(stored.reconstruct(), np.ldexp(np.diag([3.0, 2.0, 0.0]), -1060), allowed)


def test_energies_beyond_float64_do_not_become_nan():
    huge = svd(np.ldexp(np.diag([1.0, 0.0]), 1000), rank=1)
    assert huge.norm == 2.0**1000
    assert huge.discarded_energy == (0.0,)
    assert svd(np.ldexp(np.eye(2), 1000), rank=1).discarded_energy == (np.inf,)
    assert svd(np.ldexp(np.eye(2), -1000), rank=1).discarded_energy == (0.0,)
    # The singular values of the identity are ones, of which LAPACK makes no error; a sum, a quotient.
    assert_within(svd(np.ldexp(np.eye(2), -1000), rank=1).discarded_fraction, (0.5,), gamma(6, np.float64))


@decompositions
def test_results_are_immutable_hashable_and_weakly_referable(decompose):
    stored = decompose(random_tensor(3, 4), 0.9)
    with pytest.raises(AttributeError):
        stored.norm = 1.0
    for array in (*stored.factors, stored.left if isinstance(stored, LowRank) else stored.core):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
    assert stored in {stored}
    assert stored != decompose(random_tensor(3, 4), 0.9)
    reference = weakref.ref(stored)
    del stored
    gc.collect()
    assert reference() is None


@decompositions
@pytest.mark.parametrize("method", ["svd", "gram"])
def test_results_keep_neither_the_input_nor_a_larger_array_alive(decompose, method):
    tensor = random_tensor(8, 9, 10)
    # Exponent 0 and C order: the one case in which the input itself is decomposed and not a scaled copy of it.
    tensor *= 0.75 / np.abs(tensor).max()
    reference = weakref.ref(tensor)
    stored = decompose(tensor, 0.5, method=method)
    owned = [stored.left, stored.right] if isinstance(stored, LowRank) else [stored.core, *stored.factors]
    assert all(array.base is None and array.flags.c_contiguous for array in owned)
    assert sum(array.nbytes for array in owned) == stored.nbytes
    del tensor
    gc.collect()
    assert reference() is None


@decompositions
def test_reconstruct_returns_a_new_writeable_array(decompose):
    stored = decompose(np.ones((2, 3)), 1.0)
    first = stored.reconstruct()
    first[...] = 7.0
    # Ones times 1 / sqrt(2), 1 / sqrt(3), sqrt(6): some 30 roundings.
    assert_within(stored.reconstruct(), np.ones((2, 3)), gamma(60, np.float64))


@decompositions
@pytest.mark.parametrize("method", ["svd", "gram"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_zero_tensor_has_rank_one_and_orthonormal_factors(decompose, method, dtype):
    stored = decompose(np.zeros((3, 4, 2), dtype), 1.0, method=method)
    assert set(stored.multilinear_rank) == {1}
    assert not stored.core.any()
    assert not stored.reconstruct().any()
    assert stored.norm == 0.0
    assert set(stored.discarded_energy) == {0.0}
    bases = [stored.factors[1].T] if isinstance(stored, LowRank) else stored.factors
    for basis in bases:
        assert_within(basis.T @ basis, np.eye(1), gamma(basis.shape[0] + 2, dtype))


@decompositions
def test_one_axis_is_enough(decompose):
    tensor = np.array([3.0, 0.0, 4.0])
    stored = decompose(tensor, 0.5)
    assert stored.multilinear_rank == (1,)
    # One normalisation and one product.
    assert_within(np.abs(stored.core), np.array([5.0]), 5.0 * gamma(20, np.float64))
    assert_within(stored.reconstruct(), tensor, 5.0 * gamma(20, np.float64))


def test_fixed_ranks_may_be_NumPy_integers():
    assert hosvd(np.ones((2, 3)), ranks=np.array([1, 2])).multilinear_rank == (1, 2)
    assert svd(np.ones((2, 3)), rank=np.int32(2)).multilinear_rank == (2,)


@pytest.mark.parametrize("decompose", [hosvd, sequential_hosvd])
def test_a_fixed_rank_above_the_rank_of_the_unfolding_is_completed_by_orthonormal_columns(decompose):
    """Mode 0 of (5, 2) has two singular vectors; asked for four, U_1 still has orthonormal columns, and A~ = A (T6)."""
    tensor = random_tensor(5, 2)
    stored = decompose(tensor, ranks=(4, 2))
    allowed = 2 * singular_value_bound(5, float(np.linalg.norm(tensor)), np.float64)
    assert_within(stored.factors[0].T @ stored.factors[0], np.eye(4), allowed)
    assert_within(stored.reconstruct(), tensor, 4 * allowed)
    assert stored.discarded_fraction == (0.0, 0.0)


def test_hosvd_and_sequential_hosvd_are_told_apart():
    tensor = random_tensor(4, 5, 6)
    plain, sequential = hosvd(tensor, ranks=(2, 2, 2)), sequential_hosvd(tensor, ranks=(2, 2, 2))
    assert sequential.sequential
    difference = np.linalg.norm(plain.reconstruct() - sequential.reconstruct())
    assert difference > 2**20 * singular_value_bound(30, float(np.linalg.norm(tensor)), np.float64)


def test_sequential_hosvd_takes_the_modes_in_the_given_order():
    """The mode that comes first is truncated as in the HOSVD, the others are not."""
    tensor = random_tensor(4, 5, 6)
    plain = hosvd(tensor, ranks=(2, 2, 2))
    for first in range(3):
        order = (first, *(mode for mode in range(3) if mode != first))
        sequential = sequential_hosvd(tensor, ranks=(2, 2, 2), order=order)
        same = [
            float(np.linalg.norm(a @ a.T - b @ b.T)) for a, b in zip(plain.factors, sequential.factors, strict=True)
        ]
        assert same[first] == min(same)
        assert_same_bits(sequential.factors[first], plain.factors[first])
        assert sorted(same)[1] > 2**20 * unit_roundoff(np.float64)


# sharpness


def superdiagonal(*values):
    tensor = np.zeros((len(values),) * 3)
    for i, value in enumerate(values):
        tensor[i, i, i] = value
    return tensor


def test_T3_lower_bound_is_attained_where_every_mode_discards_the_same_entry():
    tensor = superdiagonal(4.0, 3.0, 1.0)
    stored = hosvd(tensor, ranks=(2, 2, 2))
    error = np.sum((tensor - stored.reconstruct()) ** 2)
    # Everything is exact but for the norms in the Householder vectors: some tens of roundings.
    assert_within(error, max(stored.discarded_energy), 26.0 * gamma(60, np.float64))
    assert_within(error, 1.0, 26.0 * gamma(60, np.float64))


def test_T3_upper_bound_is_attained_where_the_discarded_parts_are_orthogonal():
    tensor = np.zeros((3, 3, 3))
    tensor[0, 0, 0] = tensor[1, 1, 1] = 4.0
    tensor[2, 0, 1] = tensor[0, 2, 1] = tensor[1, 0, 2] = 1.0  # each is outside the kept part of one mode alone
    stored = hosvd(tensor, ranks=(2, 2, 2))
    error = np.sum((tensor - stored.reconstruct()) ** 2)
    assert_within(error, sum(stored.discarded_energy), 35.0 * gamma(60, np.float64))
    assert_within(error, 3.0, 35.0 * gamma(60, np.float64))


def test_T15_gram_loses_values_under_the_root_of_the_roundoff_and_the_svd_does_not():
    spectrum = np.array([1.0, 0.5, 1e-12])
    matrix = (orthogonal(3) * spectrum) @ orthogonal(8, seed=1)[:3]
    bound = 2 * singular_value_bound(8, float(np.linalg.norm(spectrum)), np.float64)
    assert_within(singular_values(matrix, 0), spectrum, bound)
    gram = singular_values(matrix, 0, method="gram")
    assert_within(gram**2, spectrum**2, 2 * gram_energy_bound(3, 8, 1.25))
    assert abs(gram[2] - spectrum[2]) > 10 * bound


def test_T15_the_bound_of_gram_counts_the_inner_products_and_the_eigenvalues():
    """Each of the two terms where it is the larger one, and the energy as a factor."""
    eigenvalues = LAPACK_THRESHOLD * 1000 * unit_roundoff(np.float64)
    assert gram_energy_bound(3, 1000) > gamma(1000, np.float64)
    assert eigenvalues < gram_energy_bound(1000, 3) < 2 * eigenvalues
    assert gram_energy_bound(3, 1000, 8.0) == 8.0 * gram_energy_bound(3, 1000)
    # What the eigenvalues err by is a multiple of the norm of a Gram matrix that is rounded already.
    rounded = 1 + Fraction(gamma(10**13, np.float64))
    both = float(rounded * (1 + Fraction(LAPACK_THRESHOLD * 10**6 * unit_roundoff(np.float64))) - 1)
    assert_within(gram_energy_bound(10**6, 10**13), both, gamma(8, np.float64) * both)
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        gram_energy_bound(0, 1)
    with pytest.raises(TypeError, match=r"columns must be an integer of at least 1, got 2\.0"):
        gram_energy_bound(1, 2.0)


def test_T15_the_error_of_a_decision_counts_both_methods_to_the_second_order():
    """Columns so many that the square of the SVD's backward error is more than the rounding of the formula."""
    rows, columns = 4, 10**13
    backward = 2 * Fraction(singular_value_bound(columns, 1.0, np.float64))  # of each of the 4 values
    by_svd = (1 + backward) ** 2 - 1  # of an energy whose root is off by that; in the tail and in the threshold
    allowed = float(2 * rows * Fraction(gram_energy_bound(rows, columns)) + 2 * by_svd)
    assert backward**2 > gamma(16, np.float64)
    assert_within(_decision_error(rows, columns), allowed, gamma(16, np.float64) * allowed)


# the Gram matrix never decides what it cannot


def with_spectrum(spectrum, columns, seed):
    """A wide matrix with these singular values, to within rounding."""
    rows = len(spectrum)
    return (orthogonal(rows, seed) * spectrum) @ np.linalg.qr(random_tensor(columns, rows, seed=seed + 1))[0].T


def tied_energies(eps, offset):
    """Descending energies of which the four leading ones hold eps (1 + offset) of (1 + eps offset)."""
    count = int(4 * (1 - eps) / eps) + 2
    kept = eps / 4 * np.array([1.03, 1.01, 0.99, 0.97]) * (1 + offset)
    return np.concatenate([kept, (1 - eps) / count * np.linspace(1.01, 0.99, count)])


@pytest.mark.parametrize("eps", [0.5, 0.75, 0.8, 0.9])
@pytest.mark.parametrize("columns", [12, 300])
def test_gram_gives_the_ranks_of_the_svd_on_spectra_that_tie(eps, columns):
    """Cumulative energies that lie within rounding of eps |A|^2, and just outside of it."""
    decided = set()
    for seed in range(6):
        for offset in (0.0, 1e-16, -1e-16, 1e-15, -1e-15, 1e-14, -1e-14, 1e-12, -1e-12, 1e-9, -1e-9):
            matrix = with_spectrum(np.sqrt(tied_energies(eps, offset)), columns, seed)
            for decompose in (svd, hosvd, sequential_hosvd):
                by_svd, by_gram = decompose(matrix, eps), decompose(matrix, eps, method="gram")
                # The second step of a sequential HOSVD starts from a core that either method rounds in its own way.
                steps = 1 if decompose is sequential_hosvd else 2
                assert by_gram.multilinear_rank[:steps] == by_svd.multilinear_rank[:steps], (seed, offset)
                decided.add(by_svd.multilinear_rank[0])
    assert decided == {4, 5}


@pytest.mark.parametrize("seed", range(5))
def test_gram_leaves_an_explained_variance_of_one_to_the_svd_where_the_matrix_is_rank_deficient(seed):
    matrix = with_spectrum(np.array([1.0, 0.5, 1e-11, 1e-13]), 30, seed)
    for decompose in (svd, hosvd, sequential_hosvd):
        by_svd, by_gram = decompose(matrix, 1.0), decompose(matrix, 1.0, method="gram")
        assert by_gram.multilinear_rank == by_svd.multilinear_rank
        assert_same_bits(by_gram.reconstruct(), by_svd.reconstruct())


def test_gram_leaves_a_fixed_rank_to_the_svd_where_a_kept_value_is_lost():
    """Three values are kept; the third is 1e-11, and its right singular vector is still orthogonal to the others."""
    matrix = with_spectrum(np.array([1.0, 0.5, 1e-11, 0.0]), 30, 3)
    right = svd(matrix, rank=3, method="gram").factors[1]
    assert_within(right @ right.T, np.eye(3), 2 * singular_value_bound(30, 1.0, np.float64))
    assert_same_bits(
        hosvd(matrix, ranks=(3, 3), method="gram").reconstruct(), hosvd(matrix, ranks=(3, 3)).reconstruct()
    )


def test_gram_is_what_decides_where_it_can(monkeypatch):
    """With a wide margin no SVD of the wide unfolding is computed: else "gram" would be no faster."""

    def refuse(*_, **__):
        raise AssertionError("an SVD was computed")

    tensor = random_tensor(3, 4, 5)
    expected = hosvd(tensor, 0.5).multilinear_rank
    monkeypatch.setattr(np.linalg, "svd", refuse)
    assert hosvd(tensor, 0.5, method="gram").multilinear_rank == expected
    assert svd(tensor, 0.5, method="gram").multilinear_rank == expected[:1]
    with pytest.raises(AssertionError, match="an SVD was computed"):
        hosvd(tensor, 0.5)


def test_no_svd_is_of_more_columns_than_rows(monkeypatch):
    """Of a wide unfolding it is that of L, the square factor of its LQ factorisation, which has the same vectors."""
    shapes, original = [], np.linalg.svd

    def seen(matrix, **options):
        shapes.append(matrix.shape)
        return original(matrix, **options)

    monkeypatch.setattr(np.linalg, "svd", seen)
    hosvd(random_tensor(3, 20, 4), 0.9)
    assert shapes == [(3, 3), (20, 12), (4, 4)]


def test_gram_gives_way_to_the_svd_where_the_eigenvalues_do_not_converge(monkeypatch):
    def diverge(*_, **__):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    tensor = random_tensor(3, 4, 5)
    monkeypatch.setattr(np.linalg, "eigh", diverge)
    assert_same_bits(hosvd(tensor, 0.5, method="gram").core, hosvd(tensor, 0.5).core)
    assert_same_bits(singular_values(tensor, 1, method="gram"), singular_values(tensor, 1))


def test_gesvd_is_used_where_gesdd_does_not_converge(monkeypatch):
    def diverge(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    tensor = random_tensor(3, 4, 5)
    expected = [decompose(tensor, 0.7) for decompose in DECOMPOSITIONS.values()]
    completed = hosvd(random_tensor(5, 2), ranks=(4, 2))
    monkeypatch.setattr(np.linalg, "svd", diverge)
    allowed = 4 * singular_value_bound(20, float(np.linalg.norm(tensor)), np.float64)
    for decompose, before in zip(DECOMPOSITIONS.values(), expected, strict=True):
        stored = decompose(tensor, 0.7)
        assert stored.multilinear_rank == before.multilinear_rank
        assert_within(np.sum(stored.reconstruct() ** 2), np.sum(before.reconstruct() ** 2), allowed * before.norm)
    assert hosvd(random_tensor(5, 2), ranks=(4, 2)).core.shape == completed.core.shape


def test_the_module_imports_no_scipy():
    code = "import sys, refgrad.multilinear; raise SystemExit('scipy' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
