"""The data: what a split owes to its seed, what a dataset refuses, and that batches come without hidden state."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgrad.datasets import DATASETS, Dataset, batches, digits, load, stratified_split
from refgrad.rounding import gamma
from tests.assertions import assert_same_bits, assert_within

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")


@pytest.fixture(scope="module")
def data():
    return digits(seed=0)


def blank(count=4, shape=(1, 8, 8), dtype=np.float32, labels=None, classes=2):
    images = np.zeros((count, *shape), dtype)
    labels = np.arange(count) % 2 if labels is None else labels
    return {
        "name": "blank",
        "train_images": images,
        "train_labels": labels,
        "test_images": images,
        "test_labels": labels,
        "classes": classes,
    }


def test_digits_are_all_of_the_real_scans(data):
    from sklearn.datasets import load_digits

    scans = load_digits()
    assert data.image_shape == (1, 8, 8)
    assert len(data.train_images) + len(data.test_images) == 1797
    both = np.concatenate([data.train_images, data.test_images])[:, 0] * 16
    labels = np.concatenate([data.train_labels, data.test_labels])
    ours = sorted((image.astype(int).tobytes(), int(label)) for image, label in zip(both, labels, strict=True))
    theirs = sorted(
        (image.astype(int).tobytes(), int(label)) for image, label in zip(scans.images, scans.target, strict=True)
    )
    assert ours == theirs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_scaling_maps_the_17_grey_levels_to_0_to_1(dtype):
    data = digits(dtype=dtype)
    assert data.train_images.dtype == data.test_images.dtype == dtype
    assert_same_bits(np.unique(data.train_images), (np.arange(17) / 16).astype(dtype))


def test_standard_scaling_takes_mean_and_deviation_from_the_training_images_alone():
    unit, standard = digits(seed=3, dtype=np.float64), digits(seed=3, dtype=np.float64, scaling="standard")
    count = unit.train_images.size
    mean, deviation = unit.train_images.mean(), unit.train_images.std()
    # Two sums over all pixels, each relative to the largest value, which is a few deviations.
    allowed = 4 * gamma(count, np.float64) * float(np.abs(standard.train_images).max())
    assert_within(standard.train_images.mean(), 0.0, allowed)
    assert_within(standard.train_images.std(), 1.0, allowed)
    assert_within(standard.test_images, (unit.test_images - mean) / deviation, allowed)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_split_is_stratified(seed):
    data = digits(seed=seed)
    train, test = np.bincount(data.train_labels), np.bincount(data.test_labels)
    assert (np.abs(test - 0.2 * (train + test)) <= 0.5).all()


def test_the_seed_alone_decides_the_split():
    assert digits(seed=5).fingerprint() == load("digits", seed=5).fingerprint()
    assert digits(seed=5).fingerprint() != digits(seed=6).fingerprint()


def test_the_split_of_a_seed_is_the_same_for_good():
    train, test = stratified_split(np.arange(20) % 4, 0.4, seed=7)
    assert test.tolist() == SPLIT_OF_SEED_7
    assert sorted([*train, *test]) == list(range(20))


def test_the_order_of_a_seed_is_the_same_for_good():
    assert np.concatenate(list(batches(8, 8, seed=1, epoch=2))).tolist() == ORDER_OF_SEED_1_EPOCH_2


SPLIT_OF_SEED_7 = [0, 2, 9, 10, 11, 12, 17, 19]
ORDER_OF_SEED_1_EPOCH_2 = [0, 7, 6, 3, 4, 1, 2, 5]


@given(
    labels=st.lists(st.integers(-3, 5), min_size=1, max_size=8).flatmap(lambda c: st.permutations(c + c)),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
def test_a_split_parts_every_class(labels, fraction, seed):
    labels = np.array(labels)
    train, test = stratified_split(labels, fraction, seed=seed)
    assert_same_bits(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert_same_bits(train, np.sort(train))
    assert_same_bits(test, np.sort(test))
    for label in np.unique(labels):
        members, tested = np.sum(labels == label), np.sum(labels[test] == label)
        assert 1 <= tested <= members - 1
        assert abs(tested - members * fraction) <= 1  # at most a half by rounding, or one where a class is tiny


@given(
    count=st.integers(1, 50),
    batch_size=st.integers(1, 60),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
)
def test_an_epoch_sees_every_sample_once(count, batch_size, seed, epoch):
    parts = list(batches(count, batch_size, seed=seed, epoch=epoch))
    assert [len(part) for part in parts[:-1]] == [batch_size] * (len(parts) - 1)
    assert 1 <= len(parts[-1]) <= batch_size
    assert_same_bits(np.sort(np.concatenate(parts)), np.arange(count))
    again = list(batches(count, batch_size, seed=seed, epoch=epoch))
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(np.concatenate(list(batches(30, 7, seed=seed, epoch=epoch)))) for seed in range(4) for epoch in range(4)
    }
    assert len(orders) == 16


def test_the_fingerprint_sees_every_part():
    base = blank()
    prints = {Dataset(**base).fingerprint()}
    for name in ("train_images", "test_images"):
        changed = base[name].copy()
        changed[0, 0, 0, 0] = 1.0
        prints.add(Dataset(**{**base, name: changed}).fingerprint())
    for name in ("train_labels", "test_labels"):
        prints.add(Dataset(**{**base, name: 1 - base[name]}).fingerprint())
    prints.add(Dataset(**{**base, "classes": 3}).fingerprint())
    prints.add(Dataset(**{**base, "name": "other"}).fingerprint())
    prints.add(Dataset(**blank(dtype=np.float64)).fingerprint())
    prints.add(Dataset(**blank(shape=(1, 4, 16))).fingerprint())
    assert len(prints) == 9


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (
            {"train_images": np.zeros((4, 8, 8), np.float32)},
            ValueError,
            "train_images must have 4 axes (N C H W), got 3",
        ),
        (
            {"test_images": np.zeros((4, 1, 8, 8), int)},
            TypeError,
            "test_images must be a float32 or float64 NumPy array",
        ),
        (
            {"test_images": np.full((4, 1, 8, 8), np.nan, np.float32)},
            ValueError,
            "test_images must be finite, got nan at index (0, 0, 0, 0)",
        ),
        (
            {"train_labels": np.array([0, 1, 0])},
            ValueError,
            "train_labels must have one label for each of the 4 train_images, got shape (N=3)",
        ),
        (
            {"test_labels": np.array([0, 1, 0, 2])},
            ValueError,
            "test_labels must be in 0..1 (classes = 2), got labels from 0 to 2",
        ),
        (
            {"train_labels": np.array([0, -1, 0, 1])},
            ValueError,
            "train_labels must be in 0..1 (classes = 2), got labels from -1 to 1",
        ),
        (
            {"train_labels": np.zeros(4)},
            TypeError,
            "train_labels must be an integer NumPy array, got an array of dtype float64",
        ),
        ({"train_labels": [0, 1, 0, 1]}, TypeError, "train_labels must be an integer NumPy array, got list"),
        (
            {"train_labels": np.zeros((4, 1), int)},
            ValueError,
            "train_labels must have one axis (N) and not be empty, got shape (4, 1)",
        ),
        ({"classes": 0}, ValueError, "classes must be at least 1, got 0"),
        (
            {"test_images": np.zeros((4, 1, 8, 8))},
            TypeError,
            "train_images and test_images must have one dtype, got float32 and float64",
        ),
        (
            {"test_images": np.zeros((4, 1, 8, 9), np.float32)},
            ValueError,
            "train_images and test_images must show images of one shape, "
            "got (N=4, C=1, H=8, W=8) and (N=4, C=1, H=8, W=9)",
        ),
    ],
)
def test_a_dataset_refuses_what_does_not_fit(change, kind, text):
    with pytest.raises(kind) as error:
        Dataset(**{**blank(), **change})
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: load("letters"), ValueError, "name must be one of 'digits', got 'letters'"),
        (lambda: digits(scaling="log"), ValueError, "scaling must be one of 'unit', 'standard', got 'log'"),
        (lambda: digits(dtype=int), TypeError, "dtype must be float32 or float64, got int64"),
        (lambda: digits(seed=-1), ValueError, "seed must be at least 0, got -1"),
        (lambda: digits(seed=0.5), TypeError, "seed must be an integer of at least 0, got 0.5"),
        (lambda: digits(test_fraction=0.0), ValueError, "test_fraction must be in (0, 1), got 0.0"),
        (lambda: digits(test_fraction=float("nan")), ValueError, "test_fraction must be in (0, 1), got nan"),
        (
            lambda: stratified_split(np.array([0, 0, 3]), 0.5, seed=0),
            ValueError,
            "labels must hold every class at least twice, once to train and once to test, "
            "got a single sample of class 3",
        ),
        (
            lambda: stratified_split(np.zeros(4), 0.5, seed=0),
            TypeError,
            "labels must be an integer NumPy array, got an array of dtype float64",
        ),
        (lambda: batches(0, 4, seed=0, epoch=0), ValueError, "count must be at least 1, got 0"),
        (lambda: batches(4, 0, seed=0, epoch=0), ValueError, "batch_size must be at least 1, got 0"),
        (lambda: batches(4, 2, seed=-1, epoch=0), ValueError, "seed must be at least 0, got -1"),
        (lambda: batches(4, 2, seed=0, epoch=-1), ValueError, "epoch must be at least 0, got -1"),
    ],
)
def test_a_wrong_argument_is_named(call, kind, text):
    with pytest.raises(kind) as error:
        call()
    assert text in str(error.value)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "refgrad\[examples\]"'):
        digits()


def test_importing_datasets_does_not_import_scikit_learn():
    code = "import refgrad.datasets, sys; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_dataset_is_loaded_by_its_name(data):
    assert list(DATASETS) == ["digits"]
    assert load("digits").name == "digits" == data.name
