"""One layer's training step with a compressed input: everything exact but the weight gradient.

In: the operands of a conv or linear layer, its output's gradient, and how its input is kept. Out: a CompressedStep.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from refgrad.specification.convolution import (
    conv2d,
    conv2d_bias_gradient,
    conv2d_input_gradient,
    conv2d_weight_gradient,
)
from refgrad.specification.linear_layer import (
    linear,
    linear_bias_gradient,
    linear_input_gradient,
    linear_weight_gradient,
)
from refgrad.specification.shared import Array, Pair
from refgrad.specification.singular import truncated_svd
from refgrad.specification.tensors import fold, mode_product, reconstruct
from refgrad.specification.tucker import hosvd, sequential_hosvd, stored_numbers

__all__ = ["CompressedStep", "compressed_conv2d_step", "compressed_linear_step", "compressed_weight_gradient"]

METHODS = ("exact", "svd", "hosvd", "sequential hosvd")


class CompressedStep(NamedTuple):
    """One layer's forward and backward with a stored input that is not the input (THEORY D7).

    Attributes
    ----------
    output, grad_input, grad_bias : float64 arrays
        Exact: no stored activation takes part in them.
    grad_weight : float64 array
        D(A~, G).
    reconstruction : float64 array
        A~, of the input's shape.
    core : float64 array or None
        S; None where the method has none ("exact" and "svd").
    factors : tuple of float64 arrays
        The d matrices U_j; (U_K S_K, V_K^T) for "svd"; empty for "exact".
    ranks : tuple of int
        K_1, ..., K_d; (K,) for "svd"; empty for "exact".
    stored_numbers : int
        What D2 and D3 count.
    """

    output: Array
    grad_input: Array
    grad_weight: Array
    grad_bias: Array
    reconstruction: Array
    core: Array | None
    factors: tuple[Array, ...]
    ranks: tuple[int, ...]
    stored_numbers: int


def compressed_weight_gradient(
    core: Array,
    factors: Sequence[Array],
    grad_output: Array,
    kernel_size: Pair | None = None,
    *,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Return D(A~, G) in the plainest way: rebuild A~, then take the weight gradient (THEORY D7, T14).

    Parameters
    ----------
    core : float64 array (K_1, ..., K_d)
        S.
    factors : sequence of d float64 arrays (n_j, K_j)
        U_j.
    grad_output : float64 array (B, O, H', W') or (..., O)
        G.
    kernel_size : pair of int, optional
        (k_h, k_w) of a convolution; None for a linear layer.
    stride, padding, dilation, groups
        As for `conv2d`.

    Returns
    -------
    float64 array (O, C / groups, k_h, k_w) or (O, I)

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the shapes and the geometry do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> compressed_weight_gradient(np.array([[2.0]]), [np.ones((3, 1)), np.ones((2, 1))], np.ones((3, 1)))
    array([[6., 6.]])
    """
    restored = reconstruct(core, factors)
    if kernel_size is None:
        return linear_weight_gradient(restored, grad_output)
    return conv2d_weight_gradient(
        restored, grad_output, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def compressed_conv2d_step(
    x: Array,
    weight: Array,
    bias: Array | None,
    grad_output: Array,
    *,
    method: str,
    explained_variance: float | Fraction = 1.0,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> CompressedStep:
    """Run a convolution forward and backward, its input kept compressed (THEORY D7).

    Parameters
    ----------
    x : float64 array (B, C, H, W)
        A.
    weight : float64 array (O, C / groups, k_h, k_w)
        W.
    bias : float64 array (O,) or None
        b.
    grad_output : float64 array (B, O, H', W')
        G.
    method : str
        How A is kept: "exact", "svd" (D2), "hosvd" (D3) or "sequential hosvd" (D4).
    explained_variance : float or Fraction
        eps in (0, 1]; "exact" does not use it.
    stride, padding, dilation, groups
        As for `conv2d`.

    Returns
    -------
    CompressedStep

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the shapes and the geometry do not fit, or there is no such method.

    Examples
    --------
    >>> import numpy as np
    >>> x, weight, grad_output = np.ones((2, 1, 3, 3)), np.ones((1, 1, 2, 2)), np.ones((2, 1, 2, 2))
    >>> step = compressed_conv2d_step(x, weight, None, grad_output, method="hosvd", explained_variance=0.9)
    >>> step.ranks, step.stored_numbers
    ((1, 1, 1, 1), 10)
    """
    restored, core, factors, ranks = _compressed(x, method, explained_variance)
    return CompressedStep(
        output=conv2d(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups),
        grad_input=conv2d_input_gradient(
            grad_output, weight, x.shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups
        ),
        grad_weight=conv2d_weight_gradient(
            restored, grad_output, weight.shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups
        ),
        grad_bias=conv2d_bias_gradient(grad_output),
        reconstruction=restored,
        core=core,
        factors=factors,
        ranks=ranks,
        stored_numbers=stored_numbers(core, factors) if factors else x.size,
    )


def compressed_linear_step(
    x: Array,
    weight: Array,
    bias: Array | None,
    grad_output: Array,
    *,
    method: str,
    explained_variance: float | Fraction = 1.0,
) -> CompressedStep:
    """Run a linear layer forward and backward, its input kept compressed (THEORY D7).

    Parameters
    ----------
    x : float64 array (..., I)
        A, with 2, 3 or 4 axes.
    weight : float64 array (O, I)
        W.
    bias : float64 array (O,) or None
        b.
    grad_output : float64 array (..., O)
        G.
    method : str
        How A is kept: "exact", "svd" (D2), "hosvd" (D3) or "sequential hosvd" (D4).
    explained_variance : float or Fraction
        eps in (0, 1]; "exact" does not use it.

    Returns
    -------
    CompressedStep

    Raises
    ------
    TypeError
        Where an argument is no float64 array.
    ValueError
        Where the shapes do not fit, or there is no such method.

    Examples
    --------
    >>> import numpy as np
    >>> x, weight, grad_output = np.ones((3, 2)), np.ones((1, 2)), np.ones((3, 1))
    >>> compressed_linear_step(x, weight, None, grad_output, method="svd", explained_variance=0.9).ranks
    (1,)
    """
    restored, core, factors, ranks = _compressed(x, method, explained_variance)
    return CompressedStep(
        output=linear(x, weight, bias),
        grad_input=linear_input_gradient(grad_output, weight),
        grad_weight=linear_weight_gradient(restored, grad_output),
        grad_bias=linear_bias_gradient(grad_output),
        reconstruction=restored,
        core=core,
        factors=factors,
        ranks=ranks,
        stored_numbers=stored_numbers(core, factors) if factors else x.size,
    )


def _compressed(
    x: Array, method: str, explained_variance: float | Fraction
) -> tuple[Array, Array | None, tuple[Array, ...], tuple[int, ...]]:
    if method == "exact":
        return x, None, (), ()
    if method == "svd":
        left, right = truncated_svd(x, explained_variance)
        restored = fold(mode_product(right, left, 0), 0, x.shape)
        return restored, None, (left, right), (left.shape[1],)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    decompose = hosvd if method == "hosvd" else sequential_hosvd
    core, factors = decompose(x, explained_variance)
    return reconstruct(core, factors), core, tuple(factors), core.shape
