"""One training step, and how far its weight gradients are off.

In: a model, a batch and a storage. Out: loss and gradients, what the tape kept on the way, and on demand the distance
to exact backpropagation on the same step with the bound on it (THEORY T12, T13).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refgrad import functional
from refgrad.accounting import activation_memory
from refgrad.arguments import Array
from refgrad.bounds import GradientBound, network_bound
from refgrad.convergence import bounding
from refgrad.nn import Conv2d, Linear, Module
from refgrad.storage import Exact, Storage
from refgrad.tape import Tape

__all__ = [
    "GradientComparison",
    "Step",
    "classification_accuracy",
    "compare_with_exact",
    "compressed_weights",
    "take_step",
]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What one forward and one backward pass gave.

    Parameters
    ----------
    loss : float
        The mean loss of the batch.
    gradients : dict of str to array
        By parameter name.
    exact_numbers : int
        How many numbers the inputs of the conv and linear layers have.
    stored_numbers : int
        How many were kept of them, by the paper's count (THEORY D2, D3).
    layer_bytes : int
        The bytes that these take.
    held_bytes : int
        What the tape held after the forward pass: all that backward needs.
    bounds : tuple of (str, GradientBound)
        For each conv and linear layer the name of its weight, and the bound on the error of that weight's gradient;
        empty where they were not asked for.
    """

    loss: float
    gradients: dict[str, Array]
    exact_numbers: int
    stored_numbers: int
    layer_bytes: int
    held_bytes: int
    bounds: tuple[tuple[str, GradientBound], ...]

    @property
    def finite(self) -> bool:
        """Whether the loss and all gradients are finite."""
        return math.isfinite(self.loss) and all(np.isfinite(g).all() for g in self.gradients.values())


@dataclass(frozen=True, slots=True)
class GradientComparison:
    """How far the weight gradient of a step is from that of exact backpropagation, over the norm of the latter.

    Parameters
    ----------
    error : float or None
        |dW - dW~| / |dW|, over the weights of all conv and linear layers; None where dW is 0.
    bound : float or None
        The a-posteriori bound on it (THEORY T12, T13); None where dW is 0.
    rounding : float or None
        By how much the error, as computed, can be over the bound for rounding alone (THEORY T15); None where dW is 0.
    """

    error: float | None
    bound: float | None
    rounding: float | None


def take_step(
    model: Module,
    images: Array,
    labels: Array,
    storage: Storage,
    *,
    update_state: bool = True,
    with_bounds: bool = False,
) -> Step:
    """Run a batch forward and backward (THEORY D7); parameters stay as they are.

    Parameters
    ----------
    model : Module
        In training mode.
    images : array (B, C, H, W)
        The batch.
    labels : integer array (B,)
        The class of each image.
    storage : Storage
        How the inputs of conv and linear layers are kept.
    update_state : bool
        Whether running statistics move on.
    with_bounds : bool
        Whether the error of each weight gradient is bounded.

    Returns
    -------
    Step
    """
    bounds: list[tuple[str, GradientBound]] = []
    with Tape(store=storage) as tape:
        parameters = model.watch(tape)
        scores = model.apply(parameters, images, update_state=update_state)
        loss = functional.cross_entropy(scores, labels)
    memory = activation_memory(tape)
    gradients = tape.gradient(loss, parameters, observe=bounding(parameters, bounds) if with_bounds else None)
    return Step(
        loss=float(loss),
        gradients=gradients,
        exact_numbers=memory.dense_numbers,
        stored_numbers=memory.stored_numbers,
        layer_bytes=sum(layer.nbytes for layer in memory.layers),
        held_bytes=memory.nbytes,
        bounds=tuple(bounds),
    )


def compressed_weights(model: Module) -> tuple[str, ...]:
    """Return the names of the weights whose gradient comes from a stored activation: of conv and linear layers.

    Examples
    --------
    >>> from refgrad.models import DigitsNet
    >>> compressed_weights(DigitsNet(generator=np.random.default_rng(0)))
    ('conv1.weight', 'conv2.weight', 'conv3.weight', 'fc.weight')
    """
    layers = (name for name, module in model.named_modules() if isinstance(module, (Conv2d, Linear)))
    return tuple(f"{name}.weight" if name else "weight" for name in layers)


def compare_with_exact(model: Module, images: Array, labels: Array, storage: Storage) -> GradientComparison:
    """Take the same step with the storage and with exact storage, and compare the weight gradients.

    Parameters
    ----------
    model : Module
        In training mode; neither its parameters nor its running statistics are moved.
    images : array (B, C, H, W)
        The batch.
    labels : integer array (B,)
        The class of each image.
    storage : Storage
        How the inputs of conv and linear layers are kept.

    Returns
    -------
    GradientComparison
    """
    compressed = take_step(model, images, labels, storage.frozen_plan(), update_state=False, with_bounds=True)
    exact = take_step(model, images, labels, Exact(), update_state=False)
    names = compressed_weights(model)
    size = _norm([exact.gradients[name] for name in names])
    if size == 0.0:
        return GradientComparison(None, None, None)
    error = _norm([exact.gradients[name].astype(np.float64) - compressed.gradients[name] for name in names])
    bound = network_bound(bound for _, bound in compressed.bounds)
    return GradientComparison(error / size, bound.a_posteriori / size, bound.rounding / size)


def classification_accuracy(model: Module, images: Array, labels: Array) -> float:
    """Return the part of the images, in 0..1, whose largest score is that of their class; with running statistics."""
    model.eval()
    scores = model(images)
    model.train()
    return float(np.mean(np.argmax(scores, axis=1) == labels))


def _norm(arrays: Sequence[Array]) -> float:
    """Return the Frobenius norm of all arrays together, in float64."""
    return math.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays))
