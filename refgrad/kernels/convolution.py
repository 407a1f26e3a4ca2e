"""Convolutions whose groups are too small for BLAS, depthwise ones above all: loops over taps, without patches.

In: C-contiguous arrays of one dtype with the images of the batch along their last axis, and the numbers of a geometry
as (height, width) pairs; `before` is the padding at the top and the left. Out: the last array of a kernel, added to.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from refgrad.arguments import Array
from refgrad.kernels.jit import kernel, summing_kernel

__all__ = [
    "add_run",
    "direct_forward",
    "direct_input_gradient",
    "direct_weight_gradient",
    "positions_inside",
    "run_product",
]

Pair: TypeAlias = tuple[int, int]


@kernel
def positions_inside(offset: int, stride: int, size: int, count: int) -> Pair:
    """Return first and stop of those i in 0 <= i < count for which 0 <= offset + i * stride < size."""
    first = max(0, min(count, -(offset // stride)))
    stop = max(first, min(count, (size - 1 - offset) // stride + 1))
    return first, stop


# A run is addressed in a flattened array and by unsigned numbers: a signed index may be negative, counted from the end,
# and the test for that keeps the compiler from using vector instructions.


@kernel
def add_run(target: Array, write: int, source: Array, read: int, factor: Any, count: int) -> None:
    """Add `factor` times the `count` numbers of `source` from index `read` to those of `target` from index `write`."""
    to, from_ = np.uint64(write), np.uint64(read)
    for j in range(count):
        target[to + np.uint64(j)] += factor * source[from_ + np.uint64(j)]


@summing_kernel
def run_product(left: Array, left_first: int, right: Array, right_first: int, count: int) -> Any:
    """Return the inner product of `count` numbers of `left` and of `right`, each from its first index on."""
    in_left, in_right = np.uint64(left_first), np.uint64(right_first)
    total = left.dtype.type(0)
    for j in range(count):
        total += left[in_left + np.uint64(j)] * right[in_right + np.uint64(j)]
    return total


@kernel
def direct_forward(x: Array, weight: Array, stride: Pair, before: Pair, dilation: Pair, output: Array) -> None:
    """Add the convolution of `x` with `weight` to `output` (D6).

    Parameters
    ----------
    x : array (C, H, W, B)
        The input.
    weight : array (O, C / groups, k_h, k_w)
        The number of groups follows from the shapes.
    stride, before, dilation : pairs
        The geometry.
    output : array (O, H', W', B)
        Added to.
    """
    channels, height, width, images = x.shape
    out_channels, group_channels, kernel_height, kernel_width = weight.shape
    group_outputs = out_channels // (channels // group_channels)
    rows, columns = output.shape[1], output.shape[2]
    source, target = x.reshape(-1), output.reshape(-1)
    for out_channel in range(out_channels):
        for c in range(group_channels):
            channel = out_channel // group_outputs * group_channels + c
            for u in range(kernel_height):
                top = u * dilation[0] - before[0]
                first_row, stop_row = positions_inside(top, stride[0], height, rows)
                for v in range(kernel_width):
                    left = v * dilation[1] - before[1]
                    first, stop = positions_inside(left, stride[1], width, columns)
                    if first == stop:
                        continue
                    tap = weight[out_channel, c, u, v]
                    for i in range(first_row, stop_row):
                        read = ((channel * height + top + i * stride[0]) * width + left + first * stride[1]) * images
                        write = ((out_channel * rows + i) * columns + first) * images
                        if stride[1] == 1:
                            add_run(target, write, source, read, tap, (stop - first) * images)
                        else:
                            for j in range(stop - first):
                                add_run(target, write + j * images, source, read + j * stride[1] * images, tap, images)


@kernel
def direct_input_gradient(
    grad_output: Array, weight: Array, stride: Pair, before: Pair, dilation: Pair, grad_input: Array
) -> None:
    """Add the transposed convolution of `grad_output` with `weight` to `grad_input` (D6).

    Parameters
    ----------
    grad_output : array (O, H', W', B)
        The gradient of the output.
    weight : array (O, C / groups, k_h, k_w)
        The number of groups follows from the shapes.
    stride, before, dilation : pairs
        The geometry.
    grad_input : array (C, H, W, B)
        Added to.
    """
    channels, height, width, images = grad_input.shape
    out_channels, group_channels, kernel_height, kernel_width = weight.shape
    group_outputs = out_channels // (channels // group_channels)
    rows, columns = grad_output.shape[1], grad_output.shape[2]
    source, target = grad_output.reshape(-1), grad_input.reshape(-1)
    for out_channel in range(out_channels):
        for c in range(group_channels):
            channel = out_channel // group_outputs * group_channels + c
            for u in range(kernel_height):
                top = u * dilation[0] - before[0]
                first_row, stop_row = positions_inside(top, stride[0], height, rows)
                for v in range(kernel_width):
                    left = v * dilation[1] - before[1]
                    first, stop = positions_inside(left, stride[1], width, columns)
                    if first == stop:
                        continue
                    tap = weight[out_channel, c, u, v]
                    for i in range(first_row, stop_row):
                        write = ((channel * height + top + i * stride[0]) * width + left + first * stride[1]) * images
                        read = ((out_channel * rows + i) * columns + first) * images
                        if stride[1] == 1:
                            add_run(target, write, source, read, tap, (stop - first) * images)
                        else:
                            for j in range(stop - first):
                                add_run(target, write + j * stride[1] * images, source, read + j * images, tap, images)


@kernel
def direct_weight_gradient(
    x: Array, grad_output: Array, stride: Pair, before: Pair, dilation: Pair, grad_weight: Array
) -> None:
    """Add the weight gradient to `grad_weight` (D6).

    Parameters
    ----------
    x : array (C, H, W, B)
        The input.
    grad_output : array (O, H', W', B)
        The gradient of the output.
    stride, before, dilation : pairs
        The geometry.
    grad_weight : array (O, C / groups, k_h, k_w)
        Added to; the number of groups follows from the shapes.
    """
    channels, height, width, images = x.shape
    out_channels, group_channels, kernel_height, kernel_width = grad_weight.shape
    group_outputs = out_channels // (channels // group_channels)
    rows, columns = grad_output.shape[1], grad_output.shape[2]
    values, gradients = x.reshape(-1), grad_output.reshape(-1)
    for out_channel in range(out_channels):
        for c in range(group_channels):
            channel = out_channel // group_outputs * group_channels + c
            for u in range(kernel_height):
                top = u * dilation[0] - before[0]
                first_row, stop_row = positions_inside(top, stride[0], height, rows)
                for v in range(kernel_width):
                    left = v * dilation[1] - before[1]
                    first, stop = positions_inside(left, stride[1], width, columns)
                    if first == stop:
                        continue
                    total = grad_weight[out_channel, c, u, v]
                    for i in range(first_row, stop_row):
                        read = ((channel * height + top + i * stride[0]) * width + left + first * stride[1]) * images
                        begin = ((out_channel * rows + i) * columns + first) * images
                        if stride[1] == 1:
                            total += run_product(gradients, begin, values, read, (stop - first) * images)
                        else:
                            for j in range(stop - first):
                                at = read + j * stride[1] * images
                                total += run_product(gradients, begin + j * images, values, at, images)
                    grad_weight[out_channel, c, u, v] = total
