"""The inputs of whole layers: a linear layer, and a convolution with the step of SGD that follows.

In: an operation's name, and for a generated input a generator. Out: `LadderCase`s.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array
from refgrad.geometry import ConvGeometry
from refgrad.oracle.cases import EXPLAINED, LAYOUTS, SPECTRA, largest_exponent, random_tensor
from refgrad.oracle.catalogue import with_spectrum
from refgrad.oracle.ladder.cases import LadderCase, Parts
from refgrad.oracle.ladder.drawing import FOUR_FIFTHS, draw, generator_of
from refgrad.oracle.ladder.geometries import GEOMETRIES, NO_PADS, Given, geometry_of, random_geometry

__all__ = ["generated_linear", "generated_step", "named_linears", "named_steps"]

RATES: Final[tuple[tuple[str, str, tuple[float, float, float]], ...]] = (
    ("no momentum, no decay", "wrong on the plainest step", (0.5, 0.0, 0.0)),
    ("momentum", "forgets the velocity, or scales it by the rate", (0.25, 0.5, 0.0)),
    ("weight decay", "leaves out the decay, or its sign", (0.25, 0.0, 0.125)),
    ("momentum and weight decay", "decays after the momentum", (0.1, 0.9, 0.01)),
)
"""Name, effect, and (learning rate, momentum, weight decay)."""


def _linear_case(
    operation: str,
    name: str,
    effect: str,
    generator: np.random.Generator,
    shape: tuple[int, ...],
    out_features: int,
    *,
    spectrum: str = "normal",
    share: Fraction = FOUR_FIFTHS,
    dtype: npt.DTypeLike = np.float64,
    exponent: int = 0,
    layout: str = "C",
    x: Array | None = None,
) -> LadderCase:
    x = random_tensor(generator, shape, spectrum) if x is None else x
    parts = {
        "x": np.ldexp(x.astype(dtype), exponent),
        "weight": generator.standard_normal((out_features, x.shape[-1])).astype(dtype),
        "bias": generator.standard_normal(out_features).astype(dtype),
        "grad_output": generator.standard_normal((*x.shape[:-1], out_features)).astype(dtype),
    }
    return LadderCase(operation, name, parts, explained_variance=share, layout=layout, effect=effect)


def named_linears(operation: str) -> Iterator[LadderCase]:
    """Yield linear layers."""
    rows: tuple[tuple[str, str, tuple[int, ...], int, dict[str, Any]], ...] = (
        ("2 axes", "wrong on the plainest input", (6, 4), 3, {}),
        ("3 axes", "does not flatten the leading axes", (3, 5, 4), 3, {}),
        ("4 axes", "does not flatten the leading axes", (2, 3, 4, 5), 3, {}),
        ("as many outputs as inputs", "transposes the weight", (6, 4), 4, {}),
        ("square in every axis", "transposes x", (4, 4, 4), 4, {}),
        ("one sample", "squeezes axes of length 1", (1, 4), 3, {}),
        ("one feature", "squeezes axes of length 1", (5, 1), 3, {}),
        ("one output", "squeezes axes of length 1", (5, 4), 1, {}),
        ("batch of 1, 3 axes", "squeezes axes of length 1", (1, 5, 4), 3, {}),
        ("ReLU activation", "subtracts the mean", (4, 5, 4), 3, {"spectrum": "relu", "share": Fraction(9, 10)}),
        ("zero energy", "divides by the energy", (3, 5, 4), 3, {"spectrum": "zero"}),
        ("rank 1", "keeps noise", (3, 5, 4), 3, {"spectrum": "rank 1", "share": Fraction(99, 100)}),
        ("everything kept", "drops what rounding calls small", (3, 5, 4), 3, {"share": Fraction(1)}),
        ("every mode cut", "sequential truncation passed off as HOSVD", (5, 6, 5), 3, {"share": Fraction(3, 5)}),
        ("long sums", "accumulates in too short a dtype", (16, 12, 8), 6, {}),
    )
    for name, effect, shape, out_features, further in rows:
        for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
            generator = generator_of(operation, name)
            yield _linear_case(operation, name + label, effect, generator, shape, out_features, dtype=dtype, **further)
    tie = with_spectrum(1, 1, 1, 1)
    for name, share in (("tie at the cut", Fraction(3, 4)), ("flat spectrum", Fraction(3, 5))):
        generator = generator_of(operation, name)
        yield _linear_case(operation, name, "needs a gap", generator, (4, 4, 4, 4), 3, x=tie, share=share)
    for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
        for sign, what in ((1, "overflow"), (-1, "vanish")):
            name = f"{'large' if sign > 0 else 'small'} numbers{label}"
            t = sign * largest_exponent(np.dtype(dtype))
            generator = generator_of(operation, name)
            yield _linear_case(operation, name, f"squares {what}", generator, (3, 5, 4), 3, dtype=dtype, exponent=t)
    for layout in LAYOUTS[1:]:
        generator = generator_of(operation, layout)
        effect = "takes memory for C-contiguous, or writes into its input"
        yield _linear_case(operation, f"{layout} layout", effect, generator, (3, 5, 4), 3, layout=layout)


def generated_linear(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    """Return a linear layer."""
    shape = tuple(int(n) for n in generator.integers(1, 7, int(generator.integers(2, 5))))
    dtype = np.dtype(draw(generator, np.float32, np.float64))
    return _linear_case(
        operation,
        name,
        "found by chance",
        generator,
        shape,
        int(generator.integers(1, 6)),
        spectrum=draw(generator, *SPECTRA),
        share=draw(generator, *EXPLAINED, Fraction(int(generator.integers(1, 1000)), 1000)),
        dtype=dtype,
        exponent=draw(generator, 0, 0, 0, 1, -1) * largest_exponent(dtype),
        layout=draw(generator, *LAYOUTS),
    )


def named_steps(operation: str) -> Iterator[LadderCase]:
    """Yield convolutions with the velocities and rates of a step."""
    for label, effect, rates in RATES:
        for dtype, suffix in ((np.float64, ""), (np.float32, ", float32")):
            generator = generator_of(operation, label)
            plain = geometry_of(padding=NO_PADS)
            yield _step_case(operation, label + suffix, effect, generator, plain, (3, 2, 6, 7), rates, dtype)
    for name, effect, given in GEOMETRIES[4:]:
        generator = generator_of(operation, name)
        yield _step_case(operation, name, effect, generator, given, (2, 6, 8, 9), RATES[3][2], np.float64)


def _step_case(
    operation: str,
    name: str,
    effect: str,
    generator: np.random.Generator,
    given: Given,
    shape: tuple[int, int, int, int],
    rates: tuple[float, float, float],
    dtype: npt.DTypeLike,
    *,
    share: Fraction = FOUR_FIFTHS,
    spectrum: str = "normal",
    layout: str = "C",
) -> LadderCase:
    groups = given["groups"]
    weight_shape = (6, shape[1] // groups, *given["kernel_size"])
    geometry = ConvGeometry(**given)
    arrays = {
        "x": random_tensor(generator, shape, spectrum),
        "weight": generator.standard_normal(weight_shape),
        "bias": generator.standard_normal(6),
        "grad_output": generator.standard_normal(geometry.output_shape(shape, weight_shape)),
        "weight_velocity": generator.standard_normal(weight_shape),
        "bias_velocity": generator.standard_normal(6),
    }
    attributes = {key: value for key, value in given.items() if key != "kernel_size"}
    attributes |= dict(zip(("learning_rate", "momentum", "weight_decay"), rates, strict=True))
    parts: Parts = {key: array.astype(dtype) for key, array in arrays.items()}
    return LadderCase(operation, name, parts, attributes, explained_variance=share, layout=layout, effect=effect)


def generated_step(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    """Return a convolution with the velocities and rates of a step."""
    given, size = random_geometry(generator, draw(generator, 1, 1, 2, 3, 6))
    shape = (int(generator.integers(1, 5)), 6, *size)
    rates = (draw(generator, 0.5, 0.1), draw(generator, 0.0, 0.5, 0.9), draw(generator, 0.0, 0.01, 0.125))
    return _step_case(
        operation,
        name,
        "found by chance",
        generator,
        given,
        shape,
        rates,
        draw(generator, np.float32, np.float64),
        share=draw(generator, *EXPLAINED),
        spectrum=draw(generator, *SPECTRA),
        layout=draw(generator, *LAYOUTS),
    )
