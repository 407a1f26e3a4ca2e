"""What one step of gradient descent with compressed activations guarantees, and what it does not (THEORY T16, T20).

In: a `CompressedGradient`, the step size, and either the smoothness or the loss after the step. Out: a `Certificate`.
No guarantee follows from an explained variance alone (T20), so every step is certified by itself or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from refgrad.arguments import Array, float_array, one_of
from refgrad.bounds import GRADES, GradientBound, shared_weight_bound
from refgrad.bounds.norms import lowered, raised
from refgrad.convergence.gradient import CompressedGradient
from refgrad.convergence.outward import (
    distance_above,
    inner_product_above,
    norm_above,
    norm_below,
    together_above,
)

__all__ = ["DIRECTION", "STATUSES", "Certificate", "LayerError", "certify"]

STATUSES = ("certified", "not certified", "holds", "violated")
UNVERIFIED = "the descent inequality could not be verified along the step"
DIRECTION = "direction"
"""What spoils a step that is moved by something else than its gradient, as momentum does."""


@dataclass(frozen=True, slots=True)
class LayerError:
    """What one parameter adds to the error of the gradient.

    Parameters
    ----------
    name : str
        The weight of the compressed layer, or of the layers that share it.
    bound : float
        How far dW~ is from dW in exact arithmetic at most, its own rounding included (THEORY T11, T12, T15).
    measured : float or None
        What it was, where the exact gradient is at hand.
    """

    name: str
    bound: float
    measured: float | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is known of a step x+ = x - eta d, where d is the compressed gradient g~ or made from it.

    With e = d - grad f(x), THEORY T16 says f(x+) <= f(x) - eta/2 |grad f|^2 + eta/2 |e|^2 if the descent inequality
    holds between x and x+ with 1/eta, as it does where f is L-smooth and eta <= 1/L. With |e| <= b and n = |d| the
    gradient itself need not be known: |grad f| >= n - b, so that the step descends by eta/2 n (n - 2b) at least.

    Parameters
    ----------
    layers : tuple of LayerError
        For each compressed weight what it adds to |e|.
    error_bound : float
        b: |e| is at most this, with all that differs between d and g~.
    direction_norm : float
        n: |d|, from below.
    direction_difference : float
        |d - g~|, from above; 0 for plain gradient descent.
    step_size : float
        eta.
    smoothness : float or None
        L, where it was given.
    loss, next_loss : float or None
        f(x) and f(x+), where known.
    loss_rounding : float
        How far each of the two can be off.
    descent : str or None
        Why the descent inequality is known to hold: ``"smoothness"`` or ``"verified"``; None where it is not.
    reason : str or None
        Why the step is not certified; None where it is.
    spoiler : str or None
        The weight that adds most to |e|, or ``"direction"``, where it is the error that spoils the certificate.
    gradient_norm : float or None
        |grad f|, where the exact gradient is at hand.
    measured_error : float or None
        |e|, where it is.
    violation : str or None
        What was found wrong with a bound or with T16 where the exact gradient is at hand; None where all holds.

    Examples
    --------
    >>> from refgrad.bounds import GradientBound
    >>> gradient = CompressedGradient(1.0, {"w": np.array([[3.0, 4.0]])}, (("w", GradientBound(None, 1, None, 0, 5)),))
    >>> print(certify(gradient, step_size=0.1, smoothness=10.0))
    certified: |e| <= 1 and |d| = 5, so |e| <= 0.25 |grad f|; descends by 0.75 at least
    >>> print(certify(gradient, step_size=0.2, smoothness=10.0))
    not certified: step_size 0.2 exceeds 1/L = 0.1
    """

    layers: tuple[LayerError, ...]
    error_bound: float
    direction_norm: float
    direction_difference: float
    step_size: float
    smoothness: float | None
    loss: float
    next_loss: float | None
    loss_rounding: float
    descent: str | None
    reason: str | None
    spoiler: str | None
    gradient_norm: float | None = None
    measured_error: float | None = None
    violation: str | None = None

    @property
    def certified(self) -> bool:
        """Whether the step is guaranteed to descend, without looking at the exact gradient."""
        return self.reason is None

    @property
    def status(self) -> str:
        """Return one of `STATUSES`: the last two where the exact gradient is at hand."""
        if self.gradient_norm is not None:
            return "holds" if self.violation is None else "violated"
        return "certified" if self.certified else "not certified"

    @property
    def ratio(self) -> float:
        """What |e| / |grad f| is at most, b / (n - b): THEORY T17's delta; inf where b >= n, and nothing is known."""
        if self.error_bound == 0.0:
            return 0.0
        if not self.error_bound < self.direction_norm:
            return math.inf
        return raised(self.error_bound / lowered(self.direction_norm - self.error_bound))

    @property
    def guaranteed_decrease(self) -> float | None:
        """f(x) - f(x+) is at least this (THEORY T16), from below; None where the step is not certified."""
        if not self.certified:
            return None
        return lowered(self.step_size / 2.0 * self.direction_norm * (self.direction_norm - 2.0 * self.error_bound))

    @property
    def decrease(self) -> float | None:
        """f(x) - f(x+), as computed; None where the loss after the step is not known."""
        return None if self.next_loss is None else self.loss - self.next_loss

    def __str__(self) -> str:
        if self.violation is not None:
            return f"violated: {self.violation}"
        head = f"{self.status}: "
        if self.reason is not None:
            return (
                f"{head}{self.reason}" if self.gradient_norm is None else f"{head}but is not certified: {self.reason}"
            )
        return (
            f"{head}|e| <= {self.error_bound:.4g} and |d| = {self.direction_norm:.4g}, so |e| <= {self.ratio:.4g} "
            f"|grad f|; descends by {self.guaranteed_decrease:.4g} at least"
        )


def certify(
    gradient: CompressedGradient,
    *,
    step_size: float,
    smoothness: float | None = None,
    next_loss: float | None = None,
    next_rounding: float = 0.0,
    direction: Mapping[str, Array] | None = None,
    exact: Mapping[str, Array] | None = None,
    grade: str = "a_posteriori",
) -> Certificate:
    """Say what a step guarantees (THEORY T16), from the bounds on its gradient's error (T11-T13).

    Parameters
    ----------
    gradient : CompressedGradient
        g~ and what is known of its error, at x.
    step_size : float
        eta, positive.
    smoothness : float, optional
        L, of f. Without it the descent inequality is verified along the step, from the loss after it.
    next_loss : float, optional
        f(x+), x+ = x - eta d.
    next_rounding : float
        How far that can be off, see `loss_rounding`.
    direction : mapping of str to array, optional
        d, where the step is moved by something else than g~, as with momentum.
    exact : mapping of str to array, optional
        The gradient of exact backpropagation: then the bound and T16 themselves are checked.
    grade : {"a_posteriori", "a_priori", "exact"}
        Which bound on the error of each layer is used.

    Returns
    -------
    Certificate
        Not certified, with the reason, where anything is not finite, eta exceeds 1/L, the descent inequality could not
        be verified, or the error bound is half the direction's norm or more.

    Raises
    ------
    TypeError
        Where an array is no float array.
    ValueError
        Where step size or smoothness is not positive, or arrays do not belong to the gradient's parameters.
    """
    one_of("grade", grade, GRADES)
    if not 0.0 < step_size < math.inf:
        raise ValueError(f"step_size must be positive and finite, got {step_size!r}")
    if smoothness is not None and not 0.0 < smoothness < math.inf:
        raise ValueError(f"smoothness must be positive and finite, got {smoothness!r}")
    for name, arrays in (("direction", direction), ("exact", exact)):
        if arrays is not None:
            _check_like(name, arrays, gradient.gradients)
    moved = gradient.gradients if direction is None else direction
    bounds = _bounds_by_weight(gradient)
    layers = tuple(_layer_error(name, bound, grade, gradient, exact) for name, bound in bounds.items())
    compression = together_above(layer.bound for layer in layers)
    finite = all(np.isfinite(array).all() for array in (*moved.values(), *gradient.gradients.values()))
    difference = 0.0 if direction is None else distance_above(direction, gradient.gradients) if finite else math.nan
    certificate = Certificate(
        layers=layers,
        error_bound=compression if difference == 0.0 else raised(compression + difference),
        direction_norm=norm_below(moved) if finite else math.nan,
        direction_difference=difference,
        step_size=step_size,
        smoothness=smoothness,
        loss=gradient.loss,
        next_loss=next_loss,
        loss_rounding=gradient.rounding + next_rounding,
        descent=None,
        reason=None,
        spoiler=None,
    )
    if not finite:
        return replace(certificate, reason="the gradient is not finite")
    descent, reason = _descent(certificate, moved, gradient.gradients, compression)
    certificate = replace(certificate, descent=descent, reason=reason)
    if reason in (None, UNVERIFIED) and not 2.0 * certificate.error_bound < certificate.direction_norm:
        certificate = _spoiled(certificate)
    if exact is None:
        return certificate
    totals = {name: bound.total(grade) for name, bound in bounds.items()}
    off = together_above(bound.rounding for bound in bounds.values())
    return _checked(certificate, gradient, moved, exact, totals, off)


def _bounds_by_weight(gradient: CompressedGradient) -> dict[str, GradientBound]:
    """Return one bound for each compressed weight; those of layers that share it add up (THEORY T13, remark)."""
    together: dict[str, list[GradientBound]] = {}
    for name, bound in gradient.bounds:
        together.setdefault(name, []).append(bound)
    return {
        name: found[0] if len(found) == 1 else shared_weight_bound(found, gradient.gradients[name])
        for name, found in together.items()
    }


def _layer_error(
    name: str, bound: GradientBound, grade: str, gradient: CompressedGradient, exact: Mapping[str, Array] | None
) -> LayerError:
    distance = bound.distance(grade)
    measured = None if exact is None else distance_above({name: exact[name]}, gradient.gradients)
    return LayerError(name, math.inf if distance is None else distance, measured)


def _descent(
    certificate: Certificate, moved: Mapping[str, Array], gradients: Mapping[str, Array], compression: float
) -> tuple[str | None, str | None]:
    """Return why T16's inequality is known to hold, or why it is not."""
    step_size, smoothness, next_loss = certificate.step_size, certificate.smoothness, certificate.next_loss
    if not math.isfinite(certificate.loss):
        return None, "the loss is not finite"
    if not math.isfinite(certificate.error_bound):
        return None, "there is no finite bound on the error"
    if smoothness is not None:
        if step_size * smoothness > 1.0:
            return None, f"step_size {step_size:.4g} exceeds 1/L = {1.0 / smoothness:.4g}"
        return "smoothness", None
    if next_loss is None:
        return None, "neither the smoothness nor the loss after the step is known"
    # T16's inequality is f(x+) <= f(x) - eta <grad f, d> + eta/2 |d|^2; and <grad f, d> <= <g~, d> + b |d|.
    inner = inner_product_above(moved, gradients) + raised(compression * norm_above(moved))
    allowed = certificate.loss - step_size * inner + lowered(step_size / 2.0 * certificate.direction_norm**2)
    rounding = certificate.loss_rounding + 2.0**-50 * (abs(certificate.loss) + abs(step_size * inner))
    if next_loss + rounding <= allowed:
        return "verified", None
    return None, UNVERIFIED


def _spoiled(certificate: Certificate) -> Certificate:
    """Say what makes the error too large for a guarantee."""
    bound, norm, difference = certificate.error_bound, certificate.direction_norm, certificate.direction_difference
    reason = f"the error may be {bound:.4g}, half of |d| = {norm:.4g} or more"
    if bound == 0.0:
        return replace(certificate, reason="the direction is zero: x may be stationary", spoiler=None)
    worst = max(certificate.layers, key=lambda layer: layer.bound, default=None)
    spoiler = DIRECTION if worst is None or difference > worst.bound else worst.name
    return replace(certificate, reason=f"{reason}; most of it is that of {spoiler}", spoiler=spoiler)


def _checked(
    certificate: Certificate,
    gradient: CompressedGradient,
    moved: Mapping[str, Array],
    exact: Mapping[str, Array],
    totals: Mapping[str, float | None],
    off: float,
) -> Certificate:
    """Add what the exact gradient says; it is rounded as well, so that it may differ from g~ by the `totals`."""
    error, size = distance_above(moved, exact), norm_below(exact)
    touched = [
        name for name in exact if name not in totals and not np.array_equal(exact[name], gradient.gradients[name])
    ]
    violation = None
    for layer in certificate.layers:
        total = totals[layer.name]
        if total is not None and layer.measured is not None and layer.measured > total and violation is None:
            violation = f"the gradient of {layer.name} is off by {layer.measured:.4g}, its bound is {total:.4g}"
    if violation is None and touched:
        violation = f"the gradient of {touched[0]}, which no compression touches, is not the exact one (T10)"
    elif violation is None and certificate.descent == "smoothness" and certificate.next_loss is not None:
        half = certificate.step_size / 2.0
        # Where eta = 1/L, T16 is an equation for a bowl: what the exact gradient itself is off by has to be allowed.
        slack = certificate.loss_rounding + raised(2.0 * half * off * (size + error + off))
        allowed = certificate.loss + half * (error**2 - size**2)
        if certificate.next_loss - slack > allowed + 2.0**-44 * abs(allowed):
            violation = f"the loss is {certificate.next_loss:.6g} after the step, where T16 allows {allowed:.6g}"
    return replace(certificate, gradient_norm=size, measured_error=error, violation=violation)


def _check_like(name: str, arrays: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
    if arrays.keys() != gradients.keys():
        missing = [key for key in gradients if key not in arrays]
        unknown = [key for key in arrays if key not in gradients]
        raise ValueError(f"{name} must have the gradient's parameters: it lacks {missing}, and has {unknown} too many")
    for key, array in arrays.items():
        float_array(f"{name}[{key!r}]", array)
        if array.shape != gradients[key].shape:
            raise ValueError(f"{name}[{key!r}] must have shape {gradients[key].shape}, got {array.shape}")
