"""The rows of the ladder's smaller operations: a spectrum's rank, an unfolding, an SVD, a warm start, a step of SGD.

In: what is right for a case, and an answer. Out: a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np

from refgrad.arguments import Array
from refgrad.convolution import conv2d_weight_gradient
from refgrad.multilinear import unfold
from refgrad.oracle import tolerance
from refgrad.oracle.answers import Answer
from refgrad.oracle.reference import Mode, Reference, TensorReference, norm, tucker_product
from refgrad.oracle.rows.decomposition import core_verdict, orthonormal_verdict, scalar_verdict, subspace_verdict
from refgrad.oracle.rows.without_factors import without_factors
from refgrad.oracle.verdicts import Outcome, Verdict, compare, not_provided, passed
from refgrad.rounding import Precision

__all__ = [
    "GivenReference",
    "SpectrumReference",
    "StepReference",
    "given_grad_weight",
    "given_reconstruction",
    "matrix",
    "spectrum_rank",
    "step",
    "subspace_iteration",
    "svd_factors",
    "svd_rank",
]


class SpectrumReference(TensorReference):
    """What is right for the rank of a given spectrum: its squares and their sums are all that is rounded."""

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """One mode, of which the spectrum alone is known."""
        squares = np.ldexp(self.x, -self.exponent) ** 2
        ranks = tolerance.admissible_ranks(squares, squares.size, 1, self.precision, self.case.explained_variance)
        return (Mode(np.diag(np.sqrt(squares)), squares, ranks, float(np.linalg.norm(squares))),)


def spectrum_rank(reference: SpectrumReference, answer: Answer) -> Verdict:
    """Judge the rank of a spectrum."""
    return _rank_verdict(answer, reference.modes[0].ranks)


def _rank_verdict(answer: Answer, admissible: tuple[int, int]) -> Verdict:
    if answer.ranks is None:
        return not_provided("ranks", "the rank could not be read")
    (rank,), (low, high) = answer.ranks, admissible
    if low <= rank <= high:
        return passed("ranks", ratio=0.0)
    expected = str(low) if low == high else f"{low} to {high}"
    return Verdict(
        "ranks",
        Outcome.FAILED,
        kind="value",
        message=f"rank is {rank}, expected {expected}",
        ratio=math.inf,
        value=float(rank),
        expected=float(low if rank < low else high),
    )


def matrix(reference: TensorReference, answer: Answer) -> Verdict:
    """Judge an unfolding: not a bit may differ."""
    expected = unfold(reference.x, reference.case.attributes["mode"])
    return compare("matrix", answer.arrays["matrix"], expected, 0.0, what="matrix")


def svd_rank(reference: TensorReference, answer: Answer) -> Verdict:
    """Judge the rank of a truncated SVD: as it says it, or the columns of left."""
    left = answer.arrays.get("left")
    if answer.ranks is None and left is not None and left.ndim == 2:
        answer.ranks = (left.shape[1],)
    return _rank_verdict(answer, reference.modes[0].ranks)


def svd_factors(reference: TensorReference, answer: Answer) -> Verdict:
    """Judge U_K S_K and V_K^T: orthonormal rows that span the leading right singular vectors, and left = A V_K."""
    left, right = answer.arrays.get("left"), answer.arrays.get("right")
    if left is None or right is None:
        return not_provided("factors", "left and right are judged together")
    unfolding = reference.modes[0]
    rows, columns = unfolding.matrix.shape
    for name, array, shape in (("left", left, (rows, "K")), ("right", right, ("K", columns))):
        axis = shape.index("K")
        if (
            array.ndim != 2
            or array.shape[1 - axis] != shape[1 - axis]
            or not 1 <= array.shape[axis] <= min(rows, columns)
        ):
            message = f"{name} must have shape ({shape[0]}, {shape[1]}), got {array.shape}"
            return Verdict("factors", Outcome.FAILED, kind="shape", message=message, ratio=math.inf)
    if left.shape[1] != right.shape[0]:
        message = f"left has {left.shape[1]} columns, but right {right.shape[0]} rows"
        return Verdict("factors", Outcome.FAILED, kind="shape", message=message, ratio=math.inf)
    vectors = np.ascontiguousarray(right.T)
    transposed = np.ascontiguousarray(unfolding.matrix.T)
    gram = float(np.linalg.norm(np.abs(transposed) @ np.abs(transposed).T))
    orthonormal = orthonormal_verdict(0, vectors, reference.precision)
    subspace = subspace_verdict(
        0, vectors, Mode(transposed, unfolding.squares, unfolding.ranks, gram), reference.precision
    )
    for verdict in (orthonormal, subspace):
        if verdict.failed:
            text = verdict.message.replace("factors[0]", "right")
            return Verdict(
                "factors",
                Outcome.FAILED,
                verdict.kind,
                text,
                verdict.ratio,
                error=verdict.error,
                allowed=verdict.allowed,
            )
    given = unfold(reference.x, 0)
    allowed = tolerance.sum_bound(columns + rows, np.abs(given) @ np.abs(vectors), reference.precision)
    # An SVD's U_K S_K differs from A V_K by its backward error, which is a share of |A| and not of each entry.
    backward = tolerance.decomposition_bound(max(rows, columns), reference.x_norm, reference.precision)
    return compare("factors", left, given @ vectors, allowed + backward, what="left")


def subspace_iteration(reference: TensorReference, answer: Answer) -> Verdict:
    """Judge one warm-started step: orthonormal factors that span A_(j) A_(j)^T U_j, and the core from them."""
    if answer.factors is None:
        return not_provided("factors", "core came without factors")
    before = [np.asarray(factor, np.float64) for factor in reference.case.factors()]
    verdicts = []
    for mode, (factor, start) in enumerate(zip(answer.factors, before, strict=True)):
        if factor.shape != start.shape:
            message = f"factors[{mode}] must keep the shape {start.shape}, got {factor.shape}"
            return Verdict("factors", Outcome.FAILED, kind="shape", message=message, ratio=math.inf)
        verdicts.append(orthonormal_verdict(mode, factor, reference.precision))
        unfolding = reference.modes[mode].matrix
        image = unfolding @ (unfolding.T @ start)
        residual = float(np.linalg.norm(image - factor @ (factor.T @ image)))
        allowed = tolerance.image_bound(
            unfolding.shape, reference.modes[mode].absolute_gram, start.shape[1], reference.precision
        )
        text = f"factors[{mode}] must span A_({mode}) A_({mode})^T U_{mode} of the step before: |(I - P) A A^T U|"
        verdicts.append(scalar_verdict("subspace", text, residual, allowed))
    if "core" in answer.arrays:
        verdicts.append(core_verdict(reference, answer.arrays["core"], answer.factors))
    for verdict in verdicts:
        if verdict.failed:
            return verdict
    return passed("factors", ratio=max(verdict.ratio or 0.0 for verdict in verdicts), digits=verdicts[-1].digits)


class GivenReference(TensorReference):
    """What is right where core and factors are given."""

    @cached_property
    def given(self) -> tuple[Array, tuple[Array, ...]]:
        """Core and factors."""
        return self.x, tuple(np.asarray(factor, np.float64) for factor in self.case.factors())

    @property
    def positions(self) -> int:
        """B H' W', the length of the sums in a weight gradient."""
        batch, _, height, width = self._grad_output.shape
        return int(batch * height * width)

    def grad_weight_at(self, activation: Array) -> Array:
        """Return dW (O, C / groups, k_h, k_w) at a given activation."""
        return conv2d_weight_gradient(activation, self._grad_output, self.case.geometry)

    def grad_weight_allowed(self, core: Array, factors: tuple[Array, ...], precision: Precision | None = None) -> Array:
        """Return what rounding allows in dW from factors; majorant the weight gradient of |G| at |S| x_j |U_j|."""
        majorant = conv2d_weight_gradient(
            tucker_product(np.abs(core), tuple(map(np.abs, factors))), np.abs(self._grad_output), self.case.geometry
        )
        precision = precision or self.precision
        bound = tolerance.sum_bound(tolerance.weight_gradient_length(self.positions, core.shape), majorant, precision)
        operands = (core, *factors, self._grad_output)
        return tolerance.rounding_of_exact_sums(bound, majorant, operands, len(operands), precision)

    @property
    def _grad_output(self) -> Array:
        return np.asarray(self.case.array("grad_output"), np.float64)


def given_reconstruction(reference: GivenReference, answer: Answer) -> Verdict:
    """Judge core x_1 U_1 ... x_d U_d."""
    core, factors = reference.given
    bound = reference.reconstruction_allowed(core, factors)
    majorant = tucker_product(np.abs(core), tuple(map(np.abs, factors)))
    operands = (core, *factors)
    allowed = tolerance.rounding_of_exact_sums(bound, majorant, operands, len(operands), reference.precision)
    return compare(
        "reconstruction",
        answer.arrays["reconstruction"],
        tucker_product(core, factors),
        allowed,
        length=reference.reconstruction_length(core),
        dtype=reference.precision,
    )


def given_grad_weight(reference: GivenReference, answer: Answer) -> Verdict:
    """Judge dW at given core and factors, contracted in any order (THEORY T14)."""
    core = reference.given[0]
    return compare(
        "grad_weight",
        answer.arrays["grad_weight"],
        reference.grad_weight_at(tucker_product(*reference.given)),
        reference.grad_weight_allowed(*reference.given),
        length=tolerance.weight_gradient_length(reference.positions, core.shape),
        dtype=reference.precision,
    )


class StepReference(Reference):
    """What is right for a convolution followed by a step of SGD."""

    def after(self, key: str, gradient: Array) -> tuple[Array, Array]:
        """Return the velocity and the parameter after the step, of the weight or the bias."""
        attributes = self.case.attributes
        parameter, velocity = self.weight if key == "weight" else self.bias, self._velocity(key)
        moved = attributes["momentum"] * velocity + (gradient + attributes["weight_decay"] * parameter)
        return moved, parameter - attributes["learning_rate"] * moved

    def after_allowed(self, key: str, gradient: Array, gradient_allowed: Array) -> tuple[Array, Array]:
        """Return what rounding allows in both: what it allows in the gradient, and five roundings more."""
        attributes = self.case.attributes
        rate, momentum, decay = (abs(attributes[name]) for name in ("learning_rate", "momentum", "weight_decay"))
        parameter = np.abs(self.weight if key == "weight" else self.bias)
        moved = momentum * np.abs(self._velocity(key)) + np.abs(gradient) + gradient_allowed + decay * parameter
        own = tolerance.step_bound(moved, self.precision)
        allowed = gradient_allowed + own
        return allowed, rate * allowed + tolerance.step_bound(parameter + rate * moved, self.precision)

    def _velocity(self, key: str) -> Array:
        return np.asarray(self.case.array(f"{key}_velocity"), np.float64)


def step(key: str) -> Callable[[StepReference, Answer], Verdict]:
    """Return the judge of one of weight, bias, weight_velocity and bias_velocity."""
    parameter = key.removesuffix("_velocity")
    which = 0 if key.endswith("_velocity") else 1

    def judged(reference: StepReference, answer: Answer) -> Verdict:
        value = answer.arrays[key]
        if parameter == "bias":
            gradient, allowed = reference.results["grad_bias"], reference.allowed("grad_bias")
            expected = reference.after("bias", gradient)[which]
            return compare(key, value, expected, reference.after_allowed("bias", gradient, allowed)[which])
        own = answer.decomposition
        if own is not None:
            gradient, allowed = reference.grad_weight_at(tucker_product(*own)), reference.grad_weight_allowed(*own)
            expected = reference.after("weight", gradient)[which]
            return compare(key, value, expected, reference.after_allowed("weight", gradient, allowed)[which])
        rate = abs(reference.case.attributes["learning_rate"]) if which else 1.0
        gradient = reference.grad_weight_exact
        rounding = norm(reference.after_allowed("weight", gradient, np.zeros_like(gradient))[which])
        return without_factors(
            key,
            value,
            reference,
            answer,
            at=lambda activation: reference.after("weight", reference.grad_weight_at(activation))[which],
            positions=reference.positions,
            amplification=rate * reference.amplification,
            rounding_amplification=rate * norm(reference.grad_output) * math.sqrt(reference.multiplicity),
            further_rounding=rounding,
        )

    return judged
