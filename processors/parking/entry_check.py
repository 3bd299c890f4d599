"""Checks parked requests before they are released: the request log has them, and no outcome stands.

An entry is only a hint: whoever may write to the parked topic can forge one. What is released are the bytes of the
request log.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from processors.kafka.bounded_wait import Clock
from processors.kafka.offsets import log_start
from processors.kafka.poll import poll_records, read_positions
from processors.kafka.records import append_time_of, broker_time_of, coordinates_of
from processors.log.record_lookup import runs_of
from processors.parking.open_requests import OpenRequests, RequestState
from processors.parking.outcome_scan import OutcomeScan
from processors.parking.parked_index import ParkedEntry
from processors.parking.parked_record import true_entry
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.topics import Topics

log = logging.getLogger("cjstream.parking")
READ_REQUESTS_S = 2.0  # then fetched requests are served, and the rest is read later
MAX_POLLED_RECORDS = 100
POLL_S = 0.05
SCAN_STEP_S = 0.1
SLOW_SCAN_S = 30.0
MAX_BODIES_BYTES = 32 * 1024 * 1024  # of bodies in memory at once
NOT_IN_LOG = "its request is not in the log"
DAY_MS = 24 * 60 * 60 * 1000


class DueRequest(NamedTuple):
    """A parked request that is due, and its record in the request log."""

    entry: ParkedEntry
    request: Message


@dataclass(slots=True)
class Checked:
    """The result of a check: what is due, what waits for something else, what does not count, and why."""

    due: list[DueRequest] = field(default_factory=list)
    corrected: list[tuple[ParkedEntry, ParkedEntry]] = field(default_factory=list)  # before, after
    refused: list[tuple[Coordinates, str]] = field(default_factory=list)  # requests


class EntryCheck:
    """Checks due entries. Only the fetch thread calls it."""

    def __init__(
        self,
        topics: Topics,
        codec: Codec,
        open_requests: OpenRequests,
        deadline_ms: Callable[[Message], int],
        high_watermarks: Callable[[Sequence[Partition]], Positions],
        new_reader: Callable[[], Consumer],
        clock: Clock,
    ) -> None:
        self._topics = topics
        self._codec = codec
        self._open = open_requests
        self._deadline_ms = deadline_ms
        self._high_watermarks = high_watermarks
        self._new_reader = new_reader
        self._clock = clock
        self._reader: Consumer | None = None
        self._scan: OutcomeScan | None = None
        self._scan_reader: Consumer | None = None
        self._scan_began_at = 0.0

    def begin(self) -> None:
        """Forget what was read of the outcomes."""
        self._scan = None

    def check(
        self,
        entries: Sequence[ParkedEntry],
        requests_from: Callable[[Coordinates], Iterable[Coordinates]],
        now_ms: int,
    ) -> Checked:
        """Check due entries; those that are in no list of the result must be checked again later.

        requests_from: the parked requests of a partition with the same or a higher offset. Raises Discrepancy,
        Unreachable, KafkaException.
        """
        checked = Checked()
        self._read_outcomes(checked)
        readable = []
        for entry in entries:
            at = entry.request_at
            state = self._open.state_of(at)
            if state in (RequestState.ANSWERED, RequestState.NOT_PARKED):
                checked.refused.append((at, state.value))
            elif state is RequestState.OPEN or self._scan is None:
                readable.append(entry)
        unknown = []
        for entry, request in self._read_requests(readable, checked):
            if self._open.state_of(entry.request_at) is RequestState.UNKNOWN:
                unknown.append(request)
                continue
            corrected = true_entry(
                entry,
                request.key(),
                request.value(),
                broker_time_of(request),
                self._deadline_ms(request),
                self._codec,
            )
            if corrected == entry:
                checked.due.append(DueRequest(entry, request))
            else:
                checked.corrected.append((entry, corrected))
        if unknown:
            self._begin_scan(unknown, requests_from, now_ms)
        return checked

    def _begin_scan(
        self,
        requests: Sequence[Message],
        requests_from: Callable[[Coordinates], Iterable[Coordinates]],
        now_ms: int,
    ) -> None:
        """Read the outcomes since the oldest of these requests; at first only since a day, if there are newer ones."""
        recent = [one for one in requests if append_time_of(one) > now_ms - DAY_MS]
        oldest = dict[int, Message]()
        for request in sorted(recent or requests, key=coordinates_of, reverse=True):
            oldest[request.partition() or 0] = request
        wanted = {
            number: {
                at.offset
                for at in requests_from(coordinates_of(request))
                if self._open.state_of(at) is RequestState.UNKNOWN
            }
            for number, request in oldest.items()
        }
        since_ms = {number: broker_time_of(request) for number, request in oldest.items()}
        reader = self._scan_reader = self._scan_reader or self._new_reader()
        self._scan = OutcomeScan(reader, self._topics, wanted, since_ms, self._high_watermarks)
        self._scan_began_at = self._clock.monotonic()

    def _read_outcomes(self, checked: Checked) -> None:
        scan = self._scan
        if scan is None:
            return
        until = self._clock.monotonic() + SCAN_STEP_S
        if scan.is_finished(lambda: self._clock.monotonic() < until):
            self._scan = None
            self._open.learn(scan.wanted, scan.answered)
            checked.refused += [(at, RequestState.ANSWERED.value) for at in sorted(scan.answered)]
        elif self._clock.monotonic() > self._scan_began_at + SLOW_SCAN_S:
            self._scan_began_at = self._clock.monotonic()
            log.warning("parked requests wait until the outcomes are read (an open transaction?)")

    def _read_requests(
        self, entries: Sequence[ParkedEntry], checked: Checked
    ) -> Iterable[tuple[ParkedEntry, Message]]:
        """The entries with the records of their requests; fewer if these are large or slow to read."""
        if not entries:
            return
        reader = self._reader = self._reader or self._new_reader()
        wanted = {entry.request_at: entry for entry in entries}
        read_bytes, until = 0, self._clock.monotonic() + READ_REQUESTS_S
        for partition, first, last in runs_of(wanted):
            start = position = max(first, log_start(reader, partition))
            reader.assign([TopicPartition(*partition, start)])
            while (
                position <= last
                and read_bytes < MAX_BODIES_BYTES
                and self._clock.monotonic() < until
            ):
                messages = poll_records(reader, MAX_POLLED_RECORDS, POLL_S)
                for message in messages:
                    position = (message.offset() or 0) + 1
                    entry = wanted.pop(coordinates_of(message), None)
                    if entry is not None:
                        read_bytes += len(message.value() or b"")
                        yield entry, message
                if not messages:  # markers and aborted records move the position only
                    position = max(
                        position, read_positions(reader, [partition]).get(partition, position)
                    )
            for at in [at for at in wanted if Partition(at.topic, at.partition) == partition]:
                if first <= at.offset < position:
                    checked.refused.append((at, NOT_IN_LOG))
                    del wanted[at]
        reader.unassign()

    def close(self) -> None:
        """Close the readers."""
        for consumer in (self._reader, self._scan_reader):
            if consumer is not None:
                consumer.close()
