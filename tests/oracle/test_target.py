"""From the words of a command line to a function: what is found, and what is said where nothing is."""

import sys
import textwrap

import pytest

from refgrad.oracle.target import TargetError, load_target

SIGNATURE = "x, weight, bias, grad_output, *, stride, padding, dilation, groups, explained_variance"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory; what an import did to the interpreter is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def write(folder, name, code):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(code))
    return path


def test_a_file_has_an_implementation(folder):
    write(folder, "layer.py", f"def implementation({SIGNATURE}):\n    return {{'seen': 1}}\n")
    found = load_target("layer.py")
    assert found(0, 0, 0, 0, stride=0, padding=0, dilation=0, groups=0, explained_variance=0) == {"seen": 1}


def test_a_file_may_name_another_function_even_a_dotted_one(folder):
    write(
        folder,
        "layer.py",
        f"class Layer:\n    @staticmethod\n    def run({SIGNATURE}):\n        return {{}}\nother = Layer.run\n",
    )
    assert load_target("layer.py:other") is not None
    assert (
        load_target("layer.py:Layer.run")(0, 0, 0, 0, stride=0, padding=0, dilation=0, groups=0, explained_variance=0)
        == {}
    )


def test_a_file_imports_its_neighbours(folder):
    write(folder, "there/beside.py", "VALUE = 5\n")
    write(
        folder,
        "there/layer.py",
        "import beside\ndef implementation(*arguments, **attributes):\n    return beside.VALUE\n",
    )
    assert load_target(str(folder / "there" / "layer.py"))() == 5


def test_a_module_is_looked_for_in_the_working_directory(folder):
    write(folder, "package/__init__.py", "")
    write(folder, "package/layer.py", "def run(*arguments, **attributes):\n    return 7\n")
    assert load_target("package.layer:run")() == 7


def test_a_file_may_be_called_like_an_installed_package(folder):
    write(folder, "numpy.py", "def implementation(*arguments, **attributes):\n    return 8\n")
    import numpy as np

    assert load_target("numpy.py")() == 8
    assert sys.modules["numpy"] is np


def test_a_callable_whose_signature_is_unknown_is_taken(folder):
    write(
        folder,
        "layer.py",
        "implementation = dict.fromkeys\nclass Odd:\n    __signature__ = 3\n    def __call__(self): ...\nodd = Odd()\n",
    )
    with pytest.raises(TargetError, match="must take"):
        load_target("layer.py")
    assert callable(load_target("layer.py:odd"))


@pytest.mark.parametrize(
    ("target", "code", "text"),
    [
        ("missing.py", None, "^there is no file missing.py$"),
        ("missing.module:run", None, "(?s)missing.module could not be imported:.*No module named 'missing'"),
        ("layer.py", "def other(): ...\n", "layer.py has no 'implementation': it has other; name one as layer.py:NAME"),
        ("layer.py", "value = 3\n", "layer.py has no 'implementation': it has no functions"),
        ("layer.py:value", "value = 3\n", "'value' of layer.py must be callable, got int"),
        (
            "layer.py",
            "def implementation(x): ...\n",
            r"'implementation' of layer.py must take \(x, weight, bias, grad_output, \*, ",
        ),
        ("layer.py", "import sys\nsys.exit(4)\n", "(?s)layer.py could not be imported:.*SystemExit: 4"),
        ("layer.py", "def implementation(:\n", "(?s)layer.py could not be imported:.*SyntaxError"),
        (":name", None, "a target is written file.py, file.py:name or module:name, got ':name'"),
        ("layer.py:", None, "a target is written file.py, file.py:name or module:name, got 'layer.py:'"),
        ("", None, "a target is written file.py, file.py:name or module:name, got ''"),
    ],
)
def test_what_cannot_be_run_is_said(folder, target, code, text):
    if code is not None:
        write(folder, "layer.py", code)
    with pytest.raises(TargetError, match=text):
        load_target(target)


def test_an_import_error_shows_the_targets_own_frames_and_no_others(folder):
    write(folder, "helper.py", "def broken():\n    raise RuntimeError('no kernel')\n")
    write(folder, "layer.py", "import helper\nhelper.broken()\n")
    with pytest.raises(TargetError) as caught:
        load_target("layer.py")
    text = str(caught.value)
    assert text.count("File ") == 2
    assert "helper.broken()" in text
    assert text.endswith("RuntimeError: no kernel")
    assert "importlib" not in text


def test_a_folder_is_no_file(folder):
    (folder / "layer.py").mkdir()
    with pytest.raises(TargetError, match=r"^there is no file layer\.py$"):
        load_target("layer.py")
