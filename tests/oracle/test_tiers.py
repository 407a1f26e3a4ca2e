"""Rows that take further calls: relations of calls, sequences of calls, input that must be refused."""

import copy
import itertools
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from refgrad.oracle import Check, check, find_case_of, named_cases
from refgrad.oracle.answers import Answer, Problem
from refgrad.oracle.judge import judge
from refgrad.oracle.judgement import judgement_of
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.own import target as own
from refgrad.oracle.plan import Planned
from refgrad.oracle.protocol import FURTHER_ROWS, LABELS, Declaration, rows_of
from refgrad.oracle.run import Here
from refgrad.oracle.tiers import CALLS, FURTHER
from refgrad.oracle.tiers.refusals import MOST_INVALID, invalid_inputs
from refgrad.oracle.tiers.relations import RELATIONS, SCALED
from refgrad.oracle.tiers.sequences import STEPS
from refgrad.oracle.verdicts import Outcome

REFUSING = Declaration(refuses_invalid=True)


def verdict_of(row, operation, name, target, declaration=None):
    case = find_case_of(operation, name)
    return judge(target, case, further=(row,), declaration=declaration).verdicts[row]


relations_of = partial(verdict_of, "relations")


def changing(operation, change):
    """refgrad's own operation, with its results changed: change(results, arrays)."""

    def changed(*arrays, **attributes):
        results = getattr(own, operation)(*arrays, **attributes)
        change(results, arrays)
        return results

    return changed


def nudged(array):
    """The same numbers but for one unit in the last place of each."""
    array[...] = np.nextafter(array, np.inf)


@pytest.mark.parametrize("operation", SCALED)
def test_T21_refgrad_scales_to_the_last_bit_and_every_result_is_looked_at(operation):
    case = next(case for case in named_cases(operation) if "large" not in case.name)
    assert relations_of(operation, case.name, getattr(own, operation)).outcome is Outcome.PASSED
    results = {"ranks" if key == "rank" else key for key in OPERATIONS[operation].results}
    assert set(SCALED[operation][1]) >= results, "a result without a factor would not be looked at"


@pytest.mark.parametrize("key", ["output", "grad_input", "grad_bias", "grad_weight", "core", "reconstruction"])
def test_a_result_that_depends_on_the_scale_by_less_than_rounding_is_found(key):
    def change(results, arrays):
        if np.abs(arrays[0]).max() > 4:
            nudged(results[key])

    verdict = relations_of("conv2d", "plain", changing("conv2d", change))
    assert (verdict.outcome, verdict.kind, verdict.index is not None) == (Outcome.FAILED, "scaling", True)
    assert f"; but {key}[" in verdict.message


def test_factors_and_ranks_that_depend_on_the_scale_are_found():
    def turned(results, arrays):
        if np.abs(arrays[0]).max() > 4:
            results["factors"] = tuple(-factor for factor in results["factors"])  # an even number of signs

    verdict = relations_of("conv2d", "plain", changing("conv2d", turned))
    assert (verdict.kind, "factors[0][0, 0]" in verdict.message) == ("scaling", True)

    def more(singular_values, **attributes):
        return {"rank": own.rank(singular_values, **attributes)["rank"] + int(singular_values[0] > 3)}

    verdict = relations_of("rank", "one value", more)
    assert (verdict.outcome, verdict.message.split("; but ")[1]) == (Outcome.FAILED, "ranks is (2,), not (1,)")


def test_a_gradient_that_leaks_into_another_group_by_less_than_rounding_is_found():
    def leak(results, arrays):
        if not arrays[3][:, 0].any():
            nudged(results["grad_weight"][-1])

    verdict = relations_of("conv2d", "2 groups", changing("conv2d", leak))
    assert (verdict.outcome, verdict.kind) == (Outcome.FAILED, "locality")


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        *itertools.product(["conv2d", "linear"], ["grad_weight", "grad_bias", "output", "core", "reconstruction"]),
        ("weight_gradient", "grad_weight"),
    ],
)
def test_locality_covers_what_is_silent_and_what_is_not(operation, key):
    axis = -1 if operation == "linear" else 1

    def change(results, arrays):
        if not np.moveaxis(arrays[-1], axis, 0)[0].any():
            nudged(results[key])

    case = named_cases(operation)[0]
    verdict = relations_of(operation, case.name, changing(operation, change))
    assert (verdict.outcome, verdict.kind) == (Outcome.FAILED, "locality")
    assert key in verdict.message


def test_grad_input_of_other_groups_is_local_and_without_groups_it_is_a_sum_over_all():
    def change(results, arrays):
        if not arrays[3][:, 0].any():
            nudged(results["grad_input"])

    assert relations_of("conv2d", "plain", changing("conv2d", change)).outcome is Outcome.PASSED
    assert relations_of("conv2d", "2 groups", changing("conv2d", change)).kind == "locality"


def test_a_second_call_that_fails_or_lacks_a_result_breaks_the_relation():
    def falls(results, arrays):
        if np.abs(arrays[0]).max() > 4:
            raise OverflowError("too large")

    assert "OverflowError: too large" in relations_of("conv2d", "plain", changing("conv2d", falls)).message

    def lacks(results, arrays):
        if np.abs(arrays[0]).max() > 4:
            del results["grad_bias"]

    assert "grad_bias is missing" in relations_of("conv2d", "plain", changing("conv2d", lacks)).message


def test_what_is_not_claimed_not_repeatable_or_too_large_is_not_tried():
    def limited(*arrays, **attributes):
        if np.abs(arrays[0]).max() > 4 or not arrays[3][:, 0].any():
            raise NotImplementedError("no")
        return own.conv2d(*arrays, **attributes)

    assert relations_of("conv2d", "plain", limited).message == "none applies"
    verdict = relations_of("conv2d", "plain", own.conv2d, Declaration(repeatable=False))
    assert verdict.message == "the target declares that bits may differ from call to call"
    assert relations_of("rank", "large values", own.rank).message == "none applies"


def test_nothing_further_is_tried_where_something_failed():
    calls = []

    def wrong(*arrays, **attributes):
        calls.append(1)
        return {**own.conv2d(*arrays, **attributes), "grad_bias": arrays[2] + 99}

    verdict = relations_of("conv2d", "plain", wrong)
    assert (verdict.outcome, len(calls)) == (Outcome.NOT_PROVIDED, 1)


def test_a_state_kept_between_steps_is_found_by_the_sequence():
    kept = {}

    def remembers(*arrays, **attributes):
        results = own.step(*arrays, **attributes)
        if kept:  # the velocity of its own last call, whatever it is given
            results["weight_velocity"] = results["weight_velocity"] + kept["velocity"]
        kept["velocity"] = results["weight_velocity"]
        return results

    verdict = verdict_of("sequence", "step", "momentum", remembers)
    assert (verdict.row, verdict.outcome, verdict.kind) == ("sequence", Outcome.FAILED, "value")
    assert verdict.message.startswith("call 2, which goes on from the results of the one before: weight_velocity[")


def test_a_warm_start_that_is_ignored_is_found_by_the_sequence_at_the_latest():
    first = {}

    def starts_over(tensor, factors):
        first.setdefault("factors", factors)
        return own.subspace_iteration(tensor, first["factors"])

    case = next(
        case for case in named_cases("subspace_iteration") if case.factors()[0].shape[1] < len(case.factors()[0])
    )
    verdict = verdict_of("sequence", "subspace_iteration", case.name, starts_over)
    assert (verdict.outcome, verdict.kind) == (Outcome.FAILED, "subspace")


@pytest.mark.parametrize("operation", ["step", "subspace_iteration"])
def test_a_sequence_has_three_calls_each_from_the_results_before(operation):
    seen = []

    def watched(*arrays, **attributes):
        seen.append(arrays)
        results = getattr(own, operation)(*arrays, **attributes)
        seen.append(results)
        return results

    case = named_cases(operation)[0]
    verdict = verdict_of("sequence", operation, case.name, watched)
    assert (verdict.outcome, len(seen)) == (Outcome.PASSED, 2 * STEPS)
    for results, arrays in zip(seen[1:-1:2], seen[2::2], strict=True):
        if operation == "step":
            assert np.array_equal(arrays[1], results["weight"])
            assert np.array_equal(arrays[5], results["bias_velocity"])
        else:
            assert all(map(np.array_equal, arrays[1], results["factors"]))
    assert not np.array_equal(seen[0][0], seen[2][0]), "the activation drifts"


def test_a_sequence_needs_what_it_carries_on():
    def only_weights(*arrays, **attributes):
        results = own.step(*arrays, **attributes)
        return {key: results[key] for key in ("weight", "bias")}

    verdict = verdict_of("sequence", "step", named_cases("step")[0].name, only_weights)
    assert verdict.outcome is Outcome.NOT_PROVIDED
    assert verdict.message == "a next call takes weight, bias, weight_velocity, bias_velocity"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_refgrad_refuses_every_invalid_input(operation):
    case = named_cases(operation)[0]
    verdict = judge(getattr(own, operation), case, further=("refusals",), declaration=Declaration.of(own)).verdicts[
        "refusals"
    ]
    assert verdict.outcome is Outcome.PASSED, verdict.message


@pytest.mark.parametrize("operation", ["conv2d", "linear", "hosvd", "unfold"])
def test_each_invalid_input_that_is_accepted_is_found(operation):
    case = named_cases(operation)[0]
    inputs = list(invalid_inputs(case))
    assert 1 < len(inputs) <= MOST_INVALID
    valid = getattr(own, operation)(*case.arrays().values(), **case.attributes)
    for accepted in inputs:

        def lenient(*arrays, accepted=accepted, **attributes):
            pairs = zip(arrays, accepted.arrays.values(), strict=True)
            same = all(np.array_equal(*pair, equal_nan=True) for pair in pairs)
            if same and repr(attributes) == repr(dict(accepted.attributes)):
                return copy.deepcopy(valid)
            return getattr(own, operation)(*arrays, **attributes)

        verdict = judge(lenient, case, further=("refusals",), declaration=REFUSING).verdicts["refusals"]
        assert (verdict.outcome, verdict.kind) == (Outcome.FAILED, "accepted")
        assert verdict.message == f"{accepted.what}, which has to be refused with an exception"


def test_a_target_that_promises_nothing_is_not_tried_with_invalid_input():
    def naive(x, weight, bias, grad_output, *, stride, **attributes):
        assert min(stride) > 0, "it was called with nonsense"
        return {"grad_bias": grad_output.sum((0, 2, 3))}

    verdict = verdict_of("refusals", "conv2d", "plain", naive)
    assert verdict.message == "the target does not declare that it refuses invalid input"


def test_a_run_tries_invalid_input_once_an_operation_on_an_input_that_is_right():
    calls = []

    def rank(singular_values, *, explained_variance):
        calls.append(explained_variance)
        return own.rank(singular_values, explained_variance=explained_variance)

    target = SimpleNamespace(rank=rank, declaration={"refuses_invalid": True})
    report = check(target, cases=0)
    row = next(row for row in report.rows if row.name == "refusals")
    assert (row.passed, row.failed, report.exit_code, calls.count(2.0)) == (1, 0, 0, 1)


@pytest.mark.parametrize("promises", [True, False])
def test_a_run_tries_invalid_input_where_it_is_promised_to_be_refused(promises):
    target = SimpleNamespace(rank=own.rank, unfold=own.unfold, declaration={"refuses_invalid": promises})
    steps = [step.doing for step in Check(target, cases=0)]
    tried = [f"trying invalid input: {operation}" for operation in ("rank", "unfold") if promises]
    assert [doing for doing in steps if doing.startswith("trying invalid input")] == tried


def test_a_process_that_ends_on_invalid_input_has_failed_there_and_nowhere_else():
    class Falls(Here):
        """As a worker whose process ended answers."""

        def submit(self, case, **options):
            if "refusals" in options.get("further", ()):
                answer = Answer(problems=[Problem("call", "call crashed", "the call ended its process: SIGABRT")])
                return lambda: judgement_of(answer, case, rows=options["rows"])
            return super().submit(case, **options)

    planned = [Planned(lambda: named_cases("rank")[0], named=True)]
    target = SimpleNamespace(rank=own.rank, declaration={"refuses_invalid": True})
    run = Check(target, planned=planned, judging=Falls({"rank": own.rank}, REFUSING))
    for _ in run:
        pass
    report = run.report()
    (failure,) = report.failures
    assert (failure.row, failure.kind) == ("refusals", "call crashed")
    assert failure.verdict.message == "on invalid input the call ended its process: SIGABRT"
    assert next(row for row in report.rows if row.name == "call").failed == 0


def test_every_further_row_has_a_judge_and_a_number_of_calls():
    assert set(FURTHER) == set(CALLS) == {row for rows in FURTHER_ROWS.values() for row in rows}
    assert CALLS["relations"] == len(RELATIONS)
    for operation in OPERATIONS:
        assert set(FURTHER_ROWS[operation]) <= set(LABELS) - set(rows_of(operation))


def test_a_broken_relation_is_reported_shrunk_with_a_snippet_that_tries_it(tmp_path):
    def change(results, arrays):
        if np.abs(arrays[0]).max() > 4:
            nudged(results["grad_bias"])

    case = find_case_of("conv2d", "plain")
    run = Check(changing("conv2d", change), planned=[Planned(lambda: case, named=True)], name="layer.py")
    for _ in run:
        pass
    (failure,) = run.report().failures
    assert (failure.row, failure.kind, failure.shrunk) == ("relations", "scaling", True)
    assert "further=['relations']" in failure.snippet
    assert all(label != "likely cause" for label, _ in failure.facts())
