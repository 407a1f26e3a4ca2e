"""Where a bound comes from: the theorem, the quantities that went into it, and the sum that a report prints.

In: what a bound was computed from. Out: a `Derivation`, whose `str` is the sum with its numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from refgrad.bounds.norms import rounded_up

__all__ = ["Derivation"]


@dataclass(frozen=True, slots=True)
class Derivation:
    """One bound on |dW - dW~|, as a theorem makes it of quantities that are bounds themselves, all rounded up.

    Parameters
    ----------
    theorem : str
        Its id: "T11" for a linear layer, "T12" for a convolution, "T13" for a network.
    grade : str
        Which grade of `GradientBound` it derives.
    formula : str
        Of the names of the quantities; the last of them, "rounding", is what THEORY T15 adds.
    because : str
        Why the quantities are what they are; empty where the formula says it all.
    terms : tuple of (str, float)
        The quantities by name, in the order of the formula; see `quantities`.
    value : float
        The bound: it includes all rounding, and is rounded up.

    Examples
    --------
    >>> terms = (("|G|_2", 2.0), ("|E|", 3.0), ("rounding", 1e-15))
    >>> print(Derivation("T11", "exact", "|G|_2 * |E| + rounding", "", terms, 6.0000000000001))
    T11, exact: |dW - dW~| <= |G|_2 * |E| + rounding
        = 2.00000 * 3.00000 + 1.00001e-15 <= 6.00001
    """

    theorem: str
    grade: str
    formula: str
    because: str
    terms: tuple[tuple[str, float], ...]
    value: float

    @property
    def quantities(self) -> dict[str, float]:
        """The quantities by name, in the order of the formula: a new dict."""
        return dict(self.terms)

    def __str__(self) -> str:
        values = self.quantities
        # The longest name first: |G|_2 begins with |G|.
        names = "|".join(re.escape(name) for name in sorted(values, key=len, reverse=True))
        numbers = re.sub(names, lambda found: rounded_up(values[found.group()]), self.formula)
        reason = f", {self.because}" if self.because else ""
        return (
            f"{self.theorem}, {self.grade}: |dW - dW~| <= {self.formula}{reason}\n"
            f"    = {numbers} <= {rounded_up(self.value)}"
        )
