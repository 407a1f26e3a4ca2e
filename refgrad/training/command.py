"""The command ``refgrad train``: options as they were typed come in, an exit code goes out.

Exit codes: 0 the runs are done, 2 wrong usage, 130 stopped by Ctrl-C with a checkpoint to go on from.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console

from refgrad.datasets import load
from refgrad.training.figure import require_matplotlib
from refgrad.training.interruption import Interruption
from refgrad.training.settings import STORES, Settings, methods
from refgrad.training.side_by_side import FIGURE, RESULTS, prepare_runs, train_side_by_side
from refgrad.training.terminal import TerminalReporter, status_text, summary_table

__all__ = ["DATASET", "DEFAULT_EXPLAINED_VARIANCE", "SCALING", "command_line", "train_command"]

DATASET = "digits"
SCALING = "standard"
DEFAULT_EXPLAINED_VARIANCE = 0.9
DONE, USAGE, INTERRUPTED = 0, 2, 130


def train_command(
    *,
    stores: Sequence[str],
    explained_variances: Sequence[float],
    folder: Path,
    resume: bool,
    **settings: Any,
) -> int:
    """Train, show how it goes, and write the results.

    Parameters
    ----------
    stores : sequence of str
        As typed; where there are none, all.
    explained_variances : sequence of float
        As typed; where there are none, `DEFAULT_EXPLAINED_VARIANCE`.
    folder : Path
        Where results, picture and checkpoints go.
    resume : bool
        Whether to go on from the checkpoints there.
    **settings
        The fields of `Settings`.

    Returns
    -------
    int
        The exit code. What is wrong with an option is said on standard error.
    """
    console, errors = Console(), Console(stderr=True)
    try:
        chosen = Settings(**settings)
        compressed = not stores or any(store != "exact" for store in stores)
        compared = methods(
            stores or STORES, explained_variances or ([DEFAULT_EXPLAINED_VARIANCE] if compressed else [])
        )
        require_matplotlib()
        dataset = load(DATASET, seed=chosen.seed, scaling=SCALING)
        runs = prepare_runs(dataset, compared, chosen, folder, resume=resume)
    except (OSError, TypeError, ValueError, ModuleNotFoundError) as error:
        errors.print(f"refgrad train: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return USAGE
    line = command_line(stores, explained_variances, folder, chosen)
    with Interruption() as interrupted:
        records = train_side_by_side(
            runs,
            folder,
            should_stop=interrupted,
            reporter=TerminalReporter(console, len(runs)),
            arguments=[*line, "--resume"] if resume else line,
        )
    stopped = len(records) < len(runs) or records[-1].status == "interrupted"
    console.print(summary_table(records))
    console.print(f"Results: {folder / RESULTS}, picture: {folder / FIGURE}", highlight=False, soft_wrap=True)
    if not stopped:
        return DONE
    last = f"{records[-1].method.name} {status_text(records[-1])}" if records else "before the first step"
    console.print(
        f"Stopped by Ctrl-C: {last}. Nothing that was computed is lost; go on with\n"
        f"  {shlex.join([*line, '--resume'])}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return INTERRUPTED


def command_line(
    stores: Sequence[str], explained_variances: Sequence[float], folder: Path, settings: Settings
) -> list[str]:
    """Return the words that ask for the same runs; options that are as by default are left out.

    Examples
    --------
    >>> " ".join(command_line(["hosvd"], [0.8], Path("runs"), Settings(epochs=2, norm=False)))
    'refgrad train --store hosvd --explained-variance 0.8 --epochs 2 --no-norm --out runs'
    """
    words = ["refgrad", "train"]
    for store in stores:
        words += ["--store", store]
    for value in explained_variances:
        words += ["--explained-variance", repr(value)]
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value == field.default:
            continue
        words += ["--no-norm"] if field.name == "norm" else [f"--{field.name.replace('_', '-')}", repr(value)]
    return [*words, "--out", str(folder)]
