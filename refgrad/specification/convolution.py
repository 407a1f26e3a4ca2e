"""Convolution. One sum over everything that meets, <G, Y> = sum G[b,o,i,j] W[o,c',u,v] A[b,c,row,column].

In: two of A, W and G. Out: that sum's derivative in the third: the output, the input's gradient, the weight's gradient.
The loops run over nested lists: they read like arrays, and Python's own numbers are five times as fast in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from refgrad.specification.shared import Array, Pair, fits, float64_array, with_bias

__all__ = ["conv2d", "conv2d_bias_gradient", "conv2d_input_gradient", "conv2d_weight_gradient", "im2col"]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Return the convolution of deep learning, which is a cross-correlation (THEORY D6).

    Y[b, o, i, j] = b[o] + sum W[o, c', u, v] A[b, c, i s_h + u d_h - top, j s_w + v d_w - left] over the pixels inside
    the picture, with c = c' + (C / groups) * (the group of o).

    Parameters
    ----------
    x : float64 array (B, C, H, W)
        A.
    weight : float64 array (O, C / groups, k_h, k_w)
        W.
    bias : float64 array (O,), optional
        b.
    stride, dilation : pair of int
        (height, width).
    padding : pair of pairs of int
        ((top, bottom), (left, right)), zeros.
    groups : int
        Divides C and O.

    Returns
    -------
    float64 array (B, O, H', W')

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the shapes and the geometry do not fit.

    Examples
    --------
    >>> conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), padding=((0, 1), (0, 0)))[0, 0]
    array([[4., 4.],
           [4., 4.],
           [2., 2.]])
    """
    float64_array("x", x, axes=4)
    float64_array("weight", weight, axes=4)
    geometry = _Geometry.of(x.shape, weight.shape[0], weight.shape[2:], stride, padding, dilation, groups)
    fits("weight (O, C / groups, k_h, k_w)", weight.shape, geometry.weight_shape)
    A, W, Y = x.tolist(), weight.tolist(), np.zeros(geometry.output_shape).tolist()
    for b, (o, inner, c), (i, u, row), (j, v, column) in geometry.meetings():
        Y[b][o][i][j] += W[o][inner][u][v] * A[b][c][row][column]
    return with_bias(np.array(Y), bias, axis=1)


def conv2d_input_gradient(
    grad_output: Array,
    weight: Array,
    input_size: Pair,
    *,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Return dA, the transposed convolution of G with W (THEORY D6).

    Parameters
    ----------
    grad_output : float64 array (B, O, H', W')
        G.
    weight : float64 array (O, C / groups, k_h, k_w)
        W.
    input_size : pair of int
        (H, W).
    stride, padding, dilation, groups
        As for `conv2d`.

    Returns
    -------
    float64 array (B, C, H, W)

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the shapes and the geometry do not fit.

    Examples
    --------
    >>> conv2d_input_gradient(np.ones((1, 1, 2, 1)), np.array([[[[5.0]]]]), (4, 1), stride=(2, 1))[0, 0, :, 0]
    array([5., 0., 5., 0.])
    """
    float64_array("grad_output", grad_output, axes=4)
    float64_array("weight", weight, axes=4)
    shape = (grad_output.shape[0], weight.shape[1] * groups, *input_size)
    geometry = _Geometry.of(shape, weight.shape[0], weight.shape[2:], stride, padding, dilation, groups)
    fits("grad_output (B, O, H', W')", grad_output.shape, geometry.output_shape)
    G, W, dA = grad_output.tolist(), weight.tolist(), np.zeros(shape).tolist()
    for b, (o, inner, c), (i, u, row), (j, v, column) in geometry.meetings():
        dA[b][c][row][column] += W[o][inner][u][v] * G[b][o][i][j]
    return np.array(dA)


def conv2d_weight_gradient(
    x: Array,
    grad_output: Array,
    kernel_size: Pair,
    *,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Return dW = D(A, G), bilinear in A and G (THEORY D6, T9).

    Parameters
    ----------
    x : float64 array (B, C, H, W)
        A.
    grad_output : float64 array (B, O, H', W')
        G.
    kernel_size : pair of int
        (k_h, k_w); H' and W' do not tell it where the stride is more than 1.
    stride, padding, dilation, groups
        As for `conv2d`.

    Returns
    -------
    float64 array (O, C / groups, k_h, k_w)

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the shapes and the geometry do not fit.

    Examples
    --------
    >>> conv2d_weight_gradient(np.arange(4.0).reshape(1, 1, 2, 2), np.ones((1, 1, 1, 2)), (2, 1))[0, 0]
    array([[1.],
           [5.]])
    """
    float64_array("x", x, axes=4)
    float64_array("grad_output", grad_output, axes=4)
    geometry = _Geometry.of(x.shape, grad_output.shape[1], kernel_size, stride, padding, dilation, groups)
    fits("grad_output (B, O, H', W')", grad_output.shape, geometry.output_shape)
    A, G, dW = x.tolist(), grad_output.tolist(), np.zeros(geometry.weight_shape).tolist()
    for b, (o, inner, c), (i, u, row), (j, v, column) in geometry.meetings():
        dW[o][inner][u][v] += G[b][o][i][j] * A[b][c][row][column]
    return np.array(dW)


def conv2d_bias_gradient(grad_output: Array) -> Array:
    """Return db, the sum of G over everything but the out channels (THEORY D6).

    Parameters
    ----------
    grad_output : float64 array (B, O, H', W')
        G.

    Returns
    -------
    float64 array (O,)

    Raises
    ------
    TypeError
        Where `grad_output` is no float64 array.
    ValueError
        Where it has not four axes.

    Examples
    --------
    >>> conv2d_bias_gradient(np.ones((2, 1, 3, 4)))
    array([24.])
    """
    float64_array("grad_output", grad_output, axes=4)
    return np.array([math.fsum(grad_output[:, o].ravel()) for o in range(grad_output.shape[1])])


def im2col(
    x: Array,
    kernel_size: Pair,
    *,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
) -> Array:
    """Return the matrix whose row is what one output position reads (THEORY D6, T12).

    With one group, Y is this matrix times W^T and dW is G^T times this matrix. With more, take one group's channels.

    Parameters
    ----------
    x : float64 array (B, C, H, W)
        A.
    kernel_size : pair of int
        (k_h, k_w).
    stride, padding, dilation
        As for `conv2d`.

    Returns
    -------
    float64 array (B H' W', C k_h k_w)
        In both, the last axis varies fastest; zeros where a position reads the padding.

    Raises
    ------
    TypeError
        Where `x` is no float64 array.
    ValueError
        Where the kernel does not fit the padded picture.

    Examples
    --------
    >>> im2col(np.arange(1.0, 4.0).reshape(1, 1, 1, 3), (1, 2), padding=((0, 0), (0, 1)))
    array([[1., 2.],
           [2., 3.],
           [3., 0.]])
    """
    float64_array("x", x, axes=4)
    geometry = _Geometry.of(x.shape, 1, kernel_size, stride, padding, dilation, 1)
    _, _, height, width = geometry.output_shape
    k_h, k_w = kernel_size
    result = np.zeros((x.shape[0] * height * width, x.shape[1] * k_h * k_w))
    for b, (_, _, c), (i, u, row), (j, v, column) in geometry.meetings():
        result[(b * height + i) * width + j, (c * k_h + u) * k_w + v] = x[b, c, row, column]
    return result


class _Geometry(NamedTuple):
    """A convolution, its sizes and every triple of numbers that meets in it."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, int, int, int]
    weight_shape: tuple[int, int, int, int]
    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int

    @classmethod
    def of(
        cls,
        input_shape: tuple[int, ...],
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Pair,
        padding: tuple[Pair, Pair],
        dilation: Pair,
        groups: int,
    ) -> _Geometry:
        batch, channels, *size = input_shape
        pairs: dict[str, Sequence[Any]] = {
            "the input's size": size,
            "kernel_size": kernel_size,
            "stride": stride,
            "dilation": dilation,
        }
        for name, pair in pairs.items():
            if not _whole(pair, count=2, lowest=1):
                raise ValueError(f"{name} must be two integers of at least 1, (height, width), got {tuple(pair)}")
        if len(padding) != 2 or not all(_whole(pads, count=2, lowest=0) for pads in padding):
            raise ValueError(f"padding must be ((top, bottom), (left, right)), none negative, got {padding}")
        if not _whole([groups], count=1, lowest=1) or channels % groups or out_channels % groups:
            raise ValueError(f"groups must divide C={channels} and O={out_channels}, got {groups}")
        out = []
        for n, k, s, pads, d in zip(size, kernel_size, stride, padding, dilation, strict=True):
            free = n + sum(pads) - (d * (k - 1) + 1)
            if free < 0:
                raise ValueError(
                    f"the kernel must fit the padded picture, got kernel_size {tuple(kernel_size)} with dilation "
                    f"{dilation} on a {tuple(size)} picture with padding {padding}"
                )
            out.append(free // s + 1)
        return cls(
            input_shape,
            (batch, out_channels, out[0], out[1]),
            (out_channels, channels // groups, kernel_size[0], kernel_size[1]),
            stride,
            padding,
            dilation,
            groups,
        )

    def meetings(self) -> Iterator[tuple[int, tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]]:
        """Yield b, (o, c', c), (i, u, row), (j, v, column) for every product that a convolution sums."""
        inside = self.weight_shape[1]
        channels = [
            (o, c, c + inside * (o // (self.weight_shape[0] // self.groups)))
            for o in range(self.weight_shape[0])
            for c in range(inside)
        ]
        return product(range(self.input_shape[0]), channels, self._reads(0), self._reads(1))

    def _reads(self, axis: int) -> list[tuple[int, int, int]]:
        reads = []
        for i in range(self.output_shape[2 + axis]):
            for u in range(self.weight_shape[2 + axis]):
                pixel = i * self.stride[axis] + u * self.dilation[axis] - self.padding[axis][0]
                if 0 <= pixel < self.input_shape[2 + axis]:
                    reads.append((i, u, pixel))
        return reads


def _whole(values: Sequence[Any], *, count: int, lowest: int) -> bool:
    return len(values) == count and all(isinstance(value, Integral) and int(value) >= lowest for value in values)
