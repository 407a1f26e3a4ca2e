"""Whether the oracle can be trusted on this machine: its LAPACK, its judge on what is right, wrong and malformed.

In: nothing. Out: `examinations()`, each with what it found. They look at this installation, not at a target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from refgrad.arguments import Array
from refgrad.multilinear import singular_values
from refgrad.oracle.catalogue import HADAMARD
from refgrad.oracle.judge import judge
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.own import target as own
from refgrad.oracle.plan import find_case_of, named_cases
from refgrad.oracle.protocol import FURTHER_ROWS, Declaration
from refgrad.oracle.study import SURVIVORS, Study, trials
from refgrad.oracle.variants import VARIANTS
from refgrad.rounding import singular_value_bound

__all__ = ["Examination", "Finding", "examinations"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What an examination found.

    Parameters
    ----------
    healthy : bool
        Whether all is well.
    text : str
        In numbers.
    """

    healthy: bool
    text: str


@dataclass(frozen=True, slots=True)
class Examination:
    """One thing that is looked at.

    Parameters
    ----------
    name : str
        What.
    run : callable
        Looks.
    """

    name: str
    run: Callable[[], Finding]


def examinations() -> Iterator[Examination]:
    """Yield what `refgrad doctor` looks at, the quickest first.

    Examples
    --------
    >>> next(examinations()).run().healthy
    True
    """
    yield Examination("LAPACK finds spectra that are known exactly", _lapack)
    yield Examination("malformed answers fail", _malformed)
    yield Examination("refgrad's own paths pass every operation's named inputs", _own_paths)
    yield Examination("legitimate variants are never called wrong", _variants)
    for operation in OPERATIONS:
        yield Examination(f"mistakes in {operation} are caught and named", _mistakes(operation))


SPECTRA: Final[Mapping[str, tuple[float, ...]]] = {
    "flat": (1.0, 1.0, 1.0, 1.0),
    "tied in pairs": (2.0, 2.0, 1.0, 1.0),
    "graded": (4096.0, 64.0, 1.0, 1 / 64),
    "one value": (1.0, 0.0, 0.0, 0.0),
}


def _lapack() -> Finding:
    """Compare singular values with those of matrices made of Hadamard columns, which are known without rounding."""
    worst, where = 0.0, ""
    for name, values in SPECTRA.items():
        for dtype in (np.float64, np.float32):
            for exponent in (0, 100, -100):
                matrix = np.ldexp((HADAMARD * np.array(values)) @ HADAMARD.T, exponent if dtype == np.float64 else 0)
                tensor: Array = matrix.astype(dtype)
                found = singular_values(tensor, 0)
                right = 4.0 * np.ldexp(np.array(values), exponent if dtype == np.float64 else 0)
                allowed = singular_value_bound(4, float(np.linalg.norm(right)), dtype)
                ratio = float(np.max(np.abs(found - right))) / allowed
                if not ratio <= worst:
                    worst, where = ratio, f"{name}, {np.dtype(dtype)}"
    healthy = worst <= 1.0
    text = f"{len(SPECTRA)} spectra in two dtypes; worst {worst:.2g} of what T15 allows"
    return Finding(healthy, text + ("" if healthy else f", in {where}"))


def _nan(array: Array) -> Array:
    result = array.copy()
    result.flat[0] = math.nan
    return result


MALFORMED: Final[tuple[tuple[str, Callable[[dict[str, Any]], object]], ...]] = (
    ("a NaN in dW", lambda right: {**right, "grad_weight": _nan(right["grad_weight"])}),
    ("a NaN in a factor", lambda right: {**right, "factors": (_nan(right["factors"][0]), *right["factors"][1:])}),
    ("an infinite output", lambda right: {**right, "output": right["output"] + math.inf}),
    ("zeros for everything", lambda right: {key: _zeros(value) for key, value in right.items()}),
    ("another dtype", lambda right: {**right, "grad_input": right["grad_input"].astype(np.float32)}),
    ("another shape", lambda right: {**right, "grad_weight": right["grad_weight"][np.newaxis]}),
    ("a list for an array", lambda right: {**right, "output": right["output"].tolist()}),
    ("None for an array", lambda right: {**right, "grad_bias": None}),
    ("a factor too many", lambda right: {**right, "factors": (*right["factors"], right["factors"][0])}),
    ("an unknown result", lambda right: {**right, "grad_wieght": right["grad_weight"]}),
    ("a number for a mapping", lambda _: 3),
    ("nothing", lambda _: None),
)
"""What a target may return that is wrong whatever the numbers."""


def _zeros(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_zeros, value))
    return np.zeros_like(value) if isinstance(value, np.ndarray) else value


def _malformed() -> Finding:
    case = find_case_of("conv2d", "every mode cut")
    missed = []
    for name, change in MALFORMED:
        right = own.conv2d(*case.arrays().values(), **case.attributes)
        returned = change(right)
        if not judge(lambda *_, returned=returned, **__: returned, case).failed:
            missed.append(name)
    return Finding(not missed, f"{len(MALFORMED) - len(missed)} of {len(MALFORMED)} fail" + _list(missed))


def _own_paths() -> Finding:
    study = Study()
    for operation in OPERATIONS:
        for case in named_cases(operation):
            made = judge(
                getattr(own, operation), case, further=FURTHER_ROWS[operation], declaration=Declaration.of(own)
            )
            study.add_right("refgrad", made)
    return _alarms(study)


def _variants() -> Finding:
    study = Study()
    for name, target in VARIANTS.items():
        for case in named_cases("conv2d")[::4]:
            study.add_right(name, judge(target, case, further=FURTHER_ROWS["conv2d"]))
    return _alarms(study)


def _alarms(study: Study) -> Finding:
    worst = max(study.worst.values(), default=0.0)
    text = f"{len(study.alarms)} false alarms in {study.calls} calls; worst {worst:.2g} of what is allowed"
    return Finding(not study.alarms, text + _list(study.alarms))


def _mistakes(operation: str) -> Callable[[], Finding]:
    def run() -> Finding:
        study = Study()
        for trial in trials(generated=0, seed=0, real=False, operations=[operation]):
            trial.run(study)
        known = [each for each in study.survivors if (operation, each.mistake) in SURVIVORS]
        named = sum(each.rightly_named for each in study.caught)
        text = f"{len(study.caught) - len(study.survivors)} of {len(study.caught)} caught, {named} named as themselves"
        text += f", {len(known)} excused" if known else ""
        return Finding(study.exit_code == 0, text + _list([each.mistake for each in study.unexplained]))

    return run


def _list(names: list[str]) -> str:
    return f": {'; '.join(names)}" if names else ""
