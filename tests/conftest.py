"""What holds for every test: the Hypothesis profiles, and what is said at the end of a run about theorems and bounds.

Of the profiles `ci` draws the same inputs every time, `search` new ones; both print how to repeat a failure.
"""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from tests import mapped, measured

collect_ignore = ["mutants", "mutation"]
"""Programs that run the tests, and need packages that the tests do not."""

# What a property test computes takes milliseconds here and seconds on a loaded machine: time is never what it judges.
settings.register_profile(
    "ci",
    max_examples=60,
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "search",
    max_examples=2000,
    derandomize=False,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("REFGRAD_PROFILE", "ci"))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """A worker of pytest-xdist is done: add what its tests measured."""
    measured.gather(measured.Measurement(*values) for values in getattr(node, "workeroutput", {}).get("measured", []))


def pytest_runtest_logreport(report):
    """Take down which tests ran."""
    mapped.take_down(report)


def failures(config):
    """Each bound that does not hold or is not attained; after a run of all tests, each mapped one that did not run."""
    return measured.failures() + (mapped.failures() if mapped.runs_everything(config) else [])


def pytest_sessionfinish(session, exitstatus):
    """Send what this worker measured; at the end of the whole run, fail it if there is anything to say."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = [tuple(measurement) for measurement in measured.extremes()]
    elif exitstatus == pytest.ExitCode.OK and failures(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """Print the ratios, and what fails the run."""
    if measured.extremes():
        terminalreporter.section("measured / bound")
        for line in measured.table():
            terminalreporter.write_line(line)
    for line in failures(config) if exitstatus == pytest.ExitCode.OK else measured.failures():
        terminalreporter.write_line(line, red=True)


@pytest.fixture
def hurried():
    """Let threads take turns as often as the interpreter can: what can come between two lines then does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
