"""The executable specification against others: NumPy's indexing, LAPACK, and PyTorch's float64 autograd."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from refgrad import specification as spec
from refgrad.rounding import LAPACK_THRESHOLD, gamma, inner_product_bound, singular_value_bound, unit_roundoff
from tests.assertions import assert_same_bits, assert_within
from tests.strategies import conv_cases, explained_variances, tensors

torch = pytest.importorskip("torch", reason="PyTorch's float64 autograd is the third party here")

ROUNDOFF = unit_roundoff(np.float64)
plain_tensors = tensors(dtype=np.float64, scaled=False)
plain_matrices = tensors(dtype=np.float64, scaled=False, minimum_axes=2, maximum_axes=2, longest=8)
small_convs = conv_cases(dtype=np.float64, longest=5)


def norm(array):
    return float(np.linalg.norm(np.ravel(array)))


def lapack_values(tensor, mode):
    """The singular values of an unfolding, from somebody else."""
    return np.linalg.svd(np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1), compute_uv=False)


def singular_value_allowance(tensor):
    """How far singular values of theirs and of ours can lie apart (T15); no unfolding has a side longer than N."""
    return 2 * singular_value_bound(tensor.size, norm(tensor), np.float64)


def energy_allowance(tensor):
    """What this does to the sums of their squares in every mode: a value s moves its square by 2 s delta + delta^2."""
    delta = singular_value_allowance(tensor)
    most = max(tensor.shape)
    return (tensor.ndim + 2) * (2 * math.sqrt(most) * delta * norm(tensor) + most * delta**2)


def integers(array):
    """Small whole numbers: their products and sums are exact in any order, so that right answers agree bit for bit."""
    return np.rint(4 * np.tanh(array))


def tensor_of(array, *, grad=False):
    return torch.tensor(np.array(array, order="C"), requires_grad=grad)


def torch_convolution(case, *, absolute=False, x=None):
    """Output and the three gradients by PyTorch; of absolute values, the majorants of T15."""
    size = np.abs if absolute else np.asarray
    x = tensor_of(size(case.x if x is None else x), grad=True)
    weight, bias = tensor_of(size(case.weight), grad=True), tensor_of(size(case.bias), grad=True)
    (top, bottom), (left, right) = case.padding
    output = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (left, right, top, bottom)),
        weight,
        bias,
        stride=case.stride,
        dilation=case.dilation,
        groups=case.groups,
    )
    output.backward(tensor_of(size(case.grad_output)))
    return [part.detach().numpy() for part in (output, x.grad, weight.grad, bias.grad)]


def our_convolution(case, x=None):
    x = case.x if x is None else x
    return [
        spec.conv2d(x, case.weight, case.bias, **case.attributes),
        spec.conv2d_input_gradient(case.grad_output, case.weight, x.shape[2:], **case.attributes),
        spec.conv2d_weight_gradient(x, case.grad_output, case.weight.shape[2:], **case.attributes),
        spec.conv2d_bias_gradient(case.grad_output),
    ]


def sum_lengths(case):
    """How many products the entries of output, dA, dW and db sum, plus one for the product and one for the bias."""
    out_channels, inside, *kernel = case.weight.shape
    positions = case.grad_output.size // out_channels
    return [
        math.prod((inside, *kernel)) + 2,
        math.prod((out_channels // case.groups, *kernel)) + 2,
        positions + 2,
        positions + 2,
    ]


def whole_numbers(case):
    return type(case)(
        *(integers(part) for part in (case.x, case.weight, case.bias, case.grad_output)), **case.attributes
    )


# Tensors


@given(plain_tensors)
def test_unfold_is_numpys_moveaxis_and_reshape_and_fold_undoes_it(tensor):
    for mode in range(tensor.ndim):
        unfolded = spec.unfold(tensor, mode)
        assert_same_bits(unfolded, np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1))
        assert_same_bits(spec.fold(unfolded, mode, tensor.shape), tensor)


@given(plain_tensors, st.integers(1, 4), st.data())
def test_mode_product_multiplies_the_unfolding(tensor, rows, data):
    tensor = integers(tensor)
    mode = data.draw(st.integers(0, tensor.ndim - 1))
    matrix = integers(data.draw(tensors(shape=(rows, tensor.shape[mode]), dtype=np.float64, scaled=False)))
    expected = np.moveaxis(np.tensordot(matrix, tensor, axes=(1, mode)), 0, mode)
    assert_same_bits(spec.mode_product(tensor, matrix, mode), expected)


@given(tensors(dtype=np.float64, minimum_axes=3, maximum_axes=3))
def test_T1_projections_onto_modes_are_idempotent_and_commute(tensor):
    first, second = (spec.orthonormal_columns(np.ones((tensor.shape[mode], 1))) for mode in (0, 2))
    projected = spec.mode_product(tensor, first @ first.T, 0)
    majorant = spec.mode_product(np.abs(tensor), first @ first.T, 0)
    assert_within(
        spec.mode_product(projected, first @ first.T, 0),
        projected,
        inner_product_bound(12 + len(tensor), majorant, np.float64),
    )
    one = spec.mode_product(projected, second @ second.T, 2)
    other = spec.mode_product(spec.mode_product(tensor, second @ second.T, 2), first @ first.T, 0)
    assert_within(one, other, inner_product_bound(8, spec.mode_product(majorant, second @ second.T, 2), np.float64))


# Ranks


@given(st.lists(st.floats(0, 1e150), min_size=1, max_size=8), st.one_of(explained_variances, st.fractions(0.01, 1)))
@example([1.0] * 5, 0.8)  # a float that is more than four fifths
@example([1.0] * 5, Fraction(4, 5))
@example([0.0, 0.0], 1.0)
@example([1e-160, 1e-170], 1.0)  # squares that a float cannot hold
def test_D1_rank_is_the_smallest_that_is_enough(values, explained_variance):
    values = sorted(values, reverse=True)
    rank = spec.explained_variance_rank(values, explained_variance)
    kept = [sum(Fraction(value) ** 2 for value in values[:k]) for k in range(len(values) + 1)]
    wanted = Fraction(explained_variance) * kept[-1]
    assert 1 <= rank <= len(values)
    assert kept[rank] >= wanted
    assert rank == 1 or kept[rank - 1] < wanted


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=8), explained_variances, explained_variances)
def test_T5_rank_grows_with_explained_variance(values, one, other):
    values = sorted(values, reverse=True)
    low, high = sorted((one, other))
    assert spec.explained_variance_rank(values, low) <= spec.explained_variance_rank(values, high)


# Decompositions


@given(plain_matrices)
@example(np.zeros((3, 2)))
@example(np.ones((6, 2)))
@example(np.diag([1.0, 1e-20, 0.0]))
def test_jacobi_svd_agrees_with_lapack(matrix):
    left, values, right = spec.jacobi_svd(matrix)
    assert_within(values, np.linalg.svd(matrix, compute_uv=False), singular_value_allowance(matrix))
    allowed = LAPACK_THRESHOLD * max(matrix.shape) * ROUNDOFF
    assert_within(left.T @ left, np.eye(len(left)), allowed)
    assert_within(right @ right.T, np.eye(len(right)), allowed)
    assert_within((left[:, : len(values)] * values) @ right, matrix, allowed * norm(matrix))


@given(plain_tensors, explained_variances)
@example(np.ones((2, 3)), 1.0)
def test_T7_truncated_svd_leaves_just_the_discarded_energy(tensor, explained_variance):
    left, right = spec.truncated_svd(tensor, explained_variance)
    rank = left.shape[1]
    discarded = float(np.sum(lapack_values(tensor, 0)[rank:] ** 2))
    error = norm(tensor - (left @ right).reshape(tensor.shape)) ** 2
    allowed = energy_allowance(tensor)
    assert_within(error, discarded, allowed)
    assert error <= (1 - explained_variance) * norm(tensor) ** 2 + allowed
    assert spec.stored_numbers(None, (left, right)) == rank * (len(tensor) + tensor.size // len(tensor))


@given(plain_tensors, explained_variances)
@example(np.zeros((2, 3, 2)), 0.5)
@example(np.eye(4), 0.5)
def test_T2_T3_hosvd_error_between_the_largest_and_the_sum_of_the_discarded_energies(tensor, explained_variance):
    core, factors = spec.hosvd(tensor, explained_variance)
    restored = spec.reconstruct(core, factors)
    allowed = energy_allowance(tensor)
    error, energy = norm(tensor - restored) ** 2, norm(tensor) ** 2
    discarded = [
        float(np.sum(lapack_values(tensor, mode)[factor.shape[1] :] ** 2)) for mode, factor in enumerate(factors)
    ]
    assert_within(norm(restored) ** 2 + error, energy, allowed, "T2")
    assert_within(norm(core) ** 2, norm(restored) ** 2, allowed, "T2: |S| = |A~|")
    assert max(discarded) - allowed <= error <= sum(discarded) + allowed
    assert sum(discarded) <= tensor.ndim * (1 - explained_variance) * energy + allowed
    for factor in factors:
        assert_within(
            factor.T @ factor, np.eye(factor.shape[1]), LAPACK_THRESHOLD * tensor.size * ROUNDOFF, "orthonormal factor"
        )
    assert spec.stored_numbers(core, factors) == core.size + sum(factor.size for factor in factors)


@given(plain_tensors)
@example(np.ones((4, 1, 2)))
def test_T6_everything_kept_restores_the_tensor(tensor):
    allowed = singular_value_allowance(tensor)
    for core, factors in (
        spec.hosvd(tensor, 1.0),
        spec.sequential_hosvd(tensor, 1.0),
        spec.hosvd(tensor, ranks=tensor.shape),
    ):
        assert_within(spec.reconstruct(core, factors), tensor, tensor.ndim * allowed)
    left, right = spec.truncated_svd(tensor, 1.0)
    assert_within((left @ right).reshape(tensor.shape), tensor, allowed)


@given(plain_tensors, explained_variances, st.randoms(use_true_random=False))
@example(np.eye(4), 0.5, None)
def test_T8_sequential_error_is_the_sum_of_what_the_steps_discard(tensor, explained_variance, random):
    order = list(range(tensor.ndim))
    if random is not None:
        random.shuffle(order)
    core, factors = spec.sequential_hosvd(tensor, explained_variance, order=order)
    allowed = energy_allowance(tensor)
    left_over, discarded = tensor, 0.0
    for mode in order:
        rank = factors[mode].shape[1]
        step = float(np.sum(lapack_values(left_over, mode)[rank:] ** 2))
        assert step <= (1 - explained_variance) * norm(left_over) ** 2 + allowed, (
            "D4: relative to the core's own energy"
        )
        assert step <= float(np.sum(lapack_values(tensor, mode)[rank:] ** 2)) + allowed
        discarded += step
        left_over = spec.mode_product(left_over, factors[mode].T, mode)
    assert_within(norm(tensor - spec.reconstruct(core, factors)) ** 2, discarded, allowed)
    assert_within(core, left_over, 0.0)


@given(tensors(dtype=np.float64, spectra=("random", "flat", "zero", "low rank")), st.data())
def test_D5_iterate_spans_what_was_multiplied(tensor, data):
    starts = []
    for mode, length in enumerate(tensor.shape):
        columns = data.draw(st.integers(1, length), label=f"K of mode {mode}")
        starts.append(data.draw(tensors(shape=(length, columns), dtype=np.float64, scaled=False)))
    _, factors = spec.subspace_iteration(tensor, starts)
    unit = tensor / (np.abs(tensor).max() or 1.0)
    for mode, (start, factor) in enumerate(zip(starts, factors, strict=True)):
        matrix = np.moveaxis(unit, mode, 0).reshape(len(start), -1)
        iterate = matrix @ (matrix.T @ start)
        allowed = LAPACK_THRESHOLD * len(start) * ROUNDOFF
        assert_within(factor.T @ factor, np.eye(factor.shape[1]), allowed)
        rounding = inner_product_bound(
            tensor.size + 2 * len(start) + 4, np.abs(matrix) @ (np.abs(matrix.T) @ np.abs(start)), np.float64
        )
        for k in range(factor.shape[1]):
            left_over = iterate[:, k] - factor[:, : k + 1] @ (factor[:, : k + 1].T @ iterate[:, k])
            assert norm(left_over) <= allowed * norm(iterate[:, k]) + 2 * norm(rounding[:, k])


@given(tensors(dtype=np.float64, scaled=False, minimum_axes=2), explained_variances)
def test_D5_an_invariant_subspace_stays(tensor, explained_variance):
    core, factors = spec.hosvd(tensor, explained_variance)
    smallest = min(lapack_values(tensor, mode)[factor.shape[1] - 1] for mode, factor in enumerate(factors))
    perturbation = singular_value_bound(tensor.size, norm(tensor) ** 2, np.float64)
    assume(smallest**2 > 100 * perturbation)  # else the smallest direction kept is made of rounding
    again, warm = spec.subspace_iteration(tensor, factors)
    turn = math.sqrt(2) * perturbation / smallest**2
    for old, new in zip(factors, warm, strict=True):
        assert norm(new @ new.T - old @ old.T) <= turn + LAPACK_THRESHOLD * tensor.size * ROUNDOFF
    assert_within(
        spec.reconstruct(again, warm),
        spec.reconstruct(core, factors),
        tensor.ndim * (turn + LAPACK_THRESHOLD * tensor.size * ROUNDOFF) * norm(tensor),
    )


@given(plain_tensors, explained_variances, st.sampled_from([600, -600, 1, -3]))
def test_T21_a_power_of_two_changes_no_bit_of_ranks_and_factors(tensor, explained_variance, exponent):
    for decompose in (spec.hosvd, spec.sequential_hosvd):
        core, factors = decompose(tensor, explained_variance)
        scaled_core, scaled_factors = decompose(np.ldexp(tensor, exponent), explained_variance)
        assert_same_bits(scaled_core, np.ldexp(core, exponent))
        for factor, scaled_factor in zip(factors, scaled_factors, strict=True):
            assert_same_bits(scaled_factor, factor)
    left, right = spec.truncated_svd(tensor, explained_variance)
    scaled_left, scaled_right = spec.truncated_svd(np.ldexp(tensor, exponent), explained_variance)
    assert_same_bits(scaled_left, np.ldexp(left, exponent))
    assert_same_bits(scaled_right, right)


# Layers


@given(small_convs)
def test_D6_convolution_agrees_with_pytorch(case):
    allowed = zip(sum_lengths(case), torch_convolution(case, absolute=True), strict=True)
    allowed = [2 * inner_product_bound(length, majorant, np.float64) for length, majorant in allowed]
    parts = zip(our_convolution(case), torch_convolution(case), allowed, ("output", "dA", "dW", "db"), strict=True)
    for ours, theirs, bound, name in parts:
        assert_within(ours, theirs, bound, name)


@given(small_convs)
def test_D6_convolution_of_whole_numbers_has_pytorchs_bits(case):
    case = whole_numbers(case)
    for ours, theirs in zip(our_convolution(case), torch_convolution(case), strict=True):
        assert_same_bits(ours, theirs)


@given(small_convs)
def test_D6_im2col_is_pytorchs_unfold_and_gives_the_weight_gradient(case):
    case = whole_numbers(case)
    (top, bottom), (left, right) = case.padding
    geometry = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    padded = torch.nn.functional.pad(tensor_of(case.x), (left, right, top, bottom))
    theirs = torch.nn.functional.unfold(padded, case.weight.shape[2:], dilation=case.dilation, stride=case.stride)
    columns = spec.im2col(case.x, case.weight.shape[2:], **geometry)
    assert_same_bits(columns, theirs.permute(0, 2, 1).reshape(columns.shape).numpy())
    inside = case.weight.shape[1]
    gradients = []
    for group, part in enumerate(np.split(case.grad_output, case.groups, axis=1)):
        columns = spec.im2col(case.x[:, group * inside : (group + 1) * inside], case.weight.shape[2:], **geometry)
        gradients.append(np.moveaxis(part, 1, -1).reshape(-1, part.shape[1]).T @ columns)
    expected = np.concatenate(gradients).reshape(case.weight.shape)
    assert_same_bits(
        spec.conv2d_weight_gradient(case.x, case.grad_output, case.weight.shape[2:], **case.attributes), expected
    )


@given(st.integers(1, 3), st.lists(st.integers(1, 4), min_size=2, max_size=4), st.data())
def test_D6_linear_agrees_with_pytorch(out, shape, data):
    of_shape = {"dtype": np.float64, "scaled": False}
    x = data.draw(tensors(shape=tuple(shape), **of_shape))
    weight = data.draw(tensors(shape=(out, shape[-1]), **of_shape))
    bias = data.draw(tensors(shape=(out,), **of_shape))
    grad_output = data.draw(tensors(shape=(*shape[:-1], out), **of_shape))

    def pytorch(size):
        arrays = [tensor_of(size(part), grad=True) for part in (x, weight, bias)]
        output = torch.nn.functional.linear(*arrays)
        output.backward(tensor_of(size(grad_output)))
        return [part.detach().numpy() for part in (output, *(array.grad for array in arrays))]

    ours = [
        spec.linear(x, weight, bias),
        spec.linear_input_gradient(grad_output, weight),
        spec.linear_weight_gradient(x, grad_output),
        spec.linear_bias_gradient(grad_output),
    ]
    lengths = [shape[-1] + 2, out + 2, x.size // shape[-1] + 2, x.size // shape[-1] + 2]
    for length, mine, theirs, majorant in zip(lengths, ours, pytorch(np.asarray), pytorch(np.abs), strict=True):
        assert_within(mine, theirs, 2 * inner_product_bound(length, majorant, np.float64))


@given(small_convs, st.sampled_from(["exact", "svd", "hosvd", "sequential hosvd"]), explained_variances)
def test_D7_T10_step_is_exact_but_for_a_weight_gradient_at_the_reconstruction(case, method, explained_variance):
    step = spec.compressed_conv2d_step(
        case.x,
        case.weight,
        case.bias,
        case.grad_output,
        method=method,
        explained_variance=explained_variance,
        **case.attributes,
    )
    output, grad_input, grad_weight, grad_bias = our_convolution(case)
    assert_same_bits(step.output, output)
    assert_same_bits(step.grad_input, grad_input)
    assert_same_bits(step.grad_bias, grad_bias)
    _, _, theirs, _ = torch_convolution(case, x=step.reconstruction)
    _, _, majorant, _ = torch_convolution(case, x=step.reconstruction, absolute=True)
    assert_within(step.grad_weight, theirs, 2 * inner_product_bound(sum_lengths(case)[2], majorant, np.float64))
    allowed = energy_allowance(case.x)
    relative = {"exact": 0.0, "svd": 1.0, "hosvd": 4.0, "sequential hosvd": 4.0}[method] * (1 - explained_variance)
    assert norm(case.x - step.reconstruction) ** 2 <= relative * norm(case.x) ** 2 + (method != "exact") * allowed
    if method == "exact":
        assert_same_bits(step.grad_weight, grad_weight)
        assert (step.ranks, step.stored_numbers) == ((), case.x.size)
    if step.core is not None:
        again = spec.compressed_weight_gradient(
            step.core, step.factors, case.grad_output, case.weight.shape[2:], **case.attributes
        )
        assert_same_bits(again, step.grad_weight)
        assert step.ranks == step.core.shape == tuple(factor.shape[1] for factor in step.factors)


@given(small_convs, st.integers(-3, 3))
def test_T9_T21_weight_gradient_is_bilinear(case, factor):
    case = whole_numbers(case)

    def gradient(x, grad_output):
        return spec.conv2d_weight_gradient(x, grad_output, case.weight.shape[2:], **case.attributes)

    other_x, other_grad = case.x[::-1, :, ::-1], case.grad_output[::-1, :, ::-1]
    together = gradient(case.x + factor * other_x, case.grad_output + other_grad)
    terms = [(case.x, case.grad_output), (case.x, other_grad), (other_x, case.grad_output), (other_x, other_grad)]
    first, second, third, fourth = (gradient(*term) for term in terms)
    assert_same_bits(together, first + second + factor * (third + fourth))


@given(small_convs)
def test_D6_input_gradient_is_the_adjoint_of_the_convolution(case):
    case = whole_numbers(case)
    output = spec.conv2d(case.x, case.weight, **case.attributes)
    grad_input = spec.conv2d_input_gradient(case.grad_output, case.weight, case.x.shape[2:], **case.attributes)
    assert np.sum(case.grad_output * output) == np.sum(grad_input * case.x)


@given(small_convs)
def test_T21_a_grouped_convolution_is_a_block_of_convolutions(case):
    geometry = {**case.attributes, "groups": 1}
    split = [
        np.split(part, case.groups, axis=axis) for part, axis in ((case.x, 1), (case.weight, 0), (case.grad_output, 1))
    ]
    outputs, inputs, weights = [], [], []
    for x, weight, grad_output in zip(*split, strict=True):
        outputs.append(spec.conv2d(x, weight, **geometry))
        inputs.append(spec.conv2d_input_gradient(grad_output, weight, x.shape[2:], **geometry))
        weights.append(spec.conv2d_weight_gradient(x, grad_output, weight.shape[2:], **geometry))
    together = our_convolution(case)
    assert_same_bits(spec.conv2d(case.x, case.weight, **case.attributes), np.concatenate(outputs, axis=1))
    assert_same_bits(together[1], np.concatenate(inputs, axis=1))
    assert_same_bits(together[2], np.concatenate(weights, axis=0))


@given(tensors(minimum_axes=4, maximum_axes=4, longest=3, dtype=np.float64, scaled=False), st.integers(1, 3), st.data())
def test_T21_a_1x1_convolution_is_a_linear_layer(x, out, data):
    weight = data.draw(tensors(shape=(out, x.shape[1]), dtype=np.float64, scaled=False))
    x, weight = integers(x), integers(weight)
    rows = np.moveaxis(x, 1, -1)
    grad_output = integers(np.sin(np.arange(out * rows.size // x.shape[1])).reshape(len(x), out, *x.shape[2:]))
    of_rows = np.moveaxis(grad_output, 1, -1)
    kernel = weight[:, :, None, None]
    assert_same_bits(spec.conv2d(x, kernel), np.moveaxis(spec.linear(rows, weight), -1, 1))
    assert_same_bits(
        spec.conv2d_input_gradient(grad_output, kernel, x.shape[2:]),
        np.moveaxis(spec.linear_input_gradient(of_rows, weight), -1, 1),
    )
    assert_same_bits(
        spec.conv2d_weight_gradient(x, grad_output, (1, 1))[:, :, 0, 0], spec.linear_weight_gradient(rows, of_rows)
    )
    assert_same_bits(spec.conv2d_bias_gradient(grad_output), spec.linear_bias_gradient(of_rows))


@given(tensors(minimum_axes=2, maximum_axes=4, longest=4, dtype=np.float64, scaled=False), explained_variances)
def test_T9_T11_linear_gradient_error_is_the_gradient_at_what_was_left_out(x, explained_variance):
    grad_output = np.cos(np.arange(2.0 * x.size // x.shape[-1])).reshape(*x.shape[:-1], 2)
    weight, bias = np.ones((2, x.shape[-1])), np.zeros(2)
    exact = spec.linear_weight_gradient(x, grad_output)
    for method in ("svd", "hosvd", "sequential hosvd"):
        step = spec.compressed_linear_step(
            x, weight, bias, grad_output, method=method, explained_variance=explained_variance
        )
        left_out = x - step.reconstruction
        majorant = spec.linear_weight_gradient(np.abs(x) + np.abs(step.reconstruction), np.abs(grad_output))
        rounding = gamma(4, np.float64) * majorant  # one product, one sum, one difference, on either side
        error = exact - step.grad_weight
        assert_within(error, spec.linear_weight_gradient(left_out, grad_output), rounding)
        largest = np.linalg.svd(grad_output.reshape(-1, 2), compute_uv=False)[0]
        slack = norm(rounding) + singular_value_bound(x.size, norm(grad_output), np.float64) * norm(left_out)
        assert norm(error) <= largest * norm(left_out) + slack
        if step.core is not None:
            assert_same_bits(spec.compressed_weight_gradient(step.core, step.factors, grad_output), step.grad_weight)
