"""Training: steps and their errors, runs that stop and go on, what they leave behind, and what they refuse."""

import json
import math
import signal
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from refgrad import functional
from refgrad.multilinear import LowRank, Tucker
from refgrad.nn import Linear, Module
from refgrad.storage import HOSVD, SVD, Exact
from refgrad.tape import Tape
from refgrad.training import (
    Checkpoint,
    CheckpointError,
    EpochRecord,
    Interruption,
    Method,
    Run,
    RunRecord,
    Settings,
    checkpoint_path,
    compare_with_exact,
    methods,
    prepare_runs,
    take_step,
    train_side_by_side,
)
from refgrad.training import loop as loop_module
from refgrad.training import side_by_side as side_by_side_module
from refgrad.training.checkpoint import Totals
from refgrad.training.files import prepare_folder, write_atomically
from refgrad.training.records import RESULTS_SCHEMA
from refgrad.training.step import classification_accuracy, compressed_weights
from tests.assertions import assert_same_bits, assert_within
from tests.training_data import METHODS, SETTINGS, STEPS, few_digits, without_time

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")

ROOT = Path(__file__).resolve().parents[1]
STORAGES = [SVD(explained_variance=0.9), HOSVD(explained_variance=0.8), HOSVD(explained_variance=0.99)]


@pytest.fixture(scope="module")
def data():
    return few_digits()


@pytest.fixture(scope="module")
def trained(data):
    """Runs of every method that nothing interrupted, by name: record and final state."""
    runs = {method.name: Run(data, method, SETTINGS) for method in METHODS}
    return {name: (run.train(), run.state()) for name, run in runs.items()}


def assert_same_state(actual, expected):
    for part in ("model", "optimizer"):
        left, right = getattr(actual, part), getattr(expected, part)
        assert list(left) == list(right)
        for name in right:
            assert_same_bits(left[name], right[name], f"{part} {name}")


def stop_after(*steps):
    """Answer True when as many steps were taken as one of the numbers says."""
    taken = iter(range(1, 10**6))
    return lambda: next(taken) in steps


# One step


@pytest.mark.parametrize("storage", STORAGES, ids=repr)
@pytest.mark.parametrize("norm", [True, False])
def test_T10_only_the_compressed_weights_have_another_gradient(data, storage, norm):
    run = Run(data, Method("exact"), replace(SETTINGS, norm=norm))
    batch = data.train_images[:20], data.train_labels[:20]
    exact = take_step(run.model, *batch, Exact(), update_state=False)
    compressed = take_step(run.model, *batch, storage, update_state=False)
    assert compressed.loss == exact.loss
    weights = compressed_weights(run.model)
    assert weights == ("conv1.weight", "conv2.weight", "conv3.weight", "fc.weight")
    for name, gradient in exact.gradients.items():
        if name in weights:
            assert not np.array_equal(compressed.gradients[name], gradient)
        else:
            assert_same_bits(compressed.gradients[name], gradient, name)


@pytest.mark.parametrize("storage", STORAGES, ids=repr)
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_T13_the_bound_is_over_the_measured_error_all_along_a_run(storage, norm, dtype):
    data = few_digits(dtype)
    run = Run(data, Method("exact"), replace(SETTINGS, norm=norm))
    for start in range(0, 24, 8):
        images, labels = data.train_images[start : start + 8], data.train_labels[start : start + 8]
        comparison = compare_with_exact(run.model, images, labels, storage)
        assert 0.0 < comparison.error <= comparison.bound + comparison.rounding
        run.optimizer.step(take_step(run.model, images, labels, Exact()).gradients)


def test_the_exact_store_has_no_error_and_a_bound_of_rounding_alone(data):
    run = Run(data, Method("exact"), SETTINGS)
    batch = data.train_images[:20], data.train_labels[:20]
    comparison = compare_with_exact(run.model, *batch, Exact())
    assert comparison.error == comparison.bound == 0.0 < comparison.rounding


def test_the_gradient_error_is_the_distance_over_the_norm(data):
    run, storage = Run(data, Method("exact"), SETTINGS), HOSVD(explained_variance=0.8)
    batch = data.train_images[:20], data.train_labels[:20]
    comparison = compare_with_exact(run.model, *batch, storage)
    exact, compressed = (
        np.concatenate([step.gradients[name].ravel().astype(np.float64) for name in compressed_weights(run.model)])
        for step in (take_step(run.model, *batch, s, update_state=False) for s in (Exact(), storage))
    )
    expected = math.sqrt(math.fsum((exact - compressed) ** 2)) / math.sqrt(math.fsum(exact**2))
    # Sums of squares of one sign, each term rounded three times at most, and two roots and a quotient.
    allowed = (exact.size + 6) * 2.0**-53 * expected
    assert_within(comparison.error, expected, allowed)


def test_measuring_moves_nothing(data):
    run = Run(data, Method("hosvd", 0.8), SETTINGS)
    before = run.state()
    compare_with_exact(run.model, data.train_images[:20], data.train_labels[:20], run.storage)
    assert_same_state(run.state(), before)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_run_that_measures_nothing_ends_with_the_same_parameters(data, trained, method):
    run = Run(data, method, SETTINGS)
    run.measured_step = -1
    record = run.train()
    assert record.epochs[0].gradient_error is None
    assert_same_state(run.state(), trained[method.name][1])


def test_a_gradient_of_zero_has_no_relative_error(data):
    run = Run(data, Method("hosvd", 0.8), replace(SETTINGS, norm=False))
    for array in run.model.parameters().values():
        array[...] = 0.0
    run.model.parameters()["fc.bias"][...] = [0.0] * 10
    comparison = compare_with_exact(run.model, data.train_images[:20], data.train_labels[:20], run.storage)
    assert (comparison.error, comparison.bound, comparison.rounding) == (None, None, None)


def test_D3_stored_numbers_are_the_papers_count(data):
    run = Run(data, Method("hosvd", 0.8), SETTINGS)
    images = data.train_images[:20]
    step = take_step(run.model, images, data.train_labels[:20], run.storage, update_state=False)
    kept = []
    with Tape(store=run.storage) as tape:
        functional.cross_entropy(
            run.model.apply(run.model.watch(tape), images, update_state=False), data.train_labels[:20]
        )
    kept = [record.kept_activation.stored for record in tape.records if record.kept_activation is not None]
    assert [stored.shape for stored in kept] == [(20, 1, 8, 8), (20, 16, 8, 8), (20, 32, 4, 4), (20, 256)]
    assert all(isinstance(stored, Tucker) for stored in kept)
    assert step.stored_numbers == sum(
        math.prod(stored.multilinear_rank)
        + sum(n * k for n, k in zip(stored.shape, stored.multilinear_rank, strict=True))
        for stored in kept
    )
    assert step.exact_numbers == 20 * (64 + 16 * 64 + 32 * 16 + 256)
    assert step.held_bytes == tape.nbytes


def test_D2_stored_numbers_are_the_papers_count(data):
    run = Run(data, Method("svd", 0.9), SETTINGS)
    images = data.train_images[:20]
    step = take_step(run.model, images, data.train_labels[:20], run.storage, update_state=False)
    with Tape(store=run.storage) as tape:
        run.model.apply(run.model.watch(tape), images, update_state=False)
    kept = [record.kept_activation.stored for record in tape.records if record.kept_activation is not None]
    assert all(isinstance(stored, LowRank) for stored in kept)
    assert step.stored_numbers == sum(
        stored.multilinear_rank[0] * (20 + math.prod(stored.shape[1:])) for stored in kept
    )


def test_exact_storage_stores_every_number(data):
    run = Run(data, Method("exact"), SETTINGS)
    step = take_step(run.model, data.train_images[:20], data.train_labels[:20], Exact())
    assert step.stored_numbers == step.exact_numbers == 20 * (64 + 16 * 64 + 32 * 16 + 256)


class Sign(Module):
    """Scores (x, -x): class 0 for what is positive. Sees whether it is evaluated."""

    def __init__(self):
        super().__init__()
        self.linear = Linear(1, 2, bias=False, generator=np.random.default_rng(0))
        self.linear.weight[...] = [[1.0], [-1.0]]
        self.seen = []

    def forward(self, x):
        self.seen.append(self.training)
        return self.linear(x)


def test_accuracy_is_the_part_that_is_right_in_evaluation_mode():
    model = Sign()
    accuracy = classification_accuracy(model, np.array([[1.0], [2.0], [-1.0], [3.0]]), np.array([0, 1, 1, 0]))
    assert accuracy == 0.75
    assert model.seen == [False]
    assert model.training


def test_a_bare_linear_model_has_one_compressed_weight():
    assert compressed_weights(Linear(2, 2, generator=np.random.default_rng(0))) == ("weight",)


# Runs that stop and go on


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("stops", [(1,), (2,), (STEPS,), (STEPS + 1,), (1, 2, 3, 4, 5)], ids=str)
def test_an_interrupted_run_goes_on_bit_for_bit(data, trained, tmp_path, method, stops):
    path = checkpoint_path(tmp_path, method)
    assert path.name == f"checkpoint-{method.name}.npz"
    done = 0
    for stop in stops:
        run = Run(data, method, SETTINGS)
        if done:
            run.resume(path)
        record = run.train(checkpoint=path, should_stop=stop_after(stop - done))
        assert record.status == "interrupted"
        assert record.stopped_at == ((stop - 1) // STEPS + 1, (stop - 1) % STEPS + 1)
        assert run.steps_done == stop
        done = stop
    run = Run(data, method, SETTINGS)
    run.resume(path)
    assert run.steps_done == done
    record = run.train(checkpoint=path)
    expected, state = trained[method.name]
    assert without_time(record) == without_time(expected)
    assert record.status == "finished"
    assert_same_state(run.state(), state)
    assert_same_state(Checkpoint.load(path), state)


def test_a_stop_after_the_very_last_step_is_no_interruption(data):
    run = Run(data, METHODS[0], SETTINGS)
    assert run.train(should_stop=stop_after(2 * STEPS)).status == "finished"


def test_a_finished_run_is_not_run_again(data, trained, tmp_path):
    path = tmp_path / "checkpoint-exact.npz"
    trained["exact"][1].save(path)
    run = Run(data, METHODS[0], SETTINGS)
    run.resume(path)
    record = run.train(should_stop=lambda: pytest.fail("a step was taken"))
    assert record == trained["exact"][0]


def test_runs_with_one_seed_start_alike_and_see_the_same_batches(data, trained):
    first, second = (Run(data, method, SETTINGS) for method in METHODS[:2])
    assert_same_state(first.state(), second.state())
    losses = {name: record.epochs[0].loss for name, (record, _) in trained.items()}
    assert len(set(losses.values())) == 3


def test_another_seed_gives_other_numbers(data, trained):
    record = Run(data, METHODS[0], replace(SETTINGS, seed=2)).train()
    assert record.epochs[0].loss != trained["exact"][0].epochs[0].loss


def test_the_learning_rate_falls_along_half_a_cosine(data):
    run, rates = Run(data, METHODS[0], SETTINGS), []

    def see():
        rates.append(run.optimizer.lr)
        return False

    run.train(should_stop=see)
    total = SETTINGS.epochs * STEPS
    expected = [0.025 * (1 + math.cos(math.pi * step / total)) for step in range(total)]
    assert_within(rates, expected, 4 * 2.0**-53 * 0.05)  # one cosine, one sum, two products, of numbers up to 0.05


def test_the_loss_of_an_epoch_is_the_mean_over_its_images(data):
    run, losses = Run(data, METHODS[0], replace(SETTINGS, epochs=1)), []

    class Listener(loop_module.SilentReporter):
        def step_taken(self, run, loss):
            losses.append(loss)

    record = run.train(reporter=Listener())
    expected = (20 * losses[0] + 20 * losses[1] + 8 * losses[2]) / 48
    assert_within(record.epochs[0].loss, expected, 8 * 2.0**-53 * expected)


def test_training_learns():
    from refgrad.datasets import digits

    record = Run(digits(scaling="standard"), Method("exact"), Settings(epochs=1)).train()
    assert record.epochs[0].test_accuracy > 0.7  # ten classes: a network that learns nothing has about 0.1


# Runs that diverge


@pytest.fixture
def no_picture(monkeypatch):
    """Leave the picture out, which takes longer than these runs."""
    monkeypatch.setattr(side_by_side_module, "write_figure", lambda path, runs, dataset: None)


def test_a_run_that_diverges_says_where_and_the_others_go_on(data, no_picture, tmp_path):
    settings = Settings(epochs=2, batch_size=20, learning_rate=1e30, norm=False)
    runs = prepare_runs(data, [Method("hosvd", 0.8), Method("exact")], settings, tmp_path)
    records = train_side_by_side(runs, tmp_path)
    assert [record.status for record in records] == ["diverged", "diverged"]
    for record in records:
        assert record.stopped_at[0] == 1
        assert record.test_accuracy is None
        assert record.seconds == 0.0
        assert record.stored_numbers is None
        assert record.times_fewer is None
        assert record.gradient_error is None
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["runs"][0]["status"] == "diverged"
    assert document["runs"][0]["stopped_at"] == {"epoch": 1, "step": records[0].stopped_at[1]}
    assert document["runs"][0]["summary"]["test_accuracy"] is None
    resumed = prepare_runs(data, [Method("exact")], settings, tmp_path, resume=True)[0]
    assert resumed.train(should_stop=lambda: pytest.fail("a step was taken")) == records[1]


def test_activations_that_overflow_are_a_divergence(data):
    run = Run(data, Method("hosvd", 0.8), replace(SETTINGS, norm=False))
    for name in ("conv1.weight", "conv2.weight", "conv3.weight"):
        run.model.parameters()[name][...] = 1e20
    record = run.train()
    assert (record.status, record.stopped_at) == ("diverged", (1, 1))


def test_a_gradient_that_overflows_is_a_divergence(data, monkeypatch):
    run = Run(data, Method("exact"), SETTINGS)

    def overflowing(*args, **kwargs):
        step = take_step(*args, **kwargs)
        step.gradients["fc.bias"][0] = np.inf
        return step

    monkeypatch.setattr(loop_module, "take_step", overflowing)
    before = run.model.state_dict()
    record = run.train()
    assert (record.status, record.stopped_at) == ("diverged", (1, 1))
    assert_same_bits(run.model.state_dict()["fc.weight"], before["fc.weight"])


def test_an_error_that_is_no_divergence_is_raised(data, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("quite another reason")

    monkeypatch.setattr(loop_module, "take_step", broken)
    with pytest.raises(ValueError, match="quite another reason"):
        Run(data, Method("exact"), SETTINGS).train()


# What is left behind


def test_side_by_side_leaves_results_picture_and_checkpoints(data, trained, tmp_path):
    folder = tmp_path / "new" / "folder"
    runs = prepare_runs(data, METHODS, SETTINGS, folder)
    records = train_side_by_side(runs, folder, arguments=["refgrad", "train"])
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["results.json", "accuracy_against_memory.png", *(f"checkpoint-{method.name}.npz" for method in METHODS)]
    )
    assert (folder / "accuracy_against_memory.png").read_bytes().startswith(b"\x89PNG")
    for record in records:
        assert without_time(record) == without_time(trained[record.method.name][0])
    document = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert document["schema"] == RESULTS_SCHEMA
    assert document["seed"] == 1
    assert document["arguments"] == ["refgrad", "train"]
    assert document["settings"] == asdict(SETTINGS)
    assert document["dataset"] == {"name": "few digits", "fingerprint": data.fingerprint()}
    assert {"refgrad", "numpy", "python"} <= set(document["versions"])
    for run, record in zip(document["runs"], records, strict=True):
        assert tuple(EpochRecord(**epoch) for epoch in run["epochs"]) == record.epochs
        assert run["summary"]["test_accuracy"] == record.epochs[-1].test_accuracy


def keys(document):
    """Every key of a JSON document, wherever it stands."""
    if isinstance(document, dict):
        return set(document).union(*map(keys, document.values()))
    return set().union(*map(keys, document)) if isinstance(document, list) else set()


def test_the_documentation_names_every_field_of_the_results(data, trained, tmp_path):
    records = [record for record, _ in trained.values()]
    records[0] = replace(records[0], stopped_at=(1, 2))
    from refgrad.training import results_document

    document = results_document(records, SETTINGS, data.name, data.fingerprint(), ["refgrad", "train"])
    text = (ROOT / "docs" / "training.md").read_text()
    assert RESULTS_SCHEMA in text
    missing = {key for key in keys(document) - set(document["versions"]) if f"`{key}`" not in text}
    assert missing == set()


def test_an_interrupted_comparison_goes_on(data, trained, no_picture, tmp_path):
    runs = prepare_runs(data, METHODS, SETTINGS, tmp_path)
    records = train_side_by_side(runs, tmp_path, should_stop=stop_after(1 + 2 * STEPS + 1 + 2))
    assert [record.status for record in records] == ["finished", "interrupted"]
    assert [run["status"] for run in json.loads((tmp_path / "results.json").read_text())["runs"]] == [
        "finished",
        "interrupted",
    ]
    runs = prepare_runs(data, METHODS, SETTINGS, tmp_path, resume=True)
    assert [run.steps_done for run in runs] == [6, 2, 0]
    records = train_side_by_side(runs, tmp_path)
    for record, run in zip(records, runs, strict=True):
        expected, state = trained[record.method.name]
        assert without_time(record) == without_time(expected)
        assert_same_state(run.state(), state)


def test_a_wish_to_stop_before_a_run_begins_is_heard(data, tmp_path):
    assert train_side_by_side(prepare_runs(data, METHODS, SETTINGS, tmp_path), tmp_path, should_stop=lambda: True) == []


def test_a_fresh_start_removes_the_checkpoints_of_these_runs_only(data, trained, tmp_path):
    other = tmp_path / "checkpoint-hosvd-0.5.npz"
    for path in (tmp_path / "checkpoint-exact.npz", other):
        trained["exact"][1].save(path)
    prepare_runs(data, METHODS, SETTINGS, tmp_path)
    assert list(tmp_path.iterdir()) == [other]


def test_numbers_of_a_run_are_means_over_its_steps():
    def epoch(steps, **values):
        standard = dict.fromkeys((field.name for field in fields(EpochRecord)), 1)
        return EpochRecord(**{**standard, "steps": steps, **values})

    record = RunRecord(
        Method("hosvd", 0.5),
        "finished",
        (
            epoch(1, exact_numbers=8.0, stored_numbers=4.0, held_bytes=1.0, gradient_error=None, seconds=2.0),
            epoch(3, exact_numbers=8.0, stored_numbers=0.0, held_bytes=5.0, gradient_error=3.0, seconds=0.5),
        ),
    )
    assert record.stored_numbers == 1.0
    assert record.exact_numbers == 8.0
    assert record.times_fewer == 8.0
    assert record.held_bytes == 4.0
    assert record.gradient_error == 3.0
    assert record.seconds == 2.5


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"first"))

    def breaks(file):
        file.write(b"half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_atomically(path, breaks)
    assert path.read_bytes() == b"first"
    write_atomically(path, lambda file: file.write(b"second"))
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written_into_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write into the folder .*file.runs: Not a directory"):
        prepare_folder(tmp_path / "file" / "runs")


# Checkpoints


@pytest.fixture
def stopped(data, tmp_path):
    """The checkpoint of a run after two steps."""
    path = tmp_path / "checkpoint-hosvd-0.8.npz"
    Run(data, METHODS[2], SETTINGS).train(checkpoint=path, should_stop=stop_after(2))
    return path


def test_a_checkpoint_comes_back_as_it_was(data, tmp_path):
    run = Run(data, METHODS[2], SETTINGS)
    run.train(should_stop=stop_after(STEPS + 2))
    state = run.state()
    state.save(tmp_path / "c.npz")
    back = Checkpoint.load(tmp_path / "c.npz")
    assert_same_state(back, state)
    for field in fields(Checkpoint):
        if field.name not in ("model", "optimizer"):
            assert getattr(back, field.name) == getattr(state, field.name)
    assert back.totals.images == 40
    assert back.totals.gradient_error is not None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_size": 16}, "batch_size is 16, but 20 there"),
        ({"epochs": 3, "seed": 9}, "epochs is 3, but 2 there; seed is 9, but 1 there"),
        ({"learning_rate": 0.1}, "learning_rate is 0.1, but 0.05 there"),
        ({"momentum": 0.5}, "momentum is 0.5, but 0.9 there"),
        ({"weight_decay": 0.5}, "weight_decay is 0.5, but 0.02 there"),
        ({"norm": False}, "norm is False, but True there"),
    ],
)
def test_settings_that_contradict_the_checkpoint_are_named(data, stopped, change, text):
    run = Run(data, METHODS[2], replace(SETTINGS, **change))
    with pytest.raises(CheckpointError) as error:
        run.resume(stopped)
    assert str(error.value) == (
        f"{stopped} is of a run with other settings: {text}; "
        "resume with the settings it was started with, or start over without resuming"
    )


def test_another_method_is_named(data, stopped):
    with pytest.raises(CheckpointError, match=r"store is 'svd', but 'hosvd' there; explained_variance is 0.9, but 0.8"):
        Run(data, METHODS[1], SETTINGS).resume(stopped)


def test_other_data_are_refused(data, stopped):
    images = data.train_images.copy()
    images[0, 0, 0, 0] += 1.0
    with pytest.raises(CheckpointError, match="the data are not those of the checkpoint"):
        Run(replace(data, train_images=images), METHODS[2], SETTINGS).resume(stopped)


def test_a_damaged_checkpoint_is_refused(data, stopped):
    content = bytearray(stopped.read_bytes())
    content[len(content) // 2] ^= 1
    stopped.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint-hosvd-0.8.npz is no checkpoint that can be read"):
        Run(data, METHODS[2], SETTINGS).resume(stopped)


def test_half_a_checkpoint_is_refused(data, stopped):
    stopped.write_bytes(stopped.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="is no checkpoint that can be read"):
        Run(data, METHODS[2], SETTINGS).resume(stopped)


def test_a_file_of_something_else_is_refused(data, stopped):
    np.savez(stopped, weight=np.zeros(3))
    with pytest.raises(CheckpointError, match="is no checkpoint of a training run: it holds no header"):
        Run(data, METHODS[2], SETTINGS).resume(stopped)


def test_a_pickled_object_is_never_loaded(data, stopped):
    np.savez(stopped, header=np.array([print], dtype=object))
    with pytest.raises(CheckpointError, match="without pickled objects"):
        Run(data, METHODS[2], SETTINGS).resume(stopped)


def header_changed(path, change):
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    change(header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda h: h.update(format="other/9"), "its format is 'other/9', and this version reads"),
        (lambda h: h.pop("epoch"), "its header has no 'epoch'"),
        (lambda h: h.update(step=-1), "step must be at least 0, got -1"),
        (lambda h: h.update(status="asleep"), "status must be one of 'running', 'finished', 'diverged', got 'asleep'"),
        (lambda h: h.update(settings={"epoch": 3}), "unexpected keyword argument 'epoch'"),
        (lambda h: h.update(method={"store": "zip"}), "store must be one of 'exact', 'svd', 'hosvd', got 'zip'"),
    ],
)
def test_a_header_that_says_something_else_is_refused(data, stopped, change, text):
    header_changed(stopped, change)
    with pytest.raises(CheckpointError) as error:
        Run(data, METHODS[2], SETTINGS).resume(stopped)
    assert f"{stopped} is no checkpoint of a training run: " in str(error.value)
    assert text in str(error.value)


def test_arrays_that_do_not_fit_the_model_are_refused(data, stopped):
    with np.load(stopped) as archive:
        arrays = dict(archive)
    arrays.pop("model/fc.bias")
    np.savez(stopped, **arrays)
    run = Run(data, METHODS[2], SETTINGS)
    with pytest.raises(CheckpointError, match=r"does not fit the model: .*missing: fc.bias"):
        run.resume(stopped)
    assert run.steps_done == 0


def test_there_has_to_be_something_to_resume(data, tmp_path):
    with pytest.raises(
        CheckpointError, match=r"there is nothing to resume: .* holds no checkpoint of exact, svd-0.9, hosvd-0.8"
    ):
        prepare_runs(data, METHODS, SETTINGS, tmp_path, resume=True)


def test_totals_start_at_nothing():
    assert set(asdict(Totals()).values()) == {0, None}


# Settings


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer of at least 1, got 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": math.inf}, ValueError, "learning_rate must be positive and finite, got inf"),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate must be a real number, got str"),
        ({"momentum": 1.0}, ValueError, "momentum must be in [0, 1), got 1.0"),
        ({"momentum": math.nan}, ValueError, "momentum must be in [0, 1), got nan"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay must be at least 0 and finite, got -0.1"),
        ({"weight_decay": True}, TypeError, "weight_decay must be a real number, got bool"),
    ],
)
def test_settings_out_of_range_are_refused(change, kind, text):
    with pytest.raises(kind) as error:
        Settings(**change)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("stores", "variances", "kind", "text"),
    [
        ([], [], ValueError, "store must name at least one of 'exact', 'svd', 'hosvd'"),
        (["zip"], [0.9], ValueError, "store must be one of 'exact', 'svd', 'hosvd', got 'zip'"),
        (["svd"], [0.0], ValueError, "explained_variance must be in (0, 1], got 0.0"),
        (["svd"], [1.2], ValueError, "explained_variance must be in (0, 1], got 1.2"),
        (["svd"], [math.nan], ValueError, "explained_variance must be in (0, 1], got nan"),
        (["svd"], ["0.9"], TypeError, "explained_variance must be a real number in (0, 1], got str"),
        (["svd", "hosvd"], [], ValueError, "explained_variance must be given for the svd and hosvd store"),
        (["svd", "svd"], [0.9], ValueError, "store 'svd' is given twice"),
        (["svd"], [0.9, 0.9], ValueError, "explained_variance 0.9 is given twice"),
        (["exact"], [0.9], ValueError, "explained_variance 0.9 is of no use: the exact store keeps everything"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(stores, variances, kind, text):
    with pytest.raises(kind) as error:
        methods(stores, variances)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("exact", 0.9), "the exact store takes no explained_variance, got 0.9"),
        (("svd", None), "the svd store needs an explained_variance in (0, 1]"),
        (("svd", 2.0), "explained_variance must be in (0, 1], got 2.0"),
        (("zip", None), "store must be one of"),
    ],
)
def test_a_method_that_makes_no_sense_is_refused(arguments, text):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        Method(*arguments)
    assert text in str(error.value)


def test_methods_have_the_storage_they_name():
    assert Method("exact").storage() == Exact()
    assert Method("svd", 0.5).storage() == SVD(explained_variance=0.5)
    assert Method("hosvd", 0.5).storage() == HOSVD(explained_variance=0.5)
    assert [m.name for m in methods(["hosvd", "exact"], [1, 0.99999999])] == ["hosvd-1.0", "hosvd-0.99999999", "exact"]


# Ctrl-C


def test_the_first_ctrl_c_is_noted_and_the_second_is_raised():
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
