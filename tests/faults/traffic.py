"""What flows while the storm lasts: requests of every kind, uploads, damage, and contexts that come late.

It knows when it had the broker's word for each upload: what a request has to see, and what it need not.
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
from schemas.events import CJAssessmentRequested, UploadEvent
from tests.faults.load import DAMAGED, record_of, request_record
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
LATE_S = (0.2, 8)
PACE_S = 0.02


class Traffic:
    """Records at a steady rate from a thread of its own, the mixture drawn by a seed, until it is stopped."""

    def __init__(self, settings: Settings, seed: int, rate: float) -> None:
        self.acknowledged = dict[Coordinates, int]()  # when, in ms, of uploads
        self.counts = Counter[str]()
        self._settings = settings
        self._dice = random.Random(seed)
        self._rate = rate
        # what it sends has to arrive, however long a broker is away
        self._producer = plain_producer(settings, **{"delivery.timeout.ms": 600_000})
        self._versions = Counter[str]()
        self._late: list[tuple[float, int, Sequence[Record]]] = []  # a heap: due, number, records
        self._number = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        for number in range(ASSIGNMENTS):
            self._put(*self._uploads(f"a{number}"))
        self._put(record_of(self._settings, self._course_upload(COURSES[0])))
        self._producer.flush(60)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def send_no_more(self) -> None:
        """Send nothing more, but the contexts that were to come."""
        self._stopping.set()

    def stop(self) -> None:
        """That, too; returns when the broker has everything."""
        self.send_no_more()
        if self._thread.is_alive():
            self._thread.join()
        left = self._producer.flush(300)
        assert not left, f"{left} records were never acknowledged"

    def _run(self) -> None:
        started, sent = time.monotonic(), 0
        while not self._stopping.is_set():
            now = time.monotonic()
            while sent < (now - started) * self._rate:
                self._put(*self._drawn())
                sent += 1
            while self._late and self._late[0][0] <= now:
                self._put(*heapq.heappop(self._late)[2])
            self._producer.poll(PACE_S)
        for _, _, records in self._late:
            self._put(*records)

    def _put(self, *records: Record) -> None:
        for record in records:
            self.counts["requests" if self._is_request(record) else "uploads"] += 1
            self._producer.produce(record.topic, record.value, record.key, on_delivery=self._heard)

    def _is_request(self, record: Record) -> bool:
        return record.topic == self._settings.topics.requests.name

    def _heard(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.counts["refused by the broker"] += 1
        elif message.topic() != self._settings.topics.requests.name:
            at = (str(message.topic()), int(message.partition() or 0), int(message.offset() or 0))
            self.acknowledged[Coordinates(*at)] = int(time.time() * 1000)

    def _drawn(self) -> Sequence[Record]:
        """The next of the mixture."""
        self._number += 1
        chance = self._dice.random()
        if chance < 0.82:
            return [record_of(self._settings, self._request())]
        if chance < 0.84:
            return [request_record(self._settings, self._dice.choice(DAMAGED), self._key())]
        if chance < 0.90:
            return [record_of(self._settings, self._request_that_outruns_its_context())]
        if chance < 0.97:
            return self._change()
        return [self._damaged_upload()]

    def _key(self) -> str:
        return f"batch-{self._number}"

    def _asked(self, **changes: Any) -> CJAssessmentRequested:
        return requested(event_id=f"q-{self._number}", batch_id=self._key(), **changes)

    def _request(self) -> CJAssessmentRequested:
        chance = self._dice.random()
        if chance < 0.04:
            return self._asked(assignment_id=None, course_code="GUEST")
        if chance < 0.08:
            return self._asked(assignment_id=None, course_code=self._dice.choice(COURSES))
        name = f"a{self._dice.randrange(ASSIGNMENTS)}"
        if chance < 0.14:
            return self._asked(assignment_id=name, student_prompt_ref=f"prompt-{self._number}")
        return self._asked(assignment_id=name)

    def _request_that_outruns_its_context(self) -> CJAssessmentRequested:
        """Its uploads come within the patience, or long after, or never."""
        name = f"late-{self._number}"
        chance = self._dice.random()
        late_s = self._dice.uniform(*LATE_S) if chance < 0.7 else 1.5 * self._settings.patience_s
        if chance < 0.9:
            heapq.heappush(
                self._late, (time.monotonic() + late_s, self._number, self._uploads(name))
            )
        return self._asked(assignment_id=name)

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

    def _change(self) -> Sequence[Record]:
        """A new version of one role or of all, a course's, or a deletion that is soon mended."""
        chance = self._dice.random()
        name = f"a{self._dice.randrange(ASSIGNMENTS)}"
        if chance < 0.1:
            return [record_of(self._settings, self._course_upload(self._dice.choice(COURSES)))]
        if chance < 0.2:
            self._versions[name] += 1
            gone = instructions_deleted(assignment_id=name, version=self._versions[name])
            back = self._upload(name, instructions_uploaded)
            due = time.monotonic() + self._dice.uniform(0, 2)
            heapq.heappush(self._late, (due, self._number, [back]))
            return [record_of(self._settings, gone)]
        if chance < 0.6:
            return [self._upload(name, self._dice.choice(UPLOADED))]
        return self._uploads(name)

    def _damaged_upload(self) -> Record:
        """Bytes that are no upload, or one under another's key, or in another's topic."""
        name = f"a{self._dice.randrange(ASSIGNMENTS)}"
        whole = record_of(self._settings, prompt_uploaded(assignment_id=name, version=999))
        match self._dice.randrange(3):
            case 0:
                cut = (whole.value or b"")[: self._dice.randrange(20)]
                return replace(whole, value=cut)
            case 1:
                return replace(whole, key=b"assignment:other")
            case _:
                topic = self._settings.topics.judge_rubrics.name
                return replace(whole, topic=topic)
