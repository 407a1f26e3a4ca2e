"""Symmetric matrices whose eigenpairs are hard to find, and how a triangle keeps them.

In: a length and a seed. Out: matrices, positive semidefinite.
"""

import numpy as np

from refgrad.multilinear.eigenpairs import SIDE, Triangle

__all__ = ["FAMILIES", "triangle_of"]


def triangle_of(matrix):
    """The lower triangle of a symmetric matrix, and NaN in the rows that are not to be read."""
    rows = len(matrix)
    side = rows + -rows % SIDE
    filled = np.zeros((side, side))
    filled[rows:] = np.nan
    filled[:rows, :rows] = matrix
    blocks = [filled[row : row + SIDE, : row + SIDE].reshape(-1) for row in range(0, side, SIDE)]
    return Triangle(np.concatenate(blocks), rows)


def orthogonal(length, generator):
    return np.linalg.qr(generator.standard_normal((length, length)))[0]


def with_energies(energies, generator):
    """A matrix of these eigenvalues."""
    basis = orthogonal(len(energies), generator)
    return (basis * energies) @ basis.T


def glued(length, glue):
    """Wilkinson's matrices of 21 rows, whose eigenvalues lie in pairs as near as float64 can tell, in a chain."""
    count = -(-length // 21)
    matrix = np.kron(np.eye(count), np.diag(np.abs(np.arange(21.0) - 10.0)))
    beside = np.ones(21 * count - 1)
    beside[20::21] = glue
    return (matrix + np.diag(beside, 1) + np.diag(beside, -1) + 2.0 * np.eye(21 * count))[:length, :length]


def random_gram(length, generator):
    numbers = generator.standard_normal((length, 2 * length))
    return numbers @ numbers.T


def graded(length, generator):
    scales = 2.0 ** -np.arange(min(length, 40.0)).repeat(-(-length // 40))[:length]
    return random_gram(length, generator) * np.outer(scales, scales)


FAMILIES = {
    "random": random_gram,
    "decaying": lambda n, generator: with_energies(1.0 / np.arange(1.0, n + 1.0), generator),
    "identity": lambda n, generator: np.eye(n),
    "diagonal": lambda n, generator: np.diag(np.arange(1.0, n + 1.0)),
    "ones": lambda n, generator: np.ones((n, n)),
    "one number": lambda n, generator: np.diag(np.arange(float(n)) == n // 2).astype(float),
    "repeated": lambda n, generator: with_energies(np.repeat(np.arange(1.0, n + 1.0), 4)[:n], generator),
    "low rank": lambda n, generator: with_energies((np.arange(n) < 3).astype(float), generator),
    "powers of two": lambda n, generator: with_energies(2.0 ** -np.arange(n), generator),
    "clustered": lambda n, generator: with_energies(1.0 + 1e-3 * np.arange(n), generator),
    "nearly equal": lambda n, generator: with_energies(1.0 + 1e-15 * np.arange(n), generator),
    "graded down": graded,
    "graded up": lambda n, generator: graded(n, generator)[::-1, ::-1],
    "glued": lambda n, generator: glued(n, 0.0),
    "glued weakly": lambda n, generator: glued(n, 1e-8),
    "two blocks": lambda n, generator: np.kron(np.eye(2), random_gram(-(-n // 2), generator))[:n, :n],
    "duplicated": lambda n, generator: np.kron(np.ones((2, 2)), random_gram(-(-n // 2), generator))[:n, :n],
    "zero rows": lambda n, generator: random_gram(n, generator) * np.outer(np.arange(n) % 3 > 0, np.arange(n) % 3 > 0),
}
"""Of a length and a generator."""
