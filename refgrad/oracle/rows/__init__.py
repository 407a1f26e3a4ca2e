"""How each row of the report is judged, by operation; and what is right for a case of each.

In: an operation and a row. Out: the function that judges it, or the reference that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from refgrad.oracle.answers import Answer
from refgrad.oracle.cases import AnyCase
from refgrad.oracle.protocol import Declaration
from refgrad.oracle.reference import LinearReference, Reference, TensorReference
from refgrad.oracle.rows import decomposition, ladder, layers
from refgrad.oracle.verdicts import Verdict

__all__ = ["judge_of", "reference_of"]

Judge = Callable[[Any, Answer], Verdict]

_ROWS: Final[Mapping[str, Judge]] = {
    "forward": layers.exact("output"),
    "grad_input": layers.exact("grad_input"),
    "grad_bias": layers.exact("grad_bias"),
    "grad_weight": layers.grad_weight,
    "ranks": decomposition.ranks,
    "factors": decomposition.factors,
    "reconstruction": decomposition.reconstruction,
    "stored_numbers": decomposition.stored_numbers,
    "matrix": ladder.matrix,
    "weight": ladder.step("weight"),
    "bias": ladder.step("bias"),
    "weight_velocity": ladder.step("weight_velocity"),
    "bias_velocity": ladder.step("bias_velocity"),
}

_OF_OPERATION: Final[Mapping[tuple[str, str], Judge]] = {
    ("rank", "ranks"): ladder.spectrum_rank,
    ("svd", "ranks"): ladder.svd_rank,
    ("svd", "factors"): ladder.svd_factors,
    ("subspace_iteration", "factors"): ladder.subspace_iteration,
    ("reconstruct", "reconstruction"): ladder.given_reconstruction,
    ("weight_gradient", "grad_weight"): ladder.given_grad_weight,
}
"""Where an operation's row is judged otherwise than the same row elsewhere."""

_REFERENCES: Final[Mapping[str, type[TensorReference]]] = {
    "conv2d": Reference,
    "linear": LinearReference,
    "step": ladder.StepReference,
    "rank": ladder.SpectrumReference,
    "reconstruct": ladder.GivenReference,
    "weight_gradient": ladder.GivenReference,
}


def judge_of(operation: str, row: str) -> Judge:
    """Return what judges a row of an operation: a function of the reference and the answer."""
    return _OF_OPERATION.get((operation, row)) or _ROWS[row]


def reference_of(case: AnyCase, declaration: Declaration) -> TensorReference:
    """Return what is right for a case, given what the target says of itself."""
    made = _REFERENCES.get(case.operation, TensorReference)
    layer = case.operation in ("conv2d", "linear", "step")
    sequential = layer and declaration.decomposition == "sequential_hosvd"
    return made(case, precision=declaration.precision(case.dtype), sequential=sequential)
