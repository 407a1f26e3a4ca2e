"""Pooling over windows of one size, or of the size that makes a wanted output: maxima and means.

In: (B, C, H, W). Out: (B, C, H', W'), as torch.nn.functional has it. What is kept for backward: nothing for a mean; for
a maximum which tap of its window it came from, in the smallest integer dtype that holds the tap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array, float_array, positive_integer
from refgrad.functional.operands import OperandT
from refgrad.functional.windows import AdaptiveGeometry, Indices, OutputSize, PoolGeometry, Windows
from refgrad.geometry import IntOrPair, Padding
from refgrad.tape import Keeper, Primitive

__all__ = ["adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d"]


@dataclass(frozen=True, slots=True, eq=False)
class MaxPoolSaved:
    """Which tap of its window each output came from, counted in row-major order."""

    taps: Array
    geometry: PoolGeometry | AdaptiveGeometry
    input_shape: tuple[int, ...]


def _max_forward(
    keeper: Keeper, x: Array, *, geometry: PoolGeometry | AdaptiveGeometry
) -> tuple[Array, MaxPoolSaved | None]:
    float_array("x", x, axes="B C H W")
    rows, columns = geometry.windows((x.shape[2], x.shape[3]))
    first_row, first_column = rows.first_tap(), columns.first_tap()
    for name, axis, first in (("row", rows, first_row), ("column", columns, first_column)):
        empty = np.flatnonzero(axis.pixel(first) >= axis.ends)
        if empty.size:
            raise ValueError(
                f"every window must cover a pixel of the input, but output {name} {int(empty[0])} covers only padding: "
                f"its taps are {axis.dilation} apart; use less padding or less dilation"
            )
    shape = (*x.shape[:2], len(rows.starts), len(columns.starts))
    output = np.full(shape, -np.inf, dtype=x.dtype)
    taps = np.empty(shape, dtype=np.min_scalar_type(rows.taps * columns.taps - 1))
    taps[...] = first_row[:, np.newaxis] * columns.taps + first_column  # where all is -inf, the first pixel counts
    has_nan = np.isnan(np.max(x))
    for i in range(rows.taps):
        for j in range(columns.taps):
            candidate = _gather(_gather(x, rows.pixel(i), -2), columns.pixel(j), -1)
            better = candidate > output
            if has_nan:
                better |= np.isnan(candidate)
            better &= rows.reads(i)[:, np.newaxis] & columns.reads(j)
            np.copyto(output, candidate, where=better)
            np.copyto(taps, taps.dtype.type(i * columns.taps + j), where=better)
    saved = MaxPoolSaved(keeper.keep(taps, own=True), geometry, x.shape) if "x" in keeper.needs else None
    return output, saved


def _gather(x: Array, pixels: Indices, axis: int) -> Array:
    """Return pixels along one axis, the nearest in place of those outside; a view where they are evenly spaced."""
    inside = np.clip(pixels, 0, x.shape[axis] - 1)
    steps = np.diff(inside)
    evenly = len(steps) > 0 and steps[0] > 0 and np.all(steps == steps[0])
    pixel = slice(int(inside[0]), int(inside[-1]) + 1, int(steps[0])) if evenly else inside
    read: Array = x[_at(pixel, axis)]
    return read


def _at(pixels: Indices | slice, axis: int) -> tuple[Any, ...]:
    """Return the index that takes `pixels` along the last axis (-1), or along the last but one (-2)."""
    return (..., pixels) if axis == -1 else (..., pixels, slice(None))


def _max_grad_x(saved: MaxPoolSaved, grad_output: Array) -> Array:
    batch, channels, height, width = saved.input_shape
    rows, columns = saved.geometry.windows((height, width))
    row_tap, column_tap = np.divmod(saved.taps.astype(np.intp), columns.taps)
    row = rows.starts[:, np.newaxis] + row_tap * rows.dilation
    column = columns.starts + column_tap * columns.dilation
    planes = np.arange(batch * channels).reshape(batch, channels, 1, 1)
    grad_x = np.zeros(saved.input_shape, dtype=grad_output.dtype)
    np.add.at(grad_x.reshape(-1), ((planes * height + row) * width + column).reshape(-1), grad_output.reshape(-1))
    return grad_x


_max_pool2d = Primitive("max_pool2d", _max_forward, {"x": _max_grad_x})
_adaptive_max_pool2d = Primitive("adaptive_max_pool2d", _max_forward, {"x": _max_grad_x})


def max_pool2d(
    x: OperandT,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
) -> OperandT:
    """Return the maximum of each window; padding is -inf, so it never wins.

    Where several entries of a window share the maximum, the first in row-major order has it, and all of the gradient
    with it. A NaN wins over every number, and a later NaN over an earlier one. Backward keeps one byte an output, for
    windows of up to 256 pixels.

    Parameters
    ----------
    x : array or Tensor (B, C, H, W)
        What is pooled.
    kernel_size : int or pair of int
        (k_h, k_w); one number for both.
    stride : int or pair of int, optional
        (s_h, s_w); that of `kernel_size` where left out.
    padding : int, pair or two pairs
        As for a convolution, but no more than half of the window.
    dilation : int or pair of int
        The distance of two taps.
    ceil_mode : bool
        Whether a last window may reach beyond the padding: H' = ceil(...) + 1.

    Returns
    -------
    array or Tensor (B, C, H', W')
        The maxima.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array of four axes, a number is not what it must be, the window is larger than
        the padded input, or a window covers nothing but padding.

    Examples
    --------
    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    return cast(OperandT, _max_pool2d(x, geometry=PoolGeometry.of(kernel_size, stride, padding, dilation, ceil_mode)))


def adaptive_max_pool2d(x: OperandT, output_size: OutputSize) -> OperandT:
    """Return the maxima of windows that cut the input into (H', W') parts.

    Part o of an axis of n pixels reads from floor(o n / m) up to ceil((o + 1) n / m). Ties as in `max_pool2d`.

    Parameters
    ----------
    x : array or Tensor (B, C, H, W)
        What is pooled.
    output_size : int, None or a pair of them
        (H', W'); None keeps the size of the input.

    Returns
    -------
    array or Tensor (B, C, H', W')
        The maxima.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array of four axes, or `output_size` is not made of positive integers and None.

    Examples
    --------
    >>> adaptive_max_pool2d(np.arange(6.0).reshape(1, 1, 2, 3), (1, 2))
    array([[[[4., 5.]]]])
    """
    return cast(OperandT, _adaptive_max_pool2d(x, geometry=AdaptiveGeometry.of(output_size)))


@dataclass(frozen=True, slots=True)
class AvgPoolSaved:
    """Shapes alone: a mean is linear, its derivative looks at no activation."""

    geometry: PoolGeometry | AdaptiveGeometry
    input_size: tuple[int, int]
    count_include_pad: bool
    divisor_override: int | None


def _avg_forward(
    keeper: Keeper,
    x: Array,
    *,
    geometry: PoolGeometry | AdaptiveGeometry,
    count_include_pad: bool,
    divisor_override: int | None,
) -> tuple[Array, AvgPoolSaved]:
    float_array("x", x, axes="B C H W")
    saved = AvgPoolSaved(geometry, (x.shape[2], x.shape[3]), count_include_pad, divisor_override)
    rows, columns = geometry.windows(saved.input_size)
    sums = _window_sums(x, np.maximum(rows.starts, 0), rows.ends, -2)
    sums = _window_sums(sums, np.maximum(columns.starts, 0), columns.ends, -1)
    return sums / _divisor(rows, columns, saved, x.dtype), saved


def _avg_grad_x(saved: AvgPoolSaved, grad_output: Array) -> Array:
    rows, columns = saved.geometry.windows(saved.input_size)
    share = grad_output / _divisor(rows, columns, saved, grad_output.dtype)
    share = _window_sums(share, *_readers(columns, saved.input_size[1]), -1)
    return _window_sums(share, *_readers(rows, saved.input_size[0]), -2)


def _window_sums(x: Array, starts: Indices, ends: Indices, axis: int) -> Array:
    """Return the sums of x[starts[o]:ends[o]] along one axis."""
    shape = list(x.shape)
    shape[axis] = len(starts)
    sums = np.zeros(shape, dtype=x.dtype)
    for step in range(int((ends - starts).max())):
        alive = np.flatnonzero(starts + step < ends)
        sums[_at(alive, axis)] += x[_at(starts[alive] + step, axis)]
    return sums


def _readers(windows: Windows, size: int) -> tuple[Indices, Indices]:
    """Return, for each pixel, the first window that reads it and the one after the last.

    Windows rise, so those in between read it too: the transpose of a sum over windows is a sum over windows.
    """
    pixels = np.arange(size)
    return (
        np.searchsorted(windows.ends, pixels, side="right"),
        np.searchsorted(windows.starts, pixels, side="right"),
    )


def _divisor(rows: Windows, columns: Windows, saved: AvgPoolSaved, dtype: npt.DTypeLike) -> Array:
    """Return what each sum is divided by, (H', W')."""
    if saved.divisor_override is not None:
        return np.full((1, 1), saved.divisor_override, dtype=dtype)
    if saved.count_include_pad:
        return np.multiply.outer(rows.padded_lengths, columns.padded_lengths).astype(dtype)
    return np.multiply.outer(rows.lengths(), columns.lengths()).astype(dtype)


_avg_pool2d = Primitive("avg_pool2d", _avg_forward, {"x": _avg_grad_x})
_adaptive_avg_pool2d = Primitive("adaptive_avg_pool2d", _avg_forward, {"x": _avg_grad_x})


def avg_pool2d(
    x: OperandT,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> OperandT:
    """Return the mean of each window, padding being zero.

    Backward keeps nothing.

    Parameters
    ----------
    x : array or Tensor (B, C, H, W)
        What is pooled.
    kernel_size : int or pair of int
        (k_h, k_w); one number for both.
    stride : int or pair of int, optional
        (s_h, s_w); that of `kernel_size` where left out.
    padding : int, pair or two pairs
        As for a convolution, but no more than half of the window.
    ceil_mode : bool
        Whether a last window may reach beyond the padding, H' = ceil(...) + 1; what lies beyond is never counted.
    count_include_pad : bool
        Whether the padding counts when the sum is divided.
    divisor_override : int, optional
        What to divide every sum by instead.

    Returns
    -------
    array or Tensor (B, C, H', W')
        The means.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array of four axes, a number is not what it must be, or the window is larger than
        the padded input.

    Examples
    --------
    >>> avg_pool2d(np.ones((1, 1, 2, 2)), 2, stride=1, padding=1)[0, 0]
    array([[0.25, 0.5 , 0.25],
           [0.5 , 1.  , 0.5 ],
           [0.25, 0.5 , 0.25]])
    """
    if not isinstance(count_include_pad, bool):
        raise TypeError(f"count_include_pad must be True or False, got {count_include_pad!r}")
    if divisor_override is not None:
        positive_integer("divisor_override", divisor_override)
    geometry = PoolGeometry.of(kernel_size, stride, padding, 1, ceil_mode)
    return cast(
        OperandT,
        _avg_pool2d(x, geometry=geometry, count_include_pad=count_include_pad, divisor_override=divisor_override),
    )


def adaptive_avg_pool2d(x: OperandT, output_size: OutputSize) -> OperandT:
    """Return the means of windows that cut the input into (H', W') parts.

    Part o of an axis of n pixels reads from floor(o n / m) up to ceil((o + 1) n / m). Backward keeps nothing.

    Parameters
    ----------
    x : array or Tensor (B, C, H, W)
        What is pooled.
    output_size : int, None or a pair of them
        (H', W'); None keeps the size of the input.

    Returns
    -------
    array or Tensor (B, C, H', W')
        The means.

    Raises
    ------
    TypeError, ValueError
        Where `x` is not a float array of four axes, or `output_size` is not made of positive integers and None.

    Examples
    --------
    >>> adaptive_avg_pool2d(np.arange(6.0).reshape(1, 1, 2, 3), (1, 2))
    array([[[[2., 3.]]]])
    """
    geometry = AdaptiveGeometry.of(output_size)
    return cast(OperandT, _adaptive_avg_pool2d(x, geometry=geometry, count_include_pad=False, divisor_override=None))
