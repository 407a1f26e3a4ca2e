"""The rules of the products: matmul, dot, tensordot, inner, outer, einsum.

In: two operands or more. Out: entries in `function_rules` and `ufunc_rules`. A product is linear in each operand: its
gradient uses the others, so an operand is kept only where another one needs a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.numpy_vjps.rules import axes_of, numpy_says, operand, rule, unbroadcast
from refgrad.numpy_vjps.subscripts import parse
from refgrad.tape import Keeper, Operand, Primitive, ufunc_rules

__all__ = ["einsum", "matmul", "tensordot"]


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """The operands of a product that the gradient of the other one uses, and the shapes of both."""

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    first: Array | None
    second: Array | None
    axes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


def _others(keeper: Keeper, first: Array, second: Array) -> tuple[Array | None, Array | None]:
    """Keep each of two operands where the other one needs a gradient."""
    return (
        keeper.keep(first) if "x2" in keeper.needs else None,
        keeper.keep(second) if "x1" in keeper.needs else None,
    )


def _matmul(keeper: Keeper, x1: Array, x2: Array) -> tuple[Array, Product | None]:
    with numpy_says("np.matmul", x1, x2):
        output = np.asarray(np.matmul(x1, x2))
    return output, Product((x1.shape, x2.shape), *_others(keeper, x1, x2)) if keeper.needs else None


def _as_matrices(saved: Product, g: Array) -> tuple[Array, tuple[int, ...], tuple[int, ...]]:
    """Give operands with one axis their second one: a row on the left, a column on the right."""
    first, second = saved.shapes
    if len(first) == 1:
        g, first = np.expand_dims(g, -2 if len(second) > 1 else -1), (1, *first)
    if len(second) == 1:
        g, second = np.expand_dims(g, -1), (*second, 1)
    return g, first, second


def _matmul_x1(saved: Product, g: Array) -> Array:
    """G X2^T, summed over the axes that were broadcast."""
    assert saved.second is not None
    g, first, second = _as_matrices(saved, g)
    return unbroadcast(g @ saved.second.reshape(second).swapaxes(-1, -2), first).reshape(saved.shapes[0])


def _matmul_x2(saved: Product, g: Array) -> Array:
    """X1^T G, summed over the axes that were broadcast."""
    assert saved.first is not None
    g, first, second = _as_matrices(saved, g)
    return unbroadcast(saved.first.reshape(first).swapaxes(-1, -2) @ g, second).reshape(saved.shapes[1])


matmul = Primitive("matmul", _matmul, {"x1": _matmul_x1, "x2": _matmul_x2})


def _matmul_rule(x1: Any, x2: Any) -> Operand:
    first, second = (_array("np.matmul", x) for x in (x1, x2))
    return matmul(first, second)


ufunc_rules[np.matmul] = _matmul_rule


def _array(name: str, value: Any) -> Any:
    """Return an operand; a Python number becomes an array."""
    checked = operand(name, value)
    return np.asarray(checked) if isinstance(checked, (bool, int, float)) else checked


def _tensordot(
    keeper: Keeper, x1: Array, x2: Array, *, axes: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[Array, Product | None]:
    with numpy_says("np.tensordot", x1, x2):
        output = np.asarray(np.tensordot(x1, x2, axes))
    return output, Product((x1.shape, x2.shape), *_others(keeper, x1, x2), axes) if keeper.needs else None


def _free(shape: tuple[int, ...], axes: tuple[int, ...]) -> list[int]:
    return [i for i in range(len(shape)) if i not in axes]


def _tensordot_x1(saved: Product, g: Array) -> Array:
    """G contracted with X2 over the axes that only X2 has."""
    assert saved.second is not None
    (first, second), (axes1, axes2) = saved.shapes, saved.axes
    free1, free2 = _free(first, axes1), _free(second, axes2)
    result = np.tensordot(g, saved.second, (range(len(free1), g.ndim), free2))
    left = [axes1[axes2.index(axis)] for axis in sorted(axes2)]  # the contracted axes come in the order they have in X2
    return np.asarray(result).transpose(np.argsort([*free1, *left]))


def _tensordot_x2(saved: Product, g: Array) -> Array:
    """X1 contracted with G over the axes that only X1 has."""
    assert saved.first is not None
    (first, second), (axes1, axes2) = saved.shapes, saved.axes
    free1, free2 = _free(first, axes1), _free(second, axes2)
    result = np.tensordot(saved.first, g, (free1, range(len(free1))))
    left = [axes2[axes1.index(axis)] for axis in sorted(axes1)]
    return np.asarray(result).transpose(np.argsort([*left, *free2]))


tensordot = Primitive("tensordot", _tensordot, {"x1": _tensordot_x1, "x2": _tensordot_x2})


@rule(np.tensordot)
def _tensordot_rule(a: Any, b: Any, axes: Any = 2) -> Operand:
    first, second = _array("np.tensordot", a), _array("np.tensordot", b)
    if isinstance(axes, (int, np.integer)):
        if not 0 <= axes <= min(first.ndim, second.ndim):
            raise ValueError(
                f"axes of np.tensordot must be in [0, {min(first.ndim, second.ndim)}] for shapes {first.shape} and "
                f"{second.shape}, got {axes}"
            )
        pair: Any = (tuple(range(first.ndim - axes, first.ndim)), tuple(range(axes)))
    else:
        pair = tuple(tuple(one) if isinstance(one, (tuple, list)) else (one,) for one in axes)
        if len(pair) != 2 or len(pair[0]) != len(pair[1]):
            raise ValueError(f"axes of np.tensordot must name as many axes of the one as of the other, got {axes!r}")
    chosen = tuple(
        tuple(axes_of("np.tensordot", axis, x.ndim)[0] for axis in one)
        for one, x in zip(pair, (first, second), strict=True)
    )
    if any(len(set(one)) < len(one) for one in chosen):
        raise ValueError(f"axes of np.tensordot names an axis twice: {axes!r}")
    return tensordot(first, second, axes=chosen)


@rule(np.dot)
def _dot_rule(a: Any, b: Any) -> Any:
    first, second = _array("np.dot", a), _array("np.dot", b)
    if first.ndim == 0 or second.ndim == 0:
        return tensordot(first, second, axes=((), ()))
    axes = ((first.ndim - 1,), (max(second.ndim - 2, 0),))
    _check_length("np.dot", first, second, axes)
    return tensordot(first, second, axes=axes)


@rule(np.inner)
def _inner_rule(a: Any, b: Any) -> Any:
    first, second = _array("np.inner", a), _array("np.inner", b)
    if first.ndim == 0 or second.ndim == 0:
        return tensordot(first, second, axes=((), ()))
    axes = ((first.ndim - 1,), (second.ndim - 1,))
    _check_length("np.inner", first, second, axes)
    return tensordot(first, second, axes=axes)


@rule(np.vdot)
def _vdot_rule(a: Any, b: Any) -> Any:
    first, second = (np.ravel(_array("np.vdot", x)) for x in (a, b))
    _check_length("np.vdot", first, second, ((0,), (0,)))
    return tensordot(first, second, axes=((0,), (0,)))


@rule(np.outer)
def _outer_rule(a: Any, b: Any) -> Any:
    first, second = (np.ravel(_array("np.outer", x)) for x in (a, b))
    return tensordot(first, second, axes=((), ()))


@rule(np.multiply, method="outer")
def _multiply_outer(A: Any, B: Any) -> Any:
    return tensordot(_array("np.multiply.outer", A), _array("np.multiply.outer", B), axes=((), ()))


@dataclass(frozen=True, slots=True, eq=False)
class Contraction:
    """The labels of every operand and of the output, the shapes, and the operands that some gradient uses."""

    labels: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    operands: tuple[Array | None, ...]


def _einsum(
    keeper: Keeper, *operands: Array, labels: tuple[tuple[int, ...], ...], output: tuple[int, ...], optimize: Any
) -> tuple[Array, Contraction | None]:
    pairs: list[Any] = [part for pair in zip(operands, map(list, labels), strict=True) for part in pair]
    with numpy_says("np.einsum", *operands):
        result = np.array(np.einsum(*pairs, [*output], optimize=optimize))
    if not keeper.needs:
        return result, None
    wanted = [i for i in range(len(operands)) if f"operands[{i}]" in keeper.needs]
    kept = tuple(keeper.keep(x) if any(i != j for j in wanted) else None for i, x in enumerate(operands))
    return result, Contraction(labels, output, tuple(x.shape for x in operands), kept)


def _einsum_vjp(saved: Contraction, g: Array, position: int) -> Array:
    """Contract G with the other operands; then spread over labels that only this one had, and onto its diagonals."""
    mine, shape = saved.labels[position], saved.shapes[position]
    lengths = dict(zip(mine, shape, strict=True))
    others = [
        (x, labels) for i, (x, labels) in enumerate(zip(saved.operands, saved.labels, strict=True)) if i != position
    ]
    elsewhere = {*saved.output, *(label for _, labels in others for label in labels)}
    full = {
        label: length
        for labels, dims in zip(saved.labels, saved.shapes, strict=True)
        for label, length in zip(labels, dims, strict=True)
        if length != 1
    }
    stretched = {label for label, length in lengths.items() if length == 1 and full.get(label, 1) != 1}
    result = [label for label in lengths if label in elsewhere and label not in stretched]
    pairs: list[Any] = [part for x, labels in ((g, saved.output), *others) for part in (x, list(labels))]
    gradient = np.asarray(np.einsum(*pairs, result, optimize=True))
    gradient = gradient.reshape([gradient.shape[result.index(label)] if label in result else 1 for label in lengths])
    gradient = np.broadcast_to(gradient, tuple(lengths.values()))
    if len(lengths) == len(mine):
        return gradient
    spread = np.zeros(shape, gradient.dtype)
    places = np.ix_(*(np.arange(length) for length in lengths.values()))
    spread[tuple(places[list(lengths).index(label)] for label in mine)] = gradient
    return spread


einsum = Primitive("einsum", _einsum, {"operands": _einsum_vjp})


@rule(np.einsum)
def _einsum_rule(*operands: Any, optimize: Any = False) -> Operand:
    arrays, labels, output = parse(operands, lambda value: _array("np.einsum", value))
    return einsum(*arrays, labels=labels, output=output, optimize=optimize)


def _check_length(name: str, first: Any, second: Any, axes: tuple[tuple[int], tuple[int]]) -> None:
    """Refuse operands whose contracted axes differ in length."""
    left, right = first.shape[axes[0][0]], second.shape[axes[1][0]]
    if left != right:
        raise ValueError(
            f"{name} contracts axis {axes[0][0]} of {first.shape} with axis {axes[1][0]} of {second.shape}, "
            f"but their lengths are {left} and {right}"
        )


if hasattr(np, "vecdot"):  # NumPy 2

    def _vecdot_rule(x1: Any, x2: Any) -> Any:
        return np.einsum("...i,...i->...", _array("np.vecdot", x1), _array("np.vecdot", x2))

    ufunc_rules[np.vecdot] = _vecdot_rule
