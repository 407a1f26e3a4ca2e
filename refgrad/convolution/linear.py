"""The exact linear layer and its three gradients (THEORY D6).

In: an input with 2, 3 or 4 axes (..., I), a weight (O, I), a gradient (..., O). Out: new arrays. Leading axes are
flattened; an array that is not contiguous is copied piece by piece, never whole.
"""

from __future__ import annotations

import numpy as np

from refgrad.arguments import Array, float_array, floats_of_one_dtype, shape_text
from refgrad.convolution.blocks import contiguous_rows

__all__ = ["linear_bias_gradient", "linear_forward", "linear_input_gradient", "linear_weight_gradient"]

AXES = (2, 3, 4)
"""How many axes the input of a linear layer may have."""


def linear_forward(x: Array, weight: Array, bias: Array | None) -> Array:
    """Return A W^T + bias.

    Y = A W^T + bias, the leading axes of A flattened (THEORY D6).

    Parameters
    ----------
    x : array (..., I)
        The input A, with 2, 3 or 4 axes.
    weight : array (O, I)
        W.
    bias : array (O,) or None
        Added to every row.

    Returns
    -------
    array (..., O)
        Off by at most gamma_n (|A| |W|^T + |bias|), n = I + 1 (THEORY T15).

    Raises
    ------
    TypeError
        Where an argument is no float32 or float64 array, or they differ in dtype.
    ValueError
        Where an array is empty or the shapes do not fit one another.

    Examples
    --------
    >>> linear_forward(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([0.5, 0.0]))
    array([[11.5, 17. ]])
    """
    _with_leading_axes("x", x, "I")
    float_array("weight", weight, axes="O I")
    if bias is not None:
        float_array("bias", bias, axes="O")
    dtype = floats_of_one_dtype(x=x, weight=weight, bias=bias)
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"the last axis of x must be the I of the weight {shape_text(weight.shape, 'O I')}, "
            f"got x with shape {shape_text(x.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias must have one entry for each of the {weight.shape[0]} rows of the weight "
            f"{shape_text(weight.shape, 'O I')}, got {shape_text(bias.shape, 'O')}"
        )
    output = np.empty((*x.shape[:-1], weight.shape[0]), dtype)
    matrix = np.ascontiguousarray(weight).T
    for rows, products in contiguous_rows(x, output):
        np.matmul(rows, matrix, out=products)
    if bias is not None:
        output += bias
    return output


def linear_input_gradient(grad_output: Array, weight: Array) -> Array:
    """Return dA = G W.

    dA = G W, the leading axes of G flattened (THEORY D6).

    Parameters
    ----------
    grad_output : array (..., O)
        The gradient G of the output, with 2, 3 or 4 axes.
    weight : array (O, I)
        W.

    Returns
    -------
    array (..., I)
        Off by at most gamma_n |G| |W|, n = O (THEORY T15).

    Raises
    ------
    TypeError
        Where an argument is no float32 or float64 array, or they differ in dtype.
    ValueError
        Where an array is empty or the shapes do not fit one another.

    Examples
    --------
    >>> linear_input_gradient(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]))
    array([[13., 16.]])
    """
    _with_leading_axes("grad_output", grad_output, "O")
    float_array("weight", weight, axes="O I")
    dtype = floats_of_one_dtype(grad_output=grad_output, weight=weight)
    if grad_output.shape[-1] != weight.shape[0]:
        raise ValueError(
            f"the last axis of grad_output must be the O of the weight {shape_text(weight.shape, 'O I')}, "
            f"got grad_output with shape {shape_text(grad_output.shape)}"
        )
    grad_input = np.empty((*grad_output.shape[:-1], weight.shape[1]), dtype)
    matrix = np.ascontiguousarray(weight)
    for gradients, products in contiguous_rows(grad_output, grad_input):
        np.matmul(gradients, matrix, out=products)
    return grad_input


def linear_weight_gradient(x: Array, grad_output: Array) -> Array:
    """Return dW = G^T A.

    dW = G^T A, the leading axes of both flattened (THEORY D6).

    Parameters
    ----------
    x : array (..., I)
        The input A, with 2, 3 or 4 axes.
    grad_output : array (..., O)
        The gradient G of the output, with the same leading axes.

    Returns
    -------
    array (O, I)
        Off by at most gamma_n |G|^T |A|, n the product of the leading axes (THEORY T15).

    Raises
    ------
    TypeError
        Where an argument is no float32 or float64 array, or they differ in dtype.
    ValueError
        Where an array is empty or the shapes do not fit one another.

    Examples
    --------
    >>> linear_weight_gradient(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    Traceback (most recent call last):
        ...
    ValueError: x and grad_output must agree in all axes but the last, got (1, 2) and (2, 1)
    >>> linear_weight_gradient(np.array([[1.0, 2.0]]), np.array([[3.0]]))
    array([[3., 6.]])
    """
    _with_leading_axes("x", x, "I")
    _with_leading_axes("grad_output", grad_output, "O")
    dtype = floats_of_one_dtype(x=x, grad_output=grad_output)
    if x.shape[:-1] != grad_output.shape[:-1]:
        raise ValueError(
            "x and grad_output must agree in all axes but the last, "
            f"got {shape_text(x.shape)} and {shape_text(grad_output.shape)}"
        )
    grad_weight = np.zeros((grad_output.shape[-1], x.shape[-1]), dtype)
    for rows, gradients in contiguous_rows(x, grad_output):
        grad_weight += np.matmul(gradients.T, rows)
    return grad_weight


def linear_bias_gradient(grad_output: Array) -> Array:
    """Return db = G^T 1.

    db = G^T 1, the leading axes of G flattened (THEORY D6).

    Parameters
    ----------
    grad_output : array (..., O)
        The gradient G of the output, with 2, 3 or 4 axes.

    Returns
    -------
    array (O,)
        Off by at most gamma_n |G|^T 1, n the product of the leading axes (THEORY T15).

    Raises
    ------
    TypeError
        Where `grad_output` is no float32 or float64 array.
    ValueError
        Where it is empty or has not 2, 3 or 4 axes.

    Examples
    --------
    >>> linear_bias_gradient(np.ones((2, 5, 3)))
    array([10., 10., 10.])
    """
    _with_leading_axes("grad_output", grad_output, "O")
    total: Array = grad_output.sum(axis=tuple(range(grad_output.ndim - 1)))
    return total


def _with_leading_axes(name: str, array: Array, last: str) -> None:
    float_array(name, array)
    if array.ndim not in AXES:
        raise ValueError(f"{name} must have 2, 3 or 4 axes (..., {last}), got shape {shape_text(array.shape)}")
