"""The inputs of what is contracted from a core and factors: the reconstruction, and a weight gradient.

In: an operation's name, and for a generated input a generator. Out: `LadderCase`s.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from refgrad.geometry import ConvGeometry
from refgrad.oracle.cases import LAYOUTS, random_tensor
from refgrad.oracle.catalogue import HADAMARD
from refgrad.oracle.ladder.cases import LadderCase, Parts
from refgrad.oracle.ladder.drawing import draw, generator_of, random_factors
from refgrad.oracle.ladder.geometries import GEOMETRIES, Given, geometry_of, random_geometry

__all__ = [
    "generated_reconstruction",
    "generated_weight_gradient",
    "named_reconstructions",
    "named_weight_gradients",
]


def named_reconstructions(operation: str) -> Iterator[LadderCase]:
    """Yield cores and factors."""
    for name, effect, shape, ranks in (
        ("vector", "takes the number of axes for granted", (4,), (2,)),
        ("matrix", "takes the number of axes for granted", (4, 3), (2, 3)),
        ("three axes", "takes the number of axes for granted", (4, 3, 5), (2, 3, 1)),
        ("four axes", "mixes up the modes", (4, 3, 5, 2), (3, 2, 4, 1)),
        ("square factors", "transposes a factor", (3, 3, 3, 3), (3, 3, 3, 3)),
        ("rank 1 each", "squeezes axes of length 1", (4, 3, 5), (1, 1, 1)),
    ):
        for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
            generator = generator_of(operation, name)
            core = generator.standard_normal(ranks).astype(dtype)
            parts: Parts = {"core": core, "factors": random_factors(generator, shape, ranks, dtype)}
            yield LadderCase(operation, name + label, parts, effect=effect)
    generator = generator_of(operation, "small integers")
    integers = generator.integers(-3, 4, (2, 3, 2)).astype(np.float64)
    factors = tuple(generator.integers(-2, 3, shape).astype(np.float64) for shape in ((4, 2), (3, 3), (5, 2)))
    effect = "takes factors for orthonormal, or rounds where nothing needs to be"
    yield LadderCase(operation, "small integers", {"core": integers, "factors": factors}, effect=effect)


def generated_reconstruction(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    """Return a core and factors."""
    shape = tuple(int(n) for n in generator.integers(1, 6, int(generator.integers(1, 5))))
    ranks = tuple(int(generator.integers(1, n + 1)) for n in shape)
    dtype = draw(generator, np.float32, np.float64)
    core = random_tensor(generator, ranks, draw(generator, "normal", "integers", "zero")).astype(dtype)
    parts: Parts = {"core": core, "factors": random_factors(generator, shape, ranks, dtype)}
    return LadderCase(operation, name, parts, layout=draw(generator, *LAYOUTS), effect="found by chance")


def named_weight_gradients(operation: str) -> Iterator[LadderCase]:
    """Yield cores and factors of an input, with the gradient of a convolution's output."""
    for name, effect, given in GEOMETRIES:
        for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
            generator = generator_of(operation, name)
            yield _weight_gradient_case(operation, name + label, effect, generator, given, dtype)
    yield from _exact_weight_gradients(operation)


def _exact_weight_gradients(operation: str) -> Iterator[LadderCase]:
    """Yield inputs made of Hadamard columns and small integers: every order of contraction gives the same bits."""
    effect = "loses digits where none need be lost"
    for name, given in (("exact", geometry_of((2, 2), (2, 1))), ("exact, 2 groups", geometry_of((2, 3), groups=2))):
        for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
            generator = generator_of(operation, name)
            geometry = ConvGeometry(**given)
            weight_shape = (4, 4 // given["groups"], *given["kernel_size"])
            output = geometry.output_shape((4, 4, 4, 4), weight_shape)
            parts: Parts = {
                "core": generator.integers(-3, 4, (2, 3, 4, 2)).astype(dtype),
                "factors": tuple((HADAMARD[:, :rank] / 2.0).astype(dtype) for rank in (2, 3, 4, 2)),
                "grad_output": generator.integers(-3, 4, output).astype(dtype),
            }
            yield LadderCase(operation, name + label, parts, given, effect=effect)


def _weight_gradient_case(
    operation: str,
    name: str,
    effect: str,
    generator: np.random.Generator,
    given: Given,
    dtype: npt.DTypeLike,
    *,
    shape: tuple[int, int, int, int] = (3, 6, 8, 9),
    ranks: tuple[int, int, int, int] = (2, 3, 4, 3),
    layout: str = "C",
) -> LadderCase:
    groups, out_channels = given["groups"], 6
    geometry = ConvGeometry(**given)
    weight_shape = (out_channels, shape[1] // groups, *given["kernel_size"])
    gradient = generator.standard_normal(geometry.output_shape(shape, weight_shape)).astype(dtype)
    core = generator.standard_normal(ranks).astype(dtype)
    parts: Parts = {"core": core, "factors": random_factors(generator, shape, ranks, dtype), "grad_output": gradient}
    return LadderCase(operation, name, parts, given, layout=layout, effect=effect)


def generated_weight_gradient(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    """Return a core and factors of an input, with the gradient of a convolution's output."""
    groups = draw(generator, 1, 1, 2, 3, 6)
    given, size = random_geometry(generator, groups)
    shape = (int(generator.integers(1, 5)), 6, *size)
    wanted = [int(generator.integers(1, n + 1)) for n in shape]
    return _weight_gradient_case(
        operation,
        name,
        "found by chance",
        generator,
        given,
        draw(generator, np.float32, np.float64),
        shape=shape,
        ranks=(wanted[0], wanted[1], wanted[2], wanted[3]),
        layout=draw(generator, *LAYOUTS),
    )
