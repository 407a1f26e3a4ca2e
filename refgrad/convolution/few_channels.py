"""The gradients of layers that read few channels and write many, as first layers do, in threads (THEORY D6).

In: checked arrays and a `ConvGeometry`. Out: what `conv2d_weight_gradient` and `conv2d_input_gradient` return. The
weight gradient is `correlation` with its sides changed: out channels fill the registers. The input gradient is, where
the stride leaves several remainders, one convolution for all of them. How the work is cut follows from shapes and
working memory alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refgrad.aligned import aligned_zeros
from refgrad.arguments import Array
from refgrad.convolution import planes
from refgrad.convolution.blocks import fitting_cut
from refgrad.convolution.correlation import LEAST_CHANNELS, PANEL, POSITIONS, TASKS, worthwhile
from refgrad.geometry import ConvGeometry
from refgrad.ranges import offsets, ranges
from refgrad.threads import in_threads

__all__ = ["applies", "gives_back", "input_gradient", "load", "weight_gradient"]


def applies(x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> bool:
    """Tell whether the loops are for this gradient, and work in so many bytes."""
    channels, outputs = x.shape[1] // geometry.groups, grad_output.shape[1] // geometry.groups
    if channels >= LEAST_CHANNELS or outputs < LEAST_CHANNELS or not worthwhile(x, grad_output, geometry):
        return False
    return _Cut.of(x, grad_output, geometry, memory) is not None


def load(dtype: npt.DTypeLike) -> None:
    """Load the loops for float32 or float64, or compile them, so that what is measured next does not pay for it."""
    from refgrad.kernels.jit import compiling

    if compiling():
        outputs = np.ones((1, LEAST_CHANNELS, 8, 8), dtype)
        weight_gradient(outputs[:, :1].copy(), outputs, ConvGeometry.of(3, padding=1), 2**22)


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


def gives_back(grad_output: Array, shape: tuple[int, int, int, int], geometry: ConvGeometry, memory: int) -> bool:
    """Tell whether this is how an input gradient (B, C, H, W) is computed, in so many bytes."""
    remainders, group_channels = math.prod(geometry.stride), shape[1] // geometry.groups
    if remainders == 1 or group_channels >= planes.LEAST_CHANNELS:
        return False
    windows = grad_output.size // grad_output.shape[1] * shape[1]
    if not planes.worthwhile(grad_output, shape[1] * remainders, windows, geometry):
        return False
    return _Plan.of(grad_output, geometry, shape, memory) is not None


def input_gradient(
    grad_output: Array, weight: Array, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Return dA (B, C, H, W), of the given shape, which is finite only if it is right.

    Of a channel the pixels that leave the same remainders by the stride are an image of their own, and together they
    are the outputs of one convolution of G, of stride 1, whose weight is zero where a tap gives nothing back to a
    remainder. Infinities of G meet those zeros.
    """
    plan = _Plan.of(grad_output, geometry, shape, memory)
    assert plan is not None
    axes, sweep, strides = plan.axes, plan.sweep, geometry.stride
    grouped = weight.reshape(geometry.groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    joint = np.zeros((*grouped.shape[:2], *strides, grouped.shape[2], *sweep.kernel_size), weight.dtype)
    for tap in np.ndindex(*geometry.kernel_size):
        (row, down), (column, across) = (axis.place(number) for axis, number in zip(axes, tap, strict=True))
        joint[:, :, row, column, :, down, across] = grouped[..., *tap]
    joint = joint.reshape(geometry.groups, -1, *joint.shape[4:])
    packed = planes.Packed.of(grad_output, joint, sweep, plan.memory)
    grad_input = np.empty(shape, grad_output.dtype)
    for images in ranges(len(grad_output), plan.images):
        gradients = grad_output[images]
        sums = np.empty((len(gradients), shape[1] * math.prod(strides), *sweep.size), grad_output.dtype)
        planes.fill_output(gradients, packed, None, sums)
        by_remainder = sums.reshape(len(sums), shape[1], *strides, *sweep.size)
        for row_remainder, column_remainder in np.ndindex(*strides):
            (of_rows, rows), (of_columns, columns) = axes[0].pixels(row_remainder), axes[1].pixels(column_remainder)
            pixels = by_remainder[:, :, row_remainder, column_remainder, of_rows, of_columns]
            grad_input[images, :, rows, columns] = pixels
        del sums, by_remainder, pixels  # before the next part makes its own
    return grad_input


@dataclass(frozen=True, slots=True)
class _Plan:
    """How an input gradient is put together: of so many images at once, whose sums wait beside their place.

    `memory` is what they and the joint weight leave for the sweep.
    """

    axes: tuple[_Axis, _Axis]
    sweep: planes.Sweep
    images: int
    memory: int

    @classmethod
    def of(
        cls, grad_output: Array, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
    ) -> _Plan | None:
        """Return the plan; None where there is no room for the sums of one image, or for what they are summed from."""
        axes = _axes(geometry, shape)
        sweep = _sweep(axes, geometry, shape[1])
        image_bytes = sweep.out_channels * math.prod(sweep.size) * grad_output.itemsize
        group_outputs = grad_output.shape[1] // geometry.groups
        joint_bytes = sweep.out_channels * group_outputs * math.prod(sweep.kernel_size) * grad_output.itemsize
        images = max(1, min(len(grad_output), memory // (2 * image_bytes)))
        images = -(-len(grad_output) // -(-len(grad_output) // images))
        left_over = memory - images * image_bytes - joint_bytes
        if not planes.Packed.fits(grad_output, sweep, left_over):
            return None
        return cls(axes, sweep, images, left_over)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of an image whose pixels are taken apart by the remainders of the stride.

    Pixel s m + r - before gets from output m - a what tap u = (s a + r) / d read there.
    """

    stride: int
    dilation: int
    before: int
    length: int
    farthest: int
    """The largest a."""

    @property
    def first(self) -> int:
        """The smallest m of any pixel."""
        return self.before // self.stride

    @property
    def size(self) -> int:
        """How many m there are."""
        return (self.length - 1 + self.before) // self.stride - self.first + 1

    def place(self, tap: int) -> tuple[int, int]:
        """Return r, and which of the outputs m - farthest, ..., m a tap gives back from."""
        back, remainder = divmod(tap * self.dilation, self.stride)
        return remainder, self.farthest - back

    def pixels(self, remainder: int) -> tuple[slice, slice]:
        """Return which of all m belong to pixels with this remainder, and which pixels those are."""
        first = -((remainder - self.before) // self.stride)
        last = (self.length - 1 + self.before - remainder) // self.stride
        pixels = slice(self.stride * first + remainder - self.before, None, self.stride)
        return slice(first - self.first, last - self.first + 1), pixels


def _axes(geometry: ConvGeometry, shape: tuple[int, int, int, int]) -> tuple[_Axis, _Axis]:
    rows, columns = (
        _Axis(stride, dilation, before, length, dilation * (taps - 1) // stride)
        for stride, dilation, taps, (before, _), length in zip(
            geometry.stride, geometry.dilation, geometry.kernel_size, geometry.padding, shape[2:], strict=True
        )
    )
    return rows, columns


def _sweep(axes: tuple[_Axis, _Axis], geometry: ConvGeometry, channels: int) -> planes.Sweep:
    rows, columns = axes
    return planes.Sweep(
        corner=(rows.first - rows.farthest, columns.first - columns.farthest),
        stride=(1, 1),
        dilation=(1, 1),
        kernel_size=(rows.farthest + 1, columns.farthest + 1),
        groups=geometry.groups,
        out_channels=channels * math.prod(geometry.stride),
        size=(rows.size, columns.size),
    )


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
        return fitting_cut(lambda tasks: cls._into(tasks, x, grad_output, geometry, memory), TASKS)

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
