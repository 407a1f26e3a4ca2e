"""The functions of networks and their gradients as in the textbook, in numbers that know how far they can be off.

In: `Running` numbers. Out: the same: a value, and the tolerance for any evaluation of the formula (THEORY T15).
"""

import numpy as np

from tests.running_error import Running


def choose(mask, a, b):
    return Running(np.where(mask, a.value, b.value), np.where(mask, a.error, b.error), a.dtype)


def sigmoid_of(t):
    decay = Running(-np.abs(t.value), t.error, t.dtype).exp()
    return choose(t.value >= 0, 1.0 / (decay + 1.0), decay / (decay + 1.0))


def sigmoid_formula(x, g):
    y = sigmoid_of(x)
    return y, g * (y * (1.0 - y))


def tanh_formula(x, g):
    y = x.tanh()
    return y, g * ((1.0 - y) * (y + 1.0))


def gelu_tanh_formula(x, g):
    c, k = x.constant(2.0 * np.sqrt(2.0 / np.pi)), x.constant(0.044715)
    t = c * (x + k * (x * x * x))
    gate = sigmoid_of(t)
    slope = gate * sigmoid_of(-t) * (c * (k * 3.0 * (x * x) + 1.0))
    return x * gate, g * (gate + x * slope)


def softmax_formula(x, g, axis):
    powers = (x - x.maximum(axis)).exp()
    y = powers / powers.sum(axis)
    return y, y * (g - (g * y).sum(axis))


def log_softmax_formula(x, g, axis):
    shifted = x - x.maximum(axis)
    y = shifted - shifted.exp().sum(axis).log()
    return y, g - y.exp() * g.sum(axis)


def cross_entropy_formula(x, g, labels, reduction):
    shifted = x - x.maximum(1)
    totals = shifted.exp().sum(1)
    losses = totals.log() - Running(
        np.take_along_axis(shifted.value, labels[:, None], 1),
        np.take_along_axis(shifted.error, labels[:, None], 1),
        x.dtype,
    )
    one_hot = (np.arange(x.value.shape[1]).reshape(1, -1, *[1] * (labels.ndim - 1)) == labels[:, None]).astype(float)
    count = labels.size if reduction == "mean" else 1
    share = g.reshape(g.value.shape[0], 1, *g.value.shape[1:]) if reduction == "none" else g
    grad_x = (shifted.exp() / totals - one_hot) * (share / count)
    return reduced(losses.reshape(labels.shape), reduction), grad_x


def mse_formula(x, target, g, reduction):
    difference = x - target
    share = g / (x.value.size if reduction == "mean" else 1)
    return reduced(difference * difference, reduction), difference * (share * 2.0)


def reduced(losses, reduction):
    axes = tuple(range(losses.value.ndim))
    if reduction == "none":
        return losses
    return losses.mean(axes, keepdims=False) if reduction == "mean" else losses.sum(axes, keepdims=False)


def norm_formula(x, weight, bias, g, axes, affine_shape, eps, shifted=True):
    """Normalise over axes; PyTorch does not take the first value off before it averages."""
    affine_axes = tuple(axis for axis, length in enumerate(affine_shape) if length == 1)
    start = x[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(x.value.ndim))] if shifted else 0.0
    difference = x - start
    centred = difference - difference.mean(axes)
    inverse = 1.0 / ((centred * centred).mean(axes) + eps).sqrt()
    normalised = centred * inverse
    weight, bias = weight.reshape(affine_shape), bias.reshape(affine_shape)
    h = g * weight
    grad_x = (h - h.mean(axes) - normalised * (h * normalised).mean(axes)) * inverse
    return normalised * weight + bias, (grad_x, (g * normalised).sum(affine_axes), g.sum(affine_axes))
