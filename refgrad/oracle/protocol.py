"""What an implementation under judgement is: one function of NumPy arrays.

In: a layer's arrays and attributes. Out: a mapping with whatever of the results the implementation computes. Nothing
here knows how a result is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from refgrad.arguments import Array

__all__ = ["KEYS", "LABELS", "ROWS", "Implementation"]


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


KEYS: Final[Mapping[str, str]] = {
    "output": "forward",
    "grad_input": "grad_input",
    "grad_bias": "grad_bias",
    "grad_weight": "grad_weight",
    "ranks": "ranks",
    "core": "factors",
    "factors": "factors",
    "reconstruction": "reconstruction",
    "stored_numbers": "stored_numbers",
}
"""Every key that an implementation may return, and the row of the report in which it is judged."""

LABELS: Final[Mapping[str, str]] = {
    "call": "the call itself",
    "forward": "forward",
    "grad_input": "grad_input (dA)",
    "grad_bias": "grad_bias (db)",
    "grad_weight": "grad_weight (at A~)",
    "ranks": "ranks",
    "factors": "factors and core",
    "reconstruction": "reconstruction",
    "stored_numbers": "stored numbers",
}
"""The rows of the report, in order, and how each is printed."""

ROWS: Final[tuple[str, ...]] = tuple(LABELS)
