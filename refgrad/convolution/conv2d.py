"""The exact two-dimensional convolution and its three gradients, for every geometry (THEORY D6).

In: arrays (B, C, H, W), (O, C / groups, k_h, k_w), (B, O, H', W') and a `ConvGeometry`. Out: new arrays. Patches are
formed for a block of output positions, handed to BLAS and forgotten. Infinities and NaN go through as IEEE 754 says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refgrad.arguments import Array, float_array, floats_of_one_dtype, shape_text
from refgrad.convolution import blocks, correlation, few_channels, planes, rows, small_groups
from refgrad.convolution.patches import (
    batch_last,
    gather_patches,
    group_matrices,
    output_part,
    scatter_patches,
    workspaces,
)
from refgrad.geometry import ConvGeometry

__all__ = ["conv2d_bias_gradient", "conv2d_forward", "conv2d_input_gradient", "conv2d_weight_gradient"]


def conv2d_forward(x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry) -> Array:
    """Return the convolution of `x` with `weight`, plus `bias`.

    Y[b, o, i, j] = bias[o] + sum_{c,u,v} W[o, c, u, v] A[b, c, i s_h + u d_h - top, j s_w + v d_w - left], c over the
    channels of o's group, A zero outside of the image: Y = im2col(A) W^T + bias (THEORY D6).

    Parameters
    ----------
    x : array (B, C, H, W)
        The input A.
    weight : array (O, C / groups, k_h, k_w)
        The kernels W.
    bias : array (O,) or None
        Added to every output channel.
    geometry : ConvGeometry
        Kernel size, stride, padding, dilation, groups.

    Returns
    -------
    array (B, O, H', W')
        Off by at most gamma_n (im2col(|A|) |W|^T + |bias|), n = C / groups k_h k_w + 1 (THEORY T15).

    Raises
    ------
    TypeError
        Where an argument is no float32 or float64 array, or they differ in dtype.
    ValueError
        Where an array is empty or the shapes do not fit one another.

    Examples
    --------
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> conv2d_forward(x, np.ones((1, 1, 2, 2)), np.array([0.5]), ConvGeometry.of(2))
    array([[[[ 8.5, 12.5],
             [20.5, 24.5]]]])
    """
    float_array("x", x, axes="B C H W")
    _check_weight(weight)
    _check_geometry(geometry)
    if bias is not None:
        float_array("bias", bias, axes="O")
    dtype = floats_of_one_dtype(x=x, weight=weight, bias=bias)
    shape = geometry.output_shape(x.shape, weight.shape)
    if bias is not None and bias.shape != shape[1:2]:
        raise ValueError(
            f"bias must have one entry for each of the {shape[1]} out channels of the weight, "
            f"got {shape_text(bias.shape, 'O')}"
        )

    memory = blocks.affordable()
    if small_groups.applies(x.shape, shape, geometry, dtype.itemsize, memory):
        return small_groups.forward(x, weight, bias, geometry, shape, memory)
    if planes.applies(x, shape, geometry, memory + weight.nbytes):
        return planes.forward(x, weight, bias, geometry, shape, memory + weight.nbytes)
    if rows.applies(x.shape, shape, geometry, dtype.itemsize, memory):
        return rows.forward(x, weight, bias, geometry, shape, memory)
    output = np.empty(shape, dtype)
    matrices = group_matrices(weight, geometry.groups)
    for block, patches, product in workspaces(x.shape, shape, matrices, memory):
        gather_patches(batch_last(x[block[0]]), geometry, block, patches)
        np.matmul(matrices, patches, out=product)
        if bias is not None:
            np.add(product, bias.reshape(geometry.groups, -1, 1), out=product)
        part = output_part(output, block)
        part[...] = product.reshape(part.shape)
    return output


def conv2d_input_gradient(
    grad_output: Array, weight: Array, geometry: ConvGeometry, input_size: Sequence[int]
) -> Array:
    """Return dA, the transposed convolution of `grad_output` with `weight`.

    dA = im2col^T(G W): every output position gives G W back to the pixels that it was read from (THEORY D6). A pixel
    that no position reads gets exactly 0.

    Parameters
    ----------
    grad_output : array (B, O, H', W')
        The gradient G of the output.
    weight : array (O, C / groups, k_h, k_w)
        The kernels W.
    geometry : ConvGeometry
        Kernel size, stride, padding, dilation, groups.
    input_size : pair of int
        (H, W); more than one input size can have the same output size.

    Returns
    -------
    array (B, C, H, W)
        Off by at most gamma_n of the same expression in |G| and |W|, n = O / groups k_h k_w (THEORY T15).

    Raises
    ------
    TypeError
        Where an argument is no float32 or float64 array, or they differ in dtype.
    ValueError
        Where an array is empty or the shapes do not fit one another.

    Examples
    --------
    >>> conv2d_input_gradient(np.ones((1, 1, 1, 2)), np.ones((1, 1, 1, 2)), ConvGeometry.of((1, 2)), (2, 3))
    Traceback (most recent call last):
        ...
    ValueError: grad_output must have the shape of the output, (B=1, O=1, H'=2, W'=2), got (B=1, O=1, H'=1, W'=2)
    >>> conv2d_input_gradient(np.ones((1, 1, 1, 2)), np.ones((1, 1, 1, 2)), ConvGeometry.of((1, 2)), (1, 3))
    array([[[[1., 2., 1.]]]])
    """
    float_array("grad_output", grad_output, axes="B O H' W'")
    _check_weight(weight)
    _check_geometry(geometry)
    dtype = floats_of_one_dtype(grad_output=grad_output, weight=weight)
    geometry.output_size(input_size)
    height, width = input_size
    input_shape = (grad_output.shape[0], geometry.groups * weight.shape[1], height, width)
    _check_grad_output(grad_output, geometry.output_shape(input_shape, weight.shape))
    input_bytes = math.prod(input_shape) * dtype.itemsize
    beside_copy = blocks.affordable_beside(input_bytes, weight.nbytes)
    # Beside a large weight a quarter of a small input would be next to nothing.
    memory = blocks.affordable_beside(max(input_bytes, 2 * (weight.nbytes - input_bytes)))
    if small_groups.applies(input_shape, grad_output.shape, geometry, dtype.itemsize, memory):
        return small_groups.input_gradient(grad_output, weight, geometry, input_shape, memory)
    if blocks.all_finite(weight):
        if planes.gives_back(grad_output, input_shape, geometry, memory):
            return planes.input_gradient(grad_output, weight, geometry, input_shape, memory)
        if few_channels.gives_back(grad_output, input_shape, geometry, memory):
            grad_input = few_channels.input_gradient(grad_output, weight, geometry, input_shape, memory)
            if blocks.all_finite(grad_input):
                return grad_input
        turned = rows.turned(geometry)
        if turned is not None and rows.applies(grad_output.shape, input_shape, turned, dtype.itemsize, beside_copy):
            return rows.input_gradient(grad_output, weight, turned, input_shape, beside_copy)
    grad_input = np.zeros(input_shape, dtype)
    matrices = group_matrices(weight, geometry.groups)
    for block, patches, gradients in workspaces(input_shape, grad_output.shape, matrices, memory):
        part = output_part(grad_output, block)
        gradients.reshape(part.shape)[...] = part
        by_column = matrices.transpose(0, 2, 1)
        # an outer product is what matmul is slowest at
        (np.multiply if matrices.shape[1] == 1 else np.matmul)(by_column, gradients, out=patches)
        target = grad_input[block[0]].transpose(1, 2, 3, 0)
        if target.shape[3] == 1:  # added to where it stands: there may be further blocks of the same image
            scatter_patches(patches, geometry, block, target)
        else:
            side_by_side = np.zeros(target.shape, dtype)
            scatter_patches(patches, geometry, block, side_by_side)
            target[...] = side_by_side
            del side_by_side  # before the next block makes its own
    return grad_input


def conv2d_weight_gradient(x: Array, grad_output: Array, geometry: ConvGeometry) -> Array:
    """Return dW, the correlation of `grad_output` with `x`.

    dW = G^T im2col(A), group by group (THEORY D6). A group's dW depends on its own channels alone, bit for bit.

    Parameters
    ----------
    x : array (B, C, H, W)
        The input A.
    grad_output : array (B, O, H', W')
        The gradient G of the output.
    geometry : ConvGeometry
        Kernel size, stride, padding, dilation, groups.

    Returns
    -------
    array (O, C / groups, k_h, k_w)
        Off by at most gamma_n |G|^T im2col(|A|), n = B H' W' (THEORY T15).

    Raises
    ------
    TypeError
        Where an argument is no float32 or float64 array, or they differ in dtype.
    ValueError
        Where an array is empty or the shapes do not fit one another.

    Examples
    --------
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> conv2d_weight_gradient(x, np.ones((1, 1, 2, 2)), ConvGeometry.of(2))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    float_array("x", x, axes="B C H W")
    float_array("grad_output", grad_output, axes="B O H' W'")
    _check_geometry(geometry)
    dtype = floats_of_one_dtype(x=x, grad_output=grad_output)
    group_channels = max(1, x.shape[1] // geometry.groups)
    weight_shape = (grad_output.shape[1], group_channels, *geometry.kernel_size)
    _check_grad_output(grad_output, geometry.output_shape(x.shape, weight_shape))
    memory = blocks.affordable_beside(x.nbytes)
    if small_groups.applies(x.shape, grad_output.shape, geometry, dtype.itemsize, memory):
        return small_groups.weight_gradient(x, grad_output, geometry, memory)
    if correlation.applies(x, grad_output, geometry, memory):
        return correlation.weight_gradient(x, grad_output, geometry, memory)
    if few_channels.applies(x, grad_output, geometry, memory):
        return few_channels.weight_gradient(x, grad_output, geometry, memory)
    if rows.applies(x.shape, grad_output.shape, geometry, dtype.itemsize, memory):
        with np.errstate(invalid="ignore"):  # where there is something to warn of, it is computed again
            grad_weight = rows.weight_gradient(x, grad_output, geometry, memory)
        if blocks.all_finite(grad_weight):
            return grad_weight
    grad_weight = np.zeros(weight_shape, dtype)
    matrices = group_matrices(grad_weight, geometry.groups)  # a view: what is added to it is added to grad_weight
    for block, patches, gradients in workspaces(x.shape, grad_output.shape, matrices, memory):
        gather_patches(batch_last(x[block[0]]), geometry, block, patches)
        part = output_part(grad_output, block)
        gradients.reshape(part.shape)[...] = part
        matrices += np.matmul(gradients, patches.transpose(0, 2, 1))
    return grad_weight


def conv2d_bias_gradient(grad_output: Array) -> Array:
    """Return db, the sum of `grad_output` over the batch and all positions.

    db = G^T 1 (THEORY D6).

    Parameters
    ----------
    grad_output : array (B, O, H', W')
        The gradient G of the output.

    Returns
    -------
    array (O,)
        Off by at most gamma_n |G|^T 1, n = B H' W' (THEORY T15).

    Raises
    ------
    TypeError
        Where `grad_output` is no float32 or float64 array.
    ValueError
        Where it is empty or has not four axes.

    Examples
    --------
    >>> conv2d_bias_gradient(np.ones((2, 3, 4, 5)))
    array([40., 40., 40.])
    """
    float_array("grad_output", grad_output, axes="B O H' W'")
    total: Array = grad_output.sum(axis=(0, 2, 3))
    return total


def _check_weight(weight: Array) -> None:
    float_array("weight", weight, axes="O C/groups k_h k_w")


def _check_geometry(geometry: ConvGeometry) -> None:
    if not isinstance(geometry, ConvGeometry):
        raise TypeError(
            f"geometry must be a ConvGeometry, as ConvGeometry.of(3, padding=1) makes one, got {geometry!r}"
        )


def _check_grad_output(grad_output: Array, shape: tuple[int, int, int, int]) -> None:
    if grad_output.shape != shape:
        axes = "B O H' W'"
        raise ValueError(
            f"grad_output must have the shape of the output, {shape_text(shape, axes)}, "
            f"got {shape_text(grad_output.shape, axes)}"
        )
