"""Results do not depend on who computes at the same time, nor on how many threads BLAS has."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from refgrad.storage.base import adopt, frozen
from tests import layer_results
from tests.assertions import assert_same_bits, assert_within

ROOT = Path(__file__).resolve().parents[1]
THREADS_OF_BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
    ).stdout


def test_trainings_in_four_threads_give_the_bits_of_one_after_the_other(hurried):
    one_after_the_other = [layer_results.trained(number) for number in range(layer_results.TRAININGS)]
    assert all(np.ptp(each["losses"]) > 0 for each in one_after_the_other)  # they do train
    assert layer_results.differing(layer_results.trained_at_once(), one_after_the_other) == []


@pytest.mark.parametrize("layer", layer_results.SIZES["small"][1])
def test_four_threads_in_one_layer_at_once_give_the_same_bits(hurried, layer):
    """The same shapes, other numbers: whatever the threads had in common, one would leave to another."""
    x, weight, bias, grad_output, geometry = layer_results.operands("small", layer, np.float64)
    begin = threading.Barrier(4)

    def again_and_again(number):
        arrays = [array + number for array in (x, weight, bias, grad_output)]
        begin.wait()
        return [layer_results.convolution(*arrays, geometry) for _ in range(100)]

    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(again_and_again, range(4))):
            alone = layer_results.convolution(*(array + number for array in (x, weight, bias, grad_output)), geometry)
            assert layer_results.differing(found, [alone] * len(found)) == []


def test_four_threads_that_import_and_compile_at_once_give_the_same_bits(tmp_path):
    program = (
        "from tests import layer_results as these\n"
        "at_once = these.trained_at_once()\n"
        "one_after_the_other = [these.trained(number) for number in range(these.TRAININGS)]\n"
        "print(these.differing(at_once, one_after_the_other))\n"
    )
    environment = dict.fromkeys(THREADS_OF_BLAS, "2") | {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert run("-c", program, **environment) == "[]\n"
    assert list(tmp_path.rglob("*.nbc"))  # nothing was there before: it was compiled


def test_an_adopted_array_is_known_in_every_thread_and_a_stranger_in_its_place_is_not(hurried):
    """Arrays come and go in all threads, and with them the ids that adopted arrays are known by."""
    begin = threading.Barrier(4)

    def come_and_go(number):
        begin.wait()
        for length in range(1, 400):
            kept = adopt(np.full(length, number))
            assert frozen(kept) is kept
            stranger = np.full(length, number)
            stranger.flags.writeable = False
            copy = frozen(stranger)
            assert copy is not stranger
            stranger.flags.writeable = True
            stranger[:] = -1
            assert (copy == number).all()
        return number

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(come_and_go, range(4))) == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """What processes of their own compute: {threads of BLAS: [one run, another]}."""
    folder, found = tmp_path_factory.mktemp("results"), {}
    for blas in ("1", "2"):
        for repetition in (0, 1):
            file = folder / f"{blas}-{repetition}.npz"
            run("-m", "tests.layer_results", "large", str(file), **dict.fromkeys(THREADS_OF_BLAS, blas))
            with np.load(file) as arrays:
                found.setdefault(blas, []).append(dict(arrays))
    return found


@pytest.mark.parametrize("blas", ["1", "2"])
def test_one_number_of_threads_gives_one_answer_bit_for_bit(computed, blas):
    first, second = computed[blas]
    assert first.keys() == second.keys()
    for name in first:
        assert_same_bits(first[name], second[name], name)


def test_T15_another_number_of_threads_gives_the_same_up_to_rounding(computed):
    (one, _), (two, _) = computed["1"], computed["2"]
    allowed = layer_results.allowed_between_two("large")
    assert one.keys() == two.keys() == allowed.keys()
    for name, bound in allowed.items():
        if name == "hosvd/reconstruction":
            assert 0.0 < bound < np.linalg.norm(one[name])
            assert np.linalg.norm(one[name] - two[name]) <= bound
        else:
            assert_within(two[name], one[name], bound, name)


def test_the_ranks_that_are_compared_are_neither_1_nor_all(computed):
    ranks = computed["1"][0]["hosvd/ranks"]
    assert ((ranks > 1) & (ranks < layer_results.SIZES["large"][0])).all()
