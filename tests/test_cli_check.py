"""`refgrad check` as it is typed: exit codes, what is printed where, the JSON file, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from refgrad.cli import app
from refgrad.oracle import find_case, named_cases, plan

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "implementations"
RIGHT, WRONG = (str(EXAMPLES / f"{name}.py") for name in ("correct_numpy", "wrong_groups_ignored"))
FEW = ("plain", "2 groups", "3 groups")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """A catalogue of three, a wide terminal, and an interpreter that forgets what a target's import did to it."""
    monkeypatch.setattr(plan, "catalogue", lambda: tuple(find_case(name) for name in FEW))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", list(sys.path))


def typed(*words):
    return CliRunner().invoke(app, ["check", *map(str, words)])


def write(folder, code):
    path = folder / "layer.py"
    path.write_text(code)
    return path


def test_a_right_target_exits_0_and_says_passed():
    result = typed(RIGHT, "--cases", 2)
    assert result.exit_code == 0
    assert (
        "PASSED: everything that it returned is right, on 5 inputs (3 named, 2 generated from seed 0)" in result.stdout
    )


def test_a_wrong_target_exits_1_and_names_the_cause():
    result = typed(WRONG, "--cases", 0)
    assert result.exit_code == 1
    assert "the groups are ignored: every group reads the channels of the first" in result.stdout
    assert "FAILED: grad_weight" in result.stdout


def test_the_seed_is_printed_and_the_same_seed_gives_the_same_report():
    first, again = (typed(WRONG, "--cases", 3, "--seed", 41).stdout for _ in range(2))
    assert "generated from seed 41" in first
    assert first == again


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "Missing argument"),
        ((RIGHT, "--cases", "-1"), "--cases"),
        ((RIGHT, "--seed", "-1"), "--seed"),
        ((RIGHT, "--cases", "many"), "--cases"),
        ((RIGHT, "--tolerance", "1"), "No such option"),
        ((RIGHT, "another"), "unexpected extra argument"),
    ],
)
def test_wrong_usage_exits_2(words, text):
    result = typed(*words)
    assert result.exit_code == 2
    assert text in result.output


@pytest.mark.parametrize(
    ("name", "reason"), [("missing/report.json", "No such file or directory"), (".", "Is a directory")]
)
def test_a_json_file_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, name, reason):
    """The target would leave a trace if it were imported."""
    target = write(tmp_path, f"open({str(tmp_path / 'trace')!r}, 'w').close()\n")
    result = typed(target, "--json", tmp_path / name)
    assert result.exit_code == 2
    assert f"--json: {tmp_path / name} cannot be written: {reason}" in result.output
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "there is no file"),
        ("raise RuntimeError('no kernel')\n", "RuntimeError: no kernel"),
        ("value = 1\n", "has no 'implementation'"),
        ("implementation = 1\n", "must be callable, got int"),
        ("def implementation(x): ...\n", "must take (x, weight, bias, grad_output, *, stride"),
    ],
)
def test_a_target_that_cannot_be_run_exits_3_and_the_json_says_why(tmp_path, code, text):
    path = tmp_path / "layer.py" if code is None else write(tmp_path, code)
    result = typed(path, "--json", tmp_path / "report.json")
    assert result.exit_code == 3
    assert "the target could not be run: " in result.stderr
    assert text in result.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    assert (document["status"], document["target"]) == ("not run", str(path))
    assert text in document["error"]


@pytest.mark.parametrize(("target", "status", "code"), [(RIGHT, "passed", 0), (WRONG, "failed", 1)])
def test_the_json_is_written_whatever_the_verdict(tmp_path, target, status, code):
    file = tmp_path / "report.json"
    file.write_text("what was there before, and is longer than nothing" * 1000)
    assert typed(target, "--cases", 1, "--seed", 5, "--json", file).exit_code == code
    document = json.loads(file.read_text())
    assert (document["status"], document["seed"], document["target"]) == (status, 5, target)
    assert len(document["failures"]) == code


def interrupting(tmp_path, calls):
    code = (
        f"import sys\nsys.path.insert(0, {str(EXAMPLES)!r})\nimport correct_numpy\ncalls = []\n"
        "def implementation(*arguments, **attributes):\n    calls.append(1)\n"
        f"    if len(calls) > {calls}:\n        raise KeyboardInterrupt\n"
        "    return correct_numpy.implementation(*arguments, **attributes)\n"
    )
    return write(tmp_path, code)


def test_ctrl_c_prints_what_was_judged_so_far_and_exits_130(tmp_path):
    result = typed(interrupting(tmp_path, calls=8), "--jobs", 1, "--json", tmp_path / "report.json")
    assert result.exit_code == 130
    assert "INTERRUPTED after 2 of 103 inputs; nothing failed so far" in result.stdout
    document = json.loads((tmp_path / "report.json").read_text())
    assert (document["status"], document["cases"]["catalogue"]) == ("interrupted", 2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for a group of processes")
def test_a_real_ctrl_c_reaches_the_workers_and_loses_nothing(tmp_path):
    code = """
import time
def implementation(x, weight, bias, grad_output, **attributes):
    open("called", "a").close()
    time.sleep(0.05)
    return {"grad_bias": grad_output.sum((0, 2, 3))}
"""
    # Whoever runs the tests in the background has told their processes to ignore Ctrl-C: this one must hear it.
    hearing = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import refgrad.cli as cli; "
    hearing += "cli.app()"
    command = [sys.executable, "-c", hearing, "check", str(write(tmp_path, code)), "--json", "report.json"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        while not (tmp_path / "called").exists():
            time.sleep(0.01)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate()
    assert process.returncode == 130
    assert "INTERRUPTED after" in output
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["status"] == "interrupted"
    assert document["cases"]["catalogue"] < document["cases"]["asked_for"]


MISBEHAVING = """
import os, time
def implementation(x, weight, bias, grad_output, *, groups, **attributes):
    if groups == {groups}:
        {deed}
    return {{"grad_bias": grad_output.sum((0, 2, 3))}}
"""


@pytest.mark.parametrize(
    ("deed", "kind"),
    [
        ("time.sleep(1000)", "the call took longer than 1 s"),
        ("os._exit(7)", "the call ended its process: exit code 7"),
        ("os.abort()", "the call ended its process: signal SIGABRT"),
    ],
)
def test_a_target_that_hangs_or_crashes_costs_its_case_only(tmp_path, deed, kind):
    path = write(tmp_path, MISBEHAVING.format(groups=2, deed=deed))
    result = typed(path, "--cases", 0, "--timeout", 1, "--json", tmp_path / "report.json")
    assert result.exit_code == 1
    assert kind in result.stdout
    rows = {row["row"]: row for row in json.loads((tmp_path / "report.json").read_text())["rows"]}
    assert (rows["call"]["passed"], rows["call"]["failed"]) == (len(FEW) - 1, 1)
    assert rows["grad_bias"]["passed"] == len(FEW) - 1


def test_a_level_an_operation_and_a_dtype_choose_the_cases(tmp_path):
    words = ("refgrad.oracle.own:target", "--level", "smoke", "--op", "rank", "--op", "unfold", "--dtype", "float32")
    result = typed(*words, "--json", tmp_path / "report.json")
    assert result.exit_code == 0
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert [(row["operation"], row["row"]) for row in rows] == [
        ("rank", "call"),
        ("rank", "ranks"),
        ("rank", "relations"),
        ("rank", "refusals"),
        ("unfold", "call"),
        ("unfold", "matrix"),
        ("unfold", "relations"),
        ("unfold", "refusals"),
    ]
    assert {row["digits"]["float64"] for row in rows} == {None}
    in_float32 = sum(case.dtype == "float32" for case in named_cases("rank"))
    assert rows[1]["passed"] == plan.LEVELS["smoke"].named > in_float32, "the float64 inputs are cast, not left out"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--op", "svd"), "the target does not offer svd; it offers conv2d"),
        (("--op", "dct"), "operation must be one of 'rank', 'unfold'"),
        (("--level", "all"), "level must be one of 'smoke', 'ci', 'nightly', 'exhaustive', got 'all'"),
        (("--dtype", "float16"), "dtype must be one of 'float64', 'float32', got 'float16'"),
    ],
)
def test_a_choice_that_cannot_be_made_exits_2(words, text):
    result = typed(RIGHT, *words)
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.mark.parametrize("existed", [True, False])
def test_ctrl_c_during_the_import_leaves_the_json_as_it_was(tmp_path, existed):
    file = tmp_path / "report.json"
    if existed:
        file.write_text("before")
    result = typed(write(tmp_path, "raise KeyboardInterrupt\n"), "--json", file)
    assert result.exit_code == 130
    assert "interrupted while the target was being imported" in result.stderr
    assert (file.read_text() if file.exists() else None) == ("before" if existed else None)


def test_help_teaches_with_an_example():
    result = typed("--help")
    assert result.exit_code == 0
    for text in (
        "refgrad check my_layer.py --cases 500 --html report.html",
        "def implementation(x, weight, bias",
        "Exits",
    ):
        assert text in result.stdout


def test_a_real_process_exits_1_and_keeps_the_report_apart_from_the_progress(tmp_path):
    """The whole way: the interpreter, the command line, the real catalogue."""
    command = [sys.executable, "-m", "refgrad", "check", WRONG, "--cases", "1", "--json", str(tmp_path / "report.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.rstrip().splitlines()[-1].startswith("FAILED: grad_weight; on ")
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["cases"]["catalogue"] > len(FEW)
