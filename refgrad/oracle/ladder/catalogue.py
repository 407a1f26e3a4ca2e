"""The inputs of every operation but conv2d: named edge cases, each with its effect, and generated ones.

In: an operation's name, or a seed and a number. Out: `LadderCase`s, the same every time.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array
from refgrad.geometry import ConvGeometry
from refgrad.oracle.cases import EXPLAINED, GENERATED, LAYOUTS, SPECTRA, largest_exponent, random_tensor
from refgrad.oracle.catalogue import HADAMARD, with_spectrum
from refgrad.oracle.ladder.cases import LadderCase, Parts

__all__ = ["generated_ladder_case", "ladder_catalogue"]

Dtype = npt.DTypeLike
NO_PADS = ((0, 0), (0, 0))
FOUR_FIFTHS = Fraction(4, 5)


def ladder_catalogue(operation: str) -> tuple[LadderCase, ...]:
    """Return the named cases of an operation, the simplest first.

    Examples
    --------
    >>> [case.name for case in ladder_catalogue("unfold")][:2]
    ['vector, mode 0', 'matrix, mode 0']
    """
    return tuple(_NAMED[operation](operation))


def generated_ladder_case(operation: str, seed: int, number: int) -> LadderCase:
    """Return case `number` of those that follow from a seed; it does not depend on how many are asked for.

    Examples
    --------
    >>> generated_ladder_case("rank", 7, 3).name
    'generated 7/3'
    """
    generator = np.random.default_rng((seed, number, zlib.crc32(operation.encode())))
    return _GENERATED[operation](operation, generator, f"{GENERATED}{seed}/{number}")


def _generator(operation: str, name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{operation}: {name}".encode()))


def _draw(generator: np.random.Generator, *options: Any) -> Any:
    return options[int(generator.integers(len(options)))]


def _basis(generator: np.random.Generator, rows: int, columns: int, dtype: Dtype) -> Array:
    """Return a matrix with orthonormal columns."""
    return np.linalg.qr(generator.standard_normal((rows, columns)))[0].astype(dtype)


# rank


def _rank_case(
    operation: str, name: str, effect: str, values: list[float], share: Fraction, dtype: Dtype = np.float64, t: int = 0
) -> LadderCase:
    return LadderCase(
        operation,
        name,
        {"singular_values": np.ldexp(np.array(values, dtype), t)},
        explained_variance=share,
        effect=effect,
    )


def _named_ranks(operation: str) -> Iterator[LadderCase]:
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


def _generated_rank(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    length = int(generator.integers(1, 40))
    kind = _draw(generator, "flat", "steep", "decaying", "integers", "zeros at the end", "zero")
    values = {
        "flat": np.ones(length),
        "steep": 4.0 ** -np.arange(length, dtype=np.float64),
        "decaying": np.sort(generator.random(length))[::-1],
        "integers": np.sort(generator.integers(0, 5, length).astype(np.float64))[::-1],
        "zeros at the end": np.where(np.arange(length) < 1 + length // 2, 1.0 + length - np.arange(length), 0.0),
        "zero": np.zeros(length),
    }[kind]
    dtype = np.dtype(_draw(generator, np.float32, np.float64))
    t = _draw(generator, 0, 0, 1, -1) * largest_exponent(dtype) // 2
    share = _draw(generator, *EXPLAINED, Fraction(int(generator.integers(1, length + 1)), length))
    return LadderCase(
        operation,
        name,
        {"singular_values": np.ldexp(values.astype(dtype), t)},
        explained_variance=share,
        layout=_draw(generator, *LAYOUTS),
        effect="found by chance",
    )


# operations on one tensor


def _tensor(operation: str, name: str, shape: tuple[int, ...], spectrum: str) -> Array:
    return random_tensor(_generator(operation, name), shape, spectrum)


def _named_unfoldings(operation: str) -> Iterator[LadderCase]:
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


def _generated_unfolding(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    shape = tuple(int(n) for n in generator.integers(1, 5, int(generator.integers(1, 6))))
    dtype = _draw(generator, np.float32, np.float64)
    tensor = generator.standard_normal(shape).astype(dtype)
    mode = int(generator.integers(len(shape)))
    layout = _draw(generator, *LAYOUTS)
    return LadderCase(operation, name, {"tensor": tensor}, {"mode": mode}, layout=layout, effect="found by chance")


def _named_decompositions(operation: str) -> Iterator[LadderCase]:
    def case(
        name: str,
        effect: str,
        tensor: Array | str,
        share: Fraction = FOUR_FIFTHS,
        *,
        shape: tuple[int, ...] = (4, 3, 5, 4),
        dtype: Dtype = np.float64,
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


def _generated_decomposition(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    lowest = 2 if operation == "svd" else 1
    shape = tuple(int(n) for n in generator.integers(1, 7, int(generator.integers(lowest, 6))))
    dtype = np.dtype(_draw(generator, np.float32, np.float64))
    tensor = random_tensor(generator, shape, _draw(generator, *SPECTRA)).astype(dtype)
    t = _draw(generator, 0, 0, 0, 1, -1) * largest_exponent(dtype)
    share = _draw(generator, *EXPLAINED, Fraction(int(generator.integers(1, 1000)), 1000))
    return LadderCase(
        operation,
        name,
        {"tensor": np.ldexp(tensor, t)},
        explained_variance=share,
        layout=_draw(generator, *LAYOUTS),
        effect="found by chance",
    )


# operations on a core and factors


def _factors(
    generator: np.random.Generator, shape: tuple[int, ...], ranks: tuple[int, ...], dtype: Dtype
) -> tuple[Array, ...]:
    return tuple(_basis(generator, n, k, dtype) for n, k in zip(shape, ranks, strict=True))


def _named_iterations(operation: str) -> Iterator[LadderCase]:
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
            generator = _generator(operation, name)
            tensor = random_tensor(generator, shape, spectrum).astype(dtype)
            parts: Parts = {"tensor": tensor, "factors": _factors(generator, shape, ranks, dtype)}
            yield LadderCase(operation, name + label, parts, effect=effect)
    yield from _sequence(operation)


def _sequence(operation: str) -> Iterator[LadderCase]:
    """Three steps of a slowly moving activation, each started from the right factors of the step before."""
    generator = _generator(operation, "sequence")
    shape, ranks = (5, 4, 6), (2, 2, 3)
    tensor, drift = (random_tensor(generator, shape, "normal") for _ in range(2))
    factors = _factors(generator, shape, ranks, np.float64)
    for number in range(3):
        current = tensor + number * drift / 8.0
        parts: Parts = {"tensor": current, "factors": factors}
        yield LadderCase(operation, f"step {number} of a sequence", parts, effect="starts anew, or does not move on")
        moved = []
        for mode, factor in enumerate(factors):
            unfolding = np.moveaxis(current, mode, 0).reshape(shape[mode], -1)
            moved.append(np.linalg.qr(unfolding @ (unfolding.T @ factor))[0])
        factors = tuple(moved)


def _generated_iteration(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    shape = tuple(int(n) for n in generator.integers(1, 7, int(generator.integers(2, 5))))
    ranks = tuple(int(generator.integers(1, n + 1)) for n in shape)
    dtype = _draw(generator, np.float32, np.float64)
    tensor = random_tensor(generator, shape, _draw(generator, *SPECTRA)).astype(dtype)
    parts: Parts = {"tensor": tensor, "factors": _factors(generator, shape, ranks, dtype)}
    return LadderCase(operation, name, parts, layout=_draw(generator, *LAYOUTS), effect="found by chance")


def _named_reconstructions(operation: str) -> Iterator[LadderCase]:
    for name, effect, shape, ranks in (
        ("vector", "takes the number of axes for granted", (4,), (2,)),
        ("matrix", "takes the number of axes for granted", (4, 3), (2, 3)),
        ("three axes", "takes the number of axes for granted", (4, 3, 5), (2, 3, 1)),
        ("four axes", "mixes up the modes", (4, 3, 5, 2), (3, 2, 4, 1)),
        ("square factors", "transposes a factor", (3, 3, 3, 3), (3, 3, 3, 3)),
        ("rank 1 each", "squeezes axes of length 1", (4, 3, 5), (1, 1, 1)),
    ):
        for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
            generator = _generator(operation, name)
            core = generator.standard_normal(ranks).astype(dtype)
            parts: Parts = {"core": core, "factors": _factors(generator, shape, ranks, dtype)}
            yield LadderCase(operation, name + label, parts, effect=effect)
    generator = _generator(operation, "small integers")
    integers = generator.integers(-3, 4, (2, 3, 2)).astype(np.float64)
    factors = tuple(generator.integers(-2, 3, shape).astype(np.float64) for shape in ((4, 2), (3, 3), (5, 2)))
    effect = "takes factors for orthonormal, or rounds where nothing needs to be"
    yield LadderCase(operation, "small integers", {"core": integers, "factors": factors}, effect=effect)


def _generated_reconstruction(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    shape = tuple(int(n) for n in generator.integers(1, 6, int(generator.integers(1, 5))))
    ranks = tuple(int(generator.integers(1, n + 1)) for n in shape)
    dtype = _draw(generator, np.float32, np.float64)
    core = random_tensor(generator, ranks, _draw(generator, "normal", "integers", "zero")).astype(dtype)
    parts: Parts = {"core": core, "factors": _factors(generator, shape, ranks, dtype)}
    return LadderCase(operation, name, parts, layout=_draw(generator, *LAYOUTS), effect="found by chance")


Given = Mapping[str, Any]


def _geometry(
    kernel: tuple[int, int] = (3, 2),
    stride: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> dict[str, Any]:
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


GEOMETRIES: Final[tuple[tuple[str, str, Given], ...]] = (
    ("plain", "wrong on the plainest input", _geometry(padding=NO_PADS)),
    ("1 x 1 kernel", "special-cases the pointwise kernel", _geometry((1, 1), padding=NO_PADS)),
    ("1 x 3 kernel", "takes kernels for square", _geometry((1, 3), padding=((0, 0), (1, 1)))),
    ("even kernel", "centres an even kernel", _geometry((2, 4), padding=((1, 0), (1, 2)))),
    ("square kernel", "cannot be told by its shape from one with its axes swapped", _geometry((3, 3))),
    ("four different pads", "mixes up the four edges", _geometry((3, 4), padding=((0, 1), (2, 3)))),
    ("padding of the height only", "takes one axis's padding for both", _geometry(padding=((2, 2), (0, 0)))),
    ("padding of the width only", "takes one axis's padding for both", _geometry(padding=((0, 0), (2, 2)))),
    ("stride (2, 3)", "mixes up the axes of the stride", _geometry(stride=(2, 3))),
    ("dilation (2, 3)", "mixes up the axes of the dilation", _geometry((2, 2), dilation=(2, 3))),
    ("stride (1, 2), dilation (2, 1)", "mixes up stride and dilation", _geometry(stride=(1, 2), dilation=(2, 1))),
    ("stride equals dilation", "takes the shortcut for stride 1", _geometry((2, 2), (2, 2), dilation=(2, 2))),
    (
        "stride equals dilation on the height only",
        "takes the shortcut for stride 1",
        _geometry((2, 3), (2, 3), dilation=(2, 1)),
    ),
    ("leftover rows and columns", "reads beyond the last position", _geometry((2, 2), (3, 4), NO_PADS)),
    ("2 groups", "ignores groups", _geometry(groups=2)),
    ("3 groups, strides and pads", "ignores one of them", _geometry(stride=(2, 1), padding=((0, 2), (1, 2)), groups=3)),
    ("depthwise", "ignores groups", _geometry((3, 3), groups=6)),
)


def _named_weight_gradients(operation: str) -> Iterator[LadderCase]:
    for name, effect, given in GEOMETRIES:
        for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
            generator = _generator(operation, name)
            yield _weight_gradient_case(operation, name + label, effect, generator, given, dtype)
    yield from _exact_weight_gradients(operation)


def _exact_weight_gradients(operation: str) -> Iterator[LadderCase]:
    """Yield inputs made of Hadamard columns and small integers: every order of contraction gives the same bits."""
    effect = "loses digits where none need be lost"
    for name, given in (("exact", _geometry((2, 2), (2, 1))), ("exact, 2 groups", _geometry((2, 3), groups=2))):
        for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
            generator = _generator(operation, name)
            geometry = ConvGeometry(*(given[key] for key in ("kernel_size", "stride", "padding", "dilation", "groups")))
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
    dtype: Dtype,
    *,
    shape: tuple[int, int, int, int] = (3, 6, 8, 9),
    ranks: tuple[int, int, int, int] = (2, 3, 4, 3),
    layout: str = "C",
) -> LadderCase:
    groups, out_channels = given["groups"], 6
    geometry = ConvGeometry(*(given[key] for key in ("kernel_size", "stride", "padding", "dilation", "groups")))
    weight_shape = (out_channels, shape[1] // groups, *given["kernel_size"])
    gradient = generator.standard_normal(geometry.output_shape(shape, weight_shape)).astype(dtype)
    core = generator.standard_normal(ranks).astype(dtype)
    parts: Parts = {"core": core, "factors": _factors(generator, shape, ranks, dtype), "grad_output": gradient}
    return LadderCase(operation, name, parts, given, layout=layout, effect=effect)


def _random_geometry(generator: np.random.Generator, groups: int) -> tuple[dict[str, Any], tuple[int, int]]:
    kernel, stride, padding, dilation, size = [], [], [], [], []
    for _ in range(2):
        k, d = _draw(generator, 1, 2, 3, 3, 4), _draw(generator, 1, 1, 2, 3)
        pads = (_draw(generator, 0, 1, 1, 2, 3), _draw(generator, 0, 1, 1, 2, 3))
        kernel.append(k)
        dilation.append(d)
        padding.append(pads)
        stride.append(_draw(generator, 1, 1, 2, 3))
        size.append(max(1, d * (k - 1) + 1 - sum(pads)) + _draw(generator, 0, 1, 2, 3, 4))
    given = _geometry(
        (kernel[0], kernel[1]), (stride[0], stride[1]), (padding[0], padding[1]), (dilation[0], dilation[1]), groups
    )
    return given, (size[0], size[1])


def _generated_weight_gradient(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    groups = _draw(generator, 1, 1, 2, 3, 6)
    given, size = _random_geometry(generator, groups)
    shape = (int(generator.integers(1, 5)), 6, *size)
    wanted = [int(generator.integers(1, n + 1)) for n in shape]
    return _weight_gradient_case(
        operation,
        name,
        "found by chance",
        generator,
        given,
        _draw(generator, np.float32, np.float64),
        shape=shape,
        ranks=(wanted[0], wanted[1], wanted[2], wanted[3]),
        layout=_draw(generator, *LAYOUTS),
    )


# layers


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
    dtype: Dtype = np.float64,
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


def _named_linears(operation: str) -> Iterator[LadderCase]:
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
            generator = _generator(operation, name)
            yield _linear_case(operation, name + label, effect, generator, shape, out_features, dtype=dtype, **further)
    tie = with_spectrum(1, 1, 1, 1)
    for name, share in (("tie at the cut", Fraction(3, 4)), ("flat spectrum", Fraction(3, 5))):
        generator = _generator(operation, name)
        yield _linear_case(operation, name, "needs a gap", generator, (4, 4, 4, 4), 3, x=tie, share=share)
    for dtype, label in ((np.float64, ""), (np.float32, ", float32")):
        for sign, what in ((1, "overflow"), (-1, "vanish")):
            name = f"{'large' if sign > 0 else 'small'} numbers{label}"
            t = sign * largest_exponent(np.dtype(dtype))
            generator = _generator(operation, name)
            yield _linear_case(operation, name, f"squares {what}", generator, (3, 5, 4), 3, dtype=dtype, exponent=t)
    for layout in LAYOUTS[1:]:
        generator = _generator(operation, layout)
        effect = "takes memory for C-contiguous, or writes into its input"
        yield _linear_case(operation, f"{layout} layout", effect, generator, (3, 5, 4), 3, layout=layout)


def _generated_linear(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    shape = tuple(int(n) for n in generator.integers(1, 7, int(generator.integers(2, 5))))
    dtype = np.dtype(_draw(generator, np.float32, np.float64))
    return _linear_case(
        operation,
        name,
        "found by chance",
        generator,
        shape,
        int(generator.integers(1, 6)),
        spectrum=_draw(generator, *SPECTRA),
        share=_draw(generator, *EXPLAINED, Fraction(int(generator.integers(1, 1000)), 1000)),
        dtype=dtype,
        exponent=_draw(generator, 0, 0, 0, 1, -1) * largest_exponent(dtype),
        layout=_draw(generator, *LAYOUTS),
    )


RATES: Final[tuple[tuple[str, str, tuple[float, float, float]], ...]] = (
    ("no momentum, no decay", "wrong on the plainest step", (0.5, 0.0, 0.0)),
    ("momentum", "forgets the velocity, or scales it by the rate", (0.25, 0.5, 0.0)),
    ("weight decay", "leaves out the decay, or its sign", (0.25, 0.0, 0.125)),
    ("momentum and weight decay", "decays after the momentum", (0.1, 0.9, 0.01)),
)


def _named_steps(operation: str) -> Iterator[LadderCase]:
    for label, effect, rates in RATES:
        for dtype, suffix in ((np.float64, ""), (np.float32, ", float32")):
            generator = _generator(operation, label)
            plain = _geometry(padding=NO_PADS)
            yield _step_case(operation, label + suffix, effect, generator, plain, (3, 2, 6, 7), rates, dtype)
    for name, effect, given in GEOMETRIES[4:]:
        generator = _generator(operation, name)
        yield _step_case(operation, name, effect, generator, given, (2, 6, 8, 9), RATES[3][2], np.float64)


def _step_case(
    operation: str,
    name: str,
    effect: str,
    generator: np.random.Generator,
    given: Given,
    shape: tuple[int, int, int, int],
    rates: tuple[float, float, float],
    dtype: Dtype,
    *,
    share: Fraction = FOUR_FIFTHS,
    spectrum: str = "normal",
    layout: str = "C",
) -> LadderCase:
    groups = given["groups"]
    weight_shape = (6, shape[1] // groups, *given["kernel_size"])
    geometry = ConvGeometry(*(given[key] for key in ("kernel_size", "stride", "padding", "dilation", "groups")))
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


def _generated_step(operation: str, generator: np.random.Generator, name: str) -> LadderCase:
    given, size = _random_geometry(generator, _draw(generator, 1, 1, 2, 3, 6))
    shape = (int(generator.integers(1, 5)), 6, *size)
    rates = (_draw(generator, 0.5, 0.1), _draw(generator, 0.0, 0.5, 0.9), _draw(generator, 0.0, 0.01, 0.125))
    return _step_case(
        operation,
        name,
        "found by chance",
        generator,
        given,
        shape,
        rates,
        _draw(generator, np.float32, np.float64),
        share=_draw(generator, *EXPLAINED),
        spectrum=_draw(generator, *SPECTRA),
        layout=_draw(generator, *LAYOUTS),
    )


_NAMED: Final[Mapping[str, Callable[[str], Iterator[LadderCase]]]] = {
    "rank": _named_ranks,
    "unfold": _named_unfoldings,
    "svd": _named_decompositions,
    "hosvd": _named_decompositions,
    "sequential_hosvd": _named_decompositions,
    "subspace_iteration": _named_iterations,
    "reconstruct": _named_reconstructions,
    "weight_gradient": _named_weight_gradients,
    "linear": _named_linears,
    "step": _named_steps,
}

_GENERATED: Final[Mapping[str, Callable[[str, np.random.Generator, str], LadderCase]]] = {
    "rank": _generated_rank,
    "unfold": _generated_unfolding,
    "svd": _generated_decomposition,
    "hosvd": _generated_decomposition,
    "sequential_hosvd": _generated_decomposition,
    "subspace_iteration": _generated_iteration,
    "reconstruct": _generated_reconstruction,
    "weight_gradient": _generated_weight_gradient,
    "linear": _generated_linear,
    "step": _generated_step,
}
