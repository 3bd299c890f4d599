"""JSON and JSON lines, read from files and standard input."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import Malformed
from tools.text_formats import foreign_format

STDIN = "-"
MAX_FILE_BYTES = 256 * 1024 * 1024
SPACE = re.compile(r"[ \t\r\n]*")
SAFE_NAME = re.compile(
    r"\w{1,40}"
)  # a field name may be a misplaced text, which no message may show


@dataclass(frozen=True, slots=True)
class JsonValue:
    """One JSON value of a file, and the line in which it begins."""

    file: str
    line: int
    value: object

    def fault(self, rule: str) -> Malformed:
        """An error that names the file, the line and the violated rule."""
        return Malformed(f"{name_of(self.file)}, line {self.line}: {rule}")


def name_of(file: str) -> str:
    """The name of the file in messages."""
    return "standard input" if file == STDIN else file


def json_values(file: str) -> list[JsonValue]:
    """Every JSON value of a file. Raises Malformed, also if the file cannot be read."""
    text, name = _text_of(file), name_of(file)
    values = []
    line, counted_to = 1, 0
    for start, value in _values(text, name):
        line += text.count("\n", counted_to, start)
        counted_to = start
        values.append(JsonValue(file, line, value))
    if not values:
        raise Malformed(f"{name} has no entries")
    return values


def _text_of(file: str) -> str:
    name = name_of(file)
    try:
        with nullcontext(sys.stdin.buffer) if file == STDIN else Path(file).open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as fault:
        raise Malformed(f"cannot read {name}: {fault.strerror}") from fault
    if len(content) > MAX_FILE_BYTES:
        raise Malformed(f"{name}: more than {MAX_FILE_BYTES} bytes: split the file")
    if found := foreign_format(content):
        raise Malformed(f"{name}: {found}: save it as JSON in UTF-8")
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise Malformed(f"{name}, line {line}: not UTF-8 at byte {fault.start}") from None


def _values(text: str, name: str) -> Iterator[tuple[int, object]]:
    """Each value with its start index: the items of an array, or one value per line."""
    index = _skip_space(text, 0)
    in_array = text.startswith("[", index)
    if in_array:
        index = _skip_space(text, index + 1)
    while index < len(text) and not (in_array and text[index] == "]"):
        value, end = _decoded(text, index, name)
        yield index, value
        start, index = index, _skip_space(text, end)
        if in_array and text.startswith(",", index):
            index = _skip_space(text, index + 1)
        elif in_array and not text.startswith("]", index):
            raise _not_json(text, index, name, "`,` or `]` is missing")
        elif not in_array and index < len(text) and "\n" not in text[end:index]:
            raise _not_json(text, start, name, "more than one value in the line")
    if in_array and SPACE.sub("", text[index:]) != "]":
        raise _not_json(text, index, name, "the array does not end at the end of the file")


def _skip_space(text: str, index: int) -> int:
    found = SPACE.match(text, index)
    return found.end() if found else index


def _decoded(text: str, start: int, name: str) -> tuple[object, int]:
    try:
        value, end = DECODER.raw_decode(text, start)
        if "\\u" in text[start:end]:
            json.dumps(value, ensure_ascii=False).encode()  # raises for lone surrogates
    except json.JSONDecodeError as fault:
        where = f"line {fault.lineno}, column {fault.colno}"
        raise _not_json(text, start, name, f"{fault.msg.partition(':')[0]} ({where})") from None
    except UnicodeEncodeError:
        raise _not_json(text, start, name, "it contains a lone surrogate") from None
    except RecursionError:
        raise _not_json(text, start, name, "nested too deeply") from None
    except ValueError as fault:
        raise _not_json(text, start, name, str(fault)[:80]) from None
    return value, end


def _not_json(text: str, index: int, name: str, rule: str) -> Malformed:
    return Malformed(f"{name}, line {text.count(chr(10), 0, index) + 1}: not JSON: {rule}")


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        repeated = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the field {safe_name(repeated)} occurs twice")
    return fields


def _refuse_constant(_constant: str) -> object:
    raise ValueError("NaN and Infinity are not JSON numbers")


def safe_name(name: str) -> str:
    """The field name if it is certainly not a text, else only its length."""
    return name if SAFE_NAME.fullmatch(name) else f"(a name of {len(name)} characters)"


DECODER = json.JSONDecoder(
    object_pairs_hook=_object_without_repeats, parse_constant=_refuse_constant
)
