"""One run at a terminal: load the target, show the progress, print the report, write the JSON.

In: what was typed. Out: the exit code.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from refgrad.oracle.report import not_run_json
from refgrad.oracle.run import Check
from refgrad.oracle.target import TargetError, load_target

__all__ = ["INTERRUPTED", "TARGET_FAILED", "WRONG_USAGE", "run_check"]

WRONG_USAGE = 2
TARGET_FAILED = 3
INTERRUPTED = 130


def run_check(target: str, *, cases: int, seed: int, json_file: Path | None) -> int:
    """Judge a target at the terminal.

    Parameters
    ----------
    target : str
        As `load_target` takes it.
    cases, seed : int
        How many generated cases, and what they follow from.
    json_file : Path, optional
        Where the JSON goes; that it can be written is found out before anything runs.

    Returns
    -------
    int
        0, 1 (see `Report.exit_code`), 2 for a file that cannot be written, 3 for a target that could not be run, 130
        after Ctrl-C.
    """
    console, errors = Console(), Console(stderr=True)
    created = False
    if json_file is not None:
        created = not json_file.exists()
        try:
            with json_file.open("a"):  # what is in it stays until there is something to put in its place
                pass
        except OSError as error:
            _say(errors, f"--json: {json_file} cannot be written: {error.strerror or error}")
            return WRONG_USAGE
    try:
        run = Check(load_target(target), cases=cases, seed=seed, name=target)
    except TargetError as error:
        _say(errors, f"the target could not be run: {error}")
        if json_file is not None:
            json_file.write_text(not_run_json(target, seed, str(error)))
        return TARGET_FAILED
    except KeyboardInterrupt:
        if json_file is not None and created:
            json_file.unlink()
        _say(errors, "interrupted while the target was being imported")
        return INTERRUPTED
    interrupted = _follow(run, errors)
    report = run.report()
    report.print(console)
    if json_file is not None:
        json_file.write_text(report.to_json())
    return INTERRUPTED if interrupted else report.exit_code


def _follow(run: Check, console: Console) -> bool:
    """Run to the end under a progress bar; return whether somebody pressed Ctrl-C."""
    columns = (
        TextColumn("judging"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        try:
            for step in run:
                progress.update(task, total=step.total, completed=step.done, description=step.doing)
        except KeyboardInterrupt:
            return True
    return False


def _say(console: Console, text: str) -> None:
    console.print(text, style="bold red", markup=False, highlight=False, soft_wrap=True)
