"""The small CNN for 8 x 8 digits: images (B, 1, 8, 8) come in, one score for each of 10 classes goes out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from refgrad.arguments import positive_integer, shape_text
from refgrad.functional import flatten, max_pool2d, relu
from refgrad.nn import BatchNorm2d, Conv2d, Linear, Module
from refgrad.tape import Operand

__all__ = ["DigitsNet"]

WIDTHS = (16, 32, 64)
"""The out channels of the three convolutions."""


class DigitsNet(Module):
    """Three 3 x 3 convolutions of 16, 32 and 64 channels and a linear layer.

    Each convolution keeps height and width, and is followed by batch normalisation, where wanted, and a ReLU; the
    second and the third by a 2 x 2 max pooling too. A convolution that is normalised has no bias, which the mean would
    only take away again.

    Parameters
    ----------
    image_shape : three int
        (C, H, W) of the images; H and W at least 4.
    classes : int
        How many scores come out.
    norm : bool
        Whether there is batch normalisation.
    generator : numpy.random.Generator
        What the initial weights are drawn from.
    dtype : dtype
        Of the parameters: float32 or float64.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not of its kind, or the images are too small.

    Examples
    --------
    >>> model = DigitsNet(norm=False, generator=np.random.default_rng(0))
    >>> model(np.zeros((2, 1, 8, 8))).shape
    (2, 10)
    >>> list(model.parameters())[:2], list(model.parameters())[-2:]
    (['conv1.weight', 'conv1.bias'], ['fc.weight', 'fc.bias'])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 8, 8),
        classes: int = 10,
        *,
        norm: bool = True,
        generator: np.random.Generator,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height < 4 or width < 4:
            raise ValueError(
                f"image_shape must have H and W of at least 4, for they are halved twice, "
                f"got {shape_text(image_shape, 'C H W')}"
            )
        self.norm = norm
        for i, out_channels in enumerate(WIDTHS, start=1):
            convolution = Conv2d(channels, out_channels, 3, padding=1, bias=not norm, generator=generator, dtype=dtype)
            self.add_module(f"conv{i}", convolution)
            if norm:
                self.add_module(f"bn{i}", BatchNorm2d(out_channels, dtype=dtype))
            channels = out_channels
        features = channels * (height // 4) * (width // 4)
        self.fc = Linear(features, positive_integer("classes", classes), generator=generator, dtype=dtype)

    def forward(self, x: Operand) -> Operand:
        """Return the scores (B, classes) of images (B, C, H, W)."""
        parts = self.children()
        for i in range(1, len(WIDTHS) + 1):
            x = parts[f"conv{i}"](x)
            if self.norm:
                x = parts[f"bn{i}"](x)
            x = relu(x)
            if i > 1:
                x = max_pool2d(x, 2)
        return self.fc(flatten(x))

    def describe(self) -> str:
        """Return what stands between the parentheses of the module's repr."""
        return f"norm={self.norm}"
