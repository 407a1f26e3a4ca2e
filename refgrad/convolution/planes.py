"""Convolutions by compiled sums of shifted images, in threads (THEORY D6).

In: checked arrays and a `ConvGeometry`. Out: what `conv2d` returns. Every output is summed up in the same order, over
taps and then channels, whatever stands beside it and however the work is cut.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array
from refgrad.geometry import ConvGeometry
from refgrad.threads import in_threads, thread_count

__all__ = ["applies", "forward", "input_gradient"]

LEAST_PRODUCTS = 2**22
"""With fewer multiply-adds NumPy is done before the compiled loops are loaded."""

LEAST_CHANNELS = 8
"""Of fewer out channels a group, most of a tile would be thrown away."""

BUFFER = 2**19
"""Bytes of planes: what leaves room for the weights of a tile in a core's second cache."""

BLOCK = 64
"""Of so many channels a core's first cache holds what the taps of one row of the kernel read for a tile."""

LINE = 64
"""Bytes of a cache line."""

TILE = 3 * 64
"""The most bytes of neighbouring outputs that are summed up together."""

SCRATCH = 8 * TILE
"""Bytes of a tile."""


def applies(x: Array, output_shape: Sequence[int], geometry: ConvGeometry, memory: int) -> bool:
    """Tell whether the loops are for this layer, and work in so many bytes."""
    group_channels, group_outputs = x.shape[1] // geometry.groups, output_shape[1] // geometry.groups
    taps = math.prod(geometry.kernel_size)
    products = math.prod(output_shape) * group_channels * taps
    if not x.flags.c_contiguous or group_outputs < LEAST_CHANNELS or taps == 1 or products < LEAST_PRODUCTS:
        return False
    from refgrad.kernels.jit import compiling

    return compiling() and _Cut.of(x, output_shape, geometry, memory) is not None


def forward(
    x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Return the output (B, O, H', W'), of the given shape."""
    return _convolution(x, weight.reshape(geometry.groups, -1, *weight.shape[1:]), bias, geometry, shape, memory)


def input_gradient(
    grad_output: Array, weight: Array, turned: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Return dA (B, C, H, W), of the given shape: G convolved, by the `turned` geometry, with the turned weight."""
    grouped = weight.reshape(turned.groups, -1, *weight.shape[1:])
    return _convolution(grad_output, grouped.swapaxes(1, 2)[..., ::-1, ::-1], None, turned, shape, memory)


def _convolution(
    x: Array, grouped: Array, bias: Array | None, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Convolve with a weight (groups, O / groups, C / groups, k_h, k_w)."""
    from refgrad.kernels.planes import convolve

    cut = _Cut.of(x, shape, geometry, memory)
    assert cut is not None
    output = np.empty(shape, x.dtype)
    weights = _packed(grouped, cut.block)
    biases = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    units = -(-len(x) // cut.unit[0]) * -(-shape[2] // cut.unit[1])
    tasks = min(units, 2 * thread_count())

    def task(number: int) -> None:
        buffer = cut.buffer(x.dtype)
        scratch = np.empty(SCRATCH // x.itemsize, x.dtype)
        convolve(
            x.ctypes.data,
            x.dtype.type(0),
            x.itemsize,
            x.shape,
            shape,
            weights.ctypes.data,
            cut.shifts,
            cut.block,
            biases,
            geometry.groups,
            cut.planes,
            (-geometry.padding[0][0], -geometry.padding[1][0]),
            geometry.stride,
            cut.unit,
            (units * number // tasks, units * (number + 1) // tasks),
            buffer,
            scratch,
            output.ctypes.data,
        )

    in_threads(task, tasks)
    return output


@dataclass(frozen=True, slots=True)
class _Cut:
    """How many images, and output rows, are worked on together, and where in a buffer they stand.

    A channel takes an odd number of cache lines, `step` numbers: with a power of two, the same few places of a cache
    would have to hold all channels.
    """

    unit: tuple[int, int]
    planes: tuple[int, int, int, int]
    shifts: npt.NDArray[np.int64]
    channels: int
    block: int
    step: int

    @classmethod
    def of(cls, x: Array, shape: Sequence[int], geometry: ConvGeometry, memory: int) -> _Cut | None:
        """Return the cut, or None where not even one row of outputs fits."""
        threads = thread_count()
        channels = x.shape[1] // geometry.groups
        blocks = -(-channels // BLOCK)
        block = -(-channels // blocks)
        channels = blocks * block
        room = min(BUFFER, memory // threads) // (channels * x.itemsize)
        reached = [
            [divmod(tap * dilation, stride) for tap in range(taps)]
            for taps, dilation, stride in zip(geometry.kernel_size, geometry.dilation, geometry.stride, strict=True)
        ]
        beyond = [max(place for place, _ in axis) for axis in reached]
        row_planes, column_planes = (1 + max(plane for _, plane in axis) for axis in reached)
        if geometry.stride[1] == 1:
            # What is to the right of an image is to the left of its next row.
            length = max(x.shape[3] + max(geometry.padding[1]), shape[3])
        else:
            length = shape[3] + beyond[1]
        behind = length + TILE // x.itemsize
        row = row_planes * column_planes * length
        rows = min(shape[2], (room - behind) // row - beyond[0])
        if rows < 1:
            return None
        rows = -(-shape[2] // -(-shape[2] // rows))
        images = 1
        if rows == shape[2]:
            # Enough units for all threads.
            images = max(1, min((room - behind) // (row * (rows + beyond[0])), len(x) // (2 * threads)))
        plane = (rows + beyond[0]) * length
        numbers = LINE // x.itemsize
        step = (-(-(images * row_planes * column_planes * plane + behind) // numbers) | 1) * numbers
        shifts = [
            (plane_row * column_planes + plane_column) * plane + down * length + right
            for (down, plane_row), (right, plane_column) in itertools.product(*reached)
        ]
        return cls(
            (images, rows),
            (row_planes, column_planes, rows + beyond[0], length),
            (np.arange(blocks)[:, np.newaxis] * (block * step) + np.array(shifts)).reshape(-1) * x.itemsize,
            channels,
            block,
            step,
        )

    def buffer(self, dtype: np.dtype[Any]) -> Array:
        """Return zeros (channels, step) that begin where a cache line does."""
        memory = np.zeros(self.channels * self.step + LINE // dtype.itemsize, dtype)
        start = -memory.ctypes.data % LINE // dtype.itemsize
        return memory[start : start + self.channels * self.step].reshape(self.channels, self.step)


def _packed(grouped: Array, block: int) -> Array:
    """Return (groups, tiles, blocks of channels, taps, channels of a block, TILE_ROWS), filled up with zeros."""
    from refgrad.kernels.planes import TILE_ROWS

    groups, outputs, channels, *kernel = grouped.shape
    taps, blocks = math.prod(kernel), -(-channels // block)
    result = np.zeros((groups, -(-outputs // TILE_ROWS), blocks, taps, block, TILE_ROWS), grouped.dtype)

    def task(row: int) -> None:
        for number in range(blocks):
            part = grouped[:, row::TILE_ROWS, number * block : (number + 1) * block]
            target = result[:, : part.shape[1], number, :, : part.shape[2], row]
            target[...] = part.reshape(*part.shape[:3], taps).swapaxes(2, 3)

    in_threads(task, min(outputs, TILE_ROWS))
    return result
