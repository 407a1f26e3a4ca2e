"""The training loop: one run, step by step, that can stop after any step and go on as if it had not.

In: data, a method and settings. Out: a trained model and its records. There is no hidden state: the order of the images
follows from seed and epoch, and everything else is in the checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from refgrad.arguments import Array
from refgrad.datasets import Dataset, batches
from refgrad.functional import cross_entropy
from refgrad.models import DigitsNet
from refgrad.optim import SGD, cosine_schedule
from refgrad.storage import HOSVD
from refgrad.training.certification import StepCertificate, certify_step
from refgrad.training.checkpoint import Checkpoint, CheckpointError, Totals
from refgrad.training.records import EpochRecord, RunRecord
from refgrad.training.settings import Method, Settings
from refgrad.training.step import Step, classification_accuracy, compare_with_exact, take_step

__all__ = ["Reporter", "Run", "SilentReporter"]

_WEIGHTS_STREAM = 0x77656967


class Reporter(Protocol):
    """Who is told about a run while it is under way."""

    def run_started(self, run: Run) -> None:
        """Take note that a run begins, or goes on."""

    def step_taken(self, run: Run, loss: float) -> None:
        """Take note of a step that is done."""

    def epoch_finished(self, run: Run, record: EpochRecord) -> None:
        """Take note of an epoch that is complete and tested."""

    def run_stopped(self, run: Run) -> None:
        """Take note of a run that is finished, interrupted or diverged."""


class SilentReporter:
    """Takes no note of anything."""

    def run_started(self, run: Run) -> None:
        """Do nothing."""

    def step_taken(self, run: Run, loss: float) -> None:
        """Do nothing."""

    def epoch_finished(self, run: Run, record: EpochRecord) -> None:
        """Do nothing."""

    def run_stopped(self, run: Run) -> None:
        """Do nothing."""


class Run:
    """One training run: a model, its optimiser, and how far they have come.

    Parameters
    ----------
    dataset : Dataset
        What to train with and test on.
    method : Method
        How the inputs of conv and linear layers are kept until backward.
    settings : Settings
        Everything else. Runs that share settings and data start from the same weights and see the same batches.

    Examples
    --------
    >>> from refgrad.datasets import digits
    >>> run = Run(digits(), Method("hosvd", 0.9), Settings(epochs=1))
    >>> run.train(should_stop=lambda: run.step == 2).status
    'interrupted'
    >>> run.train().status
    'finished'
    """

    def __init__(self, dataset: Dataset, method: Method, settings: Settings) -> None:
        self.dataset, self.method, self.settings = dataset, method, settings
        seeds = np.random.SeedSequence([_WEIGHTS_STREAM, settings.seed])
        self.model = DigitsNet(
            dataset.image_shape,
            dataset.classes,
            norm=settings.norm,
            generator=np.random.Generator(np.random.PCG64(seeds)),
            dtype=dataset.train_images.dtype,
        )
        self._evaluator = DigitsNet(
            dataset.image_shape, dataset.classes, norm=settings.norm, generator=np.random.default_rng(0)
        )
        self.optimizer = SGD(
            self.model.parameters(),
            settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.storage = method.storage()
        self._plan = self.storage.plan if isinstance(self.storage, HOSVD) else None
        self.steps_per_epoch = -(-len(dataset.train_images) // settings.batch_size)
        self.measured_step = self.steps_per_epoch // 2
        self.status = "running"
        self.epoch = self.step = 0
        self.totals = Totals()
        self.epochs: list[EpochRecord] = []
        self.certificates: list[StepCertificate] = []

    @property
    def total_steps(self) -> int:
        """How many steps the whole run has."""
        return self.settings.epochs * self.steps_per_epoch

    @property
    def steps_done(self) -> int:
        """How many of them are done."""
        return self.epoch * self.steps_per_epoch + self.step

    def record(self) -> RunRecord:
        """Return what the run has given so far."""
        epochs, certificates = tuple(self.epochs), tuple(self.certificates)
        if self.status == "finished":
            return RunRecord(self.method, self.status, epochs, certificates=certificates)
        diverged = self.status == "diverged"
        stopped_at = (self.epoch + 1, self.step + diverged)
        return RunRecord(self.method, "diverged" if diverged else "interrupted", epochs, stopped_at, certificates)

    def train(
        self,
        *,
        checkpoint: Path | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        reporter: Reporter | None = None,
    ) -> RunRecord:
        """Go on until the run is finished, diverges or is to stop.

        Parameters
        ----------
        checkpoint : Path, optional
            Where the state is written after every epoch and on stopping.
        should_stop : callable
            Asked after every step; the run stops where it answers True, and goes on with the next call of `train`.
        reporter : Reporter, optional
            Is told how it goes.

        Returns
        -------
        RunRecord
            Its status is ``"finished"``, ``"diverged"`` or ``"interrupted"``.
        """
        reporter = SilentReporter() if reporter is None else reporter
        reporter.run_started(self)
        try:
            # A run that diverges overflows; that is found by looking, and told once.
            with np.errstate(over="ignore", invalid="ignore"):
                self._go_on(checkpoint, should_stop, reporter)
        finally:
            reporter.run_stopped(self)
        return self.record()

    def _go_on(self, checkpoint: Path | None, should_stop: Callable[[], bool], reporter: Reporter) -> None:
        while self.status == "running":
            complete = self._train_epoch(should_stop, reporter)
            if complete:
                self._finish_epoch(reporter)
            if checkpoint is not None:
                self.state().save(checkpoint)
            if not complete:
                return

    def _train_epoch(self, should_stop: Callable[[], bool], reporter: Reporter) -> bool:
        """Take the steps that the epoch still has; return whether they are all done."""
        order = list(
            batches(len(self.dataset.train_images), self.settings.batch_size, seed=self.settings.seed, epoch=self.epoch)
        )
        while self.step < len(order):
            chosen = order[self.step]
            loss = self._take_step(self.dataset.train_images[chosen], self.dataset.train_labels[chosen])
            if loss is None:
                self.status = "diverged"
                return False
            self.step += 1
            reporter.step_taken(self, loss)
            if should_stop() and self.steps_done < self.total_steps:
                return False
        return True

    def _take_step(self, images: Array, labels: Array) -> float | None:
        """Take one step and return its loss; None where loss, gradient or the new parameters are not finite."""
        start = time.perf_counter()
        step = self._forward_and_backward(images, labels)
        if step is None or not step.finite:
            return None
        self.totals.seconds += time.perf_counter() - start
        if self.step == self.measured_step:
            comparison = compare_with_exact(self.model, images, labels, self.storage)
            self.totals.gradient_error, self.totals.gradient_bound = comparison.error, comparison.bound
            self.totals.gradient_rounding = comparison.rounding
        before = {name: array.copy() for name, array in self.model.parameters().items()}
        start = time.perf_counter()
        self.optimizer.lr = cosine_schedule(self.steps_done, self.total_steps, self.settings.learning_rate)
        self.optimizer.step(step.gradients)
        self.totals.seconds += time.perf_counter() - start
        after = self.model.parameters()
        if not all(np.isfinite(array).all() for array in after.values()):
            return None
        if self.settings.certify:
            place, rate = (self.epoch + 1, self.step + 1), self.optimizer.lr
            self.certificates.append(
                certify_step(self._evaluator, step, before, after, images, labels, step_size=rate, place=place)
            )
        self._add(step, len(images))
        return step.loss

    def _forward_and_backward(self, images: Array, labels: Array) -> Step | None:
        """Return the step, or None where the activations are not finite, which a storage refuses."""
        try:
            return take_step(self.model, images, labels, self.storage, with_bounds=self.settings.certify)
        except ValueError:
            scores = self.model.apply(self.model.parameters(), images, update_state=False)
            if np.isfinite(cross_entropy(scores, labels)):
                raise  # it had another reason
            return None

    def _add(self, step: Step, images: int) -> None:
        totals = self.totals
        totals.images += images
        totals.loss += step.loss * images
        totals.exact_numbers += step.exact_numbers
        totals.stored_numbers += step.stored_numbers
        totals.stored_numbers_peak = max(totals.stored_numbers_peak, step.stored_numbers)
        totals.layer_bytes += step.layer_bytes
        totals.held_bytes += step.held_bytes
        totals.held_bytes_peak = max(totals.held_bytes_peak, step.held_bytes)

    def _finish_epoch(self, reporter: Reporter) -> None:
        totals, steps = self.totals, self.steps_per_epoch
        record = EpochRecord(
            epoch=self.epoch + 1,
            steps=steps,
            loss=totals.loss / totals.images,
            test_accuracy=classification_accuracy(self.model, self.dataset.test_images, self.dataset.test_labels),
            exact_numbers=totals.exact_numbers / steps,
            stored_numbers=totals.stored_numbers / steps,
            stored_numbers_peak=totals.stored_numbers_peak,
            layer_bytes=totals.layer_bytes / steps,
            held_bytes=totals.held_bytes / steps,
            held_bytes_peak=totals.held_bytes_peak,
            gradient_error=totals.gradient_error,
            gradient_bound=totals.gradient_bound,
            gradient_rounding=totals.gradient_rounding,
            measured_step=self.measured_step + 1,
            seconds=totals.seconds,
        )
        self.epochs.append(record)
        self.epoch, self.step, self.totals = self.epoch + 1, 0, Totals()
        if self.epoch == self.settings.epochs:
            self.status = "finished"
        reporter.epoch_finished(self, record)

    def state(self) -> Checkpoint:
        """Return a copy of everything that the rest of the run depends on."""
        return Checkpoint(
            dataset=self.dataset.name,
            fingerprint=self.dataset.fingerprint(),
            method=self.method,
            settings=self.settings,
            status=self.status,
            epoch=self.epoch,
            step=self.step,
            totals=replace(self.totals),
            epochs=tuple(self.epochs),
            certificates=tuple(self.certificates),
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            plan={} if self._plan is None else self._plan.state_dict(),
        )

    def resume(self, path: Path) -> None:
        """Go back to the state of a checkpoint.

        Raises
        ------
        CheckpointError
            Where the file is no checkpoint, is of a run with other data, method or settings, or does not fit the model.
        """
        state = Checkpoint.load(path)
        state.check_same_run(path, self.dataset.fingerprint(), self.method, self.settings)
        try:
            self.model.load_state_dict(state.model)
            self.optimizer.load_state_dict(state.optimizer)
            if self._plan is not None:
                self._plan.load_state_dict(state.plan)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path} does not fit the model: {error}") from error
        self.status, self.epoch, self.step = state.status, state.epoch, state.step
        self.totals, self.epochs = replace(state.totals), list(state.epochs)
        self.certificates = list(state.certificates)
