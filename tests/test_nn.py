"""Modules: the tree and its names, running with other parameters, state and files, the layers."""

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgrad import functional, nn
from refgrad.storage import HOSVD, SVD, Exact
from refgrad.tape import Tape, Tensor, value_and_grad
from tests.assertions import assert_same_bits

DTYPES = (np.float32, np.float64)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch's names are the ones that a state dict has")


def generator(seed=0):
    return np.random.default_rng(seed)


def small_cnn(seed=0, dtype=np.float64, p=0.5):
    draw = generator(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, generator=draw, dtype=dtype),
        nn.BatchNorm2d(4, dtype=dtype),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 4, (3, 2), stride=2, groups=2, bias=False, generator=draw, dtype=dtype), nn.GELU()),
        nn.Dropout(p, generator=draw),
        nn.Flatten(),
        nn.Linear(8, 3, generator=draw, dtype=dtype),
        nn.LayerNorm(3, dtype=dtype),
    )


def torch_cnn(torch):
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Sequential(torch.nn.Conv2d(4, 4, (3, 2), stride=2, groups=2, bias=False), torch.nn.GELU()),
        torch.nn.Dropout(0.5),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 3),
        torch.nn.LayerNorm(3),
    )


def image(dtype=np.float64, seed=1, batch=5):
    return generator(seed).standard_normal((batch, 2, 8, 8)).astype(dtype)


class Residual(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        self.inner = nn.Linear(3, 3, generator=generator(seed))
        self.register_parameter("scale", np.array([2.0]))
        self.register_buffer("calls", np.array(0))

    def forward(self, x):
        self.calls[...] += 1
        return x + self.scale * functional.tanh(self.inner(x))


# ---------------------------------------------------------------------------------------------------------------------
# The tree
# ---------------------------------------------------------------------------------------------------------------------


def test_names_and_shapes_are_torchs_in_torchs_order(torch):
    ours, theirs = small_cnn(), torch_cnn(torch)
    assert [(name, array.shape) for name, array in ours.named_parameters()] == [
        (name, tuple(parameter.shape)) for name, parameter in theirs.named_parameters()
    ]
    state = [(name, array.shape) for name, array in ours.state_dict().items()]
    assert state == [(name, tuple(value.shape)) for name, value in theirs.state_dict().items()]
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]


def test_a_network_of_whole_numbers_equals_torch_bit_for_bit(torch):
    """Sums of small whole numbers are exact in any order, so nothing may differ."""
    draw = generator()
    ours = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, generator=draw),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, generator=draw),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(6, 3, generator=draw),
    )
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 3),
    ).double()
    state = {name: draw.integers(-3, 4, array.shape).astype(np.float64) for name, array in ours.state_dict().items()}
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    x, sent = draw.integers(-4, 5, (5, 2, 8, 8)).astype(np.float64), draw.integers(-4, 5, (5, 3)).astype(np.float64)
    with Tape() as tape:
        watched, tensors = tape.watch(x), ours.watch(tape)
        output = ours.apply(tensors, watched)
        loss = np.sum(output * sent)
    gradients, grad_x = tape.gradient(loss, (tensors, watched))
    their_x = torch.from_numpy(x).requires_grad_()
    their_output = theirs(their_x)
    their_output.backward(torch.from_numpy(sent))
    assert_same_bits(output.value, their_output.detach().numpy(), "output")
    assert_same_bits(grad_x, their_x.grad.numpy(), "grad_x")
    for name, parameter in theirs.named_parameters():
        assert_same_bits(gradients[name], parameter.grad.numpy(), name)


def test_a_module_is_what_its_functions_are_one_after_another():
    module, x = small_cnn().eval(), image()
    p = module.parameters()
    h = functional.conv2d(x, p["0.weight"], p["0.bias"], padding=1)
    h = functional.batch_norm(h, p["1.weight"], p["1.bias"], np.zeros(4), np.ones(4), training=False)
    h = functional.max_pool2d(functional.relu(h), 2)
    h = functional.gelu(functional.conv2d(h, p["4.0.weight"], None, stride=2, groups=2))
    h = functional.linear(functional.flatten(h), p["7.weight"], p["7.bias"])
    assert_same_bits(module(x), functional.layer_norm(h, 3, p["8.weight"], p["8.bias"]))


def test_apply_uses_the_given_parameters_and_leaves_its_own_alone():
    module, x = Residual(), generator(1).standard_normal((4, 3))
    own = {name: array.copy() for name, array in module.parameters().items()}
    assert_same_bits(module(x), module.apply(module.parameters(), x))
    zeros = {name: np.zeros_like(array) for name, array in own.items()}
    assert_same_bits(module.apply(zeros, x), x)
    for name, array in module.parameters().items():
        assert_same_bits(array, own[name], name)
    assert module.calls == 3


def test_gradients_come_back_under_the_names_of_the_parameters():
    module, x = Residual(), generator(1).standard_normal((4, 3))
    with Tape() as tape:
        tensors = module.watch(tape)
        output = module.apply(tensors, x)
        loss = np.sum(output**2)
    assert isinstance(output, Tensor)
    gradients = tape.gradient(loss, tensors)
    again, same = value_and_grad(lambda p: np.sum(module.apply(p, x) ** 2))(module.parameters())
    assert list(gradients) == list(module.parameters()) == ["scale", "inner.weight", "inner.bias"]
    assert again == float(loss)
    for name, gradient in gradients.items():
        assert_same_bits(gradient, same[name], name)
    direct = functional.tanh(functional.linear(x, module.inner.weight, module.inner.bias))
    # d/dscale of |x + s t|^2, the same numbers in the same order up to the last sum.
    assert np.sign(gradients["scale"][0]) == np.sign(np.sum(2 * (x + 2.0 * direct) * direct))


def test_every_module_gives_arrays_for_arrays_and_tensors_for_tensors():
    module, x = small_cnn(dtype=np.float32), image(np.float32)
    with Tape() as tape:
        assert isinstance(module(tape.watch(x)), Tensor)
    output = module(x)
    assert isinstance(output, np.ndarray)
    assert output.dtype == np.float32


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_layer_calls_the_function_of_its_name(dtype):
    x = generator().standard_normal((3, 4, 6, 6)).astype(dtype)
    pairs = [
        (nn.ReLU(), functional.relu(x)),
        (nn.GELU(), functional.gelu(x)),
        (nn.GELU(approximate="tanh"), functional.gelu(x, approximate="tanh")),
        (nn.Sigmoid(), functional.sigmoid(x)),
        (nn.Tanh(), functional.tanh(x)),
        (nn.Flatten(2), functional.flatten(x, 2)),
        (nn.MaxPool2d(3, 2, 1, 1, True), functional.max_pool2d(x, 3, 2, 1, 1, True)),
        (nn.AvgPool2d(3, 2, 1, True, False), functional.avg_pool2d(x, 3, 2, 1, True, False)),
        (nn.AvgPool2d(2, divisor_override=3), functional.avg_pool2d(x, 2, divisor_override=3)),
        (nn.AdaptiveAvgPool2d((4, None)), functional.adaptive_avg_pool2d(x, (4, None))),
        (nn.AdaptiveMaxPool2d(5), functional.adaptive_max_pool2d(x, 5)),
        (nn.LayerNorm((6, 6), dtype=dtype), functional.layer_norm(x, (6, 6))),
        (nn.LayerNorm(6, elementwise_affine=False, eps=1e-3), functional.layer_norm(x, 6, eps=1e-3)),
        (nn.LayerNorm(6, bias=False, dtype=dtype), functional.layer_norm(x, 6)),
        (nn.BatchNorm2d(4, dtype=dtype), functional.batch_norm(x, None, None, None, None, training=True)),
        (
            nn.BatchNorm2d(4, affine=False, track_running_stats=False, eps=1e-2).eval(),
            functional.batch_norm(x, None, None, None, None, training=True, eps=1e-2),
        ),
        (
            nn.Dropout(0.3, generator=generator(5)),
            functional.dropout(x, 0.3, generator=generator(5), training=True),
        ),
        (nn.Dropout(0.3, generator=generator(5)).eval(), x),
    ]
    for module, expected in pairs:
        output = module(x)
        assert output.dtype == dtype, module
        assert_same_bits(output, expected, repr(module))


@pytest.mark.parametrize("dtype", DTYPES)
def test_first_values_are_uniform_within_the_bound_of_kaiming(dtype):
    layers = (
        (nn.Conv2d(8, 64, 3, groups=2, generator=generator(), dtype=dtype), 4 * 9),
        (nn.Linear(30, 900, generator=generator(), dtype=dtype), 30),
    )
    for layer, fan_in in layers:
        bound = 1.0 / np.sqrt(fan_in)
        for array in layer.parameters().values():
            assert array.dtype == dtype
            assert array.flags.writeable
            assert np.all(np.abs(array) <= dtype(bound))
            # Eight standard deviations of a mean, and of a mean of squares (variance 4/45 of a uniform square).
            scaled = array.astype(np.float64) / bound
            assert abs(scaled.mean()) < 8 * np.sqrt(1 / 3 / array.size)
            assert abs((scaled**2).mean() - 1 / 3) < 8 * np.sqrt(4 / 45 / array.size)


def test_both_dtypes_start_from_the_same_point_and_the_same_generator_gives_the_same_network():
    for name, array in small_cnn(dtype=np.float64).parameters().items():
        assert_same_bits(small_cnn(dtype=np.float32).parameters()[name], array.astype(np.float32), name)
        assert_same_bits(small_cnn().parameters()[name], array, name)
    assert not np.array_equal(small_cnn(1).parameters()["0.weight"], small_cnn(2).parameters()["0.weight"])


def test_a_layer_keeps_its_input_by_its_own_storage_or_that_of_the_tape():
    draw = generator()
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, generator=draw, store=SVD(explained_variance=0.9)),
        nn.Conv2d(3, 2, 3, generator=draw),
        nn.Flatten(),
        nn.Linear(32, 2, generator=draw, store=Exact()),
    )
    with Tape(store=HOSVD(explained_variance=0.9)) as tape:
        module.apply(module.watch(tape), image())
    kept = [record.kept_activation.storage.name for record in tape.records if record.kept_activation is not None]
    assert kept == ["svd", "hosvd", "exact"]


def test_a_repr_is_a_tree_that_says_what_differs_from_the_defaults():
    draw = generator()
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=(1, 2), groups=2, bias=False, generator=draw, store=Exact()),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(3, 1), nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d((2, None))),
        nn.GELU(),
        nn.Dropout(0.25, generator=draw),
        nn.Linear(4, 2, bias=False, generator=draw, store=Exact()),
        nn.LayerNorm(2),
    )
    assert repr(module).splitlines() == [
        "Sequential(",
        "  (0): Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 2), groups=2, bias=False, store=Exact())",
        "  (1): BatchNorm2d(4)",
        "  (2): ReLU()",
        "  (3): Sequential(",
        "    (0): MaxPool2d(kernel_size=(2, 2), stride=(2, 2))",
        "    (1): AvgPool2d(kernel_size=(3, 3), stride=(1, 1))",
        "    (2): AdaptiveAvgPool2d((1, 1))",
        "    (3): AdaptiveMaxPool2d((2, None))",
        "  )",
        "  (4): GELU(approximate='none')",
        "  (5): Dropout(p=0.25)",
        "  (6): Linear(4, 2, bias=False, store=Exact())",
        "  (7): LayerNorm((2,))",
        ")",
    ]


def test_a_sequential_is_a_sequence():
    first, second = nn.ReLU(), nn.Flatten()
    module = nn.Sequential(first, second)
    assert len(module) == 2
    assert list(module) == [first, second]
    assert module[0] is first
    assert module[-1] is second
    assert module.children() == {"0": first, "1": second}


# ---------------------------------------------------------------------------------------------------------------------
# State that moves
# ---------------------------------------------------------------------------------------------------------------------


def test_running_statistics_move_in_training_and_are_used_in_evaluation(torch):
    """By momentum 1 and then 1/2, of batches with dyadic means: the same bits as PyTorch."""
    ours, theirs = nn.BatchNorm2d(2, momentum=None), torch.nn.BatchNorm2d(2, momentum=None).double()
    for seed in (0, 1):
        x = generator(seed).integers(-8, 8, (4, 2, 2, 2)).astype(np.float64)
        ours(x)
        theirs(torch.from_numpy(x))
        assert_same_bits(ours.running_mean, theirs.running_mean.numpy())
    assert ours.num_batches_tracked == theirs.num_batches_tracked.item() == 2
    before = ours.state_dict()
    x = image()
    output = ours.eval()(x)
    assert_same_bits(
        output,
        functional.batch_norm(
            x, np.ones(2), np.zeros(2), before["running_mean"], before["running_var"], training=False
        ),
    )
    for name, array in ours.state_dict().items():
        assert_same_bits(array, before[name], name)


def test_without_updating_state_the_same_step_can_be_taken_once_more():
    """Two dropouts share one generator, so the preview has to draw from one copy for both."""
    draw = generator(7)
    module = nn.Sequential(
        nn.Dropout(0.5, generator=draw), nn.BatchNorm2d(2), nn.Dropout(0.5, generator=draw), nn.BatchNorm2d(2)
    )
    x, before, state = image(), module.state_dict(), draw.bit_generator.state
    preview = module.apply(module.parameters(), x, update_state=False)
    for name, array in module.state_dict().items():
        assert_same_bits(array, before[name], name)
    assert draw.bit_generator.state == state
    actual = module.apply(module.parameters(), x)
    assert_same_bits(actual, preview)
    assert module[1].num_batches_tracked == 1
    assert not np.array_equal(module[1].running_mean, before["1.running_mean"])
    assert draw.bit_generator.state != state
    assert not np.array_equal(module.apply(module.parameters(), x), preview), "the next step has zeros of its own"


def test_train_and_eval_reach_every_module():
    module = small_cnn()
    assert module.training
    assert module.eval() is module
    assert not any(child.training for _, child in module.named_modules())
    assert module.train() is module
    assert all(child.training for _, child in module.named_modules())
    with pytest.raises(TypeError, match="mode must be True or False, got None"):
        module.train(None)


# ---------------------------------------------------------------------------------------------------------------------
# State dicts and files
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_goes_through_a_file_and_comes_back_bit_for_bit(tmp_path, dtype):
    module, other = small_cnn(0, dtype), small_cnn(1, dtype)
    module(image(dtype))
    module.save(tmp_path / "state.npz")
    other.load(tmp_path / "state.npz")
    assert list(other.state_dict()) == list(module.state_dict())
    for name, array in module.state_dict().items():
        assert_same_bits(other.state_dict()[name], array, name)
    assert other.state_dict()["1.num_batches_tracked"] == 1
    x = image(dtype, seed=3)
    assert_same_bits(other.eval()(x), module.eval()(x))
    with np.load(tmp_path / "state.npz", allow_pickle=False) as archive:
        assert list(archive.files) == list(module.state_dict())


@given(
    st.dictionaries(
        st.text("abc.file", min_size=1, max_size=6),
        st.tuples(
            st.sampled_from([np.float32, np.float64, np.int64, np.bool_]),
            st.lists(st.integers(0, 3), max_size=3).map(tuple),
        ),
        max_size=4,
    )
)
def test_arrays_of_any_name_shape_and_dtype_go_through_a_file(tmp_path_factory, kinds):
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    arrays = {name: np.full(shape, 1.5).astype(dtype) for name, (dtype, shape) in kinds.items()}
    nn.save_arrays(path, arrays)
    loaded = nn.load_arrays(path)
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert_same_bits(loaded[name], array, name)


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        small_cnn().save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_interrupted_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path, module = tmp_path / "state.npz", small_cnn()
    module.save(path)
    before = path.read_bytes()
    original = np.lib.format.write_array

    def interrupted(stream, array, **keywords):
        if array.ndim == 2:
            raise KeyboardInterrupt
        original(stream, array, **keywords)

    monkeypatch.setattr(np.lib.format, "write_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.npz"]


def test_a_state_dict_is_a_copy_and_a_load_copies_too():
    module = small_cnn()
    state = module.state_dict()
    kept = module.parameters()["0.weight"]
    first = kept.copy()
    state["0.weight"][...] = 7.0
    assert_same_bits(kept, first)
    module.load_state_dict(state)
    assert module.parameters()["0.weight"] is kept, "an optimiser holds this very array"
    assert np.all(kept == 7.0)
    state["0.weight"][...] = 8.0
    assert np.all(kept == 7.0)


def test_a_state_that_does_not_fit_is_refused_and_nothing_of_it_is_taken():
    module = small_cnn()
    before = module.state_dict()

    def refused(error, text, **changes):
        state = {**before, "0.weight": before["0.weight"] + 1.0, **changes}
        state = {name: array for name, array in state.items() if array is not None}
        with pytest.raises(error, match=text):
            module.load_state_dict(state)
        for name, array in module.state_dict().items():
            assert_same_bits(array, before[name], name)

    refused(
        ValueError,
        r"state must have the names of the module; missing: 1.running_mean, 7.bias; unexpected: 9.weight, head",
        **{"1.running_mean": None, "7.bias": None, "9.weight": np.ones(1), "head": np.ones(1)},
    )
    refused(ValueError, r"missing: 7.bias$", **{"7.bias": None})
    refused(ValueError, r"the module; unexpected: head$", head=np.ones(1))
    refused(ValueError, r"state\['8.bias'\] must have shape \(3,\), got \(4,\)", **{"8.bias": np.ones(4)})
    refused(
        TypeError,
        r"state\['8.bias'\] must have dtype float64, as the module has, got float32; nothing is cast",
        **{"8.bias": np.ones(3, np.float32)},
    )
    refused(TypeError, r"state\['8.bias'\] must be a NumPy array, got list", **{"8.bias": [1.0, 2.0, 3.0]})


def test_files_that_cannot_be_trusted_read_or_written_are_refused(tmp_path):
    module = small_cnn()
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, **{"0.weight": np.array([{"an": "object"}], dtype=object)})
    with pytest.raises(
        ValueError, match=r"undamaged .npz file of plain arrays, without pickled objects, got .*pickled"
    ):
        module.load(pickled)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"path must be an undamaged .npz file"):
        module.load(tmp_path / "text.npz")
    whole = tmp_path / "whole.npz"
    module.save(whole)
    damaged = bytearray(whole.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    (tmp_path / "damaged.npz").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"path must be an undamaged .npz file"):
        module.load(tmp_path / "damaged.npz")
    with zipfile.ZipFile(tmp_path / "foreign.npz", "w") as archive:
        archive.writestr("0.weight", "no array")
    with pytest.raises(ValueError, match=r"path must be an undamaged .npz file of plain arrays"):
        module.load(tmp_path / "foreign.npz")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w") as archive:
        archive.writestr("0.weight.npy", b"")
    with pytest.raises(ValueError, match=r"path must be an undamaged .npz file"):
        module.load(tmp_path / "empty.npz")
    np.save(tmp_path / "single.npy", np.ones(2))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    with pytest.raises(ValueError, match=r"path must be an undamaged .npz file"):
        module.load(tmp_path / "single.npz")
    with pytest.raises(ValueError, match=r"path must be an .npz file that can be read, got .*: No such file"):
        module.load(tmp_path / "missing.npz")
    with pytest.raises(ValueError, match=r"path must end in .npz, got .*state.pt"):
        module.save(tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"path must be a file that can be written, got .*: No such file or directory"):
        module.save(tmp_path / "no folder" / "state.npz")
    with pytest.raises(ValueError, match=r"path must be a file that can be written, got .*: Not a directory"):
        module.save(whole / "state.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ValueError, match=r"path must be a file that can be written, got .*folder.npz"):
        module.save(tmp_path / "folder.npz")
    with pytest.raises(TypeError, match="names must be a NumPy array of numbers or booleans to be saved, got list"):
        nn.save_arrays(whole, {"names": ["a"]})
    with pytest.raises(TypeError, match=r"names must be a NumPy array .* got an array of dtype object"):
        nn.save_arrays(whole, {"names": np.array([None])})
    assert not [entry for entry in tmp_path.iterdir() if "unfinished" in entry.name]


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


def test_parameters_that_do_not_fit_are_refused_by_name():
    module, x = nn.Linear(2, 1, generator=generator()), np.ones((3, 2))
    with pytest.raises(ValueError, match="parameters must have the names of the module; missing: bias; unexpected: b"):
        module.apply({"weight": np.ones((1, 2)), "b": np.ones(1)}, x)
    with pytest.raises(ValueError, match=r"parameters\['weight'\] must have shape \(1, 2\), got \(2, 1\)"):
        module.apply({"weight": np.ones((2, 1)), "bias": np.ones(1)}, x)
    with pytest.raises(TypeError, match=r"parameters\['bias'\] must be an array or a Tensor, got list"):
        module.apply({"weight": np.ones((1, 2)), "bias": [1.0]}, x)


def test_one_module_in_two_places_is_refused_where_it_has_parameters():
    shared = nn.Linear(2, 2, generator=generator())
    with pytest.raises(ValueError, match=r"0.weight and 2.weight are the same array: one module stands in two places"):
        nn.Sequential(shared, nn.ReLU(), shared).parameters()
    relu = nn.ReLU()
    assert nn.Sequential(relu, relu).state_dict() == {}


def test_assignments_keep_the_tree_whole():
    module = Residual()
    weight = module.inner.weight
    module.inner.weight = np.ones((3, 3))
    assert module.inner.weight is weight
    assert np.all(weight == 1.0)
    module.calls = np.array(5)
    module.calls += 1
    assert module.buffers() == {"calls": np.array(6)}
    assert module.state_dict()["calls"] == 6
    with pytest.raises(ValueError, match=r"weight must have shape \(3, 3\), got \(3,\)"):
        module.inner.weight = np.ones(3)
    with pytest.raises(TypeError, match="weight must have dtype float64, as the module has, got int64"):
        module.inner.weight = np.ones((3, 3), np.int64)
    with pytest.raises(TypeError, match="scale must be a NumPy array, got NoneType"):
        module.scale = None
    with pytest.raises(
        TypeError, match=r"offset is an array: say whether it is trained, self.register_parameter\('offset'"
    ):
        module.offset = np.ones(3)
    with pytest.raises(TypeError, match="inner must be a Module, got NoneType"):
        module.inner = None
    module.inner = nn.ReLU()
    assert list(module.parameters()) == ["scale"]
    module.note = "plain values are plain attributes"
    assert module.note.startswith("plain")
    with pytest.raises(AttributeError, match="Residual has no attribute 'weight'"):
        module.weight  # noqa: B018
    with pytest.raises(TypeError, match=r"abstract"):
        nn.Module()


def test_registering_refuses_what_is_no_array_no_module_or_no_free_name():
    module = Residual()
    with pytest.raises(ValueError, match="name must be free, but Residual has 'inner' already"):
        module.register_parameter("inner", np.ones(1))
    with pytest.raises(ValueError, match="name must be free, but Residual has 'forward' already"):
        module.register_buffer("forward", np.ones(1))
    with pytest.raises(ValueError, match=r"name must be a word without dots, got 'a.b'"):
        module.add_module("a.b", nn.ReLU())
    with pytest.raises(ValueError, match="name must be a word without dots, got ''"):
        module.register_buffer("", np.ones(1))
    with pytest.raises(TypeError, match="counts must be a float32 or float64 NumPy array, got an array of dtype int64"):
        module.register_parameter("counts", np.ones(1, np.int64))
    with pytest.raises(TypeError, match="counts must be a NumPy array to be a buffer, got int"):
        module.register_buffer("counts", 1)
    with pytest.raises(TypeError, match="block must be a Module, got int"):
        module.add_module("block", 1)
    with pytest.raises(TypeError, match="0 must be a Module, got function"):
        nn.Sequential(functional.relu)

    class Forgetful(nn.Module):
        def __init__(self):
            self.inner = nn.ReLU()

        def forward(self, x):
            return x

    with pytest.raises(AttributeError, match=r"Forgetful must call super\(\).__init__\(\) before it assigns 'inner'"):
        Forgetful()


DRAW = generator()
BAD = {
    "groups and in_channels": (
        lambda: nn.Conv2d(3, 4, 3, groups=2, generator=DRAW),
        ValueError,
        "groups must divide in_channels, got groups=2 for in_channels=3",
    ),
    "groups and out_channels": (
        lambda: nn.Conv2d(4, 3, 3, groups=2, generator=DRAW),
        ValueError,
        "groups must divide out_channels, got groups=2 for out_channels=3",
    ),
    "channels": (lambda: nn.Conv2d(0, 3, 3, generator=DRAW), ValueError, "in_channels must be at least 1, got 0"),
    "kernel": (lambda: nn.Conv2d(1, 3, 0, generator=DRAW), ValueError, r"kernel_size \(height\) must be at least 1"),
    "conv generator": (
        lambda: nn.Conv2d(1, 3, 3, generator=0),
        TypeError,
        "generator must be a numpy.random.Generator, got 0; make one with",
    ),
    "conv dtype": (
        lambda: nn.Conv2d(1, 3, 3, generator=DRAW, dtype=np.float16),
        TypeError,
        "dtype must be float32 or float64, got float16",
    ),
    "conv store": (
        lambda: nn.Conv2d(1, 3, 3, generator=DRAW, store="hosvd"),
        TypeError,
        r"store must be a Storage such as HOSVD\(explained_variance=0.8\), or None, got 'hosvd'",
    ),
    "features": (lambda: nn.Linear(2.0, 3, generator=DRAW), TypeError, "in_features must be an integer"),
    "linear store": (lambda: nn.Linear(2, 3, generator=DRAW, store=1), TypeError, "store must be a Storage"),
    "fan_in": (lambda: nn.kaiming_uniform((2,), 0, generator=DRAW), ValueError, "fan_in must be at least 1, got 0"),
    "norm features": (lambda: nn.BatchNorm2d(0), ValueError, "num_features must be at least 1, got 0"),
    "norm eps": (lambda: nn.BatchNorm2d(1, eps=-1), ValueError, r"eps must be in \[0, inf\), got -1.0"),
    "norm momentum": (lambda: nn.BatchNorm2d(1, momentum=2), ValueError, r"momentum must be in \[0, 1\], got 2.0"),
    "norm dtype": (lambda: nn.BatchNorm2d(1, dtype=int), TypeError, "dtype must be float32 or float64, got int64"),
    "norm axes": (
        lambda: nn.BatchNorm2d(3)(np.ones((2, 3))),
        ValueError,
        r"x must have 4 axes \(B C H W\), got 2: shape \(2, 3\)",
    ),
    "layer norm shape": (lambda: nn.LayerNorm(0), ValueError, "normalized_shape must be at least 1, got 0"),
    "gelu": (lambda: nn.GELU(approximate="erf"), ValueError, "approximate must be one of 'none', 'tanh', got 'erf'"),
    "dropout p": (lambda: nn.Dropout(1.0, generator=DRAW), ValueError, r"p must be in \[0, 1\), got 1.0"),
    "dropout generator": (lambda: nn.Dropout(generator=None), TypeError, "generator must be a numpy.random.Generator"),
    "pool": (lambda: nn.MaxPool2d(2, padding=2), ValueError, "padding must be at most half of the window"),
    "average pool": (lambda: nn.AvgPool2d(0), ValueError, r"kernel_size \(height\) must be at least 1"),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d(0), ValueError, r"output_size \(height\) must be at least 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_of_layers_are_refused_when_the_layer_is_made(name):
    call, error, text = BAD[name]
    with pytest.raises(error, match=text):
        call()
