"""Gram matrices and projections of large tensors, by compiled loops, in threads.

In: a C-contiguous tensor of float32 or float64, and a mode. Out: float64. How the work is cut follows from shapes
alone, so that the same tensor gives the same bits whatever the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from refgrad.aligned import aligned_zeros, filled_up
from refgrad.arguments import Array
from refgrad.multilinear.eigenpairs import SIDE, Triangle, eigenpairs_of
from refgrad.ranges import places, ranges
from refgrad.threads import in_threads

__all__ = ["add_projected", "compiled", "energy", "gram", "load", "modes_at_once", "transposed_product"]

LEAST_NUMBERS = 2**16
"""Of smaller tensors BLAS is done before the compiled loops are loaded."""

LEAST_SHARED = 2**19
"""Smaller tensors are not worth waking a second thread for."""

LARGE = 3 * 2**20
"""Of tensors of fewer numbers threads had better take whole modes: to wake one takes as long as to read some parts."""

LEAST_PRODUCTS = 2**22
"""And so many multiply-adds take as long."""

LEAST_PIECE = 2**14
"""With smaller pieces calling the loops would take longer than they do."""

LARGEST_PIECE = 2**19
"""Of larger ones, not even what is left after the first product would stay in a cache."""

TASKS = 4
"""Into so many parts a large tensor's columns are cut, or its Gram matrix's."""

COLUMNS = 64
"""Of 64 rows, so many columns are what a core's first cache holds."""

MANY_ROWS = 256
"""Of more rows, half as many columns are worked on at once: they fill as much of the second one."""

READ = 4.0
"""What reading a number costs, in multiply-adds."""

PANELS = 3.0
"""How many times longer a projection takes whose columns do not lie side by side."""


def compiled(tensor: Array) -> bool:
    """Tell whether the loops are for this tensor: a large one that lies as they read it, and a JIT that may be used."""
    if tensor.size < LEAST_NUMBERS or not tensor.flags.c_contiguous:
        return False
    from refgrad.kernels.jit import compiling

    return compiling()


def modes_at_once(tensor: Array) -> bool:
    """Tell whether threads take modes of this tensor, not parts of it: a small one whose modes are much alike."""
    balanced = 3 * max(tensor.shape) <= 2 * sum(tensor.shape)
    return compiled(tensor) and balanced and tensor.size < LARGE


def load(dtype: npt.DTypeLike) -> None:
    """Load the loops for float32 or float64, or compile them, so that what is measured next does not pay for it."""
    from refgrad.kernels.jit import compiling

    if compiling():
        tensor = np.ones((8, SIDE, SIDE), dtype)
        energy(tensor)
        pairs = eigenpairs_of(gram(np.ones((2 * SIDE, SIDE, SIDE), dtype), 0, 0))
        if pairs is not None:
            pairs.vectors(1)
        transposed_product(np.eye(SIDE), np.eye(SIDE))
        add_projected(tensor, [np.eye(SIDE)] * 2, np.zeros(tensor.shape), 0)


def gram(tensor: Array, mode: int, memory: int) -> Triangle:
    """Return A_(j) A_(j)^T.

    Parameters
    ----------
    tensor : array (n_1, ..., n_d)
        float32 or float64, C-contiguous, finite, with squares that float64 holds.
    mode : int
        j, counted from 0.
    memory : int
        Bytes. Where several matrices fit, threads take columns of the unfolding each, and their sums are added up;
        where not, they take rows of the one matrix.

    Returns
    -------
    Triangle
        Of (n_mode, n_mode).
    """
    from refgrad.kernels.unfoldings import add_gram

    extents = _extents(tensor.shape, mode)
    rows = extents[1]
    side, numbers = _rounded(rows), Triangle.size(rows)
    columns = _columns(rows)
    blocks = _blocks(extents, columns)
    tasks = TASKS if tensor.size >= LEAST_SHARED and not modes_at_once(tensor) else 1
    if min(tasks, 2) * numbers * 8 <= memory:
        while tasks * numbers * 8 > memory:
            tasks //= 2  # so that as many threads as that divides have as much to do
        totals = list(aligned_zeros(tasks, numbers))
        cuts = [((blocks * i // tasks, blocks * (i + 1) // tasks), (0, side)) for i in range(tasks)]
    else:
        # Rows that have as much below the diagonal.
        totals = [aligned_zeros(1, numbers)[0]] * tasks
        edges = [round(side / SIDE * math.sqrt(i / tasks)) * SIDE for i in range(tasks + 1)]
        cuts = [((0, blocks), (edges[i], edges[i + 1])) for i in range(tasks)]

    def task(number: int) -> None:
        part, some_rows = cuts[number]
        panel = _panel(columns, rows)
        add_gram(
            tensor.ctypes.data, tensor.dtype.type(0), tensor.itemsize, extents, part, some_rows, panel, totals[number]
        )

    in_threads(task, tasks)
    total = totals[0]
    for other in totals[1:]:
        if other is not total:
            total += other
    return Triangle(total, rows)


def add_projected(tensor: Array, vectors: Sequence[Array], result: Array, memory: int) -> None:
    """Add A x_2 U_2^T ... x_d U_d^T to an array.

    Parameters
    ----------
    tensor : array (n_1, ..., n_d)
        float32 or float64, C-contiguous, d >= 2.
    vectors : sequence of d - 1 arrays (n_j, K_j)
        U_2, ..., U_d, float64.
    result : array (n_1, K_2, ..., K_d)
        float64, C-contiguous, added to.
    memory : int
        Bytes that the first product of what a thread works on may take, if that is not so little that calling would
        take longer.
    """
    from refgrad.kernels.unfoldings import add_projection

    modes = sorted(range(1, tensor.ndim), key=lambda mode: _weight(tensor.shape, mode, result.shape[mode]))
    padded = {mode: _padded(vectors[mode - 1]) for mode in modes}
    cuts = list(ranges(len(tensor), -(-len(tensor) // TASKS)))
    shrunk = result.shape[modes[0]] / tensor.shape[modes[0]]
    fitting = max(LEAST_PIECE, min(LARGEST_PIECE, int(memory / (8 * shrunk))))
    sample = tensor[0].size
    # What follows the first product of a sample is done again for each of its parts.
    whole = sample <= 2 * fitting
    at_once = max(1, fitting // sample) if whole else 1

    def task(number: int) -> None:
        some, target = tensor[cuts[number]], result[cuts[number]]
        products = aligned_zeros(COLUMNS, max(matrix.shape[1] for matrix in padded.values()))
        panel = even = odd = np.empty(0)
        for place in places(some.shape, None, some.size if whole else fitting):
            part = some[place]
            shape, steps = [1, *part.shape[1:]], []
            for mode in modes:
                vectors = padded[mode][place[mode]]
                extents = _extents(shape, mode)
                shape[mode] = result.shape[mode]
                steps.append((*extents, vectors.ctypes.data, vectors.shape[1], shape[mode]))
            if even.size == 0:  # no later part is larger
                # Whose columns lie side by side is read without a panel.
                panel = _panel(COLUMNS, max((rows for _, rows, after, _, _, _ in steps if after < SIDE), default=1))
                sizes = [at_once * before * kept * after for before, _, after, _, _, kept in steps]
                even, odd = np.empty(max(sizes[::2])), np.empty(max(sizes[1::2], default=0))
            add_projection(
                part.ctypes.data,
                part.dtype.type(0),
                part.itemsize,
                len(part),
                at_once,
                np.array(steps, np.int64),
                panel,
                products,
                even,
                odd,
                target[place[0]].reshape(len(part), -1),
            )

    in_threads(task, len(cuts))


def transposed_product(vectors: Array, matrix: Array) -> Array:
    """Return V^T M, where waking the threads of BLAS would take longer than the product.

    Parameters
    ----------
    vectors : array (n, K)
        V, float64.
    matrix : array (n, m)
        M, float64, C-contiguous.

    Returns
    -------
    array (K, m)
    """
    from refgrad.kernels.unfoldings import project

    rows, columns = matrix.shape
    result = np.empty((vectors.shape[1], columns))
    tasks = max(1, min(TASKS, rows * result.size // LEAST_PRODUCTS))
    cuts = list(ranges(len(result), _rounded(-(-len(result) // tasks))))

    def task(number: int) -> None:
        padded = _padded(vectors[:, cuts[number]])
        some = result[cuts[number]]
        panel, products = _panel(COLUMNS, rows), aligned_zeros(COLUMNS, max(padded.shape[1], 3 * SIDE))
        sides = padded.ctypes.data, padded.shape[1], len(some), panel, products, some.ctypes.data
        project(matrix.ctypes.data, 0.0, 8, (1, rows, columns), *sides)

    in_threads(task, len(cuts))
    return result


def _weight(shape: tuple[int, ...], mode: int, rank: int) -> float:
    """Return what a projection costs a number of the tensor, over the share of the numbers that it removes.

    Of two that follow one another, the one of smaller weight is cheaper first.
    """
    multiplied = _rounded(rank) * (1.0 if math.prod(shape[mode + 1 :]) >= SIDE else PANELS)
    return (multiplied + READ) / (1.0 - rank / shape[mode]) if rank < shape[mode] else math.inf


def energy(tensor: Array) -> float:
    """Return |A|^2, or infinity.

    Parameters
    ----------
    tensor : array (n_1, ..., n_d)
        float32 or float64, C-contiguous.
    """
    from refgrad.kernels.unfoldings import add_squares

    tasks = TASKS if tensor.size >= LEAST_SHARED else 1
    together = SIDE * SIDE
    whole = tensor.size // together
    sums = aligned_zeros(tasks, together)
    numbers = tensor.reshape(-1)

    def task(number: int) -> None:
        first, stop = whole * number // tasks * together, whole * (number + 1) // tasks * together
        add_squares(numbers[first:].ctypes.data, tensor.dtype.type(0), tensor.itemsize, stop - first, sums[number])

    in_threads(task, tasks)
    rest = numbers[whole * together :].astype(np.float64)
    return float(sums.sum() + rest @ rest)


def _panel(columns: int, rows: int) -> Array:
    """Return zeros for columns of so many numbers, an odd number of cache lines each.

    With an even one, or worse a power of two, the same few places of a cache would have to hold them all.
    """
    return aligned_zeros(columns, (_rounded(rows) // SIDE | 1) * SIDE)


def _columns(rows: int) -> int:
    """Return how many columns of an unfolding with so many rows are worked on at once."""
    return COLUMNS if rows <= MANY_ROWS else COLUMNS // 2


def _padded(matrix: Array) -> Array:
    """Return a copy with columns of zeros behind its own."""
    return filled_up(matrix, len(matrix), _rounded(matrix.shape[1]))


def _rounded(length: int) -> int:
    return -(-length // SIDE) * SIDE


def _extents(shape: Sequence[int], mode: int) -> tuple[int, int, int]:
    return math.prod(shape[:mode]), shape[mode], math.prod(shape[mode + 1 :])


def _blocks(extents: tuple[int, int, int], columns: int) -> int:
    """Return how many panels of so many columns those of an unfolding fill."""
    before, _, after = extents
    return -(-before // (columns // after)) if after < columns else before * -(-after // columns)
