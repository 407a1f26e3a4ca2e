"""What was found out about one answer: a verdict in every row that needs no other call.

In: an answer and the case that it is for. Out: a `Judgement`. What is compared is only what is well defined (ranks in
their admissible interval, subspaces, tensors, gradients at the target's own A~), never singular vectors; how far two
right answers may lie apart comes from `tolerance`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from refgrad.oracle.answers import Answer
from refgrad.oracle.cases import AnyCase
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.protocol import KEYS, Declaration, rows_of
from refgrad.oracle.rows import judge_of, reference_of
from refgrad.oracle.verdicts import Verdict, failed, not_provided, passed

__all__ = ["Judgement", "judgement_of"]


@dataclass(eq=False)
class Judgement:
    """What was found out about one case.

    Attributes
    ----------
    case : Case
        The input.
    answer : Answer
        What the target returned.
    verdicts : dict
        Row -> verdict.
    declaration : Declaration
        What the target said of itself.
    """

    case: Any
    answer: Answer
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    declaration: Declaration = field(default_factory=Declaration)

    @cached_property
    def reference(self) -> Any:
        """What is right for this case."""
        return reference_of(self.case, self.declaration)

    def forget_reference(self) -> None:
        """Let go of what was computed for the verdicts; it is computed again where it is needed."""
        self.__dict__.pop("reference", None)

    @property
    def failed(self) -> bool:
        """Whether any row failed."""
        return any(verdict.failed for verdict in self.verdicts.values())


def judgement_of(
    answer: Answer,
    case: AnyCase,
    *,
    rows: Collection[str] | None = None,
    declaration: Declaration | None = None,
    again: Answer | None = None,
    reference: Any = None,
) -> Judgement:
    """Judge an answer that came already.

    Parameters
    ----------
    answer : Answer
        What the target returned.
    case : Case or LadderCase
        For what.
    rows, declaration, reference : optional
        As for `judge`.
    again : Answer, optional
        What it returned to the same call a second time.
    """
    judgement = Judgement(case, answer, declaration=declaration or Declaration())
    if reference is not None:
        judgement.reference = reference
    for row in rows_of(case.operation):
        if rows is None or row in rows:
            judgement.verdicts[row] = _verdict(judgement, row, again)
    return judgement


def _verdict(judgement: Judgement, row: str, again: Answer | None) -> Verdict:
    answer = judgement.answer
    if row == "call":
        return _call_verdict(answer, again)
    if not answer.came_back:
        return not_provided(row, answer.unclaimed or "the call failed")
    keys = {key for key in OPERATIONS[judgement.case.operation].results if KEYS[key] == row}
    if row == "ranks":
        keys |= {"factors", "left"}  # whose columns say it as well
    if not keys & answer.provided:
        return not_provided(row)
    problem = answer.problem(row)
    if problem is not None:
        return failed(row, problem.kind, problem.message)
    return judge_of(judgement.case.operation, row)(judgement.reference, answer)


def _call_verdict(answer: Answer, again: Answer | None) -> Verdict:
    problem = answer.problem("call")
    if problem is not None:
        return failed("call", problem.kind, problem.message)
    if answer.unclaimed is not None:
        return not_provided("call", answer.unclaimed)
    if again is not None and again.fingerprint != answer.fingerprint:
        return failed(
            "call",
            "not repeatable",
            "the same call twice gives different bits: a random start, or state kept between calls",
        )
    return passed("call")
