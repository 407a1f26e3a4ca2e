"""What an operation keeps until backward, and who decides about it.

In: the arrays that a forward pass offers to its `Keeper`. Out: immutable copies, bit masks and stored activations, and
a `Record` that counts them. Nothing else stays alive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from math import prod
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from refgrad.arguments import Array
from refgrad.storage.base import Storage, Stored, adopt, frozen, held_arrays, held_bytes, owner

if TYPE_CHECKING:
    from refgrad.geometry import ConvGeometry
    from refgrad.tape.primitive import Primitive

__all__ = ["BitMask", "Keeper", "KeptActivation", "KeptItem", "Record"]

PLAIN = (
    int,
    float,
    complex,
    str,
    bytes,
    bool,
    np.generic,
    np.dtype,
    slice,
    range,
    EllipsisType,
    Enum,
    type(None),
    type,
)
"""What a saved object may hold next to arrays: values that have no array memory of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptActivation:
    """A layer's input as its storage keeps it, together with the storage that knows how to use it.

    Parameters
    ----------
    storage : Storage
        How it is kept.
    stored : Stored
        What is kept.
    """

    storage: Storage
    stored: Stored

    @property
    def nbytes(self) -> int:
        """The bytes that are really held."""
        return self.stored.nbytes

    def weight_gradient(self, grad_output: Array, geometry: ConvGeometry | None = None) -> Array:
        """Return dW = D(A~, G) from what is stored (THEORY D6, D7, T14); `geometry` is None for a linear layer."""
        return self.storage.weight_gradient(self.stored, grad_output, geometry)


@dataclass(frozen=True, slots=True, eq=False)
class BitMask:
    """A boolean array at one bit an entry.

    Parameters
    ----------
    bits : uint8 array
        The packed entries, in C order.
    shape : tuple of int
        The shape of the boolean array.

    Examples
    --------
    >>> mask = BitMask.pack(np.arange(12).reshape(3, 4) > 5)
    >>> mask.bits.nbytes, mask.unpack().sum()
    (2, np.int64(6))
    """

    bits: Array
    shape: tuple[int, ...]

    @classmethod
    def pack(cls, mask: Array) -> BitMask:
        """Pack a boolean array."""
        return cls(adopt(np.packbits(np.asarray(mask, dtype=bool))), np.shape(mask))

    @property
    def nbytes(self) -> int:
        """The bytes that are really held."""
        return self.bits.nbytes

    def unpack(self) -> Array:
        """Return the boolean array."""
        return np.unpackbits(self.bits, count=prod(self.shape)).reshape(self.shape).view(bool)


LEAVES = (KeptActivation, BitMask, Storage, type)
"""Dataclasses that are one thing to the table, not opened."""


class Keeper:
    """What the forward pass of a primitive keeps its arrays with.

    A forward pass asks `needs` first and keeps only what the gradients of those arguments use.

    Parameters
    ----------
    needs : collection of str
        The array arguments that a gradient is wanted for; an entry of a variadic argument is called ``"arrays[0]"``.
    storage : Storage
        How the inputs of conv and linear layers are kept.
    """

    __slots__ = ("needs", "storage")

    def __init__(self, needs: Collection[str], storage: Storage | None) -> None:
        self.needs: frozenset[str] = frozenset(needs)
        self.storage = storage

    def needs_any(self, name: str) -> bool:
        """Return whether a gradient is wanted for the argument `name` or, where it is variadic, for any entry of it."""
        return name in self.needs or any(need.startswith(f"{name}[") for need in self.needs)

    def keep(self, array: Array, *, own: bool = False) -> Array:
        """Return `array` in a form that nobody can change any more.

        Parameters
        ----------
        array : array
            What the gradient will need.
        own : bool
            True where the forward pass has just computed `array` itself and no other writeable array looks at its
            memory: it is then made read-only, not copied. The output of the operation may be kept this way too.

        Returns
        -------
        array
            Read-only: `array` itself where it can never change, or else a compact copy.

        Raises
        ------
        RuntimeError
            Where no argument needs a gradient: whatever is kept then is wasted.
        """
        self._wanted("keep")
        return adopt(array) if own and isinstance(array, np.ndarray) else frozen(np.asarray(array))

    def store(self, activation: Array) -> KeptActivation:
        """Keep the input of a conv or linear layer the way that the layer's storage, or the tape's, says.

        Raises
        ------
        RuntimeError
            Where no argument needs a gradient: whatever is kept then is wasted.
        """
        storage = self._wanted("store")
        return KeptActivation(storage, storage.store(activation))

    def _wanted(self, method: str) -> Storage:
        if not self.needs or self.storage is None:
            raise RuntimeError(
                f"keeper.{method} was called though no argument needs a gradient; "
                "ask `if 'weight' in keeper.needs` before keeping"
            )
        return self.storage


@dataclass(frozen=True, slots=True)
class KeptItem:
    """One line of what an operation keeps, as `print(tape)` shows it; holds no array.

    Parameters
    ----------
    name : str
        The field of the saved object.
    how : str
        The storage's name, ``"array"`` or ``"bits"``.
    shape : tuple of int
        The shape of what was kept, before compression.
    multilinear_rank : tuple of int or None
        The ranks kept, where it was decomposed.
    stored_numbers : int or None
        The paper's count (THEORY D2, D3) for a layer's input; None for anything else.
    nbytes : int
        The bytes held for it that no earlier record holds already.
    dense_nbytes : int
        The bytes of the dense array that it stands for.
    shared : bool
        Whether an earlier record holds some of the same memory.
    """

    name: str
    how: str
    shape: tuple[int, ...]
    multilinear_rank: tuple[int, ...] | None
    stored_numbers: int | None
    nbytes: int
    dense_nbytes: int
    shared: bool


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One operation on a tape.

    Parameters
    ----------
    index : int
        Its place on the tape.
    operation : str
        The name of the primitive, or ``"watch"``.
    name : str or None
        The name that `Tape.watch` was given.
    shape, dtype
        Of the operation's output.
    parents : tuple of (int or None)
        For every array argument the index of the record it came from; None for a plain array.
    primitive : Primitive or None
        Knows the VJPs; None for a watched array.
    saved : object
        A frozen dataclass with what the VJPs use; None when there is nothing, and once it has been let go.
    kept : tuple of KeptItem
        A summary of `saved`; it stays when `saved` goes.
    """

    index: int
    operation: str
    name: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parents: tuple[int | None, ...]
    primitive: Primitive | None = field(repr=False)
    saved: object = field(repr=False)
    kept: tuple[KeptItem, ...] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """The bytes that `saved` keeps alive now."""
        return held_bytes(self.saved)

    @property
    def kept_activation(self) -> KeptActivation | None:
        """The layer input that `saved` holds, if it holds one."""
        if self.saved is None:
            return None
        return next((value for _, value in named_fields(self.saved) if isinstance(value, KeptActivation)), None)


def named_fields(saved: object) -> Iterator[tuple[str, object]]:
    """Yield what a saved object holds, by name, tuples and mappings opened (``arrays[0]``), plain values left out."""
    waiting: list[tuple[str, object]] = [("", saved)]
    while waiting:
        name, value = waiting.pop()
        entries: list[tuple[str, object]]
        if isinstance(value, (tuple, list)):
            entries = [(f"{name}[{i}]", entry) for i, entry in enumerate(value) if not isinstance(entry, PLAIN)]
        elif isinstance(value, Mapping):
            entries = [(f"{name}[{key!r}]", entry) for key, entry in value.items() if not isinstance(entry, PLAIN)]
        elif is_dataclass(value) and not isinstance(value, LEAVES):
            prefix = f"{name}." if name else ""
            entries = [
                (prefix + entry.name, held)
                for entry in fields(value)
                if not isinstance(held := getattr(value, entry.name), PLAIN)
            ]
        else:
            yield name, value
            continue
        waiting.extend(reversed(entries))


def summarize(operation: str, saved: object, dtype: np.dtype[Any], held: dict[int, int]) -> tuple[KeptItem, ...]:
    """Check what an operation saved and say what it keeps.

    Parameters
    ----------
    operation : str
        The name of the primitive.
    saved : object
        What its forward pass returned next to the output.
    dtype : dtype
        Of the output; a bit mask stands for an array of it.
    held : dict
        The memory that earlier records hold, bytes by address; the new memory is added.

    Raises
    ------
    TypeError
        Where `saved` is no frozen dataclass, or holds an array that can be written to or something that cannot be
        counted.
    """
    if saved is None:
        return ()
    if not is_dataclass(saved) or isinstance(saved, type) or not type(saved).__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError(
            f"the forward pass of {operation} must return (output, saved) with saved a frozen dataclass or None, "
            f"got {type(saved).__name__}; what is kept has to be visible, so a closure or a plain tuple will not do"
        )
    items = []
    new: dict[int, int] = {}
    for name, value in named_fields(saved):
        if isinstance(value, np.ndarray):
            item = _item(operation, name, "array", value.shape, value.nbytes, (value,), held, new)
        elif isinstance(value, BitMask):
            dense = prod(value.shape) * dtype.itemsize
            item = _item(operation, name, "bits", value.shape, dense, (value.bits,), held, new)
        elif isinstance(value, KeptActivation):
            stored = value.stored
            dense = prod(stored.shape) * stored.dtype.itemsize
            arrays = tuple(held_arrays(stored))
            item = _item(operation, name, value.storage.name, stored.shape, dense, arrays, held, new, stored)
        elif isinstance(value, Storage):
            continue
        else:
            raise TypeError(
                f"saved.{name} of {operation} is a {type(value).__name__}, whose memory cannot be counted; "
                "keep arrays, bit masks, stored activations and plain values only"
            )
        items.append(item)
    held.update(new)
    return tuple(items)


def _item(
    operation: str,
    name: str,
    how: str,
    shape: tuple[int, ...],
    dense_nbytes: int,
    arrays: tuple[Array, ...],
    held: dict[int, int],
    new: dict[int, int],
    stored: Stored | None = None,
) -> KeptItem:
    nbytes, shared = 0, False
    for array in arrays:
        if array.flags.writeable:
            raise TypeError(
                f"saved.{name} of {operation} is an array that can still be written to; pass it through keeper.keep, "
                "with own=True if the forward pass made it itself"
            )
        source = owner(array)
        address = source.__array_interface__["data"][0]
        if address in held or address in new:
            shared = True
        else:
            new[address] = source.nbytes
            nbytes += source.nbytes
    rank = stored.multilinear_rank if stored is not None else None
    numbers = stored.stored_numbers if stored is not None else None
    return KeptItem(name, how, shape, rank, numbers, nbytes, dense_nbytes, shared)
