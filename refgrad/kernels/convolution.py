"""Convolutions whose groups are too small for BLAS, depthwise ones above all: loops over taps, without patches.

In: C-contiguous arrays of one dtype, and the numbers of a geometry as (height, width) pairs; `before` is the padding at
the top and the left. Out: the last array of a kernel, added to.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from refgrad.arguments import Array
from refgrad.kernels.jit import kernel, summing_kernel

__all__ = [
    "add_line",
    "direct_forward",
    "direct_input_gradient",
    "direct_weight_gradient",
    "line_product",
    "positions_inside",
]

Pair: TypeAlias = tuple[int, int]


@kernel
def positions_inside(offset: int, stride: int, size: int, count: int) -> Pair:
    """Return first and stop of those i in 0 <= i < count for which 0 <= offset + i * stride < size."""
    first = max(0, min(count, -(offset // stride)))
    stop = max(first, min(count, (size - 1 - offset) // stride + 1))
    return first, stop


# Lines are addressed in flattened arrays and by unsigned numbers: a signed index may be negative, counted from the end,
# and the test for that keeps the compiler from using vector instructions.


@kernel
def add_line(
    target: Array, write: int, write_step: int, source: Array, read: int, read_step: int, factor: Any, count: int
) -> None:
    """Add `factor` times a line of `source` to a line of `target`; each begins at an index and has a step."""
    first_write, first_read = np.uint64(write), np.uint64(read)
    if write_step == 1 and read_step == 1:
        for j in range(count):
            target[first_write + np.uint64(j)] += factor * source[first_read + np.uint64(j)]
    else:
        for j in range(count):
            target[first_write + np.uint64(j * write_step)] += factor * source[first_read + np.uint64(j * read_step)]


@summing_kernel
def line_product(left: Array, left_first: int, right: Array, right_first: int, right_step: int, count: int) -> Any:
    """Return the inner product of two lines, that of `right` with a step."""
    first_left, first_right = np.uint64(left_first), np.uint64(right_first)
    total = left.dtype.type(0)
    if right_step == 1:
        for j in range(count):
            total += left[first_left + np.uint64(j)] * right[first_right + np.uint64(j)]
    else:
        for j in range(count):
            total += left[first_left + np.uint64(j)] * right[first_right + np.uint64(j * right_step)]
    return total


@kernel
def direct_forward(x: Array, weight: Array, stride: Pair, before: Pair, dilation: Pair, output: Array) -> None:
    """Add the convolution of `x` with `weight` to `output`, without patches (D6).

    Parameters
    ----------
    x : array (B, C, H, W)
        The input.
    weight : array (O, C / groups, k_h, k_w)
        The number of groups follows from the shapes.
    stride, before, dilation : pairs
        The geometry.
    output : array (B, O, H', W')
        Added to.
    """
    images, channels, height, width = x.shape
    out_channels, group_channels, kernel_height, kernel_width = weight.shape
    group_outputs = out_channels // (channels // group_channels)
    rows, columns = output.shape[2], output.shape[3]
    source, target = x.reshape(-1), output.reshape(-1)
    for image in range(images):
        for out_channel in range(out_channels):
            for c in range(group_channels):
                channel = out_channel // group_outputs * group_channels + c
                for u in range(kernel_height):
                    top = u * dilation[0] - before[0]
                    first_row, stop_row = positions_inside(top, stride[0], height, rows)
                    for v in range(kernel_width):
                        left = v * dilation[1] - before[1]
                        first, stop = positions_inside(left, stride[1], width, columns)
                        tap = weight[out_channel, c, u, v]
                        for i in range(first_row, stop_row):
                            line = (image * channels + channel) * height + top + i * stride[0]
                            read = line * width + left + first * stride[1]
                            write = ((image * out_channels + out_channel) * rows + i) * columns + first
                            add_line(target, write, 1, source, read, stride[1], tap, stop - first)


@kernel
def direct_input_gradient(
    grad_output: Array, weight: Array, stride: Pair, before: Pair, dilation: Pair, grad_input: Array
) -> None:
    """Add the transposed convolution of `grad_output` with `weight` to `grad_input`, without patches (D6).

    Parameters
    ----------
    grad_output : array (B, O, H', W')
        The gradient of the output.
    weight : array (O, C / groups, k_h, k_w)
        The number of groups follows from the shapes.
    stride, before, dilation : pairs
        The geometry.
    grad_input : array (B, C, H, W)
        Added to.
    """
    images, channels, height, width = grad_input.shape
    out_channels, group_channels, kernel_height, kernel_width = weight.shape
    group_outputs = out_channels // (channels // group_channels)
    rows, columns = grad_output.shape[2], grad_output.shape[3]
    source, target = grad_output.reshape(-1), grad_input.reshape(-1)
    for image in range(images):
        for out_channel in range(out_channels):
            for c in range(group_channels):
                channel = out_channel // group_outputs * group_channels + c
                for u in range(kernel_height):
                    top = u * dilation[0] - before[0]
                    first_row, stop_row = positions_inside(top, stride[0], height, rows)
                    for v in range(kernel_width):
                        left = v * dilation[1] - before[1]
                        first, stop = positions_inside(left, stride[1], width, columns)
                        tap = weight[out_channel, c, u, v]
                        for i in range(first_row, stop_row):
                            line = (image * channels + channel) * height + top + i * stride[0]
                            write = line * width + left + first * stride[1]
                            read = ((image * out_channels + out_channel) * rows + i) * columns + first
                            add_line(target, write, stride[1], source, read, 1, tap, stop - first)


@kernel
def direct_weight_gradient(
    x: Array, grad_output: Array, stride: Pair, before: Pair, dilation: Pair, grad_weight: Array
) -> None:
    """Add the weight gradient to `grad_weight`, without patches (D6).

    Parameters
    ----------
    x : array (B, C, H, W)
        The input.
    grad_output : array (B, O, H', W')
        The gradient of the output.
    stride, before, dilation : pairs
        The geometry.
    grad_weight : array (O, C / groups, k_h, k_w)
        Added to; the number of groups follows from the shapes.
    """
    images, channels, height, width = x.shape
    out_channels, group_channels, kernel_height, kernel_width = grad_weight.shape
    group_outputs = out_channels // (channels // group_channels)
    rows, columns = grad_output.shape[2], grad_output.shape[3]
    values, gradients = x.reshape(-1), grad_output.reshape(-1)
    for image in range(images):
        for out_channel in range(out_channels):
            for c in range(group_channels):
                channel = out_channel // group_outputs * group_channels + c
                for u in range(kernel_height):
                    top = u * dilation[0] - before[0]
                    first_row, stop_row = positions_inside(top, stride[0], height, rows)
                    for v in range(kernel_width):
                        left = v * dilation[1] - before[1]
                        first, stop = positions_inside(left, stride[1], width, columns)
                        for i in range(first_row, stop_row):
                            line = (image * channels + channel) * height + top + i * stride[0]
                            read = line * width + left + first * stride[1]
                            begin = ((image * out_channels + out_channel) * rows + i) * columns + first
                            grad_weight[out_channel, c, u, v] += line_product(
                                gradients, begin, values, read, stride[1], stop - first
                            )
