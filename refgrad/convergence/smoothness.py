"""How smooth a loss is: constants known for convex losses of a linear layer, and a step size verified by trying.

In: the data of a convex problem, or a loss that can be evaluated. Out: L and mu of THEORY T16-T18, rounded to the safe
side; or the largest step size tried at which a step is certified.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from refgrad.arguments import Array, float_array
from refgrad.bounds.norms import exponent_of, lowered, over_power, raised, squared_singular_values, times_power
from refgrad.convergence.certificate import Certificate, certify
from refgrad.convergence.gradient import CompressedGradient
from refgrad.multilinear import gram_energy_bound
from refgrad.rounding import gamma

__all__ = [
    "Curvature",
    "certified_step",
    "least_squares_curvature",
    "logistic_curvature",
    "softmax_curvature",
]


@dataclass(frozen=True, slots=True)
class Curvature:
    """Between which curvatures a convex function lies.

    Parameters
    ----------
    smoothness : float
        L: the gradient is Lipschitz with it (THEORY T16); from above.
    strong_convexity : float
        mu: then |grad f|^2 >= 2 mu (f - f*), the PL inequality (THEORY T18); from below, 0 where there is none.
    """

    smoothness: float
    strong_convexity: float

    @property
    def step_size(self) -> float:
        """1/L, from below: the largest step size that THEORY T16 allows."""
        return lowered(1.0 / self.smoothness)


def least_squares_curvature(data: Array, *, ridge: float = 0.0, bias: bool = False) -> Curvature:
    """Return L and mu of f(W, b) = |A W^T + b - Y|^2 / (2 M) + ridge/2 |(W, b)|^2.

    L = |A|_2^2 / M + ridge and mu = s_min(A)^2 / M + ridge, for the Hessian is A^T A / M + ridge in every row of W.

    Parameters
    ----------
    data : array (M, I)
        A, finite.
    ridge : float
        At least 0.
    bias : bool
        Whether there is a bias b, which is one more column of ones.

    Returns
    -------
    Curvature

    Raises
    ------
    TypeError, ValueError
        Where the data are no finite matrix, or ridge is negative or not finite.

    Examples
    --------
    >>> curvature = least_squares_curvature(np.diag([4.0, 2.0]))
    >>> round(curvature.smoothness, 9), round(curvature.strong_convexity, 9)
    (8.0, 2.0)
    """
    return _curvature(data, ridge, bias, 1.0, strong=True)


def logistic_curvature(data: Array, *, ridge: float = 0.0, bias: bool = False) -> Curvature:
    """Return L and mu of the mean of log(1 + exp(-y (a w + b))) over samples a, y = 1 or -1, plus ridge/2 |(w, b)|^2.

    L = |A|_2^2 / (4 M) + ridge, for the second derivative of the logistic loss is at most 1/4; mu = ridge.

    Parameters
    ----------
    data : array (M, I)
        A, finite.
    ridge : float
        At least 0.
    bias : bool
        Whether there is a bias.

    Returns
    -------
    Curvature

    Raises
    ------
    TypeError, ValueError
        See `least_squares_curvature`.

    Examples
    --------
    >>> round(logistic_curvature(np.diag([4.0, 2.0]), ridge=0.5).smoothness, 9)
    2.5
    """
    return _curvature(data, ridge, bias, 0.25, strong=False)


def softmax_curvature(data: Array, *, ridge: float = 0.0, bias: bool = False) -> Curvature:
    """Return L and mu of the mean cross-entropy of the scores A W^T + b, plus ridge/2 |(W, b)|^2.

    L = |A|_2^2 / (2 M) + ridge, for the Hessian of the cross-entropy by the scores, diag(p) - p p^T, is at most 1/2:
    v^T (diag(p) - p p^T) v is the variance of v under p, at most a quarter of its squared range, and the range at most
    sqrt(2) |v|. mu = ridge.

    Parameters
    ----------
    data : array (M, I)
        A, finite.
    ridge : float
        At least 0.
    bias : bool
        Whether there is a bias.

    Returns
    -------
    Curvature

    Raises
    ------
    TypeError, ValueError
        See `least_squares_curvature`.

    Examples
    --------
    >>> round(softmax_curvature(np.diag([4.0, 2.0])).smoothness, 9)
    4.0
    """
    return _curvature(data, ridge, bias, 0.5, strong=False)


def _curvature(data: Array, ridge: float, bias: bool, factor: float, *, strong: bool) -> Curvature:
    float_array("data", data, axes="M I", finite=True)
    if not 0.0 <= ridge < math.inf:
        raise ValueError(f"ridge must be at least 0 and finite, got {ridge!r}")
    matrix = np.concatenate([data, np.ones((len(data), 1), data.dtype)], axis=1) if bias else data
    squares, exponent = squared_singular_values(matrix[np.newaxis])
    largest = times_power(float(squares[0, 0]), 2 * exponent) / len(data)
    smoothness = raised(factor * largest + ridge)
    if smoothness == 0.0:
        raise ValueError("data must not be all zero without a ridge: the loss is constant, and every L is right")
    least = _least_squared_singular_value(matrix) / len(data) if strong else 0.0
    return Curvature(smoothness, min(lowered(least + ridge), smoothness))


def _least_squared_singular_value(matrix: Array) -> float:
    """Return s_min^2 from below; 0 where there are fewer rows than columns."""
    rows, columns = matrix.shape
    if rows < columns:
        return 0.0
    exponent = exponent_of(matrix)
    unit = over_power(matrix, exponent)
    gram = unit.T @ unit
    energy = float(np.trace(gram)) * (1.0 + 2.0 * gamma(rows + columns, np.float64))
    least = float(np.linalg.eigvalsh(gram)[0]) - gram_energy_bound(columns, rows, energy)
    return times_power(max(least, 0.0), 2 * exponent)


def certified_step(
    loss_at: Callable[[Mapping[str, Array]], tuple[float, float]],
    params: Mapping[str, Array],
    gradient: CompressedGradient,
    *,
    step_size: float,
    shrink: float = 0.5,
    tries: int = 40,
) -> tuple[dict[str, Array] | None, Certificate]:
    """Look for a step size at which the step is certified; never take one at which it is not (THEORY T16).

    The step sizes eta, shrink eta, shrink^2 eta, ... are tried in turn; at each the descent inequality is verified from
    the loss after the step, so that no smoothness need be known.

    Parameters
    ----------
    loss_at : callable
        Takes parameters by name and returns the loss there, and how far rounding can have moved it.
    params : mapping of str to array
        x, where `gradient` was taken.
    gradient : CompressedGradient
        g~ and what is known of its error.
    step_size : float
        The first one that is tried.
    shrink : float
        By how much each is smaller than the one before, in (0, 1).
    tries : int
        How many are tried at most.

    Returns
    -------
    params : dict of str to array, or None
        x+, of the parameters' dtypes; None where no step was certified.
    certificate : Certificate
        Of that step; of the last that was tried, with the reason, where there is none.

    Raises
    ------
    TypeError, ValueError
        Where an argument is out of range, or the parameters are not those of the gradient.

    Examples
    --------
    >>> import refgrad as rg
    >>> from refgrad.convergence import compressed_gradient
    >>> def loss(params):
    ...     return 10.0 * np.sum(params["x"] ** 2)
    >>> x = {"x": np.array([1.0, -1.0])}
    >>> gradient = compressed_gradient(loss, x, store=rg.Exact())
    >>> after, certificate = certified_step(lambda p: (float(loss(p)), 1e-12), x, gradient, step_size=1.0)
    >>> certificate.step_size, certificate.certified, round(float(loss(after)), 6)
    (0.03125, True, 2.8125)
    """
    if not 0.0 < shrink < 1.0:
        raise ValueError(f"shrink must be in (0, 1), got {shrink!r}")
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries!r}")
    if params.keys() != gradient.gradients.keys():
        raise ValueError(f"params must be those of the gradient, {list(gradient.gradients)}, got {list(params)}")
    certificate: Certificate | None = None
    for attempt in range(tries):
        tried = step_size * shrink**attempt
        if certificate is not None and not tried > 0.0:
            break
        after = {name: (array - tried * gradient.gradients[name]).astype(array.dtype) for name, array in params.items()}
        loss, rounding = loss_at(after)
        # x+ is rounded to the parameters' dtype, by u |x+| at most, and so is the direction.
        moved = {name: (params[name].astype(np.float64) - after[name]) / tried for name in params}
        certificate = certify(gradient, step_size=tried, next_loss=loss, next_rounding=rounding, direction=moved)
        if certificate.certified:
            return after, certificate
        if certificate.spoiler is not None and certificate.error_bound >= certificate.direction_norm:
            break
    assert certificate is not None
    return None, certificate
