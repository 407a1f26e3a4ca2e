"""What the certificates of a run say together (THEORY T17-T19).

In: the certificates of consecutive steps on one and the same loss. Out: bounds on gradients and losses, each a `Rate`
that says from which theorem, and from what, it comes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from refgrad.bounds.norms import lowered, raised
from refgrad.convergence.certificate import Certificate

__all__ = [
    "Rate",
    "average_gradient_bound",
    "guaranteed_losses",
    "linear_rate",
    "relative_gradient_bound",
    "stochastic_gradient_bound",
]


@dataclass(frozen=True, slots=True)
class Rate:
    """An upper bound that a whole run gives.

    Parameters
    ----------
    theorem : str
        Its id.
    quantity : str
        What is bounded.
    value : float
        The bound, rounded up.
    terms : tuple of (str, float)
        What it is the sum or the product of.
    """

    theorem: str
    quantity: str
    value: float
    terms: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        parts = ", ".join(f"{name} = {value:.4g}" for name, value in self.terms)
        return f"{self.theorem}: {self.quantity} <= {self.value:.4g} ({parts})"


def average_gradient_bound(certificates: Sequence[Certificate], loss_floor: float) -> Rate:
    """Bound the mean of |grad f(x_t)|^2 over a run, weighted by the step sizes (THEORY T17).

    sum eta_t |grad f(x_t)|^2 <= 2 (f(x_0) - f_inf) + sum eta_t |e_t|^2, for every step at which the descent inequality
    is known, whether the error is small or not; for one step size this is T17 as it stands.

    Parameters
    ----------
    certificates : sequence of Certificate
        Of consecutive steps on one loss, each with `descent`.
    loss_floor : float
        f_inf: f is nowhere less.

    Returns
    -------
    Rate

    Raises
    ------
    ValueError
        Where there are none, the descent inequality of one is not known, or the floor is over a loss.

    Examples
    --------
    >>> import numpy as np
    >>> from refgrad.bounds import GradientBound
    >>> from refgrad.convergence import CompressedGradient, certify
    >>> bound = GradientBound(None, 0.25, None, 0.0, 1.0)
    >>> gradient = CompressedGradient(2.0, {"w": np.ones((1, 1))}, (("w", bound),))
    >>> print(average_gradient_bound([certify(gradient, step_size=0.5, smoothness=2.0)] * 4, 0.0))
    T17: mean |grad f|^2 <= 2.063 (2 (f_0 - f_inf) / sum eta = 2, mean |e|^2 = 0.0625)
    """
    steps = _descending(certificates, loss_floor)
    total = sum(step.step_size for step in steps)
    start = raised(2.0 * (steps[0].loss + steps[0].loss_rounding - loss_floor) / lowered(total))
    error = raised(sum(step.step_size * step.error_bound**2 for step in steps) / lowered(total))
    terms = (("2 (f_0 - f_inf) / sum eta", start), ("mean |e|^2", error))
    return Rate("T17", "mean |grad f|^2", raised(start + error), terms)


def relative_gradient_bound(certificates: Sequence[Certificate], loss_floor: float) -> Rate:
    """Bound the same mean from the ratios |e_t| <= delta |grad f(x_t)| alone (THEORY T17).

    2 (f(x_0) - f_inf) / (sum eta_t (1 - delta^2)) with the largest delta of the run.

    Parameters
    ----------
    certificates : sequence of Certificate
        Of consecutive steps on one loss, all certified.
    loss_floor : float
        f_inf.

    Returns
    -------
    Rate

    Raises
    ------
    ValueError
        Where one of them is not certified: then delta < 1 is not known, and there is no such bound.
    """
    steps = _descending(certificates, loss_floor)
    delta = _largest_ratio(steps)
    remaining = lowered(lowered(sum(step.step_size for step in steps)) * lowered(1.0 - delta * delta))
    value = raised(2.0 * (steps[0].loss + steps[0].loss_rounding - loss_floor) / remaining)
    terms = (("f_0 - f_inf", steps[0].loss - loss_floor), ("sum eta (1 - delta^2)", remaining), ("delta", delta))
    return Rate("T17", "mean |grad f|^2", value, terms)


def linear_rate(certificates: Sequence[Certificate], strong_convexity: float, loss_floor: float) -> Rate:
    """Bound f(x_T) - f* where the PL inequality holds (THEORY T18).

    The product of 1 - eta_t mu (1 - delta_t^2) over the steps, times f(x_0) - f*.

    Parameters
    ----------
    certificates : sequence of Certificate
        Of consecutive steps on one loss, all certified.
    strong_convexity : float
        mu, of the PL inequality.
    loss_floor : float
        f*, or less.

    Returns
    -------
    Rate

    Raises
    ------
    ValueError
        Where one of them is not certified, or mu is not positive: without PL there is no linear rate.
    """
    if not 0.0 < strong_convexity < math.inf:
        raise ValueError(
            f"strong_convexity must be positive, got {strong_convexity!r}: without it no rate is known for the loss"
        )
    steps = _descending(certificates, loss_floor)
    _largest_ratio(steps)
    factor = 1.0
    for step in steps:
        kept = raised(1.0 - lowered(lowered(step.step_size * strong_convexity) * lowered(1.0 - step.ratio**2)))
        factor = raised(factor * kept)
    gap = raised(steps[0].loss + steps[0].loss_rounding - loss_floor)
    return Rate("T18", "f(x_T) - f*", raised(factor * gap), (("product of the rates", factor), ("f_0 - f*", gap)))


def stochastic_gradient_bound(
    *, gap: float, step_size: float, smoothness: float, steps: int, bias: float, variance: float
) -> Rate:
    """Bound the mean of E |grad f(x_t)|^2 over a run with noisy gradients (THEORY T19).

    Parameters
    ----------
    gap : float
        f(x_0) - f_inf.
    step_size, smoothness : float
        eta and L, with eta <= 1/L.
    steps : int
        T.
    bias : float
        beta: what compression moves the gradient by at most.
    variance : float
        sigma^2 of the noise, which has mean zero whatever came before.

    Returns
    -------
    Rate
        2 (f_0 - f_inf) / (eta T) + beta^2 + L eta sigma^2.

    Raises
    ------
    ValueError
        Where a number is out of range, or the step size exceeds 1/L.

    Examples
    --------
    >>> print(stochastic_gradient_bound(gap=1.0, step_size=0.5, smoothness=2.0, steps=8, bias=0.5, variance=0.25))
    T19: mean E |grad f|^2 <= 1 (2 (f_0 - f_inf) / (eta T) = 0.5, beta^2 = 0.25, L eta sigma^2 = 0.25)
    """
    for name, value in (("gap", gap), ("bias", bias), ("variance", variance)):
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {value!r}")
    for name, value in (("step_size", step_size), ("smoothness", smoothness)):
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps!r}")
    if step_size * smoothness > 1.0:
        raise ValueError(f"step_size must be at most 1/L = {1.0 / smoothness:.4g}, got {step_size!r}")
    start = raised(2.0 * gap / (step_size * steps))
    terms = (
        ("2 (f_0 - f_inf) / (eta T)", start),
        ("beta^2", raised(bias * bias)),
        ("L eta sigma^2", raised(smoothness * step_size * variance)),
    )
    return Rate("T19", "mean E |grad f|^2", raised(sum(value for _, value in terms)), terms)


def guaranteed_losses(certificates: Sequence[Certificate]) -> list[float]:
    """Return how low the loss is at most after 0, 1, 2, ... steps on one loss, from the certificates alone.

    A step that is not certified is allowed anything: from there on the guarantee is infinite.

    Parameters
    ----------
    certificates : sequence of Certificate
        Of consecutive steps.

    Returns
    -------
    list of float
        One more than there are certificates.
    """
    losses = [certificates[0].loss + certificates[0].loss_rounding] if certificates else []
    for step in certificates:
        decrease = step.guaranteed_decrease
        after = math.inf if decrease is None else losses[-1] - decrease
        losses.append(after + 2.0**-50 * abs(after) if math.isfinite(after) else math.inf)
    return losses


def _descending(certificates: Sequence[Certificate], loss_floor: float) -> Sequence[Certificate]:
    if not certificates:
        raise ValueError("certificates must hold one for each step of a run, got none")
    for number, step in enumerate(certificates):
        if step.descent is None:
            raise ValueError(f"certificates[{number}] must know the descent inequality, but {step.reason}")
        if step.loss + step.loss_rounding < loss_floor:
            raise ValueError(f"loss_floor must be at most every loss, got {loss_floor!r} and a loss of {step.loss!r}")
    return certificates


def _largest_ratio(steps: Sequence[Certificate]) -> float:
    for number, step in enumerate(steps):
        if not step.certified:
            raise ValueError(f"certificates[{number}] must be certified, but {step.reason}")
    return max(step.ratio for step in steps)
