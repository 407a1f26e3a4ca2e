"""Gradient descent, schedules and clipping: PyTorch's formulas, and what is refused."""

import math

import numpy as np
import pytest

from refgrad.optim import SGD, clip_gradient_norm, cosine_schedule
from refgrad.rounding import gamma, unit_roundoff
from tests.assertions import assert_same_bits, assert_within
from tests.running_error import ELEMENTARY, Running

DTYPES = (np.float32, np.float64)
RULES = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "weight decay": {"weight_decay": 0.01},
    "both": {"momentum": 0.9, "weight_decay": 5e-4},
    "nesterov": {"momentum": 0.8, "weight_decay": 1e-3, "nesterov": True},
}


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is the third party that refgrad is checked against")


def arrays(dtype=np.float64, seed=0):
    draw = np.random.default_rng(seed)
    return {name: draw.standard_normal(shape).astype(dtype) for name, shape in (("w", (3, 4)), ("b", (4,)), ("s", ()))}


def torch_steps(torch, parameters, gradients, rates, rule):
    """The parameters after each step of torch.optim.SGD in float64."""
    theirs = [torch.nn.Parameter(torch.from_numpy(a.astype(np.float64))) for a in parameters.values()]
    optimiser = torch.optim.SGD(theirs, lr=rates[0], **rule)
    for rate, step in zip(rates, gradients, strict=True):
        optimiser.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(theirs, step.values(), strict=True):
            parameter.grad = torch.from_numpy(gradient.astype(np.float64))
        optimiser.step()
        yield [parameter.detach().numpy().copy() for parameter in theirs]


def running_steps(start, gradients, rates, *, momentum=0.0, weight_decay=0.0, nesterov=False):
    """One parameter by the formula, in numbers that know how far they can be off."""
    p = Running.exact(start)
    m, decay = p.constant(momentum), p.constant(weight_decay)
    velocity = Running(np.zeros(start.shape), 0.0, start.dtype)
    for rate, gradient in zip(rates, gradients, strict=True):
        direction = Running.exact(gradient) + decay * p
        velocity = m * velocity + direction
        p = p - p.constant(rate) * (direction + m * velocity if nesterov else velocity)
        yield p


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_T15_sgd_is_within_running_error_of_its_formula_and_equals_torch(torch, name, dtype):
    rule, parameters = RULES[name], arrays(dtype)
    rates = [0.1, 0.1, 0.05, 0.02, 0.3]
    gradients = [arrays(dtype, seed) for seed in range(1, 6)]
    theirs = torch_steps(torch, parameters, gradients, rates, rule)
    formulas = [running_steps(p.copy(), [g[n] for g in gradients], rates, **rule) for n, p in parameters.items()]
    held = dict(parameters)
    optimiser = SGD(parameters, lr=1.0, **rule)
    for rate, step, their in zip(rates, gradients, theirs, strict=True):
        optimiser.lr = rate
        before = {n: g.copy() for n, g in step.items()}
        optimiser.step(step)
        for label, other, formula in zip(parameters, their, formulas, strict=True):
            expected = next(formula)
            allowed = expected.error + unit_roundoff(np.float64) * np.abs(expected.value)
            assert parameters[label] is held[label], "changed in place"
            assert_within(parameters[label], expected.value, allowed, label)
            assert_within(parameters[label], other, 2 * allowed, f"{label} against torch")
            assert_same_bits(step[label], before[label], "gradients are not written to")


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_dyadic_numbers_equals_torch_bit_for_bit(torch, nesterov):
    draw = np.random.default_rng(0)
    parameters = {"w": draw.integers(-8, 8, (3, 4)).astype(np.float64)}
    gradients = [{"w": draw.integers(-8, 8, (3, 4)).astype(np.float64)} for _ in range(6)]
    rule = {"momentum": 0.5, "weight_decay": 0.25, "nesterov": nesterov}
    theirs = torch_steps(torch, parameters, gradients, [0.5] * 6, rule)
    optimiser = SGD(parameters, lr=0.5, **rule)
    for step, their in zip(gradients, theirs, strict=True):
        optimiser.step(step)
        assert_same_bits(parameters["w"], their[0])


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_dyadic_numbers_equals_its_formula_bit_for_bit(nesterov):
    draw = np.random.default_rng(0)
    start, *gradients = (draw.integers(-8, 8, (3, 4)).astype(np.float64) for _ in range(7))
    parameters, formula = {"w": start.copy()}, start.copy()
    optimiser = SGD(parameters, lr=0.5, momentum=0.5, weight_decay=0.25, nesterov=nesterov)
    velocity = np.zeros_like(start)
    for gradient in gradients:
        direction = gradient + 0.25 * formula
        velocity = 0.5 * velocity + direction
        formula = formula - 0.5 * (direction + 0.5 * velocity if nesterov else velocity)
        optimiser.step({"w": gradient})
        assert_same_bits(parameters["w"], formula)


def test_sgd_goes_on_from_its_state_as_if_it_had_never_stopped():
    steps = [arrays(seed=seed) for seed in range(1, 7)]
    whole, halves = arrays(), arrays()
    optimiser = SGD(whole, lr=0.1, momentum=0.9)
    for step in steps:
        optimiser.step(step)
    first = SGD(halves, lr=0.1, momentum=0.9)
    for step in steps[:3]:
        first.step(step)
    state = first.state_dict()
    assert list(state) == ["lr", "momentum_buffer.w", "momentum_buffer.b", "momentum_buffer.s"]
    second = SGD(halves, lr=7.0, momentum=0.9)
    second.load_state_dict(state)
    first.step(steps[3])  # must not reach what was taken over
    for name, array in arrays().items():
        halves[name][...] = array
    replay = SGD(halves, lr=0.1, momentum=0.9)
    for step in steps[:3]:
        replay.step(step)
    for step in steps[3:]:
        second.step(step)
    for name in whole:
        assert_same_bits(halves[name], whole[name], name)


def test_without_momentum_the_state_is_the_rate():
    assert list(SGD(arrays(), lr=0.1).state_dict()) == ["lr"]


def test_a_step_that_is_refused_changes_nothing():
    parameters = arrays()
    before = {name: array.copy() for name, array in parameters.items()}
    optimiser = SGD(parameters, lr=0.1, momentum=0.9)
    good = arrays(seed=1)

    def refused(error, text, gradients):
        with pytest.raises(error, match=text):
            optimiser.step(gradients)
        for name, array in parameters.items():
            assert_same_bits(array, before[name], name)

    others = {"w": good["w"], "b": good["b"], "c": good["s"]}
    refused(ValueError, "gradients must have the names w, b, s; missing: s; unexpected: c", others)
    refused(ValueError, r"gradients\['b'\] must have shape \(4,\), got \(3,\)", {**good, "b": np.ones(3)})
    refused(TypeError, r"gradients\['b'\] must have dtype float64, got float32", {**good, "b": np.ones(4, np.float32)})
    refused(TypeError, r"gradients\['s'\] must be a float32 or float64 NumPy array, got float", {**good, "s": 1.0})
    wrong = {**good, "b": np.array([0, 0, np.nan, 0])}
    refused(ValueError, r"gradients\['b'\] must be finite, got nan at index \(2,\)", wrong)


def test_an_optimiser_state_that_does_not_fit_is_refused_and_nothing_of_it_is_taken():
    optimiser = SGD(arrays(), lr=0.1, momentum=0.9)
    before = optimiser.state_dict()

    def refused(error, text, **changes):
        state = {**before, "lr": np.array(5.0), **changes}
        with pytest.raises(error, match=text):
            optimiser.load_state_dict({name: value for name, value in state.items() if value is not None})
        for name, array in optimiser.state_dict().items():
            assert_same_bits(array, before[name], name)

    refused(ValueError, "state must have the names .*; missing: momentum_buffer.b$", **{"momentum_buffer.b": None})
    refused(ValueError, "unexpected: epoch$", epoch=np.array(1.0))
    refused(ValueError, r"state\['momentum_buffer.b'\] must have shape \(4,\)", **{"momentum_buffer.b": np.ones(5)})
    refused(ValueError, r"state\['momentum_buffer.b'\] must be finite", **{"momentum_buffer.b": np.full(4, np.inf)})
    refused(TypeError, r"state\['lr'\] must have dtype float64, got float32", lr=np.array(1.0, np.float32))
    refused(ValueError, r"lr must be in \[0, inf\), got -1.0", lr=np.array(-1.0))


READ_ONLY = np.ones(2)
READ_ONLY.flags.writeable = False
BAD = {
    "no parameters": (lambda: SGD({}, 0.1), ValueError, "parameters must not be empty: there is nothing to train"),
    "integer parameter": (lambda: SGD({"w": np.ones(2, int)}, 0.1), TypeError, r"parameters\['w'\] must be a float32"),
    "read-only parameter": (
        lambda: SGD({"w": READ_ONLY}, 0.1),
        ValueError,
        r"parameters\['w'\] must be writeable, for it is changed in place; got a read-only array",
    ),
    "negative rate": (lambda: SGD(arrays(), -0.1), ValueError, r"lr must be in \[0, inf\), got -0.1"),
    "infinite rate": (lambda: SGD(arrays(), np.inf), ValueError, r"lr must be in \[0, inf\), got inf"),
    "rate type": (lambda: SGD(arrays(), "0.1"), TypeError, "lr must be a real number, got '0.1'"),
    "momentum": (lambda: SGD(arrays(), 0.1, momentum=-1), ValueError, r"momentum must be in \[0, inf\), got -1.0"),
    "decay": (lambda: SGD(arrays(), 0.1, weight_decay=np.nan), ValueError, r"weight_decay must be in \[0, inf\)"),
    "nesterov": (lambda: SGD(arrays(), 0.1, nesterov=True), ValueError, "nesterov needs a momentum above 0"),
    "step": (lambda: cosine_schedule(11, 10, 0.1), ValueError, "step must be at most total_steps=10, got 11"),
    "negative step": (lambda: cosine_schedule(-1, 10, 0.1), ValueError, "step must be at least 0, got -1"),
    "no steps": (lambda: cosine_schedule(0, 0, 0.1), ValueError, "total_steps must be at least 1, got 0"),
    "base": (lambda: cosine_schedule(0, 1, -0.1), ValueError, r"base must be in \[0, inf\), got -0.1"),
    "minimum": (lambda: cosine_schedule(0, 1, 0.1, minimum=1), ValueError, r"minimum must be in \[0, 0.1\], got 1.0"),
    "maximum": (lambda: clip_gradient_norm(arrays(), 0.0), ValueError, "maximum must be above 0, got 0.0"),
    "maximum nan": (
        lambda: clip_gradient_norm(arrays(), np.nan),
        ValueError,
        r"maximum must be in \[0, inf\), got nan",
    ),
    "no gradients": (lambda: clip_gradient_norm({}, 1.0), ValueError, "gradients must not be empty"),
    "not finite": (
        lambda: clip_gradient_norm({"w": np.array([1.0, np.inf])}, 1.0),
        ValueError,
        r"gradients\['w'\] must be finite, got inf at index \(1,\)",
    ),
    "norm not finite": (
        lambda: clip_gradient_norm({"w": np.full(4, 1.5e308)}, 1.0),
        ValueError,
        r"the norm of gradients must be finite, got 1.66.* \* 2\*\*1024",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused_with_a_text_that_teaches(name):
    call, error, text = BAD[name]
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("minimum", [0.0, 0.01])
def test_the_cosine_schedule_equals_torch_at_every_step(torch, minimum):
    base, total = 0.05, 17
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=base)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=total, eta_min=minimum)
    u = unit_roundoff(np.float64)

    def factor(step):
        """1 + cos(pi step / total); the argument is off by some roundoffs, and the cosine by more."""
        argument = np.longdouble(np.pi) * step / total
        return Running(np.cos(argument), (ELEMENTARY + 4 * argument) * u, np.float64) + 1.0

    # PyTorch goes from step to step, so its roundings add up.
    theirs = Running(base, 0.0, np.float64)
    for step in range(total + 1):
        rate = cosine_schedule(step, total, base, minimum=minimum)
        expected = factor(step) * (base - minimum) / 2.0 + minimum
        assert_within(rate, expected.value, expected.error + u * np.abs(expected.value), f"step {step}")
        assert_within(rate, optimiser.param_groups[0]["lr"], expected.error + theirs.error, f"torch at step {step}")
        if step < total:
            optimiser.step()
            schedule.step()
            theirs = factor(step + 1) / factor(step) * (theirs - minimum) + minimum
    assert cosine_schedule(0, total, base) == base
    assert cosine_schedule(total, total, base, minimum=minimum) == minimum


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("maximum", [0.5, 1e3])
def test_clipping_equals_torch(torch, dtype, maximum):
    gradients = arrays(dtype)
    before = {name: gradient.copy() for name, gradient in gradients.items()}
    clipped, norm = clip_gradient_norm(gradients, maximum)
    theirs = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients.values()]
    for parameter, gradient in zip(theirs, gradients.values(), strict=True):
        parameter.grad = torch.from_numpy(gradient.astype(np.float64))
    their_norm = float(torch.nn.utils.clip_grad_norm_(theirs, maximum))
    count = sum(gradient.size for gradient in gradients.values())
    assert_within(norm, their_norm, 2 * gamma(count + 4, np.float64) * their_norm, "norm")
    assert (norm > maximum) == (maximum == 0.5)
    for (name, actual), parameter in zip(clipped.items(), theirs, strict=True):
        their = parameter.grad.numpy()
        assert actual.dtype == dtype
        assert_within(
            actual, their, (2 * gamma(count + 8, np.float64) + 3 * unit_roundoff(dtype)) * np.abs(their), name
        )
        assert_same_bits(gradients[name], before[name], "gradients are not written to")
        if maximum == 1e3:
            assert_same_bits(actual, before[name], "a short gradient is left as it is")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_squares_in_a_norm_neither_overflow_nor_vanish(dtype):
    exponent = 120 if dtype == np.float32 else 1000
    gradients = {"w": np.array([3.0, 0.0], dtype), "b": np.array([[4.0]], dtype)}
    for t in (exponent, -exponent):
        far = {name: np.ldexp(g, t) for name, g in gradients.items()}
        clipped, norm = clip_gradient_norm(far, math.ldexp(1.0, 1010))
        assert norm == math.ldexp(5.0, t)
        for name, g in far.items():
            assert_same_bits(clipped[name], g)
    clipped, norm = clip_gradient_norm({"w": np.zeros(3, dtype)}, 1.0)
    assert norm == 0.0
    assert_same_bits(clipped["w"], np.zeros(3, dtype))
