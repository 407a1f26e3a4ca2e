"""Implementations in other languages: a child process that computes, and speaks records on stdin and stdout.

`records` is the wire: bytes to values and back, with suspicion. `messages` says which items a call and its result are
made of. `process` runs the program.
"""

from refgrad.oracle.foreign.process import ProcessTarget

__all__ = ["ProcessTarget"]
