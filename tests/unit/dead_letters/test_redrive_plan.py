"""The decisions on open dead letters, tested on plain values."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

import schemas.dead_letters
from processors.dead_letters.open_letters import DeadLetter, OpenLetters
from processors.dead_letters.redrive_plan import (
    NewestUploads,
    RedriveDecision,
    ScopeRole,
    Target,
    Unproven,
    chunks,
    decide,
    target_of_request,
    target_of_upload,
)
from processors.kafka.records import LogRecord
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import (
    DeadLetterHeaders,
    Headers,
    Origin,
    Refused,
    dead_letter_headers,
    marker_headers,
    origin_of,
    read_dead_letter_headers,
    redriven_headers,
)
from schemas.errors import Malformed
from schemas.partitioner import partition_for
from schemas.topics import MIB, Topics
from tables.upload_record import UploadRecord, UploadTopics
from tests.support.builders import (
    OF_LATER_RELEASE,
    instructions_uploaded,
    prompt_uploaded,
    requested,
)

CODEC = Codec()
CATALOGUE = Topics()
UPLOADS = UploadTopics({topic.name: topic for topic in CATALOGUE.uploads}, 4)
PROMPTS = CATALOGUE.student_prompts.name
A1 = b"assignment:a1"
AT = Coordinates(PROMPTS, 0, 5)
TARGET = Partition(PROMPTS, partition_for(A1, 4))


def dead_letter(
    offset: int,
    key: bytes | None = A1,
    *,
    topic: str = PROMPTS,
    partition: int = 0,
    size: int = 10,
    own: Headers = (),
) -> DeadLetter:
    """A dead letter of the record at that offset; the record was appended at ten times the offset, in ms."""
    refusal = DeadLetterHeaders(Coordinates(topic, partition, offset), offset * 10, "F", "m", own)
    return DeadLetter(Coordinates("dlq", partition, offset + 1000), 1, key, size, "", refusal)


def fates(
    letters: Iterable[DeadLetter],
    newest: Mapping[ScopeRole, Origin] | None = None,
    refused: Iterable[int] = (),
    max_attempts: int = 3,
) -> dict[int, str]:
    """The fate of each dead letter, by original offset, in the order decided; those at `refused` are unreadable."""
    known = list(letters)
    targets: dict[Coordinates, Target] = {
        letter.at: "unreadable" if letter.refusal.at.offset in refused else TARGET
        for letter in known
    }
    decisions = decide(known, targets, newest or {}, max_attempts=max_attempts)
    return {decision.letter.refusal.at.offset: decision.fate for decision in decisions}


def test_dead_letters_are_decided_in_the_order_of_the_refused_records() -> None:
    assert list(fates([dead_letter(7), dead_letter(3), dead_letter(5, b"other")])) == [3, 5, 7]


def test_a_refused_dead_letter_holds_back_only_later_ones_of_its_key() -> None:
    letters = [
        dead_letter(1),
        dead_letter(2, b"k"),
        dead_letter(3, b"k"),
        dead_letter(4),
        dead_letter(5, b"k"),
    ]
    assert fates(letters, refused=[3]) == {
        1: "redrive",
        2: "redrive",
        3: "refused",
        4: "redrive",
        5: "held",
    }


def test_records_without_a_key_do_not_hold_each_other_back() -> None:
    assert fates([dead_letter(1, None), dead_letter(2, None)], refused=[1]) == {
        1: "refused",
        2: "redrive",
    }


def test_the_same_key_in_another_topic_is_not_held_back() -> None:
    letters = [dead_letter(1), dead_letter(2, topic=CATALOGUE.judge_rubrics.name)]
    assert fates(letters, refused=[1]) == {1: "refused", 2: "redrive"}


def test_attempts_are_limited() -> None:
    tried = dead_letter(1, own=[("cjstream-redrive-attempt", b"2")])
    assert fates([tried]) == {1: "redrive"}
    assert fates([tried], max_attempts=2) == {1: "refused"}


def test_an_upload_is_superseded_by_a_newer_one_of_its_slot() -> None:
    newer: dict[ScopeRole, Origin] = {(PROMPTS, A1): Origin(Coordinates(PROMPTS, 0, 9), 90)}
    assert fates([dead_letter(8, b"k")], newer) == {8: "redrive"}
    assert fates([dead_letter(8)], newer) == {8: "superseded"}
    assert fates([dead_letter(10)], newer) == {10: "redrive"}


def test_a_redriven_older_upload_does_not_supersede_a_later_one() -> None:
    """Its new offset is higher than the later upload's, but its origin is older."""
    redriven = UploadRecord(
        Coordinates(PROMPTS, TARGET.partition, 20), A1, CODEC.encode(prompt_uploaded()), 200
    )
    newest = NewestUploads([(PROMPTS, A1)], UPLOADS, CODEC)
    newest.add(redriven, Origin(Coordinates(PROMPTS, 0, 5), 50))
    assert fates([dead_letter(8)], newest.origins) == {8: "redrive"}
    assert fates([dead_letter(4)], newest.origins) == {4: "superseded"}


def test_an_upload_of_a_later_release_supersedes_and_an_ignored_record_does_not() -> None:
    at = Coordinates(PROMPTS, TARGET.partition, 20)
    here = Origin(at, 200)
    newest = NewestUploads([(PROMPTS, A1)], UPLOADS, CODEC)
    newest.add(UploadRecord(at, A1, b"nonsense", 200), here)
    newest.add(UploadRecord(at, A1, CODEC.encode(instructions_uploaded()), 200), here)
    assert newest.origins == {}
    newest.add(UploadRecord(at, A1, OF_LATER_RELEASE, 200), here)
    assert newest.origins == {(PROMPTS, A1): here}


def original_of(letter: DeadLetter, value: bytes | None) -> LogRecord:
    """The record of a dead letter made by `whole`."""
    return LogRecord(letter.refusal.at, letter.key, value, (), letter.refusal.appended_at_ms)


def whole(value: bytes | None, **changes: Any) -> tuple[DeadLetter, LogRecord]:
    """A dead letter with this value, and its record."""
    letter = dead_letter(1, **changes)
    content = value or b""
    changes = {"value_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    letter = replace(letter, **changes, has_value=value is not None)
    return letter, original_of(letter, value)


def test_a_request_goes_to_the_partition_it_came_from() -> None:
    topic = CATALOGUE.requests
    there = whole(b"x", topic=topic.name, partition=3)
    assert target_of_request(*there, topic) == (topic.name, 3)
    assert isinstance(target_of_request(*whole(b"x"), topic), str)
    assert isinstance(target_of_request(*whole(bytes(MIB - 100), topic=topic.name), topic), str)


def test_an_upload_goes_to_the_partition_of_its_scope_key() -> None:
    value = CODEC.encode(prompt_uploaded())
    wrong = (TARGET.partition + 1) % 4
    assert target_of_upload(*whole(value, partition=wrong), UPLOADS, CODEC) == TARGET


def test_an_upload_that_cannot_be_folded_is_refused_with_a_reason() -> None:
    encoded = CODEC.encode(prompt_uploaded())
    for letter, original in (
        whole(None),
        whole(encoded[:-1]),
        whole(OF_LATER_RELEASE),
        whole(CODEC.encode(requested())),
        whole(encoded, key=b"assignment:other"),
        whole(encoded, topic=CATALOGUE.judge_rubrics.name),
        whole(encoded, topic="elsewhere"),
        whole(bytes(2 * MIB)),
    ):
        assert isinstance(target_of_upload(letter, original, UPLOADS, CODEC), str), letter


VALUE = CODEC.encode(prompt_uploaded())


@pytest.mark.parametrize(
    "changes",
    [
        {"value": CODEC.encode(prompt_uploaded("Another prompt"))},
        {"value": None},
        {"key": b"assignment:other"},
        {"key": None},
        {"headers": (("trace", b"t"),)},
        {"appended_at_ms": 11},
        None,
    ],
    ids=["value", "null", "key", "no key", "headers", "time", "gone"],
)
def test_a_dead_letter_that_is_not_that_of_its_record_is_refused_and_holds_nothing_back(
    changes: dict[str, Any] | None,
) -> None:
    letter, original = whole(VALUE)
    found = None if changes is None else replace(original, **changes)
    target = target_of_upload(letter, found, UPLOADS, CODEC)
    assert isinstance(target, str)
    assert str(letter.refusal.at) in target
    later = replace(dead_letter(2), at=Coordinates("dlq", 0, 2000))
    decisions = decide([letter, later], {letter.at: target, later.at: TARGET}, {}, max_attempts=3)
    assert [decision.fate for decision in decisions] == ["refused", "redrive"]


def test_an_empty_value_is_not_null() -> None:
    letter, original = whole(None)
    forged = replace(letter, has_value=True)
    assert "differs" in str(target_of_upload(forged, original, UPLOADS, CODEC))


def truncated_with(record: Refused) -> tuple[DeadLetter, LogRecord]:
    """The truncated dead letter of a record, and the record."""
    at = Coordinates(CATALOGUE.requests.name, 0, 1)
    key, _, headers = schemas.dead_letters.dead_letter(at, 10, Malformed("x"), record)
    refusal = read_dead_letter_headers(headers)
    original = LogRecord(at, record.key, record.value, tuple(record.headers), 10)
    return DeadLetter(Coordinates("dlq", 0, 7), 1, key, 0, "", refusal, False), original


@pytest.mark.parametrize(
    "record",
    [
        Refused(b"k", bytes(3 * MIB), ()),
        Refused(bytes(3 * MIB), b"", ()),
        Refused(None, None, [("h", bytes(3 * MIB))]),
    ],
    ids=["value", "key", "header"],
)
def test_a_truncated_dead_letter_is_refused_with_the_size_and_coordinates_of_its_record(
    record: Refused,
) -> None:
    letter, original = truncated_with(record)
    target = target_of_request(letter, original, CATALOGUE.requests)
    assert str(target) in (
        f"{size} bytes, too large for its topic; the whole record is {original.at}"
        for size in (3 * MIB, 3 * MIB + 1)
    )
    assert not isinstance(target, Unproven)
    changed = replace(original, headers=(*original.headers, ("more", b"")))
    assert isinstance(target_of_request(letter, changed, CATALOGUE.requests), Unproven)


def test_chunks_keep_the_order_and_their_limits() -> None:
    decisions = [
        RedriveDecision(dead_letter(offset, size=4), "redrive", TARGET) for offset in range(10)
    ]
    assert [len(chunk) for chunk in chunks(decisions, 4, 1000)] == [4, 4, 2]
    assert [len(chunk) for chunk in chunks(decisions, 100, 9)] == [2, 2, 2, 2, 2]
    assert [len(chunk) for chunk in chunks(decisions, 100, 1)] == [1] * 10
    assert [decision for chunk in chunks(decisions, 3, 9) for decision in chunk] == decisions


def letter_record(offset: int, original: int, own: Headers = ()) -> LogRecord:
    """A dead letter, as a record, of the upload at that original offset."""
    headers = dead_letter_headers(Coordinates(PROMPTS, 0, original), 5, Malformed("x"), own)
    return LogRecord(Coordinates("dlq", 0, offset), A1, b"value", tuple(headers), 7)


def marker_record(offset: int, of: int) -> LogRecord:
    headers = marker_headers(Coordinates("dlq", 0, of), "superseded")
    return LogRecord(Coordinates("dlq", 0, offset), A1, None, tuple(headers), 8)


def test_dead_letters_without_a_marker_are_open_and_a_repeated_one_counts_once() -> None:
    found = OpenLetters()
    for record in (
        letter_record(0, 10),
        letter_record(1, 11),
        letter_record(2, 10),  # the fold was killed before it committed
        marker_record(3, 0),
        letter_record(4, 10),
        letter_record(5, 12, [("cjstream-redriven", b"dlq/0@1")]),
        marker_record(6, 99),
        LogRecord(Coordinates("dlq", 0, 7), None, b"?", (), 9),
    ):
        found.add(record)
    assert [letter.at.offset for letter in found.letters] == [0, 1, 5]
    assert [letter.at.offset for letter in found.open] == [1, 5]
    assert found.foreign_records == [Coordinates("dlq", 0, 7)]
    repeated = found.find(Coordinates("dlq", 0, 4))
    assert repeated is not None
    assert (repeated.at.offset, found.destination(repeated)) == (0, "superseded")
    assert found.find(Coordinates("dlq", 0, 3)) is None


def test_a_forged_dead_letter_does_not_hide_that_of_the_record_that_it_names() -> None:
    found = OpenLetters()
    forged = replace(letter_record(0, 10), value=b"forged")
    for record in (forged, letter_record(1, 10)):
        found.add(record)
    assert [letter.at.offset for letter in found.open] == [0, 1]
    shown = found.find(Coordinates("dlq", 0, 1))
    assert shown is not None
    assert shown.at.offset == 1
    found.add(marker_record(2, 1))
    assert found.open == []


@pytest.mark.parametrize("appended", ["-1", "9" * 19, "9" * 5000])
def test_a_dead_letter_with_any_append_time_is_read(appended: str) -> None:
    """A record has none if its topic had `CreateTime`; a number of 5,000 digits would stop Python."""
    headers = dict(letter_record(0, 10).headers) | {
        "kafka_dlt-original-timestamp": appended.encode()
    }
    found = OpenLetters()
    found.add(replace(letter_record(0, 10), headers=tuple(headers.items())))
    assert len(found.letters) == (len(appended) < 20)
    origin = origin_of([("cjstream-redrive-origin", f"t/0@1 {appended}".encode())], AT, 5)
    assert (origin.at == AT) == (len(appended) >= 20)


def test_the_headers_of_a_redriven_record_have_its_attempt_and_origin() -> None:
    letter = dead_letter(1, own=[("trace", b"t"), ("cjstream-redrive-attempt", b"1")])
    assert redriven_headers(letter.at, letter.refusal) == [
        ("trace", b"t"),
        ("cjstream-redrive-attempt", b"2"),
        ("cjstream-redriven-from", b"dlq/0@1001"),
        ("cjstream-redrive-origin", f"{PROMPTS}/0@1 10".encode()),
    ]
