"""The bound of a whole network from those of its layers (THEORY T13).

In: a `GradientBound` for each layer that keeps its input compressed. Out: one for all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from refgrad.arguments import Array, float_array
from refgrad.bounds.derivation import Derivation
from refgrad.bounds.gradient import GRADES, GradientBound
from refgrad.bounds.norms import frobenius_norm, lowered_hypotenuse, raised, raised_hypotenuse
from refgrad.rounding import gamma

__all__ = ["network_bound", "shared_weight_bound"]

SHOWN = 6
"""How many layers the formula of a derivation names; its quantities are those of all."""


def network_bound(bounds: Iterable[GradientBound]) -> GradientBound:
    """Bound the error of the whole gradient from those of the compressed layers (THEORY T13).

    |grad f - grad~ f|^2 = sum_l |dW_l - dW~_l|^2: no error reaches another layer (THEORY T10). Each layer has a weight
    of its own; of those that share one, `shared_weight_bound` makes one bound first.

    Parameters
    ----------
    bounds : iterable of GradientBound
        One for each weight whose layer keeps its input compressed.

    Returns
    -------
    GradientBound
        A grade is None where one of the layers has none. The magnitude is the norm of these layers' weight gradients.

    Raises
    ------
    ValueError
        Where there are no bounds.

    Examples
    --------
    >>> layers = [GradientBound(None, 3.0, 1.0, 0.0, 6.0), GradientBound(None, 4.0, 1.0, 0.0, 8.0)]
    >>> network_bound(layers).a_posteriori, network_bound(layers).magnitude
    (5.0, 10.0)
    >>> print(network_bound(layers).derivation())
    T13, a_posteriori: |dW - dW~| <= (b_1^2 + b_2^2)^(1/2) + rounding
        = (3.00000^2 + 4.00000^2)^(1/2) + 0 <= 5.00001
    """
    layers = _layers(bounds, "compressed layer")
    magnitude = lowered_hypotenuse(*(layer.magnitude for layer in layers))
    rounding = raised_hypotenuse(*(layer.rounding for layer in layers))
    squares = [f"b_{number}^2" for number in range(1, len(layers) + 1)]
    own = [layer.own_rounding for layer in layers if layer.own_rounding is not None]
    own_rounding = raised_hypotenuse(*own) if len(own) == len(layers) else None
    together = _together(layers, raised_hypotenuse, rounding, magnitude, f"({_sum(squares)})^(1/2)", "")
    return replace(together, own_rounding=own_rounding)


def shared_weight_bound(bounds: Iterable[GradientBound], grad_weight: Array) -> GradientBound:
    """Bound the error of the gradient of a weight that several layers share (THEORY T13, remark).

    The gradient is the sum of those of the layers, so its error is no more than the sum of theirs: they may point the
    same way, and then the root of their squares is too little.

    Parameters
    ----------
    bounds : iterable of GradientBound
        One for each layer that uses the weight.
    grad_weight : array
        dW~ of the shared weight, the sum over these layers.

    Returns
    -------
    GradientBound
        A grade is None where one of the layers has none. `rounding` includes that of the sum.

    Raises
    ------
    TypeError
        Where `grad_weight` is no float array.
    ValueError
        Where there are no bounds, or `grad_weight` is not finite.

    Examples
    --------
    >>> layer = GradientBound(None, 3.0, 1.0, 0.0, 6.0)
    >>> round(shared_weight_bound([layer, layer], np.full((2, 2), 6.0)).a_posteriori, 6)
    6.0
    """
    layers = _layers(bounds, "layer that shares the weight")
    float_array("grad_weight", grad_weight, finite=True)

    def added(*values: float) -> float:
        return values[0] if len(values) == 1 else raised(sum(values))

    # Both gradients are sums of so many terms, and no exact term is longer than the compressed one and its error.
    counted = 1.0 + 2.0 * gamma(grad_weight.size + 2, np.float64)
    lengths = [raised(2.0 * layer.magnitude * counted + layer.a_posteriori + layer.rounding) for layer in layers]
    summed = gamma(len(layers) - 1, grad_weight.dtype) * added(*lengths)
    rounding = added(*(layer.rounding for layer in layers), *((summed,) if summed > 0.0 else ()))
    formula = _sum([f"b_{number}" for number in range(1, len(layers) + 1)])
    magnitude = frobenius_norm(grad_weight, upward=False)
    return _together(layers, added, rounding, magnitude, formula, "the layers share one weight")


def _layers(bounds: Iterable[GradientBound], what: str) -> list[GradientBound]:
    layers = list(bounds)
    if not layers:
        raise ValueError(f"bounds must hold one GradientBound for each {what}, got none")
    return layers


def _together(
    layers: Sequence[GradientBound],
    combine: Callable[..., float],
    rounding: float,
    magnitude: float,
    formula: str,
    because: str,
) -> GradientBound:
    values: dict[str, float] = {}
    derivations = []
    for grade in GRADES:
        known = [value for value in (getattr(layer, grade) for layer in layers) if value is not None]
        if len(known) < len(layers):
            continue
        values[grade] = combine(*known)
        terms = [(f"b_{number}", value) for number, value in enumerate(known, start=1)]
        value = raised(values[grade] + rounding)
        derivations.append(
            Derivation("T13", grade, f"{formula} + rounding", because, (*terms, ("rounding", rounding)), value)
        )
    return GradientBound(
        a_priori=values.get("a_priori"),
        a_posteriori=values["a_posteriori"],
        exact=values.get("exact"),
        rounding=rounding,
        magnitude=magnitude,
        spectrum=values.get("spectrum"),
        derivations=tuple(derivations),
    )


def _sum(terms: Sequence[str]) -> str:
    shown = terms if len(terms) <= SHOWN else (*terms[: SHOWN - 1], "...", terms[-1])
    return " + ".join(shown)
