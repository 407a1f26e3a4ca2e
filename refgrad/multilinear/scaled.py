"""A tensor that decompositions read piece by piece, as float64 and scaled by a power of two.

In: a float32 or float64 tensor of any memory layout. Out: a `Scaled`: the columns of its unfoldings a few at a time,
their Gram matrices and triangular factors, and its projection on a subspace of every mode. Nothing of the tensor's own
size is made on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np

from refgrad.arguments import Array, float_array
from refgrad.multilinear.eigenpairs import Triangle
from refgrad.multilinear.panels import add_projected, compiled, energy, gram, modes_at_once, transposed_product
from refgrad.multilinear.unfolding import along_mode
from refgrad.ranges import Place, places, ranges
from refgrad.threads import in_threads

__all__ = ["Pieces", "Scaled", "frozen_copy", "scaled_to_one"]

PIECE = 2**17
"""The most numbers of a tensor that are looked at at a time: 1 MiB of float64, what a core's own cache holds."""

LEAST_COLUMNS = 512
"""Of fewer columns a Gram matrix would take longer to add up than to compute."""

LEAST_PIECE = 2**12
"""Smaller pieces would cost more calls than they save memory."""

FRACTION = 16
"""A piece, as float64, takes no more than the tensor's bytes over this."""

SHARE = 8
"""Of the tensor's bytes, what the Gram matrices of all threads may take together over this."""

HELD_AS_IT_IS = 2.0**300
"""An energy |A|^2 of float64 between this and its inverse needs no scaling.

A square that underflows then is of an entry under 2^-361 |A|, on which nothing here depends; and LAPACK, which scales
matrices below 2^-405 by a factor that rounds, is not asked for one.
"""

Result = TypeVar("Result")
Pieces: TypeAlias = Iterator[tuple[Place, Array]]


@dataclass(frozen=True, slots=True)
class Scaled:
    """A tensor, read as float64 and times 2^-exponent, which is exact: squares neither overflow nor vanish.

    Attributes
    ----------
    tensor : array (n_1, ..., n_d)
        As it was given.
    exponent : int
        0 where float64 holds the squares as they are, as it does of every float32 tensor. With any other the largest
        entry lies in [1/2, 1).
    energy : float
        |A|^2, scaled.
    """

    tensor: Array
    exponent: int
    energy: float

    @property
    def norm(self) -> float:
        """|A| of the tensor as it was given."""
        return math.ldexp(math.sqrt(self.energy), self.exponent)

    def restored(self, array: Array) -> Array:
        """Return a frozen compact copy of `array` times 2^exponent, in the tensor's dtype."""
        return frozen_copy(np.ldexp(array, self.exponent), self.tensor.dtype)

    def of_modes(self, function: Callable[[int], Result], *, by_gram: bool) -> list[Result]:
        """Return what a function gives for every mode, of some at once where each Gram matrix is one thread's."""
        if by_gram and self.exponent == 0 and modes_at_once(self.tensor):
            return in_threads(function, self.tensor.ndim)
        return [function(mode) for mode in range(self.tensor.ndim)]

    def unfolding(self, mode: int) -> Array:
        """Return the mode-j unfolding (n_mode, N / n_mode), scaled, all of it at once."""
        moved = np.moveaxis(self.tensor, mode, 0)
        values = np.empty(moved.shape)
        self._read(moved, values)
        return values.reshape(len(values), -1)

    def columns(self, mode: int, at_once: int | None = None) -> Pieces:
        """Yield the columns of the mode-j unfolding, some at a time, for mode 0 in their order.

        Parameters
        ----------
        mode : int
            j, counted from 0.
        at_once : int, optional
            How many numbers at most, or one column.

        Yields
        ------
        place : tuple of d slices
            Where in the tensor they stand.
        matrix : array (n_mode, some)
            Scaled, float64. It may be overwritten when the next one is asked for.
        """
        length = self.tensor.shape[mode]
        numbers = self._columns_at_once(length) if at_once is None else at_once
        # The last mode stays where it is: to move it would take the tensor apart, number by number.
        last = 0 < mode == self.tensor.ndim - 1
        view = self.tensor if last else np.moveaxis(self.tensor, mode, 0)
        for place, piece in self._pieces(view, mode if last else 0, numbers):
            if last:
                yield place, piece.reshape(-1, length).T
            else:
                yield (*place[1 : mode + 1], place[0], *place[mode + 1 :]), piece.reshape(length, -1)

    def gram(self, mode: int) -> Array | Triangle:
        """Return A_(j) A_(j)^T (n_mode, n_mode) of the scaled tensor, by compiled loops its lower triangle.

        Where no compiled loop does it: NumPy's product of a matrix with its own transpose is BLAS's symmetric one, half
        the multiply-adds. SciPy's wrappers would save the second matrix, but they call another copy of OpenBLAS, whose
        threads and those of NumPy's get into each other's way for milliseconds at every change.
        """
        if self._compiled:
            return gram(self.tensor, mode, self.tensor.nbytes // SHARE)
        length = self.tensor.shape[mode]
        total, product = np.zeros((length, length)), np.empty((length, length))
        for _, piece in self.columns(mode):
            total += np.matmul(piece, piece.T, out=product)
        return total

    def triangle(self, mode: int) -> Array:
        """Return L of the LQ factorisation of the mode-j unfolding: its left vectors and values, far fewer columns.

        The unfolding itself, where it has no more columns than rows.
        """
        length = self.tensor.shape[mode]
        if self.tensor.size <= length * length:
            return self.unfolding(mode)
        triangle = np.empty((0, length))
        for _, piece in self.columns(mode, max(self._piece, 4 * length * length)):
            triangle = np.asarray(np.linalg.qr(np.concatenate((triangle, piece.T)), mode="r"))
        return triangle.T

    def projected(self, vectors: Sequence[Array]) -> Array:
        """Return the core A x_1 U_1^T ... x_d U_d^T of the tensor as it was given.

        Samples are projected on all other modes, as many as the working memory holds, and then on U_1. Where the core
        is so large that it does not fit beside its own float64 copy, U_1 takes its columns in several turns.

        Parameters
        ----------
        vectors : sequence of d arrays (n_j, K_j)
            U_j, float64.

        Returns
        -------
        array (K_1, ..., K_d)
            Frozen, of the tensor's dtype.
        """
        first, *others = vectors
        ranks = tuple(matrix.shape[1] for matrix in others)
        numbers = math.prod(ranks)
        room = max(1, max(PIECE, self.tensor.nbytes // (8 * FRACTION)) // numbers)
        core = np.empty((first.shape[1], *ranks), self.tensor.dtype)
        for some_ranks in ranges(first.shape[1], room):
            total = np.zeros((some_ranks.stop - some_ranks.start, numbers))
            for samples in ranges(len(first), room):
                inner = np.zeros((samples.stop - samples.start, *ranks))
                self._project_samples(self.tensor[samples], others, inner)
                product = transposed_product if self._compiled else _transposed_product
                total += product(first[samples, some_ranks], inner.reshape(-1, numbers))
            core[some_ranks] = np.ldexp(total, self.exponent).reshape(-1, *ranks)
        core.flags.writeable = False
        return core

    def mode_projected(self, vectors: Array, mode: int) -> Array:
        """Return A x_j U^T of the scaled tensor, float64 and C-ordered.

        Parameters
        ----------
        vectors : array (n_mode, K)
            U, float64.
        mode : int
            j, counted from 0.

        Returns
        -------
        array (n_1, ..., K, ..., n_d)
        """
        shape = self.tensor.shape
        result = np.empty((*shape[:mode], vectors.shape[1], *shape[mode + 1 :]))
        for place, piece in self.columns(mode):
            target = np.moveaxis(result[(*place[:mode], slice(None), *place[mode + 1 :])], mode, 0)
            target[...] = (vectors.T @ piece).reshape(target.shape)
        return result

    def _project_samples(self, part: Array, others: Sequence[Array], result: Array) -> None:
        """Add some samples, projected on all modes but the first, to (samples, K_2, ..., K_d)."""
        if others and self._compiled:
            add_projected(part, others, result, self.tensor.nbytes // (2 * FRACTION))
            return
        # Of two products that follow one another, the one with the smaller 1/n - 1/K is cheaper first.
        modes = sorted(range(1, part.ndim), key=lambda mode: 1 / part.shape[mode] - 1 / result.shape[mode])
        for place, piece in self._pieces(part, None, self._piece):
            product = piece
            for mode in modes:
                product = along_mode(product, others[mode - 1][place[mode]].T, mode)
            result[place[0]] += product

    @property
    def _compiled(self) -> bool:
        """Tell whether compiled loops read the tensor."""
        return self.exponent == 0 and compiled(self.tensor)

    @property
    def _piece(self) -> int:
        """How many numbers are looked at at a time."""
        return max(LEAST_PIECE, min(PIECE, self.tensor.nbytes // (8 * FRACTION)))

    def _columns_at_once(self, length: int) -> int:
        """Return how many numbers of an unfolding with so many rows are looked at at a time."""
        wanted, room = LEAST_COLUMNS * length, 2 * self.tensor.nbytes // (8 * FRACTION)
        # Where the Gram matrix alone takes as much as that, nothing would be saved.
        return max(self._piece, min(wanted, room) if length * length <= room else wanted)

    def _pieces(self, view: Array, kept: int | None, numbers: int) -> Pieces:
        """Cut a view of the tensor, leaving the axis `kept` whole; yield every place, and what stands there, scaled.

        It may be overwritten when the next one is asked for.
        """
        as_it_is = self.exponent == 0 and self.tensor.dtype == np.float64
        buffer = np.empty(0)
        for place in places(view.shape, kept, numbers):
            part = view[place]
            if as_it_is and part.flags.c_contiguous:
                yield place, part
                continue
            if buffer.size < part.size:
                buffer = np.empty(part.size)
            scaled = buffer[: part.size].reshape(part.shape)
            self._read(part, scaled)
            yield place, scaled

    def _read(self, part: Array, target: Array) -> None:
        if self.exponent == 0:
            np.copyto(target, part)
        elif abs(self.exponent) < 1000:
            np.multiply(part, 2.0**-self.exponent, out=target)
        else:
            np.ldexp(part, -self.exponent, out=target)


def scaled_to_one(tensor: Array) -> Scaled:
    """Check a tensor, find its energy, and where that is out of float64's range the power of two that mends it.

    Raises
    ------
    TypeError
        Where it is no float32 or float64 array.
    ValueError
        Where it has no axes, an empty one, an entry that is not finite, or a norm that its dtype cannot hold.
    """
    float_array("tensor", tensor, minimum_axes=1)
    exponent, squares = 0, _energy(tensor, 0)
    if not (math.isfinite(squares) if tensor.dtype == np.float32 else 1.0 / HELD_AS_IT_IS < squares < HELD_AS_IT_IS):
        largest = max(float(tensor.max()), -float(tensor.min()))
        if not math.isfinite(largest):
            float_array("tensor", tensor, finite=True)
        exponent = math.frexp(largest)[1]
        squares = _energy(tensor, exponent)
    # Half, so that rounding a core or a singular value, none of which exceeds the norm, stays in range as well.
    limit = float(np.finfo(tensor.dtype).max) / 2.0
    if exponent >= 0 and math.sqrt(squares) > math.ldexp(limit, -exponent):
        raise ValueError(
            f"tensor must have a Frobenius norm of at most {limit:.3g}, half of the largest {tensor.dtype} number, "
            f"got {math.sqrt(squares):.3g} * 2**{exponent}; divide it by a power of two first"
        )
    return Scaled(tensor, exponent, squares)


def frozen_copy(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return a C-ordered copy that owns no more than it shows and cannot be written to."""
    result = np.array(array, dtype=dtype, order="C")
    result.flags.writeable = False
    return result


def _transposed_product(vectors: Array, matrix: Array) -> Array:
    return vectors.T @ matrix


def _energy(tensor: Array, exponent: int) -> float:
    with np.errstate(all="ignore"):  # whoever asks looks at what comes out
        if exponent == 0 and compiled(tensor):
            return energy(tensor)
        pieces = Scaled(tensor, exponent, math.nan).columns(0)
        return float(np.sum([piece.reshape(-1) @ piece.reshape(-1) for _, piece in pieces]))
