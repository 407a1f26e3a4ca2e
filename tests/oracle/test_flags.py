"""Flags: that they follow from the numbers, that every one is shown by a named input, and what they say of an edge."""

import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from refgrad.oracle import FLAGS, OPERATIONS, find_case, find_case_of, flags_of, named_cases
from refgrad.oracle.cases import LAYOUTS, generated_case

ROOT = Path(__file__).resolve().parents[2]


def test_every_flag_is_shown_by_a_named_input_and_by_no_other_name():
    found = Counter(flag for operation in OPERATIONS for case in named_cases(operation) for flag in flags_of(case))
    assert set(found) == set(FLAGS)


def test_generated_inputs_reach_nearly_every_flag_of_a_convolution():
    found = {flag for number in range(400) for flag in flags_of(generated_case(3, number))}
    assert set(FLAGS) - found <= {"Vector", "ManyAxes", "LongSums", "Plain", "Integers"}


@pytest.mark.parametrize(
    ("name", "has", "has_not"),
    [
        ("plain", {"OblongKernel"}, {"Padding", "Stride", "Groups", "Float32", "RankTie"}),
        ("square kernel", set(), {"OblongKernel", "EvenKernel", "PointwiseKernel"}),
        ("1 x 1 kernel", {"PointwiseKernel"}, {"OblongKernel", "EvenKernel"}),
        ("padding of the height only", {"Padding", "UnequalPadding"}, {"Stride"}),
        ("leftover rows and columns", {"Stride", "Leftover"}, {"Padding", "StrideEqualsDilation"}),
        ("stride equals dilation, (2, 3)", {"Stride", "Dilation", "StrideEqualsDilation", "Float32"}, set()),
        ("stride equals dilation on the height only", {"Stride", "Dilation"}, {"StrideEqualsDilation"}),
        ("2 groups", {"Groups"}, {"Depthwise"}),
        ("depthwise", {"Groups", "Depthwise"}, {"Stride"}),
        ("batch of 1", {"BatchOfOne", "LengthOne"}, {"OneOutputChannel"}),
        ("one output channel", {"OneOutputChannel"}, {"BatchOfOne"}),
        ("more samples than numbers in one", {"TallUnfolding"}, {"LengthOne"}),
        ("tie at the cut", {"RankTie", "TiedCut", "TiedValues"}, {"RankOne"}),
        ("tie at the cut, float32", {"RankTie", "Float32"}, set()),
        ("tie at a decimal share", {"RankTie"}, {"TiedCut"}),
        ("flat spectrum", {"TiedCut", "TiedValues"}, {"RankTie"}),
        ("tied pair within the kept", {"TiedValues"}, {"TiedCut", "RankTie"}),
        ("everything kept", {"EverythingKept"}, {"RankTie", "AlmostNothingKept"}),
        ("almost nothing kept", {"AlmostNothingKept"}, {"EverythingKept"}),
        ("rank 1", {"RankOne"}, {"TiedValues", "DeadSlice"}),
        ("zero energy", {"ZeroEnergy"}, {"RankOne", "DeadSlice", "Small"}),
        ("dead channel", {"DeadSlice"}, {"ZeroEnergy"}),
        ("steep spectrum", {"SteepSpectrum"}, {"RankOne"}),
        ("x near 1e150", {"Large"}, {"Small"}),
        ("x near 1 / 1e18, float32", {"Small", "Float32"}, {"Large"}),
        ("small integers", {"Integers"}, {"Large"}),
        ("long sums", {"LongSums"}, {"Float32"}),
        ("read-only layout", {"ReadOnly"}, {"MemoryLayout"}),
        ("reversed layout", {"MemoryLayout"}, {"ReadOnly"}),
    ],
)
def test_flags_of_named_inputs(name, has, has_not):
    flags = set(flags_of(find_case(name)))
    assert has <= flags
    assert not has_not & flags


def test_flags_of_the_ladder():
    vector = find_case_of("unfold", "vector, mode 0")
    assert "Vector" in flags_of(vector)
    assert any("ManyAxes" in flags_of(case) for case in named_cases("hosvd"))
    assert flags_of(find_case_of("rank", "zero energy"))[:1] == ("ZeroEnergy",)
    assert any(flags_of(case) == ("Plain",) for case in named_cases("unfold"))


PROMISED = {
    "tie at": {"RankTie"},
    "flat, tie at": {"RankTie", "TiedCut"},
    "flat spectrum": {"TiedCut"},
    "tied pair": {"TiedValues"},
    "everything kept": {"EverythingKept"},
    "almost nothing kept": {"AlmostNothingKept"},
    "zero energy": {"ZeroEnergy"},
    "dead slice": {"DeadSlice"},
    "large": {"Large"},
    "small numbers": {"Small"},
    "small values": {"Small"},
    "small integers": {"Integers"},
    "5 axes": {"ManyAxes"},
    "tall": {"TallUnfolding"},
    "axes of length 1": {"LengthOne"},
    "read-only": {"ReadOnly"},
    "2 groups": {"Groups"},
    "depthwise": {"Depthwise"},
    "stride (2": {"Stride"},
    "dilation (2": {"Dilation"},
    "stride equals dilation": {"Stride", "Dilation"},
    "leftover": {"Leftover"},
    "even kernel": {"EvenKernel"},
    "four different pads": {"UnequalPadding"},
}
"""How the name of an input begins -> the flags that it has, whatever the operation."""


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_named_input_is_what_its_name_says(operation):
    for case in named_cases(operation):
        flags = set(flags_of(case))
        for beginning, promised in PROMISED.items():
            assert not case.name.startswith(beginning) or promised <= flags, case.name
        assert ("Float32" in flags) == case.name.endswith("float32") or operation == "conv2d", case.name


@pytest.mark.parametrize("operation", ["unfold", "svd", "hosvd", "sequential_hosvd", "linear", "conv2d"])
def test_an_operation_on_a_tensor_has_an_input_in_every_layout(operation):
    assert {case.layout for case in named_cases(operation)} == set(LAYOUTS)


def test_flags_follow_from_the_numbers_and_not_from_the_name():
    case = find_case("plain")
    louder = replace(case, x=np.ldexp(case.x, 450), explained_variance=Fraction(1), stride=(1, 1), layout="read-only")
    assert {"Large", "EverythingKept", "ReadOnly"} <= set(flags_of(louder))
    assert not {"Large", "EverythingKept", "ReadOnly"} & set(flags_of(case))


def test_every_flag_is_explained_and_the_docs_have_it():
    page = (ROOT / "docs/oracle.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, flags=re.MULTILINE))
    for name, flag in FLAGS.items():
        assert rows[name] == f"{flag.description} | {flag.effect}"
