"""refgrad: the NumPy reference for training with compressed activations.

The forward pass is exact; what each conv and linear layer keeps for the backward pass is its input compressed by a
truncated SVD or a higher-order SVD, and the weight gradient is contracted straight from the factors (Nguyen et al.,
"Activation Map Compression through Tensor Decomposition for Deep Learning", NeurIPS 2024, arXiv:2411.06346).

Examples
--------
>>> import numpy as np
>>> import refgrad as rg
>>> generator = np.random.default_rng(0)
>>> x, weight = generator.standard_normal((4, 2, 6, 6)), generator.standard_normal((3, 2, 3, 3))
>>> with rg.Tape(store=rg.HOSVD(explained_variance=0.8)) as tape:
...     w = tape.watch(weight)
...     loss = np.mean(rg.conv2d(x, w, padding=1) ** 2)
>>> tape.gradient(loss, w).shape
(3, 2, 3, 3)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refgrad import accounting, bounds, convergence, functional, nn, numpy_vjps, optim, rounding
    from refgrad.functional import (
        adaptive_avg_pool2d,
        adaptive_max_pool2d,
        avg_pool2d,
        batch_norm,
        conv2d,
        cross_entropy,
        dropout,
        flatten,
        gelu,
        layer_norm,
        linear,
        log_softmax,
        max_pool2d,
        mse_loss,
        relu,
        sigmoid,
        softmax,
        tanh,
    )
    from refgrad.geometry import ConvGeometry
    from refgrad.multilinear import (
        LowRank,
        Tucker,
        explained_variance_rank,
        fold,
        hosvd,
        mode_product,
        sequential_hosvd,
        singular_values,
        svd,
        unfold,
    )
    from refgrad.storage import HOSVD, SVD, Exact, SequentialHOSVD, Storage
    from refgrad.tape import Primitive, Tape, Tensor, value_and_grad

__version__ = "0.1.0"

__all__ = [
    "HOSVD",
    "SVD",
    "ConvGeometry",
    "Exact",
    "LowRank",
    "Primitive",
    "SequentialHOSVD",
    "Storage",
    "Tape",
    "Tensor",
    "Tucker",
    "__version__",
    "accounting",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "bounds",
    "conv2d",
    "convergence",
    "cross_entropy",
    "dropout",
    "explained_variance_rank",
    "flatten",
    "fold",
    "functional",
    "gelu",
    "hosvd",
    "layer_norm",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mode_product",
    "mse_loss",
    "nn",
    "numpy_vjps",
    "optim",
    "relu",
    "rounding",
    "sequential_hosvd",
    "sigmoid",
    "singular_values",
    "softmax",
    "svd",
    "tanh",
    "unfold",
    "value_and_grad",
]

_MODULES = ("accounting", "bounds", "convergence", "functional", "nn", "numpy_vjps", "optim", "rounding")

_HOME = {
    name: module
    for module, names in {
        "functional": (
            "adaptive_avg_pool2d adaptive_max_pool2d avg_pool2d batch_norm conv2d cross_entropy dropout flatten gelu "
            "layer_norm linear log_softmax max_pool2d mse_loss relu sigmoid softmax tanh"
        ),
        "geometry": "ConvGeometry",
        "multilinear": (
            "LowRank Tucker explained_variance_rank fold hosvd mode_product sequential_hosvd singular_values svd unfold"
        ),
        "storage": "HOSVD SVD Exact SequentialHOSVD Storage",
        "tape": "Primitive Tape Tensor value_and_grad",
    }.items()
    for name in names.split()
}
"""The module that each public name comes from; imported when the name is first used, so that refgrad loads fast."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"refgrad.{name}")
    if name in _HOME:
        value = globals()[name] = getattr(import_module(f"refgrad.{_HOME[name]}"), name)
        return value
    raise AttributeError(f"module 'refgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
