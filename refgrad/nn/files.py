"""Named arrays in .npz files, without pickle.

In: a mapping from names to arrays. Out: a file that numpy.load reads too, written whole or not at all; and back.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from refgrad.arguments import Array

__all__ = ["load_arrays", "save_arrays"]


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write named arrays to an .npz file, in place of what stands there.

    The file appears under its name only when it is complete: who reads, or an interruption, never meets half of it. The
    same arrays give the same bytes.

    Parameters
    ----------
    path : path
        Ends in ``.npz``; its folder exists.
    arrays : mapping of str to array
        Of numbers or booleans, not of objects.

    Raises
    ------
    TypeError
        Where an entry is no array of plain numbers.
    ValueError
        Where the path has another ending, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_arrays(f"{folder}/a.npz", {"conv.weight": np.ones(2)})
    ...     load_arrays(f"{folder}/a.npz")
    {'conv.weight': array([1., 1.])}
    """
    target = _npz_path(path)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
            came = f"an array of dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"{name} must be a NumPy array of numbers or booleans to be saved, got {came}")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            for name, array in arrays.items():
                # A ZipInfo of its own has a fixed date, so that the same arrays give the same bytes.
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
        unfinished.replace(target)
    except OSError as error:
        raise ValueError(f"path must be a file that can be written, got {target}: {error.strerror}") from error
    finally:
        if unfinished.parent.is_dir():
            unfinished.unlink(missing_ok=True)


def load_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays of an .npz file; nothing in it is ever run.

    Parameters
    ----------
    path : path
        Ends in ``.npz``.

    Returns
    -------
    dict of str to array
        In the order of the file.

    Raises
    ------
    ValueError
        Where the path has another ending, the file cannot be read, is damaged, or holds a pickled object.
    """
    source = _npz_path(path)
    try:
        with zipfile.ZipFile(source) as archive:
            return {name.removesuffix(".npy"): _read(archive, name) for name in archive.namelist()}
    except OSError as error:
        raise ValueError(f"path must be an .npz file that can be read, got {source}: {error.strerror}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"path must be an undamaged .npz file of plain arrays, without pickled objects, got {source}: {error}"
        ) from error


def _read(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(name) as entry:
        array: Array = np.lib.format.read_array(entry, allow_pickle=False)
    return array


def _npz_path(path: str | os.PathLike[str]) -> Path:
    result = Path(path)
    if result.suffix != ".npz":
        raise ValueError(f"path must end in .npz, got {result}")
    return result
