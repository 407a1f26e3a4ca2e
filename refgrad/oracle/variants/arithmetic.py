"""Convolutions and their gradients in NumPy, apart from refgrad's own: sums in several orders, all of them right.

In: arrays of one dtype. Out: arrays of that dtype; nothing is computed in another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np

from refgrad.arguments import Array

__all__ = [
    "Geometry",
    "all_at_once",
    "by_blocks",
    "by_projecting",
    "by_rebuilding",
    "by_theorem_14",
    "dense_weight_gradient",
    "forward",
    "forward_by_taps",
    "input_gradient",
    "input_gradient_by_taps",
    "rebuild",
    "weight_gradient_by_taps",
]

Pair = tuple[int, int]


class Geometry(TypedDict):
    """Where a convolution reads."""

    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair


def each_tap(taps: Sequence[int], size: Sequence[int], geometry: Geometry) -> Iterator[tuple[int, int, slice, slice]]:
    """Yield every tap (u, v) of a kernel, with the rows and columns of the padded input that it reads."""
    stride, dilation = geometry["stride"], geometry["dilation"]
    for u in range(taps[0]):
        for v in range(taps[1]):
            top, left = u * dilation[0], v * dilation[1]
            rows = slice(top, top + (size[0] - 1) * stride[0] + 1, stride[0])
            yield u, v, rows, slice(left, left + (size[1] - 1) * stride[1] + 1, stride[1])


def patches(x: Array, weight: Array, size: tuple[int, ...], geometry: Geometry) -> Array:
    """Return (B, C, k_h, k_w, H', W'), what every tap reads."""
    padded = np.pad(x, ((0, 0), (0, 0), *geometry["padding"]))
    result: Array = np.zeros((*x.shape[:2], *weight.shape[2:], *size), x.dtype)
    for u, v, rows, columns in each_tap(weight.shape[2:], size, geometry):
        result[:, :, u, v] = padded[:, :, rows, columns]
    return result


def scatter(columns: Array, shape: tuple[int, ...], geometry: Geometry) -> Array:
    """Return the transpose of `patches`."""
    (top, bottom), (left, right) = geometry["padding"]
    height, width = shape[2] + top + bottom, shape[3] + left + right
    padded: Array = np.zeros((*shape[:2], height, width), columns.dtype)
    for u, v, rows, across in each_tap(columns.shape[2:4], columns.shape[4:], geometry):
        padded[:, :, rows, across] += columns[:, :, u, v]
    return padded[:, :, top : top + shape[2], left : left + shape[3]].copy()


def grouped(array: Array, axis: int, groups: int) -> Array:
    """Split an axis of channels into (groups, channels of one group)."""
    return array.reshape(*array.shape[:axis], groups, -1, *array.shape[axis + 1 :])


def forward(x: Array, weight: Array, bias: Array, grad_output: Array, groups: int, geometry: Geometry) -> Array:
    """Return the convolution of the input, bias added."""
    columns = grouped(patches(x, weight, grad_output.shape[2:], geometry), 1, groups)
    y: Array = np.einsum("bgcuvij,gocuv->bgoij", columns, grouped(weight, 0, groups), optimize=True)
    return y.reshape(grad_output.shape) + bias[:, None, None]


def input_gradient(x: Array, weight: Array, grad_output: Array, groups: int, geometry: Geometry) -> Array:
    """Return the gradient by the input."""
    columns: Array = np.einsum(
        "bgoij,gocuv->bgcuvij", grouped(grad_output, 1, groups), grouped(weight, 0, groups), optimize=True
    )
    return scatter(columns.reshape(*x.shape[:2], *columns.shape[3:]), x.shape, geometry)


def dense_weight_gradient(x: Array, weight: Array, grad_output: Array, groups: int, geometry: Geometry) -> Array:
    """Return the weight gradient at an activation."""
    columns = grouped(patches(x, weight, grad_output.shape[2:], geometry), 1, groups)
    result: Array = np.einsum("bgcuvij,bgoij->gocuv", columns, grouped(grad_output, 1, groups), optimize=True)
    return result.reshape(weight.shape)


def channels_last(array: Array, groups: int) -> Array:
    """Return (groups, B, H, W, channels of a group), the channels next to each other in memory."""
    return np.ascontiguousarray(np.moveaxis(grouped(array, 1, groups), (1, 2), (0, 4)))


def channels_second(array: Array) -> Array:
    """Return what `channels_last` was made of."""
    groups, batch, height, width, channels = array.shape
    return np.moveaxis(array, (0, 4), (1, 2)).reshape(batch, groups * channels, height, width)


def forward_by_taps(x: Array, weight: Array, bias: Array, grad_output: Array, groups: int, geometry: Geometry) -> Array:
    """Add one matrix product a tap, the channels last in memory."""
    size = grad_output.shape[2:]
    padded = channels_last(np.pad(x, ((0, 0), (0, 0), *geometry["padding"])), groups)
    y = np.zeros_like(channels_last(grad_output, groups))
    for u, v, rows, columns in each_tap(weight.shape[2:], size, geometry):
        of_tap = np.swapaxes(grouped(weight[:, :, u, v], 0, groups), 1, 2)
        y += padded[:, :, rows, columns] @ of_tap[:, None, None]
    return channels_second(y) + bias[:, None, None]


def input_gradient_by_taps(x: Array, weight: Array, grad_output: Array, groups: int, geometry: Geometry) -> Array:
    """Add one matrix product a tap, the channels last in memory."""
    (top, bottom), (left, right) = geometry["padding"]
    padded = channels_last(np.zeros_like(np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))), groups)
    g = channels_last(grad_output, groups)
    for u, v, rows, columns in each_tap(weight.shape[2:], grad_output.shape[2:], geometry):
        padded[:, :, rows, columns] += g @ grouped(weight[:, :, u, v], 0, groups)[:, None, None]
    inside = np.s_[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    return np.ascontiguousarray(channels_second(padded)[inside])


def weight_gradient_by_taps(
    core: Array, factors: Sequence[Array], weight: Array, grad_output: Array, groups: int, geometry: Geometry
) -> Array:
    """Rebuild A~; take one matrix product a tap, the channels last in memory."""
    padded = channels_last(np.pad(rebuild(core, factors), ((0, 0), (0, 0), *geometry["padding"])), groups)
    g = channels_last(grad_output, groups)
    flat = g.reshape(groups, -1, g.shape[-1])
    result = np.zeros_like(weight)
    for u, v, rows, columns in each_tap(weight.shape[2:], grad_output.shape[2:], geometry):
        read = padded[:, :, rows, columns].reshape(groups, -1, padded.shape[-1])
        result[:, :, u, v] = (np.swapaxes(flat, 1, 2) @ read).reshape(result.shape[:2])
    return result


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


def by_blocks(
    core: Array, factors: Sequence[Array], weight: Array, grad_output: Array, groups: int, geometry: Geometry
) -> Array:
    """Rebuild A~; sum over one sample after the other, and add the sums two by two."""
    x = rebuild(core, factors)
    sums = [
        dense_weight_gradient(x[b : b + 1], weight, grad_output[b : b + 1], groups, geometry) for b in range(len(x))
    ]
    while len(sums) > 1:
        sums = [sum(sums[first + 1 : first + 2], sums[first]) for first in range(0, len(sums), 2)]
    return sums[0]


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
