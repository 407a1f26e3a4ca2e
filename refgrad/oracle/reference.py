"""What is right for one case: the values to compare with, their majorants, and the spectra that decide the ranks.

In: a case. Out: a `TensorReference` for an operation on a tensor, a `LinearReference` or a `Reference` for a layer;
everything in float64 and computed once, when first asked for, by the paths of refgrad that its tests hold against the
specification.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refgrad.arguments import Array
from refgrad.convolution import (
    conv2d_bias_gradient,
    conv2d_forward,
    conv2d_input_gradient,
    conv2d_weight_gradient,
    linear_bias_gradient,
    linear_forward,
    linear_input_gradient,
    linear_weight_gradient,
)
from refgrad.multilinear import hosvd, mode_product, sequential_hosvd, singular_values, unfold
from refgrad.oracle import tolerance
from refgrad.oracle.cases import AnyCase
from refgrad.rounding import Precision

__all__ = ["LayerReference", "LinearReference", "Mode", "Reference", "TensorReference", "norm", "tucker_product"]


def norm(array: Array) -> float:
    """Return the Frobenius norm; the squares neither overflow nor vanish."""
    largest = float(np.max(np.abs(array), initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    exponent = math.frexp(largest)[1]
    return math.ldexp(float(np.linalg.norm(np.ldexp(array, -exponent))), exponent)


def tucker_product(core: Array, factors: tuple[Array, ...]) -> Array:
    """Return core x_1 U_1 ... x_d U_d (THEORY D3); with fewer factors than modes, the last modes are left alone.

    Each product takes the first axis away and puts its result last, so that d of them bring the axes back in order.
    """
    for factor in factors:
        core = np.tensordot(core, factor, axes=(0, 1))
    return np.moveaxis(core, range(core.ndim - len(factors)), range(len(factors), core.ndim))


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """One unfolding of the activation, scaled by a power of two so that its squares are harmless.

    Attributes
    ----------
    matrix : array, (n_j, N / n_j)
        The scaled unfolding.
    squares : array
        Its squared singular values, falling.
    ranks : pair of int
        The admissible ranks [k_lo, k_hi].
    absolute_gram : float
        The norm of |A| |A|^T.
    """

    matrix: Array
    squares: Array
    ranks: tuple[int, int]
    absolute_gram: float

    @property
    def rows(self) -> int:
        """n_j."""
        return len(self.matrix)

    @property
    def columns(self) -> int:
        """N / n_j."""
        return int(self.matrix.shape[1])

    @property
    def energy(self) -> float:
        """|A|^2 of the scaled tensor."""
        return float(self.squares.sum())


class TensorReference:
    """What is right where one tensor is decomposed.

    Parameters
    ----------
    case : Case or LadderCase
        The input; its tensor is its first array.
    precision : dtype or "bfloat16", optional
        What the target accumulates in; the case's dtype where absent.
    sequential : bool
        Whether the target truncates one mode after the other (THEORY D4).
    """

    def __init__(self, case: AnyCase, *, precision: Precision | None = None, sequential: bool = False) -> None:
        self.case: Any = case
        self.precision = case.dtype if precision is None else precision
        self.sequential = sequential or case.operation == "sequential_hosvd"
        self.x = np.asarray(next(iter(case.parts.values())), np.float64)
        largest = float(np.max(np.abs(self.x)))
        self.exponent = math.frexp(largest)[1] if largest > 0.0 else 0
        self._compressed: dict[tuple[int, ...], tuple[Array, tuple[Array, ...]]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the tensor's axes."""
        return tuple(self.x.shape)

    def core_allowed(self, factors: tuple[Array, ...], precision: Precision | None = None) -> Array:
        """Return what rounding allows in a core: N terms of d + 1 numbers each; majorant |A| x_j |U_j|^T."""
        majorant = tucker_product(np.abs(self.x), tuple(np.abs(factor.T) for factor in factors))
        return tolerance.sum_bound(self.x.size + self.x.ndim, majorant, precision or self.precision)

    def reconstruction_allowed(
        self, core: Array, factors: tuple[Array, ...], precision: Precision | None = None
    ) -> Array:
        """Return what rounding allows in A~: prod K_j terms of d + 1 numbers each; majorant |S| x_j |U_j|."""
        majorant = tucker_product(np.abs(core), tuple(map(np.abs, factors)))
        return tolerance.sum_bound(self.reconstruction_length(core), majorant, precision or self.precision)

    def reconstruction_length(self, core: Array) -> int:
        """Count the roundings of an entry of A~: prod K_j terms of d + 1 numbers each."""
        return core.size + core.ndim

    def unfolding(self, mode: int, before: tuple[Array, ...] = ()) -> Mode:
        """Return what the factor of a mode is judged by, given the target's factors of the modes before it.

        For the HOSVD that is the tensor's own unfolding (THEORY D3), for the sequential one that of the core so far
        (THEORY D4), with the rounding errors that the whole tensor's sums had until then.
        """
        if not self.sequential or len(before) < mode or mode == 0:
            return self.modes[mode]
        whole = self.modes[mode]
        core = tucker_product(np.ldexp(self.x, -self.exponent), tuple(factor.T for factor in before[:mode]))
        return self._mode(core, mode, columns=whole.columns, absolute_gram=whole.absolute_gram)

    def _mode(
        self, tensor: Array, mode: int, *, columns: int | None = None, absolute_gram: float | None = None
    ) -> Mode:
        matrix = unfold(tensor, mode)
        squares = singular_values(tensor, mode) ** 2
        eps = self.case.explained_variance
        ranks = tolerance.admissible_ranks(squares, len(matrix), columns or matrix.shape[1], self.precision, eps)
        if absolute_gram is None:
            absolute_gram = float(np.linalg.norm(abs(matrix) @ abs(matrix).T))
        return Mode(matrix, squares, ranks, absolute_gram)

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """Every unfolding of the tensor, with its spectrum and admissible ranks (THEORY D1).

        Sequentially, the cores between are those of refgrad's own factors at the least admissible ranks.
        """
        core = np.ldexp(self.x, -self.exponent)
        result: list[Mode] = []
        for mode in range(core.ndim):
            result.append(self._mode(core, mode))
            if self.sequential and mode + 1 < core.ndim:
                left = np.linalg.svd(result[-1].matrix, full_matrices=False)[0][:, : result[-1].ranks[0]]
                core = mode_product(core, np.ascontiguousarray(left.T), mode)
        return tuple(result)

    @cached_property
    def smallest_ranks(self) -> tuple[int, ...]:
        """The least admissible rank of every mode."""
        return tuple(mode.ranks[0] for mode in self.modes)

    @cached_property
    def x_norm(self) -> float:
        """|A|."""
        return norm(self.x)

    def truncation_error(self, ranks: tuple[int, ...]) -> float:
        """Bound |A - A~| at the given ranks by the discarded energies (THEORY T3; T8 where sequential)."""
        modes = self.modes if not self.sequential else tuple(self._whole_modes)
        discarded = sum(float(mode.squares[k:].sum()) for mode, k in zip(modes, ranks, strict=True))
        longest = max(max(mode.rows, mode.columns) for mode in modes)
        bound = tolerance.truncation_bound(discarded, modes[0].energy, len(ranks), longest, self.precision)
        return math.ldexp(bound, self.exponent)

    @cached_property
    def _whole_modes(self) -> tuple[Mode, ...]:
        scaled = np.ldexp(self.x, -self.exponent)
        return tuple(self._mode(scaled, mode) for mode in range(scaled.ndim))

    def perturbation(self, ranks: tuple[int, ...]) -> float:
        """Bound how far two right A~ of the given ranks lie apart (Davis and Kahan); infinite at a degenerate cut."""
        total = 0.0
        for mode, rank in zip(self.modes, ranks, strict=True):
            residual = tolerance.residual_bound(
                rank, mode.columns, float(mode.squares[0]), mode.absolute_gram, self.precision
            )
            total += tolerance.projector_bound(mode.squares, rank, mode.rows, residual)
        return total * self.x_norm if self.x_norm > 0.0 else 0.0

    def compressed(self, ranks: tuple[int, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return core and factors of the given ranks (THEORY D3, or D4 where sequential)."""
        if ranks not in self._compressed:
            tucker = (sequential_hosvd if self.sequential else hosvd)(self.x, ranks=ranks)
            self._compressed[ranks] = (tucker.core, tucker.factors)
        return self._compressed[ranks]


class LayerReference(TensorReference, ABC):
    """What is right for a layer: `TensorReference` of its input, and its results."""

    def __init__(self, case: AnyCase, *, precision: Precision | None = None, sequential: bool = False) -> None:
        super().__init__(case, precision=precision, sequential=sequential)
        _, self.weight, self.bias, self.grad_output = (
            np.asarray(case.parts[name], np.float64) for name in ("x", "weight", "bias", "grad_output")
        )

    @property
    @abstractmethod
    def positions(self) -> int:
        """The length of the sums in a weight gradient: B H' W', or the samples of a linear layer."""

    @property
    @abstractmethod
    def lengths(self) -> Mapping[str, int]:
        """How many roundings an entry of each of `results` goes through: products in a sum, and the bias."""

    @abstractmethod
    def _exact(self, x: Array, weight: Array, bias: Array, grad_output: Array) -> dict[str, Array]: ...

    @abstractmethod
    def _weight_gradient(self, activation: Array, grad_output: Array) -> Array: ...

    @property
    @abstractmethod
    def multiplicity(self) -> int:
        """The number m, how often an entry of the input is read at most (THEORY T12)."""

    @property
    @abstractmethod
    def gradient_norm(self) -> float:
        """max_g |G_g|_2, the largest spectral norm of a group's output gradient (THEORY T11, T12)."""

    @cached_property
    def results(self) -> Mapping[str, Array]:
        """Y, dA and db, which do not depend on the compression."""
        return self._exact(self.x, self.weight, self.bias, self.grad_output)

    @cached_property
    def majorants(self) -> Mapping[str, Array]:
        """`results` of the absolute values."""
        return self._exact(*(np.abs(array) for array in (self.x, self.weight, self.bias, self.grad_output)))

    def allowed(self, key: str, precision: Precision | None = None) -> Array:
        """Return what rounding allows in one of `results`; in the target's precision where none is given."""
        precision = precision or self.precision
        majorant = self.majorants[key]
        bound = tolerance.sum_bound(self.lengths[key], majorant, precision)
        operands = {
            "output": (self.x, self.weight, self.bias),
            "grad_input": (self.grad_output, self.weight),
            "grad_bias": (self.grad_output,),
        }[key]
        factors = min(2, len(operands))
        return tolerance.rounding_of_exact_sums(bound, majorant, operands, factors, precision)

    def grad_weight_at(self, activation: Array) -> Array:
        """Return dW at a given activation."""
        return self._weight_gradient(activation, self.grad_output)

    def grad_weight_majorant(self, activation: Array) -> Array:
        """Return the weight gradient of |G| at a majorant of an activation."""
        return self._weight_gradient(activation, np.abs(self.grad_output))

    @cached_property
    def grad_weight_exact(self) -> Array:
        """The weight gradient at the activation itself, uncompressed."""
        return self.grad_weight_at(self.x)

    def grad_weight_allowed(self, core: Array, factors: tuple[Array, ...], precision: Precision | None = None) -> Array:
        """Return what rounding allows in dW from factors; majorant the weight gradient of |G| at |S| x_j |U_j|."""
        majorant = self.grad_weight_majorant(tucker_product(np.abs(core), tuple(map(np.abs, factors))))
        length = tolerance.weight_gradient_length(self.positions, core.shape)
        return tolerance.sum_bound(length, majorant, precision or self.precision)

    @cached_property
    def amplification(self) -> float:
        """How many times |E| a weight gradient can be off: `gradient_norm` sqrt(m) (THEORY T12)."""
        return self.gradient_norm * math.sqrt(self.multiplicity)


class Reference(LayerReference):
    """The right results of a convolution; see the module."""

    @property
    def positions(self) -> int:
        """B H' W', the length of the sums in a weight gradient."""
        batch, _, height, width = self.grad_output.shape
        return int(batch * height * width)

    @property
    def lengths(self) -> Mapping[str, int]:
        """How many roundings an entry of each of `results` goes through: products in a sum, and the bias."""
        out_channels, channels, *kernel = self.weight.shape
        return {
            "output": channels * math.prod(kernel) + 1,
            "grad_input": out_channels // self.case.groups * math.prod(kernel),
            "grad_bias": self.positions,
        }

    def _exact(self, x: Array, weight: Array, bias: Array, grad_output: Array) -> dict[str, Array]:
        geometry = self.case.geometry
        return {
            "output": conv2d_forward(x, weight, bias, geometry),
            "grad_input": conv2d_input_gradient(grad_output, weight, geometry, self._size),
            "grad_bias": conv2d_bias_gradient(grad_output),
        }

    def _weight_gradient(self, activation: Array, grad_output: Array) -> Array:
        return conv2d_weight_gradient(activation, grad_output, self.case.geometry)

    @cached_property
    def gradient_norm(self) -> float:
        """max_g |G_g|_2 (THEORY T12)."""
        batch, channels, height, width = self.grad_output.shape
        grouped = self.grad_output.reshape(batch, self.case.groups, -1, height, width)
        per_group = (
            np.moveaxis(grouped, 1, 0).swapaxes(1, 2).reshape(self.case.groups, channels // self.case.groups, -1)
        )
        return max(_spectral_norm(matrix) for matrix in per_group)

    @property
    def multiplicity(self) -> int:
        """The number m, how often a pixel is read at most (THEORY T12)."""
        return int(self.case.geometry.maximum_multiplicity(self._size))

    @property
    def _size(self) -> tuple[int, int]:
        return self.x.shape[2], self.x.shape[3]


class LinearReference(LayerReference):
    """The right results of a linear layer (THEORY D6); the samples are all its leading axes."""

    @property
    def positions(self) -> int:
        """How many samples there are."""
        return math.prod(self.x.shape[:-1])

    @property
    def lengths(self) -> Mapping[str, int]:
        """How many roundings an entry of each of `results` goes through: products in a sum, and the bias."""
        out_features, in_features = self.weight.shape
        return {"output": in_features + 1, "grad_input": out_features, "grad_bias": self.positions}

    def _exact(self, x: Array, weight: Array, bias: Array, grad_output: Array) -> dict[str, Array]:
        return {
            "output": linear_forward(x, weight, bias),
            "grad_input": linear_input_gradient(grad_output, weight),
            "grad_bias": linear_bias_gradient(grad_output),
        }

    def _weight_gradient(self, activation: Array, grad_output: Array) -> Array:
        return linear_weight_gradient(activation, grad_output)

    @cached_property
    def gradient_norm(self) -> float:
        """|G|_2 (THEORY T11)."""
        return _spectral_norm(self.grad_output.reshape(-1, self.grad_output.shape[-1]))

    @property
    def multiplicity(self) -> int:
        """Every entry of the input is read once."""
        return 1


def _spectral_norm(matrix: Array) -> float:
    """Return |M|_2; the squares neither overflow nor vanish."""
    largest = float(np.max(np.abs(matrix)))
    if largest == 0.0:
        return 0.0
    exponent = math.frexp(largest)[1]
    return math.ldexp(float(np.linalg.norm(np.ldexp(matrix, -exponent), 2)), exponent)
