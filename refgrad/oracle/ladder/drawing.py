"""What the inputs of every operation are drawn with: generators that a name seeds, and what is drawn from them.

In: names, shapes and generators. Out: numbers, the same every time.
"""

from __future__ import annotations

import zlib
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array

__all__ = ["FOUR_FIFTHS", "draw", "generator_of", "random_factors"]

FOUR_FIFTHS: Final = Fraction(4, 5)
"""The explained variance of a case that is not about it."""


def generator_of(operation: str, name: str) -> np.random.Generator:
    """Return the generator that a named case of an operation is drawn from."""
    return np.random.default_rng(zlib.crc32(f"{operation}: {name}".encode()))


def draw(generator: np.random.Generator, *options: Any) -> Any:
    """Return one of some options."""
    return options[int(generator.integers(len(options)))]


def _basis(generator: np.random.Generator, rows: int, columns: int, dtype: npt.DTypeLike) -> Array:
    """Return a matrix with orthonormal columns."""
    return np.linalg.qr(generator.standard_normal((rows, columns)))[0].astype(dtype)


def random_factors(
    generator: np.random.Generator, shape: tuple[int, ...], ranks: tuple[int, ...], dtype: npt.DTypeLike
) -> tuple[Array, ...]:
    """Return a matrix with orthonormal columns for every axis, as many columns as its rank."""
    return tuple(_basis(generator, n, k, dtype) for n, k in zip(shape, ranks, strict=True))
