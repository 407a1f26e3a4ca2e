"""Assertions that judge with the oracle's own tolerances.

In: an operation, or one of its results, and a case. Out: nothing, or an `AssertionError` whose text is the failure
report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial

import numpy as np

from refgrad.arguments import Array, float_array
from refgrad.oracle.cases import AnyCase, Case
from refgrad.oracle.diagnosis import diagnose
from refgrad.oracle.judge import judge
from refgrad.oracle.judgement import Judgement
from refgrad.oracle.ladder.cases import LadderCase
from refgrad.oracle.operations import OPERATIONS
from refgrad.oracle.protocol import rows_of
from refgrad.oracle.reference import TensorReference
from refgrad.oracle.rows.decomposition import orthonormal_verdict, subspace_verdict
from refgrad.oracle.tiers.suspects import Suspects

__all__ = ["assert_judged", "assert_rank", "assert_same_subspace", "assert_weight_gradient", "failure_text"]


def assert_judged(operation: Callable[..., object], case: AnyCase) -> None:
    """Judge everything that an operation returns for a case.

    Where a result is within its bound and still farther off than independent roundings take it, the operation is called
    on redrawn inputs as well, on up to three in each such row: a result that is so on all three is wrong.

    Parameters
    ----------
    operation : callable
        The one that `case.operation` names.
    case : Case or LadderCase
        The input.

    Raises
    ------
    AssertionError
        Where any row fails; its text names the row, what was measured, the likely cause and the case.
    TypeError
        Where the operation is not callable, or the case is no case.

    Examples
    --------
    >>> from refgrad.oracle import find_case_of
    >>> case = find_case_of("rank", "zero energy")
    >>> assert_judged(lambda s, *, explained_variance: {"rank": 9}, case)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: rank, case 'zero energy' ...
    """
    if not callable(operation):
        raise TypeError(f"operation must be callable, got {type(operation).__name__}")
    _check_case(case)
    judgement = judge(operation, case)
    Suspects(partial(judge, operation)).settle(judgement)
    if judgement.failed:
        raise AssertionError(failure_text([judgement]))


def assert_weight_gradient(
    grad_weight: Array, case: AnyCase, *, core: Array | None = None, factors: Sequence[Array] | None = None
) -> None:
    """Judge a weight gradient of a convolution or a linear layer.

    Parameters
    ----------
    grad_weight : array, (O, C / groups, k_h, k_w) or (O, I)
        Of the case's dtype.
    case : Case or LadderCase
        For ``conv2d``, ``linear`` or ``weight_gradient``: the layer and its input.
    core, factors : array and sequence of arrays, optional
        What the gradient was contracted from. Without them it is held against every right decomposition, which decides
        nothing where these differ too much.

    Raises
    ------
    AssertionError
        Where it is wrong.
    TypeError, ValueError
        Where the case has no weight gradient, or just one of core and factors is given.

    Examples
    --------
    >>> from refgrad.oracle import find_case
    >>> case = find_case("plain")
    >>> assert_weight_gradient(np.zeros(case.weight.shape), case)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: conv2d, case 'plain' ...
    """
    _check_case(case)
    if "grad_weight" not in OPERATIONS[case.operation].results:
        raise ValueError(f"case must be one of an operation that has a weight gradient, got one of {case.operation}")
    if (core is None) != (factors is None):
        raise ValueError(f"core and factors must be given together, got {'factors' if core is None else 'core'} only")
    returned: dict[str, object] = {"grad_weight": grad_weight}
    if core is not None:
        returned |= {"core": core, "factors": factors}
    _assert_rows(case, returned, ("grad_weight", "factors") if core is not None else ("grad_weight",))


def assert_same_subspace(factor: Array, tensor: Array, mode: int) -> None:
    """Judge whether a factor's columns span leading left singular vectors of an unfolding, whatever their signs.

    Parameters
    ----------
    factor : array, (n_mode, K)
        With orthonormal columns; of the tensor's dtype.
    tensor : array
        Float32 or float64.
    mode : int
        Which axis of the tensor.

    Raises
    ------
    AssertionError
        Where the columns are not orthonormal, or span another subspace.
    TypeError, ValueError
        Where the shapes do not fit.

    Examples
    --------
    >>> assert_same_subspace(-np.eye(3)[:, :1], np.diag([3.0, 2.0, 1.0]), 0)
    >>> assert_same_subspace(np.eye(3)[:, 1:2], np.diag([3.0, 2.0, 1.0]), 0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: factors[0] must keep the energy of the leading 1: lacking ...
    """
    case = LadderCase("hosvd", "a tensor", {"tensor": tensor})
    if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode < tensor.ndim:
        raise ValueError(f"mode must be an integer in [0, {tensor.ndim}), got {mode!r}")
    float_array("factor", factor)
    rows = tensor.shape[mode]
    if factor.ndim != 2 or len(factor) != rows or not 1 <= factor.shape[1] <= rows or factor.dtype != tensor.dtype:
        wanted = f"({rows}, K), K at most {rows}, and dtype {tensor.dtype}"
        raise ValueError(f"factor must have shape {wanted}, got {factor.shape}, {factor.dtype}")
    vectors = np.asarray(factor, np.float64)
    unfolding = TensorReference(case).modes[mode]
    verdicts = (
        orthonormal_verdict(mode, vectors, tensor.dtype),
        subspace_verdict(mode, vectors, unfolding, tensor.dtype),
    )
    for verdict in verdicts:
        if verdict.failed:
            raise AssertionError(verdict.message)


def assert_rank(ranks: int | Sequence[int], values: Array, *, explained_variance: float | Fraction) -> None:
    """Judge explained-variance ranks: of a spectrum, or of every mode of a tensor (THEORY D1).

    Parameters
    ----------
    ranks : int or sequence of int
        One rank for a spectrum, one for each mode of a tensor.
    values : array
        Singular values, falling, where `ranks` is one integer; a tensor where it is a sequence.
    explained_variance : float or Fraction
        Eps; a float means its shortest decimal, 0.8 = 4/5.

    Raises
    ------
    AssertionError
        Where a rank lies outside what a right rounding can decide.
    TypeError, ValueError
        Where there is not one rank for each mode, or the values are not finite floats.

    Examples
    --------
    >>> assert_rank(2, np.array([2.0, 1.0, 0.5]), explained_variance=0.9)
    >>> assert_rank([1, 2], np.diag([2.0, 1.0]), explained_variance=0.9)
    Traceback (most recent call last):
        ...
    AssertionError: ranks are (1, 2): mode 0 has 1, expected 2
    """
    share = (
        explained_variance if isinstance(explained_variance, Fraction) else Fraction(repr(float(explained_variance)))
    )
    if isinstance(ranks, Sequence):
        case = LadderCase("hosvd", "a tensor", {"tensor": values}, explained_variance=share)
        if len(ranks) != values.ndim:
            raise ValueError(f"ranks must be {values.ndim}, one for each mode, got {ranks!r}")
        returned: dict[str, object] = {"ranks": tuple(ranks)}
    else:
        case = LadderCase("rank", "a spectrum", {"singular_values": values}, explained_variance=share)
        returned = {"rank": ranks}
    verdict = judge(lambda *_, **__: returned, case, rows=("ranks",)).verdicts["ranks"]
    if verdict.failed:
        raise AssertionError(verdict.message)


def _check_case(case: object) -> None:
    if not isinstance(case, Case | LadderCase):
        raise TypeError(f"case must be a Case or a LadderCase, got {type(case).__name__}")


def _assert_rows(case: AnyCase, returned: dict[str, object], rows: Sequence[str]) -> None:
    judgement = judge(lambda *_, **__: returned, case, rows=[row for row in rows if row in rows_of(case.operation)])
    if judgement.failed:
        raise AssertionError(failure_text([judgement]))


def failure_text(judgements: Sequence[Judgement]) -> str:
    """Return what to print of judgements of one operation, some of which failed.

    Parameters
    ----------
    judgements : sequence of Judgement
        Those that passed help to tell one mistake from another.
    """
    parts = []
    rows = dict.fromkeys(
        row for judgement in judgements for row, verdict in judgement.verdicts.items() if verdict.failed
    )
    for row in rows:
        failing = [each for each in judgements if row in each.verdicts and each.verdicts[row].failed]
        passing = [each for each in judgements if row in each.verdicts and not each.verdicts[row].failed]
        # A mistake's own values are matched no closer than the bound, under which a statistical failure is.
        over_the_bound = [each for each in failing if each.verdicts[row].kind != "statistical"]
        first = (over_the_bound or failing)[0]
        lines = [
            f"{first.case.operation}, case {first.case.name!r} ({first.case.describe()})",
            f"  {row}: {first.verdicts[row].message}",
        ]
        if len(failing) > 1:
            lines.append(f"  {len(failing)} of {len(judgements)} cases fail in this row")
        cause = diagnose(row, over_the_bound, passing)
        if cause is not None:
            lines.append(f"  likely cause: {cause.sentence}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
