"""The reject tier: input for which there is no right result, and what a target makes of it.

In: an operation and the judgement of a call of it. Out: a verdict. A target that declares that it refuses invalid input
has to raise an exception for every one of `invalid_inputs`. On others none is tried: what they do with it is nobody's
promise, and some never come back (LAPACK's own SVD can run forever on a number that is none).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.answers import call
from refgrad.oracle.cases import AnyCase
from refgrad.oracle.judgement import Judgement
from refgrad.oracle.verdicts import Verdict, failed, not_provided, passed

__all__ = ["MOST_INVALID", "Invalid", "invalid_inputs", "refusals"]

MOST_INVALID: Final = 24
"""More than any operation has of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Invalid:
    """An input that no case may be.

    Parameters
    ----------
    what : str
        What is wrong with it.
    arrays : mapping
        Its arrays.
    attributes : mapping
        Its keyword arguments.
    """

    what: str
    arrays: Mapping[str, Any]
    attributes: Mapping[str, Any]


def invalid_inputs(case: AnyCase) -> Iterator[Invalid]:
    """Yield a case with one thing after the other made wrong.

    Examples
    --------
    >>> from refgrad.oracle import find_case_of
    >>> [invalid.what for invalid in invalid_inputs(find_case_of("unfold", "matrix, mode 0"))]
    ['mode is 2', 'tensor has shape (0, 4)']
    """
    for name, value in _invalid_attributes(case):
        yield Invalid(f"{name} is {value}", dict(case.parts), {**case.attributes, name: value})
    for what, name, array in _invalid_arrays(case):
        yield Invalid(what, {**case.parts, name: array}, case.attributes)


def _invalid_attributes(case: AnyCase) -> Iterator[tuple[str, Any]]:
    for name in case.attributes:
        if name == "explained_variance":
            yield from ((name, value) for value in (0.0, -1.0, 2.0, math.nan))
        elif name in ("stride", "dilation"):
            yield from ((name, value) for value in ((0, 1), (1, 0), (-1, 1)))
        elif name == "groups":
            yield name, 0
            yield name, int(case.parts["grad_output"].shape[1]) + 1  # divides neither these channels nor fewer
        elif name == "mode":
            yield name, len(case.parts["tensor"].shape)


def _invalid_arrays(case: AnyCase) -> Iterator[tuple[str, str, Array]]:
    for name, array in case.parts.items():
        if name == "bias":
            longer = np.append(array, array[:1])
        elif name == "weight":
            longer = np.concatenate([array, array[:, :1]], axis=1)
        elif name == "grad_output":
            longer = np.concatenate([array, array[:1]], axis=0)
        else:
            continue
        yield f"{name} has shape {longer.shape}", name, longer
    first, array = next(iter(case.parts.items()))
    yield f"{first} has shape {array[:0].shape}", first, array[:0]
    if "explained_variance" not in case.attributes:
        return  # a sum shows what is not finite by itself; a choice of ranks does not
    for number in (math.nan, math.inf):
        spoiled = np.array(array)
        spoiled[(0,) * spoiled.ndim] = number
        yield f"{first}{[0] * spoiled.ndim} is {number}", first, spoiled


def refusals(operation: Callable[..., object], judgement: Judgement) -> Verdict:
    """Judge what a target makes of invalid input.

    Parameters
    ----------
    operation : callable
        The target's.
    judgement : Judgement
        Of a call with valid input.
    """
    if not judgement.declaration.refuses_invalid:
        return not_provided("refusals", "the target does not declare that it refuses invalid input")
    for invalid in invalid_inputs(judgement.case):
        answer = call(operation, judgement.case, arrays=invalid.arrays, attributes=invalid.attributes)
        problem = answer.problem("call")
        if problem is not None and problem.kind in ("call crashed", "call timed out"):
            return failed("refusals", problem.kind, f"{invalid.what}: {problem.message}")
        if answer.came_back or answer.unclaimed is not None:
            return failed("refusals", "accepted", f"{invalid.what}, which has to be refused with an exception")
    return passed("refusals", ratio=0.0)
