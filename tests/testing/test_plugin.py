"""The pytest plugin, run as its users run it, in an empty folder."""

import os
import re
import subprocess
import sys

import pytest

from refgrad.oracle import find_case_of
from refgrad.oracle.tiers.suspects import REDRAWS
from refgrad.testing.assertions import assert_judged

SCALED = """
import numpy as np
from refgrad.oracle import find_case_of
from refgrad.oracle.own import target as own


def mantissa(core):
    return np.frexp(core.flat[0])[0]


OF_THE_CASE = mantissa(find_case_of("weight_gradient", "depthwise, in float32").array("core"))


class implementation:
    declaration = {"dtypes": ["float32"]}

    @staticmethod
    def weight_gradient(core, *arrays, **attributes):
        with open("calls", "a") as calls:
            calls.write("called ")
        gradient = own.weight_gradient(core, *arrays, **attributes)["grad_weight"]
        factor = np.float64(%s)
        return {"grad_weight": (gradient * factor).astype(np.float32)}
"""
"""A weight gradient that is off by a factor, on an input whose bound on the rounding of a sum hides it."""

TARGET = """
def implementation(x, weight, bias, grad_output, *, stride, padding, dilation, groups, explained_variance):
    return {"grad_bias": grad_output.%s(axis=(0, 2, 3))}
"""


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [(TARGET % "sum", 0, "1 passed"), (TARGET % "mean", 1, "the mean over the batch"), (None, 4, "there is no file")],
)
def test_exit_code_and_text(tmp_path, body, code, text):
    if body is not None:
        (tmp_path / "layer.py").write_text(body)
    options = ["--refgrad-target", "layer.py", "--refgrad-level", "smoke", "-k", "OblongKernel"]
    command = [sys.executable, "-m", "pytest", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == code, run.stdout + run.stderr
    assert text in run.stdout + run.stderr
    assert "Traceback" not in run.stdout


def test_importing_the_plugin_is_cheap():
    code = (
        "import sys, refgrad.testing.plugin; print([m for m in ('hypothesis', 'refgrad.oracle') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_option_of_pytest_works_on_the_oracles_tests(tmp_path):
    (tmp_path / "layer.py").write_text(TARGET % "mean")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--refgrad-target",
        "layer.py",
        "--refgrad-cases",
        "2",
        "-k",
        "generated",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}

    def run(*further):
        words = [*command, *further]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)

    collected = run("--collect-only", "-q")
    assert collected.returncode == 0
    assert "refgrad::conv2d[2 generated]" in collected.stdout
    judged = run("--junitxml", "out.xml")
    assert judged.returncode == 1
    assert "likely cause" in (tmp_path / "out.xml").read_text()
    assert run("-n", "2").returncode == 1
    refused = run("--refgrad-seed", "-1")
    assert refused.returncode == 4
    assert "seed must be at least 0, got -1" in refused.stdout + refused.stderr


def test_a_case_that_is_not_claimed_is_skipped_with_its_reason(tmp_path):
    (tmp_path / "layer.py").write_text(
        "def implementation(*a, **k):\n    raise NotImplementedError('no layers here')\n"
    )
    command = [sys.executable, "-m", "pytest", "-rs", "--refgrad-target", "layer.py", "--refgrad-level", "smoke"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert re.search(r"=+ \d+ skipped in", run.stdout)
    assert "no layers here" in run.stdout


def judged_when_scaled_by(factor, folder):
    """Run the one test on the depthwise input; return pytest's run, and how often the target was called."""
    (folder / "layer.py").write_text(SCALED % factor)
    options = ["--refgrad-target", "layer.py", "--refgrad-level", "smoke", "-k", "Depthwise"]
    command = [sys.executable, "-m", "pytest", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    return run, len((folder / "calls").read_text().split())


CALLS_WHEN_RIGHT = 1 + 2
"""One, and one for each relation that applies."""


@pytest.mark.parametrize("factor", ["1 + 2.0**-12", "1 - 2.0**-12"])
def test_a_factor_that_hides_under_the_bound_fails(tmp_path, factor):
    run, calls = judged_when_scaled_by(factor, tmp_path)
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(r"within the bound, but .* times what independent roundings explain; so it is on 3", run.stdout)
    assert "likely cause" not in run.stdout, "what is under the bound is told from no mistake by it"
    assert calls == CALLS_WHEN_RIGHT + REDRAWS


def test_roundings_that_conspire_on_one_input_pass_and_are_doubtful(tmp_path):
    run, calls = judged_when_scaled_by("1 + 2.0**-12 * (mantissa(core) == OF_THE_CASE)", tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "refgrad: 1 of the passed tests are suspect or inconclusive in some row" in run.stdout
    assert calls == CALLS_WHEN_RIGHT + 1, "the first draw settles it"


def test_what_is_right_is_not_called_on_redrawn_inputs(tmp_path):
    run, calls = judged_when_scaled_by("1", tmp_path)
    assert (run.returncode, calls) == (0, CALLS_WHEN_RIGHT), run.stdout + run.stderr
    assert "suspect" not in run.stdout


def test_assert_judged_refuses_what_is_no_case():
    with pytest.raises(TypeError, match="case must be a Case or a LadderCase, got int"):
        assert_judged(lambda: None, 3)
    with pytest.raises(AssertionError, match="rank, case"):
        assert_judged(lambda s, *, explained_variance: {"rank": 9}, find_case_of("rank", "zero energy"))
