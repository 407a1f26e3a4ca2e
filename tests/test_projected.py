"""The weight gradient from factors by compiled loops: each product in its place, and nothing from outside.

Of integers every sum is exact in whatever order, so that one number in a wrong place shows.
"""

import functools
import itertools
import math

import hypothesis.strategies as st
import numba
import numpy as np
import pytest
from hypothesis import example, given

from refgrad.geometry import ConvGeometry
from refgrad.storage import HOSVD, contraction, projected
from refgrad.storage.order import best_plan, memory_of
from refgrad.storage.sizes import Sizes
from tests import other_registers
from tests.assertions import assert_same_bits, assert_within
from tests.layers import NAMED, integers
from tests.layers import layers as wide_layers
from tests.storage_cases import Layer, allowed_between_two, peak_beside_result, specified
from tests.strategies import DTYPES

ENOUGH = 2**30
RANKS = st.integers(1, 20)


@st.composite
def layers(draw):
    """A convolution, and ranks of its input: on all sides of what registers and tiles hold."""
    geometry, shape, outputs = draw(wide_layers())
    shape = (draw(st.sampled_from([1, 2, 5, 9])), *shape[1:])
    ranks = tuple(min(length, draw(RANKS)) for length in shape)
    return geometry, shape, outputs, ranks


def named(test):
    """Run a test on the named layers as well."""
    for number, (geometry, shape, outputs) in enumerate(NAMED):
        ranks = tuple(min(length, 3 + 2 * mode + number) for mode, length in enumerate(shape))
        test = example(layer=(geometry, shape, outputs, ranks), dtype=DTYPES[number % 2])(test)
    return test


def operands(layer, dtype):
    """Small integers: core, factors, gradient."""
    geometry, shape, outputs, ranks = layer
    core = integers(1, ranks, dtype)
    factors = [
        integers(mode, (length, rank), dtype) for mode, (length, rank) in enumerate(zip(shape, ranks, strict=True))
    ]
    return core, factors, integers(9, (shape[0], outputs, *geometry.output_size(shape[2:])), dtype), geometry


def by_loops(core, factors, grad_output, geometry, memory=ENOUGH):
    sizes = contraction.contraction_sizes(core, factors, grad_output, geometry)
    by_taps = [contraction._by_taps(sizes, factors[axis], axis) for axis in (2, 3)]
    return projected.weight_gradient(sizes, core, factors, by_taps, grad_output, memory)


def expected_of(core, factors, grad_output, geometry):
    """The specification's, in float64, where every sum of these integers is exact."""
    wide = [array.astype(np.float64) for array in (core, *factors, grad_output)]
    layer = Layer(np.zeros([len(factor) for factor in factors]), wide[-1], geometry)
    return specified(layer, wide[0], wide[1:-1]).astype(core.dtype)


@given(layer=layers(), dtype=st.sampled_from(DTYPES))
@named
def test_T14_the_weight_gradient_is_that_of_what_is_kept(layer, dtype):
    arrays = operands(layer, np.float64)
    assert np.abs(expected_of(*arrays)).max(initial=0.0) < 2**53
    assert_same_bits(by_loops(*arrays), expected_of(*arrays))
    if dtype == np.float32:
        arrays = operands(layer, np.float32)
        core, factors, grad_output, geometry = arrays
        whole = Layer(np.zeros(layer[1], np.float32), grad_output, geometry)
        assert_within(by_loops(*arrays), expected_of(*arrays), allowed_between_two(whole, core, factors))


def every_named_layer():
    for number, (geometry, shape, outputs) in enumerate(NAMED):
        ranks = tuple(min(length, 2 + mode + number) for mode, length in enumerate(shape))
        arrays = operands((geometry, shape, outputs, ranks), np.float64)
        assert_same_bits(by_loops(*arrays), expected_of(*arrays))
    return "all right"


@pytest.mark.parametrize("vector", other_registers.VECTORS)
def test_registers_of_every_length_give_the_same(vector, tmp_path):
    assert other_registers.run(vector, "tests.test_projected:every_named_layer", tmp_path) == "all right"


@functools.cache
def compressed(dtype, groups=1, stride=1):
    """A layer large enough for the loops, compressed."""
    generator = np.random.default_rng(3)
    geometry = ConvGeometry.of(3, padding=1, groups=groups, stride=stride)
    x = generator.standard_normal((16, 24, 20, 20)).astype(dtype)
    grad_output = generator.standard_normal((16, 32, *geometry.output_size((20, 20)))).astype(dtype)
    stored = HOSVD(ranks=(6, 8 if groups == 1 else 5, 4, 5)).store(x)
    return Layer(x, grad_output, geometry), stored.core, stored.factors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (1, 2), (4, 1)])
def test_T15_large_layers_go_through_the_loops_and_equal_what_NumPy_gives(dtype, groups, stride, monkeypatch):
    layer, core, factors = compressed(dtype, groups, stride)
    called = []
    found = projected.weight_gradient
    monkeypatch.setattr(projected, "weight_gradient", lambda *arguments: called.append(1) or found(*arguments))
    gradient = contraction.factored_weight_gradient(core, factors, layer.grad_output, layer.geometry)
    assert called == [1]
    plan = best_plan(contraction.contraction_sizes(core, factors, layer.grad_output, layer.geometry), core.itemsize)
    by_numpy = contraction.factored_weight_gradient(core, factors, layer.grad_output, layer.geometry, plan=plan)
    assert called == [1]
    allowed = allowed_between_two(layer, core, factors)
    assert_within(gradient, by_numpy, allowed)
    assert_within(gradient, specified(layer, core, factors), allowed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_and_the_memory_decide_no_bit(dtype, monkeypatch):
    layer, core, factors = compressed(dtype)
    arguments = core, factors, layer.grad_output, layer.geometry
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    expected = by_loops(*arguments)
    sizes = contraction.contraction_sizes(*arguments)
    least = next(memory for memory in itertools.count(2**16, 2**12) if projected._Cut.of(sizes, core.itemsize, memory))
    for threads, memory in itertools.product(("1", "2", "3", "5"), (least, 2 * least, ENOUGH)):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
        assert_same_bits(by_loops(*arguments, memory), expected, f"{threads} threads, {memory} bytes")


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_works_in_the_memory_that_it_is_given(dtype, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    layer, core, factors = compressed(dtype)
    arguments = core, factors, layer.grad_output, layer.geometry
    sizes = contraction.contraction_sizes(*arguments)
    fitting = [2**power for power in range(16, 23) if projected._Cut.of(sizes, core.itemsize, 2**power)]
    assert len(fitting) >= 4
    for memory in fitting:
        assert peak_beside_result(by_loops, *arguments, memory, enough=memory)[1] <= memory


def test_nothing_beside_the_gradient_is_read():
    for geometry, shape, outputs in NAMED:
        ranks = tuple(min(length, 4) for length in shape)
        core, factors, grad_output, _ = operands((geometry, shape, outputs, ranks), np.float64)
        surrounded = np.full(grad_output.size + 200, np.nan)
        surrounded[100:-100] = grad_output.reshape(-1)
        inside = surrounded[100:-100].reshape(grad_output.shape)
        inside.flags.writeable = False
        assert_same_bits(by_loops(core, factors, inside, geometry), by_loops(core, factors, grad_output, geometry))


def test_infinities_reach_their_own_out_channel_alone():
    core, factors, grad_output, geometry = operands(
        (ConvGeometry.of(3, padding=1), (5, 4, 9, 9), 11, (3, 2, 4, 4)), float
    )
    expected = by_loops(core, factors, grad_output, geometry)
    grad_output[2, 7, 3, 3] = np.inf
    found = by_loops(core, factors, grad_output, geometry)
    assert not np.isfinite(found[7]).all()
    others = np.arange(11) != 7
    assert_same_bits(found[others], expected[others])


# what they are for


def test_what_the_loops_are_not_for():
    layer, core, factors = compressed(np.float32)
    sizes = contraction.contraction_sizes(core, factors, layer.grad_output, layer.geometry)
    plan = best_plan(sizes, 4)
    assert projected.applies(sizes, plan, 4)
    identity = contraction.contraction_sizes(core, [None, *factors[1:]], layer.grad_output, layer.geometry)
    transposed = layer.grad_output.transpose(0, 1, 3, 2)
    for other in (
        identity,
        contraction.contraction_sizes(core, factors, transposed, layer.geometry),
        Sizes.of((64, 50, 48), (8, 8, 8), 48),
        Sizes.of((2, 3, 8, 8), (1, 2, 3, 3), 8, ConvGeometry.of(3)),
        Sizes.of((64, 16, 32, 32), (64, 16, 32, 32), 16, ConvGeometry.of(3)),  # nothing is gained by projecting G
    ):
        assert not projected.applies(other, best_plan(other, 4), 4), f"{other}"


def test_the_JIT_is_needed(monkeypatch):
    layer, core, factors = compressed(np.float64)
    sizes = contraction.contraction_sizes(core, factors, layer.grad_output, layer.geometry)
    assert projected.applies(sizes, best_plan(sizes, 8), 8)
    with_jit = contraction.factored_weight_gradient(core, factors, layer.grad_output, layer.geometry)
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not projected.applies(sizes, best_plan(sizes, 8), 8)
    without = contraction.factored_weight_gradient(core, factors, layer.grad_output, layer.geometry)
    assert_within(with_jit, without, allowed_between_two(layer, core, factors))


def test_a_quarter_of_the_activation_is_enough_for_the_layers_that_are_timed():
    sizes = Sizes.of((64, 512, 7, 7), (22, 65, 3, 3), 512, ConvGeometry.of(3, padding=1))
    memory = memory_of(4 * math.prod(sizes.shape))
    assert projected._Cut.of(sizes, 4, memory) is not None
