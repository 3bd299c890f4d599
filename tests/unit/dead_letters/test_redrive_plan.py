"""The decisions on open dead letters, tested on plain values."""

from collections.abc import Iterable, Mapping

from processors.dead_letters.open_letters import DeadLetter, OpenLetters
from processors.dead_letters.redrive_plan import (
    NewestUploads,
    RedriveDecision,
    ScopeRole,
    Target,
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
    dead_letter_headers,
    marker_headers,
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


def test_a_request_goes_to_the_partition_it_came_from() -> None:
    topic = CATALOGUE.requests
    assert target_of_request(dead_letter(1, topic=topic.name, partition=3), topic, 4) == (
        topic.name,
        3,
    )
    gone = target_of_request(dead_letter(1, b"k", topic=topic.name, partition=9), topic, 4)
    assert gone == (topic.name, partition_for(b"k", 4))
    assert isinstance(target_of_request(dead_letter(1), topic, 4), str)
    assert isinstance(
        target_of_request(dead_letter(1, topic=topic.name, size=MIB - 100), topic, 4), str
    )


def test_an_upload_goes_to_the_partition_of_its_scope_key() -> None:
    value = CODEC.encode(prompt_uploaded())
    wrong = (TARGET.partition + 1) % 4
    assert target_of_upload(dead_letter(1, partition=wrong), value, UPLOADS, CODEC) == TARGET


def test_an_upload_that_cannot_be_folded_is_refused_with_a_reason() -> None:
    encoded = CODEC.encode(prompt_uploaded())
    for letter, value in {
        dead_letter(1): None,
        dead_letter(2): encoded[:-1],
        dead_letter(3): OF_LATER_RELEASE,
        dead_letter(4): CODEC.encode(requested()),
        dead_letter(5, b"assignment:other"): encoded,
        dead_letter(6, topic=CATALOGUE.judge_rubrics.name): encoded,
        dead_letter(7, topic="elsewhere"): encoded,
        dead_letter(8, size=2 * MIB): encoded,
    }.items():
        assert isinstance(target_of_upload(letter, value, UPLOADS, CODEC), str), letter


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


def test_the_headers_of_a_redriven_record_have_its_attempt_and_origin() -> None:
    letter = dead_letter(1, own=[("trace", b"t"), ("cjstream-redrive-attempt", b"1")])
    assert redriven_headers(letter.at, letter.refusal) == [
        ("trace", b"t"),
        ("cjstream-redrive-attempt", b"2"),
        ("cjstream-redriven-from", b"dlq/0@1001"),
        ("cjstream-redrive-origin", f"{PROMPTS}/0@1 10".encode()),
    ]
