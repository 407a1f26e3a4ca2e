"""A program that speaks the record protocol, as a target like any other.

In: a command line, and how long a call may take. Out: an object with a function for every operation that the program
offers. A program that hangs, crashes or answers with nonsense loses that call; for the next one it is started anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import IO, Final

from refgrad.oracle.foreign.messages import call_items, declaration_of, results_of, text_of
from refgrad.oracle.foreign.records import (
    CALL,
    ERROR,
    HELLO,
    NOT_CLAIMED,
    RESULT,
    TYPES,
    Item,
    RecordError,
    TruncatedError,
    read_record,
    record,
)
from refgrad.oracle.protocol import CallFailedError, Declaration

__all__ = ["ProcessTarget", "how_it_ended"]

LAST_LINES: Final = 20
"""How many of the last lines that a program wrote on stderr are shown when it fails."""

LONGEST_LINE: Final = 2000

SECONDS_TO_END: Final = 2
"""How long a program that closed its output may take to end, and its last lines to arrive."""


class ProcessTarget:
    """A program in another language that computes, as a target of the oracle.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    timeout : float
        Seconds that one call may take, and the program's start.

    Attributes
    ----------
    declaration : mapping
        What it said in its hello, as `Declaration` takes it.

    Raises
    ------
    OSError
        Where the program cannot be started.
    CallFailedError
        Where it does not begin with a hello in time.
    TypeError, ValueError
        Where its hello declares what cannot be.

    Notes
    -----
    For each operation that the hello names there is a function of that name. It raises NotImplementedError for a case
    that the program does not claim, and `CallFailedError` where it reported an error, hung, crashed, or sent what is no
    record.
    """

    def __init__(self, command: Sequence[str], *, timeout: float) -> None:
        self._command, self._timeout = list(command), timeout
        self._operations: tuple[str, ...] = ()
        self._child, hello = self._start()
        self._operations, self.declaration = declaration_of(hello)
        Declaration.of(self)

    def __getattr__(self, name: str) -> Callable[..., Mapping[str, object]]:
        if name.startswith("_") or name not in self._operations:
            raise AttributeError(f"the program does not offer {name}")
        return partial(self._call, name)

    def close(self) -> None:
        """End the program; the next call starts it anew."""
        self._child.end()

    def _start(self) -> tuple[_Child, Mapping[str, Item]]:
        child = _Child(self._command)
        weakref.finalize(self, child.end)
        kind, items = child.exchange(None, self._timeout)
        if kind != HELLO:
            child.end()
            message = f"a program's first record must be a hello, type {HELLO}, got a {TYPES[kind]} record"
            raise CallFailedError("call sent no record", message)
        return child, items

    def _call(self, operation: str, *arguments: object, **attributes: object) -> Mapping[str, object]:
        message = record(CALL, call_items(operation, arguments, attributes))
        if self._child.ended:
            self._child, _ = self._start()
        kind, items = self._child.exchange(message, self._timeout)
        try:
            if kind == RESULT:
                return results_of(operation, items)
            if kind == NOT_CLAIMED:
                raise NotImplementedError(text_of("reason", items.get("reason")))
            if kind == ERROR:
                text = text_of("message", items.get("message"))
                raise CallFailedError(
                    "call reported an error", f"the program reported: {text}", self._child.last_lines()
                )
            raise RecordError(f"a call is answered by a result, not by a {TYPES[kind]} record")
        except RecordError as error:
            raise self._child.failure("call sent no record", f"the program's answer cannot be read: {error}") from None


class _Child:
    """A running program, and the thread that reads what it says on stderr, so that it never waits for a reader."""

    def __init__(self, command: list[str]) -> None:
        self.ended = self._too_late = False
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._listener = threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()

    def exchange(self, message: bytes | None, timeout: float) -> tuple[int, Mapping[str, Item]]:
        """Send a record, if any, and read the one that answers it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        guard = threading.Timer(timeout, self._give_up)
        guard.daemon = True
        guard.start()
        answer, problem = None, None
        try:
            with contextlib.suppress(BrokenPipeError):  # it has ended: what it wrote before says more
                self._process.stdin.write(message or b"")
                self._process.stdin.flush()
            answer = read_record(self._process.stdout)
        except RecordError as error:
            problem = error
        finally:
            guard.cancel()
        if answer is not None:
            return answer
        if self._too_late:
            raise self.failure("call timed out", f"the call took longer than {timeout:g} s")
        if problem is not None and not (isinstance(problem, TruncatedError) and self._exit_code()):
            raise self.failure("call sent no record", f"the program's answer cannot be read: {problem}")
        code = self._exit_code()
        how = "it closed its output" if code is None else how_it_ended(code)
        raise self.failure("call crashed", f"the program left the call without an answer: {how}")

    def failure(self, kind: str, message: str) -> CallFailedError:
        """End the program and return what it failed with."""
        self.end()
        return CallFailedError(kind, message, self.last_lines())

    def last_lines(self) -> str:
        """Return the last lines that it wrote on stderr."""
        return "\n".join(self._lines)

    def end(self) -> None:
        """Kill it and all that it started, and let go of its pipes."""
        if self.ended:
            return
        self.ended = True
        self._kill()
        self._process.wait()
        self._listener.join(SECONDS_TO_END)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):  # what was not sent any more is lost with the program
                if pipe is not None:
                    pipe.close()

    def _give_up(self) -> None:
        self._too_late = True
        self._kill()

    def _kill(self) -> None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _exit_code(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(SECONDS_TO_END)
        return None

    def _listen(self, stderr: IO[bytes]) -> None:
        while line := stderr.readline(LONGEST_LINE):
            self._lines.append(line.decode(errors="replace").rstrip("\r\n"))


def how_it_ended(code: int) -> str:
    """Say how a process ended, given its exit code, which is minus the signal where one ended it.

    Examples
    --------
    >>> how_it_ended(1), how_it_ended(-9)
    ('exit code 1', 'signal SIGKILL')
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
