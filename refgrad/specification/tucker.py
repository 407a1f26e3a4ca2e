"""Tucker forms: HOSVD, sequentially truncated HOSVD, one step of subspace iteration.

In: a tensor and an explained variance, ranks, or the factors of the step before. Out: a core and one factor a mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from refgrad.specification.shared import Array, float64_array, scaled
from refgrad.specification.singular import chosen_rank, jacobi_svd, orthonormal_columns
from refgrad.specification.tensors import mode_product, unfold

__all__ = ["hosvd", "sequential_hosvd", "stored_numbers", "subspace_iteration"]


def hosvd(
    tensor: Array, explained_variance: float | Fraction | None = None, *, ranks: Sequence[int] | None = None
) -> tuple[Array, list[Array]]:
    """Return the core and the factors of the truncated HOSVD (THEORY D3).

    Every U_j comes from the ORIGINAL tensor; S = A x_1 U_1^T ... x_d U_d^T.

    Parameters
    ----------
    tensor : float64 array (n_1, ..., n_d)
        A, finite.
    explained_variance : float or Fraction, optional
        eps in (0, 1]; every K_j by D1.
    ranks : sequence of d int, optional
        The K_j, in place of eps; K_j <= n_j.

    Returns
    -------
    core : float64 array (K_1, ..., K_d)
        S.
    factors : list of d float64 arrays (n_j, K_j)
        U_j.

    Raises
    ------
    ValueError
        Where not exactly one of eps and the ranks is given, or one is out of range.

    Examples
    --------
    >>> core, factors = hosvd(np.ones((2, 3, 4)), 0.9)
    >>> core.shape, [factor.shape for factor in factors]
    ((1, 1, 1), [(2, 1), (3, 1), (4, 1)])
    """
    float64_array("tensor", tensor)
    wanted = _one_rank_a_mode(ranks, tensor.ndim)
    core, factors = tensor, []
    for mode in range(tensor.ndim):
        left, values, _ = jacobi_svd(unfold(tensor, mode))
        kept = chosen_rank(values, explained_variance, wanted[mode], largest=tensor.shape[mode])
        factors.append(left[:, :kept].copy())
        core = mode_product(core, factors[mode].T, mode)
    return core, factors


def sequential_hosvd(
    tensor: Array,
    explained_variance: float | Fraction | None = None,
    *,
    ranks: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
) -> tuple[Array, list[Array]]:
    """Return the core and the factors of the sequentially truncated HOSVD (THEORY D4).

    U_j comes from the core that the modes before it have left, and K_j from that core's own energy.

    Parameters
    ----------
    tensor : float64 array (n_1, ..., n_d)
        A, finite.
    explained_variance : float or Fraction, optional
        eps in (0, 1].
    ranks : sequence of d int, optional
        The K_j, in place of eps; K_j <= n_j.
    order : sequence of d int, optional
        In which order the modes are truncated; 0, 1, ..., d - 1 by default.

    Returns
    -------
    core : float64 array (K_1, ..., K_d)
        S.
    factors : list of d float64 arrays (n_j, K_j)
        U_j, in the order of the axes.

    Raises
    ------
    ValueError
        Where not exactly one of eps and the ranks is given, one is out of range, or `order` is no order of the modes.

    Examples
    --------
    >>> core, factors = sequential_hosvd(np.ones((2, 3, 4)), 0.9, order=(2, 0, 1))
    >>> core.shape
    (1, 1, 1)
    """
    float64_array("tensor", tensor)
    modes = list(range(tensor.ndim)) if order is None else list(order)
    if sorted(modes) != list(range(tensor.ndim)):
        raise ValueError(f"order must name each of the modes 0 to {tensor.ndim - 1} once, got {modes}")
    wanted = _one_rank_a_mode(ranks, tensor.ndim)
    core = tensor
    found: dict[int, Array] = {}
    for mode in modes:
        left, values, _ = jacobi_svd(unfold(core, mode))
        kept = chosen_rank(values, explained_variance, wanted[mode], largest=tensor.shape[mode])
        found[mode] = left[:, :kept].copy()
        core = mode_product(core, found[mode].T, mode)
    return core, [found[mode] for mode in range(tensor.ndim)]


def subspace_iteration(tensor: Array, previous: Sequence[Array]) -> tuple[Array, list[Array]]:
    """Take one warm-started step of subspace iteration in every mode (THEORY D5).

    U_j <- orth(A_(j) A_(j)^T U_j_previous), and S = A x_1 U_1^T ... x_d U_d^T.

    Parameters
    ----------
    tensor : float64 array (n_1, ..., n_d)
        A, finite.
    previous : sequence of d float64 arrays (n_j, K_j)
        The factors of the step before; they fix the ranks.

    Returns
    -------
    core : float64 array (K_1, ..., K_d)
        S.
    factors : list of d float64 arrays (n_j, K_j)
        U_j.

    Raises
    ------
    ValueError
        Where `previous` is not one matrix a mode, with n_j rows and at most n_j columns.

    Examples
    --------
    >>> core, factors = subspace_iteration(np.diag([3.0, 1.0]), [np.ones((2, 1)), np.ones((2, 1))])
    >>> float(abs(factors[0][0, 0])) > 0.99
    True
    """
    float64_array("tensor", tensor)
    if len(previous) != tensor.ndim:
        raise ValueError(f"previous must be one matrix a mode, {tensor.ndim}, got {len(previous)}")
    unit, _ = scaled(tensor)
    core, factors = tensor, []
    for mode, start in enumerate(previous):
        float64_array(f"previous[{mode}]", start, axes=2)
        if start.shape[0] != tensor.shape[mode] or start.shape[1] > start.shape[0]:
            raise ValueError(
                f"previous[{mode}] must have {tensor.shape[mode]} rows and at most as many columns, "
                f"got shape {start.shape}"
            )
        matrix = unfold(unit, mode)
        projected = mode_product(np.ascontiguousarray(start.T), np.ascontiguousarray(matrix.T), 1)
        iterate = mode_product(projected, matrix, 1).T
        factors.append(orthonormal_columns(np.ascontiguousarray(iterate)))
        core = mode_product(core, factors[mode].T, mode)
    return core, factors


def stored_numbers(core: Array | None, factors: Sequence[Array]) -> int:
    """Count what is stored: K (n_1 + N / n_1) for an SVD, prod K_j + sum n_j K_j for a Tucker form (THEORY D2, D3).

    Parameters
    ----------
    core : float64 array (K_1, ..., K_d) or None
        S; None for an SVD, which has no core.
    factors : sequence of float64 arrays
        U_K S_K and V_K^T, or the d matrices U_j.

    Returns
    -------
    int

    Examples
    --------
    >>> stored_numbers(None, [np.zeros((4, 2)), np.zeros((2, 9))])
    26
    >>> stored_numbers(np.zeros((1, 2)), [np.zeros((3, 1)), np.zeros((5, 2))])
    15
    """
    return (0 if core is None else core.size) + sum(factor.size for factor in factors)


def _one_rank_a_mode(ranks: Sequence[int] | None, modes: int) -> Sequence[int | None]:
    if ranks is None:
        return [None] * modes
    if len(ranks) != modes:
        raise ValueError(f"ranks must be one a mode, {modes}, got {len(ranks)}")
    return ranks
