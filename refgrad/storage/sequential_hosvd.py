"""Sequentially truncated HOSVD storage: as HOSVD, with each factor taken from the core that the modes before it left.

In: a layer's input. Out: `Tucker`, whose discarded energies add up to its error exactly (THEORY T8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from refgrad.arguments import Array, non_negative_integer
from refgrad.multilinear import Tucker, sequential_hosvd
from refgrad.storage.base import checked_activation
from refgrad.storage.tucker import TuckerStorage

__all__ = ["SequentialHOSVD"]


@dataclass(frozen=True, slots=True)
class SequentialHOSVD(TuckerStorage):
    """Keep the sequentially truncated HOSVD of the activation (THEORY D4).

    Every decomposition but the first is of a smaller core, so it is faster than `HOSVD`.

    Parameters
    ----------
    explained_variance : float, optional
        eps in (0, 1]: the least share that each step keeps of what the step before it left.
    ranks : sequence of int, optional
        K_j of every mode of the activation, by mode and not by order, in its place. Just one of the two is given.
    method : {"svd", "gram"}
        How the factors are found, see `refgrad.sequential_hosvd`.
    order : sequence of int, optional
        The modes, each once, in the order in which they are truncated; 0, 1, ..., d - 1 if left out. With an order, all
        activations have as many axes as it has entries.

    Raises
    ------
    TypeError
        Where an argument is of the wrong kind.
    ValueError
        Where not just one of explained variance and ranks is given, one is out of range, the order does not name each
        mode once, or it and the ranks differ in length.

    Examples
    --------
    >>> import numpy as np
    >>> activation = np.random.default_rng(0).standard_normal((8, 3, 5, 5))
    >>> storage = SequentialHOSVD(explained_variance=0.8, order=(3, 2, 1, 0))
    >>> kept = storage.store(activation)
    >>> kept.multilinear_rank, kept.sequential
    ((6, 3, 4, 4), True)
    """

    name: ClassVar[str] = "sequential_hosvd"

    order: Sequence[int] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        TuckerStorage.__post_init__(self)
        if self.order is None:
            return
        if not isinstance(self.order, (tuple, list)):
            raise TypeError(f"order must be a tuple or list that names each mode once, got {self.order!r}")
        modes = tuple(non_negative_integer(f"order[{place}]", mode) for place, mode in enumerate(self.order))
        if not modes or sorted(modes) != list(range(len(modes))):
            raise ValueError(f"order must name each of the modes 0, 1, ..., d - 1 once, got {modes}")
        if self.ranks is not None and len(self.ranks) != len(modes):
            raise ValueError(
                f"order and ranks must have one entry for each mode, got order={modes}, ranks={self.ranks}"
            )
        object.__setattr__(self, "order", modes)

    def store(self, activation: Array) -> Tucker:
        """Keep a layer's input as its sequentially truncated HOSVD.

        Parameters
        ----------
        activation : array (B, C, H, W) or (B, ..., I)
            A, the input of a convolution, or that of a linear layer with 2, 3 or 4 axes.

        Returns
        -------
        Tucker
            prod K_j + sum n_j K_j numbers; |A - A~|^2 = sum_j tau'_j <= (1 - eps^d) |A|^2 (THEORY T8).

        Raises
        ------
        TypeError, ValueError
            Where `activation` is not a finite float array of 2, 3 or 4 axes, or the fixed ranks or the order are not
            its.
        """
        return sequential_hosvd(
            checked_activation(activation),
            self.explained_variance,
            ranks=self.ranks,
            order=self.order,
            method=self.method,
        )

    def a_priori_error(self, axes: int) -> float | None:
        """Return sqrt(1 - eps^d), at least |A - A~| / |A|; None where the ranks are fixed.

        Each step keeps at least eps of the energy of the core before it (THEORY D1, D4), so |A~|^2 = |S|^2 is at least
        eps^d |A|^2, and |A - A~|^2 is what |A|^2 has more than |A~|^2 (THEORY T2). By Bernoulli's inequality that is no
        more than HOSVD's sqrt(d (1 - eps)).

        Examples
        --------
        >>> SequentialHOSVD(explained_variance=0.5).a_priori_error(2)
        0.8660254037844386
        >>> SequentialHOSVD(ranks=(1, 2)).a_priori_error(2)
        """
        if self.explained_variance is None:
            return None
        return math.sqrt(0.0 - math.expm1(axes * math.log(self.explained_variance)))  # precise also where eps nears 1
