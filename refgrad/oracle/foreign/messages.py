"""What the records of a call, its result and a hello are made of, from the one table of operations.

In: an operation with its arguments, or the items of a record. Out: items, or results as a target in this process would
return them. What comes is checked for its kind here; what is in it is judged elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from refgrad.oracle.foreign.records import Item, RecordError
from refgrad.oracle.operations import OPERATIONS

__all__ = ["DECLARED", "call_items", "declaration_of", "results_of", "text_of"]

DECLARED: Final = {
    "operations": "text",
    "dtypes": "text",
    "accumulator": "text",
    "decomposition": "text",
    "repeatable": "integers",
    "flushes_subnormals": "integers",
    "refuses_invalid": "integers",
    "limits": "text",
}
"""The items of a hello and the kind of each; all but the first may be left out."""


def call_items(operation: str, arguments: Sequence[object], attributes: Mapping[str, object]) -> dict[str, Item]:
    """Return the items of a call.

    Parameters
    ----------
    operation : str
        One of `OPERATIONS`.
    arguments : sequence
        Its arrays, in order.
    attributes : mapping
        Its keyword arguments.

    Examples
    --------
    >>> call_items("unfold", [np.ones(2)], {"mode": 0})
    {'operation': 'unfold', 'tensor': array([1., 1.]), 'mode': (0,)}
    """
    wanted = OPERATIONS[operation]
    items: dict[str, Item] = {"operation": operation}
    for name, value in zip(wanted.arrays, arguments, strict=True):
        if isinstance(value, tuple):
            items |= {f"{name}[{number}]": np.asarray(each) for number, each in enumerate(value)}
        else:
            items[name] = np.asarray(value)
    for name, kind in wanted.attributes.items():
        items[name] = _attribute(kind, attributes[name])
    return items


def _attribute(kind: str, value: object) -> Item:
    if kind in ("fraction", "real"):
        assert isinstance(value, float)
        return value
    flat: list[int] = []
    waiting = [value]
    while waiting:
        first = waiting.pop(0)
        if isinstance(first, Sequence):
            waiting = [*first, *waiting]
        else:
            assert isinstance(first, int)
            flat.append(first)
    return tuple(flat)


def results_of(operation: str, items: Mapping[str, Item]) -> dict[str, object]:
    """Return what a target in this process would have returned.

    Parameters
    ----------
    operation : str
        One of `OPERATIONS`.
    items : mapping
        Of a result.

    Raises
    ------
    RecordError
        Where an item is of another kind than the table says, or factors are not counted from 0.

    Examples
    --------
    >>> results_of("rank", {"rank": (3,)})
    {'rank': 3}
    """
    results: dict[str, object] = {}
    factors: dict[str, Item] = {}
    for name, value in items.items():
        key, bracket, _ = name.partition("[")
        kind = OPERATIONS[operation].results.get(key)
        if kind == "arrays":
            if not bracket:
                raise RecordError(f"{key} come as {key}[0], {key}[1], ..., one array each")
            _expect(name, value, "array")
            factors[name] = value
        elif kind == "array":
            _expect(name, value, "array")
            results[name] = value
        elif kind in ("integer", "integers"):
            numbers = _expect(name, value, "integers")
            if kind == "integer" and len(numbers) != 1:
                raise RecordError(f"{name} must be one integer, got {len(numbers)}")
            results[name] = numbers[0] if kind == "integer" else numbers
        else:
            results[name] = value  # the judge says which keys are known
    if factors:
        names = [f"factors[{number}]" for number in range(len(factors))]
        if set(names) != set(factors):
            raise RecordError(f"factors come as {', '.join(names)}; got {', '.join(factors)}")
        results["factors"] = tuple(factors[name] for name in names)
    return results


def _expect(name: str, value: Item, kind: str) -> tuple[int, ...]:
    found = {tuple: "integers", float: "a real", str: "text"}.get(type(value), "array")
    if found != kind:
        raise RecordError(f"{name} must be {kind}, got {found}")
    return value if isinstance(value, tuple) else ()


def declaration_of(items: Mapping[str, Item]) -> tuple[tuple[str, ...], dict[str, object]]:
    """Return the operations that a hello names, and the rest of it as `Declaration` takes it.

    Raises
    ------
    RecordError
        Where an item is unknown or of the wrong kind, or no known operation is named.

    Examples
    --------
    >>> declaration_of({"operations": "rank unfold", "dtypes": "float32", "repeatable": (1,)})
    (('rank', 'unfold'), {'dtypes': ('float32',), 'repeatable': True})
    """
    unknown = [name for name in items if name not in DECLARED]
    if unknown:
        raise RecordError(f"a hello has no item {', '.join(unknown)}; known are {', '.join(DECLARED)}")
    found: dict[str, object] = {}
    for name, value in items.items():
        if DECLARED[name] == "text":
            found[name] = text_of(name, value)
        else:
            numbers = _expect(name, value, "integers")
            if numbers not in ((0,), (1,)):
                raise RecordError(f"{name} must be one integer, 0 or 1, got {numbers}")
            found[name] = numbers == (1,)
    operations = tuple(str(found.pop("operations", "")).split())
    for operation in operations:
        if operation not in OPERATIONS:
            raise RecordError(f"there is no operation {operation!r}; known are {', '.join(OPERATIONS)}")
    if not operations:
        raise RecordError(f"a hello names at least one operation of {', '.join(OPERATIONS)}")
    if "dtypes" in found:
        found["dtypes"] = tuple(str(found["dtypes"]).split())
    return operations, found


def text_of(name: str, value: Item | None) -> str:
    """Return the text of an item.

    Raises
    ------
    RecordError
        Where it is missing, or no text.
    """
    if not isinstance(value, str):
        raise RecordError(f"{name} must be text" + (", but is missing" if value is None else ""))
    return value
