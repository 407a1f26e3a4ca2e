"""The tape: what it records, what it keeps, what it refuses."""

import gc
import time
import tracemalloc
import weakref
from collections import namedtuple
from dataclasses import dataclass, field, make_dataclass
from typing import ClassVar

import numpy as np
import pytest

from refgrad.storage.base import Storage, adopt
from refgrad.tape import (
    CONSTANT,
    BitMask,
    KeptActivation,
    Primitive,
    Tape,
    Tensor,
    map_structure,
    value_and_grad,
)
from tests.assertions import assert_same_bits


@dataclass(frozen=True, eq=False)
class Rounded:
    """A toy stored activation: float32 values rounded to halves, in int8."""

    halves: np.ndarray
    dtype: np.dtype
    multilinear_rank: tuple | None = (1, 2)

    @property
    def shape(self):
        return self.halves.shape

    @property
    def nbytes(self):
        return self.halves.nbytes

    @property
    def stored_numbers(self):
        return self.halves.size

    def reconstruct(self):
        return self.halves.astype(self.dtype) / 2


@dataclass(frozen=True)
class Coarse(Storage):
    """A storage that loses much: T10 says that only dW may notice."""

    name: ClassVar[str] = "coarse"

    def store(self, activation):
        return Rounded(adopt(np.round(2 * activation).astype(np.int8)), activation.dtype)

    def restore(self, stored):
        return stored.reconstruct()

    def weight_gradient(self, stored, grad_output, geometry=None):
        assert geometry is None
        return grad_output.T @ stored.reconstruct()


@dataclass(frozen=True, eq=False)
class LinearSaved:
    activation: KeptActivation | None
    weight: np.ndarray | None


def _linear(keeper, x, weight, bias):
    activation = keeper.store(x) if "weight" in keeper.needs else None
    kept = keeper.keep(weight) if "x" in keeper.needs else None
    return x @ weight.T + bias, LinearSaved(activation, kept) if keeper.needs else None


linear = Primitive(
    "linear",
    _linear,
    {
        "x": lambda saved, g: g @ saved.weight,
        "weight": lambda saved, g: saved.activation.weight_gradient(g),
        "bias": lambda saved, g: g.sum(axis=0),
    },
)


@dataclass(frozen=True, eq=False)
class Saved:
    """Whatever a primitive of these tests keeps."""

    thing: object = None


def identity(keeper, x):
    return x + 0, None


def numpy_bytes():
    """What the memory tracer says that NumPy holds; nothing waits for the garbage collector."""
    snapshot = tracemalloc.take_snapshot()
    snapshot = snapshot.filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    return sum(trace.size for trace in snapshot.traces)


@pytest.fixture
def tape():
    with Tape() as tape:
        yield tape


@pytest.fixture
def x(tape):
    return tape.watch(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), name="x")


# what a tape computes


def test_a_gradient_in_the_words_of_the_readme():
    with Tape() as tape:
        w = tape.watch(np.array([1.0, 2.0]))
        loss = np.mean((w * 3.0 - 1.0) ** 2)
    assert loss.value == 14.5
    assert_same_bits(tape.gradient(loss, w), np.array([6.0, 15.0]))


def test_gradients_come_back_in_the_structure_of_the_sources(tape):
    Pair = namedtuple("Pair", "first second")
    a, b, c = (tape.watch(np.full(2, value)) for value in (2.0, 3.0, 5.0))
    loss = np.sum(a * b)
    gradients = tape.gradient(loss, {"ab": [a, (b,)], "pair": Pair(c, a), "none": []})
    assert isinstance(gradients["ab"][1], tuple)
    assert isinstance(gradients["pair"], Pair)
    assert gradients["none"] == []
    assert_same_bits(gradients["ab"][0], np.full(2, 3.0))
    assert_same_bits(gradients["ab"][1][0], np.full(2, 2.0))
    assert_same_bits(gradients["pair"].first, np.zeros(2))


def test_gradients_are_the_callers_own(tape, x):
    y = x + x  # both gradients are the same array inside
    z = x * 1.0
    first, second, third, again = tape.gradient(np.sum(y + z), [x, y, z, y])
    for gradient in (first, second, third, again):
        assert gradient.flags.writeable
        assert gradient.flags.owndata
    second[...] = 77.0
    assert_same_bits(first, np.full((2, 3), 3.0))
    assert_same_bits(again, np.ones((2, 3)))
    assert_same_bits(third, np.ones((2, 3)))


def test_gradient_of_a_target_with_respect_to_itself_and_between_two_steps(tape, x):
    y = x * 2.0
    loss = np.sum(y * y)
    gradients = tape.gradient(loss, [loss, y, x])
    assert_same_bits(gradients[0], np.array(1.0))
    assert_same_bits(gradients[1], 2 * y.value)
    assert_same_bits(gradients[2], 4 * y.value)


def test_what_comes_after_the_target_or_does_not_lead_to_it_counts_for_nothing(tape, x):
    loss = np.sum(x)
    after = np.sum(loss * x)
    other = tape.watch(np.ones(3))
    assert after.shape == ()
    gradients = tape.gradient(loss, {"x": x, "other": other, "after": after})
    assert_same_bits(gradients["x"], np.ones((2, 3)))
    assert_same_bits(gradients["other"], np.zeros(3))
    assert_same_bits(gradients["after"], np.array(0.0))
    assert tape.nbytes == 0


def test_vjps_that_lead_to_no_source_are_not_called(tape, x):
    def forbidden(saved, grad_output):
        raise AssertionError("called")

    def forward(keeper, x, other):
        return x + other, None

    dead_end = Primitive("dead_end", identity, {"x": forbidden})
    half = Primitive("half", forward, {"x": lambda saved, g: g, "other": forbidden})
    other = tape.watch(np.ones((2, 3)))
    assert_same_bits(tape.gradient(np.sum(dead_end(other) * half(x, other)), x), np.ones((2, 3)))


def chain(length):
    """A tape of `length` operations in a row, its first tensor and its last."""
    with Tape() as tape:
        first = y = tape.watch(np.array([1.0]))
        for _ in range(length // 2):
            y = -(y + 1.0)
    return tape, first, y


def test_a_chain_of_ten_thousand_operations():
    tape, first, last = chain(10_000)
    assert len(tape.records) == 10_001
    assert_same_bits(tape.gradient(last, first), np.array([1.0]))


def test_the_time_of_a_chain_grows_with_its_length_and_no_faster():
    def seconds(length):
        start = time.process_time()
        tape, first, last = chain(length)
        tape.gradient(last, first)
        return time.process_time() - start

    seconds(100)
    short = seconds(250)
    assert seconds(2000) < 3 * 8 * short, "8 times as many operations take 8 times as long, and not 64"


def test_fan_out_adds_up(tape):
    y = tape.watch(np.array([3.0]))
    total = y * 0.0
    for i in range(1000):
        total = total + y * float(i)
    assert_same_bits(tape.gradient(np.sum(total), y), np.array([999.0 * 500.0]))


def test_doubling_sixty_times_takes_sixty_records(tape):
    first = y = tape.watch(np.array(1.0))
    for _ in range(60):
        y = y + y
    assert_same_bits(tape.gradient(y, first), np.array(2.0**60))
    assert len(tape) == 61


def test_a_sum_of_gradients_is_never_made_inside_an_array_that_somebody_else_holds(tape, x):
    handed_out = []

    def greedy_vjp(saved, grad_output):
        handed_out.append(np.full((2, 3), 7.0))
        return handed_out[-1]

    greedy = Primitive("greedy", identity, {"x": greedy_vjp})
    gradient = tape.gradient(np.sum(greedy(x) + greedy(x) + greedy(x)), x)
    assert_same_bits(gradient, np.full((2, 3), 21.0))
    for array in handed_out:
        assert_same_bits(array, np.full((2, 3), 7.0))


def test_a_vjp_cannot_write_into_the_gradient_of_the_output(tape, x):
    def writing(saved, grad_output):
        grad_output *= 2
        return grad_output

    with pytest.raises(ValueError, match="read-only") as caught:
        tape.gradient(np.sum(Primitive("writing", identity, {"x": writing})(x)), x)
    assert caught.value.__notes__ == ["raised by the VJP of writing (record 1) for x"]


def test_observe_sees_every_layer_that_kept_its_input_before_it_is_let_go():
    seen = []
    with Tape(store=Coarse()) as tape:
        w, b = tape.watch(np.ones((2, 3)), name="w"), tape.watch(np.zeros(2))
        hidden = linear(np.ones((4, 3)), w, b)
        loss = np.sum(linear(np.tanh(hidden), w[:, :2], b))

    def observe(record, grad_output):
        seen.append((record.index, record.operation, grad_output.shape, record.kept_activation.nbytes))
        with pytest.raises(ValueError, match="read-only"):
            grad_output += 1

    tape.gradient(loss, [w, b], observe=observe)
    assert seen == [(5, "linear", (4, 2), 8), (2, "linear", (4, 2), 12)]
    assert tape.records[2].kept_activation is None


# T10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_T10_only_the_weight_gradient_sees_the_storage(dtype):
    generator = np.random.default_rng(3)
    arrays = [generator.standard_normal(shape).astype(dtype) for shape in ((8, 5), (6, 5), (6,), (4, 6), (4,))]

    def run(**store):
        with Tape(**store) as tape:
            x, *parameters = (tape.watch(array) for array in arrays)
            hidden = linear(x, *parameters[:2])
            active = np.maximum(hidden, 0)
            out = linear(active, *parameters[2:])
            loss = np.mean(np.square(out))
        names = ("x", "weight", "bias", "weight 2", "bias 2", "hidden", "active", "out")
        return loss, tape.gradient(loss, dict(zip(names, (x, *parameters, hidden, active, out), strict=True)))

    exact_loss, exact = run()
    coarse_loss, coarse = run(store=Coarse())
    assert_same_bits(coarse_loss.value, exact_loss.value)
    for name in exact:
        if name.startswith("weight"):
            assert (coarse[name] != exact[name]).any()
        else:
            assert_same_bits(coarse[name], exact[name], name)


def test_a_layer_can_override_the_storage_of_the_tape():
    weight, bias, x = np.ones((2, 3)), np.zeros(2), np.full((4, 3), 0.3)
    with Tape() as tape:
        w = tape.watch(weight)
        linear(x, w, bias, store=Coarse())
        linear(x, w, bias)
    assert [item.how for record in tape.records for item in record.kept] == ["coarse", "exact"]
    with pytest.raises(TypeError, match=r"store must be a Storage such as Exact\(\) or HOSVD\(.*\), got 'hosvd'"):
        linear(x, w, bias, store="hosvd")
    with pytest.raises(TypeError, match=r"store must be a Storage such as .*, got <class '.*Coarse'>"):
        Tape(store=Coarse)


# what a tape keeps


def test_nothing_is_kept_without_a_tensor():
    kept = []

    def spying(keeper, x):
        kept.append(keeper.needs)
        return x * 2, None

    double = Primitive("double", spying, {"x": lambda saved, g: 2 * g})
    assert_same_bits(double(np.ones(2)), np.full(2, 2.0))
    assert kept == [frozenset()]


@pytest.mark.parametrize("method", ["keep", "store"])
def test_keeping_where_nothing_needs_a_gradient_is_an_error(method):
    def wasteful(keeper, x):
        return x, Saved(getattr(keeper, method)(x))

    with pytest.raises(
        RuntimeError, match=rf"keeper\.{method} was called though no argument needs a gradient; ask `if"
    ):
        Primitive("wasteful", wasteful, {"x": CONSTANT})(np.ones(2))


def test_needs_any_names_entries_of_a_variadic_argument(tape, x):
    seen = {}

    def joining(keeper, *arrays):
        seen.update(
            needs=keeper.needs,
            arrays=keeper.needs_any("arrays"),
            x=keeper.needs_any("x"),
            array=keeper.needs_any("array"),
        )
        return sum(arrays), None

    join = Primitive("join", joining, {"arrays": lambda saved, g, index: g * (index + 1)})
    gradient = tape.gradient(np.sum(join(np.ones((2, 3)), x, x)), x)
    assert seen == {"needs": {"arrays[1]", "arrays[2]"}, "arrays": True, "x": False, "array": False}
    assert_same_bits(gradient, np.full((2, 3), 5.0))


def test_an_argument_may_be_left_out(tape, x):
    def forward(keeper, x, bias=None):
        return (x if bias is None else x + bias), None

    add = Primitive("add", forward, {"x": lambda saved, g: g, "bias": lambda saved, g: g})
    assert tape.records[add(x).index].parents == (0,)
    assert tape.records[add(x, None).index].parents == (0, None)


def test_changing_an_array_in_place_afterwards_changes_nothing():
    weight, factor = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    with Tape() as tape:
        w = tape.watch(weight)
        loss = np.sum(np.exp(w) * factor)
        weight[...] = 99.0
        factor[...] = 99.0
    assert_same_bits(tape.gradient(loss, w), np.exp([1.0, 2.0]) * [3.0, 4.0])


def test_an_output_that_looks_at_the_callers_array_is_copied(tape, x):
    plain = np.ones((2, 3))

    def passing(keeper, x, other):
        return other, None

    second = Primitive("second", passing, {"x": CONSTANT, "other": CONSTANT})
    viewing = Primitive("viewing", lambda keeper, x, other: (other[:1], None), {"x": lambda s, g: g, "other": CONSTANT})
    assert second(plain, plain) is plain
    out = viewing(x, plain)
    plain[...] = 5.0
    assert plain.flags.writeable
    assert_same_bits(out.value, np.ones((1, 3)))


def test_the_values_of_a_tensor_cannot_be_written_to(tape, x):
    for tensor in (x, x * 2.0, x[0], x.T, np.broadcast_to(x, (4, 2, 3))):
        with pytest.raises(ValueError, match="read-only"):
            tensor.value[...] = 1.0
        with pytest.raises(ValueError, match="WRITEABLE"):
            tensor.value.flags.writeable = True
    with pytest.raises(AttributeError, match="value"):
        x.value = np.zeros((2, 3))


def test_a_dense_value_dies_unless_it_is_kept(tape):
    first = tape.watch(np.ones((50, 50)))
    dying = first + 1.0
    kept = np.exp(dying)  # keeps its output
    squared = kept + 3.0
    alive = [
        weakref.ref(tensor.value.base if tensor.value.base is not None else tensor.value)
        for tensor in (first, dying, kept, squared)
    ]
    loss = np.sum(squared * 2.0)
    del dying, kept, squared
    gc.collect()
    assert [reference() is not None for reference in alive] == [True, False, True, False]
    assert tape.nbytes == 50 * 50 * 8
    tape.gradient(loss, first)
    del first, loss
    gc.collect()
    assert [reference() is not None for reference in alive] == [False, False, False, False]


def test_only_what_the_gradients_use_is_kept(tape, x):
    def bytes_of(make):
        before = tape.nbytes
        make()
        return tape.nbytes - before

    constant = np.full((2, 3), 2.0)
    assert bytes_of(lambda: x + constant) == 0
    assert bytes_of(lambda: x * 2.0) == 0
    assert bytes_of(lambda: x * constant) == constant.nbytes
    assert bytes_of(lambda: x @ constant.T) == constant.nbytes
    assert bytes_of(lambda: constant / x) == 2 * constant.nbytes
    assert bytes_of(lambda: np.log(x)) == 0, "x is held already"
    assert bytes_of(lambda: np.maximum(x, 0)) == 1, "six bits"
    assert bytes_of(lambda: np.where(constant > 1, x, 0)) == 1
    assert bytes_of(lambda: np.sum(x, axis=1)) == 0
    assert bytes_of(lambda: np.concatenate([x, constant])) == 0
    assert bytes_of(lambda: np.einsum("ij,kj", x, constant)) == constant.nbytes


@pytest.mark.parametrize("store", [None, Coarse()])
def test_nbytes_is_what_a_memory_tracer_sees(store):
    generator = np.random.default_rng(0)
    images, weight, bias = generator.random((64, 30)), generator.random((20, 30)), generator.random(20)
    mask = generator.random((64, 20)) > 0.5
    arguments = {} if store is None else {"store": store}

    def forward(tape):
        w, b = tape.watch(weight), tape.watch(bias)
        hidden = np.maximum(linear(images, w, b), 0)
        hidden = np.where(mask, hidden, 0) * 2.0
        normed = (hidden - hidden.mean(axis=0)) / (hidden.std(axis=0) + 1.0)
        picked = normed[np.array([0, 0, 5, 7])] + normed[1:5][::2].sum(axis=0)
        logits = np.concatenate([picked, np.tanh(normed)])
        return np.sum(np.logaddexp(logits, 0.0) ** 2) + np.sum(np.einsum("ij,kj->ik", normed, w[:, :20]))

    with Tape(**arguments) as warm:  # whatever NumPy caches is cached
        forward(warm)
    del warm
    tracemalloc.start()
    try:
        before = numpy_bytes()
        with Tape(**arguments) as tape:
            loss = forward(tape)
        held_with_loss = numpy_bytes() - before
        del loss
        held = numpy_bytes() - before
        summary = sum(item.nbytes for record in tape.records for item in record.kept)
    finally:
        tracemalloc.stop()
    assert held == tape.nbytes == summary
    assert held_with_loss == held + 8
    assert tape.nbytes > images.nbytes // 8


def test_bit_masks_survive_packing():
    generator = np.random.default_rng(1)
    for shape in [(), (1,), (7,), (8,), (3, 5, 2), (0,), (4, 0)]:
        mask = generator.random(shape) > 0.5
        packed = BitMask.pack(mask)
        assert packed.nbytes == (mask.size + 7) // 8
        assert_same_bits(packed.unpack(), mask)


@pytest.mark.parametrize(
    "saved", [(1, 2), [np.zeros(3)], lambda: 0, make_dataclass("Thawed", [("x", object)])(None), Saved]
)
def test_saved_must_be_a_frozen_dataclass(tape, x, saved):
    careless = Primitive("careless", lambda keeper, x: (x, saved), {"x": lambda s, g: g})
    with pytest.raises(
        TypeError, match=r"the forward pass of careless must return \(output, saved\) with saved a frozen"
    ):
        careless(x)


@pytest.mark.parametrize("thing", [lambda: 0, {1, 2}, object(), {"key": [object()]}, iter([])])
def test_saved_must_be_countable(tape, x, thing):
    hiding = Primitive("hiding", lambda keeper, x: (x, Saved(thing)), {"x": lambda s, g: g})
    with pytest.raises(TypeError, match=r"saved\.thing.* of hiding is a \w+, whose memory cannot be counted"):
        hiding(x)
    assert len(tape.records) == 1, "nothing was recorded"


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: (a,), lambda a: {"k": a}, Saved, lambda a: BitMask(a, (2, 3))])
def test_saved_must_not_be_writeable(tape, x, wrap):
    loose = Primitive("loose", lambda keeper, x: (x, Saved(wrap(np.zeros((2, 3), np.uint8)))), {"x": lambda s, g: g})
    with pytest.raises(TypeError, match=r"saved\.thing.* of loose is an array that can still be written to; pass it"):
        loose(x)


def test_saved_may_nest_and_hold_plain_values(tape, x):
    @dataclass(frozen=True)
    class Deep:
        arrays: tuple = ()
        by_name: dict = field(default_factory=dict)
        inner: Saved | None = None
        plain: tuple = (1, 2.5, "text", None, ..., slice(1), np.float32(2), np.dtype("f8"), Coarse(), (3, (4,)))

    def forward(keeper, x):
        one = keeper.keep(np.ones(5))
        return x + 0, Deep(
            (one, one[:2], keeper.keep(np.ones(3), own=True)), {"b": BitMask.pack(np.ones(9))}, Saved(one)
        )

    out = Primitive("deep", forward, {"x": lambda s, g: g})(x)
    kept = tape.records[out.index].kept
    assert [(item.name, item.how, item.nbytes, item.shared) for item in kept] == [
        ("arrays[0]", "array", 40, False),
        ("arrays[1]", "array", 0, True),
        ("arrays[2]", "array", 24, False),
        ("by_name['b']", "bits", 2, False),
        ("inner.thing", "array", 0, True),
    ]
    assert tape.nbytes == tape.records[out.index].nbytes == 66


# what a tape prints


def test_print_shows_a_table():
    with Tape(store=Coarse()) as tape:
        w, b = tape.watch(np.ones((2, 3)), name="weight"), tape.watch(np.zeros(2), name="bias")
        hidden = linear(np.ones((4, 3)), w, b)
        active = np.maximum(hidden, 0)
        loss = np.mean(active * active)
    expected = """\
#  operation     output  keeps       how     ranks   bytes  dense bytes  compression
-  ------------  ------  ----------  ------  ------  -----  -----------  -----------
0  watch weight  (2, 3)
1  watch bias    (2,)
2  linear        (4, 2)  activation  coarse  (1, 2)     12           96          8.0
3  maximum       (4, 2)  first       bits                1           64         64.0
4  multiply      (4, 2)  x1          array              64           64          1.0
                         x2          array               0           64       shared
5  mean          ()
6 records keep 77 bytes, 2.9 times fewer than dense"""
    assert str(tape) == expected
    assert repr(tape) == "<Tape of 6 records, closed, holds 77 bytes, store=Coarse()>"
    tape.gradient(loss, w)
    assert str(tape) == expected, "the table stays when what was kept is let go"
    assert repr(tape) == "<Tape of 6 records, consumed, holds 0 bytes, store=Coarse()>"


def test_a_long_table_leaves_out_the_middle():
    with Tape() as tape:
        y = tape.watch(np.array(1.0))
        for _ in range(99):
            y = y + 1.0
    lines = str(tape).splitlines()
    assert len(lines) == 2 + 60 + 1 + 1
    assert lines[42] == "... 40 more records; tape.table(rows=None) shows all"
    assert lines[41].split()[0] == "39"
    assert lines[43].split()[0] == "80"
    assert lines[-1] == "100 records keep 0 bytes"
    everything = tape.table(rows=None).splitlines()
    assert [int(line.split()[0]) for line in everything[2:-1]] == list(range(100))
    assert len(tape.table(rows=100).splitlines()) == len(everything)
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        tape.table(rows=0)
    assert tape.table(rows=1).splitlines()[3] == "... 99 more records; tape.table(rows=None) shows all"


def test_an_empty_tape_prints_a_heading():
    assert str(Tape()).splitlines()[-1] == "0 records keep 0 bytes"


# what a tape refuses


def test_a_consumed_tape_says_so(tape, x):
    loss = np.sum(x)
    tape.gradient(loss, x)
    with pytest.raises(
        RuntimeError, match=r"this tape is consumed: gradient\(\) works once, .* ask for all sources in one call"
    ):
        tape.gradient(loss, x)
    with pytest.raises(
        RuntimeError, match="sum cannot be recorded: this tape is consumed, its gradient has been taken"
    ):
        np.sum(x)
    with pytest.raises(RuntimeError, match="watch cannot be recorded: this tape is consumed"):
        tape.watch(np.ones(2))


def test_a_closed_tape_says_so():
    with Tape() as tape:
        t = tape.watch(np.ones(2))
    with pytest.raises(
        RuntimeError, match=r"multiply cannot be recorded: this tape is closed, its with-block has ended"
    ):
        t * 2.0
    with pytest.raises(RuntimeError, match="watch cannot be recorded: this tape is closed"):
        tape.watch(np.ones(2))
    with pytest.raises(
        RuntimeError, match=r"a Tape records one forward pass and cannot be entered again; make a new one"
    ):
        tape.__enter__()
    assert (t.value == 1.0).all()


def test_a_tape_works_without_a_with_block_but_cannot_be_entered_late():
    tape = Tape()
    t = tape.watch(np.ones(2))
    with pytest.raises(RuntimeError, match="cannot be entered again"):
        tape.__enter__()
    assert_same_bits(tape.gradient(np.sum(t * 3.0), t), np.full(2, 3.0))


def test_a_tape_is_closed_by_an_exception_too():
    tape = Tape()

    def fail():
        with tape:
            tensors.append(tape.watch(np.ones(2)))
            raise ZeroDivisionError

    tensors = []
    with pytest.raises(ZeroDivisionError):
        fail()
    t = tensors[0]
    with pytest.raises(RuntimeError, match="this tape is closed"):
        np.sum(t)


def test_bad_sources_and_targets(tape, x):
    with Tape() as other:
        foreign = np.sum(other.watch(np.ones(2)))
    loss = np.sum(x)
    array = np.ones(2)
    with pytest.raises(
        TypeError, match=r"target must be a Tensor of this tape, got float; compute it inside the with-block"
    ):
        tape.gradient(3.0, x)
    with pytest.raises(ValueError, match="target belongs to another tape; ask that one for its gradient"):
        tape.gradient(foreign, x)
    with pytest.raises(ValueError, match=r"target must be a scalar \(size 1\), got shape \(2, 3\); reduce it first"):
        tape.gradient(x, x)
    with pytest.raises(TypeError, match=r"sources must be a Tensor of this tape, got ndarray; watch the array first"):
        tape.gradient(loss, array)
    with pytest.raises(TypeError, match=r"sources\['w'\]\[1\] must be a Tensor of this tape, got ndarray"):
        tape.gradient(loss, {"w": [x, array]})
    with pytest.raises(ValueError, match=r"sources\[1\] belongs to another tape"):
        tape.gradient(loss, (x, foreign))
    assert_same_bits(tape.gradient(loss, x), np.ones((2, 3)))  # none of that consumed it


def test_mixed_tapes_are_refused(tape, x):
    with Tape() as other:
        y = other.watch(np.ones((2, 3)))
        with pytest.raises(
            ValueError, match=r"add was given tensors of two tapes; .* Watch both arrays on one tape, or pass \.value"
        ):
            x + y


def test_tapes_do_not_nest(tape, x):
    with Tape() as inner, pytest.raises(TypeError, match=r"x is a Tensor already, and tapes do not nest: .* x\.value"):
        inner.watch(x, name="x")
    gradient_norm = value_and_grad(lambda w: np.sum(value_and_grad(lambda v: np.sum(v * v))(w)[1] ** 2))
    with pytest.raises(TypeError, match=r"params is a Tensor already, and tapes do not nest: .* no second derivatives"):
        gradient_norm(np.ones(2))


def test_watch_takes_float_arrays_only(tape):
    with pytest.raises(TypeError, match="labels must be a float32 or float64 NumPy array, got an array of dtype int64"):
        tape.watch(np.arange(3), name="labels")
    with pytest.raises(TypeError, match="array must be a float32 or float64 NumPy array, got float"):
        tape.watch(1.0)
    with pytest.raises(ValueError, match=r"array must not be empty, got shape \(0, 2\)"):
        tape.watch(np.ones((0, 2)))


@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed", "read-only"])
def test_watch_copies_any_layout(tape, layout):
    values = np.arange(12.0).reshape(3, 4)
    arrays = {
        "C": values,
        "F": np.asfortranarray(values),
        "strided": np.repeat(values, 2, axis=1)[:, ::2],
        "reversed": np.ascontiguousarray(values[::-1, ::-1])[::-1, ::-1],
        "read-only": np.array(values),
    }
    array = arrays[layout]
    array.flags.writeable = layout != "read-only"
    t = tape.watch(array)
    assert_same_bits(t.value, values)
    assert not np.shares_memory(t.value, array)
    assert_same_bits(tape.gradient(np.sum(t * values), t), values)


def test_a_vjp_that_returns_the_wrong_shape_or_kind_is_caught(tape, x):
    for name, result in [("wide", np.ones((4, 2, 3))), ("narrow", np.ones(3)), ("whole", np.ones((2, 3), int))]:
        with Tape() as own:
            t = own.watch(x.value)
            loss = np.sum(Primitive(name, identity, {"x": lambda saved, g, result=result: result})(t))
        with pytest.raises(
            RuntimeError,
            match=rf"the VJP of {name} for x must return an array of shape \(2, 3\) and dtype float64, as the argument",
        ):
            own.gradient(loss, t)


def test_a_gradient_has_the_dtype_of_its_argument(tape):
    single, double = tape.watch(np.ones(3, np.float32)), tape.watch(np.full(3, 2.0))
    gradients = tape.gradient(np.sum(single * double), [single, double])
    assert_same_bits(gradients[0], np.full(3, 2.0, np.float32))
    assert_same_bits(gradients[1], np.ones(3))


def test_float32_stays_float32(tape):
    t = tape.watch(np.ones((2, 3), np.float32))
    for result in (
        t * 2.0,
        t + 1,
        t**2,
        np.maximum(t, 0),
        np.mean(t),
        t @ t.T,
        np.where(t > 0, t, 0),
        1 / t,
        t.std(),
        np.clip(t, 0, 1),
    ):
        assert result.dtype == np.float32
    assert t.astype(np.float64).dtype == np.float64


# registration


def test_the_table_of_vjps_must_be_complete():
    def forward(keeper, x, weight, bias=None, *, eps=1e-5):
        raise AssertionError

    def vjp(saved, grad_output):
        raise AssertionError

    Primitive("fine", forward, {"x": vjp, "weight": CONSTANT, "bias": vjp})
    with pytest.raises(
        TypeError,
        match=r"exactly its array arguments \(x, weight, bias\); no VJP for bias, weight: give one, or CONSTANT$",
    ):
        Primitive("short", forward, {"x": vjp})
    with pytest.raises(TypeError, match=r"the VJPs of long must name .*; no such array argument: eps$"):
        Primitive("long", forward, {"x": vjp, "weight": vjp, "bias": vjp, "eps": vjp})
    with pytest.raises(TypeError, match="the VJP of odd for weight must be a function or CONSTANT, got None"):
        Primitive("odd", forward, {"x": vjp, "weight": None, "bias": vjp})


@pytest.mark.parametrize(
    "forward",
    [lambda: 0, lambda keeper: 0, lambda *arrays: 0, lambda keeper, *, x: 0, lambda keeper, x, *arrays: 0],
)
def test_a_forward_pass_takes_a_keeper_and_arrays(forward):
    with pytest.raises(
        TypeError, match="the forward pass of odd must take a keeper and then either array arguments or one"
    ):
        Primitive("odd", forward, {"x": CONSTANT})


def test_a_forward_pass_must_not_take_store():
    with pytest.raises(TypeError, match="the forward pass of odd must not have a parameter `store`"):
        Primitive("odd", lambda keeper, x, *, store: 0, {"x": CONSTANT})


def test_calls_that_do_not_fit(tape, x):
    scale = Primitive(
        "scale", lambda keeper, x, by, *, eps=0: (x * by + eps, None), {"x": lambda s, g: g, "by": CONSTANT}
    )
    with pytest.raises(TypeError, match=r"scale takes 2 array arguments \(x, by\), got 1"):
        scale(x)
    with pytest.raises(TypeError, match=r"scale takes 2 array arguments \(x, by\), got 3"):
        scale(x, x, x)
    with pytest.raises(
        TypeError, match=r"by of scale cannot be differentiated, so it cannot be a Tensor; pass by\.value"
    ):
        scale(x, x)
    with pytest.raises(
        TypeError, match=r"eps of scale cannot be differentiated, so it cannot be a Tensor; pass eps\.value"
    ):
        scale(x, 2.0, eps=x)
    for value, dtype in [(1j, "complex128"), (np.ones(3, np.longdouble), "(longdouble|float128)")]:
        with pytest.raises(
            TypeError, match=rf"scale gives {dtype}, but a tape differentiates float32 and float64 only"
        ):
            scale(x, value)


# Tensor


def test_what_a_tensor_is(tape, x):
    assert (x.shape, x.dtype, x.ndim, x.size, x.nbytes, len(x)) == ((2, 3), np.float64, 2, 6, 48, 2)
    assert repr(x) == "Tensor([[1., 2., 3.],\n        [4., 5., 6.]], 'x', dtype=float64)"
    assert repr(x[0, 0]) == "Tensor(1., 'getitem', dtype=float64)"
    assert x.tape is tape
    assert [row.value.tolist() for row in x] == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(TypeError, match="iteration over a Tensor without axes"):
        iter(x.sum())


def test_a_tensor_of_size_one_is_a_float(tape, x):
    assert float(x[0, 1]) == 2.0
    assert x[1:, 2:].item() == 6.0
    assert isinstance(x[0, 1].item(), float)
    for convert in (float, Tensor.item):
        with pytest.raises(TypeError, match=r"only a Tensor of size 1 can be a float, got shape \(2, 3\); use \.value"):
            convert(x)
    assert bool(x[0, 0])
    with pytest.raises(ValueError, match="truth value"):
        bool(x)


def test_a_tensor_does_not_turn_into_an_array_silently(tape, x):
    array = np.zeros((2, 3))
    for convert in (
        np.asarray,
        np.array,
        lambda t: np.array([t, t]),
        lambda t: np.asarray([t[0, 0], 1.0]),
        lambda t: np.sum([t, t]),
        lambda t: array.__setitem__(slice(None), t),
        lambda t: np.array(t, dtype=np.float32),
    ):
        with pytest.raises(
            TypeError, match=r"a Tensor is not turned into an array silently, .* use \.value .* np\.stack"
        ):
            convert(x)


def test_a_tensor_cannot_be_written_to(tape, x):
    with pytest.raises(TypeError, match=r"a Tensor cannot be written to: .* np\.where or np\.concatenate"):
        x[0] = 1.0
    array = np.zeros((2, 3))
    with pytest.raises(
        TypeError, match=r"np\.add cannot write into `out` when a Tensor takes part; use what it returns"
    ):
        array += x
    with pytest.raises(TypeError, match=r"np\.exp cannot write into `out`"):
        np.exp(x, out=array)
    with pytest.raises(TypeError, match=r"np\.isnan cannot write into `out`"):
        np.isnan(x, out=array)


def test_augmented_assignment_binds_a_new_tensor(tape, x):
    y = x
    y += 1.0
    y -= 3.0
    y *= 2.0
    y /= 4.0
    y **= 2
    z = y
    z @= np.ones((3, 1))
    assert x.value[0, 0] == 1.0
    assert_same_bits(y.value, ((x.value - 2.0) / 2) ** 2)
    assert_same_bits(tape.gradient(np.sum(z), x), (x.value - 2.0) / 2)


def test_comparisons_give_plain_arrays(tape, x):
    for result in (x > 2.0, x == x, x != 2.0, x <= 2.0, np.isfinite(x), np.logical_not(x), np.isclose(x, 1.0)):
        assert isinstance(result, np.ndarray)
        assert result.dtype == bool
    assert x.argmax() == 5
    assert x.argmin(axis=1).tolist() == [0, 0]


def test_objects_of_other_kinds_are_refused(tape, x):
    for other, dtype in [
        (np.array([1, None, "a"], dtype=object), "object"),
        ("text", "<U4"),
        (np.array(["a"]), "<U1"),
        ([None], "object"),
    ]:
        with pytest.raises(
            TypeError,
            match=rf"np\.multiply takes arrays of real numbers when a Tensor takes part, got an array of dtype {dtype}",
        ):
            np.multiply(x, other)
    with pytest.raises(TypeError, match="got an array of dtype complex128"):
        x * 1j
    with pytest.raises(TypeError, match=r"np\.add cannot use a list as an array: "):
        np.add(x, [x[0], [1.0, 2.0]])
    assert_same_bits(np.add(x, [1, 2, 3]).value, x.value + np.array([1, 2, 3]))


def test_hash_is_refused_as_for_arrays(x):
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


# value_and_grad


def test_value_and_grad():
    def loss(params, data, *, power):
        """Say something."""
        return np.sum((params["w"][0] * data) ** power)

    differentiated = value_and_grad(loss)
    value, gradients = differentiated(
        {"w": [np.array([1.0, 2.0])], "unused": (np.ones((2, 2)),)}, np.array([3.0, 4.0]), power=2
    )
    assert value == 73.0
    assert isinstance(value, float)
    assert_same_bits(gradients["w"][0], np.array([18.0, 64.0]))
    assert_same_bits(gradients["unused"][0], np.zeros((2, 2)))
    assert differentiated.__doc__ == "Say something."


def test_value_and_grad_of_one_array():
    value, gradient = value_and_grad(np.mean)(np.ones(4, np.float32))
    assert value == 1.0
    assert_same_bits(gradient, np.full(4, 0.25, np.float32))


def test_value_and_grad_uses_the_storage():
    weight, bias, x = np.ones((2, 3)), np.zeros(2), np.full((4, 3), 0.3)

    def loss(w):
        return np.sum(linear(x, w, bias))

    exact, coarse = value_and_grad(loss)(weight), value_and_grad(loss, store=Coarse())(weight)
    assert exact[0] == coarse[0]
    assert_same_bits(coarse[1], np.full((2, 3), 2.0))
    assert (exact[1] != coarse[1]).all()


def test_value_and_grad_errors():
    with pytest.raises(TypeError, match="function must be callable, got float"):
        value_and_grad(1.0)
    with pytest.raises(
        TypeError, match=r"params\['w'\] must be a float32 or float64 NumPy array, got an array of dtype int64"
    ):
        value_and_grad(lambda p: p)({"w": np.arange(3)})
    with pytest.raises(
        TypeError, match="the function must return a Tensor computed from its first argument, got float64"
    ):
        value_and_grad(lambda p: np.sum(p.value))(np.ones(3))
    with pytest.raises(ValueError, match=r"target must be a scalar \(size 1\), got shape \(3,\)"):
        value_and_grad(lambda p: p * 2.0)(np.ones(3))


def test_map_structure_keeps_the_kinds_of_containers():
    Pair = namedtuple("Pair", "a b")
    seen = []
    result = map_structure(lambda path, leaf: seen.append(path) or leaf + 1, {"x": Pair(1, [2, (3,)])}, "s")
    assert result == {"x": Pair(2, [3, (4,)])}
    assert isinstance(result["x"], Pair)
    assert seen == ["s['x'][0]", "s['x'][1][0]", "s['x'][1][1][0]"]
