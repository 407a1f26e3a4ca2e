"""One forward and one backward pass of a storage whose ranks adapt to the gradients of the passes before.

In: the inputs of the layers, in order, and on the way back the gradients of their outputs. Out: each input within its
budget in as few numbers as possible, and when the pass is over, what was seen, for the `Plan` of the next.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from refgrad.arguments import Array
from refgrad.multilinear import Tucker
from refgrad.multilinear.decompositions import full_hosvd
from refgrad.rounding import unit_roundoff
from refgrad.storage.base import Storage, Stored, checked_activation
from refgrad.storage.exact import Dense
from refgrad.storage.frontier import Frontier
from refgrad.storage.plan import LayerFacts, Plan

if TYPE_CHECKING:
    from refgrad.geometry import ConvGeometry

__all__ = ["AdaptivePass"]


class AdaptivePass(Storage):
    """What `HOSVD` with a gradient tolerance keeps the inputs of one pass with; a tape begins and ends it.

    The layers are told apart by the order in which they store. Each stores the fewest numbers that its budget allows,
    with the spectra that its activation has now. Until the pass is over, their singular values are held too, min(n_j,
    N / n_j) numbers a mode, no more than factors of rank 1; they are what the next budgets follow from, and no count of
    what is stored includes them.

    Parameters
    ----------
    storage : Storage
        Knows how to use what is stored here.
    plan : Plan
        What was learned so far.
    method : {"svd", "gram"}
        How the factors are found.
    """

    __slots__ = ("_budgets", "_energy_fractions", "_facts", "_places", "_plan", "_storage", "method")

    name: ClassVar[str] = "hosvd"

    def __init__(self, storage: Storage, plan: Plan, method: str) -> None:
        self.method = method
        self._storage, self._plan = storage, plan
        self._budgets = [(layer.axes, layer.budget) for layer in plan.layers]
        self._facts: list[LayerFacts] = []
        self._energy_fractions: list[tuple[Array, ...]] = []
        self._places: WeakKeyDictionary[Stored, int] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return repr(self._storage)

    def store(self, activation: Array) -> Tucker | Dense:
        """Keep the next layer's input: what meets its budget in the fewest numbers.

        It is kept as it is where nothing is known of the layer, where no Tucker tensor within the budget has fewer
        numbers, and where rounding one to the activation's dtype would take more than the budget.

        Parameters
        ----------
        activation : array (B, C, H, W) or (B, ..., I)
            A, the input of a convolution, or that of a linear layer with 2, 3 or 4 axes.

        Returns
        -------
        Tucker or Dense

        Raises
        ------
        TypeError, ValueError
            Where `activation` is not a finite float array of 2, 3 or 4 axes.
        """
        full = full_hosvd(checked_activation(activation), method=self.method)
        place, shape = len(self._facts), activation.shape
        axes, budget = self._budgets[place] if place < len(self._budgets) else (0, None)
        if axes != len(shape):
            budget = None
        fractions = full.energy_fractions
        ranks, discarded = None, 0.0
        if budget is not None and budget >= unit_roundoff(activation.dtype) ** 2:
            frontier = Frontier(shape, fractions)
            ranks = frontier.fewest(budget)
            discarded = frontier.discarded(ranks)
        stored = Dense(activation) if ranks is None else full.truncated(ranks)
        self._energy_fractions.append(tuple(fraction.astype(activation.dtype) for fraction in fractions))
        self._facts.append(LayerFacts(shape, budget, stored.stored_numbers, discarded, full.norm, 0.0, 0.0))
        self._places[stored] = place
        return stored

    def restore(self, stored: Stored) -> Array:
        """Return A~ as a dense array."""
        return self._storage.restore(stored)

    def weight_gradient(self, stored: Stored, grad_output: Array, geometry: ConvGeometry | None = None) -> Array:
        """Return dW = D(A~, G), as `HOSVD` does, and note how much an error of A~ counts (THEORY T11, T12).

        Where a layer is asked for it more than once, the last time counts.
        """
        grad_weight = self._storage.weight_gradient(stored, grad_output, geometry)
        place = self._places.get(stored)
        if place is not None:
            reach = 1 if geometry is None else geometry.maximum_multiplicity(stored.shape[2:])
            upstream = _spectral_norm(grad_output, geometry) * math.sqrt(reach)
            self._facts[place] = replace(self._facts[place], upstream=upstream, magnitude=_norm(grad_weight))
        return grad_weight

    def end_pass(self) -> None:
        """Hand what was seen to the plan, and let go of it."""
        self._plan.learn(self._facts, self._energy_fractions)
        for seen in (self._facts, self._energy_fractions, self._places):
            seen.clear()


def _spectral_norm(grad_output: Array, geometry: ConvGeometry | None) -> float:
    """Estimate max_g |G_g|_2, the largest of the groups; inf where G is not finite."""
    largest = _largest(grad_output)
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    unit = np.divide(grad_output, largest, dtype=np.float64)
    if geometry is None:
        matrices = unit.reshape(1, -1, unit.shape[-1])
    else:
        batch, channels, height, width = unit.shape
        grouped = unit.reshape(batch, geometry.groups, channels // geometry.groups, height * width)
        matrices = grouped.transpose(1, 0, 3, 2).reshape(geometry.groups, -1, channels // geometry.groups)
    transposed = matrices.swapaxes(1, 2)
    gram = transposed @ matrices if matrices.shape[2] <= matrices.shape[1] else matrices @ transposed
    return largest * math.sqrt(max(0.0, float(np.linalg.eigvalsh(gram).max())))


def _norm(array: Array) -> float:
    """Return the Frobenius norm in float64, of numbers of any magnitude; inf where one is not finite."""
    largest = _largest(array)
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(np.linalg.norm(np.divide(array, largest, dtype=np.float64)))


def _largest(array: Array) -> float:
    """Return the largest absolute value; inf where one is not finite."""
    largest = max(float(array.max()), -float(array.min()))
    return largest if math.isfinite(largest) else math.inf
