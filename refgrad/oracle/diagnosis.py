"""Which mistake it was: the one of the library that gives the target's own values, on failing and on passing cases.

In: judgements, some of which failed in a row. Out: a `Cause`, or None where no known mistake reproduces what was seen.
One input seldom tells two mistakes apart; all of them together nearly always do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refgrad.oracle.answers import Answer
from refgrad.oracle.judgement import Judgement
from refgrad.oracle.mistakes import Mistake, Parts, library_of

__all__ = ["Cause", "diagnose", "explains"]

LOOKED_AT = 30
"""How many failing and how many passing cases every mistake is compared with."""


SCREENED = 5
"""On how many failing cases a mistake is tried first; one that explains none of them is not looked at further."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The likely cause of a failure.

    Attributes
    ----------
    mistake : Mistake
        What was probably done.
    explained : int
        On how many failing cases it gives the target's values.
    looked_at : int
        Of how many.
    contradicted : int
        On how many passing cases it does not.
    passing : int
        Of how many.
    """

    mistake: Mistake
    explained: int
    looked_at: int
    contradicted: int
    passing: int

    @property
    def sentence(self) -> str:
        """What the report prints."""
        text = f"{self.mistake.sentence}, in {self.explained} of {self.looked_at} failing cases looked at"
        if self.contradicted:
            text += f" (but not in {self.contradicted} of {self.passing} that pass)"
        return text


def explains(mistake: Mistake, judgement: Judgement) -> bool:
    """Whether a mistake gives what the target returned for a case."""
    return _explains(mistake, Parts(judgement.reference, judgement.answer), judgement.answer)


def _explains(mistake: Mistake, parts: Parts, answer: Answer) -> bool:
    with np.errstate(all="ignore"):
        return mistake.explains(parts, answer)


def diagnose(row: str, failing: Sequence[Judgement], passing: Sequence[Judgement]) -> Cause | None:
    """Name the mistake that explains the most failing cases and, of those, contradicts the fewest passing ones.

    Parameters
    ----------
    row : str
        In which row they failed; only mistakes that show there are compared.
    failing, passing : sequence of Judgement
        Cases in which the row failed and passed.

    Returns
    -------
    Cause or None
        None where no mistake explains any case.
    """
    failing_parts, passing_parts = (
        [(Parts(j.reference, j.answer), j.answer) for j in _spread(js)] for js in (failing, passing)
    )
    screened = failing_parts[:: max(1, len(failing_parts) // SCREENED)]
    best: Cause | None = None
    operation = failing[0].case.operation if failing else "conv2d"
    for mistake in library_of(operation):
        if mistake.row != row or not any(_explains(mistake, *pair) for pair in screened):
            continue
        explained = sum(_explains(mistake, *pair) for pair in failing_parts)
        if best is not None and explained < best.explained:
            continue
        contradicted = sum(not _explains(mistake, *pair) for pair in passing_parts)
        cause = Cause(mistake, explained, len(failing_parts), contradicted, len(passing_parts))
        if best is None or (explained, -contradicted) > (best.explained, -best.contradicted):
            best = cause
    return best


def _spread(judgements: Sequence[Judgement]) -> Sequence[Judgement]:
    """Return no more than `LOOKED_AT` of them, spread over the run, float64 first: it tells mistakes apart best."""
    ordered = sorted(judgements, key=lambda judgement: judgement.case.dtype.itemsize, reverse=True)
    step = max(1, -(-len(ordered) // LOOKED_AT))
    return ordered[::step]
