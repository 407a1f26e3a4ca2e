"""A gradient together with what is known of its error.

In: a function of named parameters, and a storage. Out: a `CompressedGradient`: loss, gradients, and for each layer that
kept its input compressed a bound on what that did to its weight's gradient (THEORY T11-T13).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from refgrad.arguments import Array, float_array
from refgrad.bounds import GradientBound, weight_gradient_bound
from refgrad.rounding import unit_roundoff
from refgrad.storage import Storage
from refgrad.tape import Record, Tape, Tensor

__all__ = ["CompressedGradient", "bounding", "compressed_gradient", "loss_rounding", "weight_of"]

WEIGHT = 1
"""Which argument of a layer its weight is: conv2d(x, weight, ...), linear(x, weight, ...)."""


@dataclass(frozen=True, slots=True, eq=False)
class CompressedGradient:
    """The gradient of a loss, evaluated at activations that were kept compressed (THEORY D7).

    Parameters
    ----------
    loss : float
        f(x), computed exactly but for rounding.
    gradients : mapping of str to array
        g~ by parameter name.
    bounds : tuple of (str, GradientBound)
        For each layer the name of its weight, and the bound on what compression did to the gradient of that. Layers
        that share a weight have an entry each.
    rounding : float
        How far the loss can be off, see `loss_rounding`.

    Raises
    ------
    TypeError, ValueError
        Where there are no gradients, one is no float array, or a bound belongs to no gradient.
    """

    loss: float
    gradients: Mapping[str, Array]
    bounds: tuple[tuple[str, GradientBound], ...]
    rounding: float = 0.0

    def __post_init__(self) -> None:
        if not self.gradients:
            raise ValueError("gradients must hold one array for each parameter, got none")
        for name, gradient in self.gradients.items():
            float_array(f"gradients[{name!r}]", gradient)
        for name, _ in self.bounds:
            if name not in self.gradients:
                known = ", ".join(map(repr, self.gradients))
                raise ValueError(f"bounds name the layer {name!r}, which is unknown: there are gradients for {known}")
        if not self.rounding >= 0.0:
            raise ValueError(f"rounding must be at least 0, got {self.rounding!r}")


def compressed_gradient(
    function: Callable[..., Any], params: Mapping[str, Array], *args: Any, store: Storage, **kwargs: Any
) -> CompressedGradient:
    """Differentiate a function with compressed activations, and bound the error of each layer's weight gradient.

    Parameters
    ----------
    function : callable
        ``function(params, *args, **kwargs)`` returns a scalar Tensor; it sees tensors in place of the arrays.
    params : mapping of str to array
        The parameters by name. Every layer's weight must be one of them, or not depend on them: what compression does
        to a weight that is computed from parameters is not bounded here.
    store : Storage
        How conv and linear layers keep their inputs.

    Returns
    -------
    CompressedGradient

    Raises
    ------
    TypeError
        Where the function does not return a Tensor, or the storage is one whose error is not known.
    ValueError
        Where a layer's weight is computed from parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import refgrad as rg
    >>> data = np.diag([3.0, 1.0])
    >>> def loss(params):
    ...     return np.sum(rg.functional.linear(data, params["weight"]) ** 2) / 2
    >>> found = compressed_gradient(loss, {"weight": np.eye(2)}, store=rg.SVD(rank=1))
    >>> found.gradients["weight"].round(6), round(found.bounds[0][1].a_posteriori, 6)
    (array([[9., 0.],
           [0., 0.]]), 3.0)
    """
    if not callable(function):
        raise TypeError(f"function must be callable, got {type(function).__name__}")
    with Tape(store=store) as tape:
        tensors = {name: tape.watch(array, name=name) for name, array in params.items()}
        loss = function(tensors, *args, **kwargs)
    if not isinstance(loss, Tensor):
        raise TypeError(f"function must return a Tensor computed from the parameters, got {type(loss).__name__}")
    rounding = loss_rounding(tape, loss)
    bounds: list[tuple[str, GradientBound]] = []
    gradients = tape.gradient(loss, tensors, observe=bounding(tensors, bounds))
    return CompressedGradient(loss.item(), gradients, tuple(bounds), rounding)


def bounding(
    parameters: Mapping[str, Tensor], bounds: list[tuple[str, GradientBound]]
) -> Callable[[Record, Array], None]:
    """Return what `Tape.gradient` is observed with, so that it bounds the error of each layer's weight gradient.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        As the tape watches them.
    bounds : list
        Gets the name of each layer's weight, with the bound, as backward comes to it.
    """
    names = {tensor.index: name for name, tensor in parameters.items()}

    def observe(record: Record, grad_output: Array) -> None:
        name = weight_of(record, names)
        if name is not None:
            assert record.kept_activation is not None
            geometry = getattr(record.saved, "geometry", None)
            bounds.append((name, weight_gradient_bound(record.kept_activation, grad_output, geometry)))

    return observe


def weight_of(record: Record, names: Mapping[int, str]) -> str | None:
    """Return which parameter a layer's weight is; None where no gradient passes through it.

    Parameters
    ----------
    record : Record
        Of a layer that kept its input.
    names : mapping of int to str
        The name of every parameter by the index of its record.

    Raises
    ------
    ValueError
        Where the weight is something that was computed on the tape.
    """
    parent = record.parents[WEIGHT]
    if parent is None:
        return None
    if parent not in names:
        raise ValueError(
            f"the weight of {record.operation} (record {record.index}) is no parameter but record {parent}, which was "
            "computed: what compression does to the gradient of such a weight is not bounded; give the weight itself "
            "as a parameter"
        )
    return names[parent]


def loss_rounding(tape: Tape, loss: Tensor) -> float:
    """Estimate how far rounding can have moved a loss: gamma_n |f|, n the roundings on any path to it (THEORY T15).

    An operation rounds each number that it returns at most once for each number it was given, and once more; n adds
    that up over all records. It is a bound where every operation is as well conditioned as a sum of positive numbers,
    and an estimate, from far above, elsewhere.

    Parameters
    ----------
    tape : Tape
        What the loss was computed on.
    loss : Tensor
        Of size 1.

    Returns
    -------
    float
        inf where n u >= 1.

    Examples
    --------
    >>> import numpy as np
    >>> with Tape() as tape:
    ...     loss = np.sum(tape.watch(np.ones(1000)))
    >>> 0.0 < loss_rounding(tape, loss) < 1e-9
    True
    """
    records = tape.records[: loss.index + 1]
    roundings = sum(
        1 + max([math.prod(record.shape), *(math.prod(records[p].shape) for p in record.parents if p is not None)])
        for record in records
        if record.primitive is not None
    )
    product = roundings * unit_roundoff(loss.dtype)
    return math.inf if product >= 1.0 else product / (1.0 - product) * abs(loss.item())
