"""The table that `print(tape)` shows.

In: records. Out: text, one line for everything that is kept: operation, shape, how, ranks, bytes, compression.
"""

from __future__ import annotations

from collections.abc import Sequence

from refgrad.arguments import positive_integer
from refgrad.tape.kept import KeptItem, Record

__all__ = ["table"]

HEADINGS = ("#", "operation", "output", "keeps", "how", "ranks", "bytes", "dense bytes", "compression")
RIGHT = {"#", "bytes", "dense bytes", "compression"}


def table(records: Sequence[Record], rows: int | None = 60) -> str:
    """Write what the records keep, or kept before backward let it go.

    Parameters
    ----------
    records : sequence of Record
        In the order of the tape.
    rows : int or None
        How many records to show, two thirds of them from the start and the others from the end; None for all.

    Raises
    ------
    TypeError, ValueError
        Where `rows` is not None and no integer of at least 1.
    """
    shown = len(records) if rows is None else min(positive_integer("rows", rows), len(records))
    left_out = len(records) - shown
    start = shown - shown // 3 if left_out else shown
    head = [line for record in records[:start] for line in _lines(record)]
    tail = [line for record in records[start + left_out :] for line in _lines(record)]
    lines = [HEADINGS, *head, *tail]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.rjust(width) if heading in RIGHT else cell.ljust(width)
            for cell, width, heading in zip(line, widths, HEADINGS, strict=True)
        ).rstrip()
        for line in lines
    ]
    if left_out:
        text.insert(1 + len(head), f"... {left_out:,} more records; tape.table(rows=None) shows all")
    text.insert(1, "  ".join("-" * width for width in widths))
    items = [item for record in records for item in record.kept]
    total, dense = sum(item.nbytes for item in items), sum(item.dense_nbytes for item in items if not item.shared)
    ratio = f", {dense / total:.1f} times fewer than dense" if total else ""
    text.append(f"{len(records):,} records keep {total:,} bytes{ratio}")
    return "\n".join(text)


def _lines(record: Record) -> list[tuple[str, ...]]:
    operation = f"{record.operation} {record.name}" if record.name else record.operation
    first = (str(record.index), operation, str(record.shape))
    if not record.kept:
        return [(*first, "", "", "", "", "", "")]
    return [(*(("", "", "") if i else first), *_cells(item)) for i, item in enumerate(record.kept)]


def _cells(item: KeptItem) -> tuple[str, ...]:
    ranks = "" if item.multilinear_rank is None else str(item.multilinear_rank)
    if item.shared:
        return (item.name, item.how, ranks, f"{item.nbytes:,}", f"{item.dense_nbytes:,}", "shared")
    ratio = f"{item.dense_nbytes / item.nbytes:.1f}" if item.nbytes else ""
    return (item.name, item.how, ranks, f"{item.nbytes:,}", f"{item.dense_nbytes:,}", ratio)
