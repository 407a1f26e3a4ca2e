"""Weight gradients as sums of outer products: of G at an output position and of A at what one tap reads for it.

In: C-contiguous images and gradients, by address. Out: sums, added to a panel that the caller allocated.

Some images, or some rows of one, are copied to a buffer with the zeros around them, channels side by side: all that a
tap reads of some channels for a position is then one vector, or a few. The sums of a few out channels and of up to
three registers of channels stay in registers until all positions have been added.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from refgrad.arguments import Array
from refgrad.kernels.jit import kernel
from refgrad.kernels.planes import fill_planes
from refgrad.kernels.registers import (
    FUSED,
    INDEX,
    REGISTER,
    TILE_ROWS,
    constant,
    copy_number,
    number_kind,
    read,
    splat,
    tile_vectors,
    transposed,
    vector_kind,
    write,
    write_zero,
)

__all__ = ["REGISTER", "TILE_ROWS", "correlate", "correlate_few"]

Pair: TypeAlias = tuple[int, int]

OFFSET = 8
"""Bytes of an entry of a table."""


def _copy_transposed(context: Any, source: Any, source_step: Any, target: Any, table: Any, zero: Any) -> Any:
    """Copy a square of as many rows as a register holds numbers: a column to each of the next places of a table.

    Rows are `source_step` bytes apart; the table's offsets, in bytes, count from `target`.
    """
    del context, source, source_step, target, table

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, source_step, target, table, _ = arguments
        kind = vector_kind(signature.args[4])
        rows = []
        for _ in range(kind.count):
            rows.append(read(builder, source, kind))
            source = builder.add(source, source_step)
        for number, column in enumerate(transposed(builder, rows)):
            offset = read(builder, builder.add(table, constant(OFFSET * number)), INDEX)
            write(builder, column, builder.add(target, offset))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4, zero), code


copy_transposed: Any = intrinsic(_copy_transposed)


def _tile_of(vectors: int) -> Any:
    @intrinsic
    def tile(
        context: Any, left: Any, rows: Any, right: Any, table: Any, count: Any, target: Any, width: Any, zero: Any
    ) -> Any:
        """Add `count` >= 1 outer products to TILE_ROWS x `vectors` vectors of sums.

        The first factor of each is TILE_ROWS numbers, whose offsets from the first of all stand at `rows`, the second
        one so many vectors that follow one another; the table says, two offsets for each product, how far behind `left`
        and `right` they begin. target is the address of the first sum, and a row of sums is `width` bytes long.
        """
        del context, left, rows, right, table, count, target, width

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            left, rows, right, table, count, target, width, _ = arguments
            kind, number = vector_kind(signature.args[7]), number_kind(signature.args[7])
            before = builder.block
            loop, after = builder.append_basic_block("products"), builder.append_basic_block("sums")
            end = builder.add(table, builder.mul(count, constant(2 * OFFSET)))
            lefts = [
                builder.add(left, read(builder, builder.add(rows, constant(OFFSET * row)), INDEX))
                for row in range(TILE_ROWS)
            ]
            builder.branch(loop)

            builder.position_at_end(loop)
            entry = builder.phi(INDEX)
            sums = [builder.phi(kind) for _ in range(TILE_ROWS * vectors)]
            behind = read(builder, entry, INDEX)
            at_right = builder.add(right, read(builder, builder.add(entry, constant(OFFSET)), INDEX))
            columns = [read(builder, builder.add(at_right, constant(REGISTER * v)), kind) for v in range(vectors)]
            larger = []
            for row in range(TILE_ROWS):
                factor = splat(builder, read(builder, builder.add(lefts[row], behind), number), kind)
                for v, column in enumerate(columns):
                    product = builder.fmul(factor, column, flags=FUSED)
                    larger.append(builder.fadd(sums[row * vectors + v], product, flags=FUSED))
            next_entry = builder.add(entry, constant(2 * OFFSET))
            none = ir.Constant(kind, [0.0] * kind.count)
            for phi, first, following in (
                (entry, table, next_entry),
                *((old, none, new) for old, new in zip(sums, larger, strict=True)),
            ):
                phi.add_incoming(first, before)
                phi.add_incoming(following, loop)
            builder.cbranch(builder.icmp_unsigned("<", next_entry, end), loop, after)

            builder.position_at_end(after)
            for row in range(TILE_ROWS):
                for v in range(vectors):
                    place = builder.add(target, constant(REGISTER * v))
                    write(builder, builder.fadd(read(builder, place, kind), larger[row * vectors + v]), place)
                target = builder.add(target, width)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7, zero), code

    return tile


tile_1, tile_2, tile_3 = _tile_of(1), _tile_of(2), _tile_of(3)


@kernel
def add_products(
    left: int, rows: int, right: int, table: Array, count: int, target: int, width: int, zero: Any, vectors: int
) -> None:
    """Add to a tile of one, two or three vectors."""
    if vectors == 3:
        tile_3(left, rows, right, table.ctypes.data, count, target, width, zero)
    elif vectors == 2:
        tile_2(left, rows, right, table.ctypes.data, count, target, width, zero)
    else:
        tile_1(left, rows, right, table.ctypes.data, count, target, width, zero)


@kernel
def fill_channels_last(
    source: int, zero: Any, size: int, image: tuple[int, int, int], top: int, rows: int, length: int, pixels: Array,
    target: int, width: int,
) -> None:  # fmt: skip
    """Copy rows of some channels of an image to where they belong, a pixel's channels side by side.

    Parameters
    ----------
    source : int
        The address of the first channel.
    zero, size
        As for `correlate`.
    image : three ints
        How many channels, height and width.
    top, rows, length : int
        Which row of the image comes first, how many follow, and how many pixels are in one. Rows above and below the
        image are zeros.
    pixels : array (rows x width,)
        int64: how many bytes behind the first row's first pixel each pixel of the image stands, were they all in it.
    target, width : int
        The address of the first row's first pixel, and the bytes to the next pixel.
    """
    channels, height, width_in = image
    plane, lanes = height * width_in * size, REGISTER // size
    first, stop = max(0, min(height, top)), max(0, min(height, top + rows))
    for row in range(rows):
        if top + row < 0 or top + row >= height:
            at = target + row * length * width
            end = at + length * width
            while at < end:
                write_zero(at, zero)
                at += size
    start, end = (first - top) * width_in, (stop - top) * width_in
    whole = channels - channels % lanes if end - start >= lanes else 0
    for channel in range(0, whole, lanes):
        from_, to = source + channel * plane + top * width_in * size, target + channel * size
        pixel = start
        while pixel < end:
            pixel = min(pixel, end - lanes)  # the last square overlaps the one before it
            copy_transposed(from_ + pixel * size, plane, to, pixels.ctypes.data + OFFSET * pixel, zero)
            pixel += lanes
    for channel in range(whole, channels):
        from_, to = source + channel * plane + top * width_in * size, target + channel * size
        for pixel in range(start, end):
            copy_number(from_ + pixel * size, to + pixels[pixel], zero)


@kernel
def correlate(
    source: int, gradients: int, zero: Any, size: int, shape: tuple[int, int, int, int],
    out_shape: tuple[int, int, int, int], channels: Pair, tiles: Array, above: int, stride: int, unit: Pair,
    units: Pair, plane: Pair, pixels: Array, rows: Array, table: Array, shifts: Array, panel: Array, sums: Array,
) -> None:  # fmt: skip
    """Add what some images and rows give to a weight gradient, for some channels and out channels of one group.

    Parameters
    ----------
    source, gradients : int
        The addresses of A and G.
    zero : float32 or float64
        A zero of their type.
    size : int
        Its bytes.
    shape, out_shape : four ints
        B, C, H, W and B, O, H', W'.
    channels : pair of ints
        The first channel and the one behind the last.
    tiles : array (tiles,)
        int64: the first out channel of every tile.
    above, stride : int
        How many rows above the image the first output's first tap reads, and how many rows further the next output's.
    unit, units : pairs of ints
        As for `planes.convolve`.
    plane : pair of ints
        How many rows a unit reads of an image, and how many pixels are in one.
    pixels : array (rows of a plane x W,)
        As for `fill_channels_last`.
    rows : array (TILE_ROWS,)
        int64: how many bytes behind the first out channel of a tile each of them stands in G.
    table : array (output positions of a unit, 2)
        int64: how many bytes behind the first one each of them stands in G, and its first tap's pixel in the panel.
    shifts : array (taps,)
        int64: how many bytes behind the first tap's pixel each tap reads.
    panel : array (pixels, some)
        Zeros. A row holds a pixel's channels; there are as many as whole registers hold.
    sums : array (tiles x TILE_ROWS, taps, some)
        Added to.
    """
    images, all_channels, height, width = shape
    _, out_channels, out_height, out_width = out_shape
    count, lanes = channels[1] - channels[0], REGISTER // size
    pixel_bytes = panel.shape[1] * size
    row_bytes = sums.shape[1] * sums.shape[2] * size
    row_units = (out_height + unit[1] - 1) // unit[1]
    for number in range(units[0], units[1]):
        first_image, first_row = number // row_units * unit[0], number % row_units * unit[1]
        some_images = min(unit[0], images - first_image)
        top = first_row * stride - above
        for image in range(some_images):
            begin = source + ((first_image + image) * all_channels + channels[0]) * height * width * size
            fill_channels_last(
                begin, zero, size, (count, height, width), top, plane[0], plane[1], pixels,
                panel.ctypes.data + image * plane[0] * plane[1] * pixel_bytes, pixel_bytes,
            )  # fmt: skip
        positions = some_images * min(unit[1], out_height - first_row) * out_width
        first = gradients + (first_image * out_channels * out_height + first_row) * out_width * size
        channel = 0
        while channel < count:
            vectors = tile_vectors((count - channel + lanes - 1) // lanes)
            for tile in range(len(tiles)):
                left = first + tiles[tile] * out_height * out_width * size
                for tap in range(len(shifts)):
                    right = panel.ctypes.data + shifts[tap] + channel * size
                    target = sums.ctypes.data + tile * TILE_ROWS * row_bytes + (tap * sums.shape[2] + channel) * size
                    add_products(left, rows.ctypes.data, right, table, positions, target, row_bytes, zero, vectors)
            channel += vectors * lanes


@kernel
def correlate_few(
    source: int, gradients: int, zero: Any, size: int, shape: tuple[int, int, int, int],
    out_shape: tuple[int, int, int, int], channels: Pair, outputs: Pair, above: int, left: int, stride: int, unit: Pair,
    units: Pair, plane: Pair, pixels: Array, table: Array, rows: Array, buffer: Array, panel: Array, sums: Array,
) -> None:  # fmt: skip
    """Add what some images and rows give to a weight gradient, for few channels and many out channels of one group.

    The sides change places: it is G whose channels stand side by side, and a row of sums is a tap of a channel.

    Parameters
    ----------
    source, gradients, zero, size, shape, out_shape, channels, above, stride, unit, units, plane
        As for `correlate`.
    outputs : pair of ints
        The first out channel and the one behind the last.
    left : int
        How many columns of zeros there are to the left of an image.
    pixels : array (output positions of an image's rows in a unit,)
        int64: how many bytes behind the first one each stands in the panel.
    table : array (output positions of a unit, 2)
        int64: how many bytes behind the first one each begins in the buffer, and stands in the panel.
    rows : array (tiles, TILE_ROWS)
        int64: how many bytes behind the first channel's first tap each row's tap reads in the buffer.
    buffer : array (channels, some)
        Zeros. A row holds a unit's rows of all its images.
    panel : array (output positions, some)
        Zeros. A row holds a position's out channels; there are as many as whole registers hold.
    sums : array (tiles x TILE_ROWS, some)
        Added to.
    """
    images, all_channels, height, width = shape
    _, out_channels, out_height, out_width = out_shape
    count, lanes = outputs[1] - outputs[0], REGISTER // size
    position_bytes, row_bytes = panel.shape[1] * size, sums.shape[1] * size
    row_units = (out_height + unit[1] - 1) // unit[1]
    for number in range(units[0], units[1]):
        first_image, first_row = number // row_units * unit[0], number % row_units * unit[1]
        some_images, some_rows = min(unit[0], images - first_image), min(unit[1], out_height - first_row)
        for image in range(some_images):
            begin = source + ((first_image + image) * all_channels + channels[0]) * height * width * size
            fill_planes(
                begin, zero, size, (channels[1] - channels[0], height, width), (1, 1, plane[0], plane[1]),
                first_row * stride - above, -left, (1, 1),
                buffer.ctypes.data + image * plane[0] * plane[1] * size, buffer.shape[1] * size,
            )  # fmt: skip
            begin = gradients + ((first_image + image) * out_channels + outputs[0]) * out_height * out_width * size
            fill_channels_last(
                begin, zero, size, (count, out_height, out_width), first_row, some_rows, out_width, pixels,
                panel.ctypes.data + image * unit[1] * out_width * position_bytes, position_bytes,
            )  # fmt: skip
        positions = some_images * some_rows * out_width
        output = 0
        while output < count:
            vectors = tile_vectors((count - output + lanes - 1) // lanes)
            right = panel.ctypes.data + output * size
            for tile in range(len(rows)):
                target = sums.ctypes.data + tile * TILE_ROWS * row_bytes + output * size
                add_products(
                    buffer.ctypes.data,
                    rows[tile].ctypes.data,
                    right,
                    table,
                    positions,
                    target,
                    row_bytes,
                    zero,
                    vectors,
                )
            output += vectors * lanes
