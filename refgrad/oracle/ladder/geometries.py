"""Geometries of convolutions: named edge cases, each with its effect, and drawn ones.

In: nothing, or a generator. Out: a convolution's attributes and its kernel's shape, by the names of `ConvGeometry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from refgrad.oracle.ladder.drawing import draw

__all__ = ["GEOMETRIES", "NO_PADS", "Given", "geometry_of", "random_geometry"]

Given = Mapping[str, Any]

NO_PADS: Final = ((0, 0), (0, 0))
"""The padding of a convolution that has none."""


def geometry_of(
    kernel: tuple[int, int] = (3, 2),
    stride: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> dict[str, Any]:
    """Return a geometry; a kernel and pads that are not given differ between height and width."""
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


GEOMETRIES: Final[tuple[tuple[str, str, Given], ...]] = (
    ("plain", "wrong on the plainest input", geometry_of(padding=NO_PADS)),
    ("1 x 1 kernel", "special-cases the pointwise kernel", geometry_of((1, 1), padding=NO_PADS)),
    ("1 x 3 kernel", "takes kernels for square", geometry_of((1, 3), padding=((0, 0), (1, 1)))),
    ("even kernel", "centres an even kernel", geometry_of((2, 4), padding=((1, 0), (1, 2)))),
    ("square kernel", "cannot be told by its shape from one with its axes swapped", geometry_of((3, 3))),
    ("four different pads", "mixes up the four edges", geometry_of((3, 4), padding=((0, 1), (2, 3)))),
    ("padding of the height only", "takes one axis's padding for both", geometry_of(padding=((2, 2), (0, 0)))),
    ("padding of the width only", "takes one axis's padding for both", geometry_of(padding=((0, 0), (2, 2)))),
    ("stride (2, 3)", "mixes up the axes of the stride", geometry_of(stride=(2, 3))),
    ("dilation (2, 3)", "mixes up the axes of the dilation", geometry_of((2, 2), dilation=(2, 3))),
    ("stride (1, 2), dilation (2, 1)", "mixes up stride and dilation", geometry_of(stride=(1, 2), dilation=(2, 1))),
    ("stride equals dilation", "takes the shortcut for stride 1", geometry_of((2, 2), (2, 2), dilation=(2, 2))),
    (
        "stride equals dilation on the height only",
        "takes the shortcut for stride 1",
        geometry_of((2, 3), (2, 3), dilation=(2, 1)),
    ),
    ("leftover rows and columns", "reads beyond the last position", geometry_of((2, 2), (3, 4), NO_PADS)),
    ("2 groups", "ignores groups", geometry_of(groups=2)),
    (
        "3 groups, strides and pads",
        "ignores one of them",
        geometry_of(stride=(2, 1), padding=((0, 2), (1, 2)), groups=3),
    ),
    ("depthwise", "ignores groups", geometry_of((3, 3), groups=6)),
)
"""Name, effect and geometry, the plainest first."""


def random_geometry(generator: np.random.Generator, groups: int) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return a geometry, and the height and width of an image that it fits."""
    kernel, stride, padding, dilation, size = [], [], [], [], []
    for _ in range(2):
        k, d = draw(generator, 1, 2, 3, 3, 4), draw(generator, 1, 1, 2, 3)
        pads = (draw(generator, 0, 1, 1, 2, 3), draw(generator, 0, 1, 1, 2, 3))
        kernel.append(k)
        dilation.append(d)
        padding.append(pads)
        stride.append(draw(generator, 1, 1, 2, 3))
        size.append(max(1, d * (k - 1) + 1 - sum(pads)) + draw(generator, 0, 1, 2, 3, 4))
    given = geometry_of(
        (kernel[0], kernel[1]), (stride[0], stride[1]), (padding[0], padding[1]), (dilation[0], dilation[1]), groups
    )
    return given, (size[0], size[1])
