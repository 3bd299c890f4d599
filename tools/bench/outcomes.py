"""What came of a measurement's requests, and when."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from processors.kafka.bounded_wait import wait_until
from processors.kafka.partitions import partitions_of
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord, Discrepancy
from schemas.events import CJBatchPrepared
from tools.bench.events import now_ms
from tools.bench.installation import WAIT_S
from tools.bench.traffic import READY, Sender, in_the_background

WARM_UP = 20  # requests


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """When a request was appended, when its outcome, and when a reader of committed records had that; ms."""

    appended_ms: int
    answered_ms: int
    seen_ms: int

    @property
    def latency_ms(self) -> int:
        """How long one who reads committed outcomes waited for this one."""
        return self.seen_ms - self.appended_ms

    def is_within(self, begun_ms: int, ended_ms: int) -> bool:
        """Whether any of its waiting fell into that time."""
        return self.appended_ms <= ended_ms and self.seen_ms >= begun_ms


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcomes so far: when each was appended and when it was read, by its request."""

    times: dict[Coordinates, tuple[int, int]]
    check: Callable[[], None]  # raises what ended the reading

    def wait_for(self, requests: Iterable[Coordinates], what: str = "outcomes") -> None:
        """Wait for the outcome of each of these requests. Raises Unreachable, Discrepancy."""
        left = set(requests)

        def are_there() -> bool:
            self.check()
            left.difference_update([one for one in left if one in self.times])
            return not left

        wait_until(are_there, seconds=WAIT_S, what=what, every_s=0.02)

    def answers(self, requests: Mapping[Coordinates, int]) -> dict[Coordinates, AnsweredRequest]:
        """Those of the requests, with their append times, that have an outcome."""
        return {
            at: AnsweredRequest(appended_ms, *self.times[at])
            for at, appended_ms in requests.items()
            if at in self.times
        }


@contextmanager
def outcomes_of(settings: Settings) -> Iterator[Outcomes]:
    """The installation's outcomes, read as they are committed until the block is left.

    Anything but one prepared batch for each request is a Discrepancy.
    """
    times: dict[Coordinates, tuple[int, int]] = {}
    with in_the_background(lambda ending: _read(settings, times, ending)) as check:
        yield Outcomes(times, check)


def _read(
    settings: Settings, times: dict[Coordinates, tuple[int, int]], ending: threading.Event
) -> None:
    codec = codec_for(settings)
    partitions = partitions_of((topic.name for topic in settings.topics.outcomes), settings)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))
        while not ending.is_set():
            found = log.read()
            seen_ms = now_ms()
            for record in found:
                request_at = _request_of(record, codec)
                if request_at in times:
                    raise Discrepancy(f"{record.at}: a second outcome of {request_at}")
                times[request_at] = record.appended_at_ms, seen_ms


def _request_of(record: LogRecord, codec: Codec) -> Coordinates:
    try:
        return codec.decode_as(CJBatchPrepared, record.value).provenance.request
    except BadRecord as fault:
        raise Discrepancy(f"{record.at} is no prepared batch ({fault})") from fault


def warm_up(sender: Sender, outcomes: Outcomes) -> None:
    """Make the ready assignment, and wait until requests for it are answered: a worker has to run."""
    sender.instruct([READY])
    sender.complete(READY)
    outcomes.wait_for(sender.request([READY] * WARM_UP), "a worker to answer")


def wait_until_parked(settings: Settings, requests: Iterable[Coordinates]) -> None:
    """Wait until each of these requests has been parked. Raises Unreachable."""
    left = {str(one).encode() for one in requests}
    partitions = partitions_of([settings.topics.parked.name], settings)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))

        def are_parked() -> bool:
            left.difference_update({one.key or b"" for one in log.read() if one.value is not None})
            return not left

        wait_until(are_parked, seconds=WAIT_S, what="requests to be parked")
