"""What other people's test suites use: a pytest plugin, Hypothesis strategies, assertions with the oracle's report.

In: a target, or one of its operations and a case. Out: tests that pass, or fail saying what is wrong and why. For tests
of bounds there are inputs that attain them as well (`attains_...`), and the one that no bound survives.
Nothing is imported until it is asked for, because pytest loads the plugin in every run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refgrad.testing.assertions import assert_judged, assert_rank, assert_same_subspace, assert_weight_gradient
    from refgrad.testing.sharpness import (
        SharpCase,
        attains_conv_bound,
        attains_discarded_maximum,
        attains_discarded_sum,
        attains_linear_bound,
        attains_network_bound,
        attains_pythagoras,
        attains_rounding_bound,
        attains_sequential_sum,
        attains_truncated_svd,
        no_free_lunch,
    )
    from refgrad.testing.strategies import activations, conv_cases, linear_cases

_HOME = {
    "assertions": ("assert_judged", "assert_rank", "assert_same_subspace", "assert_weight_gradient"),
    "sharpness": (
        "SharpCase",
        "attains_conv_bound",
        "attains_discarded_maximum",
        "attains_discarded_sum",
        "attains_linear_bound",
        "attains_network_bound",
        "attains_pythagoras",
        "attains_rounding_bound",
        "attains_sequential_sum",
        "attains_truncated_svd",
        "no_free_lunch",
    ),
    "strategies": ("activations", "conv_cases", "linear_cases"),
}
"""The names of each module."""

__all__ = [
    "SharpCase",
    "activations",
    "assert_judged",
    "assert_rank",
    "assert_same_subspace",
    "assert_weight_gradient",
    "attains_conv_bound",
    "attains_discarded_maximum",
    "attains_discarded_sum",
    "attains_linear_bound",
    "attains_network_bound",
    "attains_pythagoras",
    "attains_rounding_bound",
    "attains_sequential_sum",
    "attains_truncated_svd",
    "conv_cases",
    "linear_cases",
    "no_free_lunch",
]


def __getattr__(name: str) -> object:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"refgrad.testing.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
