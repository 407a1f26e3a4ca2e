"""What a run leaves behind in numbers: one record an epoch, one a run, and the JSON document that holds them all.

In: what the loop measured. Out: frozen dataclasses that go to JSON and come back without losing a bit.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from refgrad import __version__
from refgrad.training.certification import StepCertificate, certified_counts
from refgrad.training.files import write_atomically
from refgrad.training.settings import Method, Settings

__all__ = ["RESULTS_SCHEMA", "EpochRecord", "RunRecord", "results_document", "versions", "write_results"]

RESULTS_SCHEMA = "refgrad-training-results/2"
"""The name and version of the JSON document; docs/training.md describes it field by field."""


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What was seen in one epoch.

    Parameters
    ----------
    epoch : int
        Which one, from 1.
    steps : int
        How many steps it had.
    loss : float
        The mean training loss of its images, each at the step that saw it.
    test_accuracy : float
        The part of the test images that were classified rightly after it, in 0..1.
    exact_numbers : float
        How many numbers the inputs of the conv and linear layers have, on average over the steps.
    stored_numbers : float
        How many were kept of them by the paper's count (THEORY D2, D3), on average over the steps.
    stored_numbers_peak : int
        The most that a step kept.
    layer_bytes : float
        The bytes that these numbers really took, on average over the steps.
    held_bytes : float
        The bytes that the tape really held after the forward pass, on average over the steps: layer inputs, normalised
        activations, masks, indices and whatever else backward needs.
    held_bytes_peak : int
        The most that a step held.
    gradient_error : float or None
        |dW - dW~| / |dW| over the weights of all conv and linear layers, dW that of exact backpropagation from the same
        parameters and the same batch, at the measured step; None where dW is 0.
    gradient_bound : float or None
        The a-posteriori bound on it (THEORY T12, T13), over the same |dW|; None where dW is 0.
    gradient_rounding : float or None
        By how much the error, as computed, can be over the bound for rounding alone (THEORY T15); None where dW is 0.
    measured_step : int
        The step, from 1, at which the two were measured.
    seconds : float
        How long the training steps took; measuring and testing are not counted. No run repeats this one.
    """

    epoch: int
    steps: int
    loss: float
    test_accuracy: float
    exact_numbers: float
    stored_numbers: float
    stored_numbers_peak: int
    layer_bytes: float
    held_bytes: float
    held_bytes_peak: int
    gradient_error: float | None
    gradient_bound: float | None
    gradient_rounding: float | None
    measured_step: int
    seconds: float

    @property
    def times_fewer(self) -> float:
        """How many times fewer numbers were kept than the layer inputs have."""
        return self.exact_numbers / self.stored_numbers

    def without_time(self) -> EpochRecord:
        """Return the record with `seconds` at 0: what two runs with the same settings share bit for bit."""
        return replace(self, seconds=0.0)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What was seen in one run.

    Parameters
    ----------
    method : Method
        How it kept its activations.
    status : str
        ``"finished"``, ``"interrupted"`` or ``"diverged"``.
    epochs : tuple of EpochRecord
        The epochs that were completed.
    stopped_at : (int, int) or None
        Epoch and step, both from 1, at which an interrupted or diverged run stopped: the last step that was done, or
        the one whose loss or gradient was not finite.
    certificates : tuple of StepCertificate
        One for each step that was done, where they were asked for.
    """

    method: Method
    status: str
    epochs: tuple[EpochRecord, ...]
    stopped_at: tuple[int, int] | None = None
    certificates: tuple[StepCertificate, ...] = ()

    @property
    def test_accuracy(self) -> float | None:
        """The test accuracy after the last epoch; None where the run diverged or completed none."""
        return self.epochs[-1].test_accuracy if self.epochs and self.status != "diverged" else None

    @property
    def exact_numbers(self) -> float | None:
        """How many numbers the layer inputs have, on average over all steps."""
        return self._mean("exact_numbers")

    @property
    def stored_numbers(self) -> float | None:
        """How many numbers were kept, on average over all steps."""
        return self._mean("stored_numbers")

    @property
    def layer_bytes(self) -> float | None:
        """How many bytes these numbers took, on average over all steps."""
        return self._mean("layer_bytes")

    @property
    def held_bytes(self) -> float | None:
        """How many bytes the tape held, on average over all steps."""
        return self._mean("held_bytes")

    @property
    def times_fewer(self) -> float | None:
        """How many times fewer numbers were kept than the layer inputs have."""
        exact, stored = self.exact_numbers, self.stored_numbers
        return None if exact is None or stored is None else exact / stored

    @property
    def gradient_error(self) -> float | None:
        """The relative gradient error, on average over the epochs."""
        return self._mean("gradient_error", by_step=False)

    @property
    def gradient_bound(self) -> float | None:
        """The bound on the relative gradient error, on average over the epochs."""
        return self._mean("gradient_bound", by_step=False)

    @property
    def seconds(self) -> float:
        """How long the steps of its completed epochs took."""
        return sum(record.seconds for record in self.epochs)

    def _mean(self, field: str, *, by_step: bool = True) -> float | None:
        measured = [record for record in self.epochs if getattr(record, field) is not None]
        if not measured:
            return None
        weights = [record.steps if by_step else 1 for record in measured]
        total = sum(weight * getattr(record, field) for weight, record in zip(weights, measured, strict=True))
        return float(total / sum(weights))

    def _certified(self) -> dict[str, int] | None:
        if not self.certificates:
            return None
        gradients, steps = certified_counts(self.certificates)
        return {"of": len(self.certificates), "gradients": gradients, "steps": steps}

    def to_json(self) -> dict[str, Any]:
        """Return the run as the results document holds it."""
        return {
            "name": self.method.name,
            "store": self.method.store,
            "explained_variance": self.method.explained_variance,
            "gradient_tolerance": self.method.gradient_tolerance,
            "status": self.status,
            "stopped_at": None
            if self.stopped_at is None
            else dict(zip(("epoch", "step"), self.stopped_at, strict=True)),
            "summary": {
                "test_accuracy": self.test_accuracy,
                "exact_numbers": self.exact_numbers,
                "stored_numbers": self.stored_numbers,
                "times_fewer": self.times_fewer,
                "layer_bytes": self.layer_bytes,
                "held_bytes": self.held_bytes,
                "gradient_error": self.gradient_error,
                "gradient_bound": self.gradient_bound,
                "seconds": self.seconds,
            },
            "certified": self._certified(),
            "epochs": [asdict(record) for record in self.epochs],
            "certificates": [asdict(certificate) for certificate in self.certificates],
        }


def versions() -> dict[str, str]:
    """Return what the numbers depend on next to the settings: versions of refgrad, Python, NumPy and SciPy."""
    return {
        "refgrad": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": importlib.metadata.version("scipy"),
        "machine": platform.machine(),
    }


def results_document(
    runs: Sequence[RunRecord], settings: Settings, dataset: str, fingerprint: str, arguments: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the document that describes several runs side by side.

    Parameters
    ----------
    runs : sequence of RunRecord
        What was run, in order.
    settings : Settings
        What the runs have in common.
    dataset, fingerprint : str
        What the data are called, and their `refgrad.datasets.Dataset.fingerprint`.
    arguments : sequence of str
        The command line that asked for it, where there was one.
    """
    return {
        "schema": RESULTS_SCHEMA,
        "versions": versions(),
        "arguments": list(arguments),
        "dataset": {"name": dataset, "fingerprint": fingerprint},
        "seed": settings.seed,
        "settings": asdict(settings),
        "runs": [run.to_json() for run in runs],
    }


def write_results(path: Path, document: dict[str, Any]) -> None:
    """Write a results document as JSON, whole or not at all."""
    text = json.dumps(document, indent=2, allow_nan=False)

    def write(file: BinaryIO) -> None:
        file.write(text.encode() + b"\n")

    write_atomically(path, write)
