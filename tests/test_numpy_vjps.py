"""The VJPs of NumPy's functions: every rule, by two ways that share no code; what is kept; what is refused."""

import dataclasses
import re
import warnings
from operator import getitem

import numpy as np
import pytest

from refgrad.arguments import Array
from refgrad.numpy_vjps import contractions, indexing, reductions, shaping, ufuncs
from refgrad.numpy_vjps.rules import elementwise, operands, row
from refgrad.numpy_vjps.rules import rule as register
from refgrad.rounding import gamma
from refgrad.tape import (
    CONSTANT,
    BitMask,
    Primitive,
    Tape,
    Tensor,
    function_rules,
    ufunc_method_rules,
    ufunc_rules,
    value_functions,
)
from tests.assertions import assert_same_bits, assert_within
from tests.vjp_cases import CASES, EXACT, SMOOTH_REDUCTIONS, SMOOTH_UFUNCS, Case, check, gradients

DTYPES = [np.float32, np.float64]


def ids(cases):
    return [f"{i} {case.name}" for i, case in enumerate(cases)]


@pytest.fixture
def tape():
    with Tape() as tape:
        yield tape


@pytest.fixture
def x(tape):
    return tape.watch(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), name="x")


def gradient_of(function, *arrays):
    """The gradients of the sum of what a function gives."""
    with Tape() as tape:
        tensors = [tape.watch(np.asarray(array, dtype=np.float64)) for array in arrays]
        total = np.sum(function(*tensors))
    found = tape.gradient(total, tensors)
    return found if len(found) > 1 else found[0]


# every rule is right


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_a_gradient_is_that_of_exact_quotients_or_of_sixty_digits(case, dtype):
    check(case, dtype)


COMPARABLE = [case for case in CASES if case.torch is not None]


@pytest.mark.parametrize("case", COMPARABLE, ids=ids(COMPARABLE))
def test_a_gradient_is_that_of_torch(case):
    torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs PyTorch")
    values, grad_outputs, found = gradients(case, case.arguments, seed=1)
    tensors = [
        torch.tensor(x, requires_grad=True) if isinstance(x, np.ndarray) else torch.tensor(x, dtype=torch.float64)
        if isinstance(case.arguments[0], float) else x
        for x in case.arguments
    ]  # fmt: skip
    out = case.torch(torch, *tensors)
    out.backward(torch.tensor(grad_outputs[0]))
    allowed = 2 * case.condition * gamma(case.roundings + 1, np.float64) if case.smooth else 0.0
    expected = [tensor.grad.numpy() for tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.requires_grad]
    assert values[0].shape == tuple(out.shape)
    for ours, theirs in zip(found, expected, strict=True):
        assert_within(ours, theirs, allowed * np.abs(theirs), case.name)


# the checks themselves can fail


def planted(vjp, forward=np.exp):
    """A primitive whose VJP is given, behind a call at scale 1e-8."""

    def computed(keeper, x):
        return forward(x), Kept(keeper.keep(x))

    wrong = Primitive("planted", computed, {"x": vjp})

    def call(x):
        return 1e-8 * wrong(x) if isinstance(x, Tensor) else 1e-8 * forward(x)

    return call


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    x: Array


def mpmath_exp(x):
    import mpmath

    return np.vectorize(lambda value: mpmath.mpf(1e-8) * mpmath.exp(value), otypes=[object])(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [-30.0, 0.0, -1.0, 1 + 1e-5, 1.0])
def test_a_planted_wrong_vjp_is_caught_at_small_scale(factor, dtype):
    wrong = planted(lambda saved, g: (np.exp(saved.x) * g * factor).astype(g.dtype))
    case = Case("planted", wrong, (np.array([0.5, -0.25]),), (), reference=mpmath_exp, roundings=12)
    if factor == 1.0:
        check(case, dtype)
    else:
        with pytest.raises(AssertionError, match="planted: the gradient of argument 0"):
            check(case, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_planted_wrong_vjp_is_caught_on_integers(dtype):
    def scaled(x):
        return 2.0**-27 * wrong(x) if isinstance(x, Tensor) else 2.0**-27 * (2 * x)

    for factor in (-30.0, 2.0 + 2.0**-20, 0.0, 2.0):
        wrong = Primitive("planted", lambda keeper, x: (2 * x, None), {"x": lambda saved, g, f=factor: f * g})
        case = Case("planted", scaled, (np.array([[3.0, -1.0]]),), ())
        if factor == 2.0:
            check(case, dtype)
        else:
            with pytest.raises(AssertionError, match="planted: the gradient of argument 0"):
                check(case, dtype)


def test_a_planted_nan_is_caught():
    nan = planted(lambda saved, g: g * np.nan)
    with pytest.raises(AssertionError, match="planted: the gradient"):
        check(Case("planted", nan, (np.array([0.5]),), (), reference=mpmath_exp, roundings=12), np.float64)


def test_a_wrong_value_is_caught_too():
    with pytest.raises(AssertionError, match="planted: the value"):
        check(Case("planted", lambda x: x + (0.0 if isinstance(x, Tensor) else 1.0), (np.ones(2),), ()), np.float64)


# the tables are complete


def test_every_rule_has_a_case():
    covered = {function for case in CASES for function in case.covers}
    assert set(ufunc_rules) - covered == set()
    assert set(function_rules) - covered == set()
    assert set(ufunc_method_rules) - covered == set()
    assert covered <= {*ufunc_rules, *function_rules, *ufunc_method_rules}


def test_every_argument_of_every_ufunc_has_a_gradient_or_is_constant():
    for ufunc in ufunc_rules:
        for position in range(ufunc.nin):
            with Tape() as tape:
                arguments = [np.array([[0.5, 0.75], [0.625, 0.875]]) for _ in range(ufunc.nin)]
                if ufunc in (np.arccosh,):
                    arguments[0] = arguments[0] + 1
                if ufunc is np.ldexp and position == 0:
                    arguments[1] = np.array([1, 2])
                tensor = arguments[position] = tape.watch(arguments[position])
                if (ufunc, position) == (np.ldexp, 1):
                    with pytest.raises(
                        TypeError, match=r"x2 of ldexp cannot be differentiated, so it cannot be a Tensor"
                    ):
                        ufunc(*arguments)
                    continue
                gradient = tape.gradient(np.sum(ufunc(*arguments)), tensor)
                assert gradient.shape == (2, 2)
                assert (gradient != 0).any()


def test_value_functions_and_rules_do_not_overlap():
    assert value_functions.isdisjoint(ufunc_rules)
    assert value_functions.isdisjoint(function_rules)


def test_a_row_must_fit_its_formula():
    with pytest.raises(TypeError, match=r"a formula that keeps \(x1, output\) takes 3 arguments, got 2"):
        row("x1 output", lambda g, x: g)
    with pytest.raises(TypeError, match="the row of sin for x1 can keep x1, output, got x2"):
        elementwise(np.sin, x1=row("x2", lambda g, x: g))
    with pytest.raises(
        TypeError, match=r"the VJPs of add must name exactly its array arguments \(x1, x2\); no VJP for x2"
    ):
        elementwise(np.add, x1=row("", lambda g: g))


# what is kept


class Spy:
    """Notes which fields of a saved object a VJP looks at."""

    def __init__(self, saved, seen):
        self._saved, self._seen = saved, seen

    def __getattr__(self, name):
        self._seen.add(name)
        return getattr(self._saved, name)


def holds_array(value):
    return isinstance(value, (np.ndarray, BitMask)) or (isinstance(value, tuple) and any(map(holds_array, value)))


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_everything_kept_is_used_by_the_gradients_that_are_needed(case):
    arrays = [i for i, x in enumerate(case.arguments) if isinstance(x, np.ndarray)]
    for watched in [[i] for i in arrays] + [arrays]:
        with Tape() as tape:
            arguments = [tape.watch(x) if i in watched else x for i, x in enumerate(case.arguments)]
            if not isinstance(case.function(*arguments), (Tensor, list, tuple)):
                continue
            for record in tape.records:
                seen = set()
                for position, parent in enumerate(record.parents):
                    if parent is not None:
                        grad_output = np.ones(record.shape, record.dtype)
                        with np.errstate(all="ignore"):
                            record.primitive.vjp(position, Spy(record.saved, seen), grad_output)
                kept = {
                    field.name
                    for field in (dataclasses.fields(record.saved) if record.saved is not None else ())
                    if holds_array(getattr(record.saved, field.name))
                }
                assert kept <= seen, f"{record.operation} keeps {kept - seen} for nothing"


def test_a_product_of_many_keeps_the_operands_of_the_others(tape, x):
    b, c = np.ones((3, 4)), np.ones((4, 5))
    out = np.einsum("ij,jk,kl->il", x, b, c)
    assert [item.name for item in tape.records[out.index].kept] == ["operands[1]", "operands[2]"]


def test_masks_are_bits(tape):
    t = tape.watch(np.linspace(-1, 1, 1000))
    calls = [
        lambda: np.maximum(t, 0.0),
        lambda: abs(t),
        lambda: t.clip(-0.5, 0.5),
        lambda: np.where(t > 0, t, 0),
        lambda: t[t > 0],
    ]
    for call in calls:
        before = tape.nbytes
        call()
        assert tape.nbytes - before == 125
    before = tape.nbytes
    t.max()
    assert tape.nbytes - before == 125


# the conventions at the kinks


def test_kink_conventions():
    assert_same_bits(gradient_of(np.absolute, [-2.0, 0.0, -0.0, 3.0]), np.array([-1.0, 0.0, 0.0, 1.0]))
    for function in (np.maximum, np.minimum, np.fmax, np.fmin):
        first, second = gradient_of(function, [1.0, 2.0, 2.0], [1.0, 1.0, 3.0])
        large = function in (np.maximum, np.fmax)
        assert_same_bits(first, np.array([0.5, float(large), float(not large)]))
        assert_same_bits(first + second, np.ones(3))
    assert_same_bits(gradient_of(lambda a: np.clip(a, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]), np.array([0.0, 1, 1, 1, 0]))
    assert_same_bits(gradient_of(np.max, [1.0, 3.0, 3.0, 2.0]), np.array([0.0, 0.5, 0.5, 0.0]))
    assert_same_bits(gradient_of(lambda a: a.min(axis=0), [[1.0, 2.0], [1.0, 3.0]]), np.array([[0.5, 1.0], [0.5, 0.0]]))
    assert_same_bits(gradient_of(np.std, [2.0, 2.0, 2.0]), np.zeros(3))
    assert_same_bits(gradient_of(np.linalg.norm, [0.0, 0.0]), np.zeros(2))
    for gradient in gradient_of(np.hypot, [0.0, 3.0], [0.0, 4.0]):
        assert gradient[0] == 0.0


def test_kink_conventions_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs PyTorch")
    pairs = [
        (np.absolute, torch.abs, [[-2.0, 0.0, 3.0]]),
        (np.maximum, torch.maximum, [[1.0, 2.0, 2.0], [1.0, 1.0, 3.0]]),
        (np.minimum, torch.minimum, [[1.0, 2.0, 2.0], [1.0, 1.0, 3.0]]),
        (lambda a: np.clip(a, -1, 1), lambda a: a.clamp(-1, 1), [[-2.0, -1.0, 0.0, 1.0, 2.0]]),
        (lambda a: a.max(axis=0), lambda a: a.amax(0), [[1.0, 3.0, 3.0, 2.0]]),
        (lambda a: a.std(), lambda a: a.std(correction=0), [[2.0, 2.0]]),
        (np.linalg.norm, torch.linalg.vector_norm, [[0.0, 0.0]]),
        (np.prod, torch.prod, [[0.0, 0.0, 2.0]]),
        (np.power, torch.pow, [[0.0, 0.0, 0.0, 2.0], [0.0, 2.0, 1.0, 0.0]]),
    ]
    for ours, theirs, values in pairs:
        tensors = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]
        theirs(*tensors).sum().backward()
        found = gradient_of(ours, *values)
        for gradient, tensor in zip([found] if len(values) == 1 else found, tensors, strict=True):
            assert_within(gradient, tensor.grad.numpy(), gamma(8, np.float64) * abs(tensor.grad.numpy()))


def test_power_at_the_edges_of_its_domain():
    base, exponent = gradient_of(np.power, [0.0, 0.0, 0.0, 2.0], [0.0, 2.0, 1.0, 0.0])
    assert_same_bits(base, np.array([0.0, 0.0, 1.0, 0.0]))
    assert_within(exponent, np.array([0.0, 0.0, 0.0, np.log(2.0)]), gamma(8, np.float64))
    with np.errstate(invalid="ignore"):
        base, exponent = gradient_of(np.power, [-2.0, -2.0], [3.0, -1.0])
    assert_within(base, np.array([12.0, -0.25]), gamma(20, np.float64) * np.array([12.0, 0.25]))
    assert np.isnan(exponent).all(), "a power of a negative base exists at isolated exponents only"
    assert_same_bits(gradient_of(lambda a: a**0, [0.0, -3.0]), np.zeros(2))
    assert_same_bits(gradient_of(lambda a: a**1, [0.0, -3.0]), np.ones(2))
    assert_same_bits(gradient_of(lambda a: a**2, [0.0, -3.0]), np.array([0.0, -6.0]))


def test_an_infinite_slope_is_infinite_and_numpy_warns():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert gradient_of(np.sqrt, [0.0])[0] == np.inf


def test_nan_does_not_spread_where_the_gradient_is_cut():
    with np.errstate(all="ignore"):
        gradient = gradient_of(lambda a: np.where(a > 0, a, np.zeros(3) * np.nan), [1.0, -1.0, 2.0])
    assert_same_bits(gradient, np.array([1.0, 0.0, 1.0]))
    found = gradient_of(np.fmax, [np.nan, 1.0, 2.0], [5.0, np.nan, 1.0])
    assert_same_bits(found[0], np.array([0.0, 1.0, 1.0]))
    assert_same_bits(found[1], np.array([1.0, 0.0, 0.0]))
    assert_same_bits(gradient_of(lambda a: a.max(), [1.0, np.nan, 2.0]), np.array([0.0, 1.0, 0.0]))
    assert_same_bits(gradient_of(np.maximum, [np.nan, 1.0], [1.0, np.nan])[0], np.array([1.0, 0.0]))
    assert_same_bits(gradient_of(lambda a: np.clip(a, 0, 1), [np.nan, 2.0]), np.array([1.0, 0.0]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
def test_squares_neither_overflow_nor_vanish(dtype, sign):
    scale = dtype(np.ldexp(1.0, sign * (60 if dtype is np.float32 else 500)))
    values = np.array([3.0, 4.0], dtype) * scale
    u = gamma(12, dtype)
    with warnings.catch_warnings(), Tape() as tape:
        warnings.simplefilter("error")
        t = tape.watch(values)
        results = {
            "norm": np.linalg.norm(t),
            "hypot": np.hypot(t[0], t[1]),
            "arctan2": np.arctan2(t[0], t[1]) * scale,
            "arctan": np.sum(np.arctan(t * 4)) * scale if sign > 0 else None,
            "arcsinh": np.sum(np.arcsinh(t)) * (scale if sign > 0 else 1),
        }
        assert_within(results["norm"].value, 5.0 * float(scale), u * 5.0 * float(scale))
        total = sum(result for result in results.values() if result is not None)
        gradient = tape.gradient(total, t)
    slopes = np.array([0.6 + 0.6 + 4 / 25, 0.8 + 0.8 - 3 / 25]) + (1 / np.array([3.0, 4.0]) if sign > 0 else 1.0)
    assert_within(gradient, slopes, 4 * u * slopes)


# functions without a derivative, and functions without a rule


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t > 2,
        lambda t: np.less_equal(3.0, t),
        lambda t: np.sign(t - 3.0 if isinstance(t, np.ndarray) else t.value - 3.0),
        np.sign,
        np.floor,
        lambda t: t // 2.0,
        np.round,
        np.isfinite,
        np.argmax,
        lambda t: np.argmin(t, axis=1),
        lambda t: np.argsort(t, axis=0),
        np.argwhere,
        np.nonzero,
        np.count_nonzero,
        lambda t: np.searchsorted(np.arange(9.0), t),
        np.shape,
        np.ndim,
        np.size,
        np.zeros_like,
        lambda t: np.full_like(t, 3),
        lambda t: np.any(t > 5, axis=0),
        np.all,
        lambda t: np.allclose(t, t),
        lambda t: np.array_equal(t, [t, t]) if isinstance(t, np.ndarray) else np.array_equal(t, [t.value, t.value]),
        lambda t: np.result_type(t, np.float32),
        np.array_str,
        lambda t: np.logical_and.reduce(t, axis=0),
        np.where,
        lambda t: np.logical_or(t, t),
    ],
)
def test_functions_without_a_derivative_look_at_the_values(tape, x, call):
    found, expected = call(x), call(x.value)
    assert type(found) is type(expected)
    assert not isinstance(found, Tensor)
    if isinstance(expected, tuple):
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    elif isinstance(expected, np.ndarray):
        assert_same_bits(found, expected)
    else:
        assert found == expected
    assert len(tape.records) == 1


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (np.linalg.svd, "np.linalg.svd"),
        (np.linalg.det, "np.linalg.det"),
        (np.fft.fft, "np.fft.fft"),
        (np.median, "np.median"),
        (np.unique, "np.unique"),
        (lambda t: np.interp(t, [0.0, 1.0], [0.0, 1.0]), "np.interp"),
        (lambda t: np.gcd(t, t), "np.gcd"),
        (np.modf, "np.modf"),
        (lambda t: t % 2.0, "np.remainder"),
        (lambda t: divmod(t, 2.0), "np.divmod"),
        (np.multiply.accumulate, "np.multiply.accumulate"),
        (lambda t: np.add.outer(t, t), "np.add.outer"),
        (lambda t: np.add.at(np.zeros(3), 0, t), "np.add.at"),
        (lambda t: np.add.reduceat(t, [0, 1]), "np.add.reduceat"),
        (np.hypot.reduce, "np.hypot.reduce"),
        (lambda t: t | t, "np.bitwise_or"),
    ],
)
def test_a_function_without_a_vjp_is_refused_by_name(x, call, name):
    text = (
        rf"{re.escape(name)} has no VJP; compute on \.value if no gradient has to pass through it, write it with "
        r"functions that have one, or make a refgrad\.tape\.Primitive of it"
    )
    with pytest.raises(TypeError, match=f"^{text}$"):
        call(x)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda t: np.sum(t, dtype=np.float32),
            "np.sum has no option `dtype` when a Tensor takes part; it takes a, axis, keepdims",
        ),
        (lambda t: np.sum(t, out=np.zeros(())), "np.sum has no option `out`"),
        (lambda t: np.sum(t, where=np.ones(3, bool)), "np.sum has no option `where`"),
        (lambda t: np.sum(t, initial=1.0), "np.sum has no option `initial`"),
        (
            lambda t: np.sum(t, 0, np.float32),
            "np.sum takes a, axis by position when a Tensor takes part, got 3 arguments",
        ),
        (lambda t: np.mean(t, dtype=np.float32), "np.mean has no option `dtype`"),
        (lambda t: np.max(t, where=np.ones(3, bool), initial=0), "np.max has no option `where`|`initial`"),
        (lambda t: np.cumsum(t, dtype=np.float32), "np.cumsum has no option `dtype`"),
        (lambda t: np.add.reduce(t, initial=1.0), "np.add.reduce has no option `initial`"),
        (lambda t: np.concatenate([t, t], dtype=np.float32), "np.concatenate has no option `dtype`"),
        (lambda t: np.concatenate([t], out=np.zeros((2, 3))), "np.concatenate has no option `out`"),
        (lambda t: np.einsum("ij", t, dtype=np.float32), "np.einsum has no option `dtype`"),
        (lambda t: np.einsum("ij->ji", t, order="F"), "np.einsum has no option `order`"),
        (lambda t: np.clip(t, 0, 1, np.zeros((2, 3))), "np.clip takes a, a_min, a_max by position"),
        (lambda t: np.take(t, [0], mode="clip"), "np.take has no option `mode`"),
        (lambda t: np.dot(t, t.T, out=np.zeros((2, 2))), "np.dot has no option `out`"),
        (lambda t: np.broadcast_to(t, (2, 3), subok=True), "np.broadcast_to has no option `subok`"),
        (
            lambda t: np.add(t, 1.0, where=np.ones(3, bool)),
            "np.add takes no keyword argument when a Tensor takes part, got where",
        ),
        (
            lambda t: np.add(t, 1.0, dtype=np.float32),
            "np.add takes no keyword argument when a Tensor takes part, got dtype",
        ),
        (lambda t: np.exp(t, casting="no"), "np.exp takes no keyword argument when a Tensor takes part, got casting"),
        (
            lambda t: np.matmul(t, t.T, axes=[(0, 1), (0, 1), (0, 1)]),
            "np.matmul takes no keyword argument .*, got axes",
        ),
        (
            lambda t: np.reshape(t, 6, order="F"),
            "np.reshape of a Tensor reads its entries in C order, got order='F'; transpose",
        ),
        (lambda t: np.ravel(t, "F"), "np.ravel of a Tensor reads its entries in C order, got order='F'"),
        (lambda t: np.pad(t, 1, mode="edge"), "np.pad of a Tensor has mode 'constant' only, got 'edge'"),
        (lambda t: np.pad(t, 1, constant_values=t[0, 0]), "constant_values of pad cannot be differentiated"),
        (
            lambda t: np.linalg.norm(t, 1),
            r"np.linalg.norm of a Tensor is the Frobenius norm .*, got ord=1; for other norms write",
        ),
        (lambda t: np.linalg.norm(t, 2), "np.linalg.norm of a Tensor is the Frobenius norm .*, got ord=2"),
        (lambda t: np.linalg.norm(t[0], "fro"), "np.linalg.norm of a Tensor is the Frobenius norm .*, got ord='fro'"),
        (lambda t: np.sum(t, axis=1.5), r"axis of np.sum must be an integer, a tuple of them, or None, got 1\.5"),
        (lambda t: np.sum(t, axis="0"), "axis of np.sum must be an integer, a tuple of them, or None, got '0'"),
        (lambda t: t[t], r"a Tensor cannot be an index; use its \.value, converted to integers or booleans"),
        (lambda t: t[[0.0]], "an index array must hold integers or booleans, got dtype float64"),
        (lambda t: np.take(t, t), r"indices of np.take cannot be a Tensor; use its \.value, converted to integers"),
        (lambda t: np.take(t, [0.0]), "indices of np.take must be integers, got dtype float64"),
        (
            lambda t: np.take_along_axis(t, np.ones((2, 3)), 0),
            "indices of np.take_along_axis must be integers, got dtype float64",
        ),
        (lambda t: np.where(t, 1.0, t), "condition of where cannot be a Tensor; compare it"),
        (lambda t: np.where(t, t), "np.where takes a condition alone, or with x and y, got 2 arguments"),
        (
            lambda t: np.clip(t, t, 9.0),
            r"a_min of clip cannot be differentiated, so it cannot be a Tensor; pass a_min\.value",
        ),
        (lambda t: t.astype(np.float16), "astype gives float16, but a tape differentiates float32 and float64 only"),
        (lambda t: t.astype(int), "astype gives int64, but a tape differentiates float32 and float64 only"),
        (
            lambda t: t @ np.array([[None]] * 3),
            "np.matmul takes arrays of real numbers when a Tensor takes part, got an array of dtype object",
        ),
        (
            lambda t: np.einsum("ij,k", t, [1j]),
            "np.einsum takes arrays of real numbers when a Tensor takes part, got .* complex128",
        ),
        (lambda t: np.einsum(t, 0), "np.einsum without a text of subscripts takes operands and lists in turn, got int"),
        (lambda t: np.einsum(t, ["i", "j"]), r"labels of np.einsum are integers in \[0, 52\) or an ellipsis, got 'i'"),
        (lambda t: np.einsum(t, [0, 52]), r"labels of np.einsum are integers in \[0, 52\) or an ellipsis, got 52"),
        (lambda t: np.repeat(t, 1.5), "cannot be interpreted as an integer|object cannot be"),
    ],
)
def test_options_and_operands_that_are_refused(x, call, text):
    with pytest.raises(TypeError, match=text):
        call(x)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda t: t + np.ones(4), r"np.add of shapes \(2, 3\), \(4,\): operands could not be broadcast"),
        (
            lambda t: np.maximum(t, np.ones(4)),
            r"np.maximum of shapes \(2, 3\), \(4,\): operands could not be broadcast",
        ),
        (lambda t: np.where(np.ones(4) > 0, t, 0), r"np.where of shapes \(4,\), \(2, 3\), \(\): operands could not be"),
        (lambda t: np.clip(t, np.ones(4), None), r"np.clip of shape \(2, 3\): operands could not be broadcast"),
        (lambda t: t @ t, r"np.matmul of shapes \(2, 3\), \(2, 3\): "),
        (lambda t: t @ 2.0, r"np.matmul of shapes \(2, 3\), \(\): "),
        (lambda t: t.reshape(4, 2), r"np.reshape of shape \(2, 3\): cannot reshape array of size 6"),
        (lambda t: np.broadcast_to(t, (3, 3)), r"np.broadcast_to of shape \(2, 3\): operands could not be broadcast"),
        (
            lambda t: np.broadcast_arrays(t, np.ones(4)),
            r"np.broadcast_arrays of shapes \(2, 3\), \(4,\): shape mismatch",
        ),
        (
            lambda t: np.concatenate([t, np.ones((2, 2))]),
            r"np.concatenate of shapes \(2, 3\), \(2, 2\): all the input array",
        ),
        (
            lambda t: np.concatenate([t, t], axis=2),
            r"np.concatenate of shapes \(2, 3\), \(2, 3\): axis 2 is out of bounds",
        ),
        (lambda t: np.stack([t, t[0]]), r"np.stack needs arrays of one shape, got \(2, 3\), \(3,\)"),
        (lambda t: np.stack([t, t], axis=4), r"axis of np.stack must be in \[-3, 3\) for 3 axes, got 4"),
        (
            lambda t: np.split(t, 2, axis=1),
            r"np.split of shape \(2, 3\): array split does not result in an equal division",
        ),
        (lambda t: np.squeeze(t, axis=0), r"np.squeeze of shape \(2, 3\): cannot select an axis to squeeze out"),
        (lambda t: np.expand_dims(t, 5), r"np.expand_dims of shape \(2, 3\): axis 5 is out of bounds"),
        (lambda t: np.moveaxis(t, 0, 5), r"np.moveaxis of shape \(2, 3\): destination: axis 5 is out of bounds"),
        (lambda t: np.moveaxis(t, (0, 1), 0), r"np.moveaxis of shape \(2, 3\): `source` and `destination`"),
        (lambda t: t.transpose(0, 0), r"axes of np.transpose must name each of the 2 axes once, got \(0, 0\)"),
        (lambda t: t.transpose(0), r"axes of np.transpose must name each of the 2 axes once, got \(0,\)"),
        (lambda t: t.transpose(0, 2), r"axis of np.transpose must be in \[-2, 2\) for 2 axes, got 2"),
        (lambda t: t.swapaxes(0, 2), r"axis of np.swapaxes must be in \[-2, 2\) for 2 axes, got 2"),
        (lambda t: np.sum(t, axis=(0, -2)), r"axis of np.sum names an axis twice: \(0, -2\)"),
        (lambda t: np.max(t, axis=-3), r"axis of np.max must be in \[-2, 2\) for 2 axes, got -3"),
        (lambda t: t[:0].max(), r"np.max of shape \(0, 3\): zero-size array"),
        (lambda t: np.var(t, ddof=6), "ddof of np.var must be less than the 6 entries it reduces, got 6"),
        (lambda t: np.std(t, 0, ddof=2), "ddof of np.std must be less than the 2 entries it reduces, got 2"),
        (
            lambda t: np.linalg.norm(t[None], axis=(0, 1, 2)),
            r"axis of np.linalg.norm must name one axis or two, got \(0, 1, 2\)",
        ),
        (lambda t: np.roll(t, (1, 2), (0, 1, 0)), r"np.roll needs one shift or as many as axes, got shift=\(1, 2\)"),
        (lambda t: np.pad(t, ((1, 2, 3),)), r"np.pad of shape \(2, 3\): "),
        (lambda t: np.pad(t, -1), r"np.pad of shape \(2, 3\): index can't contain negative values"),
        (lambda t: np.repeat(t, [1, 2, 3], axis=0), r"np.repeat of shape \(2, 3\): operands could not be broadcast"),
        (lambda t: np.repeat(t, -1), r"np.repeat of shape \(6,\): "),
        (
            lambda t: np.take_along_axis(t, np.array([0]), 0),
            "indices of np.take_along_axis must have the 2 axes of the array, got 1",
        ),
        (
            lambda t: np.dot(t, t),
            r"np.dot contracts axis 1 of \(2, 3\) with axis 0 of \(2, 3\), but their lengths are 3 and 2",
        ),
        (lambda t: np.inner(t, t.T), r"np.inner contracts axis 1 of \(2, 3\) with axis 1 of \(3, 2\), but .* 3 and 2"),
        (lambda t: np.vdot(t, t[0]), r"np.vdot contracts axis 0 of \(6,\) with axis 0 of \(3,\), but .* 6 and 3"),
        (lambda t: np.tensordot(t, t, 1), r"np.tensordot of shapes \(2, 3\), \(2, 3\): shape-mismatch for sum"),
        (
            lambda t: np.tensordot(t, t, 3),
            r"axes of np.tensordot must be in \[0, 2\] for shapes \(2, 3\) and \(2, 3\), got 3",
        ),
        (
            lambda t: np.tensordot(t, t, ([0], [0, 1])),
            "axes of np.tensordot must name as many axes of the one as of the other",
        ),
        (lambda t: np.tensordot(t, t, ([0, 0], [0, 0])), "axes of np.tensordot names an axis twice"),
        (lambda t: np.tensordot(t, t, ([0], [2])), r"axis of np.tensordot must be in \[-2, 2\) for 2 axes, got 2"),
        (lambda t: np.trace(t[0]), r"np.trace of a Tensor needs 2 axes or more, got shape \(3,\)"),
        (lambda t: np.diagonal(t, 0, 1, -1), "axis1 and axis2 of np.diagonal must differ, got 1 and -1"),
        (lambda t: np.tril(t[0]), r"np.tril of a Tensor needs 2 axes or more, got shape \(3,\)"),
        (lambda t: np.triu(t[0]), r"np.triu of a Tensor needs 2 axes or more, got shape \(3,\)"),
        (lambda t: np.einsum("ij,jk", t, t), r"np.einsum of shapes \(2, 3\), \(2, 3\): operand"),
        (lambda t: np.einsum("ij,jk", t), "np.einsum got subscripts for 2 operands, but 1 operands"),
        (lambda t: np.einsum("ijk", t), r"np.einsum got 3 labels for an operand of shape \(2, 3\)"),
        (lambda t: np.einsum("i", t), r"np.einsum got 1 labels for an operand of shape \(2, 3\)"),
        (
            lambda t: np.einsum("ij->ik", t),
            "the output of np.einsum must name labels of the operands, each once, got i, k",
        ),
        (
            lambda t: np.einsum("ij->ii", t),
            "the output of np.einsum must name labels of the operands, each once, got i, i",
        ),
        (
            lambda t: np.einsum("i1", t),
            r"subscripts of np.einsum are letters, commas, '->' and at most one '\.\.\.' a term, got 'i1'",
        ),
        (lambda t: np.einsum("...i...", t), "subscripts of np.einsum are letters"),
        (lambda t: np.einsum(t, [..., 0, ...]), "a term of np.einsum has at most one ellipsis"),
    ],
)
def test_shapes_that_do_not_fit(x, call, text):
    with pytest.raises(ValueError, match=text):
        call(x)


def test_an_index_that_does_not_exist(x):
    with pytest.raises(
        IndexError, match=r"indexing of shape \(2, 3\): index 7 is out of bounds for axis 0 with size 2"
    ):
        x[7]
    with pytest.raises(IndexError, match=r"indexing of shape \(2, 3\): only integers, slices"):
        x["a"]
    with pytest.raises(IndexError, match=r"indexing of shape \(2, 3\): too many indices"):
        x[0, 0, 0]
    with pytest.raises(IndexError, match=r"indexing of shape \(2, 3\): boolean index did not match"):
        x[np.ones(3, bool)]
    with pytest.raises(IndexError, match=r"indexing of shape \(6,\): index 6 is out of bounds"):
        np.take(x, [6])


PLAIN = np.array([[1.0, 2.0], [3.0, 0.5]])


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (lambda: ufuncs.absolute(-PLAIN), PLAIN),
        (lambda: ufuncs.selections[np.maximum](PLAIN, 1.5), np.maximum(PLAIN, 1.5)),
        (lambda: ufuncs.clip(PLAIN, 0.75, None), np.clip(PLAIN, 0.75, None)),
        (lambda: ufuncs.hypotenuse(PLAIN, PLAIN, 2 * PLAIN), PLAIN / 2),
        (lambda: ufunc_rules[np.exp](PLAIN), np.exp(PLAIN)),
        (lambda: reductions.amax(PLAIN, axes=(0,), keepdims=True), np.max(PLAIN, axis=0, keepdims=True)),
        (lambda: reductions.std(PLAIN, axes=(1,), ddof=0.0, keepdims=False), np.std(PLAIN, axis=1)),
        (lambda: reductions.norm(2 * PLAIN[:1], axes=(0,), keepdims=False), 2 * PLAIN[0]),
        (lambda: shaping.concatenate(PLAIN, PLAIN, axis=0), np.concatenate([PLAIN, PLAIN])),
        (lambda: indexing.getitem(PLAIN, key=(0,)), PLAIN[0]),
        (lambda: indexing.where(PLAIN > 1, PLAIN, -PLAIN), np.where(PLAIN > 1, PLAIN, -PLAIN)),
        (lambda: contractions.einsum(PLAIN, labels=((0, 1),), output=(1, 0), optimize=False), PLAIN.T),
    ],
)
def test_a_primitive_of_numpy_works_on_plain_arrays_too(result, expected):
    assert isinstance(result(), np.ndarray)
    assert_same_bits(result(), expected)


def test_sequences_of_arrays_are_lists_or_tuples(x):
    with pytest.raises(TypeError, match=r"np\.concatenate takes a list or tuple of arrays, got generator"):
        operands("np.concatenate", (row for row in x))


def test_a_rule_passes_defaults_on(tape, x):
    assert_same_bits(np.sum(x, None, keepdims=False, out=None, dtype=None).value, np.array(21.0))
    assert_same_bits(np.add.reduce(x, dtype=None).value, np.array([5.0, 7.0, 9.0]))


def test_a_new_rule_can_be_registered(tape, x):
    try:

        @register(np.nansum)
        def _nansum_rule(a):
            return np.sum(np.where(np.isnan(a), 0, a))

        assert np.nansum(x).value == 21.0
        with pytest.raises(TypeError, match=r"np\.nansum has no option `axis` when a Tensor takes part; it takes a$"):
            np.nansum(x, axis=0)
    finally:
        function_rules.pop(np.nansum)


def test_dense_gradients_of_a_small_network_against_torch():
    torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs PyTorch")
    generator = np.random.default_rng(11)
    arrays = {
        "x": generator.integers(-2, 3, (6, 4)).astype(float),
        "w": generator.integers(-2, 3, (4, 5)).astype(float),
        "b": generator.integers(-2, 3, 5).astype(float),
    }
    with Tape() as tape:
        t = {name: tape.watch(array) for name, array in arrays.items()}
        hidden = np.maximum(t["x"] @ t["w"] + t["b"], 0)
        loss = np.sum(hidden[np.array([0, 0, 3])] ** 2) + np.einsum("ij,kj->", hidden, t["w"])
    found = tape.gradient(loss, t)
    theirs = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    hidden = torch.maximum(theirs["x"] @ theirs["w"] + theirs["b"], torch.zeros((), dtype=torch.float64))
    ((hidden[[0, 0, 3]] ** 2).sum() + torch.einsum("ij,kj->", hidden, theirs["w"])).backward()
    for name, gradient in found.items():
        assert_same_bits(gradient, theirs[name].grad.numpy(), name)


def test_the_catalogue_reaches_the_corners():
    assert len(CASES) == len(SMOOTH_UFUNCS) + len(SMOOTH_REDUCTIONS) + len(EXACT) > 200
    assert any(x.ndim == 0 for case in EXACT for x in case.arguments)
    assert any(1 in x.shape for case in EXACT for x in case.arguments)
    assert sum(getitem in case.covers for case in EXACT) > 10
    assert CONSTANT not in [case.torch for case in CASES]
