"""Certificates for compressed weight gradients (THEORY T3, T7, T11-T13, T15).

In: what a layer kept of its input, and the gradient of its output. Out: a `GradientBound`, for a layer or a network,
and for each of its grades the `Derivation` that a report prints.

The bounds on rounding (T15) that everything here and in the oracle starts from are `gamma`, `inner_product_bound`,
`singular_value_bound` and `unit_roundoff`. They live in `refgrad.rounding`, below everything that computes, and can be
had from here as well.
"""

from refgrad.bounds.activation import activation_error_bounds
from refgrad.bounds.derivation import Derivation
from refgrad.bounds.gradient import GRADES, GradientBound, weight_gradient_bound
from refgrad.bounds.network import network_bound, shared_weight_bound
from refgrad.bounds.norms import spectral_norms
from refgrad.rounding import gamma, inner_product_bound, singular_value_bound, unit_roundoff

__all__ = [
    "GRADES",
    "Derivation",
    "GradientBound",
    "activation_error_bounds",
    "gamma",
    "inner_product_bound",
    "network_bound",
    "shared_weight_bound",
    "singular_value_bound",
    "spectral_norms",
    "unit_roundoff",
    "weight_gradient_bound",
]
