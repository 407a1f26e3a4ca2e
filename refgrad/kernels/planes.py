"""Convolutions as sums of shifted images: every tap of the kernel reads the same planes, from another place on.

In: C-contiguous images, by address, and weights packed for tiles. Out: the convolution's output, filled.

Some images, or some rows of one, are copied to a buffer with the zeros around them, taken apart into a plane for each
remainder of rows and columns by the stride; what a tap reads for neighbouring outputs then lies side by side. The sums
of a few out channels and of up to three registers of neighbouring outputs stay in registers until all taps and all
channels have been added.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from refgrad.arguments import Array
from refgrad.kernels.jit import kernel
from refgrad.kernels.registers import (
    FUSED,
    INDEX,
    REGISTER,
    TILE_ROWS,
    add_number,
    add_vector,
    constant,
    copy_number,
    copy_vector,
    number_kind,
    read,
    splat,
    tile_vectors,
    vector_kind,
    write,
    write_zero,
)

__all__ = ["REGISTER", "TILE_ROWS", "convolve", "fill_planes"]

Pair: TypeAlias = tuple[int, int]


def _tile_of(vectors: int) -> Any:
    @intrinsic
    def tile(
        context: Any, left: Any, right: Any, shifts: Any, taps: Any, step: Any, channels: Any, target: Any, zero: Any
    ) -> Any:
        """Write TILE_ROWS x `vectors` vectors of sums over taps, and over channels within each.

        left is the address of a tile's weights, (taps, channels, TILE_ROWS); right that of the first output's place in
        the first channel; shifts that of how many bytes behind it each tap reads; a channel is `step` bytes from the
        next. Rows of the target follow one another.
        """
        del context, left, right, shifts, taps, step, channels, target

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            left, right, shifts, taps, step, channels, target, _ = arguments
            kind, number = vector_kind(signature.args[7]), number_kind(signature.args[7])
            number_bytes, none = signature.args[7].bitwidth // 8, ir.Constant(kind, [0.0] * kind.count)
            before = builder.block
            outer, inner, tap_end, after = map(builder.append_basic_block, ("taps", "channels", "tap_end", "sums"))
            builder.branch(outer)

            def phis(count: int, of: Any) -> list[Any]:
                return [builder.phi(of) for _ in range(count)]

            builder.position_at_end(outer)
            tap, weights = phis(2, INDEX)
            kept = phis(TILE_ROWS * vectors, kind)
            shift = read(builder, builder.add(shifts, builder.mul(tap, constant(8))), INDEX)
            first = builder.add(right, shift)
            builder.branch(inner)

            builder.position_at_end(inner)
            channel, at_left, at_right = phis(3, INDEX)
            sums = phis(TILE_ROWS * vectors, kind)
            columns = [read(builder, builder.add(at_right, constant(REGISTER * v)), kind) for v in range(vectors)]
            larger = []
            for row in range(TILE_ROWS):
                weight = read(builder, builder.add(at_left, constant(number_bytes * row)), number)
                factor = splat(builder, weight, kind)
                for v, column in enumerate(columns):
                    product = builder.fmul(factor, column, flags=FUSED)
                    larger.append(builder.fadd(sums[row * vectors + v], product, flags=FUSED))
            next_channel = builder.add(channel, constant(1))
            next_left = builder.add(at_left, constant(number_bytes * TILE_ROWS))
            for phi, start, following in (
                (channel, constant(0), next_channel),
                (at_left, weights, next_left),
                (at_right, first, builder.add(at_right, step)),
                *zip(sums, kept, larger, strict=True),
            ):
                phi.add_incoming(start, outer)
                phi.add_incoming(following, inner)
            builder.cbranch(builder.icmp_signed("<", next_channel, channels), inner, tap_end)

            builder.position_at_end(tap_end)
            next_tap = builder.add(tap, constant(1))
            for phi, start, following in (
                (tap, constant(0), next_tap),
                (weights, left, next_left),
                *((old, none, new) for old, new in zip(kept, larger, strict=True)),
            ):
                phi.add_incoming(start, before)
                phi.add_incoming(following, tap_end)
            builder.cbranch(builder.icmp_signed("<", next_tap, taps), outer, after)

            builder.position_at_end(after)
            for number_of, value in enumerate(larger):
                write(builder, value, builder.add(target, constant(REGISTER * number_of)))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7, zero), code

    return tile


tile_1, tile_2, tile_3 = _tile_of(1), _tile_of(2), _tile_of(3)


@kernel
def copy_run(source: int, target: int, count: int, zero: Any, size: int) -> None:
    """Copy neighbouring numbers; the last vector overlaps the one before it."""
    at, stop = 0, count * size
    if stop >= REGISTER:
        while at + REGISTER < stop:
            copy_vector(source + at, target + at, zero)
            at += REGISTER
        copy_vector(source + stop - REGISTER, target + stop - REGISTER, zero)
    else:
        while at < stop:
            copy_number(source + at, target + at, zero)
            at += size


@kernel
def fill_zeros(target: int, count: int, zero: Any, size: int) -> None:
    """Write neighbouring zeros."""
    stop = target + count * size
    while target < stop:
        write_zero(target, zero)
        target += size


@kernel
def fill_planes(
    source: int, zero: Any, size: int, image: tuple[int, int, int], planes: tuple[int, int, int, int], top: int,
    left: int, stride: Pair, buffer: int, buffer_step: int,
) -> None:  # fmt: skip
    """Copy an image, taken apart, to where it belongs in every channel of a buffer.

    Parameters
    ----------
    source : int
        The address of the image.
    zero, size
        As for `convolve`.
    image : three ints
        Its channels, height and width.
    planes : four ints
        How many remainders of rows and of columns there are, how many rows a plane has, and how long they are.
    top, left : int
        Which row and column of the image the planes begin with; negative ones are zeros, and so are those behind the
        last.
    stride : pair of ints
        Of the convolution.
    buffer, buffer_step : int
        The address for the first channel, and the bytes to the next one. Zeros, or planes of the same layout.
    """
    channels, height, width = image
    row_planes, column_planes, rows, length = planes
    row_bytes, step = length * size, stride[1] * size
    for channel in range(channels):
        target = buffer + channel * buffer_step
        begin = source + channel * height * width * size
        for row_plane in range(row_planes):
            for column_plane in range(column_planes):
                # the first of a row that lies in the image, and the one behind the last
                offset = left + column_plane
                first = min(length, max(0, (stride[1] - 1 - offset) // stride[1]))
                stop = max(first, min(length, (width - 1 - offset) // stride[1] + 1))
                at = top + row_plane
                for _ in range(rows):
                    # beside a row there are zeros from the start; a row of zeros may have been one of an image
                    if at < 0 or at >= height:
                        fill_zeros(target, length, zero, size)
                    else:
                        from_ = begin + (at * width + offset) * size + first * step
                        if step == size:
                            copy_run(from_, target + first * size, stop - first, zero, size)
                        else:
                            to, end = target + first * size, target + stop * size
                            while to < end:
                                copy_number(from_, to, zero)
                                from_ += step
                                to += size
                    target += row_bytes
                    at += stride[0]


@kernel
def add_run(source: int, target: int, count: int, number: Any, size: int) -> None:
    """Write neighbouring numbers, plus a number."""
    at, stop = 0, count * size
    if stop >= REGISTER:
        while at + REGISTER < stop:
            add_vector(source + at, target + at, number)
            at += REGISTER
        add_vector(source + stop - REGISTER, target + stop - REGISTER, number)
    else:
        while at < stop:
            add_number(source + at, target + at, number)
            at += size


@kernel
def spread_run(source: int, target: int, count: int, apart: int, zero: Any, size: int) -> None:
    """Copy neighbouring numbers to places that are so many bytes apart."""
    stop = source + count * size
    while source < stop:
        copy_number(source, target, zero)
        source += size
        target += apart


@kernel
def convolve(
    source: int, zero: Any, size: int, shape: tuple[int, int, int, int], out_shape: tuple[int, int, int, int],
    out_strides: tuple[int, ...], weights: int, shifts: Array, block: int, bias: Array, groups: int,
    part: tuple[int, int, int, int], planes: tuple[int, int, int, int], corner: Pair, stride: Pair, unit: Pair,
    units: Pair, buffer: Array, scratch: Array, output: int,
) -> None:  # fmt: skip
    """Fill the output of some images and rows, in the out channels of some groups or tiles.

    Parameters
    ----------
    source : int
        The address of the images.
    zero : float32 or float64
        A zero of their type.
    size : int
        Its bytes.
    shape : four ints
        B, C, H, W.
    out_shape : four ints
        B, O, H', W'.
    out_strides : four ints
        How many bytes neighbours along each of these axes are apart.
    weights : int
        The address of (groups, tiles of out channels, blocks of channels, taps, channels of a block, TILE_ROWS), those
        groups and tiles of the part alone. Channels are filled up with zeros, the rows of a last tile with anything.
    shifts : array (blocks x taps,)
        int64: how many bytes behind the first output's place in the first channel each tap of each block reads.
    block : int
        How many channels a block has.
    bias : array (O,) or (0,)
        Added, if there is one; an output's columns must be neighbours then.
    groups : int
        Of channels.
    part : four ints
        The first group and the one behind the last, and the first tile of each and the one behind the last.
    planes : four ints
        As for `fill_planes`; the last one is how far the places of an output and of the one below it are apart.
    corner : pair of ints
        Which row and column of the image the first output's first tap reads.
    stride : pair of ints
        Of the convolution.
    unit : pair of ints
        How many images, and how many of their output rows, are done together.
    units : pair of ints
        The first unit and the one behind the last; those of the same images follow one another.
    buffer : array (images of a unit, channels of all blocks, some)
        Zeros. A row holds the planes of a channel, which lie close together: tiles read all channels, over and over.
        What a last tile reads behind the last row is there too, whatever it is.
    scratch : array (TILE_ROWS 3 registers,)
        Overwritten.
    output : int
        The address of (B, O, H', W').
    """
    first_group, stop_group, first_tile, stop_tile = part
    images, channels, height, width = shape
    _, out_channels, out_height, out_width = out_shape
    group_channels, group_outputs = channels // groups, out_channels // groups
    lanes, step = REGISTER // size, buffer.shape[2] * size
    length = planes[3]
    image_step = buffer.shape[1] * step
    tile_bytes = len(shifts) * block * TILE_ROWS * size
    row_units = (out_height + unit[1] - 1) // unit[1]
    for number in range(units[0], units[1]):
        first_image = number // row_units * unit[0]
        some_images = min(unit[0], images - first_image)
        first_row = number % row_units * unit[1]
        places = (min(unit[1], out_height - first_row) - 1) * length + out_width
        for group in range(first_group, stop_group):
            for image in range(some_images):
                begin = source + ((first_image + image) * channels + group * group_channels) * height * width * size
                fill_planes(
                    begin, zero, size, (group_channels, height, width), planes, corner[0] + first_row * stride[0],
                    corner[1], stride, buffer.ctypes.data + image * image_step, step,
                )  # fmt: skip
            for tile in range(first_tile, stop_tile):
                before = (group - first_group) * (stop_tile - first_tile) + tile - first_tile
                left = weights + before * tile_bytes
                rows = min(TILE_ROWS, group_outputs - tile * TILE_ROWS)
                first_output = group * group_outputs + tile * TILE_ROWS
                for image in range(some_images):
                    target = (
                        output + (first_image + image) * out_strides[0] + first_output * out_strides[1]
                        + first_row * out_strides[2]
                    )  # fmt: skip
                    place = 0
                    while place < places:
                        vectors = tile_vectors((places - place + lanes - 1) // lanes)
                        right = buffer.ctypes.data + image * image_step + place * size
                        sums, table = scratch.ctypes.data, shifts.ctypes.data
                        if vectors == 3:
                            tile_3(left, right, table, len(shifts), step, block, sums, zero)
                        elif vectors == 2:
                            tile_2(left, right, table, len(shifts), step, block, sums, zero)
                        else:
                            tile_1(left, right, table, len(shifts), step, block, sums, zero)
                        stop = min(places, place + vectors * lanes)
                        row = place // length
                        while row * length < stop:
                            start, end = max(place, row * length), min(stop, row * length + out_width)
                            if start < end:
                                to = target + row * out_strides[2] + (start - row * length) * out_strides[3]
                                for r in range(rows):
                                    from_ = sums + (r * vectors * lanes + start - place) * size
                                    into = to + r * out_strides[1]
                                    if out_strides[3] != size:
                                        spread_run(from_, into, end - start, out_strides[3], zero, size)
                                    elif len(bias) > 0:
                                        add_run(from_, into, end - start, bias[first_output + r], size)
                                    else:
                                        copy_run(from_, into, end - start, zero, size)
                            row += 1
                        place = stop
