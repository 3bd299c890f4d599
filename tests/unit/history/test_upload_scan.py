"""The scan of an upload gives the same result as the slow path, and accepts nothing that the slow path refuses."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord
from schemas.events import UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.history.scope_history import link_of
from tables.history.upload_scan import ScannedScope, UploadScanner, scope_of
from tables.history.version_chain import VersionLink
from tables.upload_record import UploadRecord, UploadTopics, read_upload
from tests.support.builders import (
    TOPIC_OF,
    UPLOADS,
    damaged,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    sha256_of,
    uploads,
)

CODEC = Codec()
TOPICS = UploadTopics({topic.name: topic for topic in Topics().uploads}, 4)
SCANNER = UploadScanner(CODEC, TOPICS)


def scanned_link(event: UploadEvent, value: bytes) -> VersionLink | None:
    """The scanned link of a value in the place of the event."""
    scope = scope_of(scope_key_of(event).encode(), 4)
    assert scope is not None
    return SCANNER.scan_link(TOPIC_OF[role_of(event)], scope, value)


def record_of(event: UploadEvent, value: bytes) -> UploadRecord:
    key = scope_key_of(event).encode()
    at = Coordinates(TOPIC_OF[role_of(event)], partition_for(key, 4), 7)
    return UploadRecord(at, key, value, 1)


def decoded_link(event: UploadEvent, value: bytes) -> VersionLink | None:
    """The slow path's link of a value in the place of the event."""
    try:
        return link_of(read_upload(record_of(event, value), CODEC, TOPICS))
    except BadRecord:
        return None


@pytest.mark.parametrize("event", UPLOADS, ids=lambda event: type(event).__name__)
def test_typical_uploads_are_accepted(event: UploadEvent) -> None:
    assert scanned_link(event, CODEC.encode(event)) == link_of(event)


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "Åsa Öström, lärare"},
        {"actor": "å" * 40},
        {"correlation_id": "c" * 127},
        {"assignment_id": "uppsats-år9"},
        {"occurred_at_ms": 0},
        {"language": "sv"},
        {"version": 2**40, "previous_event_id": "före"},
    ],
)
def test_uploads_with_long_or_non_ascii_texts_are_accepted(
    change: dict[str, Any],
) -> None:
    event = prompt_uploaded(**change)
    assert scanned_link(event, CODEC.encode(event)) == link_of(event)


def test_an_upload_of_an_older_schema_gives_the_same_link() -> None:
    event = prompt_uploaded()
    assert scanned_link(event, CODEC.encode(event, version=1)) == link_of(event)


@given(uploads())
def test_an_accepted_upload_gives_the_result_of_the_slow_path(event: UploadEvent) -> None:
    value = CODEC.encode(event)
    assert scanned_link(event, value) in (decoded_link(event, value), None)


@given(st.sampled_from(UPLOADS) | uploads(), st.data())
@settings(max_examples=3 * settings().max_examples)
def test_damaged_bytes_are_accepted_only_if_the_slow_path_accepts_them(
    event: UploadEvent, data: st.DataObject
) -> None:
    value = data.draw(damaged(CODEC.encode(event)))
    assert scanned_link(event, value) in (decoded_link(event, value), None)


@given(uploads(), uploads())
def test_an_upload_of_another_scope_or_role_is_not_accepted(
    event: UploadEvent, other: UploadEvent
) -> None:
    value = CODEC.encode(other)
    assert scanned_link(event, value) in (decoded_link(event, value), None)


def test_a_scope_is_parsed_from_a_valid_scope_key() -> None:
    assert scope_of(b"assignment:a1", 4) == ScannedScope(
        b"a1", b"", partition_for(b"assignment:a1", 4)
    )
    assert scope_of(b"course:ENG5", 4) == ScannedScope(
        b"", b"ENG5", partition_for(b"course:ENG5", 4)
    )
    for key in (b"", b"a1", b"pupil:a1", b"assignment:", b"assignment:a/b", b"course:\xff"):
        assert scope_of(key, 4) is None


def test_numbers_of_several_bytes_are_read() -> None:
    event = prompt_uploaded(version=2**40, previous_event_id="before")
    assert scanned_link(event, CODEC.encode(event)) == VersionLink(2**40, "p-1", "before")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"teacher@", b"teacher\0"),
        (b"teacher@", b"teacher\xff"),
        (sha256_of("Should homework be banned?").encode(), b"G" * 64),
        (b"\x04a1", b"\x04a2"),  # another assignment
        (b"\x04a1\x02\x00", b"\x04a1\x00\x00"),  # version 0
        (b"\x04a1\x02\x00", b"\x04a1\x82\x00\x00"),  # version 1 in one byte too many
        (b"\x04a1\x02\x00", b"\x04a1\x02\x01"),  # a union branch that does not exist
        (b"p-1", b"p-1\0"),
    ],
)
def test_an_invalid_field_is_left_to_the_slow_path(old: bytes, new: bytes) -> None:
    value = CODEC.encode(prompt_uploaded())
    assert old in value
    assert scanned_link(prompt_uploaded(), value.replace(old, new)) is None


@pytest.mark.parametrize("text", [b"swedish_8_anchor", b"research_experiment"])
def test_an_invalid_scale_or_origin_is_left_to_the_slow_path(text: bytes) -> None:
    value = CODEC.encode(instructions_uploaded())
    assert scanned_link(instructions_uploaded(), value) is not None
    assert scanned_link(instructions_uploaded(), value.replace(text, text.upper())) is None


def test_extra_or_missing_bytes_and_invalid_booleans_are_left_to_the_slow_path() -> None:
    prompt, deletion = CODEC.encode(prompt_uploaded()), CODEC.encode(prompt_deleted())
    assert scanned_link(prompt_uploaded(), prompt + b"\0") is None
    assert scanned_link(prompt_uploaded(), prompt[:-1]) is None
    assert scanned_link(prompt_deleted(), deletion[:-1] + b"\2") is None


def test_an_unknown_union_branch_is_left_to_the_slow_path() -> None:
    event = prompt_uploaded(version=2, previous_event_id="before")
    value = CODEC.encode(event)
    assert scanned_link(event, value) is not None
    assert scanned_link(event, value.replace(b"\x02\x0cbefore", b"\x04\x0cbefore")) is None
