"""Sends uploads and requests to a test's installation: single ones, and a steady stream from a thread."""

import threading
import time
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.events import CJAssessmentRequested, UploadEvent, role_of, scope_key_of
from tests.support.builders import (
    instructions_uploaded,
    prompt_uploaded,
    requested,
    rubric_uploaded,
)
from tests.support.until import until

CODEC = Codec()
ANY = -1  # the producer's partitioner chooses the partition
DAMAGED = (
    b"",
    b"\1nonsense",
    b"\0\0\0\0\1",
    CODEC.encode(requested()) + b"\0",
    b"\0\x7f\0\0\0later",
)


def record_of(settings: Settings, event: UploadEvent | CJAssessmentRequested) -> Record:
    """The event as a record of its topic."""
    topics = settings.topics
    if isinstance(event, CJAssessmentRequested):
        return request_record(settings, CODEC.encode(event), event.batch_id)
    topic = {
        "instructions": topics.instructions,
        "student_prompt": topics.student_prompts,
        "judge_rubric": topics.judge_rubrics,
        "anchors": topics.anchors,
    }[role_of(event)]
    return Record(topic.name, ANY, scope_key_of(event).encode(), CODEC.encode(event))


def request_record(settings: Settings, value: bytes | None, key: str) -> Record:
    """A record of the requests topic with any bytes as value."""
    return Record(settings.topics.requests.name, ANY, key.encode(), value)


def send(settings: Settings, *events: UploadEvent | CJAssessmentRequested) -> Sequence[Coordinates]:
    """Append events and wait until the broker has acknowledged them."""
    return append(settings, [record_of(settings, event) for event in events])


def send_in_transaction(settings: Settings, event: UploadEvent | CJAssessmentRequested) -> None:
    """Append one event in its own transaction, so that a transaction marker follows it."""
    writer = plain_producer(settings, **{"transactional.id": settings.topic_prefix})
    writer.init_transactions(30)
    writer.begin_transaction()
    record = record_of(settings, event)
    writer.produce(record.topic, record.value, record.key)
    writer.commit_transaction(30)


def append(settings: Settings, records: Iterable[Record]) -> Sequence[Coordinates]:
    """Append records and wait until the broker has acknowledged them."""
    delivered = deliver(plain_producer(settings), records)
    return [
        Coordinates(str(message.topic()), int(message.partition() or 0), int(message.offset() or 0))
        for message in delivered
    ]


def assignment(name: str, version: int = 1) -> tuple[UploadEvent, ...]:
    """The uploads of all roles of an assignment, in one version."""
    text = f"{name} {version}"
    changes: dict[str, Any] = {"assignment_id": name, "version": version}
    return (
        instructions_uploaded(text, event_id=str(uuid4()), **changes),
        prompt_uploaded(text, event_id=str(uuid4()), **changes),
        rubric_uploaded(text, event_id=str(uuid4()), **changes),
    )


def a_request(number: int, assignments: int = 20) -> CJAssessmentRequested:
    """The nth request of a mix: most name an assignment, some bring a prompt, some are guests or have an unknown id."""
    ids: dict[str, Any] = {"event_id": f"q-{number}", "batch_id": f"batch-{number}"}
    match number % 20:
        case 0:
            return requested(**ids, assignment_id=None, course_code="GUEST")
        case 1:
            return requested(**ids, assignment_id="nobody-knows")
        case 2:
            return requested(**ids, assignment_id="a0", student_prompt_ref=f"prompt-{number}")
        case _:
            return requested(**ids, assignment_id=f"a{number % assignments}")


class Flow:
    """A thread that sends requests at a steady rate, with some uploads and damaged requests among them.

    It sends `total` requests, and more while the block still runs: on a slow machine what is tested takes longer.
    """

    def __init__(self, settings: Settings, total: int, rate: float, assignments: int = 20) -> None:
        self._settings = settings
        self._total = total
        self._rate = rate
        self._assignments = assignments
        self._block_ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._producer: Producer = plain_producer(settings)
        self.sent = 0
        for number in range(assignments):
            send(settings, *assignment(f"a{number}"))

    def __enter__(self) -> "Flow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._block_ends.set()
        self._thread.join()
        self._producer.flush(60)

    def _run(self) -> None:
        started = time.monotonic()
        for number in count():
            if number >= self._total and self._block_ends.is_set():
                return
            self._produce(self._record(number))
            if number % 500 == 250:
                name, version = f"a{number // 500 % self._assignments}", 2 + number // 500
                for event in assignment(name, version):
                    self._produce(record_of(self._settings, event))
            if number % 50 == 0:
                self._producer.poll(0)
                due = started + number / self._rate
                until(lambda due=due: time.monotonic() >= due)  # type: ignore[misc]
            self.sent = number + 1

    def _record(self, number: int) -> Record:
        if number % 400 == 7:
            damaged = DAMAGED[number // 400 % len(DAMAGED)]
            return request_record(self._settings, damaged, f"batch-{number}")
        return record_of(self._settings, a_request(number, self._assignments))

    def _produce(self, record: Record) -> None:
        self._producer.produce(record.topic, record.value, record.key)
