"""The assertions on what is right, wrong, and no input at all."""

from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from refgrad.oracle import find_case, find_case_of
from refgrad.oracle.judge import judge
from refgrad.oracle.own import target as own
from refgrad.oracle.tiers.suspects import REDRAWS, Suspects
from refgrad.testing import assert_judged, assert_rank, assert_same_subspace, assert_weight_gradient
from refgrad.testing.assertions import failure_text

CASE = find_case("every mode cut")


def right():
    return own.conv2d(*CASE.arrays().values(), **CASE.attributes)


def test_right_results_pass_with_and_without_factors():
    results = right()
    assert_weight_gradient(results["grad_weight"], CASE, core=results["core"], factors=results["factors"])
    assert_weight_gradient(results["grad_weight"], CASE)
    assert_judged(own.conv2d, CASE)
    assert_rank(results["ranks"], CASE.x, explained_variance=CASE.explained_variance)
    for mode, factor in enumerate(results["factors"]):
        assert_same_subspace(-factor[:, ::-1], CASE.x, mode)


def scaled(operation, factor, calls):
    """refgrad's own operation, with a weight gradient that is off by a factor, which may depend on its first array."""

    def off_by_a_factor(*arrays, **attributes):
        calls.append(arrays)
        results = getattr(own, operation)(*arrays, **attributes)
        gradient = results["grad_weight"]
        by = np.float64(factor(arrays[0]) if callable(factor) else factor)
        return {**results, "grad_weight": (gradient * by).astype(gradient.dtype)}

    return off_by_a_factor


@pytest.mark.parametrize(
    ("operation", "name", "factor"),
    [
        ("weight_gradient", "depthwise, in float32", 1 + 2.0**-12),
        ("weight_gradient", "depthwise, in float32", 1 - 2.0**-12),
        ("conv2d", "plain, in float32", 1.0001),
    ],
)
def test_a_factor_that_hides_under_the_bound_fails_on_redrawn_inputs(operation, name, factor):
    case, calls = find_case_of(operation, name), []
    with pytest.raises(AssertionError, match=r"within the bound, but .* so it is on 3 redrawn inputs$"):
        assert_judged(scaled(operation, factor, calls), case)
    assert len(calls) == 1 + REDRAWS


def test_what_is_suspect_on_one_input_and_not_on_redrawn_ones_passes():
    case, calls = find_case_of("weight_gradient", "depthwise, in float32"), []
    conspiring = scaled("weight_gradient", lambda core: 1 + 2.0**-12 * np.array_equal(core, case.array("core")), calls)
    assert_judged(conspiring, case)
    assert len(calls) == 1 + 1, "the first draw settles it"
    assert_judged(scaled("weight_gradient", 1, calls), case)
    assert len(calls) == 1 + 1 + 1, "nothing is suspect"


def test_what_is_over_the_bound_is_told_before_what_hides_under_it():
    hidden, turned = (scaled("weight_gradient", factor, []) for factor in (1 + 2.0**-12, -1))
    under = judge(hidden, find_case_of("weight_gradient", "depthwise, in float32"))
    Suspects(partial(judge, hidden)).settle(under)
    over = judge(turned, find_case_of("weight_gradient", "stride (2, 3)"))
    text = failure_text([under, over])
    assert text.startswith("weight_gradient, case 'stride (2, 3)'")
    assert "2 of 2 cases fail in this row" in text
    assert "the sign is turned round, in 1 of 1 failing cases looked at" in text


def test_a_wrong_weight_gradient_is_explained():
    results = right()
    with pytest.raises(
        AssertionError, match=r"likely cause: your grad_weight equals the one where it is added up twice"
    ):
        assert_weight_gradient(2 * results["grad_weight"], CASE, core=results["core"], factors=results["factors"])
    case = find_case_of("weight_gradient", "stride (2, 3)")
    gradient = own.weight_gradient(*case.arrays().values(), **case.attributes)["grad_weight"]
    assert_weight_gradient(gradient, case)
    with pytest.raises(AssertionError, match="the sign is turned round"):
        assert_weight_gradient(-gradient, case)


def test_wrong_factors_are_seen_beside_a_gradient_that_fits_them():
    results = right()
    turned = [factor[:, ::-1] for factor in results["factors"]]
    with pytest.raises(AssertionError, match="factors: core"):
        assert_weight_gradient(results["grad_weight"], CASE, core=results["core"], factors=[*map(np.array, turned)])


def test_another_subspace_and_a_rank_off_by_one_fail():
    results = right()
    factor = results["factors"][0]
    with pytest.raises(AssertionError, match="must keep the energy"):
        assert_same_subspace(np.linalg.qr(np.eye(*factor.shape) + 1)[0], CASE.x, 0)
    with pytest.raises(AssertionError, match="must have orthonormal columns"):
        assert_same_subspace(2 * factor, CASE.x, 0)
    ranks = list(results["ranks"])
    ranks[2] += 1
    with pytest.raises(AssertionError, match="mode 2 has"):
        assert_rank(ranks, CASE.x, explained_variance=CASE.explained_variance)
    with pytest.raises(AssertionError, match="rank is 3, expected 2"):
        assert_rank(3, np.array([2.0, 1.0, 0.5]), explained_variance=Fraction(9, 10))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: assert_weight_gradient(np.ones(1), 3), TypeError, "case must be a Case or a LadderCase, got int"),
        (
            lambda: assert_weight_gradient(np.ones(1), find_case_of("rank", "steep")),
            ValueError,
            "operation that has a weight gradient, got one of rank",
        ),
        (
            lambda: assert_weight_gradient(np.ones(1), CASE, core=np.ones(1)),
            ValueError,
            "core and factors must be given together, got core only",
        ),
        (
            lambda: assert_same_subspace(np.eye(2), np.eye(2), 2),
            ValueError,
            r"mode must be an integer in \[0, 2\), got 2",
        ),
        (lambda: assert_same_subspace(np.eye(3), np.eye(2), 0), ValueError, r"factor must have shape \(2, K\)"),
        (lambda: assert_same_subspace([1], np.eye(2), 0), TypeError, "factor"),
        (lambda: assert_rank([1], np.eye(2), explained_variance=0.5), ValueError, "ranks must be 2, one for each mode"),
        (
            lambda: assert_rank(1, np.ones(2), explained_variance=2),
            ValueError,
            r"explained_variance must be in \(0, 1\]",
        ),
        (lambda: assert_judged(3, CASE), TypeError, "operation must be callable, got int"),
    ],
)
def test_bad_input_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_an_unknown_name_is_no_attribute():
    import refgrad.testing

    with pytest.raises(AttributeError, match="has no attribute 'assert_anything'"):
        getattr(refgrad.testing, "assert_" + "anything")
