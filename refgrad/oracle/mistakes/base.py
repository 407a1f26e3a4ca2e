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
from functools import cached_property

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle import tolerance
from refgrad.oracle.answers import Answer
from refgrad.oracle.cases import Attributes, Case
from refgrad.oracle.protocol import Implementation
from refgrad.oracle.reference import Mode, Reference, norm, tucker_product
from refgrad.oracle.rows.decomposition import orthonormal_verdict, subspace_verdict

__all__ = [
    "ArrayMistake",
    "Mistake",
    "NumberMistake",
    "Parts",
    "PrecisionMistake",
    "RankMistake",
    "SubspaceMistake",
    "implementation_of",
    "returned",
]


class Parts:
    """A case and one decomposition of its activation, the target's own where it showed one.

    Parameters
    ----------
    reference : Reference
        What is right.
    answer : Answer, optional
        Where the decomposition comes from; the reference's own where absent or not usable.
    ranks : tuple of int, optional
        At which ranks the reference's own is taken; the least admissible ones where absent.
    """

    def __init__(
        self, reference: Reference, answer: Answer | None = None, ranks: tuple[int, ...] | None = None
    ) -> None:
        self.reference = reference
        self.case = reference.case
        self.x, self.weight = reference.x, reference.weight
        self.bias, self.grad_output = reference.bias, reference.grad_output
        if answer is not None and answer.factors is not None:
            self.factors = answer.factors
            own = answer.decomposition
            self.core = own[0] if own is not None else self.core_of(self.factors)
        else:
            wanted = ranks or (answer.ranks if answer is not None else None) or reference.smallest_ranks
            limits = [mode.squares.size for mode in reference.modes]
            wanted = tuple(max(1, min(k, limit)) for k, limit in zip(wanted, limits, strict=True))
            self.core, self.factors = reference.compressed(wanted)

    @cached_property
    def activation(self) -> Array:
        """The compressed activation A~ (B, C, H, W)."""
        return tucker_product(self.core, self.factors)

    @property
    def ranks(self) -> tuple[int, ...]:
        """K_1 ... K_4."""
        return tuple(factor.shape[1] for factor in self.factors)

    def core_of(self, factors: tuple[Array, ...]) -> Array:
        """Return A x_1 U_1^T ... x_4 U_4^T."""
        return tucker_product(self.x, tuple(factor.T for factor in factors))

    def right(self, key: str) -> Array:
        """Return the right value of an array that an implementation returns under `key`."""
        if key == "grad_weight":
            return self.reference.grad_weight_at(self.activation)
        if key == "core":
            return self.core_of(self.factors)
        return self.activation if key == "reconstruction" else self.reference.results[key]

    def allowed(self, key: str, dtype: type[np.floating]) -> Array:
        """Return what rounding in `dtype` allows in it, entry by entry."""
        if key == "grad_weight":
            return self.reference.grad_weight_allowed(self.core, self.factors, dtype)
        if key == "core":
            return self.reference.core_allowed(self.factors, dtype)
        if key == "reconstruction":
            return self.reference.reconstruction_allowed(self.core, self.factors, dtype)
        return self.reference.allowed(key, dtype)

    @cached_property
    def _norms(self) -> dict[str, float]:
        gradient, activation = norm(self.grad_output), norm(self.core) * math.sqrt(math.prod(self.ranks))
        return {
            "output": norm(self.x) * norm(self.weight) + 2.0 * norm(self.bias),
            "grad_input": gradient * norm(self.weight),
            "grad_weight": gradient * max(activation, norm(self.x)),
            "grad_bias": gradient * math.sqrt(self.reference.positions),
            "core": norm(self.x) * math.sqrt(math.prod(self.ranks)),
            "reconstruction": max(activation, norm(self.x)),
        }

    def match(self, key: str) -> float:
        """Return how far a target that makes a known mistake may lie from that mistake's own values."""
        lengths = dict(self.reference.lengths)
        lengths["grad_weight"] = tolerance.weight_gradient_length(self.reference.positions, self.ranks)
        lengths["core"] = lengths["reconstruction"] = self.x.size + self.x.ndim
        return tolerance.match_bound(lengths[key] + len(self.ranks), self._norms[key], self.case.dtype)


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
    def results(self, reference: Reference) -> dict[str, object]:
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

    def results(self, reference: Reference) -> dict[str, object]:
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

    def results(self, reference: Reference) -> dict[str, object]:
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

    rule: Callable[[Reference], tuple[int, ...]]

    @property
    def sentence(self) -> str:
        """What the report prints."""
        return f"your ranks are the ones where {self.cause}"

    def explains(self, parts: Parts, answer: Answer) -> bool:
        """Whether the four ranks are those of the wrong rule."""
        return answer.ranks == self.rule(parts.reference)

    def results(self, reference: Reference) -> dict[str, object]:
        """Return everything right for the wrong ranks."""
        return _right(Parts(reference, ranks=self.rule(reference)))


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

    def results(self, reference: Reference) -> dict[str, object]:
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

    def results(self, reference: Reference) -> dict[str, object]:
        """Return everything right but the count."""
        parts = Parts(reference)
        return {**_right(parts), "stored_numbers": self.number(parts)}


def _right(parts: Parts) -> dict[str, object]:
    """Return what follows, rightly, from the parts' own decomposition."""
    arrays = ("output", "grad_input", "grad_bias", "grad_weight", "core", "reconstruction")
    return {
        **{key: parts.right(key) for key in arrays},
        "factors": parts.factors,
        "ranks": parts.ranks,
        "stored_numbers": math.prod(parts.ranks) + sum(n * k for n, k in zip(parts.x.shape, parts.ranks, strict=True)),
    }


def implementation_of(mistake: Mistake) -> Implementation:
    """Return an implementation that makes just this mistake.

    Examples
    --------
    >>> from refgrad.oracle.mistakes import LIBRARY
    >>> from refgrad.oracle.catalogue import catalogue
    >>> from refgrad.oracle.judge import judge
    >>> mistake = next(mistake for mistake in LIBRARY if mistake.name == "grad_weight: batch mean")
    >>> judge(implementation_of(mistake), catalogue()[0]).verdicts["grad_weight"].outcome
    <Outcome.FAILED: 'failed'>
    """

    def implementation(
        x: Array,
        weight: Array,
        bias: Array,
        grad_output: Array,
        *,
        stride: tuple[int, int],
        padding: tuple[tuple[int, int], tuple[int, int]],
        dilation: tuple[int, int],
        groups: int,
        explained_variance: float,
    ) -> dict[str, object]:
        attributes = Attributes(
            stride=stride, padding=padding, dilation=dilation, groups=groups, explained_variance=explained_variance
        )
        return returned(mistake.results(Reference(_case(x, weight, bias, grad_output, attributes))), x.dtype)

    return implementation


def _case(x: Array, weight: Array, bias: Array, grad_output: Array, attributes: Attributes) -> Case:
    rational = Fraction(repr(float(attributes["explained_variance"])))
    return Case(
        "a call",
        x,
        weight,
        bias,
        grad_output,
        stride=attributes["stride"],
        padding=attributes["padding"],
        dilation=attributes["dilation"],
        groups=attributes["groups"],
        explained_variance=rational,
    )


def returned(results: dict[str, object], dtype: np.dtype[np.floating]) -> dict[str, object]:
    """Return float64 results in the dtype in which an implementation returns them."""

    def cast(value: object) -> object:
        return value.astype(dtype) if isinstance(value, np.ndarray) else value

    factors = results["factors"]
    assert isinstance(factors, tuple)
    return {key: cast(value) for key, value in results.items()} | {"factors": tuple(map(cast, factors))}
