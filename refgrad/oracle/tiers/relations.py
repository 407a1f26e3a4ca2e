"""The metamorphic tier: what two calls have to do with each other, whatever is right for either (THEORY T21).

In: an operation and the judgement of a call of it. Out: a verdict. Only what has to hold to the last bit is asked for,
in whatever order sums are taken: that scaling by powers of two comes through, and that an output channel's gradient is
nobody else's. What would hold up to rounding follows from two calls that are each within their bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from refgrad.oracle.answers import Answer, call
from refgrad.oracle.cases import AnyCase, Case
from refgrad.oracle.judgement import Judgement
from refgrad.oracle.ladder.cases import LadderCase, each_array
from refgrad.oracle.verdicts import Outcome, Verdict, not_provided, passed

__all__ = ["RELATIONS", "SCALED", "Relation", "relations", "with_parts"]

HARMLESS: Final = 20
"""Binary exponents up to which magnitudes are scaled: nothing that is made of them over- or underflows."""

_TUCKER: Final = {"core": 4, "factors": 1, "ranks": 1, "reconstruction": 4, "stored_numbers": 1}
_LAYER: Final = {"output": -8, "grad_input": 8, "grad_bias": -4, "grad_weight": -16, **_TUCKER}
_LAYER_ARRAYS: Final = {"x": 4, "weight": -2, "bias": -8, "grad_output": -4}

SCALED: Final[Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]]] = {
    "rank": ({"singular_values": 4}, {"ranks": 1}),
    "unfold": ({"tensor": -4}, {"matrix": -4}),
    "svd": ({"tensor": 4}, {"left": 4, "right": 1, "ranks": 1}),
    "hosvd": ({"tensor": 4}, _TUCKER),
    "sequential_hosvd": ({"tensor": 4}, _TUCKER),
    "subspace_iteration": ({"tensor": 4}, _TUCKER),
    "reconstruct": ({"core": -4}, {"reconstruction": -4}),
    "weight_gradient": ({"core": 4, "grad_output": -2}, {"grad_weight": -8}),
    "linear": (_LAYER_ARRAYS, _LAYER),
    "conv2d": (_LAYER_ARRAYS, _LAYER),
}
"""Operation -> by what its arrays are multiplied, and by what its results then are: core and factors have one sign."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A second call, and what it has to return given what the first did.

    Parameters
    ----------
    kind : str
        What failures are grouped by.
    sentence : str
        What was changed, and what has to follow.
    changed : callable
        The second input, from the first; None where the relation does not apply.
    wanted : callable
        What has to come, result by result, from the first input and the first answer's results.
    """

    kind: str
    sentence: str
    changed: Callable[[AnyCase], AnyCase | None]
    wanted: Callable[[AnyCase, Mapping[str, Any]], dict[str, Any]]


def with_parts(case: AnyCase, name: str, parts: Mapping[str, Any]) -> AnyCase:
    """Return a case with some of its arrays replaced, under another name."""
    if isinstance(case, Case):
        return replace(case, name=name, **parts)
    assert isinstance(case, LadderCase)
    return replace(case, name=name, parts={**case.parts, **parts})


def _results(answer: Answer) -> dict[str, Any]:
    """Return everything that came, array or not."""
    others = {name: getattr(answer, name) for name in ("factors", "ranks", "stored_numbers")}
    return {**answer.arrays, **{name: value for name, value in others.items() if value is not None}}


def _scaled(case: AnyCase) -> AnyCase | None:
    if case.operation not in SCALED:
        return None
    for _, _, array in each_array(case.parts):
        exponents = np.frexp(array[array != 0.0])[1]
        if exponents.size and max(exponents.max(), -exponents.min()) > HARMLESS:
            return None
    by, number = SCALED[case.operation][0], case.dtype.type
    return with_parts(case, f"{case.name}, scaled", {name: case.parts[name] * number(by[name]) for name in by})


def _scaled_results(case: AnyCase, results: Mapping[str, Any]) -> dict[str, Any]:
    by = SCALED[case.operation][1]
    return {key: value if by[key] == 1 else value * by[key] for key, value in results.items()}


def _channel_axis(case: AnyCase) -> int:
    return -1 if case.operation == "linear" else 1


def _first_group(case: AnyCase) -> int:
    """Return how many output channels the first group has; without groups one channel is as far from the next."""
    groups = int(case.attributes.get("groups", 1))
    return int(case.parts["grad_output"].shape[_channel_axis(case)]) // groups if groups > 1 else 1


def _silenced(case: AnyCase) -> AnyCase | None:
    if case.operation not in ("conv2d", "linear", "weight_gradient"):
        return None
    grad_output = np.array(case.parts["grad_output"])
    channels_first = np.moveaxis(grad_output, _channel_axis(case), 0)
    if len(channels_first) == _first_group(case):
        return None
    channels_first[: _first_group(case)] = 0
    return with_parts(case, f"{case.name}, without the gradient of its first group", {"grad_output": grad_output})


def _silenced_results(case: AnyCase, results: Mapping[str, Any]) -> dict[str, Any]:
    groups = int(case.attributes.get("groups", 1))
    wanted = {key: np.array(value) if isinstance(value, np.ndarray) else value for key, value in results.items()}
    for key in {"grad_weight", "grad_bias"} & set(wanted):
        wanted[key][: _first_group(case)] = 0
    if "grad_input" in wanted and groups > 1:
        wanted["grad_input"][:, : wanted["grad_input"].shape[1] // groups] = 0
    elif "grad_input" in wanted:
        del wanted["grad_input"]  # a sum over all the channels
    return wanted


RELATIONS: Final = (
    Relation(
        "scaling",
        "arrays times powers of two have to give results times powers of two, to the last bit (T21)",
        _scaled,
        _scaled_results,
    ),
    Relation(
        "locality",
        "without the gradient of the first group's channels theirs has to be 0, and nothing else may change in any bit",
        _silenced,
        _silenced_results,
    ),
)
"""Every relation that is tried."""


def relations(operation: Callable[..., object], judgement: Judgement) -> Verdict:
    """Judge whether further calls fit the first.

    Parameters
    ----------
    operation : callable
        The target's.
    judgement : Judgement
        Of the first call.
    """
    if not judgement.declaration.repeatable:
        return not_provided("relations", "the target declares that bits may differ from call to call")
    compared = 0
    for relation in RELATIONS:
        changed = relation.changed(judgement.case)
        second = None if changed is None else call(operation, changed)
        if second is None or second.unclaimed is not None:
            continue
        if not second.came_back:
            return _failed(relation, second.problems[0].message)
        found = _results(second)
        for key, wanted in relation.wanted(judgement.case, _results(judgement.answer)).items():
            compared += 1
            verdict = _differing(relation, key, found.get(key), wanted)
            if verdict is not None:
                return verdict
    return passed("relations", ratio=0.0) if compared else not_provided("relations", "none applies")


def _failed(relation: Relation, what: str, **entry: Any) -> Verdict:
    return Verdict("relations", Outcome.FAILED, relation.kind, f"{relation.sentence}; but {what}", math.inf, **entry)


def _differing(relation: Relation, key: str, found: Any, wanted: Any) -> Verdict | None:
    if isinstance(wanted, tuple) and wanted and isinstance(wanted[0], np.ndarray):
        if isinstance(found, tuple) and len(found) == len(wanted):
            each = (
                _differing(relation, f"{key}[{n}]", *pair) for n, pair in enumerate(zip(found, wanted, strict=True))
            )
            return next((verdict for verdict in each if verdict is not None), None)
        return _failed(relation, f"{key} is missing")
    if not isinstance(wanted, np.ndarray):
        return None if found == wanted else _failed(relation, f"{key} is {found}, not {wanted}")
    if not isinstance(found, np.ndarray) or found.shape != wanted.shape:
        return _failed(relation, f"{key} is missing, or has another shape")
    differs = found != wanted
    if not differs.any():
        return None
    index = tuple(int(i) for i in np.argwhere(differs)[0])
    got, expected = float(found[index]), float(wanted[index])
    what = f"{key}{list(index)} is {got:.17g}, not {expected:.17g}"
    return _failed(relation, what, index=index, value=got, expected=expected)
