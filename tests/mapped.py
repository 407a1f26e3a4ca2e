"""Whether the tests that proofs/map.toml names have run, and passed, at the end of a run of all tests.

In: pytest's reports. Out: one line per test of the map that did not run, or not with all its parameters.
"""

from collections.abc import Iterable

import pytest

from proofs.agreement import read_map

SELECTING = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")
"""Options of pytest by which not all tests run."""

_outcomes: dict[str, set[str]] = {}


def take_down(report: pytest.TestReport) -> None:
    """Keep what became of a test: "passed" if it was called and passed; a skip may come before the call."""
    if report.when == "call" or report.outcome != "passed":
        _outcomes.setdefault(report.nodeid.partition("[")[0], set()).add(report.outcome)


def runs_everything(config: pytest.Config) -> bool:
    """Whether all tests were asked for: no file, no directory, and no option that leaves some out."""
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not any(
        config.getoption(name, default=None) for name in SELECTING
    )


def failures() -> list[str]:
    """Name each test of the map that did not run, or was skipped with some of its parameters."""
    return not_passed({test for entry in read_map().entries for test in (*entry.tests, *entry.sharp)}, _outcomes)


def not_passed(tests: Iterable[str], outcomes: dict[str, set[str]]) -> list[str]:
    """Name each of these tests that did not run, or of which a run did not pass."""
    return [
        f"proofs/map.toml names {test}, which {' and '.join(sorted(outcomes.get(test, ['did not run'])))}"
        for test in sorted(tests)
        if outcomes.get(test) != {"passed"}
    ]
