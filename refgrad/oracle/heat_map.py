"""Where in an array the error sits, as a picture: a heat map of measured over allowed, in SVG for a page.

In: a failure whose verdict compared an array. Out: a figure in HTML, with a legend; tiles of tiles where the array has
more than two axes.
"""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from refgrad.arguments import Array
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.report import Failure
from refgrad.oracle.verdicts import Verdict

__all__ = ["SHADES", "escaped", "picture"]

DRAWN = 2500
"""At most so many entries of an array are drawn."""

LONGEST = 100
"""At most so many along one axis."""

SHADES = 6
"""How many colours tell how many times over an entry is."""

NOT_FINITE = "over-inf"
"""The class of an entry whose measured over allowed is not finite."""

NOT_SHOWN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Control characters, those that reverse the direction of text among them, and what UTF-8 cannot hold."""

LIKE: Final = {
    "forward": "grad_output",
    "grad_input": "x",
    "grad_bias": "bias",
    "grad_weight": "weight",
    "weight": "weight",
    "bias": "bias",
    "weight_velocity": "weight",
    "bias_velocity": "bias",
    "reconstruction": "x",
}
"""Row -> the argument whose axes its array has."""


def escaped(text: str) -> str:
    """Escape text for a page, and replace what should not be shown."""
    return html.escape(NOT_SHOWN.sub("\N{REPLACEMENT CHARACTER}", text))


@dataclass(frozen=True, slots=True)
class _Scale:
    """Which colour an entry has: shades of one decade or more each, from the least to the worst entry that is over.

    Parameters
    ----------
    lowest : int
        The power of ten at which the first shade begins.
    step : int
        How many decades make a shade.
    shades : int
        How many there are; they are spread over all colours, and the last is always the strongest.
    """

    lowest: int
    step: int
    shades: int

    @classmethod
    def of(cls, ratios: Array) -> _Scale:
        """Return the scale for all entries of an array.

        Examples
        --------
        >>> _Scale.of(np.array([0.5, 20.0, 3e4, np.inf]))
        _Scale(lowest=1, step=1, shades=4)
        """
        over = ratios[np.isfinite(ratios) & (ratios > 1.0)]
        if not over.size:
            return cls(0, 1, 0)
        lowest = math.floor(math.log10(over.min()))
        decades = max(1, math.ceil(math.log10(over.max())) - lowest)
        step = math.ceil(decades / SHADES)
        return cls(lowest, step, math.ceil(decades / step))

    def name(self, ratio: float) -> str:
        """Return the class of an entry."""
        if not math.isfinite(ratio):
            return NOT_FINITE
        if ratio <= 1.0:
            return "within"
        number = (math.floor(math.log10(ratio)) - self.lowest) // self.step
        return self._shade(min(number, self.shades - 1))

    def legend(self) -> list[tuple[str, str]]:
        """Return every shade's class, and what it means.

        Examples
        --------
        >>> _Scale(2, 2, 2).legend()
        [('over-3', '100 to 1e4 times'), ('over-6', '1e4 to 1e6 times')]
        """
        edges = [_power(self.lowest + number * self.step) for number in range(self.shades + 1)]
        return [(self._shade(n), f"{edges[n]} to {edges[n + 1]} times") for n in range(self.shades)]

    def _shade(self, number: int) -> str:
        return f"over-{round((number + 1) * SHADES / self.shades)}"


def _power(exponent: int) -> str:
    return f"{10**exponent:,}" if exponent < 4 else f"1e{exponent}"


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of an array that is drawn: rows and columns of tiles, with rows and columns of entries in each.

    Parameters
    ----------
    shape : tuple of int
        The array's.
    folded : tuple of int
        The array's shape as four axes: tiles down, tiles to the right, entries down, entries to the right.
    ranges : tuple of range
        What is drawn of the four.
    """

    shape: tuple[int, ...]
    folded: tuple[int, ...]
    ranges: tuple[range, ...]

    @classmethod
    def around(cls, shape: tuple[int, ...], worst: tuple[int, ...]) -> _Part:
        """Return the part around the worst entry; all of the array where it is small enough.

        Examples
        --------
        >>> _Part.around((7, 3), (6, 2)).ranges
        (range(0, 1), range(0, 1), range(0, 7), range(0, 3))
        >>> _Part.around((2, 3, 4, 5, 6), (0, 0, 0, 0, 0)).folded
        (6, 4, 5, 6)
        >>> _Part.around((1000,), (999,)).ranges[-1]
        range(900, 1000)
        """
        last = shape[-3:]
        folded = (math.prod(shape[:-3]), *(1,) * (3 - len(last)), *last)
        flat = int(np.ravel_multi_index(worst, shape)) if shape else 0
        middle = tuple(int(i) for i in np.unravel_index(flat, folded))
        longest = LONGEST
        while math.prod(min(size, longest) for size in folded) > DRAWN:
            longest -= 1
        ranges = []
        for size, at in zip(folded, middle, strict=True):
            drawn = min(size, longest)
            start = min(max(0, at - drawn // 2), size - drawn)
            ranges.append(range(start, start + drawn))
        return cls(shape, folded, tuple(ranges))

    @property
    def drawn(self) -> int:
        """How many entries are drawn."""
        return math.prod(map(len, self.ranges))

    def index(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """Return the array's index of a place in the folded array."""
        flat = int(np.ravel_multi_index(place, self.folded))
        return tuple(int(i) for i in np.unravel_index(flat, self.shape)) if self.shape else ()

    def bounds(self) -> str:
        """Return what is drawn as a slice; of more than four axes, with the first ones taken as one."""
        spans = [f"{span.start}:{span.stop}" for span in self.ranges[-len(self.shape) :]]
        folded = " of the array with its leading axes taken as one" if len(self.shape) > 4 else ""
        return f"[{', '.join(spans)}]{folded}"


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where in the picture each entry is, in pixels."""

    part: _Part
    cell: int
    gap: int
    left: int
    top: int

    @classmethod
    def of(cls, part: _Part) -> _Layout:
        """Choose the size of an entry so that the picture fits on a page where it can."""
        _, across, height, width = map(len, part.ranges)
        cell = min(22, max(9, 800 // (across * width + across // 2)))
        gap = 4 + cell // 4 if height * width > 1 else 0
        longest = max((len(_label(part, 0, number)) for number in part.ranges[0]), default=0)
        longest = max(longest, len(str(part.folded[2])))
        return cls(part, cell, gap, left=10 + 7 * longest, top=20)

    def corner(self, place: tuple[int, ...]) -> tuple[int, int]:
        """Return the upper left corner of an entry at a place in the folded array."""
        down, across, row, column = (at - span.start for at, span in zip(place, self.part.ranges, strict=True))
        _, _, height, width = map(len, self.part.ranges)
        x = self.left + across * (width * self.cell + self.gap) + column * self.cell
        return x, self.top + down * (height * self.cell + self.gap) + row * self.cell

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        x, y = self.corner(tuple(span.stop - 1 for span in self.part.ranges))
        return x + self.cell + 5, y + self.cell + 5

    def labels(self) -> list[str]:
        """Return the indices along the left and the upper edge: of tiles where there are several, else of entries."""
        part = self.part
        first = tuple(span.start for span in part.ranges)
        tiles = part.folded[0] * part.folded[1] > 1
        result = []
        for axis, down in ((0 if tiles else 2, True), (1 if tiles else 3, False)):
            if part.folded[axis] == 1:
                continue
            span = part.ranges[axis]
            extent = len(part.ranges[axis + 2]) * self.cell if tiles else self.cell
            pitch = extent + (self.gap if tiles else 0)
            texts = [_label(part, axis, number) for number in span]
            room = 13 if down else 8 + 7 * max(map(len, texts))
            for number, text in list(zip(span, texts, strict=True))[:: math.ceil(room / pitch)]:
                x, y = self.corner((*first[:axis], number, *first[axis + 1 :]))
                if down:
                    at = f'x="{self.left - 5}" y="{y + extent // 2 + 4}" text-anchor="end"'
                else:
                    at = f'x="{x + extent // 2}" y="{self.top - 6}" text-anchor="middle"'
                result.append(f"<text {at}>{text}</text>")
        return result


def _label(part: _Part, axis: int, number: int) -> str:
    """Return an index along one of the four folded axes; along the first, of all axes that were folded into it."""
    if axis > 0:
        return str(number)
    return ",".join(str(int(i)) for i in np.unravel_index(number, part.shape[:-3])) if len(part.shape) > 3 else ""


def picture(failure: Failure) -> str:
    """Return a figure that shows where in an array the error sits; nothing where no array was compared.

    The array is that of the input in which the failure was found: what is shrunk shows no pattern any more.

    Examples
    --------
    >>> from refgrad.oracle import check
    >>> report = check(lambda x, weight, bias, grad_output, **_: {"grad_bias": bias + 1}, cases=0)
    >>> "Where the error sits, in plain." in picture(report.failures[0])
    True
    """
    verdict = failure.at_first
    worst = verdict.index
    if verdict.ratios is None or worst is None:
        return ""
    ratios, as_a_whole = _shares(verdict, verdict.ratios)
    part = _Part.around(ratios.shape, worst)
    scale = _Scale.of(ratios)
    times = "NaN, infinite, or nothing is allowed" if not math.isfinite(ratios[worst]) else f"{ratios[worst]:.3g} times"
    outlined = f"the worst, {list(worst)}: {times}"
    over = int(np.sum(~(ratios <= 1.0)))
    where = f"Where the error sits, in {failure.found}."
    lines = [f"{where} Entries over what is allowed: {over} of {ratios.size}.", _axes(failure, part)]
    if as_a_whole:
        lines.append("The array is judged as a whole, by its norm; an entry is over where it exceeds an equal share.")
    if part.drawn < ratios.size:
        left = f"{ratios.size - part.drawn} of {ratios.size} entries are left out"
        lines.append(f"{left}; drawn is the part that contains the worst, {part.bounds()}.")
    caption = "<br>".join(escaped(line) for line in lines if line)
    svg = _svg(ratios, part, worst, scale, f"{lines[0]} Outlined is {outlined}.")
    legend = _legend(scale, outlined, with_infinite=not np.isfinite(ratios).all())
    return f'<figure>\n<figcaption>{caption}</figcaption>\n<div class="wide">{svg}</div>\n{legend}\n</figure>'


def _shares(verdict: Verdict, ratios: Array) -> tuple[Array, bool]:
    """Return measured over allowed for every entry, and whether that is over an equal share of what the norm may be.

    A norm of n entries can be too large where none of them alone is; an equal share of it is allowed / sqrt(n).
    """
    largest = float(np.max(ratios))
    if verdict.ratio is None or not largest < verdict.ratio < math.inf:
        return ratios, False
    with np.errstate(over="ignore"):
        return ratios * math.sqrt(ratios.size), True


def _axes(failure: Failure, part: _Part) -> str:
    """Say which way each axis runs."""
    shape = part.shape
    if not shape:
        return ""
    names = _names(failure, len(shape))
    across = f"{names[-1]} to the right"
    if len(shape) == 1:
        return f"Shape {shape}: {across}."
    inner = f"{names[-2]} down, {across}"
    if len(shape) == 2:
        return f"Shape {shape}: {inner}."
    outer = f"{names[-3]} to the right"
    if len(shape) > 3:
        outer = f"{', '.join(names[:-3])} down, {outer}"
    return f"Shape {shape}, in tiles: {outer}; in each tile {inner}."


def _names(failure: Failure, ndim: int) -> list[str]:
    """Name the axes as the operation's arguments do, or by their numbers."""
    arrays = OPERATIONS["conv2d" if failure.operation == "weight_gradient" else failure.operation].arrays
    names = arrays.get(LIKE.get(failure.row, ""), "").split()
    return names if len(names) == ndim and "..." not in names else [f"axis {number}" for number in range(ndim)]


def _svg(ratios: Array, part: _Part, worst: tuple[int, ...], scale: _Scale, said: str) -> str:
    layout = _Layout.of(part)
    folded = ratios.reshape(part.folded)
    width, height = layout.size
    lines = [
        f'<svg role="img" aria-label="{escaped(said)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        *layout.labels(),
    ]
    outline: list[str] = []
    for offset in np.ndindex(*map(len, part.ranges)):
        place = tuple(span[at] for at, span in zip(offset, part.ranges, strict=True))
        index, ratio = part.index(place), float(folded[place])
        x, y = layout.corner(place)
        side = layout.cell - 1
        cell = f'<rect class="cell {scale.name(ratio)}" x="{x}" y="{y}" width="{side}" height="{side}">'
        lines.append(f"{cell}<title>{list(index)} {ratio:.3g}</title></rect>")
        if index == worst:
            around = f'x="{x - 3}" y="{y - 3}" width="{side + 6}" height="{side + 6}"'
            outline = [f'<rect class="{name}" {around}></rect>' for name in ("halo", "worst")]
    # Last, so that no neighbour is painted over it; the halo sets it off from a colour as dark as its own.
    lines += [*outline, "</svg>"]
    return "\n".join(lines)


def _legend(scale: _Scale, outlined: str, *, with_infinite: bool) -> str:
    entries = [("within", "within what is allowed"), *scale.legend()]
    if with_infinite:
        entries.append((NOT_FINITE, "NaN, infinite, or nothing is allowed"))
    entries.append(("worst", f"outlined: {outlined}"))
    lines = "\n".join(f'<li><span class="{name}"></span>{escaped(text)}</li>' for name, text in entries)
    return f'<ul class="legend">\n{lines}\n</ul>'
