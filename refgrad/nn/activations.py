"""Activations, flattening and dropout as modules: none has parameters.

In: what the function of the same name takes besides its input. Out: modules.
"""

from __future__ import annotations

import numpy as np

from refgrad import functional
from refgrad.arguments import one_of
from refgrad.functional.operands import number_in
from refgrad.nn.initialization import checked_generator
from refgrad.nn.module import Module
from refgrad.tape import Operand

__all__ = ["GELU", "Dropout", "Flatten", "ReLU", "Sigmoid", "Tanh"]


class ReLU(Module):
    """max(x, 0), `refgrad.functional.relu`; ReLU'(0) = 0.

    Examples
    --------
    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def forward(self, x: Operand) -> Operand:
        """Return max(x, 0)."""
        return functional.relu(x)


class GELU(Module):
    """x Phi(x), `refgrad.functional.gelu`.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        By the normal distribution function, or by its approximation.

    Raises
    ------
    ValueError
        Where it is another word.

    Examples
    --------
    >>> GELU()(np.array([1.0])).round(4)
    array([0.8413])
    """

    def __init__(self, *, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = one_of("approximate", approximate, ("none", "tanh"))

    def forward(self, x: Operand) -> Operand:
        """Return x Phi(x)."""
        return functional.gelu(x, approximate=self.approximate)

    def describe(self) -> str:
        """Return which form it is."""
        return f"approximate={self.approximate!r}"


class Sigmoid(Module):
    """1 / (1 + exp(-x)), `refgrad.functional.sigmoid`.

    Examples
    --------
    >>> Sigmoid()(np.array([0.0]))
    array([0.5])
    """

    def forward(self, x: Operand) -> Operand:
        """Return 1 / (1 + exp(-x))."""
        return functional.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, `refgrad.functional.tanh`.

    Examples
    --------
    >>> Tanh()(np.array([0.0]))
    array([0.])
    """

    def forward(self, x: Operand) -> Operand:
        """Return tanh(x)."""
        return functional.tanh(x)


class Flatten(Module):
    """Join neighbouring axes into one, `refgrad.functional.flatten`, whose arguments it takes.

    Examples
    --------
    >>> Flatten()(np.zeros((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, start_axis: int = 1, end_axis: int = -1) -> None:
        super().__init__()
        self.start_axis, self.end_axis = start_axis, end_axis

    def forward(self, x: Operand) -> Operand:
        """Join neighbouring axes into one."""
        return functional.flatten(x, self.start_axis, self.end_axis)


class Dropout(Module):
    """Random zeros in training, nothing otherwise, `refgrad.functional.dropout`.

    Parameters
    ----------
    p : float
        In [0, 1): the probability of a zero.
    generator : numpy.random.Generator
        What the zeros are drawn from; ``apply(..., update_state=False)`` draws from a copy of it.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not what it must be.

    Examples
    --------
    >>> layer = Dropout(0.5, generator=np.random.default_rng(0))
    >>> layer(np.ones(4)), layer.eval()(np.ones(4))
    (array([2., 0., 0., 0.]), array([1., 1., 1., 1.]))
    """

    def __init__(self, p: float = 0.5, *, generator: np.random.Generator) -> None:
        super().__init__()
        self.p = number_in("p", p, 0.0, 1.0, open_end=True)
        self.generator = checked_generator(generator)

    def forward(self, x: Operand) -> Operand:
        """Zero elements at random, in training."""
        return functional.dropout(x, self.p, generator=self.generator, training=self.training)

    def describe(self) -> str:
        """Return the probability."""
        return f"p={self.p}"
