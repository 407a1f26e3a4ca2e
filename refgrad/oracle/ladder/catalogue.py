"""The inputs of every operation but conv2d: named edge cases, each with its effect, and generated ones.

In: an operation's name, or a seed and a number. Out: `LadderCase`s, the same every time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from refgrad.oracle.cases import GENERATED
from refgrad.oracle.ladder.cases import LadderCase
from refgrad.oracle.ladder.contractions import (
    generated_reconstruction,
    generated_weight_gradient,
    named_reconstructions,
    named_weight_gradients,
)
from refgrad.oracle.ladder.decompositions import (
    generated_decomposition,
    generated_iteration,
    generated_rank,
    generated_unfolding,
    named_decompositions,
    named_iterations,
    named_ranks,
    named_unfoldings,
)
from refgrad.oracle.ladder.layers import generated_linear, generated_step, named_linears, named_steps

__all__ = ["generated_ladder_case", "ladder_catalogue"]

_NAMED: Final[Mapping[str, Callable[[str], Iterator[LadderCase]]]] = {
    "rank": named_ranks,
    "unfold": named_unfoldings,
    "svd": named_decompositions,
    "hosvd": named_decompositions,
    "sequential_hosvd": named_decompositions,
    "subspace_iteration": named_iterations,
    "reconstruct": named_reconstructions,
    "weight_gradient": named_weight_gradients,
    "linear": named_linears,
    "step": named_steps,
}

_GENERATED: Final[Mapping[str, Callable[[str, np.random.Generator, str], LadderCase]]] = {
    "rank": generated_rank,
    "unfold": generated_unfolding,
    "svd": generated_decomposition,
    "hosvd": generated_decomposition,
    "sequential_hosvd": generated_decomposition,
    "subspace_iteration": generated_iteration,
    "reconstruct": generated_reconstruction,
    "weight_gradient": generated_weight_gradient,
    "linear": generated_linear,
    "step": generated_step,
}


def ladder_catalogue(operation: str) -> tuple[LadderCase, ...]:
    """Return the named cases of an operation, the simplest first.

    Examples
    --------
    >>> [case.name for case in ladder_catalogue("unfold")][:2]
    ['vector, mode 0', 'matrix, mode 0']
    """
    return tuple(_NAMED[operation](operation))


def generated_ladder_case(operation: str, seed: int, number: int) -> LadderCase:
    """Return case `number` of those that follow from a seed; it does not depend on how many are asked for.

    Examples
    --------
    >>> generated_ladder_case("rank", 7, 3).name
    'generated 7/3'
    """
    generator = np.random.default_rng((seed, number, zlib.crc32(operation.encode())))
    return _GENERATED[operation](operation, generator, f"{GENERATED}{seed}/{number}")
