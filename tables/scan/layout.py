"""The field table of a schema: what the canonical encoding of each of its fields may look like. Pure.

Canonical are minimal varints, lengths within the bytes and the limits (bytes are counted, not characters), known union
branches, one block per array, valid UTF-8, no U+0000, no bytes left over. A record that is not canonical, or that needs
a varint of more bytes than the engines read, takes the slow path, which decides.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.field_limits import RULES, CountLimit, IdLimit, NumberLimit, PatternLimit, TextLimit

FRAME_BYTES = 5
MAX_LONG_BYTES = 9  # of a non-negative long; one of ten bytes takes the slow path
TWO_BYTES = 16_384  # lengths and counts are read up to two bytes: their zigzag is smaller than this
MAX_TEXT_BYTES = (TWO_BYTES - 1) // 2
MAX_MINIMUM = 64  # a number of two bytes or more is at least this
CLASSES = re.compile(r"(?P<first>\[[^]]+\])?(?P<rest>\[[^]]+\])\{(?:(?P<low>\d+),)?(?P<high>\d+)\}")


@dataclass(frozen=True, slots=True)
class Text:
    """A text of 1 to `maximum` bytes."""

    maximum: int


@dataclass(frozen=True, slots=True)
class Identifier:
    """A text of 1 to `maximum` bytes that can be used in a path (`IdLimit`)."""

    maximum: int


@dataclass(frozen=True, slots=True)
class Word:
    """A text of ASCII characters: the first one of a set, the others of a second set."""

    minimum: int
    maximum: int
    first: frozenset[int]
    rest: frozenset[int]


@dataclass(frozen=True, slots=True)
class Number:
    """A long of at least `minimum`."""

    minimum: int


@dataclass(frozen=True, slots=True)
class Boolean:
    """One byte, 0 or 1."""


@dataclass(frozen=True, slots=True)
class Items:
    """An array of `minimum` to `maximum` records, whose fields are required texts."""

    minimum: int
    maximum: int
    texts: tuple[Text, ...]


Value = Text | Identifier | Word | Number | Boolean | Items


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record; an optional one is a union of null and its type."""

    name: str
    value: Value
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of a schema in their order, and those of which a scan returns the place.

    The place of a text is that of its bytes without their length, that of a number its varint. What two fields must
    have in common is not in it: an upload has exactly one of two ids.
    """

    fields: tuple[Field, ...]
    captured: tuple[str, ...]

    def capture_of(self, field: Field) -> int | None:
        """The number of a captured field; None if it is not captured."""
        return self.captured.index(field.name) if field.name in self.captured else None


def layout_of(schema: Mapping[str, Any], captured: Sequence[str]) -> Layout:
    """The field table of a released schema; its limits are those of `field_limits`.

    A captured field that the schema lacks is null in every record. Raises TypeError for a type that no engine reads.
    """
    return Layout(tuple(map(_field, schema["fields"])), tuple(captured))


def _field(field: Mapping[str, Any]) -> Field:
    match field["type"]:
        case ["null", inner]:
            return Field(field["name"], _value(field["name"], inner), is_optional=True)
        case inner:
            return Field(field["name"], _value(field["name"], inner))


def _value(name: str, schema: Any) -> Value:
    match schema, RULES.get(name):
        case "string", TextLimit(maximum):
            return Text(min(maximum, MAX_TEXT_BYTES))
        case "string", IdLimit(maximum):
            return Identifier(min(maximum, MAX_TEXT_BYTES))
        case "string", PatternLimit(pattern):
            return _word(pattern)
        case "long", NumberLimit(minimum, _) if minimum <= MAX_MINIMUM:
            return Number(minimum)
        case "boolean", None:
            return Boolean()
        case {"type": "array", "items": {"fields": fields}}, CountLimit(minimum, maximum):
            return Items(minimum, maximum, tuple(_texts(fields)))
    raise TypeError(f"no engine scans the field {name} of type {schema!r}")


def _texts(fields: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    for field in map(_field, fields):
        if field.is_optional or not isinstance(field.value, Text):
            raise TypeError(f"no engine scans the field {field.name} of an item")
        yield field.value


def _word(pattern: re.Pattern[str]) -> Word:
    """The two sets of a pattern such as `[a-z][a-z0-9_]{0,63}`."""
    parts = CLASSES.fullmatch(pattern.pattern)
    if parts is None:
        raise TypeError(f"no engine scans texts of the pattern {pattern.pattern}")
    first, low, high = parts["first"], int(parts["low"] or parts["high"]), int(parts["high"])
    sets = (_members(first or parts["rest"]), _members(parts["rest"]))
    leading = 1 if first else 0
    return Word(low + leading, high + leading, *sets)


def _members(character_class: str) -> frozenset[int]:
    matches = re.compile(character_class).fullmatch
    return frozenset(number for number in range(128) if matches(chr(number)))
