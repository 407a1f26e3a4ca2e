"""The rows of a layer's results: forward and the three gradients.

In: what is right for a case, and an answer. Out: a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from refgrad.oracle import tolerance
from refgrad.oracle.answers import Answer
from refgrad.oracle.protocol import KEYS
from refgrad.oracle.reference import LayerReference, norm, tucker_product
from refgrad.oracle.rows.without_factors import within_theorem_12, without_factors
from refgrad.oracle.verdicts import Verdict, compare

__all__ = ["exact", "grad_weight"]


def exact(key: str) -> Callable[[LayerReference, Answer], Verdict]:
    """Return the judge of a result that does not depend on the compression."""

    def judged(reference: LayerReference, answer: Answer) -> Verdict:
        return compare(
            KEYS[key],
            answer.arrays[key],
            reference.results[key],
            reference.allowed(key),
            what=key,
            length=reference.lengths[key],
            dtype=reference.precision,
        )

    return judged


def grad_weight(reference: LayerReference, answer: Answer) -> Verdict:
    """Judge dW at the target's own A~ where it shows it, and in any case by T12."""
    value = answer.arrays["grad_weight"]
    own = answer.decomposition
    if own is None:
        return without_factors(
            "grad_weight",
            value,
            reference,
            answer,
            at=reference.grad_weight_at,
            positions=reference.positions,
            amplification=reference.amplification,
            rounding_amplification=norm(reference.grad_output) * math.sqrt(reference.multiplicity),
        )
    allowed = reference.grad_weight_allowed(*own)
    length = tolerance.weight_gradient_length(reference.positions, own[0].shape)
    expected = reference.grad_weight_at(tucker_product(*own))
    verdict = compare("grad_weight", value, expected, allowed, length=length, dtype=reference.precision)
    if verdict.failed:
        return verdict
    outside = within_theorem_12(
        "grad_weight",
        value,
        reference,
        own[0].shape,
        exact=reference.grad_weight_exact,
        amplification=reference.amplification,
        rounding=norm(allowed),
    )
    return outside or verdict
