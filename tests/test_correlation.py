"""The compiled weight gradient against sliding windows: on integers nothing rounds, so that every bit is known."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from refgrad.convolution import conv2d_weight_gradient, correlation, few_channels
from refgrad.geometry import ConvGeometry
from refgrad.rounding import gamma
from tests import other_registers, sliding_windows
from tests.assertions import assert_same_bits, assert_within
from tests.layers import NAMED, SAME, attributes, integers, layers
from tests.strategies import DTYPES, LAYOUTS, with_layout

LOOPS = (correlation, few_channels)
MEMORIES = (2**24, 2**19, 2**17, 2**15)
LARGE = [
    *NAMED,
    (SAME, (9, 33, 7, 7), 24),  # several images at once, and the last time fewer
    (SAME, (2, 16, 40, 40), 8),  # some rows of an image at once, and the last time fewer
    (ConvGeometry.of(3, padding=3, stride=(2, 1)), (3, 200, 9, 5), 19),  # channels cut, rows of nothing but zeros
    (ConvGeometry.of(1, stride=3, groups=2), (4, 96, 10, 10), 40),  # pixels that no tap reads
]


def named(test):
    for layer, memory in itertools.product(LARGE, MEMORIES):
        test = example(layer=layer, memory=memory, dtype=np.float32)(test)
    return test


def operands(layer, dtype):
    geometry, shape, outputs = layer
    out_shape = geometry.output_shape(shape, (outputs, shape[1] // geometry.groups, *geometry.kernel_size))
    return integers(1, shape, dtype), integers(2, out_shape, dtype), geometry


def expected_of(x, grad_output, geometry):
    return sliding_windows.weight_gradient(x, grad_output, geometry.kernel_size, **attributes(geometry))


def assert_exact(loops, layer, memory, dtype):
    x, grad_output, geometry = operands(layer, dtype)
    if loops._Cut.of(x, grad_output, geometry, memory) is not None:
        found = loops.weight_gradient(x, grad_output, geometry, memory)
        assert_same_bits(found + 0.0, expected_of(x, grad_output, geometry) + 0.0)


@named
@given(layer=layers(outputs=(8, 9, 16, 17, 40)), memory=st.sampled_from(MEMORIES), dtype=st.sampled_from(DTYPES))
def test_D6_the_weight_gradient_is_the_sum_over_windows(layer, memory, dtype):
    assert_exact(correlation, layer, memory, dtype)


@named
@given(layer=layers(outputs=(1, 8, 16, 17, 100)), memory=st.sampled_from(MEMORIES), dtype=st.sampled_from(DTYPES))
def test_D6_the_weight_gradient_of_few_channels_is_the_sum_over_windows(layer, memory, dtype):
    assert_exact(few_channels, layer, memory, dtype)


def every_named_layer():
    """All of them, exact."""
    for loops, layer, memory, dtype in itertools.product(LOOPS, LARGE, MEMORIES, DTYPES):
        assert_exact(loops, layer, memory, dtype)
    return "exact"


@pytest.mark.parametrize("vector", other_registers.VECTORS)
def test_registers_of_every_length_give_the_same(tmp_path, vector):
    assert other_registers.run(vector, "tests.test_correlation:every_named_layer", tmp_path) == "exact"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loops", "channels"), [(correlation, 40), (correlation, 400), (few_channels, 30)])
def test_T15_large_layers_are_computed_by_outer_products_as_well_as_by_windows(dtype, loops, channels, monkeypatch):
    geometry = ConvGeometry.of(3, padding=1, groups=2, stride=(1, 2))
    generator = np.random.default_rng(0)
    x = generator.standard_normal((6, channels, 19, 23)).astype(dtype)
    grad_output = generator.standard_normal((6, 48, 19, 12)).astype(dtype)
    used, original = [], loops.weight_gradient
    monkeypatch.setattr(loops, "weight_gradient", lambda *a: (used.append(1), original(*a))[1])
    found = conv2d_weight_gradient(x, grad_output, geometry)
    assert used == [1]
    wide = [array.astype(np.float64) for array in (x, grad_output)]
    allowed = gamma(6 * 19 * 12, dtype) * expected_of(*map(np.abs, wide), geometry)
    assert_within(found.astype(np.float64), expected_of(*wide, geometry), allowed)


@pytest.mark.parametrize("memory", MEMORIES[:3])
@pytest.mark.parametrize(("loops", "channels"), [(correlation, 20), (correlation, 200), (few_channels, 9)])
def test_the_number_of_threads_decides_no_bit(memory, loops, channels, monkeypatch):
    generator = np.random.default_rng(5)
    x = generator.standard_normal((7, channels, 18, 21)).astype(np.float32)
    grad_output = generator.standard_normal((7, 24, 18, 21)).astype(np.float32)
    found = []
    for threads in ("1", "2", "3", "64"):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
        assert loops.applies(x, grad_output, SAME, memory)
        found.append(loops.weight_gradient(x, grad_output, SAME, memory))
    for other in found[1:]:
        assert_same_bits(other, found[0])


@pytest.mark.parametrize("loops", LOOPS)
def test_a_group_depends_on_its_own_channels_alone(loops):
    generator = np.random.default_rng(6)
    x = generator.standard_normal((4, 48, 12, 13)).astype(np.float32)
    grad_output = generator.standard_normal((4, 30, 12, 13)).astype(np.float32)
    grouped = ConvGeometry.of(3, padding=1, groups=3)
    whole = loops.weight_gradient(x, grad_output, grouped, 2**22)
    x[:, :16], grad_output[:, 20:] = math.nan, math.inf
    beside = loops.weight_gradient(x, grad_output, grouped, 2**22)
    assert_same_bits(beside[10:20], whole[10:20])
    assert np.isnan(beside[:10]).all()


@pytest.mark.parametrize("loops", LOOPS)
def test_nothing_beside_the_arrays_is_read(loops):
    """Whatever stands beside the images and the gradient in memory, and NaN is the worst, leaves no trace."""
    x, grad_output, geometry = operands((ConvGeometry.of(3, padding=1, stride=(1, 2)), (3, 21, 9, 13), 11), np.float64)
    embedded = []
    for array in (x, grad_output):
        memory = np.full(array.size + 200, math.nan)
        memory[100:-100] = array.reshape(-1)
        embedded.append(memory[100:-100].reshape(array.shape))
    found = loops.weight_gradient(*embedded, geometry, 2**24)
    assert_same_bits(found + 0.0, expected_of(x, grad_output, geometry) + 0.0)


@pytest.mark.parametrize("loops", LOOPS)
def test_infinities_reach_the_taps_that_read_them_and_no_others(loops):
    x, grad_output = np.ones((2, 16, 6, 7), np.float32), np.ones((2, 9, 6, 7), np.float32)
    x[1, 3, 0, 2] = math.inf
    found = loops.weight_gradient(x, grad_output, SAME, 2**24)
    reached = np.zeros(found.shape, bool)
    reached[:, 3, :2] = True  # no output is so high that the last row of the kernel would read the first of the image
    assert (found[reached] == math.inf).all()
    assert np.isfinite(found[~reached]).all()
    grad_output[0, 8, 5, 0] = math.inf  # which meets zeros under the last row, and to the left
    found = loops.weight_gradient(np.ones_like(x), grad_output, SAME, 2**24)
    meets_zeros = np.zeros((3, 3), bool)
    meets_zeros[2], meets_zeros[:, 0] = True, True
    assert np.isnan(found[8][:, meets_zeros]).all()
    assert (found[8][:, ~meets_zeros] == math.inf).all()
    assert np.isfinite(found[:8]).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_memory_layout_is_taken_and_a_frozen_one_left_as_it_is(layout):
    x, grad_output, geometry = operands((SAME, (4, 16, 24, 24), 16), np.float32)
    found = conv2d_weight_gradient(with_layout(x, layout), with_layout(grad_output, layout), geometry)
    assert_same_bits(found + 0.0, expected_of(x, grad_output, geometry) + 0.0)


def test_what_the_loops_are_not_for():
    large = np.ones((8, 16, 32, 32), np.float32)
    assert correlation.applies(large, large, SAME, 2**24)
    assert not correlation.applies(large.transpose(0, 1, 3, 2), large, SAME, 2**24)
    assert not correlation.applies(large, large.transpose(0, 1, 3, 2), SAME, 2**24)
    assert not correlation.applies(large[:, :8].copy(), large, SAME, 2**24)
    assert not correlation.applies(large, large[:, :4].copy(), SAME, 2**24)
    assert not correlation.applies(large[:1], large[:1, :, :8].copy(), SAME, 2**24)
    assert not correlation.applies(large, large, SAME, 2**10)


def test_what_the_loops_for_few_channels_are_not_for():
    few, large = np.ones((8, 4, 32, 32), np.float32), np.ones((8, 16, 32, 32), np.float32)
    assert few_channels.applies(few, large, SAME, 2**24)
    assert not few_channels.applies(few.transpose(0, 1, 3, 2), large, SAME, 2**24)
    assert not few_channels.applies(few, large.transpose(0, 1, 3, 2), SAME, 2**24)
    assert not few_channels.applies(large, large, SAME, 2**24)
    assert not few_channels.applies(few, large[:, :8].copy(), SAME, 2**24)
    assert not few_channels.applies(few[:1], large[:1], SAME, 2**24)
    assert not few_channels.applies(few, large, SAME, 2**10)


@pytest.mark.parametrize("loops", LOOPS)
def test_the_JIT_is_needed(loops, monkeypatch):
    large = np.ones((8, 16, 32, 32), np.float32)
    x = large if loops is correlation else large[:, :4].copy()
    assert loops.applies(x, large, SAME, 2**24)
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    assert not loops.applies(x, large, SAME, 2**24)
