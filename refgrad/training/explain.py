"""How bounds and truth compare on a network, over the explained variance.

In: the digits network after some training, and a batch. Out: for every explained variance the error of the weight
gradients, the three bounds on it and what is guaranteed (THEORY T11-T13, T16), as a table and a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refgrad.arguments import Array
from refgrad.bounds import GradientBound, network_bound, weight_gradient_bound
from refgrad.convergence import weight_of
from refgrad.convergence.outward import distance_above, norm_below
from refgrad.functional import cross_entropy
from refgrad.nn import Module
from refgrad.storage import HOSVD, SVD, Exact, Storage
from refgrad.storage.exact import Dense
from refgrad.tape import Record, Tape
from refgrad.training.figure import require_matplotlib, write_png
from refgrad.training.step import compressed_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["VARIANCES", "BoundRow", "bounds_against_variance", "draw_bounds", "write_bounds_figure"]

VARIANCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999, 0.999999, 1.0)
"""At which explained variances bounds and truth are compared."""

PROVEN = ("a_priori", "a_posteriori", "exact")
"""The grades that are compared, the weakest first."""

STORAGES: dict[str, Callable[[float], Storage]] = {"svd": SVD, "hosvd": HOSVD}


@dataclass(frozen=True, slots=True)
class BoundRow:
    """What is known of the weight gradients at one explained variance; norms over all conv and linear layers.

    Parameters
    ----------
    explained_variance : float
        Eps.
    stored_numbers : int
        What is kept of the layers' inputs.
    error : float
        |dW - dW~|, measured.
    exact, a_posteriori, a_priori : float
        The bounds on it, with rounding: from A - A~ itself, from the discarded energies, from eps alone.
    gradient_norm : float
        |dW|, of exact backpropagation.
    compressed_norm : float
        |dW~|: from half of it on, a bound guarantees nothing.
    """

    explained_variance: float
    stored_numbers: int
    error: float
    exact: float
    a_posteriori: float
    a_priori: float
    gradient_norm: float
    compressed_norm: float

    @property
    def guarantee(self) -> str | None:
        """The weakest grade that certifies the step, eta/2 n (n - 2 b) > 0 (THEORY T16); None where none does."""
        for grade in PROVEN:
            if 2.0 * getattr(self, grade) < self.compressed_norm:
                return grade
        return None


def bounds_against_variance(
    model: Module, images: Array, labels: Array, store: str, variances: Sequence[float] = VARIANCES
) -> Iterator[BoundRow]:
    """Measure the error of a batch's weight gradients and bound it, for one explained variance after another.

    Parameters
    ----------
    model : Module
        In training mode; neither parameters nor running statistics are moved.
    images : array (B, C, H, W)
        The batch.
    labels : integer array (B,)
        The class of each image.
    store : {"svd", "hosvd"}
        How the inputs of conv and linear layers are kept.
    variances : sequence of float
        Each in (0, 1].

    Yields
    ------
    BoundRow
        One for each.

    Raises
    ------
    ValueError
        Where the store is unknown or an explained variance out of range.
    """
    if store not in STORAGES:
        raise ValueError(f"store must be one of {', '.join(map(repr, STORAGES))}, got {store!r}")
    storages = [STORAGES[store](value) for value in variances]
    names = compressed_weights(model)
    activations: dict[str, Array] = {}

    def keep(name: str, record: Record, grad_output: Array) -> None:
        assert record.kept_activation is not None
        stored = record.kept_activation.stored
        assert isinstance(stored, Dense)
        activations[name] = stored.array

    exact, _ = _weight_gradients(model, images, labels, Exact(), names, keep)
    for value, storage in zip(variances, storages, strict=True):
        bounds: list[GradientBound] = []

        def bound(name: str, record: Record, grad_output: Array, bounds: list[GradientBound] = bounds) -> None:
            geometry = getattr(record.saved, "geometry", None)
            assert record.kept_activation is not None
            bounds.append(
                weight_gradient_bound(record.kept_activation, grad_output, geometry, activation=activations[name])
            )

        compressed, numbers = _weight_gradients(model, images, labels, storage, names, bound)
        together = network_bound(bounds)
        totals = {grade: together.total(grade) for grade in PROVEN}
        yield BoundRow(
            explained_variance=value,
            stored_numbers=numbers,
            error=distance_above(exact, compressed),
            gradient_norm=norm_below(exact),
            compressed_norm=norm_below(compressed),
            **{grade: math.inf if total is None else total for grade, total in totals.items()},
        )


def _weight_gradients(
    model: Module,
    images: Array,
    labels: Array,
    storage: Storage,
    names: Sequence[str],
    look: Callable[[str, Record, Array], None],
) -> tuple[dict[str, Array], int]:
    """Return the gradients of the named weights, and how many numbers were stored; `look` sees every layer."""
    with Tape(store=storage) as tape:
        parameters = model.watch(tape)
        labelled = {tensor.index: name for name, tensor in parameters.items()}
        loss = cross_entropy(model.apply(parameters, images, update_state=False), labels)
    numbers = 0

    def observe(record: Record, grad_output: Array) -> None:
        nonlocal numbers
        name = weight_of(record, labelled)
        assert name is not None
        assert record.kept_activation is not None
        numbers += record.kept_activation.stored.stored_numbers
        look(name, record, grad_output)

    gradients = tape.gradient(loss, {name: parameters[name] for name in names}, observe=observe)
    return gradients, numbers


def write_bounds_figure(path: Path, rows: Sequence[BoundRow], store: str) -> None:
    """Draw the rows.

    Parameters
    ----------
    path : Path
        Where the PNG goes; what is there is replaced.
    rows : sequence of BoundRow
        What `bounds_against_variance` gave.
    store : str
        How the activations were kept.

    Raises
    ------
    ModuleNotFoundError
        Where matplotlib is not installed.
    """
    write_png(path, draw_bounds(rows, store))


def draw_bounds(rows: Sequence[BoundRow], store: str) -> Figure:
    """Return the figure that `write_bounds_figure` writes: all over |dW|, against the energy that is lost."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yscale("log")
    places = np.arange(len(rows))
    lines = {
        "a_priori": ("a-priori, from the explained variance", "tab:red"),
        "a_posteriori": ("a-posteriori, from what was discarded", "tab:orange"),
        "exact": ("from A - A~ itself", "tab:green"),
        "error": ("the error, measured", "tab:blue"),
    }
    for field, (label, color) in lines.items():
        values = [getattr(row, field) / row.gradient_norm for row in rows]
        axes.plot(places, values, marker="o", markersize=4, color=color, label=label)
    threshold = [row.compressed_norm / row.gradient_norm / 2.0 for row in rows]
    axes.fill_between(
        places, threshold, 1e-12, color="tab:gray", alpha=0.2, label="a bound in here certifies descent (T16)"
    )
    axes.set_ylim(bottom=min(max(row.error / row.gradient_norm, 1e-9) for row in rows) / 2.0)
    axes.set_xticks(places, [f"{row.explained_variance:g}" for row in rows], rotation=45)
    axes.set_xlabel("explained variance")
    axes.set_ylabel("|dW - dW~| / |dW|")
    axes.set_title(f"Gradient error of the digits network with {store}, and what bounds it")
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    axes.legend(fontsize="small")
    return figure
