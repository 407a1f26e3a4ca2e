"""How a length is cut into pieces that are worked on one after the other.

In: a length, and the longest piece. Out: slices.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["ranges"]


def ranges(length: int, longest: int) -> Iterator[slice]:
    """Cut 0 ... length into slices of at most `longest`.

    Examples
    --------
    >>> list(ranges(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, length, longest):
        yield slice(start, min(start + longest, length))
