"""Ctrl-C as a wish, not as an accident: the signal comes in, and the loop asks after each step whether it has."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

__all__ = ["Interruption"]


class Interruption:
    """While entered, Ctrl-C is noted instead of raised, once; a second one is raised, as ever.

    To be entered in the main thread, where Python handles signals.

    Examples
    --------
    >>> with Interruption() as interrupted:
    ...     signal.raise_signal(signal.SIGINT)
    ...     print(interrupted())
    True
    """

    def __init__(self) -> None:
        self._noted = False

    def __call__(self) -> bool:
        """Return whether Ctrl-C was pressed."""
        return self._noted

    def __enter__(self) -> Interruption:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted:
            raise KeyboardInterrupt
        self._noted = True
