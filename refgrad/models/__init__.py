"""Networks with the published layers and PyTorch's parameter names.

In: a generator for the initial weights, and a few sizes. Out: a `refgrad.nn.Module`.
"""

from refgrad.models.digits import DigitsNet

__all__ = ["DigitsNet"]
