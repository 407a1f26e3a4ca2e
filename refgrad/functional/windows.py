"""Which pixels a pooling reads, along one axis at a time.

In: kernel, stride, padding, dilation, or the size that an adaptive pooling shall return. Out: `Windows`, one an axis:
where each window starts and ends. No array of activations is looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from refgrad.arguments import positive_integer
from refgrad.geometry import ConvGeometry, IntOrPair, Padding

__all__ = ["AdaptiveGeometry", "OutputSize", "PoolGeometry", "Windows"]

OutputSize: TypeAlias = int | tuple[int | None, int | None] | None
"""One number for both axes, or (height, width); None keeps the size of the input."""

Indices: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The windows along one axis.

    Window o reads the pixels ``starts[o] + t * dilation``, t = 0, ..., taps - 1, as far as they are in [0, ends[o]).

    Parameters
    ----------
    starts, ends : array of int, (outputs,)
        Both rise from window to window; a start may lie in the padding, an end does not.
    taps : int
        How many pixels the longest window reads.
    dilation : int
        The distance of two of them.
    padded_lengths : array of int, (outputs,)
        How many pixels each window covers, padding included.
    """

    starts: Indices
    ends: Indices
    taps: int
    dilation: int
    padded_lengths: Indices

    def pixel(self, tap: int | Indices) -> Indices:
        """Return the pixel that each window reads through one tap, or through a tap of its own."""
        return self.starts + np.asarray(tap, dtype=np.intp) * self.dilation

    def reads(self, tap: int) -> npt.NDArray[np.bool_]:
        """Tell, window by window, whether the tap lies within the input."""
        pixel = self.pixel(tap)
        return (pixel >= 0) & (pixel < self.ends)

    def first_tap(self) -> Indices:
        """Return the first tap of each window that does not lie in the padding before the input."""
        return np.maximum(-(self.starts // self.dilation), 0)

    def lengths(self) -> Indices:
        """Return how many pixels each window covers, padding left out; for windows without dilation."""
        return self.ends - np.maximum(self.starts, 0)


@dataclass(frozen=True, slots=True)
class PoolGeometry:
    """Windows of one size.

    Parameters
    ----------
    reading : ConvGeometry
        The same numbers as those of a convolution with one group.
    ceil_mode : bool
        Whether H' = ceil(...) + 1 in place of floor(...) + 1; a window that would start in the padding after the
        input is left out, as in PyTorch.
    """

    reading: ConvGeometry
    ceil_mode: bool

    @classmethod
    def of(
        cls, kernel_size: IntOrPair, stride: IntOrPair | None, padding: Padding, dilation: IntOrPair, ceil_mode: bool
    ) -> PoolGeometry:
        """Build a geometry from the forms that people write; a stride of None is the size of the kernel.

        Raises
        ------
        TypeError, ValueError
            Where a number is not what it must be, or the padding is more than half of the window: then a window could
            lie in the padding altogether.

        Examples
        --------
        >>> PoolGeometry.of(2, None, 0, 1, False).reading.stride
        (2, 2)
        """
        if not isinstance(ceil_mode, bool):
            raise TypeError(f"ceil_mode must be True or False, got {ceil_mode!r}")
        reading = ConvGeometry.of(
            kernel_size, stride=kernel_size if stride is None else stride, padding=padding, dilation=dilation
        )
        for axis, name in enumerate(("height", "width")):
            extent = reading.dilation[axis] * (reading.kernel_size[axis] - 1) + 1
            if max(reading.padding[axis]) > extent // 2:
                raise ValueError(
                    f"padding must be at most half of the window, along the {name} dilation * (kernel_size - 1) + 1 = "
                    f"{extent}, so at most {extent // 2}, got {reading.padding[axis]}"
                )
        return cls(reading, ceil_mode)

    def windows(self, input_size: tuple[int, int]) -> tuple[Windows, Windows]:
        """Return the windows along the height and the width of an input of (H, W).

        Raises
        ------
        ValueError
            Where the window is larger than the padded input.
        """
        outputs = self.reading.output_size(input_size)
        return self._axis_windows(0, input_size[0], outputs[0]), self._axis_windows(1, input_size[1], outputs[1])

    def _axis_windows(self, axis: int, size: int, outputs: int) -> Windows:
        reading, (before, after) = self.reading, self.reading.padding[axis]
        stride, dilation, taps = reading.stride[axis], reading.dilation[axis], reading.kernel_size[axis]
        extent = dilation * (taps - 1) + 1
        if (
            self.ceil_mode
            and (outputs - 1) * stride + extent < size + before + after
            and outputs * stride < size + before
        ):
            outputs += 1
        starts = np.arange(outputs) * stride - before
        return Windows(
            starts=starts,
            ends=np.minimum(starts + extent, size),
            taps=taps,
            dilation=dilation,
            padded_lengths=np.minimum(starts + extent, size + after) - starts,
        )


@dataclass(frozen=True, slots=True)
class AdaptiveGeometry:
    """Windows that cut an axis of n pixels into m parts: part o reads from floor(o n / m) up to ceil((o + 1) n / m).

    Neighbouring windows overlap where m does not divide n.

    Parameters
    ----------
    output_size : pair of int or None
        (H', W'); None keeps the size of the input.
    """

    output_size: tuple[int | None, int | None]

    @classmethod
    def of(cls, output_size: OutputSize) -> AdaptiveGeometry:
        """Build a geometry from the forms that people write.

        Raises
        ------
        TypeError, ValueError
            Where `output_size` is not made of positive integers and None.

        Examples
        --------
        >>> AdaptiveGeometry.of((1, None)).output_size
        (1, None)
        """
        pair: Any = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
        if len(pair) != 2:
            raise TypeError(
                f"output_size must be an integer, None or a pair (height, width) of them, got {output_size!r}"
            )
        height, width = (
            None if entry is None else positive_integer(f"output_size ({axis})", entry)
            for axis, entry in zip(("height", "width"), pair, strict=True)
        )
        return cls((height, width))

    def windows(self, input_size: tuple[int, int]) -> tuple[Windows, Windows]:
        """Return the windows along the height and the width of an input of (H, W)."""
        height, width = (
            _parts(size, size if parts is None else parts)
            for size, parts in zip(input_size, self.output_size, strict=True)
        )
        return height, width


def _parts(size: int, parts: int) -> Windows:
    bounds = np.arange(parts + 1) * size
    starts, ends = bounds[:-1] // parts, -(-bounds[1:] // parts)
    return Windows(starts, ends, int((ends - starts).max()), 1, ends - starts)
