"""What an input is there to show, as flags that follow from its numbers: the class of mistake that it can reveal.

In: a case, named or generated. Out: the names of its flags, each of which `FLAGS` explains. A flag is found and not
written down, so that a generated case, a shrunk one and one of somebody else's have theirs as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.cases import AnyCase
from refgrad.oracle.ladder.cases import each_array
from refgrad.oracle.operations import OPERATIONS
from refgrad.rounding import unit_roundoff

__all__ = ["FLAGS", "Flag", "flags_of"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Attributes
    ----------
    kind : str
        The class of mistake: "geometry", "channels", "shapes", "rank", "subspace", "range", "precision" or "memory".
    description : str
        What is special about the input.
    effect : str
        What an implementation does that fails on it.
    theory : tuple of str
        The definitions and theorems that decide what is right.
    """

    kind: str
    description: str
    effect: str
    theory: tuple[str, ...] = ()


FLAGS: Final[Mapping[str, Flag]] = {
    "Plain": Flag("geometry", "nothing is special", "is wrong everywhere"),
    "Padding": Flag("geometry", "some edge is padded", "ignores or crops the padding", ("D6",)),
    "UnequalPadding": Flag("geometry", "the four pads are not one number", "mixes up edges or axes", ("D6",)),
    "Stride": Flag("geometry", "a stride is more than 1", "ignores the stride, or mixes up its axes", ("D6",)),
    "Leftover": Flag("geometry", "the stride never reaches the last rows or columns", "gives them a gradient", ("D6",)),
    "Dilation": Flag("geometry", "a dilation is more than 1", "ignores it, or takes it for the stride", ("D6",)),
    "StrideEqualsDilation": Flag(
        "geometry", "stride and dilation are equal and more than 1", "takes a shortcut that holds for 1", ("D6",)
    ),
    "OblongKernel": Flag("geometry", "the kernel is not square", "mixes up the axes of the kernel", ("D6",)),
    "EvenKernel": Flag("geometry", "the kernel has an even length", "centres the kernel", ("D6",)),
    "PointwiseKernel": Flag("geometry", "the kernel is 1 x 1", "has a path of its own for it", ("D6",)),
    "Groups": Flag("channels", "there are several groups", "ignores groups, or mixes up their order", ("D6", "T14")),
    "Depthwise": Flag("channels", "every channel is a group", "has a path of its own for it", ("D6", "T14")),
    "BatchOfOne": Flag("shapes", "there is one sample", "squeezes or broadcasts the batch"),
    "OneOutputChannel": Flag("shapes", "there is one output channel", "squeezes or broadcasts it"),
    "LengthOne": Flag("shapes", "an axis of the activation has length 1", "squeezes or broadcasts it"),
    "Vector": Flag("shapes", "the tensor has one axis", "needs a matrix", ("D3",)),
    "ManyAxes": Flag("shapes", "the tensor has more than four axes", "counts to four", ("D3",)),
    "TallUnfolding": Flag("shapes", "an unfolding has more rows than columns", "takes unfoldings for wide", ("D3",)),
    "RankTie": Flag("rank", "the explained variance is reached exactly", "decides by its rounding error", ("D1",)),
    "EverythingKept": Flag("rank", "the explained variance is 1", "drops what rounding calls small", ("D1",)),
    "AlmostNothingKept": Flag("rank", "the explained variance is below 1/1000", "keeps no column at all", ("D1",)),
    "RankOne": Flag("rank", "one singular value of an unfolding is not 0", "keeps noise", ("D1",)),
    "ZeroEnergy": Flag("rank", "the activation is 0", "divides by its energy", ("D1",)),
    "TiedCut": Flag("subspace", "equal singular values at the cut", "compares or needs a subspace", ("D3", "T7")),
    "TiedValues": Flag("subspace", "equal singular values", "compares singular vectors", ("D3",)),
    "SteepSpectrum": Flag("subspace", "singular values span five decimals", "loses the small ones", ("D3", "T15")),
    "DeadSlice": Flag("range", "a slice of the activation is 0", "divides by the norm of a slice"),
    "Large": Flag("range", "squares of entries come near overflow", "squares without scaling", ("T15",)),
    "Small": Flag("range", "squares of entries come near underflow", "squares without scaling", ("T15",)),
    "Integers": Flag(
        "precision", "all entries but the bias are small integers", "rounds where nothing has to be", ("T15",)
    ),
    "LongSums": Flag("precision", "a sum has hundreds of terms", "accumulates in too short a dtype", ("T15",)),
    "Float32": Flag("precision", "the arrays are float32", "computes or returns another dtype", ("T15",)),
    "MemoryLayout": Flag("memory", "arrays are not C-contiguous", "takes memory for contiguous"),
    "ReadOnly": Flag("memory", "arrays are read-only", "writes into its input"),
}
"""Every flag by its name."""

SMALLEST_STEEP: Final = 100_000
LARGEST_INTEGER: Final = 64
LONG: Final = 300


def flags_of(case: AnyCase) -> tuple[str, ...]:
    """Return the flags of a case, in the order of `FLAGS`.

    Parameters
    ----------
    case : Case or LadderCase
        Any.

    Examples
    --------
    >>> from refgrad.oracle import find_case
    >>> flags_of(find_case("depthwise"))
    ('Padding', 'UnequalPadding', 'Groups', 'Depthwise')
    """
    found = {name for rule in (_geometry, _shapes, _spectra, _values) for name, holds in rule(case).items() if holds}
    return tuple(name for name in FLAGS if name in found) or ("Plain",)


def _geometry(case: AnyCase) -> dict[str, bool]:
    attributes = case.attributes
    if "stride" not in attributes:
        return {}
    stride, dilation, pads = attributes["stride"], attributes["dilation"], attributes["padding"]
    groups = int(attributes["groups"])
    kernel = attributes["kernel_size"] if "kernel_size" in attributes else case.parts["weight"].shape[2:]
    batch, channels, *size = _shape(case)
    rooms = [n + sum(p) - d * (k - 1) - 1 for n, p, d, k in zip(size, pads, dilation, kernel, strict=True)]
    flat = [number for pair in pads for number in pair]
    return {
        "Padding": any(flat),
        "UnequalPadding": len(set(flat)) > 1,
        "Stride": max(stride) > 1,
        "Leftover": any(room % step for room, step in zip(rooms, stride, strict=True)),
        "Dilation": max(dilation) > 1,
        "StrideEqualsDilation": tuple(stride) == tuple(dilation) and max(stride) > 1,
        "OblongKernel": kernel[0] != kernel[1],
        "EvenKernel": any(length % 2 == 0 for length in kernel),
        "PointwiseKernel": max(kernel) == 1,
        "Groups": groups > 1,
        "Depthwise": groups == channels > 1,
        "BatchOfOne": batch == 1,
        "OneOutputChannel": case.parts["grad_output"].shape[1] == 1,
    }


def _shape(case: AnyCase) -> tuple[int, ...]:
    """Return the shape of the tensor that is decomposed, or rebuilt."""
    if "factors" in case.parts:
        return tuple(len(factor) for factor in case.parts["factors"])
    return tuple(next(iter(case.parts.values())).shape)


def _shapes(case: AnyCase) -> dict[str, bool]:
    shape = _shape(case)
    if case.operation == "rank":
        return {"LengthOne": shape == (1,)}
    return {
        "LengthOne": 1 in shape,
        "Vector": len(shape) == 1,
        "ManyAxes": len(shape) > 4,
        "TallUnfolding": len(shape) > 1 and any(length * length > math.prod(shape) for length in shape),
    }


def _spectra(case: AnyCase) -> dict[str, bool]:
    spectra = _singular_values(case)
    result = dict.fromkeys(("TiedCut", "TiedValues", "RankOne", "RankTie", "SteepSpectrum", "ZeroEnergy"), False)
    decides = "explained_variance" in OPERATIONS[case.operation].attributes
    for values in spectra:
        largest = float(values.max(initial=0.0))
        if largest == 0.0:
            result["ZeroEnergy"] = True
            continue
        close = 8 * len(values) * unit_roundoff(case.dtype)
        relative = np.sort(values / largest)[::-1]
        nonzero = relative[relative > close]
        tied = np.append(np.diff(nonzero) >= -close, False)
        kept = np.cumsum(relative**2) / np.sum(relative**2)
        result["RankOne"] |= len(nonzero) == 1
        result["TiedValues"] |= bool(tied.any())
        result["SteepSpectrum"] |= bool(len(nonzero) > 1 and nonzero[0] > SMALLEST_STEEP * nonzero[-1])
        if decides and case.explained_variance < 1:
            share = float(case.explained_variance)
            cut = int(np.searchsorted(kept, share))
            result["RankTie"] |= bool(np.min(np.abs(kept - share)) <= close)
            result["TiedCut"] |= cut < len(tied) and bool(tied[cut])
    if decides:
        result["EverythingKept"] = case.explained_variance == 1
        result["AlmostNothingKept"] = case.explained_variance * 1000 < 1
    return result


def _singular_values(case: AnyCase) -> list[Array]:
    """Return the spectra on which a rank or a subspace is decided: of every unfolding, scaled so that squares fit."""
    if "core" in case.parts or case.operation == "unfold":
        return []
    tensor = next(iter(case.parts.values())).astype(np.float64)
    largest = float(np.abs(tensor).max(initial=0.0))
    tensor = tensor / largest if largest > 0.0 else tensor
    if case.operation == "rank":
        return [tensor]
    modes = range(1 if case.operation == "svd" else tensor.ndim)
    unfolded = [np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1) for mode in modes]
    return [np.linalg.svd(matrix, compute_uv=False) for matrix in unfolded]


def _values(case: AnyCase) -> dict[str, bool]:
    arrays = [array for _, _, array in each_array(case.parts)]
    magnitudes = np.concatenate([np.abs(array[array != 0.0]).ravel() for array in arrays])
    limit = np.ldexp(1.0, 40 if case.dtype == np.float32 else 400)
    first: Array = next(iter(case.parts.values())) if "factors" not in case.parts else np.ones(1)
    summed = [array for name, _, array in each_array(case.parts) if name != "bias"]  # which is added to one sum only
    largest = max(_largest(array) for array in summed)
    return {
        "DeadSlice": bool(first.any()) and any(_has_dead_slice(first, axis) for axis in range(first.ndim)),
        "Large": bool((magnitudes > limit).any()),
        "Small": any(0.0 < _largest(array) < 1.0 / limit for array in arrays),
        "Integers": bool(largest <= LARGEST_INTEGER and all(_whole(array) for array in summed)),
        "LongSums": max(array.size for array in arrays) // max(1, min(_shape(case))) >= LONG,
        "Float32": case.dtype == np.float32,
        "MemoryLayout": case.layout not in ("C", "read-only"),
        "ReadOnly": case.layout == "read-only",
    }


def _largest(array: Array) -> float:
    return float(np.abs(array).max(initial=0.0))


def _whole(array: Array) -> bool:
    return bool((array == np.round(array)).all())


def _has_dead_slice(array: Array, axis: int) -> bool:
    if array.ndim < 2 or array.shape[axis] < 2:
        return False
    return bool((~array.any(axis=tuple(other for other in range(array.ndim) if other != axis))).any())
