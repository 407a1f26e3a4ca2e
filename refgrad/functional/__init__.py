"""The operations that networks are made of, each a primitive of the tape, under the names of torch.nn.functional.

In: arrays or tensors. Out: an array if no tensor took part, else a tensor, and one record on its tape. A primitive's
forward pass, what it keeps for backward (a frozen dataclass) and its VJPs stand together.
"""

from refgrad.functional.activations import gelu, log_softmax, relu, sigmoid, softmax, tanh
from refgrad.functional.batch_normalization import batch_norm
from refgrad.functional.layer_normalization import layer_norm
from refgrad.functional.layers import conv2d, flatten, linear
from refgrad.functional.losses import cross_entropy, mse_loss
from refgrad.functional.pooling import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from refgrad.functional.regularization import dropout

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "cross_entropy",
    "dropout",
    "flatten",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]
