"""What an implementation is tried on: one `Case` is the input of one call, in one dtype and one memory layout.

In: arrays and attributes, or a seed. Out: a `Case`, which hands out fresh arguments for every call; and the generated
cases, each of which follows from the seed and its number alone. The named ones are in `catalogue`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol, TypedDict

import numpy as np

from refgrad.arguments import Array, float_array, floats_of_one_dtype, non_negative_integer
from refgrad.geometry import ConvGeometry

__all__ = [
    "GENERATED",
    "LAYOUTS",
    "AnyCase",
    "Attributes",
    "Case",
    "generated",
    "generated_case",
    "largest_exponent",
    "random_tensor",
    "with_layout",
]

LAYOUTS = ("C", "Fortran", "strided", "reversed", "transposed", "read-only")
"""The memory layouts that arguments come in."""

GENERATED = "generated "
"""What the names of generated cases begin with; seed/number follows."""

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


class AnyCase(Protocol):
    """What the input of one call has, whatever the operation."""

    @property
    def operation(self) -> str:
        """Which operation the case is for."""

    @property
    def name(self) -> str:
        """Unique among the cases of an operation in a run."""

    @property
    def effect(self) -> str:
        """What is wrong with an implementation that fails here."""

    @property
    def layout(self) -> str:
        """One of `LAYOUTS`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""

    @property
    def explained_variance(self) -> Fraction:
        """Eps of D1 as the rational number that is meant."""

    @property
    def parts(self) -> Mapping[str, Any]:
        """The arrays by name, in the order of the call; "factors" is a tuple of them."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every result whose shape follows from the input."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The keyword arguments of the call."""

    def arrays(self) -> Mapping[str, Any]:
        """Return fresh copies of the arrays, in the layout of this case."""

    def describe(self) -> str:
        """Say in one line what the input is."""


class Attributes(TypedDict):
    """The keyword arguments of an `Implementation`."""

    stride: Pair
    padding: Pads
    dilation: Pair
    groups: int
    explained_variance: float


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """The input of one call, and what it is there to show.

    Parameters
    ----------
    name : str
        Unique among the cases of a run.
    x : array, (B, C, H, W)
        The layer's input; float32 or float64, as are all four arrays.
    weight : array, (O, C / groups, k_h, k_w)
        The kernel.
    bias : array, (O,)
        The bias.
    grad_output : array, (B, O, H', W')
        The gradient by the output.
    stride, dilation : pair of int
        (height, width).
    padding : two pairs of int
        ((top, bottom), (left, right)).
    groups : int
        Into how many independent convolutions the channels are split.
    explained_variance : Fraction
        eps of D1 as the rational number that is meant; the target is given the nearest float.
    layout : str
        One of `LAYOUTS`: how the arrays that a target is given lie in memory.
    effect : str
        What is wrong with an implementation that fails here.

    Attributes
    ----------
    geometry : ConvGeometry
        The attributes and the kernel's size.
    output_shape : tuple of int
        (B, O, H', W').

    Raises
    ------
    ValueError, TypeError
        Where the shapes do not fit the geometry, or the dtypes are not one float dtype.

    Examples
    --------
    >>> ones = np.ones((1, 1, 3, 3))
    >>> case = Case("ones", ones, ones, np.zeros(1), np.ones((1, 1, 1, 1)))
    >>> case.output_shape, case.describe()
    ((1, 1, 1, 1), 'float64, x (B=1, C=1, H=3, W=3), weight (1, 1, 3, 3), explained_variance 1')
    """

    name: str
    x: Array
    weight: Array
    bias: Array
    grad_output: Array
    stride: Pair = (1, 1)
    padding: Pads = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    explained_variance: Fraction = Fraction(1)
    layout: str = "C"
    effect: str = ""
    geometry: ConvGeometry = field(init=False)
    output_shape: tuple[int, int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        floats_of_one_dtype(x=self.x, weight=self.weight, bias=self.bias, grad_output=self.grad_output)
        float_array("x", self.x, axes="B C H W", finite=True)
        float_array("weight", self.weight, axes="O C/groups k_h k_w", finite=True)
        kernel = (self.weight.shape[2], self.weight.shape[3])
        geometry = ConvGeometry(kernel, self.stride, self.padding, self.dilation, self.groups)
        object.__setattr__(self, "geometry", geometry)
        object.__setattr__(self, "output_shape", geometry.output_shape(self.x.shape, self.weight.shape))
        if self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"bias must have shape {self.weight.shape[:1]}, got {self.bias.shape}")
        if self.grad_output.shape != self.output_shape:
            raise ValueError(f"grad_output must have shape {self.output_shape}, got {self.grad_output.shape}")
        if not 0 < self.explained_variance <= 1:
            raise ValueError(f"explained_variance must be in (0, 1], got {self.explained_variance}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")

    @property
    def operation(self) -> str:
        """Which operation the case is for."""
        return "conv2d"

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.x.dtype

    @property
    def parts(self) -> dict[str, Array]:
        """The four arrays by name, in the order of the call."""
        return {"x": self.x, "weight": self.weight, "bias": self.bias, "grad_output": self.grad_output}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every result whose shape follows from the input."""
        return {
            "output": self.output_shape,
            "grad_input": self.x.shape,
            "grad_bias": self.bias.shape,
            "grad_weight": self.weight.shape,
            "reconstruction": self.x.shape,
        }

    @property
    def attributes(self) -> Attributes:
        """The keyword arguments of the call."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "explained_variance": float(self.explained_variance),
        }

    def arrays(self) -> dict[str, Array]:
        """Return fresh copies of the four arrays, in the layout of this case."""
        return {name: with_layout(array, self.layout) for name, array in self.parts.items()}

    def describe(self) -> str:
        """Say in one line what the input is; attributes that do nothing are left out."""
        batch, channels, height, width = self.x.shape
        text = f"{self.dtype}, x (B={batch}, C={channels}, H={height}, W={width}), weight {self.weight.shape}"
        plain = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
        attributes = dict(self.attributes)
        attributes.pop("explained_variance")
        text += "".join(f", {name} {value}" for name, value in attributes.items() if value != plain[name])
        text += f", explained_variance {self.explained_variance}"
        return text + (f", {self.layout} layout" if self.layout != "C" else "")


def with_layout(array: Array, layout: str) -> Array:
    """Return a copy of an array that lies in memory in the named way.

    Parameters
    ----------
    array : array
        Any.
    layout : str
        "C", "Fortran", "strided" (every second place of a larger buffer), "reversed" (negative strides), "transposed"
        (the axes lie in memory backwards, as a view) or "read-only".

    Examples
    --------
    >>> with_layout(np.arange(3.0), "reversed").strides
    (-8,)
    """
    if layout == "Fortran":
        return np.array(array, order="F")
    if layout == "strided":
        room = np.zeros(tuple(2 * length for length in array.shape), array.dtype)
        view = room[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        return view
    if layout == "reversed":
        backwards = tuple(slice(None, None, -1) for _ in array.shape)
        return np.array(array[backwards], order="C")[backwards]
    if layout == "transposed":
        return np.array(array.T, order="C").T
    result = np.array(array, order="C")
    result.flags.writeable = layout != "read-only"
    return result


def largest_exponent(dtype: np.dtype[Any]) -> int:
    """Return t such that 2^t is about 1e150 in float64 and 1e18 in float32: the squares still fit, but barely."""
    return 59 if dtype == np.float32 else 498


def random_tensor(generator: np.random.Generator, shape: tuple[int, ...], spectrum: str) -> Array:
    """Draw a float64 tensor whose unfoldings have the named kind of spectrum.

    Parameters
    ----------
    generator : Generator
        Where the randomness comes from.
    shape : tuple of int
        Of the tensor.
    spectrum : str
        "normal", "relu" (the mean of such takes most of the energy), "integers", "signs", "tied" (as many equal
        singular values as the shortest axis is long), "steep" (rank-1 terms that fall by 64), "rank 1", "repeated"
        (samples that come twice), "dead slice", or "zero".
    """
    if spectrum == "zero":
        return np.zeros(shape)
    if spectrum == "signs":
        return generator.choice([-1.0, 1.0], shape)
    if spectrum == "tied":
        result = np.zeros(shape)
        result[tuple(generator.permutation(length)[: min(shape)] for length in shape)] = 1.0
        return result
    if spectrum == "integers":
        return generator.integers(-3, 4, shape).astype(np.float64)
    if spectrum in ("steep", "rank 1"):
        result = np.zeros(shape)
        for term in range(1 if spectrum == "rank 1" else 4):
            outer = np.array(1.0)
            for length in shape:
                outer = np.multiply.outer(outer, generator.standard_normal(length))
            result += np.ldexp(outer, -6 * term)
        return result
    result = generator.standard_normal(shape)
    if spectrum == "relu":
        return np.maximum(result, 0.0)
    if spectrum == "repeated":
        half = (shape[0] + 1) // 2
        return np.concatenate([result[:half], result[:half]])[: shape[0]]
    if spectrum == "dead slice":
        axis = int(generator.integers(len(shape)))
        result[(slice(None),) * axis + (int(generator.integers(shape[axis])),)] = 0.0
    return result


SPECTRA = (
    "normal",
    "normal",
    "relu",
    "relu",
    "integers",
    "signs",
    "tied",
    "steep",
    "rank 1",
    "repeated",
    "dead slice",
    "zero",
)
EXPLAINED = (Fraction(1), Fraction(1, 2), Fraction(4, 5), Fraction(9, 10), Fraction(99, 100), Fraction(1, 10**9))


def generated(seed: int, count: int) -> Iterator[Case]:
    """Yield `count` random cases; number i follows from (seed, i) alone, whatever `count` is.

    Parameters
    ----------
    seed, count : int
        Neither negative.

    Raises
    ------
    TypeError, ValueError
        Where one is no integer, or negative.

    Examples
    --------
    >>> [case.name for case in generated(7, 2)]
    ['generated 7/0', 'generated 7/1']
    """
    seed, count = non_negative_integer("seed", seed), non_negative_integer("count", count)
    return (generated_case(seed, number) for number in range(count))


def generated_case(seed: int, number: int) -> Case:
    """Return the case of that number among those that `generated` yields for a seed."""
    generator = np.random.default_rng((seed, number))

    def draw(*options: Any) -> Any:
        return options[int(generator.integers(len(options)))]

    groups = draw(1, 1, 1, 2, 2, 3)
    per_group = draw(1, 1, 2, 3)
    out_per_group = draw(1, 2, 3)
    kernel, stride, padding, dilation, size = [], [], [], [], []
    for _ in range(2):
        k, d = draw(1, 2, 3, 3, 4), draw(1, 1, 2, 3)
        pads = (draw(0, 1, 1, 2, 3), draw(0, 1, 1, 2, 3))
        smallest = max(1, d * (k - 1) + 1 - sum(pads))
        kernel.append(k)
        dilation.append(d)
        padding.append(pads)
        stride.append(draw(1, 1, 2, 3))
        size.append(smallest + draw(0, 1, 2, 3, 4))
    geometry = ConvGeometry(
        (kernel[0], kernel[1]), (stride[0], stride[1]), (padding[0], padding[1]), (dilation[0], dilation[1]), groups
    )
    shape = (draw(1, 2, 2, 3, 4), groups * per_group, *size)
    weight_shape = (groups * out_per_group, per_group, *kernel)
    dtype = np.dtype(draw(np.float32, np.float64, np.float64))
    exponent = draw(0, 0, 0, 0, 1, -1) * largest_exponent(dtype)
    explained_variance = draw(*EXPLAINED, Fraction(int(generator.integers(1, 1000)), 1000))
    parts = [
        random_tensor(generator, part, spectrum)
        for part, spectrum in (
            (shape, draw(*SPECTRA)),
            (weight_shape, draw("normal", "integers")),
            (weight_shape[:1], "normal"),
            (geometry.output_shape(shape, weight_shape), draw("normal", "integers", "steep")),
        )
    ]
    x, weight, bias, grad_output = (part.astype(dtype) for part in parts)
    return Case(
        name=f"{GENERATED}{seed}/{number}",
        x=np.ldexp(x, exponent),
        weight=weight,
        bias=bias,
        grad_output=grad_output,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=groups,
        explained_variance=explained_variance,
        layout=draw(*LAYOUTS),
        effect="found by chance",
    )
