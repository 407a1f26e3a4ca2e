"""value_and_grad: the gradient of a function, without a tape in sight.

In: a function of parameters that returns a scalar. Out: a function that returns the scalar and its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from refgrad.storage.base import Storage
from refgrad.storage.exact import Exact
from refgrad.tape.recording import Tape
from refgrad.tape.structure import map_structure
from refgrad.tape.tensor import Tensor

__all__ = ["value_and_grad"]


def value_and_grad(
    function: Callable[..., Any],
    *,
    store: Storage = Exact(),  # noqa: B008 - frozen, without state
) -> Callable[..., tuple[float, Any]]:
    """Return a function that computes `function` and its gradient with respect to the first argument.

    Parameters
    ----------
    function : callable
        ``function(params, *args, **kwargs)`` returns a scalar Tensor. `params` is an array or a nested list, tuple or
        dict of arrays; the function sees tensors in their place.
    store : Storage
        How conv and linear layers keep their inputs until backward.

    Returns
    -------
    callable
        ``(params, *args, **kwargs) -> (loss, gradients)``: a float, and arrays in the structure of `params`.

    Raises
    ------
    TypeError
        When called: where a leaf of `params` is no float array, or the function does not return a Tensor.
    ValueError
        When called: where what the function returns is not of size 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss, gradients = value_and_grad(lambda p: np.sum(p["a"] ** 2))({"a": np.array([3.0, 4.0])})
    >>> loss, gradients["a"]
    (25.0, array([6., 8.]))
    """
    if not callable(function):
        raise TypeError(f"function must be callable, got {type(function).__name__}")

    def differentiated(params: Any, *args: Any, **kwargs: Any) -> tuple[float, Any]:
        with Tape(store=store) as tape:
            tensors = map_structure(lambda path, leaf: tape.watch(leaf, name=path), params, "params")
            loss = function(tensors, *args, **kwargs)
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"the function must return a Tensor computed from its first argument, got {type(loss).__name__}"
            )
        gradients = tape.gradient(loss, tensors)
        return loss.item(), gradients

    return update_wrapper(differentiated, function)
