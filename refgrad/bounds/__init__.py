"""Certificates for compressed weight gradients (THEORY T3, T7, T11-T13, T15).

In: what a layer kept of its input, and the gradient of its output. Out: a `GradientBound`, for a layer or a network.
"""

from refgrad.bounds.gradient import (
    GRADES,
    GradientBound,
    activation_error_bounds,
    network_bound,
    weight_gradient_bound,
)
from refgrad.bounds.norms import spectral_norms

__all__ = [
    "GRADES",
    "GradientBound",
    "activation_error_bounds",
    "network_bound",
    "spectral_norms",
    "weight_gradient_bound",
]
