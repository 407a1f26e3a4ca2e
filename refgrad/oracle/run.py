"""A whole run: every case judged, failures gathered, explained and shrunk.

In: an implementation, how many generated cases, a seed. Out: a `Report`, at any time: a run is an iteration that can be
stopped between two steps, and what was judged so far stays.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from refgrad.arguments import non_negative_integer
from refgrad.oracle import tolerance
from refgrad.oracle.cases import GENERATED, Case, generated
from refgrad.oracle.catalogue import catalogue
from refgrad.oracle.diagnosis import Cause, diagnose, explains
from refgrad.oracle.judge import Judgement, judge
from refgrad.oracle.protocol import KEYS, LABELS, ROWS, Implementation
from refgrad.oracle.report import Failure, Report, Row
from refgrad.oracle.shrink import complexity, replace_case, shrink
from refgrad.oracle.verdicts import Outcome, Verdict, failed

__all__ = ["Check", "Step", "check"]

NAMED = 8
"""How many of the failing cases a report names."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run has come: what is done now, how many of the cases are judged, of how many."""

    doing: str
    done: int
    total: int


class Check:
    """One run over the catalogue and the generated cases; iterate over it to make it happen.

    Parameters
    ----------
    implementation : Implementation
        What is judged.
    cases : int
        How many generated cases follow the catalogue.
    seed : int
        What they are generated from.
    target : str
        What the implementation is called in the report and in its snippets.

    Raises
    ------
    TypeError, ValueError
        Where `cases` or `seed` is no integer, or negative.
    """

    def __init__(self, implementation: Implementation, *, cases: int = 100, seed: int = 0, target: str = "") -> None:
        self.implementation = implementation
        self.target = target
        self.seed = non_negative_integer("seed", seed)
        self.catalogue = catalogue()
        self.generated = non_negative_integer("cases", cases)
        self.judgements: list[Judgement] = []
        self.finished = False
        self._failures: dict[tuple[str, str], Failure] = {}
        self._causes: dict[str, Cause | None] = {}

    def __iter__(self) -> Iterator[Step]:
        total = len(self.catalogue) + self.generated
        for case in self.catalogue:
            yield Step(case.name, len(self.judgements), total)
            self.judgements.append(judge(self.implementation, case, twice=True))
        for case in generated(self.seed, self.generated):
            yield Step(case.name, len(self.judgements), total)
            self.judgements.append(judge(self.implementation, case))
        for row, kind in self._groups():
            yield Step(f"looking for the smallest input: {LABELS[row]}", total, total)
            self._failures[row, kind] = self._failure(row, kind, smallest=True)
        self.finished = True

    def report(self) -> Report:
        """Report on what was judged so far; what was not shrunk yet is reported as it was found."""
        verdicts = self._verdicts()
        groups = self._groups()
        failures = [self._failures.get(group) or self._failure(*group, smallest=False) for group in groups]
        unclaimed: dict[str, int] = defaultdict(int)
        for judgement in self.judgements:
            if judgement.answer.unclaimed is not None:
                unclaimed[judgement.answer.unclaimed] += 1
        named = len([judgement for judgement in self.judgements if not judgement.case.name.startswith(GENERATED)])
        return Report(
            target=self.target,
            seed=self.seed,
            catalogue=named,
            generated=len(self.judgements) - named,
            asked_for=len(self.catalogue) + self.generated,
            rows=tuple(
                _row(row, [(j.case, v[row]) for j, v in zip(self.judgements, verdicts, strict=True)]) for row in ROWS
            ),
            failures=tuple(failures),
            unclaimed=tuple(sorted(unclaimed.items())),
            interrupted=not self.finished,
        )

    def _verdicts(self) -> list[dict[str, Verdict]]:
        """Return every case's verdicts; a key that came for other cases and not for this one is a failure here."""
        claimed = {key for judgement in self.judgements for key in judgement.answer.provided}
        result = []
        for judgement in self.judgements:
            verdicts = dict(judgement.verdicts)
            if judgement.answer.came_back:
                for key in KEYS:
                    if key in claimed and key not in judgement.answer.provided and not verdicts[KEYS[key]].failed:
                        message = f"{key} is missing, though it was returned for other cases"
                        verdicts[KEYS[key]] = failed(KEYS[key], "missing", message)
            result.append(verdicts)
        return result

    def _groups(self) -> list[tuple[str, str]]:
        """Return every (row, kind) in which something failed, in the order of the rows."""
        found = {(v.row, v.kind): None for verdicts in self._verdicts() for v in verdicts.values() if v.failed}
        return sorted(found, key=lambda group: (ROWS.index(group[0]), list(found).index(group)))

    def _failure(self, row: str, kind: str, *, smallest: bool) -> Failure:
        pairs = list(zip(self.judgements, self._verdicts(), strict=True))
        failing = [judgement for judgement, v in pairs if v[row].failed and v[row].kind == kind]
        cause = self._cause(row, kind, failing)
        explained = [judgement for judgement in failing if cause is None or explains(cause.mistake, judgement)]
        named = [each for each in explained or failing if not each.case.name.startswith(GENERATED)]
        judgement = named[0] if named else min(explained or failing, key=lambda each: complexity(each.case))
        verdict = next(v[row] for each, v in pairs if each is judgement)
        found = judgement.case.name
        if smallest and kind not in ("missing", "not repeatable"):
            judgement = self._smallest(judgement, verdict, cause)
            verdict = judgement.verdicts[row]
        return Failure(
            row=row,
            kind=kind,
            verdict=verdict,
            failed=len(failing),
            judged=len(self.judgements),
            names=tuple(each.case.name for each in failing[:NAMED]),
            case=judgement.case,
            found=found,
            shrunk=judgement.case.name != found,
            traceback=judgement.answer.traceback,
            warning=judgement.answer.warning,
            cause=cause,
            target=self.target,
        )

    def _cause(self, row: str, kind: str, failing: list[Judgement]) -> Cause | None:
        """Name the mistake: the one that explains the whole row where it explains this kind of failure as well."""
        if kind == "T12":  # dW is right at the target's A~, so that it is A~ that is wrong
            row = "factors"
        pairs = list(zip(self.judgements, self._verdicts(), strict=True))
        right = [judgement for judgement, verdicts in pairs if verdicts[row].outcome is Outcome.PASSED]
        if row not in self._causes:
            wrong = [judgement for judgement, verdicts in pairs if verdicts[row].failed]
            self._causes[row] = diagnose(row, wrong, right)
        cause = self._causes[row]
        if cause is not None and any(explains(cause.mistake, judgement) for judgement in failing):
            return cause
        return diagnose(row, failing, right)

    def _smallest(self, judgement: Judgement, verdict: Verdict, cause: Cause | None) -> Judgement:
        """Return the judgement of the smallest input that fails in the same row and kind, and from the same cause.

        It has to fail by `SHRINK_MARGIN` times what is allowed, or as badly as the first did where that was less.
        """
        row, margin = verdict.row, min(tolerance.SHRINK_MARGIN, verdict.ratio or 0.0)
        latest = judgement

        def still_fails(case: Case) -> bool:
            nonlocal latest
            candidate = judge(self.implementation, case, rows=(row,))
            found = candidate.verdicts[row]
            if not (found.failed and found.kind == verdict.kind and (found.ratio or 0.0) >= margin):
                return False
            if cause is not None and not explains(cause.mistake, candidate):
                return False
            latest = candidate
            return True

        smallest = shrink(judgement.case, still_fails)
        if smallest is judgement.case:
            return judgement
        latest.case = replace_case(smallest, name=f"{judgement.case.name}, shrunk")
        return latest


def check(
    implementation: Implementation,
    *,
    cases: int = 100,
    seed: int = 0,
    target: str = "",
    progress: Callable[[Step], None] | None = None,
) -> Report:
    """Judge an implementation over the catalogue and `cases` generated inputs.

    Parameters
    ----------
    implementation : Implementation
        The target.
    cases, seed : int
        How many generated cases, and what they are generated from.
    target : str
        What the implementation is called in the report.
    progress : callable, optional
        Called before every step.

    Returns
    -------
    Report
        Rows, failures and an exit code.

    Raises
    ------
    TypeError, ValueError
        Where `cases` or `seed` is no integer, or negative.

    Examples
    --------
    >>> report = check(lambda x, weight, bias, grad_output, **_: {"grad_bias": grad_output.sum((0, 2, 3))}, cases=0)
    >>> report.exit_code, [row.name for row in report.rows if row.passed]
    (0, ['call', 'grad_bias'])
    """
    run = Check(implementation, cases=cases, seed=seed, target=target)
    for step in run:
        if progress is not None:
            progress(step)
    return run.report()


def _row(row: str, found: list[tuple[Case, Verdict]]) -> Row:
    count = {outcome: sum(verdict.outcome is outcome for _, verdict in found) for outcome in Outcome}
    judged = [verdict for _, verdict in found if verdict.outcome in (Outcome.PASSED, Outcome.FAILED)]
    digits: dict[str, tuple[float, float] | None] = {}
    for dtype in ("float64", "float32"):
        guaranteed = [v.digits for case, v in found if v.digits is not None and case.dtype == dtype]
        digits[dtype] = (min(guaranteed), statistics.median(guaranteed)) if guaranteed else None
    return Row(
        name=row,
        passed=count[Outcome.PASSED],
        failed=count[Outcome.FAILED],
        inconclusive=count[Outcome.INCONCLUSIVE],
        not_provided=count[Outcome.NOT_PROVIDED],
        worst=max((verdict.ratio for verdict in judged if verdict.ratio is not None), default=None),
        digits=digits,
    )
