"""Mistakes in a step of SGD: what is forgotten, scaled or added at the wrong place.

In: the parts of a case. Out: the wrong velocity, and the wrong parameter that follows from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.mistakes.parts import Parts

__all__ = ["STEPS"]

Rule = Callable[[Parts, Array, Array, Array], Array]
"""A velocity from (parts, parameter, velocity before, gradient)."""


def _rate(parts: Parts, name: str) -> float:
    return float(parts.case.attributes[name])


def _with_decay(parts: Parts, held: Array, gradient: Array) -> Array:
    return gradient + _rate(parts, "weight_decay") * held


def _right(parts: Parts, held: Array, before: Array, gradient: Array) -> Array:
    return _rate(parts, "momentum") * before + _with_decay(parts, held, gradient)


def _no_momentum(parts: Parts, held: Array, before: Array, gradient: Array) -> Array:
    return _with_decay(parts, held, gradient)


def _no_decay(parts: Parts, held: Array, before: Array, gradient: Array) -> Array:
    return _rate(parts, "momentum") * before + gradient


def _decay_of_the_wrong_sign(parts: Parts, held: Array, before: Array, gradient: Array) -> Array:
    return _no_decay(parts, held, before, gradient) - _rate(parts, "weight_decay") * held


def _dampened(parts: Parts, held: Array, before: Array, gradient: Array) -> Array:
    kept = _rate(parts, "momentum")
    return kept * before + (1.0 - kept) * _with_decay(parts, held, gradient)


def _momentum_on_the_gradient(parts: Parts, held: Array, before: Array, gradient: Array) -> Array:
    return before + _rate(parts, "momentum") * _with_decay(parts, held, gradient)


def _uncompressed(parts: Parts, held: Array, before: Array, gradient: Array) -> Array:
    return _right(parts, held, before, parts.reference.grad_weight_exact)


def _nesterov(parts: Parts, held: Array, before: Array, gradient: Array) -> Array:
    moved = _right(parts, held, before, gradient)
    return _with_decay(parts, held, gradient) + _rate(parts, "momentum") * moved


VELOCITIES: Final[tuple[tuple[str, str, Rule], ...]] = (
    ("no momentum", "the velocity before is forgotten", _no_momentum),
    ("no weight decay", "the weight decay is left out", _no_decay),
    ("decay of the wrong sign", "the weight decay is subtracted from the gradient", _decay_of_the_wrong_sign),
    ("dampened", "the gradient is multiplied by 1 - momentum", _dampened),
    ("momentum on the gradient", "the momentum multiplies the gradient, not the velocity", _momentum_on_the_gradient),
)


def _velocity(rule: Rule, parameter: str) -> Callable[[Parts], Array]:
    def wrong(parts: Parts) -> Array:
        held, before = (np.asarray(parts.case.array(name), np.float64) for name in (parameter, f"{parameter}_velocity"))
        return rule(parts, held, before, parts.gradient(parameter))

    return wrong


def _moved(rule: Rule, parameter: str, sign: float = 1.0) -> Callable[[Parts], Array]:
    velocity = _velocity(rule, parameter)

    def wrong(parts: Parts) -> Array:
        held = np.asarray(parts.case.array(parameter), np.float64)
        result: Array = held - sign * _rate(parts, "learning_rate") * velocity(parts)
        return result

    return wrong


def _of(parameter: str) -> dict[str, tuple[tuple[str, str, Callable[[Parts], Array | None]], ...]]:
    rules = VELOCITIES
    if parameter == "weight":
        rules = (*rules, ("uncompressed activation", "the uncompressed activation is used", _uncompressed))
    moved: list[tuple[str, str, Callable[[Parts], Array | None]]] = [
        (name, cause, _moved(rule, parameter)) for name, cause, rule in rules
    ]
    moved.append(("Nesterov", "Nesterov's step is taken", _moved(_nesterov, parameter)))
    moved.append(("the wrong way", "the step goes up the gradient", _moved(_right, parameter, -1.0)))
    return {
        f"{parameter}_velocity": tuple((name, cause, _velocity(rule, parameter)) for name, cause, rule in rules),
        parameter: tuple(moved),
    }


STEPS: Final = {**_of("weight"), **_of("bias")}
"""Array -> what can be wrong with it after the step."""
