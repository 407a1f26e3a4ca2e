"""The statistical tier: what is under the bound and still too far off for roundings that are independent."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgrad.oracle import Check, find_case_of
from refgrad.oracle.cases import Case
from refgrad.oracle.derived import redrawn
from refgrad.oracle.judge import judge
from refgrad.oracle.ladder.cases import LadderCase
from refgrad.oracle.plan import Planned
from refgrad.oracle.tiers.suspects import LOOKED_AT_AGAIN, REDRAWS, Suspects
from refgrad.oracle.tolerance import sum_bound, typical_share
from refgrad.oracle.variants import layer
from refgrad.oracle.verdicts import Outcome, compare
from refgrad.rounding import unit_roundoff

POSITIONS = 20_000


def constant_gradient(number):
    """Ask for db of a constant: a 1 x 1 layer with one channel and POSITIONS pixels."""
    image = (1, 1, POSITIONS // 100, 100)
    x, one = np.ones(image, np.float32), np.ones((1, 1, 1, 1), np.float32)
    return Case("constant", x, one, np.zeros(1, np.float32), np.full(image, number, np.float32))


def run(target, case):
    check = Check(target, planned=[Planned(lambda: case, named=False)])
    steps = [step.doing for step in check]
    return check.report(), steps


def row_of(report, name):
    return next(row for row in report.rows if row.name == name)


def one_after_the_other(numbers):
    return np.cumsum(numbers, dtype=numbers.dtype)[-1:]


def summed_in_order(x, weight, bias, grad_output, **_):
    """Sum one after the other in float32: right, and on a constant every rounding goes the same way."""
    return {"grad_bias": one_after_the_other(grad_output.ravel()), "output": x.copy()}


def test_roundings_that_conspire_on_one_input_are_suspect_and_no_failure():
    report, steps = run(summed_in_order, constant_gradient(0.1))
    row = row_of(report, "grad_bias")
    assert (row.passed, row.failed, row.suspect, report.exit_code) == (0, 0, 1, 0)
    assert any("looking again at constant: grad_bias" in step for step in steps)
    assert "suspect: 1, farther off than rounding mostly is, though not on redrawn inputs" in report.summary()


@pytest.mark.parametrize("factor", [1 + 2.0**-13, 1 - 2.0**-13])
def test_a_factor_that_hides_under_the_bound_fails_on_redrawn_inputs(factor):
    def scaled(x, weight, bias, grad_output, **_):
        total = np.sum(grad_output, dtype=np.float64)
        return {"grad_bias": np.array([total * factor], np.float32)}

    report, _ = run(scaled, constant_gradient(0.1))
    (failure,) = report.failures
    assert (failure.row, failure.kind, failure.cause) == ("grad_bias", "statistical", None)
    assert failure.verdict.ratio < 1, "the bound alone does not see it"


def test_a_suspect_that_is_one_on_every_redrawn_input_has_failed():
    def noisy(x, weight, bias, grad_output, **_):
        scale = np.sum(np.abs(grad_output), dtype=np.float64)
        length = grad_output.size
        share = 2 * typical_share(length, np.float32) * length * unit_roundoff(np.float32)
        return {"grad_bias": np.array([np.sum(grad_output, dtype=np.float64) + share * scale], np.float32)}

    report, _ = run(noisy, constant_gradient(0.1))
    (failure,) = report.failures
    assert (failure.row, failure.kind, report.exit_code) == ("grad_bias", "statistical", 1)
    assert "2 times what independent roundings explain; so it is on 3 redrawn inputs" in failure.verdict.message
    assert failure.verdict.ratio < 1, "the bound alone does not see it"
    assert (
        "roundoff",
        "as if it computed in float32 with a roundoff of 9.5e-07; that of float32 is 6.0e-08",
    ) in failure.facts()


def test_a_suspect_that_is_none_on_one_of_the_redrawn_inputs_stays_suspect():
    calls = []

    def now_and_then(x, weight, bias, grad_output, **_):
        calls.append(1)
        total = np.sum(grad_output, dtype=np.float64)
        factor = 1 if len(calls) == 3 else 1 + 2.0**-13
        return {"grad_bias": np.array([total * factor], np.float32), "output": x * 1}

    report, _ = run(now_and_then, constant_gradient(0.1))
    row = row_of(report, "grad_bias")
    assert (row.suspect, row.failed, report.exit_code, len(calls)) == (1, 0, 0, 3), "the second draw settles it"


def test_no_more_than_so_many_suspects_in_one_row_of_an_operation_are_looked_at_again():
    calls = []

    def scaled(x, weight, bias, grad_output, **_):
        calls.append(1)
        factor = 1 + 2.0**-13
        total = np.sum(grad_output, dtype=np.float64)
        return {"grad_bias": np.array([total * factor], np.float32), "output": (x * factor).astype(np.float32)}

    more = LOOKED_AT_AGAIN + 2
    check = Check(scaled, planned=[Planned(lambda: constant_gradient(0.1), named=False)] * more)
    doing = [step.doing for step in check if step.doing.startswith("looking again")]
    row = row_of(check.report(), "grad_bias")
    assert doing == ["looking again at constant: grad_bias (db)"] * LOOKED_AT_AGAIN
    assert (row.failed, row.suspect) == (LOOKED_AT_AGAIN, more - LOOKED_AT_AGAIN)
    assert row_of(check.report(), "forward").failed == more, "only what is suspect is looked at"
    assert len(calls) >= more + LOOKED_AT_AGAIN * REDRAWS


def test_suspects_are_counted_for_each_operation_by_itself():
    def shifted(*_, **__):
        return {"grad_bias": np.array([POSITIONS * 0.1 + 0.25], np.float32)}

    column, one = np.ones((POSITIONS, 1), np.float32), np.ones((1, 1), np.float32)
    parts = {"x": column, "weight": one, "bias": np.zeros(1, np.float32), "grad_output": np.float32(0.1) * column}
    suspects = Suspects(partial(judge, shifted))
    for case in (constant_gradient(0.1), LadderCase("linear", "constant", parts)):
        judgement = judge(shifted, case)
        assert judgement.verdicts["grad_bias"].outcome is Outcome.SUSPECT
        rows = [suspects.rows(judgement) for _ in range(LOOKED_AT_AGAIN + 1)]
        assert rows == [["grad_bias"]] * LOOKED_AT_AGAIN + [[]]


def test_a_suspect_that_cannot_be_asked_again_stays_suspect():
    case = constant_gradient(0.1)
    check = Check(summed_in_order, planned=[Planned(lambda: case, named=True)], callable_again=False)
    assert not any("looking again" in step.doing for step in check)
    assert row_of(check.report(), "grad_bias").suspect == 1


def test_the_share_is_exactly_where_suspicion_begins():
    expected, length = np.full(3, 1000.0), 6400
    at = np.array([0.0, 0.5, 0.0])
    assert typical_share(length, "float64") == 0.1
    allowed = np.full(3, 5.0)
    assert compare("forward", expected + at, expected, allowed, length=length).outcome is Outcome.PASSED
    verdict = compare("forward", expected + 0.51, expected, allowed, length=length)
    assert (verdict.outcome, verdict.kind, verdict.index) == (Outcome.SUSPECT, "", (0,))
    assert compare("forward", expected + 0.51, expected, allowed).outcome is Outcome.PASSED, "not a sum"
    assert compare("forward", expected + 5.1, expected, allowed, length=length).outcome is Outcome.FAILED


def test_sums_so_long_that_small_terms_vanish_are_left_to_the_bound():
    assert typical_share(128, "float16") < 1.0 == typical_share(129, "float16")
    assert typical_share(64, "float64") == 1.0 > typical_share(65, "float64")


@given(
    length=st.integers(65, 4000),
    dtype=st.sampled_from(["float32", "float64", "float16"]),
    seed=st.integers(0, 2**32 - 1),
    one_sign=st.booleans(),
)
def test_T15_sums_of_random_numbers_are_never_suspect_in_whatever_order(length, dtype, seed, one_sign):
    numbers = np.random.default_rng(seed).uniform(-1, 1, length).astype(dtype)
    if one_sign:
        numbers = np.abs(numbers)
    exact = np.sum(numbers, dtype=np.longdouble)
    allowed = sum_bound(length, np.array(np.sum(np.abs(numbers), dtype=np.float64)), dtype)
    orders = (numbers, numbers[::-1], np.sort(numbers), np.add.reduceat(numbers, range(0, length, 16)))
    for order in orders:
        error = abs(one_after_the_other(order)[0] - exact)
        assert error <= typical_share(length, dtype) * allowed


def test_redrawn_numbers_keep_shape_dtype_magnitude_and_attributes_and_differ():
    case = find_case_of("conv2d", "x near 1e18, float32")
    first, again, second = redrawn(case, 1), redrawn(case, 1), redrawn(case, 2)
    assert first.attributes == case.attributes
    assert first.explained_variance == case.explained_variance
    for name, array in case.parts.items():
        drawn = first.parts[name]
        assert (drawn.shape, drawn.dtype) == (array.shape, array.dtype)
        assert np.array_equal(drawn, again.parts[name])
        if array.any():
            assert not np.array_equal(drawn, second.parts[name])
            assert np.frexp(np.abs(drawn).max())[1] <= np.frexp(np.abs(array).max())[1]


def test_what_has_a_point_is_not_redrawn():
    assert redrawn(find_case_of("rank", "zero energy"), 1) is None


def test_a_pass_that_says_nothing_is_inconclusive():
    expected = np.array([3.0, 4.0])
    tenth, more = np.array([0.5, 0.0]), np.array([0.0, np.nextafter(0.5, 1)])
    assert compare("forward", expected, expected, tenth).outcome is Outcome.PASSED
    assert compare("forward", expected, expected, more).outcome is Outcome.INCONCLUSIVE
    assert compare("forward", np.zeros(2), np.zeros(2), np.zeros(2)).outcome is Outcome.PASSED, "exactly right"
    assert compare("forward", np.zeros(2), np.zeros(2), tenth).outcome is Outcome.INCONCLUSIVE


def test_refgrad_itself_is_never_suspect_on_layers_of_some_size():
    for name in ("long sums, float32", "plain, float32"):
        report, _ = run(layer(), find_case_of("conv2d", name))
        assert all(row.suspect == 0 for row in report.rows)
