"""Where a convolution reads: kernel, stride, padding, dilation, groups, and what follows from them alone.

In: the numbers that a layer was given, in any of the forms that people write. Out: a `ConvGeometry`, which knows its
output shape and how often it reads each pixel (THEORY T12). No array of activations is looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from refgrad.arguments import non_negative_integer, positive_integer, shape_text

__all__ = ["ConvGeometry", "IntOrPair", "Padding"]

IntOrPair: TypeAlias = int | tuple[int, int]
"""One number for both axes, or (height, width)."""

Padding: TypeAlias = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | str
"""One number, (height, width), ((top, bottom), (left, right)), "same" or "valid"."""

AXES = ("height", "width")
SIDES = (("top", "bottom"), ("left", "right"))


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """The geometry of a two-dimensional convolution; `ConvGeometry.of` takes the shorter forms.

    Output position i reads, through tap u of the kernel, row ``i * stride + u * dilation - top`` of the input, and
    the same along the width; what lies outside of the input is zero.

    Parameters
    ----------
    kernel_size : pair of int
        (k_h, k_w), each at least 1.
    stride : pair of int
        (s_h, s_w), each at least 1.
    padding : two pairs of int
        ((top, bottom), (left, right)), how many zeros stand beyond each edge.
    dilation : pair of int
        (d_h, d_w), the distance of two neighbouring taps, each at least 1.
    groups : int
        Into how many independent convolutions the channels are split.

    Raises
    ------
    TypeError
        Where a number is no integer, or a pair no pair.
    ValueError
        Where a number is too small.

    Examples
    --------
    >>> ConvGeometry((3, 3), stride=(2, 2)).output_size((9, 8))
    (4, 3)
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        for name in ("kernel_size", "stride", "dilation"):
            object.__setattr__(self, name, _checked_pair(name, getattr(self, name), AXES, positive_integer))
        if not _is_pair(self.padding):
            raise TypeError(f"padding must be ((top, bottom), (left, right)), got {self.padding!r}")
        pads = tuple(
            _checked_pair("padding", pair, sides, non_negative_integer)
            for pair, sides in zip(self.padding, SIDES, strict=True)
        )
        object.__setattr__(self, "padding", pads)
        object.__setattr__(self, "groups", positive_integer("groups", self.groups))

    @classmethod
    def of(
        cls,
        kernel_size: IntOrPair,
        *,
        stride: IntOrPair = 1,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
    ) -> ConvGeometry:
        """Build a geometry from the forms that people write.

        Parameters
        ----------
        kernel_size, stride, dilation : int or pair of int
            One number for both axes, or (height, width).
        padding : int, pair, two pairs, "same" or "valid"
            One number for all four edges; (height, width), each for both of its edges; ((top, bottom), (left,
            right)); "valid" is no padding; "same" keeps the size of the input: dilation * (kernel_size - 1) zeros
            along an axis, half of them before it and the odd one after it. It needs stride 1.
        groups : int
            Into how many independent convolutions the channels are split.

        Returns
        -------
        ConvGeometry
            With everything resolved.

        Raises
        ------
        TypeError
            Where a number is no integer, or a pair no pair.
        ValueError
            Where a number is too small, `padding` is another word, or "same" meets a stride other than 1.

        Examples
        --------
        >>> ConvGeometry.of(3, padding=1).padding
        ((1, 1), (1, 1))
        >>> ConvGeometry.of((4, 1), padding="same", dilation=(3, 1)).padding
        ((4, 5), (0, 0))
        >>> ConvGeometry.of(3, stride=2, padding="same")
        Traceback (most recent call last):
            ...
        ValueError: padding="same" needs stride 1, got stride (2, 2): frameworks disagree on where the zeros go; write
            the pads that you mean as ((top, bottom), (left, right))
        """
        kernel = _checked_pair("kernel_size", _both_axes(kernel_size), AXES, positive_integer)
        strides = _checked_pair("stride", _both_axes(stride), AXES, positive_integer)
        dilations = _checked_pair("dilation", _both_axes(dilation), AXES, positive_integer)
        return cls(kernel, strides, _resolved_padding(padding, kernel, strides, dilations), dilations, groups)

    def output_size(self, input_size: Sequence[int]) -> tuple[int, int]:
        """Return (H', W'), how many positions the kernel takes along each axis.

        H' = floor((H + top + bottom - d_h (k_h - 1) - 1) / s_h) + 1, and W' likewise.

        Parameters
        ----------
        input_size : pair of int
            (H, W).

        Raises
        ------
        TypeError, ValueError
            Where `input_size` is no pair of positive integers, or the kernel is larger than the padded input.

        Examples
        --------
        >>> ConvGeometry.of((3, 1), stride=2, dilation=(2, 1)).output_size((8, 8))
        (2, 4)
        """
        size = _checked_pair("input_size", input_size, AXES, positive_integer)
        return (self._output_length(0, size), self._output_length(1, size))

    def output_shape(self, input_shape: Sequence[int], weight_shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Return (B, O, H', W'), the shape of the output.

        Parameters
        ----------
        input_shape : four int
            (B, C, H, W).
        weight_shape : four int
            (O, C / groups, k_h, k_w).

        Raises
        ------
        ValueError
            Where the two shapes do not fit one another or this geometry.

        Examples
        --------
        >>> ConvGeometry.of(3, padding=1, groups=2).output_shape((8, 6, 5, 5), (4, 3, 3, 3))
        (8, 4, 5, 5)
        >>> ConvGeometry.of(3, groups=2).output_shape((8, 6, 5, 5), (4, 6, 3, 3))
        Traceback (most recent call last):
            ...
        ValueError: weight must have C / groups = 6 / 2 = 3 channels, got (O=4, C/groups=6, k_h=3, k_w=3) for an
            input of (B=8, C=6, H=5, W=5)
        """
        came = shape_text(input_shape, "B C H W")
        weight = shape_text(weight_shape, "O C/groups k_h k_w")
        if len(input_shape) != 4 or min(input_shape) < 1:
            raise ValueError(f"input must have 4 axes (B C H W), none of them empty, got {came}")
        if len(weight_shape) != 4 or min(weight_shape) < 1:
            raise ValueError(f"weight must have 4 axes (O C/groups k_h k_w), none of them empty, got {weight}")
        batch, channels, height, width = input_shape
        out_channels, group_channels, *kernel = weight_shape
        if tuple(kernel) != self.kernel_size:
            raise ValueError(f"weight must have the kernel of its geometry, {self.kernel_size}, got {weight}")
        if channels % self.groups:
            raise ValueError(f"groups must divide the channels of the input, got groups={self.groups} for {came}")
        if out_channels % self.groups:
            raise ValueError(
                f"groups must divide the out channels of the weight, got groups={self.groups} for {weight}"
            )
        if group_channels * self.groups != channels:
            raise ValueError(
                f"weight must have C / groups = {channels} / {self.groups} = {channels // self.groups} channels, "
                f"got {weight} for an input of {came}"
            )
        return (batch, out_channels, *self.output_size((height, width)))

    def multiplicity(self, input_size: Sequence[int]) -> npt.NDArray[np.int64]:
        """Count m_p, how many (output position, kernel tap) pairs read each pixel p (THEORY T12).

        The two axes are independent, so m is an outer product. |im2col(E)|^2 = sum_p m_p E_p^2.

        Parameters
        ----------
        input_size : pair of int
            (H, W).

        Returns
        -------
        array of int64, (H, W)
            Zero where the stride never reaches.

        Raises
        ------
        TypeError, ValueError
            As `output_size`.

        Examples
        --------
        >>> ConvGeometry.of((2, 1), stride=(1, 2)).multiplicity((3, 4))
        array([[1, 0, 1, 0],
               [2, 0, 2, 0],
               [1, 0, 1, 0]])
        """
        size = _checked_pair("input_size", input_size, AXES, positive_integer)
        return np.multiply.outer(self._axis_multiplicity(0, size), self._axis_multiplicity(1, size))

    def maximum_multiplicity(self, input_size: Sequence[int]) -> int:
        """Return m = max_p m_p (THEORY T12).

        m <= ceil(k_h g_h / s_h) ceil(k_w g_w / s_w), where g = gcd(stride, dilation) along each axis.

        Parameters
        ----------
        input_size : pair of int
            (H, W).

        Raises
        ------
        TypeError, ValueError
            As `output_size`.

        Examples
        --------
        >>> ConvGeometry.of(3, padding=1).maximum_multiplicity((8, 8))
        9
        >>> ConvGeometry.of(3, stride=2, padding=1).maximum_multiplicity((8, 8))
        4
        """
        size = _checked_pair("input_size", input_size, AXES, positive_integer)
        return int(self._axis_multiplicity(0, size).max() * self._axis_multiplicity(1, size).max())

    def _output_length(self, axis: int, size: tuple[int, int]) -> int:
        extent = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        room = size[axis] + sum(self.padding[axis])
        if room < extent:
            raise ValueError(
                f"kernel must fit into the padded input: along the {AXES[axis]} it spans dilation * (kernel_size - 1) "
                f"+ 1 = {extent}, but the input of {shape_text(size, 'H W')} has {size[axis]} + "
                f"{self.padding[axis][0]} + {self.padding[axis][1]} = {room}; pad it or shorten the kernel"
            )
        return (room - extent) // self.stride[axis] + 1

    def _axis_multiplicity(self, axis: int, size: tuple[int, int]) -> npt.NDArray[np.int64]:
        positions = np.arange(self._output_length(axis, size)) * self.stride[axis]
        taps = np.arange(self.kernel_size[axis]) * self.dilation[axis]
        read = np.add.outer(positions, taps) - self.padding[axis][0]
        inside = read[(read >= 0) & (read < size[axis])]
        return np.bincount(inside, minlength=size[axis]).astype(np.int64)


def _is_pair(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _both_axes(value: object) -> object:
    return value if isinstance(value, (tuple, list)) else (value, value)


def _checked_pair(
    name: str, value: object, axes: tuple[str, str], integer: Callable[[str, object], int]
) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair ({axes[0]}, {axes[1]}), got {value!r}")
    first, second = (integer(f"{name} ({axis})", entry) for axis, entry in zip(axes, value, strict=True))
    return (first, second)


def _resolved_padding(
    padding: object, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0), (0, 0))
        if padding != "same":
            raise ValueError(f'padding must be an integer, a pair, two pairs, "same" or "valid", got {padding!r}')
        if stride != (1, 1):
            raise ValueError(
                f'padding="same" needs stride 1, got stride {stride}: frameworks disagree on where the zeros go; '
                "write the pads that you mean as ((top, bottom), (left, right))"
            )
        top, left = (d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
        bottom, right = dilation[0] * (kernel[0] - 1) - top, dilation[1] * (kernel[1] - 1) - left
        return ((top, bottom), (left, right))
    if isinstance(padding, (tuple, list)) and len(padding) == 2 and all(map(_is_pair, padding)):
        vertical, horizontal = padding
        return (
            _checked_pair("padding", vertical, SIDES[0], non_negative_integer),
            _checked_pair("padding", horizontal, SIDES[1], non_negative_integer),
        )
    height, width = _checked_pair("padding", _both_axes(padding), AXES, non_negative_integer)
    return ((height, height), (width, width))
