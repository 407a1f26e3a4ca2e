"""What other people's test suites use: a pytest plugin, and assertions that fail with the oracle's report.

In: a target, or one of its operations and a case. Out: tests that pass, or fail saying what is wrong and why.
Nothing is imported until it is asked for, because pytest loads the plugin in every run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refgrad.testing.assertions import assert_judged, assert_rank, assert_same_subspace, assert_weight_gradient

__all__ = ["assert_judged", "assert_rank", "assert_same_subspace", "assert_weight_gradient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("refgrad.testing.assertions"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
