"""What other people's test suites use: a pytest plugin, Hypothesis strategies, and assertions with the oracle's report.

In: a target, or one of its operations and a case. Out: tests that pass, or fail saying what is wrong and why.
Nothing is imported until it is asked for, because pytest loads the plugin in every run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refgrad.testing.assertions import assert_judged, assert_rank, assert_same_subspace, assert_weight_gradient
    from refgrad.testing.strategies import activations, conv_cases, linear_cases

__all__ = [
    "activations",
    "assert_judged",
    "assert_rank",
    "assert_same_subspace",
    "assert_weight_gradient",
    "conv_cases",
    "linear_cases",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        module = "assertions" if name.startswith("assert_") else "strategies"
        return getattr(import_module(f"refgrad.testing.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
