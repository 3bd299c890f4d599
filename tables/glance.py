"""A glance at an upload's bytes: its place in the chain, read without decoding the event.

What it certifies, `read_upload` accepts too and tells the same of; whatever it does not certify goes that slow path,
which decides. A property test holds both to that. Certified are minimal varints, lengths within the bytes and the
limits (characters are counted as bytes), known union branches, valid UTF-8, no U+0000, nothing left over.
"""

import re
from collections.abc import Mapping
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
    """A schema as steps: of each field its kind and a bound, and which of the texts are which."""

    steps: tuple[tuple[int, int], ...]
    texts: Mapping[str, int]  # where a field's text stands among the texts
    patterns: tuple[tuple[int, re.Pattern[bytes]], ...]
    version: int  # the step of the field


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
        of = layout.texts
        assignment_id = texts[of["assignment_id"]]
        course_id = texts[of["course_id"]] if "course_id" in of else b""
        if assignment_id != scope.assignment_id or course_id != scope.course_id:
            return None
        for index, pattern in layout.patterns:
            if pattern.fullmatch(texts[index]) is None:
                return None
        previous = texts[of["previous_event_id"]].decode() or None
        event_id = texts[of["event_id"]].decode()
        return Link(long_at(value, version_at)[0], event_id, previous)


class _NotCertifiedError(Exception):
    """These bytes go the slow path."""


def _walked(layout: _Layout, value: bytes) -> tuple[list[bytes], int]:
    """Every text, empty where an optional one is not there, and where the version begins."""
    texts, at, version_at = list[bytes](), FRAME_BYTES, 0
    for index, (kind, bound) in enumerate(layout.steps):
        if kind == LONG:
            if index == layout.version:
                version_at = at
            at = _past_long(value, at, bound)
            continue
        if kind != STRING:
            branch = value[at]
            at += 1
            if kind == FLAG:
                if branch > 1:
                    raise _NotCertifiedError
                continue
            if branch == 0:
                texts.append(b"")  # no text that is there is empty
                continue
            if branch != 2:
                raise _NotCertifiedError
        length = value[at]
        at += 1
        if length >= 128:
            second = value[at]
            at += 1
            if not 0 < second < 128:  # not minimal, or of three bytes
                raise _NotCertifiedError
            length += (second - 1) << 7
        if length & 1 or not 0 < length <= bound:  # zigzag: odd is negative
            raise _NotCertifiedError
        end = at + (length >> 1)
        texts.append(value[at:end])
        at = end
    if at != len(value):  # a text that reaches beyond the end shows here, too
        raise _NotCertifiedError
    return texts, version_at


def _past_long(value: bytes, at: int, least: int) -> int:
    first = value[at]
    if first & 1 or first < 2 * least:  # negative, or below the least
        raise _NotCertifiedError
    if first < 128:
        return at + 1
    start = at
    while value[at] >= 128:
        at += 1
    if value[at] == 0 or at - start >= LONG_BYTES:
        raise _NotCertifiedError
    return at + 1


def _layout_of(fields: tuple[tuple[str, Any], ...]) -> _Layout | None:
    """The steps of a schema; None for one with fields that are left to the slow path."""
    kinds = [OPTIONAL if one == ["null", "string"] else _kind_of(one) for _, one in fields]
    names = [name for name, _ in fields]
    if None in kinds or not {"event_id", "previous_event_id", "version"} <= {*names}:
        return None
    of_texts = [name for name, kind in zip(names, kinds, strict=True) if kind in (STRING, OPTIONAL)]
    patterns = [
        (index, re.compile(rule.pattern.pattern.encode()))
        for index, name in enumerate(of_texts)
        if isinstance(rule := RULES.get(name), Pattern)
    ]
    return _Layout(
        tuple((kind or STRING, _bound_of(name)) for name, kind in zip(names, kinds, strict=True)),
        {name: index for index, name in enumerate(of_texts)},
        tuple(patterns),
        names.index("version"),
    )


def _kind_of(told: Any) -> int | None:
    return KINDS.get(told) if isinstance(told, str) else None


def _bound_of(name: str) -> int:
    """Of a text the most bytes as zigzag, of a number the least."""
    match RULES.get(name):
        case Text(most) | Id(most):
            return 2 * min(most, TWO_BYTE_LENGTH)
        case Number(least, _):
            return least
        case _:
            return 2 * TWO_BYTE_LENGTH
