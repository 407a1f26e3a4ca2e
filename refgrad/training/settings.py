"""What decides a run: how long and how it trains, and how its activations are kept.

In: numbers that somebody chose. Out: the same, known to make sense, in two frozen dataclasses: `Settings`, which runs
that are compared have in common, and `Method`, in which they differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from refgrad.arguments import explained_variance_in_range, non_negative_integer, one_of, positive_integer
from refgrad.storage import HOSVD, SVD, Exact, Storage

__all__ = ["STORES", "Method", "Settings", "methods"]

STORES = ("exact", "svd", "hosvd")
"""The ways to keep an activation that a run can choose from."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything but the data and the method that decides the numbers of a run.

    Parameters
    ----------
    epochs : int
        How often every training image is seen.
    batch_size : int
        How many images a step sees.
    learning_rate : float
        Of SGD at the first step; it falls to 0 along half a cosine.
    momentum : float
        Of SGD, in [0, 1).
    weight_decay : float
        Of SGD, at least 0.
    norm : bool
        Whether the network normalises its activations batch by batch.
    seed : int
        What the initial weights and the order of the images are drawn from.
    certify : bool
        Whether every step is certified (THEORY T16); that changes no number of the run, and takes two more forward
        passes a step, in float64.

    Raises
    ------
    TypeError, ValueError
        Where a number is not of its kind or outside its range.

    Examples
    --------
    >>> Settings(epochs=0)
    Traceback (most recent call last):
        ...
    ValueError: epochs must be at least 1, got 0
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.02
    norm: bool = True
    seed: int = 0
    certify: bool = False

    def __post_init__(self) -> None:
        positive_integer("epochs", self.epochs)
        positive_integer("batch_size", self.batch_size)
        non_negative_integer("seed", self.seed)
        if not _real("learning_rate", self.learning_rate) > 0.0:
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate!r}")
        if not 0.0 <= _real("momentum", self.momentum) < 1.0:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum!r}")
        if not _real("weight_decay", self.weight_decay) >= 0.0:
            raise ValueError(f"weight_decay must be at least 0 and finite, got {self.weight_decay!r}")


@dataclass(frozen=True, slots=True)
class Method:
    """How one run keeps the inputs of its conv and linear layers until backward.

    Parameters
    ----------
    store : str
        One of `STORES`.
    explained_variance : float or None
        The part of the energy that is kept, in (0, 1] (THEORY D1); None for ``exact``.
    gradient_tolerance : float or None
        For ``hosvd`` in place of the explained variance: the ranks follow from how far each step's gradient may be off,
        see `refgrad.HOSVD`.

    Raises
    ------
    TypeError, ValueError
        Where the store is unknown, or what it is given is missing, out of range or of no use.

    Examples
    --------
    >>> Method("hosvd", 0.8).name, Method("exact").name, Method("hosvd", gradient_tolerance=0.5).name
    ('hosvd-0.8', 'exact', 'hosvd-tolerance-0.5')
    """

    store: str
    explained_variance: float | None = None
    gradient_tolerance: float | None = None

    def __post_init__(self) -> None:
        one_of("store", self.store, STORES)
        if self.store == "exact" and self.explained_variance is not None:
            raise ValueError(f"the exact store takes no explained_variance, got {self.explained_variance!r}")
        if self.store != "hosvd" and self.gradient_tolerance is not None:
            raise ValueError(f"the {self.store} store takes no gradient_tolerance, got {self.gradient_tolerance!r}")
        if self.store != "exact" and self.explained_variance is None and self.gradient_tolerance is None:
            raise ValueError(f"the {self.store} store needs an explained_variance in (0, 1]")
        self.storage()

    @property
    def name(self) -> str:
        """What the run is called, also in the name of its checkpoint."""
        if self.gradient_tolerance is not None:
            return f"{self.store}-tolerance-{float(self.gradient_tolerance)!r}"
        return self.store if self.explained_variance is None else f"{self.store}-{float(self.explained_variance)!r}"

    def storage(self) -> Storage:
        """Return a storage for a tape; one that learns from step to step starts anew with every call."""
        if self.store == "exact":
            return Exact()
        if self.store == "svd":
            return SVD(explained_variance=self.explained_variance)
        return HOSVD(explained_variance=self.explained_variance, gradient_tolerance=self.gradient_tolerance)


def methods(
    stores: Sequence[str], explained_variances: Sequence[float], gradient_tolerances: Sequence[float] = ()
) -> tuple[Method, ...]:
    """Return every run of a comparison: the exact store once, the others once for each number that they take.

    Raises
    ------
    TypeError, ValueError
        Where a store is unknown, a number out of range, missing or of no use, or anything is given twice.

    Examples
    --------
    >>> [method.name for method in methods(["exact", "hosvd"], [0.8, 0.9])]
    ['exact', 'hosvd-0.8', 'hosvd-0.9']
    """
    for store in stores:
        one_of("store", store, STORES)
    for value in explained_variances:
        explained_variance_in_range(value)
    for name, given in (
        ("store", stores),
        ("explained_variance", explained_variances),
        ("gradient_tolerance", gradient_tolerances),
    ):
        twice = [value for i, value in enumerate(given) if value in given[:i]]
        if twice:
            raise ValueError(f"{name} {twice[0]!r} is given twice")
    if not stores:
        raise ValueError(f"store must name at least one of {', '.join(map(repr, STORES))}")
    if gradient_tolerances and "hosvd" not in stores:
        raise ValueError(
            f"gradient_tolerance {gradient_tolerances[0]!r} is of no use: it is for the store hosvd; add that, "
            "or leave it out"
        )
    compressed = [store for store in stores if store != "exact"]
    if (compressed and not explained_variances) and not (compressed == ["hosvd"] and gradient_tolerances):
        raise ValueError(f"explained_variance must be given for the {' and '.join(compressed)} store")
    if explained_variances and not compressed:
        raise ValueError(
            f"explained_variance {explained_variances[0]!r} is of no use: the exact store keeps everything; "
            "add the store svd or hosvd, or leave it out"
        )
    runs = []
    for store in stores:
        runs.extend([Method(store)] if store == "exact" else [Method(store, value) for value in explained_variances])
        if store == "hosvd":
            runs.extend(Method(store, gradient_tolerance=value) for value in gradient_tolerances)
    return tuple(runs)


def _real(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {type(value).__name__}")
    return float(value) if math.isfinite(value) else math.nan
