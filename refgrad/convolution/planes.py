"""Convolutions by compiled sums of shifted images, in threads (THEORY D6).

In: checked arrays and a `ConvGeometry`. Out: what `conv2d` returns. Every output is summed up in the same order, over
taps and then channels, whatever stands beside it and however the work is cut. Where the weight is large, the loops get
it in parts, some out channels after the others: all that is allocated but the result fits into the memory given.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from refgrad.aligned import LINE, aligned_zeros
from refgrad.arguments import Array
from refgrad.convolution.blocks import fitting_cut
from refgrad.geometry import ConvGeometry
from refgrad.ranges import ranges
from refgrad.threads import in_threads, task_count, thread_count

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

PARTS_OF_A_THREAD = 4
"""Into so many parts the work of a thread is cut: one that begins late leaves some to the others."""

LEAST_SHARED = 2**22
"""Multiply-adds of such a part: fewer are done before another thread has begun."""

LEAST_PACKED = 2**14
"""Numbers of packed weight that are worth a task: fewer are packed before another thread has begun."""

BUFFER = 2**19
"""Bytes of a thread's planes: what leaves room for the weights of a tile in a core's second cache."""

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
        fill_output(grad_output, packed, None, grad_input[:, :, *phase.pixels])
        del packed  # before the next phase packs its own
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
    out_channels: int
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
    return Sweep(corner, geometry.stride, geometry.dilation, geometry.kernel_size, geometry.groups, shape[1], size)


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
                shape[1],
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
    """Fill the output (B, O, H', W') of images (B, C, H, W), a view if there is no bias."""
    from refgrad.kernels.planes import convolve

    cut, sweep = packed.cut, packed.sweep
    biases = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    units = -(-len(x) // cut.unit[0]) * -(-sweep.size[0] // cut.unit[1])
    products = output.size * math.prod(sweep.kernel_size) * (x.shape[1] // sweep.groups) // len(cut.parts)
    tasks = max(1, min(units, task_count(cut.workers, PARTS_OF_A_THREAD), products // LEAST_SHARED))

    def task(number: int, part: _Part, weights: Array) -> None:
        images, numbers = cut.unit[0], cut.unit[0] * cut.channels * cut.step
        buffer = aligned_zeros(1, numbers + cut.behind, x.dtype)[0, :numbers].reshape(images, -1, cut.step)
        scratch = np.empty(SCRATCH // x.itemsize, x.dtype)
        convolve(
            x.ctypes.data,
            x.dtype.type(0),
            x.itemsize,
            x.shape,
            output.shape,
            output.strides,
            weights.ctypes.data,
            cut.shifts,
            cut.block,
            biases,
            sweep.groups,
            part.span,
            cut.planes,
            sweep.corner,
            sweep.stride,
            cut.unit,
            (units * number // tasks, units * (number + 1) // tasks),
            buffer,
            scratch,
            output.ctypes.data,
        )

    for part, weights in packed.parts():
        in_threads(partial(task, part=part, weights=weights), tasks)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some groups whole, or some tiles of one."""

    groups: slice
    tiles: slice

    @property
    def span(self) -> tuple[int, int, int, int]:
        """The first group and the one behind the last, and the first tile of each and the one behind the last."""
        return self.groups.start, self.groups.stop, self.tiles.start, self.tiles.stop

    @property
    def size(self) -> int:
        """How many tiles there are."""
        first_group, stop_group, first_tile, stop_tile = self.span
        return (stop_group - first_group) * (stop_tile - first_tile)

    @classmethod
    def of_all(cls, groups: int, tiles: int, at_once: int) -> tuple[_Part, ...]:
        """Cut the tiles of all groups into as few parts of at most so many as there can be, about as large."""
        some_groups, some_tiles = max(1, min(groups, at_once // tiles)), min(tiles, at_once)
        return tuple(
            cls(*part)
            for part in itertools.product(
                ranges(groups, -(-groups // -(-groups // some_groups))),
                ranges(tiles, -(-tiles // -(-tiles // some_tiles))),
            )
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the pixels that a row of outputs reads stand in a buffer, in numbers.

    `channels` are those of all blocks, `reached` what each tap reads, (place, remainder by the stride) by rows and by
    columns, `length` how long the rows of a plane are, `line` the numbers of a cache line.
    """

    channels: int
    block: int
    reached: tuple[list[tuple[int, int]], list[tuple[int, int]]]
    length: int
    line: int

    @classmethod
    def of(cls, x: Array, sweep: Sweep) -> _Layout:
        """Return the layout for these images."""
        channels = x.shape[1] // sweep.groups
        blocks = -(-channels // BLOCK)
        block = -(-channels // blocks)
        rows, columns = (
            [divmod(tap * dilation, stride) for tap in range(taps)]
            for taps, dilation, stride in zip(sweep.kernel_size, sweep.dilation, sweep.stride, strict=True)
        )
        length = sweep.size[1] + max(place for place, _ in columns)
        if sweep.stride[1] == 1 and sweep.corner[1] <= 0:
            # What is to the right of an image is to the left of its next row.
            left = -sweep.corner[1]
            length = max(x.shape[3] + max(left, length - left - x.shape[3]), sweep.size[1])
        return cls(blocks * block, block, (rows, columns), length, LINE // x.itemsize)

    @property
    def beyond(self) -> int:
        """How many rows of a plane are read beside those where the first tap of an output stands."""
        return max(place for place, _ in self.reached[0])

    @property
    def remainders(self) -> tuple[int, int]:
        """How many planes there are, by rows and by columns."""
        rows, columns = (1 + max(remainder for _, remainder in axis) for axis in self.reached)
        return rows, columns

    def planes(self, rows: int) -> tuple[int, int, int, int]:
        """Return how many planes there are, their rows, and how long they are, for so many rows of outputs."""
        return (*self.remainders, rows + self.beyond, self.length)

    def step(self, rows: int) -> int:
        """Return how far apart channels are: an odd number of cache lines.

        With a power of two, the same few places of a cache would have to hold all channels.
        """
        return (-(-math.prod(self.planes(rows)) // self.line) | 1) * self.line

    def rows_in(self, numbers: int) -> int:
        """Return for how many rows of outputs so many numbers a channel are enough."""
        lines = numbers // self.line
        row = math.prod(self.remainders) * self.length
        return (lines - 1 + lines % 2) * self.line // row - self.beyond

    def shifts(self, rows: int) -> npt.NDArray[np.int64]:
        """Return how far behind the first output's place in the first channel each tap of each block reads."""
        column_planes, plane, length = self.remainders[1], (rows + self.beyond) * self.length, self.length
        of_taps = [
            (plane_row * column_planes + plane_column) * plane + down * length + right
            for (down, plane_row), (right, plane_column) in itertools.product(*self.reached)
        ]
        of_blocks = np.arange(0, self.channels, self.block) * self.step(rows)
        shifts: npt.NDArray[np.int64] = np.add.outer(of_blocks, np.array(of_taps)).reshape(-1)
        return shifts


@dataclass(frozen=True, slots=True)
class _Cut:
    """How many images, and output rows, are worked on together, where in a buffer they stand, and the weight's parts.

    `behind` is what a last tile reads behind the last channel, in numbers, and `shifts` are bytes.
    """

    unit: tuple[int, int]
    planes: tuple[int, int, int, int]
    shifts: npt.NDArray[np.int64]
    channels: int
    block: int
    step: int
    behind: int
    workers: int
    parts: tuple[_Part, ...]

    @classmethod
    def of(cls, x: Array, sweep: Sweep, memory: int) -> _Cut | None:
        """Return the cut, for as many threads as have room; None where one has none for a row of outputs and a tile.

        So whether there is one does not depend on the number of threads, and results on neither.
        """
        return fitting_cut(lambda workers: cls._for_workers(x, sweep, memory, workers), thread_count())

    @classmethod
    def _for_workers(cls, x: Array, sweep: Sweep, memory: int, workers: int) -> _Cut | None:
        from refgrad.kernels.planes import TILE_ROWS

        layout = _Layout.of(x, sweep)
        channel_bytes, behind = layout.channels * x.itemsize, layout.length + TILE // x.itemsize
        beside = behind * x.itemsize + LINE + SCRATCH
        tile_bytes = math.prod(sweep.kernel_size) * channel_bytes * TILE_ROWS
        # Planes are filled for each part of the weight: it gets what whole images leave, or half where they leave less.
        row, image = (layout.step(rows) * channel_bytes + beside for rows in (1, sweep.size[0]))
        for_weight = min(max(memory // 2, memory - workers * min(BUFFER, image)), memory - workers * row)
        tiles = -(-sweep.out_channels // (sweep.groups * TILE_ROWS))
        parts = _Part.of_all(sweep.groups, tiles, max(1, for_weight // tile_bytes))
        left_over = memory - max(part.size for part in parts) * tile_bytes
        numbers = (min(BUFFER, left_over // workers) - beside) // channel_bytes
        rows = min(sweep.size[0], layout.rows_in(numbers))
        if rows < 1:
            return None
        rows = -(-sweep.size[0] // -(-sweep.size[0] // rows))
        images = 1
        if rows == sweep.size[0]:
            # Enough units for all parts of the work.
            images = max(1, min(numbers // layout.step(rows), len(x) // (PARTS_OF_A_THREAD * workers)))
        return cls(
            (images, rows),
            layout.planes(rows),
            layout.shifts(rows) * x.itemsize,
            layout.channels,
            layout.block,
            layout.step(rows),
            behind,
            workers,
            parts,
        )


@dataclass(frozen=True, slots=True)
class Packed:
    """A weight as the loops read it: (groups, tiles, blocks of channels, taps, channels of a block, TILE_ROWS).

    `memory` holds one part of it after the other, or all of it.
    """

    grouped: Array
    memory: Array
    cut: _Cut
    sweep: Sweep

    @classmethod
    def fits(cls, x: Array, sweep: Sweep, memory: int) -> bool:
        """Tell whether there is room for images in so many bytes."""
        return _Cut.of(x, sweep, memory) is not None

    @classmethod
    def of(cls, x: Array, grouped: Array, sweep: Sweep, memory: int) -> Packed:
        """Make room for a weight (groups, O / groups, C / groups, k_h, k_w) and pack it, if all of it fits at once.

        That, and the planes of images like these, take at most so many bytes.
        """
        from refgrad.kernels.planes import TILE_ROWS

        cut = _Cut.of(x, sweep, memory)
        assert cut is not None
        numbers = math.prod(sweep.kernel_size) * cut.channels * TILE_ROWS
        packed = cls(grouped, np.zeros((max(part.size for part in cut.parts), numbers), x.dtype), cut, sweep)
        if len(cut.parts) == 1:
            packed._pack(cut.parts[0])
        return packed

    def parts(self) -> Iterator[tuple[_Part, Array]]:
        """Walk over the parts; yield each with its weights, overwritten when the next is asked for."""
        for part in self.cut.parts:
            yield part, self.memory if len(self.cut.parts) == 1 else self._pack(part)

    def _pack(self, part: _Part) -> Array:
        """Return a part of the weight; missing channels are zeros, missing rows of a tile whatever stood there."""
        from refgrad.kernels.planes import TILE_ROWS

        block = self.cut.block
        blocks, tiles = self.cut.channels // block, part.tiles.stop - part.tiles.start
        result = self.memory[: part.size].reshape(-1, tiles, blocks, *self.sweep.kernel_size, block, TILE_ROWS)
        grouped = self.grouped[part.groups, part.tiles.start * TILE_ROWS : part.tiles.stop * TILE_ROWS]
        tasks = max(1, min(TILE_ROWS, result.size // LEAST_PACKED))

        def task(first_row: int) -> None:
            for row, number in itertools.product(range(first_row, TILE_ROWS, tasks), range(blocks)):
                rows = grouped[:, row::TILE_ROWS, number * block : (number + 1) * block]
                target = result[:, : rows.shape[1], number, ..., : rows.shape[2], row]
                target[...] = rows.transpose(0, 1, 3, 4, 2)

        in_threads(task, tasks)
        return result
