"""THEORY T10, T16-T20: what certificates say is true of exact backpropagation, step by step and over whole runs."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import refgrad as rg
from refgrad.convergence import (
    average_gradient_bound,
    certified_step,
    certify,
    compressed_gradient,
    guaranteed_losses,
    least_squares_curvature,
    linear_rate,
    relative_gradient_bound,
    stochastic_gradient_bound,
)
from refgrad.functional import cross_entropy, flatten, linear, max_pool2d, relu
from refgrad.rounding import gamma, unit_roundoff
from refgrad.testing.sharpness import no_free_lunch
from tests.convex_problems import ConvexProblem, convex_problems, storages_for
from tests.measured import record

HALF_DIGIT = unit_roundoff(np.float64)


def exactly(problem, gradient, weight):
    """The same gradient with the loss known to the last bit."""
    loss = float(problem.loss_exactly(weight))
    return replace(gradient, loss=loss, rounding=HALF_DIGIT * abs(loss))


def descend(problem, storage, steps, step_size):
    """Gradient descent on a convex problem: certificates in checking mode, and the weights on the way."""
    weight, certificates, weights = problem.start, [], [problem.start]
    for _ in range(steps):
        params = {"weight": weight}
        gradient = exactly(problem, compressed_gradient(problem.loss, params, store=storage), weight)
        exact = compressed_gradient(problem.loss, params, store=rg.Exact()).gradients
        after = weight - step_size * gradient.gradients["weight"]
        loss = float(problem.loss_exactly(after))
        certificates.append(
            certify(
                gradient,
                step_size=step_size,
                smoothness=problem.curvature.smoothness,
                next_loss=loss,
                next_rounding=HALF_DIGIT * abs(loss),
                direction={"weight": (weight - after) / step_size},  # what x really moved by
                exact=exact,
            )
        )
        weight = after
        weights.append(weight)
    return certificates, weights


def share(measured, bound):
    """measured / bound, 0 for 0 / 0."""
    return 0.0 if measured <= 0.0 else measured / bound if bound > 0.0 else math.inf


@given(problem=convex_problems(), data=st.data())
def test_T16_every_step_of_a_convex_problem_descends_as_certified(problem, data):
    storage = data.draw(storages_for(problem.data.shape), label="storage")
    step_size = problem.curvature.step_size * data.draw(st.sampled_from([1.0, 0.5, 0.01]), label="step size")
    for certificate in descend(problem, storage, 3, step_size)[0]:
        assert certificate.status == "holds", certificate
        if certificate.certified:
            decrease = certificate.decrease + certificate.loss_rounding
            assert decrease >= certificate.guaranteed_decrease
            record("T16", share(certificate.guaranteed_decrease, decrease))
            # delta is what it says, with the exact gradient.
            assert certificate.measured_error <= certificate.ratio * certificate.gradient_norm * (1.0 + 2.0**-40)


def bowl(curvature=4.0, size=2):
    """f(w) = curvature/2 |w|^2: L = mu = curvature."""
    data = math.sqrt(size * curvature) * np.eye(size)
    return ConvexProblem("least squares", data, np.zeros((size, 1)), np.arange(1.0, 1.0 + size)[np.newaxis])


def test_T16_is_attained_by_a_bowl_without_compression():
    problem = bowl()
    (certificate,), _ = descend(problem, rg.Exact(), 1, problem.curvature.step_size)
    assert certificate.status == "holds"
    record("T16", certificate.guaranteed_decrease / (certificate.decrease + certificate.loss_rounding), attained=True)


@given(problem=convex_problems(), data=st.data())
def test_T17_the_mean_squared_gradient_of_a_run_is_bounded(problem, data):
    storage = data.draw(storages_for(problem.data.shape), label="storage")
    certificates, _ = descend(
        problem, storage, data.draw(st.integers(1, 8), label="steps"), problem.curvature.step_size
    )
    mean = sum(c.step_size * c.gradient_norm**2 for c in certificates) / sum(c.step_size for c in certificates)
    bound = average_gradient_bound(certificates, 0.0)
    assert mean <= bound.value, bound
    record("T17", share(mean, bound.value))
    if all(certificate.certified for certificate in certificates):
        relative = relative_gradient_bound(certificates, 0.0)
        assert mean <= relative.value, relative
        record("T17", share(mean, relative.value))


def test_T17_is_attained_by_one_step_into_a_bowl():
    problem = bowl()
    certificates, _ = descend(problem, rg.Exact(), 1, problem.curvature.step_size)
    bound = average_gradient_bound(certificates, 0.0)
    record("T17", certificates[0].gradient_norm ** 2 / bound.value, attained=True)


@given(problem=convex_problems(kinds=["least squares"]), data=st.data())
def test_T18_the_rate_is_linear_where_pl_holds(problem, data):
    assume(problem.curvature.strong_convexity > 0.0)
    storage = data.draw(storages_for(problem.data.shape), label="storage")
    certificates, weights = descend(problem, storage, data.draw(st.integers(1, 8)), problem.curvature.step_size)
    # The first steps that are certified; one that is not ends what is guaranteed.
    certified = list(itertools.takewhile(lambda certificate: certificate.certified, certificates))
    assume(certified)
    least = problem.least_exactly()
    bound = linear_rate(certified, problem.curvature.strong_convexity, float(least) * (1.0 - 2.0 * HALF_DIGIT))
    gap = float(problem.loss_exactly(weights[len(certified)]) - least)
    assert gap <= bound.value, bound
    record("T18", share(gap, bound.value))


def test_T18_is_attained_in_a_bowl_by_steps_that_are_short():
    problem = bowl()
    certificates, weights = descend(problem, rg.Exact(), 3, problem.curvature.step_size / 1000.0)
    bound = linear_rate(certificates, problem.curvature.strong_convexity, 0.0)
    # (1 - eta L)^2 a step, where T18 says 1 - eta mu.
    record("T18", float(problem.loss_exactly(weights[-1])) / bound.value, attained=True)


@st.composite
def noisy_quadratics(draw):
    """Diagonal curvatures, a start, a bias of the gradient and a noise that takes one of two opposite values."""
    size = draw(st.integers(1, 3), label="size")
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    bend = generator.uniform(0.0, 4.0, size)
    bend[0] = 4.0
    vectors = [generator.standard_normal(size) * draw(st.sampled_from([0.0, 0.5, 2.0])) for _ in range(3)]
    return bend, *vectors, draw(st.integers(1, 4), label="steps"), draw(st.sampled_from([0.25, 0.1]), label="eta")


@given(case=noisy_quadratics())
@example(case=(np.array([4.0]), np.array([1.0]), np.zeros(1), np.zeros(1), 1, 0.25))
def test_T19_the_expectation_over_every_path_of_a_noisy_run_is_bounded(case):
    bend, start, bias, noise, steps, step_size = case
    total = 0.0
    for signs in itertools.product([-1.0, 1.0], repeat=steps):  # every path, each with the same probability
        at = start
        for sign in signs:
            gradient = bend * at
            total += float(gradient @ gradient)
            at = at - step_size * (gradient + bias + sign * noise)
    mean = total / 2**steps / steps
    bound = stochastic_gradient_bound(
        gap=float(bend @ start**2) / 2.0,
        step_size=step_size,
        smoothness=4.0,
        steps=steps,
        bias=float(np.linalg.norm(bias)) * (1.0 + gamma(len(bias) + 2, np.float64)),
        variance=float(noise @ noise) * (1.0 + gamma(len(noise), np.float64)),
    )
    # What is added up here is rounded: a sum of 2^T T terms, each after a few dozen roundings.
    assert mean * (1.0 - gamma(2**steps * steps + 60 * steps, np.float64)) <= bound.value, bound
    record("T19", share(mean * (1.0 - gamma(2**steps * steps + 60 * steps, np.float64)), bound.value))


def small_network(seed, depth=2, width=4):
    """Parameters, and a loss: convolutions with ReLU, a pooling and a linear layer, on random images."""
    generator = np.random.default_rng(seed)
    params, channels = {}, 1
    for layer in range(depth):
        params[f"conv{layer}.weight"] = generator.standard_normal((width, channels, 3, 3)) / math.sqrt(4.5 * channels)
        params[f"conv{layer}.bias"] = 0.1 * generator.standard_normal(width)
        channels = width
    params["fc.weight"] = generator.standard_normal((3, width * 9)) / (3.0 * math.sqrt(width))
    params["fc.bias"] = np.zeros(3)
    images = generator.standard_normal((5, 1, 6, 6)) * 2.0 ** -np.arange(5.0)[:, np.newaxis, np.newaxis, np.newaxis]
    labels = generator.integers(0, 3, 5)

    def loss(parameters):
        x = images
        for layer in range(depth):
            x = relu(rg.conv2d(x, parameters[f"conv{layer}.weight"], parameters[f"conv{layer}.bias"], padding=1))
        return cross_entropy(linear(flatten(max_pool2d(x, 2)), parameters["fc.weight"], parameters["fc.bias"]), labels)

    return params, loss


def value_of(loss):
    """The loss of plain arrays, and how far rounding can have moved it."""

    def loss_at(params):
        gradient = compressed_gradient(loss, params, store=rg.Exact())
        return gradient.loss, gradient.rounding

    return loss_at


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_T16_no_step_of_a_network_is_accepted_that_does_not_descend_as_certified(seed, data):
    params, loss = small_network(seed)
    storage = data.draw(storages_for((5, 1, 6, 6)), label="storage")
    for _ in range(3):
        gradient = compressed_gradient(loss, params, store=storage)
        after, certificate = certified_step(value_of(loss), params, gradient, step_size=1.0)
        if after is None:
            assert not certificate.certified
            assert certificate.guaranteed_decrease is None
            return
        exact = compressed_gradient(loss, params, store=rg.Exact())
        moved = {name: (params[name] - after[name]) / certificate.step_size for name in params}
        checked = certify(
            gradient,
            step_size=certificate.step_size,
            next_loss=certificate.next_loss,
            next_rounding=certificate.loss_rounding - gradient.rounding,
            direction=moved,
            exact=exact.gradients,
        )
        assert checked.status == "holds", checked
        # T16 with the exact gradient: f(x+) <= f(x) - eta/2 |grad f|^2 + eta/2 |e|^2.
        allowed = checked.loss - checked.step_size / 2.0 * (checked.gradient_norm**2 - checked.measured_error**2)
        assert checked.next_loss <= allowed + checked.loss_rounding
        assert checked.decrease + checked.loss_rounding >= certificate.guaranteed_decrease > 0.0
        record("T16", share(certificate.guaranteed_decrease, checked.decrease + checked.loss_rounding))
        params = after


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
@settings(max_examples=20)
def test_T13_no_network_gradient_is_farther_off_than_its_certificate_says(seed, data):
    params, loss = small_network(seed)
    storage = data.draw(storages_for((5, 1, 6, 6)), label="storage")
    exact = compressed_gradient(loss, params, store=rg.Exact()).gradients
    checked = certify(compressed_gradient(loss, params, store=storage), step_size=1.0, exact=exact)
    assert checked.status == "holds"
    assert checked.measured_error <= checked.error_bound
    assert [layer.name for layer in checked.layers] == ["fc.weight", "conv1.weight", "conv0.weight"]
    record("T13", share(checked.measured_error, checked.error_bound))


@pytest.mark.parametrize("storage", [rg.SVD(0.5), rg.HOSVD(0.5), rg.SequentialHOSVD(0.5)], ids=lambda s: s.name)
def test_T10_errors_do_not_pass_from_layer_to_layer_through_ten_of_them(storage):
    params, loss = small_network(7, depth=10, width=3)
    seen = {}
    for store in (rg.Exact(), storage):
        upstream = []
        with rg.Tape(store=store) as tape:
            tensors = {name: tape.watch(array, name) for name, array in params.items()}
            value = loss(tensors)
        gradients = tape.gradient(
            value, tensors, observe=lambda record, grad, found=upstream: found.append(grad.copy())
        )
        seen[store] = gradients, upstream
    (exact, exact_upstream), (compressed, compressed_upstream) = seen.values()
    assert len(exact_upstream) == 11
    for expected, got in zip(exact_upstream, compressed_upstream, strict=True):
        np.testing.assert_array_equal(got, expected)
    differing = [name for name in params if not np.array_equal(exact[name], compressed[name])]
    assert differing
    assert all(name.endswith(".weight") for name in differing)


@pytest.mark.parametrize("explained_variance", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", [rg.SVD, rg.HOSVD, rg.SequentialHOSVD], ids=lambda kind: kind.name)
def test_T20_descent_stops_where_the_gradient_is_not_zero_and_is_not_certified(kind, explained_variance):
    # The large sample is fitted; only the small one, which compression drops, is not.
    activation, grad_output = no_free_lunch(explained_variance)
    targets = -grad_output * len(activation)
    problem = ConvexProblem("least squares", activation, targets, np.zeros((targets.shape[1], activation.shape[1])))
    certificates, weights = descend(problem, kind(explained_variance), 5, problem.curvature.step_size)
    np.testing.assert_array_equal(weights[-1], weights[0])
    for certificate in certificates:
        assert certificate.gradient_norm > 0.0
        assert not certificate.certified
        assert certificate.guaranteed_decrease is None
        assert certificate.ratio == math.inf
        assert certificate.status == "holds"  # T16 is true, and says nothing here
    assert guaranteed_losses(certificates)[1:] == [math.inf] * 5
    with pytest.raises(ValueError, match=r"certificates\[0\] must be certified, but the error may be"):
        linear_rate(certificates, 1.0, 0.0)


def test_T20_at_an_explained_variance_that_guarantees_nothing_the_layer_is_named():
    params, loss = small_network(3)
    gradient = compressed_gradient(loss, params, store=rg.HOSVD(0.3))
    certificate = certify(gradient, step_size=1e-6, smoothness=1.0)
    assert certificate.status == "not certified"
    worst = max(certificate.layers, key=lambda layer: layer.bound)
    assert certificate.spoiler == worst.name
    assert worst.name in certificate.reason


@given(problem=convex_problems(kinds=["least squares"]))
def test_T16_the_known_constants_enclose_every_curvature(problem):
    curvature = least_squares_curvature(problem.data, ridge=problem.ridge)
    hessian = problem.data.T @ problem.data / len(problem.data) + problem.ridge * np.eye(problem.data.shape[1])
    values = np.linalg.eigvalsh(hessian)
    off = 2.0 * gamma(40 * len(hessian) + len(problem.data), np.float64) * np.trace(hessian)
    assert values[-1] - off <= curvature.smoothness <= values[-1] + 40.0 * off
    assert curvature.strong_convexity <= values[0] + off
    assert curvature.strong_convexity >= values[0] - 40.0 * off or len(problem.data) < problem.data.shape[1]
