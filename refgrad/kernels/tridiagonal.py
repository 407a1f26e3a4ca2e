"""Symmetric matrices turned into tridiagonal ones by Householder reflections, in the memory of one triangle.

In: the lower triangle of a symmetric matrix, as `kernels.unfoldings` writes it, and later vectors. Out: the diagonal,
what is beside it, and the reflections, which take the place of the matrix; the vectors, reflected.

A row is reflected on its last number, from the last row on. What one reflection changes is not written before the next
one is known: then every number is read and written once for both, and LAPACK's blocks, which need BLAS and its threads,
have nothing to gain from matrices that a core's own cache holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from refgrad.arguments import Array
from refgrad.kernels.jit import kernel, summing_kernel
from refgrad.kernels.registers import FUSED, INDEX, REGISTER, TILE_ROWS, constant, read, splat, write
from refgrad.kernels.unfoldings import LANES, NUMBER, SIDE, VECTOR, WIDE, outer_products, row_of

__all__ = ["CHUNK", "defects", "reflect", "tridiagonalize"]

CHUNK = 3 * VECTOR
"""Vectors that are reflected together: as many as the registers hold of a tile."""

NEGLIGIBLE = 2.0**-900
"""A squared length below which a reflection would be inexact: of numbers under 2^-450, where the matrix that they stand
in has an energy of at least 2^-600 (`refgrad.multilinear.scaled`)."""


def _rows_of(rows: int, mirrored: bool) -> Any:
    @intrinsic
    def update(
        context: Any, target: Any, width: Any, begin: Any, end: Any, row: Any, old: Any, change: Any, new: Any,
        product: Any,
    ) -> Any:  # fmt: skip
        """Subtract old change^T + change old^T from some rows of a matrix, and multiply them by `new`.

        target is the address of the first row's first number, a row is `width` bytes long, and `row` is its number.
        begin < end are bytes of a row, whole registers. The others are addresses of vectors of the matrix's length: the
        products are added to those of these rows, and if it is mirrored to those of these columns as well, whose other
        side is not stored.
        """
        del context, target, width, begin, end, row, old, change, new, product

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            target, width, begin, end, row, old, change, new, product = arguments
            place = builder.mul(row, constant(NUMBER))
            starts = [target]
            for _ in range(rows - 1):
                starts.append(builder.add(starts[-1], width))

            def number(of: Any, count: int) -> Any:
                return read(builder, builder.add(builder.add(of, place), constant(NUMBER * count)), WIDE)

            olds, changes, news = (
                [splat(builder, number(of, count), LANES) for count in range(rows)] for of in (old, change, new)
            )
            before = builder.block
            loop, after = builder.append_basic_block("columns"), builder.append_basic_block("sums")
            builder.branch(loop)

            builder.position_at_end(loop)
            at = builder.phi(INDEX)
            sums = [builder.phi(LANES) for _ in range(rows)]
            old_here, change_here, new_here = (read(builder, builder.add(of, at), LANES) for of in (old, change, new))
            at_product = builder.add(product, at)
            mirror = read(builder, at_product, LANES) if mirrored else None
            larger = []
            for count in range(rows):
                at_row = builder.add(starts[count], at)
                value = read(builder, at_row, LANES)
                for left, right in ((olds[count], change_here), (changes[count], old_here)):
                    value = builder.fsub(value, builder.fmul(left, right, flags=FUSED), flags=FUSED)
                write(builder, value, at_row)
                larger.append(builder.fadd(sums[count], builder.fmul(value, new_here, flags=FUSED), flags=FUSED))
                if mirrored:
                    mirror = builder.fadd(mirror, builder.fmul(value, news[count], flags=FUSED), flags=FUSED)
            if mirrored:
                write(builder, mirror, at_product)
            following = builder.add(at, constant(REGISTER))
            at.add_incoming(begin, before)
            at.add_incoming(following, loop)
            for total, value in zip(sums, larger, strict=True):
                total.add_incoming(ir.Constant(LANES, [0.0] * VECTOR), before)
                total.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, end), loop, after)

            builder.position_at_end(after)
            for count, value in enumerate(larger):
                address = builder.add(builder.add(product, place), constant(NUMBER * count))
                total = read(builder, address, WIDE)
                for lane in range(VECTOR):
                    part = builder.extract_element(value, ir.Constant(ir.IntType(32), lane))
                    total = builder.fadd(total, part)
                write(builder, total, address)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 9), code

    return update


ROWS = TILE_ROWS // 2
"""So many rows, with three numbers each that are multiplied, leave some registers for what they are multiplied with."""

update_rows, update_row = _rows_of(ROWS, True), _rows_of(1, True)
update_corner_rows, update_corner_row = _rows_of(ROWS, False), _rows_of(1, False)


@summing_kernel
def _reflection(row: Array, length: int, reflector: Array) -> tuple[float, float]:
    """Find the reflection I - scale u u^T that leaves of a row's first `length` numbers the last one.

    Return the scale and what that number becomes; u is written to `reflector`, with zeros behind it, and to the row.
    """
    squares = 0.0
    for column in range(length - 1):
        squares += row[column] * row[column]
    last = row[length - 1]
    scale, beside = 0.0, last
    if squares > 0.0 and squares + last * last > NEGLIGIBLE:
        beside = -np.copysign(np.sqrt(squares + last * last), last)
        scale = (beside - last) / beside
    divided = 1.0 / (last - beside) if scale > 0.0 else 0.0
    for column in range(length - 1):
        reflector[column] = row[column] * divided
    reflector[length - 1] = 1.0 if scale > 0.0 else 0.0
    for column in range(length, len(reflector)):
        reflector[column] = 0.0
    for column in range(len(row)):
        row[column] = reflector[column]
    return scale, beside


@summing_kernel
def _scaled_product(scale: float, reflector: Array, length: int, product: Array) -> None:
    """Turn the product p of a matrix and u into q, so that u q^T + q u^T is what the reflection subtracts."""
    along = 0.0
    for row in range(length):
        along += product[row] * reflector[row]
    half = 0.5 * scale * scale * along
    for row in range(length):
        product[row] = scale * product[row] - half * reflector[row]
    for row in range(length, len(product)):
        product[row] = 0.0


@summing_kernel
def _update_alone(row: Array, old: Array, change: Array, number: int) -> None:
    """Subtract old change^T + change old^T from the row of that number."""
    of_old, of_change = old[number], change[number]
    for column in range(number + 1):
        row[column] -= of_old * change[column] + of_change * old[column]


@kernel
def tridiagonalize(triangle: Array, count: int, diagonal: Array, beside: Array, scales: Array) -> None:
    """Reduce a symmetric matrix to a tridiagonal one, T = H_1 ... H_n-1 A H_n-1 ... H_1.

    Parameters
    ----------
    triangle : array (some,)
        float64, A as `unfoldings.add_gram` writes it. Afterwards its row i holds u of H_i = I - s u u^T, and zeros.
    count : int
        n, how many rows A has; those that fill up the last block are not looked at.
    diagonal, beside, scales : arrays (n,)
        float64, overwritten: T_ii; T_i+1,i with a zero at the end; s of H_i.
    """
    side = (count + SIDE - 1) // SIDE * SIDE
    old, change, new, product = np.zeros(side), np.zeros(side), np.zeros(side), np.zeros(side)
    first = triangle.ctypes.data
    beside[count - 1] = 0.0
    for number in range(count, side):
        start, width = row_of(number)
        triangle[start : start + width] = 0.0
    for last in range(count - 1, 0, -1):
        start, width = row_of(last)
        row = triangle[start : start + width]
        _update_alone(row, old, change, last)
        diagonal[last] = row[last]
        scales[last], beside[last - 1] = _reflection(row, last, new)
        product[:] = 0.0
        at_old, at_change, at_new = old.ctypes.data, change.ctypes.data, new.ctypes.data
        at_product = product.ctypes.data
        number = 0
        while number < last:
            start, width = row_of(number)
            target, row_bytes, corner = first + NUMBER * start, NUMBER * width, NUMBER * (width - SIDE)
            if number + ROWS <= last:
                if corner > 0:
                    update_rows(target, row_bytes, 0, corner, number, at_old, at_change, at_new, at_product)
                update_corner_rows(target, row_bytes, corner, row_bytes, number, at_old, at_change, at_new, at_product)
                number += ROWS
            else:
                if corner > 0:
                    update_row(target, row_bytes, 0, corner, number, at_old, at_change, at_new, at_product)
                update_corner_row(target, row_bytes, corner, row_bytes, number, at_old, at_change, at_new, at_product)
                number += 1
        _scaled_product(scales[last], new, last, product)
        old, new = new, old
        change, product = product, change
    diagonal[0] = triangle[0] - 2.0 * old[0] * change[0]
    scales[0] = 0.0
    triangle[:SIDE] = 0.0


@summing_kernel
def defects(diagonal: Array, beside: Array, values: Array, vectors: Array) -> tuple[float, float]:
    """Return how far vectors are from orthonormal, and from eigenvectors of a tridiagonal matrix: the largest entries.

    Parameters
    ----------
    diagonal, beside : arrays (n,), (n - 1,)
        float64, T_ii and T_i+1,i.
    values : array (some,)
        float64.
    vectors : array (some, n)
        float64, C-contiguous, a row for each value.

    Returns
    -------
    (float, float)
        max |V V^T - I| and max |V T - diag(values) V|, NaN where there is one.
    """
    count = len(diagonal)
    skew = residual = 0.0
    for number in range(len(vectors)):
        vector, value = vectors[number], values[number]
        for other in range(number + 1):
            along = -1.0 if other == number else 0.0
            for column in range(count):
                along += vector[column] * vectors[other, column]
            skew = np.maximum(skew, abs(along))
        for column in range(count):
            left = (diagonal[column] - value) * vector[column]
            if column > 0:
                left += beside[column - 1] * vector[column - 1]
            if column + 1 < count:
                left += beside[column] * vector[column + 1]
            residual = np.maximum(residual, abs(left))
    return skew, residual


@summing_kernel
def _combine(reflectors: Array, scales: Array, combined: Array) -> None:
    """Fill C so that I - U^T C U is the product of a block's reflections, the first one on the right (compact WY).

    Parameters
    ----------
    reflectors : array (SIDE, some)
        U, a row for each.
    scales : array (SIDE,)
        Of each.
    combined : array (SIDE, SIDE)
        Overwritten.
    """
    combined[:] = 0.0
    for last in range(SIDE):
        for other in range(last):
            along = 0.0
            for column in range(reflectors.shape[1]):
                along += reflectors[last, column] * reflectors[other, column]
            for column in range(other + 1):
                combined[last, column] -= scales[last] * along * combined[other, column]
        combined[last, last] = scales[last]


@kernel
def reflect(triangle: Array, count: int, scales: Array, vectors: Array, combined: Array, chunk: Array) -> None:
    """Turn eigenvectors of T into those of A, in their place.

    Parameters
    ----------
    triangle : array (some,)
        As `tridiagonalize` left it.
    count : int
        n.
    scales : array (n rounded up to a multiple of SIDE,)
        As `tridiagonalize` left them, and zeros.
    vectors : array (some, n)
        float64, C-contiguous, overwritten: a row for each.
    combined : array (blocks of SIDE rows, SIDE, SIDE)
        float64, overwritten.
    chunk : array (n rounded up + 2 SIDE, CHUNK)
        float64, overwritten.
    """
    blocks, chunk_bytes = len(combined), NUMBER * CHUNK
    first, side = triangle.ctypes.data, SIDE * blocks
    at_chunk = chunk.ctypes.data
    along, changes = chunk[side : side + SIDE], chunk[side + SIDE :]
    for block in range(blocks):
        start, width = row_of(block * SIDE)
        reflectors = triangle[start : start + SIDE * width].reshape(SIDE, width)
        _combine(reflectors, scales[block * SIDE : (block + 1) * SIDE], combined[block])
    for begin in range(0, len(vectors), CHUNK):
        some = vectors[begin : begin + CHUNK]
        chunk[:] = 0.0
        for number in range(len(some)):
            for row in range(count):
                chunk[row, number] = some[number, row]
        for block in range(blocks):
            start, width = row_of(block * SIDE)
            left, row_bytes = first + NUMBER * start, NUMBER * width
            for row in range(0, SIDE, TILE_ROWS):
                at_row, target = left + row * row_bytes, along.ctypes.data + row * chunk_bytes
                outer_products(
                    at_row, row_bytes, NUMBER, at_chunk, chunk_bytes, 0.0, width, target, chunk_bytes, None, 3
                )
            for row in range(SIDE):
                for number in range(CHUNK):
                    change = 0.0
                    for other in range(row + 1):
                        change -= combined[block, row, other] * along[other, number]
                    changes[row, number] = change
            right = changes.ctypes.data
            for row in range(0, width, TILE_ROWS):
                at_row, target = left + NUMBER * row, at_chunk + row * chunk_bytes
                outer_products(at_row, NUMBER, row_bytes, right, chunk_bytes, 0.0, SIDE, target, chunk_bytes, True, 3)
        for number in range(len(some)):
            for row in range(count):
                some[number, row] = chunk[row, number]
