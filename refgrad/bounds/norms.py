"""Norms that are bounds: every one is rounded the way that keeps what is derived from it true (THEORY T15).

In: float arrays of any magnitude. Out: Python floats, none below the norm that it stands for; inf beyond the largest.
"""

from __future__ import annotations

import math

import numpy as np

from refgrad.arguments import Array, float_array, shape_text
from refgrad.geometry import ConvGeometry
from refgrad.multilinear import gram_energy_bound
from refgrad.rounding import gamma

__all__ = [
    "exponent_of",
    "frobenius_norm",
    "over_power",
    "raised",
    "raised_product",
    "spectral_norms",
    "squared_singular_values",
    "times_power",
]


def spectral_norms(grad_output: Array, geometry: ConvGeometry | None = None) -> list[float]:
    """Bound |G_g|_2 from above for each group of a layer's out channels, tightly.

    G_g is the matrix with the O / groups channels of a group as columns and everything else as rows. The largest
    eigenvalue of its Gram matrix (the smaller of the two) is found in float64 and raised by all that rounding can have
    taken from it: gamma_m |G|^2 for inner products of length m, and a multiple of n u |G|^2 for the n eigenvalues
    (THEORY T15).

    Parameters
    ----------
    grad_output : array (B, O, H', W') or (..., O)
        G, finite.
    geometry : ConvGeometry, optional
        Of the convolution; None for a linear layer, which is one group.

    Returns
    -------
    list of float
        inf where a norm is beyond the largest float64.

    Raises
    ------
    TypeError, ValueError
        Where `grad_output` is not a finite float array, or the groups do not divide its channels.

    Examples
    --------
    >>> [round(norm, 6) for norm in spectral_norms(np.diag([3.0, 4.0]))]
    [4.0]
    """
    if geometry is None:
        float_array("grad_output", grad_output, minimum_axes=2, finite=True)
        matrices = grad_output.reshape(1, -1, grad_output.shape[-1])
    else:
        float_array("grad_output", grad_output, axes="B O H' W'", finite=True)
        batch, channels = grad_output.shape[:2]
        if channels % geometry.groups:
            came = shape_text(grad_output.shape, "B O H' W'")
            raise ValueError(f"groups must divide the channels of grad_output {came}, got groups={geometry.groups}")
        grouped = grad_output.reshape(batch, geometry.groups, -1, grad_output.shape[2] * grad_output.shape[3])
        matrices = grouped.transpose(1, 0, 3, 2).reshape(geometry.groups, -1, channels // geometry.groups)
    squares, exponent = squared_singular_values(matrices)
    return [times_power(raised(math.sqrt(float(largest))), exponent) for largest in squares[:, 0]]


def squared_singular_values(matrices: Array) -> tuple[Array, int]:
    """Return upper bounds on the squared singular values of (g, m, n) matrices, descending, over 4^exponent."""
    exponent = exponent_of(matrices)
    unit = over_power(matrices, exponent)
    rows, columns = unit.shape[1:]
    gram = unit.swapaxes(1, 2) @ unit if columns <= rows else unit @ unit.swapaxes(1, 2)
    shorter, longer = min(rows, columns), max(rows, columns)
    energy = np.trace(gram, axis1=1, axis2=2) * (1.0 + 2.0 * gamma(longer + shorter, np.float64))
    off = np.array([gram_energy_bound(shorter, longer, float(part)) for part in energy])
    values = np.linalg.eigvalsh(gram)[:, ::-1] + off[:, np.newaxis]
    return np.maximum(values, 0.0), exponent


def frobenius_norm(array: Array, *, upward: bool = True) -> float:
    """Return the Frobenius norm, from above or from below."""
    exponent = exponent_of(array)
    unit = over_power(array, exponent).ravel()
    slack = gamma(array.size + 3, np.float64)
    energy = float(unit @ unit) * (1.0 + slack if upward else 1.0 - slack)
    return times_power(math.sqrt(energy), exponent)


def exponent_of(array: Array) -> int:
    """Return the exponent of the power of two that brings the largest entry into [1/2, 1); 0 for a zero array."""
    return math.frexp(max(float(array.max()), -float(array.min())))[1]


def over_power(array: Array, exponent: int) -> Array:
    """Return a float64 array over 2^exponent, which is exact."""
    unit: Array = np.ldexp(array.astype(np.float64), -exponent)
    return unit


def times_power(value: float, exponent: int) -> float:
    """Return value * 2^exponent, inf where that is beyond the largest float64."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def raised_product(*factors: float) -> float:
    """Return a product rounded up: 0 where a factor is, inf where it is beyond the largest float64."""
    if 0.0 in factors:
        return 0.0
    mantissas, exponents = zip(*map(math.frexp, factors), strict=True)
    return raised(times_power(math.prod(mantissas), sum(exponents)))


def raised(value: float) -> float:
    """Return a little more than `value`: more than what a handful of roundings can have taken from it."""
    return value * (1.0 + 2.0**-44)
