"""Pooling as modules: none has parameters.

In: what the function of the same name takes besides its input. Out: modules.
"""

from __future__ import annotations

from refgrad import functional
from refgrad.functional.windows import AdaptiveGeometry, OutputSize, PoolGeometry
from refgrad.geometry import IntOrPair, Padding
from refgrad.nn.module import Module
from refgrad.tape import Operand

__all__ = ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "MaxPool2d"]


class MaxPool2d(Module):
    """The maximum of each window, `refgrad.functional.max_pool2d`, whose arguments it takes.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not what it must be.

    Examples
    --------
    >>> import numpy as np
    >>> MaxPool2d(2)(np.zeros((2, 3, 8, 8))).shape
    (2, 3, 4, 4)
    """

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.geometry = PoolGeometry.of(kernel_size, stride, padding, dilation, ceil_mode)

    def forward(self, x: Operand) -> Operand:
        """Return the maximum of each window."""
        reading = self.geometry.reading
        return functional.max_pool2d(
            x, reading.kernel_size, reading.stride, reading.padding, reading.dilation, self.geometry.ceil_mode
        )

    def describe(self) -> str:
        """Return kernel and stride."""
        return f"kernel_size={self.geometry.reading.kernel_size}, stride={self.geometry.reading.stride}"


class AvgPool2d(Module):
    """The mean of each window, `refgrad.functional.avg_pool2d`, whose arguments it takes.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not what it must be.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2d(3, stride=2, padding=1)(np.zeros((2, 3, 8, 8))).shape
    (2, 3, 4, 4)
    """

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.geometry = PoolGeometry.of(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Operand) -> Operand:
        """Return the mean of each window."""
        reading = self.geometry.reading
        return functional.avg_pool2d(
            x,
            reading.kernel_size,
            reading.stride,
            reading.padding,
            self.geometry.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def describe(self) -> str:
        """Return kernel and stride."""
        return f"kernel_size={self.geometry.reading.kernel_size}, stride={self.geometry.reading.stride}"


class AdaptiveAvgPool2d(Module):
    """The means of (H', W') parts, `refgrad.functional.adaptive_avg_pool2d`, whose argument it takes.

    Raises
    ------
    TypeError, ValueError
        Where it is not what it must be.

    Examples
    --------
    >>> import numpy as np
    >>> AdaptiveAvgPool2d(1)(np.zeros((2, 3, 8, 8))).shape
    (2, 3, 1, 1)
    """

    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = AdaptiveGeometry.of(output_size).output_size

    def forward(self, x: Operand) -> Operand:
        """Return the means of (H', W') parts."""
        return functional.adaptive_avg_pool2d(x, self.output_size)

    def describe(self) -> str:
        """Return the size."""
        return f"{self.output_size}"


class AdaptiveMaxPool2d(Module):
    """The maxima of (H', W') parts, `refgrad.functional.adaptive_max_pool2d`, whose argument it takes.

    Raises
    ------
    TypeError, ValueError
        Where it is not what it must be.

    Examples
    --------
    >>> import numpy as np
    >>> AdaptiveMaxPool2d((1, None))(np.zeros((2, 3, 8, 8))).shape
    (2, 3, 1, 8)
    """

    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = AdaptiveGeometry.of(output_size).output_size

    def forward(self, x: Operand) -> Operand:
        """Return the maxima of (H', W') parts."""
        return functional.adaptive_max_pool2d(x, self.output_size)

    def describe(self) -> str:
        """Return the size."""
        return f"{self.output_size}"
