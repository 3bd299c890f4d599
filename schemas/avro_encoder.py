"""Compiles a released Avro schema into one Python function from an event to bytes.

Format: the binary encoding of the Avro specification, 1.12, with the fewest bytes: one block per array, no padding. An
optional value is a union of null and one other type; the compiler refuses any other union.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.avro_decoder import DOUBLE, Schema, indented

Encoder = Callable[[bytearray, Any], None]  # appends a value to the body
MAX_ONE_BYTE = 64  # smaller numbers take one byte
BITS = {"int": 31, "long": 63}


def compile_encoder(schema: Mapping[str, Any], classes: Mapping[str, Any]) -> Encoder:
    """The function that appends an event of this schema to a body.

    classes are dataclasses with slots, by record name; a field that a class lacks gets its default. The function raises
    OverflowError for a number of more bits than its type has, or for a double that is not finite.
    """
    compiler = _Compiler(classes)
    name = compiler.record(schema)
    source = compile("\n".join(compiler.lines), f"<encoder of {schema['name']}>", "exec")
    exec(source, compiler.names)
    encoder: Encoder = compiler.names[name]
    return encoder


class _Compiler:
    """Writes the functions of one schema: one per record type."""

    def __init__(self, classes: Mapping[str, Any]) -> None:
        self._classes = classes
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "add_long": _add_long,
            "add_number": _add_number,
            "add_double": _add_double,
        }

    def record(self, schema: Mapping[str, Any]) -> str:
        """Write the function of a record type; returns the function's name."""
        function = f"add_{schema['name']}"
        lines = [f"def {function}(body, record):"]
        for field in schema["fields"]:
            is_known = field["name"] in vars(self._classes[schema["name"]])
            value = f"record.{field['name']}" if is_known else repr(field["default"])
            lines += indented([f"value = {value}", *self._value(field["type"])])
        self.lines += lines
        return function

    def _value(self, schema: Schema) -> Sequence[str]:
        """The lines that append `value` to `body`."""
        match schema:
            case ["null", other]:
                return [
                    "if value is None:",
                    "    body.append(0)",
                    "else:",
                    "    body.append(2)",
                    *indented(self._value(other)),
                ]
            case {"type": "record"}:
                return [f"{self.record(schema)}(body, value)"]
            case {"type": "array", "items": items}:
                return [
                    "if value:",
                    "    add_long(body, len(value))",
                    "    for value in value:",
                    *indented(indented(self._value(items))),
                    "body.append(0)",
                ]
            case "boolean":
                return ["body.append(1 if value else 0)"]
            case "int" | "long":
                return [
                    f"if 0 <= value < {MAX_ONE_BYTE}:",
                    "    body.append(value << 1)",
                    "else:",
                    f"    add_number(body, value, {BITS[schema]})",
                ]
            case "double":
                return ["add_double(body, value)"]
            case "string":
                return ["value = value.encode()", *self._value("bytes")]
            case "bytes":
                return [
                    "size = len(value)",
                    f"if size < {MAX_ONE_BYTE}:",
                    "    body.append(size << 1)",
                    "else:",
                    "    add_long(body, size)",
                    "body += value",
                ]
            case str() if f"def add_{schema.rpartition('.')[2]}(body, record):" in self.lines:
                return [f"add_{schema.rpartition('.')[2]}(body, value)"]
        raise TypeError(f"no encoder for the schema {schema!r}")


def _add_long(body: bytearray, value: int) -> None:
    value = (value << 1) ^ (value >> 63)
    while value > 127:
        body.append(value & 127 | 128)
        value >>= 7
    body.append(value)


def _add_number(body: bytearray, value: int, bits: int) -> None:
    if not -(1 << bits) <= value < 1 << bits:
        raise OverflowError(f"a number of more than {bits + 1} bits")
    _add_long(body, value)


def _add_double(body: bytearray, value: float) -> None:
    if not math.isfinite(value):
        raise OverflowError("a double that is not finite")
    body += DOUBLE.pack(value)
