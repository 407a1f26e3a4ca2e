"""Stochastic gradient descent, learning rate schedules and gradient clipping, by PyTorch's formulas.

In: parameters and gradients, dicts from names to arrays. Out: parameters changed in place; tapes hold copies of their
own, so nothing that was recorded changes with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from refgrad.arguments import Array, float_array, non_negative_integer, positive_integer, shape_text
from refgrad.functional.operands import number_in

__all__ = ["SGD", "clip_gradient_norm", "cosine_schedule"]

BUFFER = "momentum_buffer."


class SGD:
    """Stochastic gradient descent with momentum and weight decay.

    d = g + weight_decay p; v <- momentum v + d, v zero at first; p <- p - lr v, or p - lr (d + momentum v) with
    Nesterov's rule. Without momentum p <- p - lr d.

    Parameters
    ----------
    parameters : mapping of str to array
        Changed in place by `step`; `Module.parameters` returns it.
    lr : float
        The learning rate, at least 0; an attribute, to be set by a schedule.
    momentum, weight_decay : float
        At least 0.
    nesterov : bool
        Needs a momentum.

    Raises
    ------
    TypeError, ValueError
        Where a parameter is no float array that can be written to, or a number lies outside.

    Examples
    --------
    >>> parameters = {"weight": np.array([1.0, 2.0])}
    >>> optimiser = SGD(parameters, lr=0.5)
    >>> optimiser.step({"weight": np.array([1.0, -1.0])})
    >>> parameters["weight"]
    array([0.5, 2.5])
    """

    def __init__(
        self,
        parameters: Mapping[str, Array],
        lr: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        if not parameters:
            raise ValueError("parameters must not be empty: there is nothing to train")
        for name, array in parameters.items():
            if not float_array(f"parameters[{name!r}]", array).flags.writeable:
                raise ValueError(
                    f"parameters[{name!r}] must be writeable, for it is changed in place; got a read-only array"
                )
        self.parameters = dict(parameters)
        self.lr = lr
        self.momentum = number_in("momentum", momentum, 0.0, math.inf, open_end=True)
        self.weight_decay = number_in("weight_decay", weight_decay, 0.0, math.inf, open_end=True)
        if nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum above 0, got momentum=0.0")
        self.nesterov = nesterov
        self._velocities = {name: np.zeros_like(array) for name, array in parameters.items()} if momentum else {}

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = number_in("lr", value, 0.0, math.inf, open_end=True)

    def step(self, gradients: Mapping[str, Array]) -> None:
        """Change every parameter in place, all of them or, after an error, none.

        Parameters
        ----------
        gradients : mapping of str to array
            One for each parameter, of its shape and dtype, finite.

        Raises
        ------
        TypeError
            Where one is no float array, or of another dtype than its parameter.
        ValueError
            Where names or shapes differ from those of the parameters, or a gradient is not finite.
        """
        _same_names("gradients", self.parameters, gradients)
        for name, array in self.parameters.items():
            _check_like(
                f"gradients[{name!r}]", float_array(f"gradients[{name!r}]", gradients[name], finite=True), array
            )
        for name, array in self.parameters.items():
            direction = gradients[name]
            if self.weight_decay:
                direction = direction + self.weight_decay * array
            if self.momentum:
                velocity = self._velocities[name]
                velocity *= self.momentum
                velocity += direction
                direction = direction + self.momentum * velocity if self.nesterov else velocity
            np.subtract(array, self.lr * direction, out=array)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of what changes from step to step: ``lr``, and ``momentum_buffer.<name>`` with a momentum."""
        return {
            "lr": np.array(self.lr),
            **{BUFFER + name: velocity.copy() for name, velocity in self._velocities.items()},
        }

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Go on from where `state_dict` was taken; all of it or, after an error, nothing.

        Parameters
        ----------
        state : mapping of str to array
            Just the names, shapes and dtypes of `state_dict()`.

        Raises
        ------
        TypeError
            Where an entry is no float array, or has another dtype.
        ValueError
            Where names or shapes differ, or an entry is not finite.
        """
        own = self.state_dict()
        _same_names("state", own, state)
        for name, array in own.items():
            _check_like(f"state[{name!r}]", float_array(f"state[{name!r}]", state[name], finite=True), array)
        self.lr = float(state["lr"])
        for name, velocity in self._velocities.items():
            velocity[...] = state[BUFFER + name]


def cosine_schedule(step: int, total_steps: int, base: float, *, minimum: float = 0.0) -> float:
    """Return the learning rate at a step: minimum + (base - minimum) (1 + cos(pi step / total_steps)) / 2.

    Loshchilov and Hutter, arXiv:1608.03983, equation 5, without restarts.

    Parameters
    ----------
    step : int
        From 0, where the rate is `base`, to `total_steps`, where it is `minimum`.
    total_steps : int
        At least 1.
    base, minimum : float
        At least 0.

    Returns
    -------
    float
        The rate.

    Raises
    ------
    TypeError, ValueError
        Where a number is not what it must be.

    Examples
    --------
    >>> cosine_schedule(0, 10, 0.5), cosine_schedule(10, 10, 0.5)
    (0.5, 0.0)
    """
    base, minimum = number_in("base", base, 0.0, math.inf, open_end=True), number_in("minimum", minimum, 0.0, base)
    if non_negative_integer("step", step) > positive_integer("total_steps", total_steps):
        raise ValueError(f"step must be at most total_steps={total_steps}, got {step}")
    return minimum + (base - minimum) * (1.0 + math.cos(math.pi * step / total_steps)) / 2.0


def clip_gradient_norm(gradients: Mapping[str, Array], maximum: float) -> tuple[dict[str, Array], float]:
    """Shorten all gradients together where their common norm is over a maximum.

    g <- g min(1, maximum / (|g| + 1e-6)), |g|^2 the sum of the squares of all entries; Pascanu et al., arXiv:1211.5063,
    algorithm 1, with PyTorch's guard against a norm of zero. Squares neither overflow nor vanish.

    Parameters
    ----------
    gradients : mapping of str to array
        Not changed.
    maximum : float
        Above 0.

    Returns
    -------
    clipped : dict of str to array
        New arrays, of the dtypes that came.
    norm : float
        |g| before clipping.

    Raises
    ------
    TypeError, ValueError
        Where a gradient is no float array, there is none, one is not finite, or their norm is over the largest number.

    Examples
    --------
    >>> clipped, norm = clip_gradient_norm({"weight": np.array([3.0, 4.0])}, 10.0)
    >>> clipped["weight"], norm
    (array([3., 4.]), 5.0)
    """
    if not number_in("maximum", maximum, 0.0, math.inf) > 0.0:
        raise ValueError(f"maximum must be above 0, got {maximum!r}")
    if not gradients:
        raise ValueError("gradients must not be empty")
    largest = 0.0
    for name, gradient in gradients.items():
        largest = max(largest, float(np.max(np.abs(float_array(f"gradients[{name!r}]", gradient, finite=True)))))
    exponent = math.frexp(largest)[1]  # a power of two scales without rounding
    total = sum(float(np.sum(np.square(np.ldexp(g.astype(np.float64), -exponent)))) for g in gradients.values())
    try:
        norm = math.ldexp(math.sqrt(total), exponent)
    except OverflowError as error:
        raise ValueError(f"the norm of gradients must be finite, got {math.sqrt(total)!r} * 2**{exponent}") from error
    factor = min(1.0, maximum / (norm + 1e-6))
    return {name: np.asarray(gradient * gradient.dtype.type(factor)) for name, gradient in gradients.items()}, norm


def _same_names(label: str, own: Mapping[str, Array], given: Mapping[str, Array]) -> None:
    missing, unexpected = [name for name in own if name not in given], [name for name in given if name not in own]
    if missing or unexpected:
        raise ValueError(
            f"{label} must have the names {', '.join(own)}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unexpected: {', '.join(map(str, unexpected))}" if unexpected else "")
        )


def _check_like(name: str, value: Array, array: Array) -> None:
    if value.dtype != array.dtype:
        raise TypeError(f"{name} must have dtype {array.dtype}, got {value.dtype}; nothing is cast")
    if value.shape != array.shape:
        raise ValueError(f"{name} must have shape {shape_text(array.shape)}, got {shape_text(value.shape)}")
