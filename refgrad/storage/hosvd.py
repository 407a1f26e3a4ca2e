"""HOSVD storage: the activation is kept as a Tucker tensor, and the weight gradient is contracted from its factors.

In: a layer's input. Out: `Tucker`, a core and one factor a mode, with the ranks that the explained variance asks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from refgrad.arguments import Array, explained_variance_in_range, one_of, positive_integer
from refgrad.multilinear import METHODS, Tucker, hosvd
from refgrad.storage.base import Storage, Stored, checked_activation, checked_grad_output, one_request
from refgrad.storage.contraction import factored_weight_gradient

if TYPE_CHECKING:
    from refgrad.geometry import ConvGeometry

__all__ = ["HOSVD"]


@dataclass(frozen=True, slots=True)
class HOSVD(Storage):
    """Keep the truncated HOSVD of the activation, the paper's HOSVD_eps (THEORY D3).

    Parameters
    ----------
    explained_variance : float, optional
        eps in (0, 1]: the least share of |A|^2 that each mode keeps; the ranks follow from it, batch by batch.
    ranks : sequence of int, optional
        K_j of every mode of the activation, in its place. Just one of the two is given.
    method : {"svd", "gram"}
        How the factors are found, see `refgrad.hosvd`.

    Raises
    ------
    TypeError
        Where an argument is of the wrong kind.
    ValueError
        Where not just one of explained variance and ranks is given, or one is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from refgrad.geometry import ConvGeometry
    >>> activation = np.multiply.outer(np.arange(8.0), np.ones((3, 5, 5)))
    >>> storage = HOSVD(explained_variance=0.8)
    >>> kept = storage.store(activation)
    >>> kept.multilinear_rank, kept.stored_numbers, activation.size
    ((1, 1, 1, 1), 22, 600)
    >>> storage.weight_gradient(kept, np.ones((8, 4, 3, 3)), ConvGeometry((3, 3))).shape
    (4, 3, 3, 3)
    """

    name: ClassVar[str] = "hosvd"

    explained_variance: float | None = None
    ranks: Sequence[int] | None = field(default=None, kw_only=True)
    method: str = field(default="svd", kw_only=True)

    def __post_init__(self) -> None:
        one_request("ranks", self.explained_variance, self.ranks)
        one_of("method", self.method, METHODS)
        if self.explained_variance is not None:
            object.__setattr__(self, "explained_variance", explained_variance_in_range(self.explained_variance))
        elif not isinstance(self.ranks, (tuple, list)):
            raise TypeError(f"ranks must be a tuple or list with one integer for each mode, got {self.ranks!r}")
        else:
            checked = tuple(positive_integer(f"ranks[{mode}]", rank) for mode, rank in enumerate(self.ranks))
            object.__setattr__(self, "ranks", checked)

    def store(self, activation: Array) -> Tucker:
        """Keep a layer's input as its truncated HOSVD.

        Parameters
        ----------
        activation : array (B, C, H, W) or (B, ..., I)
            A, the input of a convolution, or that of a linear layer with 2, 3 or 4 axes.

        Returns
        -------
        Tucker
            prod K_j + sum n_j K_j numbers; |A - A~|^2 <= sum_j tau_j <= d (1 - eps) |A|^2 (THEORY T3).

        Raises
        ------
        TypeError, ValueError
            Where `activation` is not a finite float array of 2, 3 or 4 axes, or the fixed ranks are not its.
        """
        return hosvd(checked_activation(activation), self.explained_variance, ranks=self.ranks, method=self.method)

    def restore(self, stored: Stored) -> Array:
        """Return A~ = S x_1 U_1 ... x_d U_d as a dense array.

        Raises
        ------
        TypeError
            Where `stored` is not `Tucker`.
        """
        return _tucker(stored).reconstruct()

    def weight_gradient(self, stored: Stored, grad_output: Array, geometry: ConvGeometry | None = None) -> Array:
        """Return dW = D(A~, G), contracted from core and factors; A~ is never built (THEORY D7, T14).

        Parameters
        ----------
        stored : Tucker
            What `store` returned.
        grad_output : array (B, O, H', W') or (B, ..., O)
            G, the gradient with respect to the layer's output.
        geometry : ConvGeometry, optional
            How the convolution reads its input; None for a linear layer.

        Returns
        -------
        array (O, C / groups, k_h, k_w) or (O, I)
            The gradient with respect to the layer's weight. Two evaluations differ by at most
            gamma_n <|S| x_1 |U_1| ... x_d |U_d|, |G|> (THEORY T15).

        Raises
        ------
        TypeError
            Where `stored` is not `Tucker`, or `grad_output` is no array of its dtype.
        ValueError
            Where `grad_output` does not fit the stored activation and the geometry.
        """
        tucker = _tucker(stored)
        grad_output = checked_grad_output(tucker, grad_output, geometry)
        return factored_weight_gradient(tucker.core, tucker.factors, grad_output, geometry)

    def a_priori_error(self, axes: int) -> float | None:
        """Return sqrt(d (1 - eps)), at least |A - A~| / |A| (THEORY T3); None where the ranks are fixed.

        Examples
        --------
        >>> HOSVD(explained_variance=0.75).a_priori_error(4), HOSVD(ranks=(1, 2)).a_priori_error(2)
        (1.0, None)
        """
        return None if self.explained_variance is None else math.sqrt(axes * (1.0 - self.explained_variance))


def _tucker(stored: Stored) -> Tucker:
    if not isinstance(stored, Tucker):
        raise TypeError(f"stored must be a Tucker, as HOSVD.store returns it, got {type(stored).__name__}")
    return stored
