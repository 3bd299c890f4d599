"""Dead letters listed, shown and re-driven, on a real broker."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from processors.dead_letters.open_letters import DeadLetter, read_dead_letters
from processors.dead_letters.redrive import CHUNK_LETTERS, Redrive
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord, Record
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.dead_letters import dead_letter_headers, is_marker
from schemas.errors import CJStreamError, Fenced, Malformed, Misconfigured
from schemas.events import UploadEvent, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topic
from tests.faults.load import CODEC, append, assignment, record_of, send
from tests.faults.running import StartWorker
from tests.support.builders import prompt_uploaded, requested, sha256_of
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


def dead_request(settings: Settings, offset: int, key: str, partition: int = 0) -> Record:
    topics = settings.topics
    value = CODEC.encode(requested(batch_id=key, event_id=f"q-{offset}"))
    at = Coordinates(topics.requests.name, partition, offset)
    return letter(topics.requests_dlq, at, key.encode(), value, own=[("trace", b"\xff")])


def dead_upload(settings: Settings, event: UploadEvent, offset: int, partition: int) -> Record:
    record = record_of(settings, event)
    at = Coordinates(record.topic, partition, offset)
    return letter(settings.topics.uploads_dlq, at, record.key, record.value)


def partition_of(event: UploadEvent) -> int:
    return partition_for(scope_key_of(event).encode(), 4)


def every_letter(_letter: DeadLetter) -> bool:
    return True


def redriven(settings: Settings, topic: Topic, max_attempts: int = 3) -> dict[int, str]:
    """Re-drive every dead letter; returns the fate of each, by original offset."""
    with closing(Redrive(settings, topic, max_attempts=max_attempts)) as redrive:
        done = list(redrive.run(redrive.take_over(every_letter)))
    return {decision.letter.refusal.at.offset: decision.fate for decision, _ in done}


def test_redriven_records_are_processed_or_refused_again(
    settings: Settings, start_worker: StartWorker
) -> None:
    topics = settings.topics
    instructions, prompt, _ = assignment("a1")
    send(settings, instructions)
    misplaced = (partition_of(prompt) + 1) % 4
    record = record_of(settings, prompt)
    append(settings, [Record(record.topic, misplaced, record.key, record.value)])
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
    append(settings, [dead_request(settings, one, "same", 3) for one in (30, 10, 20)])
    assert redriven(settings, topic) == {10: "redrive", 20: "redrive", 30: "redrive"}
    back = committed_records(settings, settings.topics.requests)
    assert [one.at.partition for one in back] == [3, 3, 3]
    assert [CODEC.decode(one.value).event_id for one in back] == ["q-10", "q-20", "q-30"]  # type: ignore[union-attr]
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
        assert headers["cjstream-redrive-origin"] == f"{came_from} {came_from.offset}".encode()
    assert redriven(settings, topic) == {}
    assert len(committed_records(settings, settings.topics.requests)) == 3


def test_the_second_of_two_redrives_fences_the_first(settings: Settings) -> None:
    topic = settings.topics.requests_dlq
    append(settings, [dead_request(settings, one, f"k-{one}") for one in range(20)])
    with (
        closing(Redrive(settings, topic, max_attempts=3)) as first,
        closing(Redrive(settings, topic, max_attempts=3)) as second,
    ):
        letters_of_first = first.take_over(every_letter)
        letters_of_second = second.take_over(every_letter)
        with pytest.raises(Fenced, match="another re-drive has taken over"):
            list(first.run(letters_of_first))
        assert len(list(second.run(letters_of_second))) == 20
    assert len(committed_records(settings, settings.topics.requests)) == 20


def versions(settings: Settings, event: UploadEvent) -> list[int]:
    """The versions in the topic of an upload's role, in log order."""
    name = record_of(settings, event).topic
    (topic,) = (one for one in settings.topics.uploads if one.name == name)
    found: list[Any] = [CODEC.decode(one.value) for one in committed_records(settings, topic)]
    return [one.version for one in found]


def test_an_upload_is_redriven_only_if_no_newer_one_exists(settings: Settings) -> None:
    topic = settings.topics.uploads_dlq
    first, second, third, fourth = (prompt_uploaded(version=one) for one in (1, 2, 3, 4))
    home = partition_of(first)
    append(settings, [dead_upload(settings, second, 1000, home)])
    assert redriven(settings, topic) == {1000: "redrive"}
    older = dead_upload(settings, first, 999, home)  # refused before, listed later
    newer = dead_upload(settings, third, 1001, home)
    append(settings, [older, newer])
    assert redriven(settings, topic) == {999: "superseded", 1001: "redrive"}
    assert versions(settings, first) == [2, 3]
    letters = read_dead_letters(settings, [topic])
    (closed,) = (one for one in letters.letters if one.refusal.at.offset == 999)
    assert (letters.destination(closed) or "").startswith("superseded by ")

    append(settings, [dead_upload(settings, fourth, 0, home)])
    send(settings, prompt_uploaded(version=5))
    assert redriven(settings, topic) == {0: "superseded"}
    assert versions(settings, first) == [2, 3, 5]


def test_an_upload_that_arrives_between_a_decision_and_its_commit_wins(settings: Settings) -> None:
    topic = settings.topics.uploads_dlq
    events = [prompt_uploaded(assignment_id=f"a{n:04}") for n in range(CHUNK_LETTERS + 20)]
    # not the partitions of their keys, which is why they were refused
    partitions = [(partition_of(one) + 1) % 4 for one in events]
    append(settings, [dead_upload(settings, one, n, partitions[n]) for n, one in enumerate(events)])
    last = events[max(range(len(events)), key=lambda n: (partitions[n], n))]
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
    back = committed_records(settings, settings.topics.student_prompts)
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
            dead_request(settings, 1, "one"),
            dead_request(settings, 2, "two"),
            letter(topics.uploads_dlq, upload_at, b"one", GARBAGE, why="Left Over"),
            Record(topics.uploads_dlq.name, 0, b"who", b"?"),
        ],
    )

    def found(topic: str | None = None, *, closed: bool = False, **words: Any) -> list[str]:
        options = {"reason": "", "key": None, "since": None, "until": None, **words}
        chosen = dlq.filters(**options)
        letters = dlq.list_letters(settings, topic, chosen, closed=closed).letters
        return sorted(str(one.refusal.at).removeprefix(settings.topic_prefix) for one, _ in letters)

    requests = ["cj.requests.v1/0@1", "cj.requests.v1/0@2"]
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
