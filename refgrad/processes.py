"""What processes of our own are made from: where it is safe, a process that has imported already what they need.

In: nothing. Out: a `multiprocessing` context. It imports nothing heavy, so that the process that is forked from can be
started before anything else.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import BaseContext

__all__ = ["context", "start_importing"]

NEEDED = ("refgrad.oracle.workers", "refgrad.cli")
"""What a process that judges imports; the command line too, as every new process imports the main module anew."""


def context(needed: Sequence[str] = NEEDED) -> BaseContext:
    """Return what makes processes: on Linux a server that forks itself, elsewhere new interpreters.

    The server has imported what is needed, which takes longer than judging many an input. It imports refgrad alone,
    never a target: that, and the threads that it may start, is every process's own affair. There is no fork on Windows,
    and on macOS the system's BLAS does not survive one.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(needed))  # what is not installed is passed over
    return server


def start_importing() -> None:
    """Start the server, where there is one: it imports while the caller does, on another core."""
    if context().get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver

    # Inherited by the server: Ctrl-C is for us, who end it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
