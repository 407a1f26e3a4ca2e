"""How every kernel is compiled: on first call, kept on disk, for one thread, so that a call repeats bit by bit.

In: a Python function over arrays. Out: the same function, compiled; its Python form stays at hand as ``.py_func``. With
``NUMBA_DISABLE_JIT=1`` it is returned as it is.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

__all__ = ["MachineCode", "compiling", "kernel", "summing_kernel"]

Function = TypeVar("Function", bound=Callable[..., Any])


def compiling() -> bool:
    """Tell whether kernels are compiled, rather than run as plain Python, for which some are not made."""
    return not cast(Any, numba.config).DISABLE_JIT


def kernel(function: Function) -> Function:
    """Compile a function whose floating-point operations keep the order in which they are written."""
    return _compiled(function, error_model="numpy")


def summing_kernel(function: Function) -> Function:
    """Compile a function whose sums may be evaluated in any order, which THEORY T15 allows; NaN and infinity stay."""
    return _compiled(function, error_model="numpy", fastmath={"reassoc"})


def _compiled(function: Function, **options: Any) -> Function:
    dispatcher = numba.njit(nogil=True, **options)(function)
    if dispatcher is not function:  # the JIT is not disabled
        # RuntimeError is numba's word for: there is no folder that can be written to. Each process compiles then.
        with contextlib.suppress(RuntimeError):
            dispatcher._cache = MachineCode(function, options)
    return cast(Function, dispatcher)


@functools.cache
def _sources() -> str:
    """Return a digest of this folder: a kernel holds the code of others, and of what intrinsics write for it."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class MachineCode(FunctionCache):
    """What one kernel was compiled to, on disk: a file for each signature, under a checksum.

    In the place of numba's own cache, which numbers its files in an index: two processes that store different
    signatures at once may take the same number, and whoever reads the index from then on gets the code for float64
    where it asks for float32. Here the name follows from the signature, and the checksum covers what the code was made
    from, so that a file that was cut short, damaged or made from other source counts as missing and is written anew.

    Nothing here is needed but for speed: where the disk refuses, the next process compiles again.

    Parameters
    ----------
    function : callable
        The kernel.
    options : mapping
        What it is compiled with.

    Raises
    ------
    RuntimeError
        Where numba finds no folder that can be written to.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._made_from = (numba.__version__, self._impl.locator.get_source_stamp(), _sources(), options)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for a signature, or None."""
        target_context.refresh()  # its own functions are there only after that
        key = self._index_key(sig, target_context.codegen())  # type: ignore[no-untyped-call]
        try:
            content = self._file(key).read_bytes()
        except OSError:
            return None
        checksum, code = content[: hashlib.sha256().digest_size], content[hashlib.sha256().digest_size :]
        return self._impl.rebuild(target_context, pickle.loads(code)) if checksum == self._checksum(key, code) else None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for a signature, if the disk lets us."""
        if not self._impl.check_cachable(data):
            return
        key = self._index_key(sig, data.codegen)  # type: ignore[no-untyped-call]
        code = dumps(self._impl.reduce(data))  # type: ignore[no-untyped-call]
        file = self._file(key)
        unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            self._impl.locator.ensure_cache_path()
            try:
                unfinished.write_bytes(self._checksum(key, code) + code)
                unfinished.replace(file)  # at once: nobody reads half a file
            finally:
                unfinished.unlink(missing_ok=True)

    def _file(self, key: object) -> Path:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return Path(self.cache_path) / f"{self._impl.filename_base}.{digest[:16]}.nbc"

    def _checksum(self, key: object, code: bytes) -> bytes:
        return hashlib.sha256(repr((self._made_from, key)).encode() + code).digest()
