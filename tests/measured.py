"""How near to its bound each theorem was seen to come, over all tests of a run.

In: what tests measured, each as a share of its bound. Out: per theorem the largest share, for inputs made to attain
the bound the smallest too, and which of them must fail the run.
"""

import math
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

ATTAINED = 0.99
"""What an input made to attain a bound has to reach: rounding may take a little off, not a hundredth."""


class Measurement(NamedTuple):
    """A share of a theorem's bound, and the test that saw it; plain values, so that a worker process can send it."""

    theorem: str
    attained: bool
    ratio: float
    test: str


class Range(NamedTuple):
    """The smallest and the largest of the shares measured for one theorem."""

    smallest: Measurement
    largest: Measurement


_ranges: dict[tuple[str, bool], Range] = {}


def record(theorem: str, ratio: float, *, attained: bool = False) -> None:
    """Take down that `ratio` of a theorem's bound was measured; the run fails if it is over 1.

    Parameters
    ----------
    theorem : str
        An id, such as ``"T12"``.
    ratio : float
        What was measured, divided by its bound; the bound includes what rounding may add.
    attained : bool
        The input is made to attain the bound: the run also fails if the ratio is below 0.99.
    """
    if re.fullmatch("T[1-9][0-9]?", theorem) is None:
        raise ValueError(f"theorem must be an id such as 'T12', got {theorem!r}")
    ratio = float(ratio)
    if math.isnan(ratio) or ratio < 0:
        raise ValueError(f"ratio must be a number that is not negative, got {ratio} for {theorem}")
    gather([Measurement(theorem, attained, ratio, os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0])])


def gather(measurements: Iterable[Measurement]) -> None:
    """Add measurements, this process's own or those that a worker sent."""
    for new in measurements:
        old = _ranges.get((new.theorem, new.attained), Range(new, new))
        _ranges[new.theorem, new.attained] = Range(
            min(old.smallest, new, key=lambda one: one.ratio), max(old.largest, new, key=lambda one: one.ratio)
        )


def extremes() -> list[Measurement]:
    """Return what a worker has to send for the table to be the same as if all had run in one process."""
    return [measurement for pair in _ranges.values() for measurement in pair]


def table() -> list[str]:
    """Lay out the ratios, one line per theorem."""
    theorems = sorted({theorem for theorem, _ in _ranges}, key=lambda theorem: int(theorem[1:]))
    lines = ["theorem   largest of all other inputs   inputs made to attain it: smallest     largest"]
    for theorem in theorems:
        plain, constructed = _ranges.get((theorem, False)), _ranges.get((theorem, True))
        cells = [plain.largest if plain else None, *(constructed or (None, None))]
        shown = [f"{cell.ratio:.6f}" if cell else "" for cell in cells]
        lines.append(f"{theorem:<8} {shown[0]:>28} {shown[1]:>36} {shown[2]:>11}".rstrip())
    return lines


def failures() -> list[str]:
    """Name each ratio over 1, and each input made to attain a bound that stays below 0.99 of it."""
    found = []
    for (theorem, attained), (smallest, largest) in _ranges.items():
        if largest.ratio > 1:
            found.append(f"{theorem}: {largest.test} measured {largest.ratio!r} of the bound, more than all of it")
        if attained and smallest.ratio < ATTAINED:
            found.append(
                f"{theorem}: {smallest.test} is made to attain the bound, and reached {smallest.ratio!r} of it"
            )
    return found
