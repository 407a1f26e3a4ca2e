"""Certificates of training steps, as they are made while a network trains and as they are saved.

In: a step, the parameters before and after it, and its batch. Out: a `StepCertificate`, a row of numbers and reasons.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refgrad.arguments import Array
from refgrad.convergence import CompressedGradient, certify, loss_rounding
from refgrad.functional import cross_entropy
from refgrad.nn import Module
from refgrad.storage import Exact
from refgrad.tape import Tape, Tensor
from refgrad.training.step import Step

__all__ = ["StepCertificate", "certified_counts", "certify_step", "spoilers"]


@dataclass(frozen=True, slots=True)
class StepCertificate:
    """What is known of one training step, without the exact gradient (THEORY T13, T16).

    The loss is that of the step's own batch; before and after the step it is evaluated in float64.

    Parameters
    ----------
    epoch, step : int
        Which one, both from 1.
    step_size : float
        The learning rate.
    loss, next_loss : float
        Before and after the step.
    gradient_norm : float
        |g~|, of the compressed gradient, from below.
    error_bound : float or None
        |grad f - g~| is at most this, where grad f is exact backpropagation in the same precision; None where that is
        not bounded.
    ratio : float or None
        Delta with |grad f - g~| <= delta |grad f|; None where there is none, for the bound is |g~| or more.
    direction_difference : float
        How far what the parameters moved by, over the learning rate, is from g~: momentum, weight decay and rounding.
    descent : bool
        Whether T16's inequality was verified from the two losses.
    guaranteed_decrease : float or None
        The loss is less by this at least, by T16; None where the step is not certified.
    reason, spoiler : str or None
        Why it is not, and the weight or the ``"direction"`` whose error spoils it.
    """

    epoch: int
    step: int
    step_size: float
    loss: float
    next_loss: float
    gradient_norm: float
    error_bound: float | None
    ratio: float | None
    direction_difference: float
    descent: bool
    guaranteed_decrease: float | None
    reason: str | None
    spoiler: str | None

    @property
    def certified(self) -> bool:
        """Whether the step is guaranteed to descend."""
        return self.reason is None

    @property
    def gradient_certified(self) -> bool:
        """Whether the gradient is known to within a delta less than 1 of its norm, as T17 asks."""
        return self.ratio is not None and self.ratio < 1.0

    @property
    def decrease(self) -> float:
        """By how much the loss of the batch fell."""
        return self.loss - self.next_loss


def certify_step(
    evaluator: Module,
    step: Step,
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    images: Array,
    labels: Array,
    *,
    step_size: float,
    place: tuple[int, int],
) -> StepCertificate:
    """Certify the step that was taken from one set of parameters to another.

    Parameters
    ----------
    evaluator : Module
        The network in float64; its own parameters play no part.
    step : Step
        Taken with bounds.
    before, after : mapping of str to array
        The parameters.
    images : array (B, C, H, W)
        The batch.
    labels : integer array (B,)
        The class of each image.
    step_size : float
        The learning rate, positive.
    place : (int, int)
        Epoch and step, from 1.

    Returns
    -------
    StepCertificate
    """
    loss, rounding = _loss(evaluator, before, images, labels)
    next_loss, next_rounding = _loss(evaluator, after, images, labels)
    gradient = CompressedGradient(loss, step.gradients, step.bounds, rounding)
    moved = {name: (array.astype(np.float64) - after[name]) / step_size for name, array in before.items()}
    taken = certify(gradient, step_size=step_size, next_loss=next_loss, next_rounding=next_rounding, direction=moved)
    plain = certify(gradient, step_size=step_size)
    return StepCertificate(
        epoch=place[0],
        step=place[1],
        step_size=step_size,
        loss=loss,
        next_loss=next_loss,
        gradient_norm=plain.direction_norm,
        error_bound=plain.error_bound if math.isfinite(plain.error_bound) else None,
        ratio=plain.ratio if math.isfinite(plain.ratio) else None,
        direction_difference=taken.direction_difference,
        descent=taken.descent is not None,
        guaranteed_decrease=taken.guaranteed_decrease,
        reason=taken.reason,
        spoiler=taken.spoiler,
    )


def certified_counts(certificates: Sequence[StepCertificate]) -> tuple[int, int]:
    """Return of how many steps the gradient is certified, and how many steps are."""
    return sum(row.gradient_certified for row in certificates), sum(row.certified for row in certificates)


def spoilers(certificates: Sequence[StepCertificate]) -> list[tuple[str, int]]:
    """Return why steps are not certified, the most frequent first: who spoiled them, or what could not be shown."""
    reasons = (row.spoiler or row.reason for row in certificates)
    return Counter(reason for reason in reasons if reason is not None).most_common()


def _loss(evaluator: Module, params: Mapping[str, Array], images: Array, labels: Array) -> tuple[float, float]:
    """Return the loss in float64, and how far rounding can have moved it."""
    with Tape(store=Exact()) as tape:
        tensors = {name: tape.watch(array.astype(np.float64), name) for name, array in params.items()}
        scores = evaluator.apply(tensors, images.astype(np.float64), update_state=False)
        loss = cross_entropy(scores, labels)
    assert isinstance(loss, Tensor)
    return loss.item(), loss_rounding(tape, loss)
