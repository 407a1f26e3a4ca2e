"""Every block of the README and the docs does what it says: Python runs, commands are typed, exit codes are seen."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    line.removeprefix("$ ") for language, code in BLOCKS if language == "console" for line in code.splitlines()
    if line.startswith("$ ")
]  # fmt: skip


def test_the_readme_has_an_example_for_each_of_the_three_users():
    assert len(PYTHON) >= 2
    assert any(command.startswith("refgrad check") for command in COMMANDS)
    assert {language for language, _ in BLOCKS} <= {"python", "console"}, "a block that nothing runs"


@pytest.mark.parametrize("code", PYTHON, ids=[f"block {i}" for i in range(len(PYTHON))])
def test_python_block_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("command", COMMANDS)
def test_command_does_what_the_readme_says(command, tmp_path):
    words, _, comment = command.partition("#")
    if words.startswith(("make", "git", "cd", "pip")):
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert not words.startswith("make") or words.split()[1] in targets
        return
    name, *arguments = shlex.split(words)
    assert name == "refgrad"
    if arguments[0] == "train":  # the whole run takes a minute: one epoch shows that the line is right
        arguments += ["--epochs", "1", "--out", str(tmp_path)]
    expected = int(re.search(r"exits? (\d)", comment)[1]) if "exit" in comment else 0
    run = subprocess.run(
        [sys.executable, "-m", "refgrad", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == expected, run.stdout + run.stderr


def test_the_method_page_runs_from_top_to_bottom():
    page = (ROOT / "docs/method.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL))
    exec(compile(code, "docs/method.md", "exec"), {"__name__": "method"})


def test_the_adapters_page_runs():
    pytest.importorskip("torch", reason="the page judges a layer of PyTorch")
    page = (ROOT / "docs/adapters.md").read_text()
    for code in re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        exec(compile(code, "docs/adapters.md", "exec"), {"__name__": "adapters"})


def test_the_testing_page_runs(capsys):
    page = (ROOT / "docs/testing.md").read_text()
    for code in re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        exec(compile(code, "docs/testing.md", "exec"), {"__name__": "testing"})
    assert "grad_weight" in capsys.readouterr().out


def test_the_certificates_page_runs(capsys):
    page = (ROOT / "docs/certificates.md").read_text()
    for code in re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        exec(compile(code, "docs/certificates.md", "exec"), {"__name__": "certificates"})
    assert capsys.readouterr().out.startswith("certified: ")


def test_the_table_of_operations_is_the_one_in_the_code():
    from refgrad.oracle import OPERATIONS

    page = (ROOT / "docs/oracle.md").read_text()
    lines = [line for line in page.split("### Flags")[0].splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    named = [name for names, *_ in rows for name in re.findall(r"`(\w+)`", names)]
    assert named == list(OPERATIONS)
    for names, arrays, attributes, results in rows:
        operation = OPERATIONS[re.findall(r"`(\w+)`", names)[0]]
        if "those of conv2d" not in arrays:
            assert arrays.split(", ") == list(operation.arrays)
            assert [word for word in attributes.split(", ") if word] == list(operation.attributes)
        if not {"the", "their"} & set(results.split()):
            assert results.split(", ") == list(operation.results)
