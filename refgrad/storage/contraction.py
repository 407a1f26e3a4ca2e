"""The weight gradient straight from the factors of a stored activation, for every geometry (THEORY T14).

In: core, factors and the gradient G of a layer's output. Out: dW = D(A~, G). Neither A~ nor an array of its size is
built on the way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from refgrad.arguments import Array
from refgrad.geometry import ConvGeometry
from refgrad.multilinear.unfolding import along_mode
from refgrad.ranges import ranges
from refgrad.storage import projected
from refgrad.storage.order import Counts, Plan, best_plan, memory_of
from refgrad.storage.sizes import Sizes

__all__ = ["contraction_sizes", "factored_weight_gradient"]


def contraction_sizes(
    core: Array, factors: Sequence[Array | None], grad_output: Array, geometry: ConvGeometry | None = None
) -> Sizes:
    """Return the lengths that a contraction depends on; the arguments are those of `factored_weight_gradient`."""
    return Sizes.of(
        [rank if factor is None else len(factor) for factor, rank in zip(factors, core.shape, strict=True)],
        core.shape,
        grad_output.shape[-1 if geometry is None else 1],
        geometry,
        identity=[factor is None for factor in factors],
        contiguous=bool(grad_output.flags.c_contiguous),
    )


def factored_weight_gradient(
    core: Array,
    factors: Sequence[Array | None],
    grad_output: Array,
    geometry: ConvGeometry | None = None,
    *,
    plan: Plan | None = None,
) -> Array:
    """Return dW = D(S x_1 U_1 ... x_d U_d, G) without building its first argument (THEORY T14).

    With <.,.> over samples b and output positions (h', w'), and the rows of U_3 and U_4 that tap (i, j) reads,

        Z4[o, k2, i, j] = sum_{k1 k3 k4} S[k1, k2, k3, k4] <G[:, o], U_1[:, k1] U_3[h' s_h + i d_h - top, k3] U_4[...]>
        dW[o, c, i, j] = sum_{k2} U_2[c, k2] Z4[o, k2, i, j]

    where rows outside of the picture are zero. The sums may be taken in any order; see `refgrad.storage.order`.

    Parameters
    ----------
    core : array (K_1, K_2, K_3, K_4) or (K_1, ..., K_d)
        S, for a convolution or for a linear layer; C-contiguous.
    factors : sequence of d arrays (n_j, K_j) or None
        U_j, of the core's dtype; None is the identity.
    grad_output : array (B, O, H', W') or (B, ..., O)
        G, of the core's dtype and of a shape that fits; the storages check it.
    geometry : ConvGeometry, optional
        Of the convolution; None for a linear layer.
    plan : Plan, optional
        In which order, in blocks of what size; by default `best_plan`, or compiled loops that project G on all factors
        (`refgrad.storage.projected`) where they cost no more.

    Returns
    -------
    array (O, C / groups, k_h, k_w) or (O, I)

    Notes
    -----
    Working memory is at most `refgrad.storage.order.WORKING_MEMORY` and a quarter of the dense activation's size, of a
    small one up to three quarters; for an activation hardly larger than a kernel, that of the smallest blocks.
    """
    sizes = contraction_sizes(core, factors, grad_output, geometry)
    if plan is None:
        plan = best_plan(sizes, core.itemsize)
        if projected.applies(sizes, plan, core.itemsize):
            return _projected_gradient(sizes, core, factors, grad_output)
    return _Contraction(sizes, plan, core, factors, grad_output).result()


def _projected_gradient(sizes: Sizes, core: Array, factors: Sequence[Array | None], grad_output: Array) -> Array:
    """Return dW by compiled loops."""
    known = [factor for factor in factors if factor is not None]
    by_taps = [_by_taps(sizes, factor, axis) for axis, factor in enumerate(known) if axis > 1]
    memory = memory_of(math.prod(sizes.shape) * core.itemsize)
    return projected.weight_gradient(sizes, core, known, by_taps, grad_output, memory)


class _Contraction:
    """One contraction under way: dW is the sum over blocks of (gradient side) @ (core side)^T.

    Both sides are (groups, rows, terms). A row of the gradient side is an out channel and the taps that G was projected
    on, a row of the core side a channel and the other taps; the terms are (k_1 or b, k_3 or h', k_4 or w').
    """

    def __init__(
        self, sizes: Sizes, plan: Plan, core: Array, factors: Sequence[Array | None], grad_output: Array
    ) -> None:
        self.sizes, self.plan, self.counts = sizes, plan, Counts(sizes, plan.order)
        self.core, self.grad_output = core, grad_output
        factor_of = [*factors[:1], *factors[-1:], *factors[1:-1]] if sizes.channels_last else factors
        self.factors = {axis: factor for axis, factor in enumerate(factor_of) if factor is not None}
        for axis in self.counts.gradient_axes:
            self.factors[axis] = _by_taps(sizes, self.factors[axis], axis)

    def result(self) -> Array:
        """Return dW."""
        sizes, counts, blocks, full = self.sizes, self.counts, self.plan.blocks, self.counts.full
        weight_shape = (sizes.out_shape[1], sizes.shape[1] // sizes.geometry.groups, *counts.kernel)
        result = np.empty(weight_shape, self.core.dtype)
        # Summed up in the result's own memory: where U_2 comes last this is Z4, with its K_2 <= C / groups channels.
        sums = result.reshape(full.groups, full.out_channels, -1)[:, :, : full.channels * counts.taps]
        in_place = counts.written_in_place(blocks)
        for group, batch, rows, channels in itertools.product(
            ranges(full.groups, blocks.groups),
            ranges(full.batch, blocks.batch),
            ranges(full.rows, blocks.rows),
            ranges(full.channels, blocks.channels),
        ):
            core_side = self._core_side(group, batch, rows, channels).swapaxes(1, 2)
            for outs in ranges(full.out_channels, blocks.out_channels):
                target = sums[group, outs, channels.start * counts.taps : channels.stop * counts.taps]
                if in_place:
                    np.matmul(self._gradient_side(group, batch, rows, outs), core_side, out=target)
                    continue
                term = self._gradient_side(group, batch, rows, outs) @ core_side
                if batch.start == rows.start == 0:
                    target[...] = term.reshape(target.shape)
                else:
                    target += term.reshape(target.shape)
                del term  # before the next one is made
            del core_side
        if counts.is_unfinished:
            self._finish(sums, result)
        return result.reshape(weight_shape[:2]) if sizes.channels_last else result

    def _core_side(self, group: slice, batch: slice, rows: slice, channels: slice) -> Array:
        """Return (groups, channels x taps, terms): the core, expanded, as output positions and taps read it."""
        sizes, order = self.sizes, self.plan.order
        positions = {2: rows, 3: slice(0, sizes.out_shape[3])}
        read = {axis: sizes.read(axis, where) for axis, where in positions.items() if order[axis]}
        wanted = _joined(group, channels, sizes.shape[1] // sizes.geometry.groups)
        if 0 in self.counts.core_axes:  # before the channels move, for there the core is one matrix
            block = self.factors[0][batch] @ self.core.reshape(len(self.core), -1)
            block = self._channels_second(block.reshape(-1, *self.core.shape[1:]))
        else:
            block = self._channels_second(self.core[batch])
        if 1 not in self.counts.core_axes:
            block = self._cut(block, 1, wanted)
        for axis in self.counts.core_axes:
            if axis == 1:
                block = along_mode(block, self.factors[axis][wanted], axis)
            elif axis > 1:
                block = along_mode(block, self.factors[axis][_inside(read[axis])], axis)
        for axis in read.keys() - self.factors.keys():
            block = self._cut(block, axis, _inside(read[axis]))
        block = _zero_extended(block, read)
        for axis in (3, 2):
            if axis in read:
                block = _windows(sizes.geometry, block, axis, axis, _length(positions[axis]))
            else:
                block = np.expand_dims(block, axis)
        return _side(block, _length(group))

    def _gradient_side(self, group: slice, batch: slice, rows: slice, outs: slice) -> Array:
        """Return (groups, out channels x taps, terms): G, projected on what is not expanded."""
        sizes = self.sizes
        wanted = _joined(group, outs, sizes.out_shape[1] // sizes.geometry.groups)
        if not sizes.channels_last:
            part = self.grad_output[:, wanted, rows]
        elif self.grad_output.ndim == 2:
            part = self.grad_output[:, wanted]
        else:
            part = self.grad_output[:, rows, ..., wanted]
        if self.plan.order.batch:
            block = part[batch]
        else:
            block = self.factors[0][:, batch].T @ part.reshape(len(part), -1)
            block = block.reshape(-1, *part.shape[1:])
        block = self._channels_second(block)
        for axis in self.counts.gradient_axes:
            block = along_mode(block, self.factors[axis][:, rows] if axis == 2 else self.factors[axis], axis)
        for axis in (3, 2):
            taps = sizes.geometry.kernel_size[axis - 2] if axis in self.counts.gradient_axes else 1
            block = block.reshape(*block.shape[:axis], taps, -1, *block.shape[axis + 1 :])
        return _side(block, _length(group))

    def _channels_second(self, array: Array) -> Array:
        """View the array of a linear layer, (B, ..., I), as that of a convolution, (B, I, ..., 1)."""
        if not self.sizes.channels_last:
            return array
        array = np.moveaxis(array, -1, 1)
        return array[(..., *(np.newaxis,) * (4 - array.ndim))]

    def _cut(self, block: Array, axis: int, part: slice) -> Array:
        """Return a part of the core, or of the core times U_1: of that a copy, for a view would keep all of it."""
        view = block[(slice(None),) * axis + (part,)]
        return view if 0 not in self.counts.core_axes or view.shape == block.shape else view.copy()

    def _finish(self, sums: Array, result: Array) -> None:
        """Put the sums, which lie in the result, in the weight's order, and multiply by U_2 where that comes last."""
        groups, taps = self.sizes.geometry.groups, self.counts.taps
        sums = sums.reshape(groups, -1, sums.shape[-1])
        result = result.reshape(*sums.shape[:2], -1, taps)
        outs_at_once = max(1, self.plan.working_numbers // sums.shape[2])
        for group in ranges(groups, max(1, outs_at_once // sums.shape[1])):
            for outs in ranges(sums.shape[1], outs_at_once):
                ordered = self._in_order(sums[group, outs])
                if self.plan.order.channels:
                    result[group, outs] = ordered
                else:
                    factor = self.factors[1].reshape(groups, 1, -1, ordered.shape[2])[group]
                    if taps == 1:
                        np.matmul(ordered[..., 0], factor[:, 0].swapaxes(1, 2), out=result[group, outs, :, 0])
                    else:
                        np.matmul(factor, ordered, out=result[group, outs])
                del ordered

    def _in_order(self, sums: Array) -> Array:
        """Return a copy (groups, O, C, taps) of sums that are (projected taps, channels, other taps) block by block."""
        counts, lengths = self.counts, sums.shape[:2]
        ordered = np.empty((*lengths, counts.full.channels, *counts.kernel), sums.dtype)
        for part in ranges(counts.full.channels, self.plan.blocks.channels):
            block = sums[:, :, part.start * counts.taps : part.stop * counts.taps]
            block = block.reshape(*lengths, *counts.projected_taps, _length(part), *counts.expanded_taps)
            ordered[:, :, part] = block.transpose(0, 1, 4, 2, 5, 3, 6).reshape(*lengths, _length(part), *counts.kernel)
        return ordered.reshape(*lengths, counts.full.channels, counts.taps)


def _windows(geometry: ConvGeometry, array: Array, along: int, axis: int, positions: int) -> Array:
    """View one axis as two: taps, and the output positions that read through them."""
    step = array.strides[along]
    lengths = (geometry.kernel_size[axis - 2], positions)
    steps = (step * geometry.dilation[axis - 2], step * geometry.stride[axis - 2])
    return np.lib.stride_tricks.as_strided(
        array,
        (*array.shape[:along], *lengths, *array.shape[along + 1 :]),
        (*array.strides[:along], *steps, *array.strides[along + 1 :]),
        writeable=False,
    )


def _by_taps(sizes: Sizes, factor: Array, axis: int) -> Array:
    """Return (taps x K, positions): the rows of a factor as each tap reads them, transposed."""
    positions = sizes.out_shape[axis]
    read = sizes.read(axis, slice(0, positions))
    windows = _windows(sizes.geometry, _zero_extended(factor[_inside(read)], {0: read}), 0, axis, positions)
    return windows.swapaxes(1, 2).reshape(-1, positions)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _joined(group: slice, inner: slice, group_length: int) -> slice:
    """Return the channels of several whole groups, or of a part of one, as one slice; with one group, `inner`."""
    return slice(group.start * group_length + inner.start, (group.stop - 1) * group_length + inner.stop)


def _inside(read: slice) -> slice:
    """Return those of the rows that lie in the picture; NumPy cuts what is beyond its end."""
    return slice(max(read.start, 0), max(read.stop, 0))


def _zero_extended(array: Array, read: Mapping[int, slice]) -> Array:
    """Return the array, which has the rows `_inside` the picture, with the zeros that are read beyond it."""
    shape = tuple(_length(read[axis]) if axis in read else length for axis, length in enumerate(array.shape))
    if shape == array.shape:
        return array
    extended = np.zeros(shape, array.dtype)
    starts = [max(-read[axis].start, 0) if axis in read else 0 for axis in range(array.ndim)]
    extended[tuple(slice(start, start + length) for start, length in zip(starts, array.shape, strict=True))] = array
    return extended


def _side(block: Array, groups: int) -> Array:
    """Return (groups, rows x taps, terms) from (k_1, groups x rows, taps, k_3, taps, k_4)."""
    block = block.reshape(block.shape[0], groups, -1, *block.shape[2:]).transpose(1, 2, 3, 5, 0, 4, 6)
    return block.reshape(groups, math.prod(block.shape[1:4]), -1)
