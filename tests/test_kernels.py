"""The compiled loops against the sliding windows, with and without the JIT, on integers: nothing rounds."""

import numpy as np
import pytest

from refgrad.geometry import ConvGeometry
from refgrad.kernels import convolution as kernels
from refgrad.kernels.jit import summing_kernel
from tests import sliding_windows
from tests.assertions import assert_same_bits

HELPERS = ("add_run", "positions_inside", "run_product")
LAYERS = [
    # input shape, out channels, kernel, what else
    ((3, 4, 5, 6), 4, (3, 3), {"padding": 1, "groups": 4}),
    ((1, 3, 6, 5), 6, (2, 3), {"padding": ((2, 0), (1, 3)), "stride": (2, 3), "dilation": (2, 1), "groups": 3}),
    ((2, 4, 7, 4), 2, (1, 2), {"stride": (3, 2), "groups": 2}),
    ((2, 2, 4, 4), 3, (3, 1), {"padding": "same"}),
    ((2, 2, 3, 1), 2, (3, 3), {"padding": 1, "groups": 2}),  # two taps of three read nothing at all
]


@pytest.fixture(params=["JIT off", "compiled"])
def call(request, monkeypatch):
    """Call a kernel by name, as it is compiled or as plain Python down to its last line."""
    if request.param == "compiled":
        return lambda name, *arguments: getattr(kernels, name)(*arguments)
    plain = {name: getattr(kernels, name).py_func for name in (*HELPERS, *kernels.__all__)}
    for name in HELPERS:
        monkeypatch.setattr(kernels, name, plain[name])
    return lambda name, *arguments: plain[name](*arguments)


def integers(generator, shape, dtype):
    return generator.integers(-4, 5, shape).astype(dtype)


def side_by_side(array):
    return np.ascontiguousarray(array.transpose(1, 2, 3, 0))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("offset", range(-7, 8))
def test_positions_inside_are_those_that_read_a_pixel(call, offset, stride):
    for size in (1, 4):
        for count in (1, 3):
            inside = [i for i in range(count) if 0 <= offset + i * stride < size]
            first, stop = call("positions_inside", offset, stride, size, count)
            assert 0 <= first <= stop <= count
            assert list(range(first, stop)) == inside


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "out_channels", "kernel", "more"), LAYERS)
def test_D6_direct_kernels_add_what_the_windows_give(call, dtype, shape, out_channels, kernel, more):
    geometry = ConvGeometry.of(kernel, **more)
    attributes = {name: getattr(geometry, name) for name in ("stride", "padding", "dilation", "groups")}
    numbers = (geometry.stride, tuple(before for before, _ in geometry.padding), geometry.dilation)
    generator = np.random.default_rng(3)
    x = integers(generator, shape, dtype)
    weight = integers(generator, (out_channels, shape[1] // geometry.groups, *kernel), dtype)
    grad_output = integers(generator, geometry.output_shape(shape, weight.shape), dtype)
    sums = [integers(generator, array.shape, dtype) for array in (side_by_side(grad_output), side_by_side(x), weight)]
    output, grad_input, grad_weight = (array.copy() for array in sums)

    call("direct_forward", side_by_side(x), weight, *numbers, output)
    call("direct_input_gradient", side_by_side(grad_output), weight, *numbers, grad_input)
    call("direct_weight_gradient", side_by_side(x), side_by_side(grad_output), *numbers, grad_weight)

    by_windows = sliding_windows.forward(x, weight, None, **attributes)
    assert_same_bits(output, sums[0] + side_by_side(by_windows), "output")
    by_windows = sliding_windows.input_gradient(grad_output, weight, shape[2:], **attributes)
    assert_same_bits(grad_input, sums[1] + side_by_side(by_windows), "grad_input")
    by_windows = sliding_windows.weight_gradient(x, grad_output, kernel, **attributes)
    assert_same_bits(grad_weight, sums[2] + by_windows, "grad_weight")


def test_NaN_and_infinity_survive_a_sum_in_any_order(call):
    values = np.array([np.inf, 1.0, 2.0, np.nan])
    ones = np.ones(4)
    assert call("run_product", values, 0, ones, 0, 2) == np.inf
    assert np.isnan(call("run_product", values, 0, ones, 0, 4))


def test_a_summing_kernel_does_not_assume_that_numbers_are_finite():
    differs_from_itself = summing_kernel(lambda number: number != number)
    assert differs_from_itself(np.nan)
    assert not differs_from_itself(np.inf)
