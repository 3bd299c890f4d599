"""JSON and JSON lines read from files and standard input."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import Malformed

STDIN = "-"
MAX_FILE_BYTES = 256 * 1024 * 1024
SPACE = re.compile(r"[ \t\r\n]*")
TELLABLE = re.compile(r"\w{1,40}")  # a field's name may be a text in the wrong place


@dataclass(frozen=True, slots=True)
class JsonValue:
    """One JSON value of a file, and the line that it begins in."""

    file: str
    line: int
    value: object

    def fault(self, rule: str) -> Malformed:
        """What is wrong with it."""
        return Malformed(f"{name_of(self.file)}, line {self.line}: {rule}")


def name_of(file: str) -> str:
    """The file as messages name it."""
    return "standard input" if file == STDIN else file


def json_values(file: str) -> list[JsonValue]:
    """Every JSON value of a file. Raises Malformed, also where the file cannot be read."""
    text = _utf8(_bytes_of(file), name_of(file)).removeprefix("\ufeff")
    found = []
    line, counted = 1, 0
    for at, value in _values(text, name_of(file)):
        line += text.count("\n", counted, at)
        counted = at
        found.append(JsonValue(file, line, value))
    if not found:
        raise Malformed(f"{name_of(file)}: nothing in it")
    return found


def _bytes_of(file: str) -> bytes:
    try:
        if file == STDIN:
            content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as fault:
        raise Malformed(f"cannot read {name_of(file)}: {fault.strerror}") from fault
    if len(content) > MAX_FILE_BYTES:
        raise Malformed(f"{name_of(file)}: more than {MAX_FILE_BYTES} bytes: split it")
    return content


def _utf8(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise Malformed(f"{name}, line {line}: not UTF-8 at byte {fault.start}") from None


def _values(text: str, name: str) -> Iterator[tuple[int, object]]:
    """Each value with the index that it begins at: an array's items, or values on lines of their own."""
    at = _past_space(text, 0)
    in_array = text.startswith("[", at)
    if in_array:
        at = _past_space(text, at + 1)
    while at < len(text) and not (in_array and text[at] == "]"):
        value, end = _decoded(text, at, name)
        yield at, value
        begins, at = at, _past_space(text, end)
        if in_array and text.startswith(",", at):
            at = _past_space(text, at + 1)
        elif in_array and not text.startswith("]", at):
            raise _no_json(text, at, name, "`,` or `]` is missing")
        elif not in_array and at < len(text) and "\n" not in text[end:at]:
            raise _no_json(text, begins, name, "more than one value in the line")
    if in_array and SPACE.sub("", text[at:]) != "]":
        raise _no_json(text, at, name, "the array does not end where the file ends")


def _past_space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _decoded(text: str, at: int, name: str) -> tuple[object, int]:
    try:
        value, end = DECODER.raw_decode(text, at)
        if "\\u" in text[at:end]:
            json.dumps(value, ensure_ascii=False).encode()  # finds lone surrogates
    except json.JSONDecodeError as fault:
        where = f"line {fault.lineno}, column {fault.colno}"
        raise _no_json(text, at, name, f"{fault.msg.partition(':')[0]} ({where})") from None
    except UnicodeEncodeError:
        raise _no_json(text, at, name, "a lone surrogate in it") from None
    except RecursionError:
        raise _no_json(text, at, name, "nested too deeply") from None
    except ValueError as fault:
        raise _no_json(text, at, name, str(fault)[:80]) from None
    return value, end


def _no_json(text: str, at: int, name: str, rule: str) -> Malformed:
    return Malformed(f"{name}, line {text.count(chr(10), 0, at) + 1}: not JSON: {rule}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, _ in pairs if sum(key == one for one, _ in pairs) > 1)
        raise ValueError(f"the field {tellable(twice)} stands there twice")
    return found


def _no_number(_constant: str) -> object:
    raise ValueError("NaN and Infinity are no JSON numbers")


def tellable(name: str) -> str:
    return name if TELLABLE.fullmatch(name) else f"of a name of {len(name)} characters"


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
