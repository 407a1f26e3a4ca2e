"""The executable specification: the definitions D1 to D7 of THEORY.md as plain loops.

In: float64 arrays. Out: float64 arrays, the numbers that every fast path is tested against. Slow and obvious on
purpose; it imports nothing else of refgrad and no linear algebra, so that it can share a mistake with nobody. Read
`tensors`, `singular`, `tucker`, `linear_layer`, `convolution` and `step`, in this order.
"""

from refgrad.specification.convolution import (
    conv2d,
    conv2d_bias_gradient,
    conv2d_input_gradient,
    conv2d_weight_gradient,
    im2col,
)
from refgrad.specification.linear_layer import (
    linear,
    linear_bias_gradient,
    linear_input_gradient,
    linear_weight_gradient,
)
from refgrad.specification.singular import (
    explained_variance_rank,
    jacobi_svd,
    orthonormal_columns,
    truncated_svd,
)
from refgrad.specification.step import (
    CompressedStep,
    compressed_conv2d_step,
    compressed_linear_step,
    compressed_weight_gradient,
)
from refgrad.specification.tensors import fold, mode_product, reconstruct, unfold
from refgrad.specification.tucker import hosvd, sequential_hosvd, stored_numbers, subspace_iteration

__all__ = [
    "CompressedStep",
    "compressed_conv2d_step",
    "compressed_linear_step",
    "compressed_weight_gradient",
    "conv2d",
    "conv2d_bias_gradient",
    "conv2d_input_gradient",
    "conv2d_weight_gradient",
    "explained_variance_rank",
    "fold",
    "hosvd",
    "im2col",
    "jacobi_svd",
    "linear",
    "linear_bias_gradient",
    "linear_input_gradient",
    "linear_weight_gradient",
    "mode_product",
    "orthonormal_columns",
    "reconstruct",
    "sequential_hosvd",
    "stored_numbers",
    "subspace_iteration",
    "truncated_svd",
    "unfold",
]
