"""How much memory the system says a process has: what is resident now, and the most that was.

In: nothing but the process itself. Out: bytes, or None where the system does not tell. Memory that has been let go of
counts until it is given back to the system, so it is given back first, as far as the C library can.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

__all__ = ["EXACT_ENVIRONMENT", "ResidentMemory", "give_back", "resident_bytes"]

EXACT_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(64 * 1024), "NUMPY_MADVISE_HUGEPAGE": "0"}
"""With these set when a process starts, an array of 64 KiB or more has memory of its own, which goes when it does."""

PROCESS = Path("/proc/self")
KIBIBYTE = 1024


class ResidentMemory:
    """The resident memory of this process, from when this object was made.

    Examples
    --------
    >>> import numpy as np
    >>> memory = ResidentMemory()
    >>> held = np.ones(2**21)
    >>> grown, most = memory.held(), memory.peak()
    >>> all(value is None or value > held.nbytes / 2 for value in (grown, most))
    True
    """

    def __init__(self) -> None:
        self._peak_before = _lifetime_peak()  # first: what it imports is none of what is measured
        give_back()
        self._before = resident_bytes()
        self._starts_anew = _forget_peak()

    def forget_peak(self) -> None:
        """Have `peak` count from now on only, where the high-water mark can be set back."""
        self._starts_anew = _forget_peak()

    def held(self) -> int | None:
        """Return by how many bytes it has grown, once what was let go of is given back; None where nothing tells."""
        give_back()
        now = resident_bytes()
        return None if now is None or self._before is None else now - self._before

    def peak(self) -> int | None:
        """Return by how many bytes it had grown at most; None where nothing tells.

        Where the high-water mark cannot be set back, growth counts from the highest it had been before: less then.
        """
        if self._starts_anew and self._before is not None:
            most = _status("status", "VmHWM")
            return None if most is None else most - self._before
        now = _lifetime_peak()
        return None if now is None or self._peak_before is None else now - self._peak_before


def resident_bytes() -> int | None:
    """Return how many bytes of this process are resident, or None where the system does not say.

    Counted page by page where it can be; the running count of Linux may lag behind by some hundred KiB.
    """
    exact = _status("smaps_rollup", "Rss")
    return _status("status", "VmRSS") if exact is None else exact


def give_back() -> None:
    """Collect garbage, and have the C library return free memory to the system, where it is glibc."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _forget_peak() -> bool:
    """Set the high-water mark back to what is resident now; return whether the system lets us."""
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(file: str, field: str) -> int | None:
    """Return a field of one of the process's files, in bytes, or None where there is no such file or field."""
    try:
        lines = (PROCESS / file).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * KIBIBYTE
    return None


def _lifetime_peak() -> int | None:
    """Return the most bytes that were ever resident, or None where the system does not say."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * KIBIBYTE
