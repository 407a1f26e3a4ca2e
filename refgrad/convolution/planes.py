"""Convolutions by compiled sums of shifted images, in threads (THEORY D6).

In: checked arrays and a `ConvGeometry`. Out: what `conv2d` returns. Every output is summed up in the same order, over
taps and then channels, whatever stands beside it and however the work is cut.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refgrad.aligned import LINE, aligned_zeros
from refgrad.arguments import Array
from refgrad.convolution.blocks import fitting_cut
from refgrad.geometry import ConvGeometry
from refgrad.ranges import ranges
from refgrad.threads import in_threads, thread_count

__all__ = [
    "LEAST_CHANNELS",
    "Packed",
    "Sweep",
    "applies",
    "fill_output",
    "forward",
    "gives_back",
    "input_gradient",
    "load",
    "worthwhile",
]

LEAST_PRODUCTS = 2**22
"""With fewer multiply-adds NumPy is done before the compiled loops are loaded."""

LEAST_CHANNELS = 8
"""Of fewer out channels a group, most of a tile would be thrown away."""

PARTS = 2
"""Into so many parts a batch is cut where its gradient is put together: each waits beside its place."""

PARTS_OF_A_THREAD = 4
"""Into so many parts the work of a thread is cut: one that begins late leaves some to the others."""

LEAST_SHARED = 2**22
"""Multiply-adds of such a part: fewer are done before another thread has begun."""

BUFFER = 2**19
"""Bytes of planes: what leaves room for the weights of a tile in a core's second cache."""

BLOCK = 64
"""Of so many channels a core's first cache holds what the taps of one row of the kernel read for a tile."""

TILE = 3 * 64
"""The most bytes of neighbouring outputs that are summed up together."""

SCRATCH = 8 * TILE
"""Bytes of a tile."""


def applies(x: Array, shape: Sequence[int], geometry: ConvGeometry, memory: int) -> bool:
    """Tell whether the loops are for an output (B, O, H', W') of these images, and work in so many bytes."""
    if not worthwhile(x, shape[1], math.prod(shape), geometry):
        return False
    return Packed.fits(x, _sweep(geometry, shape), memory)


def load(dtype: npt.DTypeLike) -> None:
    """Load the loops for float32 or float64, or compile them, so that what is measured next does not pay for it."""
    from refgrad.kernels.jit import compiling

    if compiling():
        x, weight = np.ones((8, 8, 8, 8), dtype), np.ones((8, 8, 3, 3), dtype)
        forward(x, weight, None, ConvGeometry.of(3, padding=1), (8, 8, 8, 8), BUFFER)


def forward(
    x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Return the output (B, O, H', W'), of the given shape."""
    output = np.empty(shape, x.dtype)
    grouped = weight.reshape(geometry.groups, -1, *weight.shape[1:])
    fill_output(x, Packed.of(x, grouped, _sweep(geometry, shape), memory), bias, output)
    return output


def gives_back(grad_output: Array, shape: Sequence[int], geometry: ConvGeometry, memory: int) -> bool:
    """Tell whether the loops are for an input gradient (B, C, H, W), and work in so many bytes."""
    windows = grad_output.size // grad_output.shape[1] * shape[1]
    if not worthwhile(grad_output, shape[1], windows, geometry):
        return False
    return all(Packed.fits(grad_output, phase.sweep, memory) for phase in _phases(geometry, shape))


def input_gradient(
    grad_output: Array, weight: Array, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Return dA (B, C, H, W), of the given shape.

    Pixels whose rows and columns leave the same remainders by the stride are given back through the same taps: together
    they are a convolution of G of stride 1, with these taps in reverse order. The zeros around G are multiplied too, so
    that the weight must be finite.
    """
    grouped = weight.reshape(geometry.groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    whole = geometry.stride == (1, 1)
    grad_input = (np.empty if whole else np.zeros)(shape, grad_output.dtype)
    for phase in _phases(geometry, shape):
        packed = Packed.of(grad_output, grouped[..., *phase.taps], phase.sweep, memory)
        if whole:
            fill_output(grad_output, packed, None, grad_input)
            continue
        for images in ranges(len(grad_output), -(-len(grad_output) // PARTS)):
            part = np.empty((images.stop - images.start, shape[1], *phase.sweep.size), grad_output.dtype)
            fill_output(grad_output[images], packed, None, part)
            grad_input[images, :, *phase.pixels] = part
    return grad_input


@dataclass(frozen=True, slots=True)
class Sweep:
    """Which places of an image every output reads: corner + output stride + tap dilation, by rows and by columns.

    Places outside of the image are zeros.
    """

    corner: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    kernel_size: tuple[int, int]
    groups: int
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Phase:
    """Pixels that are given back through the same taps, those taps, backwards, and how they read G."""

    pixels: tuple[slice, slice]
    taps: tuple[slice, slice]
    sweep: Sweep


def worthwhile(x: Array, outputs: int, windows: int, geometry: ConvGeometry) -> bool:
    """Tell whether the loops are better than BLAS: it needs no sums of shifted images for a single tap."""
    taps, groups = math.prod(geometry.kernel_size), geometry.groups
    products = windows * taps * (x.shape[1] // groups)
    if not x.flags.c_contiguous or taps == 1 or outputs // groups < LEAST_CHANNELS or products < LEAST_PRODUCTS:
        return False
    from refgrad.kernels.jit import compiling

    return compiling()


def _sweep(geometry: ConvGeometry, shape: Sequence[int]) -> Sweep:
    """Return what the outputs (B, O, H', W') of a convolution read."""
    corner = (-geometry.padding[0][0], -geometry.padding[1][0])
    size = (shape[2], shape[3])
    return Sweep(corner, geometry.stride, geometry.dilation, geometry.kernel_size, geometry.groups, size)


def _phases(geometry: ConvGeometry, shape: Sequence[int]) -> list[_Phase]:
    """Return how dA (B, C, H, W) is put together."""
    axes = [
        [found for remainder in range(stride) if (found := _Axis.of(remainder, stride, dilation, taps, before, length))]
        for stride, dilation, taps, (before, _), length in zip(
            geometry.stride, geometry.dilation, geometry.kernel_size, geometry.padding, shape[2:], strict=True
        )
    ]
    return [
        _Phase(
            (rows.pixels, columns.pixels),
            (rows.taps, columns.taps),
            Sweep(
                (rows.corner, columns.corner),
                (1, 1),
                (rows.dilation, columns.dilation),
                (rows.kernel_size, columns.kernel_size),
                geometry.groups,
                (rows.size, columns.size),
            ),
        )
        for rows, columns in itertools.product(*axes)
    ]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a phase."""

    pixels: slice
    taps: slice
    corner: int
    dilation: int
    kernel_size: int
    size: int

    @classmethod
    def of(cls, remainder: int, stride: int, dilation: int, taps: int, before: int, length: int) -> _Axis | None:
        """Return what gives back to the pixels of one remainder; None where no tap does, or there are none.

        Pixel s m + r - before gets from output m - a what tap u = (s a + r) / d read there.
        """
        with_taps = [tap for tap in range(taps) if tap * dilation % stride == remainder]
        first = -((remainder - before) // stride)
        size = (length - 1 + before - remainder) // stride - first + 1
        if not with_taps or size < 1:
            return None
        back = [(tap * dilation - remainder) // stride for tap in with_taps]
        between = with_taps[1] - with_taps[0] if len(with_taps) > 1 else 1
        return cls(
            pixels=slice(stride * first + remainder - before, None, stride),
            taps=slice(with_taps[-1], with_taps[0] - 1 if with_taps[0] > 0 else None, -between),
            corner=first - back[-1],
            dilation=back[1] - back[0] if len(back) > 1 else 1,
            kernel_size=len(with_taps),
            size=size,
        )


def fill_output(x: Array, packed: Packed, bias: Array | None, output: Array) -> None:
    """Fill the output (B, O, H', W') of images (B, C, H, W)."""
    from refgrad.kernels.planes import convolve

    cut, sweep = packed.cut, packed.sweep
    biases = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    units = -(-len(x) // cut.unit[0]) * -(-sweep.size[0] // cut.unit[1])
    products = output.size * math.prod(sweep.kernel_size) * (x.shape[1] // sweep.groups)
    tasks = max(1, min(units, PARTS_OF_A_THREAD * cut.workers, products // LEAST_SHARED))

    def task(number: int) -> None:
        images, numbers = cut.unit[0], cut.unit[0] * cut.channels * cut.step
        buffer = aligned_zeros(1, numbers + cut.behind, x.dtype)[0, :numbers].reshape(images, -1, cut.step)
        scratch = np.empty(SCRATCH // x.itemsize, x.dtype)
        convolve(
            x.ctypes.data,
            x.dtype.type(0),
            x.itemsize,
            x.shape,
            output.shape,
            packed.weights.ctypes.data,
            cut.shifts,
            cut.block,
            biases,
            sweep.groups,
            cut.planes,
            sweep.corner,
            sweep.stride,
            cut.unit,
            (units * number // tasks, units * (number + 1) // tasks),
            buffer,
            scratch,
            output.ctypes.data,
        )

    in_threads(task, tasks)


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
    behind: int
    workers: int

    @classmethod
    def of(cls, x: Array, sweep: Sweep, memory: int) -> _Cut | None:
        """Return the cut, for as many threads as have room; None where not even one row of outputs fits for one.

        So whether there is one does not depend on the number of threads, and results on neither.
        """
        return fitting_cut(lambda workers: cls._for_workers(x, sweep, memory, workers), thread_count())

    @classmethod
    def _for_workers(cls, x: Array, sweep: Sweep, memory: int, workers: int) -> _Cut | None:
        channels = x.shape[1] // sweep.groups
        blocks = -(-channels // BLOCK)
        block = -(-channels // blocks)
        channels = blocks * block
        reached = [
            [divmod(tap * dilation, stride) for tap in range(taps)]
            for taps, dilation, stride in zip(sweep.kernel_size, sweep.dilation, sweep.stride, strict=True)
        ]
        beyond = [max(place for place, _ in axis) for axis in reached]
        row_planes, column_planes = (1 + max(plane for _, plane in axis) for axis in reached)
        length = sweep.size[1] + beyond[1]
        if sweep.stride[1] == 1 and sweep.corner[1] <= 0:
            # What is to the right of an image is to the left of its next row.
            left = -sweep.corner[1]
            length = max(x.shape[3] + max(left, length - left - x.shape[3]), sweep.size[1])
        row, behind, numbers = row_planes * column_planes * length, length + TILE // x.itemsize, LINE // x.itemsize
        room = min(BUFFER, memory // workers) // x.itemsize - behind
        rows = min(sweep.size[0], (room // channels - 2 * numbers) // row - beyond[0])
        if rows < 1:
            return None
        rows = -(-sweep.size[0] // -(-sweep.size[0] // rows))
        plane = (rows + beyond[0]) * length
        step = (-(-row_planes * column_planes * plane // numbers) | 1) * numbers
        images = 1
        if rows == sweep.size[0]:
            # Enough units for all parts of the work.
            images = max(1, min(room // (channels * step), len(x) // (PARTS_OF_A_THREAD * workers)))
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
            behind,
            workers,
        )


@dataclass(frozen=True, slots=True)
class Packed:
    """A weight as the loops read it: (groups, tiles, blocks of channels, taps, channels of a block, TILE_ROWS)."""

    weights: Array
    cut: _Cut
    sweep: Sweep

    @classmethod
    def fits(cls, x: Array, sweep: Sweep, memory: int) -> bool:
        """Tell whether there is room for images in so many bytes."""
        return _Cut.of(x, sweep, memory) is not None

    @classmethod
    def of(cls, x: Array, grouped: Array, sweep: Sweep, memory: int) -> Packed:
        """Pack a weight (groups, O / groups, C / groups, k_h, k_w) for images, filled up with zeros."""
        from refgrad.kernels.planes import TILE_ROWS

        cut = _Cut.of(x, sweep, memory)
        assert cut is not None
        groups, outputs = grouped.shape[:2]
        taps, blocks = math.prod(grouped.shape[3:]), cut.channels // cut.block
        result = np.zeros((groups, -(-outputs // TILE_ROWS), blocks, taps, cut.block, TILE_ROWS), grouped.dtype)

        def task(row: int) -> None:
            for number in range(blocks):
                part = grouped[:, row::TILE_ROWS, number * cut.block : (number + 1) * cut.block]
                target = result[:, : part.shape[1], number, :, : part.shape[2], row]
                target[...] = part.reshape(*part.shape[:3], taps).swapaxes(2, 3)

        in_threads(task, min(outputs, TILE_ROWS))
        return cls(result, cut, sweep)
