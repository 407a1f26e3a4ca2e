"""Files that are whole or not there: a name and a way to write come in, and no reader ever sees half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["prepare_folder", "write_atomically"]


def prepare_folder(folder: Path) -> Path:
    """Make a folder, with those above it, and see that files can be written into it.

    Raises
    ------
    OSError
        Where that cannot be done; the error says for which folder, and why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"cannot write into the folder {folder}: {error.strerror}") from error
    return folder


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file beside its place, and move it there once it is complete.

    Parameters
    ----------
    path : Path
        Where it goes; what is there is replaced.
    write : callable
        Is given the open binary file.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            write(file)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
