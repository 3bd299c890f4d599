"""What becomes of open dead letters, decided on values."""

from collections.abc import Iterable, Mapping

from processors.dead_letters.open_letters import DeadLetter, OpenLetters
from processors.dead_letters.redrive_plan import (
    NewestUploads,
    RedriveDecision,
    Slot,
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
from tests.support.builders import instructions_uploaded, prompt_uploaded, requested

CODEC = Codec()
CATALOGUE = Topics()
UPLOADS = UploadTopics({topic.name: topic for topic in CATALOGUE.uploads}, 4)
PROMPTS = CATALOGUE.student_prompts.name
A1 = b"assignment:a1"
BELONGS = Partition(PROMPTS, partition_for(A1, 4))


def dead(
    offset: int,
    key: bytes | None = A1,
    *,
    topic: str = PROMPTS,
    partition: int = 0,
    size: int = 10,
    own: Headers = (),
) -> DeadLetter:
    """A dead letter of the record at that offset, which was appended at ten times the offset."""
    refusal = DeadLetterHeaders(Coordinates(topic, partition, offset), offset * 10, "F", "m", own)
    return DeadLetter(Coordinates("dlq", partition, offset + 1000), 1, key, size, "", refusal)


def fates(
    letters: Iterable[DeadLetter],
    newest: Mapping[Slot, Origin] | None = None,
    refused: Iterable[int] = (),
    max_attempts: int = 3,
) -> dict[int, str]:
    """What becomes of each, by offset, in the order decided; those at the refused offsets are unreadable."""
    known = list(letters)
    verdicts: dict[Coordinates, Target] = {
        one.at: "unreadable" if one.refusal.at.offset in refused else BELONGS for one in known
    }
    decided = decide(known, verdicts, newest or {}, max_attempts=max_attempts)
    return {one.letter.refusal.at.offset: one.fate for one in decided}


def test_dead_letters_are_taken_in_the_order_in_which_their_records_stood() -> None:
    assert list(fates([dead(7), dead(3), dead(5, b"other")])) == [3, 5, 7]


def test_a_refused_one_holds_back_the_later_ones_of_its_key_alone() -> None:
    letters = [dead(1), dead(2, b"k"), dead(3, b"k"), dead(4), dead(5, b"k")]
    told = fates(letters, refused=[3])
    assert told == {1: "redrive", 2: "redrive", 3: "refused", 4: "redrive", 5: "held"}


def test_records_without_a_key_have_no_order() -> None:
    assert fates([dead(1, None), dead(2, None)], refused=[1]) == {1: "refused", 2: "redrive"}


def test_the_same_key_in_another_topic_is_another_order() -> None:
    letters = [dead(1), dead(2, topic=CATALOGUE.judge_rubrics.name)]
    assert fates(letters, refused=[1]) == {1: "refused", 2: "redrive"}


def test_attempts_are_capped() -> None:
    tried = dead(1, own=[("cjstream-redrive-attempt", b"2")])
    assert fates([tried]) == {1: "redrive"}
    assert fates([tried], max_attempts=2) == {1: "refused"}


def test_an_upload_is_superseded_by_a_newer_one_of_its_slot() -> None:
    newer: dict[Slot, Origin] = {(PROMPTS, A1): Origin(Coordinates(PROMPTS, 0, 9), 90)}
    assert fates([dead(8, b"k")], newer) == {8: "redrive"}
    assert fates([dead(8)], newer) == {8: "superseded"}
    assert fates([dead(10)], newer) == {10: "redrive"}


def test_an_older_one_that_was_redriven_does_not_supersede_a_later_one() -> None:
    """It stands at a higher offset than the later one did; its origin tells."""
    redriven = UploadRecord(
        Coordinates(PROMPTS, BELONGS.partition, 20), A1, CODEC.encode(prompt_uploaded()), 200
    )
    newest = NewestUploads([(PROMPTS, A1)], UPLOADS, CODEC)
    newest.add(redriven, Origin(Coordinates(PROMPTS, 0, 5), 50))
    assert fates([dead(8)], newest.origins) == {8: "redrive"}
    assert fates([dead(4)], newest.origins) == {4: "superseded"}


def test_what_the_fold_leaves_out_supersedes_nothing_and_a_later_releases_upload_does() -> None:
    at = Coordinates(PROMPTS, BELONGS.partition, 20)
    here = Origin(at, 200)
    newest = NewestUploads([(PROMPTS, A1)], UPLOADS, CODEC)
    newest.add(UploadRecord(at, A1, b"nonsense", 200), here)
    newest.add(UploadRecord(at, A1, CODEC.encode(instructions_uploaded()), 200), here)
    assert newest.origins == {}
    newest.add(UploadRecord(at, A1, b"\0\x7f\xff\xff\xfflater", 200), here)
    assert newest.origins == {(PROMPTS, A1): here}


def test_a_request_goes_to_the_partition_it_came_from() -> None:
    topic = CATALOGUE.requests
    assert target_of_request(dead(1, topic=topic.name, partition=3), topic, 4) == (topic.name, 3)
    gone = target_of_request(dead(1, b"k", topic=topic.name, partition=9), topic, 4)
    assert gone == (topic.name, partition_for(b"k", 4))
    assert isinstance(target_of_request(dead(1), topic, 4), str)
    assert isinstance(target_of_request(dead(1, topic=topic.name, size=MIB - 100), topic, 4), str)


def test_an_upload_goes_to_the_partition_of_its_scope_key() -> None:
    value = CODEC.encode(prompt_uploaded())
    wrong = (BELONGS.partition + 1) % 4
    assert target_of_upload(dead(1, partition=wrong), value, UPLOADS, CODEC) == BELONGS


def test_an_upload_that_cannot_be_folded_is_refused_and_the_reason_said() -> None:
    whole = CODEC.encode(prompt_uploaded())
    for letter, value in {
        dead(1): None,
        dead(2): whole[:-1],
        dead(3): b"\0\x7f\xff\xff\xfflater",
        dead(4): CODEC.encode(requested()),
        dead(5, b"assignment:other"): whole,
        dead(6, topic=CATALOGUE.judge_rubrics.name): whole,
        dead(7, topic="elsewhere"): whole,
        dead(8, size=2 * MIB): whole,
    }.items():
        assert isinstance(target_of_upload(letter, value, UPLOADS, CODEC), str), letter


def test_chunks_keep_the_order_and_their_bounds() -> None:
    decisions = [RedriveDecision(dead(offset, size=4), "redrive", BELONGS) for offset in range(10)]
    assert [len(one) for one in chunks(decisions, 4, 1000)] == [4, 4, 2]
    assert [len(one) for one in chunks(decisions, 100, 9)] == [2, 2, 2, 2, 2]
    assert [len(one) for one in chunks(decisions, 100, 1)] == [1] * 10
    assert [one for chunk in chunks(decisions, 3, 9) for one in chunk] == decisions


def letter_record(offset: int, original: int, own: Headers = ()) -> LogRecord:
    """A dead letter, as a record, of the upload at that original offset."""
    told = dead_letter_headers(Coordinates(PROMPTS, 0, original), 5, Malformed("x"), own)
    return LogRecord(Coordinates("dlq", 0, offset), A1, b"value", tuple(told), 7)


def marker_record(offset: int, of: int) -> LogRecord:
    headers = marker_headers(Coordinates("dlq", 0, of), "superseded")
    return LogRecord(Coordinates("dlq", 0, offset), A1, None, tuple(headers), 8)


def test_what_is_open_has_no_marker_and_a_repeated_dead_letter_counts_once() -> None:
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
    assert [one.at.offset for one in found.letters] == [0, 1, 5]
    assert [one.at.offset for one in found.open] == [1, 5]
    assert found.foreign_records == [Coordinates("dlq", 0, 7)]
    repeated = found.find(Coordinates("dlq", 0, 4))
    assert repeated is not None
    assert (repeated.at.offset, found.destination(repeated)) == (0, "superseded")
    assert found.find(Coordinates("dlq", 0, 3)) is None


def test_a_redriven_record_tells_its_attempt_and_where_it_comes_from() -> None:
    letter = dead(1, own=[("trace", b"t"), ("cjstream-redrive-attempt", b"1")])
    assert redriven_headers(letter.at, letter.refusal) == [
        ("trace", b"t"),
        ("cjstream-redrive-attempt", b"2"),
        ("cjstream-redriven-from", b"dlq/0@1001"),
        ("cjstream-redrive-origin", f"{PROMPTS}/0@1 10".encode()),
    ]
