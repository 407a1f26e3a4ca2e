"""Tasks in threads: as many as the user gave BLAS, what they return in order, and no way to hang."""

import functools
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refgrad.threads import VARIABLES, in_threads, task_count, thread_count

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 30.0
"""Seconds after which what waits for another thread gives up, so that a mistake fails and does not hang."""


@pytest.fixture
def given(monkeypatch):
    """Set the variables of BLAS, and no others of them."""

    def set_only(**variables):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_only


@pytest.fixture
def cores(monkeypatch):
    """A process that may use three of eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 6} if process == 0 else {1}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)


def test_the_variables_are_asked_in_their_order(given, cores):
    assert VARIABLES == ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    given(OPENBLAS_NUM_THREADS="5", MKL_NUM_THREADS="6", OMP_NUM_THREADS="7")
    assert thread_count() == 5
    given(MKL_NUM_THREADS="6", OMP_NUM_THREADS="7")
    assert thread_count() == 6
    given(OMP_NUM_THREADS="7")
    assert thread_count() == 7
    given(OMP_NUM_THREADS="1")
    assert thread_count() == 1
    given()
    assert thread_count() == 3


@pytest.mark.parametrize("nonsense", ["", "0", "-2", "+2", "two", "2.0", "1e1", " ", "4,2", "0x4", "²"])
def test_what_is_no_number_of_threads_is_as_if_it_were_not_there(given, cores, nonsense):
    given(OPENBLAS_NUM_THREADS=nonsense, MKL_NUM_THREADS=nonsense, OMP_NUM_THREADS="7")
    assert thread_count() == 7
    given(OPENBLAS_NUM_THREADS=nonsense)
    assert thread_count() == 3


def test_where_nobody_tells_which_cores_a_process_may_use_all_are_counted(given, cores, monkeypatch):
    given()
    monkeypatch.delattr(os, "sched_getaffinity")
    assert thread_count() == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert thread_count() == 1


@pytest.mark.parametrize("threads", ["1", "2", "3", "7"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
def test_each_number_is_called_once_and_results_come_in_their_order(given, threads, count):
    given(OPENBLAS_NUM_THREADS=threads)
    called = []

    def task(number):
        called.append(number)
        return -number

    assert in_threads(task, count) == [-number for number in range(count)]
    assert sorted(called) == list(range(count))


def test_as_many_work_at_once_as_there_are_threads_whichever_ends_first(given):
    given(OPENBLAS_NUM_THREADS="3")
    ended = [threading.Event() for _ in range(4)]
    ended[3].set()

    def task(number):
        assert ended[number + 1].wait(PATIENCE), "the next one did not work at the same time"
        ended[number].set()
        return number, threading.get_ident()

    numbers, threads = zip(*in_threads(task, 3), strict=True)
    assert numbers == (0, 1, 2)
    assert len(set(threads)) == 3
    assert threading.get_ident() in threads


def test_no_more_work_at_once_than_there_are_threads(given):
    for threads in (2, 4, 3, 2):
        given(OPENBLAS_NUM_THREADS=str(threads))
        lock, now, most = threading.Lock(), [0], [0]

        def task(number, lock=lock, now=now, most=most):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.001)
            with lock:
                now[0] -= 1
            return number

        assert in_threads(task, 40) == list(range(40))
        assert 1 <= most[0] <= threads


@pytest.mark.parametrize(("threads", "count"), [("1", 5), ("3", 1), ("1", 1)])
def test_one_thread_is_the_one_that_calls(given, threads, count):
    given(OPENBLAS_NUM_THREADS=threads)
    called = []

    def task(number):
        called.append((number, threading.get_ident()))
        return number * number

    before = threading.active_count()
    assert in_threads(task, count) == [number * number for number in range(count)]
    assert called == [(number, threading.get_ident()) for number in range(count)]
    assert threading.active_count() == before


def test_one_thread_stops_at_the_first_exception(given):
    given(OPENBLAS_NUM_THREADS="1")
    called = []

    def task(number):
        called.append(number)
        if number >= 2:
            raise ValueError(f"task {number}")

    with pytest.raises(ValueError, match="task 2"):
        in_threads(task, 5)
    assert called == [0, 1, 2]


class Interruption(BaseException):
    """What is no Exception, as a KeyboardInterrupt is none."""


@pytest.mark.parametrize("kind", [ValueError, Interruption])
@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_an_exception_is_raised_when_all_that_began_have_ended(given, kind, failing):
    given(OPENBLAS_NUM_THREADS="4")
    all_began = threading.Barrier(4)
    began, ended = [], []

    def task(number):
        began.append(number)
        if number < 4:
            all_began.wait(PATIENCE)
            if number == failing:
                raise kind(f"task {number}")
            time.sleep(0.1)  # it still works when the other has failed
            ended.append(number)

    with pytest.raises(kind, match=f"task {failing}"):
        in_threads(task, 40)
    at_once = list(began)
    assert sorted(ended) == sorted({0, 1, 2, 3} - {failing})
    time.sleep(0.05)
    assert began == at_once
    assert in_threads(lambda number: number, 8) == list(range(8))


def test_after_an_exception_what_has_not_begun_does_not_begin(given):
    given(OPENBLAS_NUM_THREADS="2")
    began = []

    def task(number):
        began.append(number)
        if number == 0:
            raise ValueError("task 0")
        time.sleep(0.02)

    with pytest.raises(ValueError, match="task 0"):
        in_threads(task, 200)
    assert len(began) < 200


@pytest.mark.parametrize(
    ("threads", "workers", "count"), [(1, 1, 4), (2, 2, 8), (2, 1, 1), (8, 4, 4), (8, 8, 32), (1, 3, 12)]
)
def test_there_are_no_more_tasks_than_have_room(given, threads, workers, count):
    given(OPENBLAS_NUM_THREADS=str(threads))
    assert task_count(workers, 4) == count


def test_what_a_task_holds_is_let_go_of_when_the_call_ends(given):
    given(OPENBLAS_NUM_THREADS="2")
    for _ in range(200):
        task = functools.partial(max, 1)
        alive = weakref.ref(task)
        in_threads(task, 4)
        del task
        assert alive() is None


def test_four_threads_at_once_get_what_they_asked_for(given, hurried):
    given(OPENBLAS_NUM_THREADS="2")
    begin = threading.Barrier(4)

    def caller(own):
        begin.wait(PATIENCE)
        for count in (1, 2, 5, 30) * 5:
            assert in_threads(lambda number: (own, number), count) == [(own, number) for number in range(count)]
        return own

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(caller, range(4))) == [0, 1, 2, 3]


def test_an_exception_of_one_caller_is_not_anothers(given):
    given(OPENBLAS_NUM_THREADS="2")
    begin = threading.Barrier(4)

    def task(own, number):
        if own % 2 and number == 3:
            raise ValueError(f"caller {own}")
        return number

    def caller(own):
        begin.wait(PATIENCE)
        for _ in range(20):
            if own % 2:
                with pytest.raises(ValueError, match=f"caller {own}"):
                    in_threads(lambda number: task(own, number), 6)
            else:
                assert in_threads(lambda number: task(own, number), 6) == list(range(6))
        return own

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(caller, range(4))) == [0, 1, 2, 3]


FORK = """
import os, signal, sys, threading, warnings
from refgrad.threads import in_threads

def computed():
    both = threading.Barrier(2)  # either of two threads takes one: none alone could do both
    def task(number):
        both.wait(50)
        return number * number
    return in_threads(task, 2) == [0, 1]

def forked(depth):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads is forked
        child = os.fork()
    if child == 0:
        signal.alarm(60)  # a child that hangs is killed
        right = computed() and (depth == 0 or forked(depth - 1) == 7)
        os._exit(7 if right else 1) if depth % 2 == 0 else sys.exit(7 if right else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert computed()
print(forked(0), forked(1), computed(), in_threads(lambda number: number, 5))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_has_threads_of_its_own_and_can_fork_and_exit():
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "7 7 True [0, 1, 2, 3, 4]\n", done.stderr
