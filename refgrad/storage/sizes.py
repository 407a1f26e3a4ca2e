"""The lengths that a compressed contraction depends on (THEORY T14).

In: the shapes of a stored activation, of its core and of the gradient it meets, and their convolution. Out: `Sizes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refgrad.geometry import ConvGeometry

__all__ = ["Sizes"]

LINEAR = ConvGeometry((1, 1))
"""A linear layer reads each position once."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """All lengths that a compressed contraction depends on; `Sizes.of` makes them.

    A linear layer is a 1 x 1 convolution: its last axis is the channels, the axes between are height and width.

    Parameters
    ----------
    shape : four int
        (B, C, H, W).
    ranks : four int
        (K_1, K_2, K_3, K_4), the shape of the core.
    identity : four bool
        Where a mode has no factor: the core is already in that mode's own basis.
    out_shape : four int
        (B, O, H', W').
    geometry : ConvGeometry
        Of the convolution.
    channels_last : bool
        Whether the arrays are (B, H, W, C), as those of a linear layer.
    contiguous : bool
        Whether the gradient is C-contiguous: else its blocks are copied.
    rows_read : two pairs of int
        How many rows, and how many columns, all output positions read: of the picture, and with those of the padding.
    """

    shape: tuple[int, ...]
    ranks: tuple[int, ...]
    identity: tuple[bool, ...]
    out_shape: tuple[int, ...]
    geometry: ConvGeometry
    channels_last: bool
    contiguous: bool
    rows_read: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        ranks: Sequence[int],
        out_channels: int,
        geometry: ConvGeometry | None = None,
        *,
        identity: Sequence[bool] | None = None,
        contiguous: bool = True,
    ) -> Sizes:
        """Collect the lengths of a stored activation's contraction.

        Parameters
        ----------
        shape : sequence of int
            (B, C, H, W) of a convolution's input, or (B, ..., I) of a linear layer's.
        ranks : sequence of int
            The shape of the core.
        out_channels : int
            O.
        geometry : ConvGeometry, optional
            Of the convolution; None for a linear layer.
        identity : sequence of bool, optional
            Which modes have no factor; by default all have one.
        contiguous : bool
            Whether the gradient is C-contiguous.

        Examples
        --------
        >>> Sizes.of((8, 5, 16), (2, 3, 4), 10).shape
        (8, 16, 5, 1)
        """
        modes = list(zip(shape, ranks, (False,) * len(shape) if identity is None else identity, strict=True))
        if geometry is None:
            modes = [modes[0], modes[-1], *modes[1:-1], (1, 1, True), (1, 1, True)][:4]
        lengths, kept, without = (tuple(values) for values in zip(*modes, strict=True))
        positions = lengths[2:] if geometry is None else geometry.output_size(lengths[2:])
        reader = LINEAR if geometry is None else geometry
        rows_read = []
        for axis, (length, count) in enumerate(zip(lengths[2:], positions, strict=True)):
            read = _read(reader, axis, slice(0, count))
            inside = max(0, min(read.stop, length) - max(read.start, 0))
            rows_read.append((inside, read.stop - read.start))
        return cls(
            shape=lengths,
            ranks=kept,
            identity=without,
            out_shape=(lengths[0], out_channels, *positions),
            geometry=reader,
            channels_last=geometry is None,
            contiguous=contiguous,
            rows_read=tuple(rows_read),
        )

    @property
    def rounding_length(self) -> int:
        """How many roundings an entry of dW goes through at most, whatever the order of contraction (THEORY T15).

        One evaluation errs by at most gamma of this times <|S| x_1 |U_1| ... x_d |U_d|, |G|>: a sum of n products adds
        n roundings to what its terms have, and no sum over a mode is longer than the mode or its rank.
        """
        lengths = [max(rank, out) for rank, out in zip(self.ranks, self.out_shape, strict=True)]
        terms = max(lengths[0], self.shape[0]) * lengths[2] * lengths[3]
        return terms + sum(self.ranks) + sum(self.shape) + sum(self.out_shape[2:])

    def read(self, axis: int, positions: slice) -> slice:
        """Return which rows (axis 2) or columns (axis 3) output positions read; negative and beyond: the padding."""
        return _read(self.geometry, axis - 2, positions)


def _read(geometry: ConvGeometry, axis: int, positions: slice) -> slice:
    """Return the rows (axis 0) or columns (axis 1) that output positions read; negative and beyond: the padding."""
    start = positions.start * geometry.stride[axis] - geometry.padding[axis][0]
    last = start + (positions.stop - positions.start - 1) * geometry.stride[axis]
    return slice(start, last + (geometry.kernel_size[axis] - 1) * geometry.dilation[axis] + 1)
