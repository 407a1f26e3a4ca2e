"""The sequence tier: calls that go on from what the call before returned, for methods that carry state.

In: an operation and the judgement of its first call. Out: a verdict: whether the calls after it, each with the results
of the one before as its input, are right as well. A state that is kept between calls, or changed in place, shows here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from refgrad.oracle.answers import Answer, call
from refgrad.oracle.cases import AnyCase
from refgrad.oracle.judgement import Judgement, judgement_of
from refgrad.oracle.tiers.relations import with_parts
from refgrad.oracle.verdicts import Outcome, Verdict, not_provided, passed

__all__ = ["CARRIED", "STEPS", "sequence"]

STEPS: Final = 3
"""How many calls a sequence has, the first included."""

CARRIED: Final[Mapping[str, tuple[str, ...]]] = {
    "subspace_iteration": ("factors",),
    "step": ("weight", "bias", "weight_velocity", "bias_velocity"),
}
"""Operation -> the results that are the next call's arrays of the same name."""

DRIFTING: Final = ("tensor", "x")
"""The array that changes a little from call to call, as activations do from batch to batch."""


def sequence(operation: Callable[..., object], judgement: Judgement) -> Verdict:
    """Judge the calls that follow a first one.

    Parameters
    ----------
    operation : callable
        The target's.
    judgement : Judgement
        Of the first call.
    """
    latest = judgement
    for number in range(2, STEPS + 1):
        case = _next(latest.case, latest.answer)
        if case is None:
            return not_provided("sequence", f"a next call takes {', '.join(CARRIED[judgement.case.operation])}")
        answer = call(operation, case)
        if answer.unclaimed is not None:
            return not_provided("sequence", answer.unclaimed)
        latest = judgement_of(answer, case, declaration=judgement.declaration)
        wrong = next((verdict for verdict in latest.verdicts.values() if verdict.failed), None)
        if wrong is not None:
            message = f"call {number}, which goes on from the results of the one before: {wrong.message}"
            return replace(
                wrong, row="sequence", outcome=Outcome.FAILED, message=message, ratio=wrong.ratio or math.inf
            )
    return passed("sequence", ratio=0.0)


def _next(case: AnyCase, answer: Answer) -> AnyCase | None:
    """Return the input of the call after one; None where it did not return what that takes."""
    parts: dict[str, Any] = {}
    for key in CARRIED[case.operation]:
        value = answer.factors if key == "factors" else answer.arrays.get(key)
        if value is None:
            return None
        parts[key] = (
            tuple(factor.astype(case.dtype) for factor in value)
            if isinstance(value, tuple)
            else value.astype(case.dtype)
        )
    for name in set(DRIFTING) & set(case.parts):
        array = case.parts[name]
        parts[name] = (array - array[..., ::-1] / 8).astype(array.dtype)
    if not all(np.isfinite(each).all() for value in parts.values() for each in _arrays(value)):
        return None
    return with_parts(case, f"{case.name}, next", parts)


def _arrays(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
