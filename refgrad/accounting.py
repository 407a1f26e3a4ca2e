"""What compression costs and saves: stored numbers, multiply-adds, bytes.

In: shapes and ranks, or the records of a tape. Out: counts, by the paper's formulas (THEORY D2, D3, D6, T14) and as
they really are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refgrad.arguments import positive_integer
from refgrad.geometry import ConvGeometry
from refgrad.storage.order import PAPER_ORDER, Counts, Order, Plan, best_plan
from refgrad.storage.sizes import Sizes
from refgrad.tape import Record, Tape

__all__ = [
    "ActivationMemory",
    "LayerMemory",
    "activation_memory",
    "cheapest_contraction",
    "contraction_multiply_adds",
    "forward_multiply_adds",
    "stored_numbers",
    "weight_gradient_multiply_adds",
]


def stored_numbers(shape: Sequence[int], ranks: int | Sequence[int] | None = None) -> int:
    """Count the numbers that an activation is stored in (THEORY D2, D3).

    All N of them without compression, K (n_1 + N / n_1) for a truncated SVD, prod_j K_j + sum_j n_j K_j for a HOSVD.

    Parameters
    ----------
    shape : sequence of int
        (n_1, ..., n_d), the activation's shape.
    ranks : int or sequence of int, optional
        K of a truncated SVD, also as (K,); (K_1, ..., K_d) of a HOSVD; None for an activation that is kept whole.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        Where a number is no integer.
    ValueError
        Where a number is less than 1, a rank larger than its unfolding has, or there is not one a mode.

    Examples
    --------
    >>> stored_numbers((64, 16, 8, 8)), stored_numbers((64, 16, 8, 8), 5), stored_numbers((64, 16, 8, 8), (5, 4, 3, 3))
    (65536, 5440, 612)
    """
    lengths = _lengths("shape", shape)
    size = math.prod(lengths)
    if ranks is None:
        return size
    kept = _lengths("ranks", (ranks,) if isinstance(ranks, int) else ranks)
    if len(kept) == 1:
        shorter = min(lengths[0], size // lengths[0])
        if kept[0] > shorter:
            raise ValueError(f"ranks must be at most {shorter} for a truncated SVD of {lengths}, got {kept[0]}")
        return kept[0] * (lengths[0] + size // lengths[0])
    _check_ranks(lengths, kept)
    return math.prod(kept) + sum(n * rank for n, rank in zip(lengths, kept, strict=True))


def forward_multiply_adds(input_shape: Sequence[int], out_channels: int, geometry: ConvGeometry | None = None) -> int:
    """Count the multiply-adds of a layer's forward pass: B H' W' O (C / groups) k_h k_w, or M O I (THEORY D6).

    Parameters
    ----------
    input_shape : sequence of int
        (B, C, H, W), or (B, ..., I) of a linear layer.
    out_channels : int
        O.
    geometry : ConvGeometry, optional
        Of the convolution; None for a linear layer. Zeros of the padding count as any number.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        Where the lengths, the channels and the geometry do not fit.

    Examples
    --------
    >>> forward_multiply_adds((2, 3, 8, 8), 4, ConvGeometry.of(3, padding=1)), forward_multiply_adds((5, 7), 4)
    (13824, 140)
    """
    sizes = _sizes(input_shape, input_shape, out_channels, geometry)
    positions = sizes.out_shape[0] * sizes.out_shape[2] * sizes.out_shape[3]
    return positions * out_channels * _weight_columns(sizes)


def weight_gradient_multiply_adds(
    input_shape: Sequence[int], out_channels: int, geometry: ConvGeometry | None = None
) -> int:
    """Count the multiply-adds of the exact weight gradient: as many as forward has, for dW = G^T im2col(A) (THEORY D6).

    Parameters
    ----------
    input_shape : sequence of int
        (B, C, H, W), or (B, ..., I) of a linear layer.
    out_channels : int
        O.
    geometry : ConvGeometry, optional
        Of the convolution; None for a linear layer.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        Where the lengths, the channels and the geometry do not fit.

    Examples
    --------
    >>> weight_gradient_multiply_adds((2, 3, 8, 8), 4, ConvGeometry.of(3, padding=1))
    13824
    """
    return forward_multiply_adds(input_shape, out_channels, geometry)


def contraction_multiply_adds(
    input_shape: Sequence[int],
    ranks: int | Sequence[int],
    out_channels: int,
    geometry: ConvGeometry | None = None,
    *,
    order: Order = PAPER_ORDER,
) -> int:
    """Count the multiply-adds of the compressed weight gradient, in one go and in a given order (THEORY T14).

    In the order of T14, with one group and a stride that covers the input,
    B K1 O H' W' + K1 K2 K3 K4 H + K1 K2 K4 H W + K1 K2 O k_h k_w H' W' + K2 C O k_h k_w.

    Parameters
    ----------
    input_shape : sequence of int
        (B, C, H, W), or (B, ..., I) of a linear layer.
    ranks : int or sequence of int
        (K_1, ..., K_d) of a HOSVD, or K of a truncated SVD.
    out_channels : int
        O.
    geometry : ConvGeometry, optional
        Of the convolution; None for a linear layer.
    order : Order
        Which factors are expanded into the core. A truncated SVD has only U_1 to say it of.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        Where the lengths, the ranks, the channels and the geometry do not fit.

    Examples
    --------
    >>> geometry = ConvGeometry.of(3, padding=1)
    >>> weight_gradient_multiply_adds((64, 16, 8, 8), 32, geometry)
    18874368
    >>> contraction_multiply_adds((64, 16, 8, 8), (10, 8, 4, 4), 32, geometry)
    2852864
    """
    sizes = _sizes(input_shape, ranks, out_channels, geometry)
    expanded = (wanted or without for wanted, without in zip(order, sizes.identity, strict=True))
    return Counts(sizes, Order(*expanded)).multiply_adds()


def cheapest_contraction(
    input_shape: Sequence[int],
    ranks: int | Sequence[int],
    out_channels: int,
    geometry: ConvGeometry | None = None,
    *,
    itemsize: int = 8,
) -> Plan:
    """Return the order in which the storages contract: the fewest multiply-adds that the working memory allows.

    Parameters
    ----------
    input_shape : sequence of int
        (B, C, H, W), or (B, ..., I) of a linear layer.
    ranks : int or sequence of int
        (K_1, ..., K_d) of a HOSVD, or K of a truncated SVD.
    out_channels : int
        O.
    geometry : ConvGeometry, optional
        Of the convolution; None for a linear layer.
    itemsize : int
        Bytes a number: 4 for float32, 8 for float64.

    Returns
    -------
    Plan
        Order, blocks, multiply-adds (with what is done again for every block) and working memory.

    Raises
    ------
    TypeError, ValueError
        Where the lengths, the ranks, the channels and the geometry do not fit.

    Examples
    --------
    >>> cheapest_contraction((64, 16, 8, 8), (10, 8, 4, 4), 32, ConvGeometry.of(3, padding=1)).multiply_adds < 2852864
    True
    """
    sizes = _sizes(input_shape, ranks, out_channels, geometry)
    return best_plan(sizes, positive_integer("itemsize", itemsize))


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """What one conv or linear layer keeps of its input.

    Parameters
    ----------
    operation : str
        The name of the primitive.
    index : int
        Its record's place on the tape.
    storage : str
        How it is kept.
    shape : tuple of int
        The input's shape.
    multilinear_rank : tuple of int or None
        The ranks kept.
    stored_numbers : int
        The paper's count (THEORY D2, D3).
    nbytes : int
        Bytes really held for it, and by no record before it.
    """

    operation: str
    index: int
    storage: str
    shape: tuple[int, ...]
    multilinear_rank: tuple[int, ...] | None
    stored_numbers: int
    nbytes: int

    @property
    def dense_numbers(self) -> int:
        """How many numbers the input has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class ActivationMemory:
    """What a forward pass keeps until backward.

    Parameters
    ----------
    layers : tuple of LayerMemory
        The inputs of conv and linear layers, what the paper counts.
    nbytes : int
        Bytes really held by all records, bit masks and statistics included; shared memory counts once.
    dense_nbytes : int
        Bytes that the same arrays would take, each dense.
    """

    layers: tuple[LayerMemory, ...]
    nbytes: int
    dense_nbytes: int

    @property
    def stored_numbers(self) -> int:
        """The paper's count over all conv and linear layers (THEORY D2, D3)."""
        return sum(layer.stored_numbers for layer in self.layers)

    @property
    def dense_numbers(self) -> int:
        """The paper's count without compression."""
        return sum(layer.dense_numbers for layer in self.layers)


def activation_memory(records: Tape | Iterable[Record]) -> ActivationMemory:
    """Count what a forward pass has kept, by the paper's count and in bytes.

    Parameters
    ----------
    records : Tape or iterable of Record
        Also after backward, which lets go of what was kept: counted is what the forward pass kept.

    Returns
    -------
    ActivationMemory

    Raises
    ------
    TypeError
        Where it is neither a tape nor records.
    """
    rows = list(records.records if isinstance(records, Tape) else records)
    for row in rows:
        if not isinstance(row, Record):
            raise TypeError(f"records must be a Tape or records of one, got {type(row).__name__} among them")
    layers = tuple(
        LayerMemory(
            row.operation, row.index, item.how, item.shape, item.multilinear_rank, item.stored_numbers, item.nbytes
        )
        for row in rows
        for item in row.kept
        if item.stored_numbers is not None
    )
    items = [item for row in rows for item in row.kept]
    return ActivationMemory(layers, sum(item.nbytes for item in items), sum(item.dense_nbytes for item in items))


def _lengths(name: str, values: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{name} must be a tuple or list of integers, got {values!r}")
    if not values:
        raise ValueError(f"{name} must not be empty, got {values!r}")
    return tuple(positive_integer(f"{name}[{place}]", value) for place, value in enumerate(values))


def _check_ranks(lengths: tuple[int, ...], ranks: tuple[int, ...]) -> None:
    if len(ranks) != len(lengths):
        raise ValueError(f"ranks must have one entry for each mode of {lengths}, got {ranks}")
    if any(rank > length for rank, length in zip(ranks, lengths, strict=True)):
        raise ValueError(f"ranks must be at most the lengths of the modes, {lengths}, got {ranks}")


def _sizes(
    input_shape: Sequence[int], ranks: int | Sequence[int], out_channels: int, geometry: ConvGeometry | None
) -> Sizes:
    shape = _lengths("input_shape", input_shape)
    axes = "4 axes (B C H W)" if geometry is not None else "2, 3 or 4 axes (B ... I)"
    if len(shape) not in ((4,) if geometry is not None else (2, 3, 4)):
        raise ValueError(f"input_shape must have {axes}, got {shape}")
    kept = _lengths("ranks", (ranks,) if isinstance(ranks, int) else ranks)
    identity = None
    if len(kept) == 1:
        kept, identity = (*kept, *shape[1:]), (False,) + (True,) * (len(shape) - 1)
    _check_ranks(shape, kept)
    if geometry is not None:
        positive_integer("out_channels", out_channels)
        weight_shape = (out_channels, max(1, shape[1] // geometry.groups), *geometry.kernel_size)
        geometry.output_shape(shape, weight_shape)
    return Sizes.of(shape, kept, positive_integer("out_channels", out_channels), geometry, identity=identity)


def _weight_columns(sizes: Sizes) -> int:
    return sizes.shape[1] // sizes.geometry.groups * math.prod(sizes.geometry.kernel_size)
