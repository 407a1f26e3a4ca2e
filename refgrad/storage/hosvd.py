"""HOSVD storage: the activation is kept as a Tucker tensor, and the weight gradient is contracted from its factors.

In: a layer's input. Out: `Tucker`, a core and one factor a mode, with the ranks that the explained variance asks for,
or those that an error of the gradient allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from refgrad.arguments import Array
from refgrad.multilinear import Tucker, hosvd
from refgrad.storage.adaptive import AdaptivePass
from refgrad.storage.base import Storage, Stored, checked_activation
from refgrad.storage.exact import Dense, Exact
from refgrad.storage.plan import Plan, checked_tolerance
from refgrad.storage.tucker import TuckerStorage

if TYPE_CHECKING:
    from refgrad.geometry import ConvGeometry

__all__ = ["HOSVD"]


@dataclass(frozen=True, slots=True)
class HOSVD(TuckerStorage):
    """Keep the truncated HOSVD of the activation, the paper's HOSVD_eps (THEORY D3).

    How much is kept is said by an explained variance, by the ranks, or by how far the gradient may be off. Then the
    ranks of every layer adapt from step to step, so that few numbers are stored and the bound b on the gradient's error
    (THEORY T12, T13) is to satisfy b <= delta / (1 + delta) |g~|, with g~ the compressed gradient of all weights whose
    layers it keeps. That implies an error of at most delta |g|, for |g| >= |g~| - b; other parameters make |g| larger
    still. T17 and T18 need delta < 1.

    It is a plan and no promise (THEORY T20): when an activation is stored the gradient of the layer's output is not
    known yet, so the ranks follow from those of the passes before. A step whose bound, with the gradient that came, is
    larger is seen afterwards: in `plan.last`, or in what `refgrad.bounds` says of it. The first pass knows nothing and
    keeps everything as it is; so does `store` outside of a tape, which cannot tell the layers apart. A layer whose
    Tucker tensor would take as many numbers as its activation keeps that.

    Parameters
    ----------
    explained_variance : float, optional
        eps in (0, 1]: the least share of |A|^2 that each mode keeps; the ranks follow from it, batch by batch.
    ranks : sequence of int, optional
        K_j of every mode of the activation.
    method : {"svd", "gram"}
        How the factors are found, see `refgrad.hosvd`.
    gradient_tolerance : float, optional
        delta, positive and finite: how far the gradient may be off, over its norm. Just one of this, explained variance
        and ranks is given.

    Attributes
    ----------
    plan : refgrad.storage.Plan or None
        What has been learned, where there is a gradient tolerance. Two equal storages have a plan each.

    Raises
    ------
    TypeError
        Where an argument is of the wrong kind.
    ValueError
        Where not just one of explained variance, ranks and gradient tolerance is given, or one is out of range.

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

    With a tolerance, the second pass goes by what the first has seen:

    >>> import refgrad as rg
    >>> adaptive = HOSVD(gradient_tolerance=0.5)
    >>> for _ in range(2):
    ...     with rg.Tape(store=adaptive) as tape:
    ...         weight = tape.watch(np.ones((4, 3, 3, 3)))
    ...         loss = np.sum(rg.conv2d(activation, weight))
    ...     print(tape.records[1].kept_activation.stored.stored_numbers)
    ...     gradient = tape.gradient(loss, weight)
    600
    22
    """

    name: ClassVar[str] = "hosvd"

    gradient_tolerance: float | None = field(default=None, kw_only=True)
    plan: Plan | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        TuckerStorage.__post_init__(self)
        if self.gradient_tolerance is not None:
            object.__setattr__(self, "gradient_tolerance", checked_tolerance(self.gradient_tolerance))
            object.__setattr__(self, "plan", Plan(self.gradient_tolerance))

    def _requests(self) -> dict[str, object]:
        return {**TuckerStorage._requests(self), "gradient_tolerance": self.gradient_tolerance}

    def store(self, activation: Array) -> Tucker | Dense:
        """Keep a layer's input as its truncated HOSVD.

        Parameters
        ----------
        activation : array (B, C, H, W) or (B, ..., I)
            A, the input of a convolution, or that of a linear layer with 2, 3 or 4 axes.

        Returns
        -------
        Tucker, or Dense where there is a gradient tolerance
            prod K_j + sum n_j K_j numbers; |A - A~|^2 <= sum_j tau_j <= d (1 - eps) |A|^2 (THEORY T3).

        Raises
        ------
        TypeError, ValueError
            Where `activation` is not a finite float array of 2, 3 or 4 axes, or the fixed ranks are not its.
        """
        if self.plan is not None:
            return Dense(activation)
        return hosvd(checked_activation(activation), self.explained_variance, ranks=self.ranks, method=self.method)

    def restore(self, stored: Stored) -> Array:
        """Return A~ = S x_1 U_1 ... x_d U_d as a dense array.

        Raises
        ------
        TypeError
            Where `stored` is not `Tucker`, nor `Dense` where there is a gradient tolerance.
        """
        if self.plan is not None and isinstance(stored, Dense):
            return Exact().restore(stored)
        return TuckerStorage.restore(self, stored)

    def weight_gradient(self, stored: Stored, grad_output: Array, geometry: ConvGeometry | None = None) -> Array:
        """Return dW = D(A~, G), contracted from core and factors; A~ is never built (THEORY D7, T14).

        Parameters
        ----------
        stored : Tucker, or Dense where there is a gradient tolerance
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
            Where `stored` is neither of the two, or `grad_output` is no array of its dtype.
        ValueError
            Where `grad_output` does not fit the stored activation and the geometry.
        """
        if self.plan is not None and isinstance(stored, Dense):
            return Exact().weight_gradient(stored, grad_output, geometry)
        return TuckerStorage.weight_gradient(self, stored, grad_output, geometry)

    def a_priori_error(self, axes: int) -> float | None:
        """Return sqrt(d (1 - eps)), at least |A - A~| / |A| (THEORY T3); None without an explained variance.

        Examples
        --------
        >>> HOSVD(explained_variance=0.75).a_priori_error(4), HOSVD(ranks=(1, 2)).a_priori_error(2)
        (1.0, None)
        """
        return None if self.explained_variance is None else math.sqrt(axes * (1.0 - self.explained_variance))

    def begin_pass(self) -> Storage:
        """Return what keeps the inputs of one forward pass: itself, or with a gradient tolerance an `AdaptivePass`."""
        return self if self.plan is None else AdaptivePass(self, self.plan, self.method)

    def frozen_plan(self) -> HOSVD:
        """Return the same storage with the plan as it is now: it keeps what this one would, and learns nothing.

        Examples
        --------
        >>> storage = HOSVD(gradient_tolerance=0.5)
        >>> storage.frozen_plan() == storage, storage.frozen_plan().plan.learns
        (True, False)
        """
        if self.plan is None:
            return self
        copy = replace(self)
        object.__setattr__(copy, "plan", self.plan.frozen())
        return copy
