"""Comparisons: what passes, what fails, and that NaN never passes."""

import math

import numpy as np
import pytest

from refgrad.oracle.reference import norm
from refgrad.oracle.verdicts import Outcome, compare, compare_norm, measured_over_allowed


def test_within_what_is_allowed_passes_and_says_how_closely():
    verdict = compare("forward", np.array([1.0, 20.5]), np.array([1.0, 20.0]), np.array([0.0, 1.0]))
    assert (verdict.outcome, verdict.ratio) == (Outcome.PASSED, 0.5)
    assert verdict.digits == -math.log10(1.0 / (20 * math.hypot(0.05, 1.0)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("allowed", [1.0, math.inf])
def test_what_is_not_finite_fails_whatever_is_allowed(value, allowed):
    verdict = compare("forward", np.array([1.0, value]), np.ones(2), allowed)
    if math.isnan(value) or allowed < math.inf:
        assert (verdict.outcome, verdict.kind, verdict.ratio, verdict.index) == (
            Outcome.FAILED,
            "not finite",
            math.inf,
            (1,),
        )


def test_the_worst_entry_is_the_one_farthest_out_of_its_own_bound():
    verdict = compare(
        "forward", np.array([[1.0, 9.0], [1.0, 3.0]]), np.zeros((2, 2)), np.array([[1.0, 8.0], [0.25, 3.0]])
    )
    assert (verdict.index, verdict.value, verdict.expected, verdict.error, verdict.allowed) == (
        (1, 0),
        1.0,
        0.0,
        1.0,
        0.25,
    )
    assert (verdict.ratio, verdict.kind) == (4.0, "value")
    assert verdict.message == "forward[1, 0] is 1, expected 0; 2 of 4 entries are off"


def test_an_entry_that_must_be_exact_passes_only_when_it_is():
    assert compare("forward", np.zeros(1), np.zeros(1), 0.0).outcome is Outcome.PASSED
    assert compare("forward", np.full(1, 5e-324), np.zeros(1), 0.0).ratio == math.inf


def test_measured_over_allowed_of_nothing_is_zero():
    assert measured_over_allowed(0.0, 0.0) == 0.0


def test_compare_norm_fails_for_nan_even_where_everything_is_allowed():
    verdict = compare_norm("grad_weight", np.array([1.0, np.nan]), np.ones(2), math.inf)
    assert (verdict.outcome, verdict.kind, verdict.index) == (Outcome.FAILED, "not finite", (1,))


def test_compare_norm_judges_the_whole():
    passed = compare_norm("grad_weight", np.array([3.0, 4.0]), np.zeros(2), 5.0)
    failed = compare_norm("grad_weight", np.array([3.0, 4.0]), np.zeros(2), 2.5)
    assert (passed.outcome, passed.ratio) == (Outcome.PASSED, 1.0)
    assert (failed.outcome, failed.ratio, failed.index, failed.error) == (Outcome.FAILED, 2.0, (1,), 5.0)
    assert (
        failed.message
        == "grad_weight is 5.000e+00 away from the right one, allowed 2.500e+00; worst at [1]: 4, expected 0"
    )


def test_compare_norm_neither_overflows_nor_vanishes():
    for exponent in (500, -500):
        x = np.ldexp(np.array([3.0, 4.0]), exponent)
        assert compare_norm("grad_weight", 2 * x, x, math.ldexp(2.5, exponent)).ratio == 2.0
        assert norm(x) == math.ldexp(5.0, exponent)


def test_norm_of_what_is_not_finite_is_not_finite():
    assert math.isnan(norm(np.array([1.0, np.nan])))
    assert norm(np.array([1.0, np.inf])) == math.inf
