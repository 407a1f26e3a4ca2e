"""The comparisons that the tests use. They raise, and they are written so that NaN fails."""

import numpy as np


def assert_within(actual, expected, allowed, label="result"):
    """Assert |actual - expected| <= allowed, entry by entry; `allowed` is an array or a number (THEORY T15)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{label}: shape {actual.shape} where {expected.shape} was expected"
    error = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    allowed = np.broadcast_to(np.asarray(allowed, dtype=np.float64), error.shape)
    wrong = ~(error <= allowed)
    if wrong.any():
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(wrong, np.where(np.isnan(error), np.inf, error / allowed), -1.0)
        worst = np.unravel_index(int(np.argmax(np.nan_to_num(ratio, nan=np.inf))), error.shape)
        raise AssertionError(
            f"{label}: {int(wrong.sum())} of {error.size} entries are off; worst at {tuple(map(int, worst))}: "
            f"got {actual[worst]!r}, expected {expected[worst]!r}, "
            f"error {error[worst]:.3e}, allowed {allowed[worst]:.3e}"
        )


def assert_same_bits(actual, expected, label="result"):
    """Assert that two arrays have one dtype, one shape and the same values, bit for bit but for the sign of zero."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, f"{label}: dtype {actual.dtype} where {expected.dtype} was expected"
    assert actual.shape == expected.shape, f"{label}: shape {actual.shape} where {expected.shape} was expected"
    assert np.array_equal(actual, expected), f"{label}: differs, by {np.max(np.abs(actual - expected))!r} at most"
