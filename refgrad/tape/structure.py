"""Nested lists, tuples and dicts of arrays, as parameters and gradients come in.

In: a structure and a function of one leaf and its path. Out: the same structure of results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["map_structure"]


def map_structure(function: Callable[[str, Any], Any], structure: Any, path: str) -> Any:
    """Apply `function(path, leaf)` to every leaf.

    Parameters
    ----------
    function : callable
        Gets where the leaf stands, as in ``params['weight'][0]``, and the leaf.
    structure : object
        A leaf, or a list, tuple (named or not) or dict of structures.
    path : str
        What the whole is called.

    Examples
    --------
    >>> map_structure(lambda path, leaf: f"{path} = {leaf}", {"a": [1, 2]}, "p")
    {'a': ["p['a'][0] = 1", "p['a'][1] = 2"]}
    """
    if isinstance(structure, dict):
        return {key: map_structure(function, entry, f"{path}[{key!r}]") for key, entry in structure.items()}
    if isinstance(structure, (list, tuple)):
        entries = [map_structure(function, entry, f"{path}[{i}]") for i, entry in enumerate(structure)]
        return type(structure)(*entries) if hasattr(structure, "_fields") else type(structure)(entries)
    return function(path, structure)
