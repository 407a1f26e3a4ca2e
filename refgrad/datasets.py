"""Real data behind one interface: a name and a seed come in, training and test images with their labels come out.

Nothing is downloaded. What is loaded is ready for a network: images (N, C, H, W) in float32 or float64, labels as
integers from 0, split into training and test images by the seed alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arguments import (
    Array,
    float_array,
    floats_of_one_dtype,
    non_negative_integer,
    one_of,
    positive_integer,
    shape_text,
)

__all__ = ["DATASETS", "SCALINGS", "Dataset", "batches", "digits", "load", "stratified_split"]

SCALINGS = ("unit", "standard")
"""``unit`` maps the grey levels to 0..1; ``standard`` then takes off the training mean and divides by its deviation."""

_SPLIT_STREAM = 0x73706C69
_ORDER_STREAM = 0x6F726465


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled images, split into those to train with and those to test with.

    Parameters
    ----------
    name : str
        What the data are called.
    train_images, test_images : array (N, C, H, W)
        The images, of one dtype and one size.
    train_labels, test_labels : integer array (N,)
        The class of each image, 0 <= label < `classes`.
    classes : int
        How many classes there are.

    Raises
    ------
    TypeError
        Where the images are not float32 or float64, not of one dtype, or the labels are no integers.
    ValueError
        Where shapes don't belong together or a label names no class.

    Examples
    --------
    >>> images = np.zeros((4, 1, 8, 8), np.float32)
    >>> data = Dataset("blank", images, np.array([0, 1, 0, 1]), images, np.array([0, 1, 0, 1]), classes=2)
    >>> data.image_shape
    (1, 8, 8)
    """

    name: str
    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array
    classes: int

    def __post_init__(self) -> None:
        positive_integer("classes", self.classes)
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            float_array(f"{part}_images", images, axes="N C H W", finite=True)
            _check_labels(f"{part}_labels", labels)
            if labels.shape[0] != images.shape[0]:
                raise ValueError(
                    f"{part}_labels must have one label for each of the {images.shape[0]} {part}_images, "
                    f"got shape {shape_text(labels.shape, 'N')}"
                )
            if int(labels.min()) < 0 or int(labels.max()) >= self.classes:
                raise ValueError(
                    f"{part}_labels must be in 0..{self.classes - 1} (classes = {self.classes}), "
                    f"got labels from {labels.min()} to {labels.max()}"
                )
        floats_of_one_dtype(train_images=self.train_images, test_images=self.test_images)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ValueError(
                f"train_images and test_images must show images of one shape, got "
                f"{shape_text(self.train_images.shape, 'N C H W')} and {shape_text(self.test_images.shape, 'N C H W')}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of one image: C, H, W."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    def fingerprint(self) -> str:
        """Return a SHA-256 of every image and label: two datasets that share it train alike."""
        digest = hashlib.sha256(f"{self.name}/{self.classes}".encode())
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load(name: str, *, seed: int = 0, **options: Any) -> Dataset:
    """Load a dataset by its name.

    Parameters
    ----------
    name : str
        One of the names in `DATASETS`.
    seed : int
        What the split into training and test images is drawn from.
    **options
        What the dataset's own function takes, see `digits`.

    Raises
    ------
    ValueError
        Where no dataset has that name.

    Examples
    --------
    >>> load("digits", seed=3).train_images.shape
    (1438, 1, 8, 8)
    """
    return DATASETS[one_of("name", name, tuple(DATASETS))](seed=seed, **options)


def digits(
    *, seed: int = 0, test_fraction: float = 0.2, scaling: str = "unit", dtype: npt.DTypeLike = np.float32
) -> Dataset:
    """Load the 1,797 handwritten digits that ship with scikit-learn: 8 x 8 scans, 17 grey levels, 10 classes.

    Parameters
    ----------
    seed : int
        What the split is drawn from; the same seed gives the same split, on every machine.
    test_fraction : float
        Which part of each class is kept for testing, in (0, 1).
    scaling : str
        One of `SCALINGS`.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    Dataset
        Images (N, 1, 8, 8).

    Raises
    ------
    ModuleNotFoundError
        Where scikit-learn is not installed; the error names the extra that brings it.
    ValueError, TypeError
        Where an argument is outside what is allowed.

    Examples
    --------
    >>> data = digits()
    >>> data.test_images.shape, float(data.train_images.min()), float(data.train_images.max())
    ((359, 1, 8, 8), 0.0, 1.0)
    """
    one_of("scaling", scaling, SCALINGS)
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits are part of scikit-learn, which is not installed; "
            'install the extra that brings it: pip install "refgrad[examples]"'
        ) from error
    scans = load_digits()
    images = np.asarray(scans.images, dtype=np.float64)[:, np.newaxis] / 16.0
    labels = np.asarray(scans.target, dtype=np.int64)
    train, test = stratified_split(labels, test_fraction, seed=seed)
    if scaling == "standard":
        images = (images - images[train].mean()) / images[train].std()
    images = images.astype(dtype)
    return Dataset("digits", images[train], labels[train], images[test], labels[test], classes=10)


def stratified_split(labels: Array, test_fraction: float, *, seed: int) -> tuple[Array, Array]:
    """Split indices so that every class gives the same part of itself to the test set.

    Parameters
    ----------
    labels : integer array (N,)
        The class of each sample.
    test_fraction : float
        The part of each class that is kept for testing, in (0, 1); at least one sample of each class goes either way.
    seed : int
        What the choice is drawn from.

    Returns
    -------
    train, test : integer arrays
        Indices, each in increasing order, that share none and together are 0..N-1.

    Raises
    ------
    TypeError
        Where the labels are no integers, or the seed is none.
    ValueError
        Where `test_fraction` is outside (0, 1), or a class has a single sample.

    Examples
    --------
    >>> train, test = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=1)
    >>> len(train), len(test)
    (6, 2)
    """
    _check_labels("labels", labels)
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction!r}")
    order = _permutation(len(labels), _SPLIT_STREAM, non_negative_integer("seed", seed))
    chosen = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        if len(members) < 2:
            raise ValueError(
                f"labels must hold every class at least twice, once to train and once to test, "
                f"got a single sample of class {label}"
            )
        count = min(max(round(len(members) * test_fraction), 1), len(members) - 1)
        chosen.append(members[:count])
    test = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), test, assume_unique=True), test


def batches(count: int, batch_size: int, *, seed: int, epoch: int) -> Iterator[Array]:
    """Yield the indices of each batch of one epoch, in an order that seed and epoch alone decide.

    No generator lives from one epoch to the next: an interrupted run finds its order again without hidden state.

    Parameters
    ----------
    count : int
        How many samples there are.
    batch_size : int
        How many of them go into a batch; the last batch has what is left.
    seed, epoch : int
        What the order is drawn from.

    Yields
    ------
    integer array
        Indices into the samples; over an epoch every index comes once.

    Raises
    ------
    TypeError, ValueError
        Where a count is no positive integer, or seed or epoch is negative.

    Examples
    --------
    >>> [len(batch) for batch in batches(10, 4, seed=0, epoch=0)]
    [4, 4, 2]
    """
    positive_integer("count", count)
    positive_integer("batch_size", batch_size)
    entropy = non_negative_integer("seed", seed), non_negative_integer("epoch", epoch)
    order = _permutation(count, _ORDER_STREAM, *entropy)
    return (order[start : start + batch_size] for start in range(0, count, batch_size))


def _permutation(count: int, *entropy: int) -> Array:
    """Return 0..count-1 in an order that the entropy decides.

    NumPy promises the raw numbers of a bit generator for good, and a generator's `permutation` only for a release.
    """
    return np.argsort(np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(count), kind="stable")


def _check_labels(name: str, labels: object) -> None:
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        kind = f"an array of dtype {labels.dtype}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise TypeError(f"{name} must be an integer NumPy array, got {kind}")
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"{name} must have one axis (N) and not be empty, got shape {shape_text(labels.shape)}")


DATASETS: dict[str, Callable[..., Dataset]] = {"digits": digits}
"""Every dataset, by name: a function of a seed, and of options of its own, that returns a `Dataset`."""
