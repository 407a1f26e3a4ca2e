"""Arrays of more than 2^31 and 2^32 elements are indexed right.

What is large here is the index: files with holes and broadcast arrays have that many elements and hardly any memory.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refgrad import accounting
from refgrad.convolution import blocks, conv2d_forward, conv2d_weight_gradient, patches, small_groups
from refgrad.geometry import ConvGeometry
from refgrad.kernels import convolution as kernels
from refgrad.ranges import ranges
from tests.assertions import assert_same_bits

TURNS = (2**31, 2**32)
"""Where a signed and an unsigned index of 32 bits begin anew."""

near_a_turn = st.tuples(st.sampled_from(TURNS), st.integers(-5, 5)).map(sum)
"""Sizes around them."""


@pytest.fixture
def with_holes(tmp_path):
    """Make arrays of zeros that lie in a file with holes: only what is touched takes memory."""
    numbers = itertools.count()

    def make(shape):
        try:
            array = np.memmap(tmp_path / f"{next(numbers)}", np.float32, "w+", shape=shape)
        except OSError as error:
            pytest.skip(f"no file of {4 * math.prod(shape)} bytes can be made here: {error}")
        return array.view(np.ndarray)

    return make


# images side by side: (C, H, W, B)
LARGE_LAYERS = [
    # channels, height, width, images, kernel, stride, dilation
    pytest.param((2, 2**15, 2**15 + 3, 3), (2, 2), (2**14, 2**14 - 1), (3, 5), id="strides on both axes"),
    pytest.param((2, 2**31 + 7, 2, 1), (2, 2), (2**30, 1), (5, 1), id="runs along a row"),
]


def geometry_of(kernel, stride, dilation):
    return ConvGeometry.of(kernel, stride=stride, dilation=dilation, groups=2)


def taps(shape, geometry):
    """Every (channel, tap) with the pixels that it reads, as an index into (C, H, W, B)."""
    rows, columns = (
        np.arange(count) * stride
        for count, stride in zip(geometry.output_size(shape[1:3]), geometry.stride, strict=True)
    )
    for channel, u, v in itertools.product(range(shape[0]), *map(range, geometry.kernel_size)):
        yield (channel, u, v), (channel, *np.ix_(rows + u * geometry.dilation[0], columns + v * geometry.dilation[1]))


@pytest.mark.parametrize(("shape", "kernel", "stride", "dilation"), LARGE_LAYERS)
def test_D6_direct_kernels_read_and_write_beyond_2_to_the_32(with_holes, shape, kernel, stride, dilation):
    assert math.prod(shape) > TURNS[-1]
    geometry = geometry_of(kernel, stride, dilation)
    numbers = (stride, (0, 0), dilation)
    channels, images = shape[0], shape[3]
    generator = np.random.default_rng(4)
    out_shape = (channels, *geometry.output_size(shape[1:3]), images)
    weight = generator.integers(1, 5, (channels, 1, *kernel)).astype(np.float32)
    grad_output = generator.integers(1, 5, out_shape).astype(np.float32)

    x = with_holes(shape)
    for _, pixels in taps(shape, geometry):
        x[pixels] = generator.integers(1, 5, x[pixels].shape)
    output, expected = np.zeros(out_shape, np.float32), np.zeros(out_shape, np.float32)
    grad_weight, expected_weight = np.zeros_like(weight), np.zeros_like(weight)
    for (channel, u, v), pixels in taps(shape, geometry):
        expected[channel] += weight[channel, 0, u, v] * x[pixels]
        expected_weight[channel, 0, u, v] = np.sum(grad_output[channel] * x[pixels])
    kernels.direct_forward(x, weight, *numbers, output)
    assert_same_bits(output, expected, "output")
    kernels.direct_weight_gradient(x, grad_output, *numbers, grad_weight)
    assert_same_bits(grad_weight, expected_weight, "grad_weight")

    grad_input, expected_input, touched = with_holes(shape), with_holes(shape), set()
    for (channel, u, v), pixels in taps(shape, geometry):
        expected_input[pixels] += weight[channel, 0, u, v] * grad_output[channel]
        touched |= set(np.ravel_multi_index(np.broadcast_arrays(*pixels), shape[:3]).reshape(-1).tolist())
    kernels.direct_input_gradient(grad_output, weight, *numbers, grad_input)
    for _, pixels in taps(shape, geometry):
        assert_same_bits(grad_input[pixels], expected_input[pixels], "grad_input")
    flat = grad_input.reshape(-1, images)
    for pixel, turn in itertools.product(touched, TURNS):  # where an index that had begun anew would have written
        wrapped = pixel * images % turn // images
        assert wrapped in touched or not flat[wrapped].any()


@pytest.mark.parametrize("along", [0, 1], ids=["rows", "columns"])
def test_D6_patches_of_an_image_beyond_2_to_the_32_are_the_right_pixels(along):
    """Every pixel is the number of its row, or of its column; the output is one of few positions."""
    height, width = 2**16 + 1, 2**16 + 3
    index = np.arange(height)[:, None] if along == 0 else np.arange(width)[None, :]
    x = np.broadcast_to(index.astype(np.float64), (1, 1, height, width))
    assert x.size > TURNS[-1]
    geometry = ConvGeometry.of(2, stride=(2**15 - 1, 2**14 + 5), dilation=(3, 7))
    weight = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    size = geometry.output_size((height, width))
    positions = np.meshgrid(*(np.arange(n) * s for n, s in zip(size, geometry.stride, strict=True)), indexing="ij")
    offsets = [np.array([[0, 0], [3, 3]]), np.array([[0, 7], [0, 7]])]
    read = positions[along][:, :, None, None] + offsets[along]  # (H', W', k_h, k_w)

    output = conv2d_forward(x, weight, None, geometry)
    assert_same_bits(output[0, 0], (read * weight[0, 0]).sum((2, 3)), "output")
    grad_output = np.arange(1.0, 1.0 + math.prod(size)).reshape(1, 1, *size)
    grad_weight = conv2d_weight_gradient(x, grad_output, geometry)
    assert_same_bits(
        grad_weight[0, 0], np.einsum("ij,ijuv->uv", grad_output[0, 0], read.astype(np.float64)), "grad_weight"
    )


@given(
    offset=st.one_of(near_a_turn, near_a_turn.map(lambda number: -number), st.integers(-9, 9)),
    stride=st.one_of(st.integers(1, 5), near_a_turn),
    size=near_a_turn,
    count=near_a_turn,
)
@example(offset=-(2**32), stride=1, size=2**31, count=2**32 + 5)
@example(offset=-(2**31) - 1, stride=2**31, size=1, count=2**32)
def test_positions_inside_of_axes_beyond_2_to_the_32(offset, stride, size, count):
    first, stop = kernels.positions_inside(offset, stride, size, count)
    assert 0 <= first <= stop <= count
    inside = [i for i in (first - 1, first, stop - 1, stop) if 0 <= i < count and 0 <= offset + i * stride < size]
    assert inside == [i for i in (first, stop - 1) if first < stop]  # and between these two, as it is monotonic in i
    if first == stop:
        nearest = -offset // stride
        assert not any(0 <= i < count and 0 <= offset + i * stride < size for i in (nearest, nearest + 1))


@given(
    stride=st.one_of(st.integers(1, 5), near_a_turn),
    dilation=st.one_of(st.integers(1, 5), near_a_turn),
    before=st.one_of(st.integers(0, 5), near_a_turn),
    tap=st.integers(0, 3),
    begin=st.one_of(st.integers(0, 5), near_a_turn),
    length=st.one_of(st.integers(1, 5), near_a_turn),
    size=st.one_of(near_a_turn, st.just(2**34)),
)
@example(stride=1, dilation=1, before=0, tap=1, begin=2**32 + 1, length=3, size=2**34)
@example(stride=2**31 + 1, dilation=1, before=2**31, tap=3, begin=3, length=2, size=2**34)
def test_patches_of_a_block_beyond_2_to_the_32_read_the_pixels_of_the_definition(
    stride, dilation, before, tap, begin, length, size
):
    geometry = ConvGeometry.of((4, 1), stride=(stride, 1), dilation=(dilation, 1), padding=((before, 0), (0, 0)))
    positions, pixels = patches.reads_inside(geometry, 0, tap, slice(begin, begin + length), size)
    read = [p for i in (begin, begin + length - 1) if 0 <= (p := i * stride + tap * dilation - before) < size]
    if positions == slice(0, 0):
        assert pixels == slice(0, 0)
        assert read == []
        return
    assert 0 <= positions.start < positions.stop <= length
    assert len(range(pixels.start, pixels.stop, pixels.step)) == positions.stop - positions.start
    assert pixels.start == (begin + positions.start) * stride + tap * dilation - before
    assert 0 <= pixels.start < pixels.stop <= size
    if positions.start:
        assert pixels.start - stride < 0
    if positions.stop < length:
        assert pixels.start + (positions.stop - positions.start) * stride >= size


def assert_cover(parts, length):
    """The slices are the whole, each index once."""
    stop = 0
    for part in parts:
        assert part.start == stop < part.stop
        stop = part.stop
    assert stop == length


@given(length=near_a_turn, longest=st.integers(2**26, 2**33))
def test_ranges_beyond_2_to_the_32_are_the_whole(length, longest):
    parts = list(ranges(length, longest))
    assert_cover(parts, length)
    assert all(part.stop - part.start <= longest for part in parts)


@given(images=st.integers(1, 3), rows=st.integers(1, 3), columns=near_a_turn, position_bytes=st.integers(8, 999))
def test_output_blocks_beyond_2_to_the_32_fit_the_memory_and_follow_each_other(images, rows, columns, position_bytes):
    largest, walk = blocks.output_blocks(images, rows, columns, position_bytes, 0, blocks.affordable())
    assert largest * position_bytes <= blocks.affordable()
    stop = 0
    for image, row, column in itertools.islice(walk, 9):
        assert (image, row) == (slice(0, 1), slice(0, 1))
        assert column.start == stop
        assert column.stop - column.start == min(largest, columns - stop)
        stop = column.stop


@given(height=near_a_turn, images=st.integers(1, 3), memory=st.sampled_from([2**33, 2**36, 2**40]))
def test_parts_of_small_groups_beyond_2_to_the_32_are_the_whole(height, images, memory):
    geometry = ConvGeometry.of(1, groups=4)
    shape = (images, 4, height, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "affordable", lambda: memory)
        if not small_groups.applies(shape, shape, geometry, 4, blocks.affordable()):
            assert 2 * height * 4 > memory
            return
        parts = list(small_groups._parts(shape, shape, geometry, 4, blocks.affordable()))
        for image, channels, out_channels in parts:
            assert channels == out_channels
            size = (image.stop - image.start) * (channels.stop - channels.start) * height
            assert 2 * size * 4 <= memory
    assert len(set(map(str, parts))) == len(parts)
    for image in {part[0].start: part[0] for part in parts}.values():
        assert_cover([channels for each, channels, _ in parts if each == image], 4)


@given(height=near_a_turn, width=near_a_turn, stride=st.integers(1, 3), padding=st.integers(0, 3))
def test_D2_D3_D6_counts_beyond_2_to_the_32_are_exact(height, width, stride, padding):
    geometry = ConvGeometry.of(3, stride=stride, padding=padding)
    shape = (5, 7, height, width)
    positions = [(n + 2 * padding - 3) // stride + 1 for n in (height, width)]
    assert geometry.output_size((height, width)) == tuple(positions)
    assert geometry.output_shape(shape, (11, 7, 3, 3)) == (5, 11, *positions)
    assert accounting.stored_numbers(shape) == 35 * height * width
    assert accounting.stored_numbers(shape, 2) == 2 * (5 + 7 * height * width)
    assert accounting.stored_numbers(shape, (2, 3, 4, 5)) == 120 + 10 + 21 + 4 * height + 5 * width
    assert accounting.forward_multiply_adds(shape, 11, geometry) == 5 * math.prod(positions) * 11 * 7 * 9


@pytest.mark.parametrize("integer", [np.int32, np.int64, np.intp])
def test_lengths_that_are_numpy_integers_do_not_overflow(integer):
    shape = tuple(map(integer, (2**16, 2**15, 2**14, 2**13)))
    assert accounting.stored_numbers(shape) == 2**58
    geometry = ConvGeometry.of(integer(3), padding=integer(2**30), dilation=integer(2**29))
    assert geometry.output_size((integer(2**31 - 1), integer(2**31 - 1))) == (3 * 2**30 - 1,) * 2
