"""Batch and layer normalisation as modules.

In: how many channels, or the shape that is normalised together. Out: modules, with PyTorch's names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from refgrad import functional
from refgrad.arguments import Array, positive_integer
from refgrad.functional.layer_normalization import checked_shape
from refgrad.functional.operands import number_in
from refgrad.nn.initialization import float_dtype
from refgrad.nn.module import Module
from refgrad.tape import Operand

__all__ = ["BatchNorm2d", "LayerNorm"]


class BatchNorm2d(Module):
    """Batch normalisation of (B, C, H, W), `refgrad.functional.batch_norm`.

    Parameters ``weight`` and ``bias``, buffers ``running_mean``, ``running_var`` and ``num_batches_tracked``. The
    buffers move in training; ``apply(..., update_state=False)`` leaves them as they are.

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        Added to the variance.
    momentum : float or None
        How far the running statistics move; None averages all batches alike.
    affine : bool
        Whether there are weight and bias.
    track_running_stats : bool
        Without, evaluation uses the statistics of the batch too.
    dtype : dtype
        float32 or float64.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not what it must be.

    Examples
    --------
    >>> layer = BatchNorm2d(1)
    >>> layer(np.array([1.0, 3.0]).reshape(2, 1, 1, 1)).ravel().round(4)
    array([-1.,  1.])
    >>> layer.running_mean
    array([0.2])
    """

    weight: Operand | None
    bias: Operand | None
    running_mean: Array
    running_var: Array
    num_batches_tracked: Array

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        super().__init__()
        self.num_features = positive_integer("num_features", num_features)
        self.eps = number_in("eps", eps, 0.0, np.inf, open_end=True)
        self.momentum = None if momentum is None else number_in("momentum", momentum, 0.0, 1.0)
        self.track_running_stats = track_running_stats
        kind = float_dtype(dtype)
        if affine:
            self.register_parameter("weight", np.ones(num_features, kind))
            self.register_parameter("bias", np.zeros(num_features, kind))
        else:
            self.weight = None
            self.bias = None
        if track_running_stats:
            self.register_buffer("running_mean", np.zeros(num_features, kind))
            self.register_buffer("running_var", np.ones(num_features, kind))
            self.register_buffer("num_batches_tracked", np.array(0))

    def forward(self, x: Operand) -> Operand:
        """Normalise each channel, in training by the batch and else by the running statistics."""
        if x.ndim != 4:
            raise ValueError(f"x must have 4 axes (B C H W), got {x.ndim}: shape {x.shape}")
        if not self.track_running_stats:
            return functional.batch_norm(x, self.weight, self.bias, None, None, training=True, eps=self.eps)
        batches = int(self.num_batches_tracked) + 1
        output = functional.batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=1.0 / batches if self.momentum is None else self.momentum,
            eps=self.eps,
        )
        if self.training:
            self.num_batches_tracked[...] = batches
        return output

    def describe(self) -> str:
        """Return the number of channels."""
        return f"{self.num_features}"


class LayerNorm(Module):
    """Layer normalisation over the last axes, `refgrad.functional.layer_norm`, with parameters ``weight`` and ``bias``.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The shape of what is normalised together.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Whether there are weight and bias.
    bias : bool
        Whether there is a bias next to the weight.
    dtype : dtype
        float32 or float64.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not what it must be.

    Examples
    --------
    >>> LayerNorm(2)(np.array([[1.0, 3.0]])).round(4)
    array([[-1.,  1.]])
    """

    weight: Operand | None
    bias: Operand | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        *,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        super().__init__()
        self.normalized_shape = checked_shape(normalized_shape)
        self.eps = number_in("eps", eps, 0.0, np.inf, open_end=True)
        kind = float_dtype(dtype)
        if elementwise_affine:
            self.register_parameter("weight", np.ones(self.normalized_shape, kind))
        else:
            self.weight = None
        if elementwise_affine and bias:
            self.register_parameter("bias", np.zeros(self.normalized_shape, kind))
        else:
            self.bias = None

    def forward(self, x: Operand) -> Operand:
        """Normalise over the last axes."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, eps=self.eps)

    def describe(self) -> str:
        """Return the shape."""
        return f"{self.normalized_shape}"
