"""Bounds: known values, a whole network, and what is refused."""

import math

import numpy as np
import pytest

import refgrad as rg
from refgrad.bounds import (
    GRADES,
    GradientBound,
    activation_error_bounds,
    network_bound,
    spectral_norms,
    weight_gradient_bound,
)
from refgrad.bounds.norms import exponent_of, frobenius_norm, raised_product, times_power
from refgrad.geometry import ConvGeometry
from refgrad.storage import HOSVD, SVD, Exact
from refgrad.storage.sizes import Sizes
from tests.assertions import assert_within

CONV = ConvGeometry.of(3, padding=1)
RAISED = 2.0**-40
"""The relative amount by which a bound is rounded up, several times over."""


def normal(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_a_diagonal_matrix_by_hand():
    # A = diag(4, 2), rank 1 discards 2; G = diag(3, 5): D(E, G) = diag(0, 5 * 2).
    storage = SVD(rank=1)
    x, grad_output = np.diag([4.0, 2.0]), np.diag([3.0, 5.0])
    bound = weight_gradient_bound((storage, storage.store(x)), grad_output, activation=x)
    assert bound.a_priori is None
    assert math.isclose(bound.a_posteriori, 10.0, rel_tol=RAISED)
    # The singular values alone do not say which meets which: 5 * 2 is the worst.
    assert math.isclose(bound.exact, 10.0, rel_tol=RAISED)
    assert math.isclose(bound.magnitude, 12.0, rel_tol=RAISED)
    assert math.isclose(bound.relative(), 10.0 / 12.0, rel_tol=RAISED)
    assert bound.relative("a_priori") is None
    assert bound.total("a_priori") is None
    assert bound.a_posteriori < bound.total() <= (bound.a_posteriori + bound.rounding) * (1.0 + RAISED)


def test_the_explained_variance_gives_the_a_priori_grade():
    x, grad_output = normal(8, 3, 6, 6), normal(8, 4, 6, 6, seed=1)
    norm, upstream = np.linalg.norm(x), np.linalg.norm(grad_output.transpose(0, 2, 3, 1).reshape(-1, 4), 2)
    for storage, share in ((SVD(0.75), 0.25), (HOSVD(0.75), 1.0)):
        bound = weight_gradient_bound((storage, storage.store(x)), grad_output, CONV)
        assert math.isclose(bound.a_priori, upstream * 3.0 * math.sqrt(share) * norm, rel_tol=RAISED)
        assert bound.a_posteriori < bound.a_priori
        assert bound.exact is None
        assert bound.relative("exact") is None


def test_groups_are_bounded_one_by_one():
    geometry = ConvGeometry.of(3, padding=1, groups=2)
    x, grad_output = normal(4, 4, 5, 5), normal(4, 6, 5, 5, seed=1)
    grad_output[:, :3] *= 100.0
    norms = spectral_norms(grad_output, geometry)
    assert norms[0] > 50.0 * norms[1]
    storage = HOSVD(0.7)
    stored = storage.store(x)
    bound = weight_gradient_bound((storage, stored), grad_output, geometry, activation=x)
    error = (x - stored.reconstruct()) ** 2 * geometry.multiplicity((5, 5))
    expected = math.hypot(norms[0] * math.sqrt(error[:, :2].sum()), norms[1] * math.sqrt(error[:, 2:].sum()))
    assert math.isclose(bound.exact, expected, rel_tol=RAISED)
    assert bound.exact < bound.a_posteriori


def test_exact_storage_has_nothing_but_rounding():
    x, grad_output = normal(4, 3, 5, 5), normal(4, 2, 5, 5, seed=1)
    storage = Exact()
    bound = weight_gradient_bound((storage, storage.store(x)), grad_output, CONV, activation=x)
    assert [getattr(bound, grade) for grade in GRADES] == [0.0, 0.0, 0.0]
    assert bound.relative() == 0.0
    assert 0.0 < bound.rounding < bound.magnitude


def test_zero_tensors_have_a_bound_of_zero_and_no_relative_one():
    zero, ones = np.zeros((3, 4)), np.ones((3, 2))
    storage = HOSVD(0.8)
    bound = weight_gradient_bound((storage, storage.store(zero)), ones, activation=zero)
    assert [getattr(bound, grade) for grade in GRADES] == [0.0, 0.0, 0.0]
    assert bound.relative() == 0.0
    assert GradientBound(None, 1.0, None, 0.0, 0.0).relative() == math.inf


def test_a_known_weight_gradient_is_not_computed_again():
    x, grad_output = normal(4, 3), normal(4, 2, seed=1)

    class Counting(SVD):
        calls = 0

        def weight_gradient(self, stored, grad_output, geometry=None):
            Counting.calls += 1
            return SVD.weight_gradient(self, stored, grad_output, geometry)

    storage = Counting(rank=2)
    stored = storage.store(x)
    known = SVD(rank=2).weight_gradient(stored, grad_output)
    bound = weight_gradient_bound((storage, stored), grad_output, grad_weight=known)
    assert Counting.calls == 0
    assert bound == weight_gradient_bound((storage, stored), grad_output)
    assert Counting.calls == 1


def test_so_long_a_sum_that_rounding_has_no_bound(monkeypatch):
    monkeypatch.setattr(Sizes, "rounding_length", 2**24)  # 1 / u of float32
    storage = Exact()
    for value, rounding in ((1.0, math.inf), (0.0, 0.0)):
        stored = storage.store(np.full((4, 3), value, np.float32))
        bound = weight_gradient_bound((storage, stored), np.ones((4, 2), np.float32))
        assert bound.rounding == bound.total() == rounding
        assert bound.a_posteriori == 0.0


# A whole network


def network(parameters, x):
    hidden = rg.relu(rg.conv2d(x, parameters["first"], padding=1))
    hidden = rg.relu(rg.conv2d(hidden, parameters["second"], stride=2, groups=2))
    scores = rg.linear(hidden.reshape(len(x), -1), parameters["third"])
    return np.mean(scores**2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("storage", [HOSVD(0.8), HOSVD(0.99), HOSVD(1.0), SVD(0.8), Exact()], ids=repr)
def test_T13_bounds_the_gradient_of_a_network(storage, dtype):
    x = normal(8, 2, 7, 7, dtype=dtype)
    shapes = {"first": (4, 2, 3, 3), "second": (6, 2, 3, 3), "third": (5, 54)}
    parameters = {name: normal(*shape, dtype=dtype, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    bounds, upstream = [], []

    def observe(record, grad_output):
        bounds.append(
            weight_gradient_bound(record.kept_activation, grad_output, getattr(record.saved, "geometry", None))
        )
        upstream.append(grad_output)

    gradients = {}
    for store in (storage, Exact()):
        with rg.Tape(store=store) as tape:
            tensors = {name: tape.watch(array, name) for name, array in parameters.items()}
            loss = network(tensors, x)
        gradients[store] = tape.gradient(loss, tensors, observe=observe)
    # T10: what comes from above is the same, bit for bit.
    for compressed, plain in zip(upstream[:3], upstream[3:], strict=True):
        assert np.array_equal(compressed, plain)
    error = frobenius_norm(
        np.concatenate([(gradients[storage][name].astype(float) - gradients[Exact()][name]).ravel() for name in shapes])
    )
    together = network_bound(bounds[:3])
    assert error <= together.total("a_posteriori") <= 2.0 * together.total("a_priori")
    if isinstance(storage, HOSVD) and storage.explained_variance == 0.8:
        assert error > 0.0
        assert together.a_posteriori < 20.0 * error, "so loose a bound says nothing"


def test_T13_squares_add_up_in_every_field_and_what_is_missing_stays_missing():
    layers = [GradientBound(3.0, 6.0, 9.0, 12.0, 15.0), GradientBound(4.0, 8.0, 12.0, 16.0, 20.0)]
    assert network_bound(layers) == GradientBound(5.0, 10.0, 15.0, 20.0, 25.0)
    assert network_bound(iter(layers[:1])) == layers[0]
    partial = network_bound([*layers, GradientBound(None, 0.0, None, 0.0, 0.0)])
    assert partial == GradientBound(None, 10.0, None, 20.0, 25.0)


# Norms


def test_spectral_norms_of_matrices_of_either_shape():
    for shape in ((7, 3), (3, 7), (1, 5), (5, 1)):
        matrix = normal(*shape)
        (bound,) = spectral_norms(matrix)
        truth = np.linalg.norm(matrix, 2)
        assert truth * (1.0 - RAISED) <= bound <= truth * (1.0 + RAISED)


@pytest.mark.parametrize(
    ("exponent", "dtype"), [(500, np.float64), (-500, np.float64), (60, np.float32), (-60, np.float32)]
)
def test_norms_of_numbers_whose_squares_overflow_or_vanish(exponent, dtype):
    matrix = np.ldexp(normal(6, 4), exponent).astype(dtype)
    scaled = np.ldexp(matrix.astype(np.float64), -exponent)
    assert math.isclose(frobenius_norm(matrix), math.ldexp(np.linalg.norm(scaled), exponent), rel_tol=RAISED)
    assert math.isclose(spectral_norms(matrix)[0], math.ldexp(np.linalg.norm(scaled, 2), exponent), rel_tol=RAISED)


def test_spectral_norms_are_never_below_norms_that_are_known_exactly():
    for matrix, norm in ((np.ones((200, 50)), 100.0), (np.diag([3.0, 4.0]), 4.0), (np.full((1, 9), 2.0), 6.0)):
        assert norm <= spectral_norms(matrix)[0] <= norm * (1.0 + RAISED)


def test_frobenius_norm_from_above_and_from_below():
    array = normal(50, 40)
    truth = math.sqrt(math.fsum((array**2).ravel()))
    assert frobenius_norm(array, upward=False) <= truth <= frobenius_norm(array)
    assert_within(frobenius_norm(array), truth, RAISED * truth)


def test_products_beyond_the_largest_number_are_inf_and_zero_wins():
    assert raised_product(1e200, 1e200) == math.inf
    assert raised_product(0.0, math.inf) == 0.0
    assert raised_product(1e-200, 1e-200, 1e300, 1e200) >= 1e100
    assert times_power(1.0, 2000) == math.inf
    assert exponent_of(np.zeros(3)) == 0
    assert exponent_of(np.array([-3.0, 1.0])) == 2
    assert spectral_norms(np.full((2, 2), 1.7e308)) == [math.inf]


# What is refused


def kept(shape=(4, 3, 5, 5)):
    storage = HOSVD(0.8)
    return storage, storage.store(normal(*shape))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: weight_gradient_bound(3, np.ones((2, 2))),
            TypeError,
            r"kept must be a KeptActivation or a pair .* got int",
        ),
        (lambda: weight_gradient_bound((1, 2), np.ones((2, 2))), TypeError, r"kept must be .* got tuple"),
        (
            lambda: weight_gradient_bound(kept(), np.full((4, 2, 5, 5), np.nan), CONV),
            ValueError,
            r"grad_output must be finite, got nan",
        ),
        (
            lambda: weight_gradient_bound(kept(), np.ones((4, 2, 5, 4)), CONV),
            ValueError,
            r"grad_output must have shape",
        ),
        (
            lambda: weight_gradient_bound(kept(), np.ones((4, 2, 5, 5)), CONV, activation=np.ones((4, 3, 5, 4))),
            ValueError,
            r"activation must have the shape that was stored, \(4, 3, 5, 5\), got \(4, 3, 5, 4\)",
        ),
        (
            lambda: weight_gradient_bound(
                kept(), np.ones((4, 2, 5, 5)), CONV, activation=np.full((4, 3, 5, 5), np.inf)
            ),
            ValueError,
            r"activation must be finite",
        ),
        (
            lambda: weight_gradient_bound(kept(), np.ones((4, 2, 5, 5)), CONV, grad_weight=np.ones((2, 3))),
            ValueError,
            r"grad_weight must have the layer's weight shape, \(2, 3, 3, 3\), got \(2, 3\)",
        ),
        (
            lambda: weight_gradient_bound(kept((4, 3)), np.ones((4, 2)), grad_weight=np.ones((3, 2))),
            ValueError,
            r"grad_weight must have the layer's weight shape, \(2, 3\), got \(3, 2\)",
        ),
        (
            lambda: weight_gradient_bound(
                kept(), np.ones((4, 2, 5, 5)), CONV, grad_weight=np.full((2, 3, 3, 3), np.nan)
            ),
            ValueError,
            r"grad_weight must be finite",
        ),
        (lambda: network_bound([]), ValueError, r"bounds must hold one GradientBound .* got none"),
        (lambda: spectral_norms(np.ones(3)), ValueError, r"grad_output must have at least 2 axes"),
        (
            lambda: spectral_norms(np.ones((2, 3, 4, 4)), ConvGeometry.of(3, groups=2)),
            ValueError,
            r"groups must divide the channels of grad_output \(B=2, O=3, H'=4, W'=4\), got groups=2",
        ),
        (
            lambda: GradientBound(None, 1.0, None, 0.0, 1.0).relative("guess"),
            ValueError,
            r"grade must be one of 'a_priori'",
        ),
        (
            lambda: GradientBound(None, 1.0, None, 0.0, 1.0).total("guess"),
            ValueError,
            r"grade must be one of 'a_priori'",
        ),
    ],
)
def test_bounds_refuse(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_storage_whose_error_nobody_knows_has_no_bound():
    class Halved:
        shape, dtype, nbytes, stored_numbers, multilinear_rank = (2, 2), np.dtype(float), 32, 4, None

        def reconstruct(self):
            return np.ones((2, 2))

    known = np.ones((2, 2))
    with pytest.raises(TypeError, match=r"kept must hold what Exact, SVD or HOSVD stores, .* got Halved"):
        weight_gradient_bound((Exact(), Halved()), np.ones((2, 2)), grad_weight=known)
    with pytest.raises(TypeError, match=r"stored must be what Exact, SVD or HOSVD stores, .* got Halved"):
        activation_error_bounds(Halved())
