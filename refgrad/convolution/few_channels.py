"""The weight gradient of layers that read few channels and write many, as first layers do, in threads (THEORY D6).

In: checked arrays and a `ConvGeometry`. Out: what `conv2d_weight_gradient` returns. It is `correlation` with its sides
changed: out channels fill the registers. How the work is cut follows from shapes and working memory alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refgrad.aligned import aligned_zeros
from refgrad.arguments import Array
from refgrad.convolution.correlation import LEAST_CHANNELS, LEAST_PRODUCTS, PANEL, POSITIONS, TASKS
from refgrad.geometry import ConvGeometry
from refgrad.ranges import offsets
from refgrad.threads import in_threads

__all__ = ["applies", "weight_gradient"]


def applies(x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> bool:
    """Tell whether the loops are for this gradient, and work in so many bytes."""
    channels, outputs = x.shape[1] // geometry.groups, grad_output.shape[1] // geometry.groups
    if channels >= LEAST_CHANNELS or outputs < LEAST_CHANNELS:
        return False
    products = grad_output.size * channels * math.prod(geometry.kernel_size)
    if products < LEAST_PRODUCTS or not (x.flags.c_contiguous and grad_output.flags.c_contiguous):
        return False
    from refgrad.kernels.jit import compiling

    return compiling() and _Cut.of(x, grad_output, geometry, memory) is not None


def weight_gradient(x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> Array:
    """Return dW (O, C / groups, k_h, k_w)."""
    cut = _Cut.of(x, grad_output, geometry, memory)
    assert cut is not None
    channels, outputs = x.shape[1] // geometry.groups, grad_output.shape[1] // geometry.groups
    grad_weight = np.empty((grad_output.shape[1], channels, *geometry.kernel_size), x.dtype)
    by_group = grad_weight.reshape(geometry.groups, outputs, -1)
    for group in range(geometry.groups):
        by_group[group] = _of_group(x, group * channels, grad_output, group * outputs, geometry, cut)
    return grad_weight


def _of_group(x: Array, channel: int, grad_output: Array, output: int, geometry: ConvGeometry, cut: _Cut) -> Array:
    """Return (O / groups, C / groups x taps) of the group with these first channels."""
    from refgrad.kernels.correlation import correlate_few

    channels, outputs = x.shape[1] // geometry.groups, grad_output.shape[1] // geometry.groups
    positions, width = cut.table.shape[0], cut.width

    def sums_of(task: int) -> Array:
        sums = aligned_zeros(cut.rows.size, width, x.dtype)
        correlate_few(
            x.ctypes.data,
            grad_output.ctypes.data,
            x.dtype.type(0),
            x.itemsize,
            x.shape,
            grad_output.shape,
            (channel, channel + channels),
            (output, output + outputs),
            geometry.padding[0][0],
            geometry.padding[1][0],
            geometry.stride[0],
            cut.unit,
            (cut.units * task // cut.tasks, cut.units * (task + 1) // cut.tasks),
            cut.plane,
            cut.pixels,
            cut.table,
            cut.rows,
            aligned_zeros(channels, cut.unit[0] * math.prod(cut.plane), x.dtype),
            aligned_zeros(positions, width, x.dtype),
            sums,
        )
        return sums

    total, *others = in_threads(sums_of, cut.tasks)
    for other in others:
        total += other
    return total[: channels * math.prod(geometry.kernel_size), :outputs].T


@dataclass(frozen=True, slots=True)
class _Cut:
    """How the images are cut, and where a unit's pixels and outputs stand."""

    tasks: int
    units: int
    unit: tuple[int, int]
    plane: tuple[int, int]
    width: int
    pixels: npt.NDArray[np.int64]
    table: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def of(cls, x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> _Cut | None:
        """Return the cut into as many tasks as have room; None where there is none for one."""
        tasks = TASKS
        while (cut := cls._into(tasks, x, grad_output, geometry, memory)) is None and tasks > 1:
            tasks //= 2
        return cut

    @classmethod
    def _into(cls, tasks: int, x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> _Cut | None:
        from refgrad.kernels.correlation import REGISTER, TILE_ROWS

        channels, outputs = x.shape[1] // geometry.groups, grad_output.shape[1] // geometry.groups
        size, (out_height, out_width) = x.itemsize, grad_output.shape[2:]
        width = -(-outputs * size // REGISTER) * REGISTER // size
        (stride, column_stride), (_, (left, _)) = geometry.stride, geometry.padding
        reach, column_reach = (
            dilation * (taps - 1) for dilation, taps in zip(geometry.dilation, geometry.kernel_size, strict=True)
        )
        length = max((out_width - 1) * column_stride + column_reach + 1, left + x.shape[3])
        # What a row of outputs takes: its own, the image's that it reads, and the tables of both.
        row_bytes = out_width * (width * size + 24) + channels * stride * length * size
        halo = channels * (reach + 1) * length * size
        sums = -(-channels * math.prod(geometry.kernel_size) // TILE_ROWS) * TILE_ROWS * width * size
        room = min(PANEL, memory // tasks - sums) - halo
        rows = min(out_height, max(1, POSITIONS // out_width), room // row_bytes)
        if rows < 1:
            return None
        rows = -(-out_height // -(-out_height // rows))
        images = 1
        if rows == out_height:
            one = rows * row_bytes + halo
            images = max(1, min(len(x) // tasks, POSITIONS // (rows * out_width), (room + halo) // one))
        plane = ((rows - 1) * stride + reach + 1, length)
        in_buffer = offsets(
            (images, rows, out_width), (math.prod(plane) * size, stride * length * size, column_stride * size)
        )
        taps = offsets(
            (channels, *geometry.kernel_size),
            (images * math.prod(plane) * size, geometry.dilation[0] * length * size, geometry.dilation[1] * size),
        )
        return cls(
            tasks,
            -(-len(x) // images) * -(-out_height // rows),
            (images, rows),
            plane,
            width,
            np.arange(rows * out_width) * (width * size),
            np.stack([in_buffer, np.arange(len(in_buffer)) * (width * size)], axis=1),
            # The last tile is filled up with what it has already.
            np.resize(taps, (-(-len(taps) // TILE_ROWS), TILE_ROWS)),
        )
