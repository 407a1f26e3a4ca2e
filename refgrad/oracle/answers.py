"""One call of a target, and what came back, read with suspicion.

In: an implementation and a `Case`. Out: an `Answer`: the results that can be judged, as float64 copies, and for each
row of the report what was already wrong with what was returned. A target's exception ends up here, never in the caller.
"""

from __future__ import annotations

import difflib
import hashlib
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from refgrad.arguments import Array, shape_text
from refgrad.oracle.cases import AnyCase
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.protocol import KEYS, CallFailedError

__all__ = ["Answer", "Problem", "call"]

AXES = {"conv2d": ("B", "C", "H", "W"), "step": ("B", "C", "H", "W")}
"""What the axes of a decomposed tensor are called, where they have names."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with an answer that no number has to be compared for."""

    row: str
    kind: str
    message: str


@dataclass(slots=True, eq=False)
class Answer:
    """What a target returned for one case.

    Attributes
    ----------
    arrays : dict
        Key -> float64 copy, for ``output``, ``grad_input``, ``grad_bias``, ``grad_weight``, ``core`` and
        ``reconstruction``: those that came as arrays of the right dtype. One that is named in `problems` for its
        shape is here too.
    factors : tuple of four arrays, optional
        Float64 copies.
    ranks : tuple of int, optional
        As returned, or the columns of the factors.
    stored_numbers : int, optional
        As returned.
    provided : set of str
        The keys that came, whatever was in them.
    problems : list of Problem
        What was wrong already.
    unclaimed : str, optional
        The text of a NotImplementedError: the target does not claim this case.
    traceback : str
        Where the target raised an exception.
    warning : str
        The first warning that the target gave, if any.
    fingerprint : str
        Equal for two answers with the same bits.
    """

    arrays: dict[str, Array] = field(default_factory=dict)
    factors: tuple[Array, ...] | None = None
    ranks: tuple[int, ...] | None = None
    stored_numbers: int | None = None
    provided: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    unclaimed: str | None = None
    traceback: str = ""
    warning: str = ""
    fingerprint: str = ""

    @property
    def came_back(self) -> bool:
        """Whether the call returned a mapping at all."""
        return self.unclaimed is None and not any(problem.kind.startswith("call") for problem in self.problems)

    def problem(self, row: str) -> Problem | None:
        """Return the first problem of a row, or None."""
        return next((problem for problem in self.problems if problem.row == row), None)

    @property
    def decomposition(self) -> tuple[Array, tuple[Array, ...]] | None:
        """Core and factors, where both came, fit each other and are finite: the target's own A~."""
        core = self.arrays.get("core")
        if core is None or self.factors is None or self.problem("factors") is not None:
            return None
        if not all(np.isfinite(array).all() for array in (core, *self.factors)):
            return None
        return core, self.factors


def call(
    operation: Callable[..., object],
    case: AnyCase,
    *,
    arrays: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Answer:
    """Call a target's operation once, on fresh copies, and read what it returns.

    Parameters
    ----------
    operation : callable
        What is judged.
    case : Case or LadderCase
        The input.
    arrays, attributes : mapping, optional
        What to call it with in place of the case's own.

    Returns
    -------
    Answer
        Also where the target raises an exception: any `Exception`, and `SystemExit`.
    """
    arguments = case.arrays() if arrays is None else _copied(arrays)
    named = dict(_each_array(arguments))
    before = {name: _digest(array) for name, array in named.items()}
    answer = Answer()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            returned: object = operation(*arguments.values(), **(case.attributes if attributes is None else attributes))
        except NotImplementedError as error:
            answer.unclaimed = str(error) or "NotImplementedError"
            return answer
        except CallFailedError as error:
            answer.traceback = error.output
            answer.problems.append(Problem("call", error.kind, str(error)))
            return answer
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what a target raises is a verdict on it
            answer.traceback = _own_traceback(error)
            kind = f"call raised {type(error).__name__}"
            answer.problems.append(Problem("call", kind, f"the call raised {type(error).__name__}: {error}"))
            return answer
    if caught:
        answer.warning = f"{caught[0].category.__name__}: {caught[0].message}"
    for name, array in named.items():
        if _digest(array) != before[name]:
            message = f"the call wrote into its argument {name}; copy what you change"
            answer.problems.append(Problem("call", "wrote into its input", message))
    if not isinstance(returned, Mapping):
        message = f"the call must return a mapping of names to results, got {type(returned).__name__}"
        answer.problems.append(Problem("call", "call returned no mapping", message))
        return answer
    _read(answer, returned, case, tuple(named.values()))
    return answer


def _copied(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(map(np.array, value)) if isinstance(value, tuple) else np.array(value)
        for name, value in arrays.items()
    }


def _each_array(arguments: Mapping[str, Array | tuple[Array, ...]]) -> Iterator[tuple[str, Array]]:
    for name, value in arguments.items():
        if isinstance(value, tuple):
            yield from ((f"{name}[{number}]", array) for number, array in enumerate(value))
        else:
            yield name, value


def _read(answer: Answer, returned: Mapping[str, object], case: AnyCase, arguments: tuple[Array, ...]) -> None:
    kinds = OPERATIONS[case.operation].results
    for key in returned:
        if key not in kinds:
            near = difflib.get_close_matches(str(key), kinds, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(kinds)}"
            answer.problems.append(Problem("call", "unknown key", f"the call returned an unknown key {key!r}{hint}"))
    answer.provided = {key for key in kinds if key in returned}
    fingerprint = hashlib.sha256()
    for key in [key for key, kind in kinds.items() if kind == "array" and key in returned]:
        array = _array(answer, key, returned[key], case, arguments)
        if array is None:
            continue
        fingerprint.update(key.encode() + array.tobytes())
        answer.arrays[key] = array
        shape = case.shapes.get(key)
        if shape is not None and array.shape != shape:
            message = f"{key} must have shape {shape}, got {array.shape}"
            answer.problems.append(Problem(KEYS[key], "shape", message))
    if "factors" in answer.provided:
        _read_factors(answer, returned["factors"], case, arguments)
        for factor in answer.factors or ():
            fingerprint.update(factor.tobytes())
    if "ranks" in answer.provided:
        _read_ranks(answer, returned["ranks"], _tensor_shape(case))
    if "rank" in answer.provided:
        rank = _integer(answer, "ranks", "rank", returned["rank"])
        answer.ranks = None if rank is None else (rank,)
    if "stored_numbers" in answer.provided:
        answer.stored_numbers = _integer(answer, "stored_numbers", "stored_numbers", returned["stored_numbers"])
    _check_core(answer)
    fingerprint.update(repr((answer.ranks, answer.stored_numbers, sorted(answer.provided))).encode())
    answer.fingerprint = fingerprint.hexdigest()


def _tensor_shape(case: AnyCase) -> tuple[int, ...]:
    """Return the shape of the tensor that an operation decomposes: its first array."""
    return tuple(next(iter(case.parts.values())).shape)


def _array(answer: Answer, key: str, value: object, case: AnyCase, arguments: tuple[Array, ...]) -> Array | None:
    row = KEYS[key.split("[")[0]]
    if value is None:
        answer.problems.append(Problem(row, "None", f"{key} is None; leave out of the mapping what you do not compute"))
        return None
    if not isinstance(value, np.ndarray):
        message = f"{key} must be a NumPy array, got {type(value).__name__}"
        answer.problems.append(Problem(row, "type", message))
        return None
    if value.dtype != case.dtype:
        message = f"{key} must have the dtype of the input, {case.dtype}, got {value.dtype}"
        answer.problems.append(Problem(row, "dtype", message))
        return None
    if any(np.may_share_memory(value, argument) for argument in arguments):
        message = f"{key} is a view of an argument; return an array of its own"
        answer.problems.append(Problem(row, "view", message))
        return None
    return np.array(value, dtype=np.float64, order="C")


def _read_factors(answer: Answer, value: object, case: AnyCase, arguments: tuple[Array, ...]) -> None:
    shape = _tensor_shape(case)
    if not isinstance(value, (Sequence, np.ndarray)) or len(value) != len(shape):
        length = f" of length {len(value)}" if isinstance(value, (Sequence, np.ndarray)) else ""
        message = f"factors must be a sequence of {_count(len(shape))} matrices, got {type(value).__name__}{length}"
        answer.problems.append(Problem("factors", "type", message))
        return
    factors = []
    axes = AXES.get(case.operation) or [f"n_{mode}" for mode in range(len(shape))]
    for mode, (axis, rows) in enumerate(zip(axes, shape, strict=True)):
        factor = _array(answer, f"factors[{mode}]", value[mode], case, arguments)
        if factor is None:
            return
        if factor.ndim != 2 or factor.shape[0] != rows or not 1 <= factor.shape[1] <= rows:
            came = shape_text(factor.shape)
            message = f"factors[{mode}] must have shape ({axis}={rows}, K) with 1 <= K <= {rows}, got {came}"
            answer.problems.append(Problem("factors", "shape", message))
            return
        factors.append(factor)
    answer.factors = tuple(factors)
    answer.ranks = tuple(factor.shape[1] for factor in factors)


def _count(number: int) -> str:
    return {1: "one", 2: "two", 3: "three", 4: "four"}.get(number, str(number))


def _read_ranks(answer: Answer, value: object, shape: tuple[int, ...]) -> None:
    if not isinstance(value, (Sequence, np.ndarray)) or len(value) != len(shape):
        message = f"ranks must be {_count(len(shape))} integers, got {value!r}"
        answer.problems.append(Problem("ranks", "type", message))
        return
    declared = tuple(_integer(answer, "ranks", f"ranks[{mode}]", rank) for mode, rank in enumerate(value))
    if None in declared:
        return
    ranks = tuple(rank for rank in declared if rank is not None)
    if answer.factors is not None and ranks != answer.ranks:
        message = f"ranks are {ranks}, but the factors have {answer.ranks} columns"
        answer.problems.append(Problem("ranks", "not the factors'", message))
    answer.ranks = ranks


def _integer(answer: Answer, row: str, name: str, value: object) -> int | None:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        message = f"{name} must be an integer, got {value!r} of type {type(value).__name__}"
        answer.problems.append(Problem(row, "type", message))
        return None
    return int(value)


def _check_core(answer: Answer) -> None:
    core = answer.arrays.get("core")
    if core is None:
        return
    columns = tuple(factor.shape[1] for factor in answer.factors) if answer.factors is not None else answer.ranks
    if columns is not None and core.shape != columns:
        owner = "factors have" if answer.factors is not None else "ranks are"
        message = f"core has shape {core.shape}, but the {owner} {columns}"
        answer.problems.append(
            Problem("factors", "shape", message + (" columns" if answer.factors is not None else ""))
        )


def _digest(array: Array) -> bytes:
    return hashlib.sha256(array.tobytes()).digest()


def _own_traceback(error: BaseException) -> str:
    """Format an exception from the target's first frame on."""
    own = error.__traceback__.tb_next if error.__traceback__ is not None else None
    return "".join(traceback.format_exception(type(error), error, own)).rstrip()
