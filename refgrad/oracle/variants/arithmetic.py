"""Convolutions and their gradients in NumPy, apart from refgrad's own: sums in several orders, all of them right.

In: arrays of one dtype. Out: arrays of that dtype; nothing is computed in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from refgrad.arguments import Array

__all__ = [
    "Geometry",
    "all_at_once",
    "by_projecting",
    "by_rebuilding",
    "by_theorem_14",
    "dense_weight_gradient",
    "forward",
    "input_gradient",
    "rebuild",
]

Pair = tuple[int, int]


class Geometry(TypedDict):
    """Where a convolution reads."""

    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair


def patches(
    x: Array, weight: Array, size: tuple[int, ...], *, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair
) -> Array:
    """Return (B, C, k_h, k_w, H', W'), what every tap reads."""
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    result: Array = np.zeros((*x.shape[:2], *weight.shape[2:], *size), x.dtype)
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            top, left = u * dilation[0], v * dilation[1]
            rows = slice(top, top + (size[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (size[1] - 1) * stride[1] + 1, stride[1])
            result[:, :, u, v] = padded[:, :, rows, columns]
    return result


def scatter(
    columns: Array, shape: tuple[int, ...], *, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair
) -> Array:
    """Return the transpose of `patches`."""
    (top, bottom), (left, right) = padding
    height, width = shape[2] + top + bottom, shape[3] + left + right
    padded: Array = np.zeros((*shape[:2], height, width), columns.dtype)
    size = columns.shape[4:]
    for u in range(columns.shape[2]):
        for v in range(columns.shape[3]):
            row, column = u * dilation[0], v * dilation[1]
            rows = slice(row, row + (size[0] - 1) * stride[0] + 1, stride[0])
            across = slice(column, column + (size[1] - 1) * stride[1] + 1, stride[1])
            padded[:, :, rows, across] += columns[:, :, u, v]
    return padded[:, :, top : top + shape[2], left : left + shape[3]].copy()


def grouped(array: Array, axis: int, groups: int) -> Array:
    """Split an axis of channels into (groups, channels of one group)."""
    return array.reshape(*array.shape[:axis], groups, -1, *array.shape[axis + 1 :])


def forward(x: Array, weight: Array, bias: Array, grad_output: Array, groups: int, geometry: Geometry) -> Array:
    """Return the convolution of the input, bias added."""
    columns = grouped(patches(x, weight, grad_output.shape[2:], **geometry), 1, groups)
    y: Array = np.einsum("bgcuvij,gocuv->bgoij", columns, grouped(weight, 0, groups), optimize=True)
    return y.reshape(grad_output.shape) + bias[:, None, None]


def input_gradient(x: Array, weight: Array, grad_output: Array, groups: int, geometry: Geometry) -> Array:
    """Return the gradient by the input."""
    columns: Array = np.einsum(
        "bgoij,gocuv->bgcuvij", grouped(grad_output, 1, groups), grouped(weight, 0, groups), optimize=True
    )
    return scatter(columns.reshape(*x.shape[:2], *columns.shape[3:]), x.shape, **geometry)


def dense_weight_gradient(x: Array, weight: Array, grad_output: Array, groups: int, geometry: Geometry) -> Array:
    """Return the weight gradient at an activation."""
    columns = grouped(patches(x, weight, grad_output.shape[2:], **geometry), 1, groups)
    result: Array = np.einsum("bgcuvij,bgoij->gocuv", columns, grouped(grad_output, 1, groups), optimize=True)
    return result.reshape(weight.shape)


def rebuild(core: Array, factors: Sequence[Array]) -> Array:
    """Return core x_1 U_1 ... x_d U_d."""
    for mode, factor in enumerate(factors):
        core = np.moveaxis(np.tensordot(factor, core, (1, mode)), 0, mode)
    return core


def by_rebuilding(
    core: Array, factors: Sequence[Array], weight: Array, grad_output: Array, groups: int, geometry: Geometry
) -> Array:
    """Rebuild A~, then take its weight gradient."""
    return dense_weight_gradient(rebuild(core, factors), weight, grad_output, groups, geometry)


def of_one_axis(factor: Array, taps: int, size: int, stride: int, pads: Pair, dilation: int) -> Array:
    """Return (taps, positions, K), the rows of a factor that a convolution reads along one axis."""
    padded: Array = np.pad(factor, (pads, (0, 0)))
    return padded[np.add.outer(np.arange(taps) * dilation, np.arange(size) * stride)]


def read_factors(
    factors: Sequence[Array],
    weight: Array,
    grad_output: Array,
    *,
    stride: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
) -> list[Array]:
    """Return what the convolution reads of the factors of height and width."""
    return [
        of_one_axis(factors[2 + a], weight.shape[2 + a], grad_output.shape[2 + a], stride[a], padding[a], dilation[a])
        for a in (0, 1)
    ]


def by_theorem_14(
    core: Array, factors: Sequence[Array], weight: Array, grad_output: Array, groups: int, geometry: Geometry
) -> Array:
    """Contract Z1, Z2, Z3, Z4 of THEORY T14, for every group."""
    rows, columns = read_factors(factors, weight, grad_output, **geometry)
    z1 = np.einsum("boij,bp->poij", grad_output, factors[0])
    z2 = np.einsum("pqrs,uir->pquis", core, rows)
    z3 = np.einsum("pquis,vjs->pquvij", z2, columns)
    z4 = np.einsum("pquvij,poij->oquv", z3, z1)
    result: Array = np.einsum("goquv,gcq->gocuv", grouped(z4, 0, groups), grouped(factors[1], 0, groups))
    return result.reshape(weight.shape)


def by_projecting(
    core: Array, factors: Sequence[Array], weight: Array, grad_output: Array, groups: int, geometry: Geometry
) -> Array:
    """Bring the gradient down to the ranks, width first; it meets the core last."""
    rows, columns = read_factors(factors, weight, grad_output, **geometry)
    small = np.einsum("boij,vjs->bovis", grad_output, columns)
    small = np.einsum("bovis,uir->bouvrs", small, rows)
    small = np.einsum("bouvrs,bp->pouvrs", small, factors[0])
    small = np.einsum("pouvrs,pqrs->oquv", small, core)
    result: Array = np.einsum("goquv,gcq->gocuv", grouped(small, 0, groups), grouped(factors[1], 0, groups))
    return result.reshape(weight.shape)


def all_at_once(
    core: Array, factors: Sequence[Array], weight: Array, grad_output: Array, groups: int, geometry: Geometry
) -> Array:
    """Take one sum over everything, where that is not too long."""
    rows, columns = read_factors(factors, weight, grad_output, **geometry)
    if grad_output.size * core.size * weight[0].size > 10**6:
        return by_theorem_14(core, factors, weight, grad_output, groups, geometry)
    g, c = grouped(grad_output, 1, groups), grouped(factors[1], 0, groups)
    result: Array = np.einsum("bgoij,bp,gcq,uir,vjs,pqrs->gocuv", g, factors[0], c, rows, columns, core, optimize=False)
    return result.reshape(weight.shape)
