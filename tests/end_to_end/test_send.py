"""Sending uploads and requests from files, and reading outcomes, as the commands do it."""

import json
from collections.abc import Callable
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record
from processors.log.reader import LogReader
from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import Prepared, Unresolved
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Malformed
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    InstructionsUploaded,
    StudentPromptUploaded,
)
from tables.content_store import ContentStore
from tests.support.builders import requested
from tests.support.run_command import run_json, run_text
from tools.send import SentUpload, send_requests, send_uploads
from tools.tail import document_of, line_of, tail_batches

CODEC = Codec()
Write = Callable[..., str]
PROMPT = {"type": "student_prompt", "assignment_id": "a1", "text": "Should homework be banned?"}
INSTRUCTIONS = {
    "type": "instructions",
    "course_id": "ENG5",
    "text": "Judge the argument.",
    "grade_scale": "swedish_8_anchor",
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def lines(*documents: object) -> str:
        path = tmp_path / "given.jsonl"
        path.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
        return str(path)

    return lines


def all_records(settings: Settings, *topics: str) -> list[LogRecord]:
    partitions = [
        Partition(topic, number) for topic in topics for number in range(settings.partitions)
    ]
    with LogReader(settings, partitions) as log:
        ends = log.seek_to_start()
        return list(log.records_until(ends))


def record_of(settings: Settings, sent: SentUpload) -> LogRecord:
    assert sent.at is not None
    (record,) = (record for record in all_records(settings, sent.at.topic) if record.at == sent.at)
    return record


def test_a_sent_upload_is_at_the_reported_coordinates_and_its_text_is_stored(
    settings: Settings, write: Write
) -> None:
    for sent in send_uploads(settings, [write(PROMPT, {**INSTRUCTIONS, "correlation_id": "c"})]):
        record = record_of(settings, sent)
        event = CODEC.decode(record.value)
        assert isinstance(event, InstructionsUploaded | StudentPromptUploaded)
        assert (record.key, event.event_id) == (sent.scope_key.encode(), sent.event_id)
        assert dict(record.headers) == {
            "event_type": type(event).__name__.encode(),
            "correlation_id": event.correlation_id.encode(),
        }
        text = ContentStore.open(settings.content).get(event.sha256)
        assert text.decode() in (PROMPT["text"], INSTRUCTIONS["text"])


def test_versions_continue_within_a_file_and_from_the_log(settings: Settings, write: Write) -> None:
    deletion = {"type": "student_prompt", "assignment_id": "a1", "delete": True}
    sent = send_uploads(settings, [write(PROMPT, {**PROMPT, "text": "Should there be marks?"})])
    sent += send_uploads(settings, [write(deletion, PROMPT, INSTRUCTIONS)])
    events: list[Any] = [CODEC.decode(record_of(settings, upload).value) for upload in sent]
    assert [event.version for event in events] == [1, 2, 3, 4, 1]
    ids = [event.event_id for event in events]
    assert [event.previous_event_id for event in events] == [None, *ids[:3], None]
    created = [getattr(event, "created_at_ms", None) for event in events[:4]]
    assert created[:3] == [events[0].occurred_at_ms] * 2 + [None]
    assert created[3] == events[3].occurred_at_ms  # nothing was live before it


@pytest.mark.parametrize(
    "bad",
    [
        {**PROMPT, "text": "short"},
        {"type": "instructions", "assignment_id": "a1", "delete": True},  # there are none
    ],
)
def test_bad_input_sends_nothing(settings: Settings, write: Write, bad: object) -> None:
    with pytest.raises(Malformed, match="line 2"):
        send_uploads(settings, [write(PROMPT, bad)])
    assert all_records(settings, *(topic.name for topic in settings.topics.uploads)) == []
    assert not (settings.data_dir / "content" / "sha256").exists()


def test_sent_requests_have_their_batch_ids_as_keys(settings: Settings, write: Write) -> None:
    essays = [{"essay_id": f"e-{n}", "text_storage_id": f"t-{n}"} for n in range(2)]
    plain = {"course_code": "ENG5", "language": "en", "essays": essays}
    sent = send_requests(settings, [write(*({**plain, "batch_id": f"b{n}"} for n in range(9)))])
    by_coordinates = {
        record.at: record for record in all_records(settings, settings.topics.requests.name)
    }
    assert [by_coordinates[request.at].key for request in sent] == [b"b%d" % n for n in range(9)]
    assert [request.event_id for request in sent] == [
        getattr(CODEC.decode(by_coordinates[request.at].value), "event_id", "") for request in sent
    ]


def test_the_texts_of_sent_essays_are_in_the_content_store(
    settings: Settings, write: Write
) -> None:
    texts = ["The town needs a youth centre.", "The town needs a library."]
    essays = [{"essay_id": f"e-{n}", "text": text} for n, text in enumerate(texts)]
    request = {"batch_id": "b", "course_code": "ENG5", "language": "en", "essays": essays}
    send_requests(settings, [write(request)])
    (record,) = all_records(settings, settings.topics.requests.name)
    sent = CODEC.decode_as(CJAssessmentRequested, record.value)
    store = ContentStore.open(settings.content)
    assert [store.get(essay.text_storage_id).decode() for essay in sent.essays] == texts


def test_no_text_is_stored_if_another_essay_is_refused(settings: Settings, write: Write) -> None:
    essays = [{"essay_id": "e-0", "text": "The town needs a youth centre."}, {"essay_id": "e-1"}]
    request = {"batch_id": "b", "course_code": "ENG5", "language": "en", "essays": essays}
    with pytest.raises(Malformed, match=r"essays\.1: exactly one of"):
        send_requests(settings, [write(request)])
    assert not (settings.data_dir / "content" / "sha256").exists()


@pytest.fixture
def outcomes(settings: Settings) -> list[Record]:
    """Seven prepared batches, an unresolved request and a dead letter, appended in this order."""
    topics = settings.topics
    guest: Prepared[AssignmentContext] = Prepared("guest", None)
    gone: Unresolved[AssignmentContext] = Unresolved("assignment:a1", ("instructions",), None)
    records = []
    for number in range(8):
        request = requested(batch_id=f"b{number}")
        at = Coordinates(topics.requests.name, 0, number)
        topic = topics.batches if number < 7 else topics.unresolved
        value = CODEC.encode(outcome_of(request, at, guest if number < 7 else gone))
        records.append(Record(topic.name, number % 3, request.batch_id.encode(), value))
    at = Coordinates(topics.requests.name, 0, 8)
    headers = dead_letter_headers(at, 1, Malformed("bytes left over"))
    records.append(Record(topics.requests_dlq.name, 0, b"b8", b"?", headers))
    producer = plain_producer(settings)
    for record in records:
        deliver(producer, [record])
    return records


def batches(settings: Settings, **options: Any) -> list[str]:
    return sorted(str(document_of(tailed)["key"]) for tailed in tail_batches(settings, **options))


@pytest.mark.usefixtures("outcomes")
def test_tail_returns_the_newest_all_or_the_first_batches(settings: Settings) -> None:
    assert batches(settings) == [f"b{n}" for n in range(7)]
    assert batches(settings, limit=2) == ["b5", "b6"]
    assert len(batches(settings, limit=3, from_beginning=True)) == 3
    assert batches(settings, every_outcome=True) == [f"b{n}" for n in range(9)]
    assert batches(settings, limit=0) == []


@pytest.mark.usefixtures("outcomes")
def test_tail_shows_the_outcome_of_a_request_in_one_line(settings: Settings) -> None:
    lines = [line_of(tailed) for tailed in tail_batches(settings, limit=3, every_outcome=True)]
    assert lines[0].endswith("b6  2 essays  guest: no context")
    assert lines[1].endswith("b7  2 essays  unresolved: assignment:a1 has no instructions")
    requests = settings.topics.requests.name
    assert lines[2].endswith(f"dead letter of {requests}/0@8: bytes left over")


def test_tail_with_follow_returns_new_batches(settings: Settings, outcomes: list[Record]) -> None:
    followed = tail_batches(settings, follow=True, limit=1)
    assert [document_of(tailed)["key"] for tailed in islice(followed, 1)] == ["b6"]
    deliver(plain_producer(settings), outcomes[:1])
    assert [document_of(tailed)["key"] for tailed in islice(followed, 1)] == ["b0"]


def test_records_that_are_no_outcome_are_named_and_skipped(settings: Settings) -> None:
    topics = settings.topics
    context = AssignmentContext(scope_key="assignment:a1", fold_version=1)
    unresolved = outcome_of(
        requested(batch_id="b\x1b[2J\nforged line"),
        Coordinates(topics.requests.name, 0, 0),
        Unresolved("assignment:a1", ("instructions",), context),
    )
    garbage = (None, b"", b"junk", b"\0\x7f\0\0\0later", CODEC.encode(requested()))
    for value in (*garbage, CODEC.encode(unresolved)):
        deliver(plain_producer(settings), [Record(topics.unresolved.name, 0, b"k\x1b", value)])
    code, document, stderr = run_json(settings, "batches", "tail", "--all")
    assert (code, len(document["batches"])) == (0, 1)
    assert stderr.count("is not an outcome: ") == len(garbage)
    code, stdout, _ = run_text(settings, "batches", "tail", "--all")
    assert (code, stdout.count("\n"), "\x1b" in stdout) == (0, 1, False)
    assert "b\ufffd[2J forged line  2 essays  unresolved: assignment:a1" in stdout


def outcomes_of(settings: Settings, *arguments: str) -> list[tuple[str, int, str]]:
    code, document, stderr = run_json(settings, "uploads", "send", *arguments)
    assert code == 0, stderr
    return [(one["outcome"], one["version"], one["at"] or "") for one in document["uploads"]]


def test_a_file_that_is_sent_twice_changes_nothing_the_second_time(
    settings: Settings, write: Write
) -> None:
    deletion = {"type": "judge_rubric", "assignment_id": "a1", "delete": True}
    rubric = {"type": "judge_rubric", "assignment_id": "a1", "text": "Weigh structure twice."}
    better = {**PROMPT, "text": "Should homework be banned in schools?"}
    file = write(PROMPT, better, INSTRUCTIONS, rubric, deletion)
    first = outcomes_of(settings, file)
    assert [(outcome, version) for outcome, version, _ in first] == [
        ("appended", 1),
        ("appended", 2),
        ("appended", 1),
        ("appended", 1),
        ("appended", 2),
    ]
    uploads = [topic.name for topic in settings.topics.uploads]
    before = len(all_records(settings, *uploads))
    assert [one[0] for one in outcomes_of(settings, file)] == ["unchanged"] * 5
    assert len(all_records(settings, *uploads)) == before
    other_scale = {**INSTRUCTIONS, "grade_scale": "eng5_np_national_9_step"}
    assert [one[:2] for one in outcomes_of(settings, write(other_scale))] == [("appended", 2)]


def test_what_is_live_can_be_skipped_and_a_dry_run_sends_nothing(
    settings: Settings, write: Write
) -> None:
    outcomes_of(settings, write(PROMPT))
    corrected = {**PROMPT, "text": "Corrected by hand: should homework be banned?"}
    outcomes_of(settings, write(corrected))
    file = write(PROMPT, INSTRUCTIONS)
    uploads = [topic.name for topic in settings.topics.uploads]
    assert outcomes_of(settings, file, "--dry-run") == [("appended", 3, ""), ("appended", 1, "")]
    assert len(all_records(settings, *uploads)) == 2
    assert not ContentStore.open(settings.content).has(
        sha256(str(INSTRUCTIONS["text"]).encode()).hexdigest()
    )
    created = outcomes_of(settings, file, "--create-only")
    assert [one[:2] for one in created] == [("exists", 2), ("appended", 1)]
