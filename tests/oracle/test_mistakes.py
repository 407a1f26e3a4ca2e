"""Every mistake of the library is a target that fails, in its own row, and is named."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from refgrad.oracle.catalogue import catalogue, find_case
from refgrad.oracle.diagnosis import diagnose
from refgrad.oracle.judge import judge
from refgrad.oracle.judgement import Judgement
from refgrad.oracle.mistakes import LIBRARY, Parts, implementation_of
from refgrad.oracle.mistakes.base import returned
from refgrad.oracle.mistakes.geometry import READINGS, Reading, read_grad_input, read_grad_weight, read_output
from refgrad.oracle.protocol import LABELS, ROWS
from refgrad.oracle.reference import Reference
from refgrad.oracle.verdicts import Outcome
from tests.assertions import assert_within

CASES = [
    find_case(name)
    for name in (
        "plain",
        "square kernel",
        "padding of the height only",
        "padding after only",
        "four different pads",
        "padding of more than half a kernel",
        "leftover rows and columns",
        "width 1",
        "stride (1, 2), dilation (1, 2)",
        "stride (2, 2), dilation (1, 3)",
        "stride (2, 3), dilation (2, 3)",
        "stride (3, 1), dilation (3, 1)",
        "stride equals dilation, 2",
        "stride equals dilation on the height only",
        "2 groups",
        "3 groups",
        "depthwise",
        "groups, strides and pads",
        "batch of 1",
        "as many outputs as inputs",
        "tied pair within the kept",
        "energy, not singular values",
        "energy, not norm",
        "rank 1",
        "zero energy",
        "everything kept",
        "half kept",
        "ReLU activation",
        "every mode cut",
    )
]
"""Enough of the catalogue to catch every mistake three times; the rest of it would take a minute more."""


@cache
def reference(number):
    return Reference(CASES[number])


def judgements_of(mistake):
    """The mistake's row, judged on every case."""
    result = []
    for number, case in enumerate(CASES):
        with np.errstate(all="ignore"):
            results = returned(mistake.results(reference(number)), case.dtype)
        target = lambda *_, **__: results  # noqa: E731, B023 - called before the loop goes on
        result.append(judge(target, case, rows=(mistake.row,), reference=reference(number)))
    return result


@pytest.mark.parametrize("mistake", LIBRARY, ids=lambda mistake: mistake.name)
def test_mistake_is_caught_and_named(mistake):
    judgements = judgements_of(mistake)
    failing = [each for each in judgements if each.verdicts[mistake.row].failed]
    passing = [each for each in judgements if each.verdicts[mistake.row].outcome is Outcome.PASSED]
    assert failing, "no case of the catalogue catches it"
    cause = diagnose(mistake.row, failing, passing)
    assert cause is not None
    # Two mistakes may say the same of a forward pass, one of its values and one of its shape.
    assert (cause.mistake.name, cause.mistake.cause) == (mistake.name, mistake.cause) or (
        cause.mistake.cause == mistake.cause and "of another size" in mistake.name
    )


def test_the_library_is_well_formed():
    assert len({mistake.name for mistake in LIBRARY}) == len(LIBRARY) >= 60
    assert {mistake.row for mistake in LIBRARY} == set(ROWS) - {"call"}
    for mistake in LIBRARY:
        assert mistake.cause in mistake.sentence
        assert mistake.sentence.startswith("your ")
        assert mistake.name.split(":")[0].split(",")[0].replace(" ", "_") in (*LABELS, "core"), mistake.name


@pytest.mark.parametrize("number", range(0, len(CASES), 3))
def test_the_library_reads_where_a_convolution_does_when_nothing_is_wrong(number):
    """A second derivation of the three convolutions: without it a mistake could be one of the library's own."""
    case, right = CASES[number], reference(number)
    reading, shape = Reading.right(Parts(right)), case.grad_output.shape[2:]
    output = read_output(case.x, case.weight, case.bias, reading, shape)
    assert_within(output, right.results["output"], right.allowed("output"))
    grad_input = read_grad_input(case.grad_output, case.weight, reading, case.x.shape)
    assert_within(grad_input, right.results["grad_input"], right.allowed("grad_input"))
    core, factors = right.compressed(right.smallest_ranks)
    grad_weight = read_grad_weight(case.x, case.grad_output, reading, case.weight.shape[2:])
    assert_within(
        grad_weight, right.grad_weight_exact, right.grad_weight_allowed(core, factors) * 0 + right_allowed(right)
    )


def right_allowed(right):
    from refgrad.oracle.tolerance import sum_bound

    return sum_bound(right.positions, right.grad_weight_majorant(abs(right.x)), np.float64)


def test_a_pad_is_cropped_to_half_the_kernel_of_its_own_axis():
    (change,) = [change for name, _, change in READINGS if name == "padding cropped"]
    reading = Reading((1, 1), ((3, 1), (2, 4)), (1, 1), np.zeros((1, 1), int))
    parts = SimpleNamespace(weight=np.zeros((1, 1, 5, 4)))
    assert change(parts, reading).padding == ((2, 1), (2, 2))


def test_a_mistake_runs_as_an_implementation_of_the_protocol():
    mistake = next(mistake for mistake in LIBRARY if mistake.name == "grad_bias: batch mean")
    judgement = judge(implementation_of(mistake), catalogue()[0])
    failed = [row for row, verdict in judgement.verdicts.items() if verdict.failed]
    assert failed == ["grad_bias"]


def test_no_mistake_explains_what_is_right_where_it_would_show():
    """A mistake that matched right answers would be named for anything."""
    case = next(case for case in CASES if case.name == "groups, strides and pads")
    right = Reference(case)
    parts = Parts(right)
    results = returned(LIBRARY[0].results(right) | {"output": right.results["output"]}, case.dtype)
    judgement = judge(lambda *_, **__: results, case)
    assert not judgement.failed
    wrongly = [
        mistake.name
        for mistake in LIBRARY
        if mistake.explains(parts, judgement.answer)
        and judge(implementation_of(mistake), case).verdicts[mistake.row].failed
        and "float32" not in mistake.name
    ]
    assert wrongly == []


def test_diagnose_knows_nothing_of_an_unknown_mistake():
    case = CASES[0]
    right = Reference(case)
    results = returned(LIBRARY[0].results(right), case.dtype)
    results["grad_weight"] = results["grad_weight"] + 17.0
    judgement = judge(lambda *_, **__: results, case)
    assert judgement.verdicts["grad_weight"].failed
    assert diagnose("grad_weight", [judgement], []) is None


def test_a_judgement_makes_its_own_reference_when_it_has_none():
    judgement = Judgement(CASES[0], None)
    assert judgement.reference.case is CASES[0]
