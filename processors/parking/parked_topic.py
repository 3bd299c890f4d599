"""The side door: requests that outran their context wait in the parked topic, and leave it when they are due.

The topic is the state: what is parked and what was released is learned by reading it, here as at a takeover. A
request's own bytes are not held in memory; they are read again when it is released.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.offsets import log_start
from processors.kafka.records import Headers, Record, headers_of, is_record
from processors.outcomes.request_scan import scan_request
from processors.outcomes.resolve import Unresolved
from processors.parking.parked_requests import ParkedEntry, ParkedIndex
from processors.policy import Policy
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions, coordinates_from
from schemas.errors import BadRecord, Discrepancy
from schemas.events import AssignmentContext, CJAssessmentRequested, ParkedRequest
from tables.changed_scopes import ChangedScopes

log = logging.getLogger("cjstream.parking")
RECORDS = 5000
ANSWER_S = 10.0
TAKEOVER_S = 5.0  # asked again after serving the group: another's open transaction may take longer
POLL_S = 0.05
WAITING_S = 0.01
IDLE_S = 1.0
GAP = 1000  # entries between two wanted ones that are read over rather than sought over
RELEASE_BYTES = 32 * 1024 * 1024  # of bodies held at once
CLOCK_KEY = (
    b"clock"  # a tombstone that was never an entry: its append time tells the broker's clock
)


class DueRequest(NamedTuple):
    """A parked request with its body, to be answered now."""

    waiting: ParkedEntry
    parked: ParkedRequest
    headers: Headers


class ParkedTopic:
    """The parked topic as the fetching thread reads it; the partitions are those of the requests."""

    def __init__(
        self,
        topic: str,
        codec: Codec,
        policy: Policy,
        context_of: Callable[[str], AssignmentContext | None],
        arrivals: ChangedScopes,
        clock: BrokerClock,
        high_watermarks: Callable[[Sequence[Partition]], Positions],
        new_reader: Callable[[], Consumer],
        machine: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._topic = topic
        self._codec = codec
        self._policy = policy
        self._context_of = context_of
        self._changed_scopes = arrivals
        self._clock = clock
        self._high_watermarks = high_watermarks
        self._new_reader = new_reader
        self._machine = machine
        self._tail: Consumer | None = None
        self._bodies: Consumer | None = None
        self._requests = ParkedIndex()
        self._positions: dict[int, int] = {}
        self._clock_wanted = False

    @property
    def wait_s(self) -> float:
        """How long a fetch may take without keeping those waiting whose context arrives meanwhile."""
        if self._requests.any_due:
            return 0
        return WAITING_S if self._requests else IDLE_S

    def partition(self, number: int) -> Partition:
        """The parked topic's partition of that number."""
        return Partition(self._topic, number)

    def take_over(self, committed: Mapping[int, int]) -> bool:
        """Own just these partitions, read from their committed offsets to their high watermarks.

        False where that took too long: call it again. Every batch prepared before is taken to be dropped.
        Raises Discrepancy where an entry cannot be read, Unreachable where no broker answers.
        """
        tail = self._tail = self._tail or self._new_reader()
        self._forget(tail, self._positions.keys() - committed.keys())
        starts = {
            one: max(offset, log_start(tail, self.partition(one)))
            for one, offset in committed.items()
            if one not in self._positions
        }
        tail.incremental_assign(
            [TopicPartition(self._topic, one, start) for one, start in starts.items()]
        )
        self._positions.update(starts)
        # the high watermarks: a marker of the offsets' transaction may be still on its way here
        ends = self._high_watermarks([self.partition(one) for one in committed])
        until = self._machine.monotonic() + TAKEOVER_S
        while any(self._positions[at.partition] < end for at, end in ends.items()):
            if self._machine.monotonic() > until:
                log.warning("parked requests are not read yet (an open transaction?)")
                return False
            self._read(tail, POLL_S)
        self._requests.requeue()
        self._clock_wanted = bool(self._requests)
        return True

    def _forget(self, tail: Consumer, partitions: Collection[int]) -> None:
        if partitions:
            tail.incremental_unassign([TopicPartition(self._topic, one) for one in partitions])
        self._requests.forget(partitions)
        for one in list(partitions):
            del self._positions[one]

    def advance(self) -> None:
        """Learn what was parked and released, and whose context has become complete. Never waits."""
        if self._tail is None or not self._positions:
            return
        self._read(self._tail, 0)
        for scope_key in self._changed_scopes.drain():
            self._requests.arrived(scope_key, self._is_complete)

    def _read(self, tail: Consumer, wait_s: float) -> None:
        first = tail.poll(wait_s)
        for message in () if first is None else (first, *tail.consume(RECORDS, 0)):
            if is_record(message):
                self._learn(message)
        asked = tail.position([TopicPartition(self._topic, one) for one in self._positions])
        self._positions.update({at.partition: at.offset for at in asked if at.offset >= 0})

    def _learn(self, message: Message) -> None:
        self._clock.observe(message.timestamp()[1])
        key, partition = message.key() or b"", message.partition() or 0
        if key == CLOCK_KEY:
            return
        if message.value() is None:
            self._requests.release(coordinates_from(key.decode()))
            return
        waiting = self._waiting(message, partition)
        # itself alone: those that waited before it are asked when an upload arrives, a crowd of them once
        self._requests.park(waiting, is_complete=self._is_complete(waiting))

    def _waiting(self, message: Message, partition: int) -> ParkedEntry:
        try:
            parked = self._codec.decode_as(ParkedRequest, message.value())
            version = self._codec.version_of(CJAssessmentRequested, parked.request)
            request = scan_request(parked.request, version) or self._codec.decode_as(
                CJAssessmentRequested, parked.request
            )
        except BadRecord as fault:
            raise Discrepancy(
                f"{self._topic}/{partition}@{message.offset()} is not a parked request ({fault}): deploy the "
                "release that wrote it, or find the producer that should not write there"
            ) from fault
        return ParkedEntry(
            request_at=parked.request_at,
            parked_offset=message.offset() or 0,
            scope_key=parked.scope_key,
            brings_prompt=request.student_prompt_ref is not None,
            deadline_at_ms=parked.deadline_at_ms,
        )

    def _is_complete(self, one: ParkedEntry) -> bool:
        context = self._context_of(one.scope_key)
        return not self._policy.missing_from(context, brings_prompt=one.brings_prompt)

    def entry(
        self, message: Message, at: Coordinates, resolution: Unresolved[AssignmentContext]
    ) -> Record:
        """The record that parks a fetched request: its own bytes, key and headers, and until when."""
        appended_at_ms = message.timestamp()[1]
        parked = ParkedRequest(
            request_at=at,
            scope_key=resolution.scope_key,
            missing=resolution.missing,
            appended_at_ms=appended_at_ms,
            deadline_at_ms=self._policy.deadline_ms(appended_at_ms),
            request_key=message.key(),
            request=message.value() or b"",
        )
        key, value = str(at).encode(), self._codec.encode(parked)
        return Record(self._topic, at.partition, key, value, headers_of(message))

    def tombstone(self, at: Coordinates) -> Record:
        """The record that says: this parked request has its outcome."""
        return Record(self._topic, at.partition, str(at).encode(), None)

    def due(self, most: int) -> list[DueRequest]:
        """TopicPartition most so many of the requests that are due, with their bodies; fewer where those are large."""
        ones = self._requests.take(self._clock.now_ms, most)
        if not ones:
            return []
        reader = self._bodies = self._bodies or self._new_reader()
        by_offset = {(one.request_at.partition, one.parked_offset): one for one in ones}
        released = list(self._read_bodies(reader, by_offset))
        self._requests.requeue(by_offset.values())  # those that were not reached
        return released

    def _read_bodies(
        self, reader: Consumer, wanted: dict[tuple[int, int], ParkedEntry]
    ) -> Iterator[DueRequest]:
        """The bodies of the wanted entries, which are taken out of `wanted`."""
        held = 0
        for partition, first, last in _runs(wanted):
            reader.assign([TopicPartition(self._topic, partition, first)])
            until = self._machine.monotonic() + ANSWER_S
            reached = first
            while reached <= last and held < RELEASE_BYTES and self._machine.monotonic() < until:
                message = reader.poll(POLL_S)
                if message is None or not is_record(message):
                    continue
                reached = (message.offset() or 0) + 1
                one = wanted.pop((partition, reached - 1), None)
                if one is not None:
                    held += len(message.value() or b"")
                    parked = self._codec.decode_as(ParkedRequest, message.value())
                    yield DueRequest(one, parked, headers_of(message))
            if gone := [at for at in wanted if first <= at[1] < reached and at[0] == partition]:
                raise Discrepancy(
                    f"{self._topic}/{partition}@{gone[0][1]} waits for its release and is not in the log any more"
                )
        reader.unassign()

    def keep_waiting(self, ones: Iterable[ParkedEntry]) -> None:
        """These are not complete after all: they wait on."""
        self._requests.keep_waiting(ones)

    def clock_record(self) -> Record | None:
        """After a takeover with requests that wait, a record whose append time tells the broker's time."""
        if not self._clock_wanted:
            return None
        self._clock_wanted = False
        return Record(self._topic, min(self._requests.partitions, default=0), CLOCK_KEY, None)

    def offsets(self, partitions: Iterable[int]) -> Positions:
        """What to commit for these partitions: the oldest entry that waits, else how far was read."""
        return {
            self.partition(one): self._position(self._requests.oldest(one), one)
            for one in partitions
        }

    def _position(self, oldest: int | None, partition: int) -> int:
        return self._positions[partition] if oldest is None else oldest

    def close(self) -> None:
        """Let go of the readers."""
        for consumer in (self._tail, self._bodies):
            if consumer is not None:
                consumer.close()


def _runs(wanted: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Partition, first and last offset of what is best read in one go."""
    runs = list[tuple[int, int, int]]()
    for partition, offset in sorted(wanted):
        if runs and runs[-1][0] == partition and offset - runs[-1][2] <= GAP:
            runs[-1] = (partition, runs[-1][1], offset)
        else:
            runs.append((partition, offset, offset))
    return runs
