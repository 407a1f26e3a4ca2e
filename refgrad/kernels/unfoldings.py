"""Products with the unfoldings of a tensor, whose few long rows BLAS multiplies at a fraction of its rate.

In: a C-contiguous tensor of float32 or float64, by its address, seen as (before, rows, after): the mode that is
unfolded between what lies before it and what lies after. Out: its Gram matrix or its projection, in float64, in arrays
that the caller allocated.

Columns of the unfolding are copied to a panel as float64, each to a row. The panel stays in the cache while products of
its rows or columns are summed up, in tiles that the registers hold. What is done with registers is written out for
LLVM, which does not find it in a loop over numbers.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from refgrad.arguments import Array
from refgrad.kernels.jit import kernel
from refgrad.kernels.registers import (
    FUSED,
    INDEX,
    LINE,
    REGISTER,
    TILE_ROWS,
    constant,
    number_kind,
    prefetch,
    read,
    splat,
    tile_vectors,
    transposed,
    vector_kind,
    write,
)

__all__ = ["SIDE", "add_gram", "add_projection", "add_squares", "project", "row_of"]

Pair: TypeAlias = tuple[int, int]
Extents: TypeAlias = tuple[int, int, int]

NUMBER = 8
"""Bytes of a float64."""

VECTOR = REGISTER // NUMBER
"""How many float64 numbers a register holds."""

SIDE = 8
"""A multiple of `VECTOR` and of `TILE_ROWS`: what the sides of panels and of results must be multiples of."""

WIDE = number_kind(types.float64)
LANES = vector_kind(types.float64)


def _read_wide(builder: Any, address: Any, number_type: types.Float, length: int) -> Any:
    """Read one number, or a register's worth, of float32 or float64, as float64."""
    kind, wide = number_kind(number_type), WIDE if length == 1 else LANES
    value = read(builder, address, kind if length == 1 else ir.VectorType(kind, length))
    return value if number_type == types.float64 else builder.fpext(value, wide)


def _copying(length: int) -> Any:
    @intrinsic
    def copy(context: Any, source: Any, target: Any, zero: Any) -> Any:
        """Copy so many neighbours of the type of `zero` to where float64 ones stand."""
        del context, source, target

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            write(builder, _read_wide(builder, arguments[0], signature.args[2], length), arguments[1])
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, zero), code

    return copy


copy_number, copy_vector = _copying(1), _copying(VECTOR)


def _copy_transposed(context: Any, source: Any, source_step: Any, target: Any, target_step: Any, zero: Any) -> Any:
    """Copy a square of VECTOR rows, as columns. Steps are bytes from a row to the next."""
    del context, source, source_step, target, target_step

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, source_step, target, target_step, _ = arguments
        rows = []
        for _ in range(VECTOR):
            rows.append(_read_wide(builder, source, signature.args[4], VECTOR))
            source = builder.add(source, source_step)
        for column in transposed(builder, rows):
            write(builder, column, target)
            target = builder.add(target, target_step)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp, zero), code


def _add_square(context: Any, source: Any, target: Any, zero: Any) -> Any:
    """Add the squares of a vector of numbers to a vector of float64."""
    del context, source, target

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = _read_wide(builder, arguments[0], signature.args[2], VECTOR)
        old = read(builder, arguments[1], LANES)
        write(builder, builder.fadd(old, builder.fmul(values, values, flags=FUSED), flags=FUSED), arguments[1])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, zero), code


copy_transposed: Any = intrinsic(_copy_transposed)
add_square: Any = intrinsic(_add_square)


def _tile_of(vectors: int) -> Any:
    @intrinsic
    def tile(
        context: Any, left: Any, across: Any, left_step: Any, right: Any, right_step: Any, zero: Any, count: Any,
        target: Any, width: Any, added: Any,
    ) -> Any:  # fmt: skip
        """Write a sum of `count` >= 1 outer products to TILE_ROWS x (vectors VECTOR) numbers of a matrix, or add it.

        The first factor of each is TILE_ROWS numbers, `across` bytes apart, the second one so many vectors, of the type
        of `zero`, that follow one another. left and right are the addresses of the first product's, the steps lead to
        the next one's; target is the address of the first sum, and a row of them is `width` bytes from the next.
        """
        del context, left, across, left_step, right, right_step, count, target, width

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            left, across, left_step, right, right_step, _, count, target, width, _ = arguments
            number_type = signature.args[5]
            vector_bytes = VECTOR * number_type.bitwidth // 8
            before = builder.block
            loop, after = builder.append_basic_block("products"), builder.append_basic_block("sums")
            builder.branch(loop)

            builder.position_at_end(loop)
            counted, at_left, at_right = (builder.phi(INDEX) for _ in range(3))
            sums = [[builder.phi(LANES) for _ in range(vectors)] for _ in range(TILE_ROWS)]
            columns = [
                _read_wide(builder, builder.add(at_right, constant(vector_bytes * v)), number_type, VECTOR)
                for v in range(vectors)
            ]
            changes = [
                (counted, constant(0), builder.add(counted, constant(1))),
                (at_left, left, builder.add(at_left, left_step)),
                (at_right, right, builder.add(at_right, right_step)),
            ]
            if signature.args[9] == types.none:
                for line in (2, 3):
                    prefetch(builder, at_right, line * LINE)
            address = at_left
            for row in sums:
                factor = splat(builder, read(builder, address, WIDE), LANES)
                for old, column in zip(row, columns, strict=True):
                    new = builder.fadd(old, builder.fmul(factor, column, flags=FUSED), flags=FUSED)
                    changes.append((old, ir.Constant(LANES, [0.0] * VECTOR), new))
                address = builder.add(address, across)
            for phi, first, following in changes:
                phi.add_incoming(first, before)
                phi.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", changes[0][2], count), loop, after)

            builder.position_at_end(after)
            results = iter(changes[3:])
            for _ in range(TILE_ROWS):
                for v in range(vectors):
                    place, (_, _, value) = builder.add(target, constant(NUMBER * VECTOR * v)), next(results)
                    if signature.args[9] != types.none:
                        value = builder.fadd(read(builder, place, LANES), value)
                    write(builder, value, place)
                target = builder.add(target, width)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5, zero, *[types.intp] * 3, added), code

    return tile


tile_1, tile_2, tile_3 = _tile_of(1), _tile_of(2), _tile_of(3)


@kernel
def outer_products(
    left: int, across: int, left_step: int, right: int, right_step: int, zero: Any, count: int, target: int, width: int,
    added: Any, vectors: int,
) -> None:  # fmt: skip
    """Fill a tile of one, two or three vectors, or add to it."""
    if vectors == 3:
        tile_3(left, across, left_step, right, right_step, zero, count, target, width, added)
    elif vectors == 2:
        tile_2(left, across, left_step, right, right_step, zero, count, target, width, added)
    else:
        tile_1(left, across, left_step, right, right_step, zero, count, target, width, added)


@kernel
def fill_panel(source: int, zero: Any, size: int, extents: Extents, outer: Pair, inner: Pair, panel: Array) -> None:
    """Copy columns of the unfolding to the first rows of a panel: those of `outer` x `inner`, in C order."""
    _, rows, after = extents
    width, step, count = NUMBER * panel.shape[1], after * size, inner[1] - inner[0]
    target = panel.ctypes.data
    whole_rows, whole_columns = rows - rows % VECTOR, count - count % VECTOR
    for block in range(outer[0], outer[1]):
        begin = source + (block * rows * after + inner[0]) * size
        if after == 1:  # a column lies in the tensor as it does in the panel
            for row in range(0, whole_rows, VECTOR):
                copy_vector(begin + row * size, target + NUMBER * row, zero)
            for row in range(whole_rows, rows):
                copy_number(begin + row * size, target + NUMBER * row, zero)
            target += width
            continue
        for row in range(0, whole_rows, VECTOR):
            start, to = begin + row * step, target + NUMBER * row
            for column in range(0, whole_columns, VECTOR):
                copy_transposed(start + column * size, step, to + column * width, width, zero)
            for column in range(whole_columns, count):
                for lane in range(VECTOR):
                    copy_number(start + lane * step + column * size, to + column * width + NUMBER * lane, zero)
        for row in range(whole_rows, rows):
            for column in range(count):
                copy_number(begin + row * step + column * size, target + column * width + NUMBER * row, zero)
        target += count * width


@kernel
def columns_of(block: int, extents: Extents, at_once: int) -> tuple[Pair, Pair]:
    """Return which of `before`, and which of `after`, are the columns of a block.

    Either of several before, with all that lies after them, or an even part of what lies after one.
    """
    before, _, after = extents
    if after < at_once:
        together = at_once // after
        return (block * together, min(before, (block + 1) * together)), (0, after)
    parts = (after + at_once - 1) // at_once
    part = block % parts
    return (block // parts, block // parts + 1), (part * after // parts, (part + 1) * after // parts)


@kernel
def row_of(number: int) -> Pair:
    """Return where the row of that number begins in a triangle, and how many numbers it has.

    Of a symmetric matrix that is the lower triangle, filled up to whole squares: `SIDE` rows at a time are as long as
    the last of them, filled up to a multiple of `SIDE` with what is right of the diagonal, and zeros beyond the matrix.
    """
    block = number // SIDE
    width = SIDE * (block + 1)
    return SIDE * SIDE * block * (block + 1) // 2 + (number - SIDE * block) * width, width


@kernel
def add_gram(
    source: int, zero: Any, size: int, extents: Extents, blocks: Pair, rows: Pair, panel: Array, triangle: Array
) -> None:
    """Add products of some of the unfolding's columns to the triangle of a Gram matrix, to some of ITS rows.

    Parameters
    ----------
    source : int
        The address of the tensor's first number.
    zero : float32 or float64
        A number of the tensor's type.
    size : int
        Its bytes.
    extents : three ints
        before, rows, after.
    blocks : pair of ints
        The first block of columns of the unfolding, as many as a panel holds, and the one behind the last.
    rows : pair of ints
        The first row of the matrix that is computed and the one behind the last, multiples of `SIDE`.
    panel : array (columns at a time, some)
        float64, zeros; with at least as many columns as the matrix, filled up to a multiple of `SIDE`.
    triangle : array (some,)
        float64, rows as of `row_of`, added to.
    """
    width = NUMBER * panel.shape[1]
    for block in range(blocks[0], blocks[1]):
        outer, inner = columns_of(block, extents, panel.shape[0])
        fill_panel(source, zero, size, extents, outer, inner, panel)
        count = (outer[1] - outer[0]) * (inner[1] - inner[0])
        first, target = panel.ctypes.data, triangle.ctypes.data
        column = 0
        while column < rows[1]:
            together = tile_vectors((rows[1] - column) // VECTOR)
            right = first + NUMBER * column
            for row in range(max(rows[0], column - column % SIDE), rows[1], TILE_ROWS):
                start, length = row_of(row)
                vectors = min(together, (length - column) // VECTOR)
                left, to = first + NUMBER * row, target + NUMBER * (start + column)
                outer_products(left, NUMBER, width, right, width, 0.0, count, to, NUMBER * length, True, vectors)
            column += together * VECTOR


@kernel
def add_projection(
    source: int, zero: Any, size: int, samples: int, at_once: int, steps: Array, panel: Array, products: Array,
    even: Array, odd: Array, totals: Array,
) -> None:  # fmt: skip
    """Add the projection of samples on subspaces of some of their modes, taken one after the other.

    Parameters
    ----------
    source, zero, size
        As for `add_gram`.
    samples, at_once : int
        How many there are, and how many of them go through all modes together.
    steps : array (modes, 6)
        int64: of what each product is of, before for one sample, rows and after; as for `project`, vectors, ranks and
        kept.
    panel, products : arrays
        As for `project`.
    even, odd : arrays (some,)
        float64, overwritten: every other product of the samples that go together.
    totals : array (samples, numbers of the last product)
        float64, added to.
    """
    sample_bytes = steps[0, 0] * steps[0, 1] * steps[0, 2] * size
    for first in range(0, samples, at_once):
        some = min(at_once, samples - first)
        last = even
        for number in range(len(steps)):
            step, from_ = steps[number], last.ctypes.data
            last = even if number % 2 == 0 else odd
            extents, into = (some * step[0], step[1], step[2]), last.ctypes.data
            if number == 0:
                begin = source + first * sample_bytes
                project(begin, zero, size, extents, step[3], step[4], step[5], panel, products, into)
            else:
                project(from_, 0.0, NUMBER, extents, step[3], step[4], step[5], panel, products, into)
        place = 0
        for sample in range(first, first + some):
            for number in range(totals.shape[1]):
                totals[sample, number] += last[place]
                place += 1


@kernel
def project(
    source: int, zero: Any, size: int, extents: Extents, vectors: int, ranks: int, kept: int, panel: Array,
    products: Array, result: int,
) -> None:  # fmt: skip
    """Multiply the columns of an unfolding by the transpose of some vectors.

    Parameters
    ----------
    source, zero, size, extents
        As for `add_gram`.
    vectors : int
        The address of (rows, ranks) float64 numbers; the ranks are a multiple of `SIDE`, filled up with zeros.
    ranks, kept : int
        How many there are, and how many of them are written.
    panel : array (columns at a time, side)
        float64, overwritten; columns at a time are a multiple of `SIDE`, and the side is at least the number of rows.
    products : array (columns at a time, some)
        float64, overwritten; with at least as many columns as ranks, and the numbers of a tile.
    result : int
        The address of (before, kept, after) float64 numbers, overwritten.
    """
    if extents[2] < VECTOR:
        _project_panels(source, zero, size, extents, vectors, ranks, kept, panel, products, result)
    else:
        _project_in_place(source, zero, size, extents, vectors, ranks, kept, products, result)


@kernel
def _project_in_place(
    source: int, zero: Any, size: int, extents: Extents, vectors: int, ranks: int, kept: int, products: Array,
    result: int,
) -> None:  # fmt: skip
    """Do it for columns that lie side by side, in vectors; the last vector overlaps the one before."""
    before, rows, after = extents
    step, width = after * size, NUMBER * after
    scratch, scratch_width = products.ctypes.data, NUMBER * 3 * VECTOR
    for block in range(before):
        begin, end = source + block * rows * step, result + block * kept * width
        column = 0
        while column < after:
            of_tile = 1
            if after - column < VECTOR:
                column = after - VECTOR
            else:
                of_tile = tile_vectors((after - column) // VECTOR)
            right = begin + column * size
            for rank in range(0, ranks, TILE_ROWS):
                left, target = vectors + NUMBER * rank, end + rank * width + NUMBER * column
                whole = rank + TILE_ROWS <= kept
                to, to_width = (target, width) if whole else (scratch, scratch_width)
                outer_products(left, NUMBER, NUMBER * ranks, right, step, zero, rows, to, to_width, None, of_tile)
                if not whole:
                    for row in range(kept - rank):
                        for number in range(0, NUMBER * of_tile * VECTOR, NUMBER * VECTOR):
                            copy_vector(scratch + row * scratch_width + number, target + row * width + number, 0.0)
            column += of_tile * VECTOR


@kernel
def _project_panels(
    source: int, zero: Any, size: int, extents: Extents, vectors: int, ranks: int, kept: int, panel: Array,
    products: Array, result: int,
) -> None:  # fmt: skip
    """Do it for columns that do not, from panels."""
    rows, after, at_once = extents[1], extents[2], panel.shape[0]
    width, step = NUMBER * panel.shape[1], NUMBER * ranks
    together = at_once // after
    for block in range((extents[0] + together - 1) // together):
        outer, inner = columns_of(block, extents, at_once)
        fill_panel(source, zero, size, extents, outer, inner, panel)
        count = (outer[1] - outer[0]) * after
        for row in range(0, count, TILE_ROWS):
            left, target = panel.ctypes.data + row * width, products.ctypes.data + row * step
            column = 0
            while column < ranks:
                of_tile = tile_vectors((ranks - column) // VECTOR)
                right, to = vectors + NUMBER * column, target + NUMBER * column
                outer_products(left, width, NUMBER, right, step, 0.0, rows, to, step, None, of_tile)
                column += of_tile * VECTOR
        written = result + outer[0] * kept * after * NUMBER
        for image in range(outer[1] - outer[0]):
            first = products.ctypes.data + image * after * step
            for rank in range(kept):
                for place in range(after):
                    copy_number(first + place * step + NUMBER * rank, written, 0.0)
                    written += NUMBER


@kernel
def add_squares(source: int, zero: Any, size: int, count: int, sums: Array) -> None:
    """Add the squares of neighbouring numbers to float64 sums (SIDE x SIDE), each number's to one of them.

    Parameters
    ----------
    source, zero, size
        As for `add_gram`.
    count : int
        How many numbers, a multiple of SIDE^2.
    sums : array (SIDE^2,)
        Added to.
    """
    target = sums.ctypes.data
    for first in range(0, count, SIDE * SIDE):
        for number in range(0, SIDE * SIDE, VECTOR):
            add_square(source + (first + number) * size, target + NUMBER * number, zero)
