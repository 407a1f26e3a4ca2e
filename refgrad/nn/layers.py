"""The two layers whose input is kept compressed: convolution and linear.

In: sizes, a generator for the first values of the parameters, a dtype. Out: modules, with PyTorch's names.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from refgrad import functional
from refgrad.arguments import positive_integer
from refgrad.geometry import ConvGeometry, IntOrPair, Padding
from refgrad.nn.initialization import kaiming_uniform
from refgrad.nn.module import Module
from refgrad.storage import Storage
from refgrad.tape import Operand

__all__ = ["Conv2d", "Linear"]


def _checked_store(store: object) -> Storage | None:
    if store is not None and not isinstance(store, Storage):
        raise TypeError(f"store must be a Storage such as HOSVD(explained_variance=0.8), or None, got {store!r}")
    return store


class Conv2d(Module):
    """A convolution, `refgrad.functional.conv2d`, with parameters ``weight`` and ``bias``.

    Parameters
    ----------
    in_channels, out_channels : int
        C and O.
    kernel_size : int or pair of int
        (k_h, k_w); one number for both.
    stride, padding, dilation, groups
        As `refgrad.functional.conv2d` takes them.
    bias : bool
        Whether there is one.
    generator : numpy.random.Generator
        What the first values are drawn from, see `kaiming_uniform`.
    dtype : dtype
        float32 or float64.
    store : Storage, optional
        How this layer keeps its input; the tape's own storage where left out.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not what it must be, or the groups do not divide the channels.

    Examples
    --------
    >>> layer = Conv2d(3, 8, 3, padding=1, generator=np.random.default_rng(0))
    >>> layer(np.zeros((2, 3, 5, 5))).shape
    (2, 8, 5, 5)
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), padding=((1, 1), (1, 1)))
    """

    weight: Operand
    bias: Operand | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        *,
        stride: IntOrPair = 1,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        generator: np.random.Generator,
        dtype: npt.DTypeLike = np.float64,
        store: Storage | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = positive_integer("in_channels", in_channels)
        self.out_channels = positive_integer("out_channels", out_channels)
        self.geometry = ConvGeometry.of(kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups)
        for name, count in (("in_channels", in_channels), ("out_channels", out_channels)):
            if count % groups:
                raise ValueError(f"groups must divide {name}, got groups={groups} for {name}={count}")
        self.store = _checked_store(store)
        shape = (out_channels, in_channels // groups, *self.geometry.kernel_size)
        fan_in = int(np.prod(shape[1:]))
        self.register_parameter("weight", kaiming_uniform(shape, fan_in, generator=generator, dtype=dtype))
        if bias:
            first = kaiming_uniform((out_channels,), fan_in, generator=generator, dtype=dtype)
            self.register_parameter("bias", first)
        else:
            self.bias = None

    def forward(self, x: Operand) -> Operand:
        """Convolve (B, C, H, W) to (B, O, H', W')."""
        geometry = self.geometry
        return functional.conv2d(
            x,
            self.weight,
            self.bias,
            stride=geometry.stride,
            padding=geometry.padding,
            dilation=geometry.dilation,
            groups=geometry.groups,
            store=self.store,
        )

    def describe(self) -> str:
        """Return the sizes, and what differs from the defaults."""
        geometry = self.geometry
        plain = ConvGeometry.of(geometry.kernel_size)
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={geometry.kernel_size}"]
        for name in ("stride", "padding", "dilation", "groups"):
            if getattr(geometry, name) != getattr(plain, name):
                parts.append(f"{name}={getattr(geometry, name)}")
        if self.bias is None:
            parts.append("bias=False")
        if self.store is not None:
            parts.append(f"store={self.store}")
        return ", ".join(parts)


class Linear(Module):
    """A linear layer, `refgrad.functional.linear`, with parameters ``weight`` and ``bias``.

    Parameters
    ----------
    in_features, out_features : int
        I and O.
    bias : bool
        Whether there is one.
    generator : numpy.random.Generator
        What the first values are drawn from, see `kaiming_uniform`.
    dtype : dtype
        float32 or float64.
    store : Storage, optional
        How this layer keeps its input; the tape's own storage where left out.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not what it must be.

    Examples
    --------
    >>> Linear(4, 2, generator=np.random.default_rng(0))(np.zeros((3, 4))).shape
    (3, 2)
    """

    weight: Operand
    bias: Operand | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        generator: np.random.Generator,
        dtype: npt.DTypeLike = np.float64,
        store: Storage | None = None,
    ) -> None:
        super().__init__()
        self.in_features = positive_integer("in_features", in_features)
        self.out_features = positive_integer("out_features", out_features)
        self.store = _checked_store(store)
        first = kaiming_uniform((out_features, in_features), in_features, generator=generator, dtype=dtype)
        self.register_parameter("weight", first)
        if bias:
            first = kaiming_uniform((out_features,), in_features, generator=generator, dtype=dtype)
            self.register_parameter("bias", first)
        else:
            self.bias = None

    def forward(self, x: Operand) -> Operand:
        """Map (B, ..., I) to (B, ..., O)."""
        return functional.linear(x, self.weight, self.bias, store=self.store)

    def describe(self) -> str:
        """Return the sizes, and what differs from the defaults."""
        text = f"{self.in_features}, {self.out_features}" + (", bias=False" if self.bias is None else "")
        return text if self.store is None else f"{text}, store={self.store}"
