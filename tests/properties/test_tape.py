"""The tape on random programs: it differentiates them exactly, keeps no more than it says, and cannot be disturbed.

The numbers are small integers and the operations sums, products and choices, so every value is exact in float64 and two
right answers are the same bits, in whatever order they were summed up.
"""

import tracemalloc
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from refgrad.rounding import gamma
from refgrad.tape import Tape, Tensor, value_and_grad
from tests.assertions import assert_same_bits, assert_within
from tests.strategies import LAYOUTS, tensors, with_layout
from tests.test_tape import Coarse, linear, numpy_bytes

LARGEST = 2.0**44  # numbers under it have room for 8 more bits, which the halves of ties may take

# random programs


@dataclass(frozen=True)
class Step:
    """One instruction: an operation, the values it works on (by number), and what else it needs."""

    operation: str
    operands: tuple[int, ...]
    extra: object = None


@dataclass(frozen=True)
class Program:
    """Input arrays, all with two axes, and steps; each step appends a value."""

    inputs: tuple
    steps: tuple


BACKENDS = {
    "add": (np.add, lambda t, a, b: a + b),
    "subtract": (np.subtract, lambda t, a, b: a - b),
    "multiply": (np.multiply, lambda t, a, b: a * b),
    "maximum": (np.maximum, lambda t, a, b: t.maximum(a, b)),
    "minimum": (np.minimum, lambda t, a, b: t.minimum(a, b)),
    "where": (
        lambda a, b, extra: np.where(extra, a, b),
        lambda t, a, b, extra: t.where(t.tensor(extra), a, b),
    ),
    "negative": (np.negative, lambda t, a: -a),
    "absolute": (np.absolute, lambda t, a: a.abs()),
    "square": (np.square, lambda t, a: a * a),
    "cube": (lambda a: a**3, lambda t, a: a**3),
    "scale": (lambda a: 3 * a, lambda t, a: 3 * a),
    "shift": (lambda a: a + np.ones((1, 1)), lambda t, a: a + 1),
    "clip": (lambda a: np.clip(a, -2, 3), lambda t, a: a.clamp(-2, 3)),
    "transpose": (np.transpose, lambda t, a: a.T),
    "flip": (lambda a, extra: np.flip(a, axis=extra), lambda t, a, extra: a.flip(extra)),
    "roll": (lambda a, extra: np.roll(a, 1, extra), lambda t, a, extra: a.roll(1, extra)),
    "sum": (lambda a, extra: np.sum(a, axis=extra, keepdims=True), lambda t, a, extra: a.sum(extra, keepdim=True)),
    "cumsum": (lambda a, extra: np.cumsum(a, axis=extra), lambda t, a, extra: a.cumsum(extra)),
    "max": (lambda a, extra: a.max(axis=extra, keepdims=True), lambda t, a, extra: a.amax(extra, keepdim=True)),
    "repeat": (lambda a, extra: np.repeat(a, 2, axis=extra), lambda t, a, extra: a.repeat_interleave(2, extra)),
    "ravel": (lambda a: np.ravel(a)[None], lambda t, a: a.reshape(1, -1)),
    "rows": (lambda a, extra: a[np.array(extra)], lambda t, a, extra: a[list(extra)]),
    "column": (lambda a, extra: a[:, extra : extra + 1], lambda t, a, extra: a[:, extra : extra + 1]),
    "concatenate": (lambda a, b: np.concatenate([a, b], axis=0), lambda t, a, b: t.cat([a, b], 0)),
    "matmul": (np.matmul, lambda t, a, b: a @ b),
    "einsum": (lambda a, b: np.einsum("ij,kj->ki", a, b), lambda t, a, b: t.einsum("ij,kj->ki", a, b)),
}
BINARY = ("add", "subtract", "multiply", "maximum", "minimum", "where")
UNARY = ("negative", "absolute", "square", "cube", "scale", "shift", "clip", "transpose", "ravel")
ALONG_AN_AXIS = ("flip", "roll", "sum", "cumsum", "repeat")


def run(program, inputs, module=None):
    """Compute every value of a program: with NumPy on arrays or tensors, or with torch."""
    values = list(inputs)
    for step in program.steps:
        arguments = [values[i] for i in step.operands]
        extra = {} if step.extra is None else {"extra": step.extra}
        numpy_call, torch_call = BACKENDS[step.operation]
        values.append(numpy_call(*arguments, **extra) if module is None else torch_call(module, *arguments, **extra))
    return values


@st.composite
def programs(draw, longest=8):
    """A program that has a meaning: shapes fit, by construction."""
    shapes, inputs, steps = [], [], []
    for _ in range(draw(st.integers(1, 3), label="inputs")):
        shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        size = shape[0] * shape[1]
        entries = draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))
        inputs.append(np.array(entries, dtype=np.float64).reshape(shape))
        shapes.append(shape)
    for _ in range(draw(st.integers(1, longest), label="steps")):
        first = draw(st.integers(0, len(shapes) - 1), label="operand")
        rows, columns = shapes[first]
        choices = [*UNARY, *ALONG_AN_AXIS, "rows", "column"]
        choices += ["max"] * (min(rows, columns) <= 2)  # three equal entries would share thirds, which round
        fitting = [
            j
            for j, shape in enumerate(shapes)
            if all(a == b or 1 in (a, b) for a, b in zip(shape, shapes[first], strict=True))
        ]
        alike = [j for j, shape in enumerate(shapes) if shape[1] == columns]
        chains = [j for j, shape in enumerate(shapes) if shape[0] == columns]
        operation = draw(st.sampled_from([*choices, *BINARY, "concatenate", "einsum", *(["matmul"] * bool(chains))]))
        if operation in BINARY:
            second = draw(st.sampled_from(fitting))
            shape = np.broadcast_shapes(shapes[first], shapes[second])
            extra = None
            if operation == "where":
                extra = np.array(draw(st.lists(st.booleans(), min_size=shape[1], max_size=shape[1])))
            step = Step(operation, (first, second), extra)
        elif operation in ("concatenate", "einsum"):
            step = Step(operation, (first, draw(st.sampled_from(alike))))
        elif operation == "matmul":
            step = Step(operation, (first, draw(st.sampled_from(chains))))
        elif operation == "rows":
            step = Step(
                operation, (first,), tuple(draw(st.lists(st.integers(-rows, rows - 1), min_size=1, max_size=3)))
            )
        elif operation == "column":
            step = Step(operation, (first,), draw(st.integers(0, columns - 1)))
        elif operation == "max":
            step = Step(operation, (first,), draw(st.sampled_from([i for i in (0, 1) if (rows, columns)[i] <= 2])))
        elif operation in ALONG_AN_AXIS:
            step = Step(operation, (first,), draw(st.sampled_from([0, 1])))
        else:
            step = Step(operation, (first,))
        steps.append(step)
        shapes.append(run(Program((), (step,)), [np.ones(shape) for shape in shapes])[-1].shape)
    program = Program(tuple(inputs), tuple(steps))
    assume(max(float(np.max(np.abs(value))) for value in run(program, inputs)) < 2.0**20)
    return program


def loss_of(values):
    """All values count, each with weights of its own."""
    return sum(np.sum(value * np.arange(1.0, value.shape[1] + 1)) for value in values)


def differentiate(program, inputs=None, **tape_arguments):
    """The gradients of a program's loss; and its tape."""
    with Tape(**tape_arguments) as tape:
        watched = [tape.watch(array) for array in (program.inputs if inputs is None else inputs)]
        loss = loss_of(run(program, watched))
    return tape.gradient(loss, watched), tape


def exact(gradients):
    """Whether every number is far enough from where float64 starts to round."""
    return all(float(np.max(np.abs(gradient))) < LARGEST for gradient in gradients)


@given(programs())
@example(Program((np.array([[1.0, 1.0]]),), (Step("max", (0,), 1), Step("maximum", (0, 1)), Step("multiply", (2, 2)))))
@example(Program((np.zeros((1, 1)),), (Step("absolute", (0,)), Step("clip", (1,)), Step("minimum", (0, 1)))))
def test_a_random_program_has_the_gradient_that_torch_finds(program):
    torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs PyTorch")
    found, _ = differentiate(program)
    theirs = [torch.tensor(array, requires_grad=True) for array in program.inputs]
    values = run(program, theirs, torch)
    sum((value * torch.arange(1.0, value.shape[1] + 1, dtype=torch.float64)).sum() for value in values).backward()
    expected = [tensor.grad.numpy() for tensor in theirs]
    assume(exact(expected))
    for step in program.steps:
        event(step.operation)
    for ours, other in zip(found, expected, strict=True):
        assert_same_bits(ours, other)


@given(programs(), st.integers(-4, 4), st.integers(-4, 4), st.data())
def test_the_gradient_is_linear_in_the_loss(program, a, b, data):
    chosen = data.draw(st.integers(0, len(program.inputs) + len(program.steps) - 1), label="value")

    def gradient(loss):
        with Tape() as tape:
            watched = [tape.watch(array) for array in program.inputs]
            values = run(program, watched)
            total = loss(np.sum(values[chosen]), loss_of(values))
        return tape.gradient(total, watched)

    first, second = gradient(lambda one, two: one), gradient(lambda one, two: two)
    both = gradient(lambda one, two: one * float(a) + float(b) * two)
    assume(exact([4 * g for g in first]) and exact([4 * g for g in second]))
    for combined, one, two in zip(both, first, second, strict=True):
        assert_same_bits(combined, a * one + b * two)


@given(programs())
def test_changing_the_arrays_afterwards_changes_nothing(program):
    expected, _ = differentiate(program)
    inputs = [array.copy() for array in program.inputs]
    plain = [array.copy() for array in program.inputs]
    with Tape() as tape:
        watched = [tape.watch(array) for array in inputs]
        product = sum(np.sum(tensor * other) for tensor, other in zip(watched, plain, strict=True))
        loss = loss_of(run(program, watched)) + product
    for array in (*inputs, *plain):
        array[...] = np.nan
    for found, gradient, other in zip(tape.gradient(loss, watched), expected, program.inputs, strict=True):
        assert_same_bits(found, gradient + other)


@given(programs())
@settings(max_examples=25)
def test_nbytes_is_what_a_memory_tracer_sees_and_backward_lets_all_of_it_go(program):
    differentiate(program)  # whatever is cached is cached now
    tracemalloc.start()
    try:
        before = numpy_bytes()
        with Tape() as tape:
            watched = [tape.watch(array) for array in program.inputs]
            loss = loss_of(run(program, watched))
        index = loss.index
        del loss, watched
        assert numpy_bytes() - before == tape.nbytes
        assert tape.nbytes == sum(item.nbytes for record in tape.records for item in record.kept)
        target = Tensor(np.zeros(tape.records[index].shape), tape, index)
        tape.gradient(target, [])
        del target
        assert numpy_bytes() == before
        assert tape.nbytes == 0
    finally:
        tracemalloc.stop()


@given(programs(), st.data())
def test_gradients_do_not_depend_on_the_layout_of_the_inputs_nor_on_the_structure_asked_for(program, data):
    expected, _ = differentiate(program)
    layouts = [data.draw(st.sampled_from(LAYOUTS), label="layout") for _ in program.inputs]
    inputs = [with_layout(array, layout) for array, layout in zip(program.inputs, layouts, strict=True)]
    params = {"list": [{"leaf": array} for array in inputs], "tuple": (np.ones(2),)}
    loss, gradients = value_and_grad(lambda p: loss_of(run(program, [leaf["leaf"] for leaf in p["list"]])))(params)
    assert loss == loss_of(run(program, program.inputs))
    assert_same_bits(gradients["tuple"][0], np.zeros(2))
    for leaf, gradient, layout in zip(gradients["list"], expected, layouts, strict=True):
        assert_same_bits(leaf["leaf"], gradient, layout)


@given(programs())
def test_a_gradient_is_the_sum_of_what_passes_through_each_value(program):
    """Cut a program open at a value: the gradient is that of the rest, plus what comes back through the value."""
    inputs, middle = program.inputs, len(program.inputs) + len(program.steps) // 2
    expected, _ = differentiate(program)
    assume(exact(expected))
    with Tape() as second:
        values = run(Program(inputs, program.steps[: middle - len(inputs)]), inputs)
        watched = [second.watch(np.asarray(value)) for value in values]
        rest = Program((), program.steps[middle - len(inputs) :])
        loss = loss_of(run(rest, watched))
    came_back = second.gradient(loss, watched)
    with Tape() as first:
        sources = [first.watch(array) for array in inputs]
        values = run(Program(inputs, program.steps[: middle - len(inputs)]), sources)
        carried = sum(np.sum(value * gradient) for value, gradient in zip(values, came_back, strict=True))
    for found, gradient in zip(first.gradient(carried, sources), expected, strict=True):
        assert_same_bits(found, gradient)


# single rules


def integer_array(draw, shape):
    size = int(np.prod(shape))
    return np.array(draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size)), dtype=float).reshape(shape)


@st.composite
def broadcastable(draw):
    """Two arrays of integers whose shapes broadcast, with axes of length 0 left out."""
    full = draw(st.lists(st.integers(1, 3), max_size=4), label="shape")
    parts = []
    for _ in range(2):
        kept = full[draw(st.integers(0, len(full))) :]
        parts.append(tuple(1 if draw(st.booleans()) else length for length in kept))
    return [integer_array(draw, shape) for shape in parts]


@given(broadcastable(), st.sampled_from([np.add, np.subtract, np.multiply, np.maximum, np.minimum]))
def test_broadcasting_is_undone(arrays, ufunc):
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    weights = np.arange(1.0, 1 + int(np.prod(shape))).reshape(shape)

    def gradients(make):
        with Tape() as tape:
            watched = [tape.watch(array) for array in arrays]
            total = np.sum(make(*watched) * weights)
        return tape.gradient(total, watched)

    implicit = gradients(ufunc)
    explicit = gradients(lambda a, b: ufunc(np.broadcast_to(a, shape), np.broadcast_to(b, shape)))
    for one, other, array in zip(implicit, explicit, arrays, strict=True):
        assert one.shape == array.shape
        assert_same_bits(one, other)


@st.composite
def keys(draw, shape):
    """An index: integers, slices, new axes, an ellipsis, masks, and integer arrays with duplicates that broadcast."""
    common = draw(st.sampled_from([(), (2,), (2, 3)]), label="index shape")
    parts = []
    for length in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["slice", "integer", "array", "list", "mask"]))
        if kind == "slice":
            bounds = st.one_of(st.none(), st.integers(-length - 1, length + 1))
            step = draw(st.sampled_from([None, 1, 2, -1, -2]))
            parts.append(slice(draw(bounds), draw(bounds), step))
        elif kind == "integer":
            parts.append(draw(st.integers(-length, length - 1)))
        elif kind == "mask" and not any(isinstance(part, (np.ndarray, list)) for part in parts):
            parts.append(np.array([draw(st.booleans()) for _ in range(length)]))
            common = (int(parts[-1].sum()),) if parts[-1].sum() > 0 else ()
        else:
            entries = [draw(st.integers(-length, length - 1)) for _ in range(int(np.prod(common)))]
            array = np.array(entries, dtype=np.intp).reshape(common)
            parts.append(array.tolist() if kind == "list" and common else array)
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), None)
    if len([part for part in parts if part is not None]) < len(shape) and draw(st.booleans()):
        parts.append(...)
    return tuple(parts)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple), st.data())
def test_indexing_scatters_the_gradient_to_where_each_entry_came_from(shape, data):
    key = data.draw(keys(shape), label="key")
    places = np.arange(int(np.prod(shape))).reshape(shape)
    try:
        picked = places[key]
    except IndexError:
        assume(False)  # a mask next to arrays that it does not broadcast with
    weights = np.arange(1.0, 1 + np.size(picked)).reshape(np.shape(picked))
    with Tape() as tape:
        t = tape.watch(places.astype(float))
        out = t[key]
        total = np.sum(out * weights)
    assert_same_bits(out.value, np.asarray(picked, dtype=float))
    expected = np.bincount(np.ravel(picked), np.ravel(weights), minlength=places.size).astype(float).reshape(shape)
    assert_same_bits(tape.gradient(total, t), expected)
    event("advanced" if any(isinstance(part, (list, np.ndarray)) for part in key) else "basic")


@st.composite
def contractions(draw):
    """Subscripts and operands for einsum: repeated labels, ellipsis, labels that are summed out, 1 to 3 operands."""
    lengths = dict(zip("abcd", (draw(st.integers(1, 3)) for _ in "abcd"), strict=True))
    terms, shapes = [], []
    dots = [draw(st.integers(1, 2)) for _ in range(draw(st.integers(0, 2), label="axes of the ellipsis"))]
    for _ in range(draw(st.integers(1, 3), label="operands")):
        labels = draw(st.lists(st.sampled_from("abcd"), max_size=3))
        hidden = dots[draw(st.integers(0, len(dots))) :]
        place = draw(st.integers(0, len(labels)))
        shape = [lengths[label] for label in labels]
        shapes.append((*shape[:place], *hidden, *shape[place:]))
        terms.append("".join(labels[:place]) + ("..." if dots else "") + "".join(labels[place:]))
    present = sorted(set("".join(terms)) - {"."})
    subscripts = ",".join(terms)
    if draw(st.booleans(), label="explicit"):
        output = draw(st.permutations(present))[: draw(st.integers(0, len(present)))]
        subscripts += "->" + ("..." if dots else "") + "".join(output)
    return subscripts, [integer_array(draw, shape) for shape in shapes]


@given(contractions(), st.data())
@example(("aab,...bc", [np.ones((2, 2, 3)), np.ones((2, 3, 1))]), None)
@example(("ab,cd", [np.ones((2, 3)), np.ones((3, 1))]), None)
def test_einsum_is_adjoint_to_its_gradient_in_every_operand(contraction, data):
    """<G, einsum(.., D, ..)> = <gradient at G, D> for each operand D, because einsum is linear in each."""
    subscripts, operands = contraction
    value = np.einsum(subscripts, *operands)
    weights = np.arange(1.0, 1 + value.size).reshape(value.shape)
    with Tape() as tape:
        watched = [tape.watch(operand) for operand in operands]
        out = np.einsum(subscripts, *watched)
        total = np.sum(out * weights)
    assert_same_bits(out.value, value)
    for position, gradient in enumerate(tape.gradient(total, watched)):
        expected = np.zeros_like(gradient)
        for entry in np.ndindex(gradient.shape):
            unit = np.zeros_like(gradient)
            unit[entry] = 1.0
            changed = [unit if i == position else operand for i, operand in enumerate(operands)]
            expected[entry] = np.sum(np.einsum(subscripts, *changed) * weights)
        assert_same_bits(gradient, expected, f"{subscripts}, operand {position}")


@given(tensors(spectra=("random", "flat", "constant", "zero", "dead slice")), st.data())
def test_the_largest_entries_share_the_whole_gradient_and_nobody_else_gets_any(array, data):
    axes = tuple(data.draw(st.lists(st.integers(0, array.ndim - 1), unique=True, max_size=array.ndim), label="axes"))
    function = data.draw(st.sampled_from([np.max, np.min]))
    with Tape() as tape:
        t = tape.watch(array)
        extreme = function(t, axis=axes, keepdims=True)
        weights = np.arange(1, 1 + extreme.size).reshape(extreme.shape).astype(array.dtype)
        total = np.sum(extreme * weights)
    gradient = tape.gradient(total, t)
    assert gradient.dtype == array.dtype
    attained = array == function(array, axis=axes, keepdims=True)
    assert not gradient[~attained].any()
    count = attained.sum(axis=axes, keepdims=True)
    assert_same_bits(
        np.where(attained, gradient, 0), np.where(attained, weights / count.astype(array.dtype), 0).astype(array.dtype)
    )
    mass = gradient.astype(np.float64).sum(axis=axes, keepdims=True)
    assert_within(mass, weights, gamma(array.size + 2, array.dtype) * weights)


@given(st.data(), st.sampled_from([np.float32, np.float64]), st.integers(1, 4))
@settings(max_examples=40)
def test_T10_compression_reaches_the_weight_gradients_and_nothing_else(data, dtype, depth):
    """A random network of linear layers and other operations: only weight gradients may differ between two storages."""
    widths = [data.draw(st.integers(1, 4), label="width") for _ in range(depth + 1)]
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    batch = generator.standard_normal((data.draw(st.integers(1, 5), label="batch"), widths[0])).astype(dtype)
    layers = [
        (generator.standard_normal((o, i)).astype(dtype), generator.standard_normal(o).astype(dtype))
        for i, o in pairwise(widths)
    ]
    between = [
        data.draw(st.sampled_from([np.tanh, np.absolute, lambda t: np.maximum(t, 0), np.negative])) for _ in layers
    ]

    def gradients(**store):
        with Tape(**store) as tape:
            first = value = tape.watch(batch)
            weights, others = [], [first]
            for (weight, bias), operation in zip(layers, between, strict=True):
                weights.append(tape.watch(weight))
                others.append(tape.watch(bias))
                value = operation(linear(value, weights[-1], others[-1]))
                others.append(value)
            loss = np.sum(value * value)
        return loss.value, tape.gradient(loss, [weights, others])

    exact_loss, (_, expected) = gradients()
    coarse_loss, (_, found) = gradients(store=Coarse())
    assert_same_bits(coarse_loss, exact_loss)
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_bits(ours, theirs)
