"""The weight gradient of convolutions by compiled outer products, in threads (THEORY D6).

In: checked arrays and a `ConvGeometry`. Out: what `conv2d_weight_gradient` returns. How the work is cut follows from
shapes and working memory alone, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refgrad.aligned import aligned_zeros
from refgrad.arguments import Array
from refgrad.convolution.blocks import fitting_cut
from refgrad.geometry import ConvGeometry
from refgrad.ranges import offsets, ranges
from refgrad.threads import in_threads

__all__ = ["LEAST_CHANNELS", "PANEL", "POSITIONS", "TASKS", "applies", "load", "weight_gradient", "worthwhile"]

LEAST_PRODUCTS = 2**22
"""With fewer multiply-adds NumPy is done before the compiled loops are loaded."""

LEAST_CHANNELS = 16
"""Of fewer channels a group, most of a register would be thrown away."""

LEAST_OUTPUTS = 8
"""Of fewer out channels a group, there is no whole tile."""

TASKS = 4
"""Into so many parts the work is cut: of the channels, or of the images."""

MANY_CHANNELS = 48
"""With so many in each part it is the channels that are cut: parts of the images have to be added up."""

PANEL = 2**18
"""Bytes of pixels: half of what a core's second cache holds."""

SUMS = 2**19
"""Bytes of sums that are added to."""

POSITIONS = 512
"""Of more output positions at once a tile's part of the panel would not stay in a core's first cache."""


def applies(x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> bool:
    """Tell whether the loops are for this gradient, and work in so many bytes."""
    channels, outputs = x.shape[1] // geometry.groups, grad_output.shape[1] // geometry.groups
    if channels < LEAST_CHANNELS or outputs < LEAST_OUTPUTS or not worthwhile(x, grad_output, geometry):
        return False
    return _Cut.of(x, grad_output, geometry, memory) is not None


def worthwhile(x: Array, grad_output: Array, geometry: ConvGeometry) -> bool:
    """Tell whether there is enough to do, in arrays that lie as the loops read them, and a JIT that may be used."""
    products = grad_output.size * (x.shape[1] // geometry.groups) * math.prod(geometry.kernel_size)
    if products < LEAST_PRODUCTS or not (x.flags.c_contiguous and grad_output.flags.c_contiguous):
        return False
    from refgrad.kernels.jit import compiling

    return compiling()


def load(dtype: npt.DTypeLike) -> None:
    """Load the loops for float32 or float64, or compile them, so that what is measured next does not pay for it."""
    from refgrad.kernels.jit import compiling

    if compiling():
        x = np.ones((1, LEAST_CHANNELS, 8, 8), dtype)
        weight_gradient(x, x, ConvGeometry.of(3, padding=1), 2**22)


def weight_gradient(x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> Array:
    """Return dW (O, C / groups, k_h, k_w)."""
    cut = _Cut.of(x, grad_output, geometry, memory)
    assert cut is not None
    channels, outputs = x.shape[1] // geometry.groups, grad_output.shape[1] // geometry.groups
    grad_weight = np.empty((grad_output.shape[1], channels, *geometry.kernel_size), x.dtype)
    by_tap = grad_weight.reshape(*grad_weight.shape[:2], -1)
    for group, chunk in itertools.product(range(geometry.groups), ranges(len(cut.tiles), cut.tiles_at_once)):
        _fill(by_tap, cut.tiles[chunk] + group * outputs, x, group * channels, grad_output, geometry, cut)
    return grad_weight


def _fill(
    by_tap: Array, tiles: npt.NDArray[np.int64], x: Array, group: int, grad_output: Array, geometry: ConvGeometry,
    cut: _Cut,
) -> None:  # fmt: skip
    """Fill some tiles of dW (O, C / groups, taps), given by their first out channels, from a group's first channel."""
    from refgrad.kernels.correlation import TILE_ROWS, correlate

    def sums_of(part: _Part) -> Array:
        """Return what the part gives to the tiles, (tiles, TILE_ROWS, channels, taps)."""
        panel = aligned_zeros(cut.unit[0] * math.prod(cut.plane), cut.width, x.dtype)
        sums = aligned_zeros(len(tiles) * TILE_ROWS, len(cut.shifts) * cut.width, x.dtype)
        correlate(
            x.ctypes.data,
            grad_output.ctypes.data,
            x.dtype.type(0),
            x.itemsize,
            x.shape,
            grad_output.shape,
            (group + part.channels.start, group + part.channels.stop),
            tiles,
            geometry.padding[0][0],
            geometry.stride[0],
            cut.unit,
            (part.units.start, part.units.stop),
            cut.plane,
            cut.pixels,
            cut.rows,
            cut.table,
            cut.shifts,
            panel,
            sums.reshape(len(sums), len(cut.shifts), cut.width),
        )
        count = part.channels.stop - part.channels.start
        return sums.reshape(len(tiles), TILE_ROWS, len(cut.shifts), cut.width)[..., :count].swapaxes(2, 3)

    def put(sums: Array, part: _Part) -> None:
        for tile, first in zip(sums, tiles, strict=True):
            by_tap[first : first + TILE_ROWS, part.channels] = tile

    if cut.adding:
        total, *others = in_threads(lambda number: sums_of(cut.parts[number]), len(cut.parts))
        for other in others:
            total += other
        put(total, cut.parts[0])
    else:
        in_threads(lambda number: put(sums_of(cut.parts[number]), cut.parts[number]), len(cut.parts))


@dataclass(frozen=True, slots=True)
class _Part:
    """What one task does: for some channels of a group, some units of images and rows."""

    channels: slice
    units: slice


@dataclass(frozen=True, slots=True)
class _Cut:
    """How the work is cut, and where a unit's pixels and outputs stand."""

    parts: tuple[_Part, ...]
    adding: bool
    unit: tuple[int, int]
    plane: tuple[int, int]
    width: int
    tiles: npt.NDArray[np.int64]
    tiles_at_once: int
    pixels: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    table: npt.NDArray[np.int64]
    shifts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> _Cut | None:
        """Return the cut into as many tasks as have room; None where there is none for one."""
        return fitting_cut(lambda tasks: cls._into(tasks, x, grad_output, geometry, memory), TASKS)

    @classmethod
    def _into(cls, tasks: int, x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> _Cut | None:
        from refgrad.kernels.correlation import REGISTER, TILE_ROWS

        channels, outputs = x.shape[1] // geometry.groups, grad_output.shape[1] // geometry.groups
        lanes, taps = REGISTER // x.itemsize, math.prod(geometry.kernel_size)
        by_channels = channels >= tasks * MANY_CHANNELS
        some = -(-channels // (tasks * lanes)) * lanes if by_channels else channels
        width = -(-some // lanes) * lanes
        pixel_bytes = width * x.itemsize
        (out_height, out_width), (left, _) = grad_output.shape[2:], geometry.padding[1]
        reach = [dilation * (size - 1) for dilation, size in zip(geometry.dilation, geometry.kernel_size, strict=True)]
        length = max((out_width - 1) * geometry.stride[1] + reach[1] + 1, left + x.shape[3])

        def rows_read(rows: int) -> int:
            return (rows - 1) * geometry.stride[0] + reach[0] + 1

        room = min(PANEL, memory // (2 * tasks)) // (pixel_bytes * length)
        rows = min(out_height, max(1, POSITIONS // out_width), (room - reach[0] - 1) // geometry.stride[0] + 1)
        tiles_at_once = min(SUMS, memory // (2 * tasks)) // (TILE_ROWS * taps * pixel_bytes)
        if room < rows_read(1) or tiles_at_once < 1:
            return None
        rows = -(-out_height // -(-out_height // rows))
        tiles = np.minimum(np.arange(0, outputs, TILE_ROWS), outputs - TILE_ROWS)  # the last one overlaps
        chunks = -(-len(tiles) // tiles_at_once)
        images = 1
        if rows == out_height:
            images = max(1, min(len(x) // tasks, POSITIONS // (rows * out_width), room // rows_read(rows)))
        plane = (rows_read(rows), length)
        units = -(-len(x) // images) * -(-out_height // rows)
        if by_channels:
            parts = [_Part(part, slice(0, units)) for part in ranges(channels, some)]
        else:
            cuts = [units * task // tasks for task in range(tasks + 1)]
            parts = [_Part(slice(0, channels), slice(*pair)) for pair in itertools.pairwise(cuts)]
        return cls(
            tuple(parts),
            not by_channels,
            (images, rows),
            plane,
            width,
            tiles,
            -(-len(tiles) // chunks),
            (offsets((plane[0], x.shape[3]), (length, 1)) + left) * pixel_bytes,
            np.arange(TILE_ROWS) * (out_height * out_width * x.itemsize),
            np.stack(
                [
                    offsets((images, rows, out_width), (grad_output[0].size, out_width, 1)) * x.itemsize,
                    offsets(
                        (images, rows, out_width), (plane[0] * length, geometry.stride[0] * length, geometry.stride[1])
                    )
                    * pixel_bytes,
                ],
                axis=1,
            ),
            offsets(geometry.kernel_size, (geometry.dilation[0] * length, geometry.dilation[1])) * pixel_bytes,
        )
