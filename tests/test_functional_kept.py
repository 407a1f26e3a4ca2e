"""What the functions of networks keep for backward: no more than they need, and all of it counted (T10)."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from refgrad import functional
from refgrad.storage import HOSVD, SVD, Exact
from refgrad.storage.base import owner
from refgrad.tape import Tape
from tests.assertions import assert_same_bits

DTYPES = (np.float32, np.float64)


def normal(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_each_function_keeps_no_more_than_its_gradient_needs():
    x = normal((3, 4, 9, 8), np.float32)
    labels = np.zeros((3, 9, 8), dtype=int)
    mean, variance = np.zeros(4, np.float32), np.ones(4, np.float32)
    weight, bias = np.ones(4, np.float32), np.zeros(4, np.float32)
    generator = np.random.default_rng(0)
    bits = -(-x.size // 8)
    kept = {
        "relu": (functional.relu, bits),
        "dropout": (lambda t: functional.dropout(t, generator=generator, training=True), bits),
        "max_pool2d": (lambda t: functional.max_pool2d(t, 3, 1), 3 * 4 * 7 * 6),
        "max_pool2d of 272 taps": (lambda t: functional.max_pool2d(t, (16, 17), 20, (8, 8)), 3 * 4 * 2),
        "adaptive_max_pool2d": (lambda t: functional.adaptive_max_pool2d(t, 2), 3 * 4 * 4),
        "avg_pool2d": (lambda t: functional.avg_pool2d(t, 2), 0),
        "adaptive_avg_pool2d": (lambda t: functional.adaptive_avg_pool2d(t, 2), 0),
        "sigmoid": (functional.sigmoid, x.nbytes),
        "tanh": (functional.tanh, x.nbytes),
        "gelu": (functional.gelu, x.nbytes),
        "softmax": (lambda t: functional.softmax(t, 1), x.nbytes),
        "log_softmax": (lambda t: functional.log_softmax(t, 1), x.nbytes),
        "cross_entropy": (lambda t: functional.cross_entropy(t, labels), x.nbytes + labels.size),
        "mse_loss": (lambda t: functional.mse_loss(t, x), x.nbytes),
        "batch_norm": (lambda t: functional.batch_norm(t, weight, bias, None, None, training=True), x.nbytes + 2 * 16),
        "batch_norm evaluation": (
            lambda t: functional.batch_norm(t, weight, bias, mean, variance, training=False),
            2 * 16,
        ),
        "layer_norm": (lambda t: functional.layer_norm(t, 8), x.nbytes + 3 * 4 * 9 * 4),
        "flatten": (functional.flatten, 0),
    }
    for name, (function, nbytes) in kept.items():
        with Tape() as tape:
            output = function(tape.watch(x))
        assert tape.records[output.index].nbytes == nbytes, name


def test_a_layer_keeps_its_input_for_the_weight_and_its_weight_for_the_input():
    x, weight, bias = normal((2, 3, 5, 5)), normal((4, 3, 3, 3)), normal(4)
    rows, matrix = normal((5, 3)), normal((2, 3))
    for function, (a, w, b) in ((functional.conv2d, (x, weight, bias)), (functional.linear, (rows, matrix, bias[:2]))):
        with Tape() as tape:
            only_x = tape.records[function(tape.watch(a), w, b).index].saved
            only_weight = tape.records[function(a, tape.watch(w), b).index].saved
            only_bias = tape.records[function(a, w, tape.watch(b)).index].saved
            both = tape.records[function(tape.watch(a), tape.watch(w), None).index].saved
        assert only_x.activation is None
        assert_same_bits(only_x.weight, w)
        assert only_weight.weight is None
        assert_same_bits(only_weight.activation.stored.reconstruct(), a)
        assert only_bias.activation is None
        assert only_bias.weight is None
        assert both.activation is not None
        assert both.weight is not None


def test_a_normalisation_keeps_only_what_the_wanted_gradients_need():
    x, weight, bias = normal((4, 3, 2, 2)), normal(3), normal(3)
    with Tape() as tape:
        only_bias = functional.batch_norm(x, weight, tape.watch(bias), None, None, training=True)
        only_weight = functional.batch_norm(x, tape.watch(weight), bias, None, None, training=True)
        plain = functional.batch_norm(tape.watch(x), None, None, None, None, training=True)
    assert tape.records[only_bias.index].nbytes == 0
    assert tape.records[only_weight.index].nbytes == x.nbytes
    assert tape.records[plain.index].nbytes == x.nbytes + 3 * 8
    # Without weight and bias the normalised values are the output: they are shared with it, not copied.
    assert owner(plain.value) is owner(tape.records[plain.index].saved.normalised)


def small_net(x, w1, b1, w2, b2, w3, b3, *, stores=(None, None, None)):
    """A grouped and strided convolution, normalisation, pooling and a linear layer."""
    h = functional.conv2d(x, w1, b1, padding=1, store=stores[0])
    h = functional.max_pool2d(functional.relu(functional.batch_norm(h, None, None, None, None, training=True)), 2)
    h = functional.conv2d(h, w2, b2, stride=2, padding=((1, 0), (0, 1)), groups=2, store=stores[1])
    h = functional.flatten(functional.gelu(functional.avg_pool2d(h, 2, 1)))
    return functional.linear(h, w3, b3, store=stores[2])


def net_arrays(dtype=np.float64):
    shapes = [(6, 3, 8, 8), (4, 3, 3, 3), (4,), (4, 2, 2, 2), (4,), (5, 4), (5,)]
    return [normal(shape, dtype, seed) for seed, shape in enumerate(shapes)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("store", [HOSVD(explained_variance=0.7), SVD(explained_variance=0.7)], ids=["hosvd", "svd"])
def test_T10_compression_changes_the_weight_gradients_and_not_one_bit_of_anything_else(store, dtype):
    arrays, labels = net_arrays(dtype), np.arange(6) % 5
    losses, gradients, upstream = [], [], []
    for storage in (Exact(), store):
        seen = []
        with Tape(store=storage) as tape:
            tensors = [tape.watch(array) for array in arrays]
            loss = functional.cross_entropy(small_net(*tensors), labels)
        gradients.append(tape.gradient(loss, tensors, observe=lambda record, g, seen=seen: seen.append(g.copy())))
        losses.append(loss.value)
        upstream.append(seen)
    assert_same_bits(losses[0], losses[1])
    assert len(upstream[0]) == len(upstream[1]) == 3
    for exact, compressed in zip(*upstream, strict=True):
        assert_same_bits(compressed, exact, "grad_output of a layer")
    names = ["x", "w1", "b1", "w2", "b2", "w3", "b3"]
    for name, exact, compressed in zip(names, *gradients, strict=True):
        if name.startswith("w"):
            assert not np.array_equal(exact, compressed), f"{name}: nothing was compressed"
        else:
            assert_same_bits(compressed, exact, name)


def test_each_layer_may_have_a_storage_of_its_own():
    stores = (HOSVD(explained_variance=0.8), None, SVD(explained_variance=0.9))
    with Tape() as tape:
        small_net(*[tape.watch(array) for array in net_arrays()], stores=stores)
    names = [r.kept_activation.storage.name for r in tape.records if r.kept_activation is not None]
    assert names == ["hosvd", "exact", "svd"]


@pytest.mark.parametrize(
    ("store", "alive"), [(HOSVD(explained_variance=0.8), False), (Exact(), True)], ids=["hosvd", "exact"]
)
def test_the_dense_input_of_a_compressed_layer_dies(store, alive):
    with Tape(store=store) as tape:
        h = functional.relu(tape.watch(normal((4, 3, 6, 6))))
        dense = weakref.ref(owner(h.value))
        y = functional.conv2d(h, tape.watch(normal((2, 3, 3, 3))), None)
        del h
        gc.collect()
        assert (dense() is not None) == alive
    assert y.shape == (4, 2, 4, 4)


@pytest.mark.parametrize(
    "store", [Exact(), HOSVD(explained_variance=0.8), SVD(explained_variance=0.8)], ids=lambda s: s.name
)
def test_the_bytes_that_a_network_keeps_are_those_that_a_memory_tracer_sees(store):
    arrays, labels = net_arrays(np.float32), np.arange(6) % 5
    with Tape(store=store) as tape:  # what is cached or compiled once shall not count
        functional.cross_entropy(small_net(*[tape.watch(array) for array in arrays]), labels)
    del tape
    gc.collect()
    only_arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    tracemalloc.start()
    try:
        with Tape(store=store) as tape:
            functional.cross_entropy(small_net(*[tape.watch(array) for array in arrays]), labels)
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces([only_arrays])
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in snapshot.traces) == tape.nbytes > 0
