"""Which ranks store the fewest numbers for an error that is allowed, in one layer and over all of them.

In: the energies of a tensor's unfoldings, as fractions of |A|^2, and how much of them may be discarded. Out: ranks, and
how an error that all layers share is best split between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refgrad.arguments import Array

__all__ = ["Frontier", "allocate"]

NEAR = 2.0**-20
"""Two prices of the error that are so near, relatively, count as one."""

ROUNDING = 1.0 + 2.0**-50
"""By what factor a sum of a few energies may seem larger than it is."""


class Frontier:
    """What one layer can trade: fewer numbers for more energy discarded.

    A choice is a rank K_j for every mode: prod_j K_j + sum_j n_j K_j numbers, and an error of at most
    sum_j tau_j / |A|^2 of |A|^2 (THEORY T3). Or the tensor is kept as it is: N numbers, no error; ranks are then None.

    Parameters
    ----------
    shape : tuple of d ints
        (n_1, ..., n_d), d >= 2.
    energy_fractions : sequence of d arrays (p_j,)
        s_ji^2 / |A|^2, descending, p_j = min(n_j, N / n_j).

    Examples
    --------
    >>> frontier = Frontier((8, 8), [np.array([0.6, 0.3, 0.1]), np.array([0.6, 0.3, 0.1])])
    >>> frontier.fewest(0.8), frontier.fewest(0.2), frontier.fewest(0.0)
    ((1, 1), (2, 2), (3, 3))
    """

    __slots__ = ("energies", "longest", "shape", "size", "tails")

    def __init__(self, shape: Sequence[int], energy_fractions: Sequence[Array]) -> None:
        self.shape = tuple(shape)
        self.size = math.prod(self.shape)
        self.energies = [np.asarray(energies, np.float64) for energies in energy_fractions]
        # tails[j][K] is what rank K leaves out in mode j.
        self.tails = [np.append(np.cumsum(energies[::-1])[::-1], 0.0) for energies in self.energies]
        self.longest = max(range(len(self.shape)), key=lambda mode: len(self.energies[mode]))

    def numbers(self, ranks: Sequence[int] | None) -> int:
        """Return how many numbers a choice stores (THEORY D3)."""
        if ranks is None:
            return self.size
        return math.prod(ranks) + sum(length * rank for length, rank in zip(self.shape, ranks, strict=True))

    def discarded(self, ranks: Sequence[int] | None) -> float:
        """Return sum_j tau_j / |A|^2 of a choice; 0 where the tensor is kept as it is."""
        if ranks is None:
            return 0.0
        return math.fsum(float(tails[rank]) for tails, rank in zip(self.tails, ranks, strict=True))

    def fewest(self, budget: float) -> tuple[int, ...] | None:
        """Return the choice with the fewest numbers among all that discard no more than `budget`.

        None is better than it: for all ranks of the other modes, the rank of the mode with the longest spectrum
        follows, as the least that the rest of the budget allows. There are no more such combinations than N over the
        length of that mode, fewer than a decomposition takes multiply-adds. Of two with as many numbers, the one that
        discards less is taken. A sum that exceeds the budget by no more than its rounding counts as within.
        """
        budget *= ROUNDING
        # Where each mode has an equal part of the budget, that is a choice, and no better one needs larger ranks.
        part = budget / len(self.shape) / ROUNDING
        within = self.numbers([self._least(mode, part) for mode in range(len(self.shape))])
        low = [self._least(mode, budget) for mode in range(len(self.shape))]
        spare = within - self.numbers(low)
        high = []
        for mode, length in enumerate(self.shape):
            slope = length + math.prod(low[:mode] + low[mode + 1 :])
            high.append(min(len(self.energies[mode]), low[mode] + spare // slope))
        others, product, linear, spent = self._combinations(low, high)
        left = budget - spent
        tails = self.tails[self.longest]
        last = np.maximum(np.searchsorted(-tails, -left, side="left"), 1)
        fitting = last < len(tails)  # even all of the mode is too little where nothing of the budget is left
        last = np.where(fitting, last, len(tails) - 1)
        numbers = np.where(fitting, last * (product + self.shape[self.longest]) + linear, np.inf)
        discarded = np.where(fitting, spent + tails[last], np.inf)
        place = _first(numbers, discarded)
        ranks = self._ranks(others, last, place)
        return ranks if self.numbers(ranks) < self.size else None

    def cheapest(self, price: float) -> tuple[int, ...] | None:
        """Return the choice that is least in numbers + price * discarded.

        Again over all ranks of the other modes: the K of the mode with the longest spectrum is then the last whose
        energy is worth more than the numbers that it adds, for the energies descend. Ranks that no best choice can have
        are left out: one that is not worth its numbers with every other rank 1, and what is below one that is worth
        them with all other ranks as large as that leaves them.
        """
        modes = range(len(self.shape))
        high = [self._worth(mode, price, self.shape[mode] + 1) for mode in modes]
        low = []
        for mode in modes:
            most = math.prod(high[:mode] + high[mode + 1 :])
            low.append(self._worth(mode, price, self.shape[mode] + most))
        others, product, linear, spent = self._combinations(low, high)
        added = product + self.shape[self.longest]
        tails = self.tails[self.longest]
        worth = self.energies[self.longest] * price
        last = np.maximum(np.searchsorted(-worth, -added, side="left"), 1)
        cost = last * added + linear + price * (spent + tails[last])
        ranks = self._ranks(others, last, int(np.argmin(cost)))
        return ranks if self.numbers(ranks) + price * self.discarded(ranks) < self.size else None

    def _least(self, mode: int, budget: float) -> int:
        """Return the least rank of a mode that discards no more than the budget."""
        return min(max(1, int(np.count_nonzero(self.tails[mode] > budget))), len(self.energies[mode]))

    def _worth(self, mode: int, price: float, numbers: int) -> int:
        """Return how many of a mode's singular values are worth more than so many numbers each; 1 at least."""
        return max(1, int(np.count_nonzero(self.energies[mode] * price > numbers)))

    def _combinations(self, low: list[int], high: list[int]) -> tuple[list[Array], Array, Array, Array]:
        """Return, over all ranks of the modes but the longest: the ranks, prod K_j, sum n_j K_j and sum tau_j."""
        modes = [mode for mode in range(len(self.shape)) if mode != self.longest]
        ranges = [np.arange(low[mode], high[mode] + 1) for mode in modes]
        grids = np.meshgrid(*ranges, indexing="ij", sparse=True)
        lengths = tuple(len(ranks) for ranks in ranges)
        product, linear, spent = np.ones(lengths), np.zeros(lengths), np.zeros(lengths)
        for mode, ranks in zip(modes, grids, strict=True):
            product = product * ranks
            linear = linear + self.shape[mode] * ranks
            spent = spent + self.tails[mode][ranks]
        return ranges, product, linear, spent

    def _ranks(self, others: list[Array], last: Array, place: int) -> tuple[int, ...]:
        found = [int(ranks[i]) for ranks, i in zip(others, np.unravel_index(place, last.shape), strict=True)]
        found.insert(self.longest, int(last.flat[place]))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Point:
    """A choice of one layer: its ranks and what it discards, which counts `weight` times."""

    ranks: tuple[int, ...] | None
    discarded: float


def allocate(frontiers: Sequence[Frontier], weights: Sequence[float]) -> list[float]:
    """Split an error of 1 between layers: find budgets rho_l with sum_l w_l rho_l = 1 that need few numbers.

    At a price of the error, every layer takes its cheapest choice on its own, and no other choices of all layers have
    both as few numbers and as little error: that is what a Lagrange multiplier does. The price is lowered until the
    error is 1. There the choice of one layer, or of some at once, jumps past 1; they get what is in between, in
    proportion. So the numbers exceed the fewest that are possible by no more than what these jumps save, and with one
    layer by nothing. The best split itself is a knapsack problem.

    Parameters
    ----------
    frontiers : sequence of Frontier
        One a layer.
    weights : sequence of float
        w_l >= 0, inf where the layer may discard nothing.

    Returns
    -------
    list of float
        rho_l in [0, d]. Where less than 1 remains with every rank 1, the rest is split equally.

    Examples
    --------
    >>> wide = Frontier((8, 8), [np.array([0.6, 0.3, 0.1]), np.array([0.6, 0.3, 0.1])])
    >>> [round(budget, 3) for budget in allocate([wide, wide], [1.0, 20.0])]
    [0.8, 0.01]
    """
    budgets = [0.0] * len(frontiers)
    free = [layer for layer, weight in enumerate(weights) if weight < math.inf]
    if not free:
        return budgets

    def chosen(price: float, layer: int) -> _Point:
        ranks = frontiers[layer].cheapest(price * weights[layer])
        return _Point(ranks, frontiers[layer].discarded(ranks))

    def error(points: dict[int, _Point]) -> float:
        return math.fsum(weights[layer] * point.discarded for layer, point in points.items())

    most = {layer: chosen(0.0, layer) for layer in free}
    if error(most) <= 1.0:
        rest = (1.0 - error(most)) / len(free)
        for layer, point in most.items():
            share = rest / weights[layer] if weights[layer] > 0.0 else math.inf
            budgets[layer] = min(point.discarded + share, float(len(frontiers[layer].shape)))
        return budgets
    # At the one, all that could be discarded costs half a number; at the other, an error of 1 costs as much as all
    # tensors as they are.
    low_price = 0.5 / max(weights[layer] * len(frontiers[layer].shape) for layer in free)
    high_price = float(sum(frontiers[layer].size for layer in free))
    least = {layer: chosen(high_price, layer) for layer in free}
    while high_price > low_price * (1.0 + NEAR):
        open_layers = [layer for layer in free if least[layer] != most[layer]]
        if len(open_layers) == 1:
            break
        price = math.sqrt(low_price) * math.sqrt(high_price)
        points = least | {layer: chosen(price, layer) for layer in open_layers}
        if error(points) <= 1.0:
            least, high_price = points, price
        else:
            most, low_price = points, price
    part = (1.0 - error(least)) / (error(most) - error(least))
    for layer in free:
        budgets[layer] = least[layer].discarded + part * (most[layer].discarded - least[layer].discarded)
    return budgets


def _first(numbers: Array, discarded: Array) -> int:
    """Return the place of the fewest numbers, and among these of the least that is discarded."""
    equal = np.flatnonzero(numbers == numbers.min())
    return int(equal[np.argmin(discarded.flat[equal])])
