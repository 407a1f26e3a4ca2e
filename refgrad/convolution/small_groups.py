"""Convolutions whose groups are so small that BLAS would idle, depthwise layers above all (THEORY D6).

In: checked arrays and a `ConvGeometry`. Out: what `conv2d` returns, by compiled loops over taps and without patches.
Images and groups are cut into parts that, copied with the images side by side, fit into the working memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from refgrad.arguments import Array
from refgrad.geometry import ConvGeometry
from refgrad.ranges import ranges

__all__ = ["applies", "forward", "input_gradient", "weight_gradient"]

LARGEST_PRODUCT = 8
"""Groups of at most so many (input channel, output channel) pairs: there, loops were measured to outrun BLAS."""


def applies(
    input_shape: Sequence[int], output_shape: Sequence[int], geometry: ConvGeometry, itemsize: int, memory: int
) -> bool:
    """Tell whether a convolution has groups, and small ones, and one of them fits into so many bytes.

    A layer of a single group has little to do when it is small: it need not wait for a compiler.
    """
    pairs = input_shape[1] // geometry.groups * (output_shape[1] // geometry.groups)
    small = geometry.groups > 1 and pairs <= LARGEST_PRODUCT
    return small and _capacity(input_shape, output_shape, geometry, itemsize, memory) >= 1


def forward(
    x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Return the output (B, O, H', W'), of the given shape."""
    from refgrad.kernels.convolution import direct_forward

    output = np.empty(shape, x.dtype)
    for images, channels, out_channels in _parts(x.shape, shape, geometry, x.itemsize, memory):
        part = output[images, out_channels].transpose(1, 2, 3, 0)
        sums = np.zeros(part.shape, x.dtype)
        if bias is not None:
            sums += bias[out_channels, np.newaxis, np.newaxis, np.newaxis]
        direct_forward(_side_by_side(x[images, channels]), weight[out_channels].copy(), *_numbers(geometry), sums)
        part[...] = sums
        del sums  # before the next part makes its own
    return output


def input_gradient(
    grad_output: Array, weight: Array, geometry: ConvGeometry, shape: tuple[int, int, int, int], memory: int
) -> Array:
    """Return dA (B, C, H, W), of the given shape."""
    from refgrad.kernels.convolution import direct_input_gradient

    grad_input = np.empty(shape, grad_output.dtype)
    for images, channels, out_channels in _parts(shape, grad_output.shape, geometry, grad_output.itemsize, memory):
        part = grad_input[images, channels].transpose(1, 2, 3, 0)
        sums = np.zeros(part.shape, grad_output.dtype)
        gradients = _side_by_side(grad_output[images, out_channels])
        direct_input_gradient(gradients, weight[out_channels].copy(), *_numbers(geometry), sums)
        part[...] = sums
        del sums, gradients  # before the next part makes its own
    return grad_input


def weight_gradient(x: Array, grad_output: Array, geometry: ConvGeometry, memory: int) -> Array:
    """Return dW (O, C / groups, k_h, k_w)."""
    from refgrad.kernels.convolution import direct_weight_gradient

    group_channels = x.shape[1] // geometry.groups
    grad_weight = np.zeros((grad_output.shape[1], group_channels, *geometry.kernel_size), x.dtype)
    for images, channels, out_channels in _parts(x.shape, grad_output.shape, geometry, x.itemsize, memory):
        values, gradients = _side_by_side(x[images, channels]), _side_by_side(grad_output[images, out_channels])
        direct_weight_gradient(values, gradients, *_numbers(geometry), grad_weight[out_channels])
        del values, gradients  # before the next part makes its own
    return grad_weight


def _capacity(
    input_shape: Sequence[int], output_shape: Sequence[int], geometry: ConvGeometry, itemsize: int, memory: int
) -> int:
    """Return how many pairs of an image and a group fit into so many bytes."""
    numbers = math.prod(input_shape[1:]) + math.prod(output_shape[1:])
    return memory * geometry.groups // (numbers * itemsize)


def _parts(
    input_shape: Sequence[int], output_shape: Sequence[int], geometry: ConvGeometry, itemsize: int, memory: int
) -> Iterator[tuple[slice, slice, slice]]:
    """Walk over images and groups in parts; of a part, yield its images, input channels and output channels."""
    capacity = _capacity(input_shape, output_shape, geometry, itemsize, memory)
    some_images = min(input_shape[0], capacity)
    per_group = (input_shape[1] // geometry.groups, output_shape[1] // geometry.groups)
    for images in ranges(input_shape[0], some_images):
        for groups in ranges(geometry.groups, capacity // some_images):
            channels, out_channels = (slice(groups.start * count, groups.stop * count) for count in per_group)
            yield images, channels, out_channels


def _side_by_side(array: Array) -> Array:
    """Copy (B, C, H, W) to (C, H, W, B): a kernel then gets one kind of array, whatever the caller's was."""
    return np.array(array.transpose(1, 2, 3, 0), order="C")


def _numbers(geometry: ConvGeometry) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return stride, padding at the top and the left, and dilation, as the kernels take them."""
    (top, _), (left, _) = geometry.padding
    return geometry.stride, (top, left), geometry.dilation
