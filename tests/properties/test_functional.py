"""Properties of the functions of networks, over shapes, dtypes, memory layouts, magnitudes and geometries."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refgrad import functional
from refgrad.convolution import conv2d_bias_gradient, conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient
from refgrad.geometry import ConvGeometry
from refgrad.rounding import gamma, inner_product_bound, unit_roundoff
from refgrad.storage import HOSVD, SVD, Exact
from refgrad.tape import Tape
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
from tests.running_error import Running
from tests.strategies import DTYPES, LAYOUTS, conv_cases, explained_variances, tensors, with_layout

dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**32 - 1)


def run(function, *arrays, grad_output):
    """Output and gradients; `grad_output` is an array, or a function of the output's shape and dtype."""
    with Tape() as tape:
        watched = [tape.watch(array) for array in arrays]
        output = function(*watched)
        sent = grad_output(output.shape).astype(output.dtype) if callable(grad_output) else grad_output
        loss = np.sum(output * sent)
    return output.value, tape.gradient(loss, watched), sent


def integers(seed, lowest=-4, highest=5):
    """Small whole numbers of any shape: sums of them are exact, and they tie often."""
    return lambda shape: np.random.default_rng(seed).integers(lowest, highest, shape).astype(np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# Pooling, against its definition as loops
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoolCase:
    """What a pooling is given; the image is made of small whole numbers."""

    shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    ceil_mode: bool
    seed: int
    layout: str

    def image(self, dtype):
        return with_layout(integers(self.seed)(self.shape).astype(dtype), self.layout)


@st.composite
def pool_cases(draw, longest_dilation=3):
    axes = []
    for axis in ("height", "width"):
        k = draw(st.integers(1, 4), label=f"kernel {axis}")
        d = draw(st.integers(1, longest_dilation), label=f"dilation {axis}")
        extent = d * (k - 1) + 1
        pads = tuple(draw(st.integers(0, extent // 2), label=f"{side} {axis}") for side in ("before", "after"))
        size = draw(st.integers(max(1, extent - sum(pads)), 10), label=axis)
        axes.append((size, k, draw(st.integers(1, 4), label=f"stride {axis}"), pads, d))
    sizes, kernel, stride, padding, dilation = zip(*axes, strict=True)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *sizes)
    ceil_mode, seed, layout = draw(st.booleans(), label="ceil_mode"), draw(seeds), draw(st.sampled_from(LAYOUTS))
    return PoolCase(shape, kernel, stride, padding, dilation, ceil_mode, seed, layout)


def windows(size, kernel, stride, pads, dilation, ceil_mode):
    """By the definition: for each output the pixels that it reads, and how many positions within the padding."""
    extent, before, after = dilation * (kernel - 1) + 1, *pads
    result, start = [], -before
    while True:
        fits = start + extent <= size + after
        uncovered = result and start - stride + extent < size + after
        if not fits and not (ceil_mode and uncovered and start < size):
            return result
        taps = [start + t * dilation for t in range(kernel)]
        result.append(([p for p in taps if 0 <= p < size], sum(p < size + after for p in taps)))
        if not fits:
            return result
        start += stride


def parts(size, count):
    return [(list(range(o * size // count, -(-(o + 1) * size // count))), 0) for o in range(count)]


def pooled_by_loops(x, rows, columns, grad_output):
    """The maximum (the first in row-major order) and the sum of each window, and the gradients of both."""
    maxima = np.full((*x.shape[:2], len(rows), len(columns)), -np.inf, x.dtype)
    sums, grad_max, grad_sum = np.zeros_like(maxima), np.zeros(x.shape, x.dtype), np.zeros(x.shape, x.dtype)
    for i, (read_rows, _) in enumerate(rows):
        for j, (read_columns, _) in enumerate(columns):
            pixels = [(h, w) for h in read_rows for w in read_columns]
            for h, w in pixels:
                maxima[:, :, i, j] = np.maximum(maxima[:, :, i, j], x[:, :, h, w])
                sums[:, :, i, j] += x[:, :, h, w]
                grad_sum[:, :, h, w] += grad_output[:, :, i, j]
            waiting = np.ones(x.shape[:2], dtype=bool)
            for h, w in pixels:
                first = waiting & (x[:, :, h, w] == maxima[:, :, i, j])
                grad_max[:, :, h, w] += np.where(first, grad_output[:, :, i, j], 0)
                waiting &= ~first
    return maxima, sums, grad_max, grad_sum


@given(case=pool_cases(), dtype=dtypes)
@example(case=PoolCase((1, 1, 3, 3), (2, 2), (2, 2), ((1, 1), (1, 1)), (1, 1), True, 0, "C"), dtype=np.float32)
@example(case=PoolCase((1, 2, 5, 1), (4, 1), (1, 3), ((0, 0), (0, 0)), (1, 1), False, 1, "reversed"), dtype=np.float64)
def test_max_pooling_is_that_of_its_definition_bit_for_bit(case, dtype):
    arguments = zip(case.shape[2:], case.kernel, case.stride, case.padding, case.dilation, strict=True)
    rows, columns = (windows(*axis, case.ceil_mode) for axis in arguments)
    x = case.image(dtype)
    geometry = (case.kernel, case.stride, case.padding, case.dilation, case.ceil_mode)
    if not all(pixels for pixels, _ in (*rows, *columns)):
        with pytest.raises(ValueError, match="covers only padding"):
            functional.max_pool2d(x, *geometry)
        return
    pooled, (grad_x,), sent = run(lambda t: functional.max_pool2d(t, *geometry), x, grad_output=integers(case.seed + 1))
    maxima, _, grad_max, _ = pooled_by_loops(x, rows, columns, sent)
    assert_same_bits(pooled, maxima, "maxima")
    assert_same_bits(grad_x, grad_max, "gradient")


@given(case=pool_cases(longest_dilation=1), dtype=dtypes, include=st.booleans(), divisor=st.sampled_from([None, 1, 3]))
def test_average_pooling_is_that_of_its_definition(case, dtype, include, divisor):
    arguments = zip(case.shape[2:], case.kernel, case.stride, case.padding, case.dilation, strict=True)
    rows, columns = (windows(*axis, case.ceil_mode) for axis in arguments)
    x = case.image(dtype)
    pooled, (grad_x,), sent = run(
        lambda t: functional.avg_pool2d(
            t, case.kernel, case.stride, case.padding, case.ceil_mode, include, divisor_override=divisor
        ),
        x,
        grad_output=integers(case.seed + 1),
    )
    counts = np.array(
        [[divisor or (a * b if include else len(p) * len(q)) for q, b in columns] for p, a in rows], dtype=dtype
    )
    assert_averaged(x, rows, columns, counts, pooled, grad_x, sent)


def assert_averaged(x, rows, columns, counts, pooled, grad_x, sent):
    """Sums of whole numbers are exact, so the mean is rounded once; the gradient is a sum of rounded quotients."""
    share = sent / counts
    _, sums, _, grad_sum = pooled_by_loops(x, rows, columns, share)
    _, _, _, majorant = pooled_by_loops(x, rows, columns, np.abs(share))
    assert_same_bits(pooled, sums / counts, "means")
    assert_within(grad_x, grad_sum, 2 * gamma(share[0, 0].size, x.dtype) * majorant, "gradient")
    left, right = np.sum(sent.astype(np.float64) * pooled), np.sum(grad_x.astype(np.float64) * x)
    both = np.sum(np.abs(sent) * pooled_by_loops(np.abs(x), rows, columns, share)[1] / counts)
    assert_within(left, right, inner_product_bound(x.size + share.size + 2, both, x.dtype), "adjoint identity")


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 8), st.integers(1, 8)),
    outputs=st.tuples(st.integers(1, 10), st.integers(1, 10)),
    seed=seeds,
    dtype=dtypes,
    layout=st.sampled_from(LAYOUTS),
)
@example(shape=(1, 1, 1, 7), outputs=(3, 5), seed=0, dtype=np.float32, layout="transposed")
def test_adaptive_pooling_is_that_of_its_definition(shape, outputs, seed, dtype, layout):
    rows, columns = parts(shape[2], outputs[0]), parts(shape[3], outputs[1])
    x = with_layout(integers(seed)(shape).astype(dtype), layout)
    sent = integers(seed + 1)
    pooled, (grad_x,), sent_max = run(lambda t: functional.adaptive_max_pool2d(t, outputs), x, grad_output=sent)
    maxima, _, grad_max, _ = pooled_by_loops(x, rows, columns, sent_max)
    assert_same_bits(pooled, maxima, "maxima")
    assert_same_bits(grad_x, grad_max, "gradient of the maxima")
    pooled, (grad_x,), sent_mean = run(lambda t: functional.adaptive_avg_pool2d(t, outputs), x, grad_output=sent)
    counts = np.array([[len(p) * len(q) for q, _ in columns] for p, _ in rows], dtype=dtype)
    assert_averaged(x, rows, columns, counts, pooled, grad_x, sent_mean)


# ---------------------------------------------------------------------------------------------------------------------
# Elementwise functions, softmax, normalisation
# ---------------------------------------------------------------------------------------------------------------------


@given(x=tensors(), seed=seeds)
def test_relu_splits_numbers_by_their_sign_and_keeps_one_bit_of_each(x, seed):
    with Tape() as tape:
        watched = tape.watch(x)
        positive, negative = functional.relu(watched), functional.relu(-watched)
        sent = integers(seed)(x.shape).astype(x.dtype)
        loss = np.sum(positive * sent)
        record = tape.records[positive.index]
    assert_same_bits(positive.value - negative.value, x)
    assert record.nbytes == -(-x.size // 8)
    assert_same_bits(tape.gradient(loss, watched), np.where(x > 0, sent, x.dtype.type(0)))


LAYOUT_FREE = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "sigmoid": functional.sigmoid,
    "tanh": functional.tanh,
    "max_pool2d": lambda x: functional.max_pool2d(x, 2, 1, 1),
    "avg_pool2d": lambda x: functional.avg_pool2d(x, 2, 1, 1),
    "adaptive_avg_pool2d": lambda x: functional.adaptive_avg_pool2d(x, (2, 3)),
    "dropout": lambda x: functional.dropout(x, generator=np.random.default_rng(0), training=True),
    "flatten": functional.flatten,
}


@given(x=tensors(minimum_axes=4, maximum_axes=4), name=st.sampled_from(sorted(LAYOUT_FREE)), seed=seeds)
def test_memory_layout_changes_no_bit_and_nothing_is_written_to(x, name, seed):
    function, before = LAYOUT_FREE[name], np.array(x)
    compact = np.ascontiguousarray(x)
    assert_same_bits(function(x), function(compact), "arrays")
    output, (grad_x,), sent = run(function, x, grad_output=integers(seed))
    expected, (expected_grad,), _ = run(function, compact, grad_output=sent)
    assert_same_bits(output, expected, "output")
    assert_same_bits(grad_x, expected_grad, "gradient")
    assert_same_bits(x, before, "the argument")


WITH_GRADIENT = {
    **LAYOUT_FREE,
    "softmax": lambda x: functional.softmax(x, 1),
    "log_softmax": lambda x: functional.log_softmax(x, 1),
    "cross_entropy": lambda x: functional.cross_entropy(x, np.zeros((x.shape[0], *x.shape[2:]), int), reduction="none"),
    "mse_loss": lambda x: functional.mse_loss(x, np.ones(x.shape, x.dtype), reduction="none"),
    "batch_norm": lambda x: x if x.size == x.shape[1] else functional.batch_norm(x, *[None] * 4, training=True),
    "layer_norm": lambda x: functional.layer_norm(x, x.shape[-1]),
    "conv2d": lambda x: functional.conv2d(x, np.ones((1, x.shape[1], 1, 1), x.dtype)),
    "linear": lambda x: functional.linear(x, np.ones((2, x.shape[-1]), x.dtype)),
}  # fmt: skip


@given(
    x=tensors(minimum_axes=4, maximum_axes=4, scaled=False),
    name=st.sampled_from(sorted(WITH_GRADIENT)),
    exponent=st.integers(-30, 30),
    seed=seeds,
)
def test_T21_gradients_are_linear_in_what_is_sent_back(x, name, exponent, seed):
    function = WITH_GRADIENT[name]
    with Tape() as tape:
        watched = tape.watch(x)
        output = function(watched)
        record = tape.records[output.index]
        sent = np.random.default_rng(seed).standard_normal(output.shape).astype(x.dtype)
        if record.primitive is None or name == "flatten":
            return  # a reshape has no function of its own, and one value a channel no batch_norm
        once = record.primitive.vjp(0, record.saved, sent)
        # A power of two rounds nothing, as long as nothing is subnormal.
        scaled = record.primitive.vjp(0, record.saved, np.ldexp(sent, exponent))
    tiny = np.finfo(x.dtype).tiny
    normal = (np.abs(once) > tiny * 2.0**31) | (once == 0)
    assert_same_bits(scaled[normal], np.ldexp(once, exponent)[normal])


@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=3).map(tuple),
    shift=st.integers(-1000, 1000),
    seed=seeds,
    dtype=dtypes,
)
def test_softmax_and_its_kin_do_not_see_a_shift_and_their_gradients_sum_to_zero(shape, shift, seed, dtype):
    x = integers(seed, -20, 20)(shape).astype(dtype)
    labels = np.random.default_rng(seed).integers(0, shape[1], (shape[0], *shape[2:]))
    for function in (
        lambda t: functional.softmax(t, 1),
        lambda t: functional.log_softmax(t, 1),
        lambda t: functional.cross_entropy(t, labels, reduction="none"),
    ):
        assert_same_bits(function(x + dtype(shift)), function(x))
    probabilities = functional.softmax(x, 1)
    assert_within(probabilities.sum(axis=1), np.ones(labels.shape), gamma(2 * shape[1] + 1, dtype), "total")
    _, (grad_x,), sent = run(lambda t: functional.softmax(t, 1), x, grad_output=integers(seed + 1))
    numbers = Running.exact(x)
    powers = (numbers - numbers.maximum(1)).exp()
    y, g = powers / powers.sum(1), Running.exact(sent)
    bound = (y * (g - (g * y).sum(1))).sum(1, keepdims=False)
    assert_within(grad_x.astype(np.float64).sum(axis=1), np.zeros(labels.shape), bound.error, "sum of the gradient")


@given(shape=st.tuples(*[st.integers(1, 4)] * 4), seed=seeds, dtype=dtypes, exponent=st.integers(-40, 40))
@example(shape=(2, 1, 1, 1), seed=0, dtype=np.float32, exponent=-40)
def test_normalisation_does_not_see_a_scale_and_its_gradient_no_constant(shape, seed, dtype, exponent):
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    functions = []
    if x.size > shape[1]:
        functions.append(
            (lambda t: functional.batch_norm(t, None, None, None, None, training=True, eps=0.0), (0, 2, 3))
        )
    if shape[2] * shape[3] > 1:
        functions.append((lambda t: functional.layer_norm(t, shape[2:], eps=0.0), (2, 3)))
    for function, axes in functions:
        output, (grad_x,), sent = run(function, x, grad_output=integers(seed))
        far, (far_grad,), _ = run(function, np.ldexp(x, exponent), grad_output=sent)
        assert_same_bits(far, output, "scaled by a power of two")
        assert_same_bits(np.ldexp(far_grad, exponent), grad_x, "gradient, scaled by a power of two")
        gx, xs = Running.exact(sent), Running.exact(x)
        centred = xs - xs[tuple(slice(0, 1) if a in axes else slice(None) for a in range(4))]
        centred = centred - centred.mean(axes)
        variance = (centred * centred).mean(axes)
        if not np.all(np.abs(variance.value) > 4 * variance.error):
            continue  # nearly constant values: no bound
        inverse = 1.0 / variance.sqrt()
        n = centred * inverse
        expected = ((gx - gx.mean(axes) - n * (gx * n).mean(axes)) * inverse).sum(axes)
        total = grad_x.astype(np.float64).sum(axis=axes, keepdims=True)
        assert_within(total, np.zeros(total.shape), expected.error, "a constant changes nothing")


# ---------------------------------------------------------------------------------------------------------------------
# Gradients against the complex step: the derivative of the formula, without a formula for the derivative
# ---------------------------------------------------------------------------------------------------------------------

STEP = np.longdouble(1e-300)


def complex_max(z, axis):
    return np.max(z.real, axis=axis, keepdims=True)


def complex_softmax(z, axis):
    powers = np.exp(z - complex_max(z, axis))
    return powers / powers.sum(axis=axis, keepdims=True)


def complex_norm(z, axes):
    centred = z - z.mean(axis=axes, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + np.longdouble(1e-5))


def complex_gelu(z):
    argument = np.sqrt(np.longdouble(2) / np.longdouble(np.pi)) * (z + np.longdouble(0.044715) * z**3)
    return z / (1 + np.exp(-2 * argument))


def first_labels(x):
    return np.zeros((x.shape[0], *x.shape[2:]), int)


def norm_bound(batch):
    def bound(x, g):
        shape = x.value.shape
        axes = (0, *range(2, len(shape))) if batch else tuple(range(1, len(shape)))
        one = Running(np.ones(1), 0.0, x.dtype)
        return norm_formula(x, one, one, g, axes, (1,) * len(shape), 1e-5)[1][0]

    return bound


FORMULAS = {
    "sigmoid": (functional.sigmoid, lambda z: 1 / (1 + np.exp(-z)), lambda x, g: sigmoid_formula(x, g)[1]),
    "tanh": (functional.tanh, np.tanh, lambda x, g: tanh_formula(x, g)[1]),
    "gelu tanh": (
        lambda x: functional.gelu(x, approximate="tanh"),
        complex_gelu,
        lambda x, g: gelu_tanh_formula(x, g)[1],
    ),
    "softmax": (
        lambda x: functional.softmax(x, 1),
        lambda z: complex_softmax(z, 1),
        lambda x, g: softmax_formula(x, g, 1)[1],
    ),
    "log_softmax": (
        lambda x: functional.log_softmax(x, 1),
        lambda z: z - complex_max(z, 1) - np.log(np.exp(z - complex_max(z, 1)).sum(axis=1, keepdims=True)),
        lambda x, g: log_softmax_formula(x, g, 1)[1],
    ),
    "mse_loss": (
        lambda x: functional.mse_loss(x, np.ones(x.shape, x.dtype), reduction="none"),
        lambda z: (z - 1) * (z - 1),
        lambda x, g: mse_formula(x, Running(np.ones(x.value.shape), 0.0, x.dtype), g, "none")[1],
    ),
    "batch_norm": (
        lambda x: functional.batch_norm(x, None, None, None, None, training=True),
        lambda z: complex_norm(z, (0, *range(2, z.ndim))),
        norm_bound(batch=True),
    ),
    "layer_norm": (
        lambda x: functional.layer_norm(x, x.shape[1:]),
        lambda z: complex_norm(z, tuple(range(1, z.ndim))),
        norm_bound(batch=False),
    ),
    "cross_entropy": (
        lambda x: functional.cross_entropy(x, first_labels(x), reduction="none"),
        lambda z: -np.log(complex_softmax(z, 1)[:, 0]),
        lambda x, g: cross_entropy_formula(x, g, first_labels(x.value), "none")[1],
    ),
}


@given(
    name=st.sampled_from(sorted(FORMULAS)),
    shape=st.lists(st.integers(2, 4), min_size=2, max_size=3).map(tuple),
    seed=seeds,
    dtype=dtypes,
)
def test_T15_gradients_agree_with_the_complex_step_of_the_formula(name, shape, seed, dtype):
    function, formula, bound = FORMULAS[name]
    generator = np.random.default_rng(seed)
    x, direction = generator.standard_normal(shape).astype(dtype), generator.standard_normal(shape)
    _, (grad_x,), sent = run(function, x, grad_output=generator.standard_normal)
    moved = x.astype(np.clongdouble) + 1j * STEP * direction
    expected = np.sum(sent * formula(moved).imag) / STEP
    tolerance = bound(Running.exact(x), Running.exact(sent))
    assert_within(
        np.sum(grad_x.astype(np.longdouble) * direction),
        expected,
        float(np.sum(np.abs(direction) * tolerance.error) + unit_roundoff(np.float64) * np.abs(expected)),
        name,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Layers
# ---------------------------------------------------------------------------------------------------------------------


@given(case=conv_cases())
def test_D7_gradients_of_conv2d_are_those_of_the_exact_convolution(case):
    geometry = ConvGeometry.of(case.weight.shape[2:], **case.attributes)
    output, gradients, _ = run(
        lambda x, w, b: functional.conv2d(x, w, b, **case.attributes),
        *(case.x, case.weight, case.bias),
        grad_output=np.ascontiguousarray(case.grad_output),
    )
    x, weight, bias, sent = (np.ascontiguousarray(a) for a in (case.x, case.weight, case.bias, case.grad_output))
    assert_same_bits(output, conv2d_forward(x, weight, bias, geometry), "output")
    assert_same_bits(gradients[0], conv2d_input_gradient(sent, weight, geometry, x.shape[2:]), "grad_input")
    assert_same_bits(gradients[1], conv2d_weight_gradient(x, sent, geometry), "grad_weight")
    assert_same_bits(gradients[2], conv2d_bias_gradient(sent), "grad_bias")


@given(
    case=conv_cases(spectra=("random", "low rank", "zero", "dead slice")),
    explained_variance=explained_variances,
    seed=seeds,
)
def test_T10_nothing_but_weight_gradients_sees_the_compression(case, explained_variance, seed):
    generator = np.random.default_rng(seed)
    out_channels = case.weight.shape[0]
    second = generator.standard_normal((2, out_channels, 1, 1)).astype(case.x.dtype)
    third = generator.standard_normal((3, 2)).astype(case.x.dtype)
    labels = generator.integers(0, 3, case.x.shape[0])
    results = []
    for store in (Exact(), HOSVD(explained_variance=explained_variance), SVD(explained_variance=explained_variance)):
        with Tape(store=store) as tape:
            sources = [tape.watch(array) for array in (case.x, case.weight, case.bias, second, third)]
            x, w1, b1, w2, w3 = sources
            h = functional.gelu(functional.conv2d(x, w1, b1, **case.attributes))
            h = functional.relu(functional.conv2d(h, w2))
            h = functional.flatten(functional.adaptive_avg_pool2d(h, 1))
            loss = functional.cross_entropy(functional.linear(h, w3), labels)
        results.append((loss.value, *tape.gradient(loss, [x, b1, h])))
    for compressed in results[1:]:
        for label, exact, actual in zip(("loss", "dA", "db", "upstream"), results[0], compressed, strict=True):
            assert_same_bits(actual, exact, label)


@given(x=tensors(minimum_axes=2, maximum_axes=4), out=st.integers(1, 3), seed=seeds)
def test_T21_a_1x1_convolution_is_a_linear_layer(x, out, seed):
    image = x.reshape(x.shape[0], x.shape[1], -1, 1)
    weight = np.random.default_rng(seed).standard_normal((out, x.shape[1])).astype(x.dtype)
    grad_output = integers(seed)
    convolved, of_conv, sent = run(
        functional.conv2d, image, weight[:, :, np.newaxis, np.newaxis], grad_output=grad_output
    )
    rows = np.moveaxis(image[..., 0], 1, -1)
    mapped, of_linear, _ = run(functional.linear, rows, weight, grad_output=np.moveaxis(sent[..., 0], 1, -1))
    n = max(x.shape[1], out, image.shape[0] * image.shape[2]) + 1
    bound = lambda a, b: 2 * inner_product_bound(n, np.abs(a) @ np.abs(b), x.dtype)  # noqa: E731
    flat_x, flat_g = (np.moveaxis(a[..., 0], 1, -1).reshape(-1, a.shape[1]).astype(np.float64) for a in (image, sent))
    assert_within(
        np.moveaxis(convolved[..., 0], 1, -1), mapped, bound(flat_x, weight.T).reshape(mapped.shape), "output"
    )
    grad_rows = np.moveaxis(of_conv[0][..., 0], 1, -1)
    assert_within(grad_rows, of_linear[0], bound(flat_g, weight).reshape(rows.shape), "grad_input")
    assert_within(of_conv[1][..., 0, 0], of_linear[1], bound(flat_g.T, flat_x), "grad_weight")


@given(p=st.sampled_from([0.0, 0.1, 0.5, 0.9]), shape=st.lists(st.integers(1, 6), min_size=1, max_size=3), seed=seeds)
def test_dropout_sends_back_through_the_same_elements_that_it_let_through(p, shape, seed):
    x = np.ones(shape)
    output, (grad_x,), _ = run(
        lambda t: functional.dropout(t, p, generator=np.random.default_rng(seed), training=True),
        x,
        grad_output=np.ones(shape),
    )
    assert_same_bits(grad_x, output)
    assert set(np.unique(output)) <= {0.0, 1.0 / (1.0 - p)}
    assert p > 0.0 or np.all(output == 1.0)
