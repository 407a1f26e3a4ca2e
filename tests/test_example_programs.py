"""The examples that teach: each runs from its file, says what it found, and ends in a picture."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"

pytest.importorskip("matplotlib", reason="the examples end in a picture")
pytest.importorskip("sklearn", reason="one of them trains on scikit-learn's digits")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("error_bounds", [], "T12"),
        ("convergence", ["--steps", "3"], "certified"),
        ("no_free_lunch", [], "not small, but 0"),
    ],
)
def test_an_example_runs_and_ends_in_a_picture(tmp_path, capsys, name, options, said):
    location = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    picture = tmp_path / "pictures" / f"{name}.png"
    assert module.main([*options, "--out", str(picture)]) == 0
    assert said in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
