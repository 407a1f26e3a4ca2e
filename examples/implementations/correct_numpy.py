"""A conv layer that keeps its input as an HOSVD, in plain NumPy: written apart from refgrad, and judged right by it.

In: the arrays of one training step. Out: a dictionary with everything that `refgrad check` can look at. Sums are
taken in float64 whatever the dtype of the input, and rounded to that dtype once, at the end.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows(array, axis, *, size, kernel, stride, dilation, before):
    """Cut `size` windows of `kernel` entries along an axis, the first `before` places left of entry 0; a new last axis.

    What lies outside the array reads as zero, so `before` is the padding; where it is negative, entries are left out.
    """
    span = dilation * (kernel - 1) + 1
    canvas = np.zeros((*array.shape[:axis], (size - 1) * stride + span, *array.shape[axis + 1 :]))
    start, stop = max(before, 0), min(before + array.shape[axis], canvas.shape[axis])
    if start < stop:
        inside = (slice(None),) * axis
        canvas[(*inside, slice(start, stop))] = array[(*inside, slice(start - before, stop - before))]
    return sliding_window_view(canvas, span, axis)[(slice(None),) * axis + (slice(None, None, stride),)][
        ..., ::dilation
    ]


def in_groups(array, axis, groups):
    """Split an axis of channels into (groups, channels of one group)."""
    return array.reshape(*array.shape[:axis], groups, -1, *array.shape[axis + 1 :])


def output_size(size, kernel_size, *, stride, padding, dilation):
    """Count the positions the kernel takes on each axis."""
    axes = zip(size, kernel_size, stride, padding, dilation, strict=True)
    return tuple((n + sum(pads) - d * (k - 1) - 1) // s + 1 for n, k, s, pads, d in axes)


def forward(x, weight, bias, *, size, stride, before, dilation, groups):
    """y[b, o, i, j] = bias[o] + the sum of a window of x times the weight."""
    rows = windows(x, 2, size=size[0], kernel=weight.shape[2], stride=stride[0], dilation=dilation[0], before=before[0])
    both = windows(
        rows, 3, size=size[1], kernel=weight.shape[3], stride=stride[1], dilation=dilation[1], before=before[1]
    )
    y = np.einsum("bgcijuv,gocuv->bgoij", in_groups(both, 1, groups), in_groups(weight, 0, groups), optimize=True)
    return y.reshape(len(x), len(weight), *size) + bias[:, None, None]


def input_gradient(grad_output, weight, *, size, stride, before, dilation, groups):
    """Look at the gradient, spread out by the stride, through a mirrored kernel: i s + u d - before = p, read for p."""
    spread = grad_output
    for axis, step in zip((2, 3), stride, strict=True):
        apart = np.zeros((*spread.shape[:axis], (spread.shape[axis] - 1) * step + 1, *spread.shape[axis + 1 :]))
        apart[(slice(None),) * axis + (slice(None, None, step),)] = spread
        spread = apart
    for axis in (0, 1):
        kernel, reach = weight.shape[2 + axis], dilation[axis] * (weight.shape[2 + axis] - 1)
        spread = windows(
            spread,
            2 + axis,
            size=size[axis],
            kernel=kernel,
            stride=1,
            dilation=dilation[axis],
            before=reach - before[axis],
        )
    mirrored = in_groups(weight[:, :, ::-1, ::-1], 0, groups)
    dx = np.einsum("bgohwuv,gocuv->bgchw", in_groups(spread, 1, groups), mirrored, optimize=True)
    return dx.reshape(len(grad_output), -1, *size)


def weight_gradient(core, factors, grad_output, *, kernel_size, stride, before, dilation, groups):
    """Bring the gradient down to the ranks, axis by axis, and meet the core there; the input is never rebuilt.

    A window of A~ is windows of the factors of height and width: so the padding, the stride and the dilation act on
    these two small matrices alone.
    """
    of_batch, of_channels, of_height, of_width = factors
    taps = [
        windows(factor, 0, size=out, kernel=kernel, stride=step, dilation=gap, before=pad)
        for factor, out, kernel, step, gap, pad in zip(
            (of_height, of_width), grad_output.shape[2:], kernel_size, stride, dilation, before, strict=True
        )
    ]
    small = np.einsum("boij,bp->poij", grad_output, of_batch, optimize=True)
    small = np.einsum("poij,jsv->poisv", small, taps[1], optimize=True)
    small = np.einsum("poisv,iru->porsuv", small, taps[0], optimize=True)
    small = np.einsum("porsuv,pqrs->oquv", small, core, optimize=True)
    dw = np.einsum("goquv,gcq->gocuv", in_groups(small, 0, groups), in_groups(of_channels, 0, groups), optimize=True)
    return dw.reshape(grad_output.shape[1], -1, *kernel_size)


def smallest_rank(singular_values, explained_variance):
    """Return the smallest k >= 1 that leaves out no more than 1 - explained_variance of the energy.

    What is left out is summed from the small end: there, a difference of two sums of large numbers would see nothing.
    """
    energies = singular_values**2
    left_out = np.append(np.cumsum(energies[::-1])[::-1], 0.0)
    enough = left_out[1:] <= (1.0 - explained_variance) * left_out[0]
    return int(np.argmax(enough)) + 1


def times(tensor, matrix, axis):
    """Multiply one axis of a tensor by a matrix."""
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, axis)), 0, axis)


def decompose(x, explained_variance, choose_rank):
    """Take the leading left singular vectors of each unfolding of x itself."""
    exponent = np.frexp(np.abs(x).max())[1]
    unit = np.ldexp(x, -exponent)  # a power of two: nothing is rounded, and the energies can be squared
    factors = []
    for axis in range(x.ndim):
        left, singular_values, _ = np.linalg.svd(
            np.moveaxis(unit, axis, 0).reshape(x.shape[axis], -1), full_matrices=False
        )
        factors.append(left[:, : choose_rank(singular_values, explained_variance)])
    return factors


def layer(
    x,
    weight,
    bias,
    grad_output,
    *,
    stride,
    padding,
    dilation,
    groups,
    explained_variance,
    before=None,
    choose_rank=smallest_rank,
    weight_gradient=weight_gradient,
):
    """One training step; the last three arguments are what the wrong examples replace, one each."""
    dtype = x.dtype
    before = before or (padding[0][0], padding[1][0])
    kernel_size = weight.shape[2:]
    size = output_size(x.shape[2:], kernel_size, stride=stride, padding=padding, dilation=dilation)
    geometry = {"stride": stride, "before": before, "dilation": dilation, "groups": groups}

    x, weight, bias, grad_output = (array.astype(np.float64) for array in (x, weight, bias, grad_output))
    factors = [factor.astype(dtype).astype(np.float64) for factor in decompose(x, explained_variance, choose_rank)]
    core = x
    for axis, factor in enumerate(factors):
        core = times(core, factor.T, axis)
    core = core.astype(dtype).astype(np.float64)  # what is kept until backward has the input's dtype
    reconstruction = core
    for axis, factor in enumerate(factors):
        reconstruction = times(reconstruction, factor, axis)

    results = {
        "output": forward(x, weight, bias, size=size, **geometry),
        "grad_input": input_gradient(grad_output, weight, size=x.shape[2:], **geometry),
        "grad_weight": weight_gradient(core, factors, grad_output, kernel_size=kernel_size, **geometry),
        "grad_bias": grad_output.sum(axis=(0, 2, 3)),
        "core": core,
        "reconstruction": reconstruction,
    }
    return {
        **{name: array.astype(dtype) for name, array in results.items()},
        "factors": [factor.astype(dtype) for factor in factors],
        "ranks": core.shape,
        "stored_numbers": core.size + sum(factor.size for factor in factors),
    }


def implementation(x, weight, bias, grad_output, *, stride, padding, dilation, groups, explained_variance):
    """Run one training step: this is what `refgrad check` calls."""
    return layer(
        x,
        weight,
        bias,
        grad_output,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        explained_variance=explained_variance,
    )
