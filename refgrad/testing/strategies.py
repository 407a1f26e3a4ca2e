"""Hypothesis strategies for people's own test suites: whole layer cases, and activations whose spectrum has a name.

In: what is allowed - dtypes, spectra, sizes, groups, layouts. Out: strategies of `Case`, of `LadderCase` for the linear
layer, and of arrays. Each example follows from the drawn values alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from refgrad.arguments import Array, one_of, positive_integer
from refgrad.geometry import ConvGeometry
from refgrad.oracle.cases import EXPLAINED, LAYOUTS, Case, largest_exponent, with_layout
from refgrad.oracle.ladder.cases import LadderCase

__all__ = ["LAYOUTS", "SPECTRA", "activations", "conv_cases", "linear_cases"]

DTYPES: Final = ("float64", "float32")

SCALES: Final = (0.0, 0.0, 0.0, 0.0, 0.25, -0.25, 0.5, -0.5, 1.0, -1.0, 1.0, -1.0)
"""Exponents of the scale as shares of the largest: the ends are drawn often, and shrink towards 0 in a few steps."""

FALL: Final = 64.0
"""What the singular values of a steep spectrum fall by; the fourth still shows in float32."""

CLOSE: Final = 2.0**-12
"""How far apart the singular values of a cluster are: far from a tie in float32, and far from a gap."""

# Entries follow from one drawn seed instead of being drawn one by one. A case has hundreds of them: drawn singly, they
# are what shrinking spends most of its calls on; Hypothesis fills most places with one value, so that full rank gets
# rare; and ties and clusters could not be had at all. What is found still reads well: the plainest entries are integers
# from -3 to 3, the axes shrink until few are left, and the seed shrinks to the first one that shows the mistake.
SEEDS: Final = st.integers(0, 2**32 - 1)

# The plainest is first and the degenerate ones are last: a minimal example that is tied, or zero, has to be.
SPECTRA: Final = (
    "integers",
    "normal",
    "relu",
    "rank 1",
    "flat",
    "tied",
    "steep",
    "clustered",
    "dead slice",
    "rank 0",
)
"""The kinds of activations; `activations` says what they are."""


def conv_cases(
    *,
    dtypes: Sequence[str] = DTYPES,
    spectra: Sequence[str] = SPECTRA,
    max_size: int = 6,
    groups: Sequence[int] = (1, 2, 3),
    layouts: Sequence[str] = LAYOUTS,
    scaled: bool = True,
) -> st.SearchStrategy[Case]:
    """Draw inputs of a convolution layer.

    Kernels up to 4 along each axis, strides and dilations up to 3 and four pads up to 3, all of them independent;
    depthwise layers and such with a depth multiplier among them. Examples shrink to one pixel, one sample, one channel,
    stride 1, no padding, and entries that are small integers.

    Parameters
    ----------
    dtypes : sequence of str
        From "float64" and "float32".
    spectra : sequence of str
        Kinds of x, from `SPECTRA`.
    max_size : int
        The largest height and width. The batch, and the channels of a group, are no more than it either, and at most
        4 and 3.
    groups : sequence of int
        Into how many independent convolutions the channels may be split.
    layouts : sequence of str
        How the arrays that `Case.arrays` hands out may lie in memory, from `LAYOUTS`.
    scaled : bool
        Whether x may be multiplied by a power of two, as `activations` says.

    Returns
    -------
    strategy of Case
        Of each sequence the first entry counts as the simplest.

    Raises
    ------
    ValueError, TypeError
        Where an argument holds something unknown, or nothing.

    Examples
    --------
    >>> from hypothesis import find, settings
    >>> quiet = settings(deadline=None, database=None)
    >>> case = find(conv_cases(), lambda case: case.groups == 2, settings=quiet)
    >>> case.describe()
    'float64, x (B=1, C=2, H=1, W=1), weight (2, 1, 1, 1), groups 2, explained_variance 1'
    """
    return _conv_cases(
        _dtypes(dtypes),
        _words("spectra", spectra, SPECTRA),
        positive_integer("max_size", max_size),
        _integers("groups", groups),
        _words("layouts", layouts, LAYOUTS),
        scaled,
    )


def linear_cases(
    *,
    dtypes: Sequence[str] = DTYPES,
    spectra: Sequence[str] = SPECTRA,
    max_size: int = 6,
    layouts: Sequence[str] = LAYOUTS,
    scaled: bool = True,
) -> st.SearchStrategy[LadderCase]:
    """Draw inputs of a linear layer; x has 2, 3 or 4 axes.

    Parameters
    ----------
    dtypes, spectra : sequence of str
        As for `conv_cases`.
    max_size : int
        The longest axis of x, and the most output features.
    layouts : sequence of str
        As for `conv_cases`.
    scaled : bool
        As for `conv_cases`.

    Returns
    -------
    strategy of LadderCase
        Of the operation "linear".

    Raises
    ------
    ValueError, TypeError
        Where an argument holds something unknown, or nothing.

    Examples
    --------
    >>> from hypothesis import find, settings
    >>> quiet = settings(deadline=None, database=None)
    >>> case = find(linear_cases(), lambda case: case.array("x").ndim == 3, settings=quiet)
    >>> case.describe()
    'float64, x (1, 1, 1), weight (1, 1), bias (1,), grad_output (1, 1, 1), explained_variance 1'
    """
    return _linear_cases(
        _dtypes(dtypes),
        _words("spectra", spectra, SPECTRA),
        positive_integer("max_size", max_size),
        _words("layouts", layouts, LAYOUTS),
        scaled,
    )


def activations(
    shape: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    *,
    dtype: str = "float64",
    spectrum: str | None = None,
    layouts: Sequence[str] = LAYOUTS,
    scaled: bool = True,
) -> st.SearchStrategy[Array]:
    """Draw arrays whose unfoldings have a named kind of spectrum.

    Parameters
    ----------
    shape : tuple of int, or a strategy of such, optional
        Without it, 1 to 4 axes that are at most 6 long.
    dtype : str
        "float64" or "float32".
    spectrum : str, optional
        One of `SPECTRA`; without it, any of them. Where r is the length of the shortest axis that is longer than 1,
        and there are two such axes at least, the unfoldings along all of them have

        - "flat": r equal singular values, the others 0, with entries that no dtype rounds;
        - "tied": r in a ratio such as 3 : 2 : 2 : 1 : 1, likewise;
        - "steep": up to four that fall by 64;
        - "clustered": r that are 2^-12 apart; from r = 3 on, the last is half as large;
        - "rank 1": one, with entries that no dtype rounds.

        "rank 0" is zero, "integers" are from -3 to 3, "relu" is the positive part of "normal", and "dead slice" is
        "normal" but for one slice of zeros, along an axis longer than 1 where there is one.
    layouts : sequence of str
        How the array may lie in memory, from `LAYOUTS`.
    scaled : bool
        Whether it may be multiplied by a power of two, up to about 1e150 or 1e-150 in float64, and 1e18 or 1e-18 in
        float32: the sum of the squares still fits, but barely.

    Returns
    -------
    strategy of array
        Finite, not empty.

    Raises
    ------
    ValueError, TypeError
        Where an argument is unknown, or the shape is none.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(deadline=None, database=None)
    ... @given(activations((4, 3, 5), spectrum="tied", scaled=False))
    ... def test_its_energies_are_tied(x):
    ...     energies = np.linalg.svd(x.reshape(4, 15), compute_uv=False) ** 2
    ...     assert np.isclose(energies[1], energies[2]) and energies[0] > 2 * energies[1]
    >>> test_its_energies_are_tied()
    """
    checked = np.dtype(_dtype("dtype", dtype))
    kinds = SPECTRA if spectrum is None else (one_of("spectrum", spectrum, SPECTRA),)
    if shape is None:
        shapes: st.SearchStrategy[tuple[int, ...]] = _shapes(1, 6)
    elif isinstance(shape, st.SearchStrategy):
        shapes = shape
    else:
        shapes = st.just(_integers("shape", shape))
    return _activations(shapes, checked, kinds, _words("layouts", layouts, LAYOUTS), scaled)


# Structure is drawn first and the seed last: the early choices are the ones that shrinking makes smallest.


@st.composite
def _conv_cases(
    draw: st.DrawFn,
    dtypes: tuple[str, ...],
    spectra: tuple[str, ...],
    max_size: int,
    groups: tuple[int, ...],
    layouts: tuple[str, ...],
    scaled: bool,
) -> Case:
    batch = draw(st.integers(1, min(4, max_size)))
    parts = draw(st.sampled_from(groups))
    channels = draw(st.integers(1, min(3, max_size)))
    out_channels = draw(st.integers(1, min(3, max_size)))
    height, width = (draw(_axes(max_size)) for _ in range(2))
    geometry = ConvGeometry(
        kernel_size=(height[0], width[0]),
        stride=(height[1], width[1]),
        padding=(height[2], width[2]),
        dilation=(height[3], width[3]),
        groups=parts,
    )
    x_shape = (batch, parts * channels, height[4], width[4])
    weight_shape = (parts * out_channels, channels, *geometry.kernel_size)
    shapes = (weight_shape, weight_shape[:1], geometry.output_shape(x_shape, weight_shape))
    name, share, layout, (x, weight, bias, grad_output) = draw(
        _layers((x_shape, *shapes), dtypes, spectra, layouts, scaled)
    )
    return Case(
        name,
        x,
        weight,
        bias,
        grad_output,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=parts,
        explained_variance=share,
        layout=layout,
        effect="found by Hypothesis",
    )


@st.composite
def _axes(draw: st.DrawFn, max_size: int) -> tuple[int, int, tuple[int, int], int, int]:
    """Draw (kernel, stride, pads, dilation, length) along one axis; the kernel fits into the padded input."""
    kernel = draw(st.integers(1, min(4, max_size)))
    stride = draw(st.integers(1, 3))
    pads = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    widest = (max_size + sum(pads) - 1) // max(1, kernel - 1)
    dilation = draw(st.integers(1, min(3, max(1, widest))))
    smallest = max(1, dilation * (kernel - 1) + 1 - sum(pads))
    return kernel, stride, pads, dilation, draw(st.integers(smallest, max_size))


@st.composite
def _linear_cases(
    draw: st.DrawFn,
    dtypes: tuple[str, ...],
    spectra: tuple[str, ...],
    max_size: int,
    layouts: tuple[str, ...],
    scaled: bool,
) -> LadderCase:
    shape = draw(_shapes(2, max_size))
    out_features = draw(st.integers(1, max_size))
    shapes = (shape, (out_features, shape[-1]), (out_features,), (*shape[:-1], out_features))
    name, share, layout, (x, weight, bias, grad_output) = draw(_layers(shapes, dtypes, spectra, layouts, scaled))
    return LadderCase(
        "linear",
        name,
        {"x": x, "weight": weight, "bias": bias, "grad_output": grad_output},
        explained_variance=share,
        layout=layout,
        effect="found by Hypothesis",
    )


@st.composite
def _layers(
    draw: st.DrawFn,
    shapes: tuple[tuple[int, ...], ...],
    dtypes: tuple[str, ...],
    spectra: tuple[str, ...],
    layouts: tuple[str, ...],
    scaled: bool,
) -> tuple[str, Fraction, str, list[Array]]:
    """Draw what the case of any layer has: name, explained variance, layout, and arrays of the shapes, x first."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    layout = draw(st.sampled_from(layouts))
    share = draw(st.sampled_from(EXPLAINED) | st.integers(1, 999).map(lambda n: Fraction(n, 1000)))
    spectrum = draw(st.sampled_from(spectra))
    exponent = draw(_exponents(dtype, scaled))
    entries = draw(st.sampled_from(("integers", "normal")))
    seed = draw(SEEDS)
    # Each array has a generator of its own, so that one which shrinks does not change the others.
    kinds = [(spectrum, exponent)] + [(entries, 0)] * (len(shapes) - 1)
    arrays = [
        _tensor((seed, number), shape, dtype, *kind)
        for number, (shape, kind) in enumerate(zip(shapes, kinds, strict=True))
    ]
    name = f"drawn, {spectrum}, {entries}, 2^{exponent}, seed {seed}"
    return name, share, layout, arrays


@st.composite
def _activations(
    draw: st.DrawFn,
    shapes: st.SearchStrategy[tuple[int, ...]],
    dtype: np.dtype[Any],
    spectra: tuple[str, ...],
    layouts: tuple[str, ...],
    scaled: bool,
) -> Array:
    shape = _integers("shape", draw(shapes))
    layout = draw(st.sampled_from(layouts))
    spectrum = draw(st.sampled_from(spectra))
    exponent = draw(_exponents(dtype, scaled))
    return with_layout(_tensor((draw(SEEDS), 0), shape, dtype, spectrum, exponent), layout)


def _shapes(minimum_axes: int, longest: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, longest), min_size=minimum_axes, max_size=4).map(tuple)


def _exponents(dtype: np.dtype[Any], scaled: bool) -> st.SearchStrategy[int]:
    largest = largest_exponent(dtype)
    return st.sampled_from([round(largest * share) for share in (SCALES if scaled else SCALES[:1])])


def _tensor(seed: tuple[int, int], shape: tuple[int, ...], dtype: np.dtype[Any], spectrum: str, exponent: int) -> Array:
    array = _entries(np.random.default_rng(seed), shape, spectrum).astype(dtype)
    if exponent > 0:  # the norm, not an entry, is what must not exceed 2^t: the sum of the squares has to fit
        exponent -= max(0, math.frexp(float(np.linalg.norm(array)))[1])
    scaled: Array = np.ldexp(array, exponent)
    return scaled


def _entries(generator: np.random.Generator, shape: tuple[int, ...], spectrum: str) -> Array:
    """Return a float64 tensor of one of the `SPECTRA`."""
    terms = _terms(shape)
    if spectrum == "flat":
        return _exact(generator, shape, [1.0] * terms)
    if spectrum == "tied":
        return _exact(generator, shape, [1.0 + t // 2 for t in reversed(range(terms))])
    if spectrum == "steep":
        return _rotated(generator, shape, [FALL**-t for t in range(min(4, terms))])
    if spectrum == "clustered":
        return _rotated(generator, shape, [0.5 if t == terms - 1 > 1 else 1.0 - t * CLOSE for t in range(terms)])
    if spectrum == "rank 1":
        return _sum_of_products([1.0], [generator.choice([1.0, -1.0, 0.5, -0.5], (length, 1)) for length in shape])
    if spectrum == "rank 0":
        return np.zeros(shape)
    if spectrum == "integers":
        return generator.integers(-3, 4, shape).astype(np.float64)
    result = generator.standard_normal(shape)
    if spectrum == "relu":
        return np.maximum(result, 0.0)
    if spectrum == "dead slice":
        axis = int(generator.choice([axis for axis, length in enumerate(shape) if length > 1] or [0]))
        result[(slice(None),) * axis + (int(generator.integers(shape[axis])),)] = 0.0
    return result


def _terms(shape: tuple[int, ...]) -> int:
    """Return how many singular values the unfoldings along all axes that are longer than 1 can share."""
    longer = [length for length in shape if length > 1]
    return min(longer) if len(longer) > 1 else 1


def _sum_of_products(values: Sequence[float], bases: Sequence[Array]) -> Array:
    """Return sum_t values_t b_1t x b_2t x ...: with orthogonal columns, what every unfolding has as singular values."""
    result = np.zeros(tuple(len(basis) for basis in bases))
    for t, value in enumerate(values):
        product = np.array(value)
        for basis in bases:
            product = np.multiply.outer(product, basis[:, min(t, basis.shape[1] - 1)])
        result += product
    return result


def _rotated(generator: np.random.Generator, shape: tuple[int, ...], values: Sequence[float]) -> Array:
    bases = [np.linalg.qr(generator.standard_normal((length, min(length, len(values)))))[0] for length in shape]
    return _sum_of_products(values, bases)


def _exact(generator: np.random.Generator, shape: tuple[int, ...], values: Sequence[float]) -> Array:
    """Return such a sum whose entries are multiples of 2^-d and small, so that ties are ties in every arithmetic."""
    bases = []
    for length in shape:
        basis = np.eye(length)
        if length == 2:
            basis = np.array([[1.0, 1.0], [1.0, -1.0]])
        elif length > 3:  # a reflection, I - 2 v v^T / |v|^2, with |v|^2 = 4
            basis[:4, :4] -= 0.5
        signs = generator.choice([1.0, -1.0], (length, 1))
        bases.append(signs * basis[generator.permutation(length)][:, generator.permutation(length)])
    return _sum_of_products(values, bases)


def _dtype(name: str, value: npt.DTypeLike) -> str:
    try:
        dtype = None if value is None else np.dtype(value).name
    except TypeError:
        dtype = None
    if dtype not in DTYPES:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, DTYPES))}, got {value!r}")
    return dtype


def _dtypes(values: Sequence[str]) -> tuple[str, ...]:
    wanted = f"some of {', '.join(map(repr, DTYPES))}"
    return tuple(_dtype("dtypes", value) for value in _sequence("dtypes", values, wanted))


def _words(name: str, values: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    wanted = f"some of {', '.join(map(repr, allowed))}"
    return tuple(one_of(name, value, allowed) for value in _sequence(name, values, wanted))


def _integers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    return tuple(positive_integer(name, value) for value in _sequence(name, values, "positive integers"))


def _sequence(name: str, values: object, wanted: str) -> Sequence[Any]:
    """Return what is no word, which would be taken for its letters, and not empty."""
    if not isinstance(values, tuple | list) or not values:
        raise ValueError(f"{name} must be a tuple or a list of {wanted}, not empty, got {values!r}")
    return values
