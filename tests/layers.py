"""Convolutions on all sides of what a register, a tile and a block of channels hold, and integers to fill them with.

In: Hypothesis's choices, or a seed. Out: (geometry, shape (B, C, H, W), out channels), and arrays that nothing rounds.
"""

import hypothesis.strategies as st
import numpy as np

from refgrad.geometry import ConvGeometry

LENGTHS = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 20, 33, 50])


def attributes(geometry):
    return {name: getattr(geometry, name) for name in ("stride", "padding", "dilation", "groups")}


def integers(seed, shape, dtype):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(dtype)


@st.composite
def layers(draw, outputs=(1, 3, 7, 8, 9, 16, 17)):
    axes = [
        (draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 3)),
         draw(st.integers(0, 3)))
        for _ in range(2)
    ]  # fmt: skip
    kernel, stride, dilation, before, after = zip(*axes, strict=True)
    groups = draw(st.integers(1, 3))
    geometry = ConvGeometry.of(
        kernel, stride=stride, dilation=dilation, padding=tuple(zip(before, after, strict=True)), groups=groups
    )
    channels = draw(st.sampled_from([1, 2, 3, 5, 63, 64, 65, 129])) * groups
    channels_out = draw(st.sampled_from(outputs)) * groups
    size = tuple(
        max(draw(LENGTHS), d * (k - 1) + 1 - b - a) for k, d, b, a in zip(kernel, dilation, before, after, strict=True)
    )
    return geometry, (draw(st.integers(1, 5)), channels, *size), channels_out


SAME = ConvGeometry.of(3, padding=1)
NAMED = [
    (SAME, (2, 4, 16, 16), 8),
    (ConvGeometry.of(3, padding=1, stride=2), (3, 3, 20, 33), 9),
    (ConvGeometry.of((1, 2), stride=3), (2, 2, 8, 8), 8),  # rows that no tap reads
    (ConvGeometry.of((2, 2), padding=((3, 3), (4, 1))), (2, 2, 5, 6), 8),  # outputs that read nothing but zeros
    (ConvGeometry.of((3, 3), padding=((0, 2), (0, 2))), (2, 65, 7, 7), 17),  # zeros on the right alone
    (ConvGeometry.of((3, 3), padding=((2, 0), (2, 0))), (4, 64, 7, 7), 16),
]
