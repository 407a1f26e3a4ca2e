"""Exact storage: the activation is kept as it is, and the weight gradient is that of plain backpropagation.

In: a layer's input. Out: `Dense`, one read-only array; nothing is lost and nothing is saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from refgrad.arguments import Array
from refgrad.convolution import conv2d_weight_gradient, linear_weight_gradient
from refgrad.storage.base import Storage, Stored, checked_activation, checked_grad_output, frozen, held_bytes

if TYPE_CHECKING:
    from refgrad.geometry import ConvGeometry

__all__ = ["Dense", "Exact"]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Dense:
    """An activation kept whole.

    Parameters
    ----------
    array : array
        The activation. Made immutable by `refgrad.storage.base.frozen`: copied, unless it can never change anyway.

    Raises
    ------
    TypeError, ValueError
        Where it is not a finite float array of 2, 3 or 4 axes.
    """

    array: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", frozen(checked_activation(self.array)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the activation."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the activation."""
        return self.array.dtype

    @property
    def nbytes(self) -> int:
        """The bytes that are really held."""
        return held_bytes(self.array)

    @property
    def stored_numbers(self) -> int:
        """How many numbers are kept: all."""
        return self.array.size

    @property
    def multilinear_rank(self) -> None:
        """None: nothing was decomposed."""
        return

    def reconstruct(self) -> Array:
        """Return the activation; read-only, not a copy."""
        return self.array


@dataclass(frozen=True, slots=True)
class Exact(Storage):
    """Keep the whole activation, as plain backpropagation does.

    Examples
    --------
    >>> exact = Exact()
    >>> kept = exact.store(np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> exact.weight_gradient(kept, np.array([[1.0], [1.0]]))
    array([[4., 6.]])
    """

    name: ClassVar[str] = "exact"

    def store(self, activation: Array) -> Dense:
        """Keep a layer's input as it is.

        Parameters
        ----------
        activation : array (B, C, H, W) or (B, ..., I)
            A, the input of a convolution, or that of a linear layer with 2, 3 or 4 axes.

        Returns
        -------
        Dense
            A copy of it, or `activation` itself where that can never change.

        Raises
        ------
        TypeError, ValueError
            Where `activation` is not a finite float array of 2, 3 or 4 axes.
        """
        return Dense(activation)

    def restore(self, stored: Stored) -> Array:
        """Return the activation.

        Raises
        ------
        TypeError
            Where `stored` is not `Dense`.
        """
        return _dense(stored).array

    def weight_gradient(self, stored: Stored, grad_output: Array, geometry: ConvGeometry | None = None) -> Array:
        """Return dW = D(A, G), exactly the gradient of plain backpropagation (THEORY D6).

        Parameters
        ----------
        stored : Dense
            What `store` returned.
        grad_output : array (B, O, H', W') or (B, ..., O)
            G, the gradient with respect to the layer's output.
        geometry : ConvGeometry, optional
            How the convolution reads its input; None for a linear layer.

        Returns
        -------
        array (O, C / groups, k_h, k_w) or (O, I)
            The gradient with respect to the layer's weight.

        Raises
        ------
        TypeError
            Where `stored` is not `Dense`, or `grad_output` is no array of its dtype.
        ValueError
            Where `grad_output` does not fit the stored activation and the geometry.
        """
        array = _dense(stored).array
        grad_output = checked_grad_output(stored, grad_output, geometry)
        if geometry is None:
            return linear_weight_gradient(array, grad_output)
        return conv2d_weight_gradient(array, grad_output, geometry)

    def a_priori_error(self, axes: int) -> float:
        """Return 0: nothing is lost."""
        return 0.0


def _dense(stored: Stored) -> Dense:
    if not isinstance(stored, Dense):
        raise TypeError(f"stored must be Dense, as Exact.store returns it, got {type(stored).__name__}")
    return stored
