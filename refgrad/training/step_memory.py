"""The memory of a whole training step, measured in a process of its own.

In: a network, how it keeps its activations, at what batch and image size. Out: what the tape says it holds between
forward and backward, what a memory tracer and the operating system see held then, and the most that either saw.

``python -m refgrad.training.step_memory``, with a request as JSON, measures itself and prints JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from refgrad.accounting import ActivationMemory, activation_memory
from refgrad.arguments import Array, non_negative_integer, one_of, positive_integer
from refgrad.convolution import correlation, few_channels, planes
from refgrad.datasets import load
from refgrad.functional import cross_entropy
from refgrad.models import DigitsNet
from refgrad.multilinear import panels
from refgrad.nn import AdaptiveAvgPool2d, Conv2d, Flatten, Linear, Module, ReLU, Sequential
from refgrad.resident import EXACT_ENVIRONMENT, ResidentMemory, give_back
from refgrad.storage import Storage, projected
from refgrad.tape import Tape
from refgrad.training.settings import Method

__all__ = [
    "NETWORKS",
    "StepMemory",
    "StepRequest",
    "deep_network",
    "enlarged_digits",
    "measure_in_own_process",
    "measure_step_memory",
]

DIGIT_SIZE = 8
"""The height and width of a digit."""

DEPTH, WIDTH, CLASSES = 12, 16, 10

ASK_EVERY = 0.1
"""Seconds between two looks at whether to go on waiting."""


def deep_network(image_size: int, generator: np.random.Generator) -> Module:
    """Return 12 convolutions of 3 x 3 taps and 16 channels with a ReLU each, a mean over the image, a linear layer.

    All inputs but the first are equally large, so what is kept between forward and backward outweighs what one layer
    works in, as it does in networks that are deep.

    Parameters
    ----------
    image_size : int
        Height and width; the network takes any.
    generator : numpy.random.Generator
        Of the weights, which are float32.

    Returns
    -------
    Sequential
    """
    layers: list[Module] = []
    for channels in (1, *(WIDTH,) * (DEPTH - 1)):
        layers += [Conv2d(channels, WIDTH, 3, padding=1, generator=generator, dtype=np.float32), ReLU()]
    scores = Linear(WIDTH, CLASSES, generator=generator, dtype=np.float32)
    return Sequential(*layers, AdaptiveAvgPool2d(1), Flatten(), scores)


def _digits_network(norm: bool, image_size: int, generator: np.random.Generator) -> Module:
    return DigitsNet((1, image_size, image_size), norm=norm, generator=generator, dtype=np.float32)


NETWORKS: dict[str, Callable[[int, np.random.Generator], Module]] = {
    "deep": deep_network,
    "digits": partial(_digits_network, False),
    "digits-norm": partial(_digits_network, True),
}
"""The networks that can be measured, by name, made for an image size and from a generator."""


@dataclass(frozen=True, slots=True)
class StepRequest:
    """A training step to measure.

    Parameters
    ----------
    store : {"exact", "svd", "hosvd"}
        How the inputs of conv and linear layers are kept.
    explained_variance : float or None
        What svd and hosvd keep of the energy; None for exact.
    batch_size : int
        How many digits.
    image_size : int
        Their height and width, a multiple of 8: each pixel is repeated.
    network : {"deep", "digits", "digits-norm"}
        `deep_network`, or `DigitsNet`, without batch normalisation or with it: that keeps normalised activations whole,
        whatever the store.
    seed : int
        Of the digits and the weights.

    Raises
    ------
    TypeError, ValueError
        Where the store is unknown, a number of the wrong kind or out of range.
    """

    store: str
    explained_variance: float | None
    batch_size: int = 48
    image_size: int = 32
    network: str = "deep"
    seed: int = 0

    def __post_init__(self) -> None:
        Method(self.store, self.explained_variance)
        one_of("network", self.network, tuple(NETWORKS))
        positive_integer("batch_size", self.batch_size)
        non_negative_integer("seed", self.seed)
        if positive_integer("image_size", self.image_size) % DIGIT_SIZE:
            raise ValueError(f"image_size must be a multiple of {DIGIT_SIZE}, got {self.image_size}")


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What a training step was seen to take, in bytes; None where the operating system does not say.

    Parameters
    ----------
    layer_bytes : int
        What the inputs of the conv and linear layers take as they are kept.
    held : int
        `Tape.nbytes` between forward and backward.
    dense_held : int
        What the same arrays would take, each dense.
    traced_held : int
        What the memory tracer sees that is alive between forward and backward and was not before.
    traced_peak : int
        The most that it saw during the step.
    resident_held : int or None
        By how much the process's resident memory had grown between forward and backward.
    resident_peak : int or None
        By how much it had grown at most during the step.
    """

    layer_bytes: int
    held: int
    dense_held: int
    traced_held: int
    traced_peak: int
    resident_held: int | None
    resident_peak: int | None


def enlarged_digits(batch_size: int, image_size: int, seed: int) -> tuple[Array, Array]:
    """Return real digits, each pixel repeated, and their classes.

    Parameters
    ----------
    batch_size : int
        How many; the digits start over where there are not as many.
    image_size : int
        Height and width, a multiple of 8.
    seed : int
        Of the order.

    Returns
    -------
    array (B, 1, H, W) of float32, integer array (B,)

    Raises
    ------
    ModuleNotFoundError
        Where scikit-learn, which the digits come with, is not installed.
    """
    data = load("digits", seed=seed, scaling="standard", dtype=np.float32)
    places = np.arange(batch_size) % len(data.train_images)
    times = image_size // DIGIT_SIZE
    images = np.kron(data.train_images[places], np.ones((1, 1, times, times), np.float32))
    return np.ascontiguousarray(images), data.train_labels[places]


def measure_step_memory(request: StepRequest) -> StepMemory:
    """Measure a step in this process, which should do nothing else; a small one goes before it and is not counted.

    Parameters
    ----------
    request : StepRequest
        What to measure.

    Returns
    -------
    StepMemory

    Raises
    ------
    ModuleNotFoundError
        Where scikit-learn, which the digits come with, is not installed.
    """
    images, labels = enlarged_digits(request.batch_size, request.image_size, request.seed)
    model = NETWORKS[request.network](request.image_size, np.random.default_rng(request.seed))
    storage = Method(request.store, request.explained_variance).storage()
    _step(model, images[:2], labels[:2], storage, lambda: None)  # what is set up once, is set up now
    for loops in (correlation, few_channels, planes, panels, projected):  # two images are too few for them
        loops.load(images.dtype)
    process = ResidentMemory()
    resident_held: list[int | None] = []
    memory = _step(model, images, labels, storage, lambda: resident_held.append(process.held()))
    resident_peak = process.peak()
    traced_held: list[int] = []
    give_back()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        _step(model, images, labels, storage, lambda: traced_held.append(tracemalloc.get_traced_memory()[0] - before))
        traced_peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return StepMemory(
        layer_bytes=sum(layer.nbytes for layer in memory.layers),
        held=memory.nbytes,
        dense_held=memory.dense_nbytes,
        traced_held=traced_held[0],
        traced_peak=traced_peak,
        resident_held=resident_held[0],
        resident_peak=resident_peak,
    )


def measure_in_own_process(request: StepRequest, should_stop: Callable[[], bool] = lambda: False) -> StepMemory | None:
    """Measure a step in a fresh process, so that what others left behind does not count.

    Parameters
    ----------
    request : StepRequest
        What to measure.
    should_stop : callable
        Asked ten times a second; where it says so, the process is ended.

    Returns
    -------
    StepMemory, or None where it was stopped

    Raises
    ------
    RuntimeError
        Where the process fails; the error says with what.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "refgrad.training.step_memory", json.dumps(asdict(request))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **EXACT_ENVIRONMENT},
        start_new_session=True,  # Ctrl-C is for us to handle
    )
    with process:
        while True:
            try:
                output, errors = process.communicate(timeout=ASK_EVERY)
                break
            except subprocess.TimeoutExpired:
                if should_stop():
                    process.kill()
                    return None
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        last = errors.strip().splitlines()[-1:] or ["nothing was said"]
        raise RuntimeError(f"measuring {request} in a process of its own ended with {process.returncode}: {last[0]}")
    return StepMemory(**json.loads(output))


def _step(
    model: Module, images: Array, labels: Array, storage: Storage, between: Callable[[], object]
) -> ActivationMemory:
    """Take a step, with a look between forward and backward, when only the tape and the loss are alive."""
    with Tape(store=storage) as tape:
        parameters = model.watch(tape)
        loss = cross_entropy(model.apply(parameters, images, update_state=False), labels)
    memory = activation_memory(tape)
    between()
    tape.gradient(loss, parameters)
    return memory


if __name__ == "__main__":
    print(json.dumps(asdict(measure_step_memory(StepRequest(**json.loads(sys.argv[1]))))))
