"""A little of the real data, for tests of training that take a second: 48 digits to train with, 24 to test on."""

from dataclasses import replace

import numpy as np

from refgrad.datasets import Dataset, digits
from refgrad.training import Method, Settings

STEPS = 3
SETTINGS = Settings(epochs=2, batch_size=20, seed=1)
"""Three steps an epoch, the last with 8 images."""

METHODS = (Method("exact"), Method("svd", 0.9), Method("hosvd", 0.8))


def few_digits(dtype=np.float32):
    """Every class is in it."""
    data = digits(seed=0, scaling="standard", dtype=dtype)
    return Dataset(
        "few digits",
        data.train_images[:48],
        data.train_labels[:48],
        data.test_images[:24],
        data.test_labels[:24],
        classes=10,
    )


def without_time(record):
    """A run's record, with every duration at 0: what two runs with the same settings share."""
    return replace(record, epochs=tuple(epoch.without_time() for epoch in record.epochs))
