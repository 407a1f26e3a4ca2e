"""A pytest plugin: ``pytest --refgrad-target file.py:name`` runs the oracle as tests.

In: a target's name on pytest's command line. Out: one test a flag of each operation, over all named cases that have it,
and one for its generated cases. Without the option nothing but this module is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

CALLED_AGAIN: tuple[str, ...] = ("relations", "sequence")
"""The rows for which a named case is called again."""

LEVELS = ("smoke", "ci", "nightly", "exhaustive")  # of refgrad.oracle.plan, which is not imported here: it is heavy


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("refgrad", "judging an implementation with refgrad's oracle")
    group.addoption("--refgrad-target", metavar="TARGET", help="file.py, file.py:name or module:name")
    group.addoption("--refgrad-cases", metavar="N", type=int, default=100, help="generated cases of each operation")
    group.addoption("--refgrad-seed", metavar="S", type=int, default=0, help="what they follow from")
    group.addoption(
        "--refgrad-level", choices=LEVELS, default=None, help="how much is run; --refgrad-cases is then idle"
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Load the target before anything is collected, so that one that cannot be loaded ends the run with 4."""
    text = session.config.getoption("--refgrad-target")
    if text is not None:
        from refgrad.oracle.target import TargetError, load_target

        try:
            session.config.stash[_TARGET] = load_target(text)
        except TargetError as error:
            raise pytest.UsageError(str(error)) from None
    return (yield)


_TARGET = pytest.StashKey[object]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the oracle's tests behind the suite's own; first, so that -k and --deselect see them."""
    if _TARGET not in config.stash:
        return
    from refgrad.oracle.plan import plan
    from refgrad.oracle.protocol import Declaration, operations_of

    target = config.stash[_TARGET]
    declaration = Declaration.of(target)
    options = {key: config.getoption(f"--refgrad-{key}") for key in ("seed", "cases", "level")}
    for operation, function in operations_of(target).items():
        try:
            planned = plan([operation], dtypes=declaration.dtypes, **options)
        except (TypeError, ValueError) as error:
            raise pytest.UsageError(f"--refgrad: {error}") from None
        generated = [each.case for each in planned if not each.named]
        named = [each.case() for each in planned if each.named]
        tests = {flag: (found, CALLED_AGAIN) for flag, found in _by_flag(named).items()}
        if generated:
            tests[f"{len(generated)} generated"] = (generated, ())
        if declaration.refuses_invalid and named:
            tests["invalid input"] = ([partial(_itself, named[0])], ("refusals",))
        judging = _Judging(function, declaration)
        for name, (cases, further) in tests.items():
            item = _OracleItem.from_parent(session, name=f"{operation}[{name}]", nodeid=f"refgrad::{operation}[{name}]")
            item.cases, item.further, item.judging = cases, further, judging
            items.append(item)
    session.testscollected = len(items)


def _by_flag(cases: list[Any]) -> dict[str, list[Callable[[], Any]]]:
    from refgrad.oracle.flags import FLAGS, flags_of

    having: dict[str, list[Callable[[], Any]]] = {flag: [] for flag in FLAGS}
    for case in cases:
        for flag in flags_of(case):
            having[flag].append(partial(_itself, case))
    return {flag: found for flag, found in having.items() if found}


def _itself(case: Any) -> Any:
    return case


class _JudgedError(Exception):
    """What the oracle found; its text is the whole report."""


class _Judging:
    """Judges the cases of one operation, each once, as a case of several flags is one of several tests."""

    def __init__(self, function: Callable[..., object], declaration: Any) -> None:
        from refgrad.oracle.judge import judge
        from refgrad.oracle.tiers.suspects import Suspects

        self._judged = partial(judge, function, declaration=declaration)
        self._suspects = Suspects(self._judged)
        self._judgements: dict[str, Any] = {}

    def judgement_of(self, case: Any, further: tuple[str, ...]) -> Any:
        key = f"{case.name}, {further}"
        if key not in self._judgements:
            judgement = self._judged(case, further=further)
            self._suspects.settle(judgement)
            judgement.forget_reference()
            self._judgements[key] = judgement
        return self._judgements[key]


class _OracleItem(pytest.Item):
    cases: list[Callable[[], Any]]
    further: tuple[str, ...]
    judging: _Judging

    def runtest(self) -> None:
        from refgrad.oracle.verdicts import Outcome
        from refgrad.testing.assertions import failure_text

        judgements = [self.judging.judgement_of(make(), self.further) for make in self.cases]
        if any(judgement.failed for judgement in judgements):
            raise _JudgedError(failure_text(judgements))
        if all(judgement.answer.unclaimed is not None for judgement in judgements):
            pytest.skip(str(judgements[0].answer.unclaimed) or "not claimed")
        verdicts = [verdict for judgement in judgements for verdict in judgement.verdicts.values()]
        if {Outcome.INCONCLUSIVE, Outcome.SUSPECT} & {verdict.outcome for verdict in verdicts}:
            self.user_properties.append(("refgrad", "doubtful"))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, _JudgedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many tests passed without the bounds saying anything in some row."""
    passed = terminalreporter.stats.get("passed", [])
    doubtful = [report for report in passed if ("refgrad", "doubtful") in report.user_properties]
    if doubtful:
        terminalreporter.write_line(
            f"refgrad: {len(doubtful)} of the passed tests are suspect or inconclusive in some row"
        )
