"""Compiled sums of shifted images against sliding windows: on integers nothing rounds, so that every bit is known."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from refgrad.convolution import (
    blocks,
    conv2d_forward,
    conv2d_input_gradient,
    conv2d_weight_gradient,
    few_channels,
    planes,
)
from refgrad.geometry import ConvGeometry
from refgrad.kernels.registers import TILE_ROWS
from refgrad.rounding import gamma
from tests import other_registers, sliding_windows
from tests.assertions import assert_same_bits, assert_within
from tests.layers import NAMED, SAME, attributes, integers, layers
from tests.storage_cases import peak_beside_result
from tests.strategies import DTYPES, LAYOUTS, with_layout

MEMORIES = (2**24, 2**17, 2**15)


def named(test):
    for layer in NAMED:
        for memory in MEMORIES:
            test = example(layer=layer, memory=memory, dtype=np.float32)(test)
    return test


@named
@given(layer=layers(), memory=st.sampled_from(MEMORIES), dtype=st.sampled_from(DTYPES))
def test_D6_forward_is_the_sum_over_windows(layer, memory, dtype):
    geometry, shape, outputs = layer
    x, weight = (
        integers(1, shape, dtype),
        integers(2, (outputs, shape[1] // geometry.groups, *geometry.kernel_size), dtype),
    )
    out_shape = geometry.output_shape(shape, weight.shape)
    if planes._Cut.of(x, planes._sweep(geometry, out_shape), memory) is None:
        return
    for bias in (None, integers(3, outputs, dtype)):
        found = planes.forward(x, weight, bias, geometry, out_shape, memory)
        assert_same_bits(found + 0.0, sliding_windows.forward(x, weight, bias, **attributes(geometry)) + 0.0)


@named
@given(layer=layers(), memory=st.sampled_from(MEMORIES), dtype=st.sampled_from(DTYPES))
def test_D6_the_input_gradient_is_what_windows_give_back(layer, memory, dtype):
    geometry, shape, outputs = layer
    weight = integers(2, (outputs, shape[1] // geometry.groups, *geometry.kernel_size), dtype)
    grad_output = integers(4, geometry.output_shape(shape, weight.shape), dtype)
    phases = planes._phases(geometry, shape)
    if any(planes._Cut.of(grad_output, phase.sweep, memory) is None for phase in phases):
        return
    found = planes.input_gradient(grad_output, weight, geometry, shape, memory)
    expected = sliding_windows.input_gradient(grad_output, weight, shape[2:], **attributes(geometry))
    assert_same_bits(found + 0.0, expected + 0.0)


def assert_joint_gradient_exact(layer, memory, dtype):
    geometry, shape, outputs = layer
    weight = integers(2, (outputs, shape[1] // geometry.groups, *geometry.kernel_size), dtype)
    grad_output = integers(4, geometry.output_shape(shape, weight.shape), dtype)
    if few_channels._Plan.of(grad_output, geometry, shape, memory) is not None:
        found = few_channels.input_gradient(grad_output, weight, geometry, shape, memory)
        expected = sliding_windows.input_gradient(grad_output, weight, shape[2:], **attributes(geometry))
        assert_same_bits(found + 0.0, expected + 0.0)


@named
@given(layer=layers(), memory=st.sampled_from(MEMORIES), dtype=st.sampled_from(DTYPES))
def test_D6_all_remainders_together_get_what_windows_give_back(layer, memory, dtype):
    assert_joint_gradient_exact(layer, memory, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_T15_the_input_gradient_of_few_channels_goes_through_one_convolution(dtype, monkeypatch):
    geometry, shape = ConvGeometry.of(3, padding=1, stride=2), (20, 3, 40, 42)
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((40, 3, 3, 3)).astype(dtype)
    grad_output = generator.standard_normal(geometry.output_shape(shape, weight.shape)).astype(dtype)
    used, original = [], few_channels.input_gradient
    monkeypatch.setattr(few_channels, "input_gradient", lambda *a: (used.append(1), original(*a))[1])
    found = conv2d_input_gradient(grad_output, weight, geometry, shape[2:])
    assert used == [1]
    wide, sides = [array.astype(np.float64) for array in (grad_output, weight)], attributes(geometry)
    expected = sliding_windows.input_gradient(*wide, shape[2:], **sides)
    allowed = gamma(40 * 9, dtype) * sliding_windows.input_gradient(*map(np.abs, wide), shape[2:], **sides)
    assert_within(found.astype(np.float64), expected, allowed)
    grad_output[4, 7, 3, 5] = math.inf  # which meets zeros where a tap gives nothing back
    found = conv2d_input_gradient(grad_output, np.abs(weight), geometry, shape[2:])
    reached = np.zeros(shape, bool)
    reached[4, :, 5:8, 9:12] = True
    assert (found[reached] == math.inf).all()
    assert np.isfinite(found[~reached]).all()


def test_what_one_convolution_for_all_remainders_is_not_for():
    geometry, shape, grad_output = ConvGeometry.of(3, padding=1, stride=2), (8, 3, 64, 64), np.ones((8, 32, 32, 32))
    assert few_channels.gives_back(grad_output, shape, geometry, 2**24)
    assert not few_channels.gives_back(grad_output, shape, geometry, 2**10)
    # the sums of a whole image wait beside their place
    assert not few_channels.gives_back(grad_output[:4], (4, 3, 64, 64), geometry, 3 * 64 * 64 * 8)
    assert not few_channels.gives_back(grad_output.transpose(0, 1, 3, 2), shape, geometry, 2**24)
    assert not few_channels.gives_back(grad_output, (8, 8, 64, 64), geometry, 2**24)
    assert not few_channels.gives_back(grad_output, (8, 1, 64, 64), geometry, 2**24)
    assert not few_channels.gives_back(grad_output[:1], (1, 3, 64, 64), geometry, 2**24)
    assert not few_channels.gives_back(grad_output, (8, 3, 32, 32), SAME, 2**24)


def every_named_layer():
    """Both directions of every named layer, exact."""
    for (geometry, shape, outputs), memory, dtype in itertools.product(NAMED, MEMORIES, DTYPES):
        x = integers(1, shape, dtype)
        weight = integers(2, (outputs, shape[1] // geometry.groups, *geometry.kernel_size), dtype)
        out_shape = geometry.output_shape(shape, weight.shape)
        if planes._Cut.of(x, planes._sweep(geometry, out_shape), memory) is not None:
            found = planes.forward(x, weight, None, geometry, out_shape, memory)
            assert_same_bits(found + 0.0, sliding_windows.forward(x, weight, None, **attributes(geometry)) + 0.0)
        grad_output = integers(4, out_shape, dtype)
        if all(planes._Cut.of(grad_output, phase.sweep, memory) for phase in planes._phases(geometry, shape)):
            found = planes.input_gradient(grad_output, weight, geometry, shape, memory)
            expected = sliding_windows.input_gradient(grad_output, weight, shape[2:], **attributes(geometry))
            assert_same_bits(found + 0.0, expected + 0.0)
        assert_joint_gradient_exact((geometry, shape, outputs), memory, dtype)
    return "exact"


@pytest.mark.parametrize("vector", other_registers.VECTORS)
def test_registers_of_every_length_give_the_same(tmp_path, vector):
    assert other_registers.run(vector, "tests.test_planes:every_named_layer", tmp_path) == "exact"


@pytest.mark.parametrize("dtype", DTYPES)
def test_T15_large_layers_are_computed_by_planes_as_well_as_by_windows(dtype, monkeypatch):
    geometry = ConvGeometry.of(3, padding=1, groups=2)
    generator = np.random.default_rng(0)
    x, weight, bias = (
        generator.standard_normal(shape).astype(dtype) for shape in ((6, 32, 19, 23), (48, 16, 3, 3), (48,))
    )
    grad_output = generator.standard_normal((6, 48, 19, 23)).astype(dtype)
    used = []
    for name in ("forward", "input_gradient"):
        original = getattr(planes, name)
        monkeypatch.setattr(planes, name, lambda *a, n=name, f=original: (used.append(n), f(*a))[1])
    forward = conv2d_forward(x, weight, bias, geometry)
    backward = conv2d_input_gradient(grad_output, weight, geometry, (19, 23))
    assert used == ["forward", "input_gradient"]
    wide = [array.astype(np.float64) for array in (x, weight, bias, grad_output)]
    sides = attributes(geometry)
    largest = sliding_windows.forward(*map(np.abs, wide[:3]), **sides)
    allowed = gamma(16 * 9 + 1, dtype) * largest
    assert_within(forward.astype(np.float64), sliding_windows.forward(*wide[:3], **sides), allowed)
    largest = sliding_windows.input_gradient(np.abs(wide[3]), np.abs(wide[1]), (19, 23), **sides)
    expected = sliding_windows.input_gradient(wide[3], wide[1], (19, 23), **sides)
    assert_within(backward.astype(np.float64), expected, gamma(24 * 9, dtype) * largest)


@pytest.mark.parametrize("memory", MEMORIES)
def test_an_output_has_the_same_bits_however_the_work_is_cut(memory, monkeypatch):
    generator = np.random.default_rng(5)
    x = generator.standard_normal((7, 20, 18, 21)).astype(np.float32)
    weight = generator.standard_normal((24, 20, 3, 3)).astype(np.float32)
    shape = SAME.output_shape(x.shape, weight.shape)
    whole = planes.forward(x, weight, None, SAME, shape, 2**24)
    for threads in ("1", "2", "3", "64"):  # of which not all have room
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
        assert planes.applies(x, shape, SAME, memory)
        assert_same_bits(planes.forward(x, weight, None, SAME, shape, memory), whole)
    # nor does an image's output depend on the images beside it, a channel's not on the other out channels
    alone = planes.forward(x[3:4], weight[9:17], None, SAME, (1, 8, *shape[2:]), memory)
    assert_same_bits(alone, np.ascontiguousarray(whole[3:4, 9:17]))


CUT_WEIGHTS = [  # geometry, shape, out channels: more than one tile of the kernel's rows on both sides, with tails
    (SAME, (3, 27, 9, 11), 19),
    (SAME, (2, 130, 7, 7), 67),
    (ConvGeometry.of(3, padding=1, groups=3), (5, 27, 8, 8), 57),
    (ConvGeometry.of((2, 3), padding=((2, 0), (0, 1)), dilation=(1, 2), groups=2), (2, 36, 10, 9), 42),
    (ConvGeometry.of(3, padding=1, stride=2), (4, 35, 13, 14), 21),
    (ConvGeometry.of((3, 2), padding=(1, 0), stride=(2, 3), groups=4), (3, 40, 12, 17), 68),
]


@pytest.mark.parametrize("threads", ["1", "2", "3"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("geometry", "shape", "outputs"), CUT_WEIGHTS)
def test_parts_of_the_weight_give_the_bits_of_all_of_it(geometry, shape, outputs, dtype, threads, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
    generator = np.random.default_rng(6)
    x, weight, bias = (
        generator.standard_normal(size).astype(dtype)
        for size in (shape, (outputs, shape[1] // geometry.groups, *geometry.kernel_size), outputs)
    )
    out_shape = geometry.output_shape(shape, weight.shape)
    grad_output = generator.standard_normal(out_shape).astype(dtype)

    def parts(memory):
        forward = planes._sweep(geometry, out_shape)
        backward = [phase.sweep for phase in planes._phases(geometry, shape)]
        cuts = [planes._Cut.of(x, forward, memory), *(planes._Cut.of(grad_output, sweep, memory) for sweep in backward)]
        return None if None in cuts else [len(cut.parts) for cut in cuts]

    expected = planes.forward(x, weight, bias, geometry, out_shape, 2**24)
    expected_back = planes.input_gradient(grad_output, weight, geometry, shape, 2**24)
    assert set(parts(2**24)) == {1}
    fitting = [memory for memory in range(2**11, 2**20, 2**11) if parts(memory)]
    least = [next(memory for memory in fitting if max(parts(memory)) <= most) for most in (10**6, 5, 2)]
    assert max(parts(least[0])) > 2
    for memory in least:
        assert_same_bits(planes.forward(x, weight, bias, geometry, out_shape, memory), expected)
        assert_same_bits(planes.input_gradient(grad_output, weight, geometry, shape, memory), expected_back)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("geometry", "shape", "outputs"), [*CUT_WEIGHTS, (SAME, (1, 9, 12, 150), 33)])
def test_room_for_a_tile_and_a_row_is_enough(geometry, shape, outputs, dtype):
    """And more room is enough too, whatever it would rather be used for."""
    x = np.empty(shape, dtype)
    out_shape = geometry.output_shape(shape, (outputs, shape[1] // geometry.groups, *geometry.kernel_size))
    sweep = planes._sweep(geometry, out_shape)
    layout = planes._Layout.of(x, sweep)
    tile = TILE_ROWS * layout.channels * math.prod(geometry.kernel_size)
    row = layout.channels * layout.step(1) + layout.length
    least = (tile + row) * x.itemsize + planes.TILE + planes.LINE + planes.SCRATCH
    assert not planes.Packed.fits(x, sweep, least - 1)
    assert all(planes.Packed.fits(x, sweep, memory) for memory in range(least, 3 * least, max(1, least // 50)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("geometry", "shape", "outputs"),
    [
        (SAME, (24, 192, 7, 7), 192),  # the weight is larger than the input
        (SAME, (1, 64, 56, 56), 64),
        (ConvGeometry.of(3, padding=1, stride=2), (16, 64, 28, 28), 128),
        (ConvGeometry.of(3, padding=1, stride=2), (32, 3, 64, 64), 32),
        (ConvGeometry.of(3, padding=1, groups=4), (8, 128, 14, 14), 128),
    ],
)
def test_gradients_work_in_a_quarter_of_the_input(geometry, shape, outputs, dtype, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape).astype(dtype)
    weight = generator.standard_normal((outputs, shape[1] // geometry.groups, *geometry.kernel_size)).astype(dtype)
    grad_output = generator.standard_normal(geometry.output_shape(shape, weight.shape)).astype(dtype)
    allowed = max(x.nbytes // 4, blocks.LEAST_MEMORY + blocks.OBJECTS)
    _, taken = peak_beside_result(conv2d_input_gradient, grad_output, weight, geometry, shape[2:], enough=allowed)
    assert taken <= allowed
    assert peak_beside_result(conv2d_weight_gradient, x, grad_output, geometry, enough=allowed)[1] <= allowed


@pytest.mark.parametrize("memory", [2**19, 2**20])
def test_the_input_gradient_of_few_channels_works_in_what_it_is_given(memory, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    geometry, shape = ConvGeometry.of(3, padding=1, stride=2), (8, 3, 64, 64)
    generator = np.random.default_rng(0)
    weight, grad_output = generator.standard_normal((128, 3, 3, 3)), generator.standard_normal((8, 128, 32, 32))
    allowed = memory + blocks.OBJECTS
    arguments = grad_output, weight, geometry, shape, memory
    assert peak_beside_result(few_channels.input_gradient, *arguments, enough=allowed)[1] <= allowed


def test_nothing_beside_the_arrays_is_read():
    """Whatever stands beside the images and the weight in memory, and NaN is the worst, leaves no trace."""
    geometry, shape = ConvGeometry.of(3, padding=1, stride=(1, 2)), (3, 5, 9, 13)
    x, weight = integers(1, shape, np.float64), integers(2, (11, 5, 3, 3), np.float64)
    embedded = []
    for array in (x, weight):
        memory = np.full(array.size + 200, math.nan)
        memory[100:-100] = array.reshape(-1)
        embedded.append(memory[100:-100].reshape(array.shape))
    out_shape = geometry.output_shape(shape, weight.shape)
    found = planes.forward(*embedded, None, geometry, out_shape, 2**24)
    assert_same_bits(found + 0.0, sliding_windows.forward(x, weight, None, **attributes(geometry)) + 0.0)


def test_infinities_reach_their_windows_and_no_others():
    x, weight = integers(1, (2, 3, 9, 10), np.float32), np.abs(integers(2, (8, 3, 3, 3), np.float32)) + 1
    x[1, 2, 4, 5] = math.inf
    found = planes.forward(x, weight, None, SAME, (2, 8, 9, 10), 2**24)
    reached = np.zeros((2, 8, 9, 10), bool)
    reached[1, :, 3:6, 4:7] = True
    assert (found[reached] == math.inf).all()
    assert np.isfinite(found[~reached]).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_memory_layout_is_taken_and_a_frozen_one_left_as_it_is(layout):
    x, weight = integers(1, (4, 16, 24, 24), np.float32), integers(2, (16, 16, 3, 3), np.float32)
    expected = sliding_windows.forward(x, weight, None, **attributes(SAME))
    found = conv2d_forward(with_layout(x, layout), with_layout(weight, layout), None, SAME)
    assert_same_bits(found + 0.0, expected + 0.0)


def test_what_the_loops_are_not_for():
    large = np.ones((8, 16, 32, 32), np.float32)
    outputs = (8, 16, 32, 32)
    assert planes.applies(large, outputs, SAME, 2**24)
    assert not planes.applies(large.transpose(0, 1, 3, 2), outputs, SAME, 2**24)
    assert not planes.applies(large, (8, 4, 32, 32), SAME, 2**24)
    assert not planes.applies(large, outputs, ConvGeometry.of(1), 2**24)
    assert not planes.applies(large[:1, :, :8, :8], (1, 16, 8, 8), SAME, 2**24)
    assert not planes.applies(large, outputs, SAME, 2**10)


def test_the_JIT_is_needed(monkeypatch):
    large = np.ones((8, 16, 32, 32), np.float32)
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    assert not planes.applies(large, large.shape, SAME, 2**24)
