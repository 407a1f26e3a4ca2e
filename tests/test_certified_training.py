"""`refgrad train --certify`, `--gradient-tolerance`, `refgrad explain bounds`: what is certified, shown and saved."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from refgrad import cli
from refgrad.training import Method, Run, Settings
from refgrad.training import command as command_module
from refgrad.training.certification import StepCertificate, certified_counts, spoilers
from refgrad.training.explain import BoundRow, bounds_against_variance, draw_bounds
from refgrad.training.figure import draw_certificates
from refgrad.training.settings import methods
from refgrad.training.step import compare_with_exact
from refgrad.training.terminal import certificate_table, certificate_text
from tests.assertions import assert_same_bits
from tests.training_data import SETTINGS, STEPS, few_digits, without_time

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
pytest.importorskip("matplotlib", reason="the pictures are matplotlib's")

PLAIN = replace(SETTINGS, momentum=0.0, weight_decay=0.0, norm=False, certify=True, learning_rate=0.01)
"""Gradient descent, of which certificates have something to say."""

TOLERANT = Method("hosvd", gradient_tolerance=0.5)


@pytest.fixture(scope="module")
def few():
    return few_digits()


@pytest.fixture
def little(monkeypatch, few):
    """Let the commands train on a few digits."""
    monkeypatch.setattr(command_module, "load", lambda name, **options: few)


@pytest.fixture(scope="module")
def certified(few):
    """A run of each kind, with certificates, and its last state."""
    runs = [Run(few, method, PLAIN) for method in (Method("exact"), Method("hosvd", 0.5), TOLERANT)]
    return {run.method.name: (run.train(), run.state()) for run in runs}


def row(step=1, **values):
    standard = {
        "epoch": 1,
        "step": step,
        "step_size": 0.1,
        "loss": 2.0,
        "next_loss": 1.9,
        "gradient_norm": 1.0,
        "error_bound": 0.1,
        "ratio": 1 / 9,
        "direction_difference": 0.0,
        "descent": True,
        "guaranteed_decrease": 0.04,
        "reason": None,
        "spoiler": None,
    }
    return StepCertificate(**{**standard, **values})


def test_every_step_has_a_certificate_and_no_guarantee_is_broken(certified):
    for record, _ in certified.values():
        places = [(row.epoch, row.step) for row in record.certificates]
        assert places == [(epoch, step) for epoch in (1, 2) for step in range(1, STEPS + 1)]
        for row in record.certificates:
            assert (row.guaranteed_decrease is None) == (row.reason is not None) == (not row.certified)
            if row.certified:
                assert 0.0 < row.guaranteed_decrease <= row.decrease
            assert row.ratio is None or row.ratio >= 0.0
            assert row.error_bound > 0.0  # rounding, if nothing else


def test_exact_storage_is_certified_and_half_of_the_energy_is_not(certified):
    exact, half = certified["exact"][0].certificates, certified["hosvd-0.5"][0].certificates
    assert certified_counts(exact)[0] == len(exact)
    assert certified_counts(exact)[1] > 0
    assert certified_counts(half) == (0, 0)
    assert all(row.spoiler is not None or not row.descent for row in half)


def test_a_tolerance_keeps_the_gradient_certified_and_stores_less_than_everything(certified):
    record = certified[TOLERANT.name][0]
    gradients, _ = certified_counts(record.certificates)
    assert gradients > len(record.certificates) // 2
    assert record.certificates[0].ratio < 0.5  # the first step keeps everything
    assert record.stored_numbers < record.exact_numbers


def test_certifying_changes_no_number_of_the_run(few, certified):
    name = "hosvd-0.5"
    record, state = certified[name]
    plain = Run(few, Method("hosvd", 0.5), replace(PLAIN, certify=False))
    assert without_time(plain.train()).epochs == without_time(record).epochs
    for key, array in plain.state().model.items():
        assert_same_bits(array, state.model[key])


@pytest.mark.parametrize("method", [Method("hosvd", 0.5), TOLERANT], ids=lambda method: method.name)
def test_a_certified_run_goes_on_bit_for_bit(few, certified, tmp_path, method):
    stopped = Run(few, method, PLAIN)
    stopped.train(checkpoint=tmp_path / "state.npz", should_stop=lambda: stopped.steps_done == STEPS + 1)
    assert len(stopped.certificates) == STEPS + 1
    resumed = Run(few, method, PLAIN)
    resumed.resume(tmp_path / "state.npz")
    record, state = certified[method.name]
    assert without_time(resumed.train()) == without_time(record)
    for key, array in resumed.state().model.items():
        assert_same_bits(array, state.model[key])
    for key, array in resumed.state().plan.items():
        assert_same_bits(array, state.plan[key])
    assert bool(state.plan) == (method is TOLERANT)


def test_a_run_is_not_resumed_with_another_wish_to_certify(few, tmp_path):
    run = Run(few, Method("exact"), PLAIN)
    run.train(checkpoint=tmp_path / "state.npz", should_stop=lambda: True)
    with pytest.raises(ValueError, match="certify is False, but True there"):
        Run(few, Method("exact"), replace(PLAIN, certify=False)).resume(tmp_path / "state.npz")


def test_what_is_typed_is_certified_shown_and_saved(little, tmp_path):
    words = [
        "--store",
        "hosvd",
        "--gradient-tolerance",
        "0.5",
        "--epochs",
        "1",
        "--momentum",
        "0",
        "--weight-decay",
        "0",
        "--no-norm",
        "--certify",
    ]
    result = CliRunner().invoke(cli.app, ["train", *words, "--out", str(tmp_path)], env={"COLUMNS": "140"})
    assert result.exit_code == 0, result.output
    assert "tol. 0.5" in result.output
    assert "1 of 1" in result.output
    assert "hosvd-tolerance-0.5: the tolerance 0.5 was met by 1 steps" in result.output
    assert (tmp_path / "certificates.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((tmp_path / "results.json").read_text())
    (run,) = document["runs"]
    assert run["gradient_tolerance"] == 0.5
    assert run["explained_variance"] is None
    assert run["certified"]["of"] == len(run["certificates"]) == 1
    assert "--gradient-tolerance" in document["arguments"]
    assert "--certify" in document["arguments"]


def test_without_the_wish_nothing_is_certified(few):
    record = Run(few, Method("exact"), SETTINGS).train()
    assert record.certificates == ()
    assert record.to_json()["certified"] is None


def test_momentum_spoils_a_step_and_is_named(few):
    run = Run(few, Method("exact"), replace(SETTINGS, certify=True))
    record = run.train()
    assert "direction" in dict(spoilers(record.certificates))
    assert record.certificates[-1].direction_difference > record.certificates[-1].gradient_norm / 2.0


def test_the_text_names_what_spoils_most_first(certified):
    rows = (
        row(1),
        row(2, reason="x", spoiler="a.weight", guaranteed_decrease=None, ratio=0.7),
        row(3, reason="x", spoiler="b.weight", guaranteed_decrease=None, ratio=None, error_bound=None),
        row(4, reason="x", spoiler="b.weight", guaranteed_decrease=None, ratio=2.0),
        row(5, reason="the loss is not finite", guaranteed_decrease=None, descent=False),
    )
    assert spoilers(rows) == [("b.weight", 2), ("a.weight", 1), ("the loss is not finite", 1)]
    assert certified_counts(rows) == (3, 1)
    record = replace(certified[TOLERANT.name][0], certificates=rows)
    text = certificate_text(record)
    assert "was met by 2 steps, the largest ratio is inf" in text
    assert "not certified because of b.weight (2), a.weight (1), the loss is not finite (1)" in text
    assert certificate_text(replace(record, method=Method("exact"), certificates=rows[:1])).endswith(
        ": every step is certified"
    )
    console = Console(file=io.StringIO(), width=80)
    console.print(certificate_table([record]))
    assert "3 of 5" in console.file.getvalue()
    assert "1 of 5" in console.file.getvalue()


def test_the_picture_shows_every_run_and_nothing_under_the_line(certified):
    figure = draw_certificates([record for record, _ in certified.values()], "few digits")
    known, descent = figure.axes
    assert [text.get_text() for text in known.get_legend().get_texts()] == list(certified)
    for line in descent.get_lines()[:-1]:
        assert np.all(line.get_ydata() >= line.get_xdata())


def test_methods_with_tolerances():
    names = [method.name for method in methods(["exact", "svd", "hosvd"], [0.9], [0.5, 1.0])]
    assert names == ["exact", "svd-0.9", "hosvd-0.9", "hosvd-tolerance-0.5", "hosvd-tolerance-1.0"]
    assert [method.name for method in methods(["hosvd"], [], [0.5])] == ["hosvd-tolerance-0.5"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: methods(["exact"], [], [0.5]), "gradient_tolerance 0.5 is of no use"),
        (lambda: methods(["hosvd"], [], [0.5, 0.5]), "gradient_tolerance 0.5 is given twice"),
        (lambda: methods(["hosvd"], [], [0.0]), "gradient_tolerance must be"),
        (lambda: methods(["svd", "hosvd"], [], [0.5]), "explained_variance must be given"),
        (lambda: Method("svd", 0.5, 0.5), "the svd store takes no gradient_tolerance, got 0.5"),
        (lambda: Method("hosvd"), "the hosvd store needs an explained_variance"),
        (lambda: Method("hosvd", 0.5, 0.5), "exactly one of"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("store", ["svd", "hosvd"])
def test_the_bounds_are_in_order_and_none_is_broken(store):
    few = few_digits(np.float64)
    run = Run(few, Method("exact"), PLAIN)
    before = {name: array.copy() for name, array in run.model.state_dict().items()}
    rows = list(bounds_against_variance(run.model, few.train_images, few.train_labels, store, (0.5, 0.99, 1.0)))
    assert all(found.error <= found.exact for found in rows)
    for found in rows[:-1]:  # of the last nothing but rounding is left, in which the grades need not be in order
        assert found.exact < found.a_posteriori < found.a_priori
    assert [found.stored_numbers for found in rows] == sorted(found.stored_numbers for found in rows)
    assert rows[0].guarantee is None
    assert rows[-1].guarantee is not None
    for name, array in run.model.state_dict().items():
        assert_same_bits(array, before[name])


def test_a_bound_row_names_the_weakest_grade_that_certifies():
    standard = BoundRow(0.9, 10, 0.1, 0.2, 0.3, 0.4, 1.0, 1.0)
    assert standard.guarantee == "a_priori"
    assert replace(standard, a_priori=0.5).guarantee == "a_posteriori"
    assert replace(standard, a_priori=math.inf, a_posteriori=0.6).guarantee == "exact"
    assert replace(standard, a_priori=1.0, a_posteriori=1.0, exact=1.0).guarantee is None


def test_explain_bounds_shows_a_table_and_a_picture(little, tmp_path):
    picture = tmp_path / "new" / "bounds.png"
    words = ["explain", "bounds", "--store", "svd", "--out", str(picture)]
    result = CliRunner().invoke(cli.app, words, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "nothing" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = [BoundRow(0.9, 10, 0.1, 0.2, 0.3, 0.4, 1.0, 1.0)] * 2
    (axes,) = draw_bounds(rows, "svd").axes
    assert [line.get_ydata()[0] for line in axes.get_lines()] == [0.4, 0.3, 0.2, 0.1]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--store", "exact"], "store must be one of"), (["--epochs", "0"], "epochs must be at least 1")],
)
def test_explain_bounds_refuses(little, words, message):
    result = CliRunner().invoke(cli.app, ["explain", "bounds", *words])
    assert result.exit_code == 2
    assert message in result.output


def test_an_unknown_store_is_refused_where_bounds_are_compared(few):
    run = Run(few, Method("exact"), Settings(epochs=1))
    with pytest.raises(ValueError, match="store must be one of 'svd', 'hosvd', got 'exact'"):
        list(bounds_against_variance(run.model, few.train_images, few.train_labels, "exact"))


def test_measuring_teaches_a_plan_nothing(few):
    run = Run(few, TOLERANT, PLAIN)
    run.train(should_stop=lambda: run.steps_done == 1)
    before = run.storage.plan.state_dict()
    assert before["budgets"].size == 4
    compare_with_exact(run.model, few.train_images[:20], few.train_labels[:20], run.storage)
    for key, array in run.storage.plan.state_dict().items():
        assert_same_bits(array, before[key])
