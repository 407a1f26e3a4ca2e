"""Convolution as one einsum over sliding windows of the padded image: a derivation that shares nothing with refgrad's.

In: arrays of any dtype and a `ConvCase`'s attributes. Out: the same as `refgrad.convolution`, in that dtype.
"""

import numpy as np


def windows(x, kernel_size, *, stride, padding, dilation, groups):
    """(B, groups, C / groups, H', W', k_h, k_w): what each output position reads through each tap."""
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True))
    every = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(2, 3))
    read = every[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    return read.reshape(x.shape[0], groups, -1, *read.shape[2:])


def forward(x, weight, bias, **attributes):
    groups = attributes["groups"]
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    output = np.einsum("bgchwuv,gocuv->bgohw", windows(x, weight.shape[2:], **attributes), by_group)
    output = output.reshape(x.shape[0], weight.shape[0], *output.shape[3:])
    return output if bias is None else output + bias[:, None, None]


def weight_gradient(x, grad_output, kernel_size, **attributes):
    groups = attributes["groups"]
    by_group = grad_output.reshape(x.shape[0], groups, -1, *grad_output.shape[2:])
    gradient = np.einsum("bgchwuv,bgohw->gocuv", windows(x, kernel_size, **attributes), by_group)
    return gradient.reshape(grad_output.shape[1], -1, *kernel_size)


def input_gradient(grad_output, weight, input_size, **attributes):
    groups = attributes["groups"]
    batch = grad_output.shape[0]
    shape = (batch, groups * weight.shape[1], *input_size)
    by_group = grad_output.reshape(batch, groups, -1, *grad_output.shape[2:])
    given_back = np.einsum("bgohw,gocuv->bgchwuv", by_group, weight.reshape(groups, -1, *weight.shape[1:]))
    # pixels are numbered from 1; what is read from the padding goes to number 0
    numbers = windows(np.arange(1, np.prod(shape) + 1).reshape(shape), weight.shape[2:], **attributes)
    total = np.zeros(np.prod(shape) + 1, grad_output.dtype)
    np.add.at(total, numbers.ravel(), given_back.ravel())
    return total[1:].reshape(shape)
