"""Hypothesis profiles: `ci` draws the same inputs every time, `search` new ones; both print how to repeat a failure."""

import os

from hypothesis import HealthCheck, settings

collect_ignore = ["mutants", "mutation"]
"""Programs that run the tests, and need packages that the tests do not."""

# What a property test computes takes milliseconds here and seconds on a loaded machine: time is never what it judges.
settings.register_profile(
    "ci",
    max_examples=60,
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "search",
    max_examples=2000,
    derandomize=False,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("REFGRAD_PROFILE", "ci"))
