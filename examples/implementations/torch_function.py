"""A PyTorch convolution that keeps its input as an HOSVD: an `autograd.Function`, judged right by refgrad.

In: `refgrad check examples/implementations/torch_function.py`. Out: `implementation`, the Function as a target. The
weight gradient is contracted from core and factors; the input is never rebuilt.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from refgrad.oracle.adapters import from_torch_function


def smallest_rank(singular_values, explained_variance):
    """Return the smallest k >= 1 that leaves out no more than 1 - explained_variance of the energy."""
    energies = singular_values.double() ** 2
    left_out = energies.flip(0).cumsum(0).flip(0)
    after = torch.cat([left_out[1:], left_out.new_zeros(1)])
    return int((after <= (1.0 - explained_variance) * left_out[0]).int().argmax()) + 1


def hosvd(x, explained_variance):
    """Take the leading left singular vectors of every unfolding of x, and the core."""
    exponent = torch.frexp(x.abs().max()).exponent
    unit = torch.ldexp(x, -exponent)  # a power of two rounds nothing, and the energies can be squared
    factors = []
    for axis in range(x.ndim):
        left, singular_values, _ = torch.linalg.svd(unit.movedim(axis, 0).flatten(1), full_matrices=False)
        factors.append(left[:, : smallest_rank(singular_values, explained_variance)].contiguous())
    core = torch.einsum("bchw,bp,cq,hr,ws->pqrs", x, *factors)
    return core, factors


def taps(factor, before, after, *, kernel, stride, dilation):
    """Read a factor's rows as a convolution reads its input: (positions, kernel, rank)."""
    padded = F.pad(factor, (0, 0, before, after))
    positions = (padded.shape[0] - dilation * (kernel - 1) - 1) // stride + 1
    rows = torch.arange(positions)[:, None] * stride + torch.arange(kernel) * dilation
    return padded[rows]


def weight_gradient(core, factors, grad_output, *, kernel_size, stride, padding, dilation, groups):
    """Contract the gradient with the factors, axis by axis, and then with the core."""
    of_batch, of_channels, of_height, of_width = factors
    high, wide = (
        taps(factor, *pads, kernel=kernel, stride=step, dilation=gap)
        for factor, pads, kernel, step, gap in zip(
            (of_height, of_width), padding, kernel_size, stride, dilation, strict=True
        )
    )
    small = torch.einsum("boij,bp->poij", grad_output, of_batch)
    small = torch.einsum("poij,jvs->poisv", small, wide)
    small = torch.einsum("poisv,iur->porsuv", small, high)
    small = torch.einsum("porsuv,pqrs->oquv", small, core)
    dw = torch.einsum("goquv,gcq->gocuv", small.unflatten(0, (groups, -1)), of_channels.unflatten(0, (groups, -1)))
    return dw.flatten(0, 1)


class CompressedConv2d(torch.autograd.Function):
    """A convolution, exact forward, that keeps core and factors of its input for the weight gradient."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, dilation, groups, explained_variance):
        """Convolve, and keep the input's HOSVD."""
        core, factors = hosvd(x, explained_variance)
        ctx.save_for_backward(weight, core, *factors)
        ctx.size = x.shape
        ctx.geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        (top, bottom), (left, right) = padding
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, dilation, groups)

    @staticmethod
    def backward(ctx, grad_output):
        """Return exact gradients by x and bias, and the one by weight from the factors."""
        weight, core, *factors = ctx.saved_tensors
        (top, bottom), (left, right) = ctx.geometry["padding"]
        batch, channels, height, width = ctx.size
        padded = (batch, channels, height + top + bottom, width + left + right)
        convolution = {**ctx.geometry, "padding": 0}
        dx = torch.nn.grad.conv2d_input(padded, weight, grad_output, **convolution)
        dx = dx[:, :, top : top + height, left : left + width]
        dw = weight_gradient(core, factors, grad_output, kernel_size=weight.shape[2:], **ctx.geometry)
        return dx, dw, grad_output.sum((0, 2, 3)), None, None, None, None, None


def stored(ctx):
    """Say what the forward pass kept."""
    _, core, *factors = ctx.saved_tensors
    return {"core": core, "factors": factors}


implementation = from_torch_function(CompressedConv2d, stored=stored)
