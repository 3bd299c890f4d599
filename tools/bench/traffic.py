"""The records of a measurement: uploads of assignments, and requests for them, one by one or at a steady rate."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from processors.kafka.bounded_wait import wait_until
from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record, coordinates_of
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.events import ROLES, CJAssessmentRequested, UploadEvent, scope_key_of
from tools.bench.events import request_for, upload_of
from tools.bench.processes import WAIT_S

READY = "bench-ready"  # the assignment of ordinary requests; its context is complete
TICK_S = 0.002
Appended = dict[Coordinates, int]  # append times by the broker's clock, in ms


class Sender:
    """Appends uploads and requests and waits until they are delivered; for one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._topics = settings.topics
        self._producer = plain_producer(settings, **{"linger.ms": 0})
        self._codec = codec_for(settings)

    def upload(self, role: str, assignment_id: str) -> int:
        """Append an upload for an assignment; returns its append time in ms."""
        event = upload_of(role, assignment_id)
        topic = self._topics.uploads[ROLES.index(role)].name
        (appended_ms,) = self._append([self._record(topic, scope_key_of(event), event)]).values()
        return appended_ms

    def request(self, assignment_ids: Iterable[str]) -> Appended:
        """Append a request for each of these assignment ids; repeated ids give repeated requests."""
        topic = self._topics.requests.name
        events = map(request_for, assignment_ids)
        return self._append(self._record(topic, event.batch_id, event) for event in events)

    def _record(self, topic: str, key: str, event: UploadEvent | CJAssessmentRequested) -> Record:
        by_key = -1
        return Record(topic, by_key, key.encode(), self._codec.encode(event))

    def _append(self, records: Iterable[Record]) -> Appended:
        delivered = deliver(self._producer, records)
        return {coordinates_of(message): message.timestamp()[1] for message in delivered}


@contextmanager
def in_the_background(work: Callable[[threading.Event], None]) -> Iterator[Callable[[], None]]:
    """Run `work` in a thread, set its event after the block; yields a function that raises the thread's exception."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(work, stop)

        def check() -> None:
            if future.done():
                future.result()

        try:
            yield check
        finally:
            stop.set()
    check()


@dataclass(frozen=True, slots=True)
class Steady:
    """Requests sent at a steady rate, and those appended so far."""

    rate: float  # requests per second
    appended: Appended = field(default_factory=dict)

    def send(self, sender: Sender, stop: threading.Event) -> None:
        """Send until `stop` is set; requests that are late because the machine was busy are sent at once."""
        start, sent = time.monotonic(), 0
        while not stop.wait(TICK_S):
            due = int((time.monotonic() - start) * self.rate) - sent
            if due:
                self.appended.update(sender.request([READY] * due))
                sent += due

    def snapshot(self) -> Appended:
        """A copy of the requests appended so far."""
        return self.appended.copy()

    def wait_for_requests(self, seconds: float) -> None:
        """Wait until the requests of that many more seconds have been appended."""
        target = len(self.appended) + max(1, round(seconds * self.rate))
        wait_until(
            lambda: len(self.appended) >= target,
            seconds=seconds + WAIT_S,
            what="requests to be appended",
        )


@contextmanager
def steady_requests(settings: Settings, rate: float) -> Iterator[Steady]:
    """Send `rate` requests per second for the ready assignment during the block, without waiting for outcomes."""
    steady, sender = Steady(rate), Sender(settings)
    with in_the_background(lambda stop: steady.send(sender, stop)):
        yield steady
