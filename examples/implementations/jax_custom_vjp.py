"""A JAX convolution that keeps its input as an HOSVD: a `jax.custom_vjp`, judged right by refgrad.

In: `refgrad check examples/implementations/jax_custom_vjp.py`. Out: `implementation`, the function as a target. The
ranks depend on the data, so that `forward` cannot be compiled; what it calls can.
"""

from functools import partial

import jax
import jax.numpy as jnp

from refgrad.oracle.adapters import from_jax

exact = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def convolve(x, weight, geometry):
    """Convolve without a bias."""
    stride, padding, dilation, groups = geometry
    return jax.lax.conv_general_dilated(
        x,
        weight,
        stride,
        padding,
        rhs_dilation=dilation,
        feature_group_count=groups,
        precision=jax.lax.Precision.HIGHEST,
    )


def hosvd(x, explained_variance):
    """Take the leading left singular vectors of every unfolding of x, and the core."""
    unit = jnp.ldexp(x, -jnp.frexp(jnp.abs(x).max())[1])  # a power of two rounds nothing
    factors = []
    for axis, size in enumerate(x.shape):
        left, values, _ = jnp.linalg.svd(jnp.moveaxis(unit, axis, 0).reshape(size, -1), full_matrices=False)
        left_out = jnp.append(jnp.cumsum((values**2)[::-1])[::-1], 0.0)
        rank = int(jnp.argmax(left_out[1:] <= (1.0 - explained_variance) * left_out[0])) + 1
        factors.append(left[:, :rank])
    return exact("bchw,bp,cq,hr,ws->pqrs", x, *factors, optimize=True), factors


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def conv2d(x, weight, bias, geometry, explained_variance):
    """Convolve; only the gradient by the weight knows of the compression."""
    return convolve(x, weight, geometry) + bias[:, None, None]


def forward(x, weight, bias, geometry, explained_variance):
    """Convolve, and keep the input's HOSVD."""
    core, factors = hosvd(x, explained_variance)
    return conv2d(x, weight, bias, geometry, explained_variance), (weight, core, factors)


def taps(factor, pads, *, kernel, stride, dilation):
    """Read a factor's rows as a convolution reads its input: (positions, kernel, rank)."""
    padded = jnp.pad(factor, (pads, (0, 0)))
    positions = (padded.shape[0] - dilation * (kernel - 1) - 1) // stride + 1
    return padded[jnp.arange(positions)[:, None] * stride + jnp.arange(kernel) * dilation]


def backward(geometry, explained_variance, kept, grad_output):
    """Return exact gradients by x and bias, and the one by weight from the factors."""
    weight, core, (of_batch, of_channels, of_height, of_width) = kept
    stride, padding, dilation, groups = geometry
    high, wide = (
        taps(factor, pads, kernel=kernel, stride=step, dilation=gap)
        for factor, pads, kernel, step, gap in zip(
            (of_height, of_width), padding, weight.shape[2:], stride, dilation, strict=True
        )
    )
    small = exact("boij,bp,jvs,iur,pqrs->oquv", grad_output, of_batch, wide, high, core, optimize=True)
    small = small.reshape(groups, -1, *small.shape[1:])
    dw = exact("goquv,gcq->gocuv", small, of_channels.reshape(groups, -1, of_channels.shape[1])).reshape(weight.shape)

    size = (len(of_batch), len(of_channels), len(of_height), len(of_width))
    of_x = jax.linear_transpose(lambda x: convolve(x, weight, geometry), jax.ShapeDtypeStruct(size, weight.dtype))
    return of_x(grad_output)[0], dw, grad_output.sum((0, 2, 3))


conv2d.defvjp(forward, backward)


def layer(x, weight, bias, *, stride, padding, dilation, groups, explained_variance):
    """Run the convolution with the oracle's attributes."""
    return conv2d(x, weight, bias, (stride, padding, dilation, groups), explained_variance)


def stored(x, weight, bias, attributes):
    """Say what the forward pass keeps."""
    core, factors = hosvd(x, attributes.explained_variance)
    return {"core": core, "factors": factors}


implementation = from_jax(layer, stored=stored)
