"""Several runs side by side, from the same weights and on the same batches.

In: data, methods, settings and a folder. Out: records, and in the folder JSON, a picture and a checkpoint for each run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from refgrad.datasets import Dataset
from refgrad.training.checkpoint import CheckpointError, checkpoint_path
from refgrad.training.figure import write_certificate_figure, write_figure
from refgrad.training.files import prepare_folder
from refgrad.training.loop import Reporter, Run
from refgrad.training.records import RunRecord, results_document, write_results
from refgrad.training.settings import Method, Settings

__all__ = ["CERTIFICATES", "FIGURE", "RESULTS", "prepare_runs", "train_side_by_side"]

RESULTS = "results.json"
FIGURE = "accuracy_against_memory.png"
CERTIFICATES = "certificates.png"


def prepare_runs(
    dataset: Dataset, methods: Sequence[Method], settings: Settings, folder: Path, *, resume: bool = False
) -> list[Run]:
    """Return a run for each method, and see that what they give can be written; nothing is computed yet.

    Parameters
    ----------
    dataset : Dataset
        What to train with and test on.
    methods : sequence of Method
        One run each.
    settings : Settings
        What the runs have in common.
    folder : Path
        Where the files will go; it is made where it does not exist.
    resume : bool
        Whether to go on from the checkpoints in the folder; otherwise they are removed. Runs without a checkpoint
        start from the beginning.

    Raises
    ------
    OSError
        Where the folder cannot be written into.
    CheckpointError
        Where there is nothing to resume, or a checkpoint is not one of this run.
    """
    prepare_folder(folder)
    runs = [Run(dataset, method, settings) for method in methods]
    if not resume:
        for run in runs:
            checkpoint_path(folder, run.method).unlink(missing_ok=True)
        return runs
    found = [run for run in runs if checkpoint_path(folder, run.method).exists()]
    if not found:
        names = ", ".join(run.method.name for run in runs)
        raise CheckpointError(f"there is nothing to resume: {folder} holds no checkpoint of {names}")
    for run in found:
        run.resume(checkpoint_path(folder, run.method))
    return runs


def train_side_by_side(
    runs: Sequence[Run],
    folder: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    reporter: Reporter | None = None,
    arguments: Sequence[str] = (),
) -> list[RunRecord]:
    """Train one run after another.

    Into the folder go ``results.json``, ``accuracy_against_memory.png`` and, where the runs are certified,
    ``certificates.png``, anew after every run, and a checkpoint for each run, anew after every epoch.

    Parameters
    ----------
    runs : sequence of Run
        As `prepare_runs` returns them; one that is finished already is not run again.
    folder : Path
        Where the files go.
    should_stop : callable
        Asked after every step; when it answers True a checkpoint is written and nothing more is run.
    reporter : Reporter, optional
        Is told how it goes.
    arguments : sequence of str
        The command line that asked for it, for the JSON document.

    Returns
    -------
    list of RunRecord
        One for each run that was begun.
    """
    records: list[RunRecord] = []
    for run in runs:
        if should_stop():
            break
        record = run.train(checkpoint=checkpoint_path(folder, run.method), should_stop=should_stop, reporter=reporter)
        records.append(record)
        data = run.dataset
        document = results_document(records, run.settings, data.name, data.fingerprint(), arguments)
        write_results(folder / RESULTS, document)
        write_figure(folder / FIGURE, records, data.name)
        if run.settings.certify:
            write_certificate_figure(folder / CERTIFICATES, records, data.name)
        if record.status == "interrupted":
            break
    return records
