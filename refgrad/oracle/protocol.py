"""What a target is: one function of NumPy arrays, or an object with one for each operation that it offers.

In: an operation's arrays and attributes. Out: a mapping with whatever of the results the target computes. Nothing here
knows how a result is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy.typing as npt

from refgrad.arguments import Array, one_of
from refgrad.oracle.operations import OPERATIONS
from refgrad.rounding import Precision, unit_roundoff

__all__ = [
    "FURTHER_ROWS",
    "KEYS",
    "LABELS",
    "ROWS",
    "CallFailedError",
    "Declaration",
    "Implementation",
    "operations_of",
    "rows_of",
]


class Implementation(Protocol):
    """One training step of a convolution whose input is kept as HOSVD factors (THEORY D3, D6, D7).

    The arrays are NumPy arrays of one dtype, float32 or float64; results have the same dtype. They may be
    non-contiguous, read-only or negatively strided, and are not to be written into; results are arrays of their own,
    no views of them.

    Parameters
    ----------
    x : array, (B, C, H, W)
        The layer's input.
    weight : array, (O, C / groups, k_h, k_w)
        The kernel.
    bias : array, (O,)
        The bias.
    grad_output : array, (B, O, H', W')
        The gradient of the loss by the layer's output.
    stride, dilation : pair of int
        (height, width).
    padding : two pairs of int
        ((top, bottom), (left, right)).
    groups : int
        Into how many independent convolutions the channels are split.
    explained_variance : float
        The share of the energy |x|^2 that every mode keeps, in (0, 1].

    Returns
    -------
    mapping
        Any of these keys; what is left out is reported as not provided.

        - ``"output"`` (B, O, H', W'): the exact convolution, bias added.
        - ``"grad_input"`` (B, C, H, W) and ``"grad_bias"`` (O,): exact, no stored activation enters them.
        - ``"grad_weight"`` (O, C / groups, k_h, k_w): at the compressed activation.
        - ``"core"`` (K_1, K_2, K_3, K_4) and ``"factors"``, four matrices (n_j, K_j) with orthonormal columns.
        - ``"ranks"``: four int; where absent, the columns of the factors.
        - ``"reconstruction"`` (B, C, H, W): core x_1 U_1 ... x_4 U_4.
        - ``"stored_numbers"``: int, prod K_j + sum n_j K_j.

    Raises
    ------
    NotImplementedError
        Where the implementation does not claim to do this case (groups, say). It is then reported as not provided,
        with the exception's text. Any other exception is a failure.
    """

    def __call__(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        grad_output: Array,
        *,
        stride: tuple[int, int],
        padding: tuple[tuple[int, int], tuple[int, int]],
        dilation: tuple[int, int],
        groups: int,
        explained_variance: float,
    ) -> Mapping[str, object]:
        """Compute one step."""
        ...


class CallFailedError(Exception):
    """A call that came to no result, for a reason outside of Python.

    Parameters
    ----------
    kind : str
        In what way, as the report groups failures: "call timed out", "call crashed", ...
    message : str
        One sentence.
    output : str
        The last lines that the target wrote about it, if any.
    """

    def __init__(self, kind: str, message: str, output: str = "") -> None:
        super().__init__(message)
        self.kind, self.output = kind, output


KEYS: Final[Mapping[str, str]] = {
    "output": "forward",
    "grad_input": "grad_input",
    "grad_bias": "grad_bias",
    "grad_weight": "grad_weight",
    "ranks": "ranks",
    "rank": "ranks",
    "core": "factors",
    "factors": "factors",
    "left": "factors",
    "right": "factors",
    "matrix": "matrix",
    "reconstruction": "reconstruction",
    "stored_numbers": "stored_numbers",
    "weight": "weight",
    "bias": "bias",
    "weight_velocity": "weight_velocity",
    "bias_velocity": "bias_velocity",
}
"""Every key that an operation may return, and the row of the report in which it is judged."""

LABELS: Final[Mapping[str, str]] = {
    "call": "the call itself",
    "matrix": "unfolded matrix",
    "forward": "forward",
    "grad_input": "grad_input (dA)",
    "grad_bias": "grad_bias (db)",
    "grad_weight": "grad_weight (at A~)",
    "weight": "weight after the step",
    "bias": "bias after the step",
    "weight_velocity": "velocity of the weight",
    "bias_velocity": "velocity of the bias",
    "ranks": "ranks",
    "factors": "factors and core",
    "reconstruction": "reconstruction",
    "stored_numbers": "stored numbers",
    "relations": "relations of calls",
    "sequence": "sequence of calls",
    "refusals": "invalid input",
}
"""The rows of the report, in order, and how each is printed."""


FURTHER_ROWS: Final[Mapping[str, tuple[str, ...]]] = {
    operation: ("sequence",) * (operation in ("subspace_iteration", "step"))
    + ("relations",) * (operation != "step")
    + ("refusals",)
    for operation in OPERATIONS
}
"""The rows of an operation that take further calls; a step's results have no common scale, and few carry a state."""


def rows_of(operation: str) -> tuple[str, ...]:
    """Return the rows in which each call of an operation is judged, in the order of the report.

    Examples
    --------
    >>> rows_of("svd")
    ('call', 'ranks', 'factors')
    """
    judged = {"call", *(KEYS[key] for key in OPERATIONS[operation].results)}
    return tuple(row for row in LABELS if row in judged)


ROWS: Final[tuple[str, ...]] = rows_of("conv2d")
"""The rows of a convolution."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a target says of itself; it chooses the cases and the bounds, and is held against what the target does.

    Parameters
    ----------
    dtypes : tuple of str
        Which dtypes it takes: "float64", "float32".
    accumulator : str, optional
        What its sums are accumulated in: "float64", "float32", "float16" or "bfloat16"; the input's dtype where absent.
        A bound follows from the coarser of this and the input's dtype, in which results are returned.
    decomposition : str
        How its layers decompose their input: "hosvd" (THEORY D3) or "sequential_hosvd" (THEORY D4).
    repeatable : bool
        Whether the same call gives the same bits.
    flushes_subnormals : bool
        Whether numbers below the smallest normal one become 0; said in the report, as the bounds hold for both (T15).
    refuses_invalid : bool
        Whether it raises an exception for shapes, attributes and numbers that mean nothing; else none are tried.
    limits : str
        For the report.

    Raises
    ------
    TypeError, ValueError
        Where a field is of the wrong kind, or names something unknown.
    """

    dtypes: tuple[str, ...] = ("float64", "float32")
    accumulator: str | None = None
    decomposition: str = "hosvd"
    repeatable: bool = True
    flushes_subnormals: bool = False
    refuses_invalid: bool = False
    limits: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtypes", tuple(self.dtypes))
        if not self.dtypes or not set(self.dtypes) <= {"float64", "float32"}:
            raise ValueError(f"declaration: dtypes must be some of float64, float32, got {self.dtypes}")
        if self.accumulator is not None:
            one_of("declaration: accumulator", self.accumulator, ("float64", "float32", "float16", "bfloat16"))
        one_of("declaration: decomposition", self.decomposition, ("hosvd", "sequential_hosvd"))
        for name in ("repeatable", "flushes_subnormals", "refuses_invalid"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"declaration: {name} must be a bool, got {getattr(self, name)!r}")
        if not isinstance(self.limits, str):
            raise TypeError(f"declaration: limits must be a str, got {type(self.limits).__name__}")

    @classmethod
    def of(cls, target: object) -> Declaration:
        """Read the attribute ``declaration`` of a target: a mapping of this class's fields; the default where absent.

        Examples
        --------
        >>> def layer(x, weight, bias, grad_output, **attributes): ...
        >>> layer.declaration = {"accumulator": "bfloat16"}
        >>> Declaration.of(layer).precision("float32")
        'bfloat16'
        """
        declared = getattr(target, "declaration", None)
        if declared is None:
            return cls()
        if not isinstance(declared, Mapping):
            raise TypeError(f"declaration must be a mapping, got {type(declared).__name__}")
        unknown = [str(key) for key in declared if key not in cls.__dataclass_fields__]
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise ValueError(f"declaration has unknown keys {', '.join(unknown)}; known are {known}")
        return cls(**declared)

    def precision(self, dtype: npt.DTypeLike) -> Precision:
        """Return what bounds follow from: the coarser of the accumulator and the dtype of the results."""
        if self.accumulator is None or unit_roundoff(self.accumulator) <= unit_roundoff(dtype):
            return dtype
        return self.accumulator


def operations_of(target: object) -> dict[str, Callable[..., Mapping[str, object]]]:
    """Return the operations that a target offers, from small to large; a callable is ``conv2d``.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> list(operations_of(SimpleNamespace(unfold=print, rank=print))), list(operations_of(print))
    (['rank', 'unfold'], ['conv2d'])
    """
    offered = {name: getattr(target, name, None) for name in OPERATIONS}
    found = {name: operation for name, operation in offered.items() if callable(operation)}
    if not found and callable(target):
        return {"conv2d": target}
    return found
