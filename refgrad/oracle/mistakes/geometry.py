"""Mistakes in where a convolution reads: padding, stride, dilation and groups, in the forward pass and both gradients.

In: the parts of a case. Out: what comes of reading elsewhere. The convolution here is written for this purpose alone:
it takes for each axis where a tap reads, and for each output channel which input channels, whatever these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.mistakes.base import ArrayMistake
from refgrad.oracle.mistakes.parts import Parts

__all__ = ["Reading", "geometry_mistakes", "group_mistakes", "read_grad_input", "read_grad_weight", "read_output"]


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a convolution reads: padding is ((top, bottom), (left, right)), channels[o] the inputs of output o."""

    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    channels: Array

    @classmethod
    def right(cls, parts: Parts) -> Reading:
        """Return where the convolution of a case reads."""
        geometry = parts.case.geometry
        out_channels, per_group = parts.weight.shape[:2]
        first = np.arange(out_channels) // (out_channels // geometry.groups) * per_group
        return cls(geometry.stride, geometry.padding, geometry.dilation, first[:, np.newaxis] + np.arange(per_group))

    def pixels(self, axis: int, positions: int, taps: int, size: int) -> tuple[Array, Array]:
        """Return which pixel each (tap, position) reads along an axis, and whether it lies inside."""
        at = np.add.outer(np.arange(taps) * self.dilation[axis], np.arange(positions) * self.stride[axis])
        at = at - self.padding[axis][0]
        inside = (at >= 0) & (at < size)
        return np.where(inside, at, 0), inside


def _patches(x: Array, reading: Reading, kernel: tuple[int, int], size: tuple[int, int]) -> Array:
    """Return (B, O, M, k_h, k_w, H', W'), what every output channel reads of each of its M input channels."""
    rows, rows_inside = reading.pixels(0, size[0], kernel[0], x.shape[2])
    columns, columns_inside = reading.pixels(1, size[1], kernel[1], x.shape[3])
    read = x[:, :, rows[:, np.newaxis, :, np.newaxis], columns[np.newaxis, :, np.newaxis, :]]
    read = read * (rows_inside[:, np.newaxis, :, np.newaxis] & columns_inside[np.newaxis, :, np.newaxis, :])
    return read[:, reading.channels]


def read_output(x: Array, weight: Array, bias: Array, reading: Reading, size: tuple[int, int]) -> Array:
    """Return the forward pass of a reading, with `size` output positions."""
    patches = _patches(x, reading, weight.shape[2:], size)
    result: Array = np.einsum("bocuvij,ocuv->boij", patches, weight)
    return result + bias[:, np.newaxis, np.newaxis]


def read_grad_weight(activation: Array, grad_output: Array, reading: Reading, kernel: tuple[int, int]) -> Array:
    """Return the weight gradient of a reading."""
    patches = _patches(activation, reading, kernel, grad_output.shape[2:])
    result: Array = np.einsum("bocuvij,boij->ocuv", patches, grad_output)
    return result


def read_grad_input(grad_output: Array, weight: Array, reading: Reading, shape: tuple[int, int, int, int]) -> Array:
    """Return the input gradient of a reading: what was read is written to."""
    rows, rows_inside = reading.pixels(0, grad_output.shape[2], weight.shape[2], shape[2])
    columns, columns_inside = reading.pixels(1, grad_output.shape[3], weight.shape[3], shape[3])
    inside = rows_inside[:, np.newaxis, :, np.newaxis] & columns_inside[np.newaxis, :, np.newaxis, :]
    terms = np.einsum("boij,ocuv->ocuvijb", grad_output, weight) * inside[np.newaxis, np.newaxis, ..., np.newaxis]
    result = np.zeros((shape[1], shape[2], shape[3], shape[0]))
    channels = reading.channels[:, :, np.newaxis, np.newaxis, np.newaxis, np.newaxis]
    at = np.broadcast_arrays(channels, rows[:, np.newaxis, :, np.newaxis], columns[np.newaxis, :, np.newaxis, :])
    np.add.at(result, tuple(at), terms)
    return np.moveaxis(result, -1, 0)


def _swapped(pair: tuple[int, int]) -> tuple[int, int]:
    return pair[1], pair[0]


def _one_where_equal(pair: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return (1, 1) if pair == other else pair


def _one_on_axes_where_equal(pair: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return (1 if pair[0] == other[0] else pair[0], 1 if pair[1] == other[1] else pair[1])


def _cropped(parts: Parts, reading: Reading) -> Reading:
    """Crop each pad to half the kernel."""
    limits = [k // 2 for k in parts.weight.shape[2:]]
    pads = [(min(p[0], limit), min(p[1], limit)) for p, limit in zip(reading.padding, limits, strict=True)]
    return replace(reading, padding=(pads[0], pads[1]))


READINGS: tuple[tuple[str, str, Callable[[Parts, Reading], Reading]], ...] = (
    (
        "padding of the height for the width",
        "the padding of the height is used for the width as well",
        lambda _, r: replace(r, padding=(r.padding[0], r.padding[0])),
    ),
    (
        "padding of the width for the height",
        "the padding of the width is used for the height as well",
        lambda _, r: replace(r, padding=(r.padding[1], r.padding[1])),
    ),
    (
        "padding axes swapped",
        "the paddings of height and width are swapped",
        lambda _, r: replace(r, padding=(r.padding[1], r.padding[0])),
    ),
    (
        "padding sides swapped",
        "the paddings before and after an axis are swapped",
        lambda _, r: replace(r, padding=(_swapped(r.padding[0]), _swapped(r.padding[1]))),
    ),
    ("padding ignored", "the padding is ignored", lambda _, r: replace(r, padding=((0, 0), (0, 0)))),
    ("padding cropped", "the padding is cropped to half of the kernel", _cropped),
    (
        "padding halved",
        "the two pads of an axis are averaged",
        lambda _, r: replace(r, padding=((sum(r.padding[0]) // 2,) * 2, (sum(r.padding[1]) // 2,) * 2)),
    ),
    (
        "stride ignored where it equals the dilation",
        "the stride is ignored when it equals the dilation",
        lambda _, r: replace(r, stride=_one_where_equal(r.stride, r.dilation)),
    ),
    (
        "stride ignored on an axis where it equals the dilation",
        "the stride of an axis is ignored when it equals that axis's dilation",
        lambda _, r: replace(r, stride=_one_on_axes_where_equal(r.stride, r.dilation)),
    ),
    (
        "dilation ignored where it equals the stride",
        "the dilation is ignored when it equals the stride",
        lambda _, r: replace(r, dilation=_one_where_equal(r.dilation, r.stride)),
    ),
    (
        "dilation ignored on an axis where it equals the stride",
        "the dilation of an axis is ignored when it equals that axis's stride",
        lambda _, r: replace(r, dilation=_one_on_axes_where_equal(r.dilation, r.stride)),
    ),
    ("stride ignored", "the stride is ignored", lambda _, r: replace(r, stride=(1, 1))),
    (
        "stride of the height for the width",
        "the stride of the height is used for the width as well",
        lambda _, r: replace(r, stride=(r.stride[0], r.stride[0])),
    ),
    (
        "stride axes swapped",
        "the strides of height and width are swapped",
        lambda _, r: replace(r, stride=_swapped(r.stride)),
    ),
    ("dilation ignored", "the dilation is ignored", lambda _, r: replace(r, dilation=(1, 1))),
    (
        "dilation of the height for the width",
        "the dilation of the height is used for the width as well",
        lambda _, r: replace(r, dilation=(r.dilation[0], r.dilation[0])),
    ),
    (
        "dilation axes swapped",
        "the dilations of height and width are swapped",
        lambda _, r: replace(r, dilation=_swapped(r.dilation)),
    ),
    (
        "stride and dilation swapped",
        "stride and dilation are swapped",
        lambda _, r: replace(r, stride=r.dilation, dilation=r.stride),
    ),
)
"""Name, cause, and how the reading is changed."""


def geometry_mistakes() -> Iterator[ArrayMistake]:
    """Yield every wrong reading for the weight gradient, the input gradient and the forward pass."""
    for name, cause, change in READINGS:
        yield ArrayMistake(f"grad_weight: {name}", "grad_weight", cause, "grad_weight", _grad_weight(change))
    for name, cause, change in READINGS:
        yield ArrayMistake(f"grad_input: {name}", "grad_input", cause, "grad_input", _grad_input(change))
    for name, cause, change in READINGS:
        yield ArrayMistake(f"forward: {name}", "forward", cause, "output", _output(change))
    for name, cause, change in READINGS:
        if name != "padding sides swapped":  # the size is the same
            yield ArrayMistake(f"forward, of another size: {name}", "forward", cause, "output", _resized(change))


Change = Callable[[Parts, Reading], Reading]


def _grad_weight(change: Change) -> Callable[[Parts], Array]:
    def wrong(parts: Parts) -> Array:
        reading = change(parts, Reading.right(parts))
        return read_grad_weight(parts.activation, parts.grad_output, reading, parts.weight.shape[2:])

    return wrong


def _grad_input(change: Change) -> Callable[[Parts], Array]:
    def wrong(parts: Parts) -> Array:
        return read_grad_input(parts.grad_output, parts.weight, change(parts, Reading.right(parts)), parts.x.shape)

    return wrong


def _output(change: Change) -> Callable[[Parts], Array]:
    def wrong(parts: Parts) -> Array:
        reading = change(parts, Reading.right(parts))
        return read_output(parts.x, parts.weight, parts.bias, reading, parts.grad_output.shape[2:])

    return wrong


def _resized(change: Change) -> Callable[[Parts], Array | None]:
    """Return the forward pass of the size that the wrong attributes give; None where the kernel does not fit."""

    def wrong(parts: Parts) -> Array | None:
        reading = change(parts, Reading.right(parts))
        height, width = (
            (n + sum(pads) - d * (k - 1) - 1) // s + 1
            for n, pads, d, k, s in zip(
                parts.x.shape[2:],
                reading.padding,
                reading.dilation,
                parts.weight.shape[2:],
                reading.stride,
                strict=True,
            )
        )
        if height < 1 or width < 1:
            return None
        return read_output(parts.x, parts.weight, parts.bias, reading, (height, width))

    return wrong


def _first_group(parts: Parts) -> Array:
    return np.broadcast_to(np.arange(parts.weight.shape[1]), parts.weight.shape[:2])


def _interleaved_inputs(parts: Parts) -> Array:
    out_channels, per_group = parts.weight.shape[:2]
    group: Array = (np.arange(out_channels) // (out_channels // parts.case.groups))[:, np.newaxis]
    result: Array = group + np.arange(per_group) * parts.case.groups
    return result


def _interleaved_outputs(parts: Parts) -> Array:
    out_channels, per_group = parts.weight.shape[:2]
    group = np.arange(out_channels) % parts.case.groups
    channels: Array = np.add.outer(group * per_group, np.arange(per_group))
    return channels


def _next_group(parts: Parts) -> Array:
    channels: Array = (Reading.right(parts).channels + parts.weight.shape[1]) % (
        parts.weight.shape[1] * parts.case.groups
    )
    return channels


CHANNELS: tuple[tuple[str, str, Callable[[Parts], Array]], ...] = (
    (
        "groups ignored: first group",
        "the groups are ignored: every group reads the channels of the first",
        _first_group,
    ),
    (
        "groups interleaved over the inputs",
        "a group's input channels are taken one in every `groups`, not next to each other",
        _interleaved_inputs,
    ),
    (
        "groups interleaved over the outputs",
        "a group's output channels are taken one in every `groups`, not next to each other",
        _interleaved_outputs,
    ),
    ("the next group", "every group reads the channels of the group after it", _next_group),
)
"""Name, cause, and which input channels (O, C / groups) every output channel reads."""


def group_mistakes() -> Iterator[ArrayMistake]:
    """Yield the ways of getting groups wrong."""
    for name, cause, channels in CHANNELS:
        change = _rewired(channels)
        yield ArrayMistake(f"grad_weight: {name}", "grad_weight", cause, "grad_weight", _grad_weight(change))
        yield ArrayMistake(f"grad_input: {name}", "grad_input", cause, "grad_input", _grad_input(change))
        yield ArrayMistake(f"forward: {name}", "forward", cause, "output", _output(change))
    all_channels = "the groups are ignored: every output channel reads all input channels"
    yield ArrayMistake("grad_weight: groups ignored: all channels", "grad_weight", all_channels, "grad_weight", _full)
    yield ArrayMistake(
        "grad_weight: groups summed", "grad_weight", "the gradients of the groups are added up", "grad_weight", _summed
    )
    yield ArrayMistake(
        "grad_input: groups ignored: all channels", "grad_input", all_channels, "grad_input", _tiled_input
    )
    yield ArrayMistake("forward: groups ignored: all channels", "forward", all_channels, "output", _tiled_output)


def _rewired(channels: Callable[[Parts], Array]) -> Change:
    def change(parts: Parts, reading: Reading) -> Reading:
        return replace(reading, channels=channels(parts))

    return change


def _everything(parts: Parts) -> Reading:
    inputs = parts.weight.shape[1] * parts.case.groups
    channels = np.broadcast_to(np.arange(inputs), (parts.weight.shape[0], inputs))
    return replace(Reading.right(parts), channels=channels)


def _full(parts: Parts) -> Array:
    return read_grad_weight(parts.activation, parts.grad_output, _everything(parts), parts.weight.shape[2:])


def _summed(parts: Parts) -> Array:
    full = _full(parts)
    result: Array = full.reshape(len(full), parts.case.groups, -1, *full.shape[2:]).sum(axis=1)
    return result


def _tiled_output(parts: Parts) -> Array:
    tiled = np.tile(parts.weight, (1, parts.case.groups, 1, 1))
    return read_output(parts.x, tiled, parts.bias, _everything(parts), parts.grad_output.shape[2:])


def _tiled_input(parts: Parts) -> Array:
    tiled = np.tile(parts.weight, (1, parts.case.groups, 1, 1))
    return read_grad_input(parts.grad_output, tiled, _everything(parts), parts.x.shape)
