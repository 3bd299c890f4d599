"""What a measurement appends: uploads of assignments, and requests that name them, one by one or at a steady rate."""

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
from schemas.events import CJAssessmentRequested, UploadEvent, scope_key_of
from tools.bench.events import instructions_of, prompt_of, request_for
from tools.bench.installation import WAIT_S

READY = "bench-ready"  # the assignment that ordinary requests name
TICK_S = 0.002
Appended = dict[Coordinates, int]  # when by the broker's clock, ms


class Sender:
    """Appends uploads and requests and waits for the broker's word. One thread at a time calls it."""

    def __init__(self, settings: Settings) -> None:
        self._topics = settings.topics
        self._producer = plain_producer(settings, **{"linger.ms": 0})
        self._codec = codec_for(settings)

    def instruct(self, assignment_ids: Iterable[str]) -> None:
        """Give assignments their instructions."""
        topic = self._topics.instructions.name
        events = map(instructions_of, assignment_ids)
        self._append(self._record(topic, scope_key_of(event), event) for event in events)

    def complete(self, assignment_id: str) -> int:
        """Give an assignment its student prompt; when that was appended."""
        event = prompt_of(assignment_id)
        record = self._record(self._topics.student_prompts.name, scope_key_of(event), event)
        (appended_ms,) = self._append([record]).values()
        return appended_ms

    def request(self, assignment_ids: Iterable[str]) -> Appended:
        """Ask for a batch of each of these assignments, once for each time that it is named."""
        topic = self._topics.requests.name
        events = map(request_for, assignment_ids)
        return self._append(self._record(topic, event.batch_id, event) for event in events)

    def _record(self, topic: str, key: str, event: UploadEvent | CJAssessmentRequested) -> Record:
        by_its_key = -1
        return Record(topic, by_its_key, key.encode(), self._codec.encode(event))

    def _append(self, records: Iterable[Record]) -> Appended:
        delivered = deliver(self._producer, records)
        return {coordinates_of(one): one.timestamp()[1] for one in delivered}


@contextmanager
def in_the_background(work: Callable[[threading.Event], None]) -> Iterator[Callable[[], None]]:
    """Run work in a thread; its event is set when the block is left. Gives what raises its fault, if it has one."""
    ending = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        under_way = thread.submit(work, ending)

        def check() -> None:
            if under_way.done():
                under_way.result()

        try:
            yield check
        finally:
            ending.set()
    check()


@dataclass(frozen=True, slots=True)
class Steady:
    """Requests at a steady rate: those that have been appended so far."""

    rate: float  # a second
    appended: Appended = field(default_factory=dict)

    def send(self, sender: Sender, ending: threading.Event) -> None:
        """Go on sending; what is late, because the machine was busy, is sent at once."""
        begun, sent = time.monotonic(), 0
        while not ending.wait(TICK_S):
            due = int((time.monotonic() - begun) * self.rate) - sent
            if due:
                self.appended.update(sender.request([READY] * due))
                sent += due

    def so_far(self) -> Appended:
        """A copy, which does not grow."""
        return self.appended.copy()

    def go_on(self, seconds: float) -> None:
        """Return when the requests of that many more seconds have been appended."""
        enough = len(self.appended) + max(1, round(seconds * self.rate))
        wait_until(
            lambda: len(self.appended) >= enough,
            seconds=seconds + WAIT_S,
            what="the broker to take requests",
        )


@contextmanager
def steady_requests(settings: Settings, rate: float) -> Iterator[Steady]:
    """Requests for the ready assignment, so many a second, whatever becomes of them, until the block is left."""
    steady, sender = Steady(rate), Sender(settings)
    with in_the_background(lambda ending: steady.send(sender, ending)):
        yield steady
