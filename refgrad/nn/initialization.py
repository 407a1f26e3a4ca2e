"""The first values of parameters, and the checks of what they are made from.

In: a shape, a generator, a dtype. Out: an array, the same for the same generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arguments import FLOAT_DTYPES, Array, positive_integer

__all__ = ["checked_generator", "float_dtype", "kaiming_uniform"]


def float_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a dtype, known to be float32 or float64.

    Raises
    ------
    TypeError
        Where it is another.
    """
    result: np.dtype[Any] = np.dtype(dtype)
    if result not in FLOAT_DTYPES:
        raise TypeError(f"dtype must be float32 or float64, got {result}")
    return result


def checked_generator(generator: object) -> np.random.Generator:
    """Return a generator, known to be one of NumPy's: what is drawn from it can be repeated.

    Raises
    ------
    TypeError
        Where it is something else.
    """
    if not isinstance(generator, np.random.Generator):
        raise TypeError(
            f"generator must be a numpy.random.Generator, got {generator!r}; "
            "make one with numpy.random.default_rng(seed), so that a run can be repeated"
        )
    return generator


def kaiming_uniform(
    shape: Sequence[int], fan_in: int, *, generator: np.random.Generator, dtype: npt.DTypeLike = np.float64
) -> Array:
    """Draw the first values of a weight or a bias: uniform in [-1 / sqrt(fan_in), 1 / sqrt(fan_in)).

    He et al., arXiv:1502.01852, with PyTorch's gain: bound = sqrt(6 / ((1 + a^2) fan_in)) at a = sqrt(5).

    Parameters
    ----------
    shape : sequence of int
        What to draw.
    fan_in : int
        How many inputs one output is summed from.
    generator : numpy.random.Generator
        What to draw from: float64 numbers whatever the dtype, so that both dtypes start from the same point.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    array
        Of that shape and dtype.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not what it must be.

    Examples
    --------
    >>> bool(np.abs(kaiming_uniform((5, 4), 4, generator=np.random.default_rng(0))).max() <= 0.5)
    True
    """
    bound = 1.0 / np.sqrt(positive_integer("fan_in", fan_in))
    return checked_generator(generator).uniform(-bound, bound, size=tuple(shape)).astype(float_dtype(dtype))
