"""How far a compressed weight gradient can be from the exact one (THEORY T3, T7, T11-T13, T15).

In: what a layer kept of its input and the gradient of its output. Out: a `GradientBound` in three grades, from what the
explained variance promises, from what was discarded, and from the activation itself where it is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from refgrad.arguments import Array, float_array, one_of
from refgrad.bounds.norms import (
    exponent_of,
    frobenius_norm,
    over_power,
    raised,
    raised_product,
    spectral_norms,
    squared_singular_values,
    times_power,
)
from refgrad.geometry import ConvGeometry
from refgrad.multilinear import LowRank, Tucker, gram_energy_bound
from refgrad.rounding import gamma, singular_value_bound, unit_roundoff
from refgrad.storage.base import Storage, Stored, checked_grad_output
from refgrad.storage.exact import Dense
from refgrad.storage.sizes import Sizes
from refgrad.tape import KeptActivation

__all__ = ["GRADES", "GradientBound", "activation_error_bounds", "network_bound", "weight_gradient_bound"]

GRADES = ("a_priori", "a_posteriori", "exact")
"""From what the explained variance promises; from what was discarded; from the activation itself."""


@dataclass(frozen=True, slots=True)
class GradientBound:
    """Upper bounds on |dW - dW~|, what compression does to a weight gradient.

    They hold for exact arithmetic; two gradients that were computed differ by at most a bound plus `rounding`, which is
    `total`.

    Parameters
    ----------
    a_priori : float or None
        From the explained variance alone; None where the ranks are fixed.
    a_posteriori : float
        From the energies that were discarded.
    exact : float or None
        From A - A~ itself; None where the activation was not given.
    rounding : float
        What rounding adds at most (THEORY T15): in the decomposition, in the storage's dtype, in both evaluations.
    magnitude : float
        |dW~|, the norm of the weight gradient that is bounded.
    """

    a_priori: float | None
    a_posteriori: float
    exact: float | None
    rounding: float
    magnitude: float

    def total(self, grade: str = "a_posteriori") -> float | None:
        """Return a bound plus rounding: no two gradients that were computed differ by more. None where there is none.

        Parameters
        ----------
        grade : {"a_priori", "a_posteriori", "exact"}
            Which bound.

        Raises
        ------
        ValueError
            Where there is no such grade.
        """
        bound = self._of(grade)
        return None if bound is None else raised(bound + self.rounding)

    def relative(self, grade: str = "a_posteriori") -> float | None:
        """Return a bound over |dW~|; inf where that is zero and the bound is not, None where there is no such bound.

        Parameters
        ----------
        grade : {"a_priori", "a_posteriori", "exact"}
            Which bound.

        Raises
        ------
        ValueError
            Where there is no such grade.

        Examples
        --------
        >>> GradientBound(None, 3.0, None, 0.0, 6.0).relative()
        0.5
        """
        bound = self._of(grade)
        if bound is None or bound == 0.0:
            return bound
        return bound / self.magnitude if self.magnitude > 0.0 else math.inf

    def _of(self, grade: str) -> float | None:
        bound: float | None = getattr(self, one_of("grade", grade, GRADES))
        return bound


def weight_gradient_bound(
    kept: KeptActivation | tuple[Storage, Stored],
    grad_output: Array,
    geometry: ConvGeometry | None = None,
    *,
    activation: Array | None = None,
    grad_weight: Array | None = None,
) -> GradientBound:
    """Bound the error of a layer's weight gradient (THEORY T11, T12).

    |dW - dW~| <= max_g |G_g|_2 sqrt(m) |A - A~|, with m how often a pixel is read at most, 1 for a linear layer. With
    E = A - A~ at hand it is sqrt(sum_g |G_g|_2^2 sum_p m_p E_p^2), and (sum_i s_i(G)^2 s_i(E)^2)^(1/2) for a linear
    layer.

    Parameters
    ----------
    kept : KeptActivation or (Storage, Stored)
        What the layer kept of its input, as `Record.kept_activation` gives it.
    grad_output : array (B, O, H', W') or (B, ..., O)
        G, finite.
    geometry : ConvGeometry, optional
        Of the convolution; None for a linear layer.
    activation : array (B, C, H, W) or (B, ..., I), optional
        A, what the layer's input was: gives the exact grade.
    grad_weight : array (O, C / groups, k_h, k_w) or (O, I), optional
        dW~, if it is known already; else it is computed here, for its norm.

    Returns
    -------
    GradientBound

    Raises
    ------
    TypeError
        Where `kept` is neither of the two or is kept in a way that no bound is known for, or an array is of the wrong
        kind.
    ValueError
        Where an array is not finite or of a shape that does not fit.

    Examples
    --------
    >>> from refgrad.storage import SVD
    >>> activation = np.diag([3.0, 1.0])
    >>> storage = SVD(rank=1)
    >>> bound = weight_gradient_bound((storage, storage.store(activation)), np.eye(2), activation=activation)
    >>> round(bound.a_posteriori, 6), round(bound.exact, 6), bound.a_priori
    (1.0, 1.0, None)
    """
    storage, stored = _storage_and_stored(kept)
    checked_grad_output(stored, grad_output, geometry)
    float_array("grad_output", grad_output, finite=True)
    if grad_weight is None:
        grad_weight = storage.weight_gradient(stored, grad_output, geometry)
    else:
        float_array("grad_weight", grad_weight, finite=True)
        fitting = _weight_shape(stored, grad_output, geometry)
        if grad_weight.shape != fitting:
            raise ValueError(f"grad_weight must have the layer's weight shape, {fitting}, got {grad_weight.shape}")
    reach = 1.0 if geometry is None else math.sqrt(geometry.maximum_multiplicity(stored.shape[2:]))
    norms = spectral_norms(grad_output, geometry)
    facts = _facts(stored, storage)
    promised = storage.a_priori_error(len(stored.shape))
    return GradientBound(
        a_priori=None if promised is None else raised_product(max(norms), reach, promised, facts.norm),
        a_posteriori=raised_product(max(norms), reach, facts.discarded, facts.norm),
        exact=None
        if activation is None
        else _exact_bound(stored, facts, activation, grad_output, geometry, norms, reach),
        rounding=_rounding(stored, facts, grad_output, geometry, max(norms), reach),
        magnitude=frobenius_norm(grad_weight),
    )


def activation_error_bounds(stored: Stored) -> tuple[float, float]:
    """Return what |A - A~| is at least and at most, from the discarded energies alone (THEORY T3, T7, T8).

    max_j tau_j <= |A - A~|^2 <= sum_j tau_j. The two are one number for a truncated SVD, where it is tau_1, and for a
    sequentially truncated HOSVD, where it is the sum.

    Parameters
    ----------
    stored : Stored
        What Exact, SVD or HOSVD stored.

    Returns
    -------
    (float, float)
        In exact arithmetic; the second rounded up.

    Raises
    ------
    TypeError
        Where it is kept in a way that no bound is known for.

    Examples
    --------
    >>> from refgrad.multilinear import hosvd
    >>> [round(bound, 6) for bound in activation_error_bounds(hosvd(np.diag([3.0, 1.0]), ranks=(1, 1)))]
    [1.0, 1.414214]
    """
    if isinstance(stored, Dense):
        return 0.0, 0.0
    if not isinstance(stored, (LowRank, Tucker)):
        raise TypeError(
            f"stored must be what Exact, SVD or HOSVD stores, whose error is known, got {type(stored).__name__}"
        )
    upper = raised_product(stored.relative_error_bound, stored.norm)
    if isinstance(stored, LowRank) or stored.sequential:
        return upper, upper
    return math.sqrt(max(stored.discarded_fraction)) * stored.norm, upper


def network_bound(bounds: Iterable[GradientBound]) -> GradientBound:
    """Bound the error of the whole gradient from those of the compressed layers (THEORY T13).

    |grad f - grad~ f|^2 = sum_l |dW_l - dW~_l|^2: no error reaches another layer (THEORY T10).

    Parameters
    ----------
    bounds : iterable of GradientBound
        One for each layer that keeps its input compressed.

    Returns
    -------
    GradientBound
        A grade is None where one of the layers has none. The magnitude is the norm of these layers' weight gradients.

    Raises
    ------
    ValueError
        Where there are no bounds.

    Examples
    --------
    >>> layers = [GradientBound(None, 3.0, 1.0, 0.0, 6.0), GradientBound(None, 4.0, 1.0, 0.0, 8.0)]
    >>> network_bound(layers).a_posteriori, network_bound(layers).magnitude
    (5.0, 10.0)
    """
    layers = list(bounds)
    if not layers:
        raise ValueError("bounds must hold one GradientBound for each compressed layer, got none")

    def together(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return math.hypot(*known) if len(known) == len(layers) else None

    return GradientBound(
        a_priori=together(layer.a_priori for layer in layers),
        a_posteriori=math.hypot(*(layer.a_posteriori for layer in layers)),
        exact=together(layer.exact for layer in layers),
        rounding=math.hypot(*(layer.rounding for layer in layers)),
        magnitude=math.hypot(*(layer.magnitude for layer in layers)),
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a stored activation says of itself; all but the norm relative to it.

    norm : |A|, from above.
    discarded : |A - A~| from above, were nothing rounded.
    decomposition : what rounding moved A~ by.
    majorant : the norm of |S| x_1 |U_1| ... x_d |U_d|, from above.
    terms : how many roundings an entry of A~ goes through when it is rebuilt.
    ranks : the shape of the core.
    identity : which modes have no factor.
    """

    norm: float
    discarded: float
    decomposition: float
    majorant: float
    terms: int
    ranks: tuple[int, ...]
    identity: tuple[bool, ...]


def _facts(stored: Stored, storage: Storage) -> _Facts:
    shape, axes = stored.shape, len(stored.shape)
    if isinstance(stored, Dense):
        return _Facts(frobenius_norm(stored.array), 0.0, 0.0, 1.0, 0, shape, (True,) * axes)
    modes: tuple[int, ...]
    core_norm: float | None = None
    if isinstance(stored, LowRank):  # T7: the discarded energy is the error itself
        modes, ranks = (0,), (stored.right.shape[0], *shape[1:])
    elif isinstance(stored, Tucker):
        modes, ranks = tuple(range(axes)), stored.core.shape
        core_norm = frobenius_norm(stored.core, upward=False)
    else:
        raise TypeError(
            f"kept must hold what Exact, SVD or HOSVD stores, whose error is known, got {type(stored).__name__}"
        )
    kept = [ranks[mode] for mode in modes]
    size = math.prod(shape)
    # The norm of K_j orthonormal columns is sqrt(K_j), and stays it when their signs are lost.
    majorant = math.sqrt(math.prod(kept))
    # The decomposition is made in float64 and rounded once: each U_j spans the leading space of an unfolding that is
    # off by a multiple of u |A|, is orthonormal to within a multiple of u, and the core is a sum over all modes.
    decomposition = gamma(axes + 2, stored.dtype) * majorant
    decomposition += gamma(sum(shape) + axes, np.float64) * majorant
    for mode in modes:
        rows, columns = shape[mode], size // shape[mode]
        decomposition += 2.0 * singular_value_bound(max(rows, columns), 1.0, np.float64)
        if getattr(storage, "method", "svd") == "gram":
            decomposition += math.sqrt(rows * gram_energy_bound(rows, columns))
    discarded = stored.relative_error_bound
    norm = raised(stored.norm * (1.0 + gamma(size, np.float64)))
    if core_norm is not None and norm > 0.0:
        kept_share = max(0.0, core_norm / norm - decomposition)
        discarded = min(discarded, math.sqrt(max(0.0, 1.0 - kept_share * kept_share)))  # T2
    return _Facts(
        norm=norm,
        discarded=raised(discarded),
        decomposition=raised(decomposition),
        majorant=raised(majorant),
        terms=sum(kept) + len(kept),
        ranks=ranks,
        identity=tuple(mode not in modes for mode in range(axes)),
    )


def _rounding(
    stored: Stored, facts: _Facts, grad_output: Array, geometry: ConvGeometry | None, upstream: float, reach: float
) -> float:
    """Bound what rounding adds to |dW - dW~|: A~ was rounded, and both gradients were (THEORY T15)."""
    out_channels = grad_output.shape[1 if geometry is not None else -1]
    sizes = Sizes.of(stored.shape, facts.ranks, out_channels, geometry, identity=facts.identity)
    length = sizes.rounding_length
    gradient_norm = frobenius_norm(grad_output)
    if length * unit_roundoff(stored.dtype) >= 1.0:
        return math.inf if gradient_norm > 0.0 and facts.norm > 0.0 else 0.0
    evaluated = raised_product(gamma(length, stored.dtype), gradient_norm, reach, facts.norm, 1.0 + facts.majorant)
    # Every product may also lose what lies under the smallest subnormal number; later factors enlarge it.
    smallest = float(np.finfo(stored.dtype).smallest_subnormal)
    entries = math.prod(_weight_shape(stored, grad_output, geometry))
    enlarged = 1.0 + math.sqrt(grad_output.size) * gradient_norm
    enlarged += raised_product(math.sqrt(math.prod(stored.shape)), facts.norm, facts.majorant)
    lost = raised_product(2.0 * length * smallest, math.sqrt(entries), enlarged)
    return raised(raised_product(upstream, reach, facts.decomposition, facts.norm) + evaluated + lost)


def _exact_bound(
    stored: Stored,
    facts: _Facts,
    activation: Array,
    grad_output: Array,
    geometry: ConvGeometry | None,
    norms: list[float],
    reach: float,
) -> float:
    """Bound |D(E, G)| from E = A - A~ (THEORY T11, T12)."""
    float_array("activation", activation, finite=True)
    if activation.shape != stored.shape:
        raise ValueError(f"activation must have the shape that was stored, {stored.shape}, got {activation.shape}")
    exponent = max(exponent_of(activation), exponent_of(stored.reconstruct()))
    error = over_power(activation, exponent) - over_power(stored.reconstruct(), exponent)
    # What was rebuilt is A~ but for its rounding.
    uncertain = raised_product(max(norms), reach, gamma(facts.terms, stored.dtype), facts.majorant, facts.norm)
    if geometry is None:
        length = activation.shape[-1]
        errors, error_exponent = squared_singular_values(error.reshape(1, -1, length))
        gradients, gradient_exponent = squared_singular_values(grad_output.reshape(1, -1, grad_output.shape[-1]))
        shorter = min(errors.shape[1], gradients.shape[1])
        square = float(errors[0, :shorter] @ gradients[0, :shorter])
        bound = times_power(
            math.sqrt(square * (1.0 + gamma(shorter, np.float64))), exponent + error_exponent + gradient_exponent
        )
        return raised(bound + uncertain)
    energy = error * error * geometry.multiplicity(stored.shape[2:])
    grouped = energy.reshape(stored.shape[0], geometry.groups, -1).sum(axis=(0, 2))
    grouped *= 1.0 + gamma(energy.size + 3, np.float64)
    parts = [
        raised_product(norm, times_power(math.sqrt(float(part)), exponent))
        for norm, part in zip(norms, grouped, strict=True)
    ]
    return raised(math.hypot(*parts) + uncertain)


def _weight_shape(stored: Stored, grad_output: Array, geometry: ConvGeometry | None) -> tuple[int, ...]:
    if geometry is None:
        return (grad_output.shape[-1], stored.shape[-1])
    return (grad_output.shape[1], stored.shape[1] // geometry.groups, *geometry.kernel_size)


def _storage_and_stored(kept: object) -> tuple[Storage, Stored]:
    if isinstance(kept, KeptActivation):
        return kept.storage, kept.stored
    if isinstance(kept, tuple) and len(kept) == 2:
        storage, stored = kept
        if isinstance(storage, Storage) and isinstance(stored, Stored):
            return storage, stored
    raise TypeError(
        f"kept must be a KeptActivation or a pair (Storage, Stored), got {type(kept).__name__}; "
        "a tape's record has it as record.kept_activation"
    )
