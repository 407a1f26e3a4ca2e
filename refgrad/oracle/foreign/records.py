"""The wire of the record protocol: one record is a header, a payload of named items, and a checksum.

In: items by name, or a stream that somebody else writes. Out: bytes, or the items; a `RecordError` that says what is
wrong with what came. Nothing is allocated for what a record only claims: memory grows with what arrives. The format is
specified in docs/foreign.md.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np

from refgrad.arguments import Array

__all__ = [
    "CALL",
    "ERROR",
    "HELLO",
    "LARGEST_PAYLOAD",
    "NOT_CLAIMED",
    "RESULT",
    "TYPES",
    "VERSION",
    "Item",
    "RecordError",
    "Stream",
    "TruncatedError",
    "decode_items",
    "encode_items",
    "read_record",
    "record",
]

MAGIC: Final = b"RGRD"
VERSION: Final = 1
HELLO, CALL, RESULT, NOT_CLAIMED, ERROR = 1, 2, 3, 4, 5
TYPES: Final = {HELLO: "hello", CALL: "call", RESULT: "result", NOT_CLAIMED: "not claimed", ERROR: "error"}
"""What a record is for."""

HEADER: Final = struct.Struct("<4sHHQ")
CHECKSUM: Final = struct.Struct("<I")
LARGEST_PAYLOAD: Final = 2**28
"""Bytes; what claims to be longer is refused before it is read."""

INTEGERS, REAL, TEXT, FLOAT32, FLOAT64 = 1, 2, 3, 4, 5
DTYPES: Final[Mapping[int, np.dtype[Any]]] = {FLOAT32: np.dtype("<f4"), FLOAT64: np.dtype("<f8")}
LARGEST_NDIM: Final = 8
CHUNK: Final = 2**20

Item = tuple[int, ...] | float | str | Array
"""What an item holds: integers, one real, text, or an array of float32 or float64."""


class RecordError(ValueError):
    """Bytes that are no record."""


class TruncatedError(RecordError):
    """A stream that ended within a record."""


class Stream(Protocol):
    """What records are read from."""

    def read(self, size: int, /) -> bytes | None:
        """Return up to that many bytes; none at the end."""


def record(kind: int, items: Mapping[str, Item]) -> bytes:
    """Return a whole record.

    Parameters
    ----------
    kind : int
        `HELLO`, `CALL`, `RESULT`, `NOT_CLAIMED` or `ERROR`.
    items : mapping
        Name -> value.

    Raises
    ------
    TypeError, ValueError
        Where a value is of no kind that an item can hold, or does not fit.

    Examples
    --------
    >>> record(NOT_CLAIMED, {"reason": "groups"}).hex(" ", -4)
    '52475244 01000400 12000000 00000000 06726561 736f6e03 06000000 67726f75 70739281 4da6'
    """
    payload = encode_items(items)
    if len(payload) > LARGEST_PAYLOAD:
        raise ValueError(f"a record holds at most {LARGEST_PAYLOAD} bytes, got {len(payload)}")
    head = HEADER.pack(MAGIC, VERSION, kind, len(payload)) + payload
    return head + CHECKSUM.pack(zlib.crc32(head))


def encode_items(items: Mapping[str, Item]) -> bytes:
    """Return the payload that holds some items, in their order.

    Examples
    --------
    >>> encode_items({"mode": (1,)}).hex(" ")
    '04 6d 6f 64 65 01 01 01 00 00 00 00 00 00 00'
    """
    return b"".join(_encoded(name, value) for name, value in items.items())


def _encoded(name: str, value: Item) -> bytes:
    label = name.encode("ascii")
    if not 1 <= len(label) <= 255:
        raise ValueError(f"an item's name has 1 to 255 characters, got {name!r}")
    head = bytes([len(label)]) + label
    if isinstance(value, str):
        text = value.encode()
        return head + struct.pack("<BI", TEXT, len(text)) + text
    if isinstance(value, tuple):
        if len(value) > 255:
            raise ValueError(f"{name} holds at most 255 integers, got {len(value)}")
        return head + struct.pack(f"<BB{len(value)}q", INTEGERS, len(value), *value)
    if isinstance(value, float):
        return head + struct.pack("<Bd", REAL, value)
    kind = next(
        (kind for kind, dtype in DTYPES.items() if isinstance(value, np.ndarray) and value.dtype == dtype), None
    )
    if kind is None or value.ndim > LARGEST_NDIM:
        raise TypeError(
            f"{name} must be integers, a real, text, or an array of float32 or float64 of at most "
            f"{LARGEST_NDIM} axes, got {type(value).__name__}"
        )
    dims = struct.pack(f"<BB{value.ndim}I", kind, value.ndim, *value.shape)
    return head + dims + np.ascontiguousarray(value, DTYPES[kind]).tobytes()


def read_record(stream: Stream) -> tuple[int, dict[str, Item]] | None:
    """Read one record.

    Parameters
    ----------
    stream : Stream
        Where from; it is read no further than the record's end.

    Returns
    -------
    (int, dict) or None
        Its type and its items; None where the stream ended before the record began.

    Raises
    ------
    RecordError
        Where what comes is no record.

    Examples
    --------
    >>> import io
    >>> read_record(io.BytesIO(record(HELLO, {"operations": "rank unfold"})))
    (1, {'operations': 'rank unfold'})
    >>> read_record(io.BytesIO(b"Segmentation fault"))
    Traceback (most recent call last):
        ...
    refgrad.oracle.foreign.records.RecordError: a record begins with b'RGRD', got b'Segm'
    """
    header = _read(stream, HEADER.size)
    if not header:
        return None
    if header[: len(MAGIC)] != MAGIC[: len(header)]:
        raise RecordError(f"a record begins with {MAGIC!r}, got {header[: len(MAGIC)]!r}")
    if len(header) < HEADER.size:
        raise TruncatedError(f"the stream ended within a record's header, after {len(header)} of {HEADER.size} bytes")
    _, version, kind, length = HEADER.unpack(header)
    if version != VERSION:
        raise RecordError(f"a record has version {VERSION}, got {version}")
    if kind not in TYPES:
        raise RecordError(
            f"a record has a type of {', '.join(f'{n} ({name})' for n, name in TYPES.items())}; got {kind}"
        )
    if length > LARGEST_PAYLOAD:
        raise RecordError(f"a record's payload has at most {LARGEST_PAYLOAD} bytes, got a length of {length}")
    payload = _read(stream, length)
    if len(payload) < length:
        raise TruncatedError(f"the stream ended within a record's payload, after {len(payload)} of {length} bytes")
    tail = _read(stream, CHECKSUM.size)
    if len(tail) < CHECKSUM.size:
        raise TruncatedError(f"the stream ended within a record's checksum, after {len(tail)} of {CHECKSUM.size} bytes")
    expected = zlib.crc32(payload, zlib.crc32(header))
    (checksum,) = CHECKSUM.unpack(tail)
    if checksum != expected:
        raise RecordError(f"the checksum of a {TYPES[kind]} record is {checksum:08x}, its bytes give {expected:08x}")
    return kind, decode_items(payload)


def _read(stream: Stream, size: int) -> bytes:
    """Read so many bytes, or fewer at the end of the stream, in chunks: a length that is claimed costs nothing."""
    result = bytearray()
    while len(result) < size:
        chunk = stream.read(min(CHUNK, size - len(result)))
        if not chunk:
            break
        result += chunk
    return bytes(result)


def decode_items(payload: bytes) -> dict[str, Item]:
    """Return the items that a payload holds.

    Raises
    ------
    RecordError
        Where the payload ends within an item, an item is of no known kind, or two have one name.

    Examples
    --------
    >>> decode_items(encode_items({"mode": (1,), "matrix": np.ones((1, 2), np.float32)}))
    {'mode': (1,), 'matrix': array([[1., 1.]], dtype=float32)}
    """
    items: dict[str, Item] = {}
    reader = _Payload(payload)
    while reader.position < len(payload):
        (length,) = reader.unpack("B", "the length of a name")
        try:
            name = reader.take(length, "a name").decode("ascii")
        except UnicodeDecodeError:
            raise RecordError(f"an item's name is not ASCII, at byte {reader.position - length}") from None
        if not name.isprintable() or not name:
            raise RecordError(f"an item's name must be printable and not empty, got {name!r}")
        if name in items:
            raise RecordError(f"two items are called {name}")
        items[name] = _decoded(reader, name)
    return items


class _Payload:
    """A position in a payload."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.position = payload, 0

    def take(self, size: int, what: str) -> bytes:
        rest = len(self.payload) - self.position
        if size > rest:
            raise RecordError(f"{what} needs {size} bytes at byte {self.position}, but the payload has {rest} left")
        self.position += size
        return self.payload[self.position - size : self.position]

    def unpack(self, layout: str, what: str) -> tuple[int, ...]:
        form = struct.Struct("<" + layout)
        return form.unpack(self.take(form.size, what))


def _decoded(reader: _Payload, name: str) -> Item:
    (kind,) = reader.unpack("B", f"the kind of {name}")
    if kind == INTEGERS:
        (count,) = reader.unpack("B", f"the count of {name}")
        return reader.unpack(f"{count}q", name)
    if kind == REAL:
        return float(reader.unpack("d", name)[0])
    if kind == TEXT:
        (size,) = reader.unpack("I", f"the length of {name}")
        try:
            return reader.take(size, name).decode()
        except UnicodeDecodeError:
            raise RecordError(f"{name} is not UTF-8") from None
    if kind not in DTYPES:
        raise RecordError(f"{name} is of kind {kind}; known are {INTEGERS} to {FLOAT64}")
    (ndim,) = reader.unpack("B", f"the number of axes of {name}")
    if ndim > LARGEST_NDIM:
        raise RecordError(f"{name} has {ndim} axes; at most {LARGEST_NDIM} are allowed")
    shape = reader.unpack(f"{ndim}I", f"the shape of {name}")
    dtype = DTYPES[kind]
    content = reader.take(math.prod(shape) * dtype.itemsize, f"{name} of shape {shape}")
    if 0 in shape and max(shape) > len(reader.payload):
        raise RecordError(f"{name} has shape {shape}, which holds nothing and is longer than the payload")
    return np.frombuffer(content, dtype).reshape(shape)
