"""What proofs/ argues, in numbers: the examples that attain a bound, and the inequalities in rational arithmetic.

Fractions have no rounding: where they compute, the inequality itself is tested, with no allowance at all.
"""

import itertools
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.agreement import disagreements
from refgrad import specification as spec
from refgrad.rounding import gamma, inner_product_bound, singular_value_bound, unit_roundoff
from tests.assertions import assert_same_bits, assert_within
from tests.strategies import conv_cases, explained_variances, tensors

ROOT = Path(__file__).resolve().parents[2]


def norm(array):
    return float(np.linalg.norm(np.ravel(array)))


def outer(*vectors):
    return np.multiply.outer(np.multiply.outer(vectors[0], vectors[1]), vectors[2])


def integers(array):
    """Small whole numbers: their products and sums are exact in any order, so that right answers agree bit for bit."""
    return np.rint(4 * np.tanh(array))


# Decompositions


def test_T3_all_three_upper_bounds_are_attained_at_once():
    e = np.eye(3)
    tensor = 2 * outer(e[0], e[0], e[1]) + 2 * outer(e[1], e[1], e[1])
    tensor += outer(e[2], e[0], e[0]) + outer(e[1], e[2], e[0]) + outer(e[0], e[1], e[2])
    core, factors = spec.hosvd(tensor, Fraction(10, 11))
    assert core.shape == (2, 2, 2)
    assert (
        np.sum((tensor - spec.reconstruct(core, factors)) ** 2)
        == 3
        == 3 * Fraction(1, 11) * Fraction(np.sum(tensor**2))
    )


def test_T4_T7_at_a_tied_cut_a_correct_HOSVD_of_a_matrix_may_be_zero_and_sqrt_d_is_attained():
    identity = np.eye(2)
    first, second = identity[:, :1], identity[:, 1:]
    for vector in (first, second):  # both lead in both unfoldings
        assert_same_bits(identity @ identity.T @ vector, vector)
    core = spec.mode_product(spec.mode_product(identity, first.T, 0), second.T, 1)
    truncated = spec.reconstruct(core, [first, second])
    assert_same_bits(truncated, np.zeros((2, 2)))
    best = first @ first.T
    assert np.sum((identity - truncated) ** 2) == 2 * np.sum((identity - best) ** 2)


def test_T8_HOSVD_and_sequential_HOSVD_differ_as_in_the_example():
    e = np.eye(2)
    tensor = outer(e[0], e[0], e[0]) + outer(e[1], e[1], e[0]) + outer(e[0], e[1], e[1]) / 2
    errors = [
        np.sum((tensor - spec.reconstruct(*decompose(tensor, ranks=(1, 1, 1)))) ** 2)
        for decompose in (spec.hosvd, spec.sequential_hosvd)
    ]
    assert errors == [9 / 4, 5 / 4]


@given(tensors(dtype=np.float64, scaled=False), explained_variances)
def test_T8_sequential_truncation_keeps_eps_to_the_d(tensor, explained_variance):
    core, _ = spec.sequential_hosvd(tensor, explained_variance)
    energy, kept = norm(tensor) ** 2, norm(core) ** 2
    delta = singular_value_bound(tensor.size, norm(tensor), np.float64)
    margin = tensor.ndim * (2 * math.sqrt(max(tensor.shape)) * delta * norm(tensor) + max(tensor.shape) * delta**2)
    assert kept >= explained_variance**tensor.ndim * energy - margin


# Gradients

matrix_sides = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))


def von_neumann(grad_output, error):
    """The middle term of T11, and how far rounding can move it."""
    values = [np.linalg.svd(matrix, compute_uv=False) for matrix in (grad_output, error)]
    count = min(map(len, values))
    allowed = sum(
        singular_value_bound(max(one.shape), norm(one), np.float64) * norm(other)
        for one, other in ((grad_output, error), (error, grad_output))
    )
    allowed += 2 * gamma(len(error) + count + 2, np.float64) * norm(grad_output) * norm(error)
    return math.sqrt(np.sum((values[0][:count] * values[1][:count]) ** 2)), values[0][0], values[1][0], allowed


@given(matrix_sides, st.data())
def test_T11_the_linear_bound(sides, data):
    rows, inputs, outputs = sides
    error = data.draw(tensors(shape=(rows, inputs), dtype=np.float64, scaled=False))
    grad_output = data.draw(tensors(shape=(rows, outputs), dtype=np.float64, scaled=False))
    middle, largest_gradient, largest_error, allowed = von_neumann(grad_output, error)
    assert norm(spec.linear_weight_gradient(error, grad_output)) <= middle + allowed
    assert middle <= min(largest_gradient * norm(error), norm(grad_output) * largest_error) + allowed


@given(matrix_sides, st.data())
def test_T11_sharp_where_orthonormal_columns_of_G_span_the_error(sides, data):
    rows, inputs, outputs = sides
    outputs = min(rows, outputs)
    draw = tensors(shape=(rows, outputs), dtype=np.float64, scaled=False)
    grad_output = spec.orthonormal_columns(np.array(data.draw(draw)))
    error = grad_output @ data.draw(tensors(shape=(outputs, inputs), dtype=np.float64, scaled=False))
    middle, largest_gradient, _, allowed = von_neumann(grad_output, error)
    left = norm(spec.linear_weight_gradient(error, grad_output))
    assert_within(left, middle, allowed)
    assert_within(left, largest_gradient * norm(error), allowed)


def readings(case):
    """How often each pixel is read: the input gradient of a kernel of ones for a gradient of ones."""
    ones = np.ones((1, 1, *case.grad_output.shape[2:]))
    geometry = {**case.attributes, "groups": 1}
    return spec.conv2d_input_gradient(ones, np.ones((1, 1, *case.weight.shape[2:])), case.x.shape[2:], **geometry)[0, 0]


def reading_bound(case):
    return math.prod(
        -(-k * math.gcd(s, d) // s) for k, s, d in zip(case.weight.shape[2:], case.stride, case.dilation, strict=True)
    )


@given(conv_cases(dtype=np.float64, longest=5))
def test_T12_the_convolution_bound(case):
    multiplicity = readings(case)
    assert np.max(multiplicity) <= reading_bound(case)
    geometry = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    error = integers(case.x)
    columns = spec.im2col(error, case.weight.shape[2:], **geometry)
    assert np.sum(columns**2) == np.sum(multiplicity * error**2) <= np.max(multiplicity) * np.sum(error**2)
    grad_output = case.grad_output
    weight_gradient = spec.conv2d_weight_gradient(error, grad_output, case.weight.shape[2:], **case.attributes)
    spectral, groups, allowed = [], 0.0, 0.0
    for gradient, part in zip(
        np.split(grad_output, case.groups, axis=1), np.split(error, case.groups, axis=1), strict=True
    ):
        rows = np.moveaxis(gradient, 1, -1).reshape(-1, gradient.shape[1])
        spectral.append(np.linalg.svd(rows, compute_uv=False)[0])
        read = norm(spec.im2col(np.ascontiguousarray(part), case.weight.shape[2:], **geometry))
        groups += (spectral[-1] * read) ** 2
        slack = singular_value_bound(max(rows.shape), norm(rows), np.float64) + gamma(len(rows) + 2, np.float64) * norm(
            rows
        )
        allowed += (2 * spectral[-1] * slack + slack**2) * read**2 + 8 * unit_roundoff(np.float64) * groups
    assert norm(weight_gradient) ** 2 <= groups + allowed
    assert groups <= max(spectral) ** 2 * np.max(multiplicity) * norm(error) ** 2 + allowed


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), list(itertools.product((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3)))
)
def test_T12_the_count_is_attained_on_a_long_axis(kernel, stride, dilation):
    shape = {"stride": (stride, 1), "dilation": (dilation, 1)}
    positions = spec.conv2d(np.ones((1, 1, 60, 1)), np.ones((1, 1, kernel, 1)), **shape).shape
    counts = spec.conv2d_input_gradient(np.ones(positions), np.ones((1, 1, kernel, 1)), (60, 1), **shape)
    assert np.max(counts) == -(-kernel * math.gcd(stride, dilation) // stride)


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_T12_sharp_on_a_picture_of_one_pixel(kernel):
    padding = ((kernel - 1, kernel - 1), (kernel - 1, kernel - 1))
    taps = kernel**2
    grad_output = np.eye(taps).reshape(1, taps, kernel, kernel)
    error = np.full((1, 1, 1, 1), 3.0)
    gradient = spec.conv2d_weight_gradient(error, grad_output, (kernel, kernel), padding=padding)
    assert np.sum(gradient**2) == 1 * taps * np.sum(error**2)


@given(tensors(shape=(4, 3), dtype=np.float64, scaled=False), explained_variances, st.integers(0, 2**32 - 1))
def test_T13_the_squared_error_of_a_network_is_the_sum_over_its_layers(x, explained_variance, seed):
    generator = np.random.default_rng(seed)
    first, second = generator.standard_normal((5, 3)), generator.standard_normal((2, 5))

    def gradients(method):
        arguments = {"method": method, "explained_variance": explained_variance}
        hidden = spec.linear(x, first)
        active = np.maximum(hidden, 0)
        output = spec.linear(active, second)  # the loss is |output|^2 / 2, so that its gradient is the output
        upper = spec.compressed_linear_step(active, second, None, output, **arguments)
        lower = spec.compressed_linear_step(x, first, None, upper.grad_input * (hidden > 0), **arguments)
        return lower, upper, upper.grad_input * (hidden > 0), output

    exact, compressed = gradients("exact"), gradients("hosvd")
    assert_same_bits(compressed[2], exact[2], "T10")
    assert_same_bits(compressed[3], exact[3], "T10")
    left, right, allowed = 0.0, 0.0, 0.0
    for full, kept, grad_output, stored in zip(
        exact, compressed, exact[2:], (x, np.maximum(spec.linear(x, first), 0)), strict=False
    ):
        left += norm(full.grad_weight - kept.grad_weight) ** 2
        layer = norm(spec.linear_weight_gradient(stored - kept.reconstruction, grad_output))
        right += layer**2
        majorant = spec.linear_weight_gradient(np.abs(stored) + np.abs(kept.reconstruction), np.abs(grad_output))
        slack = norm(inner_product_bound(8, majorant, np.float64))
        allowed += 2 * layer * slack + slack**2 + 8 * unit_roundoff(np.float64) * layer**2
    assert_within(left, right, allowed)


@given(conv_cases(dtype=np.float64, longest=5), st.data())
def test_T14_the_five_contractions_give_the_gradient_at_the_reconstruction(case, data):
    shape, kernel, groups = case.x.shape, case.weight.shape[2:], case.groups
    ranks = tuple(data.draw(st.integers(1, min(length, 2))) for length in shape)
    core = integers(data.draw(tensors(shape=ranks, dtype=np.float64, scaled=False)))
    factors = [
        integers(data.draw(tensors(shape=(n, k), dtype=np.float64, scaled=False)))
        for n, k in zip(shape, ranks, strict=True)
    ]
    grad_output = integers(case.grad_output)
    of_height, of_width = (np.pad(factors[2 + axis], (case.padding[axis], (0, 0))) for axis in (0, 1))
    first = spec.mode_product(grad_output, np.ascontiguousarray(factors[0].T), 0)
    third = spec.mode_product(spec.mode_product(core, of_height, 2), of_width, 3)
    geometry = {"stride": case.stride, "dilation": case.dilation}
    fourth = spec.conv2d_weight_gradient(third, first, kernel, **geometry)
    of_groups = zip(np.split(fourth, groups), np.split(factors[1], groups), strict=True)
    gradient = np.concatenate([spec.mode_product(part, channels, 1) for part, channels in of_groups])
    assert_same_bits(gradient, spec.compressed_weight_gradient(core, factors, grad_output, kernel, **case.attributes))


# Rounding


@given(st.integers(1, 200), st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
def test_T15_an_inner_product_in_any_order_is_within_gamma(length, seed, dtype):
    generator = np.random.default_rng(seed)
    left, right = (generator.standard_normal(length).astype(dtype) for _ in range(2))
    exact = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(left, right, strict=True))
    majorant = sum(abs(Fraction(float(a)) * Fraction(float(b))) for a, b in zip(left, right, strict=True))
    roundoff = Fraction(unit_roundoff(dtype))
    allowed = length * roundoff / (1 - length * roundoff) * majorant
    products = list(left * right)
    while len(products) > 1:  # two at random, again and again: any tree can come of it
        pair = [products.pop(int(generator.integers(len(products)))) for _ in range(2)]
        products.append(pair[0] + pair[1])
    assert abs(Fraction(float(products[0])) - exact) <= allowed
    assert abs(Fraction(float(np.dot(left, right))) - exact) <= allowed


@given(
    length=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    magnitude=st.integers(-4, 12),
    pairwise=st.booleans(),
)
def test_T15_an_arithmetic_that_flushes_to_zero_is_within_the_bound(length, seed, magnitude, pairwise):
    """Products and sums around the smallest normal number: each that is below becomes 0."""
    smallest = np.finfo(np.float32).tiny
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, length).astype(np.float32)
    y = np.float32(2.0**magnitude * smallest) * generator.uniform(-1, 1, length).astype(np.float32)

    def flushed(number):
        return np.where(abs(number) < smallest, np.float32(0), number)

    y = flushed(y)
    numbers = list(flushed(x * y))
    while len(numbers) > 1:
        if pairwise:
            pairs = itertools.zip_longest(numbers[::2], numbers[1::2], fillvalue=np.float32(0))
            numbers = [flushed(first + second) for first, second in pairs]
        else:
            numbers = [flushed(numbers[0] + numbers[1]), *numbers[2:]]
    products = [Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True)]
    error = abs(Fraction(float(numbers[0])) - sum(products))
    allowed = inner_product_bound(length, float(sum(map(abs, products))), np.float32)
    assert error <= Fraction(allowed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_T15_the_length_of_a_sum_counts_in_full(dtype):
    total, small, length = dtype(1), dtype(unit_roundoff(dtype)), 50
    for _ in range(length - 1):
        total = total + small
    assert Fraction(1) + (length - 1) * Fraction(float(small)) - Fraction(float(total)) == (length - 1) * Fraction(
        float(small)
    )


@pytest.mark.parametrize(("dtype", "small"), [(np.float32, 2.0**-12.5), (np.float64, 1e-8)])
def test_T15_a_gram_matrix_loses_what_the_unfolding_holds(dtype, small):
    matrix = np.array([[1, small, 0], [1, 0, small]], dtype)
    assert_same_bits(matrix @ matrix.T, np.ones((2, 2), dtype))
    _, values, _ = spec.jacobi_svd(matrix.astype(np.float64))
    assert_within(values[1], float(matrix[0, 1]), singular_value_bound(3, norm(matrix), np.float64))


def projector(matrix, columns):
    left, values, _ = np.linalg.svd(matrix)
    return left[:, :columns] @ left[:, :columns].T, np.append(values, 0.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([1e-6, 1e-2, 0.3]))
def test_T15_a_subspace_turns_by_no_more_than_the_perturbation_over_the_gap(seed, columns, size):
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((4, 5))
    perturbation = size * generator.standard_normal((4, 5))
    old, values = projector(matrix, columns)
    new, moved = projector(matrix + perturbation, columns)
    gap = values[columns - 1] - moved[columns]
    slack = 2 * singular_value_bound(5, norm(matrix) + norm(perturbation), np.float64)
    if gap > slack:
        assert norm(new - old) <= math.sqrt(2) * (norm(perturbation) + slack) / (gap - slack)


def test_T15_the_gap_is_between_the_one_and_the_other():
    gap, half = 0.25, 0.25 / 2 + 2.0**-20
    old, values = projector(np.diag([1.0, 1 - gap]), 1)
    new, moved = projector(np.diag([1.0 - half, 1 - gap + half]), 1)
    perturbation = norm([half, half])
    assert norm(new - old) > math.sqrt(2) * perturbation / (values[0] - values[1])  # what does not hold
    assert norm(new - old) <= math.sqrt(2) * perturbation / (values[0] - moved[1])


# Convergence, in rational numbers: f(x) = sum h_i x_i^2 / 2 with L = max h and the constant mu = min h

rationals = st.fractions(-3, 3, max_denominator=8)
positive = st.fractions(Fraction(1, 8), 4, max_denominator=8)
step_shares = st.fractions(Fraction(1, 8), 1, max_denominator=8)


def square(vector):
    return sum(value * value for value in vector)


class Quadratic:
    def __init__(self, curvatures):
        self.curvatures = curvatures
        self.smoothness, self.growth = max(curvatures), min(curvatures)

    def __call__(self, x):
        return sum(h * value * value for h, value in zip(self.curvatures, x, strict=True)) / 2

    def gradient(self, x):
        return [h * value for h, value in zip(self.curvatures, x, strict=True)]

    def step(self, x, length, error):
        return [value - length * (slope + off) for value, slope, off in zip(x, self.gradient(x), error, strict=True)]


def problems(count):
    """A quadratic, a start, a step length of at most 1/L, and `count` vectors."""
    return st.integers(1, 3).flatmap(
        lambda size: st.tuples(
            st.lists(positive, min_size=size, max_size=size).map(Quadratic),
            st.lists(rationals, min_size=size, max_size=size),
            step_shares,
            st.lists(st.lists(rationals, min_size=size, max_size=size), min_size=count, max_size=count),
        )
    )


@given(problems(1))
def test_T16_one_step_descends_by_the_gradient_less_the_error(problem):
    f, x, share, (error,) = problem
    length = share / f.smoothness
    after = f(f.step(x, length, error))
    bound = f(x) - length / 2 * square(f.gradient(x)) + length / 2 * square(error)
    assert after <= bound
    if share == 1 and f.smoothness == f.growth:
        assert after == bound  # sharp


def test_T16_sharp():
    f, x, error = Quadratic([Fraction(3)] * 2), [Fraction(1), Fraction(-2)], [Fraction(1, 2), Fraction(5)]
    after = f(f.step(x, Fraction(1, 3), error))
    assert after == f(x) - square(f.gradient(x)) / 6 + square(error) / 6


@given(problems(4), st.fractions(0, Fraction(9, 10), max_denominator=10))
def test_T17_T18_many_steps(problem, relative):
    f, start, share, errors = problem
    length, steps = share / f.smoothness, len(errors)
    x, gradients = start, Fraction(0)
    for error in errors:
        gradients += square(f.gradient(x))
        x = f.step(x, length, error)
    assert gradients <= 2 * (f(start) - f(x)) / length + sum(map(square, errors))
    x, gradients = start, Fraction(0)
    for signs in errors:  # errors of the given relative size, each component as it hurts or helps
        slope = f.gradient(x)
        gradients += square(slope)
        x = f.step(
            x, length, [relative * value * (1 if sign < 0 else -1) for value, sign in zip(slope, signs, strict=True)]
        )
    assert gradients <= 2 * f(start) / (length * (1 - relative**2))
    assert f(x) <= (1 - length * f.growth * (1 - relative**2)) ** steps * f(start)


def test_T17_T18_sharp():
    f, x, relative = Quadratic([Fraction(2)]), [Fraction(3)], Fraction(1, 3)
    assert square(f.gradient(x)) == 2 * f(x) / Fraction(1, 2)
    after = f.step(x, Fraction(1, 2), [relative * value for value in f.gradient(x)])
    assert f(after) == relative**2 * f(x) == (1 - Fraction(1, 2) * f.growth * (1 - relative**2)) * f(x)


@given(st.lists(rationals, min_size=1, max_size=3), st.data(), st.fractions(Fraction(1, 10), Fraction(9, 10)))
def test_T17_the_condition_that_can_be_checked_implies_the_one_that_is_needed(gradient, data, relative):
    size = len(gradient)
    error = data.draw(st.lists(rationals, min_size=size, max_size=size))
    computed = [value + off for value, off in zip(gradient, error, strict=True)]
    if square(error) <= (relative / (1 + relative)) ** 2 * square(computed):
        assert square(error) <= relative**2 * square(gradient)


@given(problems(2), st.lists(rationals, min_size=3, max_size=3))
def test_T19_stochastic_steps(problem, noise):
    """Two steps with a bias and noise of either sign: all four paths, each as likely."""
    f, start, share, biases = problem
    length, steps, noise = share / f.smoothness, len(biases), noise[: len(start)]
    paths, gradients = [start], Fraction(0)
    for bias in biases:
        gradients += sum(square(f.gradient(x)) for x in paths) / len(paths)
        paths = [
            f.step(x, length, [off + sign * value for off, value in zip(bias, noise, strict=True)])
            for x in paths
            for sign in (1, -1)
        ]
    largest_bias, variance = max(map(square, biases)), square(noise)
    descent = f(start) - sum(map(f, paths)) / len(paths)  # no more than f(x_0) - f_inf: the sharper form of the proof
    assert gradients / steps <= 2 * descent / (length * steps) + largest_bias + f.smoothness * length * variance


def test_T19_sharp_for_one_step():
    f, x, noise = Quadratic([Fraction(2)]), [Fraction(3)], Fraction(1, 2)
    after = sum(f(f.step(x, Fraction(1, 2), [sign * noise])) for sign in (1, -1)) / 2
    assert square(f.gradient(x)) == 2 * (f(x) - after) / Fraction(1, 2) + noise**2


# Limits and symmetries


@given(st.floats(0.01, 1, exclude_max=True), st.sampled_from(["svd", "hosvd", "sequential hosvd"]))
def test_T20_for_every_explained_variance_below_1_a_gradient_is_lost(explained_variance, method):
    exponent = max(1, math.ceil(math.log2(1 / (1 - explained_variance))))
    x, grad_output = np.diag([2.0**exponent, 1.0]), np.array([[0.0], [1.0]])
    step = spec.compressed_linear_step(
        x, np.ones((1, 2)), None, grad_output, method=method, explained_variance=explained_variance
    )
    assert_same_bits(spec.linear_weight_gradient(x, grad_output), np.array([[0.0, 1.0]]))
    assert_same_bits(step.grad_weight, np.zeros((1, 2)))


@given(tensors(dtype=np.float64, minimum_axes=2), st.randoms(use_true_random=False), st.data())
def test_T21_permuted_samples_and_zero_rows_leave_no_trace_in_the_other_modes(tensor, random, data):
    """Bit for bit: the specification rounds a sum once, so that neither its order nor a zero in it matters."""
    ranks = tuple(data.draw(st.integers(1, length)) for length in tensor.shape)
    order = list(range(len(tensor)))
    random.shuffle(order)
    mode = data.draw(st.integers(0, tensor.ndim - 1))
    extra = data.draw(st.integers(1, 2))
    longer = np.pad(tensor, [(0, extra if axis == mode else 0) for axis in range(tensor.ndim)])
    core, factors = spec.hosvd(tensor, ranks=ranks)
    _, permuted = spec.hosvd(tensor[order], ranks=ranks)
    longer_core, appended = spec.hosvd(longer, ranks=ranks)
    for axis in range(1, tensor.ndim):
        assert_same_bits(permuted[axis], factors[axis])
    for axis in range(tensor.ndim):
        if axis != mode:
            assert_same_bits(appended[axis], factors[axis])
    if np.any(tensor):
        values = spec.jacobi_svd(spec.unfold(tensor, mode))[1]
        if len(values) >= ranks[mode] and values[ranks[mode] - 1] > 0:  # else the last columns are arbitrary
            assert_same_bits(appended[mode][: tensor.shape[mode]], factors[mode])
            assert_same_bits(appended[mode][tensor.shape[mode] :], np.zeros((extra, ranks[mode])))
            assert_same_bits(longer_core, core)


def columns_in_any_order(matrix):
    """Where singular values tie, the order of their vectors is not determined."""
    return matrix[:, np.lexsort(matrix)]


@given(tensors(dtype=np.float64, minimum_axes=2, scaled=False))
def test_T21_duplicated_samples_scale_the_singular_values_by_the_root_of_2(tensor):
    twice = np.concatenate([tensor, tensor])
    for mode in range(tensor.ndim):
        left, values, _ = spec.jacobi_svd(spec.unfold(tensor, mode))
        doubled_left, doubled_values, _ = spec.jacobi_svd(spec.unfold(twice, mode))
        allowed = 3 * singular_value_bound(twice.size, norm(twice), np.float64)
        assert_within(doubled_values[: len(values)], math.sqrt(2) * values, allowed)
        assert_within(doubled_values[len(values) :], np.zeros(len(doubled_values) - len(values)), allowed)
        if mode > 0:
            assert_same_bits(columns_in_any_order(doubled_left), columns_in_any_order(left))


@given(conv_cases(dtype=np.float64, longest=5))
def test_T21_the_trilinear_form_has_one_value(case):
    x, weight, grad_output = integers(case.x), integers(case.weight), integers(case.grad_output)
    form = np.sum(grad_output * spec.conv2d(x, weight, **case.attributes))
    assert form == np.sum(x * spec.conv2d_input_gradient(grad_output, weight, x.shape[2:], **case.attributes))
    assert form == np.sum(weight * spec.conv2d_weight_gradient(x, grad_output, weight.shape[2:], **case.attributes))


# The index


def test_map_arguments_coq_code_and_tests_agree():
    assert disagreements() == []


def test_the_index_names_tests_that_exist_and_files_that_argue():
    index = (ROOT / "proofs" / "README.md").read_text()
    rows = dict(re.findall(r"^\| (T\d+) \|(.*)\|$", index, re.MULTILINE))
    assert list(rows) == [f"T{number}" for number in range(1, 22)]
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for theorem, row in rows.items():
        (file,) = re.findall(r"\]\((\w+\.md)#", row)
        assert re.search(rf"^## {theorem} ", (ROOT / "proofs" / file).read_text(), re.MULTILINE), theorem
        named = re.findall(r"`(test_\w+)`", row)
        assert named, f"{theorem} has no test"
        for name in named:
            assert f"def {name}(" in tests, f"{theorem}: {name} is no test"
            assert theorem in name.split("_"), f"{name} does not carry {theorem}"
