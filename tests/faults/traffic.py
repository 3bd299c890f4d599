"""The traffic of a storm: requests of every kind, uploads, contexts that come late, and poison.

It notes when the broker acknowledged each upload, so that the checker knows which uploads a request must see.
"""

import heapq
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from confluent_kafka import KafkaError, Message

from processors.kafka.clients import plain_producer
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.events import AssignmentContext, CJAssessmentRequested, UploadEvent
from tests.faults.load import ANY, CODEC, DAMAGED, record_of, request_record
from tests.faults.reading import Coordinates
from tests.support.builders import (
    instructions_deleted,
    instructions_uploaded,
    prompt_uploaded,
    requested,
    rubric_uploaded,
)

ASSIGNMENTS = 12
COURSES = ("C1", "C2")
UPLOADED = (instructions_uploaded, prompt_uploaded, rubric_uploaded)
DELAY_S = (0.2, 8)
PACE_S = 0.02
FORGED_ROW = CODEC.encode(AssignmentContext(scope_key="assignment:a0", fold_version=99))
POISON = (None, FORGED_ROW, *DAMAGED)


class Traffic:
    """A thread that sends records at a steady rate, a mix drawn with a seed, until it is stopped."""

    def __init__(self, settings: Settings, seed: int, rate: float) -> None:
        self.acknowledged = dict[Coordinates, int]()  # of uploads: the time in ms
        self.counts = Counter[str]()
        self._settings = settings
        self._dice = random.Random(seed)
        self._rate = rate
        # every record has to arrive, even if a broker is down for long
        self._producer = plain_producer(settings, **{"delivery.timeout.ms": 600_000})
        self._versions = Counter[str]()
        self._delayed: list[
            tuple[float, int, Sequence[Record]]
        ] = []  # a heap: due time, number, records
        self._number = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        for number in range(ASSIGNMENTS):
            self._produce(*self._uploads(f"a{number}"))
        self._produce(record_of(self._settings, self._course_upload(COURSES[0])))
        self._producer.flush(60)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def send_only_delayed(self) -> None:
        """Send no new records, only the delayed uploads that are still due."""
        self._stopping.set()

    def stop(self) -> None:
        """End the thread; returns when the broker has acknowledged everything."""
        self.send_only_delayed()
        if self._thread.is_alive():
            self._thread.join()
        left = self._producer.flush(300)
        assert not left, f"{left} records were never acknowledged"

    def _run(self) -> None:
        started, sent = time.monotonic(), 0
        while not self._stopping.is_set():
            now = time.monotonic()
            while sent < (now - started) * self._rate:
                self._produce(*self._next_records())
                sent += 1
            while self._delayed and self._delayed[0][0] <= now:
                self._produce(*heapq.heappop(self._delayed)[2])
            self._producer.poll(PACE_S)
        for _, _, records in self._delayed:
            self._produce(*records)

    def _produce(self, *records: Record) -> None:
        for record in records:
            self.counts[self._kind_of(record)] += 1
            self._producer.produce(
                record.topic, record.value, record.key, on_delivery=self._on_delivery
            )

    def _kind_of(self, record: Record) -> str:
        topics = self._settings.topics
        if record.topic == topics.context.name:
            return "changelog poison"
        return "requests" if record.topic == topics.requests.name else "uploads"

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.counts["refused by the broker"] += 1
        elif message.topic() != self._settings.topics.requests.name:
            at = Coordinates(
                str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
            )
            self.acknowledged[at] = int(time.time() * 1000)

    def _next_records(self) -> Sequence[Record]:
        """The next records of the mix."""
        self._number += 1
        chance = self._dice.random()
        if chance < 0.82:
            return [record_of(self._settings, self._request())]
        if chance < 0.84:
            return [request_record(self._settings, self._dice.choice(POISON), self._key())]
        if chance < 0.90:
            return [record_of(self._settings, self._request_before_its_context())]
        if chance < 0.97:
            return self._next_uploads()
        if chance < 0.99:
            return [self._damaged_upload()]
        return [self._changelog_poison()]

    def _key(self) -> str:
        return f"batch-{self._number}"

    def _new_request(self, **changes: Any) -> CJAssessmentRequested:
        return requested(event_id=f"q-{self._number}", batch_id=self._key(), **changes)

    def _request(self) -> CJAssessmentRequested:
        chance = self._dice.random()
        if chance < 0.04:
            return self._new_request(assignment_id=None, course_code="GUEST")
        if chance < 0.08:
            return self._new_request(assignment_id=None, course_code=self._dice.choice(COURSES))
        name = f"a{self._dice.randrange(ASSIGNMENTS)}"
        if chance < 0.14:
            return self._new_request(
                assignment_id=name, student_prompt_ref=f"prompt-{self._number}"
            )
        return self._new_request(assignment_id=name)

    def _request_before_its_context(self) -> CJAssessmentRequested:
        """A request whose uploads come within its patience, long after it, or never."""
        name = f"late-{self._number}"
        chance = self._dice.random()
        delay_s = self._dice.uniform(*DELAY_S) if chance < 0.7 else 1.5 * self._settings.patience_s
        if chance < 0.9:
            heapq.heappush(
                self._delayed, (time.monotonic() + delay_s, self._number, self._uploads(name))
            )
        return self._new_request(assignment_id=name)

    def _uploads(self, name: str) -> list[Record]:
        return [self._upload(name, build) for build in UPLOADED]

    def _upload(self, name: str, build: Any) -> Record:
        self._versions[name] += 1
        event: UploadEvent = build(
            f"{name} {self._versions[name]}",
            assignment_id=name,
            version=self._versions[name],
            event_id=f"{name}-{self._versions[name]}",
        )
        return record_of(self._settings, event)

    def _course_upload(self, course: str) -> UploadEvent:
        self._versions[course] += 1
        version = self._versions[course]
        changes: dict[str, Any] = {"assignment_id": None, "course_id": course}
        return instructions_uploaded(
            course, version=version, event_id=f"{course}-{version}", **changes
        )

    def _next_uploads(self) -> Sequence[Record]:
        """A new version of one role, of all roles or of a course, or a deletion that is soon followed by an upload."""
        chance = self._dice.random()
        name = f"a{self._dice.randrange(ASSIGNMENTS)}"
        if chance < 0.1:
            return [record_of(self._settings, self._course_upload(self._dice.choice(COURSES)))]
        if chance < 0.2:
            self._versions[name] += 1
            version = self._versions[name]
            deletion = instructions_deleted(
                assignment_id=name, version=version, event_id=f"{name}-{version}"
            )
            upload = self._upload(name, instructions_uploaded)
            due = time.monotonic() + self._dice.uniform(0, 2)
            heapq.heappush(self._delayed, (due, self._number, [upload]))
            return [record_of(self._settings, deletion)]
        if chance < 0.6:
            return [self._upload(name, self._dice.choice(UPLOADED))]
        return self._uploads(name)

    def _damaged_upload(self) -> Record:
        """A truncated upload, poison, an upload with the key of another scope or in the topic of another role."""
        name = f"a{self._dice.randrange(ASSIGNMENTS)}"
        valid = record_of(self._settings, prompt_uploaded(assignment_id=name, version=999))
        match self._dice.randrange(4):
            case 0:
                truncated = (valid.value or b"")[: self._dice.randrange(20)]
                return replace(valid, value=truncated)
            case 1:
                return replace(valid, key=b"assignment:other")
            case 2:
                return replace(valid, value=self._dice.choice(POISON))
            case _:
                topic = self._settings.topics.judge_rubrics.name
                return replace(valid, topic=topic)

    def _changelog_poison(self) -> Record:
        """Poison in the table's changelog, under the key of a scope."""
        key = f"assignment:a{self._dice.randrange(ASSIGNMENTS)}"
        value = self._dice.choice(POISON)
        return Record(self._settings.topics.context.name, ANY, key.encode(), value)
