"""Reads and writes memory at addresses, for compiled functions: passing arrays to their helpers costs seven times more.

Nothing here checks a bound; the callers do.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BYTE, WORD_32, WORD_64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def _load(builder: Any, address: Any, integer: Any) -> Any:
    pointer = builder.inttoptr(address, integer.as_pointer())
    return builder.load(pointer, align=1)


@intrinsic
def byte_at(typing_context: Any, address: Any) -> Any:
    """The byte at an address, as an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(_load(builder, arguments[0], BYTE), WORD_64)

    return types.int64(types.int64), generate


@intrinsic
def four_bytes_at(typing_context: Any, address: Any) -> Any:
    """The four bytes at an address, in the machine's order, as an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(_load(builder, arguments[0], WORD_32), WORD_64)

    return types.int64(types.int64), generate


@intrinsic
def eight_bytes_at(typing_context: Any, address: Any) -> Any:
    """The eight bytes at an address, in the machine's order, as a uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _load(builder, arguments[0], WORD_64)

    return types.uint64(types.int64), generate


@intrinsic
def put_byte(typing_context: Any, address: Any, value: Any) -> Any:
    """Write one byte."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, value = arguments
        pointer = builder.inttoptr(address, BYTE.as_pointer())
        builder.store(builder.trunc(value, BYTE), pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def copy_bytes(typing_context: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy bytes between ranges that do not overlap."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = BYTE.as_pointer()
        function = ir.FunctionType(ir.VoidType(), [pointer, pointer, WORD_64, ir.IntType(1)])
        memcpy = builder.module.declare_intrinsic(
            "llvm.memcpy", [pointer, pointer, WORD_64], function
        )
        target, source, size = arguments
        builder.call(
            memcpy,
            [
                builder.inttoptr(target, pointer),
                builder.inttoptr(source, pointer),
                size,
                ir.Constant(ir.IntType(1), 0),
            ],
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate
