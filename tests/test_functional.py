"""The functions of networks: values and gradients, against formulas with running error (T15) and against PyTorch."""

from functools import partial

import numpy as np
import pytest

from refgrad import functional
from refgrad.rounding import gamma, inner_product_bound, unit_roundoff
from refgrad.tape import Tape, Tensor
from tests.assertions import assert_same_bits, assert_within
from tests.formulas import (
    cross_entropy_formula,
    gelu_tanh_formula,
    log_softmax_formula,
    mse_formula,
    norm_formula,
    sigmoid_formula,
    softmax_formula,
    tanh_formula,
)
from tests.running_error import ELEMENTARY, Running

DTYPES = (np.float32, np.float64)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is the third party that refgrad is checked against")


def normal(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def run(function, *arrays, grad_output=None):
    """Output, gradients with respect to `arrays`, the gradient that was sent back, and the record of the function."""
    with Tape() as tape:
        tensors = [tape.watch(array) for array in arrays]
        output = function(*tensors)
        record = tape.records[output.index]
        if grad_output is None:
            grad_output = normal(output.shape, output.dtype, seed=99)
        loss = np.sum(output * grad_output)
    return output.value, tape.gradient(loss, tensors), grad_output, record


def run_torch(torch, function, *arrays, grad_output):
    """The same by PyTorch in float64."""
    tensors = [torch.from_numpy(array.astype(np.float64)).requires_grad_() for array in arrays]
    output = function(*tensors)
    gradients = torch.autograd.grad(output, tensors, torch.from_numpy(grad_output.astype(np.float64)))
    return output.detach().numpy(), [gradient.numpy() for gradient in gradients]


def allowed(expected, factor=1.0):
    """The bound, and the rounding of the expected value to float64 in the comparison."""
    return factor * expected.error + unit_roundoff(np.float64) * np.abs(expected.value)


def assert_right(actual, expected, label, more=0.0):
    assert_within(actual, expected.value, allowed(expected) + more, label)


CORNERS = np.array([0.0, -0.0, 1e-3, -1e-3, 0.5, -0.5, 3.0, -3.0, 8.0, -8.0, 20.0, -20.0, 95.0, -95.0])
SMOOTH = {
    "sigmoid": (functional.sigmoid, sigmoid_formula),
    "tanh": (functional.tanh, tanh_formula),
    "gelu_tanh": (partial(functional.gelu, approximate="tanh"), gelu_tanh_formula),
    "softmax": (partial(functional.softmax, axis=-2), partial(softmax_formula, axis=-2)),
    "log_softmax": (partial(functional.log_softmax, axis=0), partial(log_softmax_formula, axis=0)),
}


def smooth_input(dtype):
    return (
        np.concatenate([normal((5, 4, 7), dtype).reshape(-1) * 3, CORNERS.astype(dtype)])
        .reshape(7, 2, 11)
        .astype(dtype)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SMOOTH)
def test_T15_smooth_functions_and_their_gradients_are_within_running_error(name, dtype):
    function, formula = SMOOTH[name]
    x = smooth_input(dtype)
    output, (grad_x,), grad_output, _ = run(function, x)
    expected, expected_grad = formula(Running.exact(x), Running.exact(grad_output))
    assert output.dtype == grad_x.dtype == dtype
    assert_right(output, expected, "output")
    assert_right(grad_x, expected_grad, "grad_x")


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_equal_torch(torch, name):
    theirs = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "gelu_tanh": partial(torch.nn.functional.gelu, approximate="tanh"),
        "softmax": partial(torch.softmax, dim=-2),
        "log_softmax": partial(torch.log_softmax, dim=0),
    }
    function, formula = SMOOTH[name]
    x = smooth_input(np.float64)
    output, (grad_x,), grad_output, _ = run(function, x)
    their_output, (their_grad,) = run_torch(torch, theirs[name], x, grad_output=grad_output)
    expected, expected_grad = formula(Running.exact(x), Running.exact(grad_output))
    # Their 1 + tanh and 1 - tanh^2 cancel to the left of zero, ours does not: a few roundoffs of 1, times what follows.
    cancelled = ELEMENTARY * unit_roundoff(np.float64) if name == "gelu_tanh" else 0.0
    assert_within(output, their_output, allowed(expected, 2.0) + cancelled * np.abs(x), "output")
    factor = np.abs(grad_output) * (1.0 + np.abs(x) * (1.0 + 0.15 * x * x))
    assert_within(grad_x, their_grad, allowed(expected_grad, 2.0) + cancelled * factor, "grad_x")


def gelu_by_mpmath(x, grad_output):
    mpmath = pytest.importorskip("mpmath", reason="mpmath evaluates the normal distribution in high precision")
    with mpmath.workdps(40):
        phi, density = [mpmath.ncdf(float(v)) for v in x], [mpmath.npdf(float(v)) for v in x]
        values = np.array([float(float(v) * p) for v, p in zip(x, phi, strict=True)])
        slopes = np.array([float(p + float(v) * d) for v, p, d in zip(x, phi, density, strict=True)])
        majorants = np.array([float(p + abs(float(v)) * d) for v, p, d in zip(x, phi, density, strict=True)])
    return values, slopes * grad_output, majorants * np.abs(grad_output)


@pytest.mark.parametrize("dtype", DTYPES)
def test_T15_gelu_is_within_what_its_condition_number_allows(dtype):
    x = smooth_input(dtype).reshape(-1)
    output, (grad_x,), grad_output, _ = run(functional.gelu, x)
    values, gradients, majorants = gelu_by_mpmath(x, grad_output.astype(np.float64))
    # A relative error of u in x^2 / 2, the exponent, is one of x^2 u / 2 in Phi and its density; the rest is a chain of
    # elementary functions. Twice for the argument and the result.
    relative = 2 * unit_roundoff(dtype) * (2 * ELEMENTARY + x.astype(np.float64) ** 2)
    tiny = float(np.finfo(dtype).tiny) * (1.0 + np.abs(x.astype(np.float64))) * (1.0 + np.abs(grad_output))
    assert_within(output, values, relative * np.abs(values) + tiny, "output")
    assert_within(grad_x, gradients, relative * majorants + tiny, "grad_x")


def test_gelu_equals_torch(torch):
    x = smooth_input(np.float64)
    output, (grad_x,), grad_output, _ = run(functional.gelu, x)
    their_output, (their_grad,) = run_torch(torch, torch.nn.functional.gelu, x, grad_output=grad_output)
    _, _, majorants = gelu_by_mpmath(x.reshape(-1), grad_output.reshape(-1))
    u = unit_roundoff(np.float64)
    relative = 4 * u * (2 * ELEMENTARY + x**2)
    cancelled = ELEMENTARY * u  # their 1 + erf
    assert_within(output, their_output, relative * np.abs(output) + cancelled * np.abs(x), "output")
    bound = relative * majorants.reshape(x.shape) + cancelled * np.abs(grad_output)
    assert_within(grad_x, their_grad, bound, "grad_x")


def test_the_bound_of_running_error_holds_for_a_naive_evaluation_and_not_for_a_wrong_one():
    x = smooth_input(np.float32)
    expected, _ = softmax_formula(Running.exact(x), Running.exact(x), axis=1)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    naive = powers / powers.sum(axis=1, keepdims=True)
    assert_right(naive, expected, "naive")
    assert np.max(expected.error) < 1e-4, "a bound that allows everything bounds nothing"
    with pytest.raises(AssertionError, match="wrong"):
        assert_right(naive * np.float32(1.0 + 1e-4), expected, "wrong")
    with pytest.raises(AssertionError, match="wrong"):
        assert_right(np.where(x == x[0, 0, 0], np.nan, naive), expected, "wrong")
    with pytest.raises(AssertionError, match="divisor"):
        Running.exact(x) / Running(0.0, 1.0, np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Extremes and kinks
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_overflows_at_extreme_arguments(dtype):
    large = dtype(np.ldexp(1.0, 59 if dtype == np.float32 else 498))
    x = np.array([-large, large, dtype(0)])
    cases = {
        functional.sigmoid: ([0.0, 1.0, 0.5], [0.0, 0.0, 0.25]),
        functional.tanh: ([-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]),
        functional.gelu: ([0.0, large, 0.0], [0.0, 1.0, 0.5]),
        partial(functional.gelu, approximate="tanh"): ([0.0, large, 0.0], [0.0, 1.0, 0.5]),
        functional.relu: ([0.0, large, 0.0], [0.0, 1.0, 0.0]),
        functional.softmax: ([0.0, 1.0, 0.0], [0.0, 0.0, 0.0]),
        functional.log_softmax: ([-2 * large, 0.0, -large], [1.0, -2.0, 1.0]),
    }
    for function, (values, slopes) in cases.items():
        output, (grad_x,), _, _ = run(function, x, grad_output=np.ones(3, dtype))
        assert_same_bits(output, np.array(values, dtype), f"{function}")
        assert_same_bits(grad_x, np.array(slopes, dtype), f"gradient of {function}")
    loss, (grad_x,), _, _ = run(
        lambda t: functional.cross_entropy(t, np.array([0])), x[np.newaxis], grad_output=np.ones((), dtype)
    )
    assert_same_bits(loss, np.array(2 * large, dtype))
    assert_same_bits(grad_x, np.array([[-1.0, 1.0, 0.0]], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_squares_of_extreme_values_neither_overflow_nor_vanish(dtype):
    exponent = 59 if dtype == np.float32 else 498
    x = normal((40, 3, 6, 6), dtype)
    weight, bias = np.ones(3, dtype), np.zeros(3, dtype)
    for t in (exponent, -exponent):
        far = np.ldexp(x, t)
        # With eps = 0 and a power of two, normalisation does not change by one bit.
        plain = functional.batch_norm(x, weight, bias, None, None, training=True, eps=0.0)
        assert_same_bits(functional.batch_norm(far, weight, bias, None, None, training=True, eps=0.0), plain)
        assert_same_bits(functional.layer_norm(far, (6, 6), eps=0.0), functional.layer_norm(x, (6, 6), eps=0.0))
        mean, variance = np.zeros(3, dtype), np.zeros(3, dtype)
        functional.batch_norm(far, weight, bias, mean, variance, training=True, momentum=1.0)
        assert np.all(variance > 0.0)
        assert np.all(np.isfinite(variance))
    loss = functional.mse_loss(np.ldexp(x, exponent), np.zeros_like(x))
    assert_same_bits(loss, np.ldexp(functional.mse_loss(x, np.zeros_like(x)), 2 * exponent))


@pytest.mark.parametrize("value", [1.1, 1e150, 1e-150, -3.7e149])
def test_a_constant_channel_is_normalised_to_exactly_zero(value):
    x = np.full((7, 2, 3, 5), value)
    assert_same_bits(functional.batch_norm(x, None, None, None, None, training=True), np.zeros_like(x))
    assert_same_bits(functional.layer_norm(x, (2, 3, 5)), np.zeros_like(x))


def test_a_large_mean_costs_no_digits_of_the_normalised_values():
    x = np.random.default_rng(0).integers(-50, 50, (8, 2, 4, 4)).astype(np.float64)
    far = x + 2.0**40  # exact, and so is every difference
    plain = functional.batch_norm(x, None, None, None, None, training=True)
    assert_same_bits(functional.batch_norm(far, None, None, None, None, training=True), plain)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_has_no_slope_at_zero(dtype):
    x = np.array([-1.0, -0.0, 0.0, 1.0], dtype)
    output, (grad_x,), _, _ = run(functional.relu, x, grad_output=np.full(4, 3, dtype))
    assert_same_bits(output, np.array([0, 0, 0, 1], dtype))
    assert_same_bits(grad_x, np.array([0, 0, 0, 3], dtype))


def test_nan_passes_through_relu_and_max_pooling_in_both_directions():
    x = np.array([[[[np.nan, 1.0, 2.0, np.nan], [3.0, 0.0, 1.0, 0.0]]]])
    output, (grad_x,), _, _ = run(functional.relu, x, grad_output=np.ones_like(x))
    assert_same_bits(np.isnan(output), np.isnan(x))
    assert_same_bits(grad_x, np.array([[[[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0]]]]))
    output, (grad_x,), _, _ = run(lambda t: functional.max_pool2d(t, 2), x, grad_output=np.ones((1, 1, 1, 2)))
    assert np.isnan(output).all()
    assert_same_bits(grad_x, np.isnan(x).astype(float))


def test_the_first_of_several_maxima_has_all_of_the_gradient():
    x = np.array([[[[1.0, 2.0, 2.0], [2.0, 0.0, 2.0]]]])
    _, (grad_x,), _, _ = run(lambda t: functional.max_pool2d(t, (2, 3)), x, grad_output=np.full((1, 1, 1, 1), 5.0))
    assert_same_bits(grad_x, np.array([[[[0.0, 5.0, 0.0], [0.0, 0.0, 0.0]]]]))
    lowest = np.full((1, 1, 2, 2), -np.inf)
    output, (grad_x,), _, _ = run(
        lambda t: functional.max_pool2d(t, 2, 1, 1), lowest, grad_output=np.ones((1, 1, 3, 3))
    )
    assert np.isneginf(output).all()
    assert_same_bits(grad_x, np.array([[[[4.0, 2.0], [2.0, 1.0]]]]))  # a padded tap is never the maximum


# ---------------------------------------------------------------------------------------------------------------------
# Pooling, normalisation, layers and losses against PyTorch
# ---------------------------------------------------------------------------------------------------------------------

POOLS = [
    (2, None, 0, 1, False),
    (3, 2, 1, 1, False),
    (3, 2, 1, 1, True),
    ((2, 3), (3, 1), (1, 1), 1, False),
    ((3, 2), 1, 0, (2, 3), False),
    (4, 1, 2, 2, False),
    (2, 3, 1, 1, True),
    ((1, 4), (2, 3), (0, 2), 1, True),
]


@pytest.mark.parametrize(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), POOLS)
def test_max_pooling_equals_torch(torch, kernel_size, stride, padding, dilation, ceil_mode):
    x = np.random.default_rng(0).integers(0, 4, (2, 3, 7, 8)).astype(np.float64)  # full of ties
    arguments = (kernel_size, stride, padding, dilation, ceil_mode)
    output, (grad_x,), grad_output, _ = run(lambda t: functional.max_pool2d(t, *arguments), x)
    assert_pooled_as_torch(
        torch, lambda t: torch.nn.functional.max_pool2d(t, *arguments), x, output, grad_x, grad_output, 0
    )


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("divisor_override", [None, 5])
@pytest.mark.parametrize(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), [p for p in POOLS if p[3] == 1])
def test_average_pooling_equals_torch(
    torch, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override
):
    x = normal((2, 3, 7, 8))
    arguments = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    output, (grad_x,), grad_output, _ = run(lambda t: functional.avg_pool2d(t, *arguments), x)
    reference = partial(torch.nn.functional.avg_pool2d)
    assert_pooled_as_torch(torch, lambda t: reference(t, *arguments), x, output, grad_x, grad_output, 9)


@pytest.mark.parametrize("size", [1, 3, (2, 5), (7, 8), (9, 20), (None, 3), (4, None)])
def test_adaptive_pooling_equals_torch(torch, size):
    for name, data, length in (
        ("adaptive_avg_pool2d", normal((2, 3, 7, 8)), 56),
        ("adaptive_max_pool2d", np.random.default_rng(0).integers(0, 4, (2, 3, 7, 8)).astype(np.float64), 0),
    ):
        output, (grad_x,), grad_output, _ = run(lambda t, name=name: getattr(functional, name)(t, size), data)
        theirs = getattr(torch.nn.functional, name)
        assert_pooled_as_torch(torch, lambda t, f=theirs: f(t, size), data, output, grad_x, grad_output, length)


def test_adaptive_pooling_to_the_size_that_is_there_changes_nothing():
    x = normal((2, 3, 4, 5))
    assert_same_bits(functional.adaptive_avg_pool2d(x, None), x)
    assert_same_bits(functional.adaptive_max_pool2d(x, None), x)


def assert_pooled_as_torch(torch, theirs, x, output, grad_x, grad_output, length):
    """`length` is that of the sums in the output; 0 where it is chosen, not computed."""
    their_output, (their_grad,) = run_torch(torch, theirs, x, grad_output=grad_output)
    majorant, (grad_majorant,) = run_torch(torch, theirs, np.abs(x) if length else x, grad_output=np.abs(grad_output))
    assert_within(output, their_output, 2 * gamma(length + 1, np.float64) * majorant if length else 0.0, "output")
    readers = grad_output[0, 0].size  # no pixel is read by more windows than there are
    assert_within(grad_x, their_grad, 2 * gamma(readers + 1, np.float64) * grad_majorant, "grad_x")


NORMS = {
    "batch_norm 4 axes": ((5, 3, 4, 6), (0, 2, 3), (3,), (1, 3, 1, 1)),
    "batch_norm 2 axes": ((9, 4), (0,), (4,), (1, 4)),
    "batch_norm 3 axes": ((2, 3, 5), (0, 2), (3,), (1, 3, 1)),
    "layer_norm 1 axis": ((4, 3, 7), (2,), (7,), (1, 1, 7)),
    "layer_norm 3 axes": ((3, 2, 4, 5), (1, 2, 3), (2, 4, 5), (1, 2, 4, 5)),
}


def norm_of(name, shape):
    if name.startswith("batch"):
        return lambda x, w, b: functional.batch_norm(x, w, b, None, None, training=True)
    return lambda x, w, b: functional.layer_norm(x, shape, w, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NORMS)
def test_T15_normalisation_and_its_gradients_are_within_running_error(name, dtype):
    shape, axes, affine, affine_shape = NORMS[name]
    x, weight, bias = normal(shape, dtype) * dtype(3) + dtype(2), normal(affine, dtype, 1), normal(affine, dtype, 2)
    output, gradients, grad_output, _ = run(norm_of(name, affine), x, weight, bias)
    numbers = map(Running.exact, (x, weight, bias, grad_output))
    expected, expected_gradients = norm_formula(*numbers, axes, affine_shape, 1e-5)
    assert_right(output, expected, "output")
    for label, actual, wanted in zip(("x", "weight", "bias"), gradients, expected_gradients, strict=True):
        assert actual.dtype == dtype
        assert_right(actual, wanted.reshape(actual.shape), label)


@pytest.mark.parametrize("name", NORMS)
def test_normalisation_equals_torch(torch, name):
    shape, axes, affine, affine_shape = NORMS[name]
    x, weight, bias = normal(shape) * 3 + 2, normal(affine, seed=1), normal(affine, seed=2)
    output, gradients, grad_output, _ = run(norm_of(name, affine), x, weight, bias)

    def theirs(x, w, b):
        if name.startswith("batch"):
            return torch.nn.functional.batch_norm(x, None, None, w, b, training=True)
        return torch.nn.functional.layer_norm(x, affine, w, b)

    their_output, their_gradients = run_torch(torch, theirs, x, weight, bias, grad_output=grad_output)
    numbers = [Running.exact(array) for array in (x, weight, bias, grad_output)]
    ours, our_gradients = norm_formula(*numbers, axes, affine_shape, 1e-5)
    textbook, textbook_gradients = norm_formula(*numbers, axes, affine_shape, 1e-5, shifted=False)
    assert_within(output, their_output, allowed(ours) + allowed(textbook), "output")
    for actual, their, mine, plain in zip(gradients, their_gradients, our_gradients, textbook_gradients, strict=True):
        assert_within(actual, their, (allowed(mine) + allowed(plain)).reshape(actual.shape), "gradient")


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_in_evaluation_uses_the_running_statistics_as_constants(torch, dtype):
    x, weight, bias = normal((4, 3, 5, 2), dtype), normal(3, dtype, 1), normal(3, dtype, 2)
    mean, variance = normal(3, dtype, 3), np.abs(normal(3, dtype, 4))
    before = mean.copy(), variance.copy()
    output, gradients, grad_output, _ = run(
        lambda x, w, b: functional.batch_norm(x, w, b, mean, variance, training=False), x, weight, bias
    )
    numbers = [
        Running.exact(a.reshape(1, 3, 1, 1) if a.ndim == 1 else a)
        for a in (x, weight, bias, mean, variance, grad_output)
    ]
    rx, rw, rb, rmean, rvar, rg = numbers
    inverse = 1.0 / (rvar + 1e-5).sqrt()
    normalised = (rx - rmean) * inverse
    others = (0, 2, 3)
    expected = [normalised * rw + rb, rg * rw * inverse, (rg * normalised).sum(others), rg.sum(others)]
    theirs = [torch.from_numpy(a.astype(np.float64)) for a in (mean, variance)]
    their_output, their_gradients = run_torch(
        torch,
        lambda x, w, b: torch.nn.functional.batch_norm(x, *theirs, w, b, training=False),
        *(x, weight, bias),
        grad_output=grad_output,
    )
    for actual, wanted, their in zip([output, *gradients], expected, [their_output, *their_gradients], strict=True):
        assert_right(actual, wanted.reshape(actual.shape), "against the formula")
        assert_within(actual, their, allowed(wanted, 2.0).reshape(actual.shape), "against torch")
    assert_same_bits(mean, before[0])
    assert_same_bits(variance, before[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_running_statistics_move_as_torch_moves_them(torch, dtype):
    x = normal((4, 3, 5, 2), dtype)
    mean, variance = normal(3, dtype, 3), np.abs(normal(3, dtype, 4))
    theirs = [torch.from_numpy(a.astype(np.float64)) for a in (mean, variance)]
    torch.nn.functional.batch_norm(torch.from_numpy(x.astype(np.float64)), *theirs, training=True, momentum=0.3)
    rx = Running.exact(x)
    centred = rx - rx.mean((0, 2, 3))
    unbiased = (centred * centred).sum((0, 2, 3)) / (x.size // 3 - 1)
    numbers = [Running.exact(a).constant(0.7) * Running.exact(a) + Running.exact(a).constant(0.3) * b.reshape(3)
               for a, b in ((mean, rx.mean((0, 2, 3))), (variance, unbiased))]  # fmt: skip
    functional.batch_norm(x, None, None, mean, variance, training=True, momentum=0.3)
    for actual, expected, their in zip((mean, variance), numbers, theirs, strict=True):
        assert_right(actual, expected, "against the formula")
        assert_within(actual, their.numpy(), allowed(expected, 2.0), "against torch")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 2), (2, 3, 4, 2)])
def test_cross_entropy_is_within_running_error_and_equals_torch(torch, shape, reduction, dtype):
    x = normal(shape, dtype) * dtype(4)
    labels = np.random.default_rng(5).integers(0, shape[1], (shape[0], *shape[2:]))
    loss, (grad_x,), grad_output, _ = run(lambda t: functional.cross_entropy(t, labels, reduction=reduction), x)
    numbers = Running.exact(x), Running.exact(grad_output)
    expected, expected_grad = cross_entropy_formula(*numbers, labels, reduction)
    assert loss.dtype == grad_x.dtype == dtype
    assert_right(loss, expected, "loss")
    assert_right(grad_x, expected_grad, "grad_x")
    theirs = partial(torch.nn.functional.cross_entropy, target=torch.from_numpy(labels), reduction=reduction)
    their_loss, (their_grad,) = run_torch(torch, theirs, x, grad_output=grad_output)
    assert_within(loss, their_loss, allowed(expected, 2.0), "against torch")
    assert_within(grad_x, their_grad, allowed(expected_grad, 2.0), "gradient against torch")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss_is_within_running_error_and_equals_torch(torch, reduction, dtype):
    x, target = normal((4, 5), dtype), normal((4, 5), dtype, 1)
    loss, gradients, grad_output, _ = run(lambda a, b: functional.mse_loss(a, b, reduction=reduction), x, target)
    expected, expected_grad = mse_formula(*map(Running.exact, (x, target, grad_output)), reduction)
    assert_right(loss, expected, "loss")
    assert_right(gradients[0], expected_grad, "grad_x")
    assert_same_bits(gradients[1], -gradients[0])
    theirs = partial(torch.nn.functional.mse_loss, reduction=reduction)
    their_loss, (their_grad, _) = run_torch(torch, theirs, x, target, grad_output=grad_output)
    assert_within(loss, their_loss, allowed(expected, 2.0), "against torch")
    assert_within(gradients[0], their_grad, allowed(expected_grad, 2.0), "gradient against torch")


CONVS = [
    ((2, 4, 7, 6), (6, 4, 3, 3), {"padding": 1}),
    ((2, 4, 9, 8), (6, 2, 3, 2), {"stride": (2, 3), "padding": (1, 0), "dilation": (1, 2), "groups": 2}),
    ((3, 4, 5, 5), (8, 1, 3, 3), {"groups": 4, "stride": 2}),
    ((1, 3, 4, 4), (2, 3, 1, 1), {}),
]


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("x_shape", "weight_shape", "attributes"), CONVS)
def test_D6_conv2d_and_its_gradients_equal_torch(torch, x_shape, weight_shape, attributes, with_bias):
    arrays = [normal(x_shape), normal(weight_shape, seed=1), *([normal(weight_shape[0], seed=2)] if with_bias else [])]
    output, gradients, grad_output, _ = run(lambda *a: functional.conv2d(*a, **attributes), *arrays)
    theirs = partial(torch.nn.functional.conv2d, **attributes)
    assert_bilinear_as_torch(torch, theirs, arrays, output, gradients, grad_output)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (2, 3, 2, 4)])
def test_D6_linear_and_its_gradients_equal_torch(torch, shape, with_bias):
    arrays = [normal(shape), normal((3, 4), seed=1), *([normal(3, seed=2)] if with_bias else [])]
    output, gradients, grad_output, _ = run(functional.linear, *arrays)
    assert_bilinear_as_torch(torch, torch.nn.functional.linear, arrays, output, gradients, grad_output)


def assert_bilinear_as_torch(torch, theirs, arrays, output, gradients, grad_output):
    their_output, their_gradients = run_torch(torch, theirs, *arrays, grad_output=grad_output)
    majorant, majorants = run_torch(torch, theirs, *map(np.abs, arrays), grad_output=np.abs(grad_output))
    longest = max(output.size // output.shape[1] if output.ndim == 4 else output.size, *(a.size for a in arrays))
    assert_within(output, their_output, 2 * inner_product_bound(longest, majorant, np.float64), "output")
    for actual, their, bound in zip(gradients, their_gradients, majorants, strict=True):
        assert_within(actual, their, 2 * inner_product_bound(longest, bound, np.float64), "gradient")


def test_flatten_joins_axes_and_its_gradient_splits_them():
    x = normal((2, 3, 4, 5))
    output, (grad_x,), grad_output, record = run(functional.flatten, x)
    assert_same_bits(output, x.reshape(2, 60))
    assert_same_bits(grad_x, grad_output.reshape(x.shape))
    assert record.nbytes == 0
    assert functional.flatten(x, 1, 2).shape == (2, 12, 5)
    assert functional.flatten(x, -2).shape == (2, 3, 20)
    assert functional.flatten(x[:, 0], 1, 1).shape == (2, 4, 5)


def test_dropout_keeps_one_element_in_one_minus_p_and_the_mean():
    count, p = 200_000, 0.3
    x = np.ones(count)
    output = functional.dropout(x, p, generator=np.random.default_rng(1), training=True)
    assert set(np.unique(output)) == {0.0, 1.0 / (1.0 - p)}
    # Eight standard deviations of a binomial count.
    assert abs(np.count_nonzero(output) - count * (1 - p)) < 8 * np.sqrt(count * p * (1 - p))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_lets_through_the_gradient_of_what_it_let_through(dtype):
    x = normal((6, 7), dtype)
    output, (grad_x,), grad_output, _ = run(
        lambda t: functional.dropout(t, 0.4, generator=np.random.default_rng(3), training=True), x
    )
    stayed = np.random.default_rng(3).random((6, 7)) >= 0.4
    scale = 1.0 / (1.0 - 0.4)
    assert_same_bits(output, np.where(stayed, x * scale, dtype(0)).astype(dtype))
    assert_same_bits(grad_x, np.where(stayed, grad_output * scale, dtype(0)).astype(dtype))
    assert not np.all(stayed)


def test_dropout_without_training_is_its_argument_and_draws_nothing():
    generator = np.random.default_rng(0)
    x = np.ones(3)
    assert functional.dropout(x, 0.5, generator=generator, training=False) is x
    assert generator.random() == np.random.default_rng(0).random()
    assert_same_bits(functional.dropout(x, 0.0, generator=generator, training=True), x)


# ---------------------------------------------------------------------------------------------------------------------
# Kinds of arguments
# ---------------------------------------------------------------------------------------------------------------------

ONE_ARGUMENT = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu tanh": partial(functional.gelu, approximate="tanh"),
    "sigmoid": functional.sigmoid,
    "tanh": functional.tanh,
    "softmax": functional.softmax,
    "log_softmax": functional.log_softmax,
    "max_pool2d": partial(functional.max_pool2d, kernel_size=2),
    "avg_pool2d": partial(functional.avg_pool2d, kernel_size=2),
    "adaptive_avg_pool2d": partial(functional.adaptive_avg_pool2d, output_size=2),
    "adaptive_max_pool2d": partial(functional.adaptive_max_pool2d, output_size=2),
    "batch_norm": lambda x: functional.batch_norm(x, None, None, None, None, training=True),
    "layer_norm": lambda x: functional.layer_norm(x, 5),
    "dropout": lambda x: functional.dropout(x, generator=np.random.default_rng(0), training=True),
    "flatten": functional.flatten,
    "cross_entropy": lambda x: functional.cross_entropy(x, np.zeros((2, 4, 5), int)),
    "mse_loss": lambda x: functional.mse_loss(x, np.zeros(x.shape, x.dtype)),
    "conv2d": lambda x: functional.conv2d(x, np.ones((1, 3, 2, 2), x.dtype)),
    "linear": lambda x: functional.linear(x, np.ones((2, 5), x.dtype)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_an_array_gives_an_array_and_a_tensor_a_tensor_with_the_same_bits(name, dtype):
    x = normal((2, 3, 4, 5), dtype)
    before = x.copy()
    plain = ONE_ARGUMENT[name](x)
    with Tape() as tape:
        recorded = ONE_ARGUMENT[name](tape.watch(x))
    assert isinstance(plain, np.ndarray)
    assert isinstance(recorded, Tensor)
    assert plain.dtype == dtype
    assert plain.flags.writeable
    assert_same_bits(recorded.value, plain)
    assert_same_bits(x, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "function",
    [
        functional.relu,
        functional.gelu,
        functional.sigmoid,
        functional.tanh,
        partial(functional.gelu, approximate="tanh"),
    ],
)
def test_elementwise_functions_take_arrays_without_axes(function, dtype):
    one = np.array(0.7, dtype)
    output = function(one)
    assert isinstance(output, np.ndarray)
    assert output.dtype == dtype
    assert_same_bits(output, function(one.reshape(1))[0])
    value, (gradient,), _, _ = run(function, one, grad_output=np.ones((), dtype))
    assert value.shape == gradient.shape == ()
