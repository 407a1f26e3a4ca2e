"""The networks: PyTorch's names, and on integers, where no order of summation rounds, PyTorch's bits."""

import numpy as np
import pytest

from refgrad.models import DigitsNet
from refgrad.tape import Tape
from tests.assertions import assert_same_bits


def in_torch(torch, norm):
    """The published layers, written for PyTorch."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            channels = 1
            for i, width in enumerate((16, 32, 64), start=1):
                self.add_module(f"conv{i}", nn.Conv2d(channels, width, 3, padding=1, bias=not norm))
                if norm:
                    self.add_module(f"bn{i}", nn.BatchNorm2d(width))
                channels = width
            self.fc = nn.Linear(256, 10)

        def forward(self, x):
            for i in (1, 2, 3):
                x = getattr(self, f"conv{i}")(x)
                x = getattr(self, f"bn{i}")(x) if norm else x
                x = torch.relu(x)
                x = x if i == 1 else nn.functional.max_pool2d(x, 2)
            return self.fc(x.flatten(1))

    return Net().double()


def integers(model, generator):
    """Give a model small integers for parameters and statistics; variances are 1 with the normalisation's eps."""
    state = model.state_dict()
    for name, array in state.items():
        if name.endswith("running_var"):
            array[...] = 1.0 - 1e-5
        else:
            array[...] = generator.integers(-3, 4, array.shape)
    model.load_state_dict(state)
    return state


@pytest.mark.parametrize("norm", [True, False])
def test_scores_and_gradients_have_pytorchs_bits(norm):
    torch = pytest.importorskip("torch", reason="it is compared with PyTorch")
    generator = np.random.default_rng(5)
    ours, theirs = DigitsNet(norm=norm, generator=generator), in_torch(torch, norm)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    state = integers(ours, generator)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    ours.eval()
    theirs.eval()
    images = generator.integers(-4, 5, (3, 1, 8, 8)).astype(np.float64)
    weights = generator.integers(-4, 5, (3, 10)).astype(np.float64)
    with Tape() as tape:
        parameters = ours.watch(tape)
        scores = ours.apply(parameters, images)
        total = np.sum(scores * weights)
    gradients = tape.gradient(total, parameters)
    expected = theirs(torch.from_numpy(images))
    (expected * torch.from_numpy(weights)).sum().backward()
    assert np.abs(scores.value).max() > 0
    assert_same_bits(scores.value, expected.detach().numpy())
    for name, parameter in theirs.named_parameters():
        assert_same_bits(gradients[name], parameter.grad.numpy(), name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_and_scores_have_the_dtype(dtype):
    model = DigitsNet(generator=np.random.default_rng(0), dtype=dtype)
    assert {array.dtype for array in model.parameters().values()} == {np.dtype(dtype)}
    assert model(np.zeros((2, 1, 8, 8), dtype)).dtype == dtype


def test_image_shape_and_classes_are_free():
    model = DigitsNet((3, 12, 9), 4, generator=np.random.default_rng(0))
    assert model(np.zeros((2, 3, 12, 9))).shape == (2, 4)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (((1, 3, 8), 10), ValueError, "H and W of at least 4, for they are halved twice, got (C=1, H=3, W=8)"),
        (((0, 8, 8), 10), ValueError, "in_channels must be at least 1, got 0"),
        (((1, 8, 8), 0), ValueError, "classes must be at least 1, got 0"),
        (((1, 8, 8), 2.5), TypeError, "classes must be an integer of at least 1, got 2.5"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_is_refused(arguments, kind, text):
    with pytest.raises(kind) as error:
        DigitsNet(*arguments, generator=np.random.default_rng(0))
    assert text in str(error.value)


def test_its_repr_says_what_it_is():
    assert repr(DigitsNet(norm=False, generator=np.random.default_rng(0))).startswith("DigitsNet(norm=False\n  (conv1)")
