"""The named edge cases: each is there because a real implementation got it wrong, and says so in its `effect`.

In: nothing. Out: `catalogue()`, the same cases every time. Values are drawn from a generator seeded by the case's name.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array
from refgrad.geometry import ConvGeometry
from refgrad.oracle.cases import (
    GENERATED,
    LAYOUTS,
    Case,
    Pads,
    Pair,
    generated_case,
    largest_exponent,
    random_tensor,
)

__all__ = ["catalogue", "find_case", "with_spectrum"]

FOUR_FIFTHS = Fraction(4, 5)
HADAMARD = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, 1.0]])


def with_spectrum(*values: float) -> Array:
    """Return a dense (4, 4, 4, 4) tensor of which every unfolding has 16 times the given four singular values.

    A sum of outer products of Hadamard columns, four of each: exact where the values are small integers, so that ties
    are ties in every arithmetic.

    Examples
    --------
    >>> np.linalg.svd(with_spectrum(3, 2, 0, 0).reshape(4, 64), compute_uv=False).round(9)
    array([48., 32.,  0.,  0.])
    """
    result: Array = np.einsum(
        "r,ar,br,cr,dr->abcd", np.array(values, np.float64), HADAMARD, HADAMARD, HADAMARD, HADAMARD
    )
    return result


def catalogue() -> tuple[Case, ...]:
    """Return the named cases, the simplest first."""
    return (*_geometries(), *_steps(), *_channels(), *_spectra(), *_magnitudes(), *_layouts())


def find_case(name: str) -> Case:
    """Return a case by its name: one of the catalogue, or "generated SEED/NUMBER".

    Raises
    ------
    ValueError
        Where there is none of that name.

    Examples
    --------
    >>> find_case("depthwise").groups, find_case("generated 7/3").name
    (6, 'generated 7/3')
    """
    numbers = re.fullmatch(rf"{GENERATED}(\d+)/(\d+)", name)
    if numbers is not None:
        return generated_case(int(numbers[1]), int(numbers[2]))
    for case in catalogue():
        if case.name == name:
            return case
    raise ValueError(
        f"there is no case named {name!r}; catalogue() lists them, generated ones are {GENERATED}SEED/NUMBER"
    )


def _case(
    name: str,
    effect: str,
    *,
    shape: tuple[int, int, int, int] = (3, 2, 6, 7),
    out_channels: int = 4,
    kernel: Pair = (3, 2),
    stride: Pair = (1, 1),
    padding: Pads = ((1, 1), (1, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
    explained_variance: Fraction = FOUR_FIFTHS,
    dtype: npt.DTypeLike = np.float64,
    x: Array | str = "normal",
    weight: str = "normal",
    grad_output: Array | str = "normal",
    exponent: int = 0,
    grad_exponent: int = 0,
    layout: str = "C",
) -> Case:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    activation = random_tensor(generator, shape, x) if isinstance(x, str) else x
    weight_shape = (out_channels, activation.shape[1] // groups, *kernel)
    output_shape = ConvGeometry(kernel, stride, padding, dilation, groups).output_shape(activation.shape, weight_shape)
    filters = random_tensor(generator, weight_shape, weight)
    bias = generator.standard_normal(out_channels)
    gradient = random_tensor(generator, output_shape, grad_output) if isinstance(grad_output, str) else grad_output
    return Case(
        name=name,
        x=np.ldexp(activation.astype(dtype), exponent),
        weight=filters.astype(dtype),
        bias=bias.astype(dtype),
        grad_output=np.ldexp(gradient.astype(dtype), grad_exponent),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        explained_variance=explained_variance,
        layout=layout,
        effect=effect,
    )


def _geometries() -> Iterator[Case]:
    none: Pads = ((0, 0), (0, 0))
    yield _case("plain", "wrong on the plainest input", padding=none)
    yield _case("plain, float32", "computes in the wrong dtype", padding=none, dtype=np.float32)
    yield _case("1 x 1 kernel", "special-cases the pointwise kernel", kernel=(1, 1), padding=none)
    yield _case("1 x 3 kernel", "takes kernels for square", kernel=(1, 3), padding=((0, 0), (1, 1)))
    yield _case("3 x 1 kernel", "takes kernels for square", kernel=(3, 1), padding=((1, 1), (0, 0)))
    yield _case("even kernel", "centres an even kernel", kernel=(2, 4), padding=((1, 0), (1, 2)))
    yield _case("square kernel", "cannot be told by its shape from one with its axes swapped", kernel=(3, 3))
    yield _case("kernel as large as the input", "loops over no position", kernel=(6, 7), padding=none)
    yield _case("padding of the height only", "takes one axis's padding for both", padding=((2, 2), (0, 0)))
    yield _case("padding of the width only", "takes one axis's padding for both", padding=((0, 0), (2, 2)))
    yield _case("padding before only", "pads both sides alike", padding=((2, 0), (1, 0)))
    yield _case("padding after only", "pads both sides alike", padding=((0, 2), (0, 1)))
    yield _case("four different pads", "mixes up the four edges", kernel=(3, 4), padding=((0, 1), (2, 3)))
    yield _case("four different pads, float32", "mixes up the four edges", padding=((2, 0), (1, 3)), dtype=np.float32)
    yield _case("padding of more than half a kernel", "crops the padding", kernel=(3, 3), padding=((2, 2), (3, 3)))
    yield _case("padding larger than the kernel", "crops the padding", kernel=(2, 2), padding=((3, 1), (2, 4)))
    yield _case(
        "leftover rows and columns",
        "gradients of what the stride never reaches are not 0",
        kernel=(2, 3),
        stride=(3, 4),
        padding=none,
        shape=(2, 3, 7, 9),
    )
    yield _case(
        "stride larger than the kernel", "reads between the positions", kernel=(1, 2), stride=(3, 3), padding=none
    )
    yield _case("stride with padding", "pads after striding", stride=(2, 3), padding=((1, 2), (2, 0)))
    yield _case("one output position", "squeezes axes of length 1", kernel=(3, 3), stride=(9, 9), padding=none)
    yield _case("height 1", "squeezes axes of length 1", shape=(3, 2, 1, 7), padding=((1, 1), (0, 0)))
    yield _case("width 1", "squeezes axes of length 1", shape=(3, 2, 7, 1), padding=((0, 0), (1, 0)))
    yield _case("1 x 1 image", "squeezes axes of length 1", shape=(3, 2, 1, 1), kernel=(1, 1), padding=none)
    yield _case(
        "every axis 1", "squeezes axes of length 1", shape=(1, 1, 1, 1), kernel=(1, 1), out_channels=1, padding=none
    )


def _steps() -> Iterator[Case]:
    """Every stride and every dilation in {1, 2, 3}^2, on both axes, with kernels and pads that differ per axis."""
    steps = (1, 2, 3)
    for stride in steps:
        for dilation in steps:
            other = (steps[dilation % 3], steps[stride % 3])
            yield _case(
                f"stride ({stride}, {other[0]}), dilation ({dilation}, {other[1]})",
                "mixes up stride and dilation",
                kernel=(2, 3),
                stride=(stride, other[0]),
                dilation=(dilation, other[1]),
                padding=((1, 0), (2, 1)),
                shape=(2, 2, 10, 9),
            )
    for step in (2, 3):
        yield _case(
            f"stride equals dilation, {step}",
            "takes the shortcut for stride 1 where stride equals dilation",
            kernel=(2, 3),
            stride=(step, step),
            dilation=(step, step),
            shape=(2, 2, 9, 10),
        )
    yield _case(
        "stride equals dilation, (2, 3)",
        "takes the shortcut for stride 1 where stride equals dilation",
        kernel=(3, 2),
        stride=(2, 3),
        dilation=(2, 3),
        shape=(2, 2, 10, 9),
        dtype=np.float32,
    )
    yield _case(
        "stride equals dilation on the height only",
        "takes the shortcut for stride 1 where stride equals dilation",
        kernel=(2, 3),
        stride=(2, 3),
        dilation=(2, 1),
        shape=(2, 2, 9, 10),
    )
    yield _case(
        "dilation 4 with padding", "pads by the kernel, not by its span", dilation=(2, 4), padding=((2, 2), (4, 1))
    )


def _channels() -> Iterator[Case]:
    many = (2, 6, 5, 4)
    yield _case("2 groups", "ignores groups", shape=many, groups=2)
    yield _case("3 groups", "ignores groups", shape=many, groups=3, out_channels=6, stride=(2, 1))
    yield _case("2 groups, float32", "ignores groups", shape=many, groups=2, dtype=np.float32)
    yield _case("depthwise", "ignores groups", shape=many, groups=6, out_channels=6, kernel=(3, 3))
    yield _case("depth multiplier 2", "takes depthwise for one output a channel", shape=many, groups=6, out_channels=12)
    yield _case(
        "as many outputs as groups", "mixes up inputs and outputs of a group", shape=many, groups=3, out_channels=3
    )
    yield _case(
        "groups, strides and pads", "ignores one of them", shape=many, groups=2, stride=(2, 2), padding=((0, 2), (1, 2))
    )
    yield _case("one output channel", "squeezes axes of length 1", out_channels=1)
    yield _case("one input channel", "squeezes axes of length 1", shape=(3, 1, 6, 7))
    yield _case("batch of 1", "squeezes axes of length 1", shape=(1, 3, 6, 5))
    yield _case("as many outputs as inputs", "swaps input and output channels", shape=(2, 3, 5, 5), out_channels=3)
    yield _case("more samples than numbers in one", "takes an unfolding for wide", shape=(9, 2, 2, 2), kernel=(2, 2))
    yield _case(
        "long sums, float32",
        "accumulates in too short a dtype",
        shape=(8, 8, 12, 10),
        out_channels=8,
        kernel=(3, 3),
        dtype=np.float32,
    )
    yield _case("long sums", "accumulates in float32", shape=(8, 8, 12, 10), out_channels=8, kernel=(3, 3))


def _spectra() -> Iterator[Case]:
    tie = with_spectrum(1, 1, 1, 1)
    plain: Pads = ((1, 1), (1, 0))
    yield _case(
        "tie at the cut",
        "decides a tie by a rounding error of its own making",
        x=tie,
        explained_variance=Fraction(3, 4),
    )
    yield _case(
        "tie at the cut, float32",
        "decides a tie by a rounding error",
        x=tie,
        explained_variance=Fraction(3, 4),
        dtype=np.float32,
    )
    yield _case("tie at a decimal share", "takes 0.8 for more than 4/5", x=with_spectrum(2, 1, 0, 0))
    yield _case("flat spectrum", "needs a gap between singular values", x=tie, explained_variance=Fraction(3, 5))
    yield _case("tied pair within the kept", "compares singular vectors", x=with_spectrum(3, 3, 1, 0))
    yield _case(
        "energy, not singular values",
        "counts sigma, not sigma squared",
        x=with_spectrum(3, 1, 1, 1),
        explained_variance=Fraction(9, 10),
    )
    yield _case(
        "energy, not norm",
        "compares the share of the norm",
        x=with_spectrum(4, 2, 2, 1),
        explained_variance=Fraction(9, 10),
    )
    yield _case(
        "steep spectrum",
        "loses small singular values",
        x=with_spectrum(4096, 64, 1, 1 / 64),
        explained_variance=1 - Fraction(1, 2**14),
    )
    yield _case(
        "steep spectrum, float32",
        "loses small singular values",
        x="steep",
        explained_variance=Fraction(99, 100),
        dtype=np.float32,
    )
    yield _case("rank 1", "keeps noise", x="rank 1", explained_variance=Fraction(99, 100))
    yield _case("constant", "divides by a spread of 0", x=np.ones((3, 2, 6, 7)))
    yield _case("zero energy", "divides by the energy", x="zero")
    yield _case("zero energy, float32", "divides by the energy", x="zero", dtype=np.float32)
    yield _case("one pixel", "takes an outer product for full rank", x=_one_pixel())
    yield _case("dead sample", "divides by the norm of a slice", x=_dead(0))
    yield _case("dead channel", "divides by the norm of a slice", x=_dead(1))
    yield _case("dead row", "divides by the norm of a slice", x=_dead(2))
    yield _case("everything kept", "drops what rounding calls small", explained_variance=Fraction(1))
    yield _case(
        "everything kept, float32", "drops what rounding calls small", explained_variance=Fraction(1), dtype=np.float32
    )
    yield _case(
        "everything kept of a tensor of low rank", "needs full rank", x="rank 1", explained_variance=Fraction(1)
    )
    yield _case(
        "almost everything kept", "rounds the explained variance to 1", explained_variance=1 - Fraction(1, 10**6)
    )
    yield _case("almost nothing kept", "keeps no column at all", explained_variance=Fraction(1, 10**9))
    yield _case("half kept", "takes the explained variance for what may be lost", explained_variance=Fraction(1, 5))
    yield _case(
        "ReLU activation",
        "lets the mean hide the rest",
        x="relu",
        shape=(4, 5, 6, 6),
        explained_variance=Fraction(9, 10),
    )
    yield _case(
        "samples that come twice",
        "takes the batch for full rank",
        x="repeated",
        shape=(4, 3, 5, 5),
        explained_variance=Fraction(99, 100),
    )
    yield _case(
        "one loud sample", "spreads an error over the samples (THEORY T20)", x=_loud(), explained_variance=FOUR_FIFTHS
    )
    x, grad_output = _fitted()
    yield _case(
        "all of the gradient lost",
        "takes an explained variance for a bound on the gradient: dW is not 0, dW~ is (THEORY T20)",
        x=x,
        grad_output=grad_output,
        explained_variance=Fraction(999, 1000),
    )
    yield _case(
        "every mode cut",
        "sequential truncation passed off as HOSVD",
        shape=(5, 4, 6, 5),
        padding=plain,
        explained_variance=Fraction(3, 5),
    )
    yield _case(
        "every mode cut, float32",
        "sequential truncation passed off as HOSVD",
        shape=(5, 4, 6, 5),
        explained_variance=Fraction(3, 5),
        dtype=np.float32,
    )
    yield _case("zero weight", "divides by the norm of the weight", weight="zero")
    yield _case("zero grad_output", "divides by the norm of the gradient", grad_output="zero")
    yield _case(
        "small integers", "rounds where nothing needs to be", x="integers", weight="integers", grad_output="integers"
    )


def _magnitudes() -> Iterator[Case]:
    for dtype in (np.float64, np.float32):
        t = largest_exponent(np.dtype(dtype))
        label = "" if dtype == np.float64 else ", float32"
        extreme = "1e150" if dtype == np.float64 else "1e18"
        yield _case(f"x near {extreme}{label}", "squares overflow", exponent=t, dtype=dtype)
        yield _case(f"x near 1 / {extreme}{label}", "squares vanish", exponent=-t, dtype=dtype)
        yield _case(f"grad_output near {extreme}{label}", "squares overflow", grad_exponent=t, dtype=dtype)
        yield _case(f"grad_output near 1 / {extreme}{label}", "squares vanish", grad_exponent=-t, dtype=dtype)
    yield _case(
        "x near 1e150, groups and strides",
        "squares overflow",
        exponent=498,
        shape=(2, 4, 6, 5),
        groups=2,
        stride=(2, 2),
    )


def _layouts() -> Iterator[Case]:
    for layout in LAYOUTS[1:]:
        yield _case(f"{layout} layout", "takes memory for C-contiguous, or writes into its input", layout=layout)
        yield _case(
            f"{layout} layout, groups, float32",
            "takes memory for C-contiguous, or writes into its input",
            layout=layout,
            shape=(2, 4, 5, 6),
            groups=2,
            stride=(1, 2),
            dtype=np.float32,
        )


def _one_pixel() -> Array:
    x = np.zeros((3, 2, 6, 7))
    x[1, 0, 2, 3] = 2.0
    return x


def _dead(axis: int) -> Array:
    x = random_tensor(np.random.default_rng(axis), (3, 2, 6, 7), "normal")
    x[(slice(None),) * axis + (1,)] = 0.0
    return x


def _loud() -> Array:
    x = random_tensor(np.random.default_rng(20), (4, 2, 6, 7), "normal")
    x[0] *= 64.0
    return x


def _fitted() -> tuple[Array, Array]:
    """Return a loud sample that is fitted, so that its gradient is 0, and one that is not, of which nothing is kept."""
    x, grad_output = np.zeros((2, 2, 6, 7)), np.zeros((2, 4, 6, 7))
    x[0, 0, 1, 2], x[1, 1, 3, 4] = 64.0, 1.0
    grad_output[1] = random_tensor(np.random.default_rng(20), (4, 6, 7), "normal")
    return x, grad_output
