"""The public strategies: what they draw is valid, covers the corners, repeats, and shrinks to what can be read."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from refgrad.multilinear import singular_values, unfold
from refgrad.oracle import judge
from refgrad.oracle.cases import LAYOUTS, Case
from refgrad.oracle.ladder.cases import LadderCase
from refgrad.oracle.own import target as own
from refgrad.testing import activations, assert_judged, conv_cases, linear_cases
from refgrad.testing.strategies import SPECTRA
from tests.assertions import assert_same_bits

EXAMPLES = 400
REPEATABLE = settings(
    derandomize=True, database=None, deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck)
)


def drawn(strategy, count=EXAMPLES):
    """The same first examples every time, nothing shrunk."""
    values = []

    @settings(REPEATABLE, max_examples=count, phases=[Phase.generate])
    @given(strategy)
    def collect(value):
        values.append(value)

    collect()
    return values


def smallest(strategy, fails):
    return find(strategy, fails, settings=settings(REPEATABLE, max_examples=1000))


# The corners


def scaled_spectra(x):
    """The singular values of every unfolding, the largest being about 1, so that squares are harmless."""
    x = np.asarray(x, np.float64)
    largest = np.abs(x).max()
    return [singular_values(x / (largest or 1.0), mode) for mode in range(x.ndim)]


def rank(values):
    return np.count_nonzero(values > values[0] * 2.0**-21)


def reduced(check):
    """Whether it holds along every axis longer than 1, where there are two of them at least and x is not zero."""

    def holds(spectra):
        longer = [values for values in spectra if len(values) > 1]
        return len(longer) > 1 and longer[0][0] > 0 and all(map(check, longer))

    return holds


def equal(first, second):
    return abs(first - second) <= first * 2.0**-21


def tied(values):
    kept = values[: rank(values)]
    return any(map(equal, kept, kept[1:]))


def near(dtype, exponent):
    """Whether the largest entry is about 10^exponent."""
    return lambda x, _: x.dtype == dtype and x.any() and abs(np.log10(float(np.abs(x).max())) - exponent) < 3


ARRAY_CORNERS = {
    "a flat spectrum": lambda _, s: reduced(lambda v: rank(v) > 1 and equal(v[0], v[rank(v) - 1]))(s),
    "a tie below the largest": lambda _, s: reduced(lambda v: tied(v) and not equal(v[0], v[rank(v) - 1]))(s),
    "a steep spectrum": lambda _, s: reduced(lambda v: v[0] > 32 * v[1] > 2.0**-18)(s),
    "close singular values": lambda _, s: reduced(lambda v: v[0] * 2.0**-13 < v[0] - v[1] < v[0] * 2.0**-11)(s),
    "rank 0": lambda x, _: x.size > 1 and not x.any(),
    "rank 1": lambda _, s: reduced(lambda v: rank(v) == 1)(s),
    "a dead slice": lambda x, _: (
        x.any() and any((unfold(x, mode) == 0).all(axis=1).any() for mode in range(x.ndim)) and x.min() < 0
    ),
    "a ReLU": lambda x, _: x.size > 4 and x.min() == 0 < x.max(),
    "integers": lambda x, _: x.size > 4 and x.any() and (x == x.round()).all() and np.abs(x).max() <= 3,
    "one entry": lambda x, _: x.size == 1,
    "full rank": lambda x, s: x.size > 8 and all(rank(v) == len(v) for v in s),
}
SCALES = {
    "near 1e150": near(np.float64, 150),
    "near 1e-150": near(np.float64, -150),
    "near 1e18": near(np.float32, 18),
    "near 1e-18": near(np.float32, -18),
}
CASE_CORNERS = {
    "eps = 1": lambda c: c.explained_variance == 1,
    "small eps": lambda c: c.explained_variance < Fraction(1, 10**6),
    "eps of three decimals": lambda c: c.explained_variance.denominator == 1000,
    "one output channel": lambda c: len(c.parts["weight"]) == 1,
    "batch 1": lambda c: len(c.parts["x"]) == 1,
    "float32": lambda c: c.dtype == np.float32,
    "float64": lambda c: c.dtype == np.float64,
    **{f"{layout} layout": lambda c, layout=layout: c.layout == layout for layout in LAYOUTS},
}
CONV_CORNERS = {
    **CASE_CORNERS,
    "four different pads": lambda c: len({*c.padding[0], *c.padding[1]}) == 4,
    "no pads": lambda c: not any(map(any, c.padding)),
    "more padding than kernel": lambda c: max(c.padding[0]) >= c.weight.shape[2],
    "rows that the stride never reaches": lambda c: (
        c.padding[0] == (0, 0) and not c.geometry.multiplicity(c.x.shape[2:])[-1].any()
    ),
    "stride equal to dilation": lambda c: c.stride == c.dilation and min(c.stride) > 1,
    "stride equal to dilation on one axis": lambda c: (
        (c.stride[0] == c.dilation[0] > 1 < c.weight.shape[2]) != (c.stride[1] == c.dilation[1] > 1)
    ),
    "stride and dilation that differ per axis": lambda c: (
        c.stride[0] != c.stride[1] and c.dilation[0] != c.dilation[1] and min(c.weight.shape[2:]) > 1
    ),
    "1 x 1": lambda c: c.weight.shape[2:] == (1, 1),
    "1 x k": lambda c: c.weight.shape[2] == 1 < c.weight.shape[3],
    "k x 1": lambda c: c.weight.shape[3] == 1 < c.weight.shape[2],
    "an even kernel": lambda c: c.weight.shape[2] % 2 == 0 and c.weight.shape[3] % 2 == 0,
    "2 groups": lambda c: c.groups == 2 and c.weight.shape[1] > 1,
    "depthwise": lambda c: c.groups == c.x.shape[1] == c.weight.shape[0] > 1,
    "a depth multiplier": lambda c: 1 < c.groups == c.x.shape[1] < c.weight.shape[0],
    "one output position": lambda c: c.output_shape[2:] == (1, 1),
}
LINEAR_CORNERS = {
    **CASE_CORNERS,
    **{f"{n} axes": lambda c, n=n: c.array("x").ndim == n for n in (2, 3, 4)},
    "one feature": lambda c: c.array("x").shape[-1] == 1 < c.array("x").size,
}
LAYOUT_CORNERS = {
    "C layout": lambda a: a.flags.c_contiguous and a.flags.writeable,
    "read-only layout": lambda a: not a.flags.writeable,
    "Fortran or transposed layout": lambda a: a.flags.f_contiguous and not a.flags.c_contiguous,
    "strided layout": lambda a: not a.flags.c_contiguous and not a.flags.f_contiguous and min(a.strides) > 0,
    "reversed layout": lambda a: min(a.strides) < 0,
}


def missing(corners, values):
    """The corners that none of the values, each a tuple of arguments, is in."""
    return [corner for corner, reached in corners.items() if not any(reached(*value) for value in values)]


def with_spectra(arrays):
    return [(x, scaled_spectra(x)) for x in arrays]


def test_conv_cases_reach_every_corner():
    cases = drawn(conv_cases())
    assert missing(CONV_CORNERS, [(case,) for case in cases]) == []
    assert missing(ARRAY_CORNERS | SCALES, with_spectra(case.x for case in cases)) == []


def test_linear_cases_reach_every_corner():
    cases = drawn(linear_cases())
    assert missing(LINEAR_CORNERS, [(case,) for case in cases]) == []
    assert missing(ARRAY_CORNERS | SCALES, with_spectra(case.array("x") for case in cases)) == []


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_activations_reach_every_corner(dtype):
    arrays = drawn(activations(dtype=dtype))
    scales = {name: reached for name, reached in SCALES.items() if ("150" in name) == (dtype == "float64")}
    assert missing(ARRAY_CORNERS | scales, with_spectra(arrays)) == []
    assert missing(LAYOUT_CORNERS, [(x,) for x in arrays if sum(length > 1 for length in x.shape) > 1]) == []


# Named spectra


KINDS = {
    "integers": lambda x, _: (x == x.round()).all() and np.abs(x).max() <= 3,
    "normal": lambda _, s: all(len(v) == rank(v) for v in s),
    "relu": lambda x, _: x.min() == 0 < x.max(),
    "rank 1": lambda _, s: all(rank(v) == 1 for v in s),
    "flat": lambda _, s: all(rank(v) == 4 and equal(v[0], v[3]) for v in s),
    "tied": lambda _, s: all(
        rank(v) == 4 and equal(v[0], v[1]) and equal(v[2], v[3]) and equal(v[0], 2 * v[2]) for v in s
    ),
    "steep": lambda _, s: all(np.abs(v[:4] / v[0] * 64.0 ** np.arange(4) - 1).max() < 0.05 for v in s),
    "clustered": lambda _, s: all(
        2.0**-12.1 < v[:3].min() / v[0] < 1 - 2.0**-11.5 and abs(v[3] / v[0] - 0.5) < 2.0**-12 and rank(v) == 4
        for v in s
    ),
    "dead slice": lambda x, _: any((unfold(x, mode) == 0).all(axis=1).sum() == 1 for mode in range(4)),
    "rank 0": lambda x, _: not x.any(),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_a_named_spectrum_is_that_spectrum(spectrum, dtype):
    for x in drawn(activations((4, 6, 5, 7), dtype=dtype, spectrum=spectrum, scaled=False), 20):
        assert x.shape == (4, 6, 5, 7)
        assert KINDS[spectrum](x, scaled_spectra(x))


@pytest.mark.parametrize("spectrum", ["flat", "tied", "rank 1"])
def test_ties_are_exact_in_every_dtype(spectrum):
    """Gram matrices of such entries are sums that no dtype rounds, so their off-diagonal zeros and ties are exact."""
    for x in drawn(activations((3, 1, 5, 2), dtype="float32", spectrum=spectrum, scaled=False), 20):
        assert (x * 16 == (x * 16).round()).all()
        assert np.abs(x).max() <= 4


@given(st.data())
def test_the_sum_of_squares_fits_whatever_the_scale(data):
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    x = data.draw(activations((4, 6, 6, 6), dtype=dtype))
    with np.errstate(over="raise"):
        energy = np.sum(np.square(x))
    assert np.isfinite(energy)
    assert energy > 0 or not x.any()


# What is drawn is right


@given(conv_cases())
def test_conv_cases_are_valid(case):
    assert isinstance(case, Case)
    assert case.geometry.output_shape(case.x.shape, case.weight.shape) == case.grad_output.shape
    assert all(np.isfinite(array).all() and array.dtype == case.dtype for array in case.parts.values())
    assert max(case.x.shape[2:]) <= 6


@given(linear_cases())
def test_linear_cases_are_valid(case):
    assert isinstance(case, LadderCase)
    assert case.operation == "linear"
    assert case.array("x").ndim in (2, 3, 4)
    assert all(np.isfinite(array).all() and array.dtype == case.dtype for array in case.parts.values())


@given(activations(st.tuples(st.just(2), st.integers(1, 3)), dtype="float32"))
def test_activations_have_the_shape_and_dtype_that_were_asked_for(x):
    assert len(x) == 2
    assert x.shape[1] <= 3
    assert x.dtype == np.float32
    assert np.isfinite(x).all()


def test_only_what_is_allowed_is_drawn():
    cases = drawn(
        conv_cases(
            dtypes=["float32"],
            spectra=["relu", "rank 0"],
            max_size=2,
            groups=[2],
            layouts=["reversed", "strided"],
            scaled=False,
        ),
        100,
    )
    assert {(case.dtype.name, case.groups) for case in cases} == {("float32", 2)}
    assert {case.layout for case in cases} == {"reversed", "strided"}
    assert all(case.x.min() >= 0 and max(case.x.shape[2:] + case.weight.shape[2:]) <= 2 for case in cases)
    assert all(case.x.max() < 10 for case in cases)
    assert all(case.array("x").size == 1 for case in drawn(linear_cases(max_size=1), 30))
    assert all(case.x.size == 1 for case in drawn(conv_cases(max_size=1, groups=[1]), 30))


@pytest.mark.parametrize("strategy", [conv_cases(), linear_cases()], ids=["conv_cases", "linear_cases"])
def test_cases_follow_from_what_was_drawn(strategy):
    first = drawn(strategy, 60)
    for one, other in zip(first, drawn(strategy, 60), strict=True):
        assert (one.name, one.layout, one.explained_variance) == (other.name, other.layout, other.explained_variance)
        assert one.attributes == other.attributes
        for name, array in one.parts.items():
            assert array.tobytes() == other.parts[name].tobytes()
            assert_same_bits(array, other.parts[name])


def test_activations_follow_from_what_was_drawn():
    for one, other in zip(drawn(activations(), 60), drawn(activations(), 60), strict=True):
        assert_same_bits(one, other)
        assert (one.strides, one.flags.writeable) == (other.strides, other.flags.writeable)


def test_a_case_that_is_not_claimed_is_not_judged():
    def unclaimed(*_, **__):
        raise NotImplementedError("groups")

    for case in drawn(conv_cases(), 3):
        assert_judged(unclaimed, case)


@settings(max_examples=50)
@given(conv_cases())
def test_refgrad_passes_on_conv_cases(case):
    assert_judged(own.conv2d, case)


@settings(max_examples=50)
@given(linear_cases())
def test_refgrad_passes_on_linear_cases(case):
    assert_judged(own.linear, case)


# A wrong function is found, and what is found is small


def without_groups(x, weight, bias, grad_output, *, groups, **attributes):
    dense = np.tile(weight, (1, groups, 1, 1))
    return {"output": own.conv2d(x, dense, bias, grad_output, groups=1, **attributes)["output"]}


def test_forgotten_groups_are_found_on_two_entries():
    case = smallest(conv_cases(), lambda case: judge(without_groups, case).failed)
    assert (case.groups, case.x.shape, case.weight.shape) == (2, (1, 2, 1, 1), (2, 1, 1, 1))
    assert (case.stride, case.padding, case.dilation) == ((1, 1), ((0, 0), (0, 0)), (1, 1))
    assert (case.dtype, case.layout, case.explained_variance) == (np.float64, "C", 1)
    assert all((array == array.round()).all() and np.abs(array).max() <= 3 for array in case.parts.values())
    with pytest.raises(AssertionError, match=r"conv2d, case 'drawn, integers, integers, 2\^0, seed"):
        assert_judged(without_groups, case)


def test_forgotten_dilation_is_found_along_one_axis():
    def wrong(*arrays, dilation, **attributes):
        return {"grad_bias": arrays[3].sum((0, 2, 3))} if dilation == (1, 1) else {"grad_bias": 0 * arrays[2] + 99}

    case = smallest(conv_cases(), lambda case: judge(wrong, case).failed)
    assert sorted(case.dilation) == [1, 2]
    assert case.x.size == case.weight.size == 1


def test_cubes_that_overflow_are_found_on_one_entry():
    """The squares of what is drawn fit: so that this is found, both the scale and the entry have to be."""

    def overflows(case):
        with np.errstate(over="ignore"):
            return not np.isfinite(np.sum(np.abs(case.array("x")) ** 3))

    case = smallest(linear_cases(dtypes=["float32"]), overflows)
    assert case.array("x").size == 1
    assert np.abs(case.array("x")).max() > 1e12


def test_a_transposed_weight_of_a_linear_layer_is_found():
    def wrong(x, weight, bias, grad_output, **_):
        return {"output": x @ weight.T + bias} if x.ndim < 3 else {"output": np.swapaxes(x @ weight.T + bias, 0, 1)}

    case = smallest(linear_cases(), lambda case: judge(wrong, case).failed)
    assert sorted(case.array("x").shape) == [1, 1, 2]
    assert case.parts["weight"].shape == (1, 1)


def test_a_special_spectrum_is_in_the_minimum_only_where_it_matters():
    assert smallest(conv_cases(), lambda case: case.x.shape[0] == 2).name.startswith("drawn, integers, integers, 2^0")
    x = smallest(activations(), lambda x: x.size > 1 and not x.any())
    assert x.size == 2


# What is refused


@pytest.mark.parametrize(
    ("strategy", "arguments", "text"),
    [
        (conv_cases, {"dtypes": ["float16"]}, "dtypes must be one of 'float64', 'float32', got 'float16'"),
        (linear_cases, {"dtypes": [None]}, "dtypes must be one of 'float64', 'float32', got None"),
        (linear_cases, {"dtypes": ["real"]}, "dtypes must be one of 'float64', 'float32', got 'real'"),
        (
            conv_cases,
            {"dtypes": "float32"},
            "dtypes must be a tuple or a list of .*'float32', not empty, got 'float32'",
        ),
        (conv_cases, {"spectra": ["flat", "round"]}, "spectra must be one of 'integers', .*, got 'round'"),
        (linear_cases, {"spectra": []}, r"spectra must be a tuple or a list of some of 'integers', .*, got \[\]"),
        (conv_cases, {"layouts": ["D"]}, "layouts must be one of 'C', 'Fortran', .*, got 'D'"),
        (linear_cases, {"layouts": ["c"]}, "layouts must be one of 'C', 'Fortran', .*, got 'c'"),
        (conv_cases, {"groups": [0]}, "groups must be at least 1, got 0"),
        (conv_cases, {"groups": []}, r"groups must be a tuple or a list of positive integers, not empty, got \[\]"),
        (conv_cases, {"max_size": 0}, "max_size must be at least 1, got 0"),
        (linear_cases, {"max_size": -1}, "max_size must be at least 1, got -1"),
        (activations, {"dtype": "int64"}, "dtype must be one of 'float64', 'float32', got 'int64'"),
        (activations, {"spectrum": "round"}, "spectrum must be one of 'integers', .*, got 'round'"),
        (activations, {"layouts": ["D"]}, "layouts must be one of 'C', .*, got 'D'"),
        (activations, {"shape": ()}, r"shape must be a tuple or a list of positive integers, not empty, got \(\)"),
        (activations, {"shape": (2, 0)}, "shape must be at least 1, got 0"),
    ],
)
def test_what_is_unknown_is_refused_before_anything_is_drawn(strategy, arguments, text):
    with pytest.raises(ValueError, match=text):
        strategy(**arguments)


def test_a_numpy_dtype_is_taken_as_well():
    assert {case.dtype for case in drawn(linear_cases(dtypes=[np.float32]), 5)} == {np.dtype(np.float32)}
