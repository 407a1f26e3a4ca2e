"""What a mistake is: a wrong step that can be run on a case, and recognised in an answer.

In: a case and, when recognising, what the target returned. Out: the wrong results, or whether they are the target's. A
mistake in a weight gradient is evaluated at the target's own A~, so that signs and rotations of its factors don't
matter.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.answers import Answer
from refgrad.oracle.cases import AnyCase, Case
from refgrad.oracle.ladder.cases import LadderCase
from refgrad.oracle.mistakes.parts import Parts
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.protocol import Declaration
from refgrad.oracle.reference import Mode
from refgrad.oracle.rows import reference_of
from refgrad.oracle.rows.decomposition import orthonormal_verdict, subspace_verdict

__all__ = [
    "ArrayMistake",
    "Mistake",
    "NumberMistake",
    "PrecisionMistake",
    "RankMistake",
    "SubspaceMistake",
    "implementation_of",
    "returned",
]


@dataclass(frozen=True, eq=False)
class Mistake(ABC):
    """One thing that people get wrong.

    Parameters
    ----------
    name : str
        Unique in the library.
    row : str
        The row of the report in which it shows.
    cause : str
        What was done, as a clause: "the padding of the height is used for the width as well".
    """

    name: str
    row: str
    cause: str

    @property
    def sentence(self) -> str:
        """What the report prints."""
        return f"your {self.row} equals the one where {self.cause}"

    @abstractmethod
    def explains(self, parts: Parts, answer: Answer) -> bool:
        """Whether an answer is what this mistake gives."""

    @abstractmethod
    def results(self, reference: Any) -> dict[str, object]:
        """Return, in float64, what an implementation with this mistake returns."""


@dataclass(frozen=True, eq=False)
class ArrayMistake(Mistake):
    """A mistake in one array.

    Parameters
    ----------
    key : str
        The array's key in the mapping that an implementation returns.
    wrong : callable
        From parts to the wrong array; None where the mistake cannot be made on that case.
    """

    key: str
    wrong: Callable[[Parts], Array | None]

    @property
    def sentence(self) -> str:
        """What the report prints."""
        return f"your {self.key} equals the one where {self.cause}"

    def explains(self, parts: Parts, answer: Answer) -> bool:
        """Whether the array is the wrong one, to within rounding."""
        value, wrong = answer.arrays.get(self.key), self.wrong(parts)
        if value is None or wrong is None or value.shape != wrong.shape:
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            return bool((np.abs(value - wrong) <= parts.match(self.key)).all())

    def results(self, reference: Any) -> dict[str, object]:
        """Return everything right but the one array."""
        parts = Parts(reference)
        wrong = self.wrong(parts)
        return {**_right(parts), **({self.key: wrong} if wrong is not None else {})}


@dataclass(frozen=True, eq=False)
class PrecisionMistake(Mistake):
    """Sums accumulated in float32 though the arrays are float64.

    Parameters
    ----------
    key : str
        The array in which they are.
    """

    key: str

    @property
    def sentence(self) -> str:
        """What the report prints."""
        return f"your {self.key} is as accurate as if {self.cause}"

    def explains(self, parts: Parts, answer: Answer) -> bool:
        """Whether the array is wrong by no more than float32 explains; for a core, its factors as well."""
        if self.key == "core" and not _factors_as_of_float32(parts, answer):
            return False
        value = answer.arrays.get(self.key)
        right = parts.right(self.key)
        if value is None or value.shape != right.shape:
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            return bool((np.abs(value - right) <= parts.allowed(self.key, np.float32)).all())

    def results(self, reference: Any) -> dict[str, object]:
        """Return everything right, but the one array rounded to float32."""
        parts = Parts(reference)
        with np.errstate(over="ignore"):
            rounded = parts.right(self.key).astype(np.float32).astype(np.float64)
        return {**_right(parts), self.key: rounded}


def _factors_as_of_float32(parts: Parts, answer: Answer) -> bool:
    """Whether factors are orthonormal, and span the right subspaces, to within what float32 explains."""
    dtype = np.dtype(np.float32)
    if answer.factors is None or not all(np.isfinite(factor).all() for factor in answer.factors):
        return False
    for mode, (factor, unfolding) in enumerate(zip(answer.factors, parts.reference.modes, strict=True)):
        if orthonormal_verdict(mode, factor, dtype).failed or subspace_verdict(mode, factor, unfolding, dtype).failed:
            return False
    return True


@dataclass(frozen=True, eq=False)
class RankMistake(Mistake):
    """A wrong rule for the ranks.

    Parameters
    ----------
    rule : callable
        From a reference to the four ranks.
    """

    rule: Callable[[Any], tuple[int, ...]]

    @property
    def sentence(self) -> str:
        """What the report prints."""
        return f"your ranks are the ones where {self.cause}"

    def explains(self, parts: Parts, answer: Answer) -> bool:
        """Whether the four ranks are those of the wrong rule."""
        return answer.ranks == self.rule(parts.reference)

    def results(self, reference: Any) -> dict[str, object]:
        """Return everything right for the wrong ranks."""
        if "ranks" in OPERATIONS[reference.case.operation].results:
            return _right(Parts(reference, ranks=self.rule(reference)))
        (rank,) = self.rule(reference)
        parts = Parts(reference)
        if reference.case.operation == "svd":
            parts.cut(rank)
        return {**_right(parts), "rank": rank}


@dataclass(frozen=True, eq=False)
class SubspaceMistake(Mistake):
    """Factors that are singular vectors of something else.

    Parameters
    ----------
    matrix : callable
        From parts, the mode and the factors of the modes before it, to the matrix whose leading left singular vectors
        are taken in place of the unfolding's.
    """

    matrix: Callable[[Parts, int, tuple[Array, ...]], Array]

    @property
    def sentence(self) -> str:
        """What the report prints."""
        return f"your factors are the ones where {self.cause}"

    def explains(self, parts: Parts, answer: Answer) -> bool:
        """Whether every factor spans the leading left singular vectors of the wrong matrix."""
        if answer.factors is None or not all(np.isfinite(factor).all() for factor in answer.factors):
            return False
        for mode, factor in enumerate(answer.factors):
            matrix = np.ldexp(self.matrix(parts, mode, answer.factors[:mode]), -parts.reference.exponent)
            squares = np.linalg.svd(matrix, compute_uv=False) ** 2
            gram = float(np.linalg.norm(np.abs(matrix) @ np.abs(matrix).T))
            wrong = Mode(matrix, squares, parts.reference.modes[mode].ranks, gram)
            if subspace_verdict(mode, factor, wrong, parts.case.dtype).failed:
                return False
        return True

    def results(self, reference: Any) -> dict[str, object]:
        """Return the wrong factors of the right ranks, and everything that follows from them."""
        parts = Parts(reference)
        factors: tuple[Array, ...] = ()
        for mode, rank in enumerate(parts.ranks):
            matrix = np.ldexp(self.matrix(parts, mode, factors), -reference.exponent)
            left = np.linalg.svd(matrix, full_matrices=True)[0]
            factors = (*factors, left[:, :rank])
        parts.factors = factors
        parts.core = parts.core_of(factors)
        return _right(parts)


@dataclass(frozen=True, eq=False)
class NumberMistake(Mistake):
    """A wrong count of stored numbers.

    Parameters
    ----------
    number : callable
        From parts to the wrong count.
    """

    number: Callable[[Parts], int]

    @property
    def sentence(self) -> str:
        """What the report prints."""
        return f"your stored_numbers is the count where {self.cause}"

    def explains(self, parts: Parts, answer: Answer) -> bool:
        """Whether the count is the wrong one."""
        return answer.stored_numbers == self.number(parts)

    def results(self, reference: Any) -> dict[str, object]:
        """Return everything right but the count."""
        parts = Parts(reference)
        return {**_right(parts), "stored_numbers": self.number(parts)}


def _right(parts: Parts) -> dict[str, object]:
    """Return what follows, rightly, from the parts' own decomposition."""
    kinds = OPERATIONS[parts.operation].results
    results: dict[str, object] = {key: parts.right(key) for key, kind in kinds.items() if kind == "array"}
    if "factors" in kinds:
        results |= {"core": parts.right("core"), "factors": parts.factors}
    if "ranks" in kinds:
        results["ranks"] = parts.ranks
        results["stored_numbers"] = math.prod(parts.ranks) + sum(
            n * k for n, k in zip(parts.x.shape, parts.ranks, strict=True)
        )
    if "rank" in kinds:
        results["rank"] = parts.reference.modes[0].ranks[0]
    return results


def implementation_of(mistake: Mistake, operation: str = "conv2d") -> Callable[..., dict[str, object]]:
    """Return an operation that makes just this mistake.

    Examples
    --------
    >>> from refgrad.oracle.mistakes import LIBRARY
    >>> from refgrad.oracle.catalogue import catalogue
    >>> from refgrad.oracle.judge import judge
    >>> mistake = next(mistake for mistake in LIBRARY if mistake.name == "grad_weight: batch mean")
    >>> judge(implementation_of(mistake), catalogue()[0]).verdicts["grad_weight"].outcome
    <Outcome.FAILED: 'failed'>
    """

    def implementation(*arrays: Any, **attributes: Any) -> dict[str, object]:
        case = _case(operation, arrays, attributes)
        return returned(mistake.results(reference_of(case, Declaration())), case.dtype)

    return implementation


def _case(operation: str, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> AnyCase:
    share = attributes.pop("explained_variance", 1.0)
    rational = Fraction(repr(float(share)))
    if operation == "conv2d":
        x, weight, bias, grad_output = arrays
        return Case("a call", x, weight, bias, grad_output, **{**attributes, "explained_variance": rational})
    parts = dict(zip(OPERATIONS[operation].arrays, arrays, strict=True))
    return LadderCase(operation, "a call", parts, attributes, explained_variance=rational)


def returned(results: dict[str, object], dtype: np.dtype[np.floating]) -> dict[str, object]:
    """Return float64 results in the dtype in which an implementation returns them."""

    def cast(value: object) -> object:
        return value.astype(dtype) if isinstance(value, np.ndarray) else value

    def each(value: object) -> object:
        return tuple(map(cast, value)) if isinstance(value, tuple) else cast(value)

    return {key: each(value) for key, value in results.items()}
