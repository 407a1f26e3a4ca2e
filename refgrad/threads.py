"""Work that is cut into tasks which depend on nothing but themselves, done by as many threads as the user gave BLAS.

In: a function of a task's number. Out: what it returned for each, in order. The cut must not depend on the number of
threads; then nor does what comes out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

__all__ = ["in_threads", "task_count", "thread_count"]

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""What people set for BLAS, which is what most of the time is spent in."""

Result = TypeVar("Result")


def thread_count() -> int:
    """Return how many threads work on one call: what the environment gives BLAS, or else the cores of this process."""
    for variable in VARIABLES:
        given = os.environ.get(variable, "")
        if given.isdecimal() and int(given) > 0:
            return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def task_count(workers: int, parts: int) -> int:
    """Return how many tasks there may be where so many threads have room: some parts for each of them.

    Where that is fewer threads than there are, no more tasks than have room.

    Examples
    --------
    >>> task_count(thread_count(), 4) == 4 * thread_count()
    True
    """
    return parts * workers if workers >= thread_count() else workers


def in_threads(task: Callable[[int], Result], count: int) -> list[Result]:
    """Call task(0), ..., task(count - 1), some at once, and return what they return.

    An exception of any of them is raised, when all have ended that had begun. The thread that calls works too: waking
    another may take longer than a task.

    Examples
    --------
    >>> in_threads(lambda number: number * number, 4)
    [0, 1, 4, 9]
    """
    threads = thread_count()
    if min(threads, count) < 2:
        return [task(number) for number in range(count)]
    # A thread, or its queue, may hold on to what it was asked for a little longer than this call lasts.
    held = [task]
    futures = [_pool(threads - 1).submit(_call, held, number) for number in range(count)]
    try:
        own = {number: task(number) for number, future in enumerate(futures) if future.cancel()}
        return [own[number] if number in own else future.result() for number, future in enumerate(futures)]
    except BaseException:
        for future in futures:
            future.cancel()
        for future in futures:
            if not future.cancelled():
                future.exception()
        raise
    finally:
        held.clear()


def _call(held: list[Callable[[int], Result]], number: int) -> Result:
    return held[0](number)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="refgrad")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork has none of its parent's threads
