"""What a target may do wrong without any number being wrong: each has a verdict that says so."""

import numpy as np
import pytest

from refgrad.oracle.answers import call
from refgrad.oracle.catalogue import find_case
from refgrad.oracle.judge import judge
from refgrad.oracle.variants import layer
from refgrad.oracle.verdicts import Outcome

RIGHT = layer()
CASE = find_case("plain")


def changed(change):
    """A right implementation whose answer goes through `change(answer, arguments)`."""

    def implementation(*arguments, **attributes):
        answer = RIGHT(*arguments, **attributes)
        returned = change(answer, arguments)
        return answer if returned is None else returned

    return implementation


def setting(**values):
    return changed(lambda answer, _: answer.update(values))


def setting_from(key, value):
    return changed(lambda answer, arguments: answer.update({key: value(answer, arguments)}))


X = CASE.x
PROBLEMS = {
    "None": (
        setting(output=None),
        "forward",
        "None",
        "output is None; leave out of the mapping what you do not compute",
    ),
    "list": (setting(grad_bias=[1.0] * 4), "grad_bias", "type", "grad_bias must be a NumPy array, got list"),
    "dtype": (
        setting_from("grad_input", lambda a, _: a["grad_input"].astype(np.float32)),
        "grad_input",
        "dtype",
        "grad_input must have the dtype of the input, float64, got float32",
    ),
    "integers": (
        setting_from("grad_bias", lambda a, _: a["grad_bias"].astype(int)),
        "grad_bias",
        "dtype",
        "grad_bias must have the dtype of the input, float64, got int64",
    ),
    "other byte order": (
        setting_from("grad_bias", lambda a, _: a["grad_bias"].astype(">f8")),
        "grad_bias",
        "dtype",
        "grad_bias must have the dtype of the input, float64, got >f8",
    ),
    "shape": (
        setting_from("grad_weight", lambda a, _: a["grad_weight"][None]),
        "grad_weight",
        "shape",
        "grad_weight must have shape (4, 2, 3, 2), got (1, 4, 2, 3, 2)",
    ),
    "view": (
        setting_from("reconstruction", lambda _, arguments: arguments[0][:]),
        "reconstruction",
        "view",
        "reconstruction is a view of an argument; return an array of its own",
    ),
    "NaN": (
        setting_from("output", lambda a, _: np.where(a["output"] > 0, np.nan, a["output"])),
        "forward",
        "not finite",
        "is nan",
    ),
    "NaN in a factor": (
        setting_from("factors", lambda a, _: [a["factors"][0] * np.nan, *a["factors"][1:]]),
        "factors",
        "orthonormal",
        "|U^T U - I| is nan",
    ),
    "NaN in the core": (
        setting_from("core", lambda a, _: a["core"] * np.nan),
        "factors",
        "not finite",
        "core[0, 0, 0, 0] is nan",
    ),
    "unknown key": (
        setting(grad_wieght=X),
        "call",
        "unknown key",
        "unknown key 'grad_wieght'; did you mean 'grad_weight'?",
    ),
    "strange key": (setting(zzz=X), "call", "unknown key", "unknown key 'zzz'; known are output, grad_input"),
    "three factors": (
        setting_from("factors", lambda a, _: a["factors"][:3]),
        "factors",
        "type",
        "factors must be a sequence of four matrices, got tuple of length 3",
    ),
    "a number for factors": (
        setting(factors=3),
        "factors",
        "type",
        "factors must be a sequence of four matrices, got int",
    ),
    "None among the factors": (
        setting_from("factors", lambda a, _: (None, *a["factors"][1:])),
        "factors",
        "None",
        "factors[0] is None",
    ),
    "transposed factor": (
        setting_from("factors", lambda a, _: (*a["factors"][:3], a["factors"][3].T)),
        "factors",
        "shape",
        "factors[3] must have shape (W=7, K) with 1 <= K <= 7, got (5, 7)",
    ),
    "empty factor": (
        setting_from("factors", lambda a, _: (a["factors"][0][:, :0], *a["factors"][1:])),
        "factors",
        "shape",
        "factors[0] must have shape (B=3, K) with 1 <= K <= 3, got (3, 0)",
    ),
    "core of other ranks": (
        setting_from("core", lambda a, _: a["core"][:1]),
        "factors",
        "shape",
        "but the factors have (3, 2, 4, 5) columns",
    ),
    "ranks that are not the factors'": (
        setting(ranks=(1, 1, 1, 1)),
        "ranks",
        "not the factors'",
        "ranks are (1, 1, 1, 1), but the factors have (3, 2, 4, 5) columns",
    ),
    "three ranks": (setting(ranks=(1, 1, 1)), "ranks", "type", "ranks must be four integers, got (1, 1, 1)"),
    "a rank of 2.0": (
        setting(ranks=(2.0, 1, 1, 1)),
        "ranks",
        "type",
        "ranks[0] must be an integer, got 2.0 of type float",
    ),
    "stored numbers as a float": (
        setting(stored_numbers=12.0),
        "stored_numbers",
        "type",
        "stored_numbers must be an integer, got 12.0 of type float",
    ),
    "stored numbers as a bool": (
        setting(stored_numbers=True),
        "stored_numbers",
        "type",
        "must be an integer, got True",
    ),
    "stored numbers as None": (setting(stored_numbers=None), "stored_numbers", "type", "must be an integer, got None"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_wrong_is_said(name):
    implementation, row, kind, text = PROBLEMS[name]
    verdict = judge(implementation, CASE).verdicts[row]
    assert (verdict.outcome, verdict.kind) == (Outcome.FAILED, kind)
    assert text in verdict.message


def test_nothing_is_wrong_with_what_is_right():
    verdicts = judge(RIGHT, CASE, twice=True).verdicts
    assert {verdict.outcome for verdict in verdicts.values()} == {Outcome.PASSED}


@pytest.mark.parametrize("position", range(4))
def test_writing_into_an_argument_fails(position):
    def write(answer, arguments):
        arguments[position][...] += 1.0

    verdict = judge(changed(write), CASE).verdicts["call"]
    name = ("x", "weight", "bias", "grad_output")[position]
    assert verdict.message == f"the call wrote into its argument {name}; copy what you change"
    assert verdict.failed


def test_writing_into_a_read_only_argument_is_an_exception_with_its_traceback():
    def write(answer, arguments):
        arguments[0][...] = 0.0

    judgement = judge(changed(write), find_case("read-only layout"))
    assert judgement.verdicts["call"].kind == "call raised ValueError"
    assert "arguments[0][...] = 0.0" in judgement.answer.traceback


@pytest.mark.parametrize("returned", [None, [1.0], 3.0])
def test_returning_no_mapping_fails(returned):
    verdict = judge(lambda *_, **__: returned, CASE).verdicts["call"]
    assert verdict.message == f"the call must return a mapping of names to results, got {type(returned).__name__}"
    assert verdict.failed


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(3), MemoryError("much")])
def test_an_exception_fails_the_call_and_shows_the_targets_frames_only(error):
    def implementation(*_, **__):
        raise error

    judgement = judge(implementation, CASE)
    verdict = judgement.verdicts["call"]
    assert verdict.message == f"the call raised {type(error).__name__}: {error}"
    assert verdict.kind == f"call raised {type(error).__name__}"
    assert "raise error" in judgement.answer.traceback
    assert judgement.answer.traceback.count("File ") == 1
    assert {v.outcome for row, v in judgement.verdicts.items() if row != "call"} == {Outcome.NOT_PROVIDED}


def test_ctrl_c_is_not_the_targets_exception():
    def implementation(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(implementation, CASE)


def test_not_implemented_is_a_case_that_is_not_claimed():
    def implementation(*_, **__):
        raise NotImplementedError("four pads")

    verdicts = judge(implementation, CASE).verdicts
    assert {(verdict.outcome, verdict.message) for verdict in verdicts.values()} == {
        (Outcome.NOT_PROVIDED, "four pads")
    }


def test_what_is_left_out_is_not_provided():
    verdicts = judge(layer(keys=("grad_bias",)), CASE).verdicts
    assert verdicts["call"].outcome is verdicts["grad_bias"].outcome is Outcome.PASSED
    assert {v.outcome for row, v in verdicts.items() if row not in ("call", "grad_bias")} == {Outcome.NOT_PROVIDED}


def test_a_core_without_factors_is_not_judged():
    verdict = judge(layer(keys=("core",)), CASE).verdicts["factors"]
    assert (verdict.outcome, verdict.message) == (Outcome.NOT_PROVIDED, "core came without factors")


def test_factors_without_a_core_are_judged_as_far_as_they_go():
    verdict = judge(layer(keys=("factors",)), CASE).verdicts["factors"]
    assert (verdict.outcome, verdict.message) == (Outcome.PASSED, "core not provided")


def test_ranks_are_the_columns_of_the_factors_where_they_are_not_given():
    assert judge(layer(keys=("factors",)), CASE).verdicts["ranks"].outcome is Outcome.PASSED


def test_a_random_answer_is_not_repeatable():
    generator = np.random.default_rng(0)
    noisy = setting_from("grad_bias", lambda a, _: np.nextafter(a["grad_bias"], generator.choice([-np.inf, np.inf], 4)))
    assert judge(noisy, CASE).verdicts["call"].outcome is Outcome.PASSED
    verdict = judge(noisy, CASE, twice=True).verdicts["call"]
    assert verdict.kind == "not repeatable"
    assert "the same call twice gives different bits" in verdict.message


def test_a_targets_buffer_may_be_used_again():
    """What was returned is copied at once: the next call may overwrite it."""
    buffer = np.zeros(4)

    def implementation(x, weight, bias, grad_output, **_):
        np.sum(grad_output, axis=(0, 2, 3), out=buffer)
        return {"grad_bias": buffer}

    first = call(implementation, CASE)
    call(implementation, find_case("1 x 1 kernel"))
    assert np.array_equal(first.arrays["grad_bias"], CASE.grad_output.sum(axis=(0, 2, 3)))


def test_a_targets_warning_is_kept_and_goes_no_further():
    def implementation(x, weight, bias, grad_output, **_):
        return {"grad_bias": np.sqrt(-np.abs(grad_output)).sum(axis=(0, 2, 3))}

    assert call(implementation, CASE).warning == "RuntimeWarning: invalid value encountered in sqrt"
