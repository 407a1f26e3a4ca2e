"""The picture of a comparison: records come in, accuracy against stored numbers goes out as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refgrad.training.files import write_atomically
from refgrad.training.records import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["require_matplotlib", "write_certificate_figure", "write_figure", "write_png"]

STYLES = {"exact": ("black", "o"), "svd": ("tab:orange", "s"), "hosvd": ("tab:blue", "^")}
LEGEND = "store; labels: explained variance,\ntimes fewer numbers than exact"


def require_matplotlib() -> None:
    """See that pictures can be drawn.

    Raises
    ------
    ModuleNotFoundError
        Where matplotlib is not installed; the error names the extra that brings it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the picture is drawn by matplotlib, which is not installed; "
            'install the extra that brings it: pip install "refgrad[plot]"'
        ) from error


def write_png(path: Path, figure: Figure) -> None:
    """Write a figure, whole or not at all."""
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=150))


def write_figure(path: Path, runs: Sequence[RunRecord], dataset: str) -> None:
    """Draw the test accuracy of each run against the numbers it stored, on a logarithmic axis.

    Parameters
    ----------
    path : Path
        Where the PNG goes; what is there is replaced.
    runs : sequence of RunRecord
        Those that diverged or completed no epoch are named below the picture, for they have no accuracy.
    dataset : str
        What the data are called.

    Raises
    ------
    ModuleNotFoundError
        Where matplotlib is not installed.
    """
    write_png(path, draw(runs, dataset))


def draw(runs: Sequence[RunRecord], dataset: str) -> Figure:
    """Return the figure that `write_figure` writes."""
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    for store, (color, marker) in STYLES.items():
        _draw_store(axes, [run for run in runs if run.method.store == store], store, color, marker)
    exact = next((run.test_accuracy for run in runs if run.method.store == "exact"), None)
    if exact is not None:
        axes.axhline(100 * exact, color="black", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_title(f"Training on {dataset} with compressed activations")
    axes.set_xlabel("numbers stored per step for the inputs of conv and linear layers")
    axes.set_ylabel("test accuracy in %")
    axes.grid(visible=True, which="both", linewidth=0.4, alpha=0.5)
    axes.margins(x=0.12, y=0.15)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if any(run.test_accuracy is not None for run in runs):
        axes.legend(loc="lower right", title=LEGEND, title_fontsize="small")
    missing = [f"{run.method.name} {run.status}" for run in runs if run.test_accuracy is None]
    if missing:
        figure.supxlabel(f"not shown: {', '.join(missing)}", fontsize="small", color="tab:red")
    return figure


def write_certificate_figure(path: Path, runs: Sequence[RunRecord], dataset: str) -> None:
    """Draw, step by step, how well the gradient of each run is known, and its guaranteed against its actual descent.

    Parameters
    ----------
    path : Path
        Where the PNG goes; what is there is replaced.
    runs : sequence of RunRecord
        With certificates.
    dataset : str
        What the data are called.

    Raises
    ------
    ModuleNotFoundError
        Where matplotlib is not installed.
    """
    write_png(path, draw_certificates(runs, dataset))


def draw_certificates(runs: Sequence[RunRecord], dataset: str) -> Figure:
    """Return the figure that `write_certificate_figure` writes."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 7.0), layout="constrained")
    known, descent = figure.subplots(2, 1)
    for number, run in enumerate(runs):
        color, steps = f"C{number}", range(1, len(run.certificates) + 1)
        ratios = [row.ratio if row.ratio is not None else float("nan") for row in run.certificates]
        known.plot(steps, ratios, ".", color=color, markersize=3, label=run.method.name)
        unknown = [step for step, row in zip(steps, run.certificates, strict=True) if row.ratio is None]
        known.plot(unknown, [1.0] * len(unknown), "x", color=color, markersize=3, transform=known.get_xaxis_transform())
        rows = [row for row in run.certificates if row.guaranteed_decrease is not None and row.decrease > 0.0]
        descent.plot(
            [row.guaranteed_decrease for row in rows],
            [row.decrease for row in rows],
            ".",
            color=color,
            label=f"{run.method.name}: {len(rows)} of {len(run.certificates)} steps",
        )
    known.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    known.set_yscale("log")
    known.set_title(f"Certificates of training on {dataset}")
    known.set_xlabel("step")
    known.set_ylabel("bound on |e| / |grad f|\n(x at the top: no bound)")
    known.legend(fontsize="small")
    descent.legend(fontsize="small")
    descent.set_xscale("log")
    descent.set_yscale("log")
    # Nothing may lie under this line: that is what a guarantee is.
    descent.axline((1.0, 1.0), (10.0, 10.0), color="black", linewidth=0.8, linestyle=":")
    descent.set_xlabel("guaranteed decrease of the batch's loss")
    descent.set_ylabel("actual decrease")
    for axes in (known, descent):
        axes.grid(visible=True, which="both", linewidth=0.4, alpha=0.5)
    return figure


def _draw_store(axes: Axes, runs: Sequence[RunRecord], store: str, color: str, marker: str) -> None:
    points = sorted(
        (
            (run.stored_numbers, 100 * run.test_accuracy, run)
            for run in runs
            if run.stored_numbers is not None and run.test_accuracy is not None
        ),
        key=lambda point: point[0],
    )
    if not points:
        return
    numbers, accuracies = [point[0] for point in points], [point[1] for point in points]
    axes.plot(numbers, accuracies, color=color, marker=marker, markersize=8, linewidth=1.0, label=store)
    above = store != "hosvd"  # so that the labels of two stores that lie close stay apart
    for number, accuracy, run in points:
        variance, fewer = run.method.explained_variance, run.times_fewer
        text = store
        if run.method.gradient_tolerance is not None and fewer is not None:
            text = f"tol. {run.method.gradient_tolerance:g}\n{fewer:.{0 if fewer >= 10 else 1}f}x"
        elif variance is not None and fewer is not None:
            text = f"{variance:g}\n{fewer:.{0 if fewer >= 10 else 1}f}x"
        axes.annotate(
            text,
            (number, accuracy),
            (0, 8 if above else -8),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=8,
            color=color,
        )
