"""The example implementations: the right one is always right, each wrong one makes just the mistake that it states."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given

from refgrad import specification as spec
from refgrad.rounding import LAPACK_THRESHOLD, gamma, inner_product_bound, unit_roundoff
from tests.assertions import assert_same_bits, assert_within
from tests.strategies import ConvCase, conv_cases, explained_variances

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "implementations"


def load(name):
    """Import a file as a script finds its neighbours: with its folder on the path."""
    location = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(location)
    sys.path.insert(0, str(FOLDER))
    try:
        location.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module.implementation


correct = load("correct_numpy")


def run(implementation, case, explained_variance):
    return implementation(
        case.x, case.weight, case.bias, case.grad_output, explained_variance=explained_variance, **case.attributes
    )


def example_case(*, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1, dtype=np.float64, zero=False):
    generator = np.random.default_rng(5)
    x, weight = generator.standard_normal((3, 4, 7, 8)), generator.standard_normal((4, 4 // groups, 2, 3))
    attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    grad_output = generator.standard_normal(spec.conv2d(x, weight, **attributes).shape)
    arrays = (0.0 * x if zero else x, weight, generator.standard_normal(4), grad_output)
    return ConvCase(*(array.astype(dtype) for array in arrays), **attributes)


def admissible_ranks(values, explained_variance, dtype):
    """D1 for the smallest and the largest share of the energy that rounding can make of explained_variance."""
    slack = 2 * LAPACK_THRESHOLD * len(values) * unit_roundoff(dtype)
    low = spec.explained_variance_rank(values, max(explained_variance - slack, sys.float_info.min))
    return low, spec.explained_variance_rank(values, min(explained_variance + slack, 1.0))


@given(conv_cases(scaled=True, longest=5), explained_variances)
@example(example_case(zero=True), 0.5)
@example(example_case(zero=True, dtype=np.float32), 1.0)
@example(example_case(padding=((3, 0), (1, 2)), stride=(3, 2), dilation=(2, 3), groups=2), 0.8)
@example(example_case(groups=4, dtype=np.float32), 0.9)
@example(example_case(stride=(2, 2), dilation=(2, 2)), 0.9)
@example(example_case(stride=(1, 2), dilation=(1, 2), groups=2), 0.99)
def test_the_correct_example_is_right(case, explained_variance):
    dtype = case.x.dtype
    before = [array.copy() for array in (case.x, case.weight, case.bias, case.grad_output)]
    result = run(correct, case, explained_variance)
    for array, copy in zip((case.x, case.weight, case.bias, case.grad_output), before, strict=True):
        assert_same_bits(array, copy, "argument")
    x, weight, bias, grad_output = (array.astype(np.float64) for array in before)
    attributes, kernel_size = case.attributes, weight.shape[2:]
    smallest = float(np.finfo(dtype).smallest_subnormal)

    def assert_rounded_once(name, expected, length, majorant):
        """Sums in float64, and one rounding to the dtype."""
        assert result[name].dtype == dtype
        allowed = 2 * inner_product_bound(length, majorant, np.float64) + unit_roundoff(dtype) * np.abs(expected)
        assert_within(result[name], expected, allowed + smallest, name)

    assert_rounded_once(
        "output",
        spec.conv2d(x, weight, bias, **attributes),
        weight[0].size + 2,
        spec.conv2d(np.abs(x), np.abs(weight), np.abs(bias), **attributes),
    )
    assert_rounded_once(
        "grad_input",
        spec.conv2d_input_gradient(grad_output, weight, x.shape[2:], **attributes),
        weight.size + 2,
        spec.conv2d_input_gradient(np.abs(grad_output), np.abs(weight), x.shape[2:], **attributes),
    )
    assert_rounded_once(
        "grad_bias",
        spec.conv2d_bias_gradient(grad_output),
        grad_output.size + 2,
        spec.conv2d_bias_gradient(np.abs(grad_output)),
    )

    core, factors = result["core"].astype(np.float64), [factor.astype(np.float64) for factor in result["factors"]]
    assert all(factor.dtype == dtype for factor in result["factors"])
    unit = np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))
    energy, slack = float(np.sum(unit**2)), 2 * LAPACK_THRESHOLD * x.size * unit_roundoff(dtype)
    for mode, factor in enumerate(factors):
        rank = factor.shape[1]
        assert_within(factor.T @ factor, np.eye(rank), LAPACK_THRESHOLD * len(factor) * unit_roundoff(dtype))
        unfolding = np.moveaxis(unit, mode, 0).reshape(len(factor), -1)
        values = np.linalg.svd(unfolding, compute_uv=False)
        if explained_variance < 1:  # where everything counts, a column more or less of rounding changes nothing
            low, high = admissible_ranks(values, explained_variance, np.float64)
            assert low <= rank <= high
        captured = float(np.sum((factor.T @ unfolding) ** 2))
        assert captured >= float(np.sum(values[:rank] ** 2)) - slack * energy, "the leading subspace"
    assert result["ranks"] == core.shape == tuple(factor.shape[1] for factor in factors)
    assert result["stored_numbers"] == core.size + sum(factor.size for factor in factors)

    absolute = [np.abs(factor) for factor in factors]
    assert_rounded_once(
        "core",
        spec.reconstruct(x, [factor.T for factor in factors]),
        sum(x.shape) + 4,
        spec.reconstruct(np.abs(x), [factor.T for factor in absolute]),
    )
    majorant = spec.reconstruct(np.abs(core), absolute)
    assert_rounded_once("reconstruction", spec.reconstruct(core, factors), sum(core.shape) + 4, majorant)
    assert_rounded_once(
        "grad_weight",
        spec.compressed_weight_gradient(core, factors, grad_output, kernel_size, **attributes),
        grad_output.size + core.size + sum(core.shape) + 8,
        spec.conv2d_weight_gradient(majorant, np.abs(grad_output), kernel_size, **attributes),
    )
    if explained_variance == 1:
        allowed = sum(x.shape) * LAPACK_THRESHOLD * x.size * (unit_roundoff(dtype) + gamma(x.size, np.float64))
        restored = np.ldexp(result["reconstruction"].astype(np.float64), -int(np.frexp(np.abs(x).max())[1]))
        assert_within(restored, unit, allowed * math.sqrt(energy) + smallest, "T6")


WRONG = {
    "wrong_padding_axes": (
        {"output", "grad_input", "grad_weight"},
        {"padding": ((2, 0), (1, 1))},
        {"padding": ((1, 0), (1, 2)), "stride": (2, 1)},
    ),
    "wrong_stride_equals_dilation": (
        {"grad_weight"},
        {"stride": (2, 2), "dilation": (2, 2)},
        {"stride": (2, 1), "dilation": (1, 2)},
    ),
    "wrong_rank_off_by_one": (
        {"core", "factors", "ranks", "reconstruction", "grad_weight", "stored_numbers"},
        {"padding": ((1, 0), (0, 2))},
        {"zero": True},
    ),
    "wrong_groups_ignored": ({"grad_weight"}, {"groups": 2}, {"groups": 1, "stride": (2, 3)}),
}


def differing(result, expected):
    assert result.keys() == expected.keys()
    different = set()
    for name, value in expected.items():
        pairs = zip(result[name], value, strict=True) if name == "factors" else [(result[name], value)]
        if not all(np.array_equal(mine, theirs) for mine, theirs in pairs):
            different.add(name)
    return different


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_example_makes_just_its_mistake(name):
    stages, harmful, harmless = WRONG[name]
    case = example_case(**harmful)
    assert differing(run(load(name), case, 0.8), run(correct, case, 0.8)) == stages
    case = example_case(**harmless)
    assert differing(run(load(name), case, 0.8), run(correct, case, 0.8)) == set()


def test_every_example_is_known_here_and_its_first_line_states_the_mistake():
    files = {path.stem: path.read_text().splitlines()[0] for path in FOLDER.glob("*.py")}
    right = {"correct_numpy", "torch_function", "torch_module", "jax_custom_vjp"}
    assert files.keys() == {*right, *WRONG}
    assert all("judged right" in files[name] for name in right)
    assert all(files[name].startswith('"""One mistake: ') for name in WRONG)
