"""Dead letters listed, shown and re-driven, on a real broker."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processors.dead_letters.open_letters import DeadLetter, read_dead_letters
from processors.dead_letters.redrive import CHUNK_LETTERS, Redrive
from processors.kafka.clients import plain_producer
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record, coordinates_of
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.dead_letters import ATTEMPT, Refused, dead_letter, dead_letter_headers, is_marker
from schemas.errors import CJStreamError, Fenced, Malformed, Misconfigured
from schemas.events import UploadEvent, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import MIB, Topic
from tests.faults.load import CODEC, append, assignment, record_of, send
from tests.faults.running import StartWorker
from tests.support.builders import prompt_uploaded, requested, sha256_of
from tests.support.installations import allow_compressed_batches
from tests.support.raw_batches import append_raw
from tests.support.run_command import run_json
from tests.support.until import until
from tools import dlq
from tools.tail import tail_batches

GARBAGE = b"\1no event, and nobody's business"


def committed_records(settings: Settings, topic: Topic) -> list[LogRecord]:
    """Every committed record of a topic, in log order per partition."""
    partitions = settings.partitions_of(topic)
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek_to_start()
        return sorted(log.records_until(ends), key=lambda record: record.at)


def letter(
    dlq: Topic,
    of: Coordinates,
    key: bytes | None,
    value: bytes | None,
    *,
    own: Sequence[tuple[str, bytes | None]] = (),
    why: str = "was refused",
) -> Record:
    """A dead letter as a worker writes it; the append time (ms) of its record is the record's offset."""
    headers = dead_letter_headers(of, of.offset, Malformed(why), own)
    return Record(dlq.name, of.partition, key, value, headers)


def dead_letters_of(settings: Settings, records: Sequence[Record]) -> list[Record]:
    """Append records; returns their dead letters as a worker writes them, which are not appended."""
    requests, requests_dlq = settings.topics.requests.name, settings.topics.requests_dlq
    letters = []
    for record, message in zip(records, deliver(plain_producer(settings), records), strict=True):
        dlq = requests_dlq if record.topic == requests else settings.topics.uploads_dlq
        at, refused = coordinates_of(message), Refused(record.key, record.value, record.headers)
        content = dead_letter(at, message.timestamp()[1], Malformed("was refused"), refused)
        letters.append(Record(dlq.name, at.partition, *content))
    return letters


def request(settings: Settings, number: int, key: str, partition: int = 0) -> Record:
    value = CODEC.encode(requested(batch_id=key, event_id=f"q-{number}"))
    topic = settings.topics.requests.name
    return Record(topic, partition, key.encode(), value, [("trace", b"\xff")])


def misplaced(settings: Settings, event: UploadEvent) -> Record:
    """An upload that every fold refuses, because its partition is not that of its key."""
    record = record_of(settings, event)
    return replace(record, partition=(partition_of(event) + 1) % 4)


def redriven_records(settings: Settings, topic: Topic) -> list[LogRecord]:
    """The records that a re-drive has appended to a topic."""
    records = committed_records(settings, topic)
    return [record for record in records if ATTEMPT in dict(record.headers)]


def partition_of(event: UploadEvent) -> int:
    return partition_for(scope_key_of(event).encode(), 4)


def every_letter(_letter: DeadLetter) -> bool:
    return True


def redriven(settings: Settings, topic: Topic, max_attempts: int = 3) -> dict[int, str]:
    """Re-drive every dead letter; returns the fate of each, by original offset."""
    with closing(Redrive(settings, topic, max_attempts=max_attempts)) as redrive:
        done = list(redrive.run(redrive.take_over(every_letter)))
    return {decision.letter.refusal.at.offset: decision.fate for decision, _ in done}


@pytest.mark.thorough
def test_redriven_records_are_processed_or_refused_again(
    settings: Settings, start_worker: StartWorker
) -> None:
    topics = settings.topics
    instructions, prompt, _ = assignment("a1")
    send(settings, instructions)
    append(settings, [misplaced(settings, prompt)])
    append(settings, [Record(topics.requests.name, 1, b"bad", GARBAGE)])
    start_worker()
    both = (topics.requests_dlq, topics.uploads_dlq)
    until(lambda: len(read_dead_letters(settings, both).open) == 2)

    code, dry, _ = run_json(settings, "dlq", "redrive")
    assert (code, dry["dry_run"]) == (0, True)
    assert [one["fate"] for one in dry["dead_letters"]] == ["redrive", "redrive"]
    assert len(committed_records(settings, topics.requests)) == 1

    code, done, stderr = run_json(settings, "dlq", "redrive", "--yes", "--max-attempts", "1")
    assert (code, stderr) == (0, "")
    assert all(one["went"] for one in done["dead_letters"])
    until(lambda: [one.refusal.attempt for one in read_dead_letters(settings, both).open] == [1])
    code, again, stderr = run_json(settings, "dlq", "redrive", "--yes", "--max-attempts", "1")
    assert code == 3
    assert "the limit is 1" in stderr
    assert [one["fate"] for one in again["dead_letters"]] == ["refused"]

    send(settings, requested(assignment_id="a1", batch_id="now"))
    (batch,) = until(lambda: committed_records(settings, topics.batches))
    event: Any = CODEC.decode(batch.value)
    assert event.provenance.student_prompt.source.partition == partition_of(prompt)
    outcomes = list(tail_batches(settings, from_beginning=True, every_outcome=True))
    assert len(outcomes) == 3  # two dead letters and a batch; markers do not count


def test_a_redriven_request_keeps_its_bytes_partition_and_order(
    settings: Settings,
) -> None:
    topic = settings.topics.requests_dlq
    originals = [request(settings, number, "same", 3) for number in range(3)]
    first, second, third = dead_letters_of(settings, originals)
    append(settings, [third, first, second])
    assert redriven(settings, topic) == {0: "redrive", 1: "redrive", 2: "redrive"}
    appended_at_ms = {
        one.at: one.appended_at_ms for one in committed_records(settings, settings.topics.requests)
    }
    back = redriven_records(settings, settings.topics.requests)
    assert [one.at.partition for one in back] == [3, 3, 3]
    assert [CODEC.decode(one.value).event_id for one in back] == ["q-0", "q-1", "q-2"]  # type: ignore[union-attr]
    assert {one.key for one in back} == {b"same"}
    letters = read_dead_letters(settings, [topic])
    assert [
        letters.destination(one) for one in sorted(letters.letters, key=lambda one: one.refusal.at)
    ] == [str(one.at) for one in back]
    of = {str(one.at): one.refusal.at for one in letters.letters}
    for one in back:
        headers = dict(one.headers)
        assert headers["trace"] == b"\xff"
        assert headers["cjstream-redrive-attempt"] == b"1"
        came_from = of[(headers["cjstream-redriven-from"] or b"").decode()]
        origin = f"{came_from} {appended_at_ms[came_from]}"
        assert headers["cjstream-redrive-origin"] == origin.encode()
    assert redriven(settings, topic) == {}
    assert len(redriven_records(settings, settings.topics.requests)) == 3


def test_the_second_of_two_redrives_fences_the_first(settings: Settings) -> None:
    topic = settings.topics.requests_dlq
    originals = [request(settings, number, f"k-{number}") for number in range(20)]
    append(settings, dead_letters_of(settings, originals))
    with (
        closing(Redrive(settings, topic, max_attempts=3)) as first,
        closing(Redrive(settings, topic, max_attempts=3)) as second,
    ):
        letters_of_first = first.take_over(every_letter)
        letters_of_second = second.take_over(every_letter)
        with pytest.raises(Fenced, match="another re-drive has taken over"):
            list(first.run(letters_of_first))
        assert len(list(second.run(letters_of_second))) == 20
    assert len(redriven_records(settings, settings.topics.requests)) == 20


def versions(settings: Settings, event: UploadEvent) -> list[int]:
    """The versions in the topic of an upload's role, in log order, of those in the partition of its key."""
    name = record_of(settings, event).topic
    (topic,) = (one for one in settings.topics.uploads if one.name == name)
    records = committed_records(settings, topic)
    home = [one for one in records if one.at.partition == partition_of(event)]
    found: list[Any] = [CODEC.decode(one.value) for one in home]
    return [one.version for one in found]


def test_an_upload_is_redriven_only_if_no_newer_one_exists(settings: Settings) -> None:
    topic = settings.topics.uploads_dlq
    uploads = [prompt_uploaded(version=version) for version in (1, 2, 3, 4)]
    originals = [misplaced(settings, upload) for upload in uploads]
    older, second, newer, fourth = dead_letters_of(settings, originals)
    append(settings, [second])
    assert redriven(settings, topic) == {1: "redrive"}
    append(settings, [older, newer])  # refused before and after, listed later
    assert redriven(settings, topic) == {0: "superseded", 2: "redrive"}
    assert versions(settings, uploads[0]) == [2, 3]
    letters = read_dead_letters(settings, [topic])
    (closed,) = (one for one in letters.letters if one.refusal.at.offset == 0)
    assert (letters.destination(closed) or "").startswith("superseded by ")

    append(settings, [fourth])
    send(settings, prompt_uploaded(version=5))
    assert redriven(settings, topic) == {3: "superseded"}
    assert versions(settings, uploads[0]) == [2, 3, 5]


def test_an_upload_that_arrives_between_a_decision_and_its_commit_wins(settings: Settings) -> None:
    topic = settings.topics.uploads_dlq
    events = [prompt_uploaded(assignment_id=f"a{n:04}") for n in range(CHUNK_LETTERS + 20)]
    originals = [misplaced(settings, event) for event in events]
    append(settings, dead_letters_of(settings, originals))
    last = events[max(range(len(events)), key=lambda n: (originals[n].partition, n))]
    newer = prompt_uploaded("Newer", assignment_id=last.assignment_id, version=2)
    with closing(Redrive(settings, topic, max_attempts=3)) as redrive:
        running = redrive.run(redrive.take_over(every_letter))
        done = [next(running)]  # the first chunk is committed, the second is already decided
        send(settings, newer)
        done += running
    fate = {decision.letter.key: decision.fate for decision, _ in done}
    assert fate.pop(scope_key_of(last).encode()) == "superseded"
    assert set(fate.values()) == {"redrive"}
    assert len(fate) == len(events) - 1
    appended = committed_records(settings, settings.topics.student_prompts)
    back = [one for one in appended if one.at.partition == partition_for(one.key or b"", 4)]
    assert len(back) == len(events)
    (kept,) = (one for one in back if one.key == scope_key_of(last).encode())
    assert kept.value == CODEC.encode(newer)


def test_a_dead_letter_is_shown_without_its_value_which_is_written_to_a_file(
    settings: Settings, tmp_path: Path
) -> None:
    topics = settings.topics
    at = Coordinates(topics.instructions.name, 2, 7)
    (letter_at,) = append(
        settings,
        [
            letter(
                topics.uploads_dlq, at, b"k\x1b[2J", GARBAGE, own=[("trace", b"\xff")], why="broken"
            )
        ],
    )
    path = tmp_path / "value"
    code, document, _ = run_json(settings, "dlq", "show", str(letter_at), "--value-file", str(path))
    assert code == 0
    assert path.read_bytes() == GARBAGE
    assert document == {
        "at": str(letter_at),
        "died_at_ms": document["died_at_ms"],
        "original_at": str(at),
        "original_appended_at_ms": 7,
        "key": "k\\x1b[2J",
        "fault": "schemas.errors.Malformed",
        "message": "broken",
        "attempt": 0,
        "value_bytes": len(GARBAGE),
        "sha256": sha256_of(GARBAGE.decode()),
        "truncated": None,
        "headers": [["trace", "\\xff"]],
        "open": True,
        "went": None,
    }
    code, _, stderr = run_json(settings, "dlq", "show", str(letter_at), "--value-file", str(path))
    assert (code, path.name in stderr) == (1, True)
    with pytest.raises(CJStreamError, match="there is no dead letter at"):
        dlq.find_letter(settings, str(letter_at).replace("@0", "@1"), None)
    with pytest.raises(Misconfigured):
        dlq.find_letter(settings, "nonsense", None)


def test_filters_select_dead_letters_and_foreign_records_are_listed(settings: Settings) -> None:
    topics = settings.topics
    upload_at = Coordinates(topics.instructions.name, 0, 1)
    append(
        settings,
        [
            *dead_letters_of(settings, [request(settings, 0, "one"), request(settings, 1, "two")]),
            letter(topics.uploads_dlq, upload_at, b"one", GARBAGE, why="Left Over"),
            Record(topics.uploads_dlq.name, 0, b"who", b"?"),
        ],
    )

    def found(topic: str | None = None, *, closed: bool = False, **words: Any) -> list[str]:
        options = {"reason": "", "key": None, "since": None, "until": None, **words}
        chosen = dlq.filters(**options)
        letters = dlq.list_letters(settings, topic, chosen, closed=closed).letters
        return sorted(str(one.refusal.at).removeprefix(settings.topic_prefix) for one, _ in letters)

    requests = ["cj.requests.v1/0@0", "cj.requests.v1/0@1"]
    upload = "assessment.instructions.v1/0@1"
    assert found() == [upload, *requests]
    assert found("requests") == requests
    assert found(reason="left over") == [upload]
    assert found("uploads", reason="malformed") == [upload]
    assert found(key="two") == requests[1:]
    assert found(until="2h") == []
    assert len(found(since="2h")) == 3
    assert found(since="2100-01-01T00:00:00+00:00") == []
    refused: list[dict[str, Any]] = [
        {"since": "yesterday"},
        {"until": "2026-03-01"},
        {"topic": "b"},
    ]
    for bad in refused:
        with pytest.raises(Misconfigured):
            found(**bad)
    strangers = run_json(settings, "dlq", "list")[1]["strangers"]
    assert strangers == [f"{topics.uploads_dlq.name}/0@1"]

    assert run_json(settings, "dlq", "redrive", "--key", "two", "--yes")[0] == 0
    assert found() == [upload, requests[0]]
    assert len(found(closed=True)) == 3
    markers = [
        one for one in committed_records(settings, topics.requests_dlq) if is_marker(one.headers)
    ]
    assert [(one.key, one.value) for one in markers] == [(b"two", None)]


def test_a_dead_letter_that_no_worker_wrote_is_refused(settings: Settings) -> None:
    """It never becomes the live upload, nor a second request, and holds no other dead letter back."""
    topics = settings.topics
    live, forged = prompt_uploaded(version=2), prompt_uploaded("Forged", version=9)
    (live_at,) = send(settings, live)
    true_letter, *_ = dead_letters_of(settings, [misplaced(settings, prompt_uploaded(version=3))])
    key, value = scope_key_of(forged).encode(), CODEC.encode(forged)
    beyond = replace(live_at, offset=live_at.offset + 1_000_000)
    elsewhere = replace(live_at, partition=9_999_999_999)
    foreign = replace(live_at, topic="someone.elses.v1")
    append(
        settings,
        [
            *(letter(topics.uploads_dlq, at, key, value) for at in (live_at, beyond, foreign)),
            replace(letter(topics.uploads_dlq, elsewhere, key, value), partition=0),
            true_letter,
        ],
    )
    _, report, stderr = run_json(settings, "dlq", "redrive", "--yes")
    fates = {one["original_at"]: (one["fate"], one["reason"]) for one in report["dead_letters"]}
    assert len(fates) == 5
    assert fates[str(live_at)] == (
        "refused",
        f"it differs from its record {live_at}: no worker wrote it, or not from this topic",
    )
    for at in (beyond, elsewhere):
        assert "is not in the log" in fates[str(at)][1]
    assert "not an upload topic of this installation" in fates[str(foreign)][1]
    assert [fate for fate, _ in fates.values()].count("redrive") == 1
    assert "refused or held back: 4 dead letters" in stderr
    assert versions(settings, live) == [2, 3]

    forged_request = letter(
        topics.requests_dlq, Coordinates(topics.requests.name, 0, 0), b"k", value
    )
    append(settings, [forged_request])
    _, report, _ = run_json(settings, "dlq", "redrive", "--topic", "requests", "--yes")
    assert [one["fate"] for one in report["dead_letters"]] == ["refused"]
    assert committed_records(settings, topics.requests) == []


def test_a_truncated_dead_letter_is_shown_as_such_and_refused(
    settings: Settings, tmp_path: Path
) -> None:
    topics, value = settings.topics, bytes(3 * MIB)
    allow_compressed_batches(settings)
    at = append_raw(settings.bootstrap_servers, Record(topics.requests.name, 0, b"k", value))
    (original,) = committed_records(settings, topics.requests)
    refused = Refused(b"k", value, ())
    content = dead_letter(at, original.appended_at_ms, Malformed("too large"), refused)
    (letter_at,) = append(settings, [Record(topics.requests_dlq.name, 0, *content)])
    _, document, _ = run_json(settings, "dlq", "show", str(letter_at))
    assert document["truncated"]["value"] == f"{3 * MIB} {hashlib.sha256(value).hexdigest()}"
    code, _, stderr = run_json(
        settings, "dlq", "show", str(letter_at), "--value-file", str(tmp_path / "value")
    )
    assert (code, str(at) in stderr) == (1, True)
    code, report, _ = run_json(settings, "dlq", "redrive", "--yes")
    (decision,) = report["dead_letters"]
    size = 3 * MIB + 1
    assert (code, decision["fate"]) == (3, "refused")
    assert decision["reason"] == f"{size} bytes, too large for its topic; the whole record is {at}"
