"""What can be said of one result: passed, failed, suspect, inconclusive, not provided; and by how much.

In: a value, what was expected and what rounding allows, as arrays. Out: a `Verdict`. Every comparison reads
``not (error <= allowed)``, so that NaN fails.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.tolerance import (
    INCONCLUSIVE_SHARE,
    guaranteed_digits,
    roundoff_it_behaves_like,
    typical_share,
)
from refgrad.rounding import Precision

__all__ = [
    "Outcome",
    "Verdict",
    "compare",
    "compare_norm",
    "confirmed",
    "failed",
    "inconclusive",
    "measured_over_allowed",
    "not_provided",
    "passed",
]


class Outcome(enum.Enum):
    """The five things that a verdict can say; all of them count in a row's total."""

    PASSED = "passed"
    FAILED = "failed"
    SUSPECT = "suspect"
    INCONCLUSIVE = "inconclusive"
    NOT_PROVIDED = "not provided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one row of one case.

    Parameters
    ----------
    row : str
        One of `refgrad.oracle.protocol.ROWS`.
    outcome : Outcome
        What it says.
    kind : str
        In what way it failed: "value", "shape", "dtype", "exception ValueError", ...; failures of one row and kind are
        reported together. Empty where it did not fail.
    message : str
        One sentence.
    ratio : float, optional
        Measured over allowed; infinite where nothing was allowed. None where nothing was measured.
    digits : float, optional
        How many decimal digits of the result a PASS guarantees; None where that has no meaning.
    index, value, expected, error, allowed : optional
        The worst entry.
    roundoff : float, optional
        The roundoff that the worst error looks like, where it is one of a sum.
    used : mapping
        Tolerance -> the share of it that a right result used; for the power study.
    ratios : array, optional
        Measured over allowed for every entry of an array that failed, to show where in it the error sits.
    """

    row: str
    outcome: Outcome
    kind: str = ""
    message: str = ""
    ratio: float | None = None
    digits: float | None = None
    index: tuple[int, ...] | None = None
    value: float | None = None
    expected: float | None = None
    error: float | None = None
    allowed: float | None = None
    roundoff: float | None = None
    used: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)
    ratios: Array | None = field(default=None, compare=False, repr=False)

    @property
    def failed(self) -> bool:
        """Whether it is a failure."""
        return self.outcome is Outcome.FAILED


def passed(
    row: str,
    message: str = "",
    *,
    ratio: float | None = None,
    digits: float | None = None,
    used: Mapping[str, float] | None = None,
) -> Verdict:
    """Return the verdict that a result is right."""
    return Verdict(row, Outcome.PASSED, message=message, ratio=ratio, digits=digits, used=used or {})


def failed(row: str, kind: str, message: str, *, ratio: float = math.inf) -> Verdict:
    """Return the verdict that a result is wrong for a reason other than one entry of an array."""
    return Verdict(row, Outcome.FAILED, kind=kind, message=message, ratio=ratio)


def inconclusive(row: str, message: str, *, ratio: float | None = None) -> Verdict:
    """Return the verdict that right and wrong cannot be told apart."""
    return Verdict(row, Outcome.INCONCLUSIVE, message=message, ratio=ratio)


def confirmed(suspect: Verdict, redraws: int) -> Verdict:
    """Return the failure of what was suspect on an input, and on as many others with random numbers."""
    return replace(
        suspect,
        outcome=Outcome.FAILED,
        kind="statistical",
        message=f"{suspect.message}; so it is on {redraws} redrawn inputs",
    )


def not_provided(row: str, message: str = "") -> Verdict:
    """Return the verdict that there was nothing to judge."""
    return Verdict(row, Outcome.NOT_PROVIDED, message=message)


def measured_over_allowed(error: Array | float, allowed: Array | float) -> Array:
    """Divide error by allowed: 0 where there is no error, infinite where none was allowed or the error is NaN.

    Examples
    --------
    >>> measured_over_allowed(np.array([0.0, 1.0, 1.0, np.nan]), np.array([0.0, 2.0, 0.0, 1.0]))
    array([0. , 0.5, inf, inf])
    """
    error, allowed = np.broadcast_arrays(np.asarray(error, np.float64), np.asarray(allowed, np.float64))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(error == 0.0, 0.0, error / allowed)
    return np.where(np.isnan(ratio), np.inf, ratio)


def compare(
    row: str,
    value: Array,
    expected: Array,
    allowed: Array | float,
    *,
    what: str | None = None,
    length: int = 1,
    dtype: Precision = "float64",
) -> Verdict:
    """Judge an array entry by entry: |value - expected| <= allowed, or it fails.

    What is under the bound, but farther off than independent roundings take a sum of `length` terms, is suspect; where
    the bound is so wide that passing says nothing, it is inconclusive.

    Parameters
    ----------
    row : str
        Where the verdict belongs.
    value, expected : array of float64
        Of one shape.
    allowed : array or float
        What rounding explains (THEORY T15), entry by entry.
    what : str, optional
        What the result is called in the message; the row's name where absent.
    length : int
        n, how many roundings `allowed` is for; 1 where it is not one of a sum.
    dtype : dtype
        What the target computes in.

    Returns
    -------
    Verdict
        With the worst entry where it did not pass, and the digits that a PASS guarantees.
    """
    what = what or row
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(value - expected)
    allowed = np.broadcast_to(allowed, error.shape)
    wrong = ~(error <= allowed)
    ratios = measured_over_allowed(error, allowed)
    ratio, typical = float(ratios.max()), typical_share(length, dtype)
    if not wrong.any() and ratio <= typical:
        digits = guaranteed_digits(typical * allowed, expected)
        if _says_nothing(typical * allowed, expected):
            return inconclusive(row, f"{what}: rounding alone may change a tenth of it here", ratio=ratio)
        return passed(row, ratio=ratio, digits=digits, used={"typical": ratio / typical} if typical < 1.0 else None)
    worst = np.unravel_index(int(np.argmax(np.where(wrong, ratios, -1.0) if wrong.any() else ratios)), error.shape)
    index = tuple(int(i) for i in worst)
    got = float(value[worst])
    message = f"{what}{list(index)} is {got:.9g}, expected {float(expected[worst]):.9g}"
    if wrong.any():
        outcome, kind = Outcome.FAILED, "value" if math.isfinite(got) else "not finite"
        message += f"; {int(wrong.sum())} of {error.size} entries are off"
    else:
        outcome, kind = Outcome.SUSPECT, ""
        message += f": within the bound, but {ratio / typical:.3g} times what independent roundings explain"
    return Verdict(
        row,
        outcome,
        kind=kind,
        message=message,
        ratio=ratio,
        index=index,
        value=got,
        expected=float(expected[worst]),
        error=float(error[worst]),
        allowed=float(allowed[worst]),
        roundoff=roundoff_it_behaves_like(float(ratios[worst]), length, dtype) if length > 1 else None,
        ratios=ratios,
    )


def _says_nothing(allowed: Array, expected: Array) -> bool:
    """Whether a bound is above `INCONCLUSIVE_SHARE` of what it is for, as a whole."""
    largest = float(np.max(np.abs(expected), initial=0.0))
    if largest == 0.0:
        return bool(allowed.any())
    return bool(np.linalg.norm(allowed / largest) > INCONCLUSIVE_SHARE * np.linalg.norm(expected / largest))


def compare_norm(row: str, value: Array, expected: Array, allowed: float) -> Verdict:
    """Judge an array as a whole: |value - expected| <= allowed in the Frobenius norm, or it fails.

    Parameters
    ----------
    row : str
        Where the verdict belongs.
    value, expected : array of float64
        Of one shape.
    allowed : float
        A bound on the norm; it may be infinite.
    """
    largest = float(np.max(np.abs(expected), initial=0.0))
    scale = largest if largest > 0.0 else 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(value / scale - expected / scale)
    error = float(np.linalg.norm(difference))
    bound = allowed / scale
    ratio = float(measured_over_allowed(error, bound))
    if error <= bound:
        return passed(
            row, ratio=ratio, digits=guaranteed_digits(np.array([bound]), np.array([np.linalg.norm(expected / scale)]))
        )
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(difference), np.inf, difference))), difference.shape)
    index = tuple(int(i) for i in worst)
    got = float(value[worst])
    message = f"{row} is {error * scale:.3e} away from the right one, allowed {allowed:.3e}; worst at {list(index)}: "
    return Verdict(
        row,
        Outcome.FAILED,
        kind="value" if math.isfinite(got) else "not finite",
        message=message + f"{got:.9g}, expected {float(expected[worst]):.9g}",
        ratio=ratio,
        index=index,
        value=got,
        expected=float(expected[worst]),
        error=error * scale,
        allowed=allowed,
        ratios=measured_over_allowed(difference, bound),
    )
