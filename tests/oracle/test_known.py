"""Known failures: what is excused, and what is wrong with the list."""

import datetime
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from refgrad.cli import app
from refgrad.oracle import Check, check
from refgrad.oracle.known import KnownFailure, KnownFailuresError, excuse, load_known
from refgrad.oracle.own import target as own

TODAY = datetime.date(2027, 1, 15)


def wrong_rank(singular_values, *, explained_variance):
    return {"rank": own.rank(singular_values, explained_variance=explained_variance)["rank"] + 1}


TARGET = SimpleNamespace(rank=wrong_rank, unfold=own.unfold)


def known(name, expires=TODAY):
    return KnownFailure(name, "not there yet", expires)


@pytest.mark.parametrize(
    ("entries", "code", "text"),
    [
        ([known("rank/ranks/value")], 0, "known: rank/ranks/value until 2027-01-15: not there yet"),
        ([], 1, "NEW: rank/ranks/value"),
        ([known("rank/ranks/value", TODAY - datetime.timedelta(1))], 1, "EXPIRED on 2027-01-14: rank/ranks/value"),
        ([known("rank/ranks/value"), known("unfold/matrix/value")], 1, "UNEXPECTEDLY PASSING: unfold/matrix/value"),
        ([known("rank/ranks/value"), known("conv2d/forward/value")], 1, "UNMATCHED: conv2d/forward/value"),
    ],
)
def test_what_becomes_of_each_entry(entries, code, text):
    excused = excuse(check(TARGET, cases=0), entries, TODAY)
    assert excused.exit_code == code
    assert any(line.startswith(text) for line in excused.lines()), excused.lines()


def test_an_interrupted_run_calls_no_entry_idle():
    run = Check(TARGET, cases=0)
    next(iter(run))
    assert excuse(run.report(), [known("unfold/matrix/value")], TODAY).exit_code == 0


GOOD = '[[failure]]\nid = "a/b/c"\nreason = "why"\nexpires = 2027-03-01\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[failure]\n", "is no TOML"),
        ("[failures]\n", r"must hold nothing but tables \[\[failure\]\], got failures"),
        ("failure = 3\n", "must hold nothing but tables"),
        (GOOD.replace("reason", "raison"), "entry 1: keys must be id, reason, expires, got id, raison, expires"),
        (GOOD.replace("a/b/c", "a"), "entry 1: id must be operation/row/kind, got 'a'"),
        (GOOD.replace("why", " "), "entry 1: reason must say why"),
        (GOOD.replace("2027-03-01", '"soon"'), "entry 1: expires must be a date like 2027-03-01, got 'soon'"),
        (GOOD.replace("2027-03-01", "2027-03-01T00:00:00"), "expires must be a date"),
        (GOOD + GOOD, "a/b/c stands there twice"),
        ("#" * 2**20 + "#", "is larger than"),
    ],
)
def test_a_malformed_list_is_refused(tmp_path, text, message):
    path = tmp_path / "known.toml"
    path.write_text(text)
    with pytest.raises(KnownFailuresError, match=message):
        load_known(path)


def test_bytes_that_are_no_text_and_a_missing_file_are_refused(tmp_path):
    path = tmp_path / "known.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(KnownFailuresError, match="is no TOML"):
        load_known(path)
    with pytest.raises(KnownFailuresError, match="cannot be read: No such file"):
        load_known(tmp_path / "missing.toml")


def test_the_command_reads_the_list_and_writes_junit(tmp_path):
    (tmp_path / "target.py").write_text(
        "from types import SimpleNamespace\n"
        "implementation = SimpleNamespace(rank=lambda s, *, explained_variance: {'rank': 99})\n"
    )
    (tmp_path / "known.toml").write_text(GOOD.replace("a/b/c", "rank/ranks/value").replace("2027", "9999"))
    words = [
        "check",
        str(tmp_path / "target.py"),
        "--level",
        "smoke",
        "--jobs",
        "1",
        "--junit",
        str(tmp_path / "out.xml"),
        "--html",
        str(tmp_path / "out.html"),
    ]
    assert CliRunner().invoke(app, words).exit_code == 1
    assert "rank is 99" in (tmp_path / "out.xml").read_text()
    assert "rank is 99" in (tmp_path / "out.html").read_text(encoding="utf-8")
    excused = CliRunner().invoke(app, [*words, "--known", str(tmp_path / "known.toml")])
    assert excused.exit_code == 0
    assert "known: rank/ranks/value until 9999-03-01: why" in excused.stdout
    refused = CliRunner().invoke(app, [*words, "--known", str(tmp_path / "missing.toml")])
    assert refused.exit_code == 2
    assert "--known:" in refused.stderr
