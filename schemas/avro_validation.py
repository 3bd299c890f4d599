"""Checks the structure of an Avro body without building values.

It refuses what fastavro accepts: numbers beyond 64 bits, which wrap there, any byte as a boolean, and wrong block
sizes. Format: the binary encoding of the Avro specification, 1.12.
"""

from collections.abc import Mapping
from typing import Any

from schemas.errors import Malformed

LONG_BYTES = 10
MASK = (1 << 64) - 1


def end_of(schema: Any, named: Mapping[str, Any], body: bytes, start: int) -> int:
    """The end of the value that starts at `start`. Raises Malformed, or IndexError if the bytes end too early."""
    if isinstance(schema, list):
        branch, start = long_at(body, start)
        if not 0 <= branch < len(schema):
            raise Malformed(f"union branch {branch} of {len(schema)}")
        return end_of(schema[branch], named, body, start)
    kind = schema if isinstance(schema, str) else schema["type"]
    match kind:
        case "null":
            return start
        case "boolean":
            if body[start] > 1:
                raise Malformed("a boolean that is neither 0 nor 1")
            return start + 1
        case "int" | "long":
            return _number_end(kind, body, start)
        case "string" | "bytes":
            length, start = long_at(body, start)
            if not 0 <= length <= len(body) - start:
                raise Malformed(f"a length of {length} bytes where {len(body) - start} are left")
            return start + length
        case "array":
            return _array_end(schema["items"], named, body, start)
        case "record":
            end = start
            for field in schema["fields"]:
                end = end_of(field["type"], named, body, end)
            return end
        case _:
            return end_of(named[kind], named, body, start)


def long_at(body: bytes, start: int) -> tuple[int, int]:
    """The zigzag number that starts at `start`, of up to ten bytes, and its end. Raises Malformed or IndexError."""
    value = 0
    for index in range(LONG_BYTES):
        byte = body[start + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    else:
        raise Malformed("a number of more than ten bytes")
    if value > MASK:
        raise Malformed("a number of more than 64 bits")
    return (value >> 1) ^ -(value & 1), start + index + 1


def _number_end(kind: str, body: bytes, start: int) -> int:
    value, end = long_at(body, start)
    if kind == "int" and not -(2**31) <= value < 2**31:
        raise Malformed("an int of more than 32 bits")
    return end


def _array_end(items: Any, named: Mapping[str, Any], body: bytes, start: int) -> int:
    end = start
    while True:
        count, end = long_at(body, end)
        if count == 0:
            return end
        stated_end = None
        if count < 0:  # this block states its size in bytes
            size, end = long_at(body, end)
            count, stated_end = -count, end + size
        for _ in range(count):
            end = end_of(items, named, body, end)
        if stated_end is not None and stated_end != end:
            raise Malformed("a block that is not as long as it says")
