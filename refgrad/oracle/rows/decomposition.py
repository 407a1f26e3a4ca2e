"""The rows of a decomposition: ranks, factors and core, the rebuilt tensor, the count of numbers.

In: what is right for a case, and an answer. Out: a verdict. Singular vectors are never compared, but
which subspace a factor spans, and how accurately.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle import tolerance
from refgrad.oracle.answers import Answer
from refgrad.oracle.reference import Mode, TensorReference, tucker_product
from refgrad.oracle.rows.without_factors import without_factors
from refgrad.oracle.verdicts import Outcome, Verdict, compare, not_provided, passed
from refgrad.rounding import Precision

__all__ = [
    "core_verdict",
    "factors",
    "orthonormal_verdict",
    "ranks",
    "reconstruction",
    "scalar_verdict",
    "stored_numbers",
    "subspace_verdict",
]


def ranks(reference: TensorReference, answer: Answer) -> Verdict:
    """Judge the ranks: each in its admissible interval."""
    if answer.ranks is None:
        return not_provided("ranks", "the factors could not be read")
    modes = [reference.unfolding(mode, (answer.factors or ())[:mode]) for mode in range(reference.x.ndim)]
    wrong = [
        (mode, rank, unfolding.ranks)
        for mode, (rank, unfolding) in enumerate(zip(answer.ranks, modes, strict=True))
        if not unfolding.ranks[0] <= rank <= unfolding.ranks[1]
    ]
    if not wrong:
        return passed("ranks", ratio=0.0)
    mode, rank, (low, high) = wrong[0]
    admissible = str(low) if low == high else f"{low} to {high}"
    return Verdict(
        "ranks",
        Outcome.FAILED,
        kind="value",
        message=f"ranks are {answer.ranks}: mode {mode} has {rank}, expected {admissible}",
        ratio=math.inf,
        index=(mode,),
        value=float(rank),
        expected=float(low if rank < low else high),
    )


def factors(reference: TensorReference, answer: Answer) -> Verdict:
    """Judge every factor, and the core that follows from them."""
    if answer.factors is None:
        return not_provided("factors", "core came without factors")
    verdicts = []
    for mode, factor in enumerate(answer.factors):
        unfolding = reference.unfolding(mode, answer.factors[:mode])
        verdicts.append(orthonormal_verdict(mode, factor, reference.precision))
        verdicts.append(subspace_verdict(mode, factor, unfolding, reference.precision))
    if "core" in answer.arrays:
        verdicts.append(core_verdict(reference, answer.arrays["core"], answer.factors))
    for verdict in verdicts:
        if verdict.failed:
            return verdict
    ratio = max(verdict.ratio or 0.0 for verdict in verdicts)
    used: dict[str, float] = {}
    for verdict in verdicts:
        used |= {name: max(share, used.get(name, 0.0)) for name, share in verdict.used.items()}
    message = "" if "core" in answer.arrays else "core not provided"
    return passed("factors", message, ratio=ratio, digits=verdicts[-1].digits, used=used)


def orthonormal_verdict(mode: int, factor: Array, dtype: Precision) -> Verdict:
    """Judge whether a factor has orthonormal columns; the mode is for the message, the dtype what the target uses."""
    error = float(np.linalg.norm(factor.T @ factor - np.eye(factor.shape[1])))
    allowed = tolerance.orthonormality_bound(factor.shape[0], dtype)
    text = f"factors[{mode}] must have orthonormal columns: |U^T U - I|"
    return scalar_verdict("orthonormal", text, error, allowed, what="orthonormality")


def subspace_verdict(mode: int, factor: Array, unfolding: Mode, dtype: Precision) -> Verdict:
    """Judge which subspace a factor spans, and how accurately (see ORACLE: energy and residual, both are needed).

    Parameters
    ----------
    mode : int
        For the message.
    factor : array, (n_j, k)
        U, with orthonormal columns.
    unfolding : Mode
        What its columns should be the leading left singular vectors of.
    dtype : dtype
        What the target computes in.
    """
    rank = factor.shape[1]
    projected = factor.T @ unfolding.matrix
    lacking = float(unfolding.squares[:rank].sum()) - float(np.sum(projected**2))
    allowed = tolerance.energy_bound(unfolding.rows, unfolding.columns, unfolding.energy, dtype)
    energy = scalar_verdict(
        "subspace",
        f"factors[{mode}] must keep the energy of the leading {rank}: lacking",
        lacking,
        allowed,
        what="energy",
    )
    if energy.failed:
        return energy
    image = unfolding.matrix @ projected.T
    residual = float(np.linalg.norm(image - factor @ (factor.T @ image)))
    allowed = tolerance.residual_bound(
        rank, unfolding.columns, float(unfolding.squares[0]), unfolding.absolute_gram, dtype
    )
    text = f"factors[{mode}] must span singular vectors of the unfolded input: |(I - P) A A^T U|"
    accurate = scalar_verdict("subspace", text, residual, allowed, what="residual")
    if accurate.failed:
        return accurate
    ratio = max(energy.ratio or 0.0, accurate.ratio or 0.0)
    return passed("factors", ratio=ratio, used={**energy.used, **accurate.used})


def core_verdict(reference: TensorReference, core: Array, factors: tuple[Array, ...]) -> Verdict:
    """Judge a core: A x_1 U_1^T ... x_d U_d^T of the target's own factors, which ties its signs to theirs."""
    expected = tucker_product(reference.x, tuple(factor.T for factor in factors))
    return compare("factors", core, expected, reference.core_allowed(factors), what="core")


def scalar_verdict(kind: str, text: str, error: float, allowed: float, *, what: str = "") -> Verdict:
    """Judge one number that should be 0; the text is for the message, and what names the tolerance for the study."""
    error = max(error, 0.0) if not math.isnan(error) else error
    if not error <= allowed:
        ratio = error / allowed if allowed > 0.0 and math.isfinite(error) else math.inf
        message = f"{text} is {error:.3e}, allowed {allowed:.3e}"
        return Verdict("factors", Outcome.FAILED, kind, message, ratio, error=error, allowed=allowed)
    ratio = error / allowed if allowed > 0.0 else 0.0
    return passed("factors", ratio=ratio, used={what: ratio} if what else None)


def reconstruction(reference: TensorReference, answer: Answer) -> Verdict:
    """Judge the rebuilt tensor, at the target's own core and factors where it shows them."""
    value = answer.arrays["reconstruction"]
    own = answer.decomposition
    if own is not None:
        return compare(
            "reconstruction",
            value,
            tucker_product(*own),
            reference.reconstruction_allowed(*own),
            length=reference.reconstruction_length(own[0]),
            dtype=reference.precision,
        )
    return without_factors(
        "reconstruction",
        value,
        reference,
        answer,
        at=lambda activation: activation,
        positions=0,
        amplification=1.0,
        rounding_amplification=1.0,
    )


def stored_numbers(reference: TensorReference, answer: Answer) -> Verdict:
    """Judge the count prod K_j + sum n_j K_j (THEORY D3)."""
    shape = reference.shape
    if answer.ranks is not None:
        expected = [math.prod(answer.ranks) + sum(n * k for n, k in zip(shape, answer.ranks, strict=True))]
    else:
        intervals = [range(mode.ranks[0], mode.ranks[1] + 1) for mode in reference.modes]
        expected = sorted(
            {
                math.prod(ranks) + sum(n * k for n, k in zip(shape, ranks, strict=True))
                for ranks in itertools.product(*intervals)
            }
        )
    assert answer.stored_numbers is not None
    if answer.stored_numbers in expected:
        return passed("stored_numbers", ratio=0.0)
    nearest = min(expected, key=lambda number: abs(number - (answer.stored_numbers or 0)))
    return Verdict(
        "stored_numbers",
        Outcome.FAILED,
        kind="value",
        message=f"stored_numbers is {answer.stored_numbers}, expected {nearest} = prod K_j + sum n_j K_j (THEORY D3)",
        ratio=math.inf,
        value=float(answer.stored_numbers),
        expected=float(nearest),
    )
