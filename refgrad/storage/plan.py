"""What an adaptive storage has learned: how much of each layer's activation the next pass may discard.

In: what the layers of a pass stored, and how much their errors count. Out: a budget for each layer, the facts of the
last pass for a report, and all of it as plain arrays for a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from refgrad.arguments import Array
from refgrad.storage.frontier import Frontier, allocate

__all__ = ["WINDOW", "LayerFacts", "LayerPlan", "PassFacts", "Plan", "checked_tolerance"]

WINDOW = 8
"""Over how many passes the largest influence of a layer counts: gradients differ from batch to batch."""

LARGEST_INFLUENCE = 2.0**53
"""Where one rounding error of float64 in an activation could be all that is allowed: nothing of it is discarded."""


UNKNOWN = -1.0
"""What stands in a state where nothing is known."""


def checked_tolerance(value: object) -> float:
    """Return a gradient tolerance as a float that is positive and finite.

    Raises
    ------
    TypeError
        Where it is no real number.
    ValueError
        Where it is not positive, NaN or infinite.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"gradient_tolerance must be a positive real number, got {type(value).__name__}")
    number = float(value)
    if not 0.0 < number < math.inf:
        raise ValueError(f"gradient_tolerance must be positive and finite, got {number!r}")
    return number


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """What the next pass does with one layer.

    Parameters
    ----------
    axes : int
        d, how many axes its activation has.
    budget : float or None
        The most that sum_j tau_j / |A|^2 may be; None where nothing is known and everything is kept.
    influences : tuple of float
        c_l |A_l| / |g~| of the last passes, the newest last: the relative error of the gradient that a relative error
        of the activation may cause.
    """

    axes: int
    budget: float | None
    influences: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What one layer did in a pass.

    Parameters
    ----------
    shape : tuple of int
        Of the activation.
    budget : float or None
        What the plan allowed of sum_j tau_j / |A|^2; None where nothing was known.
    stored_numbers : int
        How many numbers were kept (THEORY D3).
    discarded : float
        sum_j tau_j / |A|^2; 0 where the activation was kept as it is.
    norm : float
        |A|.
    upstream : float
        c = max_g |G_g|_2 sqrt(m) (THEORY T11, T12), estimated; 0 where the weight gradient was not asked for.
    magnitude : float
        |dW~|; 0 where it was not asked for.
    """

    shape: tuple[int, ...]
    budget: float | None
    stored_numbers: int
    discarded: float
    norm: float
    upstream: float
    magnitude: float

    @property
    def dense_numbers(self) -> int:
        """How many numbers the activation has."""
        return math.prod(self.shape)

    @property
    def bound(self) -> float:
        """|dW - dW~| is at most c sqrt(sum_j tau_j), but for rounding (THEORY T3, T11, T12)."""
        return self.upstream * self.norm * math.sqrt(self.discarded)


@dataclass(frozen=True, slots=True)
class PassFacts:
    """What a pass that was learned from did, with the output gradients that it really had.

    Parameters
    ----------
    gradient_tolerance : float
        delta.
    layers : tuple of LayerFacts
        In the order of the forward pass.
    """

    gradient_tolerance: float
    layers: tuple[LayerFacts, ...]

    @property
    def bound(self) -> float:
        """b, on the error of the gradient of all these layers (THEORY T13); an estimate, nothing is rounded up."""
        return math.hypot(*(layer.bound for layer in self.layers))

    @property
    def magnitude(self) -> float:
        """|g~| of these layers' weights."""
        return math.hypot(*(layer.magnitude for layer in self.layers))

    @property
    def allowed(self) -> float:
        """What the bound was meant not to exceed: delta / (1 + delta) |g~|."""
        return self.gradient_tolerance / (1.0 + self.gradient_tolerance) * self.magnitude

    @property
    def met(self) -> bool:
        """Whether it did not."""
        return self.bound <= self.allowed

    @property
    def stored_numbers(self) -> int:
        """How many numbers were kept."""
        return sum(layer.stored_numbers for layer in self.layers)

    @property
    def dense_numbers(self) -> int:
        """How many numbers the activations have."""
        return sum(layer.dense_numbers for layer in self.layers)


class Plan:
    """The budgets of an adaptive storage, learned from pass to pass.

    What is known is one tuple that is replaced as a whole: a pass goes by what was known when it began, however many
    others are under way.

    Parameters
    ----------
    gradient_tolerance : float
        delta.
    learns : bool
        Whether passes change it.

    Examples
    --------
    >>> plan = Plan(0.5)
    >>> plan.budgets, plan.last
    ((), None)
    >>> plan.load_state_dict(plan.state_dict())
    """

    __slots__ = ("_known", "gradient_tolerance", "learns")

    def __init__(self, gradient_tolerance: float, *, learns: bool = True) -> None:
        self.gradient_tolerance = checked_tolerance(gradient_tolerance)
        self.learns = learns
        self._known: tuple[tuple[LayerPlan, ...], PassFacts | None] = ((), None)

    def __repr__(self) -> str:
        return f"Plan(gradient_tolerance={self.gradient_tolerance!r}, budgets={self.budgets!r}, learns={self.learns})"

    @property
    def layers(self) -> tuple[LayerPlan, ...]:
        """What the next pass does with each layer, in the order of the forward pass."""
        return self._known[0]

    @property
    def budgets(self) -> tuple[float | None, ...]:
        """The most of |A|^2 that each layer may discard in the next pass; None: it is kept as it is."""
        return tuple(layer.budget for layer in self.layers)

    @property
    def last(self) -> PassFacts | None:
        """What the last pass did that was learned from; None before it, and where a state has been loaded since."""
        return self._known[1]

    def frozen(self) -> Plan:
        """Return a copy that does not learn."""
        copy = Plan(self.gradient_tolerance, learns=False)
        copy._known = self._known
        return copy

    def learn(self, layers: Sequence[LayerFacts], energy_fractions: Sequence[Sequence[Array]]) -> None:
        """Take note of a pass, and split the tolerance between its layers anew.

        The influence of a layer is the largest of the last `WINDOW` passes; those of another number of axes at its
        place are forgotten. A layer whose weight gradient was not asked for is kept as it is in the next pass. A pass
        without any weight gradient, or with one that is not finite, teaches nothing.

        Parameters
        ----------
        layers : sequence of LayerFacts
            What each layer of the pass did.
        energy_fractions : sequence of sequences of arrays
            s_ji^2 / |A|^2 of each of them, mode by mode.
        """
        facts = PassFacts(self.gradient_tolerance, tuple(layers))
        asked = [place for place, layer in enumerate(layers) if layer.upstream > 0.0 or layer.magnitude > 0.0]
        finite = all(math.isfinite(layer.upstream) and math.isfinite(layer.magnitude) for layer in layers)
        if not self.learns or not asked or not finite:
            return
        known = self.layers  # once: another pass may replace them meanwhile
        plans = [LayerPlan(len(layer.shape), None, ()) for layer in layers]
        for place in asked:
            before = known[place] if place < len(known) else None
            kept = before.influences if before is not None and before.axes == plans[place].axes else ()
            influence = _influence(layers[place], facts.magnitude)
            plans[place] = LayerPlan(plans[place].axes, None, (*kept, influence)[-WINDOW:])
        frontiers = [Frontier(layers[place].shape, energy_fractions[place]) for place in asked]
        budgets = allocate(frontiers, [self._weight(plans[place]) for place in asked])
        for place, budget in zip(asked, budgets, strict=True):
            plans[place] = LayerPlan(plans[place].axes, budget, plans[place].influences)
        self._known = (tuple(plans), facts)

    def _weight(self, layer: LayerPlan) -> float:
        """Return how much of the allowed squared error a share of |A|^2 takes that is discarded."""
        relative = max(layer.influences) * (1.0 + 1.0 / self.gradient_tolerance)
        return relative * relative if relative < LARGEST_INFLUENCE else math.inf

    def state_dict(self) -> dict[str, Array]:
        """Return what is needed to go on as if nothing had happened: four float64 and integer arrays.

        Returns
        -------
        dict of str to array
            "gradient_tolerance" (), "axes" (L,), "budgets" (L,) with -1 for None, and "influences" (L, `WINDOW`), the
            newest last, with -1 before the first.
        """
        influences = np.full((len(self.layers), WINDOW), UNKNOWN)
        for row, layer in zip(influences, self.layers, strict=True):
            row[WINDOW - len(layer.influences) :] = layer.influences
        budgets = [UNKNOWN if layer.budget is None else layer.budget for layer in self.layers]
        return {
            "gradient_tolerance": np.array(self.gradient_tolerance),
            "axes": np.array([layer.axes for layer in self.layers], np.int64),
            "budgets": np.array(budgets, np.float64),
            "influences": influences,
        }

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Go on from a state that `state_dict` returned.

        Raises
        ------
        ValueError
            Where it is not such a state, or that of another tolerance.
        """
        expected = {"gradient_tolerance", "axes", "budgets", "influences"}
        if set(state) != expected:
            raise ValueError(f"state must have the keys {sorted(expected)}, got {sorted(state)}")
        arrays = {name: np.asarray(array) for name, array in state.items()}
        tolerance, axes, budgets, influences = (
            arrays[name] for name in ("gradient_tolerance", "axes", "budgets", "influences")
        )
        shapes = {name: array.shape for name, array in arrays.items()}
        count = axes.size
        if [array.dtype.kind for array in (tolerance, axes, budgets, influences)] != ["f", "i", "f", "f"] or shapes != {
            "gradient_tolerance": (),
            "axes": (count,),
            "budgets": (count,),
            "influences": (count, WINDOW),
        }:
            came = ", ".join(f"{name} {arrays[name].dtype} {shape}" for name, shape in shapes.items())
            raise ValueError(f"state must hold a float, L integers, L floats and L x {WINDOW} floats, got {came}")
        if float(tolerance) != self.gradient_tolerance:
            raise ValueError(
                f"state must be that of gradient_tolerance {self.gradient_tolerance!r}, got {float(tolerance)!r}"
            )
        layers = []
        for length, budget, row in zip(axes.tolist(), budgets.tolist(), influences, strict=True):
            known = [influence for influence in row.tolist() if influence != UNKNOWN]
            numbers = [*known, *([] if budget == UNKNOWN else [budget])]
            if length not in (2, 3, 4) or not all(0.0 <= number < math.inf for number in numbers):
                raise ValueError(
                    f"state must hold 2, 3 or 4 axes, and budgets and influences that are {UNKNOWN} or not negative "
                    f"and finite, got {length}, {budget} and {row.tolist()}"
                )
            layers.append(LayerPlan(length, None if budget == UNKNOWN else budget, tuple(known)))
        self._known = (tuple(layers), None)


def _influence(layer: LayerFacts, magnitude: float) -> float:
    """Return c |A| / |g~|, by logarithms: none of the products may overflow or vanish."""
    if layer.upstream == 0.0 or layer.norm == 0.0:
        return 0.0
    if magnitude == 0.0:
        return LARGEST_INFLUENCE
    exponent = math.log2(layer.upstream) + math.log2(layer.norm) - math.log2(magnitude)
    return math.exp2(min(exponent, math.log2(LARGEST_INFLUENCE)))
