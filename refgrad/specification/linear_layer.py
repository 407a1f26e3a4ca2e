"""The linear layer, Y = A W^T + b, and its three gradients.

In: operands with 2, 3 or 4 axes of which the last is multiplied. Out: the same, or a weight's or bias's gradient.
"""

from __future__ import annotations

import math

import numpy as np

from refgrad.specification.shared import Array, fits, float64_array, inner, linear_operand, with_bias

__all__ = ["linear", "linear_bias_gradient", "linear_input_gradient", "linear_weight_gradient"]


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Return Y = A W^T + b along the last axis (THEORY D6).

    Parameters
    ----------
    x : float64 array (..., I)
        A, with 2, 3 or 4 axes.
    weight : float64 array (O, I)
        W.
    bias : float64 array (O,), optional
        b.

    Returns
    -------
    float64 array (..., O)

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the shapes do not fit.

    Examples
    --------
    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5]))
    array([[11.5]])
    """
    linear_operand("x", x)
    float64_array("weight", weight, axes=2)
    fits("weight (O, I)", weight.shape, (weight.shape[0], x.shape[-1]))
    result = np.zeros((*x.shape[:-1], weight.shape[0]))
    for *position, o in np.ndindex(*result.shape):
        result[(*position, o)] = inner(x[tuple(position)], weight[o])
    return with_bias(result, bias, axis=-1)


def linear_input_gradient(grad_output: Array, weight: Array) -> Array:
    """Return dA = G W (THEORY D6).

    Parameters
    ----------
    grad_output : float64 array (..., O)
        G, with 2, 3 or 4 axes.
    weight : float64 array (O, I)
        W.

    Returns
    -------
    float64 array (..., I)

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the shapes do not fit.

    Examples
    --------
    >>> linear_input_gradient(np.array([[2.0]]), np.array([[3.0, 4.0]]))
    array([[6., 8.]])
    """
    linear_operand("grad_output", grad_output)
    float64_array("weight", weight, axes=2)
    fits("weight (O, I)", weight.shape, (grad_output.shape[-1], weight.shape[1]))
    result = np.zeros((*grad_output.shape[:-1], weight.shape[1]))
    for *position, i in np.ndindex(*result.shape):
        result[(*position, i)] = inner(grad_output[tuple(position)], weight[:, i])
    return result


def linear_weight_gradient(x: Array, grad_output: Array) -> Array:
    """Return dW = G^T A, the leading axes flattened (THEORY D6).

    Parameters
    ----------
    x : float64 array (..., I)
        A, with 2, 3 or 4 axes.
    grad_output : float64 array (..., O)
        G.

    Returns
    -------
    float64 array (O, I)

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the shapes do not fit.

    Examples
    --------
    >>> linear_weight_gradient(np.array([[1.0, 2.0]]), np.array([[3.0]]))
    array([[3., 6.]])
    """
    linear_operand("x", x)
    linear_operand("grad_output", grad_output)
    fits("grad_output (..., O)", grad_output.shape, (*x.shape[:-1], grad_output.shape[-1]))
    result = np.zeros((grad_output.shape[-1], x.shape[-1]))
    for o, i in np.ndindex(*result.shape):
        result[o, i] = inner(grad_output[..., o].ravel(), x[..., i].ravel())
    return result


def linear_bias_gradient(grad_output: Array) -> Array:
    """Return db = G^T 1 (THEORY D6).

    Parameters
    ----------
    grad_output : float64 array (..., O)
        G, with 2, 3 or 4 axes.

    Returns
    -------
    float64 array (O,)

    Raises
    ------
    TypeError
        Where `grad_output` is no float64 array.
    ValueError
        Where it has not 2, 3 or 4 axes.

    Examples
    --------
    >>> linear_bias_gradient(np.array([[3.0], [4.0]]))
    array([7.])
    """
    linear_operand("grad_output", grad_output)
    return np.array([math.fsum(grad_output[..., o].ravel()) for o in range(grad_output.shape[-1])])
