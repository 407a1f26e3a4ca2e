"""The exact convolution and linear layer: forward, input gradient, weight gradient, bias gradient (THEORY D6).

In: plain arrays and a `ConvGeometry`. Out: new arrays of the same dtype. Whatever the batch, a call allocates no more
than `blocks.WORKING_MEMORY` bytes besides its result and one weight; the same call gives the same bits.
"""

from refgrad.convolution.conv2d import (
    conv2d_bias_gradient,
    conv2d_forward,
    conv2d_input_gradient,
    conv2d_weight_gradient,
)
from refgrad.convolution.linear import (
    linear_bias_gradient,
    linear_forward,
    linear_input_gradient,
    linear_weight_gradient,
)

__all__ = [
    "conv2d_bias_gradient",
    "conv2d_forward",
    "conv2d_input_gradient",
    "conv2d_weight_gradient",
    "linear_bias_gradient",
    "linear_forward",
    "linear_input_gradient",
    "linear_weight_gradient",
]
