"""Layers and networks: modules that own parameters, run on arrays or on tensors in their place, and are saved.

In: sizes and a generator. Out: a `Module`, with PyTorch's parameter names.
"""

from refgrad.nn.activations import GELU, Dropout, Flatten, ReLU, Sigmoid, Tanh
from refgrad.nn.containers import Sequential
from refgrad.nn.files import load_arrays, save_arrays
from refgrad.nn.initialization import kaiming_uniform
from refgrad.nn.layers import Conv2d, Linear
from refgrad.nn.module import Module
from refgrad.nn.normalization import BatchNorm2d, LayerNorm
from refgrad.nn.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d

__all__ = [
    "GELU",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "kaiming_uniform",
    "load_arrays",
    "save_arrays",
]
