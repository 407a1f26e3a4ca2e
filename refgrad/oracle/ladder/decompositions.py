"""The inputs of what finds ranks and bases: of spectra, unfoldings, decompositions and steps of a subspace iteration.

In: an operation's name, and for a generated input a generator. Out: `LadderCase`s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array
from refgrad.oracle.cases import EXPLAINED, LAYOUTS, SPECTRA, largest_exponent, random_tensor
from refgrad.oracle.catalogue import with_spectrum
from refgrad.oracle.ladder.cases import LadderCase, Parts
from refgrad.oracle.ladder.drawing import FOUR_FIFTHS, draw, generator_of, random_factors

__all__ = [
    "generated_decomposition",
    "generated_iteration",
    "generated_rank",
    "generated_unfolding",
    "named_decompositions",
    "named_iterations",
    "named_ranks",
    "named_unfoldings",
]


def _rank_case(
    operation: str,
    name: str,
    effect: str,
    values: list[float],
    share: Fraction,
    dtype: npt.DTypeLike = np.float64,
    t: int = 0,
) -> LadderCase:
    return LadderCase(
        operation,
        name,
        {"singular_values": np.ldexp(np.array(values, dtype), t)},
        explained_variance=share,
        effect=effect,
    )


def named_ranks(operation: str) -> Iterator[LadderCase]:
    """Yield spectra, falling."""
    half, most = Fraction(1, 2), Fraction(9, 10)
    rows: list[tuple[str, str, list[float], Fraction]] = [
        ("one value", "needs more than one value", [3.0], half),
        ("all of one value", "needs more than one value", [3.0], Fraction(1)),
        ("flat, tie at the cut", "decides a tie by a rounding error", [1.0] * 4, Fraction(3, 4)),
        ("flat, between two cuts", "rounds the rank down", [1.0] * 4, Fraction(3, 5)),
        ("tie at a decimal share", "takes 0.8 for more than 4/5", [2.0, 1.0, 0.0, 0.0], FOUR_FIFTHS),
        ("energy, not singular values", "counts sigma, not sigma squared", [3.0, 1.0, 1.0, 1.0], Fraction(7, 10)),
        ("energy, not norm", "compares the share of the norm", [4.0, 2.0, 2.0, 1.0], most),
        ("share of the total", "compares with the largest value", [2.0, 2.0, 2.0, 2.0], most),
        ("what is kept", "takes the share kept for the share lost", [4.0, 2.0, 1.0, 1.0], Fraction(1, 5)),
        ("first value is enough", "counts from 0", [8.0, 1.0, 1.0, 1.0], most),
        ("everything kept", "drops what rounding calls small", [4.0, 2.0, 1.0, 0.5], Fraction(1)),
        ("trailing zeros, everything kept", "keeps columns of no energy", [4.0, 2.0, 0.0, 0.0], Fraction(1)),
        ("almost nothing kept", "keeps no column at all", [2.0, 1.0, 1.0], Fraction(1, 10**9)),
        ("zero energy", "divides by the energy", [0.0, 0.0, 0.0], FOUR_FIFTHS),
        ("steep", "loses small values", [4096.0, 64.0, 1.0, 2.0**-6], 1 - Fraction(1, 2**14)),
    ]
    for name, effect, values, share in rows:
        yield _rank_case(operation, name, effect, values, share)
        yield _rank_case(operation, f"{name}, float32", effect, values, share, np.float32)
    spread = [5.0, 3.0, 2.0, 1.0, 1.0]
    for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
        t = largest_exponent(np.dtype(dtype))
        yield _rank_case(operation, f"large values{label}", "squares overflow", spread, FOUR_FIFTHS, dtype, t)
        yield _rank_case(operation, f"small values{label}", "squares vanish", spread, FOUR_FIFTHS, dtype, -t)


def generated_rank(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    """Return a spectrum, falling."""
    length = int(generator.integers(1, 40))
    kind = draw(generator, "flat", "steep", "decaying", "integers", "zeros at the end", "zero")
    values = {
        "flat": np.ones(length),
        "steep": 4.0 ** -np.arange(length, dtype=np.float64),
        "decaying": np.sort(generator.random(length))[::-1],
        "integers": np.sort(generator.integers(0, 5, length).astype(np.float64))[::-1],
        "zeros at the end": np.where(np.arange(length) < 1 + length // 2, 1.0 + length - np.arange(length), 0.0),
        "zero": np.zeros(length),
    }[kind]
    dtype = np.dtype(draw(generator, np.float32, np.float64))
    t = draw(generator, 0, 0, 1, -1) * largest_exponent(dtype) // 2
    share = draw(generator, *EXPLAINED, Fraction(int(generator.integers(1, length + 1)), length))
    return LadderCase(
        operation,
        name,
        {"singular_values": np.ldexp(values.astype(dtype), t)},
        explained_variance=share,
        layout=draw(generator, *LAYOUTS),
        effect="found by chance",
    )


def _tensor(operation: str, name: str, shape: tuple[int, ...], spectrum: str) -> Array:
    return random_tensor(generator_of(operation, name), shape, spectrum)


def named_unfoldings(operation: str) -> Iterator[LadderCase]:
    """Yield tensors to unfold."""
    kinds = {1: "vector", 2: "matrix", 3: "three axes", 4: "four axes", 5: "five axes"}
    for ndim, shape in enumerate(((5,), (3, 4), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 2, 2)), 1):
        for mode in range(ndim):
            effect = "reshapes without moving the axis, or orders the columns otherwise"
            counted = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
            named = f"{kinds[ndim]}, mode {mode}"
            yield LadderCase(operation, named, {"tensor": counted}, {"mode": mode}, effect=effect)
    square = np.arange(81, dtype=np.float32).reshape(3, 3, 3, 3)
    for layout in LAYOUTS:
        yield LadderCase(
            operation,
            f"{layout} layout, float32",
            {"tensor": square},
            {"mode": 2},
            layout=layout,
            effect="takes memory for C-contiguous, or cannot be told by its shape",
        )


def generated_unfolding(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    """Return a tensor to unfold."""
    shape = tuple(int(n) for n in generator.integers(1, 5, int(generator.integers(1, 6))))
    dtype = draw(generator, np.float32, np.float64)
    tensor = generator.standard_normal(shape).astype(dtype)
    mode = int(generator.integers(len(shape)))
    layout = draw(generator, *LAYOUTS)
    return LadderCase(operation, name, {"tensor": tensor}, {"mode": mode}, layout=layout, effect="found by chance")


def named_decompositions(operation: str) -> Iterator[LadderCase]:
    """Yield tensors to decompose."""

    def case(
        name: str,
        effect: str,
        tensor: Array | str,
        share: Fraction = FOUR_FIFTHS,
        *,
        shape: tuple[int, ...] = (4, 3, 5, 4),
        dtype: npt.DTypeLike = np.float64,
        exponent: int = 0,
        layout: str = "C",
    ) -> LadderCase:
        array = _tensor(operation, name, shape, tensor) if isinstance(tensor, str) else tensor
        scaled = np.ldexp(array.astype(dtype), exponent)
        return LadderCase(operation, name, {"tensor": scaled}, explained_variance=share, layout=layout, effect=effect)

    for ndim, shape in enumerate(((6,), (5, 4), (4, 3, 5), (4, 3, 5, 4), (2, 3, 2, 3, 2)), 1):
        if ndim > 1 or operation != "svd":
            yield case(f"{ndim} axes", "takes the number of axes for granted", "normal", shape=shape)
            yield case(f"{ndim} axes, float32", "computes in the wrong dtype", "normal", shape=shape, dtype=np.float32)
    yield case("tall", "takes an unfolding for wide", "normal", shape=(12, 2, 2))
    yield case("axes of length 1", "squeezes axes of length 1", "normal", shape=(1, 4, 1, 3))
    yield case("one number", "squeezes axes of length 1", "normal", shape=(1, 1))
    yield case(
        "every mode cut", "sequential truncation passed off as HOSVD", "normal", Fraction(3, 5), shape=(5, 4, 6, 5)
    )
    tie = with_spectrum(1, 1, 1, 1)
    yield case("tie at the cut", "decides a tie by a rounding error", tie, Fraction(3, 4))
    yield case("tie at the cut, float32", "decides a tie by a rounding error", tie, Fraction(3, 4), dtype=np.float32)
    yield case("flat spectrum", "needs a gap between singular values", tie, Fraction(3, 5))
    yield case("tied pair within the kept", "compares singular vectors", with_spectrum(3, 3, 1, 0))
    yield case("energy, not singular values", "counts sigma", with_spectrum(3, 1, 1, 1), Fraction(9, 10))
    yield case("energy, not norm", "compares norms", with_spectrum(4, 2, 2, 1), Fraction(9, 10))
    yield case("rank 1", "keeps noise", "rank 1", Fraction(99, 100))
    yield case("steep, float32", "loses small singular values", "steep", Fraction(99, 100), dtype=np.float32)
    yield case("zero energy", "divides by the energy", "zero")
    yield case("dead slice", "divides by the norm of a slice", "dead slice")
    yield case("ReLU activation", "subtracts the mean", "relu", Fraction(9, 10))
    yield case("everything kept", "drops what rounding calls small", "normal", Fraction(1))
    yield case("everything kept of low rank", "needs full rank", "rank 1", Fraction(1))
    yield case("almost nothing kept", "keeps no column at all", "normal", Fraction(1, 10**9))
    yield case("little kept", "takes the share kept for the share lost", "normal", Fraction(1, 5))
    for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
        t = largest_exponent(np.dtype(dtype))
        yield case(f"large numbers{label}", "squares overflow", "normal", dtype=dtype, exponent=t)
        yield case(f"small numbers{label}", "squares vanish", "normal", dtype=dtype, exponent=-t)
    for layout in LAYOUTS[1:]:
        yield case(
            f"{layout} layout", "takes memory for C-contiguous, or writes into its input", "normal", layout=layout
        )


def generated_decomposition(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    """Return a tensor to decompose."""
    lowest = 2 if operation == "svd" else 1
    shape = tuple(int(n) for n in generator.integers(1, 7, int(generator.integers(lowest, 6))))
    dtype = np.dtype(draw(generator, np.float32, np.float64))
    tensor = random_tensor(generator, shape, draw(generator, *SPECTRA)).astype(dtype)
    t = draw(generator, 0, 0, 0, 1, -1) * largest_exponent(dtype)
    share = draw(generator, *EXPLAINED, Fraction(int(generator.integers(1, 1000)), 1000))
    return LadderCase(
        operation,
        name,
        {"tensor": np.ldexp(tensor, t)},
        explained_variance=share,
        layout=draw(generator, *LAYOUTS),
        effect="found by chance",
    )


def named_iterations(operation: str) -> Iterator[LadderCase]:
    """Yield tensors, each with the factors that an iteration starts from."""
    rows: tuple[tuple[str, str, tuple[int, ...], tuple[int, ...], str], ...] = (
        ("matrix", "iterates one side only", (5, 4), (2, 2), "normal"),
        ("three axes", "takes the number of axes for granted", (4, 3, 5), (2, 2, 3), "normal"),
        ("four axes", "takes the number of axes for granted", (4, 3, 5, 4), (2, 2, 3, 1), "normal"),
        ("full rank", "needs fewer columns than rows", (3, 2, 3), (3, 2, 3), "normal"),
        ("rank 1 each", "squeezes axes of length 1", (4, 3, 5), (1, 1, 1), "normal"),
        ("axes of length 1", "squeezes axes of length 1", (1, 4, 1), (1, 2, 1), "normal"),
        ("low rank", "orthonormalises columns of rounding errors only", (4, 3, 5), (2, 2, 2), "rank 1"),
        ("zero energy", "divides by the norm of a column", (4, 3, 5), (2, 2, 2), "zero"),
        ("ReLU activation", "subtracts the mean", (4, 3, 5, 4), (2, 2, 3, 2), "relu"),
    )
    for name, effect, shape, ranks, spectrum in rows:
        for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
            generator = generator_of(operation, name)
            tensor = random_tensor(generator, shape, spectrum).astype(dtype)
            parts: Parts = {"tensor": tensor, "factors": random_factors(generator, shape, ranks, dtype)}
            yield LadderCase(operation, name + label, parts, effect=effect)
    yield from _sequence(operation)


def _sequence(operation: str) -> Iterator[LadderCase]:
    """Three steps of a slowly moving activation, each started from the right factors of the step before."""
    generator = generator_of(operation, "sequence")
    shape, ranks = (5, 4, 6), (2, 2, 3)
    tensor, drift = (random_tensor(generator, shape, "normal") for _ in range(2))
    factors = random_factors(generator, shape, ranks, np.float64)
    for number in range(3):
        current = tensor + number * drift / 8.0
        parts: Parts = {"tensor": current, "factors": factors}
        yield LadderCase(operation, f"step {number} of a sequence", parts, effect="starts anew, or does not move on")
        moved = []
        for mode, factor in enumerate(factors):
            unfolding = np.moveaxis(current, mode, 0).reshape(shape[mode], -1)
            moved.append(np.linalg.qr(unfolding @ (unfolding.T @ factor))[0])
        factors = tuple(moved)


def generated_iteration(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    """Return a tensor with the factors that an iteration starts from."""
    shape = tuple(int(n) for n in generator.integers(1, 7, int(generator.integers(2, 5))))
    ranks = tuple(int(generator.integers(1, n + 1)) for n in shape)
    dtype = draw(generator, np.float32, np.float64)
    tensor = random_tensor(generator, shape, draw(generator, *SPECTRA)).astype(dtype)
    parts: Parts = {"tensor": tensor, "factors": random_factors(generator, shape, ranks, dtype)}
    return LadderCase(operation, name, parts, layout=draw(generator, *LAYOUTS), effect="found by chance")
