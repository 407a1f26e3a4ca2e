"""What depends on A~, for a target that does not show its A~: against every admissible one.

In: what is right for a case, a value and a rule that makes the value of an activation. Out: a verdict, often that right
and wrong cannot be told apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle import tolerance
from refgrad.oracle.answers import Answer
from refgrad.oracle.reference import TensorReference, norm, tucker_product
from refgrad.oracle.verdicts import Outcome, Verdict, compare_norm, inconclusive, measured_over_allowed

__all__ = ["COMBINATIONS", "within_theorem_12", "without_factors"]

COMBINATIONS = 64
"""How many admissible combinations of ranks are tried for a target that does not say which it took."""


def within_theorem_12(
    row: str,
    value: Array,
    reference: TensorReference,
    ranks: tuple[int, ...],
    *,
    exact: Array,
    amplification: float,
    rounding: float,
) -> Verdict | None:
    """Return a failure where a result is farther from the uncompressed one than T12 and T3 let it be at these ranks."""
    error = norm(value - exact)
    allowed = amplification * reference.truncation_error(ranks) + rounding
    if error <= allowed:
        return None
    message = f"{row} is {error:.3e} away from the uncompressed one; at ranks {ranks} T12 allows {allowed:.3e}"
    return Verdict(
        row, Outcome.FAILED, "T12", message, float(measured_over_allowed(error, allowed)), error=error, allowed=allowed
    )


def without_factors(
    row: str,
    value: Array,
    reference: TensorReference,
    answer: Answer,
    *,
    at: Callable[[Array], Array],
    positions: int,
    amplification: float,
    rounding_amplification: float,
    further_rounding: float = 0.0,
) -> Verdict:
    """Judge what depends on A~ for a target that does not show its A~: against every admissible one.

    Two right A~ of the same ranks differ by as much as the gap between the singular values lets them (Davis and Kahan),
    and what depends on them by `amplification` times that. The majorant | |S| x_j |U_j| | is at most |A| sqrt(prod
    K_j); `rounding_amplification` is | |G| | sqrt(m), by which it comes through to dW, and `positions` the number of
    products that it is a sum of.
    """
    exact = at(reference.x)
    if answer.ranks is not None:
        choices: Iterable[tuple[int, ...]] = iter([answer.ranks])
    else:
        choices = itertools.product(*(range(mode.ranks[0], mode.ranks[1] + 1) for mode in reference.modes))
    best: Verdict | None = None
    undecided = False
    for number, wanted in enumerate(choices):
        if number == COMBINATIONS:
            undecided = True
            break
        ranks = tuple(max(1, min(k, mode.squares.size)) for k, mode in zip(wanted, reference.modes, strict=True))
        expected = at(tucker_product(*reference.compressed(ranks)))
        magnitude = reference.x_norm * math.sqrt(math.prod(ranks)) * rounding_amplification
        length = tolerance.weight_gradient_length(positions, ranks)
        rounding = float(tolerance.sum_bound(length, np.array(magnitude), reference.precision))
        rounding += further_rounding
        perturbation = reference.perturbation(ranks)
        allowed = rounding + (amplification * perturbation if amplification > 0.0 else 0.0)
        verdict = compare_norm(row, value, expected, allowed)
        if not verdict.failed:
            verdict = (
                within_theorem_12(
                    row, value, reference, ranks, exact=exact, amplification=amplification, rounding=rounding
                )
                or verdict
            )
        if verdict.failed:
            best = verdict if best is None or (verdict.ratio or 0.0) < (best.ratio or 0.0) else best
        elif allowed > tolerance.INCONCLUSIVE_SHARE * norm(expected):
            undecided = True
        else:
            return verdict
    if undecided:
        return inconclusive(
            row,
            "without the target's factors right and wrong cannot be told apart here: right answers differ too much",
        )
    assert best is not None
    return best
