"""A run on disk: everything that it takes to go on, bit for bit, as if it had never stopped.

In: the state of a run. Out: one .npz file without pickle, with a header in JSON; and back, or an error that says what
is wrong with the file or which of its settings are not those that were asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from refgrad.arguments import Array, non_negative_integer, one_of
from refgrad.nn.files import load_arrays, save_arrays
from refgrad.training.certification import StepCertificate
from refgrad.training.records import EpochRecord, versions
from refgrad.training.settings import Method, Settings

__all__ = ["CHECKPOINT_FORMAT", "Checkpoint", "CheckpointError", "Totals", "checkpoint_path"]

CHECKPOINT_FORMAT = "refgrad-training-checkpoint/2"
STATUSES = ("running", "finished", "diverged")
HEADER, MODEL, OPTIMIZER, PLAN = "header", "model/", "optimizer/", "plan/"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to a run with other settings."""


@dataclass(slots=True)
class Totals:
    """What the steps of one epoch add up to, so far.

    Parameters
    ----------
    images : int
        How many images were seen.
    loss : float
        The sum of their losses.
    exact_numbers, stored_numbers, layer_bytes, held_bytes : int
        Sums over the steps.
    stored_numbers_peak, held_bytes_peak : int
        The largest of a step.
    gradient_error, gradient_bound, gradient_rounding : float or None
        Of the measured step; None before it.
    seconds : float
        How long the steps took.
    """

    images: int = 0
    loss: float = 0.0
    exact_numbers: int = 0
    stored_numbers: int = 0
    stored_numbers_peak: int = 0
    layer_bytes: int = 0
    held_bytes: int = 0
    held_bytes_peak: int = 0
    gradient_error: float | None = None
    gradient_bound: float | None = None
    gradient_rounding: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The state of a run after some step.

    Parameters
    ----------
    dataset, fingerprint : str
        Name and `refgrad.datasets.Dataset.fingerprint` of the data.
    method : Method
        How activations are kept.
    settings : Settings
        Everything else that was chosen.
    status : str
        ``"running"``, ``"finished"`` or ``"diverged"``.
    epoch, step : int
        How many epochs are complete, and how many steps of the next one.
    totals : Totals
        Of the epoch that is not complete.
    epochs : tuple of EpochRecord
        Of those that are.
    certificates : tuple of StepCertificate
        Of all steps that are done, where the run is certified.
    model, optimizer : dict of str to array
        Their state dicts.
    plan : dict of str to array
        That of a storage that learns from step to step; empty for others.
    """

    dataset: str
    fingerprint: str
    method: Method
    settings: Settings
    status: str
    epoch: int
    step: int
    totals: Totals
    epochs: tuple[EpochRecord, ...]
    certificates: tuple[StepCertificate, ...]
    model: Mapping[str, Array]
    optimizer: Mapping[str, Array]
    plan: Mapping[str, Array]

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all, in place of an older one.

        Raises
        ------
        ValueError
            Where the file cannot be written.
        """
        header = {
            "format": CHECKPOINT_FORMAT,
            "versions": versions(),
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "method": asdict(self.method),
            "settings": asdict(self.settings),
            "status": self.status,
            "epoch": self.epoch,
            "step": self.step,
            "totals": asdict(self.totals),
            "epochs": [asdict(record) for record in self.epochs],
            "certificates": [asdict(certificate) for certificate in self.certificates],
        }
        text = json.dumps(header, allow_nan=False).encode()
        arrays = {HEADER: np.frombuffer(text, np.uint8)}
        arrays |= {MODEL + name: array for name, array in self.model.items()}
        arrays |= {OPTIMIZER + name: array for name, array in self.optimizer.items()}
        arrays |= {PLAN + name: array for name, array in self.plan.items()}
        save_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint; nothing in the file is ever run.

        Raises
        ------
        CheckpointError
            Where the file cannot be read, is damaged, or holds something else.
        """
        try:
            arrays = load_arrays(path)
        except ValueError as error:
            raise CheckpointError(f"{path} is no checkpoint that can be read: {error}") from error
        if HEADER not in arrays or arrays[HEADER].dtype != np.uint8:
            raise CheckpointError(f"{path} is no checkpoint of a training run: it holds no header")
        try:
            header = json.loads(arrays[HEADER].tobytes())
            return cls._from_header(header, arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path} is no checkpoint of a training run: {_reason(error)}") from error

    @classmethod
    def _from_header(cls, header: dict[str, Any], arrays: Mapping[str, Array]) -> Checkpoint:
        if header["format"] != CHECKPOINT_FORMAT:
            raise ValueError(f"its format is {header['format']!r}, and this version reads {CHECKPOINT_FORMAT!r}")
        return cls(
            dataset=header["dataset"],
            fingerprint=header["fingerprint"],
            method=Method(**header["method"]),
            settings=Settings(**header["settings"]),
            status=one_of("status", header["status"], STATUSES),
            epoch=non_negative_integer("epoch", header["epoch"]),
            step=non_negative_integer("step", header["step"]),
            totals=Totals(**header["totals"]),
            epochs=tuple(EpochRecord(**record) for record in header["epochs"]),
            certificates=tuple(StepCertificate(**certificate) for certificate in header["certificates"]),
            model=_below(MODEL, arrays),
            optimizer=_below(OPTIMIZER, arrays),
            plan=_below(PLAN, arrays),
        )

    def check_same_run(self, path: Path, fingerprint: str, method: Method, settings: Settings) -> None:
        """Refuse to go on with other data, another method or other settings than those of the checkpoint.

        Raises
        ------
        CheckpointError
            Names everything that differs.
        """
        pairs = [
            (field.name, getattr(self.settings, field.name), getattr(settings, field.name))
            for field in fields(settings)
        ]
        pairs += [
            (field.name, getattr(self.method, field.name), getattr(method, field.name)) for field in fields(method)
        ]
        differences = [f"{name} is {here!r}, but {there!r} there" for name, there, here in pairs if there != here]
        if self.fingerprint != fingerprint:
            differences.append("the data are not those of the checkpoint")
        if differences:
            raise CheckpointError(
                f"{path} is of a run with other settings: {'; '.join(differences)}; "
                "resume with the settings it was started with, or start over without resuming"
            )


def checkpoint_path(folder: Path, method: Method) -> Path:
    """Return where the checkpoint of a run lies."""
    return folder / f"checkpoint-{method.name}.npz"


def _below(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _reason(error: Exception) -> str:
    return f"its header has no {error}" if isinstance(error, KeyError) else str(error)
