"""A tensor read piece by piece: each number once, whatever the cut, and in little memory."""

import math
import tracemalloc

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from refgrad.multilinear import METHODS, hosvd, sequential_hosvd, svd
from refgrad.multilinear.eigenpairs import Triangle
from refgrad.multilinear.scaled import HELD_AS_IT_IS, PIECE, Scaled, scaled_to_one
from refgrad.ranges import places
from refgrad.rounding import gamma
from tests.assertions import assert_same_bits, assert_within
from tests.strategies import LAYOUTS, with_layout

SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=5).map(tuple)


def numbers(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@given(shape=SHAPES, data=st.data(), at_once=st.integers(1, 400))
@example(shape=(2, 3, 4), data=None, at_once=1)
def test_the_places_are_the_whole_each_number_once_and_in_C_order(shape, data, at_once):
    kept = None if data is None else data.draw(st.none() | st.integers(0, len(shape) - 1))
    order = np.arange(math.prod(shape)).reshape(shape)
    seen = np.zeros(shape, int)
    last = -1
    for place in places(shape, kept, at_once):
        part = order[place]
        seen[place] += 1
        assert kept is None or part.shape[kept] == shape[kept]
        assert part.size <= max(at_once, 1 if kept is None else shape[kept])
        if kept in (None, 0):
            columns = part if kept is None else part[0]
            assert columns.min() > last
            last = columns.max()
    assert (seen == 1).all()


@given(shape=SHAPES, data=st.data(), dtype=st.sampled_from([np.float32, np.float64]), layout=st.sampled_from(LAYOUTS))
def test_the_columns_are_those_of_the_unfolding(shape, data, dtype, layout):
    tensor = numbers(shape, dtype)
    scaled = scaled_to_one(with_layout(tensor, layout))
    mode = data.draw(st.integers(0, len(shape) - 1))
    at_once = data.draw(st.none() | st.integers(1, 200))
    rebuilt = np.empty(shape)
    for place, piece in scaled.columns(mode, at_once):
        target = np.moveaxis(rebuilt[place], mode, 0)
        target[...] = piece.reshape(target.shape)
    assert_same_bits(rebuilt, tensor.astype(np.float64))
    assert_same_bits(scaled.unfolding(mode), np.moveaxis(rebuilt, mode, 0).reshape(shape[mode], -1))


@pytest.mark.parametrize("shape", [(3, 5, 80, 90), (2, 300, 40, 40), (40, 3, 5, 6), (1, 2, 400, 400), (500, 700), (9,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loops", ["compiled", "BLAS"])
def test_T15_what_is_computed_in_pieces_is_what_is_computed_at_once(shape, dtype, loops, monkeypatch):
    """Shapes of which a sample, or a channel of one, is larger than a piece are among them."""
    if loops == "BLAS":
        monkeypatch.setattr("refgrad.multilinear.scaled.compiled", lambda tensor: False)
    tensor = numbers(shape, dtype)
    values, scaled = tensor.astype(np.float64), scaled_to_one(tensor)
    size = tensor.size
    assert_within(scaled.energy, float((values * values).sum()), 2 * gamma(size, np.float64) * float((values**2).sum()))
    vectors = [np.linalg.qr(numbers((n, n), seed=n))[0][:, : max(1, n // 3)] for n in shape]
    for mode in range(len(shape)):
        matrix = np.moveaxis(values, mode, 0).reshape(shape[mode], -1)
        if shape[mode] <= 100:
            majorant = np.abs(matrix) @ np.abs(matrix).T
            allowed = 2 * gamma(matrix.shape[1], np.float64) * majorant
            gram = scaled.gram(mode)
            if isinstance(gram, Triangle):
                gram = gram.dense()
            assert_within(np.triu(gram), np.triu(matrix @ matrix.T), allowed)
        projected = np.moveaxis(scaled.mode_projected(vectors[mode], mode), mode, 0).reshape(vectors[mode].shape[1], -1)
        majorant = np.abs(vectors[mode]).T @ np.abs(matrix)
        assert_within(projected, vectors[mode].T @ matrix, 2 * gamma(shape[mode], np.float64) * majorant)
    core, majorant = values, np.abs(values)
    for mode, matrix in enumerate(vectors):
        core = np.moveaxis(np.tensordot(matrix, core, (0, mode)), 0, mode)
        majorant = np.moveaxis(np.tensordot(np.abs(matrix), majorant, (0, mode)), 0, mode)
    allowed = (2 * gamma(sum(shape) + size // PIECE + 1, np.float64) + gamma(1, dtype)) * majorant
    assert_within(scaled.projected(vectors).astype(np.float64), core, allowed)


def test_a_core_too_large_for_its_own_copy_is_computed_in_turns():
    tensor = numbers((24, 20, 40, 40), np.float32)
    identity = [np.eye(n) for n in tensor.shape]
    scaled = scaled_to_one(tensor)
    tracemalloc.start()
    try:
        core = scaled.projected(identity)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_same_bits(core, tensor)
    # Of float64 numbers: what is summed up, what is added to it, the samples it comes from, a piece and its product.
    assert peak - core.nbytes <= 5 * PIECE * 8 < tensor.size * 8


@pytest.mark.parametrize("power", [-1000, -160, -140, 0, 140, 160, 1000])
def test_a_norm_that_squares_cannot_hold_is_scaled(power):
    tensor = np.ldexp(numbers((4, 5)), power)
    scaled = scaled_to_one(tensor)
    assert (scaled.exponent == 0) == (2 * abs(power) < math.log2(HELD_AS_IT_IS))
    assert 0.0 < scaled.energy < math.inf
    plain = scaled_to_one(numbers((4, 5)))
    assert_within(np.ldexp(scaled.norm, -power), plain.norm, 4 * gamma(tensor.size, np.float64) * plain.norm)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_is_refused_with_its_place(bad, dtype):
    tensor = np.ones((3, 4), dtype)
    tensor[1, 2] = bad
    with pytest.raises(ValueError, match=r"tensor must be finite, got .* at index \(1, 2\)"):
        scaled_to_one(tensor)


@pytest.mark.parametrize("decompose", [hosvd, svd])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compression_works_in_a_quarter_of_the_activation(decompose, dtype):
    """Above its input and its output, where the sides of the Gram matrices are short beside the activation."""
    pictures = np.cumsum(np.cumsum(numbers((24, 12, 48, 48), np.float64), axis=2), axis=3)
    tensor = (pictures / np.abs(pictures).max()).astype(dtype)
    decompose(tensor, 0.8, method="gram")
    tracemalloc.start()
    try:
        stored = decompose(tensor, 0.8, method="gram")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - stored.nbytes <= tensor.nbytes / 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("decompose", [hosvd, sequential_hosvd, svd])
def test_the_input_is_left_alone(decompose, method):
    tensor = np.ldexp(numbers((5, 6, 7)), -400)
    before = tensor.copy()
    decompose(tensor, 0.7, method=method)
    assert_same_bits(tensor, before)
    assert isinstance(scaled_to_one(tensor), Scaled)
