"""Legitimate variants: right implementations that differ in everything that may differ.

In: nothing. Out: `VARIANTS`, each a target for ``conv2d``; none of them may ever be called wrong. Each computes in the
dtype that it is given unless it says otherwise, and none shares code with what refgrad judges by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from refgrad.arguments import Array
from refgrad.oracle.variants.arithmetic import (
    Geometry,
    all_at_once,
    by_blocks,
    by_projecting,
    by_rebuilding,
    by_theorem_14,
    forward,
    forward_by_taps,
    input_gradient,
    input_gradient_by_taps,
    rebuild,
    weight_gradient_by_taps,
)
from refgrad.oracle.variants.decompositions import (
    leading,
    left_full,
    left_gesvd,
    left_gram,
    left_qr,
    left_svd,
    rotations,
    signs,
)

__all__ = ["VARIANTS", "layer"]

Left = Callable[[Array], tuple[Array, Array]]
Turn = Callable[[Any, np.random.Generator], list[Array]]


def layer(
    left: Left = left_svd,
    turn: Turn | None = None,
    weight_gradient: Callable[..., Array] = by_rebuilding,
    accumulator: npt.DTypeLike | None = None,
    order: Any = "C",
    by_taps: bool = False,
    keys: Collection[str] | None = None,
) -> Callable[..., dict[str, Any]]:
    """Make an implementation of a decomposition, what is done to its factors, and an order of contraction.

    Parameters
    ----------
    left : callable
        From an unfolding to left singular vectors and squared singular values.
    turn : callable, optional
        Turns factors within their subspaces.
    weight_gradient : callable
        From core, factors, weight, grad_output, groups and geometry to dW.
    accumulator : dtype, optional
        What everything is computed in; the input's dtype where absent.
    order : str
        The memory layout of what is returned.
    by_taps : bool
        Whether forward and input gradient are one matrix product a tap, with the channels last in memory.
    keys : collection of str, optional
        Which results to return; all where absent.
    """

    def implementation(
        x: Array,
        weight: Array,
        bias: Array,
        grad_output: Array,
        *,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        explained_variance: float,
    ) -> dict[str, Any]:
        dtype = x.dtype
        inner = np.dtype(accumulator or dtype)
        geometry = Geometry(stride=stride, padding=padding, dilation=dilation)
        x, weight, bias, grad_output = (array.astype(inner) for array in (x, weight, bias, grad_output))
        unit = np.ldexp(x, -np.frexp(np.abs(x).max())[1])
        factors: Any = []
        for mode in range(4):
            vectors, squares = left(np.moveaxis(unit, mode, 0).reshape(x.shape[mode], -1))
            factors.append(vectors[:, : leading(squares, explained_variance)])
        if turn is not None:
            factors = turn(factors, np.random.default_rng(x.size))
        core = rebuild(x, [factor.T for factor in factors])
        arrays = {
            "output": (forward_by_taps if by_taps else forward)(x, weight, bias, grad_output, groups, geometry),
            "grad_input": (input_gradient_by_taps if by_taps else input_gradient)(
                x, weight, grad_output, groups, geometry
            ),
            "grad_bias": grad_output.sum(axis=(0, 2, 3)),
            "grad_weight": weight_gradient(core, factors, weight, grad_output, groups, geometry),
            "core": core,
            "reconstruction": rebuild(core, factors),
        }
        results: dict[str, Any] = {key: array.astype(dtype, order=order) for key, array in arrays.items()}
        results["factors"] = tuple(factor.astype(dtype, order=order) for factor in factors)
        results["ranks"] = core.shape
        results["stored_numbers"] = core.size + sum(factor.size for factor in factors)
        return {key: value for key, value in results.items() if keys is None or key in keys}

    return implementation


def _svd_of_float64(matrix: Array) -> tuple[Array, Array]:
    return left_svd(matrix.astype(np.float64))


VARIANTS: Final[Mapping[str, Callable[..., dict[str, Any]]]] = {
    "LAPACK gesdd": layer(),
    "LAPACK gesvd": layer(left_gesvd, order="F"),
    "full SVD": layer(left_full, weight_gradient=by_projecting),
    "QR, then SVD": layer(left_qr, weight_gradient=by_theorem_14),
    "Gram": layer(left_gram),
    "Gram, signs turned round": layer(left_gram, signs, by_theorem_14),
    "signs turned round": layer(turn=signs, weight_gradient=by_projecting),
    "columns rotated": layer(turn=rotations),
    "columns rotated, contracted": layer(left_gesvd, rotations, by_theorem_14),
    "THEORY T14": layer(weight_gradient=by_theorem_14),
    "gradient projected": layer(weight_gradient=by_projecting),
    "one sum over everything": layer(weight_gradient=all_at_once),
    "sums of blocks": layer(weight_gradient=by_blocks),
    "channels last": layer(weight_gradient=weight_gradient_by_taps, order="F", by_taps=True),
    "float64 inside": layer(accumulator=np.float64, weight_gradient=by_theorem_14),
    "longdouble inside": layer(_svd_of_float64, accumulator=np.longdouble),
    "no factors": layer(keys=("output", "grad_input", "grad_bias", "grad_weight", "reconstruction", "ranks")),
    "gradients only": layer(left_gram, keys=("output", "grad_input", "grad_bias", "grad_weight", "stored_numbers")),
}
"""By name."""
