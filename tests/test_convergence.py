"""Certificates: known values, checking mode, whole runs, and what is refused."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

import refgrad as rg
from refgrad.bounds import GradientBound
from refgrad.convergence import (
    Certificate,
    CompressedGradient,
    average_gradient_bound,
    certified_step,
    certify,
    compressed_gradient,
    guaranteed_losses,
    least_squares_curvature,
    linear_rate,
    logistic_curvature,
    loss_rounding,
    relative_gradient_bound,
    softmax_curvature,
    stochastic_gradient_bound,
)
from refgrad.functional import linear
from refgrad.multilinear import gram_energy_bound

RAISED = 2.0**-40
"""The relative amount by which a bound is rounded outward, several times over."""


def bounded(value):
    return GradientBound(None, value, None, 0.0, 1.0)


def gradient_of(norm=5.0, errors=(("w", 1.0),), loss=1.0, rounding=0.0):
    """Parameters w and v whose gradients have the norm, a 3-4-5 triangle, and errors by weight."""
    gradients = {"w": np.array([[0.6 * norm]]), "v": np.array([[0.8 * norm]])}
    return CompressedGradient(loss, gradients, tuple((name, bounded(error)) for name, error in errors), rounding)


def test_a_certificate_by_hand():
    # b = hypot(1, 1) on a gradient of norm 10: delta = b / (10 - b), descent eta/2 10 (10 - 2 b).
    certificate = certify(gradient_of(10.0, (("w", 1.0), ("v", 1.0))), step_size=0.25, smoothness=4.0)
    b = math.sqrt(2.0)
    assert certificate.status == "certified"
    assert certificate.certified
    assert certificate.descent == "smoothness"
    assert math.isclose(certificate.error_bound, b, rel_tol=RAISED)
    assert math.isclose(certificate.ratio, b / (10.0 - b), rel_tol=RAISED)
    assert math.isclose(certificate.guaranteed_decrease, 0.125 * 10.0 * (10.0 - 2.0 * b), rel_tol=RAISED)
    assert certificate.guaranteed_decrease < 0.125 * 10.0 * (10.0 - 2.0 * b)
    assert certificate.ratio > b / (10.0 - b)
    assert certificate.decrease is None
    assert (certificate.reason, certificate.spoiler, certificate.violation) == (None, None, None)


def test_a_certificate_is_frozen():
    certificate = certify(gradient_of(), step_size=0.1, smoothness=1.0)
    with pytest.raises(AttributeError):
        certificate.error_bound = 0.0


def test_layers_that_share_a_weight_add_up_before_they_are_squared():
    once = certify(gradient_of(10.0, (("w", 1.0), ("v", 1.0))), step_size=0.1, smoothness=1.0)
    shared = certify(gradient_of(10.0, (("w", 1.0), ("w", 1.0))), step_size=0.1, smoothness=1.0)
    assert math.isclose(once.error_bound, math.sqrt(2.0), rel_tol=RAISED)
    assert math.isclose(shared.error_bound, 2.0, rel_tol=RAISED)
    assert len(shared.layers) == 1


@pytest.mark.parametrize("errors", [(("w", 2.5),), (("w", 0.1), ("v", 2.6)), (("w", math.inf),)])
def test_an_error_of_half_the_gradient_certifies_nothing(errors):
    certificate = certify(gradient_of(5.0, errors), step_size=0.1, smoothness=1.0)
    assert certificate.status == "not certified"
    assert certificate.guaranteed_decrease is None
    if math.isfinite(errors[-1][1]):
        assert certificate.spoiler == errors[-1][0]
        assert f"most of it is that of {errors[-1][0]}" in certificate.reason
    else:
        assert certificate.reason == "there is no finite bound on the error"


def test_just_under_half_is_certified():
    certificate = certify(gradient_of(5.0, (("w", 2.5 * (1.0 - RAISED)),)), step_size=0.1, smoothness=1.0)
    assert certificate.certified
    assert 0.0 < certificate.guaranteed_decrease < 1e-9
    assert certificate.ratio < 1.0


def test_a_step_size_over_1_over_l_is_not_certified_and_has_no_number():
    certificate = certify(gradient_of(), step_size=0.5001, smoothness=2.0)
    assert certificate.reason == "step_size 0.5001 exceeds 1/L = 0.5"
    assert certificate.guaranteed_decrease is None
    assert str(certificate) == "not certified: step_size 0.5001 exceeds 1/L = 0.5"
    with pytest.raises(ValueError, match=r"certificates\[0\] must know the descent inequality, but step_size"):
        average_gradient_bound([certificate], 0.0)


@pytest.mark.parametrize(
    ("gradient", "reason"),
    [
        (gradient_of(math.nan), "the gradient is not finite"),
        (gradient_of(math.inf), "the gradient is not finite"),
        (gradient_of(loss=math.nan), "the loss is not finite"),
        (gradient_of(loss=math.inf), "the loss is not finite"),
        (gradient_of(errors=(("w", math.nan),)), "there is no finite bound on the error"),
    ],
)
def test_what_is_not_finite_is_not_certified(gradient, reason):
    certificate = certify(gradient, step_size=0.1, smoothness=1.0)
    assert (certificate.status, certificate.reason) == ("not certified", reason)
    assert certificate.guaranteed_decrease is None


def test_without_smoothness_and_loss_nothing_is_claimed():
    certificate = certify(gradient_of(), step_size=0.1)
    assert certificate.reason == "neither the smoothness nor the loss after the step is known"


def test_a_zero_gradient_is_not_certified_to_descend():
    certificate = certify(gradient_of(0.0, ()), step_size=0.1, smoothness=1.0)
    assert certificate.reason == "the direction is zero: x may be stationary"
    assert certificate.ratio == 0.0


@pytest.mark.parametrize(("after", "descent"), [(0.95, "verified"), (0.951, None), (0.9, "verified")])
def test_the_descent_inequality_is_verified_from_the_loss_after_the_step(after, descent):
    # T16: f(x+) <= f(x) - eta |g|^2 + eta/2 |g|^2 = 1 - 0.1 + 0.05 without compression, with |g| = 1 and eta = 0.1.
    certificate = certify(gradient_of(1.0, ()), step_size=0.1, next_loss=after * (1.0 - RAISED))
    assert certificate.descent == descent
    assert certificate.certified == (descent is not None)
    assert math.isclose(certificate.decrease, 1.0 - after, rel_tol=2.0**-30)


def test_what_rounding_can_have_moved_the_losses_by_counts_against_the_step():
    assert certify(gradient_of(1.0, (), rounding=0.01), step_size=0.1, next_loss=0.9401).descent is None
    assert certify(gradient_of(1.0, (), rounding=0.01), step_size=0.1, next_loss=0.9399).descent == "verified"
    assert certify(gradient_of(1.0, ()), step_size=0.1, next_loss=0.9399, next_rounding=0.02).descent is None


def test_an_unknown_error_makes_the_inequality_harder_to_verify():
    # <grad f, d> <= |g|^2 + b |g|: with b = 1/4 the loss has to fall by 0.05 + 0.025.
    for after, descent in ((0.9249, "verified"), (0.9251, None)):
        certificate = certify(gradient_of(1.0, (("w", 0.25),)), step_size=0.1, next_loss=after)
        assert certificate.descent == descent


def test_another_direction_is_an_error_of_its_own():
    gradient = gradient_of(5.0, (("w", 0.25),))
    same = certify(gradient, step_size=0.1, smoothness=1.0, direction=gradient.gradients)
    assert same.certified
    moved = {name: 2.0 * array for name, array in gradient.gradients.items()}
    momentum = certify(gradient, step_size=0.1, smoothness=1.0, direction=moved)
    assert math.isclose(momentum.error_bound, 5.25, rel_tol=RAISED)
    assert math.isclose(momentum.direction_norm, 10.0, rel_tol=RAISED)
    assert momentum.spoiler == "direction"
    slightly = {name: 1.01 * array for name, array in gradient.gradients.items()}
    assert certify(gradient, step_size=0.1, smoothness=1.0, direction=slightly).certified


def test_checking_mode_finds_a_bound_that_is_violated():
    gradient = gradient_of(5.0, (("w", 1.0),))
    right = {"w": gradient.gradients["w"] + 0.5, "v": gradient.gradients["v"]}
    holds = certify(gradient, step_size=0.1, smoothness=1.0, exact=right)
    assert holds.status == "holds"
    assert math.isclose(holds.measured_error, 0.5, rel_tol=RAISED)
    assert math.isclose(holds.layers[0].measured, 0.5, rel_tol=RAISED)
    assert math.isclose(holds.gradient_norm, math.hypot(3.5, 4.0), rel_tol=RAISED)
    assert str(holds).startswith("holds: |e| <= 1 and |d| = 5")
    wrong = {"w": gradient.gradients["w"] + 1.5, "v": gradient.gradients["v"]}
    violated = certify(gradient, step_size=0.1, smoothness=1.0, exact=wrong)
    assert violated.status == "violated"
    assert str(violated) == "violated: the gradient of w is off by 1.5, its bound is 1"
    touched = {"w": gradient.gradients["w"], "v": gradient.gradients["v"] + 1e-9}
    assert (
        "v, which no compression touches" in certify(gradient, step_size=0.1, smoothness=1.0, exact=touched).violation
    )


def test_checking_mode_finds_a_smoothness_that_is_too_small():
    # f(w) = 8 w^2 / 2, said to be 1-smooth: one step of size 1 leads from 1 to -7.
    gradient = CompressedGradient(4.0, {"w": np.array([[8.0]])}, ())
    certificate = certify(gradient, step_size=1.0, smoothness=1.0, next_loss=8 * 49 / 2, exact={"w": np.array([[8.0]])})
    assert certificate.status == "violated"
    assert certificate.violation == "the loss is 196 after the step, where T16 allows -28"
    right = certify(gradient, step_size=0.125, smoothness=8.0, next_loss=0.0, exact={"w": np.array([[8.0]])})
    assert right.status == "holds"


def test_a_certificate_that_is_not_given_still_holds():
    certificate = certify(gradient_of(5.0, (("w", 4.0),)), step_size=0.1, smoothness=1.0, exact=gradient_of().gradients)
    assert str(certificate).startswith("holds: but is not certified: the error may be 4, half of |d| = 5")


def quadratic(curvature):
    def loss(params):
        return curvature / 2.0 * np.sum(params["x"] ** 2)

    return loss


def test_a_certified_step_is_found_by_trying_smaller_ones():
    params = {"x": np.array([3.0, -4.0])}
    loss = quadratic(10.0)
    gradient = compressed_gradient(loss, params, store=rg.Exact())
    tried = []

    def loss_at(after):
        tried.append(after)
        return float(loss(after)), 1e-10

    after, certificate = certified_step(loss_at, params, gradient, step_size=1.0)
    assert certificate.step_size == 0.0625  # the first that is at most 1/L = 0.1
    assert len(tried) == 5
    np.testing.assert_array_equal(after["x"], params["x"] - 0.0625 * gradient.gradients["x"])
    assert certificate.guaranteed_decrease <= certificate.decrease + certificate.loss_rounding


def test_no_step_is_found_where_rounding_hides_the_descent():
    params = {"x": np.array([3.0, -4.0])}
    gradient = compressed_gradient(quadratic(10.0), params, store=rg.Exact())
    after, certificate = certified_step(lambda _: (0.0, math.inf), params, gradient, step_size=1.0, tries=3)
    assert after is None
    assert not certificate.certified
    assert certificate.step_size == 0.25


def test_no_step_is_looked_for_any_longer_once_the_error_is_all_of_the_gradient():
    calls = []

    def loss_at(after):
        calls.append(after)
        return 0.0, 0.0

    after, certificate = certified_step(
        loss_at, gradient_of().gradients, gradient_of(5.0, (("w", 5.0),)), step_size=1.0
    )
    assert after is None
    assert certificate.reason is not None
    assert len(calls) <= 40


def test_parameters_keep_their_dtype():
    params = {"x": np.array([1.0, 2.0], np.float32)}
    gradient = compressed_gradient(quadratic(1.0), params, store=rg.Exact())
    after, certificate = certified_step(lambda p: (float(quadratic(1.0)(p)), 1e-6), params, gradient, step_size=0.5)
    assert after["x"].dtype == np.float32
    assert certificate.certified


def test_guaranteed_losses_fall_by_what_each_step_guarantees():
    step = certify(gradient_of(1.0, (), loss=2.0), step_size=0.5, smoothness=2.0)
    losses = guaranteed_losses([step, step])
    assert losses[0] == 2.0
    np.testing.assert_allclose(losses[1:], [1.75, 1.5], rtol=RAISED)
    unknown = certify(gradient_of(1.0, ()), step_size=0.5)
    assert guaranteed_losses([step, unknown, step])[1:] == [losses[1], math.inf, math.inf]
    assert guaranteed_losses([]) == []


def test_rates_by_hand():
    # eta = 1/2, b = 1/5, n = 1: delta = 1/4.
    steps = [certify(gradient_of(1.0, (("w", 0.2),), loss=3.0), step_size=0.5, smoothness=2.0)] * 4
    assert math.isclose(average_gradient_bound(steps, 1.0).value, 2.0 * 2.0 / 2.0 + 0.04, rel_tol=RAISED)
    assert math.isclose(relative_gradient_bound(steps, 1.0).value, 2.0 / (1.0 - 1.0 / 16.0), rel_tol=RAISED)
    rate = linear_rate(steps, 0.5, 1.0)
    assert math.isclose(rate.value, (1.0 - 0.25 * 15.0 / 16.0) ** 4 * 2.0, rel_tol=RAISED)
    assert rate.theorem == "T18"
    assert str(rate).startswith("T18: f(x_T) - f* <= 0.6")
    stochastic = stochastic_gradient_bound(gap=3.0, step_size=0.5, smoothness=1.0, steps=6, bias=2.0, variance=8.0)
    assert math.isclose(stochastic.value, 2.0 + 4.0 + 4.0, rel_tol=RAISED)


def test_curvatures_of_a_bias_are_those_of_a_column_of_ones():
    data = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0], [1.0, 1.0]])
    with_ones = np.concatenate([data, np.ones((4, 1))], axis=1)
    for known in (least_squares_curvature, logistic_curvature, softmax_curvature):
        assert known(data, ridge=0.25, bias=True) == known(with_ones, ridge=0.25)
    values = np.linalg.eigvalsh(with_ones.T @ with_ones / 4.0)
    curvature = least_squares_curvature(data, bias=True)
    # The Gram matrix and its eigenvalues are rounded, here and there.
    off = RAISED + 4.0 * gram_energy_bound(3, 4, float(values.sum())) / values[-1]
    assert math.isclose(curvature.smoothness, values[-1], rel_tol=off)
    assert math.isclose(curvature.step_size, 1.0 / values[-1], rel_tol=off)
    assert curvature.step_size * curvature.smoothness <= 1.0


@pytest.mark.parametrize("magnitude", [-300, 300])
def test_curvatures_of_any_magnitude(magnitude):
    data = np.ldexp(np.diag([2.0, 1.0]), magnitude // 2 - 1)
    curvature = least_squares_curvature(data)
    assert math.isclose(
        curvature.smoothness, 4.0 * math.ldexp(0.5, magnitude - 2), rel_tol=RAISED + gram_energy_bound(2, 2, 2.0)
    )


def test_the_gradient_and_its_bounds_come_from_one_pass():
    generator = np.random.default_rng(0)
    data, params = generator.standard_normal((6, 4)), {"weight": generator.standard_normal((3, 4)), "scale": np.ones(1)}

    def loss(p):
        return np.sum(linear(linear(data, p["weight"]), np.eye(3)) ** 2) * p["scale"][0]

    found = compressed_gradient(loss, params, store=rg.SVD(rank=2))
    assert [name for name, _ in found.bounds] == ["weight"]  # the weight np.eye(3) has no gradient
    plain = compressed_gradient(loss, params, store=rg.Exact())
    assert found.loss == plain.loss
    assert found.rounding > 0.0
    error = np.linalg.norm(found.gradients["weight"] - plain.gradients["weight"])
    assert 0.0 < error <= found.bounds[0][1].total()


def test_loss_rounding_is_infinite_where_a_sum_is_too_long_for_the_dtype():
    with rg.Tape() as tape:
        loss = np.sum(tape.watch(np.ones(2**20, np.float32)))
        for _ in range(20):
            loss = loss + np.sum(tape.watch(np.ones(2**20, np.float32)))
    assert loss_rounding(tape, loss) == math.inf


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: certify(gradient_of(), step_size=0.0), ValueError, "step_size must be positive and finite, got 0.0"),
        (lambda: certify(gradient_of(), step_size=math.nan), ValueError, "step_size must be positive and finite"),
        (lambda: certify(gradient_of(), step_size=0.1, smoothness=-1.0), ValueError, "smoothness must be positive"),
        (lambda: certify(gradient_of(), step_size=0.1, grade="guess"), ValueError, "grade must be"),
        (
            lambda: certify(gradient_of(), step_size=0.1, exact={"w": np.ones((1, 1))}),
            ValueError,
            r"exact must have the gradient's parameters: it lacks \['v'\]",
        ),
        (
            lambda: certify(gradient_of(), step_size=0.1, direction={"w": np.ones((1, 2)), "v": np.ones((1, 1))}),
            ValueError,
            r"direction\['w'\] must have shape \(1, 1\), got \(1, 2\)",
        ),
        (lambda: gradient_of(errors=(("u", 1.0),)), ValueError, "bounds name the layer 'u', which is unknown"),
        (lambda: CompressedGradient(1.0, {}, ()), ValueError, "gradients must hold one array for each parameter"),
        (lambda: CompressedGradient(1.0, {"w": [1.0]}, ()), TypeError, r"gradients\['w'\]"),
        (lambda: gradient_of(rounding=math.nan), ValueError, "rounding must be at least 0, got nan"),
        (lambda: compressed_gradient(3, {}, store=rg.Exact()), TypeError, "function must be callable, got int"),
        (
            lambda: compressed_gradient(lambda p: 1.0, {"w": np.ones(1)}, store=rg.Exact()),
            TypeError,
            "function must return a Tensor computed from the parameters, got float",
        ),
        (
            lambda: compressed_gradient(
                lambda p: np.sum(linear(np.ones((2, 2)), 2.0 * p["w"])), {"w": np.eye(2)}, store=rg.Exact()
            ),
            ValueError,
            "the weight of linear .* is no parameter but record 1, which was computed",
        ),
        (
            lambda: compressed_gradient(
                lambda p: np.sum(linear(np.full((2, 2), np.nan), p["w"])), {"w": np.eye(2)}, store=rg.HOSVD(0.9)
            ),
            ValueError,
            "finite",
        ),
        (lambda: average_gradient_bound([], 0.0), ValueError, "certificates must hold one for each step"),
        (
            lambda: average_gradient_bound([certify(gradient_of(), step_size=0.1, smoothness=1.0)], 2.0),
            ValueError,
            "loss_floor must be at most every loss, got 2.0",
        ),
        (
            lambda: relative_gradient_bound(
                [certify(gradient_of(5.0, (("w", 4.0),)), step_size=0.1, smoothness=1.0)], 0.0
            ),
            ValueError,
            r"certificates\[0\] must be certified, but the error may be 4",
        ),
        (
            lambda: linear_rate([certify(gradient_of(), step_size=0.1, smoothness=1.0)], 0.0, 0.0),
            ValueError,
            "strong_convexity must be positive, got 0.0",
        ),
        (
            lambda: stochastic_gradient_bound(gap=1, step_size=2.0, smoothness=1.0, steps=1, bias=0, variance=0),
            ValueError,
            "step_size must be at most 1/L = 1, got 2.0",
        ),
        (
            lambda: stochastic_gradient_bound(gap=1, step_size=1.0, smoothness=1.0, steps=0, bias=0, variance=0),
            ValueError,
            "steps must be at least 1, got 0",
        ),
        (
            lambda: stochastic_gradient_bound(gap=1, step_size=1.0, smoothness=1.0, steps=1, bias=-1, variance=0),
            ValueError,
            "bias must be at least 0 and finite, got -1",
        ),
        (
            lambda: stochastic_gradient_bound(gap=1, step_size=0.0, smoothness=1.0, steps=1, bias=0, variance=0),
            ValueError,
            "step_size must be positive and finite, got 0.0",
        ),
        (lambda: least_squares_curvature(np.zeros((3, 2))), ValueError, "data must not be all zero without a ridge"),
        (lambda: least_squares_curvature(np.ones((3, 2)), ridge=-1.0), ValueError, "ridge must be at least 0"),
        (lambda: least_squares_curvature(np.ones(3)), ValueError, "data"),
        (
            lambda: certified_step(lambda p: (0.0, 0.0), {"u": np.ones(1)}, gradient_of(), step_size=1.0),
            ValueError,
            r"params must be those of the gradient, \['w', 'v'\], got \['u'\]",
        ),
        (
            lambda: certified_step(lambda p: (0.0, 0.0), {}, gradient_of(), step_size=1.0, shrink=1.0),
            ValueError,
            r"shrink must be in \(0, 1\), got 1.0",
        ),
        (
            lambda: certified_step(lambda p: (0.0, 0.0), {}, gradient_of(), step_size=1.0, tries=0),
            ValueError,
            "tries must be at least 1, got 0",
        ),
    ],
)
def test_what_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_storage_whose_error_is_not_known_is_refused():
    class Halved(rg.Storage):
        name = "halved"

        def store(self, activation):
            return _Half(rg.Exact().store(activation))

        def restore(self, stored):
            return stored.reconstruct()

        def weight_gradient(self, stored, grad_output, geometry=None):
            return rg.Exact().weight_gradient(stored.inner, grad_output, geometry) / 2

    with pytest.raises(TypeError, match="whose error is known"):
        compressed_gradient(lambda p: np.sum(linear(np.ones((2, 2)), p["w"])), {"w": np.eye(2)}, store=Halved())


class _Half:
    def __init__(self, inner):
        self.inner = inner
        self.shape, self.dtype, self.nbytes = inner.shape, inner.dtype, inner.nbytes
        self.stored_numbers, self.multilinear_rank = inner.stored_numbers, None

    def reconstruct(self):
        return self.inner.reconstruct() / 2


def test_every_field_of_a_certificate_is_documented():
    documented = set(re.findall(r"^    (\w[\w, ]*) : ", Certificate.__doc__, re.MULTILINE))
    names = {name for entry in documented for name in entry.split(", ")}
    assert set(Certificate.__dataclass_fields__) == names


def test_a_ratio_of_nothing_is_nothing():
    certificate = certify(gradient_of(5.0, ()), step_size=0.1, smoothness=1.0)
    assert certificate.ratio == 0.0
    assert replace(certificate, error_bound=6.0).ratio == math.inf
