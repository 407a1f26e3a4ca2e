"""The statistical tier's second look: what is suspect on an input, and whether it is on others with random numbers.

In: judgements, and what judges a case in one row. Out: their verdicts, changed in place: what is suspect on every
redrawn input has failed. On one input roundings can conspire (a constant rounds the same way in each term of a sum), on
all of them they do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from refgrad.oracle.derived import redrawn
from refgrad.oracle.judgement import Judgement
from refgrad.oracle.verdicts import Outcome, confirmed

__all__ = ["LOOKED_AT_AGAIN", "REDRAWS", "Suspects"]

LOOKED_AT_AGAIN: Final = 8
"""How many of the suspect results in one row of an operation are looked at on other numbers."""

REDRAWS: Final = 3
"""On how many others; a suspect that is one on each of them has failed."""


class Suspects:
    """Looks again at what is suspect, at no more than `LOOKED_AT_AGAIN` in one row of an operation.

    Parameters
    ----------
    judged : callable
        Judges a case of the same target in some rows, called as ``judged(case, rows=(row,))``.

    Examples
    --------
    >>> import numpy as np
    >>> from functools import partial
    >>> from refgrad.oracle import Case, judge
    >>> image = np.full((1, 1, 100, 200), 0.1, np.float32)
    >>> one, zero = np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)
    >>> case = Case("constant", image, one, zero, image)
    >>> def one_after_the_other(x, weight, bias, grad_output, **attributes):
    ...     return {"grad_bias": np.cumsum(grad_output, dtype=np.float32)[-1:]}
    >>> judgement = judge(one_after_the_other, case)
    >>> judgement.verdicts["grad_bias"].outcome
    <Outcome.SUSPECT: 'suspect'>
    >>> Suspects(partial(judge, one_after_the_other)).settle(judgement)
    >>> judgement.verdicts["grad_bias"].outcome  # a pattern in the input, as it is none on random numbers
    <Outcome.SUSPECT: 'suspect'>
    """

    def __init__(self, judged: Callable[..., Judgement]) -> None:
        self._judged = judged
        self._taken: Counter[tuple[str, str]] = Counter()

    def rows(self, judgement: Judgement) -> list[str]:
        """Return the suspect rows of a judgement that are to be looked at again; they count as looked at.

        Parameters
        ----------
        judgement : Judgement
            Of one call.
        """
        found = [row for row, verdict in judgement.verdicts.items() if verdict.outcome is Outcome.SUSPECT]
        taken = [row for row in found if self._taken[judgement.case.operation, row] < LOOKED_AT_AGAIN]
        self._taken.update((judgement.case.operation, row) for row in taken)
        return taken

    def look_again(self, judgement: Judgement, row: str) -> None:
        """Fail what is suspect where it is on other numbers as well: then no pattern in them explains it.

        It stays suspect at the first on which it is not, and where what is in the arrays is the case's point.

        Parameters
        ----------
        judgement : Judgement
            Of one call.
        row : str
            One that is suspect.
        """
        draws = (redrawn(judgement.case, number) for number in range(1, 1 + REDRAWS))
        doubtful = {Outcome.SUSPECT, Outcome.FAILED}
        again = (
            case is not None and self._judged(case, rows=(row,)).verdicts[row].outcome in doubtful for case in draws
        )
        if all(again):
            judgement.verdicts[row] = confirmed(judgement.verdicts[row], REDRAWS)

    def settle(self, judgement: Judgement) -> None:
        """Look again at whatever is to be looked at again in a judgement.

        Parameters
        ----------
        judgement : Judgement
            Of one call.
        """
        for row in self.rows(judgement):
            self.look_again(judgement, row)
