"""The judge: one case, the calls that it takes, one verdict in every row.

In: an implementation and a `Case`. Out: a `Judgement`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from refgrad.oracle.answers import call
from refgrad.oracle.cases import AnyCase
from refgrad.oracle.judgement import Judgement, judgement_of
from refgrad.oracle.protocol import FURTHER_ROWS, Declaration
from refgrad.oracle.tiers import further_verdicts

__all__ = ["judge"]


def judge(
    operation: Callable[..., object],
    case: AnyCase,
    *,
    rows: Collection[str] | None = None,
    twice: bool = False,
    further: Collection[str] = (),
    declaration: Declaration | None = None,
    reference: Any = None,
) -> Judgement:
    """Call one operation of a target on a case and judge what it returns.

    Parameters
    ----------
    operation : callable
        The target's.
    case : Case or LadderCase
        The input.
    rows : collection of str
        Which rows to judge; all where absent.
    twice : bool
        Whether to call a second time and demand the same bits.
    further : collection of str
        Which of the rows that take further calls to judge, if any: "relations", "sequence", "refusals".
    declaration : Declaration, optional
        What the target said of itself; nothing where absent.
    reference : TensorReference, optional
        What is right for the case, where it is at hand already.

    Returns
    -------
    Judgement
        With a verdict for every one of the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from refgrad.oracle.cases import Case
    >>> case = Case("ones", np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), np.zeros(1), np.ones((1, 1, 1, 1)))
    >>> def doubled(x, weight, bias, grad_output, **attributes):
    ...     return {"grad_bias": 2 * grad_output.sum((0, 2, 3))}
    >>> verdict = judge(doubled, case).verdicts["grad_bias"]
    >>> verdict.outcome, verdict.message
    (<Outcome.FAILED: 'failed'>, 'grad_bias[0] is 2, expected 1; 1 of 1 entries are off')
    """
    declaration = declaration or Declaration.of(operation)
    answer = call(operation, case)
    again = call(operation, case) if twice and declaration.repeatable and answer.came_back else None
    judgement = judgement_of(answer, case, rows=rows, declaration=declaration, again=again, reference=reference)
    wanted = [row for row in FURTHER_ROWS[case.operation] if row in further]
    judgement.verdicts |= further_verdicts(operation, judgement, wanted)
    return judgement
