"""The weight gradient from core and factors by compiled loops, in threads, where G is projected on all factors.

In: sizes, core, factors and the gradient G of a convolution's output. Out: dW (THEORY T14), the same bits whatever the
number of threads: every out channel is contracted alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from refgrad.aligned import LINE, aligned_zeros, filled_up
from refgrad.arguments import Array
from refgrad.convolution.blocks import OBJECTS, fitting_cut
from refgrad.geometry import ConvGeometry
from refgrad.ranges import ranges
from refgrad.storage.order import Plan, cost_of, memory_of
from refgrad.storage.sizes import Sizes
from refgrad.threads import in_threads, task_count, thread_count

__all__ = ["applies", "load", "weight_gradient"]

LEAST_PRODUCTS = 2**20
"""With fewer multiply-adds NumPy is done before the compiled loops are loaded."""

PANEL = 2**16
"""Bytes of the gradients that are copied together: what a core's second cache holds beside all else."""

POSITIONS = 512
"""Out channels of fewer output positions go through all products together, until there are so many."""

PARTS_OF_A_THREAD = 2
"""Into so many parts the work of a thread is cut: one that begins late leaves some to the others."""


def applies(sizes: Sizes, plan: Plan, itemsize: int) -> bool:
    """Tell whether the loops are for this contraction: a large one, for which they cost no more than the plan.

    And of a convolution, whose modes all have a factor and whose gradient is C-contiguous.
    """
    if sizes.channels_last or any(sizes.identity) or not sizes.contiguous:
        return False
    from refgrad.kernels.jit import compiling

    if not compiling():
        return False
    cut = _Cut.of(sizes, itemsize, memory_of(math.prod(sizes.shape) * itemsize))
    return cut is not None and cut.multiply_adds >= LEAST_PRODUCTS and cut.cost <= plan.cost


def load(dtype: npt.DTypeLike) -> None:
    """Load the loops for float32 or float64, or compile them, so that what is measured next does not pay for it."""
    from refgrad.kernels.jit import compiling

    if compiling():
        single = np.ones((1, 1, 1, 1), dtype)
        sizes = Sizes.of(single.shape, single.shape, 1, ConvGeometry.of(1))
        weight_gradient(sizes, single, [single[0, 0]] * 4, [single[0, 0]] * 2, single, 2**20)


def weight_gradient(
    sizes: Sizes, core: Array, factors: Sequence[Array], by_taps: Sequence[Array], grad_output: Array, memory: int
) -> Array:
    """Return dW (O, C / groups, k_h, k_w).

    Parameters
    ----------
    sizes : Sizes
        Of the operands.
    core : array (K_1, K_2, K_3, K_4)
        S.
    factors : sequence of arrays (B, K_1), (C, K_2), ...
        U_1 and U_2; what follows is not read.
    by_taps : sequence of arrays (k_h K_3, H'), (k_w K_4, W')
        U_3 and U_4 as each tap reads them, transposed.
    grad_output : array (B, O, H', W')
        G, C-contiguous.
    memory : int
        Bytes to work in, of which no more than one thread needs are enough.
    """
    from refgrad.kernels.contraction import contract

    dtype, ranks, geometry = core.dtype, sizes.ranks, sizes.geometry
    cut = _Cut.of(sizes, core.itemsize, memory)
    assert cut is not None
    outputs = sizes.out_shape[1]
    result = np.empty((outputs, sizes.shape[1] // geometry.groups, *geometry.kernel_size), dtype)
    samples = filled_up(factors[0], sizes.shape[0], cut.first_rank)
    heights, widths = (filled_up(matrix, rows, matrix.shape[1]) for matrix, rows in zip(by_taps, cut.rows, strict=True))
    ordered = filled_up(core.transpose(2, 3, 0, 1).reshape(-1, ranks[1]), core.size // ranks[1], cut.second_rank)
    channels = filled_up(factors[1].T, ranks[1], cut.all_channels)
    cuts = list(ranges(outputs, -(-outputs // min(outputs, task_count(cut.workers, PARTS_OF_A_THREAD)))))

    def task(number: int) -> None:
        panel, by_sample, by_height, by_width, by_tap, by_channel = (
            aligned_zeros(rows, columns, dtype) for rows, columns in cut.scratch
        )
        contract(
            grad_output.ctypes.data,
            dtype.type(0),
            dtype.itemsize,
            grad_output.shape,
            (cuts[number].start, cuts[number].stop),
            cut.at_once,
            cut.positions,
            geometry.kernel_size,
            (ranks[0], ranks[1], ranks[2], ranks[3]),
            geometry.groups,
            samples,
            heights,
            widths,
            ordered.reshape(ranks[2], -1, cut.second_rank),
            channels,
            panel,
            by_sample,
            by_height.reshape(cut.rows[0], -1, cut.first_rank),
            by_width.reshape(cut.at_once, -1, cut.rows[1], cut.first_rank),
            by_tap,
            by_channel,
            result.reshape(*result.shape[:2], -1),
        )

    in_threads(task, len(cuts))
    return result


@dataclass(frozen=True, slots=True)
class _Cut:
    """How much is worked on together, what it is filled up to, and what it costs.

    Attributes
    ----------
    at_once, positions : int
        Of out channels and of output positions.
    first_rank, second_rank : int
        K_1 and K_2, filled up to whole registers.
    rows : pair of ints
        k_h K_3 and k_w K_4, filled up to whole tiles.
    all_channels : int
        C and a register, filled up.
    scratch : tuple of pairs of ints
        Of `contract`: rows and columns of what it overwrites, but for the result.
    multiply_adds, cost : int
        With all that is filled up; the cost as of `Plan.cost`.
    workers : int
        How many threads have room.
    """

    at_once: int
    positions: int
    first_rank: int
    second_rank: int
    rows: tuple[int, int]
    all_channels: int
    scratch: tuple[tuple[int, int], ...]
    multiply_adds: int
    cost: int
    workers: int

    @classmethod
    def of(cls, sizes: Sizes, itemsize: int, memory: int) -> _Cut | None:
        """Return the cut for as many threads as have room; None where there is none for one."""
        return _cut(sizes, itemsize, memory, thread_count())

    @classmethod
    def for_workers(cls, sizes: Sizes, itemsize: int, memory: int, workers: int) -> _Cut | None:
        """Return the cut for so many threads, with a panel as large as has room, or None where there is none."""
        panels = (cls._with_panel(sizes, itemsize, memory, workers, PANEL >> halved) for halved in range(4))
        return next((cut for cut in panels if cut is not None), None)

    @classmethod
    def _with_panel(cls, sizes: Sizes, itemsize: int, memory: int, workers: int, panel: int) -> _Cut | None:
        from refgrad.kernels.contraction import REGISTER, TILE_ROWS

        lanes = REGISTER // itemsize
        (batch, outputs, height, width), ranks, groups = sizes.out_shape, sizes.ranks, sizes.geometry.groups
        taps, of_group = sizes.geometry.kernel_size, sizes.shape[1] // groups
        plane, all_taps = height * width, math.prod(taps)
        first_rank, second_rank, channels = (_up(length, lanes) for length in (ranks[0], ranks[1], of_group))
        projected, rows = taps[0] * ranks[2], (_up(taps[0] * ranks[2], TILE_ROWS), _up(taps[1] * ranks[3], TILE_ROWS))
        at_once = max(1, min(outputs // groups, POSITIONS // plane))
        positions = min(_up(at_once * plane, TILE_ROWS), _up(panel // (batch * itemsize), TILE_ROWS))
        tap_rows = _up(at_once * all_taps, TILE_ROWS)
        line = LINE // itemsize
        scratch = (
            (batch, (-(-positions // line) | 1) * line),
            (_up(at_once * plane, TILE_ROWS), first_rank),
            (rows[0], width * first_rank),
            (at_once * projected, rows[1] * first_rank),
            (tap_rows, second_rank),
            (tap_rows, channels),
        )
        all_channels = _up(sizes.shape[1], lanes) + lanes
        # Copies that are filled up; of U_3 and U_4 those that are not stand beside them.
        shared = batch * first_rank + 2 * (rows[0] * height + rows[1] * width) + ranks[1] * all_channels
        shared += math.prod((ranks[0], ranks[2], ranks[3])) * second_rank
        numbers = shared + workers * sum(first * second for first, second in scratch)
        if numbers * itemsize + OBJECTS > memory:
            return None
        multiply_adds = outputs * (
            plane * first_rank * batch
            + rows[0] * plane * first_rank
            + projected * rows[1] * width * first_rank
            + all_taps * second_rank * math.prod((ranks[0], ranks[2], ranks[3]))
            + all_taps * ranks[1] * channels
        )
        moved = outputs * (batch * plane + of_group * all_taps)
        return cls(
            at_once,
            positions,
            first_rank,
            second_rank,
            rows,
            all_channels,
            scratch,
            multiply_adds,
            cost_of(multiply_adds, moved),
            workers,
        )


@lru_cache(maxsize=4096)
def _cut(sizes: Sizes, itemsize: int, memory: int, threads: int) -> _Cut | None:
    return fitting_cut(lambda workers: _Cut.for_workers(sizes, itemsize, memory, workers), threads)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
