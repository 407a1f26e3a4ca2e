"""Tensors, their unfoldings and their truncated decompositions.

In: a tensor of any order and how much of its energy to keep. Out: a `LowRank` (truncated SVD) or a `Tucker` (truncated
HOSVD): small, immutable, with its ranks, what it discarded and how to rebuild the tensor. Read in this order:
unfolding -> spectrum -> compressed -> decompositions.
"""

from refgrad.multilinear.compressed import LowRank, Tucker
from refgrad.multilinear.decompositions import hosvd, sequential_hosvd, svd
from refgrad.multilinear.spectrum import (
    METHODS,
    admissible_ranks,
    explained_variance_rank,
    gram_energy_bound,
    singular_values,
)
from refgrad.multilinear.unfolding import fold, mode_product, unfold

__all__ = [
    "METHODS",
    "LowRank",
    "Tucker",
    "admissible_ranks",
    "explained_variance_rank",
    "fold",
    "gram_energy_bound",
    "hosvd",
    "mode_product",
    "sequential_hosvd",
    "singular_values",
    "svd",
    "unfold",
]
