"""The exact convolution and linear layer (D6) against the specification, PyTorch and sliding windows."""

import dataclasses
import hashlib
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refgrad import specification
from refgrad.convolution import (
    blocks,
    conv2d_bias_gradient,
    conv2d_forward,
    conv2d_input_gradient,
    conv2d_weight_gradient,
    linear_bias_gradient,
    linear_forward,
    linear_input_gradient,
    linear_weight_gradient,
    small_groups,
)
from refgrad.geometry import ConvGeometry
from refgrad.rounding import inner_product_bound
from tests import sliding_windows
from tests.assertions import assert_same_bits, assert_within
from tests.strategies import DTYPES, LAYOUTS, ConvCase, conv_cases, tensors, with_layout

NAMES = ("output", "grad_input", "grad_weight", "grad_bias")


@contextmanager
def route(memory, largest_product):
    """Whole images at once, or a few positions; compiled loops for small groups, or patches for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "affordable", lambda: memory)
        patch.setattr(small_groups, "LARGEST_PRODUCT", largest_product)
        yield


WHOLE = (8 * 2**20, 8)
routes = st.tuples(st.sampled_from([8 * 2**20, 2000, 200]), st.sampled_from([0, 8]))


def geometry_of(case):
    return ConvGeometry(case.weight.shape[2:], case.stride, case.padding, case.dilation, case.groups)


def four(case):
    """Output and gradients by refgrad."""
    geometry = geometry_of(case)
    return {
        "output": conv2d_forward(case.x, case.weight, case.bias, geometry),
        "grad_input": conv2d_input_gradient(case.grad_output, case.weight, geometry, case.x.shape[2:]),
        "grad_weight": conv2d_weight_gradient(case.x, case.grad_output, geometry),
        "grad_bias": conv2d_bias_gradient(case.grad_output),
    }


def four_by_specification(case):
    x, weight, bias, grad_output = (
        np.array(array, np.float64) for array in (case.x, case.weight, case.bias, case.grad_output)
    )
    return {
        "output": specification.conv2d(x, weight, bias, **case.attributes),
        "grad_input": specification.conv2d_input_gradient(grad_output, weight, x.shape[2:], **case.attributes),
        "grad_weight": specification.conv2d_weight_gradient(x, grad_output, weight.shape[2:], **case.attributes),
        "grad_bias": specification.conv2d_bias_gradient(grad_output),
    }


def four_by_windows(case):
    return {
        "output": sliding_windows.forward(case.x, case.weight, case.bias, **case.attributes),
        "grad_input": sliding_windows.input_gradient(
            case.grad_output, case.weight, case.x.shape[2:], **case.attributes
        ),
        "grad_weight": sliding_windows.weight_gradient(
            case.x, case.grad_output, case.weight.shape[2:], **case.attributes
        ),
        "grad_bias": case.grad_output.sum(axis=(0, 2, 3)),
    }


def mapped(case, change):
    arrays = {name: change(getattr(case, name)) for name in ("x", "weight", "bias", "grad_output")}
    return dataclasses.replace(case, **arrays)


def lengths(case):
    """Through how many roundings each result goes at most (T15)."""
    out_channels, *patch = case.weight.shape
    batch, _, *positions = case.grad_output.shape
    return {
        "output": int(np.prod(patch)) + 1,
        "grad_input": out_channels // case.groups * patch[1] * patch[2],
        "grad_weight": batch * int(np.prod(positions)),
        "grad_bias": batch * int(np.prod(positions)),
    }


def allowed_for(case, dtype):
    majorants = four_by_windows(mapped(case, lambda array: np.abs(array).astype(np.float64)))
    return {name: inner_product_bound(lengths(case)[name], majorants[name], dtype) for name in NAMES}


def assert_four_within(actual, expected, case, dtype):
    here, there = allowed_for(case, dtype), allowed_for(case, np.float64)
    for name in NAMES:
        assert actual[name].dtype == dtype, name
        assert_within(actual[name], expected[name], here[name] + there[name], name)


@st.composite
def integer_cases(draw, **options):
    """Convolutions of small integers: every product and sum is exact in either dtype, in any order."""
    case = draw(conv_cases(longest=6, **options))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="integers"))
    return mapped(case, lambda array: generator.integers(-4, 5, array.shape).astype(array.dtype))


def edge_case(shape, out_channels, kernel, **more):
    """A named corner: the geometry is written out, the numbers do not matter."""
    geometry = ConvGeometry.of(kernel, **more)
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((out_channels, shape[1] // geometry.groups, *geometry.kernel_size))
    grad_output = generator.standard_normal(geometry.output_shape(shape, weight.shape))
    arrays = (generator.standard_normal(shape), weight, generator.standard_normal(out_channels), grad_output)
    return ConvCase(*arrays, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)


def edge_cases(test):
    """Run a test on the corners, each by both routes."""
    for case in (
        edge_case((3, 4, 5, 6), 4, 3, padding=1, groups=4),  # depthwise
        edge_case((2, 3, 5, 4), 6, (2, 3), padding="same", groups=3),  # depthwise, two outputs a channel, even kernel
        edge_case((2, 6, 4, 4), 4, 3, padding=1, groups=2),  # fewer outputs than inputs in a group
        edge_case((2, 2, 7, 6), 3, 3, stride=2, dilation=2, padding=2),  # stride equals dilation
        edge_case((2, 2, 8, 9), 2, 2, stride=(4, 3)),  # a stride longer than the kernel
        edge_case((1, 2, 2, 1), 2, (3, 1), padding=((5, 4), (3, 2))),  # taps that read nothing but padding
        edge_case((2, 1, 1, 1), 1, 1),  # every axis of size 1
        edge_case((2, 3, 4, 7), 2, (1, 4), stride=(1, 2), padding=((0, 0), (1, 2))),  # one row, four pads
    ):
        test = example(case, WHOLE)(example(case, (200, 0))(test))
    return test


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest(), array.shape, array.dtype, array.strides, array.flags.writeable


@edge_cases
@given(conv_cases(scaled=True, longest=6), routes)
def test_D6_convolution_is_the_specification(case, way):
    with route(*way):
        actual = four(case)
    assert_four_within(actual, four_by_specification(case), case, case.x.dtype)


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch", reason="PyTorch is the third party that checks convolution")
    threads = module.get_num_threads()
    module.set_num_threads(1)  # so little work is slower in two
    yield module
    module.set_num_threads(threads)


@edge_cases
@given(conv_cases(longest=6), routes)
def test_D6_convolution_is_what_pytorch_differentiates(torch, case, way):
    with route(*way):
        actual = four(case)
    x, weight, bias = (
        torch.tensor(np.array(array, np.float64), requires_grad=True) for array in (case.x, case.weight, case.bias)
    )
    (top, bottom), (left, right) = case.padding
    output = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (left, right, top, bottom)),
        weight,
        bias,
        stride=case.stride,
        dilation=case.dilation,
        groups=case.groups,
    )
    output.backward(torch.tensor(np.array(case.grad_output, np.float64)))
    expected = {
        "output": output.detach(),
        "grad_input": x.grad,
        "grad_weight": weight.grad,
        "grad_bias": bias.grad,
    }
    assert_four_within(actual, {name: value.numpy() for name, value in expected.items()}, case, case.x.dtype)


@given(integer_cases(), routes)
def test_D6_small_integers_give_the_bits_of_the_sliding_windows(case, way):
    with route(*way):
        actual = four(case)
    expected = four_by_windows(mapped(case, lambda array: array.astype(np.int64)))
    for name in NAMES:
        assert_same_bits(actual[name], expected[name].astype(case.x.dtype), name)


@given(integer_cases(), routes)
def test_D6_the_gradients_are_the_adjoints_of_the_convolution(case, way):
    with route(*way):
        result = four(mapped(case, np.array))
        output = conv2d_forward(case.x, case.weight, None, geometry_of(case))
    product = np.vdot(output, case.grad_output)
    assert product == np.vdot(case.x, result["grad_input"])
    assert product == np.vdot(case.weight, result["grad_weight"])


@given(integer_cases(), st.integers(-3, 3), routes)
def test_T9_weight_gradient_is_bilinear(case, factor, way):
    generator = np.random.default_rng(case.x.size)
    other_x = generator.integers(-4, 5, case.x.shape).astype(case.x.dtype)
    other_gradient = generator.integers(-4, 5, case.grad_output.shape).astype(case.x.dtype)
    geometry, factor = geometry_of(case), case.x.dtype.type(factor)
    with route(*way):
        plain = conv2d_weight_gradient(case.x, case.grad_output, geometry)
        for combined, other in (
            ((case.x + factor * other_x, case.grad_output), (other_x, case.grad_output)),
            ((case.x, case.grad_output + factor * other_gradient), (case.x, other_gradient)),
        ):
            expected = plain + factor * conv2d_weight_gradient(*other, geometry)
            assert_same_bits(conv2d_weight_gradient(*combined, geometry), expected)


@given(integer_cases())
def test_T12_im2col_carries_every_pixel_as_often_as_its_multiplicity(case):
    geometry = geometry_of(case)
    error = np.array(case.x, np.float64)
    attributes = {name: value for name, value in case.attributes.items() if name != "groups"}
    matrix = specification.im2col(error, geometry.kernel_size, **attributes)
    energy = np.sum(matrix**2)
    assert energy == np.sum(geometry.multiplicity(error.shape[2:]) * error**2)
    assert energy <= geometry.maximum_multiplicity(error.shape[2:]) * np.sum(error**2)


@given(integer_cases(), routes)
def test_T12_a_pixel_that_is_never_read_gets_exactly_nothing(case, way):
    geometry = geometry_of(case)
    case = dataclasses.replace(case, grad_output=np.full_like(case.grad_output, np.inf))
    with route(*way), np.errstate(invalid="ignore"):
        grad_input = conv2d_input_gradient(case.grad_output, case.weight, geometry, case.x.shape[2:])
    unread = geometry.multiplicity(case.x.shape[2:]) == 0
    assert np.array_equal(grad_input[:, :, unread], np.zeros_like(grad_input[:, :, unread]))


@given(integer_cases(), routes)
def test_T21_a_grouped_convolution_is_a_block_of_convolutions(case, way):
    with route(*way):
        whole, parts = four(case), []
        for group in range(case.groups):
            inputs, outputs = (
                slice(group * count // case.groups, (group + 1) * count // case.groups)
                for count in (case.x.shape[1], case.weight.shape[0])
            )
            arrays = (case.x[:, inputs], case.weight[outputs], case.bias[outputs], case.grad_output[:, outputs])
            names = ("x", "weight", "bias", "grad_output")
            parts.append(four(dataclasses.replace(case, groups=1, **dict(zip(names, arrays, strict=True)))))
    for name, axis in zip(NAMES, (1, 1, 0, 0), strict=True):
        assert_same_bits(whole[name], np.concatenate([part[name] for part in parts], axis), name)


@given(conv_cases(longest=6, spectra=("random",)), routes, st.integers(0, 2))
def test_T21_silencing_a_group_changes_no_bit_of_the_others(case, way, silent):
    geometry, silent = geometry_of(case), silent % case.groups
    per_group = case.weight.shape[0] // case.groups
    outputs = slice(silent * per_group, (silent + 1) * per_group)
    silenced = np.array(case.grad_output)
    silenced[:, outputs] = 0
    with route(*way):
        before = conv2d_weight_gradient(case.x, case.grad_output, geometry)
        after = conv2d_weight_gradient(case.x, silenced, geometry)
    before[outputs] = 0
    assert_same_bits(after, before)


@given(integer_cases(), routes, st.randoms(use_true_random=False))
def test_T21_the_order_of_the_batch_does_not_matter(case, way, random):
    order = list(range(len(case.x)))
    random.shuffle(order)
    with route(*way):
        there = four(case)
        here = four(dataclasses.replace(case, x=case.x[order], grad_output=case.grad_output[order]))
    for name in ("output", "grad_input"):
        assert_same_bits(here[name], there[name][order], name)
    for name in ("grad_weight", "grad_bias"):
        assert_same_bits(here[name], there[name], name)


@given(tensors(minimum_axes=4, scaled=False), st.integers(1, 4), routes)
def test_T21_a_1x1_convolution_is_a_linear_layer(x, out_channels, way):
    generator = np.random.default_rng(x.size)
    x = np.round(4 * x / max(1.0, float(np.abs(x).max()))).astype(x.dtype)
    weight = generator.integers(-4, 5, (out_channels, x.shape[1])).astype(x.dtype)
    bias = generator.integers(-4, 5, out_channels).astype(x.dtype)
    grad_output = generator.integers(-4, 5, (x.shape[0], out_channels, *x.shape[2:])).astype(x.dtype)
    geometry, kernels = ConvGeometry.of(1), weight[:, :, None, None]
    rows, gradients = x.transpose(0, 2, 3, 1), grad_output.transpose(0, 2, 3, 1)
    with route(*way):
        pairs = {
            "output": (conv2d_forward(x, kernels, bias, geometry), linear_forward(rows, weight, bias)),
            "grad_input": (
                conv2d_input_gradient(grad_output, kernels, geometry, x.shape[2:]),
                linear_input_gradient(gradients, weight),
            ),
        }
        grad_weight = conv2d_weight_gradient(x, grad_output, geometry)
        assert_same_bits(grad_weight[:, :, 0, 0], linear_weight_gradient(rows, gradients), "grad_weight")
        assert_same_bits(conv2d_bias_gradient(grad_output), linear_bias_gradient(gradients), "grad_bias")
    for name, (by_convolution, by_rows) in pairs.items():
        assert_same_bits(by_convolution, by_rows.transpose(0, 3, 1, 2), name)


@given(conv_cases(longest=6), routes, st.sampled_from([-1, 1]))
def test_T21_powers_of_two_scale_every_bit(case, way, sign):
    # far from where a product of small entries would lose digits to gradual underflow
    power = case.x.dtype.type(2.0) ** (sign * (40 if case.x.dtype == np.float32 else 400))
    geometry = geometry_of(case)
    x, grad_output = case.x * power, case.grad_output * power
    with route(*way):
        for scaled, plain in (
            (conv2d_forward(x, case.weight, None, geometry), conv2d_forward(case.x, case.weight, None, geometry)),
            (
                conv2d_input_gradient(grad_output, case.weight, geometry, case.x.shape[2:]),
                conv2d_input_gradient(case.grad_output, case.weight, geometry, case.x.shape[2:]),
            ),
            (
                conv2d_weight_gradient(x, case.grad_output, geometry),
                conv2d_weight_gradient(case.x, case.grad_output, geometry),
            ),
        ):
            assert_same_bits(scaled, plain * power)


@given(conv_cases(longest=6), routes, st.lists(st.sampled_from(LAYOUTS), min_size=4, max_size=4))
def test_memory_layout_changes_no_bit_and_no_input_changes(case, way, layouts):
    case = mapped(case, np.array)
    names = ("x", "weight", "bias", "grad_output")
    laid_out = dataclasses.replace(
        case, **{name: with_layout(getattr(case, name), layout) for name, layout in zip(names, layouts, strict=True)}
    )
    before = [digest(getattr(laid_out, name)) for name in names]
    with route(*way):
        expected, first, again = four(case), four(laid_out), four(laid_out)
    assert [digest(getattr(laid_out, name)) for name in names] == before
    allowed = allowed_for(case, case.x.dtype)
    for name in NAMES:
        assert_same_bits(again[name], first[name], name)
        assert first[name].flags.owndata
        if name != "grad_bias":  # NumPy adds in the order of memory
            assert_same_bits(first[name], expected[name], name)
    assert_within(first["grad_bias"], expected["grad_bias"], 2 * allowed["grad_bias"])


@st.composite
def linear_cases(draw):
    """An input with 2, 3 or 4 axes, weight, bias and the gradient of the output, of one dtype."""
    dtype = draw(st.sampled_from(DTYPES), label="dtype")
    leading = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3), label="leading axes")
    inputs, outputs = draw(st.integers(1, 6), label="I"), draw(st.integers(1, 6), label="O")
    shapes = ((*leading, inputs), (outputs, inputs), (outputs,), (*leading, outputs))
    return tuple(draw(tensors(shape=shape, dtype=dtype)) for shape in shapes)


@given(linear_cases(), routes)
@settings(max_examples=120)
def test_D6_linear_layer_is_the_specification(case, way):
    x, weight, bias, grad_output = case
    before = [digest(array) for array in case]
    with route(*way):
        actual = {
            "output": linear_forward(x, weight, bias),
            "output without bias": linear_forward(x, weight, None),
            "grad_input": linear_input_gradient(grad_output, weight),
            "grad_weight": linear_weight_gradient(x, grad_output),
            "grad_bias": linear_bias_gradient(grad_output),
        }
    assert [digest(array) for array in case] == before

    def by_specification(x, weight, bias, grad_output):
        return {
            "output": specification.linear(x, weight, bias),
            "output without bias": specification.linear(x, weight, None),
            "grad_input": specification.linear_input_gradient(grad_output, weight),
            "grad_weight": specification.linear_weight_gradient(x, grad_output),
            "grad_bias": specification.linear_bias_gradient(grad_output),
        }

    wide = [np.array(array, np.float64) for array in case]
    expected, majorants = by_specification(*wide), by_specification(*map(np.abs, wide))
    rows = int(np.prod(x.shape[:-1]))
    counts = (x.shape[-1] + 1, x.shape[-1], weight.shape[0], rows, rows)
    for (name, result), length in zip(actual.items(), counts, strict=True):
        allowed = sum(inner_product_bound(length, majorants[name], dtype) for dtype in (x.dtype, np.float64))
        assert result.dtype == x.dtype, name
        assert_within(result, expected[name], allowed, name)
