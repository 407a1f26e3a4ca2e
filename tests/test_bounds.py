"""Bounds: known values, a whole network, and what is refused."""

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

import refgrad as rg
from refgrad.bounds import (
    GRADES,
    GradientBound,
    activation_error_bounds,
    network_bound,
    shared_weight_bound,
    spectral_norms,
    weight_gradient_bound,
)
from refgrad.bounds.norms import exponent_of, frobenius_norm, lowered, raised, raised_product, times_power
from refgrad.geometry import ConvGeometry
from refgrad.multilinear import hosvd, sequential_hosvd, svd
from refgrad.storage import HOSVD, SVD, Exact, Storage
from refgrad.storage.exact import Dense
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
    assert [getattr(bound, grade) for grade in GRADES] == [0.0, 0.0, 0.0, None]
    assert bound.relative() == 0.0
    assert 0.0 < bound.rounding < bound.magnitude


def test_zero_tensors_have_a_bound_of_zero_and_no_relative_one():
    zero, ones = np.zeros((3, 4)), np.ones((3, 2))
    storage = HOSVD(0.8)
    bound = weight_gradient_bound((storage, storage.store(zero)), ones, activation=zero)
    assert [getattr(bound, grade) for grade in GRADES] == [0.0, 0.0, 0.0, 0.0]
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


def test_of_what_a_truncated_svd_discarded_no_singular_value_is_above_the_last_one_kept():
    # Two values of about 2 are discarded: only one of them can meet the largest singular value of G, 5.
    storage, gap = SVD(rank=2), 2.0**-30
    x, grad_output = np.diag([3.0, 2.0 + gap, 2.0, 2.0]), np.diag([1.0, 1.0, 5.0, 1.0])
    stored = storage.store(x)
    bound = weight_gradient_bound((storage, stored), grad_output, activation=x)
    error = math.hypot(5.0 * 2.0, 1.0 * 2.0)
    assert frobenius_norm(grad_output.T @ (x - stored.reconstruct())) <= min(bound.total(), bound.total("spectrum"))
    assert math.isclose(bound.spectrum, error, rel_tol=RAISED)
    assert error <= bound.a_posteriori <= error * (1.0 + gap)
    assert bound.a_posteriori < min(bound.exact, 0.75 * 5.0 * math.sqrt(8.0))
    assert bound.derivation().formula == "(sum_i s_i(G)^2 e_i)^(1/2) + rounding"


def test_the_shorter_of_two_norms_is_the_exact_grade_of_a_linear_layer():
    storage = SVD(rank=1)
    for x, grad_output, formula, value in (
        (np.diag([9.0, 1.0, 1.0]), np.diag([0.0, 3.0, 0.0]), "|G| * |E|_2 + rounding", 3.0),
        (np.diag([9.0, 1.0, 0.0]), np.diag([3.0, 3.0, 3.0]), "|G|_2 * |E| + rounding", 3.0),
    ):
        bound = weight_gradient_bound((storage, storage.store(x)), grad_output, activation=x)
        assert bound.derivation("exact").formula == formula
        assert math.isclose(bound.exact, value, rel_tol=RAISED)


def test_a_derivation_says_by_which_theorem_the_error_is_known():
    x, grad_output = normal(8, 3, 6, 6), normal(8, 4, 6, 6, seed=1)
    reasons = {}
    for storage in (SVD(0.75), HOSVD(0.75), Exact()):
        bound = weight_gradient_bound((storage, storage.store(x)), grad_output, CONV, activation=x)
        assert bound.derivation("spectrum") is None
        reasons[storage.name] = [bound.derivation(grade).because for grade in GRADES[:3]]
        assert bound.derivation("exact").formula == "|G|_2 * |im2col(E)| + rounding"
    assert reasons == {
        "svd": ["|E|^2 <= (1 - eps) |A|^2 (T7)", "|E|^2 = tau_1 (T7)", "E = A - A~"],
        "hosvd": ["|E|^2 <= d (1 - eps) |A|^2 (T3)", "|E|^2 = |A|^2 - |S|^2 (T2)", "E = A - A~"],
        "exact": ["E = 0: all of A is kept", "E = 0: all of A is kept", "E = A - A~"],
    }
    grouped = weight_gradient_bound(
        (HOSVD(0.7), HOSVD(0.7).store(normal(4, 4, 5, 5))), grad_output[:4, :, :5, :5].copy(),
        ConvGeometry.of(3, padding=1, groups=2), activation=normal(4, 4, 5, 5),
    )  # fmt: skip
    assert grouped.derivation().formula == "max_g |G_g|_2 * sqrt(m) * |E| + rounding"
    assert grouped.derivation("exact").formula == "(sum_g |G_g|_2^2 |im2col(E_g)|^2)^(1/2) + rounding"


def test_a_bound_can_be_copied_and_pickled_with_its_derivations():
    storage = SVD(rank=1)
    bound = weight_gradient_bound((storage, storage.store(np.diag([4.0, 2.0]))), np.eye(2))
    for other in (copy.deepcopy(bound), pickle.loads(pickle.dumps(bound))):
        assert other == bound
        assert hash(other) == hash(bound)
        assert other.derivation() == bound.derivation()


# Where a bound could be too small


def test_a_group_far_smaller_than_another_keeps_its_norm():
    large, small = 1e150, 1e-170  # over a common power of two, the squares of the small one would be 0
    grad_output = np.array([3.0 * large, 4.0 * large, 3.0 * small, 4.0 * small]).reshape(1, 4, 1, 1)
    norms = spectral_norms(grad_output, ConvGeometry((1, 1), groups=2))
    for norm, size in zip(norms, (large, small), strict=True):
        assert 5.0 * size <= norm <= 5.0 * size * (1.0 + RAISED)


def squares(array):
    return sum(Fraction(float(value)) ** 2 for value in array.ravel())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_below_the_smallest_number_is_rounded_up_and_never_to_zero(dtype):
    smallest = np.finfo(dtype).smallest_subnormal
    for array in (np.array([smallest, smallest]), np.array([3 * smallest]), np.full(7, 5 * smallest)):
        assert (
            Fraction(frobenius_norm(array)) ** 2 >= squares(array) >= Fraction(frobenius_norm(array, upward=False)) ** 2
        )
        assert Fraction(spectral_norms(array[np.newaxis])[0]) ** 2 >= squares(array)
    assert raised_product(5e-324, 5e-324) == times_power(1.0, -1080) == 5e-324
    assert raised(5e-324) > 5e-324 > lowered(5e-324) == 0.0
    assert raised(-1.0) > -1.0 > lowered(-1.0)
    assert raised(0.0) == lowered(0.0) == 0.0
    assert raised(math.inf) == math.inf
    tiny = np.diag([3.0, 1.0]).astype(dtype) * smallest
    storage = SVD(rank=1)
    bound = weight_gradient_bound((storage, storage.store(tiny)), np.eye(2, dtype=dtype) * smallest, activation=tiny)
    assert all(getattr(bound, grade) > 0.0 for grade in ("a_posteriori", "exact", "spectrum"))
    assert bound.rounding > 0.0


@pytest.mark.parametrize("explained_variance", [0.8, 0.99994, 0.99999, 0.9999999999999994])
def test_T3_T7_an_explained_variance_promises_what_its_decimal_says(explained_variance):
    x = normal(6, 5)
    # 1 - eps in float64 is less than the decimal's by up to a tenth.
    share = 1 - Fraction(repr(explained_variance))
    for storage, modes in ((SVD(explained_variance), 1), (HOSVD(explained_variance), 2)):
        bound = weight_gradient_bound((storage, storage.store(x)), np.eye(6))
        assert Fraction(bound.a_priori) ** 2 >= modes * share * squares(x)


def test_T3_what_an_activation_error_is_at_least_is_rounded_down_and_at_most_up():
    for seed in range(20):
        x = normal(5, 4, 3, seed=seed)
        energy = squares(x)
        for stored in (hosvd(x, 0.8), sequential_hosvd(x, 0.8), svd(x, 0.8)):
            lower, upper = activation_error_bounds(stored)
            fractions = [Fraction(fraction) for fraction in stored.discarded_fraction]
            assert (
                Fraction(lower) ** 2
                < (max(fractions) if len(fractions) > 1 and not stored.sequential else sum(fractions)) * energy
            )
            assert Fraction(upper) ** 2 > sum(fractions) * energy
    assert activation_error_bounds(svd(x, rank=5)) == (0.0, 0.0)


def test_a_relative_bound_is_over_a_magnitude_from_below():
    for seed in range(20):
        grad_weight, grad_output = normal(7, 5, seed=seed), normal(6, 7, seed=1)
        storage = SVD(rank=2)
        bound = weight_gradient_bound((storage, storage.store(normal(6, 5))), grad_output, grad_weight=grad_weight)
        assert Fraction(bound.magnitude) ** 2 <= squares(grad_weight)
        assert Fraction(bound.relative()) ** 2 * squares(grad_weight) >= Fraction(bound.a_posteriori) ** 2


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_where_float32_may_overflow_rounding_has_no_bound():
    x = np.full((4, 4), 1e19, np.float32) + np.diag(np.full(4, 1e18, np.float32))
    grad_output = np.full((4, 2), 1e20, np.float32)
    storage = SVD(rank=1)
    stored = storage.store(x)
    compressed = storage.weight_gradient(stored, grad_output)
    assert np.isinf(compressed).all()
    bound = weight_gradient_bound((storage, stored), grad_output)
    assert bound.a_posteriori < math.inf
    assert bound.rounding == bound.total() == bound.magnitude == bound.relative() == math.inf


class Halved(Storage):
    """Keeps a dense array that is not the activation."""

    name = "halved"

    def store(self, activation):
        return Dense(activation / 2)

    def restore(self, stored):
        return stored.array

    def weight_gradient(self, stored, grad_output, geometry=None):
        return Exact().weight_gradient(stored, grad_output, geometry)


def test_what_is_kept_dense_is_the_activation_itself_or_has_no_bound():
    x = normal(3, 2)
    with pytest.raises(ValueError, match=r"activation must be what was stored whole, but what Halved kept .* differs"):
        weight_gradient_bound((Halved(), Halved().store(x)), np.ones((3, 2)), activation=x)


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


def test_T13_the_root_of_a_sum_of_squares_is_rounded_up():
    for seed in range(50):
        values = np.random.default_rng(seed).random(3)
        together = network_bound([GradientBound(None, float(value), None, 0.0, float(value)) for value in values])
        assert Fraction(together.a_posteriori) ** 2 >= squares(values) >= Fraction(together.magnitude) ** 2
    huge = network_bound([GradientBound(None, 1e308, None, 0.0, 1.0)] * 9)
    assert huge.a_posteriori == math.inf
    tiny = network_bound([GradientBound(None, 5e-324, None, 0.0, 5e-324)] * 2)
    assert (tiny.a_posteriori, tiny.magnitude) == (1e-323, 5e-324)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_T13_the_errors_of_layers_that_share_a_weight_add_up_and_not_their_squares(dtype):
    storage = SVD(rank=1)
    weight = normal(3, 4, dtype=dtype)
    x = np.zeros((5, 4), dtype)
    x[0, 0], x[1, 1] = 4.0, 1.0
    grad_output = np.zeros((5, 3), dtype)
    grad_output[1, 2] = 1.0
    bounds = []

    def gradient(store, observe=None):
        with rg.Tape(store=store) as tape:
            shared = tape.watch(weight)
            loss = sum(np.sum(rg.linear(x, shared) * grad_output) for _ in range(3))
        return tape.gradient(loss, [shared], observe=observe)[0]

    compressed = gradient(
        storage, lambda record, upstream: bounds.append(weight_gradient_bound(record.kept_activation, upstream))
    )
    error = frobenius_norm(gradient(Exact()).astype(float) - compressed)
    assert len(bounds) == 3
    assert error > 1.7 * network_bound(bounds).total(), "squares do not add up here"
    shared = shared_weight_bound(bounds, compressed)
    assert error <= shared.total() <= error + 4.0 * shared.rounding
    assert shared.derivation().because == "the layers share one weight"
    assert shared.derivation().value == shared.total()
    alone = shared_weight_bound(bounds[:1], compressed)
    assert alone.a_posteriori == bounds[0].a_posteriori
    assert alone.rounding == bounds[0].rounding
    assert shared.rounding > 3.0 * bounds[0].rounding


def test_T13_the_derivation_of_a_deep_network_names_all_layers_and_shows_some():
    layers = [GradientBound(None, float(number), None, 0.5, 1.0) for number in range(1, 10)]
    derivation = network_bound(layers).derivation()
    assert derivation.formula == "(b_1^2 + b_2^2 + b_3^2 + b_4^2 + b_5^2 + ... + b_9^2)^(1/2) + rounding"
    assert derivation.quantities == {f"b_{number}": number for number in range(1, 10)} | {"rounding": 1.5}
    assert "(1.00000^2 + 2.00000^2" in str(derivation)
    assert network_bound(layers).derivation("exact") is None


def test_T13_squares_add_up_in_every_field_and_what_is_missing_stays_missing():
    layers = [GradientBound(3.0, 6.0, 9.0, 12.0, 15.0, 30.0), GradientBound(4.0, 8.0, 12.0, 16.0, 20.0, 40.0)]
    assert network_bound(layers) == GradientBound(5.0, 10.0, 15.0, 20.0, 25.0, 50.0)
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
        (
            lambda: shared_weight_bound([], np.ones(2)),
            ValueError,
            r"bounds must hold one GradientBound for each layer that shares the weight, got none",
        ),
        (
            lambda: shared_weight_bound([GradientBound(None, 1.0, None, 0.0, 1.0)], [1.0]),
            TypeError,
            r"grad_weight must be a float32 or float64 NumPy array, got list",
        ),
        (
            lambda: GradientBound(None, 1.0, None, 0.0, 1.0).derivation(),
            ValueError,
            r"a GradientBound has a derivation where .* this one was put together from numbers",
        ),
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
