"""The inputs: what a case refuses, what the catalogue covers, what the generator reaches, and that both repeat."""

import json
from collections import Counter
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from refgrad.oracle import plan
from refgrad.oracle.cases import LAYOUTS, Case, generated, generated_case, random_tensor, with_layout
from refgrad.oracle.catalogue import catalogue, find_case, with_spectrum
from refgrad.oracle.derived import SEEDED
from refgrad.oracle.ladder.cases import each_array
from refgrad.oracle.mistakes import Parts
from refgrad.oracle.mistakes.geometry import Reading, read_grad_weight
from refgrad.oracle.reference import Reference
from refgrad.oracle.vectors import CORPUS
from refgrad.oracle.vectors.manifest import identity_of
from tests.assertions import assert_same_bits

NAMED = catalogue()
ONES = {
    "x": np.ones((1, 1, 3, 3)),
    "weight": np.ones((1, 1, 2, 2)),
    "bias": np.zeros(1),
    "grad_output": np.ones((1, 1, 2, 2)),
}


def same_case(first, second):
    for name in ("x", "weight", "bias", "grad_output"):
        assert_same_bits(getattr(first, name), getattr(second, name))
    assert first.attributes == second.attributes
    assert (first.name, first.layout, first.explained_variance) == (
        second.name,
        second.layout,
        second.explained_variance,
    )


def test_catalogue_is_the_same_every_time_and_its_names_are_unique():
    for first, second in zip(NAMED, catalogue(), strict=True):
        same_case(first, second)
    assert len({case.name for case in NAMED}) == len(NAMED) >= 30
    assert all(case.effect for case in NAMED)


def near(dtype, exponent):
    """Whether the largest entry is about 10^exponent."""
    return lambda case, _: (
        case.dtype == dtype and case.x.any() and abs(np.log10(np.abs(case.x).max().astype(float)) - exponent) < 2
    )


def few(squares, share):
    """How many squared singular values are over a share of the largest."""
    return np.count_nonzero(squares > squares[0] * share)


CORNERS = {
    "a tie at the cut": lambda c, r: (
        c.explained_variance < 1 and c.x.any() and any(m.ranks[0] < m.ranks[1] for m in r.modes)
    ),
    "zero energy": lambda c, _: not c.x.any(),
    "a dead slice": lambda c, r: c.x.any() and any((m.matrix == 0).all(axis=1).any() for m in r.modes),
    "a flat spectrum": lambda _, r: all(few(m.squares, 1 / 2) == few(m.squares, 2**-20) > 1 for m in r.modes),
    "a steep spectrum": lambda _, r: all(m.squares[0] > 2**20 * m.squares[-1] > 0 for m in r.modes),
    "rank 1": lambda c, r: c.x.min() != c.x.max() and all(few(m.squares, 2**-40) == 1 for m in r.modes),
    "near 1e150": near(np.float64, 150),
    "near 1e-150": near(np.float64, -150),
    "near 1e18": near(np.float32, 18),
    "near 1e-18": near(np.float32, -18),
    "four different pads": lambda c, _: len({*c.padding[0], *c.padding[1]}) == 4,
    "more than half a kernel of padding": lambda c, _: (
        2 * max(c.padding[0]) > c.weight.shape[2] and 2 * max(c.padding[1]) > c.weight.shape[3]
    ),
    "rows that the stride never reaches": lambda c, _: not c.geometry.multiplicity(c.x.shape[2:]).any(axis=1).all(),
    "stride equal to dilation": lambda c, _: c.stride == c.dilation != (1, 1),
    "stride equal to dilation on one axis": lambda c, _: (
        (c.stride[0] == c.dilation[0] > 1) != (c.stride[1] == c.dilation[1] > 1)
    ),
    "kernel height other than its width": lambda c, _: c.weight.shape[2] != c.weight.shape[3],
    "an even kernel": lambda c, _: c.weight.shape[2] % 2 == 0 and c.weight.shape[3] % 2 == 0,
    "1 x 1": lambda c, _: c.weight.shape[2:] == (1, 1),
    "2 groups": lambda c, _: c.groups == 2,
    "depthwise": lambda c, _: c.groups == c.x.shape[1] == c.weight.shape[0] > 1,
    "a depth multiplier": lambda c, _: 1 < c.groups == c.x.shape[1] < c.weight.shape[0],
    "one output channel": lambda c, _: c.weight.shape[0] == 1,
    "batch 1": lambda c, _: c.x.shape[0] == 1,
    "size-1 axes": lambda c, _: 1 in c.x.shape[2:],
    "more samples than numbers in one": lambda c, _: c.x.shape[0] > c.x[0].size,
    "float32": lambda c, _: c.dtype == np.float32,
    "eps = 1": lambda c, _: c.explained_variance == 1,
    "small eps": lambda c, _: c.explained_variance < Fraction(1, 10**6),
    **{f"{layout} layout": lambda c, _, layout=layout: c.layout == layout for layout in LAYOUTS},
}
ONLY_NAMED = {"more samples than numbers in one"}


@pytest.fixture(scope="module")
def generated_pool():
    return [(case, Reference(case)) for case in generated(3, 400)]


@pytest.mark.parametrize("corner", CORNERS)
def test_catalogue_has_the_corner(corner):
    assert any(CORNERS[corner](case, Reference(case)) for case in NAMED)


@pytest.mark.parametrize("corner", sorted(CORNERS.keys() - ONLY_NAMED))
def test_generated_cases_reach_the_corner(corner, generated_pool):
    assert any(CORNERS[corner](case, reference) for case, reference in generated_pool)


def test_catalogue_has_every_stride_with_every_dilation_on_both_axes():
    for axis in (0, 1):
        seen = Counter((case.stride[axis], case.dilation[axis]) for case in NAMED if case.weight.shape[2 + axis] > 1)
        assert {(s, d) for s in (1, 2, 3) for d in (1, 2, 3)} <= set(seen)


@pytest.mark.parametrize("case", [c for c in NAMED if c.name.startswith("stride (")], ids=lambda c: c.name)
def test_a_case_of_the_grid_tells_shortcut_swap_and_axis_swap_apart(case):
    """A case on which two of them agree would let the wrong one pass."""
    parts = Parts(Reference(case))
    right = Reading.right(parts)
    shape = (case.stride, case.dilation)
    wrong = {
        "shortcut": ((1, 1), case.dilation),
        "swap": (case.dilation, case.stride),
        "axis swap": (case.stride[::-1], case.dilation[::-1]),
    }

    def gradient(stride, dilation):
        reading = Reading(stride, right.padding, dilation, right.channels)
        return read_grad_weight(parts.activation, parts.grad_output, reading, case.weight.shape[2:])

    truth = gradient(*shape)
    for name, attributes in wrong.items():
        if attributes != shape:
            assert np.abs(gradient(*attributes) - truth).max() > 1, f"{case.name} does not show the {name}"


def test_a_generated_case_follows_from_seed_and_number_alone():
    several = list(generated(11, 6))
    same_case(several[4], generated_case(11, 4))
    same_case(several[4], list(generated(11, 5))[4])
    assert not np.array_equal(generated_case(11, 4).bias, generated_case(12, 4).bias)


def test_find_case_finds_what_a_report_names():
    same_case(find_case("generated 11/4"), generated_case(11, 4))
    same_case(find_case(NAMED[3].name), NAMED[3])


def test_the_inputs_of_the_golden_vectors_are_still_found_by_their_names(monkeypatch):
    monkeypatch.setattr(plan, "named_cases", cache(plan.named_cases))
    for entry in json.loads((CORPUS / "manifest.json").read_text())["vectors"]:
        if entry["name"].endswith(SEEDED):
            continue  # it has the shapes of one that is looked at here, and numbers that follow from its name
        case = plan.find_case_of(entry["operation"], entry["name"])
        if "factors" not in case.parts:  # the last bits of a basis are LAPACK's, and others on another machine
            assert identity_of(case) == entry["id"], case.name
        shapes = {
            name if number is None else f"{name}[{number}]": list(array.shape)
            for name, number, array in each_array(case.parts)
        }
        assert shapes == {name: given["shape"] for name, given in entry["inputs"].items()}, case.name


def test_find_case_refuses_an_unknown_name():
    with pytest.raises(ValueError, match="there is no case named 'plane'; catalogue\\(\\) lists them"):
        find_case("plane")


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"bias": np.zeros(2)}, ValueError, r"bias must have shape \(1,\), got \(2,\)"),
        ({"grad_output": np.ones((1, 1, 3, 3))}, ValueError, r"grad_output must have shape \(1, 1, 2, 2\), got"),
        ({"explained_variance": Fraction(0)}, ValueError, r"explained_variance must be in \(0, 1\], got 0"),
        ({"explained_variance": Fraction(5, 4)}, ValueError, r"explained_variance must be in \(0, 1\], got 5/4"),
        ({"layout": "odd"}, ValueError, "layout must be one of C, Fortran, .*, got 'odd'"),
        ({"bias": np.zeros(1, np.float32)}, TypeError, "x and bias must have one dtype"),
        ({"x": np.full((1, 1, 3, 3), np.nan)}, ValueError, "x must be finite"),
        ({"groups": 2}, ValueError, "groups must divide"),
    ],
)
def test_a_case_refuses_what_does_not_fit(changes, error, text):
    with pytest.raises(error, match=text):
        Case("wrong", **{**ONES, **changes})


@pytest.mark.parametrize(("seed", "count"), [(-1, 1), (0, -1)])
def test_generated_refuses_negative_numbers(seed, count):
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        generated(seed, count)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_keeps_the_values(layout):
    array = np.arange(24.0).reshape(2, 3, 4)
    copy = with_layout(array, layout)
    assert_same_bits(copy, array)
    assert not np.may_share_memory(copy, array)
    assert copy.flags.writeable == (layout != "read-only")
    assert copy.flags.c_contiguous == (layout in ("C", "read-only"))
    assert (min(copy.strides) < 0) == (layout == "reversed")


def test_arguments_are_fresh_for_every_call():
    case = find_case("plain")
    case.arrays()["x"][...] = 7
    assert_same_bits(case.arrays()["x"], case.x)


def test_with_spectrum_has_that_spectrum_on_every_mode():
    tensor = with_spectrum(5, 3, 3, 0)
    for mode in range(4):
        gram = np.moveaxis(tensor, mode, 0).reshape(4, -1)
        assert_same_bits(
            np.sort(np.linalg.eigvalsh(gram @ gram.T).round(6))[::-1] / 256 + 0.0, np.array([25.0, 9.0, 9.0, 0.0])
        )


def test_random_tensor_repeats_samples():
    tensor = random_tensor(np.random.default_rng(0), (5, 2, 2, 2), "repeated")
    assert_same_bits(tensor[3:], tensor[:2])


def test_a_case_describes_itself_without_what_does_nothing():
    case = find_case("Fortran layout, groups, float32")
    text = case.describe()
    assert text.startswith("float32, x (B=2, C=4, H=5, W=6), weight (4, 2, 3, 2), stride (1, 2)")
    assert text.endswith("explained_variance 4/5, Fortran layout")
    assert "dilation" not in text
