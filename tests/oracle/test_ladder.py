"""The operations of the ladder: their inputs, what is right and wrong for each, and how failures are reported."""

import itertools
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from refgrad.multilinear import sequential_hosvd
from refgrad.oracle import (
    OPERATIONS,
    Check,
    Declaration,
    LadderCase,
    check,
    find_case,
    find_case_of,
    judge,
    named_cases,
)
from refgrad.oracle.diagnosis import diagnose
from refgrad.oracle.ladder.catalogue import generated_ladder_case
from refgrad.oracle.ladder.shrink import ladder_complexity, simpler_ladder
from refgrad.oracle.mistakes import implementation_of, library_of
from refgrad.oracle.own import target as own
from refgrad.oracle.plan import LEVELS, exhaustive_geometries, in_dtype, plan
from refgrad.oracle.protocol import FURTHER_ROWS, KEYS, LABELS, operations_of, rows_of
from refgrad.oracle.rows import reference_of
from refgrad.oracle.study import Study, real_layer, trials
from refgrad.oracle.variants import layer
from tests.assertions import assert_same_bits

SMALL = tuple(operation for operation in OPERATIONS if operation != "conv2d")


def of(**operations):
    return SimpleNamespace(**operations)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_refgrads_own_paths_are_right(operation):
    report = check(own, operations=[operation], cases=30)
    assert report.exit_code == 0, report.failures
    assert {row.passed for row in report.rows if row.name in rows_of(operation)} == {
        report.catalogue + report.generated
    }
    assert {row.name for row in report.rows if row.passed} == {*rows_of(operation), *FURTHER_ROWS[operation]}


@pytest.mark.parametrize("operation", SMALL)
def test_every_mistake_is_caught_and_named(operation):
    study = Study()
    for trial in trials(generated=0, seed=0, real=False, operations=[operation]):
        trial.run(study)
    assert [each.mistake for each in study.caught if each.survived] == []
    assert [(each.mistake, each.named) for each in study.caught if not each.rightly_named] == []
    assert study.alarms == []


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("output: no bias", lambda x, weight, bias, _: x @ weight.T),
        ("output: bias twice", lambda x, weight, bias, _: x @ weight.T + bias + bias),
        ("output: compressed activation", lambda _, weight, bias, compressed: compressed @ weight.T + bias),
    ],
)
def test_a_linear_layer_that_somebody_else_got_wrong_is_named(name, output):
    """A second derivation: what the library calls a mistake could be another one."""

    def linear(x, weight, bias, grad_output, **given):
        right = own.linear(x, weight, bias, grad_output, **given)
        return {**right, "output": output(x, weight, bias, right["reconstruction"])}

    judgements = [judge(linear, case) for case in named_cases("linear")[:12]]
    failing = [judgement for judgement in judgements if judgement.verdicts["forward"].failed]
    cause = diagnose("forward", failing, [])
    assert cause.mistake.name == name
    assert cause.explained == len(failing)


def test_the_libraries_are_large_enough_and_their_names_unique():
    named = {operation: named_cases(operation) for operation in OPERATIONS}
    assert sum(map(len, named.values())) >= 120
    for operation, cases in named.items():
        assert len({case.name for case in cases}) == len(cases)
        assert all(case.effect and case.operation == operation for case in cases)
        assert len({mistake.name for mistake in library_of(operation)}) == len(library_of(operation)) > 0
        assert {KEYS[key] for key in OPERATIONS[operation].results} == set(rows_of(operation)) - {"call"} <= set(LABELS)


@pytest.mark.parametrize("operation", SMALL)
def test_generated_cases_follow_from_seed_and_number_alone(operation):
    first, again, other = (generated_ladder_case(operation, seed, 5) for seed in (1, 1, 2))
    assert first.describe() == again.describe() == find_case_of(operation, "generated 1/5").describe()
    flat, repeated = (
        [array for value in case.parts.values() for array in (value if isinstance(value, tuple) else (value,))]
        for case in (first, again)
    )
    for left, right in zip(flat, repeated, strict=True):
        assert_same_bits(left, right)
    assert (first.describe(), str(first.parts)) != (other.describe(), str(other.parts))


def drawn(operation):
    return [generated_ladder_case(operation, 0, number) for number in range(300)]


@pytest.mark.parametrize("operation", ["svd", "hosvd", "sequential_hosvd", "linear"])
def test_generated_decompositions_reach_the_corners(operation):
    """Whoever takes a corner out of the strategy is told so here."""
    seen = set()
    for case in drawn(operation):
        x = next(iter(case.parts.values()))
        squares = np.linalg.svd(np.ldexp(x, -np.frexp(np.abs(x).max())[1]).reshape(len(x), -1), compute_uv=False) ** 2
        share = np.cumsum(squares) / squares.sum() if squares.any() else None
        seen |= {str(case.dtype), case.layout, f"{x.ndim} axes"}
        seen |= {"length 1"} if 1 in x.shape else set()
        seen |= {"scaled up"} if np.abs(x).max() > 1e15 else set()
        seen |= {"scaled down"} if 0 < np.abs(x).max() < 1e-15 else set()
        seen |= {"everything kept"} if case.explained_variance == 1 else set()
        if share is None:
            seen |= {"rank 0"}
        elif squares.size > 1:
            seen |= {"rank 1"} if squares[1] <= 1e-12 * squares[0] else set()
            seen |= {"flat"} if np.ptp(squares) <= 1e-6 * squares[0] else set()
            seen |= {"steep"} if 1e-6 * squares[0] < squares[1] < 1e-2 * squares[0] else set()
            seen |= {"dead slice"} if (np.abs(x).reshape(len(x), -1).max(axis=1) == 0).any() else set()
    wanted = {"float32", "float64", "length 1", "scaled up", "scaled down", "everything kept", "rank 0", "rank 1"}
    assert wanted | {"flat", "steep", "dead slice", "C", "Fortran", "strided", "reversed", "read-only"} <= seen


def test_generated_weight_gradients_reach_the_corners():
    seen = set()
    for case in drawn("weight_gradient"):
        given = case.attributes
        pads = list(itertools.chain(*given["padding"]))
        height, width = len(case.factors()[2]), len(case.factors()[3])
        seen |= {f"groups {given['groups']}"}
        seen |= {"four different pads"} if len(set(pads)) == 4 else set()
        seen |= {"stride equals dilation"} if given["stride"] == given["dilation"] != (1, 1) else set()
        seen |= {"batch 1"} if len(case.factors()[0]) == 1 else set()
        seen |= {"1 x k"} if given["kernel_size"][0] == 1 < given["kernel_size"][1] else set()
        seen |= {"even"} if given["kernel_size"][0] % 2 == 0 else set()
        for n, (before, after), k, s, d in zip(
            (height, width), given["padding"], given["kernel_size"], given["stride"], given["dilation"], strict=True
        ):
            seen |= {"leftovers"} if (n + before + after - d * (k - 1) - 1) % s else set()
    wanted = {"four different pads", "stride equals dilation", "batch 1", "1 x k", "even", "leftovers"}
    assert wanted | {"groups 1", "groups 2", "groups 3", "groups 6"} <= seen


def test_generated_ranks_reach_ties_zeros_and_extremes():
    seen = set()
    for case in drawn("rank"):
        values = case.array("singular_values").astype(np.float64)
        exact = [Fraction(float(value)) ** 2 for value in values]
        total = sum(exact)
        if total == 0:
            seen |= {"zero"}
            continue
        seen |= {"tie"} if any(s == case.explained_variance * total for s in itertools.accumulate(exact)) else set()
        seen |= {"large"} if values.max() > 1e8 else set()
        seen |= {"small"} if 0 < values.max() < 1e-8 else set()
    assert seen == {"zero", "tie", "large", "small"}


@pytest.mark.parametrize(
    ("operation", "name"),
    [("hosvd", "ranks: one short"), ("unfold", "matrix: reshaped"), ("step", "weight: no momentum")],
)
def test_a_failure_is_shrunk_explained_and_reproduced(operation, name, tmp_path):
    mistake = next(mistake for mistake in library_of(operation) if mistake.name == name)
    report = check(of(**{operation: implementation_of(mistake, operation)}), cases=5, name="wrong.py")
    assert report.exit_code == 1
    failure = next(failure for failure in report.failures if failure.row == mistake.row and failure.kind == "value")
    assert (failure.operation, failure.cause.mistake) == (operation, mistake)
    found = find_case_of(operation, failure.found)
    assert failure.shrunk
    assert ladder_complexity(failure.case) < ladder_complexity(found)
    (tmp_path / "wrong.py").write_text(
        "from types import SimpleNamespace\nfrom refgrad.oracle.mistakes import implementation_of, library_of\n"
        f"mistake = next(each for each in library_of({operation!r}) if each.name == {name!r})\n"
        f"implementation = SimpleNamespace({operation}=implementation_of(mistake, {operation!r}))\n"
    )
    (tmp_path / "snippet.py").write_text(failure.snippet)
    done = subprocess.run([sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (1, failure.verdict.message), done.stderr


@pytest.mark.parametrize("operation", SMALL)
def test_every_simpler_case_is_valid_and_simpler(operation):
    for case in (*named_cases(operation)[::7], *(generated_ladder_case(operation, 3, i) for i in range(3))):
        for candidate in itertools.islice(simpler_ladder(case), 40):
            assert ladder_complexity(candidate) < ladder_complexity(case)
            assert judge(getattr(own, operation), candidate).failed is False


@pytest.mark.parametrize("scale", [1.0 + 2.0**-30, 0.5, 1.5])
def test_an_svd_whose_left_is_scaled_otherwise_fails(scale):
    case = find_case_of("svd", "4 axes")
    right = own.svd(*case.arrays().values(), **case.attributes)
    wrong = {**right, "left": scale * right["left"]}
    assert "left[" in judge(lambda *_, **__: wrong, case).verdicts["factors"].message


def test_what_rounding_allows_in_a_parameter_of_zero_scales_with_the_rate():
    """T15: every number that such a step rounds is the rate times one that does not depend on it."""
    case = find_case_of("step", "momentum")

    def allowed(rate):
        parts = {**case.parts, "bias": np.zeros_like(case.parts["bias"])}
        reference = reference_of(replace(case, parts=parts, given={**case.given, "learning_rate": rate}), Declaration())
        return reference.after_allowed("bias", reference.results["grad_bias"], reference.allowed("grad_bias"))

    (velocity, parameter), (velocity_again, half) = allowed(0.5), allowed(0.25)
    assert_same_bits(velocity, velocity_again)
    assert_same_bits(parameter, 2 * half)


# what a target says of itself


def rounded_to_bfloat16(array):
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def summed_in(rounded):
    """A bias gradient whose every partial sum is rounded."""

    def conv2d(x, weight, bias, grad_output, **_):
        total = np.zeros(len(bias), np.float32)
        for terms in np.moveaxis(grad_output, 1, 0).reshape(len(bias), -1).T:
            total = rounded(total + rounded(terms))
        return {"grad_bias": total.astype(x.dtype)}

    return conv2d


@pytest.mark.parametrize(
    ("accumulator", "rounded"),
    [("float16", lambda a: a.astype(np.float16).astype(np.float32)), ("bfloat16", rounded_to_bfloat16)],
)
def test_a_short_accumulator_is_judged_by_what_it_declares(accumulator, rounded):
    case, target = find_case("plain, float32"), summed_in(rounded)
    assert judge(target, case).verdicts["grad_bias"].failed
    target.declaration = {"accumulator": accumulator}
    verdict = judge(target, case).verdicts["grad_bias"]
    assert not verdict.failed
    assert 0.0 < verdict.ratio <= 1.0


def test_a_declaration_is_held_against_what_the_target_does():
    case = find_case("every mode cut")

    def sequential(x, *_, explained_variance, **__):
        tucker = sequential_hosvd(x, explained_variance)
        return {"core": np.array(tucker.core), "factors": [np.array(factor) for factor in tucker.factors]}

    assert judge(sequential, case).verdicts["factors"].failed
    sequential.declaration = {"decomposition": "sequential_hosvd"}
    assert not judge(sequential, case).failed
    honest = layer()
    honest.declaration = {"decomposition": "sequential_hosvd"}
    assert judge(honest, case).verdicts["factors"].failed


def test_dtypes_that_a_target_does_not_take_are_not_tried():
    target = of(rank=own.rank, declaration={"dtypes": ("float32",)})
    run = Check(target, cases=10)
    for _ in run:
        pass
    assert {str(judgement.case.dtype) for judgement in run.judgements} == {"float32"}
    assert run.report().generated == 10
    taken = [case for case in named_cases("rank") if case.dtype == np.float32 or in_dtype(case, "float32")]
    assert run.report().catalogue == len(taken) > 30


@pytest.mark.parametrize(
    ("declaration", "error", "text"),
    [
        ([], TypeError, "declaration must be a mapping, got list"),
        ({"acumulator": "float32"}, ValueError, "unknown keys acumulator; known are dtypes, accumulator"),
        ({"accumulator": "float8"}, ValueError, "accumulator must be one of .*, got 'float8'"),
        ({"decomposition": "hooi"}, ValueError, "decomposition must be one of 'hosvd', 'sequential_hosvd'"),
        ({"dtypes": ("int8",)}, ValueError, r"dtypes must be some of float64, float32, got \('int8',\)"),
        ({"dtypes": ()}, ValueError, "dtypes must be some of float64, float32"),
        ({"repeatable": 1}, TypeError, "repeatable must be a bool, got 1"),
        ({"limits": 3}, TypeError, "limits must be a str, got int"),
    ],
)
def test_a_malformed_declaration_is_refused(declaration, error, text):
    with pytest.raises(error, match=text):
        Declaration.of(of(declaration=declaration))


def test_a_callable_is_a_convolution_and_an_object_is_what_it_offers():
    assert list(operations_of(own)) == list(OPERATIONS)
    assert list(operations_of(own.conv2d)) == ["conv2d"]
    assert operations_of(3) == {}
    with pytest.raises(ValueError, match="the target offers no operation; known are rank, unfold"):
        check(3)


# the plan


def test_levels_grow():
    counts = {
        level: len(plan(["rank", "conv2d"], seed=0, cases=0, level=level, dtypes=("float64", "float32")))
        for level in LEVELS
    }
    assert list(counts) == ["smoke", "ci", "nightly", "exhaustive"]
    assert counts["smoke"] == 40
    assert counts["ci"] == len(named_cases("rank")) + len(named_cases("conv2d")) + 400
    assert list(counts.values()) == sorted(counts.values())


@pytest.mark.parametrize("operation", ["rank", "conv2d"])
def test_the_smoke_level_is_spread_evenly_over_the_named_cases(operation):
    names = [case.name for case in named_cases(operation)]
    taken = plan([operation], seed=0, cases=0, level="smoke", dtypes=("float64", "float32"))
    places = [names.index(planned.case().name) for planned in taken]
    gaps = np.diff([*places, len(names)])
    assert places[0] == 0
    assert 0 < min(gaps) <= max(gaps) <= min(gaps) + 1


def test_the_exhaustive_geometries_are_all_of_them_and_can_be_found():
    cases = list(exhaustive_geometries())
    assert len({case.name for case in cases}) == len(cases) == 2 * 9**3
    assert find_case_of("conv2d", cases[-1].name).describe() == cases[-1].describe()
    assert not any(judge(own.conv2d, case).failed for case in cases[::97])


@pytest.mark.parametrize("mode", [-1, 2])
def test_a_mode_is_one_of_the_axes(mode):
    with pytest.raises(ValueError, match=rf"mode must be in \[0, 2\), one of the tensor's axes, got {mode}"):
        LadderCase("unfold", "no such mode", {"tensor": np.ones((2, 3))}, {"mode": mode})


def test_a_layer_of_real_size_is_judged_right():
    case = real_layer("128 x 96 x 8 x 8, 1 x 1", "float32")
    assert not judge(own.conv2d, case).failed


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"operation": "dct"}, ValueError, "operation must be one of 'rank', 'unfold'"),
        ({"parts": {"x": np.ones(3)}}, ValueError, "hosvd takes tensor, got x"),
        ({"given": {"mode": 1}}, ValueError, "hosvd has attributes explained_variance, got"),
        ({"parts": {"tensor": np.ones(3, int)}}, TypeError, "tensor"),
        ({"parts": {"tensor": np.ones((2, 0))}}, ValueError, r"tensor must not be empty, got shape \(2, 0\)"),
        ({"explained_variance": Fraction(3, 2)}, ValueError, r"explained_variance must be in \(0, 1\], got 3/2"),
        ({"layout": "diagonal"}, ValueError, "layout must be one of"),
    ],
)
def test_a_malformed_case_is_refused(changes, error, text):
    fields = {"operation": "hosvd", "name": "n", "parts": {"tensor": np.ones((2, 2))}} | changes
    with pytest.raises(error, match=text):
        LadderCase(**fields)


def test_axes_of_one_name_must_have_one_length():
    parts = {"core": np.ones((2, 2)), "factors": (np.ones((3, 2)), np.ones((3, 1)))}
    with pytest.raises(ValueError, match="axis K1 has length 1, but 2 elsewhere"):
        LadderCase("reconstruct", "n", parts)


def test_an_unknown_case_is_refused():
    with pytest.raises(ValueError, match="rank has no case named 'nothing'"):
        find_case_of("rank", "nothing")


# wrong in ways that no library holds


@pytest.mark.parametrize(
    ("operation", "returned", "row", "text"),
    [
        ("rank", {"rank": 2.0}, "ranks", "rank must be an integer, got 2.0 of type float"),
        ("rank", {"rank": 0}, "ranks", "rank is 0, expected"),
        ("unfold", {"matrix": np.ones((1, 1))}, "matrix", r"matrix must have shape"),
        (
            "svd",
            {"left": np.ones((4, 1)), "right": np.ones((2, 60))},
            "factors",
            "left has 1 columns, but right 2 rows",
        ),
        ("svd", {"left": np.ones((9, 1)), "right": np.ones((1, 60))}, "factors", r"left must have shape \(4, K\), got"),
        ("hosvd", {"factors": [np.ones((4, 2))]}, "factors", "factors must be a sequence of four matrices"),
    ],
)
def test_malformed_results_are_named(operation, returned, row, text):
    case = next(
        case for case in named_cases(operation) if case.name in ("flat, tie at the cut", "4 axes", "four axes, mode 1")
    )
    judgement = judge(lambda *_, **__: returned, case)
    assert judgement.verdicts[row].failed
    assert re.search(text, judgement.verdicts[row].message), judgement.verdicts[row].message
