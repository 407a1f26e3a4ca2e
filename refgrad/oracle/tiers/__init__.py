"""What is judged by calling a target again: relations between calls, sequences of calls, input that must be refused.

In: an operation and a judgement of one call. Out: a verdict in each of `FURTHER`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from refgrad.oracle.judgement import Judgement
from refgrad.oracle.tiers.refusals import MOST_INVALID, refusals
from refgrad.oracle.tiers.relations import RELATIONS, relations
from refgrad.oracle.tiers.sequences import STEPS, sequence
from refgrad.oracle.verdicts import Verdict, not_provided

__all__ = ["CALLS", "FURTHER", "further_verdicts"]

FURTHER: Final[Mapping[str, Callable[..., Verdict]]] = {
    "relations": relations,
    "sequence": sequence,
    "refusals": refusals,
}
"""What judges each of these rows, given an operation and a judgement."""


CALLS: Final[Mapping[str, int]] = {"relations": len(RELATIONS), "sequence": STEPS - 1, "refusals": MOST_INVALID}
"""How many calls each of them takes at most."""


def further_verdicts(
    operation: Callable[..., object], judgement: Judgement, rows: Collection[str]
) -> dict[str, Verdict]:
    """Return a verdict in each of some further rows; where another row failed already, nothing is tried.

    Parameters
    ----------
    operation : callable
        The target's.
    judgement : Judgement
        Of one call of it.
    rows : collection of str
        Which of `FURTHER`.
    """
    if judgement.failed or not judgement.answer.came_back:
        return {row: not_provided(row, "not tried, as the call itself is not right") for row in rows}
    return {row: FURTHER[row](operation, judgement) for row in rows}
