"""The outcomes of a measurement's requests, with their times."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from processors.kafka.bounded_wait import wait_until
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord, Discrepancy
from schemas.events import CJBatchPrepared
from tools.bench.events import now_ms
from tools.bench.processes import WAIT_S
from tools.bench.traffic import READY, Sender, in_the_background

WARM_UP = 20  # requests


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """Times of a request in ms: its append, the append of its outcome, and when a committed reader had the outcome."""

    appended_ms: int
    answered_ms: int
    seen_ms: int

    @property
    def latency_ms(self) -> int:
        """The time from the append until a reader of committed records had the outcome."""
        return self.seen_ms - self.appended_ms

    def is_within(self, start_ms: int, end_ms: int) -> bool:
        """Whether the request was waiting at any time in that window."""
        return self.appended_ms <= end_ms and self.seen_ms >= start_ms


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcomes so far: when each was appended and when it was read, in ms, by the coordinates of its request."""

    times: dict[Coordinates, tuple[int, int]]
    check: Callable[[], None]  # raises the exception that ended the reading thread

    def wait_for(self, requests: Iterable[Coordinates], what: str = "outcomes") -> None:
        """Wait for the outcome of each of these requests. Raises Unreachable, Discrepancy."""
        missing = set(requests)

        def all_seen() -> bool:
            self.check()
            missing.difference_update([request for request in missing if request in self.times])
            return not missing

        wait_until(all_seen, seconds=WAIT_S, what=what, every_s=0.02)

    def answered(self, requests: Mapping[Coordinates, int]) -> dict[Coordinates, AnsweredRequest]:
        """The times of those requests, passed with their append times, that have an outcome."""
        return {
            at: AnsweredRequest(appended_ms, *self.times[at])
            for at, appended_ms in requests.items()
            if at in self.times
        }


@contextmanager
def reading_outcomes(settings: Settings) -> Iterator[Outcomes]:
    """The installation's outcomes, read as they are committed until the end of the block.

    An outcome that is not a prepared batch, or a second one of a request, is a Discrepancy.
    """
    times: dict[Coordinates, tuple[int, int]] = {}
    with in_the_background(lambda stop: _read(settings, times, stop)) as check:
        yield Outcomes(times, check)


def _read(
    settings: Settings, times: dict[Coordinates, tuple[int, int]], stop: threading.Event
) -> None:
    codec = codec_for(settings)
    partitions = settings.partitions_of(*settings.topics.outcomes)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))
        while not stop.is_set():
            records = log.read()
            seen_ms = now_ms()
            for record in records:
                request_at = _request_of(record, codec)
                if request_at in times:
                    raise Discrepancy(f"{record.at}: a second outcome of request {request_at}")
                times[request_at] = record.appended_at_ms, seen_ms


def _request_of(record: LogRecord, codec: Codec) -> Coordinates:
    try:
        return codec.decode_as(CJBatchPrepared, record.value).provenance.request
    except BadRecord as fault:
        raise Discrepancy(f"{record.at} is not a prepared batch ({fault})") from fault


def warm_up(sender: Sender, outcomes: Outcomes) -> None:
    """Upload the ready assignment and wait for outcomes of requests for it; a worker must be running."""
    for role in ("instructions", "student_prompt"):
        sender.upload(role, READY)
    outcomes.wait_for(sender.request([READY] * WARM_UP), "a worker to process requests")


def wait_until_parked(settings: Settings, requests: Iterable[Coordinates]) -> None:
    """Wait until each of these requests is in the parked topic. Raises Unreachable."""
    missing = {str(request).encode() for request in requests}
    partitions = settings.partitions_of(settings.topics.parked)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))

        def all_parked() -> bool:
            missing.difference_update(
                {record.key or b"" for record in log.read() if record.value is not None}
            )
            return not missing

        wait_until(all_parked, seconds=WAIT_S, what="requests to be parked")
