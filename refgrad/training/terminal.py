"""What a terminal shows of training: runs under way come in, a progress bar and tables go out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from refgrad.training.certification import certified_counts, spoilers
from refgrad.training.explain import BoundRow
from refgrad.training.loop import Run
from refgrad.training.records import EpochRecord, RunRecord

__all__ = [
    "TerminalReporter",
    "bounds_table",
    "certificate_table",
    "certificate_text",
    "epoch_table",
    "status_text",
    "summary_table",
]

EPOCH_COLUMNS = (
    "epoch",
    "loss",
    "test\naccuracy",
    "numbers\nstored",
    "times\nfewer",
    "bytes\nheld",
    "gradient\nerror",
    "bound",
)
SUMMARY_COLUMNS = (
    "store",
    "variance or\ntolerance",
    "test\naccuracy",
    "numbers\nstored",
    "times\nfewer",
    "gradient\nerror",
    "bound",
    "seconds",
)
CERTIFIED_COLUMNS = (
    "run",
    "test\naccuracy",
    "numbers\nstored",
    "times\nfewer",
    "gradients\ncertified",
    "steps\ncertified",
)


class TerminalReporter:
    """Shows each run as a table that grows by a row an epoch, with a progress bar below it.

    Parameters
    ----------
    console : rich.console.Console
        Where it is shown; where that is no terminal, a table comes when its run stops.
    count : int
        How many runs there will be.
    """

    def __init__(self, console: Console, count: int) -> None:
        self.console, self.count = console, count
        self._started = 0
        self._stack = ExitStack()

    def run_started(self, run: Run) -> None:
        """Show the epochs that are there already, and the bar."""
        self._started += 1
        self._title = f"{run.method.name} ({self._started} of {self.count})"
        self._records = list(run.epochs)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task: TaskID = self._progress.add_task("", total=run.total_steps, completed=run.steps_done)
        self._live = Live(self._view(), console=self.console, refresh_per_second=8, transient=True)
        if self.console.is_terminal:
            self._stack.enter_context(self._live)

    def step_taken(self, run: Run, loss: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=run.steps_done, description=f"loss {loss:.3f}")

    def epoch_finished(self, run: Run, record: EpochRecord) -> None:
        """Add a row."""
        self._records.append(record)
        self._live.update(self._view())

    def run_stopped(self, run: Run) -> None:
        """Leave the table, without the bar; and say where a run stopped that is not finished."""
        self._stack.close()
        self.console.print(epoch_table(self._title, self._records))
        if run.status == "diverged":
            self.console.print(f"{run.method.name}: [red]{status_text(run.record())}[/red]", highlight=False)

    def _view(self) -> Group:
        return Group(epoch_table(self._title, self._records), self._progress)


def epoch_table(title: str, records: Sequence[EpochRecord]) -> Table:
    """Return the table of one run, a row for each epoch."""
    table = _table(title, EPOCH_COLUMNS)
    for record in records:
        table.add_row(
            str(record.epoch),
            f"{record.loss:.4f}",
            _percent(record.test_accuracy),
            _count(record.stored_numbers),
            _fewer(record.times_fewer),
            _count(record.held_bytes),
            _small(record.gradient_error),
            _small(record.gradient_bound),
        )
    return table


def summary_table(runs: Sequence[RunRecord]) -> Table:
    """Return the table that sets the runs side by side."""
    table = _table("side by side", SUMMARY_COLUMNS)
    for run in runs:
        variance, tolerance = run.method.explained_variance, run.method.gradient_tolerance
        table.add_row(
            run.method.store,
            f"{variance:g}" if variance is not None else "" if tolerance is None else f"tol. {tolerance:g}",
            _percent(run.test_accuracy) if run.status == "finished" else _narrow(status_text(run)),
            _count(run.stored_numbers),
            _fewer(run.times_fewer),
            _small(run.gradient_error),
            _small(run.gradient_bound),
            f"{run.seconds:.1f}",
        )
    return table


def certificate_table(runs: Sequence[RunRecord]) -> Table:
    """Return the table of what was certified: of how many steps the gradient (THEORY T17), and the descent (T16)."""
    table = _table("certificates", CERTIFIED_COLUMNS)
    for run in runs:
        of = len(run.certificates)
        table.add_row(
            run.method.name,
            _percent(run.test_accuracy) if run.status == "finished" else _narrow(status_text(run)),
            _count(run.stored_numbers),
            _fewer(run.times_fewer),
            *(f"{count} of {of}" for count in certified_counts(run.certificates)),
        )
    return table


def certificate_text(run: RunRecord) -> str:
    """Say what kept steps of a run from being certified, and whether a tolerance was met."""
    lines = []
    tolerance = run.method.gradient_tolerance
    if tolerance is not None:
        ratios = [math.inf if row.ratio is None else row.ratio for row in run.certificates]
        met = sum(ratio <= tolerance for ratio in ratios)
        lines.append(f"the tolerance {tolerance:g} was met by {met} steps, the largest ratio is {max(ratios):.3g}")
    missing = [f"{name} ({count})" for name, count in spoilers(run.certificates)]
    if missing:
        lines.append(f"not certified because of {', '.join(missing)}")
    return f"{run.method.name}: {'; '.join(lines) or 'every step is certified'}"


def bounds_table(rows: Sequence[BoundRow], store: str) -> Table:
    """Return the table of `bounds_against_variance`: everything over |dW|, and what is guaranteed.

    The bounds are called after what they come from: E = A - A~, the energies tau that were discarded, eps.
    """
    called = {"exact": "from E", "a_posteriori": "from tau", "a_priori": "from eps", None: "nothing"}
    columns = ("explained\nvariance", "numbers\nstored", "error", "bound\nfrom E", "bound\nfrom tau", "bound\nfrom eps")
    table = _table(f"{store}: |dW - dW~| / |dW| on the digits network", (*columns, "descent\ncertified"))
    for row in rows:
        values = (row.error, row.exact, row.a_posteriori, row.a_priori)
        table.add_row(
            f"{row.explained_variance:g}",
            _count(row.stored_numbers),
            *(_small(value / row.gradient_norm) for value in values),
            called[row.guarantee],
        )
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "store" else "right")
    return table


def status_text(run: RunRecord) -> str:
    """Say where a run stopped that is not finished, as in ``diverged at step 3 of epoch 1``."""
    if run.stopped_at is None:
        return run.status
    epoch, step = run.stopped_at
    return f"{run.status} at step {step} of epoch {epoch}"


def _narrow(status: str) -> str:
    """Break ``diverged at step 3 of epoch 1`` into lines that fit a column of numbers."""
    return "[red]" + status.replace(" at ", "\nat ").replace(" of ", "\nof ") + "[/red]"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _fewer(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
