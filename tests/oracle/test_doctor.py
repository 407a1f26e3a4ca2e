"""The oracle's trust in itself: the doctor's findings, and that it finds something where something is wrong."""

import numpy as np
import pytest
from typer.testing import CliRunner

from refgrad.cli import app
from refgrad.oracle import doctor, operations, own, study
from refgrad.oracle.doctor import Examination, Finding, examinations


@pytest.fixture
def quick(monkeypatch):
    """Only the examinations that take no time, and one operation."""
    monkeypatch.setattr(doctor, "OPERATIONS", {"rank": operations.OPERATIONS["rank"]})
    monkeypatch.setattr(doctor, "VARIANTS", {})


def test_every_examination_is_healthy(quick):
    findings = {examination.name: examination.run() for examination in examinations()}
    assert len(findings) == 5
    assert all(finding.healthy for finding in findings.values()), findings
    assert findings["malformed answers fail"].text == "12 of 12 fail"
    assert findings["mistakes in rank are caught and named"].text == "9 of 9 caught, 9 named as themselves"


def test_a_judge_that_passes_everything_is_sick(quick, monkeypatch):
    class Blind:
        failed = False

    monkeypatch.setattr(doctor, "judge", lambda *_, **__: Blind())
    finding = next(each for each in examinations() if each.name == "malformed answers fail").run()
    assert not finding.healthy
    assert "a NaN in dW" in finding.text


def test_an_inaccurate_lapack_is_sick(quick, monkeypatch):
    monkeypatch.setattr(doctor, "singular_values", lambda tensor, mode: np.full(4, np.nan))
    assert not next(examinations()).run().healthy


def test_a_wrong_path_of_our_own_is_sick(quick, monkeypatch):
    right = own.target.rank
    monkeypatch.setattr(own.target, "rank", lambda *a, **k: {"rank": right(*a, **k)["rank"] + 1})
    finding = next(each for each in examinations() if each.name.startswith("refgrad's own paths")).run()
    assert not finding.healthy
    assert "rank is" in finding.text


def test_a_mistake_that_nothing_shows_is_sick(quick, monkeypatch):
    monkeypatch.setattr(study, "returned", lambda results, dtype: {"rank": None})
    finding = next(each for each in examinations() if each.name.startswith("mistakes")).run()
    assert finding.healthy, "None is caught, if not named"
    monkeypatch.setattr(study, "plan", lambda *_, **__: [])
    finding = next(each for each in examinations() if each.name.startswith("mistakes")).run()
    assert not finding.healthy
    assert "ranks: one short" in finding.text


@pytest.mark.parametrize(("healthy", "code", "word"), [(True, 0, "healthy"), (False, 1, "SICK")])
def test_the_command_says_what_was_found(monkeypatch, healthy, code, word):
    found = [Examination("something", lambda: Finding(healthy, "[1] of 1"))]
    monkeypatch.setattr(doctor, "examinations", lambda: iter(found))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == code
    assert word in result.stdout
    assert "something: [1] of 1" in result.stdout


def test_ctrl_c_exits_130(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examinations", lambda: iter([Examination("something", interrupted)]))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 130
    assert "interrupted; what stands above was found so far" in result.stdout
