"""The input of one call of an operation other than conv2d: named arrays whose axes have names, and attributes.

In: arrays and attributes. Out: a `LadderCase`, which hands out fresh arguments for every call. That axes have names is
what lets one descent make the inputs of every operation smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from refgrad.arguments import Array, float_array, floats_of_one_dtype, one_of
from refgrad.geometry import ConvGeometry
from refgrad.oracle.cases import LAYOUTS, with_layout
from refgrad.oracle.operations import OPERATIONS

__all__ = ["LadderCase", "Parts", "each_array"]

Parts = Mapping[str, "Array | tuple[Array, ...]"]


def each_array(parts: Parts) -> Iterator[tuple[str, int | None, Array]]:
    """Yield every array as (name, number among the factors or None, array)."""
    for name, value in parts.items():
        if isinstance(value, tuple):
            yield from ((name, number, array) for number, array in enumerate(value))
        else:
            yield name, None, value


@dataclass(frozen=True, slots=True, eq=False)
class LadderCase:
    """The input of one call of one operation, and what it is there to show.

    Parameters
    ----------
    operation : str
        One of `OPERATIONS`.
    name : str
        Unique among the cases of the operation in a run.
    parts : mapping
        Argument -> array, or for "factors" a tuple of matrices; all of them float32, or all float64.
    given : mapping
        The keyword arguments but the explained variance.
    explained_variance : Fraction
        eps of D1 as the rational number that is meant; the target is given the nearest float, if it is given one.
    layout : str
        One of `LAYOUTS`.
    effect : str
        What is wrong with an implementation that fails here.

    Raises
    ------
    ValueError, TypeError
        Where an argument is missing or unknown, the dtypes are not one float dtype, or the shapes do not fit.

    Examples
    --------
    >>> case = LadderCase("unfold", "small", {"tensor": np.ones((2, 3))}, {"mode": 1})
    >>> case.shapes, case.describe()
    ({'matrix': (3, 2)}, 'float64, tensor (2, 3), mode 1')
    """

    operation: str
    name: str
    parts: Parts
    given: Mapping[str, Any] = field(default_factory=dict)
    explained_variance: Fraction = Fraction(1)
    layout: str = "C"
    effect: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        one_of("operation", self.operation, tuple(OPERATIONS))
        wanted = OPERATIONS[self.operation]
        if list(self.parts) != list(wanted.arrays):
            raise ValueError(f"{self.operation} takes {', '.join(wanted.arrays)}, got {', '.join(self.parts)}")
        given = {*self.given, *(["explained_variance"] if "explained_variance" in wanted.attributes else [])}
        if given != set(wanted.attributes):
            raise ValueError(f"{self.operation} has attributes {', '.join(wanted.attributes)}, got {', '.join(given)}")
        arrays = {name if number is None else f"{name}[{number}]": a for name, number, a in each_array(self.parts)}
        for name, array in arrays.items():
            float_array(name, array, finite=True)
        floats_of_one_dtype(**arrays)
        if not 0 < self.explained_variance <= 1:
            raise ValueError(f"explained_variance must be in (0, 1], got {self.explained_variance}")
        one_of("layout", self.layout, LAYOUTS)
        object.__setattr__(self, "shapes", self._shapes())

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        dtype: np.dtype[Any] = next(array for _, _, array in each_array(self.parts)).dtype
        return dtype

    @property
    def attributes(self) -> dict[str, Any]:
        """The keyword arguments of the call."""
        if "explained_variance" not in OPERATIONS[self.operation].attributes:
            return dict(self.given)
        return {**self.given, "explained_variance": float(self.explained_variance)}

    @property
    def geometry(self) -> ConvGeometry:
        """The attributes of a convolution and the size of its kernel."""
        kernel = self.given["kernel_size"] if "kernel_size" in self.given else self.array("weight").shape[2:]
        return ConvGeometry(
            kernel, self.given["stride"], self.given["padding"], self.given["dilation"], self.given["groups"]
        )

    @property
    def groups(self) -> int:
        """Into how many independent convolutions the channels are split."""
        return int(self.given.get("groups", 1))

    def array(self, name: str) -> Array:
        """Return one of the arrays that are not factors."""
        value = self.parts[name]
        assert not isinstance(value, tuple)
        return value

    def factors(self) -> tuple[Array, ...]:
        """Return the factors."""
        value = self.parts["factors"]
        assert isinstance(value, tuple)
        return value

    def arrays(self) -> dict[str, Array | tuple[Array, ...]]:
        """Return fresh copies of the arrays, in the layout of this case."""
        return {
            name: tuple(with_layout(array, self.layout) for array in value)
            if isinstance(value, tuple)
            else with_layout(value, self.layout)
            for name, value in self.parts.items()
        }

    def describe(self) -> str:
        """Say in one line what the input is."""
        parts = [
            f"{name} {' '.join(str(array.shape) for array in value)}"
            if isinstance(value, tuple)
            else f"{name} {value.shape}"
            for name, value in self.parts.items()
        ]
        parts += [f"{name} {value}" for name, value in self.given.items()]
        if "explained_variance" in OPERATIONS[self.operation].attributes:
            parts.append(f"explained_variance {self.explained_variance}")
        if self.layout != "C":
            parts.append(f"{self.layout} layout")
        return f"{self.dtype}, {', '.join(parts)}"

    def axes(self) -> dict[tuple[str, int | None], tuple[str, ...]]:
        """Name every axis of every array; axes of one name have one length."""
        return {(name, number): self._axes(name, number, array.ndim) for name, number, array in each_array(self.parts)}

    def _axes(self, name: str, number: int | None, ndim: int) -> tuple[str, ...]:
        layer = self.operation in ("weight_gradient", "step")
        modes = ("B", "C", "H", "W") if layer else tuple(f"n{mode}" for mode in range(ndim))
        if name == "factors":
            return ("B", "C", "H", "W")[number or 0] if layer else f"n{number}", f"K{number}"
        if name == "core":
            return tuple(f"K{mode}" for mode in range(ndim))
        if self.operation == "linear":
            leading = tuple(f"n{mode}" for mode in range(ndim - 1))
            return {"x": (*leading, "I"), "weight": ("O", "I"), "bias": ("O",), "grad_output": (*leading, "O")}[name]
        if name in ("weight", "weight_velocity"):
            return ("O", "C/groups", "k_h", "k_w")
        if name in ("bias", "bias_velocity"):
            return ("O",)
        return ("B", "O", "H'", "W'") if name == "grad_output" else modes

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every result whose shape follows from the input, having checked that the input fits."""
        lengths: dict[str, int] = {}
        for (name, number), axes in self.axes().items():
            array = self.factors()[number] if number is not None else self.array(name)
            if array.ndim != len(axes) or 0 in array.shape:
                raise ValueError(f"{name} must have axes ({', '.join(axes)}), none of length 0, got {array.shape}")
            for axis, length in zip(axes, array.shape, strict=True):
                if lengths.setdefault(axis, length) != length:
                    raise ValueError(f"{name}: axis {axis} has length {length}, but {lengths[axis]} elsewhere")
        if self.operation == "rank":
            return {}
        if self.operation == "unfold":
            shape, mode = self.array("tensor").shape, int(self.given["mode"])
            if not 0 <= mode < len(shape):
                raise ValueError(f"mode must be in [0, {len(shape)}), one of the tensor's axes, got {mode}")
            return {"matrix": (shape[mode], math.prod(shape) // shape[mode])}
        if self.operation == "reconstruct":
            return {"reconstruction": tuple(len(factor) for factor in self.factors())}
        if self.operation in ("hosvd", "sequential_hosvd", "subspace_iteration"):
            return {"reconstruction": self.array("tensor").shape}
        if self.operation == "linear":
            x, weight = self.array("x").shape, self.array("weight").shape
            return {
                "output": (*x[:-1], weight[0]),
                "grad_input": x,
                "grad_bias": weight[:1],
                "grad_weight": weight,
                "reconstruction": x,
            }
        if self.operation == "weight_gradient":
            channels, out_channels = len(self.factors()[1]), self.array("grad_output").shape[1]
            shape = (out_channels, channels // self.groups, *self.geometry.kernel_size)
            self.geometry.output_shape(tuple(len(factor) for factor in self.factors()), shape)
            return {"grad_weight": shape}
        if self.operation == "step":
            self.geometry.output_shape(self.array("x").shape, self.array("weight").shape)
            return {name: self.array(name).shape for name in ("weight", "bias", "weight_velocity", "bias_velocity")}
        return {}
