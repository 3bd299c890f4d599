"""Scans an upload's bytes for its link in the version chain, without decoding them, which takes four times as long.

Uploads that the scanner accepts, `read_upload` accepts too, with the same result; all others are left to `read_upload`
(the slow path), which decides. A property test checks this. Accepted are minimal varints, lengths within the bytes and
the limits (characters are counted as bytes), known union branches, valid UTF-8, no U+0000, no bytes left over.

A schema is one regular expression over the bytes, so that one call in C does the work; in it a text is its length and
that many bytes, with a branch for each length. Most texts are ASCII; if one is not, a second expression is used.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

from schemas.codec import Codec
from schemas.field_limits import (
    RULES,
    SHA256,
    IdLimit,
    NumberLimit,
    PatternLimit,
    TextLimit,
    rule_of,
)
from schemas.partitioner import partition_for
from tables.history.version_chain import VersionLink
from tables.upload_record import UploadTopics

FRAME_BYTES = 5
ONE_BYTE = 127  # the last number whose varint is one byte, and the last character of ASCII
SHORT = 63  # the longest text whose length is one byte; the limit of a NAMED field
MOST = 127  # longer texts are left to the slow path, because every length needs a branch, which costs time
EVERYDAY = (36, 64)  # the lengths of a UUID and of a SHA-256: tried first
OPTIONAL = ["null", "string"]
KINDS = ("string", "optional", "long", "boolean")
ASCII, ANY = rb"[\x01-\x7f]", rb"[^\0]"
NAMED = ("assignment_id", "course_id", "version", "event_id", "previous_event_id")


class ScannedScope(NamedTuple):
    """A record key that is a scope key: the ids that its events must have, and the expected partition."""

    assignment_id: bytes
    course_id: bytes
    partition: int


def scope_of(key: bytes, partitions: int) -> ScannedScope | None:
    """The scope of a record key, or None if the slow path has to decide."""
    kind, _, an_id = key.partition(b":")
    name = {b"assignment": "assignment_id", b"course": "course_id"}.get(kind)
    rule = RULES[name] if name else None
    try:
        fits = isinstance(rule, IdLimit) and rule.problem_with(an_id.decode()) is None
    except UnicodeDecodeError:
        return None
    ids = (an_id, b"") if kind == b"assignment" else (b"", an_id)
    return ScannedScope(*ids, partition_for(key, partitions)) if fits else None


@dataclass(frozen=True, slots=True)
class _Layout:
    """A schema as an expression with a group for each field: a text with its length, a number as its bytes.

    texts are the fields that are texts, patterns those that must also match a pattern.
    """

    everyday: re.Pattern[bytes]
    careful: Callable[[], re.Pattern[bytes]]
    texts: tuple[str, ...]
    patterns: tuple[tuple[str, Callable[[bytes], bool]], ...]

    def match_with_care(self, value: bytes) -> re.Match[bytes] | None:
        """The match of a value with texts that are not ASCII."""
        found = self.careful().fullmatch(value)
        texts = found.group(*self.texts) if found else ()
        try:
            # a space never completes a character that was cut off
            b" ".join(_bare(one) for one in texts if one).decode()
        except UnicodeDecodeError:
            return None
        return found


class UploadScanner:
    """Scans the values of upload topics."""

    def __init__(self, codec: Codec, topics: UploadTopics) -> None:
        self._layouts = {
            (name, frame): layout
            for name, topic in topics.by_name.items()
            for frame, (event_class, schema) in codec.schemas().items()
            if event_class in topic.carries and (layout := _layout_of(schema))
        }

    def scan_link(self, topic: str, scope: ScannedScope, value: bytes | None) -> VersionLink | None:
        """The chain link of a valid upload of this scope in its partition; None: call `read_upload`."""
        found = self._match(topic, scope, value)
        if found is None:
            return None
        version, event_id, previous = found.group("version", "event_id", "previous_event_id")
        return VersionLink(
            version[0] >> 1 if version[0] <= ONE_BYTE else _number_in(version),
            event_id[1:].decode(),
            previous[1:].decode() if previous else None,
        )

    def _match(
        self, topic: str, scope: ScannedScope, value: bytes | None
    ) -> re.Match[bytes] | None:
        """The match of an accepted upload."""
        layout = self._layouts.get((topic, value[:FRAME_BYTES])) if value else None
        if layout is None or value is None:
            return None
        found = layout.everyday.fullmatch(value) or layout.match_with_care(value)
        if found is None:
            return None
        assignment_id, course_id = found.group("assignment_id", "course_id")
        if (assignment_id or b"")[1:] != scope.assignment_id:
            return None
        if (course_id or b"")[1:] != scope.course_id:
            return None
        for name, fits in layout.patterns:
            if not fits(found[name]):
                return None
        return found


def _layout_of(schema: Mapping[str, Any]) -> _Layout | None:
    """The layout of a schema; None if the schema has fields that are left to the slow path."""
    fields = ((field["name"], field["type"]) for field in schema["fields"])
    kinds = tuple((name, "optional" if kind == OPTIONAL else str(kind)) for name, kind in fields)
    is_known = all(kind in KINDS for _, kind in kinds)
    names = {name for name, _ in kinds}
    return (
        _compiled(schema["name"], kinds) if is_known and {*NAMED} - {"course_id"} <= names else None
    )


@cache  # a schema has several frames, and every fold needs all of them
def _compiled(record: str, fields: tuple[tuple[str, str], ...]) -> _Layout:
    return _Layout(
        re.compile(_expression(record, fields, ASCII), re.DOTALL),
        # slow to compile, so only when it is needed
        cache(lambda: re.compile(_expression(record, fields, ANY), re.DOTALL)),
        tuple(name for name, kind in fields if kind in ("string", "optional")),
        tuple(
            (name, _fits(rule.pattern))
            for name, _ in fields
            if isinstance(rule := rule_of(record, name), PatternLimit)
            and rule.pattern is not SHA256
        ),
    )


def _expression(record: str, fields: tuple[tuple[str, str], ...], character: bytes) -> bytes:
    """The expression for a value with these fields: a group for each, and an empty one for each that it lacks."""
    parts = [b".{%d}" % FRAME_BYTES]
    for name, kind in fields:
        group = b"(?P<%s>%s)" % (name.encode(), _field(record, name, kind, character))
        parts.append(b"(?:\\0|\\x02%s)" % group if kind == "optional" else group)
    lacking = {*NAMED} - {name for name, _ in fields}
    return b"".join((*parts, *(b"(?P<%s>)" % name.encode() for name in sorted(lacking))))


def _field(record: str, name: str, kind: str, character: bytes) -> bytes:
    match kind, rule_of(record, name):
        case "boolean", _:
            return rb"[\0\1]"
        case "long", NumberLimit(least, _):
            return _number(least)
        case "long", _:
            return _number(0)
        case _, PatternLimit(pattern) if pattern is SHA256:
            return _length(64) + pattern.pattern.encode()
        case _, TextLimit(most) | IdLimit(most):
            return _text(min(most, SHORT if name in NAMED else MOST), character)
        case _:
            return _text(MOST, character)


def _text(most: int, character: bytes) -> bytes:
    """A branch for each length."""
    lengths = sorted(range(1, most + 1), key=lambda length: (length not in EVERYDAY, length))
    return b"|".join(_length(one) + character + b"{%d}" % one for one in lengths)


def _length(number: int) -> bytes:
    """The encoded length of a text: a zigzag varint of one or two bytes."""
    zigzag = 2 * number
    low, high = zigzag & ONE_BYTE, zigzag >> 7
    return re.escape(bytes([low | 0x80, high]) if high else bytes([low]))


def _number(least: int) -> bytes:
    """A minimal zigzag varint, even (not negative), of up to nine bytes; ten bytes are left to the slow path."""
    small, more = bytes(range(2 * least, 128, 2)), bytes(range(128, 256, 2))
    return rb"[%s]|[%s][\x80-\xff]{0,7}[\x01-\x7f]" % (re.escape(small), re.escape(more))


def _fits(pattern: re.Pattern[str]) -> Callable[[bytes], bool]:
    """A check whether a text, with its length before it, matches the pattern; cached, as scales and origins are few."""
    flags = pattern.flags & re.IGNORECASE
    matched = re.compile(pattern.pattern.encode(), flags).fullmatch
    return lru_cache(maxsize=1024)(lambda text: not text or matched(_bare(text)) is not None)


def _bare(text: bytes) -> bytes:
    """The bytes of a text without its encoded length."""
    return text[1:] if text[0] <= ONE_BYTE else text[2:]


def _number_in(number: bytes) -> int:
    value = 0
    for byte in reversed(number):
        value = value << 7 | byte & ONE_BYTE
    return value >> 1
