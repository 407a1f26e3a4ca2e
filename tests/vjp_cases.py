"""Calls of NumPy functions on small arrays, for the tests of their VJPs, and two checks that need no other autograd.

An exact case is linear in each argument, or piecewise linear with no kink within 1/64 of its arguments; on small
integers every number is a dyadic fraction of few bits, so both sides of the check are exact and have to agree bit for
bit. A smooth case is checked against derivatives in 60 digits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import getitem

import mpmath
import numpy as np

from refgrad.rounding import gamma
from refgrad.tape import Tape, Tensor
from tests.assertions import assert_same_bits, assert_within

STEP = 2.0**-6
QUOTIENT = (
    1e-36  # how far the difference quotient in 60 digits errs: (step**2 + 1e-60 / step) times derivatives under 1e4
)
LIBRARY = 8  # the roundings that one call of a library function counts for: NumPy's are accurate to 4 ulp = 8 u


@dataclass(frozen=True)
class Case:
    """One call.

    `covers` are the NumPy functions whose rules it tests; `torch` is the same call in PyTorch, given the torch module
    and tensors. A smooth case has a `reference`: the call on arrays of mpmath numbers, the number of `roundings` in its
    gradient, and the `condition`: how much a relative error can grow in the formula of the gradient.
    """

    name: str
    function: Callable
    arguments: tuple
    covers: tuple
    torch: Callable | None = None
    reference: Callable | None = None
    roundings: int = 0
    condition: float = 1.0

    @property
    def smooth(self):
        return self.reference is not None


def outputs(result):
    """What a call gives, as a list."""
    return list(result) if isinstance(result, (list, tuple)) else [result]


def weights_like(values, seed):
    """Small integers, one for every output: the gradient that comes in."""
    generator = np.random.default_rng(seed)
    return [generator.integers(1, 4, np.shape(value)).astype(value.dtype) for value in values]


def gradients(case, arguments, seed=0):
    """The gradients of a weighted sum of the outputs; a Python number among the arguments stays one."""
    with Tape() as tape:
        tensors = [tape.watch(x) if isinstance(x, np.ndarray) else x for x in arguments]
        results = outputs(case.function(*tensors))
        assert all(isinstance(result, Tensor) for result in results)
        grad_outputs = weights_like([result.value for result in results], seed)
        total = sum(np.sum(result * g) for result, g in zip(results, grad_outputs, strict=True))
    watched = [tensor for tensor in tensors if isinstance(tensor, Tensor)]
    return [result.value for result in results], grad_outputs, tape.gradient(total, watched)


def moved(arguments, position, entry, step):
    """The arguments with one entry of one of them moved by a step."""
    copies = [np.array(x) if isinstance(x, np.ndarray) else x for x in arguments]
    copies[position][entry] = copies[position][entry] + step
    return copies


def check_exact(case, dtype):
    """Compare the gradient with difference quotients that are exact."""
    arguments = [x.astype(dtype) if isinstance(x, np.ndarray) else x for x in case.arguments]
    values, grad_outputs, found = gradients(case, arguments)
    plain = [np.asarray(value) for value in outputs(case.function(*arguments))]
    for value, expected in zip(values, plain, strict=True):
        assert_same_bits(value, expected, f"{case.name}: the value")
    watched = [i for i, x in enumerate(arguments) if isinstance(x, np.ndarray)]
    for position, gradient in zip(watched, found, strict=True):
        expected = np.zeros_like(arguments[position])
        for entry in np.ndindex(expected.shape):
            shifted = outputs(case.function(*moved(arguments, position, entry, STEP)))
            change = sum(np.sum((new - old) * g) for new, old, g in zip(shifted, plain, grad_outputs, strict=True))
            expected[entry] = change / STEP
        assert_same_bits(gradient, expected, f"{case.name}: the gradient of argument {position}")


def to_digits(array):
    """The same values as an array of mpmath numbers."""
    return np.vectorize(mpmath.mpf, otypes=[object])(array.astype(np.float64))


def check_smooth(case, dtype):
    """Compare the gradient with derivatives in 60 digits; allow what its roundings can do (THEORY T15)."""
    arguments = [x.astype(dtype) if isinstance(x, np.ndarray) else x for x in case.arguments]
    _, (grad_output,), found = gradients(case, arguments)
    watched = [i for i, x in enumerate(arguments) if isinstance(x, np.ndarray)]
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -20  # the central difference errs by its square
        digits = [to_digits(x) if isinstance(x, np.ndarray) else x for x in arguments]
        for position, gradient in zip(watched, found, strict=True):
            expected, majorant = np.zeros(gradient.shape), np.zeros(gradient.shape)
            for entry in np.ndindex(gradient.shape):
                above, below = (case.reference(*moved(digits, position, entry, sign * step)) for sign in (1, -1))
                terms = np.asarray((above - below) / (2 * step) * grad_output, dtype=object).ravel()
                expected[entry] = float(mpmath.fsum(terms))
                majorant[entry] = float(mpmath.fsum(map(abs, terms)))
            sums = grad_output.size if grad_output.size > 1 else 0
            allowed = case.condition * gamma(case.roundings + sums, dtype) * majorant + QUOTIENT
            assert_within(gradient, expected, allowed, f"{case.name}: the gradient of argument {position}")


def check(case, dtype):
    """Check one case by the means of its kind."""
    (check_smooth if case.smooth else check_exact)(case, dtype)


def integers(*shape, seed=0, low=-3, high=4):
    """Small integers, as floats."""
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(float)


def distinct(*shape, seed=0):
    """Distinct integers, 0 among them moved away, as floats: no ties."""
    values = np.random.default_rng([seed, *shape]).permutation(int(np.prod(shape))) - int(np.prod(shape)) // 2
    return (values + (values >= 0)).reshape(shape).astype(float)


def exact(name, function, *arguments, covers, torch=None):
    return Case(name, function, arguments, covers, torch)


def each(function):
    """An mpmath function of one number or two, for arrays."""
    return np.vectorize(function, otypes=[object])


def smooth_ufunc(ufunc, reference, *arguments, library, basic, condition=1.0, torch=...):
    name = ufunc.__name__
    return Case(
        name,
        ufunc,
        arguments,
        (ufunc,),
        (lambda module, *x: getattr(module, name)(*x)) if torch is ... else torch,
        each(reference),
        LIBRARY * library + basic,
        condition,
    )


SMALL = np.array([[-1.0, -0.625, 0.375], [0.125, 0.5, 0.875]])
POSITIVE = np.array([[0.25, 0.75, 1.5], [2.0, 3.25, 0.875]])
ABOVE_ONE = 1.0 + POSITIVE
INSIDE = SMALL * 0.75
OTHER = np.array([[1.5, -0.75, 2.25], [0.5, -1.25, 3.0]])

# Operations are counted in the gradient of the sum of (output * g): `library` calls of functions, `basic` operations.
# Where a formula adds to a rounded output (expm1, tan, tanh), `condition` bounds how its relative error grows on these
# arguments.
SMOOTH_UFUNCS = [
    smooth_ufunc(np.divide, lambda a, b: a / b, SMALL, OTHER, library=0, basic=4),
    smooth_ufunc(np.power, lambda a, b: a**b, POSITIVE, OTHER, library=2, basic=5, torch=lambda t, a, b: a**b),
    smooth_ufunc(np.power, lambda a, b: a**b, POSITIVE, 2, library=1, basic=5, torch=lambda t, a, b: a**b),
    smooth_ufunc(np.power, lambda a, b: a**b, OTHER, 3, library=1, basic=5, torch=lambda t, a, b: a**b),
    smooth_ufunc(np.power, lambda a, b: mpmath.mpf(a) ** b, 2.0, OTHER, library=2, basic=5, torch=lambda t, a, b: a**b),
    smooth_ufunc(np.power, lambda a, b: a**b, POSITIVE, -0.5, library=1, basic=5, torch=lambda t, a, b: a**b),
    smooth_ufunc(np.float_power, lambda a, b: a**b, POSITIVE, OTHER, library=2, basic=6),
    smooth_ufunc(np.square, lambda a: a * a, SMALL, library=0, basic=3),
    smooth_ufunc(np.sqrt, mpmath.sqrt, POSITIVE, library=0, basic=4),
    smooth_ufunc(np.cbrt, lambda a: mpmath.sign(a) * mpmath.cbrt(abs(a)), OTHER, library=2, basic=4, torch=None),
    smooth_ufunc(np.reciprocal, lambda a: 1 / a, OTHER, library=0, basic=5),
    smooth_ufunc(np.exp, mpmath.exp, SMALL, library=1, basic=2),
    smooth_ufunc(np.exp2, lambda a: mpmath.mpf(2) ** a, SMALL, library=1, basic=4),
    smooth_ufunc(np.expm1, mpmath.expm1, SMALL, library=1, basic=3, condition=1.72),
    smooth_ufunc(np.log, mpmath.log, POSITIVE, library=0, basic=2),
    smooth_ufunc(np.log2, lambda a: mpmath.log(a, 2), POSITIVE, library=0, basic=4),
    smooth_ufunc(np.log10, mpmath.log10, POSITIVE, library=0, basic=4),
    smooth_ufunc(np.log1p, mpmath.log1p, POSITIVE, library=0, basic=3),
    smooth_ufunc(np.sin, mpmath.sin, OTHER, library=1, basic=2),
    smooth_ufunc(np.cos, mpmath.cos, OTHER, library=1, basic=2),
    smooth_ufunc(np.tan, mpmath.tan, SMALL, library=1, basic=4, condition=2),
    smooth_ufunc(np.arcsin, mpmath.asin, INSIDE, library=0, basic=6),
    smooth_ufunc(np.arccos, mpmath.acos, INSIDE, library=0, basic=6),
    smooth_ufunc(np.arctan, mpmath.atan, OTHER, library=2, basic=3),
    smooth_ufunc(np.sinh, mpmath.sinh, OTHER, library=1, basic=2),
    smooth_ufunc(np.cosh, mpmath.cosh, OTHER, library=1, basic=2),
    smooth_ufunc(np.tanh, mpmath.tanh, SMALL, library=1, basic=5, condition=2.8),
    smooth_ufunc(np.arcsinh, mpmath.asinh, OTHER, library=1, basic=2),
    smooth_ufunc(np.arccosh, mpmath.acosh, ABOVE_ONE, library=0, basic=7),
    smooth_ufunc(np.arctanh, mpmath.atanh, INSIDE, library=0, basic=5),
    smooth_ufunc(np.hypot, mpmath.hypot, SMALL, OTHER, library=1, basic=3),
    smooth_ufunc(np.arctan2, mpmath.atan2, SMALL, OTHER, library=2, basic=4),
    smooth_ufunc(
        np.logaddexp,
        lambda a, b: mpmath.log(mpmath.exp(a) + mpmath.exp(b)),
        SMALL,
        OTHER,
        library=2,
        basic=4,
        condition=4,  # exp magnifies the rounding of x - output, which is under 4 in magnitude
    ),
    smooth_ufunc(
        np.logaddexp2,
        lambda a, b: mpmath.log(mpmath.mpf(2) ** a + mpmath.mpf(2) ** b, 2),
        SMALL,
        OTHER,
        library=2,
        basic=4,
        condition=4,
    ),
    smooth_ufunc(np.degrees, lambda a: a * 180 / mpmath.pi, OTHER, library=0, basic=4, torch=lambda t, x: t.rad2deg(x)),
    smooth_ufunc(np.rad2deg, lambda a: a * 180 / mpmath.pi, OTHER, library=0, basic=4),
    smooth_ufunc(np.radians, lambda a: a * mpmath.pi / 180, OTHER, library=0, basic=4, torch=lambda t, x: t.deg2rad(x)),
    smooth_ufunc(np.deg2rad, lambda a: a * mpmath.pi / 180, OTHER, library=0, basic=4),
]


def _moment(x, axes, ddof):
    count = int(np.prod([x.shape[axis] for axis in axes]))
    mean = x.sum(axis=axes, keepdims=True) / count
    return ((x - mean) ** 2).sum(axis=axes) / (count - ddof)


def _root(x):
    return each(mpmath.sqrt)(x)


TENSOR = np.random.default_rng(5).integers(-20, 21, (2, 3, 4)) / 8.0

# x - mean cancels: its error is that of the mean, a rounding error of max|x|, over |x - mean|; on TENSOR that ratio
# is under 100.
SMOOTH_REDUCTIONS = [
    Case(
        "mean over three entries",
        lambda x: np.mean(x, axis=1),
        (TENSOR,),
        (np.mean,),
        lambda t, x: x.mean(1),
        lambda x: x.sum(axis=1) / 3,
        3,
    ),
    Case(
        "prod",
        lambda x: np.prod(x, axis=(0, -1)),
        (TENSOR,),
        (np.prod,),
        lambda t, x: x.prod(2).prod(0),
        lambda x: x.prod(axis=2).prod(axis=0),
        10,
    ),
    Case(
        "prod with a zero",
        lambda x: np.multiply.reduce(x, axis=None, keepdims=True),
        (np.array([[2.0, 0.0, 3.0], [1.5, 0.5, -0.75]]),),
        ((np.multiply, "reduce"),),
        lambda t, x: x.prod().reshape(1, 1),
        lambda x: x.prod().reshape(1, 1) if isinstance(x.prod(), np.ndarray) else np.full((1, 1), x.prod()),
        8,
    ),
    Case(
        "var",
        lambda x: x.var((1, 2)),
        (TENSOR,),
        (np.var,),
        lambda t, x: x.var((1, 2), correction=0),
        lambda x: _moment(x, (1, 2), 0),
        20,
        100,
    ),
    Case(
        "var with ddof",
        lambda x: np.var(x, -1, ddof=1, keepdims=True),
        (TENSOR,),
        (np.var,),
        lambda t, x: x.var(-1, correction=1, keepdim=True),
        lambda x: _moment(x, (2,), 1)[..., None],
        20,
        100,
    ),
    Case(
        "std",
        lambda x: np.std(x, axis=0, ddof=0.5),
        (TENSOR,),
        (np.std,),
        None,
        lambda x: _root(_moment(x, (0,), mpmath.mpf(0.5))),
        24,
        100,
    ),
    Case(
        "std of all",
        lambda x: x.std(),
        (TENSOR,),
        (np.std,),
        lambda t, x: x.std(correction=0),
        lambda x: np.asarray(mpmath.sqrt(_moment(x, (0, 1, 2), 0))),
        50,
        100,
    ),
    Case(
        "norm",
        np.linalg.norm,
        (TENSOR,),
        (np.linalg.norm,),
        lambda t, x: t.linalg.vector_norm(x),
        lambda x: np.asarray(mpmath.sqrt((x * x).sum())),
        32,
    ),
    Case(
        "norm of rows",
        lambda x: np.linalg.norm(x, 2, axis=-1, keepdims=True),
        (TENSOR,),
        (np.linalg.norm,),
        lambda t, x: t.linalg.vector_norm(x, dim=-1, keepdim=True),
        lambda x: _root((x * x).sum(axis=-1))[..., None],
        14,
    ),
    Case(
        "norm of matrices",
        lambda x: np.linalg.norm(x, "fro", (0, 2)),
        (TENSOR,),
        (np.linalg.norm,),
        lambda t, x: t.linalg.matrix_norm(x, dim=(0, 2)),
        lambda x: _root((x * x).sum(axis=2).sum(axis=0)),
        20,
    ),
]

A, B, C = integers(2, 3), integers(2, 3, seed=1), distinct(2, 3, 4)
ROW, COLUMN, VECTOR = integers(3), integers(2, 1), integers(4, seed=2)
INDEX = np.array([0, 1, 1, 0])


EXACT = [
    # elementwise
    exact("add, both broadcast", np.add, COLUMN, ROW, covers=(np.add,), torch=lambda t, a, b: a + b),
    exact("add a number", lambda a: a + 2, A, covers=(np.add,)),
    exact("add an array of more axes", lambda a: C[:, :, 0] + a, ROW, covers=(np.add,)),
    exact("subtract", np.subtract, A, ROW, covers=(np.subtract,), torch=lambda t, a, b: a - b),
    exact("subtract from a number", lambda a: 2.0 - a, A, covers=(np.subtract,)),
    exact("multiply", np.multiply, A, COLUMN, covers=(np.multiply,), torch=lambda t, a, b: a * b),
    exact("multiply by integers", lambda a: a * np.array([1, 2, 3]), A, covers=(np.multiply,)),
    exact("multiply to no axes", lambda a, b: a * b, np.array(3.0), A, covers=(np.multiply,)),
    exact("divide by a power of two", lambda a: a / 4.0, A, covers=(np.divide,)),
    exact("negative", np.negative, A, covers=(np.negative,), torch=lambda t, a: -a),
    exact("positive", lambda a: +a, A, covers=(np.positive,)),
    exact("conjugate", np.conj, A, covers=(np.conjugate,)),
    exact("real", np.real, A, covers=(np.real,)),
    exact("copy", np.copy, A, covers=(np.copy,)),
    exact("ldexp", lambda a: np.ldexp(a, np.array([1, 0, 2])), A, covers=(np.ldexp,)),
    exact("absolute", abs, distinct(2, 3), covers=(np.absolute,), torch=lambda t, a: a.abs()),
    exact("fabs", np.fabs, distinct(2, 3), covers=(np.fabs,)),
    exact(
        "maximum",
        np.maximum,
        C[0],
        distinct(4, seed=4) + 0.5,
        covers=(np.maximum,),
        torch=lambda t, a, b: t.maximum(a, b),
    ),
    exact(
        "minimum",
        np.minimum,
        C[0],
        distinct(4, seed=4) + 0.5,
        covers=(np.minimum,),
        torch=lambda t, a, b: t.minimum(a, b),
    ),
    exact("fmax", np.fmax, C[0], distinct(3, 1, seed=4) + 0.5, covers=(np.fmax,), torch=lambda t, a, b: t.fmax(a, b)),
    exact("fmin", lambda a: np.fmin(a, 0.5), C[0], covers=(np.fmin,)),
    exact("clip", lambda a: np.clip(a, -3.5, 2.5), C, covers=(np.clip,), torch=lambda t, a: a.clamp(-3.5, 2.5)),
    exact("clip below", lambda a: a.clip(-1.5), C, covers=(np.clip,)),
    exact(
        "clip above, by array", lambda a: np.clip(a, None, np.array([[0.5], [1.5], [-0.5]])), C[0], covers=(np.clip,)
    ),
    exact("where", lambda a, b: np.where(C[:, :, 0] > 0, a, b), A, ROW, covers=(np.where,)),
    exact("where, widened", lambda a: np.where(C > 0, a, 1), np.array(2.0), covers=(np.where,)),
    exact("astype", lambda a: a.astype(np.float64), A, covers=(np.ndarray.astype,)),
    # reductions
    exact("sum", np.sum, C, covers=(np.sum,), torch=lambda t, x: x.sum()),
    exact("sum over axes", lambda x: np.sum(x, axis=(-1, 0)), C, covers=(np.sum,), torch=lambda t, x: x.sum((-1, 0))),
    exact(
        "sum, axis kept",
        lambda x: x.sum(1, keepdims=True),
        C,
        covers=(np.sum,),
        torch=lambda t, x: x.sum(1, keepdim=True),
    ),
    exact("sum over no axes", lambda x: np.sum(x, axis=()), C, covers=(np.sum,)),
    exact("add.reduce", np.add.reduce, C, covers=((np.add, "reduce"),), torch=lambda t, x: x.sum(0)),
    exact("add.reduce of all", lambda x: np.add.reduce(x, axis=None, keepdims=True), C, covers=((np.add, "reduce"),)),
    exact("mean", lambda x: np.mean(x, axis=(0, 2)), C, covers=(np.mean,), torch=lambda t, x: x.mean((0, 2))),
    exact("max", np.max, C, covers=(np.max,), torch=lambda t, x: x.max()),
    exact("max over axes", lambda x: x.max((0, 2)), C, covers=(np.max,), torch=lambda t, x: x.amax((0, 2))),
    exact("amax", lambda x: np.amax(x, -2, keepdims=True), C, covers=(np.amax,), torch=lambda t, x: x.amax(-2, True)),
    exact("min", lambda x: np.min(x, axis=-1), C, covers=(np.min,), torch=lambda t, x: x.amin(-1)),
    exact("amin", lambda x: x.min(axis=0, keepdims=True), C, covers=(np.amin,), torch=lambda t, x: x.amin(0, True)),
    exact("maximum.reduce", np.maximum.reduce, C, covers=((np.maximum, "reduce"),), torch=lambda t, x: x.amax(0)),
    exact("minimum.reduce", lambda x: np.minimum.reduce(x, axis=1), C, covers=((np.minimum, "reduce"),)),
    exact("cumsum", lambda x: np.cumsum(x, axis=1), C, covers=(np.cumsum,), torch=lambda t, x: x.cumsum(1)),
    exact("cumsum of all", lambda x: x.cumsum(), A, covers=(np.cumsum,), torch=lambda t, x: x.ravel().cumsum(0)),
    exact("add.accumulate", np.add.accumulate, A, covers=((np.add, "accumulate"),), torch=lambda t, x: x.cumsum(0)),
    exact(
        "prod of two", lambda x: x.prod(axis=0, keepdims=True), A, covers=(np.prod,), torch=lambda t, x: x.prod(0, True)
    ),
    exact("sort", np.sort, C, covers=(np.sort,), torch=lambda t, x: x.sort(-1).values),
    exact("sort of all", lambda x: np.sort(x, axis=None), A + distinct(2, 3) / 8, covers=(np.sort,)),
    # shapes
    exact("reshape", lambda x: np.reshape(x, (4, -1)), C, covers=(np.reshape,), torch=lambda t, x: x.reshape(4, -1)),
    exact("reshape to a number", lambda x: x.reshape(3, 2).reshape(6), A, covers=(np.reshape,)),
    exact("ravel", np.ravel, C, covers=(np.ravel,)),
    exact("flatten", lambda x: x.flatten(), C, covers=(np.ravel,)),
    exact("transpose", np.transpose, C, covers=(np.transpose,), torch=lambda t, x: x.permute(2, 1, 0)),
    exact(
        "transpose by axes",
        lambda x: x.transpose(2, -3, 1),
        C,
        covers=(np.transpose,),
        torch=lambda t, x: x.permute(2, 0, 1),
    ),
    exact("T", lambda x: x.T, C, covers=(np.transpose,)),
    exact("swapaxes", lambda x: x.swapaxes(0, -1), C, covers=(np.swapaxes,), torch=lambda t, x: x.swapaxes(0, -1)),
    exact("moveaxis", lambda x: np.moveaxis(x, 0, -1), C, covers=(np.moveaxis,), torch=lambda t, x: x.moveaxis(0, -1)),
    exact(
        "moveaxis of two",
        lambda x: np.moveaxis(x, (2, 0), (0, 1)),
        C,
        covers=(np.moveaxis,),
        torch=lambda t, x: x.moveaxis((2, 0), (0, 1)),
    ),
    exact("expand_dims", lambda x: np.expand_dims(x, (0, -1)), A, covers=(np.expand_dims,)),
    exact("squeeze", np.squeeze, COLUMN, covers=(np.squeeze,)),
    exact("squeeze an axis", lambda x: x[None].squeeze(axis=0), COLUMN, covers=(np.squeeze,)),
    exact("atleast_1d", np.atleast_1d, np.array(3.0), covers=(np.atleast_1d,)),
    exact("atleast_2d of two", np.atleast_2d, ROW, A, covers=(np.atleast_2d,)),
    exact(
        "broadcast_to",
        lambda x: np.broadcast_to(x, (4, 2, 3)),
        COLUMN,
        covers=(np.broadcast_to,),
        torch=lambda t, x: x.broadcast_to(4, 2, 3),
    ),
    exact("broadcast_arrays", np.broadcast_arrays, COLUMN, ROW, covers=(np.broadcast_arrays,)),
    exact("flip", np.flip, C, covers=(np.flip,), torch=lambda t, x: x.flip(0, 1, 2)),
    exact("flip axes", lambda x: np.flip(x, (0, -1)), C, covers=(np.flip,), torch=lambda t, x: x.flip(0, 2)),
    exact("flipud", np.flipud, A, covers=(np.flipud,)),
    exact("fliplr", np.fliplr, A, covers=(np.fliplr,)),
    exact("roll", lambda x: np.roll(x, 4), A, covers=(np.roll,), torch=lambda t, x: x.roll(4)),
    exact(
        "roll axes",
        lambda x: np.roll(x, (1, -2), (0, 2)),
        C,
        covers=(np.roll,),
        torch=lambda t, x: x.roll((1, -2), (0, 2)),
    ),
    exact("roll one axis twice", lambda x: np.roll(x, (1, 2), -1), C, covers=(np.roll,)),
    exact("roll two axes by one shift", lambda x: np.roll(x, 1, (0, 1)), C, covers=(np.roll,)),
    exact("concatenate", lambda a, b: np.concatenate([a, C[0, :, :2].T, b], axis=-2), A, B, covers=(np.concatenate,)),
    exact("concatenate flat", lambda a, b: np.concatenate((a, b, a), axis=None), A, ROW, covers=(np.concatenate,)),
    exact("concatenate rows of a tensor", np.concatenate, C, covers=(np.concatenate,)),
    exact(
        "stack",
        lambda a, b: np.stack([a, b], axis=-1),
        A,
        B,
        covers=(np.stack,),
        torch=lambda t, a, b: t.stack([a, b], -1),
    ),
    exact("vstack", lambda a, b: np.vstack([a, b]), A, ROW, covers=(np.vstack,)),
    exact("hstack", lambda a, b: np.hstack([a, b]), A, COLUMN, covers=(np.hstack,)),
    exact("hstack of vectors", lambda a, b: np.hstack((a, b)), ROW, VECTOR, covers=(np.hstack,)),
    exact("split", lambda x: np.split(x, 2, axis=-1), C, covers=(np.split,)),
    exact("split at places", lambda x: np.split(x, [1, 3, 2, 9], axis=2), C, covers=(np.split,)),
    exact("array_split", lambda x: np.array_split(x, 3, axis=2), C, covers=(np.array_split,)),
    exact(
        "pad",
        lambda x: np.pad(x, ((1, 0), (2, 3))),
        A,
        covers=(np.pad,),
        torch=lambda t, x: t.nn.functional.pad(x, (2, 3, 1, 0)),
    ),
    exact("pad all around", lambda x: np.pad(x, 1, constant_values=7), A, covers=(np.pad,)),
    exact("pad alike", lambda x: np.pad(x, (1, 2), "constant"), A, covers=(np.pad,)),
    exact("tile", lambda x: np.tile(x, (2, 1, 3)), A, covers=(np.tile,), torch=lambda t, x: x.tile(2, 1, 3)),
    exact("tile fewer axes", lambda x: np.tile(x, 2), A, covers=(np.tile,), torch=lambda t, x: x.tile(2)),
    exact(
        "repeat",
        lambda x: np.repeat(x, 3, axis=-1),
        A,
        covers=(np.repeat,),
        torch=lambda t, x: x.repeat_interleave(3, -1),
    ),
    exact("repeat flat", lambda x: np.repeat(x, 2), A, covers=(np.repeat,)),
    exact("repeat by counts", lambda x: np.repeat(x, [2, 0, 1], axis=1), C, covers=(np.repeat,)),
    # indexing
    exact("an index", lambda x: x[1], C, covers=(getitem,)),
    exact("slices", lambda x: x[:, ::-2, None, 1:3], C, covers=(getitem,)),
    exact("an ellipsis", lambda x: x[..., -1], C, covers=(getitem,)),
    exact("an entry", lambda x: x[1, 2, 3], C, covers=(getitem,)),
    exact("an index array with duplicates", lambda x: x[INDEX], C, covers=(getitem,)),
    exact("a list", lambda x: x[[1, -1]], C, covers=(getitem,)),
    exact("an empty list", lambda x: np.concatenate([x[[]], x]), C, covers=(getitem,)),
    exact("index arrays and a slice", lambda x: x[INDEX[:2, None], :, np.array([3, 3, 0])], C, covers=(getitem,)),
    exact("a mask", lambda x: x[C > 0], C, covers=(getitem,)),
    exact("a mask of one axis", lambda x: x[:, np.array([True, False, True])], C, covers=(getitem,)),
    exact("a list of booleans", lambda x: x[[False, True]], C, covers=(getitem,)),
    exact(
        "a mask and an index array",
        lambda x: x[:, np.array([True, False, True]), np.array([3, 3])],
        C,
        covers=(getitem,),
    ),
    exact("no axes", lambda x: x[()][None], np.array(2.0), covers=(getitem,)),
    exact("True", lambda x: x[True], A, covers=(getitem,)),
    exact("take", lambda x: np.take(x, INDEX), A, covers=(np.take,)),
    exact("take along", lambda x: np.take(x, [[2, 0], [2, 2]], axis=-2), C, covers=(np.take,)),
    exact(
        "take_along_axis",
        lambda x: np.take_along_axis(x, np.argsort(C, axis=1)[:, :2], 1),
        C,
        covers=(np.take_along_axis,),
    ),
    exact("take_along_axis flat", lambda x: np.take_along_axis(x, INDEX, None), A, covers=(np.take_along_axis,)),
    exact("diagonal", np.diagonal, C, covers=(np.diagonal,), torch=lambda t, x: x.diagonal()),
    exact(
        "diagonal below",
        lambda x: np.diagonal(x, -1, 2, 0),
        C,
        covers=(np.diagonal,),
        torch=lambda t, x: x.diagonal(-1, 2, 0),
    ),
    exact("diagonal above", lambda x: np.diagonal(x, offset=2, axis1=1, axis2=-1), C, covers=(np.diagonal,)),
    exact("trace", np.trace, C, covers=(np.trace,)),
    exact("trace above", lambda x: np.trace(x, 1, 1, 2), C, covers=(np.trace,)),
    exact("tril", lambda x: np.tril(x, -1), C, covers=(np.tril,), torch=lambda t, x: x.tril(-1)),
    exact("triu", np.triu, C, covers=(np.triu,), torch=lambda t, x: x.triu()),
    # products
    exact("matmul", lambda a, b: a @ b, A, integers(3, 2), covers=(np.matmul,), torch=lambda t, a, b: a @ b),
    exact("matmul of vectors", np.matmul, ROW, integers(3, seed=7), covers=(np.matmul,), torch=lambda t, a, b: a @ b),
    exact("matrix by vector", np.matmul, A, ROW, covers=(np.matmul,), torch=lambda t, a, b: a @ b),
    exact("vector by matrix", np.matmul, COLUMN[:, 0], A, covers=(np.matmul,), torch=lambda t, a, b: a @ b),
    exact("vector by stack", np.matmul, ROW, C, covers=(np.matmul,), torch=lambda t, a, b: a @ b),
    exact("stack by vector", np.matmul, C, VECTOR, covers=(np.matmul,), torch=lambda t, a, b: a @ b),
    exact(
        "matmul of stacks",
        np.matmul,
        integers(2, 1, 2, 3),
        integers(4, 3, 2),
        covers=(np.matmul,),
        torch=lambda t, a, b: a @ b,
    ),
    exact("matrix by stack", np.matmul, A, C, covers=(np.matmul,), torch=lambda t, a, b: a @ b),
    exact("plain by tensor", lambda b: integers(5, 2) @ b, A, covers=(np.matmul,)),
    exact("dot", np.dot, A, integers(3, 2), covers=(np.dot,)),
    exact("dot of vectors", np.dot, ROW, integers(3, seed=7), covers=(np.dot,)),
    exact("dot as a method", lambda a: a.dot(A.T), ROW, covers=(np.dot,)),
    exact("dot with a number", lambda a: np.dot(3.0, a), A, covers=(np.dot,)),
    exact("dot with vector", np.dot, C, VECTOR, covers=(np.dot,)),
    exact("dot of many axes", np.dot, integers(2, 3), integers(2, 3, 2), covers=(np.dot,)),
    exact("inner", np.inner, A, integers(4, 3), covers=(np.inner,), torch=lambda t, a, b: t.inner(a, b)),
    exact("inner with a number", lambda a: np.inner(a, 2.0), A, covers=(np.inner,)),
    exact("vdot", np.vdot, A, B, covers=(np.vdot,)),
    exact("outer", np.outer, A, ROW, covers=(np.outer,)),
    exact("multiply.outer", np.multiply.outer, A, COLUMN, covers=((np.multiply, "outer"),)),
    exact(
        "tensordot",
        lambda a, b: np.tensordot(a, b, axes=([2, 0], [0, 1])),
        C,
        integers(4, 2, 3),
        covers=(np.tensordot,),
        torch=lambda t, a, b: t.tensordot(a, b, ([2, 0], [0, 1])),
    ),
    exact(
        "tensordot, axes crossed",
        lambda a, b: np.tensordot(a, b, axes=([0, 2, 1], [2, 0, -2])),
        integers(2, 3, 4),
        integers(4, 3, 2, seed=1),
        covers=(np.tensordot,),
    ),
    exact(
        "tensordot of two axes",
        np.tensordot,
        integers(2, 3, 2),
        integers(3, 2, 2),
        covers=(np.tensordot,),
        torch=lambda t, a, b: t.tensordot(a, b, 2),
    ),
    exact("tensordot of an axis", lambda a, b: np.tensordot(a, b, (0, 1)), A, integers(3, 2), covers=(np.tensordot,)),
    exact("tensordot of no axes", lambda a, b: np.tensordot(a, b, 0), A, ROW, covers=(np.tensordot,)),
]

EXACT += [
    exact(
        f"einsum {subscripts}",
        lambda *x, subscripts=subscripts: np.einsum(subscripts, *x),
        *(integers(*shape, seed=i) for i, shape in enumerate(shapes)),
        covers=(np.einsum,),
        torch=(lambda t, *x, subscripts=subscripts: t.einsum(subscripts, *x)) if comparable else None,
    )
    for subscripts, shapes, comparable in [
        ("ij,jk->ik", [(2, 3), (3, 4)], True),
        ("ij,jk", [(2, 3), (3, 4)], True),
        ("ba,cb", [(2, 3), (3, 2)], True),
        ("ij->ji", [(2, 3)], True),
        ("ij", [(2, 3)], True),
        ("ij->", [(2, 3)], True),
        ("ij->j", [(2, 3)], True),
        ("ii->i", [(3, 3)], True),
        ("ii", [(3, 3)], True),
        ("iij->j", [(2, 2, 3)], True),
        ("iijj->ij", [(2, 2, 3, 3)], True),
        ("iii->i", [(2, 2, 2)], True),
        ("ii,ij->j", [(2, 2), (2, 3)], True),
        ("...ij,...jk->...ik", [(2, 1, 2, 3), (4, 3, 2)], True),
        ("...i,i", [(2, 2, 3), (3,)], True),
        ("i...->...", [(2, 3, 2)], True),
        ("i...,...j->...ji", [(2, 3), (3, 2)], True),
        ("...", [(2, 3)], True),
        ("ij,j,i->ij", [(2, 3), (3,), (2,)], True),
        ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 4)], True),
        ("i,j,k->kij", [(2,), (3,), (2,)], True),
        ("ij,kl->ik", [(2, 3), (2, 4)], True),
        (" i j , j -> i ", [(2, 3), (3,)], True),
        ("Aa,aA->A", [(2, 3), (3, 2)], True),
        (",ij->ij", [(), (2, 3)], True),
        ("i,i->i", [(1,), (3,)], False),
        ("ij,ij->", [(1, 3), (2, 1)], False),
        ("ij,ij->i", [(2, 1), (2, 3)], False),
    ]
]
EXACT += [
    exact(
        "einsum by lists", lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [2, 0]), A, integers(3, 2), covers=(np.einsum,)
    ),
    exact(
        "einsum by lists, implicit",
        lambda a, b: np.einsum(a, (7, 1), b, (1, 3)),
        A,
        integers(3, 2),
        covers=(np.einsum,),
    ),
    exact(
        "einsum by lists, ellipsis", lambda a, b: np.einsum(a, [..., 0], b, [0], [...]), C, VECTOR, covers=(np.einsum,)
    ),
    exact(
        "einsum, optimized",
        lambda a, b, c: np.einsum("ij,jk,kl", a, b, c, optimize="greedy"),
        A,
        integers(3, 2),
        A,
        covers=(np.einsum,),
    ),
    exact("einsum with a number", lambda a: np.einsum(",i->i", 3, a), ROW, covers=(np.einsum,)),
    exact("einsum with a constant", lambda a: np.einsum("ij,kj->ik", C[0], a), C[1], covers=(np.einsum,)),
]
if hasattr(np, "vecdot"):
    EXACT.append(exact("vecdot", np.vecdot, A, ROW, covers=(np.vecdot,)))
if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
    EXACT.append(exact("clip by min and max", lambda a: np.clip(a, min=-2.5, max=3.5), C, covers=(np.clip,)))
if np.lib.NumpyVersion(np.__version__) >= "2.2.0":
    EXACT.append(exact("pad by axis", lambda x: np.pad(x, {-1: (1, 2), 0: 1}), A, covers=(np.pad,)))

CASES = [*SMOOTH_UFUNCS, *SMOOTH_REDUCTIONS, *EXACT]
