"""The structure of an Avro body, walked without building values.

fastavro lets numbers wrap beyond 64 bits, takes any byte for true and trusts the lengths of blocks; this walk
refuses them. Format: the binary encoding of the Avro specification, 1.12.
"""

from collections.abc import Mapping
from typing import Any

from schemas.errors import Malformed

LONG_BYTES = 10
MASK = (1 << 64) - 1


def end_of(schema: Any, named: Mapping[str, Any], body: bytes, at: int) -> int:
    """Where the value that begins at `at` ends. Raises Malformed; IndexError where the bytes end first."""
    if isinstance(schema, list):
        branch, at = long_at(body, at)
        if not 0 <= branch < len(schema):
            raise Malformed(f"union branch {branch} of {len(schema)}")
        return end_of(schema[branch], named, body, at)
    kind = schema if isinstance(schema, str) else schema["type"]
    match kind:
        case "null":
            return at
        case "boolean":
            if body[at] > 1:
                raise Malformed("a boolean that is neither 0 nor 1")
            return at + 1
        case "int" | "long":
            return _number_end(kind, body, at)
        case "string" | "bytes":
            length, at = long_at(body, at)
            if not 0 <= length <= len(body) - at:
                raise Malformed(f"a length of {length} bytes where {len(body) - at} are left")
            return at + length
        case "array":
            return _array_end(schema["items"], named, body, at)
        case "record":
            for field in schema["fields"]:
                at = end_of(field["type"], named, body, at)
            return at
        case _:
            return end_of(named[kind], named, body, at)


def long_at(body: bytes, at: int) -> tuple[int, int]:
    """The zigzag number that begins at `at`, of any length up to ten bytes, and where it ends."""
    value = 0
    for index in range(LONG_BYTES):
        byte = body[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    else:
        raise Malformed("a number of more than ten bytes")
    if value > MASK:
        raise Malformed("a number of more than 64 bits")
    return (value >> 1) ^ -(value & 1), at + index + 1


def _number_end(kind: str, body: bytes, at: int) -> int:
    value, end = long_at(body, at)
    if kind == "int" and not -(2**31) <= value < 2**31:
        raise Malformed("an int of more than 32 bits")
    return end


def _array_end(items: Any, named: Mapping[str, Any], body: bytes, at: int) -> int:
    while True:
        count, at = long_at(body, at)
        if count == 0:
            return at
        said = None
        if count < 0:  # a block that says its size in bytes
            size, at = long_at(body, at)
            count, said = -count, at + size
        for _ in range(count):
            at = end_of(items, named, body, at)
        if said is not None and said != at:
            raise Malformed("a block that is not as long as it says")
