"""Norms that are bounds: every one is rounded the way that keeps what is derived from it true (THEORY T15).

In: float arrays of any magnitude. Out: Python floats, none below the norm that it stands for; inf beyond the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction

import numpy as np

from refgrad.arguments import Array, float_array, shape_text
from refgrad.geometry import ConvGeometry
from refgrad.multilinear import gram_energy_bound
from refgrad.rounding import gamma

__all__ = [
    "exponent_of",
    "frobenius_norm",
    "lowered",
    "lowered_hypotenuse",
    "over_power",
    "raised",
    "raised_hypotenuse",
    "raised_product",
    "rounded_up",
    "spectral_norms",
    "squared_singular_values",
    "times_power",
]

SMALLEST_NORMAL = 2.0**-1022
"""The smallest float64 that has all its digits."""


def spectral_norms(grad_output: Array, geometry: ConvGeometry | None = None) -> list[float]:
    """Bound |G_g|_2 from above for each group of a layer's out channels, tightly.

    G_g is the matrix with the O / groups channels of a group as columns and everything else as rows. Each group is
    scaled by a power of two of its own. The largest eigenvalue of its Gram matrix (the smaller of the two) is found in
    float64 and raised by all that rounding can have taken from it: gamma_m |G_g|^2 for inner products of length m, and
    a multiple of n u |G_g|^2 for the n eigenvalues (THEORY T15).

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
    # One exponent for all groups would lose a group that is far smaller than another, and its squares before it.
    exponents = np.frexp(np.abs(matrices).max(axis=(1, 2)))[1]
    unit = np.ldexp(matrices.astype(np.float64), -exponents[:, np.newaxis, np.newaxis])
    squares, common = squared_singular_values(unit)
    return [
        times_power(raised(math.sqrt(float(largest))), common + int(exponent))
        for largest, exponent in zip(squares[:, 0], exponents, strict=True)
    ]


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
    energy = float(unit @ unit)
    slack = gamma(array.size, np.float64)
    if upward:
        return times_power(raised(math.sqrt(energy * (1.0 + slack))), exponent)
    norm = lowered(math.sqrt(energy * max(0.0, 1.0 - slack)))
    scaled = math.ldexp(norm, exponent)
    return scaled if scaled >= SMALLEST_NORMAL else lowered(scaled)


def exponent_of(array: Array) -> int:
    """Return the exponent of the power of two that brings the largest entry into [1/2, 1); 0 for a zero array."""
    return math.frexp(max(float(array.max()), -float(array.min())))[1]


def over_power(array: Array, exponent: int) -> Array:
    """Return a float64 array over 2^exponent, exact but for what falls under the smallest subnormal number."""
    unit: Array = np.ldexp(array.astype(np.float64), -exponent)
    return unit


def times_power(value: float, exponent: int) -> float:
    """Return value * 2^exponent, not negative and rounded up: inf where that is beyond the largest float64."""
    try:
        scaled = math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
    return scaled if value == 0.0 or scaled >= SMALLEST_NORMAL else math.nextafter(scaled, math.inf)


def raised_product(*factors: float) -> float:
    """Return a product rounded up: 0 where a factor is, inf where it is beyond the largest float64."""
    if 0.0 in factors:
        return 0.0
    mantissas, exponents = zip(*map(math.frexp, factors), strict=True)
    return times_power(raised(math.prod(mantissas)), sum(exponents))


def raised_hypotenuse(*values: float) -> float:
    """Return the root of a sum of squares, rounded up to the next float64; inf where one is, or it is beyond.

    It is compared with the sum in rational arithmetic: where the root is a float64, it is what is returned.

    Examples
    --------
    >>> raised_hypotenuse(3.0, 4.0)
    5.0
    """
    root = math.hypot(*values)
    energy = _sum_of_squares(values)
    while math.isfinite(root) and Fraction(root) ** 2 < energy:
        root = math.nextafter(root, math.inf)
    return root


def lowered_hypotenuse(*values: float) -> float:
    """Return the root of a sum of squares, rounded down to the float64 before it; inf where one is, or it is beyond.

    Examples
    --------
    >>> lowered_hypotenuse(3.0, 4.0)
    5.0
    """
    root = math.hypot(*values)
    energy = _sum_of_squares(values)
    while math.isfinite(root) and Fraction(root) ** 2 > energy:
        root = math.nextafter(root, 0.0)
    return root


def _sum_of_squares(values: Sequence[float]) -> Fraction:
    return sum((Fraction(value) ** 2 for value in values if math.isfinite(value)), Fraction(0))


def raised(value: float) -> float:
    """Return a little more than `value`: more than what a handful of roundings can have taken from it; 0 stays 0."""
    if value == 0.0 or not math.isfinite(value):
        return value
    return math.nextafter(value + abs(value) * 2.0**-44, math.inf)


def lowered(value: float) -> float:
    """Return a little less than `value`: less than what a handful of roundings can have added to it; 0 stays 0."""
    return -raised(-value)


def rounded_up(value: float, digits: int = 6) -> str:
    """Write a number with so many digits that are not zero in front, and never less than it is.

    Examples
    --------
    >>> rounded_up(1.0000001), rounded_up(5e-324), rounded_up(0.0), rounded_up(2.5)
    ('1.00001', '4.94066e-324', '0', '2.50000')
    """
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    exact = Decimal(value)
    return f"{exact.quantize(Decimal((0, (1,), exact.adjusted() - digits + 1)), ROUND_CEILING):.{digits}g}"
