"""Gram matrices, projections and energies by compiled loops: each number in its place, and none from outside.

Of integers every sum is exact in whatever order, so that one number in a wrong place shows. The same cases run between
NaNs, and beside pages that nobody may read, with vectors of every length that a processor may have.
"""

import contextlib
import ctypes
import functools
import itertools
import math
import mmap
import sys
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import numba
import numpy as np
import pytest
from hypothesis import example, given

from refgrad.aligned import aligned_zeros
from refgrad.kernels import unfoldings
from refgrad.multilinear import hosvd
from refgrad.multilinear import panels as loops
from refgrad.multilinear import scaled as scaled_module
from refgrad.multilinear.decompositions import full_hosvd
from refgrad.multilinear.eigenpairs import Triangle
from refgrad.multilinear.scaled import Scaled, scaled_to_one
from refgrad.oracle.tolerance import decomposition_bound, projector_bound, residual_bound
from refgrad.rounding import gamma
from tests import other_registers
from tests.assertions import assert_same_bits, assert_within
from tests.matrices import triangle_of
from tests.strategies import DTYPES, LAYOUTS, with_layout

ROOT = Path(__file__).resolve().parents[1]
MARGIN = 80
"""Numbers on either side of what a loop may read or write: more than a panel has columns."""

BEFORE = (1, 2, 3, 9, 70, 130)
ROWS = (1, 2, 7, 8, 9, 15, 16, 17, 24, 25, 32, 33, 56, 65)
AFTER = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 40, 41, 63, 64, 65, 127, 128, 129, 130)
RANKS = (1, 7, 8, 9, 16, 17, 24, 25, 32, 33, 40)
LENGTHS = (1, 2, 3, 7, 8, 9, 16, 17, 24, 25, 63, 64, 65, 70)
MEMORIES = (0, 2**30)
LARGEST = 2**15
POWERS = {np.float32: (0, -149, 100), np.float64: (0, -400, 400)}
"""Of two; the first one makes subnormal numbers of float32, which are none in float64."""


def integers(shape, dtype=np.float64, seed=0, power=0, largest=99):
    """Whole numbers times a power of two."""
    return np.ldexp(np.random.default_rng(seed).integers(-largest, largest + 1, shape).astype(dtype), power)


def between_nans(array, shift=0):
    """The same, C-contiguous and read-only, with NaN before and after it."""
    buffer = np.full(array.size + 2 * MARGIN + shift, np.nan, array.dtype)
    inside = buffer[MARGIN + shift :][: array.size].reshape(array.shape)
    inside[...] = array
    buffer.flags.writeable = False
    inside.flags.writeable = False
    return inside


@functools.cache
def lonely_pages():
    """Some pages between two that nobody may touch."""
    size = -(-8 * LARGEST // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    forbid = ctypes.CDLL(None).mprotect
    for page in (address, address + mmap.PAGESIZE + size):
        assert forbid(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return memoryview(memory)[mmap.PAGESIZE : mmap.PAGESIZE + size]


def beside_forbidden_pages(array, shift=0):
    """The same, until the next call, right before a page that nobody may touch, or with an even shift behind one."""
    pages = lonely_pages()
    first = len(pages) - array.nbytes if shift % 2 else 0
    inside = np.frombuffer(pages, array.dtype, array.size, first).reshape(array.shape)
    inside[...] = array
    return inside


class Guarded:
    """An array to write to, with numbers on either side that must stay."""

    def __init__(self, shape, content):
        self._buffer = np.full(math.prod(shape) + 2 * MARGIN, -7.25)
        self.array = self._buffer[MARGIN:-MARGIN].reshape(shape)
        self.array[...] = content

    def assert_untouched(self):
        assert (self._buffer[:MARGIN] == -7.25).all()
        assert (self._buffer[-MARGIN:] == -7.25).all()


def unfolded(tensor, mode):
    return np.moveaxis(tensor.astype(np.float64), mode, 0).reshape(tensor.shape[mode], -1)


def projection(tensor, mode, vectors):
    """A x_j U^T, by NumPy."""
    return np.moveaxis(np.tensordot(vectors, tensor.astype(np.float64), (0, mode)), 0, mode)


def kernel_projection(tensor, mode, vectors):
    """The same by the compiled loop."""
    rank, padded = vectors.shape[1], loops._padded(vectors)
    panel, products = loops._panel(loops.COLUMNS, tensor.shape[mode]), aligned_zeros(loops.COLUMNS, padded.shape[1])
    result = np.empty((*tensor.shape[:mode], rank, *tensor.shape[mode + 1 :]))
    extents, numbers = loops._extents(tensor.shape, mode), (padded.ctypes.data, padded.shape[1], rank)
    unfoldings.project(*source_of(tensor), extents, *numbers, panel, products, result.ctypes.data)
    return result


def grid(largest):
    """Every (before, rows, after) that is not too large, and a number that is another one each time."""
    extents = (each for each in itertools.product(BEFORE, ROWS, AFTER) if math.prod(each) <= largest)
    return enumerate(extents)


@contextlib.contextmanager
def cut_from(numbers):
    """Let tensors of so many numbers be worked on by several threads, and in pieces of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "LEAST_SHARED", numbers)
        patch.setattr(loops, "LEAST_PIECE", 1)
        yield


@st.composite
def shapes(draw):
    """Two to five axes, none longer than 70, in any order."""
    left, lengths = LARGEST, []
    for _ in range(draw(st.integers(2, 5), label="axes")):
        allowed = [length for length in LENGTHS if length <= left]
        lengths.append(draw(st.sampled_from(allowed) | st.integers(1, min(70, left)), label="length"))
        left //= lengths[-1]
    return tuple(draw(st.permutations(lengths), label="shape"))


@st.composite
def exact_tensors(draw, wide=True):
    """Whole numbers times a power of two, between NaNs, at any place of a cache line."""
    shape, dtype = draw(shapes()), draw(st.sampled_from(DTYPES), label="dtype")
    power = draw(st.sampled_from(POWERS[dtype]), label="power") if wide else 0
    tensor = integers(shape, dtype, draw(st.integers(0, 2**32 - 1), label="seed"), power)
    return between_nans(tensor, draw(st.integers(0, 15), label="shift"))


# exact, and nothing from outside


def assert_gram_exact(tensor, mode, memory):
    matrix = unfolded(tensor, mode)
    found = loops.gram(tensor, mode, memory)
    assert_same_bits(found.dense(), matrix @ matrix.T, f"{tensor.shape}, mode {mode}, {memory} bytes")


def assert_projection_exact(tensor, mode, rank, seed):
    vectors = integers((tensor.shape[mode], rank), seed=seed)
    found = kernel_projection(tensor, mode, vectors)
    assert_same_bits(found, projection(tensor, mode, vectors), f"{tensor.shape}, mode {mode}, rank {rank}")


def gram_of_every_shape(dtype, placed, largest=LARGEST):
    for number, extents in grid(largest):
        tensor = placed(integers(extents, dtype, number, POWERS[dtype][number % 3]), number)
        for memory in MEMORIES:
            assert_gram_exact(tensor, 1, memory)


def projection_of_every_shape(dtype, placed, largest=LARGEST):
    for number, extents in grid(largest):
        tensor = placed(integers(extents, dtype, number, POWERS[dtype][number % 3]), number)
        for rank in {RANKS[number % len(RANKS)], RANKS[(number // 2) % len(RANKS)], extents[1]}:
            assert_projection_exact(tensor, 1, rank, number)


def energy_of_every_length(dtype, placed, largest=LARGEST):
    for number, length in enumerate([*range(1, 200), *range(250, 1500, 61), 4095, 4096, 4097, largest]):
        tensor = placed(integers((length,), dtype, number, POWERS[dtype][number % 3]), number)
        wide = tensor.astype(np.float64)
        assert loops.energy(tensor) == math.fsum(wide * wide), length


EXACT = (gram_of_every_shape, projection_of_every_shape, energy_of_every_length)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exact", EXACT)
def test_every_number_counts_in_its_place_and_none_from_outside(exact, dtype):
    with cut_from(1):
        exact(dtype, between_nans)


def beside_pages():
    """Run the exact cases beside pages that nobody may touch."""
    for exact, dtype in itertools.product(EXACT, DTYPES):
        exact(dtype, beside_forbidden_pages, 2**12)
    return "exact"


@pytest.mark.skipif(sys.platform != "linux", reason="how a page is forbidden is Linux's way")
@pytest.mark.parametrize("vector", other_registers.VECTORS)
def test_no_vector_of_any_length_reads_beside_the_tensor(tmp_path, vector):
    """Reading there would end the process."""
    assert other_registers.run(vector, "tests.test_panels:beside_pages", tmp_path) == "exact"


@given(tensor=exact_tensors(), data=st.data(), least_shared=st.sampled_from([1, loops.LEAST_SHARED]))
def test_the_gram_matrix_is_exact_whatever_memory_there_is(tensor, data, least_shared):
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    matrix_bytes = 8 * (-(-tensor.shape[mode] // 8) * 8) ** 2
    memory = matrix_bytes * data.draw(st.integers(0, 5), label="matrices") + data.draw(st.integers(0, 1), label="more")
    with cut_from(least_shared):
        assert_gram_exact(tensor, mode, memory)


@given(tensor=exact_tensors(), data=st.data())
def test_a_projection_is_exact_at_every_rank(tensor, data):
    mode = data.draw(st.integers(0, tensor.ndim - 1), label="mode")
    rank = data.draw(st.sampled_from([*RANKS, tensor.shape[mode]]), label="rank")
    assert_projection_exact(tensor, mode, rank, rank)


@given(tensor=exact_tensors(wide=False), data=st.data(), memory=st.sampled_from([0, 50, 800, 8000, 10**7]))
def test_projections_on_all_modes_but_the_first_are_added_exactly(tensor, data, memory):
    ranks = [data.draw(st.sampled_from([1, 7, 8, 9, 17, length]), label="rank") for length in tensor.shape[1:]]
    ranks = [min(rank, length) for rank, length in zip(ranks, tensor.shape[1:], strict=True)]
    sides = zip(tensor.shape[1:], ranks, strict=True)
    vectors = [integers(side, seed=seed, largest=5) for seed, side in enumerate(sides)]
    before = integers((len(tensor), *ranks), seed=1)
    result = Guarded(before.shape, before)
    with cut_from(1):
        loops.add_projected(tensor, vectors, result.array, memory)
    expected = tensor.astype(np.float64)
    for mode, matrix in enumerate(vectors, 1):
        expected = projection(expected, mode, matrix)
    assert_same_bits(result.array, before + expected)
    result.assert_untouched()


@given(tensor=exact_tensors(), least_shared=st.sampled_from([1, loops.LEAST_SHARED]))
def test_the_energy_is_exact(tensor, least_shared):
    wide = tensor.astype(np.float64).reshape(-1)
    with cut_from(least_shared):
        assert loops.energy(tensor) == math.fsum(wide * wide)


# rounded


@given(shape=shapes(), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 2**32 - 1), data=st.data())
@example(shape=(70, 65, 7), dtype=np.float32, seed=0, data=None)
def test_T15_what_the_loops_compute_is_right_up_to_rounding(shape, dtype, seed, data):
    generator = np.random.default_rng(seed)
    tensor = generator.standard_normal(shape).astype(dtype)
    mode = 1 if data is None else data.draw(st.integers(0, len(shape) - 1), label="mode")
    matrix = unfolded(tensor, mode)
    squares = matrix * matrix
    allowed = 2 * gamma(matrix.shape[1], np.float64) * (np.abs(matrix) @ np.abs(matrix).T)
    vectors = [np.linalg.qr(generator.standard_normal((n, n)))[0][:, : max(1, n // 2)] for n in shape]
    with cut_from(1):
        for memory in MEMORIES:
            assert_within(loops.gram(tensor, mode, memory).dense(), matrix @ matrix.T, allowed)
        assert_within(loops.energy(tensor), squares.sum(), 2 * gamma(tensor.size, np.float64) * squares.sum())
        one = kernel_projection(tensor, mode, vectors[mode])
        result = np.zeros((len(tensor), *(each.shape[1] for each in vectors[1:])))
        loops.add_projected(tensor, vectors[1:], result, 800)
    majorant = projection(np.abs(tensor), mode, np.abs(vectors[mode]))
    assert_within(one, projection(tensor, mode, vectors[mode]), 2 * gamma(shape[mode], np.float64) * majorant)
    expected, majorant = tensor.astype(np.float64), np.abs(tensor).astype(np.float64)
    for number, each in enumerate(vectors[1:], 1):
        expected, majorant = projection(expected, number, each), projection(majorant, number, np.abs(each))
    roundings = sum(shape[1:]) + tensor[0].size  # a sample is added up from no more parts than it has numbers
    assert_within(result, expected, 2 * gamma(roundings, np.float64) * majorant)


# the kernels by themselves


def source_of(tensor):
    return tensor.ctypes.data, tensor.dtype.type(0), tensor.itemsize


KERNEL_EXTENTS = st.tuples(
    st.sampled_from(BEFORE[:5]), st.sampled_from(ROWS), st.sampled_from(AFTER) | st.integers(1, 130)
).filter(lambda extents: math.prod(extents) <= LARGEST)


@given(extents=KERNEL_EXTENTS, at_once=st.sampled_from([1, 7, 8, 24, 64]))
@example(extents=(3, 1, 64), at_once=64)
@example(extents=(3, 1, 65), at_once=64)
@example(extents=(70, 1, 1), at_once=64)
def test_the_blocks_are_all_columns_each_once_in_even_parts(extents, at_once):
    before, _, after = extents
    seen, lengths, block = [], [], 0
    while len(seen) < before * after:
        outer, inner = unfoldings.columns_of(block, extents, at_once)
        part = [(i, j) for i in range(*outer) for j in range(*inner)]
        assert 1 <= len(part) <= at_once
        seen += part
        lengths.append(len(part))
        block += 1
    assert seen == list(itertools.product(range(before), range(after)))
    if after < at_once:  # as many as there is room for, but at the end
        assert set(lengths[:-1]) <= {at_once // after * after}
    else:
        assert max(lengths) - min(lengths) <= 1
        assert block == before * -(-after // at_once)
    assert block == loops._blocks(extents, at_once)


@given(extents=KERNEL_EXTENTS, dtype=st.sampled_from(DTYPES), at_once=st.sampled_from([8, 16, 64]), data=st.data())
def test_a_panel_is_filled_with_the_columns_and_nothing_else(extents, dtype, at_once, data):
    before, rows, after = extents
    tensor = between_nans(integers(extents, dtype, rows + after), data.draw(st.integers(0, 15), label="shift"))
    first = data.draw(st.integers(0, before - 1), label="first")
    start = data.draw(st.integers(0, after - 1), label="start")
    stop = data.draw(st.integers(start + 1, min(after, start + at_once)), label="stop")
    last = data.draw(st.integers(first + 1, min(before, first + at_once // (stop - start))), label="last")
    if after == 1:
        start, stop = 0, 1
    panel = Guarded((at_once, -(-rows // 8) * 8 + 8), 0.5)
    unfoldings.fill_panel(*source_of(tensor), extents, (first, last), (start, stop), panel.array)
    count = (last - first) * (stop - start)
    expected = np.full(panel.array.shape, 0.5)
    expected[:count, :rows] = np.moveaxis(tensor[first:last, :, start:stop], 1, 2).reshape(count, rows)
    assert_same_bits(panel.array, expected)
    panel.assert_untouched()


@given(extents=KERNEL_EXTENTS, dtype=st.sampled_from(DTYPES), at_once=st.sampled_from([8, 16, 64]), data=st.data())
def test_a_gram_matrix_is_added_to_where_it_says_and_nowhere_else(extents, dtype, at_once, data):
    _, rows, after = extents
    side = -(-rows // 8) * 8
    tensor = between_nans(integers(extents, dtype, rows + after), data.draw(st.integers(0, 15), label="shift"))
    lane = 0
    last = 0
    while lane < extents[0] * after:
        outer, inner = unfoldings.columns_of(last, extents, at_once)
        lane += (outer[1] - outer[0]) * (inner[1] - inner[0])
        last += 1
    blocks = sorted((data.draw(st.integers(0, last)), data.draw(st.integers(0, last))))
    part = slice(*sorted(8 * data.draw(st.integers(0, side // 8)) for _ in range(2)))
    old = integers((Triangle.size(rows),), seed=side)
    total, panel = Guarded(old.shape, old), Guarded((at_once, side + 8 * data.draw(st.integers(0, 2))), 0.0)
    some = part.start, part.stop
    unfoldings.add_gram(*source_of(tensor), extents, tuple(blocks), some, panel.array, total.array)
    chosen = np.zeros((extents[0], after), bool)
    for block in range(*blocks):
        outer, inner = unfoldings.columns_of(block, extents, at_once)
        chosen[slice(*outer), slice(*inner)] = True
    matrix = unfolded(tensor, 1)[:, chosen.reshape(-1)]
    added = np.zeros((side, side))
    added[:rows, :rows] = matrix @ matrix.T
    added[: part.start] = added[part.stop :] = 0.0
    expected = old + np.concatenate([added[row : row + 8, : row + 8].reshape(-1) for row in range(0, side, 8)])
    assert_same_bits(total.array, expected)
    assert not panel.array[:, rows:].any()
    total.assert_untouched()
    panel.assert_untouched()


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 24, 65])
def test_a_triangle_has_each_row_where_the_loops_say(rows):
    matrix = integers((rows, rows), seed=rows)
    matrix += matrix.T
    triangle = triangle_of(matrix)
    assert_same_bits(triangle.dense(), matrix)
    for number in range(rows):
        start, width = unfoldings.row_of(number)
        assert width == number - number % 8 + 8
        assert_same_bits(triangle.numbers[start : start + number + 1], matrix[number, : number + 1])
    assert sum(unfoldings.row_of(rows - rows % -8 - 1)) == len(triangle.numbers) == Triangle.size(rows)


@given(
    extents=KERNEL_EXTENTS,
    dtype=st.sampled_from(DTYPES),
    rank=st.sampled_from(RANKS),
    at_once=st.sampled_from([8, 16, 64]),
    data=st.data(),
)
def test_a_projection_is_written_over_its_result_and_nowhere_else(extents, dtype, rank, at_once, data):
    before, rows, after = extents
    tensor = between_nans(integers(extents, dtype, rows + after), data.draw(st.integers(0, 15), label="shift"))
    ranks = -(-rank // 8) * 8
    matrix = integers((rows, rank), seed=rank)
    vectors = Guarded((rows, ranks), 0.0)
    vectors.array[:, :rank] = matrix
    result = Guarded((before, rank, after), np.nan)
    panel = Guarded((at_once, -(-rows // 8) * 8), 0.0)
    products = Guarded((64, ranks + 8 * data.draw(st.integers(0, 1), label="more")), np.nan)
    numbers = vectors.array.ctypes.data, ranks, rank
    unfoldings.project(*source_of(tensor), extents, *numbers, panel.array, products.array, result.array.ctypes.data)
    assert_same_bits(result.array, projection(tensor, 1, matrix))
    for each in (result, panel, products):
        each.assert_untouched()


@given(squares=st.integers(0, 5), dtype=st.sampled_from(DTYPES), shift=st.integers(0, 15))
def test_squares_are_added_each_to_its_sum_and_nowhere_else(squares, dtype, shift):
    numbers = between_nans(integers((squares, 64), dtype, squares), shift)
    sums = Guarded((64,), np.arange(64.0))
    unfoldings.add_squares(*source_of(numbers), numbers.size, sums.array)
    assert_same_bits(sums.array, np.arange(64.0) + (numbers.astype(np.float64) ** 2).sum(axis=0))
    sums.assert_untouched()


# how much memory, and where


@pytest.mark.parametrize("matrices", [0, 1, 2, 3, 4, 9])
def test_gram_keeps_to_its_memory_or_to_one_matrix(matrices):
    side = 256
    tensor = np.ones((32, side, 64), np.float32)
    matrix_bytes = 8 * Triangle.size(side)
    loops.gram(tensor, 1, 0)
    tracemalloc.start()
    try:
        found = loops.gram(tensor, 1, matrices * matrix_bytes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    panels = loops.TASKS * loops._panel(loops.COLUMNS, side).nbytes
    assert_same_bits(found.dense(), np.full((side, side), 2048.0))
    assert peak < max(1, matrices) * matrix_bytes + panels + matrix_bytes / 4


@given(rows=st.integers(1, 700), columns=st.integers(1, 50))
def test_what_vectors_are_read_from_begins_at_cache_lines(rows, columns):
    panel, padded = loops._panel(64, rows), loops._padded(np.ones((columns, rows)))
    assert panel.shape[0] == 64
    assert rows <= panel.shape[1] < rows + 16
    assert panel.shape[1] % 16 == 8  # an odd number of lines
    assert padded.shape == (columns, -(-rows // 8) * 8)
    assert (padded[:, :rows] == 1.0).all()
    assert not padded[:, rows:].any()
    assert not panel.any()
    for each in (panel, padded):
        assert each.ctypes.data % 64 == 0
        assert each.flags.c_contiguous


# threads


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_do_not_depend_on_how_many_threads_there_are(dtype, monkeypatch):
    generator = np.random.default_rng(0)
    tensor = generator.standard_normal((25, 17, 36, 36)).astype(dtype)
    vectors = [np.linalg.qr(generator.standard_normal((n, n)))[0][:, : n // 2] for n in tensor.shape[1:]]
    assert tensor.size >= loops.LEAST_SHARED

    def computed():
        yield np.array(loops.energy(tensor))
        for mode, memory in itertools.product(range(4), MEMORIES):
            yield loops.gram(tensor, mode, memory).numbers
        for memory in MEMORIES:
            result = np.zeros((25, *(matrix.shape[1] for matrix in vectors)))
            loops.add_projected(tensor, vectors, result, memory)
            yield result

    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    expected = list(computed())
    assert all(array.any() for array in expected)
    for threads in ("1", "2", "3", "3", "2"):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
        for found, array in zip(computed(), expected, strict=True):
            assert_same_bits(found, array, f"{threads} threads")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "at_once"),
    [((30, 24, 20, 20), True), ((20, 200, 9, 9), False), ((60, 60, 40, 40), False), ((8, 8, 8, 8), False)],
)
def test_threads_take_modes_of_small_tensors_and_decide_no_bit(shape, at_once, dtype, monkeypatch):
    tensor = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    assert loops.modes_at_once(tensor) == at_once
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    expected = hosvd(tensor, 0.8, method="gram"), full_hosvd(tensor, method="gram").truncated((3, 4, 5, 6))
    for threads in ("1", "2", "3", "4", "9"):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
        found = hosvd(tensor, 0.8, method="gram"), full_hosvd(tensor, method="gram").truncated((3, 4, 5, 6))
        for one, other in zip(found, expected, strict=True):
            assert_same_bits(one.core, other.core, f"{threads} threads")
            for factor, other_factor in zip(one.factors, other.factors, strict=True):
                assert_same_bits(factor, other_factor, f"{threads} threads")
            assert one.discarded_fraction == other.discarded_fraction


def test_decompositions_of_unfoldings_themselves_go_one_after_the_other(monkeypatch):
    """Each of them takes far more memory than a Gram matrix does."""
    tensor = np.random.default_rng(0).standard_normal((30, 24, 20, 20))
    called = []
    threads = scaled_module.in_threads
    monkeypatch.setattr(scaled_module, "in_threads", lambda *arguments: called.append(1) or threads(*arguments))
    hosvd(tensor, 0.8, method="svd")
    full_hosvd(tensor, method="svd")
    assert called == []
    hosvd(tensor, 0.8, method="gram")
    full_hosvd(tensor, method="gram")
    assert called == [1, 1]


def test_matrices_are_filled_up_to_what_the_loops_ask_for():
    assert loops.SIDE == unfoldings.SIDE


@pytest.mark.parametrize(("numbers", "tasks"), [(loops.LEAST_SHARED - 1, 1), (loops.LEAST_SHARED, 4)])
def test_only_large_tensors_are_shared_among_threads(numbers, tasks, monkeypatch):
    asked = []

    def in_order(task, count):
        asked.append(count)
        return [task(number) for number in range(count)]

    monkeypatch.setattr(loops, "in_threads", in_order)
    tensor = np.ones((1, 1, numbers), np.float32)
    assert loops.energy(tensor) == numbers
    assert all(loops.gram(tensor, 1, memory).dense() == numbers for memory in MEMORIES)
    assert asked == [tasks, tasks, tasks]


# which tensors


def test_compiled_loops_are_for_large_tensors_that_lie_as_they_are_read(monkeypatch):
    assert loops.compiled(np.ones(loops.LEAST_NUMBERS))
    assert not loops.compiled(np.ones(loops.LEAST_NUMBERS - 1))
    tensor = np.ones((8, 16, 32, 32), np.float32)
    assert {layout: loops.compiled(with_layout(tensor, layout)) for layout in LAYOUTS} == {
        layout: layout in ("C", "read-only") for layout in LAYOUTS
    }
    assert not loops.compiled(tensor[:, :, :, 1:])
    assert loops.compiled(tensor[4:])
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not loops.compiled(tensor)


def test_without_the_JIT_no_loop_is_entered(monkeypatch):
    tensor = integers((16, 17, 16, 16), np.float32)
    scaled = Scaled(tensor, 0, math.nan)
    vectors = [integers((n, 3), seed=n) for n in tensor.shape]
    with_jit = [np.triu(scaled.gram(1).dense()), scaled.projected(vectors), np.array(scaled_to_one(tensor).energy)]

    def refuse(*_):
        raise AssertionError("a loop was entered")

    for name in ("add_gram", "add_projection", "add_squares"):
        monkeypatch.setattr(unfoldings, name, refuse)
    with pytest.raises(AssertionError, match="a loop was entered"):
        scaled.gram(1)
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    without = [np.triu(scaled.gram(1)), scaled.projected(vectors), np.array(scaled_to_one(tensor).energy)]
    for found, expected in zip(with_jit, without, strict=True):
        assert_same_bits(found, expected)


# what they are for


def graded(dtype):
    """A tensor whose unfoldings' singular values fall fast, and of which no two lie close."""
    shape = (24, 20, 12, 14)
    tensor = np.random.default_rng(3).standard_normal(shape)
    for axis, length in enumerate(shape):
        tensor *= (0.7 ** np.arange(length)).reshape(-1, *[1] * (len(shape) - 1 - axis))
    return tensor.astype(dtype)


def apart(tensor, ranks):
    """How far two HOSVDs' projections of a tensor lie apart (T15): subspaces in float64, the rest in its dtype."""
    norm, total = float(np.linalg.norm(tensor.astype(np.float64))), 0.0
    for mode, rank in enumerate(ranks):
        matrix = unfolded(tensor, mode)
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        gram = float(np.linalg.norm(np.abs(matrix) @ np.abs(matrix).T))
        residual = residual_bound(rank, matrix.shape[1], float(squares[0]), gram, np.float64)
        total += projector_bound(squares, rank, len(matrix), residual) * norm
        total += decomposition_bound(len(matrix), norm, tensor.dtype)
    assert 0.0 < 2.0 * total < 1e-3 * norm or tensor.dtype == np.float32
    return 2.0 * total


@pytest.mark.parametrize("dtype", DTYPES)
def test_T15_by_gram_in_loops_hosvd_is_that_of_the_svd(dtype):
    tensor = graded(dtype)
    assert loops.compiled(tensor)
    by_svd, by_gram = hosvd(tensor, 0.9), hosvd(tensor, 0.9, method="gram")
    elsewhere = hosvd(with_layout(tensor, "transposed"), 0.9, method="gram")
    allowed = apart(tensor, by_svd.multilinear_rank)
    assert allowed < 0.01 * by_svd.norm
    assert all(1 < rank < length for rank, length in zip(by_svd.multilinear_rank, tensor.shape, strict=True))
    for found in (by_gram, elsewhere):
        assert found.multilinear_rank == by_svd.multilinear_rank
        assert np.linalg.norm(found.reconstruct() - by_svd.reconstruct()) <= allowed
        core = by_svd.core.astype(np.float64)
        for mode, (ours, other) in enumerate(zip(found.factors, by_svd.factors, strict=True)):
            core = projection(core, mode, (ours.astype(np.float64).T @ other.astype(np.float64)).T)
        assert np.linalg.norm(found.core - core) <= allowed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [(0, 0, 0), (7, 3, 11), (40, 40, 40)])
def test_a_large_tensor_that_is_not_finite_is_refused_with_its_place(bad, dtype, place):
    tensor = np.ones((41, 41, 41), dtype)  # of which the last numbers fill no block of squares
    tensor[place] = bad
    assert loops.compiled(tensor)
    for function in (scaled_to_one, lambda tensor: hosvd(tensor, 0.5, method="gram")):
        with pytest.raises(
            ValueError, match=rf"tensor must be finite, got .* at index \({', '.join(map(str, place))}\)"
        ):
            function(tensor)


@pytest.mark.parametrize("size", [loops.LEAST_NUMBERS, loops.LEAST_NUMBERS + 5])
@pytest.mark.parametrize("magnitude", [1e-200, 1e-153, 3e152, 4e152, 1e153, 2e153, 1e200])
def test_a_large_tensor_whose_squares_leave_the_range_is_scaled(size, magnitude):
    """Sums of squares that each fit, and do not fit together, are among them."""
    scaled = scaled_to_one(np.full(size, magnitude))
    assert scaled.exponent == math.frexp(magnitude)[1]
    norm = math.sqrt(size) * magnitude
    assert_within(scaled.norm / norm, 1.0, 2 * gamma(size, np.float64))


def test_one_number_at_the_end_whose_square_leaves_the_range_is_scaled():
    tensor = np.ones(loops.LEAST_NUMBERS + 3)
    tensor[-1] = 1e200
    assert scaled_to_one(tensor).exponent == math.frexp(1e200)[1]


@pytest.mark.parametrize("length", [loops.LEAST_NUMBERS - 1, loops.LEAST_NUMBERS, loops.LEAST_SHARED + 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_vector_is_a_tensor_too(length, dtype):
    vector = np.random.default_rng(0).standard_normal(length).astype(dtype)
    stored = hosvd(vector, 0.5, method="gram")
    assert stored.multilinear_rank == (1,)
    assert_within(np.linalg.norm(stored.core), stored.norm, 4 * gamma(length, dtype) * stored.norm)
