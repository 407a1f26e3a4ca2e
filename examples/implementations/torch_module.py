"""An `nn.Module` around the Function of torch_function.py, made like `torch.nn.Conv2d`, judged right by refgrad.

In: `refgrad check examples/implementations/torch_module.py`. Out: `implementation`, the module as a target. It pads
both sides of an axis alike, and so does not claim the cases that do not.
"""

import torch
from torch_function import CompressedConv2d, stored

from refgrad.oracle.adapters import from_torch_module


class Conv2d(torch.nn.Conv2d):
    """A convolution that keeps its input compressed."""

    def __init__(self, *arguments, explained_variance, **keywords):
        super().__init__(*arguments, **keywords)
        self.explained_variance = explained_variance

    def forward(self, x):
        """Convolve."""
        (height, width) = self.padding
        pads = ((height, height), (width, width))
        return CompressedConv2d.apply(
            x, self.weight, self.bias, self.stride, pads, self.dilation, self.groups, self.explained_variance
        )


implementation = from_torch_module(Conv2d, stored=lambda module, ctx: stored(ctx))
