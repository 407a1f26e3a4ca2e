"""THEORY D1-D4, T1-T8, T15 and T21 of the multilinear module, over shapes, dtypes, layouts, spectra and magnitudes."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from hypothesis import event, example, given
from hypothesis import strategies as st

from refgrad import specification as spec
from refgrad.multilinear import (
    METHODS,
    LowRank,
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
from refgrad.multilinear.unfolding import mode_products
from refgrad.rounding import LAPACK_THRESHOLD, gamma, inner_product_bound, singular_value_bound, unit_roundoff
from tests.assertions import assert_same_bits, assert_within
from tests.counted_products import multiply_adds
from tests.strategies import LAYOUTS, explained_variances, tensor_with_spectrum, tensors, with_layout

methods = st.sampled_from(METHODS)
decompositions = st.sampled_from([svd, hosvd, sequential_hosvd])
tucker_decompositions = st.sampled_from([hosvd, sequential_hosvd])
ROUNDOFF = unit_roundoff(np.float64)


@dataclass(frozen=True)
class Measured:
    """A decomposition and its tensor in float64, both times one power of two, so that squares of them are right."""

    exact: np.ndarray
    approximate: np.ndarray
    core: np.ndarray
    tau: np.ndarray
    rounding: float
    """How far A~ may be, for rounding, from a projection of A by exact leading singular vectors (T15), over |A|."""

    @property
    def norm(self):
        return float(np.linalg.norm(self.exact.ravel()))

    @property
    def error(self):
        return float(np.linalg.norm((self.exact - self.approximate).ravel()))


def rounding(shape, dtype, modes=None, method="svd"):
    """Bound |A~ - A x_j P_j| / |A|, P_j on the leading singular vectors of some A_(j) + E_j with |E_j| as small (T15).

    U_j enters A~ twice: orthonormal to within LAPACK's threshold, rounded to the dtype; each product is a sum of n_j or
    of K_j terms.
    """
    size = math.prod(shape)
    total = 4 * unit_roundoff(dtype)
    for length in [shape[0]] if modes == 1 else shape:
        columns = size // length
        once = LAPACK_THRESHOLD * max(length, columns) * ROUNDOFF + gamma(length, np.float64) + gamma(length + 2, dtype)
        if method == "gram":
            # Of the energies; the distance is the root.
            once += math.sqrt(2 * length * gram_energy_bound(length, columns))
        total += 2 * math.sqrt(length) * once
    return total


def measured(tensor, stored, method="svd"):
    """Scale a tensor and what became of it into the middle of float64's range."""
    exponent = -math.frexp(float(np.abs(tensor).max()))[1]
    exact = np.ldexp(tensor.astype(np.float64), exponent)
    fractions = np.array(stored.discarded_fraction)
    modes = 1 if isinstance(stored, LowRank) else None
    return Measured(
        exact=exact,
        approximate=np.ldexp(stored.reconstruct().astype(np.float64), exponent),
        core=np.ldexp(stored.core.astype(np.float64), exponent),
        tau=fractions * float(np.sum(exact**2)),
        rounding=rounding(tensor.shape, tensor.dtype, modes, method),
    )


def projector(factor):
    wide = factor.astype(np.float64)
    return wide @ wide.T


def spectrum_of(tensor, mode):
    """float64 singular values by NumPy, of the tensor scaled to one."""
    exact = np.ldexp(tensor.astype(np.float64), -math.frexp(float(np.abs(tensor).max()))[1])
    return np.linalg.svd(np.moveaxis(exact, mode, 0).reshape(tensor.shape[mode], -1), compute_uv=False)


def projector_allowance(tensor, mode, rank):
    """Davis and Kahan's bound on how far two right projectors of that rank lie apart, in the Frobenius norm (T15)."""
    length = tensor.shape[mode]
    values = np.append(spectrum_of(tensor, mode), 0.0)
    rounded = 2 * math.sqrt(length) * gamma(2, tensor.dtype) + LAPACK_THRESHOLD * length * ROUNDOFF
    if rank == length:
        return rounded
    gap = float(values[min(rank, len(values)) - 1] - values[rank]) if rank < len(values) else 0.0
    norm = float(np.linalg.norm(values))
    perturbation = 2 * math.sqrt(length) * singular_value_bound(tensor.size, norm, np.float64)
    return rounded + (2 * math.sqrt(2) * perturbation / gap if gap > 2 * perturbation else math.inf)


def tie_error(tensor):
    """By how much a cumulative energy is off in float64, over |A|^2 (T15), with a margin of 2 for two evaluations."""
    backward = math.sqrt(max(tensor.shape)) * LAPACK_THRESHOLD * tensor.size * ROUNDOFF
    return 2 * (2 * backward + backward**2)


# unfold, fold, mode_product


@given(tensor=tensors(), data=st.data())
def test_unfold_is_the_specification_s_and_fold_undoes_it_in_every_layout(tensor, data):
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    matrix = unfold(tensor, mode)
    assert_same_bits(matrix.astype(np.float64), spec.unfold(tensor.astype(np.float64), mode))
    assert matrix.dtype == tensor.dtype
    layout = data.draw(st.sampled_from(LAYOUTS), label="layout of the matrix")
    assert_same_bits(fold(with_layout(matrix, layout), mode, tensor.shape), tensor)


@given(tensor=tensors(scaled=False), data=st.data())
def test_mode_product_is_the_specification_s(tensor, data):
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    rows = data.draw(st.integers(1, 4), label="rows")
    matrix = data.draw(tensors(shape=(rows, tensor.shape[mode]), dtype=tensor.dtype, scaled=False), label="matrix")
    product = mode_product(tensor, matrix, mode)
    wide_tensor, wide_matrix = tensor.astype(np.float64), matrix.astype(np.float64)
    majorant = spec.mode_product(np.abs(wide_tensor), np.abs(wide_matrix), mode)
    allowed = inner_product_bound(2 * tensor.shape[mode], majorant, tensor.dtype)
    assert_within(product, spec.mode_product(wide_tensor, wide_matrix, mode), allowed)
    assert product.dtype == tensor.dtype
    assert product.flags.c_contiguous


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4))
@example([(2, 6), (2, 5)])
@example([(4, 3), (3, 1), (2, 2)])
def test_products_along_all_modes_take_the_cheaper_of_the_two_directions(shapes):
    def cost(modes):
        lengths, total = [length for _, length in shapes], 0
        for mode in modes:
            total += shapes[mode][0] * math.prod(lengths)
            lengths[mode] = shapes[mode][0]
        return total

    modes = range(len(shapes))
    tensor, matrices = np.ones([length for _, length in shapes]), [np.ones(shape) for shape in shapes]
    assert multiply_adds(mode_products, tensor, matrices) == min(cost(modes), cost(modes[::-1]))


@given(tensor=tensors(minimum_axes=2), eps=explained_variances, data=st.data())
def test_T1_the_projections_are_idempotent_and_commute(tensor, eps, data):
    stored = hosvd(tensor, eps)
    i, j = data.draw(st.permutations(range(tensor.ndim)), label="modes")[:2]
    view = measured(tensor, stored)
    first, second = projector(stored.factors[i]), projector(stored.factors[j])
    once = mode_product(view.exact, first, i)
    allowed = view.rounding * view.norm
    assert_within(mode_product(once, first, i), once, allowed, "idempotent")
    one_way, other_way = mode_product(once, second, j), mode_product(mode_product(view.exact, second, j), first, i)
    assert_within(one_way, other_way, allowed, "commute")
    inner = float(np.sum(once * (view.exact - once)))
    assert_within(inner, 0.0, allowed * view.norm, "orthogonal")


# spectra and ranks


@given(tensor=tensors(longest=4), data=st.data())
def test_T15_singular_values_are_the_specification_s_within_Weyl(tensor, data):
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    wide = tensor.astype(np.float64)
    expected = spec.jacobi_svd(spec.unfold(wide, mode))[1]
    values = singular_values(tensor, mode)
    allowed = 2 * singular_value_bound(wide.size, float(np.linalg.norm(expected)), np.float64)
    rounded = unit_roundoff(tensor.dtype) * expected + float(np.finfo(tensor.dtype).smallest_subnormal)
    assert_within(values, expected, allowed + rounded)
    assert values.dtype == tensor.dtype
    assert (np.diff(values) <= 0).all()
    assert values[-1] >= 0


@given(tensor=tensors(longest=4, scaled=False), data=st.data())
def test_T15_the_squares_of_gram_singular_values_are_within_their_bound(tensor, data):
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    exact = spectrum_of(tensor, mode)
    exponent = -math.frexp(float(np.abs(tensor).max()))[1]
    values = np.ldexp(singular_values(tensor, mode, method="gram").astype(np.float64), exponent)
    rows, columns = tensor.shape[mode], tensor.size // tensor.shape[mode]
    energy = float(np.sum(exact**2))
    svd_error = singular_value_bound(max(rows, columns), math.sqrt(energy), np.float64)
    allowed = gram_energy_bound(rows, columns, energy) + 2 * exact * svd_error + svd_error**2
    # A value rounded to float32 moves its square by two roundings.
    assert_within(values**2, exact**2, allowed + gamma(4, tensor.dtype) * exact**2)


@st.composite
def spectra(draw):
    """Descending values with many ties and zeros, or any."""
    dtype = draw(st.sampled_from([np.float32, np.float64]), label="dtype")
    small = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=12)
    anything = st.lists(st.floats(0.0, 1e3, width=32), min_size=1, max_size=12)
    values = np.array(sorted(draw(small | anything, label="values"), reverse=True), dtype=dtype)
    return np.ldexp(values, draw(st.sampled_from([0, 40, -40]), label="exponent"))


@given(spectrum=spectra(), eps=explained_variances)
@example(spectrum=np.ones(5), eps=0.8)
@example(spectrum=np.array([1.0, 2.0**-600]), eps=1.0)
def test_D1_the_rank_is_the_specification_s_in_rational_arithmetic(spectrum, eps):
    """Off a tie by more than the rounding of a sum of squares, the rank is just the specification's."""
    rank = explained_variance_rank(spectrum, eps)
    off = Fraction(gamma(len(spectrum) + 4, np.float64))
    exact = Fraction(repr(eps))
    low = spec.explained_variance_rank(spectrum, max(exact - off, Fraction(1, 10**12)))
    high = spec.explained_variance_rank(spectrum, min(exact + off, Fraction(1)))
    assert low <= rank <= high
    if eps == 1.0:
        assert rank == max(1, np.count_nonzero(spectrum)) == spec.explained_variance_rank(spectrum, Fraction(1))


@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=12), sixteenths=st.integers(1, 16))
def test_D1_at_dyadic_ties_the_rank_is_exact(values, sixteenths):
    spectrum = np.array(sorted(values, reverse=True), dtype=np.float64)
    expected = spec.explained_variance_rank(spectrum, Fraction(sixteenths, 16))
    assert explained_variance_rank(spectrum, sixteenths / 16) == expected


@given(spectrum=spectra(), eps=explained_variances, error=st.sampled_from([0.0, 1e-12, 1e-3, 0.2]))
def test_D1_admissible_ranks_are_those_of_the_specification_with_the_threshold_moved(spectrum, eps, error):
    low, high = admissible_ranks(spectrum, eps, error)
    assert 1 <= low <= explained_variance_rank(spectrum, eps) <= high <= len(spectrum)
    if error == 0.0 or not spectrum.any():
        assert low == high
        return
    off = Fraction(gamma(len(spectrum) + 4, np.float64))
    least, greatest = Fraction(repr(eps)) - Fraction(error), Fraction(repr(eps)) + Fraction(error)
    assert low >= spec.explained_variance_rank(spectrum, max(least - off, Fraction(1, 10**12)))
    if least + off > 0:
        assert low <= spec.explained_variance_rank(spectrum, min(least + off, Fraction(1)))
    if greatest + off <= 1:
        assert high <= spec.explained_variance_rank(spectrum, greatest + off)
    if greatest - off <= 1:
        assert high >= spec.explained_variance_rank(spectrum, greatest - off)
    else:
        assert high == len(spectrum)


@given(tensor=tensors(longest=4), eps=explained_variances)
def test_D1_hosvd_ranks_are_admissible_by_the_specification_s_spectra(tensor, eps):
    stored = hosvd(tensor, eps)
    wide = tensor.astype(np.float64)
    for mode, rank in enumerate(stored.multilinear_rank):
        low, high = admissible_ranks(spec.jacobi_svd(spec.unfold(wide, mode))[1], eps, tie_error(tensor))
        assert low <= rank <= high
        if tensor.dtype == np.float64:
            assert rank == explained_variance_rank(singular_values(tensor, mode), eps)


@given(tensor=tensors(), eps=explained_variances, decompose=decompositions, data=st.data())
def test_T15_gram_and_svd_give_the_same_ranks_and_nearly_the_same_energies(tensor, eps, decompose, data):
    by_svd, by_gram = decompose(tensor, eps), decompose(tensor, eps, method="gram")
    if decompose is sequential_hosvd:
        # From the second step on, the cores that the steps start from are rounded differently.
        core = np.ldexp(tensor.astype(np.float64), -math.frexp(float(np.abs(tensor).max()))[1])
        assert by_gram.multilinear_rank[0] == by_svd.multilinear_rank[0]
        for mode, factor in enumerate(by_gram.factors):
            values = np.linalg.svd(np.moveaxis(core, mode, 0).reshape(core.shape[mode], -1), compute_uv=False)
            error = tie_error(tensor) + gamma(tensor.size, tensor.dtype) * tensor.ndim
            low, high = admissible_ranks(values, eps, error)
            assert low <= factor.shape[1] <= high
            core = mode_product(core, np.ascontiguousarray(factor.T.astype(np.float64)), mode)
        return
    assert by_gram.multilinear_rank == by_svd.multilinear_rank
    modes = (0,) if decompose is svd else range(tensor.ndim)
    for mode, ours, theirs in zip(modes, by_gram.discarded_fraction, by_svd.discarded_fraction, strict=True):
        rows, columns = tensor.shape[mode], tensor.size // tensor.shape[mode]
        assert_within(ours, theirs, 2 * rows * gram_energy_bound(rows, columns) + tie_error(tensor))


# energies and errors


@given(tensor=tensors(), eps=explained_variances, decompose=decompositions, method=methods)
def test_T2_the_kept_and_the_lost_energy_add_up_and_the_core_holds_what_is_kept(tensor, eps, decompose, method):
    stored = decompose(tensor, eps, method=method)
    view = measured(tensor, stored)
    energy, slack = view.norm**2, view.rounding * view.norm**2
    kept = float(np.sum(view.approximate**2))
    # |A~| and |A - A~| each move by at most `rounding` |A|, their squares by twice that and its square.
    assert_within(kept + view.error**2, energy, 2 * (2 + view.rounding) * slack)
    assert_within(float(np.linalg.norm(view.core)), math.sqrt(kept), 2 * view.rounding * view.norm)
    exponent = math.frexp(float(np.abs(tensor).max()))[1]
    assert_within(math.ldexp(stored.norm, -exponent), view.norm, gamma(tensor.size + 4, np.float64) * view.norm)


@given(tensor=tensors(), eps=explained_variances, method=methods)
def test_T3_error_between_max_and_sum_of_discarded_energies(tensor, eps, method):
    stored = hosvd(tensor, eps, method=method)
    view = measured(tensor, stored, method)
    slack = view.rounding * view.norm
    assert math.sqrt(view.tau.max()) - slack <= view.error <= math.sqrt(view.tau.sum()) + slack
    assert view.error <= stored.relative_error_bound * view.norm + slack
    one_rounding = 1 + gamma(8, np.float64)
    for fraction in stored.discarded_fraction:
        assert fraction <= (1 - eps) * one_rounding + gamma(2, np.float64)
    if np.abs(tensor).max() > 0 and np.linalg.norm(tensor.astype(np.float64)) < 1e100:
        for fraction, energy in zip(stored.discarded_fraction, stored.discarded_energy, strict=True):
            assert_within(energy, fraction * stored.norm**2, gamma(4, np.float64) * energy + np.finfo(np.float64).tiny)


@given(tensor=tensors(scaled=False), data=st.data())
def test_T3_discarded_energies_are_what_the_factors_leave_out(tensor, data):
    """tau_j = |A - A x_j P_j|^2: computed from singular values, compared with the projection itself."""
    ranks = [data.draw(st.integers(1, length), label="rank") for length in tensor.shape]
    stored = hosvd(tensor, ranks=ranks)
    view = measured(tensor, stored)
    assert stored.multilinear_rank == tuple(ranks)
    for mode, factor in enumerate(stored.factors):
        left_out = view.exact - mode_product(view.exact, projector(factor), mode)
        assert_within(math.sqrt(view.tau[mode]), float(np.linalg.norm(left_out.ravel())), view.rounding * view.norm)


def improved(tensor, factors, sweeps=3):
    """Alternating least squares from the given factors: another approximation at the same ranks, often a better one."""
    factors = [factor.astype(np.float64) for factor in factors]
    for _ in range(sweeps):
        for mode in range(tensor.ndim):
            rest = tensor
            for other, factor in enumerate(factors):
                if other != mode:
                    rest = mode_product(rest, np.ascontiguousarray(factor.T), other)
            left = np.linalg.svd(unfold(rest, mode), full_matrices=True)[0]
            factors[mode] = left[:, : factors[mode].shape[1]]
    return factors


@given(tensor=tensors(scaled=False, minimum_axes=2, longest=4), decompose=tucker_decompositions, data=st.data())
def test_T4_no_approximation_at_the_same_ranks_is_better_by_more_than_the_root_of_d(tensor, decompose, data):
    ranks = [data.draw(st.integers(1, length), label="rank") for length in tensor.shape]
    stored = decompose(tensor, ranks=ranks)
    view = measured(tensor, stored)
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    start = [np.linalg.qr(generator.standard_normal((n, k)))[0] for n, k in zip(tensor.shape, ranks, strict=True)]
    for factors in (improved(view.exact, stored.factors), improved(view.exact, start)):
        rival = view.exact
        for mode, factor in enumerate(factors):
            rival = mode_product(rival, factor @ factor.T, mode)
        best = float(np.linalg.norm((view.exact - rival).ravel()))
        assert view.error <= math.sqrt(tensor.ndim) * best + 2 * view.rounding * view.norm


@given(
    tensor=tensors(),
    eps=explained_variances,
    other=explained_variances,
    decompose=st.sampled_from([svd, hosvd]),
    method=methods,
)
def test_T5_ranks_grow_and_errors_fall_with_the_explained_variance(tensor, eps, other, decompose, method):
    low, high = (decompose(tensor, each, method=method) for each in sorted((eps, other)))
    assert all(k <= more for k, more in zip(low.multilinear_rank, high.multilinear_rank, strict=True))
    if method == "svd":
        assert all(tau >= less for tau, less in zip(low.discarded_fraction, high.discarded_fraction, strict=True))
    view, better = measured(tensor, low, method), measured(tensor, high, method)
    assert better.error <= view.error + 2 * view.rounding * view.norm
    if eps == other:
        assert_same_bits(low.reconstruct(), high.reconstruct())


@given(tensor=tensors(), decompose=decompositions, method=methods)
def test_T6_an_explained_variance_of_one_gives_the_tensor_back(tensor, decompose, method):
    view = measured(tensor, decompose(tensor, 1.0, method=method))
    assert view.error <= view.rounding * view.norm


@given(tensor=tensors(), decompose=tucker_decompositions)
def test_T6_ranks_as_large_as_the_modes_give_the_tensor_back(tensor, decompose):
    stored = decompose(tensor, ranks=tensor.shape)
    view = measured(tensor, stored)
    assert stored.multilinear_rank == tensor.shape
    assert view.error <= view.rounding * view.norm


@given(tensor=tensors(), eps=explained_variances, seed=st.integers(0, 2**32 - 1))
def test_T7_the_error_of_the_SVD_is_tau_and_no_matrix_of_its_rank_is_nearer(tensor, eps, seed):
    stored = svd(tensor, eps)
    view = measured(tensor, stored)
    slack = view.rounding * view.norm
    assert_within(view.error, math.sqrt(view.tau[0]), slack)
    assert view.error <= math.sqrt(1 - eps) * view.norm + slack
    matrix = unfold(view.exact, 0)
    (rank,) = stored.multilinear_rank
    generator = np.random.default_rng(seed)
    rival = generator.standard_normal((matrix.shape[0], rank))
    for _ in range(3):
        rival = np.linalg.qr(matrix @ (matrix.T @ rival) + ROUNDOFF * rival)[0]
        assert float(np.linalg.norm(matrix - rival @ (rival.T @ matrix))) >= view.error - 2 * slack


@given(matrix=tensors(minimum_axes=2, maximum_axes=2, longest=8), eps=explained_variances, method=methods)
@example(matrix=np.array([[1.0, -1.0], [-1.0, -1.0]]), eps=0.5, method="svd")
@example(matrix=np.diag([5.0, 4.0, 1.0, 0.5]), eps=0.9, method="gram")
def test_T7_on_a_matrix_the_SVD_and_the_HOSVD_are_the_same(matrix, eps, method):
    """They are where s_K > s_{K+1}: where the two are equal, U_1 and U_2 need not belong to the same singular pairs."""
    (rank,) = svd(matrix, eps, method=method).multilinear_rank
    by_svd = svd(matrix, rank=rank)
    by_hosvd = hosvd(matrix, ranks=(rank, rank))
    view, other = measured(matrix, by_svd), measured(matrix, by_hosvd)
    slack = (view.rounding + other.rounding) * view.norm
    turned = sum(projector_allowance(matrix, mode, rank) for mode in (0, 1))
    assert_within(view.approximate, other.approximate, slack + min(turned, 2.0) * view.norm)
    assert view.error - slack <= other.error <= math.sqrt(2) * view.error + slack
    event("determined" if turned < 2.0 else "not determined")


@given(tensor=tensors(), data=st.data())
def test_T8_the_sequential_error_is_the_sum_of_what_the_steps_discard(tensor, data):
    order = data.draw(st.permutations(range(tensor.ndim)), label="order")
    if data.draw(st.booleans(), label="fixed ranks"):
        ranks = [data.draw(st.integers(1, length), label="rank") for length in tensor.shape]
        stored = sequential_hosvd(tensor, ranks=ranks, order=order)
    else:
        stored = sequential_hosvd(tensor, data.draw(explained_variances, label="eps"), order=order)
    view = measured(tensor, stored)
    slack = view.rounding * view.norm
    assert_within(view.error, math.sqrt(view.tau.sum()), slack)
    assert_within(view.error, stored.relative_error_bound * view.norm, slack)
    plain = measured(tensor, hosvd(tensor, ranks=stored.multilinear_rank))
    for step, whole in zip(view.tau, plain.tau, strict=True):
        assert math.sqrt(step) <= math.sqrt(whole) + slack


# against the specification


@given(tensor=tensors(longest=4, dtype=np.float64), eps=explained_variances)
@example(tensor=tensor_with_spectrum(np.random.default_rng(0), (3, 4, 2, 3), "steep"), eps=0.99)
def test_D3_hosvd_is_the_specification_s_as_far_as_the_gaps_determine_it(tensor, eps):
    stored = hosvd(tensor, eps)
    core, factors = spec.hosvd(tensor, ranks=stored.multilinear_rank)
    turned = 0.0
    for mode, (ours, theirs) in enumerate(zip(stored.factors, factors, strict=True)):
        allowed = projector_allowance(tensor, mode, ours.shape[1])
        assert float(np.linalg.norm(projector(ours) - projector(theirs))) <= allowed
        turned += allowed
    view = measured(tensor, stored)
    exponent = -math.frexp(float(np.abs(tensor).max()))[1]
    theirs = np.ldexp(spec.reconstruct(core, factors), exponent)
    assert_within(view.approximate, theirs, (2 * view.rounding + min(turned, 2.0)) * view.norm)
    event("determined" if turned < 2.0 else "not determined")


@given(tensor=tensors(longest=4, dtype=np.float64), eps=explained_variances, data=st.data())
def test_D4_sequential_hosvd_is_the_specification_s_as_far_as_the_gaps_determine_it(tensor, eps, data):
    order = data.draw(st.permutations(range(tensor.ndim)), label="order")
    stored = sequential_hosvd(tensor, eps, order=order)
    core, factors = spec.sequential_hosvd(tensor, ranks=stored.multilinear_rank, order=order)
    view = measured(tensor, stored)
    exponent = -math.frexp(float(np.abs(tensor).max()))[1]
    turned, left = 0.0, view.exact
    for mode in order:
        # What the steps before turned, the core of this step is off by; its gap has to bear it.
        rank = stored.multilinear_rank[mode]
        here = projector_allowance(left, mode, rank)
        values = np.append(np.linalg.svd(unfold(left, mode), compute_uv=False), 0.0)
        gap = float(values[rank - 1] - values[rank]) if rank < len(values) else math.inf
        if rank < left.shape[mode] and turned:
            moved = turned * view.norm
            here += 2 * math.sqrt(2) * moved / gap if gap > 2 * moved else math.inf
        turned += here
        left = mode_product(left, np.ascontiguousarray(stored.factors[mode].T), mode)
    theirs = np.ldexp(spec.reconstruct(core, factors), exponent)
    assert_within(view.approximate, theirs, (2 * view.rounding + min(turned, 2.0)) * view.norm)
    event("determined" if turned < 2.0 else "not determined")


@given(tensor=tensors(longest=4, dtype=np.float64), eps=explained_variances, method=methods)
def test_D2_svd_is_the_specification_s_as_far_as_the_gap_determines_it(tensor, eps, method):
    stored = svd(tensor, eps, method=method)
    (rank,) = stored.multilinear_rank
    left, right = spec.truncated_svd(tensor, rank=rank)
    view = measured(tensor, stored, method)
    exponent = -math.frexp(float(np.abs(tensor).max()))[1]
    turned = projector_allowance(tensor, 0, rank)
    theirs = np.ldexp(left, exponent) @ right
    ours = view.approximate.reshape(theirs.shape)
    assert_within(ours, theirs, (2 * view.rounding + min(turned, 2.0)) * view.norm)
    values = np.linalg.norm(np.ldexp(left, exponent), axis=0)
    if method == "svd":
        assert_within(view.core, values, 2 * view.rounding * view.norm)
    else:
        # `rounding` is the root of the error of an energy, and so bounds the error of every value.
        assert_within(np.sort(view.core)[::-1], values, 2 * view.rounding * view.norm)


# factors and what is stored


@given(tensor=tensors(), eps=explained_variances, decompose=decompositions, method=methods)
def test_factors_are_orthonormal_compact_and_counted(tensor, eps, decompose, method):
    before = tensor.copy()
    stored = decompose(tensor, eps, method=method)
    assert_same_bits(tensor, before, "the input")
    assert stored.shape == tensor.shape
    assert stored.dtype == tensor.dtype
    arrays = [stored.left, stored.right] if isinstance(stored, LowRank) else [stored.core, *stored.factors]
    assert stored.nbytes == sum(array.nbytes for array in arrays)
    for array in arrays:
        assert array.dtype == tensor.dtype
        assert array.base is None
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    ranks = stored.multilinear_rank
    if isinstance(stored, LowRank):
        length = tensor.size // tensor.shape[0]
        assert stored.stored_numbers == ranks[0] * (tensor.shape[0] + length)
        bases = [] if method == "gram" else [stored.factors[1].T]
    else:
        assert stored.stored_numbers == math.prod(ranks) + sum(n * k for n, k in zip(tensor.shape, ranks, strict=True))
        bases = stored.factors
    for basis in bases:
        wide = basis.astype(np.float64)
        allowed = LAPACK_THRESHOLD * tensor.size * ROUNDOFF + 2 * gamma(2, tensor.dtype)
        assert_within(wide.T @ wide, np.eye(wide.shape[1]), allowed)


@given(tensor=tensors(minimum_axes=2), data=st.data())
def test_D2_gram_leaves_rows_of_V_orthogonal_within_the_documented_bound(tensor, data):
    rank = data.draw(st.integers(1, min(tensor.shape[0], tensor.size // tensor.shape[0])), label="rank")
    stored = svd(tensor, rank=rank, method="gram")
    rows, columns = tensor.shape[0], tensor.size // tensor.shape[0]
    wide = stored.factors[1].astype(np.float64)
    view = measured(tensor, stored, "gram")
    values = view.core
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(view.norm**2 / np.multiply.outer(values, values), nan=np.inf)
    lost = gram_energy_bound(rows, columns) * np.minimum(ratio, 1 / gram_energy_bound(rows, columns))
    # s_i s_j (V^T V)_ij = u_i^T (A A^T) u_j is off by the backward error of the eigenvectors; each row is rounded.
    allowed = 2 * lost + LAPACK_THRESHOLD * tensor.size * ROUNDOFF + 2 * gamma(columns, tensor.dtype)
    assert_within(wide @ wide.T, np.eye(rank), allowed)


@given(tensor=tensors(minimum_axes=2))
def test_D3_the_full_core_is_all_orthogonal_and_its_slices_are_as_long_as_the_singular_values(tensor):
    """S_(j) S_(j)^T = diag(s_j^2) for the untruncated HOSVD."""
    stored = hosvd(tensor, ranks=tensor.shape)
    view = measured(tensor, stored)
    for mode in range(tensor.ndim):
        slices = unfold(view.core, mode)
        values = spectrum_of(tensor, mode)
        expected = np.zeros(len(slices))
        expected[: len(values)] = values**2
        assert_within(slices @ slices.T, np.diag(expected), 2 * (2 + view.rounding) * view.rounding * view.norm**2)


# symmetries


def arrays_of(stored):
    return [stored.left, stored.right] if isinstance(stored, LowRank) else [stored.core, *stored.factors]


@given(tensor=tensors(scaled=False), eps=explained_variances, decompose=decompositions, method=methods, data=st.data())
def test_T21_a_power_of_two_changes_the_core_by_just_that_power(tensor, eps, decompose, method, data):
    """To the last bit: neither squares that overflow nor squares that vanish may decide anything."""
    largest = 100 if tensor.dtype == np.float32 else 900
    # Where a number of the tensor becomes subnormal, it is not the same tensor any more.
    smallest = np.abs(tensor[tensor != 0]).min() if tensor.any() else tensor.dtype.type(1)
    floor = np.finfo(tensor.dtype).minexp - math.frexp(float(smallest))[1] + 1
    power = data.draw(st.integers(max(floor, -largest), largest), label="power")
    plain = decompose(tensor, eps, method=method)
    scaled = decompose(np.ldexp(tensor, power), eps, method=method)
    assert scaled.multilinear_rank == plain.multilinear_rank
    assert scaled.discarded_fraction == plain.discarded_fraction
    assert scaled.norm == math.ldexp(plain.norm, power)
    (core, *factors), (before, *expected) = arrays_of(scaled), arrays_of(plain)
    for after, factor in zip(factors, expected, strict=True):
        assert_same_bits(after, factor)
    # A number that is subnormal before or after has been rounded there; any other is the same to the last bit.
    subnormal = float(np.finfo(tensor.dtype).smallest_subnormal)
    assert_within(core, np.ldexp(before.astype(np.float64), power), math.ldexp(subnormal, max(power, 0)))
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    values = np.ldexp(singular_values(tensor, mode, method=method).astype(np.float64), power)
    after = singular_values(np.ldexp(tensor, power), mode, method=method)
    assert_within(after, values, math.ldexp(subnormal, max(power, 0)))


@given(tensor=tensors(), eps=explained_variances, decompose=decompositions, method=methods)
def test_the_memory_layout_changes_no_bit(tensor, eps, decompose, method):
    expected = decompose(np.array(tensor, order="C"), eps, method=method)
    for layout in LAYOUTS:
        stored = decompose(with_layout(tensor, layout), eps, method=method)
        for array, other in zip(arrays_of(stored), arrays_of(expected), strict=True):
            assert_same_bits(array, other, layout)
        assert (stored.norm, stored.discarded_fraction) == (expected.norm, expected.discarded_fraction)


@given(tensor=tensors(dtype=np.float32), eps=explained_variances, decompose=decompositions, method=methods)
def test_float32_gives_the_float64_result_rounded_once(tensor, eps, decompose, method):
    narrow, wide = decompose(tensor, eps, method=method), decompose(tensor.astype(np.float64), eps, method=method)
    assert narrow.multilinear_rank == wide.multilinear_rank
    assert narrow.discarded_fraction == wide.discarded_fraction
    assert narrow.norm == wide.norm
    for array, other in zip(arrays_of(narrow), arrays_of(wide), strict=True):
        assert_same_bits(array, other.astype(np.float32))


@given(tensor=tensors(dtype=np.float64, scaled=False), data=st.data())
def test_T15_rounding_the_input_to_float32_moves_singular_values_by_no_more_than_the_rounding(tensor, data):
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    norm = float(np.linalg.norm(tensor.ravel()))
    tiny = math.sqrt(tensor.size) * float(np.finfo(np.float32).smallest_subnormal)
    allowed = 3 * unit_roundoff(np.float32) * norm + tiny + 2 * singular_value_bound(tensor.size, norm, np.float64)
    assert_within(singular_values(tensor.astype(np.float32), mode), singular_values(tensor, mode), allowed)


@given(tensor=tensors(scaled=False), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_T21_an_orthogonal_matrix_on_a_mode_turns_that_factor_and_no_other(tensor, seed, data):
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    ranks = [data.draw(st.integers(1, length), label="rank") for length in tensor.shape]
    wide = tensor.astype(np.float64)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((tensor.shape[mode],) * 2))[0]
    plain, turned = hosvd(wide, ranks=ranks), hosvd(mode_product(wide, turn, mode), ranks=ranks)
    for j, (before, after) in enumerate(zip(plain.factors, turned.factors, strict=True)):
        expected = turn @ projector(before) @ turn.T if j == mode else projector(before)
        assert float(np.linalg.norm(projector(after) - expected)) <= 2 * projector_allowance(wide, j, ranks[j])
    # `rounding` covers the backward error of the turn too, a product of length n_j.
    for ours, theirs in zip(plain.discarded_fraction, turned.discarded_fraction, strict=True):
        assert_within(math.sqrt(ours), math.sqrt(theirs), 2 * rounding(tensor.shape, np.float64))


@given(tensor=tensors(scaled=False, minimum_axes=2), eps=explained_variances, data=st.data())
def test_T21_permuted_and_duplicated_samples_and_zero_rows_leave_the_other_modes_alone(tensor, eps, data):
    """Duplicating scales the other modes' squared values by the count, which changes no rank; zero rows add nothing."""
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    permutation = data.draw(st.permutations(range(tensor.shape[mode])), label="permutation")
    wide = tensor.astype(np.float64)
    change = data.draw(st.sampled_from(["permute", "duplicate", "append zeros"]), label="change")
    if change == "permute":
        changed = np.take(wide, permutation, axis=mode)
    elif change == "duplicate":
        changed = np.concatenate([wide, wide], axis=mode)
    else:
        changed = np.concatenate([wide, np.zeros_like(wide)], axis=mode)
    plain = hosvd(wide, eps)
    others = [j for j in range(wide.ndim) if j != mode]
    for j in others:
        # As many values as the changed unfolding may have: eps = 1 keeps those that rounding makes of a zero.
        values = spectrum_of(wide, j)
        values = np.append(values, np.zeros(wide.shape[j] - len(values)))
        low, high = admissible_ranks(values, eps, 2 * tie_error(changed))
        assert low <= hosvd(changed, eps).multilinear_rank[j] <= high
    ranks = list(plain.multilinear_rank)
    same = hosvd(changed, ranks=ranks)
    for j in others:
        allowed = projector_allowance(wide, j, ranks[j]) + projector_allowance(changed, j, ranks[j])
        assert float(np.linalg.norm(projector(same.factors[j]) - projector(plain.factors[j]))) <= allowed
