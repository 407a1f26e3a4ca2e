"""In which order the compressed contraction is cheapest, and in blocks of what size it stays small (THEORY T14).

In: the sizes of a stored activation, of the gradient it meets and of their convolution. Out: an `Order`, its
multiply-adds, and `Blocks` with which its working memory fits a budget. Nothing is computed here but counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from refgrad.storage.sizes import Sizes

__all__ = [
    "PAPER_ORDER",
    "WORKING_MEMORY",
    "Blocks",
    "Counts",
    "Order",
    "Plan",
    "best_plan",
    "cost_of",
    "memory_of",
    "plan_of",
    "possible_orders",
]

WORKING_MEMORY = 2**23
"""The most bytes that one compressed contraction works in, however large the activation is."""

LEAST_MEMORY = 2**18
"""The bytes that it may work in in any case, but for an activation that is hardly larger itself."""

FRACTION_OF_ACTIVATION = 1 / 4
"""And in no more than this much of the dense activation's size, where its smallest blocks are as small as that."""

FRACTION_OF_SMALL_ACTIVATION = 3 / 4
"""Of one so small that `LEAST_MEMORY` would be more than this."""

MOVED = 16
"""Multiply-adds that BLAS does in the time in which a number is read or written: what a plan weighs one against."""

WINDOW = 8
"""Numbers that could be moved in the time in which one is copied out of overlapping windows, in short runs."""

CALL = 2**13
"""Numbers that could be moved in the time in which NumPy is called once."""

SLICE = 2**9
"""And in that in which one product of a stack of small matrices begins and ends."""

BUFFER = 8192
"""Numbers that NumPy buffers of each operand while it adds up arrays that are not contiguous (numpy.getbufsize)."""


class Order(NamedTuple):
    """Where each factor enters the contraction: whether it is expanded into the core, or kept out of it.

    What is kept out: U_1, U_3 and U_4 are contracted with G, the latter two once for each tap; U_2 is multiplied last.
    """

    batch: bool
    channels: bool
    height: bool
    width: bool


PAPER_ORDER = Order(batch=False, channels=False, height=True, width=True)
"""The order that THEORY T14 writes down: Z1 = G x_B U_1^T, Z2 and Z3 expand height and width, U_2 comes last."""


class Blocks(NamedTuple):
    """How much is worked on at a time.

    groups : 1 where the channels are not expanded, for then the groups differ only in the last product.
    batch : samples where the batch is expanded, else of K_1.
    rows : of the H' output rows.
    channels : of one group where the channels are expanded, else of K_2.
    out_channels : of one group.
    """

    groups: int
    batch: int
    rows: int
    channels: int
    out_channels: int


@dataclass(frozen=True, slots=True)
class Plan:
    """An order in blocks, and what it costs.

    Parameters
    ----------
    order : Order
        Of the contraction.
    blocks : Blocks
        How much of it is done at a time.
    multiply_adds : int
        With all that is done again for every block.
    working_numbers : int
        The most numbers that are held at a time besides the operands and the result.
    moved_numbers : int
        How many are read and written on the way, with what else takes as long, see `CALL` and `SLICE`.
    """

    order: Order
    blocks: Blocks
    multiply_adds: int
    working_numbers: int
    moved_numbers: int

    @property
    def cost(self) -> int:
        """What a plan is chosen by."""
        return cost_of(self.multiply_adds, self.moved_numbers)


class Counts:
    """What one order of contraction costs, as a function of the blocks it is done in.

    Parameters
    ----------
    sizes : Sizes
        Of the operands.
    order : Order
        Of the contraction.

    Attributes
    ----------
    full : Blocks
        Everything at once.
    core_axes : tuple of int
        Which modes are expanded, in the order of the products.
    gradient_axes : tuple of int
        Which of height and width G is projected on, in the order of the products.
    projected_taps, expanded_taps : pair of int
        The kernel, split: whose taps are rows of G's side of the last product, and whose are rows of the core's.
    is_unfinished : bool
        Whether the sums are not the weight gradient yet: their taps are out of order, or U_2 is to come.
    """

    def __init__(self, sizes: Sizes, order: Order) -> None:
        self.sizes, self.order = sizes, order
        geometry, ranks, shape, out_shape = sizes.geometry, sizes.ranks, sizes.shape, sizes.out_shape
        groups = geometry.groups if order.channels else 1
        self.full = Blocks(
            groups=groups,
            batch=shape[0] if order.batch else ranks[0],
            rows=out_shape[2],
            channels=shape[1] // groups if order.channels else ranks[1],
            out_channels=out_shape[1] // groups,
        )
        self.kernel = geometry.kernel_size
        self.taps = self.kernel[0] * self.kernel[1]
        # U_1 first, for it is multiplied to the core as it is stored. Of two products K -> L that follow one another,
        # the one with the smaller 1/K - 1/L is cheaper first.
        core_axes = [axis for axis in (1, 2, 3) if order[axis] and not sizes.identity[axis]]
        lengths = (0, shape[1], *(max(1, inside) for inside, _ in sizes.rows_read))
        core_axes.sort(key=lambda axis: 1 / ranks[axis] - 1 / lengths[axis])
        self.core_axes = ((0,) if order.batch and not sizes.identity[0] else ()) + tuple(core_axes)
        gradient_axes = [axis for axis in (2, 3) if not order[axis]]
        gradient_axes.sort(key=lambda axis: 1 / out_shape[axis] - 1 / (self.kernel[axis - 2] * ranks[axis]))
        self.gradient_axes = tuple(gradient_axes)
        height, width = self.kernel
        self.expanded_taps = (height if order.height else 1, width if order.width else 1)
        self.projected_taps = (1 if order.height else height, 1 if order.width else width)
        self.is_unfinished = not order.channels or self.projected_taps != (1, 1)
        self.factor_numbers = sum(
            (sizes.rows_read[axis - 2][1] + self.kernel[axis - 2] * out_shape[axis]) * ranks[axis]
            for axis in gradient_axes
        )

    def multiply_adds(self, blocks: Blocks | None = None) -> int:
        """Count the multiply-adds (THEORY T14).

        For `PAPER_ORDER`, one group, and a stride that covers the input they are
        B K1 O H' W' + K1 K2 K3 K4 H + K1 K2 K4 H W + K1 K2 O k_h k_w H' W' + K2 C O k_h k_w.

        Parameters
        ----------
        blocks : Blocks, optional
            What is done at a time; what several blocks need is computed, and counted, as often. All at once by default.
        """
        blocks = self.full if blocks is None else blocks
        sizes = self.sizes
        outer, inner = self._turns(blocks)
        core, gradient, last = self._core_side(blocks)[0], self._gradient_side(blocks)[0], self._last_product(blocks)[0]
        total = outer * (core + inner * (gradient + last))
        if not self.order.channels:
            total += sizes.ranks[1] * (sizes.shape[1] // sizes.geometry.groups) * sizes.out_shape[1] * self.taps
        return total

    def moved_numbers(self, blocks: Blocks | None = None) -> int:
        """Count how many numbers are read and written, and what else takes as long, see `CALL` and `SLICE`.

        Parameters
        ----------
        blocks : Blocks, optional
            What is done at a time; all at once by default.
        """
        blocks = self.full if blocks is None else blocks
        outer, inner = self._turns(blocks)
        _, _, core_held, core_moved = self._core_side(blocks)
        _, _, gradient_held, gradient_moved = self._gradient_side(blocks)
        _, last_held = self._last_product(blocks)
        last = core_held + gradient_held + 2 * last_held + blocks.groups * SLICE + CALL
        total = outer * (core_moved + inner * (gradient_moved + last))
        if self.is_unfinished:
            total += 4 * self.full.channels * self.taps * self.sizes.out_shape[1] + CALL
        return total

    def _turns(self, blocks: Blocks) -> tuple[int, int]:
        """Count how often the core side is made, and for each of them G's side."""
        full = self.full
        outer = -(-full.groups // blocks.groups) * -(-full.batch // blocks.batch)
        outer *= -(-full.rows // blocks.rows) * -(-full.channels // blocks.channels)
        return outer, -(-full.out_channels // blocks.out_channels)

    def working_numbers(self, blocks: Blocks | None = None) -> int:
        """Bound how many numbers are held at a time, besides the operands and the result.

        Parameters
        ----------
        blocks : Blocks, optional
            What is done at a time; all at once by default.
        """
        blocks = self.full if blocks is None else blocks
        _, core_peak, core_held, _ = self._core_side(blocks)
        _, gradient_peak, gradient_held, _ = self._gradient_side(blocks)
        _, last_held = self._last_product(blocks)
        peak = max(core_peak, core_held + gradient_peak, core_held + gradient_held + last_held)
        if self.is_unfinished:
            peak = max(peak, self.full.channels * self.taps)
        return peak + self.factor_numbers

    def written_in_place(self, blocks: Blocks) -> bool:
        """Return whether the last product is the result: nothing to add up, its entries in the order of the weight."""
        if blocks.batch < self.full.batch or blocks.rows < self.full.rows:
            return False
        return self.projected_taps == (1, 1)

    def fitting_blocks(self, numbers: int) -> Blocks:
        """Return cheap blocks that work in that many numbers, or small ones where none do.

        One length after the other is halved: the one that raises the cost least for each number that it saves.
        """
        blocks = self.full
        need = self.working_numbers(blocks)
        while need > numbers:
            cost = self.cost(blocks)
            smaller = [(self.working_numbers(part), part) for part in _halved(blocks)]
            if not smaller:
                break
            prices = [((self.cost(part) - cost) / (need - less), less, part) for less, part in smaller if less < need]
            need, blocks = min(prices)[1:] if prices else min(smaller)
        return blocks

    def cost(self, blocks: Blocks) -> int:
        """Return what blocks are chosen by."""
        return cost_of(self.multiply_adds(blocks), self.moved_numbers(blocks))

    def _rows(self, axis: int, positions: int) -> tuple[int, int]:
        """Bound how many rows or columns that many output positions read, of the picture and with the padding."""
        if positions == self.sizes.out_shape[axis]:
            return self.sizes.rows_read[axis - 2]
        geometry, here = self.sizes.geometry, axis - 2
        padded = (positions - 1) * geometry.stride[here] + (self.kernel[here] - 1) * geometry.dilation[here] + 1
        return min(padded, self.sizes.shape[axis]), padded

    def _core_side(self, blocks: Blocks) -> tuple[int, int, int, int]:
        """Count (groups, channels x taps, terms): the core, expanded, as output positions and taps read it.

        Multiply-adds, numbers at the worst moment, numbers held to the end, numbers moved.
        """
        ranks, channels, width = self.sizes.ranks, blocks.groups * blocks.channels, self.sizes.out_shape[3]
        (inside_rows, rows), (inside_columns, columns) = self._rows(2, blocks.rows), self._rows(3, width)
        lengths = (blocks.batch, channels, inside_rows, inside_columns)
        dims = [blocks.batch, ranks[1] if 1 in self.core_axes else channels, ranks[2], ranks[3]]
        total = peak = before = 0  # the core itself is an operand
        moved = CALL * (3 + len(self.core_axes))
        is_view = self.sizes.channels_last or (1 not in self.core_axes and channels < ranks[1])
        if 0 in self.core_axes:  # of all channels, all rows
            before = peak = blocks.batch * ranks[1] * ranks[2] * ranks[3]
            total = before * ranks[0]
            moved += before + math.prod(ranks)
            if self.sizes.identity[2] and self.order.height:
                dims[2] = inside_rows
            if math.prod(dims) < before:  # a part of it, copied
                peak, before, is_view = before + math.prod(dims), math.prod(dims), False
        for axis in self.core_axes[0 in self.core_axes :]:
            if is_view:  # a copy, for the product needs its operand in order
                before, is_view = before + math.prod(dims), False
            moved += math.prod(dims) + SLICE * math.prod(dims[:axis])
            dims[axis] = lengths[axis]
            numbers = math.prod(dims)
            total += numbers * ranks[axis]
            moved += numbers
            peak = max(peak, before + numbers)
            before = numbers
        padded = held = blocks.batch * channels
        padded *= (rows if self.order.height else ranks[2]) * (columns if self.order.width else ranks[3])
        held *= blocks.rows * self.kernel[0] if self.order.height else ranks[2]
        held *= width * self.kernel[1] if self.order.width else ranks[3]
        return total, max(peak, before + padded, max(before, padded) + held), held, moved + 2 * padded + WINDOW * held

    def _gradient_side(self, blocks: Blocks) -> tuple[int, int, int, int]:
        """Count (groups, out channels x taps, terms): G, projected on what is not expanded; as `_core_side`."""
        sizes, channels = self.sizes, blocks.groups * blocks.out_channels
        dims = [blocks.batch * channels, blocks.rows, sizes.out_shape[3]]
        numbers = math.prod(dims)
        total = peak = 0
        moved = CALL * (3 + len(self.gradient_axes)) + numbers
        if not self.order.batch:
            whole = channels == sizes.out_shape[1] if sizes.channels_last else blocks.rows == sizes.out_shape[2]
            copied = 0 if whole and sizes.contiguous else channels * dims[1] * dims[2] * sizes.shape[0]
            total, peak = sizes.shape[0] * numbers, copied + numbers
            moved += copied + channels * dims[1] * dims[2] * sizes.shape[0]
        is_view = self.order.batch or sizes.channels_last
        for axis in self.gradient_axes:
            before = 2 * numbers if is_view else numbers
            moved += numbers + (SLICE * math.prod(dims[: axis - 1]) if axis == 2 else 0)
            length, dims[axis - 1] = dims[axis - 1], self.kernel[axis - 2] * sizes.ranks[axis]
            numbers = math.prod(dims)
            total += numbers * length
            moved += numbers
            peak, is_view = max(peak, before + numbers), False
        return total, max(peak, 2 * numbers), numbers, moved + 2 * numbers

    def _last_product(self, blocks: Blocks) -> tuple[int, int]:
        """Count (groups, out channels x taps, channels x taps), the sum over all terms; multiply-adds, numbers held."""
        terms = blocks.batch * (blocks.rows if self.order.height else self.sizes.ranks[2])
        terms *= self.sizes.out_shape[3] if self.order.width else self.sizes.ranks[3]
        numbers = blocks.groups * blocks.out_channels * blocks.channels * self.taps
        held = 0 if self.written_in_place(blocks) else numbers + 2 * min(numbers, BUFFER)
        return numbers * terms, held


def possible_orders(sizes: Sizes) -> Iterator[Order]:
    """Yield every order that may be taken.

    A mode without a factor counts as expanded. U_2 may come last where K_2 <= C / groups: Z4 is then no larger than the
    result and is gathered in its memory; with a larger K_2 it would also cost more.
    """
    choices = [(True,) if identity else (False, True) for identity in sizes.identity]
    if sizes.ranks[1] > sizes.shape[1] // sizes.geometry.groups:
        choices[1] = (True,)
    for choice in product(*choices):
        yield Order(*choice)


def plan_of(sizes: Sizes, order: Order, numbers: int | None = None) -> Plan:
    """Return the plan that follows an order.

    Parameters
    ----------
    sizes : Sizes
        Of the operands.
    order : Order
        Of the contraction.
    numbers : int, optional
        In how many numbers it is to work, if its smallest blocks are as small as that; by default all is done at once.

    Returns
    -------
    Plan
    """
    return _planned(Counts(sizes, order), numbers)


@lru_cache(maxsize=4096)
def best_plan(sizes: Sizes, itemsize: int) -> Plan:
    """Return the order of the least cost, in blocks that fit the working memory.

    The cost is that of the multiply-adds and of moving the numbers, see `Plan.cost`. The memory is `WORKING_MEMORY`
    bytes or a quarter of the dense activation, whichever is less; of a small one up to three quarters. Where no order
    fits, as for an activation hardly larger than a kernel, the one that needs least is taken.

    Parameters
    ----------
    sizes : Sizes
        Of the operands.
    itemsize : int
        Bytes a number.

    Returns
    -------
    Plan
    """
    budget = memory_of(math.prod(sizes.shape) * itemsize) // itemsize
    plans = [plan_of(sizes, order, budget) for order in possible_orders(sizes)]
    return min(plans, key=lambda plan: (max(0, plan.working_numbers - budget), plan.cost))


def memory_of(nbytes: int) -> int:
    """Return how many bytes a contraction may work in whose dense activation has so many.

    Examples
    --------
    >>> [memory_of(nbytes) for nbytes in (2**10, 2**19, 2**24, 2**30)]
    [768, 262144, 4194304, 8388608]
    """
    small = int(min(LEAST_MEMORY, nbytes * FRACTION_OF_SMALL_ACTIVATION))
    return min(WORKING_MEMORY, max(small, int(nbytes * FRACTION_OF_ACTIVATION)))


def cost_of(multiply_adds: int, moved_numbers: int) -> int:
    """Return multiply-adds, and those for which moving the numbers would leave time."""
    return multiply_adds + MOVED * moved_numbers


def _planned(counts: Counts, numbers: int | None) -> Plan:
    blocks = counts.full if numbers is None else counts.fitting_blocks(numbers)
    multiply_adds, working = counts.multiply_adds(blocks), counts.working_numbers(blocks)
    return Plan(counts.order, blocks, multiply_adds, working, counts.moved_numbers(blocks))


def _halved(blocks: Blocks) -> Iterator[Blocks]:
    """Yield what is left when one length is halved; channels are split only where it is one group's turn."""
    groups, batch, rows, channels, out_channels = blocks
    if batch > 1:
        yield Blocks(groups, (batch + 1) // 2, rows, channels, out_channels)
    if rows > 1:
        yield Blocks(groups, batch, (rows + 1) // 2, channels, out_channels)
    if groups > 1:
        yield Blocks((groups + 1) // 2, batch, rows, channels, out_channels)
        return
    if out_channels > 1:
        yield Blocks(groups, batch, rows, channels, (out_channels + 1) // 2)
    if channels > 1:
        yield Blocks(groups, batch, rows, (channels + 1) // 2, out_channels)
