"""What compiled loops do with the processor's registers, written out for LLVM, which does not find it in Python loops.

In: LLVM values, while numba compiles an intrinsic. Out: LLVM values. Addresses are integers, and offsets are in bytes:
what is frozen, and what may be written to, would otherwise be compiled apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from refgrad.kernels.jit import kernel

__all__ = [
    "FUSED",
    "INDEX",
    "LINE",
    "REGISTER",
    "TILE_ROWS",
    "add_number",
    "add_vector",
    "constant",
    "copy_number",
    "copy_vector",
    "number_kind",
    "prefetch",
    "read",
    "splat",
    "tile_vectors",
    "transposed",
    "vector_kind",
    "write",
    "write_zero",
]

FEATURES = llvmlite.binding.get_host_cpu_features()

REGISTER = 64 if FEATURES.get("avx512f") else 32 if FEATURES.get("avx") else 16
"""Bytes of a register."""

TILE_ROWS = 8 if FEATURES.get("avx512f") else 4
"""The sums of so many rows and of up to three vectors of columns fill the registers: 24 of 32, or 12 of 16."""

LINE = 64
"""Bytes of a cache line."""

INDEX = ir.IntType(64)
FUSED = ("contract",)
"""A product and a sum may be rounded once."""


def constant(number: int) -> ir.Constant:
    """Return an address, or a part of one."""
    return ir.Constant(INDEX, number)


def number_kind(number_type: types.Float) -> Any:
    """Return LLVM's name for float32 or float64."""
    return ir.FloatType() if number_type == types.float32 else ir.DoubleType()


def vector_kind(number_type: types.Float) -> ir.VectorType:
    """Return LLVM's name for a register full of them."""
    return ir.VectorType(number_kind(number_type), REGISTER * 8 // number_type.bitwidth)


def read(builder: Any, address: Any, kind: Any) -> Any:
    """Read a number or a vector, of which only the numbers need be aligned."""
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = _alignment(kind)
    return value


def write(builder: Any, value: Any, address: Any) -> None:
    """Write one."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = _alignment(value.type)


def splat(builder: Any, number: Any, kind: ir.VectorType) -> Any:
    """Return a vector of one number."""
    undefined, lane = ir.Constant(kind, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(undefined, number, ir.Constant(lane, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(lane, kind.count), [0] * kind.count))


def transposed(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Return the columns of a square: as many vectors as each of them has numbers."""
    count = len(rows)

    def shuffled(first: Any, second: Any, lanes: list[int]) -> Any:
        return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), count), lanes))

    columns = list(rows)
    # The two squares off the diagonal change places; first of one number each, then of 2 x 2, 4 x 4, ...
    half = 1
    while half < count:
        upper = [count + lane - half if lane & half else lane for lane in range(count)]
        lower = [count + lane if lane & half else lane + half for lane in range(count)]
        for i in range(count):
            if not i & half:
                pair = columns[i], columns[i + half]
                columns[i], columns[i + half] = shuffled(*pair, upper), shuffled(*pair, lower)
        half *= 2
    return columns


def prefetch(builder: Any, address: Any, ahead: int) -> None:
    """Ask for what is to be read soon: of rows that lie pages apart the processor does not see it coming."""
    pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    signature = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
    insert: Any = cgutils.get_or_insert_function
    function = insert(builder.module, signature, "llvm.prefetch.p0i8")
    place = builder.inttoptr(builder.add(address, constant(ahead)), pointer)
    builder.call(function, [place, *(ir.Constant(flag, number) for number in (0, 3, 1))])  # to read; keep it; data


def _alignment(kind: Any) -> int:
    return 4 if getattr(kind, "element", kind) == ir.FloatType() else 8


def _copying(kind_of: Any) -> Any:
    @intrinsic
    def copy(context: Any, source: Any, target: Any, zero: Any) -> Any:
        """Copy a number of the type of `zero`, or as many as a register holds."""
        del context, source, target

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            write(builder, read(builder, arguments[0], kind_of(signature.args[2])), arguments[1])
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, zero), code

    return copy


copy_number, copy_vector = _copying(number_kind), _copying(vector_kind)


def _adding(kind_of: Any) -> Any:
    @intrinsic
    def add(context: Any, source: Any, target: Any, number: Any) -> Any:
        """Write what stands at `source`, a number or as many as a register holds, plus a number."""
        del context, source, target

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, target, number = arguments
            kind = kind_of(signature.args[2])
            term = splat(builder, number, kind) if isinstance(kind, ir.VectorType) else number
            write(builder, builder.fadd(read(builder, source, kind), term), target)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, number), code

    return add


add_number, add_vector = _adding(number_kind), _adding(vector_kind)


def _write_zero(context: Any, target: Any, zero: Any) -> Any:
    """Write a zero, of its own type."""
    del context, target

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        write(builder, arguments[1], arguments[0])
        return context.get_dummy_value()

    return types.void(types.intp, zero), code


write_zero: Any = intrinsic(_write_zero)


@kernel
def tile_vectors(left: int) -> int:
    """Return how many of the vectors that are left the next tile takes: three, but rather 2 + 2 than 3 + 1."""
    return 2 if left == 4 else min(left, 3)
