"""Holding a corpus against the refgrad that is installed: what it expects has to be what refgrad computes.

In: a corpus. Out: a list of what is wrong with it, empty where nothing is.
"""

from __future__ import annotations

from collections.abc import Callable

from refgrad.oracle.answers import call
from refgrad.oracle.flags import FLAGS, flags_of
from refgrad.oracle.own import target as own
from refgrad.oracle.vectors.expected import meets
from refgrad.oracle.vectors.manifest import Corpus

__all__ = ["verify"]


def verify(corpus: Corpus, *, progress: Callable[[str, int, int], None] | None = None) -> list[str]:
    """Return what is wrong with a corpus that could be read.

    Parameters
    ----------
    corpus : Corpus
        As `read_corpus` returns it.
    progress : callable, optional
        Called with what is looked at, how many vectors were, and of how many.

    Examples
    --------
    >>> from refgrad.oracle.vectors.build import build
    >>> verify(build(["rank"]))
    []
    """
    faults = []
    for done, vector in enumerate(corpus.vectors):
        case = vector.case
        if progress is not None:
            progress(f"{case.operation}: {case.name}", done, len(corpus.vectors))
        if set(vector.flags) != set(flags_of(case)):
            known = [flag for flag in flags_of(case) if flag in FLAGS]
            faults.append(f"{vector.id}: its flags are {', '.join(known)}, not {', '.join(vector.flags)}")
        answer = call(getattr(own, case.operation), case)
        for key, expected in vector.expected.items():
            if not meets(expected, answer, key):
                faults.append(f"{vector.id}: refgrad's own {key} does not meet what is expected")
    return faults
