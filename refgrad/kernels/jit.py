"""How every kernel is compiled: on first call, kept on disk, for one thread, so that a call repeats bit by bit.

In: a Python function over arrays. Out: the same function, compiled; its Python form stays at hand as ``.py_func``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["kernel", "summing_kernel"]

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a function whose floating-point operations keep the order in which they are written."""
    return cast(Function, numba.njit(cache=True, error_model="numpy")(function))


def summing_kernel(function: Function) -> Function:
    """Compile a function whose sums may be evaluated in any order, which THEORY T15 allows; NaN and infinity stay."""
    return cast(Function, numba.njit(cache=True, error_model="numpy", fastmath={"reassoc"})(function))
