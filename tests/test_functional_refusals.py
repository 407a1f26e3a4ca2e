"""What the functions of networks refuse, and that the text says what to do."""

import numpy as np
import pytest

from refgrad import functional
from refgrad.storage import HOSVD, SVD, Exact
from refgrad.tape import Tape
from tests.assertions import assert_same_bits


def normal(shape):
    return np.random.default_rng(0).standard_normal(shape)


IMAGE = np.zeros((2, 4, 6, 6))
LOGITS = np.zeros((2, 3))
DRAW = np.random.default_rng(0)
BAD = {
    "integer array": (
        lambda: functional.relu(np.arange(3)),
        TypeError,
        r"x must be a float32 or float64 NumPy array, got an array of dtype int",
    ),
    "list": (lambda: functional.sigmoid([1.0]), TypeError, r"x must be .* got list"),
    "empty batch": (
        lambda: functional.max_pool2d(np.zeros((0, 1, 4, 4)), 2),
        ValueError,
        r"x must not be empty, got shape \(B=0, C=1",
    ),
    "empty batch of a conv": (
        lambda: functional.conv2d(np.zeros((0, 1, 4, 4)), np.zeros((1, 1, 2, 2))),
        ValueError,
        r"x must not be empty",
    ),
    "gelu word": (
        lambda: functional.gelu(IMAGE, approximate="erf"),
        ValueError,
        r"approximate must be one of 'none', 'tanh', got 'erf'",
    ),
    "softmax axis": (
        lambda: functional.softmax(LOGITS, 2),
        ValueError,
        r"axis must be in \[-2, 2\) for an array of 2 axes, got 2",
    ),
    "softmax axis type": (lambda: functional.log_softmax(LOGITS, 1.0), TypeError, r"axis must be an integer, got 1.0"),
    "groups": (
        lambda: functional.conv2d(IMAGE, np.zeros((3, 1, 2, 2)), groups=3),
        ValueError,
        r"groups must divide the channels .* got groups=3",
    ),
    "weight axes": (
        lambda: functional.conv2d(IMAGE, np.zeros((3, 4))),
        ValueError,
        r"weight must have 4 axes \(O C/groups k_h k_w\), got 2",
    ),
    "conv bias": (
        lambda: functional.conv2d(IMAGE, np.zeros((3, 4, 2, 2)), np.zeros(4)),
        ValueError,
        r"bias must have one entry for each of the 3 out channels .* got \(O=4\)",
    ),
    "conv dtype": (
        lambda: functional.conv2d(IMAGE, np.zeros((3, 4, 2, 2), np.float32)),
        TypeError,
        r"x and weight must have one dtype, got float64 and float32",
    ),
    "conv axes": (
        lambda: functional.conv2d(IMAGE[0], np.zeros((3, 4, 2, 2))),
        ValueError,
        r"x must have 4 axes \(B C H W\), got 3",
    ),
    "linear width": (
        lambda: functional.linear(LOGITS, np.zeros((2, 4))),
        ValueError,
        r"the last axis of x must be the I of the weight",
    ),
    "linear axes": (
        lambda: functional.linear(np.zeros(3), np.zeros((2, 3))),
        ValueError,
        r"x must have 2, 3 or 4 axes",
    ),
    "linear bias": (
        lambda: functional.linear(LOGITS, np.zeros((2, 3)), np.zeros(3)),
        ValueError,
        r"bias must have one entry for each of the 2",
    ),
    "flatten order": (
        lambda: functional.flatten(IMAGE, 2, 1),
        ValueError,
        r"start_axis must not come after end_axis, got 2 and 1",
    ),
    "flatten axis": (lambda: functional.flatten(IMAGE, 4), ValueError, r"start_axis must be in \[-4, 4\)"),
    "flatten list": (
        lambda: functional.flatten([1.0]),
        TypeError,
        r"x must be a float32 or float64 NumPy array, got list",
    ),
    "pool kernel": (lambda: functional.avg_pool2d(IMAGE, 7), ValueError, r"kernel must fit into the padded input"),
    "pool padding": (
        lambda: functional.max_pool2d(IMAGE, 2, padding=(0, 2)),
        ValueError,
        r"padding must be at most half of the window, along the width .* so at most 1, got \(2, 2\)",
    ),
    "pool ceil_mode": (
        lambda: functional.max_pool2d(IMAGE, 2, ceil_mode=1),
        TypeError,
        r"ceil_mode must be True or False, got 1",
    ),
    "pool window of padding": (
        lambda: functional.max_pool2d(np.zeros((1, 1, 1, 4)), 2, 1, (2, 0), (3, 1)),
        ValueError,
        r"output row 0 covers only padding: its taps are 3 apart",
    ),
    "pool axes": (lambda: functional.avg_pool2d(IMAGE[0], 2), ValueError, r"x must have 4 axes \(B C H W\), got 3"),
    "count_include_pad": (
        lambda: functional.avg_pool2d(IMAGE, 2, count_include_pad=0),
        TypeError,
        r"count_include_pad must be True or False, got 0",
    ),
    "divisor_override": (
        lambda: functional.avg_pool2d(IMAGE, 2, divisor_override=0),
        ValueError,
        r"divisor_override must be at least 1, got 0",
    ),
    "adaptive size": (
        lambda: functional.adaptive_avg_pool2d(IMAGE, (0, 1)),
        ValueError,
        r"output_size \(height\) must be at least 1, got 0",
    ),
    "adaptive triple": (
        lambda: functional.adaptive_max_pool2d(IMAGE, (1, 1, 1)),
        TypeError,
        r"output_size must be an integer, None or a pair",
    ),
    "one value per channel": (
        lambda: functional.batch_norm(np.zeros((1, 4)), None, None, None, None, training=True),
        ValueError,
        r"needs more than one value per channel, got x of shape \(B=1, C=4\)",
    ),
    "batch_norm weight": (
        lambda: functional.batch_norm(IMAGE, np.zeros(3), None, None, None, training=True),
        ValueError,
        r"weight must have one value per channel, \(C=4,\), got \(3,\)",
    ),
    "batch_norm half of the statistics": (
        lambda: functional.batch_norm(IMAGE, None, None, np.zeros(4), None, training=True),
        ValueError,
        r"running_mean and running_var must be given together",
    ),
    "batch_norm no statistics": (
        lambda: functional.batch_norm(IMAGE, None, None, None, None, training=False),
        ValueError,
        r"with training=False needs running_mean and running_var, got None",
    ),
    "batch_norm negative variance": (
        lambda: functional.batch_norm(IMAGE, None, None, np.zeros(4), np.full(4, -1.0), training=False),
        ValueError,
        r"running_var must not be negative, got -1.0",
    ),
    "batch_norm dtype": (
        lambda: functional.batch_norm(
            IMAGE, None, None, np.zeros(4, np.float32), np.ones(4, np.float32), training=False
        ),
        TypeError,
        r"x and running_mean must have one dtype",
    ),
    "batch_norm training": (
        lambda: functional.batch_norm(IMAGE, None, None, None, None, training=1),
        TypeError,
        r"training must be True or False, got 1",
    ),
    "batch_norm momentum": (
        lambda: functional.batch_norm(IMAGE, None, None, None, None, training=True, momentum=1.5),
        ValueError,
        r"momentum must be in \[0, 1\], got 1.5",
    ),
    "batch_norm eps": (
        lambda: functional.batch_norm(IMAGE, None, None, None, None, training=True, eps=-1e-5),
        ValueError,
        r"eps must be in \[0, inf\), got -1e-05",
    ),
    "batch_norm eps zero": (
        lambda: functional.batch_norm(IMAGE, None, None, None, None, training=True, eps=0.0),
        ValueError,
        r"eps must be positive where a variance is 0",
    ),
    "layer_norm shape": (
        lambda: functional.layer_norm(IMAGE, (5,)),
        ValueError,
        r"x must end in the axes of normalized_shape, \(5,\), got shape \(2, 4, 6, 6\)",
    ),
    "layer_norm no axes": (
        lambda: functional.layer_norm(IMAGE, ()),
        ValueError,
        r"normalized_shape must name at least one axis",
    ),
    "layer_norm weight": (
        lambda: functional.layer_norm(IMAGE, 6, np.ones(5)),
        ValueError,
        r"weight must have the shape of normalized_shape, \(6,\), got \(5,\)",
    ),
    "layer_norm eps": (
        lambda: functional.layer_norm(IMAGE, 6, eps=np.nan),
        ValueError,
        r"eps must be in \[0, inf\), got nan",
    ),
    "layer_norm type": (
        lambda: functional.layer_norm(IMAGE, 6, eps="small"),
        TypeError,
        r"eps must be a real number, got 'small'",
    ),
    "dropout p": (
        lambda: functional.dropout(IMAGE, 1.0, generator=DRAW, training=True),
        ValueError,
        r"p must be in \[0, 1\), got 1.0",
    ),
    "dropout negative p": (
        lambda: functional.dropout(IMAGE, -0.1, generator=DRAW, training=True),
        ValueError,
        r"p must be in \[0, 1\), got -0.1",
    ),
    "dropout p type": (
        lambda: functional.dropout(IMAGE, True, generator=DRAW, training=True),
        TypeError,
        r"p must be a real number, got True",
    ),
    "dropout generator": (
        lambda: functional.dropout(IMAGE, generator=7, training=True),
        TypeError,
        r"generator must be a numpy.random.Generator, got 7; make one with",
    ),
    "dropout training": (
        lambda: functional.dropout(IMAGE, generator=DRAW, training=None),
        TypeError,
        r"training must be True or False, got None",
    ),
    "labels list": (
        lambda: functional.cross_entropy(LOGITS, [0, 1]),
        TypeError,
        r"labels must be a NumPy array of integers, .* got list",
    ),
    "labels dtype": (
        lambda: functional.cross_entropy(LOGITS, np.zeros(2)),
        TypeError,
        r"labels must be a NumPy array of integers, .* dtype float64",
    ),
    "labels shape": (
        lambda: functional.cross_entropy(LOGITS, np.zeros((2, 1), int)),
        ValueError,
        r"labels must have the shape of x without its class axis, \(2,\), got \(2, 1\)",
    ),
    "label too large": (
        lambda: functional.cross_entropy(LOGITS, np.array([0, 3])),
        ValueError,
        r"labels must be in \[0, 3\), one of the classes of x, got 3 at index \(1,\)",
    ),
    "label negative": (
        lambda: functional.cross_entropy(LOGITS, np.array([-1, 0])),
        ValueError,
        r"labels must be in \[0, 3\).* got -1 at index \(0,\)",
    ),
    "cross_entropy axes": (
        lambda: functional.cross_entropy(np.zeros(3), np.array(0)),
        ValueError,
        r"x must have at least 2 axes, got 1",
    ),
    "reduction": (
        lambda: functional.cross_entropy(LOGITS, np.array([0, 0]), reduction="batchmean"),
        ValueError,
        r"reduction must be one of 'mean', 'sum', 'none', got 'batchmean'",
    ),
    "mse shapes": (
        lambda: functional.mse_loss(LOGITS, np.zeros((2, 1))),
        ValueError,
        r"x and target must have one shape, got \(2, 3\) and \(2, 1\)",
    ),
    "mse dtypes": (
        lambda: functional.mse_loss(LOGITS, np.zeros((2, 3), np.float32)),
        TypeError,
        r"x and target must have one dtype",
    ),
    "mse reduction": (
        lambda: functional.mse_loss(LOGITS, LOGITS, reduction=None),
        ValueError,
        r"reduction must be one of",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused_with_a_text_that_teaches(name):
    call, error, text = BAD[name]
    with pytest.raises(error, match=text):
        call()


def test_read_only_running_statistics_are_refused_before_anything_moves():
    mean, variance = np.zeros(4), np.ones(4)
    variance.flags.writeable = False
    with pytest.raises(ValueError, match="running_var must be writeable in training, which moves it in place"):
        functional.batch_norm(IMAGE + 1.0, None, None, mean, variance, training=True)
    assert_same_bits(mean, np.zeros(4))


@pytest.mark.parametrize(
    "store", [Exact(), HOSVD(explained_variance=0.8), SVD(explained_variance=0.8)], ids=lambda s: s.name
)
def test_a_layer_refuses_to_keep_an_activation_that_is_not_finite(store):
    x = normal((2, 3, 4, 4))
    x[1, 0, 2, 3] = np.inf
    with Tape(store=store) as tape:
        weight = tape.watch(normal((2, 3, 3, 3)))
        with pytest.raises(ValueError, match=r"activation must be finite, got inf at index \(1, 0, 2, 3\)"):
            functional.conv2d(x, weight)


def test_tensors_stand_only_where_there_is_a_gradient():
    with Tape() as tape:
        mean = tape.watch(np.zeros(4))
        with pytest.raises(
            TypeError, match="running_mean of batch_norm cannot be differentiated, so it cannot be a Tensor"
        ):
            functional.batch_norm(IMAGE, None, None, mean, np.ones(4), training=False)
        with pytest.raises(TypeError, match="labels of cross_entropy cannot be differentiated"):
            functional.cross_entropy(LOGITS, mean)
        with pytest.raises(TypeError, match="store must be a Storage"):
            functional.conv2d(tape.watch(IMAGE), np.zeros((1, 4, 2, 2)), store="hosvd")
