"""Records from somebody else: what was written is read, and nothing that comes makes the reader fail or swell."""

import io
import os
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refgrad.oracle.foreign.messages import declaration_of, results_of
from refgrad.oracle.foreign.records import (
    LARGEST_PAYLOAD,
    TYPES,
    RecordError,
    TruncatedError,
    decode_items,
    read_record,
    record,
)
from refgrad.oracle.operations import OPERATIONS

NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)
ARRAYS = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
)
VALUES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5).map(tuple), st.floats(), st.text(max_size=8), ARRAYS
)
ITEMS = st.dictionaries(NAMES, VALUES, max_size=4)
FUZZED = settings(max_examples=100_000 if os.environ.get("REFGRAD_PROFILE") == "search" else 500)


class Dripping(io.BytesIO):
    """A stream that gives a few bytes at a time, as a pipe may."""

    def read(self, size=-1):
        return super().read(min(size, 3))


def same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return type(one) is type(other) and (one == other or repr(one) == repr(other))


@given(st.sampled_from(sorted(TYPES)), ITEMS, st.binary(max_size=5))
def test_what_was_written_is_read_and_no_more(kind, items, rest):
    stream = Dripping(record(kind, items) + rest)
    found_kind, found = read_record(stream)
    assert found_kind == kind
    assert list(found) == list(items)
    assert all(same(found[name], value) for name, value in items.items())
    assert stream.getvalue()[stream.tell() :] == rest


@given(ITEMS, st.data())
def test_every_cut_and_every_flipped_bit_is_noticed(items, data):
    whole = record(2, items)
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(TruncatedError, match="the stream ended within"):
        read_record(io.BytesIO(whole[:cut]))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordError):
        read_record(io.BytesIO(bytes(flipped)))


def understand(payload):
    """Read a payload as every message that it might be: whatever is wrong with it is a RecordError."""
    with suppress(RecordError):
        items = decode_items(payload)
        for operation in OPERATIONS:
            with suppress(RecordError):
                results_of(operation, items)
        declaration_of(items)


@FUZZED
@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_a_record_error_or_items(payload):
    understand(payload)
    with pytest.raises(RecordError):
        read_record(io.BytesIO(b"?" + payload))


@FUZZED
@given(ITEMS, st.data())
def test_damaged_items_behind_a_right_checksum_are_a_record_error_or_items(items, data):
    payload = bytearray(record(3, items)[16:-4])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(payload)))
        payload[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    understand(bytes(payload))


@pytest.mark.parametrize("claimed", [2**20, LARGEST_PAYLOAD, LARGEST_PAYLOAD + 1, 2**63, 2**64 - 1])
def test_a_claimed_length_costs_no_memory(claimed):
    head = b"RGRD" + (1).to_bytes(2, "little") + (3).to_bytes(2, "little") + claimed.to_bytes(8, "little")
    tracemalloc.start()
    try:
        told = "at most" if claimed > LARGEST_PAYLOAD else "ended within"
        with pytest.raises(RecordError, match=told):
            read_record(io.BytesIO(head + bytes(1000)))
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8), st.sampled_from([4, 5]))
def test_claimed_shapes_cost_no_memory(shape, kind):
    payload = b"\x01a" + bytes([kind, len(shape)]) + b"".join(length.to_bytes(4, "little") for length in shape)
    if 0 in shape and max(shape) <= len(payload):
        assert decode_items(payload)["a"].shape == tuple(shape)
        return
    with pytest.raises(RecordError, match=r"but the payload has 0 left|holds nothing"):
        decode_items(payload)
