"""Poison of every sort in every topic of the catalogue stops nothing: a thousand good records beside it come out."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from processors.fold.changelog_watch import MAX_KEY_BYTES
from processors.fold.replica_feed import ReplicaFeed, open_replica
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import Record
from processors.log.compacted_rows import PublishedRows, newest_rows
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import FRAME
from schemas.coordinates import Coordinates
from schemas.dead_letters import dead_letter_headers, marker_headers
from schemas.errors import BadRecord, Malformed
from schemas.events import AssignmentContext, ParkedRequest
from schemas.topics import MIB, Topics
from tests.faults.load import CODEC, append, assignment, request_record, send
from tests.faults.running import Process
from tests.support.builders import essays, requested
from tests.support.installations import allow_compressed_batches, installation
from tests.support.raw_batches import append_raw
from tests.support.run_command import run_text
from tests.support.until import until
from tools.broker import Broker

GOOD = 1000
LATE = "late"  # its uploads come after its requests
NAMES = [topic.name for topic in Topics().all]
COMPACTED = {
    topic.name for topic in Topics().all if topic.retention in ("history", "table", "parked")
}


@pytest.fixture(scope="module")
def settings(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("poison")
    settings = installation(broker, folder, slot="one", patience_s=600)
    allow_compressed_batches(settings)
    return settings


@pytest.fixture(scope="module")
def worker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    send(settings, *(event for name in "abcdefgh" for event in assignment(name)))
    worker = Process(settings, tmp_path_factory.mktemp("log") / "worker.log")
    worker.start()
    yield worker
    worker.end()


def refused() -> dict[str, bytes]:
    """Requests that can be read, but whose values are refused."""
    invented: dict[str, dict[str, Any]] = {
        "a decomposed id": {"assignment_id": "a\u030a"},
        "an id that ends with a blank": {"course_code": "ENG5 "},
        "a deadline in seconds": {"due_at_ms": 1_900_000_000},
        "essays of one id": {"essays": essays() + essays()},
    }
    return {
        name: CODEC.encode(requested(batch_id="invented", **fields))
        for name, fields in invented.items()
    }


def poison(settings: Settings, topic: str) -> dict[str, Record]:
    """One poison of each sort for a topic, all in partition 0."""
    elsewhere = Coordinates(settings.topics.requests.name, 0, 2**60)
    context = AssignmentContext(scope_key="assignment:a", fold_version=99)
    request = CODEC.encode(requested(assignment_id="a", batch_id="invented"))
    invented = ParkedRequest(
        request_at=elsewhere,
        scope_key="assignment:a",
        missing=(),
        appended_at_ms=1,
        deadline_at_ms=2,
        request=request,
    )
    unknown_id, later_id = FRAME.pack(0, 7), FRAME.pack(0, 1_000_009_999)
    forged = (*dead_letter_headers(elsewhere, 1, Malformed("forged")),)
    marker = marker_headers(elsewhere, "superseded")
    found = {
        "no framing": Record(topic, 0, b"assignment:a", b"no framing"),
        "an unknown id": Record(topic, 0, b"assignment:a", unknown_id + b"x"),
        "an id far above ours": Record(topic, 0, b"assignment:a", later_id + b"x"),
        "a truncated body": Record(topic, 0, b"assignment:a", request[:-3]),
        "an empty value": Record(topic, 0, b"assignment:a", b""),
        "oversize": Record(topic, 0, b"assignment:a", bytes(3 * MIB)),
        "an oversize key": Record(topic, 0, bytes(3 * MIB), b"x"),
        "a key of no scope": Record(topic, 0, b"\xff\xfe\0", b"x"),
        "a tombstone": Record(topic, 0, b"assignment:a", None),
        "a tombstone of nothing": Record(topic, 0, str(elsewhere).encode(), None),
        "another event": Record(topic, 0, b"assignment:a", CODEC.encode(context)),
        "forged coordinates": Record(topic, 0, str(elsewhere).encode(), CODEC.encode(invented)),
        "a forged dead letter": Record(topic, 0, b"assignment:a", b"x", forged),
        "a forged marker": Record(topic, 0, b"assignment:a", None, marker),
        "a null key": Record(topic, 0, None, b"x"),
        "a null value": Record(topic, 0, None, None),
        **{name: Record(topic, 0, b"assignment:a", value) for name, value in refused().items()},
    }
    return {
        sort: record
        for sort, record in found.items()
        if record.key is not None or topic.removeprefix(settings.topic_prefix) not in COMPACTED
    }


def outcomes(settings: Settings) -> Counter[str]:
    """How many outcomes each batch has."""
    topics, found = settings.topics, Counter[str]()
    with LogReader(settings, settings.partitions_of(topics.batches, topics.unresolved)) as log:
        for record in log.records_until(log.seek_to_start()):
            try:
                event: Any = CODEC.decode(record.value)
                found[event.request.batch_id] += 1
            except (BadRecord, AttributeError):
                continue  # poison
    return found


@pytest.mark.parametrize("name", NAMES)
def test_poison_in_a_topic_stops_nothing(settings: Settings, worker: Process, name: str) -> None:
    topic = f"{settings.topic_prefix}{name}"
    late, batches = f"{name}-{LATE}", [f"{name}-{number}" for number in range(GOOD)]
    for record in poison(settings, topic).values():
        append_raw(settings.bootstrap_servers, record)
    requests = [
        requested(
            batch_id=batch, assignment_id=late if number % 10 == 0 else "abcdefgh"[number % 8]
        )
        for number, batch in enumerate(batches)
    ]
    append(
        settings,
        [request_record(settings, CODEC.encode(one), one.batch_id) for one in requests],
    )
    for record in poison(settings, topic).values():
        append_raw(settings.bootstrap_servers, record)
    send(settings, *assignment(late))

    def all_came_out() -> bool:
        assert worker.is_alive, worker.log_tail(3)
        return set(batches) <= set(outcomes(settings))

    until(all_came_out, seconds=60)
    found = outcomes(settings)
    assert {found[batch] for batch in batches} == {1}
    assert "invented" not in found


def test_afterwards_everything_reads_its_topics(
    settings: Settings, worker: Process, tmp_path: Path
) -> None:
    replica = open_replica(settings, CODEC, tmp_path)
    faults: list[BaseException] = []
    feed = ReplicaFeed(settings, replica, faults.append)
    feed.start(replica.open({}))
    ends = high_watermarks_when_reachable(settings, settings.upload_partitions)
    until(lambda: faults or not replica.wait_past(ends, 0))
    assert faults == []
    contexts = {context.scope_key.encode(): CODEC.encode(context) for context in replica.contexts()}
    feed.stop()
    replica.close()
    assert len(contexts) == 8 + len(NAMES)

    def published() -> PublishedRows:
        rows = newest_rows(settings, range(settings.partitions), lambda _key: True)
        # a foreign row with a key that is too long for a tombstone stays, and is named in the log
        rows.misplaced = {one for one in rows.misplaced if len(one[1]) <= MAX_KEY_BYTES}
        rows.by_key = {key: row for key, row in rows.by_key.items() if len(key) <= MAX_KEY_BYTES}
        return rows

    with suppress(AssertionError):
        until(lambda: published() == PublishedRows(contexts), seconds=60)
    assert published() == PublishedRows(contexts)
    assert worker.is_alive
    for command in (
        ("batches", "tail", "--all", "--from-beginning"),
        ("parked", "list"),
        ("dlq", "list"),
        ("dlq", "redrive"),
        ("audit", "replay"),
        ("audit", "history", "a"),
        ("audit", "as-of", "a", "--at", "0s", "--no-texts"),
        ("audit", "verify", "--no-texts"),
        ("doctor",),
    ):
        code, stdout, stderr = run_text(settings, *command)
        assert code in (0, 3), f"{command}: {code} {stderr}"
        assert stdout, f"{command}: {stderr}"
        assert "\x1b" not in stdout + stderr


@pytest.mark.thorough
def test_poison_does_not_stop_the_first_start(broker: Broker, tmp_path: Path) -> None:
    settings = installation(broker, tmp_path, slot="one", patience_s=0)
    allow_compressed_batches(settings)
    for topic in settings.topics.all:
        for record in poison(settings, topic.name).values():
            append_raw(settings.bootstrap_servers, record)
    requests = [requested(batch_id=f"b-{number}") for number in range(20)]
    send(settings, *requests)
    worker = Process(settings, tmp_path / "worker.log")
    worker.start()
    try:
        until(lambda: len(outcomes(settings)) == len(requests) or not worker.is_alive, seconds=60)
    finally:
        worker.end()
    assert outcomes(settings) == Counter(request.batch_id for request in requests)
