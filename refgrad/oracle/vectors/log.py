"""What a board printed, judged like any other implementation.

In: the lines of a log, in which those that begin with "@refgrad" are ours, whatever stands before them in a line, and
the corpus that the board was given. Out: a `Check` over what was answered.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from refgrad.oracle.cases import AnyCase
from refgrad.oracle.judge import judge
from refgrad.oracle.judgement import Judgement
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.plan import Planned
from refgrad.oracle.protocol import CallFailedError, Declaration
from refgrad.oracle.run import Check
from refgrad.oracle.vectors.manifest import Corpus, VectorsError

__all__ = ["Answered", "judge_log", "read_log"]

MARK: Final = "@refgrad "
LARGEST_RESULT: Final = 2**24
LONGEST_LINE: Final = 4096


@dataclass(slots=True)
class Answered:
    """What a log holds for one vector.

    Attributes
    ----------
    identity : str
        Of the vector.
    results : dict
        Result -> array of float32, or integers; factors by their names, "factors[0]".
    unclaimed : str, optional
        Why the device did not take it.
    fault : str, optional
        What is wrong with what was printed.
    """

    identity: str
    results: dict[str, Any] = field(default_factory=dict)
    unclaimed: str | None = None
    fault: str | None = None


class _FaultError(Exception):
    """Something in a log that cannot be right."""


def read_log(lines: Iterable[str]) -> list[Answered]:
    """Return what a log answers, in its order; of a vector that was answered twice, the last counts.

    Parameters
    ----------
    lines : iterable of str
        The log; it is not kept, and what an array claims to hold costs nothing.

    Examples
    --------
    >>> log = '''booting ...
    ... @refgrad case 04a2168abf522611
    ... [12:01] @refgrad array matrix 1 2
    ... [12:01] @refgrad bits 3f800000 40000000
    ... @refgrad end 2e3fa576'''
    >>> answered = read_log(log.splitlines())[0]
    >>> answered.results, answered.fault
    ({'matrix': array([[1., 2.]], dtype=float32)}, None)
    """
    found: dict[str, Answered] = {}
    reader: _Reader | None = None
    for number, line in enumerate(lines, 1):
        _, mark, said = line[:LONGEST_LINE].rstrip("\r\n").partition(MARK)
        if not mark:
            continue
        verb, _, rest = said.partition(" ")
        if verb == "case":
            if reader is not None:
                reader.give_up(f"line {number}: the next case begins before its end")
            reader = _Reader(rest.strip())
            found.pop(reader.answered.identity, None)
            found[reader.answered.identity] = reader.answered
            continue
        if reader is None:
            continue  # what a log lost at its beginning belongs to no case
        try:
            ended = reader.take(verb, rest)
        except _FaultError as fault:
            reader.give_up(f"line {number}: {fault}")
            ended = True
        if ended:
            reader = None
    if reader is not None:
        reader.give_up("the log ends within it")
    return list(found.values())


class _Reader:
    """One case of a log, while it is read."""

    def __init__(self, identity: str) -> None:
        self.answered = Answered(identity)
        self.checksum = 0
        self.array: tuple[str, tuple[int, ...], list[bytes]] | None = None

    def give_up(self, fault: str) -> None:
        """Say what is wrong; what came before is not judged, as nothing vouches for it."""
        self.answered.fault = fault
        self.answered.results.clear()

    def take(self, verb: str, rest: str) -> bool:
        """Read one line; return whether it was the last."""
        if verb == "bits":
            if self.array is None:
                raise _FaultError("bits without an array")
            name, shape, words = self.array
            words += self._words(rest)
            if len(words) > math.prod(shape):
                raise _FaultError(f"{name} of shape {shape} has more than {math.prod(shape)} numbers")
            return False
        self._finish_array()
        if verb == "array":
            name, *lengths = rest.split()
            if not lengths or len(lengths) > 8 or not all(re.fullmatch("[0-9]{1,8}", length) for length in lengths):
                raise _FaultError(f"an array has one to eight lengths, got {rest!r}")
            shape = tuple(map(int, lengths))
            if math.prod(shape) > LARGEST_RESULT:
                raise _FaultError(f"{name} of shape {shape} holds more than {LARGEST_RESULT} numbers")
            self.array = (name, shape, [])
            return False
        if verb == "integers":
            name, _, numbers = rest.partition(" ")
            self._put(name, tuple(struct.unpack("<i", word)[0] for word in self._words(numbers)))
            return False
        if verb == "not" and rest.startswith("claimed"):
            self.answered.unclaimed = rest.removeprefix("claimed").strip() or "not claimed"
            return False
        if verb == "end":
            if not re.fullmatch("[0-9a-f]{8}", rest.strip()) or int(rest, 16) != self.checksum:
                raise _FaultError(
                    f"the checksum is {rest.strip()}, its numbers give {self.checksum:08x}: some were lost"
                )
            return True
        raise _FaultError(f"{verb!r} is none of case, array, bits, integers, not claimed, end")

    def _words(self, text: str) -> list[bytes]:
        words = text.split()
        if not all(re.fullmatch("[0-9a-f]{8}", word) for word in words):
            raise _FaultError(f"numbers are words of eight hexadecimal digits, got {text[:80]!r}")
        packed = [struct.pack("<I", int(word, 16)) for word in words]
        for word in packed:
            self.checksum = zlib.crc32(word, self.checksum)
        return packed

    def _finish_array(self) -> None:
        if self.array is None:
            return
        name, shape, words = self.array
        self.array = None
        if len(words) != math.prod(shape):
            raise _FaultError(f"{name} of shape {shape} has {len(words)} numbers")
        self._put(name, np.frombuffer(b"".join(words), "<f4").astype(np.float32).reshape(shape))

    def _put(self, name: str, value: object) -> None:
        if name in self.answered.results:
            raise _FaultError(f"{name} comes twice")
        self.answered.results[name] = value


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Judges what was answered already, by the name of the case."""

    answers: Mapping[str, Callable[..., Mapping[str, object]]]
    declaration: Declaration
    jobs: int = 1

    def submit(self, case: AnyCase, **options: Any) -> Callable[[], Judgement]:
        return partial(judge, self.answers[_key(case)], case, declaration=self.declaration, **options)


def _key(case: AnyCase) -> str:
    return f"{case.operation}: {case.name}"


def judge_log(
    lines: Iterable[str], corpus: Corpus, *, name: str = "", declaration: Declaration | None = None
) -> tuple[Check, list[str]]:
    """Return the run over what a log answers, and the ids of the float32 vectors of its operations that it does not.

    Parameters
    ----------
    lines : iterable of str
        The log.
    corpus : Corpus
        What the board was given, or more.
    name : str
        What the log is called in the report.
    declaration : Declaration, optional
        What the board says of itself.

    Raises
    ------
    VectorsError
        Where the log answers no vector, or one that is not in the corpus.
    """
    declaration = declaration or Declaration(dtypes=("float32",))
    known = {vector.id: vector for vector in corpus.vectors}
    answered = read_log(lines)
    if not answered:
        raise VectorsError(f"the log answers no vector: no line has {MARK.strip()!r} and case")
    answers: dict[str, Callable[..., Mapping[str, object]]] = {}
    planned = []
    for each in answered:
        if each.identity not in known:
            raise VectorsError(f"the log answers a vector {each.identity!r} that is not in corpus {corpus.version}")
        case = known[each.identity].case
        answers[_key(case)] = partial(_replay, each, case.operation)
        planned.append(Planned(partial(_itself, case), named=True))
    operations = {known[each.identity].case.operation for each in answered}
    target = SimpleNamespace(**dict.fromkeys(operations, _replay))
    run = Check(
        target,
        cases=0,
        name=name,
        judging=_Recorded(answers, declaration),
        planned=planned,
        callable_again=False,
    )
    run.declaration = declaration
    absent = [
        vector.id
        for vector in corpus.vectors
        if vector.case.operation in operations
        and vector.case.dtype == np.float32
        and vector.id not in {each.identity for each in answered}
    ]
    return run, absent


def _itself(case: AnyCase) -> AnyCase:
    return case


def _replay(answered: Answered, operation: str, *_: object, **__: object) -> Mapping[str, object]:
    """Return what was printed, as the call would have."""
    if answered.fault is not None:
        raise CallFailedError("call sent no record", f"the log of {answered.identity} cannot be read: {answered.fault}")
    if answered.unclaimed is not None:
        raise NotImplementedError(answered.unclaimed)
    results: dict[str, object] = {}
    kinds = OPERATIONS[operation].results
    factors = {name: value for name, value in answered.results.items() if name.startswith("factors[")}
    for name, value in answered.results.items():
        if name not in factors:
            single = kinds.get(name) == "integer" and isinstance(value, tuple) and len(value) == 1
            results[name] = value[0] if single else value
    if factors:
        results["factors"] = tuple(factors.get(f"factors[{number}]") for number in range(len(factors)))
    return results
