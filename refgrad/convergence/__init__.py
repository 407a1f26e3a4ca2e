"""What a run with compressed activations guarantees, step by step (THEORY T13, T16-T20).

In: a step's gradient with the bounds on its error, a step size, and a smoothness that is known or verified along the
step. Out: a `Certificate`; and of a run's certificates the rates that follow.
"""

from refgrad.convergence.certificate import Certificate, LayerError, certify
from refgrad.convergence.gradient import CompressedGradient, bounding, compressed_gradient, loss_rounding, weight_of
from refgrad.convergence.rates import (
    Rate,
    average_gradient_bound,
    guaranteed_losses,
    linear_rate,
    relative_gradient_bound,
    stochastic_gradient_bound,
)
from refgrad.convergence.smoothness import (
    Curvature,
    certified_step,
    least_squares_curvature,
    logistic_curvature,
    softmax_curvature,
)

__all__ = [
    "Certificate",
    "CompressedGradient",
    "Curvature",
    "LayerError",
    "Rate",
    "average_gradient_bound",
    "bounding",
    "certified_step",
    "certify",
    "compressed_gradient",
    "guaranteed_losses",
    "least_squares_curvature",
    "linear_rate",
    "logistic_curvature",
    "loss_rounding",
    "relative_gradient_bound",
    "softmax_curvature",
    "stochastic_gradient_bound",
    "weight_of",
]
