"""The descent to the smallest input: it ends, keeps what it must, and finds what is really small."""

import numpy as np
import pytest

from refgrad.oracle.catalogue import catalogue, find_case
from refgrad.oracle.judge import judge
from refgrad.oracle.shrink import complexity, replace_case, shrink, simpler
from refgrad.oracle.variants import layer
from tests.oracle.test_answers import setting_from

STARTS = ["four different pads, float32", "groups, strides and pads", "stride (2, 3), dilation (2, 3)", "x near 1e150"]


@pytest.mark.parametrize("name", STARTS)
def test_every_step_is_simpler_and_a_right_case(name):
    case = find_case(name)
    before = complexity(case)
    count = 0
    for candidate in simpler(case):
        assert complexity(candidate) < before
        assert candidate.grad_output.shape == candidate.output_shape
        count += 1
    assert count > 20


@pytest.mark.parametrize("name", STARTS)
def test_what_always_fails_shrinks_to_almost_nothing(name):
    small = shrink(find_case(name), lambda _: True)
    assert [array.size for array in (small.x, small.weight, small.bias, small.grad_output)] == [1, 1, 1, 1]
    assert small.attributes == {
        "stride": (1, 1),
        "padding": ((0, 0), (0, 0)),
        "dilation": (1, 1),
        "groups": 1,
        "explained_variance": 1.0,
    }
    assert (small.layout, small.dtype, float(small.bias[0])) == ("C", np.float64, 0.0)


def test_what_only_this_case_fails_stays():
    case = find_case("plain")
    assert shrink(case, lambda _: False) is case


def test_it_stops_after_as_many_evaluations_as_it_may_make():
    asked = []
    shrink(find_case("plain"), lambda case: bool(asked.append(case)), evaluations=7)
    assert len(asked) == 7


CONDITIONS = {
    "two groups": lambda c: c.groups >= 2,
    "stride equal to dilation": lambda c: c.stride == c.dilation != (1, 1),
    "top padding over bottom padding": lambda c: c.padding[0][0] > c.padding[0][1],
    "two samples": lambda c: c.x.shape[0] >= 2,
    "kernel of two rows": lambda c: c.weight.shape[2] >= 2,
    "an activation that is not zero": lambda c: c.x.any(),
    "float32": lambda c: c.dtype == np.float32,
    "not C-contiguous": lambda c: c.layout not in ("C", "read-only"),
    "not everything kept": lambda c: c.explained_variance < 1,
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_what_has_to_stay_stays_and_the_rest_goes(name):
    start = next(
        case
        for case in reversed(catalogue())
        if all(CONDITIONS[each](case) for each in (name, "an activation that is not zero"))
    )
    small = shrink(start, CONDITIONS[name])
    assert CONDITIONS[name](small)
    assert small.x.size + small.weight.size + small.bias.size + small.grad_output.size <= 8


def test_values_become_small_integers():
    """A mistake in the sign of negative outputs needs one negative number, and shows it."""
    wrong = setting_from("output", lambda answer, _: np.abs(answer["output"]))
    small = shrink(find_case("plain"), lambda case: judge(wrong, case, rows=("forward",)).verdicts["forward"].failed)
    values = np.concatenate([small.x.ravel(), small.weight.ravel(), small.bias])
    assert sorted(np.abs(values)) in ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0]), small.describe()
    assert (values < 0).sum() == 1


def test_a_mistake_in_float32_alone_keeps_float32():
    right = layer()

    def wrong(x, *rest, **attributes):
        answer = right(x, *rest, **attributes)
        return {"output": answer["output"] + (x.dtype == np.float32)}

    small = shrink(find_case("plain, float32"), lambda case: judge(wrong, case, rows=("forward",)).failed)
    assert small.dtype == np.float32
    assert small.x.size == 1


def test_replace_case_changes_what_it_is_told():
    case = find_case("plain")
    assert replace_case(case, name="other").name == "other"
    assert replace_case(case, name="other").x is case.x
