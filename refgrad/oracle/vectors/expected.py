"""What holds for every right answer to a case, whatever its signs, its ranks at a tie, and its order of summation.

In: a case. Out: for each result of which something can be said without the target's factors, an interval of integers,
or an array and how far from it a right one can be. The values are the specification's; refgrad's fast paths have to
agree before anything is written down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_UP, Context, Decimal
from typing import Any

import numpy as np

from refgrad import specification
from refgrad.arguments import Array
from refgrad.oracle import tolerance
from refgrad.oracle.answers import Answer
from refgrad.oracle.cases import AnyCase
from refgrad.oracle.protocol import Declaration
from refgrad.oracle.reference import LayerReference, LinearReference, Reference, TensorReference, norm
from refgrad.oracle.rows import reference_of
from refgrad.oracle.rows.ladder import GivenReference, StepReference

__all__ = ["Entries", "Expected", "Integers", "Norm", "expected_of", "meets"]


@dataclass(frozen=True, slots=True)
class Integers:
    """Integers, each in its interval.

    Parameters
    ----------
    intervals : tuple of pairs
        The least and the largest admissible value of each.
    """

    intervals: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """An array, each entry of which is off by no more than is allowed for it.

    Parameters
    ----------
    value : array of float64
        What is right.
    allowed : array of float64, optional
        Of the same shape; None where not a bit may differ.
    """

    value: Array
    allowed: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """An array that is off by no more than is allowed, in the Frobenius norm.

    Parameters
    ----------
    value : array of float64
        The centre.
    allowed : float
        The radius.
    """

    value: Array
    allowed: float


Expected = Integers | Entries | Norm


def expected_of(case: AnyCase) -> dict[str, Expected]:
    """Return what holds for every right answer to a case, by the result's name.

    Parameters
    ----------
    case : Case or LadderCase
        The input.

    Raises
    ------
    AssertionError
        Where the specification and refgrad's fast path do not agree.

    Examples
    --------
    >>> from refgrad.oracle import find_case_of
    >>> expected_of(find_case_of("rank", "zero energy"))
    {'rank': Integers(intervals=((1, 3),))}
    """
    reference = reference_of(case, Declaration())
    if case.operation in ("rank", "svd"):
        return {"rank": Integers((reference.modes[0].ranks,))}
    if case.operation == "unfold":
        matrix = specification.unfold(reference.x, case.attributes["mode"])
        return {"matrix": Entries(matrix, None)}
    if case.operation in ("reconstruct", "weight_gradient"):
        assert isinstance(reference, GivenReference)
        return _of_given(reference)
    if case.operation in ("hosvd", "sequential_hosvd"):
        return _of_compressed(reference)
    if case.operation == "step":
        return _of_step(case)
    if case.operation in ("conv2d", "linear"):
        assert isinstance(reference, LayerReference)
        return {**_of_layer(reference), **_of_compressed(reference), **_grad_weight(reference)}
    return {}  # a warm start shows only in the factors, which have no one right value


class _Specified(Reference):
    """The right results of a convolution by the specification's loops: the same bits on every machine."""

    def _exact(self, x: Array, weight: Array, bias: Array, grad_output: Array) -> dict[str, Array]:
        return _by_loops(self.case, x, weight, bias, grad_output)


class _SpecifiedStep(StepReference):
    """The same of a step."""

    def _exact(self, x: Array, weight: Array, bias: Array, grad_output: Array) -> dict[str, Array]:
        return _by_loops(self.case, x, weight, bias, grad_output)


class _SpecifiedLinear(LinearReference):
    """The same of a linear layer."""

    def _exact(self, x: Array, weight: Array, bias: Array, grad_output: Array) -> dict[str, Array]:
        return {
            "output": specification.linear(x, weight, bias),
            "grad_input": specification.linear_input_gradient(grad_output, weight),
            "grad_bias": specification.linear_bias_gradient(grad_output),
        }


def _by_loops(case: Any, x: Array, weight: Array, bias: Array, grad_output: Array) -> dict[str, Array]:
    geometry = _geometry(case)
    size = (x.shape[2], x.shape[3])
    return {
        "output": specification.conv2d(x, weight, bias, **geometry),
        "grad_input": specification.conv2d_input_gradient(grad_output, weight, size, **geometry),
        "grad_bias": specification.conv2d_bias_gradient(grad_output),
    }


def _geometry(case: Any) -> dict[str, Any]:
    return {name: case.attributes[name] for name in ("stride", "padding", "dilation", "groups")}


def _of_layer(reference: LayerReference) -> dict[str, Expected]:
    made = _SpecifiedLinear if reference.case.operation == "linear" else _Specified
    specified = made(reference.case)
    result: dict[str, Expected] = {}
    for key, value in specified.results.items():
        _agree(key, value, reference.results[key], reference.allowed(key, np.float64))
        result[key] = Entries(value, specified.allowed(key))
    return result


def _agree(key: str, value: Array, other: Array, allowed: Array) -> None:
    """Demand that two references agree, each of which may be off by what is allowed."""
    if not (np.abs(value - other) <= 2.0 * allowed).all():
        raise AssertionError(f"{key}: the specification and refgrad's fast path do not agree")


def _of_step(case: AnyCase) -> dict[str, Expected]:
    reference = _SpecifiedStep(case)
    gradient, allowed = reference.results["grad_bias"], reference.allowed("grad_bias")
    values = reference.after("bias", gradient)
    bounds = reference.after_allowed("bias", gradient, allowed)
    return {"bias_velocity": Entries(values[0], bounds[0]), "bias": Entries(values[1], bounds[1])}


def _of_given(reference: GivenReference) -> dict[str, Expected]:
    core, factors = reference.given
    absolute = [np.abs(factor) for factor in factors]
    if reference.case.operation == "reconstruct":
        key, value = "reconstruction", specification.reconstruct(core, factors)
        majorant = specification.reconstruct(np.abs(core), absolute)
        length = core.size + core.ndim
    else:
        geometry, grad_output = _geometry(reference.case), np.asarray(reference.case.parts["grad_output"], np.float64)
        kernel = reference.case.attributes["kernel_size"]
        key = "grad_weight"
        value = specification.compressed_weight_gradient(core, factors, grad_output, kernel, **geometry)
        majorant = specification.compressed_weight_gradient(
            np.abs(core), absolute, np.abs(grad_output), kernel, **geometry
        )
        positions = grad_output.size // grad_output.shape[1]
        length = tolerance.weight_gradient_length(positions, core.shape)
    return {key: Entries(value, tolerance.sum_bound(length, majorant, reference.precision))}


def _of_compressed(reference: TensorReference) -> dict[str, Expected]:
    """Say what is known of ranks and A~; where a tie or a degenerate cut leaves A~ open, that it is near A (T3, T8)."""
    result: dict[str, Expected] = {}
    if not reference.sequential:  # whose later spectra follow from how the first ones were cut
        intervals = tuple(mode.ranks for mode in reference.modes)
        result["ranks"] = Integers(intervals)
        if _decided(intervals):
            ranks = reference.smallest_ranks
            counted = math.prod(ranks) + sum(n * k for n, k in zip(reference.shape, ranks, strict=True))
            result["stored_numbers"] = Integers(((counted, counted),))
    result["reconstruction"] = _ball(reference, _Identity(reference))
    return result


def _grad_weight(reference: LayerReference) -> dict[str, Expected]:
    return {"grad_weight": _ball(reference, _Gradient(reference))}


def _decided(intervals: tuple[tuple[int, int], ...]) -> bool:
    return all(low == high for low, high in intervals)


class _Identity:
    """A~ itself, as something that depends on A~."""

    amplification = 1.0
    rounding_amplification = 1.0
    positions = 0

    def __init__(self, reference: TensorReference) -> None:
        self.reference = reference

    def at(self, activation: Array) -> Array:
        """Return the activation."""
        return activation


class _Gradient:
    """The weight gradient, which depends on A~ linearly (THEORY D7)."""

    def __init__(self, reference: LayerReference) -> None:
        self.reference = reference
        self.amplification = reference.amplification
        self.rounding_amplification = norm(reference.grad_output) * math.sqrt(reference.multiplicity)
        self.positions = reference.positions

    def at(self, activation: Array) -> Array:
        """Return dW by the specification's loops."""
        case = self.reference.case
        if case.operation == "linear":
            return specification.linear_weight_gradient(activation, self.reference.grad_output)
        kernel = case.geometry.kernel_size
        return specification.conv2d_weight_gradient(activation, self.reference.grad_output, kernel, **_geometry(case))


def _ball(reference: TensorReference, linear: _Identity | _Gradient) -> Norm:
    """Return a ball that holds what every right A~ gives: around the specification's own, or around the exact one.

    The first is as small as the gaps of the spectra let it be (Davis and Kahan), the second as T3, T8 and T12 do.
    """
    lowest = reference.smallest_ranks
    magnitude = reference.x_norm * math.sqrt(reference.x.size) * linear.rounding_amplification
    length = tolerance.weight_gradient_length(linear.positions, reference.shape)
    rounding = float(tolerance.sum_bound(length, np.array(magnitude), reference.precision))
    exact = linear.at(reference.x)
    around_exact = linear.amplification * reference.truncation_error(lowest) + rounding
    if reference.sequential or not _decided(tuple(mode.ranks for mode in reference.modes)):
        return Norm(exact, _rounded_up(around_exact))
    core, factors = specification.hosvd(reference.x, ranks=lowest)
    own = linear.at(specification.reconstruct(core, factors))
    around_own = linear.amplification * reference.perturbation(lowest) + rounding
    if norm(own - exact) > around_exact:
        raise AssertionError("the specification's own result is farther from the exact one than T12 lets it be")
    return Norm(own, _rounded_up(around_own)) if around_own < around_exact else Norm(exact, _rounded_up(around_exact))


def _rounded_up(value: float) -> float:
    """Round up to three decimals: the last bits of a norm follow from the machine's BLAS, and a corpus must not."""
    if not 0.0 < value < math.inf:
        return value
    return float(Context(prec=3, rounding=ROUND_UP).create_decimal(Decimal(value)))


def meets(expected: Expected, answer: Answer, key: str) -> bool:
    """Whether an answer that has a result meets what is expected of it.

    Parameters
    ----------
    expected : Integers, Entries or Norm
        What holds for every right answer.
    answer : Answer
        What came.
    key : str
        The result's name.
    """
    if isinstance(expected, Integers):
        found = (answer.stored_numbers,) if key == "stored_numbers" else answer.ranks
        return found is not None and all(
            number is not None and low <= number <= high
            for number, (low, high) in zip(found, expected.intervals, strict=True)
        )
    value = answer.arrays.get(key)
    if value is None or value.shape != expected.value.shape:
        return False
    if isinstance(expected, Norm):
        return norm(value - expected.value) <= expected.allowed
    allowed = 0.0 if expected.allowed is None else expected.allowed
    return bool((np.abs(value - expected.value) <= allowed).all())
