"""``refgrad train`` as it is typed: what it shows, what it writes, how it stops and goes on, and what it refuses."""

import inspect
import io
import json
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from refgrad import cli
from refgrad.training import Checkpoint, Method, Run, RunRecord, Settings
from refgrad.training import command as command_module
from refgrad.training.command import command_line
from refgrad.training.figure import draw, require_matplotlib
from refgrad.training.terminal import TerminalReporter, epoch_table, summary_table
from tests.assertions import assert_same_bits
from tests.training_data import METHODS, SETTINGS, STEPS, few_digits

ROOT = Path(__file__).resolve().parents[1]

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
pytest.importorskip("matplotlib", reason="the picture is matplotlib's")


def invoke(*words):
    return CliRunner().invoke(cli.app, ["train", *map(str, words)], env={"COLUMNS": "100"})


@pytest.fixture(scope="module")
def few():
    return few_digits()


@pytest.fixture
def little(monkeypatch, few):
    """Let the command train on a few digits."""
    monkeypatch.setattr(command_module, "load", lambda name, seed, scaling: few)


@pytest.fixture(scope="module")
def records(few):
    return [Run(few, method, SETTINGS).train() for method in METHODS]


def text_of(*renderables, width=100):
    console = Console(file=io.StringIO(), width=width)
    for renderable in renderables:
        console.print(renderable)
    return console.file.getvalue()


def test_defaults_are_those_of_settings():
    standard = Settings()
    for name, parameter in inspect.signature(cli.train).parameters.items():
        if name in {field.name for field in fields(Settings)}:
            assert parameter.default == getattr(standard, name), name


def test_help_names_every_option():
    result = invoke("--help")
    assert result.exit_code == 0
    for name in inspect.signature(cli.train).parameters:
        assert f"--{name.replace('_', '-')}" in result.output


def test_three_stores_are_shown_side_by_side(little, tmp_path):
    result = invoke("--epochs", 2, "--batch-size", 20, "--seed", 1, "--out", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    for name in ("exact (1 of 3)", "svd-0.9 (2 of 3)", "hosvd-0.9 (3 of 3)", "side by side"):
        assert name in result.output
    document = json.loads((tmp_path / "runs" / "results.json").read_text())
    assert [run["name"] for run in document["runs"]] == ["exact", "svd-0.9", "hosvd-0.9"]
    assert document["settings"]["epochs"] == 2
    assert document["arguments"][:2] == ["refgrad", "train"]
    for run in document["runs"]:
        accuracy = f"{100 * run['summary']['test_accuracy']:.1f} %"
        assert result.output.count(accuracy) >= 2
        assert f"{run['summary']['stored_numbers']:,.0f}" in result.output
    assert document["runs"][0]["summary"]["gradient_error"] == 0.0
    assert all(run["summary"]["gradient_error"] > 0.0 for run in document["runs"][1:])


def test_options_reach_the_run(little, tmp_path):
    words = ["--store", "hosvd", "--explained-variance", 0.5, "--explained-variance", 1, "--no-norm", "--epochs", 1]
    words += ["--learning-rate", 0.01, "--momentum", 0.5, "--weight-decay", 0.001, "--batch-size", 24, "--seed", 3]
    result = invoke(*words, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "results.json").read_text())
    assert [run["name"] for run in document["runs"]] == ["hosvd-0.5", "hosvd-1.0"]
    assert document["settings"] == {
        "epochs": 1,
        "batch_size": 24,
        "learning_rate": 0.01,
        "momentum": 0.5,
        "weight_decay": 0.001,
        "norm": False,
        "seed": 3,
        "certify": False,
    }
    assert (
        document["arguments"]
        == (
            "refgrad train --store hosvd --explained-variance 0.5 --explained-variance 1.0 --epochs 1 --batch-size 24 "
            f"--learning-rate 0.01 --momentum 0.5 --weight-decay 0.001 --no-norm --seed 3 --out {tmp_path}"
        ).split()
    )


def test_the_seed_splits_the_data(monkeypatch, few, tmp_path):
    asked = []

    def load(name, seed, scaling):
        asked.append((name, seed, scaling))
        return few

    monkeypatch.setattr(command_module, "load", load)
    assert invoke("--store", "exact", "--epochs", 1, "--seed", 5, "--out", tmp_path).exit_code == 0
    assert asked == [("digits", 5, "standard")]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--epochs", 0], "epochs must be at least 1, got 0"),
        (["--batch-size", -1], "batch_size must be at least 1, got -1"),
        (["--seed", -1], "seed must be at least 0, got -1"),
        (["--learning-rate", "nan"], "learning_rate must be positive and finite, got nan"),
        (["--momentum", 1], "momentum must be in [0, 1), got 1.0"),
        (["--store", "zip"], "store must be one of 'exact', 'svd', 'hosvd', got 'zip'"),
        (["--explained-variance", 1.2], "explained_variance must be in (0, 1], got 1.2"),
        (["--explained-variance", 0], "explained_variance must be in (0, 1], got 0.0"),
        (["--store", "exact", "--explained-variance", 0.9], "explained_variance 0.9 is of no use"),
        (["--store", "svd", "--store", "svd"], "store 'svd' is given twice"),
        (["--resume"], "there is nothing to resume: "),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(words, text, tmp_path):
    result = invoke(*words, "--out", tmp_path)
    assert result.exit_code == 2
    assert f"refgrad train: {text}" in result.stderr
    assert not (tmp_path / "results.json").exists()


def test_a_number_that_is_none_is_refused(tmp_path):
    result = invoke("--epochs", "ten", "--out", tmp_path)
    assert result.exit_code == 2
    assert "--epochs" in result.stderr


def test_a_folder_that_cannot_be_written_into_is_refused_before_training(monkeypatch, tmp_path):
    monkeypatch.setattr(Run, "train", lambda *args, **kwargs: pytest.fail("training began"))
    (tmp_path / "file").write_text("")
    result = invoke("--out", tmp_path / "file" / "runs")
    assert result.exit_code == 2
    assert f"refgrad train: cannot write into the folder {tmp_path / 'file' / 'runs'}: Not a directory" in result.stderr


@pytest.mark.parametrize(("module", "extra"), [("matplotlib.figure", "plot"), ("sklearn.datasets", "examples")])
def test_a_missing_extra_is_named_before_training(monkeypatch, tmp_path, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    result = invoke("--epochs", 1, "--out", tmp_path)
    assert result.exit_code == 2
    assert f'pip install "refgrad[{extra}]"' in result.stderr


def test_a_damaged_checkpoint_is_named(little, tmp_path):
    (tmp_path / "checkpoint-exact.npz").write_bytes(b"not a zip file")
    result = invoke("--store", "exact", "--resume", "--out", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path / 'checkpoint-exact.npz'} is no checkpoint that can be read" in result.stderr


def test_options_that_contradict_the_checkpoint_are_named(little, tmp_path):
    assert invoke("--store", "exact", "--epochs", 1, "--out", tmp_path).exit_code == 0
    result = invoke("--store", "exact", "--epochs", 2, "--no-norm", "--resume", "--out", tmp_path)
    assert result.exit_code == 2
    assert "epochs is 2, but 1 there; norm is False, but True there" in result.stderr


def test_an_error_inside_training_is_no_wrong_usage(little, monkeypatch, tmp_path):
    def broken(*args, **kwargs):
        raise ValueError("a defect")

    monkeypatch.setattr(Run, "_take_step", broken)
    result = invoke("--store", "exact", "--out", tmp_path)
    assert result.exit_code == 1
    assert str(result.exception) == "a defect"


# Ctrl-C


def press_ctrl_c_after(monkeypatch, steps):
    """Raise SIGINT in this process after so many steps."""
    original, taken = Run._take_step, []

    def take(self, images, labels):
        taken.append(None)
        if len(taken) == steps:
            signal.raise_signal(signal.SIGINT)
        return original(self, images, labels)

    monkeypatch.setattr(Run, "_take_step", take)


def test_ctrl_c_finishes_the_step_and_says_how_to_go_on(little, records, monkeypatch, tmp_path):
    words = [
        "--store",
        "exact",
        "--store",
        "hosvd",
        "--explained-variance",
        "0.8",
        "--epochs",
        "2",
        "--batch-size",
        "20",
    ]
    words += ["--seed", "1", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        press_ctrl_c_after(patch, 2 * STEPS + 2)
        result = invoke(*words)
    assert result.exit_code == 130, result.output
    assert "Stopped by Ctrl-C: hosvd-0.8 interrupted at step 2 of epoch 1." in result.output
    command = next(line.strip() for line in result.output.splitlines() if line.startswith("  refgrad train"))
    assert command == " ".join(["refgrad", "train", *words, "--resume"])
    result = invoke(*command.split()[2:])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "results.json").read_text())
    for run, expected in zip(document["runs"], [records[0], records[2]], strict=True):
        for epoch, record in zip(run["epochs"], expected.epochs, strict=True):
            assert {**epoch, "seconds": 0.0} == {
                field.name: getattr(record.without_time(), field.name) for field in fields(record)
            }


CHILD = """
import signal, sys, time
from refgrad.cli import app
from refgrad.training import Run, command
from tests.training_data import few_digits

pause, *words = sys.argv[1:]
original, taken = Run._take_step, []

def take(self, images, labels):
    taken.append(None)
    if len(taken) == int(pause):
        print("in step", pause, flush=True)
        while not signal.getsignal(signal.SIGINT).__self__():
            time.sleep(0.001)
    return original(self, images, labels)

Run._take_step = take
command.load = lambda name, seed, scaling: few_digits()
app(words)
"""


def in_a_process(*words, pause=0):
    """Run the command in a fresh process, with BLAS as the command wants it; press Ctrl-C in the step `pause`."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(pause), "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    try:
        if pause:
            assert process.stdout.readline() == f"in step {pause}\n"
            process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=120)[0]
    finally:
        process.kill()
        process.wait()
    return process.returncode, output


def test_a_real_sigint_in_the_middle_of_a_step_loses_nothing(tmp_path):
    words = ["--store", "hosvd", "--explained-variance", "0.8", "--epochs", "2", "--batch-size", "20", "--out"]
    code, output = in_a_process(*words, str(tmp_path / "stopped"), pause=5)
    assert code == 130, output
    assert "Stopped by Ctrl-C: hosvd-0.8 interrupted at step 2 of epoch 2." in output
    checkpoint = tmp_path / "stopped" / "checkpoint-hosvd-0.8.npz"
    stopped = Checkpoint.load(checkpoint)
    assert (stopped.status, stopped.epoch, stopped.step) == ("running", 1, 2)
    for arguments in ([str(checkpoint.parent), "--resume"], [str(tmp_path / "whole")]):
        code, output = in_a_process(*words, *arguments)
        assert code == 0, output
    resumed, whole = Checkpoint.load(checkpoint), Checkpoint.load(tmp_path / "whole" / checkpoint.name)
    assert [record.without_time() for record in resumed.epochs] == [record.without_time() for record in whole.epochs]
    for part in ("model", "optimizer"):
        for name, array in getattr(whole, part).items():
            assert_same_bits(getattr(resumed, part)[name], array, name)


# Tables and picture


def test_the_epoch_table_shows_every_epoch(records):
    text = text_of(epoch_table("hosvd-0.8", records[2].epochs))
    assert len([line for line in text.splitlines() if line.startswith("│")]) == 2
    for record in records[2].epochs:
        for cell in (
            f"{record.loss:.4f}",
            f"{100 * record.test_accuracy:.1f} %",
            f"{record.stored_numbers:,.0f}",
            f"{record.exact_numbers / record.stored_numbers:.1f}",
            f"{record.held_bytes:,.0f}",
            f"{record.gradient_error:.3g}",
            f"{record.gradient_bound:.3g}",
        ):
            assert f" {cell} " in text


def test_the_summary_shows_what_diverged(records):
    diverged = RunRecord(Method("hosvd", 0.5), "diverged", (), (2, 17))
    text = text_of(summary_table([*records, diverged]))
    column = [line.split("│")[3].strip() for line in text.splitlines() if line.startswith("│")]
    assert column[3:] == ["diverged", "at step 17", "of epoch 2"]
    for record in records:
        assert f"{100 * record.test_accuracy:.1f} %" in text


def test_both_tables_fit_a_terminal_of_80_columns(records):
    for table in (epoch_table("run", records[0].epochs), summary_table(records)):
        lines = text_of(table, width=80).splitlines()
        assert max(map(len, lines)) <= 80
        assert "…" not in "".join(lines)


def test_a_gradient_without_error_leaves_the_cell_empty(records):
    epoch = replace(records[2].epochs[0], gradient_error=None, gradient_bound=None)
    row = next(line for line in text_of(epoch_table("run", [epoch])).splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in row.split("│")[-3:-1]] == ["", ""]


def test_a_terminal_sees_a_bar(few):
    console = Console(file=io.StringIO(), width=100, force_terminal=True, legacy_windows=False)
    run = Run(few, Method("exact"), SETTINGS)
    reporter = TerminalReporter(console, 2)
    run.train(reporter=reporter)
    text = console.file.getvalue()
    assert "6/6" in text
    assert "exact (1 of 2)" in text
    assert "\x1b[?25h" in text  # the cursor is shown again


def test_a_run_that_diverges_is_said_to(few):
    console = Console(file=io.StringIO(), width=100)
    run = Run(few, Method("exact"), replace(SETTINGS, learning_rate=1e30, norm=False))
    record = run.train(reporter=TerminalReporter(console, 1))
    epoch, step = record.stopped_at
    assert f"exact: diverged at step {step} of epoch {epoch}" in console.file.getvalue()


def test_the_bar_goes_away_when_a_run_breaks(few, monkeypatch):
    def broken(*args):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(Run, "_take_step", broken)
    console = Console(file=io.StringIO(), width=100, force_terminal=True, legacy_windows=False)
    with pytest.raises(RuntimeError, match="in the middle"):
        Run(few, Method("exact"), SETTINGS).train(reporter=TerminalReporter(console, 1))
    assert console.file.getvalue().rstrip().endswith("┘") or "\x1b[?25h" in console.file.getvalue()


def test_the_picture_shows_accuracy_against_stored_numbers(records):
    better = replace(records[2], method=Method("hosvd", 0.95))
    diverged = RunRecord(Method("hosvd", 0.5), "diverged", (), (2, 17))
    figure = draw([*records, better, diverged], "few digits")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "test accuracy in %"
    assert "numbers stored" in axes.get_xlabel()
    lines = {line.get_label(): line for line in axes.lines}
    for record in records:
        x, y = lines[record.method.store].get_data()
        assert record.stored_numbers in x
        assert 100 * record.test_accuracy in y
    assert len(lines["hosvd"].get_xdata()) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["exact", "svd", "hosvd"]
    labels = [text.get_text() for text in axes.texts]
    assert "exact" in labels
    assert f"0.8\n{records[2].times_fewer:.0f}x" in labels
    assert figure.get_supxlabel() == "not shown: hosvd-0.5 diverged"


def test_a_picture_of_nothing_is_a_picture(tmp_path):
    diverged = RunRecord(Method("exact"), "diverged", (), (1, 1))
    figure = draw([diverged], "few digits")
    figure.savefig(tmp_path / "empty.png")
    assert figure.axes[0].get_legend() is None


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "refgrad\[plot\]"'):
        require_matplotlib()


def test_a_command_line_says_what_is_not_as_by_default():
    folder = Path("runs") / "with space"
    assert command_line([], [], folder, Settings()) == ["refgrad", "train", "--out", str(folder)]
    assert command_line(["svd"], [0.5], folder, Settings(seed=4)) == (
        ["refgrad", "train", "--store", "svd", "--explained-variance", "0.5", "--seed", "4", "--out", str(folder)]
    )
