"""The judge: one case, one answer, one verdict in every row.

In: an implementation and a `Case`. Out: a `Judgement`. What is compared is only what is well defined (ranks in their
admissible interval, subspaces, tensors, gradients at the target's own A~), never singular vectors; how far two right
answers may lie apart comes from `tolerance`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle import tolerance
from refgrad.oracle.answers import Answer, call
from refgrad.oracle.cases import Case
from refgrad.oracle.protocol import KEYS, ROWS, Implementation
from refgrad.oracle.reference import Mode, Reference, norm, tucker_product
from refgrad.oracle.verdicts import Outcome, Verdict, compare, compare_norm, failed, inconclusive, not_provided, passed

__all__ = ["Judgement", "judge", "orthonormal_verdict", "subspace_verdict"]

COMBINATIONS = 64
"""How many admissible combinations of ranks are tried for a target that does not say which it took."""


@dataclass(eq=False)
class Judgement:
    """What was found out about one case.

    Attributes
    ----------
    case : Case
        The input.
    answer : Answer
        What the target returned.
    verdicts : dict
        Row -> verdict.
    """

    case: Case
    answer: Answer
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @cached_property
    def reference(self) -> Reference:
        """What is right for this case."""
        return Reference(self.case)

    @property
    def failed(self) -> bool:
        """Whether any row failed."""
        return any(verdict.failed for verdict in self.verdicts.values())


def judge(
    implementation: Implementation,
    case: Case,
    *,
    rows: Collection[str] = ROWS,
    twice: bool = False,
    reference: Reference | None = None,
) -> Judgement:
    """Call an implementation on a case and judge what it returns.

    Parameters
    ----------
    implementation : Implementation
        The target.
    case : Case
        The input.
    rows : collection of str
        Which rows to judge; all where absent.
    twice : bool
        Whether to call a second time and demand the same bits.
    reference : Reference, optional
        What is right for the case, where it is at hand already.

    Returns
    -------
    Judgement
        With a verdict for every one of the rows.

    Examples
    --------
    >>> case = Case("ones", np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), np.zeros(1), np.ones((1, 1, 1, 1)))
    >>> def doubled(x, weight, bias, grad_output, **attributes):
    ...     return {"grad_bias": 2 * grad_output.sum((0, 2, 3))}
    >>> verdict = judge(doubled, case).verdicts["grad_bias"]
    >>> verdict.outcome, verdict.message
    (<Outcome.FAILED: 'failed'>, 'grad_bias[0] is 2, expected 1; 1 of 1 entries are off')
    """
    judgement = Judgement(case, call(implementation, case))
    if reference is not None:
        judgement.reference = reference
    again = call(implementation, case) if twice and judgement.answer.came_back else None
    for row in ROWS:
        if row in rows:
            judgement.verdicts[row] = _verdict(judgement, row, again)
    return judgement


def _verdict(judgement: Judgement, row: str, again: Answer | None) -> Verdict:
    answer = judgement.answer
    if row == "call":
        return _call_verdict(answer, again)
    if not answer.came_back:
        return not_provided(row, answer.unclaimed or "the call failed")
    keys = {key for key, where in KEYS.items() if where == row}
    if row == "ranks":
        keys.add("factors")
    if not keys & answer.provided:
        return not_provided(row)
    problem = answer.problem(row)
    if problem is not None:
        return failed(row, problem.kind, problem.message)
    return JUDGES[row](judgement.reference, answer)


def _call_verdict(answer: Answer, again: Answer | None) -> Verdict:
    problem = answer.problem("call")
    if problem is not None:
        return failed("call", problem.kind, problem.message)
    if answer.unclaimed is not None:
        return not_provided("call", answer.unclaimed)
    if again is not None and again.fingerprint != answer.fingerprint:
        return failed(
            "call",
            "not repeatable",
            "the same call twice gives different bits: a random start, or state kept between calls",
        )
    return passed("call")


def _exact(key: str) -> Callable[[Reference, Answer], Verdict]:
    """Return the judge of a result that does not depend on the compression."""

    def judged(reference: Reference, answer: Answer) -> Verdict:
        return compare(KEYS[key], answer.arrays[key], reference.results[key], reference.allowed(key), what=key)

    return judged


def _ranks(reference: Reference, answer: Answer) -> Verdict:
    if answer.ranks is None:
        return not_provided("ranks", "the factors could not be read")
    wrong = [
        (mode, rank, unfolding.ranks)
        for mode, (rank, unfolding) in enumerate(zip(answer.ranks, reference.modes, strict=True))
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


def _factors(reference: Reference, answer: Answer) -> Verdict:
    if answer.factors is None:
        return not_provided("factors", "core came without factors")
    verdicts = []
    for mode, (factor, unfolding) in enumerate(zip(answer.factors, reference.modes, strict=True)):
        verdicts.append(orthonormal_verdict(mode, factor, reference.case.dtype))
        verdicts.append(subspace_verdict(mode, factor, unfolding, reference.case.dtype))
    if "core" in answer.arrays:
        verdicts.append(_core(reference, answer.arrays["core"], answer.factors))
    for verdict in verdicts:
        if verdict.failed:
            return verdict
    ratio = max(verdict.ratio or 0.0 for verdict in verdicts)
    message = "" if "core" in answer.arrays else "core not provided"
    return passed("factors", message, ratio=ratio, digits=verdicts[-1].digits)


def orthonormal_verdict(mode: int, factor: Array, dtype: np.dtype[np.generic]) -> Verdict:
    """Judge whether a factor has orthonormal columns; the mode is for the message, the dtype what the target uses."""
    error = float(np.linalg.norm(factor.T @ factor - np.eye(factor.shape[1])))
    allowed = tolerance.orthonormality_bound(factor.shape[0], dtype)
    return _scalar("orthonormal", f"factors[{mode}] must have orthonormal columns: |U^T U - I|", error, allowed)


def subspace_verdict(mode: int, factor: Array, unfolding: Mode, dtype: np.dtype[np.generic]) -> Verdict:
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
    energy = _scalar(
        "subspace", f"factors[{mode}] must keep the energy of the leading {rank}: lacking", lacking, allowed
    )
    if energy.failed:
        return energy
    image = unfolding.matrix @ projected.T
    residual = float(np.linalg.norm(image - factor @ (factor.T @ image)))
    allowed = tolerance.residual_bound(
        rank, unfolding.columns, float(unfolding.squares[0]), unfolding.absolute_gram, dtype
    )
    text = f"factors[{mode}] must span singular vectors of the unfolded input: |(I - P) A A^T U|"
    return max(energy, _scalar("subspace", text, residual, allowed), key=lambda verdict: verdict.ratio or 0.0)


def _core(reference: Reference, core: Array, factors: tuple[Array, ...]) -> Verdict:
    expected = tucker_product(reference.x, tuple(factor.T for factor in factors))
    return compare("factors", core, expected, reference.core_allowed(factors), what="core")


def _scalar(kind: str, text: str, error: float, allowed: float) -> Verdict:
    error = max(error, 0.0) if not math.isnan(error) else error
    if not error <= allowed:
        ratio = error / allowed if allowed > 0.0 and math.isfinite(error) else math.inf
        message = f"{text} is {error:.3e}, allowed {allowed:.3e}"
        return Verdict("factors", Outcome.FAILED, kind, message, ratio, error=error, allowed=allowed)
    return passed("factors", ratio=error / allowed if allowed > 0.0 else 0.0)


def _reconstruction(reference: Reference, answer: Answer) -> Verdict:
    value = answer.arrays["reconstruction"]
    own = answer.decomposition
    if own is not None:
        return compare("reconstruction", value, tucker_product(*own), reference.reconstruction_allowed(*own))
    return _without_factors(
        "reconstruction",
        value,
        reference,
        answer,
        at=lambda activation: activation,
        amplification=1.0,
        rounding_amplification=1.0,
    )


def _grad_weight(reference: Reference, answer: Answer) -> Verdict:
    value = answer.arrays["grad_weight"]
    own = answer.decomposition
    if own is None:
        return _without_factors(
            "grad_weight",
            value,
            reference,
            answer,
            at=reference.grad_weight_at,
            amplification=reference.amplification,
            rounding_amplification=norm(reference.grad_output) * math.sqrt(reference.multiplicity),
        )
    allowed = reference.grad_weight_allowed(*own)
    verdict = compare("grad_weight", value, reference.grad_weight_at(tucker_product(*own)), allowed)
    if verdict.failed:
        return verdict
    ranks = own[0].shape
    return _within_theorem_12("grad_weight", value, reference, ranks, reference.amplification, norm(allowed)) or verdict


def _within_theorem_12(
    row: str, value: Array, reference: Reference, ranks: tuple[int, ...], amplification: float, rounding: float
) -> Verdict | None:
    """Return a failure where a result is farther from the uncompressed one than T12 and T3 let it be at these ranks."""
    exact = reference.grad_weight_exact if row == "grad_weight" else reference.x
    error = norm(value - exact)
    allowed = amplification * reference.truncation_error(ranks) + rounding
    if error <= allowed:
        return None
    message = f"{row} is {error:.3e} away from the uncompressed one; at ranks {ranks} T12 allows {allowed:.3e}"
    return Verdict(row, Outcome.FAILED, "T12", message, _ratio(error, allowed), error=error, allowed=allowed)


def _without_factors(
    row: str,
    value: Array,
    reference: Reference,
    answer: Answer,
    *,
    at: Callable[[Array], Array],
    amplification: float,
    rounding_amplification: float,
) -> Verdict:
    """Judge what depends on A~ for a target that does not show its A~: against every admissible one.

    Two right A~ of the same ranks differ by as much as the gap between the singular values lets them (Davis and Kahan),
    and what depends on them by `amplification` times that. The majorant | |S| x_j |U_j| | is at most |A| sqrt(prod
    K_j); `rounding_amplification` is | |G| | sqrt(m), by which it comes through to dW.
    """
    if answer.ranks is not None:
        choices: Iterable[tuple[int, ...]] = iter([answer.ranks])
    else:
        choices = itertools.product(*(range(mode.ranks[0], mode.ranks[1] + 1) for mode in reference.modes))
    best: Verdict | None = None
    undecided = False
    for number, wanted in enumerate(choices):
        if number == COMBINATIONS:
            undecided = True
            break
        ranks = tuple(max(1, min(k, mode.squares.size)) for k, mode in zip(wanted, reference.modes, strict=True))
        expected = at(tucker_product(*reference.compressed(ranks)))
        magnitude = reference.x_norm * math.sqrt(math.prod(ranks)) * rounding_amplification
        length = tolerance.weight_gradient_length(reference.positions, ranks)
        rounding = float(tolerance.sum_bound(length, np.array(magnitude), reference.case.dtype))
        perturbation = reference.perturbation(ranks)
        allowed = rounding + (amplification * perturbation if amplification > 0.0 else 0.0)
        verdict = compare_norm(row, value, expected, allowed)
        if not verdict.failed:
            verdict = _within_theorem_12(row, value, reference, ranks, amplification, rounding) or verdict
        if verdict.failed:
            best = verdict if best is None or (verdict.ratio or 0.0) < (best.ratio or 0.0) else best
        elif allowed > tolerance.INCONCLUSIVE_SHARE * norm(expected):
            undecided = True
        else:
            return verdict
    if undecided:
        return inconclusive(
            row,
            "without the target's factors right and wrong cannot be told apart here: right answers differ too much",
        )
    assert best is not None
    return best


def _ratio(error: float, allowed: float) -> float:
    return error / allowed if allowed > 0.0 and math.isfinite(error) else math.inf


def _stored_numbers(reference: Reference, answer: Answer) -> Verdict:
    shape = reference.case.x.shape
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


JUDGES: Mapping[str, Callable[[Reference, Answer], Verdict]] = {
    "forward": _exact("output"),
    "grad_input": _exact("grad_input"),
    "grad_bias": _exact("grad_bias"),
    "grad_weight": _grad_weight,
    "ranks": _ranks,
    "factors": _factors,
    "reconstruction": _reconstruction,
    "stored_numbers": _stored_numbers,
}
"""How each row but "call" is judged."""
