"""The subscripts of einsum in one normal form.

In: the arguments of `np.einsum` in any of its forms: ``"ij,jk->ik"``, ``"ij,jk"``, ``"...ij->...i"``, ``"ii"``, or
operands that alternate with lists of integers. Out: the operands, and integer labels for each of them and the output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from string import ascii_lowercase, ascii_uppercase
from types import EllipsisType
from typing import Any, TypeAlias

__all__ = ["parse"]

Label: TypeAlias = int | EllipsisType
Labels: TypeAlias = tuple[int, ...]

LETTERS = ascii_uppercase + ascii_lowercase
"""einsum's own order: it sorts the labels of an output that is not given."""


def parse(arguments: Sequence[Any], checked: Callable[[Any], Any]) -> tuple[list[Any], tuple[Labels, ...], Labels]:
    """Return the operands, their labels, and the labels of the output, with every ellipsis written out.

    Parameters
    ----------
    arguments : sequence
        The positional arguments of `np.einsum`.
    checked : callable
        Is applied to every operand.

    Raises
    ------
    TypeError
        Where a label is neither a letter, an integer, nor an ellipsis.
    ValueError
        Where the subscripts do not fit the operands.

    Examples
    --------
    >>> import numpy as np
    >>> _, labels, output = parse(("ij,jk", np.ones((2, 3)), np.ones((3, 4))), lambda x: x)
    >>> labels, output
    (((34, 35), (35, 36)), (34, 36))
    """
    if arguments and isinstance(arguments[0], str):
        terms, output = _from_text(arguments[0])
        operands = [checked(value) for value in arguments[1:]]
    else:
        operands = [checked(value) for value in arguments[0 : len(arguments) - len(arguments) % 2 : 2]]
        terms = [_from_list(term) for term in arguments[1::2]]
        output = _from_list(arguments[-1]) if len(arguments) % 2 else None
    if len(terms) != len(operands):
        raise ValueError(f"np.einsum got subscripts for {len(terms)} operands, but {len(operands)} operands")
    return operands, *_written_out(terms, output, [operand.shape for operand in operands])


def _from_text(subscripts: str) -> tuple[list[tuple[Label, ...]], tuple[Label, ...] | None]:
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = [_from_term(term, subscripts) for term in left.split(",")]
    return terms, _from_term(right, subscripts) if arrow else None


def _from_term(term: str, subscripts: str) -> tuple[Label, ...]:
    before, dots, after = term.partition("...")
    if not all(letter in LETTERS for letter in before + after):
        raise ValueError(
            f"subscripts of np.einsum are letters, commas, '->' and at most one '...' a term, got {subscripts!r}"
        )
    letters: list[Label] = [LETTERS.index(letter) for letter in before]
    return (*letters, *((...,) if dots else ()), *(LETTERS.index(letter) for letter in after))


def _from_list(labels: Any) -> tuple[Label, ...]:
    if not isinstance(labels, (list, tuple)):
        raise TypeError(
            f"np.einsum without a text of subscripts takes operands and lists in turn, got {type(labels).__name__}"
        )
    for label in labels:
        if label is not ... and not (isinstance(label, int) and 0 <= label < len(LETTERS)):
            raise TypeError(f"labels of np.einsum are integers in [0, {len(LETTERS)}) or an ellipsis, got {label!r}")
    if list(labels).count(...) > 1:
        raise ValueError(f"a term of np.einsum has at most one ellipsis, got {labels!r}")
    return tuple(labels)


def _written_out(
    terms: list[tuple[Label, ...]], output: tuple[Label, ...] | None, shapes: list[tuple[int, ...]]
) -> tuple[tuple[Labels, ...], Labels]:
    """Replace every ellipsis by labels of its own, counted from the last axis; find the output if none is given."""
    used = {label for term in (*terms, output or ()) for label in term if label is not ...}
    hidden = []
    for term, shape in zip(terms, shapes, strict=True):
        named = sum(label is not ... for label in term)
        if named > len(shape) or (named < len(shape) and ... not in term):
            raise ValueError(f"np.einsum got {named} labels for an operand of shape {shape}")
        hidden.append(len(shape) - named)
    fresh = count()
    spare = [next(label for label in fresh if label not in used) for _ in range(max(hidden, default=0))]

    def write_out(term: tuple[Label, ...], length: int) -> Labels:
        parts: list[int] = []
        for label in term:
            parts.extend([label] if isinstance(label, int) else spare[len(spare) - length :])
        return tuple(parts)

    labels = tuple(write_out(term, length) for term, length in zip(terms, hidden, strict=True))
    if output is None:
        times = Counter(label for term in terms for label in term if isinstance(label, int))
        return labels, (*spare, *sorted(label for label, number in times.items() if number == 1))
    written = write_out(output, len(spare) if ... in output else 0)
    unknown = set(written) - {label for term in labels for label in term}
    if unknown or len(set(written)) < len(written):
        names = ", ".join(LETTERS[label] if label < len(LETTERS) else str(label) for label in written)
        raise ValueError(f"the output of np.einsum must name labels of the operands, each once, got {names}")
    return labels, written
