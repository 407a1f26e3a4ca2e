"""The steps of the method as operations that a target can offer, from small to large, so that a port can climb.

In: nothing. Out: `OPERATIONS`, for each its name, its arguments and its results: the one table that the in-process
protocol, the record protocol for child processes, and the documentation are made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["OPERATIONS", "Operation"]


@dataclass(frozen=True, slots=True)
class Operation:
    """What goes into one operation, and what may come out.

    Parameters
    ----------
    name : str
        What a target calls it.
    summary : str
        What it computes.
    arrays : mapping
        Positional arguments, in order: name -> axes. Axes of "factors" are those of every one of a tuple of matrices.
    attributes : mapping
        Keyword arguments: name -> kind, one of "fraction" (an explained variance in (0, 1]), "real", "integer",
        "pair" (height, width) and "pads" ((top, bottom), (left, right)).
    results : mapping
        Result -> kind, one of "array", "arrays" (a sequence of matrices), "integer" and "integers".
    """

    name: str
    summary: str
    arrays: Mapping[str, str]
    attributes: Mapping[str, str]
    results: Mapping[str, str]


_GEOMETRY: Final = {"stride": "pair", "padding": "pads", "dilation": "pair", "groups": "integer"}
_DECOMPOSITION: Final = {"core": "array", "factors": "arrays"}
_COMPRESSED: Final = {**_DECOMPOSITION, "ranks": "integers", "reconstruction": "array", "stored_numbers": "integer"}
_LAYER: Final = {"output": "array", "grad_input": "array", "grad_bias": "array", "grad_weight": "array", **_COMPRESSED}
_CONV_ARRAYS: Final = {
    "x": "B C H W",
    "weight": "O C/groups k_h k_w",
    "bias": "O",
    "grad_output": "B O H' W'",
}

_ALL: Final = (
    Operation(
        "rank",
        "the explained-variance rank of a spectrum (THEORY D1)",
        {"singular_values": "n"},
        {"explained_variance": "fraction"},
        {"rank": "integer"},
    ),
    Operation(
        "unfold",
        "one axis as rows, the others in their order, the last running fastest, as columns",
        {"tensor": "n_0 ... n_d-1"},
        {"mode": "integer"},
        {"matrix": "array"},
    ),
    Operation(
        "svd",
        "the truncated SVD of the unfolding of axis 0, as U_K S_K and V_K^T (THEORY D2)",
        {"tensor": "n_0 ... n_d-1"},
        {"explained_variance": "fraction"},
        {"left": "array", "right": "array", "rank": "integer"},
    ),
    Operation(
        "hosvd",
        "the truncated higher-order SVD, every factor from the tensor itself (THEORY D3)",
        {"tensor": "n_0 ... n_d-1"},
        {"explained_variance": "fraction"},
        _COMPRESSED,
    ),
    Operation(
        "sequential_hosvd",
        "the sequentially truncated HOSVD, axis 0 first, each factor from the core so far (THEORY D4)",
        {"tensor": "n_0 ... n_d-1"},
        {"explained_variance": "fraction"},
        _COMPRESSED,
    ),
    Operation(
        "subspace_iteration",
        "one warm-started step at fixed ranks: U_j <- orth(A_(j) A_(j)^T U_j of the step before) (THEORY D5)",
        {"tensor": "n_0 ... n_d-1", "factors": "n_j K_j"},
        {},
        {**_DECOMPOSITION, "reconstruction": "array"},
    ),
    Operation(
        "reconstruct",
        "core x_1 U_1 ... x_d U_d (THEORY D3)",
        {"core": "K_0 ... K_d-1", "factors": "n_j K_j"},
        {},
        {"reconstruction": "array"},
    ),
    Operation(
        "weight_gradient",
        "the weight gradient of a convolution, from given core and factors of its input (THEORY D7, T14)",
        {"core": "K_1 K_2 K_3 K_4", "factors": "n_j K_j", "grad_output": "B O H' W'"},
        {"kernel_size": "pair", **_GEOMETRY},
        {"grad_weight": "array"},
    ),
    Operation(
        "linear",
        "one training step of a linear layer whose input is kept as HOSVD factors (THEORY D3, D6, D7)",
        {"x": "... I", "weight": "O I", "bias": "O", "grad_output": "... O"},
        {"explained_variance": "fraction"},
        _LAYER,
    ),
    Operation(
        "conv2d",
        "one training step of a convolution whose input is kept as HOSVD factors (THEORY D3, D6, D7)",
        _CONV_ARRAYS,
        {**_GEOMETRY, "explained_variance": "fraction"},
        _LAYER,
    ),
    Operation(
        "step",
        "conv2d, and then SGD: v <- momentum v + gradient + weight_decay p; p <- p - learning_rate v",
        {**_CONV_ARRAYS, "weight_velocity": "O C/groups k_h k_w", "bias_velocity": "O"},
        {
            **_GEOMETRY,
            "explained_variance": "fraction",
            "learning_rate": "real",
            "momentum": "real",
            "weight_decay": "real",
        },
        {
            "weight": "array",
            "bias": "array",
            "weight_velocity": "array",
            "bias_velocity": "array",
            **_DECOMPOSITION,
        },
    ),
)

OPERATIONS: Final[Mapping[str, Operation]] = {operation.name: operation for operation in _ALL}
"""Every operation by its name, from small to large."""
