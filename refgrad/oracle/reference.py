"""What is right for one case: the values to compare with, their majorants, and the spectra that decide the ranks.

In: a `Case`. Out: a `Reference`, everything in float64 and computed once, when first asked for, by the paths of refgrad
that its tests hold against the specification.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array
from refgrad.convolution import (
    conv2d_bias_gradient,
    conv2d_forward,
    conv2d_input_gradient,
    conv2d_weight_gradient,
)
from refgrad.multilinear import hosvd, singular_values, unfold
from refgrad.oracle import tolerance
from refgrad.oracle.cases import Case

__all__ = ["Mode", "Reference", "norm", "tucker_product"]


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


class Reference:
    """The right results of a case; see the module."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.x, self.weight, self.bias, self.grad_output = (
            array.astype(np.float64) for array in (case.x, case.weight, case.bias, case.grad_output)
        )
        largest = float(np.max(np.abs(self.x)))
        self.exponent = math.frexp(largest)[1] if largest > 0.0 else 0
        self._compressed: dict[tuple[int, ...], tuple[Array, tuple[Array, ...]]] = {}

    @property
    def positions(self) -> int:
        """B H' W', the length of the sums in a weight gradient."""
        batch, _, height, width = self.case.output_shape
        return batch * height * width

    @cached_property
    def results(self) -> Mapping[str, Array]:
        """Y (B, O, H', W'), dA (B, C, H, W) and db (O,), which do not depend on the compression."""
        return self._exact(self.x, self.weight, self.bias, self.grad_output)

    @cached_property
    def majorants(self) -> Mapping[str, Array]:
        """`results` of the absolute values."""
        return self._exact(*(np.abs(array) for array in (self.x, self.weight, self.bias, self.grad_output)))

    @property
    def lengths(self) -> Mapping[str, int]:
        """How many roundings an entry of each of `results` goes through: products in a sum, and the bias."""
        out_channels, channels, *kernel = self.weight.shape
        return {
            "output": channels * math.prod(kernel) + 1,
            "grad_input": out_channels // self.case.groups * math.prod(kernel),
            "grad_bias": self.positions,
        }

    def allowed(self, key: str, dtype: npt.DTypeLike | None = None) -> Array:
        """Return what rounding allows in one of `results`; in the case's dtype where none is given."""
        return tolerance.sum_bound(self.lengths[key], self.majorants[key], dtype or self.case.dtype)

    def _exact(self, x: Array, weight: Array, bias: Array, grad_output: Array) -> dict[str, Array]:
        geometry = self.case.geometry
        return {
            "output": conv2d_forward(x, weight, bias, geometry),
            "grad_input": conv2d_input_gradient(grad_output, weight, geometry, self._size),
            "grad_bias": conv2d_bias_gradient(grad_output),
        }

    def grad_weight_at(self, activation: Array) -> Array:
        """Return dW (O, C / groups, k_h, k_w) at a given activation."""
        return conv2d_weight_gradient(activation, self.grad_output, self.case.geometry)

    def grad_weight_majorant(self, activation: Array) -> Array:
        """Return the weight gradient of |G| at a majorant of an activation."""
        return conv2d_weight_gradient(activation, abs(self.grad_output), self.case.geometry)

    @cached_property
    def grad_weight_exact(self) -> Array:
        """The weight gradient at the activation itself, uncompressed."""
        return self.grad_weight_at(self.x)

    def grad_weight_allowed(self, core: Array, factors: tuple[Array, ...], dtype: npt.DTypeLike | None = None) -> Array:
        """Return what rounding allows in dW from factors; majorant the weight gradient of |G| at |S| x_j |U_j|."""
        majorant = self.grad_weight_majorant(tucker_product(np.abs(core), tuple(map(np.abs, factors))))
        length = tolerance.weight_gradient_length(self.positions, core.shape)
        return tolerance.sum_bound(length, majorant, dtype or self.case.dtype)

    def core_allowed(self, factors: tuple[Array, ...], dtype: npt.DTypeLike | None = None) -> Array:
        """Return what rounding allows in a core: N terms of five numbers each; majorant |A| x_j |U_j|^T."""
        majorant = tucker_product(np.abs(self.x), tuple(np.abs(factor.T) for factor in factors))
        return tolerance.sum_bound(self.x.size + self.x.ndim, majorant, dtype or self.case.dtype)

    def reconstruction_allowed(
        self, core: Array, factors: tuple[Array, ...], dtype: npt.DTypeLike | None = None
    ) -> Array:
        """Return what rounding allows in A~: prod K_j terms of five numbers each; majorant |S| x_j |U_j|."""
        majorant = tucker_product(np.abs(core), tuple(map(np.abs, factors)))
        return tolerance.sum_bound(core.size + core.ndim, majorant, dtype or self.case.dtype)

    @cached_property
    def amplification(self) -> float:
        """max_g |G_g|_2 sqrt(m): how many times |E| a weight gradient can be off (THEORY T12)."""
        batch, channels, height, width = self.grad_output.shape
        grouped = self.grad_output.reshape(batch, self.case.groups, -1, height, width)
        largest = float(np.max(np.abs(grouped)))
        if largest == 0.0:
            return 0.0
        exponent = math.frexp(largest)[1]
        scaled = np.ldexp(grouped, -exponent)
        per_group = np.moveaxis(scaled, 1, 0).swapaxes(1, 2).reshape(self.case.groups, channels // self.case.groups, -1)
        spectral = float(max(np.linalg.norm(matrix, 2) for matrix in per_group))
        return math.ldexp(spectral * math.sqrt(self.multiplicity), exponent)

    @property
    def multiplicity(self) -> int:
        """The number m, how often a pixel is read at most (THEORY T12)."""
        return self.case.geometry.maximum_multiplicity(self._size)

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """The four unfoldings of the activation, with their spectra and admissible ranks (THEORY D1)."""
        scaled = np.ldexp(self.x, -self.exponent)
        result = []
        for mode in range(scaled.ndim):
            matrix = unfold(scaled, mode)
            squares = singular_values(scaled, mode) ** 2
            rows, columns = matrix.shape
            eps = self.case.explained_variance
            ranks = tolerance.admissible_ranks(squares, rows, columns, self.case.dtype, eps)
            gram = abs(matrix) @ abs(matrix).T
            result.append(Mode(matrix, squares, ranks, float(np.linalg.norm(gram))))
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
        """Bound |A - A~| at the given ranks by the discarded energies (THEORY T3)."""
        discarded = sum(float(mode.squares[k:].sum()) for mode, k in zip(self.modes, ranks, strict=True))
        longest = max(max(mode.rows, mode.columns) for mode in self.modes)
        bound = tolerance.truncation_bound(discarded, self.modes[0].energy, len(ranks), longest, self.case.dtype)
        return math.ldexp(bound, self.exponent)

    def perturbation(self, ranks: tuple[int, ...]) -> float:
        """Bound how far two right A~ of the given ranks lie apart (Davis and Kahan); infinite at a degenerate cut."""
        total = 0.0
        for mode, rank in zip(self.modes, ranks, strict=True):
            residual = tolerance.residual_bound(
                rank, mode.columns, float(mode.squares[0]), mode.absolute_gram, self.case.dtype
            )
            total += tolerance.projector_bound(mode.squares, rank, mode.rows, residual)
        return total * self.x_norm if self.x_norm > 0.0 else 0.0

    def compressed(self, ranks: tuple[int, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return core and factors of the HOSVD of the given ranks (THEORY D3)."""
        if ranks not in self._compressed:
            tucker = hosvd(self.x, ranks=ranks)
            self._compressed[ranks] = (tucker.core, tucker.factors)
        return self._compressed[ranks]

    @property
    def _size(self) -> tuple[int, int]:
        return self.case.x.shape[2], self.case.x.shape[3]
