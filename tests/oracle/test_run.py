"""A whole run: what is reported of right, wrong, silent and partial targets, and that every report can be repeated."""

import io
import json
import math
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import refgrad
from refgrad.oracle import Check, check, find_case, load_target, plan
from refgrad.oracle.catalogue import catalogue
from refgrad.oracle.protocol import LABELS, ROWS
from refgrad.oracle.report import NOTHING, Report, Row, not_run_json
from refgrad.oracle.variants import layer
from tests.oracle.test_answers import changed, setting, setting_from

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "implementations"
FEW = (
    "plain",
    "plain, float32",
    "four different pads",
    "2 groups",
    "stride equals dilation, 2",
    "tie at the cut",
    "zero energy",
)


@pytest.fixture
def few(monkeypatch):
    """A catalogue of seven."""
    monkeypatch.setattr(plan, "catalogue", lambda: tuple(find_case(name) for name in FEW))


def printed(report):
    console = Console(record=True, width=200, file=io.StringIO())
    report.print(console)
    return console.export_text()


WRONG = {
    "wrong_padding_axes": (
        {"forward", "grad_input", "grad_weight"},
        "the padding of the height is used for the width as well",
    ),
    "wrong_stride_equals_dilation": ({"grad_weight"}, "the stride is ignored when it equals the dilation"),
    "wrong_rank_off_by_one": ({"ranks"}, "every mode keeps one column too few"),
    "wrong_groups_ignored": ({"grad_weight"}, "the groups are ignored: every group reads the channels of the first"),
}


@cache
def report_on(name):
    """The whole catalogue, on one of the examples."""
    path = str(EXAMPLES / f"{name}.py")
    return check(load_target(path), cases=10, name=path)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_example_fails_in_its_rows_with_its_cause_and_a_small_input(name):
    rows, cause = WRONG[name]
    report = report_on(name)
    assert report.exit_code == 1
    assert {failure.row for failure in report.failures} == rows
    for failure in report.failures:
        assert failure.cause.mistake.cause == cause
        assert (failure.cause.explained, failure.cause.contradicted) == (failure.cause.looked_at, 0)
        assert failure.shrunk
        assert failure.verdict.ratio >= 10
        sizes = [
            array.size for array in (failure.case.x, failure.case.weight, failure.case.bias, failure.case.grad_output)
        ]
        assert sum(sizes) <= 16


def test_the_right_example_passes_on_every_case():
    report = check(load_target(str(EXAMPLES / "correct_numpy.py")), cases=30, seed=1)
    judged = len(catalogue()) + 30
    assert (report.exit_code, report.status, report.error, report.failures) == (0, "passed", None, ())
    assert [(row.name, row.passed) for row in report.rows if row.name != "relations"] == [(row, judged) for row in ROWS]
    assert next(row for row in report.rows if row.name == "relations").passed == len(catalogue())
    assert all(row.worst is None or row.worst <= 1 for row in report.rows)


def test_every_row_counts_every_case(few):
    report = check(layer(keys=("output", "grad_weight")), cases=3)
    for row in report.rows:
        judged = len(FEW) + (3 if row.name in ROWS else 0)  # generated inputs are called once
        assert row.passed + row.failed + row.suspect + row.inconclusive + row.not_provided == judged
    assert {row.name for row in report.rows if row.not_provided} == set(ROWS) - {"call", "forward", "grad_weight"}


def test_a_target_that_returns_nothing_has_not_passed(few):
    report = check(lambda *_, **__: {}, cases=2)
    assert (report.exit_code, report.status, report.error) == (1, "failed", NOTHING)
    assert NOTHING in printed(report)
    assert json.loads(report.to_json())["error"] == NOTHING


def test_a_target_that_claims_nothing_has_not_passed(few):
    def refuse(*_, **__):
        raise NotImplementedError("any of this")

    report = check(refuse, cases=2)
    assert (report.exit_code, report.error, report.unclaimed) == (1, NOTHING, (("any of this", len(FEW) + 2),))
    assert f"Not claimed in {len(FEW) + 2} cases: any of this" in printed(report)


def test_a_target_that_is_only_inconclusive_has_not_passed(monkeypatch):
    monkeypatch.setattr(plan, "catalogue", lambda: (find_case("flat spectrum"),))
    report = check(layer(keys=("grad_weight",)), cases=0)
    assert (report.exit_code, report.error) == (1, NOTHING)


def test_a_case_that_is_not_claimed_is_counted_and_the_others_decide(few):
    right = layer()

    def without_groups(*arguments, groups, **attributes):
        if groups > 1:
            raise NotImplementedError("groups")
        return right(*arguments, groups=groups, **attributes)

    report = check(without_groups, cases=0)
    assert (report.exit_code, report.unclaimed) == (0, (("groups", 1),))
    assert {row.not_provided for row in report.rows} == {1}


def test_a_key_that_is_missing_in_some_cases_fails_there(few):
    """A missing gradient fails: what is returned for one group is claimed for all."""

    def forgetful(*arguments, groups, **attributes):
        answer = layer()(*arguments, groups=groups, **attributes)
        if groups > 1:
            del answer["grad_weight"]
        return answer

    report = check(forgetful, cases=0)
    (failure,) = report.failures
    assert (failure.row, failure.kind, failure.failed, failure.names) == ("grad_weight", "missing", 1, ("2 groups",))
    assert failure.verdict.message == "grad_weight is missing, though it was returned for other cases"
    assert report.exit_code == 1


def test_a_factor_that_is_missing_in_some_cases_fails_though_the_core_is_there(few):
    def forgetful(x, *arguments, **attributes):
        answer = layer()(x, *arguments, **attributes)
        if x.dtype == np.float32:
            del answer["factors"]
        return answer

    (failure,) = check(forgetful, cases=0).failures
    assert (failure.row, failure.kind, failure.names) == ("factors", "missing", ("plain, float32",))


def test_an_exception_is_shrunk_to_the_smallest_input_that_raises_it(few):
    def brittle(x, *arguments, groups, **attributes):
        if groups == 2:
            raise ArithmeticError("no groups here")
        return layer()(x, *arguments, groups=groups, **attributes)

    report = check(brittle, cases=0)
    (failure,) = report.failures
    assert (failure.row, failure.kind, failure.case.groups, failure.case.x.size) == (
        "call",
        "call raised ArithmeticError",
        2,
        2,
    )
    assert 'raise ArithmeticError("no groups here")' in printed(report)


def test_failures_of_two_kinds_in_one_row_are_both_reported_with_the_one_cause(few):
    """The mean over the batch, and twice a wrong shape."""

    def mean(answer, arguments):
        answer["grad_bias"] = arguments[3].sum(axis=(2, 3)) if arguments[0].shape[1] == 4 else answer["grad_bias"]
        answer["output"] = (
            answer["output"].astype(np.float16) if arguments[0].dtype == np.float32 else -answer["output"]
        )

    failures = check(changed(mean), cases=0).failures
    kinds = {(failure.row, failure.kind) for failure in failures}
    assert {("forward", "dtype"), ("forward", "value")} <= kinds


def test_the_smallest_input_fails_in_the_kind_that_is_reported(few):
    """With one sample the dtype is wrong, with more the values: shrinking one failure must not end in the other."""

    def two_faced(answer, arguments):
        output = answer["output"]
        answer["output"] = output + 1 if len(output) > 1 else output.astype(np.float16)

    (failure,) = (each for each in check(changed(two_faced), cases=0).failures if each.kind == "value")
    assert failure.verdict.kind == "value"
    assert failure.case.x.shape[0] == 2


def test_a_T12_failure_names_what_is_wrong_with_the_factors(monkeypatch):
    monkeypatch.setattr(plan, "catalogue", lambda: (find_case("steep spectrum"), find_case("plain")))

    def trailing(matrix):
        left, values, _ = np.linalg.svd(matrix, full_matrices=False)
        return left[:, ::-1], values**2

    failures = {failure.row: failure for failure in check(layer(trailing), cases=0).failures}
    assert failures["grad_weight"].kind == "T12"
    assert (
        failures["grad_weight"].cause.mistake.name
        == failures["factors"].cause.mistake.name
        == "factors: trailing vectors"
    )


def test_an_unknown_mistake_has_no_cause_and_the_report_says_so(few):
    report = check(setting_from("grad_bias", lambda answer, _: answer["grad_bias"] + 17), cases=0)
    (failure,) = report.failures
    assert failure.cause is None
    assert "no mistake in the library gives these values" in printed(report)


def test_the_same_seed_gives_the_same_report_and_another_another(few):
    wrong = setting_from("grad_bias", lambda answer, _: answer["grad_bias"] / 2)
    first, again, other = (check(wrong, cases=2, seed=seed).to_json() for seed in (4, 4, 5))
    assert first == again
    assert first != other


@pytest.mark.parametrize("number", [0, 2])
def test_an_interrupted_run_reports_what_was_judged(few, number):
    """Nothing is lost but the case under way; what was not shrunk is shown as it was found."""
    whole = Check(setting_from("grad_bias", lambda answer, _: -answer["grad_bias"]), cases=3)
    iterator = iter(whole)
    for _ in range(number + 1):
        next(iterator)
    iterator.close()
    report = whole.report()
    assert (report.status, report.catalogue, report.generated, report.asked_for) == (
        "interrupted",
        number,
        0,
        len(FEW) + 3,
    )
    assert f"INTERRUPTED after {number} of {len(FEW) + 3} inputs" in printed(report)
    assert [failure.shrunk for failure in report.failures] == [False] * bool(number)


def test_progress_is_told_before_every_step(few):
    seen = []
    check(layer(), cases=2, seed=9, progress=seen.append)
    assert [step.done for step in seen] == list(range(len(FEW) + 2))
    assert {step.total for step in seen} == {len(FEW) + 2}
    assert [step.doing for step in seen] == [f"conv2d: {name}" for name in (*FEW, "generated 9/0", "generated 9/1")]


def test_check_refuses_negative_numbers():
    with pytest.raises(ValueError, match="cases must be at least 0, got -1"):
        check(layer(), cases=-1)
    with pytest.raises(ValueError, match="seed must be at least 0, got -3"):
        check(layer(), seed=-3)


def as_program(code, folder):
    (folder / "snippet.py").write_text(code)
    return subprocess.run([sys.executable, "snippet.py"], cwd=folder, capture_output=True, text=True, check=False)


def test_the_snippet_reproduces_the_failure_by_itself(tmp_path):
    failure = report_on("wrong_stride_equals_dilation").failures[0]
    done = as_program(failure.snippet, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (1, failure.verdict.message)
    assert done.stderr.rstrip().endswith("AssertionError")


def test_the_snippet_finds_nothing_wrong_with_a_right_target(tmp_path):
    failure = report_on("wrong_groups_ignored").failures[0]
    right = failure.snippet.replace(failure.target, str(EXAMPLES / "correct_numpy.py"))
    done = as_program(right, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_snippet_of_what_was_not_shrunk_looks_the_case_up(tmp_path):
    path = str(EXAMPLES / "wrong_groups_ignored.py")
    whole = Check(load_target(path), cases=0, name=path)
    for step in whole:
        if step.doing == "conv2d: 3 groups":
            break
    (failure,) = whole.report().failures
    assert "find_case_of('conv2d', '2 groups')" in failure.snippet
    done = as_program(failure.snippet, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (1, failure.verdict.message)


HEAD = {"schema", "refgrad", "target", "seed", "status", "error"}


def test_the_json_has_the_documented_keys_and_no_others(few):
    document = json.loads(check(setting_from("output", lambda a, _: a["output"] * np.nan), cases=1, name="t").to_json())
    assert set(document) == HEAD | {"cases", "declaration", "rows", "failures", "not_claimed"}
    assert (document["schema"], document["refgrad"], document["target"]) == (
        "refgrad-check/3",
        refgrad.__version__,
        "t",
    )
    assert document["cases"] == {"catalogue": len(FEW), "generated": 1, "asked_for": len(FEW) + 1}
    assert [set(row) for row in document["rows"]] == [
        {
            "operation",
            "row",
            "passed",
            "failed",
            "suspect",
            "inconclusive",
            "not_provided",
            "worst_measured_over_allowed",
            "digits",
        }
    ] * len(ROWS)
    (failure,) = document["failures"]
    text = refgrad.oracle.report.__doc__
    for key in (*document, *document["rows"][0], *failure, *failure["input"]):
        assert f'"{key}"' in text or f"``{key}``" in text, f"{key} is not documented"
    assert (failure["measured_over_allowed"], failure["value"]) == ("inf", "nan")
    assert document["rows"][1]["worst_measured_over_allowed"] == "inf"
    assert set(document["rows"][3]["digits"]["float64"]) == {"fewest", "median"}


def test_the_json_of_a_cause_has_the_documented_keys(few):
    document = json.loads(check(setting_from("grad_weight", lambda a, _: -a["grad_weight"]), cases=0).to_json())
    cause = document["failures"][0]["cause"]
    assert set(cause) == {"name", "sentence", "explained", "looked_at", "contradicted", "passing"}
    assert cause["sentence"] == "your grad_weight equals the one where the sign is turned round"


def test_the_json_of_a_target_that_was_not_run_is_its_head():
    document = json.loads(not_run_json("layer.py", 3, "there is no file layer.py"))
    assert set(document) == HEAD
    assert (document["status"], document["error"], document["seed"]) == ("not run", "there is no file layer.py", 3)


def test_the_table_fits_a_terminal_of_80_columns(few):
    console = Console(record=True, width=80, file=io.StringIO())
    check(setting_from("output", lambda a, _: 1e300 * a["output"]), cases=0).print(console)
    lines = console.export_text().splitlines()
    for label in (LABELS[row] for row in ROWS):
        assert any(line.startswith(f" {label}") for line in lines), f"{label} was cut"
    assert not any("…" in line for line in lines)


def test_the_report_shows_ratio_digits_and_words(few):
    text = printed(check(setting_from("grad_bias", lambda a, _: a["grad_bias"] / 2), cases=0, name="mine.py"))
    assert "mine.py" in text
    assert "failure 1: conv2d, grad_bias (db), value" in text
    assert "nothing is allowed" in text, "the smallest input has a sum without any rounding"
    text = printed(check(setting_from("grad_weight", lambda a, _: a["grad_weight"] / 2), cases=0))
    assert "times what is allowed" in text
    text = printed(check(setting_from("grad_bias", lambda a, _: a["grad_bias"] / 2), cases=0))
    assert "FAILED: grad_bias; on 7 inputs (7 named, 0 generated from seed 0)" in text


@pytest.mark.parametrize(
    ("counts", "style"),
    [
        ({"passed": 3}, None),
        ({"passed": 3, "not_provided": 1}, None),
        ({"not_provided": 3}, "2"),
        ({"passed": 1, "inconclusive": 1}, "33"),
        ({"passed": 1, "suspect": 2}, "33"),
        ({"inconclusive": 1, "suspect": 1}, "33"),
        ({"failed": 1, "inconclusive": 1, "suspect": 1}, "31"),
    ],
)
def test_a_row_is_red_where_it_failed_yellow_where_it_is_doubtful_and_dim_where_nothing_passed(counts, style):
    none = dict.fromkeys(("passed", "failed", "suspect", "inconclusive", "not_provided"), 0)
    row = Row("conv2d", "grad_bias", **{**none, **counts}, worst=None, digits={"float64": None, "float32": None})
    report = Report("", 0, 3, 0, 3, (row,), (), (), interrupted=False)
    console = Console(record=True, width=200, file=io.StringIO(), force_terminal=True, color_system="standard")
    report.print(console)
    (line,) = [line for line in console.export_text(styles=True).splitlines() if LABELS["grad_bias"] in line]
    assert re.findall(r"\x1b\[(\d+)m", line.partition(LABELS["grad_bias"])[0]) == ([style] if style else [])


def test_no_line_of_a_snippet_is_broken_by_a_narrow_terminal():
    report = check(SimpleNamespace(unfold=lambda tensor, *, mode: {"matrix": tensor}), cases=0)
    console = Console(record=True, width=30, file=io.StringIO())
    report.print(console)
    assert max(map(len, report.failures[0].snippet.splitlines())) > console.width
    assert report.failures[0].snippet.strip() in console.export_text()


def test_a_warning_of_the_target_is_shown_with_its_failure(few):
    def noisy(answer, arguments):
        answer["grad_bias"] = np.sqrt(-np.ones(len(arguments[1]), arguments[0].dtype))

    assert "RuntimeWarning: invalid value encountered in sqrt" in printed(check(changed(noisy), cases=0))


def test_inconclusive_verdicts_are_counted_and_explained(monkeypatch):
    monkeypatch.setattr(plan, "catalogue", lambda: (find_case("flat spectrum"), find_case("plain")))
    report = check(layer(keys=("grad_weight",)), cases=0)
    row = next(row for row in report.rows if row.name == "grad_weight")
    assert (row.passed, row.inconclusive, report.exit_code) == (1, 1, 0)
    assert "inconclusive: 1, where right answers differ too much (core and factors would help)" in printed(report)


def test_a_failure_by_little_is_shrunk_without_becoming_no_failure(few):
    """Twice what is allowed is under the margin that shrinking likes: it is kept as it is."""

    def slightly(answer, arguments):
        answer["grad_bias"] = answer["grad_bias"] * (1 + 2**-40 if arguments[0].dtype == np.float64 else 1)

    (failure,) = check(changed(slightly), cases=0).failures
    assert failure.verdict.failed
    assert 1 < failure.verdict.ratio < math.inf


def test_unknown_keys_do_not_hide_the_known(few):
    report = check(setting(extra=1), cases=0)
    assert [(failure.row, failure.kind) for failure in report.failures] == [("call", "unknown key")]
    assert next(row for row in report.rows if row.name == "forward").passed == len(FEW)
