"""Peak memory of a step, each measured in a process of its own, and what is held between forward and backward.

In: a shape, a dtype, a contestant's name. Out: a `StepMemory`. A process that has done nothing but the same step on two
samples has loaded its libraries and compiled its kernels, and has little free memory that would hide what a step takes.
"""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from refgrad.bench.contestants import COMPRESSION, EXACT, HOSVD, SVD, Contestant, StepResult, contestant_named
from refgrad.bench.inputs import operands
from refgrad.bench.machine import thread_count
from refgrad.bench.shapes import LayerShape
from refgrad.convolution import correlation, few_channels, planes
from refgrad.multilinear import panels
from refgrad.processes import context
from refgrad.resident import ResidentMemory
from refgrad.storage import projected

__all__ = ["PartMemory", "StepMemory", "measured_in_own_process", "step_memory", "traced_parts"]


@dataclass(frozen=True, slots=True)
class PartMemory:
    """The memory of one part of a step, in bytes.

    Parameters
    ----------
    resident : int
        The most resident memory during the part, above what there was before the step, inputs included.
    working : int or None
        The most that NumPy held besides what it held before the part and what the part gives; None for PyTorch, whose
        arrays Python does not see.
    """

    resident: int
    working: int | None


@dataclass(frozen=True, slots=True)
class StepMemory:
    """The memory of a step, in bytes.

    Parameters
    ----------
    contestant : str
        Whose step.
    activation : int
        The bytes of the layer's input.
    parts : dict
        Part -> PartMemory.
    held : int or None
        What NumPy holds after compression that it did not hold before the step: kept until backward. None where nothing
        is compressed, or PyTorch does it.
    nbytes : int or None
        What the stored activation says that it holds.
    """

    contestant: str
    activation: int
    parts: dict[str, PartMemory]
    held: int | None
    nbytes: int | None

    @property
    def resident(self) -> int:
        """The most over all parts."""
        return max(part.resident for part in self.parts.values())


def step_memory(shape: LayerShape, dtype: str, seed: int, name: str) -> StepMemory:
    """Run a step in this process and return what it takes.

    Raises
    ------
    ModuleNotFoundError
        Where the framework of the contestant is not installed, or the system does not say how much memory is resident.
    """
    few_samples = replace(shape, input_shape=(min(2, shape.input_shape[0]), *shape.input_shape[1:]))
    _contestant(few_samples, dtype, seed, name).step(lambda part: None)
    if name in (EXACT, HOSVD, SVD):
        for loops in (correlation, few_channels, planes, panels, projected):  # two samples may be too few for them
            loops.load(dtype)
    contestant = _contestant(shape, dtype, seed, name)
    resident = resident_parts(contestant)
    activation = shape.size * (4 if dtype == "float32" else 8)
    if name not in (EXACT, HOSVD, SVD):
        return StepMemory(
            name, activation, {part: PartMemory(peak, None) for part, peak in resident.items()}, None, None
        )
    working, held, result = traced_parts(contestant)
    parts = {part: PartMemory(peak, working[part]) for part, peak in resident.items()}
    return StepMemory(name, activation, parts, held, None if name == EXACT else result.stored.nbytes)


def resident_parts(contestant: Contestant) -> dict[str, int]:
    """Return the high-water mark of resident memory in every part, above that before the step."""
    peaks = {}
    memory = ResidentMemory()

    def mark(part: str) -> None:
        peak = memory.peak()
        if peak is None:
            raise ModuleNotFoundError("this system does not say how much memory is resident")
        peaks[part] = max(0, peak)
        memory.forget_peak()

    contestant.step(mark)
    return peaks


def traced_parts(contestant: Contestant) -> tuple[dict[str, int], int | None, StepResult]:
    """Return the working memory of every part as Python traces it, what is held for backward, and the step's result."""
    working: dict[str, int] = {}
    held: int | None = None
    tracemalloc.start()
    try:
        beginning = last = tracemalloc.get_traced_memory()[0]

        def mark(part: str) -> None:
            nonlocal last, held
            now, peak = tracemalloc.get_traced_memory()
            working[part] = max(0, peak - max(now, last))
            if part == COMPRESSION:
                held = now - beginning
            last = now
            tracemalloc.reset_peak()

        tracemalloc.reset_peak()
        result = contestant.step(mark)
    finally:
        tracemalloc.stop()
    return working, held, result


def measured_in_own_process(
    shape: LayerShape, dtype: str, seed: int, name: str, threads: int, should_stop: Callable[[], bool]
) -> StepMemory | None:
    """Run `step_memory` in a process of its own.

    Returns
    -------
    StepMemory or None
        None where it was stopped.

    Raises
    ------
    ChildProcessError
        Where the process did not end well, as where memory ran out; the text says how.
    """
    processes = context(["refgrad.bench.memory", "torch"])
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(  # type: ignore[attr-defined]
        target=_serve, args=(sender, shape, dtype, seed, name, threads), daemon=True
    )
    process.start()
    sender.close()
    try:
        while not receiver.poll(0.1):
            if should_stop():
                process.terminate()
                return None
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(f"the process that measured it ended with exit code {process.exitcode}") from None
    finally:
        receiver.close()
        process.join()
    if isinstance(answer, str):
        raise ChildProcessError(answer)
    found: StepMemory = answer
    return found


def _serve(sender: Connection, shape: LayerShape, dtype: str, seed: int, name: str, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    try:
        with thread_count(threads):
            sender.send(step_memory(shape, dtype, seed, name))
    except (ModuleNotFoundError, MemoryError, RuntimeError) as error:  # PyTorch has RuntimeError for want of memory
        sender.send(f"{type(error).__name__}: {error}")
    finally:
        sender.close()


def _contestant(shape: LayerShape, dtype: str, seed: int, name: str) -> Contestant:
    contestant = contestant_named(name, operands(shape, dtype, seed))
    if contestant is None:
        raise ModuleNotFoundError(f"what {name} needs is not installed")
    return contestant
