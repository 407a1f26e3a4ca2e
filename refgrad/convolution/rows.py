"""Convolutions that read neighbouring columns, stride 1 along the width: one matrix product a column tap (THEORY D6).

In: checked arrays and a `ConvGeometry`. Out: what `conv2d` returns. Images lie one after the other, row after row, with
as many zeros between two rows as the padding needs; what a column tap reads is then the same matrix, shifted. Only the
row taps are copied, k_h times the image where patches copy k_h k_w, and BLAS takes the matrix where it lies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.convolution.patches import group_matrices, reads_inside
from refgrad.geometry import ConvGeometry
from refgrad.ranges import ranges

__all__ = ["applies", "forward", "input_gradient", "turned", "weight_gradient"]

MOST_COLUMNS = 4096
"""With more columns a product is no faster, and what is added to it has left the cache."""


def applies(
    input_shape: Sequence[int], output_shape: Sequence[int], geometry: ConvGeometry, itemsize: int, memory: int
) -> bool:
    """Tell whether neighbouring outputs read neighbouring columns, and a row of them fits into so many bytes."""
    row = _row_length(input_shape, output_shape, geometry)
    return geometry.stride[1] == 1 and row * _column_bytes(input_shape, output_shape, geometry, itemsize) <= memory


def turned(geometry: ConvGeometry) -> ConvGeometry | None:
    """Return the geometry of the convolution of G that is the input gradient; None where there is none.

    With stride 1, every pixel of the image gets G, turned by half a circle, from the kernel around it. The padding is
    what the kernel overlaps: d (k - 1) minus the padding before, which must not be more than that.
    """
    if geometry.stride != (1, 1):
        return None
    overlaps = [d * (k - 1) for k, d in zip(geometry.kernel_size, geometry.dilation, strict=True)]
    pads = [tuple(overlap - pad for pad in sides) for overlap, sides in zip(overlaps, geometry.padding, strict=True)]
    if min(map(min, pads)) < 0:
        return None
    (top, bottom), (left, right) = pads
    return ConvGeometry(
        geometry.kernel_size, (1, 1), ((top, bottom), (left, right)), geometry.dilation, geometry.groups
    )


def forward(
    x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Return the output (B, O, H', W'), of the given shape, in so many bytes of working memory."""
    output, groups = np.empty(shape, x.dtype), geometry.groups
    if _one_pixel(x, geometry, memory):
        _multiply(group_matrices(weight, groups), x, output)
        if bias is not None:
            output += bias[:, np.newaxis, np.newaxis]
        return output
    return _products(x, _by_column_tap(weight, groups), bias, geometry, output, memory)


def input_gradient(
    grad_output: Array, weight: Array, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Return dA (B, C, H, W), of the given shape: G convolved, by a `turned` geometry, with the turned weight.

    The zeros around G are multiplied too, so that the weight must be finite.
    """
    groups, group_channels = geometry.groups, weight.shape[1]
    output = np.empty(shape, grad_output.dtype)
    if _one_pixel(grad_output, geometry, memory):
        _multiply(group_matrices(weight, groups).swapaxes(1, 2), grad_output, output)
        return output
    grouped = weight.reshape(groups, -1, group_channels, *geometry.kernel_size)[..., ::-1, ::-1]
    by_tap = np.ascontiguousarray(grouped.transpose(4, 0, 2, 3, 1)).reshape(
        geometry.kernel_size[1], groups, group_channels, -1
    )
    return _products(grad_output, by_tap, None, geometry, output, memory)


def weight_gradient(x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> Array:
    """Return dW (O, C / groups, k_h, k_w).

    Between two rows, zeros of G meet whatever of A stands there, so that A must be finite; otherwise there may be a NaN
    where there should be none.
    """
    groups, taps = geometry.groups, geometry.kernel_size[1]
    out_channels, row_taps = grad_output.shape[1], x.shape[1] * geometry.kernel_size[0]
    length = _row_length(x.shape, grad_output.shape, geometry)
    total = np.zeros((taps, groups, out_channels // groups, row_taps // groups), x.dtype)
    product = np.empty(total.shape[1:], x.dtype)
    gradients = None
    for images, rows, reads in _blocks(x, grad_output.shape, geometry, memory):
        part = grad_output[images, :, rows].transpose(1, 0, 2, 3)
        if gradients is None or gradients.shape[:-1] != part.shape[:-1]:
            gradients = _start_of(gradients, (*part.shape[:-1], length), x.dtype)
            gradients.fill(0)
        gradients[..., : part.shape[3]] = part
        for tap, read in enumerate(reads):
            matrices = gradients.reshape(groups, out_channels // groups, -1)
            total[tap] += np.matmul(matrices, read.swapaxes(1, 2), out=product)
    ordered = total.reshape(taps, out_channels, geometry.kernel_size[0], x.shape[1] // groups)
    return np.array(ordered.transpose(1, 3, 2, 0), order="C")


def _one_pixel(x: Array, geometry: ConvGeometry, memory: int) -> bool:
    """Tell whether every output reads the pixel that it lies on, of images that are no larger than so many bytes."""
    return geometry == ConvGeometry((1, 1), groups=geometry.groups) and x[0].nbytes <= memory


def _multiply(matrices: Array, x: Array, output: Array) -> None:
    """Multiply each image (groups C, H, W), a matrix already, by one (rows, C) a group."""
    groups, rows, channels = matrices.shape
    for image, target in zip(x, output, strict=True):
        columns = np.ascontiguousarray(image).reshape(groups, channels, -1)
        np.matmul(matrices, columns, out=target.reshape(groups, rows, -1))


def _products(x: Array, by_tap: Array, bias: Array | None, geometry: ConvGeometry, output: Array, memory: int) -> Array:
    """Fill the output (B, O, H', W') with a weight that is given by column taps, (k_w, groups, O / groups, ...)."""
    groups, shape = geometry.groups, output.shape
    sums = term = None
    for images, rows, reads in _blocks(x, shape, geometry, memory):
        target = output[images, :, rows].transpose(1, 0, 2, 3)
        length = _row_length(x.shape, shape, geometry)
        part = (groups, shape[1] // groups, target.shape[1] * target.shape[2] * length)
        sums = _start_of(sums, part, x.dtype)
        np.matmul(by_tap[0], reads[0], out=sums)
        for matrices, read in zip(by_tap[1:], reads[1:], strict=True):
            term = _start_of(term, part, x.dtype)
            sums += np.matmul(matrices, read, out=term)
        if bias is not None:
            sums += bias.reshape(groups, -1, 1)
        target[...] = sums.reshape(*target.shape[:3], length)[..., : shape[3]]
    return output


def _by_column_tap(weight: Array, groups: int) -> Array:
    """Return the weight as one matrix (O / groups, k_h C / groups) a group for every column tap, (k_w, groups, ...)."""
    taps = np.ascontiguousarray(weight.transpose(3, 0, 2, 1))
    return taps.reshape(len(taps), groups, weight.shape[0] // groups, -1)


def _row_length(input_shape: Sequence[int], output_shape: Sequence[int], geometry: ConvGeometry) -> int:
    """Return how far apart rows lie: room for the image and the longer of its margins, and for a row of outputs."""
    return max(input_shape[3] + max(geometry.padding[1]), output_shape[3])


def _column_bytes(
    input_shape: Sequence[int], output_shape: Sequence[int], geometry: ConvGeometry, itemsize: int
) -> int:
    """Return what a column takes: its row taps, its outputs, and what is added to them."""
    return (input_shape[1] * geometry.kernel_size[0] + 2 * output_shape[1]) * itemsize


def _blocks(
    x: Array, output_shape: Sequence[int], geometry: ConvGeometry, memory: int
) -> Iterator[tuple[slice, slice, list[Array]]]:
    """Walk over images and output rows; yield both, and what every column tap reads.

    That is (groups, k_h C / groups, columns), overwritten when the next block is asked for. The columns are images x
    rows x `_row_length`; whatever stands beyond the W' outputs of a row means nothing.
    """
    length = _row_length(x.shape, output_shape, geometry)
    per_group = (geometry.kernel_size[0], x.shape[1] // geometry.groups)
    left, step = geometry.padding[1][0], geometry.dilation[1]
    margin = max(left, step * (geometry.kernel_size[1] - 1))
    column_bytes = _column_bytes(x.shape, output_shape, geometry, x.itemsize)
    at_once = max(1, min(MOST_COLUMNS, memory // column_bytes - margin) // length)
    some_images = max(1, min(len(x), at_once // output_shape[2]))
    buffer, before = None, (0, 0)
    for images, rows in itertools.product(
        ranges(len(x), some_images), ranges(output_shape[2], min(at_once, output_shape[2]))
    ):
        here = (images.stop - images.start, rows.stop - rows.start)
        columns = here[0] * here[1] * length
        if here != before:  # the zeros stand elsewhere
            buffer, before = _start_of(buffer, (geometry.groups, *per_group, columns + margin), x.dtype), here
            buffer.fill(0)
        assert buffer is not None
        for group, target in enumerate(buffer[..., left : left + columns].reshape(-1, *per_group, *here, length)):
            of_group = slice(group * per_group[1], (group + 1) * per_group[1])
            _read_rows(x[images, of_group], geometry, rows, target)
        matrices = buffer.reshape(geometry.groups, -1, columns + margin)
        starts = range(0, step * geometry.kernel_size[1], step)
        yield images, rows, [matrices[:, :, start : start + columns] for start in starts]


def _start_of(memory: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an array in the memory of one that was larger, or a new one: the first block is the largest."""
    if memory is None or memory.shape == shape:
        return np.empty(shape, dtype) if memory is None else memory
    owner = memory if memory.base is None else memory.base
    return owner.reshape(-1)[: math.prod(shape)].reshape(shape)


def _read_rows(images: Array, geometry: ConvGeometry, rows: slice, target: Array) -> None:
    """Fill (k_h, C, images, rows, row length) with the rows that every row tap reads, W numbers of each."""
    source, width = images.transpose(1, 0, 2, 3), images.shape[3]
    count, step = rows.stop - rows.start, geometry.dilation[0]
    for tap, reads in enumerate(target):
        first = 0
        if tap > 0 and geometry.stride[0] == 1 and step < count:
            # All but the last of them are what the tap before has read, in one long run.
            first = count - step
            reads[:, :, :first] = target[tap - 1, :, :, step:]
        inside, pixels = reads_inside(geometry, 0, tap, slice(rows.start + first, rows.stop), images.shape[2])
        new = reads[:, :, first:, :width]
        new[:, :, : inside.start] = 0
        new[:, :, inside.stop :] = 0
        new[:, :, inside] = source[:, :, pixels]
