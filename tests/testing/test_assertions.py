"""The assertions on what is right, wrong, and no input at all."""

from fractions import Fraction

import numpy as np
import pytest

from refgrad.oracle import find_case, find_case_of
from refgrad.oracle.own import target as own
from refgrad.testing import assert_judged, assert_rank, assert_same_subspace, assert_weight_gradient

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
