"""The judge on right and wrong numbers: pitfalls 1 to 15, one by one, with and without the target's factors."""

import math
from functools import cache

import numpy as np
import pytest

from refgrad.oracle.cases import generated, generated_case
from refgrad.oracle.catalogue import catalogue, find_case
from refgrad.oracle.judge import judge
from refgrad.oracle.reference import Reference, tucker_product
from refgrad.oracle.shrink import replace_case
from refgrad.oracle.variants import VARIANTS, layer
from refgrad.oracle.variants.arithmetic import dense_weight_gradient
from refgrad.oracle.variants.decompositions import leading, left_gram, left_svd, rotations
from refgrad.oracle.verdicts import Outcome
from tests.assertions import assert_same_bits
from tests.oracle.implementations import torch_layer
from tests.oracle.test_answers import changed, setting_from

CASE = find_case("every mode cut")


def outcome(implementation, case, row):
    return judge(implementation, case).verdicts[row].outcome


# 1, 2: signs, rotations, subspaces


def test_rotated_columns_with_the_core_of_the_others_fail():
    """The core ties the factors' signs down: turning them alone is no legitimate variant."""

    def turn(answer, _):
        answer["factors"] = tuple(-factor for factor in answer["factors"][:1]) + answer["factors"][1:]

    verdict = judge(changed(turn), CASE).verdicts["factors"]
    assert verdict.failed
    assert verdict.message.startswith("core[")


def test_factors_that_are_not_orthonormal_fail():
    def stretch(answer, _):
        answer["factors"] = (2.0 * answer["factors"][0], *answer["factors"][1:])

    verdict = judge(changed(stretch), CASE).verdicts["factors"]
    assert verdict.kind == "orthonormal"
    assert "factors[0] must have orthonormal columns" in verdict.message


def test_another_subspace_fails_even_with_a_core_that_fits_it():
    def other(answer, arguments):
        factors = [np.linalg.qr(np.ones_like(f) + np.eye(*f.shape))[0] for f in answer["factors"]]
        answer["factors"] = factors
        answer["core"] = tucker_product(arguments[0], tuple(f.T for f in factors))

    verdict = judge(changed(other), CASE).verdicts["factors"]
    assert verdict.kind == "subspace"
    assert "must keep the energy of the leading" in verdict.message


def test_a_subspace_that_keeps_the_energy_but_is_inaccurate_fails_by_its_residual():
    """Energy alone cannot see an error of the size of its square root: 1e-8 in a factor."""

    def inaccurate(answer, arguments):
        factor = answer["factors"][0]
        disturbed = factor + np.ldexp(np.random.default_rng(1).standard_normal(factor.shape), -28)
        factors = (np.linalg.qr(disturbed)[0], *answer["factors"][1:])
        answer["factors"] = factors
        answer["core"] = tucker_product(arguments[0], tuple(f.T for f in factors))

    verdict = judge(changed(inaccurate), CASE).verdicts["factors"]
    assert verdict.kind == "subspace"
    assert "(I - P) A A^T U" in verdict.message


# 3: a degenerate cut, seen from outside


WITHOUT = ("output", "grad_input", "grad_bias", "grad_weight", "reconstruction")


def test_a_degenerate_cut_without_factors_is_inconclusive_and_with_factors_judged():
    case = find_case("flat spectrum")
    assert outcome(layer(keys=WITHOUT), case, "grad_weight") is Outcome.INCONCLUSIVE
    assert outcome(layer(turn=rotations, keys=WITHOUT), case, "grad_weight") is Outcome.INCONCLUSIVE
    assert outcome(layer(), case, "grad_weight") is Outcome.PASSED


def test_without_factors_a_clear_gap_decides():
    verdict = judge(layer(keys=WITHOUT), CASE).verdicts["grad_weight"]
    assert verdict.outcome is Outcome.PASSED
    assert verdict.digits > 6


def wrong_without_factors(**changes):
    def change(answer, _):
        answer.update({key: value(answer[key]) for key, value in changes.items()})
        for key in ("core", "factors", "ranks", "stored_numbers"):
            del answer[key]

    return changed(change)


def test_without_factors_a_wrong_gradient_fails():
    verdict = judge(wrong_without_factors(grad_weight=lambda dw: dw[:, :, ::-1].copy()), CASE).verdicts["grad_weight"]
    assert verdict.kind == "value"
    assert "away from the right one, allowed" in verdict.message


def test_without_factors_a_gradient_of_NaN_fails_even_at_a_degenerate_cut():
    case = find_case("flat spectrum")
    assert outcome(wrong_without_factors(grad_weight=lambda dw: dw * np.nan), case, "grad_weight") is Outcome.FAILED


def test_T12_fails_what_is_too_far_from_the_uncompressed_gradient_even_at_a_degenerate_cut():
    verdict = judge(wrong_without_factors(grad_weight=lambda dw: dw + 1e6), find_case("flat spectrum")).verdicts[
        "grad_weight"
    ]
    assert verdict.kind == "T12"
    assert "away from the uncompressed one" in verdict.message


def test_T12_fails_a_gradient_that_is_right_at_a_wrong_decomposition():
    """dW belongs to the target's A~, but that A~ keeps the smallest singular values."""

    def trailing(matrix):
        vectors, squares = left_gram(matrix)
        return vectors[:, ::-1], squares

    verdicts = judge(layer(trailing), find_case("steep spectrum")).verdicts
    assert verdicts["factors"].kind == "subspace"
    assert verdicts["grad_weight"].kind == "T12"


def test_without_factors_ranks_that_tie_are_all_tried():
    case = find_case("tie at a decimal share")
    low, high = Reference(case).modes[0].ranks
    assert low < high
    for wanted in (low, high):

        def gradient(*arguments, wanted=wanted, **attributes):
            reference = Reference(case)
            core, factors = reference.compressed((wanted,) * 4)
            return {"grad_weight": reference.grad_weight_at(tucker_product(core, factors))}

        assert outcome(gradient, case, "grad_weight") is Outcome.PASSED


# 4, 5, 6: ranks


def test_a_tie_at_the_cut_admits_both_ranks_and_no_third():
    case = find_case("tie at the cut")
    ranks = {mode.ranks for mode in Reference(case).modes}
    assert ranks == {(3, 4)}
    for rank, expected in ((2, Outcome.FAILED), (3, Outcome.PASSED), (4, Outcome.PASSED)):
        assert outcome(lambda *_, rank=rank, **__: {"ranks": (rank,) * 4}, case, "ranks") is expected


def test_a_rank_above_the_admissible_ones_fails():
    case = find_case("half kept")
    assert Reference(case).modes[3].ranks[1] < 7
    assert outcome(lambda *_, **__: {"ranks": (1, 1, 1, 7)}, case, "ranks") is Outcome.FAILED


def test_a_wrong_rank_names_its_mode():
    verdict = judge(lambda *_, **__: {"ranks": (3, 3, 2, 3)}, find_case("tie at the cut")).verdicts["ranks"]
    assert verdict.message == "ranks are (3, 3, 2, 3): mode 2 has 2, expected 3 to 4"
    assert (verdict.index, verdict.value, verdict.expected) == ((2,), 2.0, 3.0)


@pytest.mark.parametrize("ranks", [(0, 1, 1, 1), (99, 1, 1, 1), (-1, -1, -1, -1)])
def test_absurd_ranks_fail_and_what_depends_on_them_is_still_judged(ranks):
    verdicts = judge(setting_ranks(ranks), CASE).verdicts
    assert verdicts["ranks"].failed
    assert verdicts["grad_weight"].outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE)


def setting_ranks(ranks):
    def change(answer, _):
        del answer["factors"], answer["core"]
        answer["ranks"] = ranks

    return changed(change)


# 7: zero energy


@pytest.mark.parametrize("rank", [1, 2])
def test_zero_energy_admits_any_rank_but_only_a_gradient_of_zero(rank):
    case = find_case("zero energy")

    def zero(x, weight, bias, grad_output, **_):
        factors = [np.eye(n)[:, :rank] for n in x.shape]
        return {"core": np.zeros((rank,) * 4), "factors": factors, "grad_weight": np.zeros_like(weight)}

    verdicts = judge(zero, case).verdicts
    assert all(verdicts[row].outcome is Outcome.PASSED for row in ("ranks", "factors", "grad_weight"))

    def almost(*arguments, **attributes):
        answer = zero(*arguments, **attributes)
        answer["grad_weight"][0, 0, 0, 0] = 5e-324
        return answer

    assert judge(almost, case).verdicts["grad_weight"].ratio == math.inf


# 8: magnitudes


@pytest.mark.parametrize("name", [case.name for case in catalogue() if " near " in case.name])
def test_squares_that_overflow_or_vanish_fail(name):
    """The Gram matrix of unscaled values: its ranks, or its vectors, are those of infinities or of zeros."""
    case = find_case(name)
    if name.startswith("grad_output"):
        assert not judge(layer(), case).failed
        return

    def unscaled(x, *rest, explained_variance, **attributes):
        with np.errstate(all="ignore"):
            squares = [np.sum(np.abs(np.moveaxis(x, m, 0).reshape(x.shape[m], -1)) ** 4, axis=1) for m in range(4)]
            return {"ranks": tuple(leading(np.sort(np.nan_to_num(s))[::-1], explained_variance) for s in squares)}

    assert not judge(layer(), case).failed
    assert outcome(unscaled, case, "ranks") is Outcome.FAILED


def test_powers_of_two_change_no_verdict():
    case = find_case("plain")
    ratios = [v.ratio for v in judge(layer(), case).verdicts.values()]
    scaled = replace_case(case, x=np.ldexp(case.x, 40))
    again = judge(layer(), scaled).verdicts
    for before, verdict in zip(ratios, again.values(), strict=True):
        if verdict.row not in ("forward", "factors", "grad_weight", "reconstruction") and before is not None:
            assert verdict.ratio == before
        assert verdict.outcome is Outcome.PASSED


# 9: dtype and accumulator


@pytest.mark.parametrize("key", ["output", "grad_input", "grad_bias", "grad_weight", "core", "reconstruction"])
def test_float32_accumulation_in_float64_fails(key):
    row = {"output": "forward", "core": "factors"}.get(key, key)
    slip = setting_from(key, lambda answer, _: answer[key].astype(np.float32).astype(np.float64))
    assert outcome(slip, find_case("long sums"), row) is Outcome.FAILED


def test_a_decomposition_in_float32_fails_in_float64():
    short = layer(lambda matrix: [part.astype(np.float64) for part in left_svd(matrix.astype(np.float32))])
    assert outcome(short, CASE, "factors") is Outcome.FAILED


def test_every_pass_says_how_many_digits_it_guarantees():
    verdicts = judge(layer(), CASE).verdicts
    for row in ("forward", "grad_input", "grad_bias", "grad_weight", "factors", "reconstruction"):
        assert verdicts[row].digits > 9


# 11 is in the mistakes. 12: padding and what is never reached


def test_what_the_stride_never_reaches_must_be_exactly_zero():
    case = find_case("leftover rows and columns")
    unread = ~case.geometry.multiplicity(case.x.shape[2:]).astype(bool)
    assert unread.any()

    def tiny(answer, _):
        answer["grad_input"][:, :, unread] = 5e-324

    verdict = judge(changed(tiny), case).verdicts["grad_input"]
    assert (verdict.failed, verdict.ratio, verdict.expected) == (True, math.inf, 0.0)


# 14: groups; 15: not a derivative


def test_a_gradient_at_the_uncompressed_activation_fails():
    def uncompressed(answer, arguments):
        geometry = {"stride": CASE.stride, "padding": CASE.padding, "dilation": CASE.dilation}
        answer["grad_weight"] = dense_weight_gradient(arguments[0], arguments[1], arguments[3], CASE.groups, geometry)

    assert outcome(changed(uncompressed), CASE, "grad_weight") is Outcome.FAILED


# stored numbers


def test_stored_numbers_follow_from_the_ranks_or_from_the_admissible_ones():
    case = find_case("tie at the cut")
    allowed = [3**4 + 4 * 4 * 3, 4**4 + 4 * 4 * 4, 3**3 * 4 + 4 * (3 + 3 + 3 + 4)]
    for number in allowed:
        assert outcome(lambda *_, n=number, **__: {"stored_numbers": n}, case, "stored_numbers") is Outcome.PASSED
    verdict = judge(lambda *_, **__: {"stored_numbers": 130}, case).verdicts["stored_numbers"]
    assert verdict.message == "stored_numbers is 130, expected 129 = prod K_j + sum n_j K_j (THEORY D3)"
    with_ranks = judge(lambda *_, **__: {"stored_numbers": allowed[1], "ranks": (3,) * 4}, case).verdicts[
        "stored_numbers"
    ]
    assert with_ranks.failed


def test_only_the_rows_that_are_asked_for_are_judged():
    assert set(judge(layer(), CASE, rows=("ranks",)).verdicts) == {"ranks"}


def test_a_reference_is_of_refgrads_own_paths_and_its_tucker_product_is_the_definition():
    reference = Reference(generated_case(5, 5))
    core, factors = reference.compressed(reference.smallest_ranks)
    expected = np.einsum("pqrs,ap,bq,cr,ds->abcd", core, *factors)
    difference = np.abs(tucker_product(core, factors) - expected)
    assert (difference <= reference.reconstruction_allowed(core, factors)).all()
    part = tucker_product(core, factors[:2])
    assert part.shape == (*reference.x.shape[:2], *core.shape[2:])
    assert_same_bits(tucker_product(core, ()), core)


@cache
def references():
    """What is right for the catalogue and some generated cases, computed once for all variants."""
    return [Reference(case) for case in (*catalogue(), *generated(2026, 60))]


@pytest.mark.parametrize("name", VARIANTS)
def test_no_legitimate_variant_raises_a_false_alarm(name):
    wrong = [
        (reference.case.name, verdict)
        for reference in references()
        for verdict in judge(VARIANTS[name], reference.case, reference=reference).verdicts.values()
        if verdict.failed
    ]
    assert wrong == []


def test_torch_raises_no_false_alarm():
    torch = pytest.importorskip("torch", reason="judges PyTorch's own convolution, SVD and autograd")
    target = torch_layer(torch)
    wrong = [
        (reference.case.name, verdict)
        for reference in references()
        for verdict in judge(target, reference.case, reference=reference).verdicts.values()
        if verdict.failed
    ]
    assert wrong == []
