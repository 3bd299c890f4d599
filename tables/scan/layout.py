"""The field table of a schema: what the canonical encoding of each of its fields may look like. Pure.

Canonical are minimal varints, lengths within the bytes and the limits (bytes are counted, not characters), known union
branches, one block per array, valid UTF-8, no U+0000, no bytes left over. A record that is not canonical, or that needs
a varint of more bytes than the engines read, takes the slow path, which decides.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.field_limits import (
    LANGUAGE,
    MAX_LONG,
    CountLimit,
    IdLimit,
    NumberLimit,
    PatternLimit,
    TextLimit,
    rule_of,
)

FRAME_BYTES = 5
MAX_LONG_BYTES = 9  # of a non-negative long; one of ten bytes takes the slow path
TWO_BYTES = 16_384  # lengths and counts are read up to two bytes: their zigzag is smaller than this
MAX_TEXT_BYTES = (TWO_BYTES - 1) // 2
MAX_MINIMUM = 64  # a number of two bytes or more is at least this
# Every text of these code points is in NFC; U+0020 is the only white space among them. Ids with others, such as
# combining marks, take the slow path. A test compares with Unicode.
STABLE = (
    (0x20, 0x7E),  # ASCII
    (0xA1, 0xAC),  # Latin, without the invisible soft hyphen
    (0xAE, 0x2FF),
    (0x388, 0x3FF),  # Greek
    (0x400, 0x482),  # Cyrillic
    (0x5D0, 0x5EA),  # Hebrew
    (0x620, 0x64A),  # Arabic
    (0x3041, 0x3096),  # Hiragana
    (0x30A1, 0x30FA),  # Katakana
    (0x4E00, 0x9FFF),  # Chinese
    (0xAC00, 0xD7A3),  # Korean
)
SHORT_LANGUAGE_TAG = re.compile(r"[a-z]{2,3}")  # longer ones take the slow path
CLASSES = re.compile(r"(?P<first>\[[^]]+\])?(?P<rest>\[[^]]+\])\{(?:(?P<low>\d+),)?(?P<high>\d+)\}")


@dataclass(frozen=True, slots=True)
class Text:
    """A text of 1 to `maximum` bytes."""

    maximum: int


@dataclass(frozen=True, slots=True)
class Identifier:
    """A text of 1 to `maximum` bytes that can be used in a path and is in normal form (`IdLimit`, `STABLE`)."""

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
    """A long of at least `minimum`, whose varint has this number of bytes."""

    minimum: int
    least_bytes: int = 1
    most_bytes: int = MAX_LONG_BYTES


@dataclass(frozen=True, slots=True)
class Boolean:
    """One byte, 0 or 1."""


@dataclass(frozen=True, slots=True)
class Items:
    """An array of `minimum` to `maximum` records, whose fields are required texts.

    is_distinct: no two records have the same first field.
    """

    minimum: int
    maximum: int
    texts: tuple[Text, ...]
    is_distinct: bool


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


def is_flat(schema: Mapping[str, Any]) -> bool:
    """Whether a schema has neither records nor arrays in it; uploads that have some take the slow path."""
    return not any(isinstance(field["type"], dict) for field in schema["fields"])


def layout_of(schema: Mapping[str, Any], captured: Sequence[str]) -> Layout:
    """The field table of a released schema; its limits are those of `field_limits`.

    A captured field that the schema lacks is null in every record. Raises TypeError for a type that no engine reads.
    """
    return Layout(tuple(_fields(schema)), tuple(captured))


def _fields(schema: Mapping[str, Any]) -> Iterator[Field]:
    for field in schema["fields"]:
        match field["type"]:
            case ["null", inner]:
                value, is_optional = _value(schema["name"], field["name"], inner), True
            case inner:
                value, is_optional = _value(schema["name"], field["name"], inner), False
        yield Field(field["name"], value, is_optional)


def _value(record: str, name: str, schema: Any) -> Value:
    match schema, rule_of(record, name):
        case "string", TextLimit(maximum):
            return Text(min(maximum, MAX_TEXT_BYTES))
        case "string", IdLimit(maximum):
            return Identifier(min(maximum, MAX_TEXT_BYTES))
        case "string", PatternLimit() as limit:
            return _word(SHORT_LANGUAGE_TAG if limit is LANGUAGE else limit.pattern)
        case "long", NumberLimit(minimum, maximum):
            return _number(name, minimum, maximum)
        case "boolean", None:
            return Boolean()
        case {"type": "array", "items": items}, CountLimit(minimum, maximum, distinct):
            if distinct not in (None, items["fields"][0]["name"]):
                raise TypeError(f"no engine compares the field {distinct} of items")
            return Items(minimum, maximum, tuple(_texts(items)), distinct is not None)
    raise TypeError(f"no engine scans the field {name} of type {schema!r}")


def _number(name: str, minimum: int, maximum: int) -> Number:
    """A range that the number of bytes decides, or a small minimum."""
    if minimum <= MAX_MINIMUM and maximum == MAX_LONG:
        return Number(minimum)
    least, most = _varint_bytes(minimum), _varint_bytes(maximum)
    if _varint_bytes(minimum - 1) == least or _varint_bytes(maximum + 1) == most:
        raise TypeError(f"no engine scans the field {name} from {minimum} to {maximum}")
    return Number(0, least, most)


def _varint_bytes(number: int) -> int:
    """The bytes of the zigzag varint of a number that is not negative."""
    return -(-(2 * number).bit_length() // 7)


def _texts(items: Mapping[str, Any]) -> Iterator[Text]:
    for field in _fields(items):
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
