"""What holds for the project as a whole: its surface, what importing it loads, that its files agree with each other."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import refgrad

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "numba", "hypothesis", "typer", "click", "rich", "scipy.linalg", "scipy.special", "matplotlib", "sklearn",
    "torch", "pandas", "pytest",
}  # fmt: skip


def loaded_by(statement):
    """The modules that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


def test_importing_refgrad_loads_nothing_heavy():
    assert HEAVY & loaded_by("import refgrad") == set()


def test_the_check_of_heavy_modules_can_fail():
    assert HEAVY & loaded_by("import refgrad, scipy.linalg") == {"scipy.linalg"}


def test_help_loads_only_what_draws_it():
    loaded = loaded_by(
        "from typer.testing import CliRunner\nfrom refgrad.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    assert (HEAVY - {"typer", "click", "rich"}) & loaded == set()


def test_every_public_name_exists_and_is_documented():
    for name in refgrad.__all__:
        value = getattr(refgrad, name)
        assert name.startswith("__") or (value.__doc__ or "").strip(), f"refgrad.{name} has no docstring"


def test_names_are_loaded_from_where_type_checkers_are_told():
    tree = ast.parse((ROOT / "refgrad/__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert told == {
        **dict.fromkeys(refgrad._MODULES, "refgrad"),
        **{name: f"refgrad.{module}" for name, module in refgrad._HOME.items()},
    }
    assert sorted([*told, "__version__"]) == sorted(refgrad.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'refgrad' has no attribute 'hovsd'"):
        refgrad.hovsd  # noqa: B018


def test_every_module_says_what_it_is_for():
    for module in pkgutil.walk_packages(refgrad.__path__, "refgrad."):
        if module.name == "refgrad.__main__":
            continue
        assert importlib.import_module(module.name).__doc__, f"{module.name} has no docstring"


def test_version_is_stated_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == refgrad.__version__
    assert f"## [{refgrad.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def requirements(path):
    """Package -> exact version of a constraints file."""
    lines = [line for line in (ROOT / path).read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][^ ]*", line) for line in lines), f"{path} has an inexact line"
    return dict(line.lower().split("==") for line in lines)


@pytest.mark.parametrize("path", ["constraints.txt", "constraints-lowest.txt"])
def test_constraints_name_every_dependency_exactly(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = requirements(path)
    for requirement in project["dependencies"]:
        assert re.split(r"[>=]", requirement)[0] in named


def test_lowest_constraints_are_the_floors_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = requirements("constraints-lowest.txt")
    extras = project["optional-dependencies"]
    for requirement in project["dependencies"] + extras["plot"] + extras["examples"]:
        name, floor = requirement.split(">=")
        assert (lowest[name] + ".").startswith(floor + ".")
