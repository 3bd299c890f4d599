"""A glance at an upload's bytes: its place in the chain, read without decoding the event.

What it certifies, `read_upload` accepts too and tells the same of; whatever it does not certify goes that slow path,
which decides. A property test holds both to that. Certified are minimal varints, lengths within the bytes and the
limits (characters are counted as bytes), known union branches, valid UTF-8, no U+0000, nothing left over.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from schemas.codec import Codec
from schemas.limits import RULES, Id, Number, Pattern, Text
from schemas.partitioner import partition_for
from schemas.structure import long_at
from tables.chain import Link
from tables.uploads import UploadTopics

FRAME_BYTES = 5
LONG_BYTES = 9  # of a non-negative long; a tenth byte is left to the slow path
TWO_BYTE_LENGTH = 8191  # longer strings are left to the slow path
STRING, OPTIONAL, LONG, FLAG = range(4)
KINDS: Mapping[Any, int] = {"string": STRING, "long": LONG, "boolean": FLAG}


class Scope(NamedTuple):
    """A record key that is a scope's: the ids that its events must bear, and the partition where it belongs."""

    assignment_id: bytes
    course_id: bytes
    partition: int


def scope_of(key: bytes, partitions: int) -> Scope | None:
    """The scope of a record key, or None where the slow path has to say."""
    kind, _, an_id = key.partition(b":")
    name = {b"assignment": "assignment_id", b"course": "course_id"}.get(kind)
    rule = RULES[name] if name else None
    try:
        fits = isinstance(rule, Id) and rule.refusal(an_id.decode()) is None
    except UnicodeDecodeError:
        return None
    ids = (an_id, b"") if kind == b"assignment" else (b"", an_id)
    return Scope(*ids, partition_for(key, partitions)) if fits else None


@dataclass(frozen=True, slots=True)
class _Layout:
    """A schema as steps: of each field its kind and a bound; and where among the texts, or the longs, a field is."""

    steps: tuple[tuple[int, int], ...]
    event_id: int
    previous: int
    assignment_id: int
    course_id: int | None
    version: int
    patterns: tuple[tuple[int, Callable[[bytes], object]], ...]


class Glance:
    """Looks at the values of upload topics."""

    def __init__(self, codec: Codec, topics: UploadTopics) -> None:
        self._layouts = {
            (name, frame): layout
            for name, topic in topics.by_name.items()
            for frame, (event_class, fields) in codec.layouts().items()
            if event_class in topic.carries and (layout := _layout_of(fields))
        }

    def link(self, topic: str, scope: Scope, value: bytes | None) -> Link | None:
        """What a valid upload of this scope in its partition says of its place; None: ask `read_upload`."""
        layout = self._layouts.get((topic, value[:FRAME_BYTES])) if value else None
        if layout is None or value is None:
            return None
        try:
            texts, version_at = _walked(layout, value)
            if "\0" in b" ".join(texts).decode():  # a space, so that no character is completed
                return None
        except (IndexError, UnicodeDecodeError, _NotCertifiedError):
            return None
        course_id = b"" if layout.course_id is None else texts[layout.course_id]
        if texts[layout.assignment_id] != scope.assignment_id or course_id != scope.course_id:
            return None
        for index, matched in layout.patterns:
            if matched(texts[index]) is None:
                return None
        first = value[version_at]
        return Link(
            first >> 1 if first < 128 else long_at(value, version_at)[0],
            texts[layout.event_id].decode(),
            texts[layout.previous].decode() or None,
        )


class _NotCertifiedError(Exception):
    """These bytes go the slow path."""


def _walked(layout: _Layout, value: bytes) -> tuple[list[bytes], int]:
    """Every text, empty where an optional one is not there, and where the version begins."""
    texts, longs, at = list[bytes](), list[int](), FRAME_BYTES
    for kind, bound in layout.steps:
        byte = value[at]
        if kind == LONG:
            longs.append(at)
            if byte & 1 or byte < bound:  # negative, or below the least
                raise _NotCertifiedError
            start = at
            while value[at] >= 128:
                at += 1
            if at != start and (value[at] == 0 or at - start >= LONG_BYTES):
                raise _NotCertifiedError
            at += 1
            continue
        at += 1
        if kind == FLAG:
            if byte > 1:
                raise _NotCertifiedError
            continue
        if kind == OPTIONAL:
            if byte == 0:
                texts.append(b"")  # no text that is there is empty
                continue
            if byte != 2:
                raise _NotCertifiedError
            byte = value[at]
            at += 1
        if byte >= 128:
            second = value[at]
            at += 1
            if not 0 < second < 128:  # not minimal, or of three bytes
                raise _NotCertifiedError
            byte += (second - 1) << 7
        if byte & 1 or not 0 < byte <= bound:  # zigzag: odd is negative
            raise _NotCertifiedError
        end = at + (byte >> 1)
        texts.append(value[at:end])
        at = end
    if at != len(value):  # a text that reaches beyond the end shows here, too
        raise _NotCertifiedError
    return texts, longs[layout.version]


def _layout_of(fields: tuple[tuple[str, Any], ...]) -> _Layout | None:
    """The steps of a schema; None for one with fields that are left to the slow path."""
    kinds = [OPTIONAL if one == ["null", "string"] else _kind_of(one) for _, one in fields]
    names = [name for name, _ in fields]
    if None in kinds or not {"event_id", "previous_event_id", "version"} <= {*names}:
        return None
    texts = [name for name, kind in zip(names, kinds, strict=True) if kind in (STRING, OPTIONAL)]
    longs = [name for name, kind in zip(names, kinds, strict=True) if kind == LONG]
    return _Layout(
        steps=tuple(
            (kind or STRING, _bound_of(name)) for name, kind in zip(names, kinds, strict=True)
        ),
        event_id=texts.index("event_id"),
        previous=texts.index("previous_event_id"),
        assignment_id=texts.index("assignment_id"),
        course_id=texts.index("course_id") if "course_id" in texts else None,
        version=longs.index("version"),
        patterns=tuple(
            (index, re.compile(rule.pattern.pattern.encode()).fullmatch)
            for index, name in enumerate(texts)
            if isinstance(rule := RULES.get(name), Pattern)
        ),
    )


def _kind_of(told: Any) -> int | None:
    return KINDS.get(told) if isinstance(told, str) else None


def _bound_of(name: str) -> int:
    """Of a text the most bytes, of a number the least, as zigzag."""
    match RULES.get(name):
        case Text(most) | Id(most):
            return 2 * min(most, TWO_BYTE_LENGTH)
        case Number(least, _):
            return 2 * least
        case _:
            return 2 * TWO_BYTE_LENGTH
