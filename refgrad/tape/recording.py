"""Tape: the list of what was computed, and the walk back along it.

In: arrays to watch and operations on them. Out: a record for each operation, and from a scalar the gradients with
respect to whatever was watched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from refgrad.arguments import Array, float_array
from refgrad.storage.base import Storage, adopt, held_bytes
from refgrad.storage.exact import Exact
from refgrad.tape.kept import Record, summarize
from refgrad.tape.structure import map_structure
from refgrad.tape.table import table
from refgrad.tape.tensor import Tensor

if TYPE_CHECKING:
    from refgrad.tape.primitive import Primitive

__all__ = ["Tape"]


class Tape:
    """Records what is computed from the arrays that it watches, and differentiates it.

    One tape serves one forward and one backward pass. There is no global state: what is recorded is what its tensors
    take part in.

    Parameters
    ----------
    store : Storage
        How conv and linear layers keep their inputs; `Exact` keeps them whole.

    Raises
    ------
    TypeError
        Where `store` is no Storage.

    Examples
    --------
    >>> with Tape() as tape:
    ...     w = tape.watch(np.array([1.0, 2.0]), name="w")
    ...     loss = np.sum(w * w)
    >>> tape.gradient(loss, w)
    array([2., 4.])
    >>> print(tape)
    #  operation  output  keeps  how    ranks  bytes  dense bytes  compression
    -  ---------  ------  -----  -----  -----  -----  -----------  -----------
    0  watch w    (2,)
    1  multiply   (2,)    x1     array            16           16          1.0
                          x2     array             0           16       shared
    2  sum        ()
    3 records keep 16 bytes, 1.0 times fewer than dense
    """

    def __init__(self, store: Storage = Exact()) -> None:  # noqa: B008 - frozen, without state
        if not isinstance(store, Storage):
            raise TypeError(f"store must be a Storage such as Exact() or HOSVD(explained_variance=0.8), got {store!r}")
        import_module("refgrad.numpy_vjps")  # NumPy's rules are made of primitives, so they stand above this package
        self._passes: dict[int, tuple[Storage, Storage]] = {}  # by id, and what the id is of, so that it stays its own
        self.store = self.in_this_pass(store)
        self.records: list[Record] = []
        self._held: dict[int, int] = {}
        self._state = "new"

    def __enter__(self) -> Tape:
        if self._state != "new" or self.records:
            raise RuntimeError("a Tape records one forward pass and cannot be entered again; make a new one")
        self._state = "open"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._state == "open":
            self._state = "closed"

    def __len__(self) -> int:
        return len(self.records)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return (
            f"<Tape of {len(self.records):,} records, {self._state}, holds {self.nbytes:,} bytes, store={self.store!r}>"
        )

    @property
    def nbytes(self) -> int:
        """The bytes of array memory that the tape keeps alive now; memory that records share counts once."""
        return held_bytes(*(record.saved for record in self.records))

    def table(self, rows: int | None = 60) -> str:
        """Return what `print(tape)` shows, with at most `rows` records (None: all).

        The table says what the forward pass kept, also after backward has let go of it.
        """
        return table(self.records, rows)

    def watch(self, array: Array, name: str | None = None) -> Tensor:
        """Return a tensor with the values of `array`, to compute with and to differentiate by.

        Parameters
        ----------
        array : array
            float32 or float64. It is copied: changing it later changes nothing here.
        name : str, optional
            What the table and error messages call it.

        Raises
        ------
        TypeError
            Where it is no float array, or is a tensor already.
        ValueError
            Where it is empty.
        RuntimeError
            Where the tape is closed or consumed.
        """
        self.check_recording("watch")
        label = name or "array"
        given: object = array
        if isinstance(given, Tensor):
            raise TypeError(
                f"{label} is a Tensor already, and tapes do not nest: gradients are plain arrays, so there are no "
                f"second derivatives; watch the values, {label}.value, where a fresh start is wanted"
            )
        copy = np.array(float_array(label, given), order="C", subok=False)
        return self._append("watch", name, adopt(copy), (), None, None)

    def in_this_pass(self, storage: Storage) -> Storage:
        """Return what a storage keeps this tape's layers with: what it began a pass with when it was first met here."""
        if id(storage) not in self._passes:
            self._passes[id(storage)] = (storage, storage.begin_pass())
        return self._passes[id(storage)][1]

    def check_recording(self, operation: str) -> None:
        """Refuse to record on a tape that is closed or consumed.

        Raises
        ------
        RuntimeError
            Where it is one or the other.
        """
        if self._state == "consumed":
            raise RuntimeError(
                f"{operation} cannot be recorded: this tape is consumed, its gradient has been taken; make a new Tape"
            )
        if self._state == "closed":
            raise RuntimeError(
                f"{operation} cannot be recorded: this tape is closed, its with-block has ended; compute inside the "
                "block, or on .value where no gradient is wanted"
            )

    def record(self, primitive: Primitive, output: Array, parents: tuple[int | None, ...], saved: object) -> Tensor:
        """Append what a primitive did; `Primitive` calls this, with an output that cannot change any more."""
        return self._append(primitive.name, None, output, parents, primitive, saved)

    def _append(
        self,
        operation: str,
        name: str | None,
        output: Array,
        parents: tuple[int | None, ...],
        primitive: Primitive | None,
        saved: object,
    ) -> Tensor:
        kept = summarize(operation, saved, output.dtype, self._held)
        index = len(self.records)
        self.records.append(Record(index, operation, name, output.shape, output.dtype, parents, primitive, saved, kept))
        return Tensor(output, self, index)

    def gradient(self, target: Tensor, sources: Any, *, observe: Callable[[Record, Array], None] | None = None) -> Any:
        """Return the gradient of a scalar with respect to tensors of this tape.

        The records are walked once, last to first, and each lets go of what it kept as soon as it has been used. dW of
        conv and linear layers is evaluated at what their storage kept, everything else exactly (THEORY D7, T10).

        Parameters
        ----------
        target : Tensor
            Of size 1, as a loss is.
        sources : Tensor, or nested list, tuple or dict of tensors
            What to differentiate by: watched arrays, or anything computed from them.
        observe : callable, optional
            ``observe(record, grad_output)`` is called for every layer that kept its input, before it is let go.

        Returns
        -------
        array, or the structure of `sources`
            Gradients in the shape and dtype of the sources; zeros for one that the target does not depend on. They are
            the caller's own: writeable, sharing no memory.

        Raises
        ------
        RuntimeError
            Where the gradient has been taken before.
        TypeError
            Where target or a source is no Tensor.
        ValueError
            Where one of them belongs to another tape, or the target is not of size 1.
        """
        if self._state == "consumed":
            raise RuntimeError(
                "this tape is consumed: gradient() works once, for it lets go of what was kept as it goes; "
                "ask for all sources in one call, or record again on a new Tape"
            )
        self._check_tensor("target", target)
        if target.size != 1:
            raise ValueError(
                f"target must be a scalar (size 1), got shape {target.shape}; reduce it first, for example with np.sum"
            )
        wanted: set[int] = set()

        def note(path: str, source: Any) -> None:
            self._check_tensor(path, source)
            wanted.add(source.index)

        map_structure(note, sources, "sources")
        self._state = "consumed"
        gradients = self._backward(target, wanted, observe)
        for _, storage in self._passes.values():
            storage.end_pass()

        def collect(path: str, source: Tensor) -> Array:
            if source.index not in gradients:
                return np.zeros(source.shape, source.dtype)
            return np.array(gradients[source.index], order="C")

        return map_structure(collect, sources, "sources")

    def _check_tensor(self, name: str, value: object) -> None:
        if not isinstance(value, Tensor):
            cure = (
                "compute it inside the with-block from arrays that the tape watches"
                if name == "target"
                else "watch the array first, w = tape.watch(w), and use that tensor in the computation"
            )
            raise TypeError(f"{name} must be a Tensor of this tape, got {type(value).__name__}; {cure}")
        if value.tape is not self:
            raise ValueError(f"{name} belongs to another tape; ask that one for its gradient")

    def _backward(
        self, target: Tensor, wanted: set[int], observe: Callable[[Record, Array], None] | None
    ) -> dict[int, Array]:
        """Walk the records from the last to the first; return the gradients of the records that are wanted."""
        leads_to_source = [False] * len(self.records)
        for record in self.records[: target.index + 1]:
            leads_to_source[record.index] = record.index in wanted or any(
                parent is not None and leads_to_source[parent] for parent in record.parents
            )
        waiting: dict[int, Array] = {target.index: np.ones(target.shape, target.dtype)}
        own: set[int] = set()  # the records whose waiting gradient is a sum that no one else holds
        found: dict[int, Array] = {}
        for index in range(len(self.records) - 1, -1, -1):
            record = self.records[index]
            grad_output = waiting.pop(index, None)
            if grad_output is not None and leads_to_source[index]:
                grad_output = grad_output.view()
                grad_output.flags.writeable = False
                if index in wanted:
                    found[index] = grad_output
                if observe is not None and record.kept_activation is not None:
                    observe(record, grad_output)
                for position, parent in enumerate(record.parents):
                    if parent is not None and leads_to_source[parent]:
                        self._add(waiting, own, parent, self._contribution(record, position, parent, grad_output))
            if record.saved is not None:
                self.records[index] = replace(record, saved=None)
        return found

    def _contribution(self, record: Record, position: int, parent: int, grad_output: Array) -> Array:
        """Return what a record's VJP gives one parent, in the parent's dtype."""
        assert record.primitive is not None
        argument = record.primitive.argument(position)
        try:
            gradient = np.asarray(record.primitive.vjp(position, record.saved, grad_output))
        except Exception as error:
            error.add_note(f"raised by the VJP of {record.operation} (record {record.index}) for {argument}")
            raise
        expected = self.records[parent]
        if gradient.shape != expected.shape or gradient.dtype.kind != "f":
            raise RuntimeError(
                f"the VJP of {record.operation} for {argument} must return an array of shape {expected.shape} and "
                f"dtype {expected.dtype}, as the argument has, got {gradient.shape} and {gradient.dtype}"
            )
        return gradient.astype(expected.dtype, copy=False)

    @staticmethod
    def _add(waiting: dict[int, Array], own: set[int], index: int, gradient: Array) -> None:
        """Add to a waiting gradient; never into an array that somebody else may hold."""
        if index not in waiting:
            waiting[index] = gradient
        elif index in own:
            waiting[index] += gradient
        else:
            waiting[index] = np.asarray(waiting[index] + gradient)
            own.add(index)
