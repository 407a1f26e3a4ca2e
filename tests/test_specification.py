"""The executable specification on tiny cases against mpmath, on cases known by hand, and its refusals."""

import ast
import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from refgrad import specification as spec
from refgrad.rounding import LAPACK_THRESHOLD, gamma, inner_product_bound, singular_value_bound, unit_roundoff
from refgrad.specification import singular
from tests.assertions import assert_same_bits, assert_within

mpmath = pytest.importorskip("mpmath", reason="its fifty digits are the third party here")

ROUNDOFF = unit_roundoff(np.float64)
NO_PADDING = ((0, 0), (0, 0))


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


def exact(array):
    """The same matrix in fifty digits."""
    return mpmath.matrix(array.tolist())


def floats(matrix):
    return np.array([[float(matrix[i, j]) for j in range(matrix.cols)] for i in range(matrix.rows)])


def exact_unfolding(tensor, mode):
    """The columns in the order in which itertools counts the other axes up, the last fastest."""
    others = [range(length) for axis, length in enumerate(tensor.shape) if axis != mode]
    columns = [[*index[:mode], slice(None), *index[mode:]] for index in itertools.product(*others)]
    return exact(np.array([tensor[tuple(column)] for column in columns]).T)


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def graded(*shape, seed=0):
    """Singular values that fall by powers of ten, so that the cut of a truncation has a gap."""
    result = random(*shape, seed=seed)
    for axis, length in enumerate(shape):
        result = np.moveaxis(np.moveaxis(result, axis, -1) * 10.0 ** -np.arange(length), -1, axis)
    return result


# Against mpmath


@pytest.mark.parametrize("scale", [1.0, 2.0**600, 2.0**-600])  # squares of these are no float64
@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (3, 3), (2, 5), (5, 2)])
def test_T15_singular_values_and_vectors_agree_with_mpmath(shape, scale):
    matrix = random(*shape) * scale
    left, values, right = spec.jacobi_svd(matrix)
    _, true_values, true_right = mpmath.svd_r(exact(matrix))
    norm = float(mpmath.norm(exact(matrix).apply(lambda entry: entry / scale), 2)) * scale
    allowed = singular_value_bound(max(shape), norm, np.float64)
    assert_within(values, [float(value) for value in true_values], allowed)
    restored = exact(left[:, : len(values)]) * mpmath.diag(values.tolist()) * exact(right)
    assert_within(floats(restored), matrix, LAPACK_THRESHOLD * max(shape) * ROUNDOFF * norm)
    gram = exact(left).T * exact(left)
    assert_within(floats(gram), np.eye(shape[0]), LAPACK_THRESHOLD * max(shape) * ROUNDOFF)
    alignment = np.abs(floats(exact(right) * true_right.T))  # 1 - cos <= (perturbation / gap)^2, below a few roundings
    true = [float(value) for value in true_values]
    gap = min([abs(a - b) for a, b in itertools.combinations(true, 2)], default=norm)
    assert_within(alignment, np.eye(len(values)), math.sqrt(2) * allowed / (gap - allowed))


@pytest.mark.parametrize("method", [spec.hosvd, spec.sequential_hosvd])
@pytest.mark.parametrize("explained_variance", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 4), (2, 3, 2, 2)])
def test_D3_D4_agree_with_mpmath(shape, explained_variance, method):
    tensor = graded(*shape)
    core, factors = method(tensor, explained_variance)
    norm = float(np.linalg.norm(tensor))
    current, turn = tensor, 0.0
    for mode, length in enumerate(shape):
        source = tensor if method is spec.hosvd else current
        left, values, _ = mpmath.svd_r(exact_unfolding(source, mode))
        energies = [value**2 for value in values]
        wanted = mpmath.mpf(explained_variance) * mpmath.fsum(energies)
        rank = next(k for k in range(1, len(energies) + 1) if mpmath.fsum(energies[:k]) >= wanted)
        assert factors[mode].shape == (length, rank)
        # Davis and Kahan (T15): the projector turns by at most sqrt(2) |perturbation| / gap
        perturbation = singular_value_bound(tensor.size, norm, np.float64)
        after = values[rank] if rank < len(values) else 0
        gap = float(values[rank - 1] - after) - perturbation
        assert gap > 0
        turn += math.sqrt(2) * perturbation / gap + LAPACK_THRESHOLD * tensor.size * ROUNDOFF
        true = left[:, :rank] * left[:, :rank].T
        assert_within(floats(exact(factors[mode]) * exact(factors[mode]).T), floats(true), turn)
        projected = floats(true) @ np.moveaxis(current, mode, 0).reshape(length, -1)
        projected = projected.reshape(length, *(n for axis, n in enumerate(shape) if axis != mode))
        current = np.moveaxis(projected, 0, mode)
    rounding = gamma(2 * sum(shape), np.float64) * math.sqrt(tensor.size) * norm
    assert_within(spec.reconstruct(core, factors), current, turn * norm + rounding)


def test_D3_factors_come_from_the_original_tensor_and_D4_factors_from_the_core_left():
    tensor = np.zeros((2, 2, 2))
    tensor[0, 0, 0] = tensor[1, 1, 0] = (
        1.0  # mode 0 keeps slice 0 (energy 1.81 of 2.81); of mode 1, slice 1 has 1.81 in the
    )
    tensor[0, 1, 1] = 0.9  # original, and only 0.81 of 1.81 once mode 0 is truncated
    core, factors = spec.hosvd(tensor, ranks=(1, 1, 1))
    assert_same_bits(np.hstack(factors), np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    assert_same_bits(core, np.zeros((1, 1, 1)))
    core, factors = spec.sequential_hosvd(tensor, ranks=(1, 1, 1))
    assert_same_bits(np.hstack(factors), np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert_same_bits(core, np.ones((1, 1, 1)))
    _, factors = spec.sequential_hosvd(tensor, ranks=(1, 1, 1), order=(1, 0, 2))
    assert_same_bits(np.hstack(factors), np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))


def test_D5_agrees_with_mpmath():
    tensor, starts = graded(3, 4, 2), [random(3, 2), random(4, 2), random(2, 1)]
    core, factors = spec.subspace_iteration(tensor, starts)
    for mode, start in enumerate(starts):
        matrix = exact_unfolding(tensor, mode)
        iterate = matrix * (matrix.T * exact(start))
        orthogonal, triangular = mpmath.qr(iterate, mode="skinny")
        smallest = float(min(mpmath.svd_r(triangular, compute_uv=False)))
        norm = float(np.linalg.norm(tensor))
        perturbation = LAPACK_THRESHOLD * tensor.size * ROUNDOFF * norm**2 * float(np.linalg.norm(start))
        allowed = math.sqrt(2) * perturbation / smallest + LAPACK_THRESHOLD * len(start) * ROUNDOFF
        projector = floats(exact(factors[mode]) * exact(factors[mode]).T)
        assert_within(projector, floats(orthogonal * orthogonal.T), allowed)
    expected = np.einsum("abc,ai,bj,ck->ijk", tensor, *factors)
    majorant = np.einsum("abc,ai,bj,ck->ijk", *map(np.abs, (tensor, *factors)))
    assert_within(core, expected, 2 * inner_product_bound(tensor.size + 4, majorant, np.float64))


CONVOLUTIONS = {
    "plain": ((1, 1, 3, 3), (1, 1, 2, 2), (1, 1), NO_PADDING, (1, 1), 1),
    "four pads": ((2, 1, 2, 3), (2, 1, 2, 2), (1, 2), ((1, 0), (2, 3)), (1, 1), 1),
    "groups": ((1, 4, 3, 2), (2, 2, 1, 2), (2, 1), ((0, 1), (1, 0)), (1, 1), 2),
    "depthwise": ((2, 2, 4, 3), (4, 1, 2, 1), (1, 1), NO_PADDING, (3, 1), 2),
    "stride and dilation": ((1, 2, 7, 5), (1, 2, 2, 3), (3, 2), ((1, 2), (0, 1)), (2, 1), 1),
    "rows never read": ((1, 1, 6, 6), (1, 1, 1, 2), (4, 3), NO_PADDING, (1, 1), 1),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_D6_convolution_agrees_with_mpmath(name):
    """An output sums the pixels whose numbers a padded picture shows it; the gradients follow by the product rule."""
    x_shape, weight_shape, stride, padding, dilation, groups = CONVOLUTIONS[name]
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, weight, bias = random(*x_shape), random(*weight_shape), random(weight_shape[0])
    padded = np.pad(np.arange(1, x.size + 1).reshape(x_shape), ((0, 0), (0, 0), *padding))  # 0 is the padding
    k_h, k_w = weight_shape[2:]
    inside, outside = weight_shape[1], weight_shape[0] // groups
    tops = range(0, padded.shape[2] - dilation[0] * (k_h - 1), stride[0])
    lefts = range(0, padded.shape[3] - dilation[1] * (k_w - 1), stride[1])
    output = np.zeros((x_shape[0], weight_shape[0], len(tops), len(lefts)))
    output_majorant = np.zeros_like(output)
    grad_output = random(*output.shape, seed=1)
    grads = [mpmath.matrix(array.size, 1) for array in (x, weight)]
    majorants = [mpmath.matrix(array.size, 1) for array in (x, weight)]
    for b, o, i, j in np.ndindex(*output.shape):
        first = inside * (o // outside)
        patch = padded[
            b,
            first : first + inside,
            tops[i] : tops[i] + dilation[0] * (k_h - 1) + 1 : dilation[0],
            lefts[j] : lefts[j] + dilation[1] * (k_w - 1) + 1 : dilation[1],
        ]
        terms = [(pixel - 1, o * weight[0].size + tap) for tap, pixel in enumerate(patch.ravel().tolist()) if pixel]
        pairs = [(mpmath.mpf(x.flat[pixel]), mpmath.mpf(weight.flat[tap])) for pixel, tap in terms]
        output[b, o, i, j] = mpmath.fdot(pairs) + mpmath.mpf(bias[o])
        output_majorant[b, o, i, j] = mpmath.fsum(abs(p * q) for p, q in pairs) + abs(bias[o])
        seed = mpmath.mpf(grad_output[b, o, i, j])
        for (pixel, tap), (value, factor) in zip(terms, pairs, strict=True):
            grads[0][pixel] += seed * factor
            grads[1][tap] += seed * value
            majorants[0][pixel] += abs(seed * factor)
            majorants[1][tap] += abs(seed * value)
    length = weight[0].size + x.size + output.size  # no entry sums more than this
    allowed = inner_product_bound(length, output_majorant, np.float64) + ROUNDOFF * np.abs(output)
    assert_within(spec.conv2d(x, weight, bias, **geometry), output, allowed, "output")
    ours = (
        spec.conv2d_input_gradient(grad_output, weight, x_shape[2:], **geometry),
        spec.conv2d_weight_gradient(x, grad_output, weight_shape[2:], **geometry),
    )
    for mine, true, majorant in zip(ours, grads, majorants, strict=True):
        bound = inner_product_bound(length, floats(majorant).reshape(mine.shape), np.float64)
        assert_within(mine, floats(true).reshape(mine.shape), bound)
    sums = [mpmath.fsum(map(mpmath.mpf, grad_output[:, o].ravel())) for o in range(len(bias))]
    assert_within(spec.conv2d_bias_gradient(grad_output), [float(total) for total in sums], 0.0)


@pytest.mark.parametrize("leading", [(3,), (2, 3), (2, 1, 3)])
def test_D6_linear_agrees_with_mpmath(leading):
    x, weight, bias, grad_output = random(*leading, 4), random(2, 4), random(2), random(*leading, 2, seed=1)
    A, W, G = exact(x.reshape(-1, 4)), exact(weight), exact(grad_output.reshape(-1, 2))
    ones = mpmath.ones(A.rows, 1)
    cases = [
        (spec.linear(x, weight, bias), A * W.T + ones * exact(bias[None]), np.abs(x) @ np.abs(weight).T + np.abs(bias)),
        (spec.linear_input_gradient(grad_output, weight), G * W, np.abs(grad_output) @ np.abs(weight)),
        (spec.linear_weight_gradient(x, grad_output), G.T * A, np.abs(floats(G)).T @ np.abs(floats(A))),
        (spec.linear_bias_gradient(grad_output), G.T * ones, np.abs(floats(G)).sum(axis=0)),
    ]
    for ours, true, majorant in cases:
        assert_within(ours, floats(true).reshape(ours.shape), inner_product_bound(4, majorant, np.float64))


# By hand


def test_unfold_of_2x3x4_is_the_one_in_the_documentation():
    tensor = np.arange(24.0).reshape(2, 3, 4)
    assert_same_bits(spec.unfold(tensor, 0), np.arange(24.0).reshape(2, 12))
    assert_same_bits(spec.unfold(tensor, 2)[1], np.arange(1.0, 24.0, 4.0))


def test_D1_a_tie_is_enough():
    assert spec.explained_variance_rank([1.0, 1.0], 0.5) == 1
    assert spec.explained_variance_rank([2.0, 1.0, 1.0, 1.0, 1.0], 0.5) == 1
    assert spec.explained_variance_rank([2.0, 1.0, 1.0, 1.0, 1.0], math.nextafter(0.5, 1)) == 2
    assert spec.explained_variance_rank([1.0, 1e-200], 1.0) == 2


def test_D1_squares_and_not_the_singular_values_are_summed():
    assert spec.explained_variance_rank([3.0, 2.0, 2.0], Fraction(1, 2)) == 1
    assert spec.explained_variance_rank([2.0, 1.0, 1.0, 1.0], Fraction(1, 2)) == 1


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 1, 3), (2, 2, 2, 2)])
def test_D1_a_zero_tensor_keeps_one_column_that_is_a_unit_vector(shape):
    zeros = np.zeros(shape)
    for core, factors in (spec.hosvd(zeros, 0.5), spec.sequential_hosvd(zeros, 1.0)):
        assert_same_bits(core, np.zeros((1,) * len(shape)))
        for factor in factors:
            assert_same_bits(factor.T @ factor, np.ones((1, 1)))
    left, right = spec.truncated_svd(zeros, 0.5)
    assert_same_bits(left, np.zeros((shape[0], 1)))
    assert_same_bits(right @ right.T, np.ones((1, 1)))
    core, factors = spec.subspace_iteration(zeros, [np.ones((length, 1)) for length in shape])
    assert_same_bits(core, np.zeros((1,) * len(shape)))
    assert all(np.linalg.norm(factor) == 1 for factor in factors)


def test_dependent_columns_are_replaced_and_the_order_is_kept():
    matrix = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
    assert_same_bits(spec.orthonormal_columns(matrix), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))


def test_a_rank_deficient_tall_matrix_gets_a_complete_basis():
    matrix = random(12, 2) @ random(2, 3)
    left, values, right = spec.jacobi_svd(matrix)
    assert left.shape == (12, 12)
    assert right.shape == (3, 3)
    assert_within(left.T @ left, np.eye(12), LAPACK_THRESHOLD * 12 * ROUNDOFF)
    assert_within(right @ right.T, np.eye(3), LAPACK_THRESHOLD * 12 * ROUNDOFF)
    assert values[2] <= singular_value_bound(12, float(np.linalg.norm(matrix)), np.float64)


def test_truncated_svd_and_hosvd_of_given_ranks():
    tensor = random(3, 2, 4)
    left, right = spec.truncated_svd(tensor, rank=2)
    assert (left.shape, right.shape) == ((3, 2), (2, 8))
    core, factors = spec.hosvd(tensor, ranks=(1, 2, 3))
    assert core.shape == (1, 2, 3)
    assert spec.stored_numbers(core, factors) == 6 + 3 * 1 + 2 * 2 + 4 * 3
    column = np.array([[1.0], [2.0], [3.0]])
    _, (tall, _) = spec.hosvd(column, ranks=(3, 1))  # more columns than the unfolding has
    assert_within(tall.T @ tall, np.eye(3), LAPACK_THRESHOLD * 3 * ROUNDOFF)


def test_pixels_that_the_stride_never_reaches_get_no_gradient():
    grad_input = spec.conv2d_input_gradient(np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 2)), (6, 6), stride=(4, 3))
    read = np.zeros((6, 6))
    read[np.ix_([0, 4], [0, 1, 3, 4])] = 1.0
    assert_same_bits(grad_input[0, 0], read)


def test_everything_read_only_strided_or_reversed_gives_the_same_bits():
    x, weight, bias = random(2, 2, 4, 5), random(2, 2, 2, 2), random(2)
    expected = spec.compressed_conv2d_step(
        x, weight, bias, np.ones((2, 2, 3, 4)), method="hosvd", explained_variance=0.8
    )
    wide = np.repeat(np.repeat(x, 2, axis=0), 3, axis=3)[::2, :, :, ::3]
    backwards = np.ascontiguousarray(x[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    frozen = np.asfortranarray(x)
    frozen.flags.writeable = False
    for same in (wide, backwards, frozen):
        step = spec.compressed_conv2d_step(
            same, weight, bias, np.broadcast_to(1.0, (2, 2, 3, 4)), method="hosvd", explained_variance=0.8
        )
        for mine, theirs in zip(step[:6], expected[:6], strict=True):
            assert_same_bits(mine, theirs)
        assert step[7:] == expected[7:]


def test_nothing_is_written_into_the_arguments():
    x, weight, bias, grad_output = random(2, 2, 3, 3), random(2, 2, 2, 2), random(2), random(2, 2, 2, 2, seed=1)
    before = [array.copy() for array in (x, weight, bias, grad_output)]
    for method in ("exact", "svd", "hosvd", "sequential hosvd"):
        spec.compressed_conv2d_step(x, weight, bias, grad_output, method=method, explained_variance=0.7)
    for array, copy in zip((x, weight, bias, grad_output), before, strict=True):
        assert_same_bits(array, copy)


ALLOWED = {"__future__", "collections", "fractions", "itertools", "math", "numbers", "numpy", "typing"}


def test_the_specification_imports_nothing_else_of_refgrad_and_no_linear_algebra():
    for file in Path(spec.__file__).parent.glob("*.py"):
        text = file.read_text()
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in ALLOWED or name.startswith("refgrad.specification"), f"{file.name}: {name}"
        for shortcut in ("linalg", "einsum", "matmul", "tensordot", "np.dot", "@ ", "moveaxis", "np.pad"):
            assert shortcut not in text, f"{file.name} uses {shortcut}"


# Refusals

X, WEIGHT, GRAD = np.ones((2, 4, 5, 6)), np.ones((2, 4, 2, 3)), np.ones((2, 2, 4, 4))
TENSOR = np.ones((2, 3, 4))
REFUSALS = {
    "no array": (
        TypeError,
        "tensor must be a float64 array, in which the specification computes, got list",
        lambda: spec.unfold([1.0], 0),
    ),
    "float32": (
        TypeError,
        "x must be a float64 array, in which the specification computes, got an array of dtype float32",
        lambda: spec.conv2d(X.astype(np.float32), WEIGHT),
    ),
    "no axis": (ValueError, "tensor must have 1 or more axes, got shape ()", lambda: spec.unfold(np.ones(()), 0)),
    "empty": (ValueError, "tensor must not be empty, got shape (0, 2)", lambda: spec.hosvd(np.ones((0, 2)), 0.5)),
    "not finite": (
        ValueError,
        "tensor must be finite, got inf at index (1,)",
        lambda: spec.hosvd(np.array([1, np.inf]), 0.5),
    ),
    "NaN in a convolution": (
        ValueError,
        "bias must be finite, got nan at index (1,)",
        lambda: spec.conv2d(X, WEIGHT, np.array([0, np.nan])),
    ),
    "no such mode": (ValueError, "mode must be at least 0 and at most 2, got 3", lambda: spec.unfold(TENSOR, 3)),
    "negative mode": (ValueError, "mode must be at least 0 and at most 2, got -1", lambda: spec.unfold(TENSOR, -1)),
    "fold": (
        ValueError,
        "matrix must have shape (3, 8) to fold into (2, 3, 4), got (2, 12)",
        lambda: spec.fold(np.ones((2, 12)), 1, (2, 3, 4)),
    ),
    "mode product": (
        ValueError,
        "matrix must have as many columns as mode 1 of the tensor is long, 3, got shape (2, 2)",
        lambda: spec.mode_product(TENSOR, np.ones((2, 2)), 1),
    ),
    "reconstruct": (
        ValueError,
        "factors must be one matrix a mode, 3, got 1",
        lambda: spec.reconstruct(TENSOR, [np.ones((2, 2))]),
    ),
    "SVD of a tensor": (ValueError, "matrix must have 2 axes, got shape (2, 3, 4)", lambda: spec.jacobi_svd(TENSOR)),
    "too many columns": (
        ValueError,
        "matrix must have no more columns than rows, got shape (2, 3)",
        lambda: spec.orthonormal_columns(np.ones((2, 3))),
    ),
    "explained variance 0": (
        ValueError,
        "explained_variance must be in (0, 1], got 0",
        lambda: spec.explained_variance_rank([1.0], 0),
    ),
    "explained variance over 1": (
        ValueError,
        "explained_variance must be in (0, 1], got 1.2",
        lambda: spec.hosvd(TENSOR, 1.2),
    ),
    "explained variance NaN": (
        ValueError,
        "explained_variance must be in (0, 1], got nan",
        lambda: spec.truncated_svd(TENSOR, math.nan),
    ),
    "no singular values": (
        ValueError,
        "singular_values must not be empty",
        lambda: spec.explained_variance_rank([], 0.5),
    ),
    "ascending": (
        ValueError,
        "singular_values must be finite, not negative and descending, got [1.0, 2.0]",
        lambda: spec.explained_variance_rank([1.0, 2.0], 0.5),
    ),
    "negative": (
        ValueError,
        "singular_values must be finite, not negative and descending, got [1.0, -1.0]",
        lambda: spec.explained_variance_rank([1.0, -1.0], 0.5),
    ),
    "infinite": (
        ValueError,
        "singular_values must be finite, not negative and descending, got [inf]",
        lambda: spec.explained_variance_rank([math.inf], 0.5),
    ),
    "neither": (ValueError, "give exactly one of explained_variance and the rank", lambda: spec.hosvd(TENSOR)),
    "both": (
        ValueError,
        "give exactly one of explained_variance and the rank",
        lambda: spec.truncated_svd(TENSOR, 0.5, rank=1),
    ),
    "rank 0": (
        ValueError,
        "a rank must be at least 1 and at most 2, got 0",
        lambda: spec.truncated_svd(TENSOR, rank=0),
    ),
    "rank too large": (
        ValueError,
        "a rank must be at least 1 and at most 3, got 4",
        lambda: spec.hosvd(TENSOR, ranks=(1, 4, 1)),
    ),
    "too few ranks": (
        ValueError,
        "ranks must be one a mode, 3, got 2",
        lambda: spec.sequential_hosvd(TENSOR, ranks=(1, 1)),
    ),
    "order": (
        ValueError,
        "order must name each of the modes 0 to 2 once, got [0, 0, 2]",
        lambda: spec.sequential_hosvd(TENSOR, 0.5, order=(0, 0, 2)),
    ),
    "too few starts": (
        ValueError,
        "previous must be one matrix a mode, 3, got 1",
        lambda: spec.subspace_iteration(TENSOR, [np.ones((2, 1))]),
    ),
    "start of a wrong shape": (
        ValueError,
        "previous[1] must have 3 rows and at most as many columns, got shape (2, 1)",
        lambda: spec.subspace_iteration(TENSOR, [np.ones((2, 1))] * 3),
    ),
    "linear with one axis": (
        ValueError,
        "x must have 2, 3 or 4 axes, got shape (3,)",
        lambda: spec.linear(np.ones(3), np.ones((2, 3))),
    ),
    "linear weight": (
        ValueError,
        "weight (O, I) must have shape (2, 3) to fit the other arguments, got (2, 4)",
        lambda: spec.linear(np.ones((5, 3)), np.ones((2, 4))),
    ),
    "linear bias": (
        ValueError,
        "bias (O,) must have shape (2,) to fit the other arguments, got (3,)",
        lambda: spec.linear(np.ones((5, 3)), np.ones((2, 3)), np.ones(3)),
    ),
    "linear input gradient": (
        ValueError,
        "weight (O, I) must have shape (3, 4) to fit the other arguments, got (2, 4)",
        lambda: spec.linear_input_gradient(np.ones((5, 3)), np.ones((2, 4))),
    ),
    "linear weight gradient": (
        ValueError,
        "grad_output (..., O) must have shape (5, 2) to fit the other arguments, got (4, 2)",
        lambda: spec.linear_weight_gradient(np.ones((5, 3)), np.ones((4, 2))),
    ),
    "channels": (
        ValueError,
        "weight (O, C / groups, k_h, k_w) must have shape (2, 4, 2, 3) to fit the other arguments",
        lambda: spec.conv2d(X, np.ones((2, 3, 2, 3))),
    ),
    "groups": (ValueError, "groups must divide C=4 and O=2, got 4", lambda: spec.conv2d(X, WEIGHT, groups=4)),
    "groups 0": (ValueError, "groups must divide C=4 and O=2, got 0", lambda: spec.conv2d(X, WEIGHT, groups=0)),
    "stride 0": (
        ValueError,
        "stride must be two integers of at least 1, (height, width), got (0, 1)",
        lambda: spec.conv2d(X, WEIGHT, stride=(0, 1)),
    ),
    "dilation of one number": (
        ValueError,
        "dilation must be two integers of at least 1, (height, width), got (2,)",
        lambda: spec.conv2d(X, WEIGHT, dilation=(2,)),
    ),
    "stride 1.5": (
        ValueError,
        "stride must be two integers of at least 1, (height, width), got (1.5, 1)",
        lambda: spec.conv2d(X, WEIGHT, stride=(1.5, 1)),
    ),
    "kernel size": (
        ValueError,
        "kernel_size must be two integers of at least 1, (height, width), got (0, 3)",
        lambda: spec.im2col(X, (0, 3)),
    ),
    "input size": (
        ValueError,
        "the input's size must be two integers of at least 1, (height, width), got (0, 6)",
        lambda: spec.conv2d_input_gradient(GRAD, WEIGHT, (0, 6)),
    ),
    "negative padding": (
        ValueError,
        "padding must be ((top, bottom), (left, right)), none negative, got ((0, -1), (0, 0))",
        lambda: spec.conv2d(X, WEIGHT, padding=((0, -1), (0, 0))),
    ),
    "one padding": (
        ValueError,
        "padding must be ((top, bottom), (left, right)), none negative, got ((0, 0),)",
        lambda: spec.conv2d(X, WEIGHT, padding=((0, 0),)),
    ),
    "kernel too large": (
        ValueError,
        "the kernel must fit the padded picture, got kernel_size (2, 3) with dilation (1, 3) on a (5, 6) picture",
        lambda: spec.conv2d(X, WEIGHT, dilation=(1, 3)),
    ),
    "gradient of another shape": (
        ValueError,
        "grad_output (B, O, H', W') must have shape (2, 2, 4, 4) to fit the other arguments, got",
        lambda: spec.conv2d_weight_gradient(X, GRAD[..., :3], (2, 3)),
    ),
    "gradient of another size": (
        ValueError,
        "grad_output (B, O, H', W') must have shape (2, 2, 4, 5) to fit the other arguments, got",
        lambda: spec.conv2d_input_gradient(GRAD, WEIGHT, (5, 7)),
    ),
    "method": (
        ValueError,
        "method must be one of 'exact', 'svd', 'hosvd', 'sequential hosvd', got 'asi'",
        lambda: spec.compressed_conv2d_step(X, WEIGHT, None, GRAD, method="asi"),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_says_what_is_wrong(name):
    kind, text, call = REFUSALS[name]
    with pytest.raises(kind) as error:
        call()
    assert text in str(error.value)


def test_rotations_that_do_not_come_to_rest_are_an_error(monkeypatch):
    monkeypatch.setattr(singular, "SWEEPS", 1)
    with pytest.raises(
        RuntimeError, match=r"the Jacobi rotations of a \(3, 3\) matrix did not come to rest in 1 sweeps"
    ):
        spec.jacobi_svd(random(3, 3))
