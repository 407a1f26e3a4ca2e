"""From the words of a command line to the implementation under judgement.

In: "file.py", "file.py:name", "module:name", or a program and its arguments. Out: a callable, known to take the
arguments of the Protocol, or an object with a function for every operation; or a `TargetError` that says what is
missing, with the target's own traceback where it has one.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from refgrad.oracle.foreign import ProcessTarget
from refgrad.oracle.operations import OPERATIONS, Operation
from refgrad.oracle.protocol import CallFailedError, Declaration, operations_of

__all__ = ["DEFAULT_NAME", "TargetError", "load_target"]

DEFAULT_NAME = "implementation"
"""What is looked for in a target that names no function."""


TIMEOUT = 60
"""Seconds that one call may take, where nothing else is said."""


class TargetError(Exception):
    """A target could not be run."""


def load_target(text: str, *, timeout: float = TIMEOUT) -> object:
    """Load what a target names.

    Parameters
    ----------
    text : str
        "file.py", "file.py:name", "module" or "module:name". The name may be dotted; where absent it is
        "implementation". A file's folder, or for a module the working directory, is where its own imports are looked
        for first. Or a program that speaks the record protocol, written as for a shell: anything of several words, or
        with a path, that is no Python file ("./client", "node client.js").
    timeout : float
        Seconds that a program may take for one call.

    Returns
    -------
    object
        A callable, or an object that offers operations.

    Raises
    ------
    TargetError
        Where the file or module is missing or fails to import, has no such name, or that is nothing that can be
        judged; where a program cannot be started or says nothing that can be understood.

    Examples
    --------
    >>> load_target("no_such_file.py")
    Traceback (most recent call last):
        ...
    refgrad.oracle.target.TargetError: there is no file no_such_file.py
    """
    where, name = _split(text)
    command = _command(text, where)
    if command:
        return _program(command, timeout)
    module = _from_file(Path(where)) if where.endswith(".py") else _from_module(where)
    found: object = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            has = f"it has {', '.join(names)}" if names else "it has no functions"
            raise TargetError(f"{where} has no {name!r}: {has}; name one as {where}:NAME") from None
    offered = operations_of(found)
    if not offered:
        known = ", ".join(OPERATIONS)
        kind = type(found).__name__
        message = f"{name!r} of {where} must be callable, got {kind} without any of the operations {known}"
        raise TargetError(message)
    try:
        Declaration.of(found)
    except (TypeError, ValueError) as error:
        raise TargetError(f"{name!r} of {where}: {error}") from None
    for operation, function in offered.items():
        what = f"{name!r} of {where}" if function is found else f"{operation} of {name!r} of {where}"
        _check_signature(function, OPERATIONS[operation], what)
    return found


def _split(text: str) -> tuple[str, str]:
    where, colon, name = text.rpartition(":")
    if not colon or "/" in name or "\\" in name:  # the colon of a drive, as in C:\layer.py
        where, name = text, DEFAULT_NAME
    if not where or not name:
        raise TargetError(f"a target is written file.py, file.py:name or module:name, got {text!r}")
    return where, name


def _command(text: str, where: str) -> list[str]:
    """Split what is a program and its arguments into words; there are none where it names a Python file or a module."""
    try:
        words = shlex.split(text, posix=os.name == "posix")
    except ValueError as error:
        raise TargetError(f"{text!r} is no command: {error}") from None
    if where.endswith(".py") and (len(words) == 1 or Path(where).is_file()):
        return []
    is_path = any(separator in text for separator in ("/", os.sep))
    return words if len(words) > 1 or is_path else []


def _program(command: list[str], timeout: float) -> ProcessTarget:
    if shutil.which(command[0]) is None:
        what = "is not executable" if Path(command[0]).is_file() else "is not there"
        raise TargetError(f"the program {command[0]} {what}")
    try:
        return ProcessTarget(command, timeout=timeout)
    except CallFailedError as error:
        said = f"; it said:\n{error.output}" if error.output else ""
        raise TargetError(f"{shlex.join(command)} did not begin with a hello: {error}{said}") from None
    except (OSError, TypeError, ValueError) as error:
        raise TargetError(f"{shlex.join(command)} cannot be judged: {error}") from None


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {path}")
    name = f"_refgrad_target_{path.stem}"  # a name of its own: a target may be called like an installed package
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    with _importing(str(path), path.parent.resolve()):
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


def _from_module(name: str) -> ModuleType:
    with _importing(name, Path.cwd()):
        return importlib.import_module(name)


@contextmanager
def _importing(what: str, folder: Path) -> Iterator[None]:
    """Look in a folder first, and turn whatever an import raises into a `TargetError` with its traceback."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        yield
    except (Exception, SystemExit) as error:
        raise TargetError(f"{what} could not be imported:\n{_own_traceback(error)}") from error


def _own_traceback(error: BaseException) -> str:
    """Format an exception without the frames of this file and of the import machinery."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(own)] if own else []
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip()


def _check_signature(target: object, operation: Operation, what: str) -> None:
    try:
        signature = inspect.signature(target)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a builtin, say: nothing is known, the calls will show
        return
    wanted = ", ".join(operation.arrays)
    if operation.attributes:
        wanted += f", *, {', '.join(operation.attributes)}"
    try:
        signature.bind(*operation.arrays, **dict.fromkeys(operation.attributes, 0))
    except TypeError as error:
        raise TargetError(f"{what} must take ({wanted}), but {error}: it takes {signature}") from None
