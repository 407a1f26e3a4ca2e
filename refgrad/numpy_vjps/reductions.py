"""The rules of the functions that reduce axes: sums, extremes, moments, norms.

In: NumPy's reductions. Out: their entries in `function_rules`. `axis` is None, an integer or a tuple, negative ones
count from the end.

Conventions: equal largest (or smallest) entries share the gradient equally. std'(constant) = 0 and norm'(0) = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod as product
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.numpy_vjps.rules import axes_of, numpy_says, rule
from refgrad.tape import BitMask, Keeper, Operand, Primitive, Tensor

__all__ = ["amax", "amin", "cumsum", "prod", "std", "sum_", "var"]


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """The shape before a reduction and the axes that went; for some, the argument and the result."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    x: Array | None = None
    output: Array | None = None
    ddof: float = 0.0

    @property
    def count(self) -> int:
        """How many entries went into one."""
        return product(self.shape[axis] for axis in self.axes)

    def expanded(self, gradient: Array) -> Array:
        """Return the gradient of the output with the reduced axes put back, at length 1."""
        return gradient.reshape([1 if i in self.axes else length for i, length in enumerate(self.shape)])


@dataclass(frozen=True, slots=True, eq=False)
class Extremes:
    """What a largest or smallest entry keeps: one bit an entry, set where it is attained."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    attained: BitMask


def _sum(keeper: Keeper, a: Array, *, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Reduced | None]:
    return np.asarray(a.sum(axis=axes, keepdims=keepdims)), Reduced(a.shape, axes) if keeper.needs else None


def _sum_vjp(saved: Reduced, g: Array) -> Array:
    return np.broadcast_to(saved.expanded(g), saved.shape)


sum_ = Primitive("sum", _sum, {"a": _sum_vjp})


def _mean(keeper: Keeper, a: Array, *, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Reduced | None]:
    return np.asarray(a.mean(axis=axes, keepdims=keepdims)), Reduced(a.shape, axes) if keeper.needs else None


mean = Primitive("mean", _mean, {"a": lambda saved, g: _sum_vjp(saved, g / saved.count)})


def _prod(keeper: Keeper, a: Array, *, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Reduced | None]:
    output = np.asarray(a.prod(axis=axes, keepdims=keepdims))
    return output, Reduced(a.shape, axes, x=keeper.keep(a)) if keeper.needs else None


def _prod_vjp(saved: Reduced, g: Array) -> Array:
    """Multiply the other entries, from the left and from the right, so that zeros need no division."""
    assert saved.x is not None
    others = [i for i in range(len(saved.shape)) if i not in saved.axes]
    order = (*others, *saved.axes)
    rows = saved.x.transpose(order).reshape([*(saved.shape[i] for i in others), saved.count])
    left, right = np.ones_like(rows), np.ones_like(rows)
    np.cumprod(rows[..., :-1], axis=-1, out=left[..., 1:])
    np.cumprod(rows[..., :0:-1], axis=-1, out=right[..., -2::-1])
    rest = (left * right).reshape([saved.shape[i] for i in order]).transpose(np.argsort(order))
    return np.asarray(saved.expanded(g) * rest)


prod = Primitive("prod", _prod, {"a": _prod_vjp})


def _extreme(name: str, function: Callable[..., Any]) -> Primitive:
    """Make the primitive of max or min."""

    def forward(keeper: Keeper, a: Array, *, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Extremes | None]:
        with numpy_says(f"np.{name}", a):
            kept = np.asarray(function(a, axis=axes, keepdims=True))
        output = kept if keepdims else kept.reshape([n for i, n in enumerate(a.shape) if i not in axes])
        if not keeper.needs:
            return output, None
        return output, Extremes(a.shape, axes, BitMask.pack(np.equal(a, kept) | (np.isnan(a) & np.isnan(kept))))

    def vjp(saved: Extremes, g: Array) -> Array:
        attained = saved.attained.unpack()
        ties = attained.sum(axis=saved.axes, keepdims=True)
        share = g.reshape(ties.shape) / ties.astype(g.dtype)
        return np.asarray(np.where(attained, share, g.dtype.type(0)))

    return Primitive(name, forward, {"a": vjp})


amax = _extreme("max", np.max)
amin = _extreme("min", np.min)


def _var(
    keeper: Keeper, a: Array, *, axes: tuple[int, ...], ddof: float, keepdims: bool
) -> tuple[Array, Reduced | None]:
    output = np.asarray(a.var(axis=axes, ddof=ddof, keepdims=keepdims))
    return output, Reduced(a.shape, axes, x=keeper.keep(a), ddof=ddof) if keeper.needs else None


def _centred(saved: Reduced) -> Array:
    assert saved.x is not None
    return np.asarray(saved.x - saved.x.mean(axis=saved.axes, keepdims=True))


def _var_vjp(saved: Reduced, g: Array) -> Array:
    """2 (x - mean) / (count - ddof); what the mean contributes sums to 0."""
    return np.asarray(saved.expanded(g) * (_centred(saved) * (2 / (saved.count - saved.ddof))))


var = Primitive("var", _var, {"a": _var_vjp})


def _std(
    keeper: Keeper, a: Array, *, axes: tuple[int, ...], ddof: float, keepdims: bool
) -> tuple[Array, Reduced | None]:
    output = np.asarray(a.std(axis=axes, ddof=ddof, keepdims=keepdims))
    if not keeper.needs:
        return output, None
    return output, Reduced(a.shape, axes, x=keeper.keep(a), output=keeper.keep(output, own=True), ddof=ddof)


def _std_vjp(saved: Reduced, g: Array) -> Array:
    """(x - mean) / ((count - ddof) std), and 0 where std is 0."""
    assert saved.output is not None
    deviation = saved.expanded(saved.output)
    constant = deviation == 0
    slope = _centred(saved) / np.where(constant, 1, deviation).astype(g.dtype, copy=False)
    return np.asarray(np.where(constant, g.dtype.type(0), saved.expanded(g) * (slope / (saved.count - saved.ddof))))


std = Primitive("std", _std, {"a": _std_vjp})


@dataclass(frozen=True, slots=True, eq=False)
class Cumulated:
    """The axis of a cumulative sum."""

    axis: int


def _cumsum(keeper: Keeper, a: Array, *, axis: int) -> tuple[Array, Cumulated | None]:
    return a.cumsum(axis=axis), Cumulated(axis) if keeper.needs else None


def _cumsum_vjp(saved: Cumulated, g: Array) -> Array:
    return np.flip(np.flip(g, saved.axis).cumsum(axis=saved.axis), saved.axis)


cumsum = Primitive("cumsum", _cumsum, {"a": _cumsum_vjp})


@rule(np.sum)
def _sum_rule(a: Tensor, axis: Any = None, *, keepdims: bool = False) -> Operand:
    return sum_(a, axes=axes_of("np.sum", axis, a.ndim), keepdims=bool(keepdims))


@rule(np.mean)
def _mean_rule(a: Tensor, axis: Any = None, *, keepdims: bool = False) -> Operand:
    return mean(a, axes=axes_of("np.mean", axis, a.ndim), keepdims=bool(keepdims))


@rule(np.prod)
def _prod_rule(a: Tensor, axis: Any = None, *, keepdims: bool = False) -> Operand:
    return prod(a, axes=axes_of("np.prod", axis, a.ndim), keepdims=bool(keepdims))


@rule(np.max, np.amax)
def _max_rule(a: Tensor, axis: Any = None, *, keepdims: bool = False) -> Operand:
    return amax(a, axes=axes_of("np.max", axis, a.ndim), keepdims=bool(keepdims))


@rule(np.min, np.amin)
def _min_rule(a: Tensor, axis: Any = None, *, keepdims: bool = False) -> Operand:
    return amin(a, axes=axes_of("np.min", axis, a.ndim), keepdims=bool(keepdims))


def _degrees_of_freedom(operation: str, a: Tensor, axes: tuple[int, ...], ddof: float) -> float:
    count = product(a.shape[axis] for axis in axes)
    if not ddof < count:
        raise ValueError(f"ddof of {operation} must be less than the {count} entries it reduces, got {ddof!r}")
    return float(ddof)


@rule(np.var)
def _var_rule(a: Tensor, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Operand:
    axes = axes_of("np.var", axis, a.ndim)
    return var(a, axes=axes, ddof=_degrees_of_freedom("np.var", a, axes, ddof), keepdims=bool(keepdims))


@rule(np.std)
def _std_rule(a: Tensor, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Operand:
    axes = axes_of("np.std", axis, a.ndim)
    return std(a, axes=axes, ddof=_degrees_of_freedom("np.std", a, axes, ddof), keepdims=bool(keepdims))


@rule(np.cumsum)
def _cumsum_rule(a: Tensor, axis: int | None = None) -> Operand:
    if axis is None:
        return cumsum(a.ravel(), axis=0)
    return cumsum(a, axis=axes_of("np.cumsum", axis, a.ndim)[0])


@rule(np.add, method="accumulate")
def _add_accumulate(array: Tensor, axis: int = 0) -> Any:
    return _cumsum_rule(array, axis)


def _reduce(ufunc: np.ufunc, function: Callable[..., Any]) -> None:
    """Register the `reduce` of a ufunc; unlike the function, it reduces axis 0 where none is given."""

    @rule(ufunc, method="reduce")
    def _reduce_rule(array: Tensor, axis: Any = 0, *, keepdims: bool = False) -> Operand:
        result: Operand = function(array, axis, keepdims=keepdims)
        return result


_reduce(np.add, _sum_rule)
_reduce(np.multiply, _prod_rule)
_reduce(np.maximum, _max_rule)
_reduce(np.minimum, _min_rule)


def _norm(keeper: Keeper, x: Array, *, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Reduced | None]:
    largest = np.max(np.abs(x), axis=axes, keepdims=True)
    scale = np.where(np.isfinite(largest) & (largest > 0), largest, 1).astype(x.dtype, copy=False)
    kept = scale * np.sqrt(np.square(x / scale).sum(axis=axes, keepdims=True))
    output = kept if keepdims else kept.reshape([n for i, n in enumerate(x.shape) if i not in axes])
    if not keeper.needs:
        return output, None
    return output, Reduced(x.shape, axes, x=keeper.keep(x), output=keeper.keep(output, own=True))


def _norm_vjp(saved: Reduced, g: Array) -> Array:
    """Return x / norm, and 0 where the norm is 0."""
    assert saved.x is not None
    assert saved.output is not None
    length = saved.expanded(saved.output)
    zero = length == 0
    direction = saved.x / np.where(zero, 1, length).astype(g.dtype, copy=False)
    return np.asarray(np.where(zero, g.dtype.type(0), saved.expanded(g) * direction))


norm = Primitive("norm", _norm, {"x": _norm_vjp})


@rule(np.linalg.norm)
def _norm_rule(x: Tensor, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Operand:
    axes = axes_of("np.linalg.norm", axis, x.ndim)
    if axis is not None and len(axes) > 2:
        raise ValueError(f"axis of np.linalg.norm must name one axis or two, got {axis!r}")
    if not (ord is None or (ord == "fro" and len(axes) == 2) or (ord == 2 and len(axes) == 1)):
        raise TypeError(
            f"np.linalg.norm of a Tensor is the Frobenius norm (or, of one axis, the 2-norm), got ord={ord!r}; "
            "for other norms write, for example, np.sum(np.abs(x)) or np.max(np.abs(x))"
        )
    return norm(x, axes=axes, keepdims=bool(keepdims))
