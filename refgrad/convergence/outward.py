"""Numbers of which it is known on which side of the truth they lie (THEORY T15).

In: arrays by parameter name. Out: Python floats, rounded the way that keeps what is derived from them true.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from refgrad.arguments import Array
from refgrad.bounds.norms import frobenius_norm, lowered, raised
from refgrad.rounding import inner_product_bound

__all__ = ["distance_above", "inner_product_above", "norm_above", "norm_below", "together_above"]


def together_above(norms: Iterable[float]) -> float:
    """Return the norm of parts whose norms are given, from above; 0 where there are none."""
    return raised(math.hypot(*norms))


def norm_above(arrays: Mapping[str, Array]) -> float:
    """Return the norm of all arrays together, from above."""
    return together_above(frobenius_norm(array) for array in arrays.values())


def norm_below(arrays: Mapping[str, Array]) -> float:
    """Return the norm of all arrays together, from below."""
    return lowered(math.hypot(*(frobenius_norm(array, upward=False) for array in arrays.values())))


def distance_above(first: Mapping[str, Array], second: Mapping[str, Array]) -> float:
    """Return how far two sets of arrays are apart, from above: float64 holds each difference but for a rounding."""
    differences = {name: array.astype(np.float64) - second[name].astype(np.float64) for name, array in first.items()}
    return norm_above(differences)


def inner_product_above(first: Mapping[str, Array], second: Mapping[str, Array]) -> float:
    """Return the inner product of two sets of arrays, from above."""
    total = majorant = 0.0
    length = len(first)
    for name, array in first.items():
        left, right = array.astype(np.float64).ravel(), second[name].astype(np.float64).ravel()
        total += float(left @ right)
        majorant += float(np.abs(left) @ np.abs(right))
        length += array.size
    # Twice: the majorant is rounded too.
    return total + 2.0 * float(inner_product_bound(length, majorant, np.float64))
