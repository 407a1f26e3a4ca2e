"""A case taken apart: its arrays, and one decomposition, the target's own where it showed one.

In: what is right for a case, and an answer where there is one. Out: `Parts`, from which right and wrong results are
computed alike.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.multilinear import unfold
from refgrad.oracle import tolerance
from refgrad.oracle.answers import Answer
from refgrad.oracle.own import target as own
from refgrad.oracle.reference import norm, tucker_product
from refgrad.rounding import Precision

__all__ = ["Parts"]

NO_DECOMPOSITION = ("rank", "unfold", "svd")
"""Operations whose results are no core with factors."""


class Parts:
    """A case and one decomposition of its activation, the target's own where it showed one.

    Parameters
    ----------
    reference : TensorReference
        What is right.
    answer : Answer, optional
        Where the decomposition comes from; the reference's own where absent or not usable.
    ranks : tuple of int, optional
        At which ranks the reference's own is taken; the least admissible ones where absent.
    """

    def __init__(self, reference: Any, answer: Answer | None = None, ranks: tuple[int, ...] | None = None) -> None:
        self.reference = reference
        self.case = reference.case
        self.operation: str = self.case.operation
        self.x: Array = reference.x
        given = self.case.parts
        self.weight, self.bias, self.grad_output = (
            np.asarray(given[name], np.float64) if name in given else np.zeros(0)
            for name in ("weight", "bias", "grad_output")
        )
        if self.operation == "weight_gradient":
            self.weight = np.zeros(self.case.shapes["grad_weight"])
        self.answer = answer
        self.core, self.factors = self._decomposition(answer, ranks)

    def _decomposition(self, answer: Answer | None, ranks: tuple[int, ...] | None) -> tuple[Array, tuple[Array, ...]]:
        reference = self.reference
        if self.operation in NO_DECOMPOSITION:
            return self.x, ()
        if self.operation in ("reconstruct", "weight_gradient"):
            given: tuple[Array, tuple[Array, ...]] = reference.given
            return given
        if answer is not None and answer.factors is not None:
            shown = answer.decomposition
            return shown if shown is not None else (self.core_of(answer.factors), answer.factors)
        if self.operation == "subspace_iteration":
            start = tuple(np.asarray(factor, np.float64) for factor in self.case.factors())
            moved = own.subspace_iteration(self.x, start)
            return moved["core"], moved["factors"]
        wanted = ranks or (answer.ranks if answer is not None else None) or reference.smallest_ranks
        limits = [mode.squares.size for mode in reference.modes]
        wanted = tuple(max(1, min(k, limit)) for k, limit in zip(wanted, limits, strict=True))
        compressed: tuple[Array, tuple[Array, ...]] = reference.compressed(wanted)
        return compressed

    @cached_property
    def activation(self) -> Array:
        """The compressed activation A~, of the shape of the tensor."""
        return tucker_product(self.core, self.factors)

    @property
    def ranks(self) -> tuple[int, ...]:
        """K_1 ... K_d."""
        return tuple(factor.shape[1] for factor in self.factors)

    @cached_property
    def singular_pair(self) -> tuple[Array, Array]:
        """U_K S_K and V_K^T of the first unfolding; V_K is the target's own where it showed one."""
        shown = self.answer.arrays.get("right") if self.answer is not None else None
        matrix = unfold(self.x, 0)
        if shown is not None and shown.ndim == 2 and shown.shape[1] == matrix.shape[1] and np.isfinite(shown).all():
            return matrix @ shown.T, shown
        self.cut(self.reference.modes[0].ranks[0])
        return self.singular_pair

    def cut(self, rank: int) -> None:
        """Take refgrad's own singular pair at another rank."""
        matrix = np.ldexp(unfold(self.x, 0), -self.reference.exponent)
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        self.singular_pair = np.ldexp(left[:, :rank] * values[:rank], self.reference.exponent), right[:rank]

    def core_of(self, factors: tuple[Array, ...]) -> Array:
        """Return A x_1 U_1^T ... x_d U_d^T."""
        return tucker_product(self.x, tuple(factor.T for factor in factors))

    def right(self, key: str) -> Array:
        """Return the right value of an array that a target returns under `key`."""
        if key == "matrix":
            return unfold(self.x, self.case.attributes["mode"])
        if key in ("left", "right"):
            return self.singular_pair[key == "right"]
        if key in ("weight", "weight_velocity", "bias", "bias_velocity"):
            parameter = key.removesuffix("_velocity")
            return self.after(parameter)[0 if key.endswith("_velocity") else 1]
        if key == "grad_weight":
            gradient: Array = self.reference.grad_weight_at(self.activation)
            return gradient
        if key == "core":
            return self.core_of(self.factors)
        if key == "reconstruction":
            return self.activation
        result: Array = self.reference.results[key]
        return result

    def after(self, parameter: str) -> tuple[Array, Array]:
        """Return velocity and parameter after a step of SGD."""
        moved: tuple[Array, Array] = self.reference.after(parameter, self.gradient(parameter))
        return moved

    def gradient(self, parameter: str) -> Array:
        """Return the gradient by "weight" or "bias", at A~."""
        return self.right("grad_weight" if parameter == "weight" else "grad_bias")

    def allowed(self, key: str, precision: Precision) -> Array:
        """Return what rounding in a precision allows in it, entry by entry."""
        if key == "grad_weight":
            bound: Array = self.reference.grad_weight_allowed(self.core, self.factors, precision)
        elif key == "core":
            bound = self.reference.core_allowed(self.factors, precision)
        elif key == "reconstruction":
            bound = self.reference.reconstruction_allowed(self.core, self.factors, precision)
        else:
            bound = self.reference.allowed(key, precision)
        return bound

    @cached_property
    def _norms(self) -> dict[str, float]:
        gradient, activation = norm(self.grad_output), norm(self.core) * math.sqrt(math.prod(self.ranks))
        weight_gradient = gradient * max(activation, norm(self.x))
        bias_gradient = gradient * math.sqrt(self.positions)
        norms = {
            "output": norm(self.x) * norm(self.weight) + 2.0 * norm(self.bias),
            "grad_input": gradient * norm(self.weight),
            "grad_weight": weight_gradient,
            "grad_bias": bias_gradient,
            "core": norm(self.x) * math.sqrt(math.prod(self.ranks)),
            "reconstruction": max(activation, norm(self.x)),
            "matrix": 0.0,
        }
        if self.operation == "step":
            for parameter, moved in (("weight", weight_gradient), ("bias", bias_gradient)):
                held = norm(np.asarray(self.case.parts[parameter], np.float64))
                whole = moved + held + norm(np.asarray(self.case.parts[f"{parameter}_velocity"], np.float64))
                norms |= {f"{parameter}_velocity": whole, parameter: whole + held}
        if self.operation == "svd":
            norms |= {"left": norm(self.x) * self.x.shape[0], "right": float(self.x.shape[0])}
        return norms

    @property
    def positions(self) -> int:
        """How many products an entry of a weight gradient is a sum of."""
        return int(self.grad_output.size // self.grad_output.shape[1]) if self.grad_output.ndim > 1 else 0

    def match(self, key: str) -> float:
        """Return how far a target that makes a known mistake may lie from that mistake's own values."""
        length = self.x.size + self.x.ndim + self.weight.size
        if key in ("grad_weight", "weight", "weight_velocity", "grad_bias", "bias", "bias_velocity"):
            length = tolerance.weight_gradient_length(self.positions, self.ranks)
        elif key in ("output", "grad_input"):
            length = self.reference.lengths[key]
        return tolerance.match_bound(length + len(self.ranks), self._norms[key], self.reference.precision)
