"""The weight gradient from core and factors, out channel by out channel, in what a core's own cache holds (THEORY T14).

In: C-contiguous gradients of a layer's output by address, factors and core as matrices that are filled up to whole
registers and tiles. Out: the weight gradient, in an array that the caller allocated.

K_1 is the mode whose numbers stand side by side until it is summed over, K_2 the one after that, and then the channels:
so every product is of numbers with whole registers, whatever the size of a picture.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from refgrad.arguments import Array
from refgrad.kernels.correlation import add_products
from refgrad.kernels.jit import kernel
from refgrad.kernels.registers import REGISTER, TILE_ROWS, copy_number, copy_vector, tile_vectors

__all__ = ["REGISTER", "TILE_ROWS", "contract"]

Pair: TypeAlias = tuple[int, int]


@kernel
def steps(count: int, left: int, right: int) -> Array:
    """Return a table for `add_products`: so many products, whose factors are as many bytes further each time."""
    table = np.empty((count, 2), np.int64)
    for number in range(count):
        table[number, 0], table[number, 1] = number * left, number * right
    return table


@kernel
def add_product(
    left: int, rows: Array, right: int, table: Array, target: int, width: int, zero: Any, size: int, shape: Pair
) -> None:
    """Add a product of matrices to one of the shape (rows, numbers in a row), whole tiles of whole registers.

    Parameters
    ----------
    left, right : int
        Where the first row of the one and the first column of the other begin.
    rows : array (rows,)
        int64: how many bytes behind the first row each begins.
    table : array (products, 2)
        int64: how many bytes behind the first the factors of each product stand.
    target, width : int
        Where the result begins, and the bytes to its next row.
    zero : float32 or float64
        A zero of the numbers' type.
    size : int
        Its bytes.
    shape : pair of ints
        Of the result, multiples of `TILE_ROWS` and of the numbers of a register.
    """
    lanes = REGISTER // size
    column = 0
    while column < shape[1]:
        vectors = tile_vectors((shape[1] - column) // lanes)
        for row in range(0, shape[0], TILE_ROWS):
            to = target + row * width + column * size
            first = rows[row : row + TILE_ROWS].ctypes.data
            add_products(left, first, right + column * size, table, len(table), to, width, zero, vectors)
        column += vectors * lanes


@kernel
def fill_panel(source: int, zero: Any, size: int, step: int, count: int, panel: Array) -> None:
    """Copy so many neighbours of every sample, `step` bytes from one to the next, to a row of the panel each."""
    lanes = REGISTER // size
    whole = count - count % lanes
    for sample in range(len(panel)):
        begin, to = source + sample * step, panel[sample].ctypes.data
        for number in range(0, whole, lanes):
            copy_vector(begin + number * size, to + number * size, zero)
        for number in range(whole, count):
            copy_number(begin + number * size, to + number * size, zero)


@kernel
def contract(
    gradients: int, zero: Any, size: int, out_shape: tuple[int, int, int, int], outputs: Pair, at_once: int,
    positions: int, taps: Pair, ranks: tuple[int, int, int, int], groups: int, samples: Array, heights: Array,
    widths: Array, core: Array, channels: Array, panel: Array, by_sample: Array, by_height: Array, by_width: Array,
    by_tap: Array, by_channel: Array, result: Array,
) -> None:  # fmt: skip
    """Write the weight gradient of some out channels.

    All arrays are of one type and C-contiguous. Ranks with a prime are filled up to whole registers, taps x ranks with
    a prime to whole tiles, with zeros.

    Parameters
    ----------
    gradients : int
        The address of G's first number.
    zero : float32 or float64
        A zero of their type.
    size : int
        Its bytes.
    out_shape : four ints
        B, O, H', W'.
    outputs : pair of ints
        The first out channel and the one behind the last.
    at_once : int
        So many of them go through all products together.
    positions : int
        So many output positions are copied together, a multiple of `TILE_ROWS`.
    taps : pair of ints
        k_h and k_w.
    ranks : four ints
        K_1, K_2, K_3, K_4.
    groups : int
        Of the convolution.
    samples : array (B, K_1')
        U_1.
    heights, widths : arrays ((k_h K_3)', H'), ((k_w K_4)', W')
        U_3 and U_4, row (tap, k): what the tap reads at each output position.
    core : array (K_3, K_4 K_1, K_2')
        S.
    channels : array (K_2, C')
        U_2, transposed, with at least a register more than it has channels.
    panel : array (B, some)
        Overwritten; a row holds at least `positions` numbers.
    by_sample : array (positions of `at_once` out channels, and of a tile, K_1')
        Overwritten: G projected on U_1.
    by_height : array ((k_h K_3)', W', K_1')
        Overwritten: of one out channel, on U_3 as well.
    by_width : array (at_once, k_h K_3, (k_w K_4)', K_1')
        Overwritten: on all three.
    by_tap : array (taps of `at_once` out channels, and of a tile, K_2')
        Overwritten: its products with the core.
    by_channel : array (as many, channels of a group')
        Overwritten: with U_2 as well.
    result : array (O, C / groups, taps)
        dW, some of it overwritten.
    """
    count, _, height, width = out_shape
    plane, all_taps = height * width, taps[0] * taps[1]
    row_bytes, tap_bytes = samples.shape[1] * size, core.shape[2] * size
    channel_bytes, panel_bytes = by_channel.shape[1] * size, panel.shape[1] * size
    projected, across = taps[0] * ranks[2], len(widths)
    of_group = out_shape[1] // groups
    # Where the rows and the factors of each product begin: of positions, of U_3, U_4 and core, and of U_2.
    neighbours = np.arange(panel.shape[1]) * size
    height_rows, width_rows = np.arange(len(heights)) * (height * size), np.arange(across) * (width * size)
    tap_rows = np.zeros(len(by_tap), np.int64)
    for row in range(at_once * all_taps):
        down, right = row % all_taps // taps[1], row % taps[1]
        place = (row // all_taps * projected + down * ranks[2]) * across + right * ranks[3]
        tap_rows[row] = place * row_bytes
    of_samples = steps(count, panel_bytes, row_bytes)
    of_rows = steps(height, size, width * row_bytes)
    of_columns = steps(width, size, row_bytes)
    of_core = np.empty((ranks[3] * ranks[0], 2), np.int64)
    for number in range(len(of_core)):
        of_core[number, 0] = number // ranks[0] * row_bytes + number % ranks[0] * size
        of_core[number, 1] = number * tap_bytes
    of_channels = steps(ranks[1], size, channels.shape[1] * size)
    sum_rows = np.arange(len(by_tap)) * tap_bytes

    first = outputs[0]
    while first < outputs[1]:
        group = first // of_group
        some = min(at_once, outputs[1] - first, (group + 1) * of_group - first)
        by_sample[:] = 0.0
        for position in range(0, some * plane, positions):
            together = min(positions, some * plane - position)
            fill_panel(
                gradients + (first * plane + position) * size, zero, size, out_shape[1] * plane * size, together, panel
            )
            shape = ((together + TILE_ROWS - 1) // TILE_ROWS * TILE_ROWS, samples.shape[1])
            to = by_sample.ctypes.data + position * row_bytes
            add_product(
                panel.ctypes.data, neighbours, samples.ctypes.data, of_samples, to, row_bytes, zero, size, shape
            )
        for output in range(some):
            by_height[:] = 0.0
            begin = by_sample.ctypes.data + output * plane * row_bytes
            shape = (len(heights), width * samples.shape[1])
            add_product(
                heights.ctypes.data, height_rows, begin, of_rows, by_height.ctypes.data, width * row_bytes, zero, size,
                shape,
            )  # fmt: skip
            by_width[output] = 0.0
            for row in range(projected):
                begin, to = by_height[row].ctypes.data, by_width[output, row].ctypes.data
                shape = (across, samples.shape[1])
                add_product(widths.ctypes.data, width_rows, begin, of_columns, to, row_bytes, zero, size, shape)
        rows = some * all_taps
        tiles = (rows + TILE_ROWS - 1) // TILE_ROWS * TILE_ROWS
        by_tap[:] = 0.0
        for rank in range(ranks[2]):
            begin, right = by_width.ctypes.data + rank * across * row_bytes, core[rank].ctypes.data
            shape = (tiles, core.shape[2])
            add_product(begin, tap_rows, right, of_core, by_tap.ctypes.data, tap_bytes, zero, size, shape)
        by_channel[:] = 0.0
        right = channels.ctypes.data + group * result.shape[1] * size
        shape = (tiles, by_channel.shape[1])
        add_product(
            by_tap.ctypes.data, sum_rows, right, of_channels, by_channel.ctypes.data, channel_bytes, zero, size, shape
        )
        for row in range(rows):
            output, tap = first + row // all_taps, row % all_taps
            for channel in range(result.shape[1]):
                result[output, channel, tap] = by_channel[row, channel]
        first += some
