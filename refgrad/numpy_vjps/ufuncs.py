"""The rules of the ufuncs: one row an argument, with what it keeps and its formula.

In: NumPy's ufuncs. Out: their entries in `ufunc_rules`. g is the gradient of the output throughout.

Conventions at the kinks: absolute'(0) = 0 and hypot'(0, 0) = 0. In maximum and minimum (fmax, fmin) equal entries share
the gradient equally. clip passes the gradient at its bounds. d/dx2 of power is 0 at x1 = 0 where x2 >= 0, 0**0 = 1
included, and NaN for x1 < 0, where the power exists only at isolated exponents; d/dx1 of 0**0 is 0. An infinite slope,
as that of sqrt at 0, is infinite, with NumPy's own warning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.numpy_vjps.rules import Scalar, elementwise, numpy_says, operand, row, rule, unbroadcast
from refgrad.tape import CONSTANT, BitMask, Keeper, Operand, Primitive, Tensor, ufunc_rules

__all__ = ["absolute", "clip", "selections"]

LN2 = math.log(2.0)
LN10 = math.log(10.0)


def power_base(g: Array, x1: Array, x2: Array | Scalar) -> Array:
    """x2 * x1**(x2 - 1), and 0 where x2 is 0."""
    if isinstance(x2, (int, float)):
        return np.zeros_like(g) if x2 == 0 else np.asarray(g * (x2 * x1 ** (x2 - 1)))
    constant = np.equal(x2, 0)
    return g * np.where(constant, 0, x2 * x1 ** np.where(constant, 1, np.subtract(x2, 1)))


def power_exponent(g: Array, x1: Array, output: Array, x2: Array) -> Array:
    """x1**x2 * log(x1), and 0 where x1 is 0 and x2 is not negative."""
    flat = np.equal(x1, 0) & np.greater_equal(x2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return g * np.where(flat, 0, output * np.log(np.where(flat, 1, x1)))


def inverse_square_sum(x1: Array, x2: Array) -> tuple[Array, Array]:
    """x1 / (x1**2 + x2**2) and x2 / (x1**2 + x2**2), without an overflow in the squares."""
    radius = np.hypot(x1, x2)
    return x1 / radius / radius, x2 / radius / radius


def hypotenuse(g: Array, x: Array, y: Array) -> Array:
    """Return the gradient times the cosine x / y, and 0 where y is 0."""
    return g * (x / np.where(y == 0, y.dtype.type(1), y))


elementwise(np.add, x1=row("", lambda g: g), x2=row("", lambda g: g))
elementwise(np.subtract, x1=row("", lambda g: g), x2=row("", lambda g: -g))
elementwise(np.multiply, x1=row("x2", lambda g, x2: g * x2), x2=row("x1", lambda g, x1: g * x1))
elementwise(
    np.divide, x1=row("x2", lambda g, x2: g / x2), x2=row("x1 x2", lambda g, x1, x2: -(g / x2) * np.true_divide(x1, x2))
)
elementwise(np.negative, x1=row("", lambda g: -g))
elementwise(np.positive, x1=row("", lambda g: g))
elementwise(np.conjugate, x1=row("", lambda g: g))
elementwise(np.power, x1=row("x1 x2", power_base), x2=row("x1 output x2", power_exponent))
elementwise(np.float_power, x1=row("x1 x2", power_base), x2=row("x1 output x2", power_exponent))
elementwise(np.ldexp, x1=row("x2", lambda g, x2: np.ldexp(g, x2)), x2=CONSTANT)  # noqa: PLW0108 - a ufunc has no signature
elementwise(np.square, x1=row("x1", lambda g, x: g * (2 * x)))
elementwise(np.sqrt, x1=row("output", lambda g, y: g / (2 * y)))
elementwise(np.cbrt, x1=row("output", lambda g, y: g / (3 * y) / y))
elementwise(np.reciprocal, x1=row("output", lambda g, y: -(g * y) * y))
elementwise(np.exp, x1=row("output", lambda g, y: g * y))
elementwise(np.exp2, x1=row("output", lambda g, y: g * (y * LN2)))
elementwise(np.expm1, x1=row("output", lambda g, y: g * (y + 1)))
elementwise(np.log, x1=row("x1", lambda g, x: g / x))
elementwise(np.log2, x1=row("x1", lambda g, x: g / x / LN2))
elementwise(np.log10, x1=row("x1", lambda g, x: g / x / LN10))
elementwise(np.log1p, x1=row("x1", lambda g, x: g / (1 + x)))
elementwise(np.sin, x1=row("x1", lambda g, x: g * np.cos(x)))
elementwise(np.cos, x1=row("x1", lambda g, x: -g * np.sin(x)))
elementwise(np.tan, x1=row("output", lambda g, y: g * (1 + y * y)))
elementwise(np.arcsin, x1=row("x1", lambda g, x: g / np.sqrt((1 - x) * (1 + x))))
elementwise(np.arccos, x1=row("x1", lambda g, x: -g / np.sqrt((1 - x) * (1 + x))))
elementwise(np.arctan, x1=row("x1", lambda g, x: g / np.hypot(1, x) / np.hypot(1, x)))
elementwise(np.sinh, x1=row("x1", lambda g, x: g * np.cosh(x)))
elementwise(np.cosh, x1=row("x1", lambda g, x: g * np.sinh(x)))
elementwise(np.tanh, x1=row("output", lambda g, y: g * ((1 - y) * (1 + y))))
elementwise(np.arcsinh, x1=row("x1", lambda g, x: g / np.hypot(1, x)))
elementwise(np.arccosh, x1=row("x1", lambda g, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1))))
elementwise(np.arctanh, x1=row("x1", lambda g, x: g / ((1 - x) * (1 + x))))
elementwise(np.hypot, x1=row("x1 output", hypotenuse), x2=row("x2 output", hypotenuse))
elementwise(
    np.arctan2,
    x1=row("x1 x2", lambda g, x1, x2: g * inverse_square_sum(x1, x2)[1]),
    x2=row("x1 x2", lambda g, x1, x2: -g * inverse_square_sum(x1, x2)[0]),
)
elementwise(
    np.logaddexp,
    x1=row("x1 output", lambda g, x, y: g * np.exp(x - y)),
    x2=row("x2 output", lambda g, x, y: g * np.exp(x - y)),
)
elementwise(
    np.logaddexp2,
    x1=row("x1 output", lambda g, x, y: g * np.exp2(x - y)),
    x2=row("x2 output", lambda g, x, y: g * np.exp2(x - y)),
)
for degrees_of in (np.degrees, np.rad2deg):
    elementwise(degrees_of, x1=row("", lambda g: g * (180 / math.pi)))
for radians_of in (np.radians, np.deg2rad):
    elementwise(radians_of, x1=row("", lambda g: g * (math.pi / 180)))


@dataclass(frozen=True, slots=True, eq=False)
class Signs:
    """What `np.absolute` keeps: two bits an entry, or one where no entry is 0."""

    negative: BitMask
    zero: BitMask | None


def _absolute(keeper: Keeper, x: Array) -> tuple[Array, Signs | None]:
    output = np.absolute(x)
    if "x" not in keeper.needs:
        return output, None
    zero = np.equal(x, 0)
    return output, Signs(BitMask.pack(np.less(x, 0)), BitMask.pack(zero) if zero.any() else None)


def _absolute_vjp(saved: Signs, g: Array) -> Array:
    gradient = np.where(saved.negative.unpack(), -g, g)
    return gradient if saved.zero is None else np.where(saved.zero.unpack(), g.dtype.type(0), gradient)


absolute = Primitive("absolute", _absolute, {"x": _absolute_vjp})
ufunc_rules[np.absolute] = absolute
ufunc_rules[np.fabs] = absolute


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What the larger or smaller of two keeps: where x1 was taken, and where both were equal, if anywhere."""

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    first: BitMask
    equal: BitMask | None


def _selection(ufunc: np.ufunc) -> Primitive:
    """Make the primitive of maximum, minimum, fmax or fmin."""
    name = ufunc.__name__

    def forward(keeper: Keeper, x1: Array, x2: Array) -> tuple[Array, Selection | None]:
        with numpy_says(f"np.{name}", x1, x2):
            output = np.asarray(ufunc(x1, x2))
        if not keeper.needs:
            return output, None
        equal = np.equal(x1, x2)
        first = (np.equal(output, x1) | (np.isnan(output) & np.isnan(x1))) & ~equal
        shapes = (np.shape(x1), np.shape(x2))
        return output, Selection(shapes, BitMask.pack(first), BitMask.pack(equal) if equal.any() else None)

    def share(saved: Selection, g: Array, argument: int) -> Array:
        first = saved.first.unpack()
        gradient = np.where(first if argument == 0 else ~first, g, g.dtype.type(0))
        if saved.equal is not None:
            gradient = np.where(saved.equal.unpack(), g / 2, gradient)
        return unbroadcast(gradient, saved.shapes[argument])

    primitive = Primitive(
        name, forward, {"x1": lambda saved, g: share(saved, g, 0), "x2": lambda saved, g: share(saved, g, 1)}
    )

    def call(*operands: Any) -> Operand:
        return primitive(*(operand(f"np.{name}", entry) for entry in operands))

    ufunc_rules[ufunc] = call
    return primitive


selections: dict[np.ufunc, Primitive] = {
    ufunc: _selection(ufunc) for ufunc in (np.maximum, np.minimum, np.fmax, np.fmin)
}
"""The primitives that choose between two entries."""


@dataclass(frozen=True, slots=True, eq=False)
class Inside:
    """What `np.clip` keeps: where the entry was within its bounds."""

    shape: tuple[int, ...]
    inside: BitMask


def _clip(keeper: Keeper, a: Array, a_min: Any, a_max: Any) -> tuple[Array, Inside | None]:
    with numpy_says("np.clip", a):
        output = np.asarray(np.clip(a, a_min, a_max))
    if "a" not in keeper.needs:
        return output, None
    return output, Inside(a.shape, BitMask.pack(np.equal(output, a) | np.isnan(a)))


def _clip_vjp(saved: Inside, g: Array) -> Array:
    return unbroadcast(np.where(saved.inside.unpack(), g, g.dtype.type(0)), saved.shape)


clip = Primitive("clip", _clip, {"a": _clip_vjp, "a_min": CONSTANT, "a_max": CONSTANT})


@rule(np.clip)
def _clip_rule(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Operand:
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    bounds = (None if bound is None else operand("np.clip", bound) for bound in (low, high))
    return clip(operand("np.clip", a), *bounds)


@rule(np.real)
def _real_rule(val: Tensor) -> Tensor:
    return val


@rule(np.copy)
def _copy_rule(a: Tensor) -> Tensor:
    return a
