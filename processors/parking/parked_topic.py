"""The parked topic: requests that arrive before their context wait in it until they are due.

The topic is the state: which requests are parked and released is known from reading it, during normal work and at
a takeover. Request bodies are not kept in memory; they are read again at release.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.offsets import log_start
from processors.kafka.poll import poll_records, read_positions
from processors.kafka.records import (
    Headers,
    Record,
    append_time_of,
    broker_time_of,
    coordinates_of,
    headers_of,
)
from processors.log.record_lookup import runs_of
from processors.outcomes.request_scan import scan_request
from processors.outcomes.resolve import Unresolved
from processors.parking.parked_index import ParkedEntry, ParkedIndex
from processors.policy import Policy
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions, coordinates_from
from schemas.dead_letters import OUTCOME_REFUSED
from schemas.errors import BadRecord, Discrepancy, Malformed
from schemas.events import AssignmentContext, CJAssessmentRequested, ParkedRequest
from schemas.topics import MAX_OUTCOME_BYTES
from tables.changed_scopes import ChangedScopes

log = logging.getLogger("cjstream.parking")
MAX_POLLED_RECORDS = 5000
READ_BODIES_S = 10.0
TAKEOVER_S = 5.0  # then the group is served and the takeover repeated: an open transaction may last
POLL_S = 0.05
FETCH_WAIT_WHILE_PARKED_S = 0.01
FETCH_WAIT_S = 1.0
MAX_BODIES_BYTES = 32 * 1024 * 1024  # of bodies in memory at once
CLOCK_KEY = b"clock"  # key of a tombstone without an entry: its append time is the broker's time


class DueRequest(NamedTuple):
    """A parked request that is due, with its body."""

    entry: ParkedEntry
    parked: ParkedRequest
    headers: Headers


class ParkedTopic:
    """The parked topic as the fetch thread reads it; it is partitioned like the request topic."""

    def __init__(
        self,
        topic: str,
        codec: Codec,
        policy: Policy,
        context_of: Callable[[str], AssignmentContext | None],
        changed_scopes: ChangedScopes,
        high_watermarks: Callable[[Sequence[Partition]], Positions],
        new_reader: Callable[[], Consumer],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._topic = topic
        self._codec = codec
        self._policy = policy
        self._context_of = context_of
        self._changed_scopes = changed_scopes
        self.broker_clock = BrokerClock(clock.monotonic)
        self._high_watermarks = high_watermarks
        self._new_reader = new_reader
        self._clock = clock
        self._entry_reader: Consumer | None = None
        self._body_reader: Consumer | None = None
        self._index = ParkedIndex()
        self._positions: dict[Partition, int] = {}
        self._clock_record_wanted = False

    @property
    def max_wait_s(self) -> float:
        """How long a fetch may wait without delaying parked requests whose context becomes complete."""
        if self._index.any_due:
            return 0
        return FETCH_WAIT_WHILE_PARKED_S if self._index else FETCH_WAIT_S

    def take_over(self, committed: Positions) -> bool:
        """Own exactly these partitions, and read them from their committed offsets to their high watermarks.

        Returns False if this takes too long: call it again. It assumes that every batch prepared before is dropped.
        Raises Discrepancy if an entry cannot be read, Unreachable if no broker answers.
        """
        reader = self._entry_reader = self._entry_reader or self._new_reader()
        self._give_up(reader, self._positions.keys() - committed.keys())
        starts = {
            tp: max(offset, log_start(reader, tp))
            for tp, offset in committed.items()
            if tp not in self._positions
        }
        reader.incremental_assign([TopicPartition(*tp, start) for tp, start in starts.items()])
        self._positions.update(starts)
        # not the last stable offsets: the transaction that committed the offsets may lack its marker here
        ends = self._high_watermarks([*committed])
        until = self._clock.monotonic() + TAKEOVER_S
        while any(self._positions[tp] < end for tp, end in ends.items()):
            if self._clock.monotonic() > until:
                log.warning("takeover of parked requests takes long (is a transaction open?)")
                return False
            self._read(reader, POLL_S)
        self._index.requeue()
        self._clock_record_wanted = bool(self._index)
        return True

    def _give_up(self, reader: Consumer, partitions: Collection[Partition]) -> None:
        if partitions:
            reader.incremental_unassign([TopicPartition(*tp) for tp in partitions])
        self._index.remove_partitions(tp.partition for tp in partitions)
        for tp in list(partitions):
            del self._positions[tp]

    def advance(self) -> None:
        """Read which requests were parked and released, and find those whose context is now complete. Never waits."""
        if self._entry_reader is None or not self._positions:
            return
        self._read(self._entry_reader, 0)
        for scope_key in self._changed_scopes.drain():
            self._index.context_changed(scope_key, self._is_complete)

    def _read(self, reader: Consumer, wait_s: float) -> None:
        for message in poll_records(reader, MAX_POLLED_RECORDS, wait_s):
            self._apply(message)
        self._positions.update(read_positions(reader, self._positions))

    def _apply(self, message: Message) -> None:
        self.broker_clock.observe(broker_time_of(message))
        key, number = message.key() or b"", message.partition() or 0
        if key == CLOCK_KEY:
            return
        if message.value() is None:
            self._index.remove(coordinates_from(key.decode()))
            return
        entry = self._entry_from(message, number)
        # check this entry only: older ones of the scope are checked when an upload changes it, all at once
        self._index.park(entry, is_complete=self._is_complete(entry))

    def _entry_from(self, message: Message, number: int) -> ParkedEntry:
        try:
            parked = self._codec.decode_as(ParkedRequest, message.value())
            version = self._codec.version_of(CJAssessmentRequested, parked.request)
            request = scan_request(parked.request, version) or self._codec.decode_as(
                CJAssessmentRequested, parked.request
            )
        except BadRecord as fault:
            raise Discrepancy(
                f"{self._topic}/{number}@{message.offset()} is not a parked request ({fault}): deploy the "
                "release that wrote it, or find the producer that should not write to this topic"
            ) from fault
        return ParkedEntry(
            request_at=parked.request_at,
            parked_offset=message.offset() or 0,
            scope_key=parked.scope_key,
            brings_prompt=request.student_prompt_ref is not None,
            deadline_at_ms=parked.deadline_at_ms,
        )

    def _is_complete(self, entry: ParkedEntry) -> bool:
        context = self._context_of(entry.scope_key)
        return not self._policy.missing_from(context, brings_prompt=entry.brings_prompt)

    def entry_record(
        self, message: Message, at: Coordinates, resolution: Unresolved[AssignmentContext]
    ) -> Record:
        """The record that parks a fetched request: the request's own bytes, key and headers, and its deadline.

        Raises Malformed if no broker can accept it, which would abort its batch.
        """
        parked = ParkedRequest(
            request_at=at,
            scope_key=resolution.scope_key,
            missing=resolution.missing,
            appended_at_ms=append_time_of(message),
            deadline_at_ms=self.deadline_ms(message),
            request_key=message.key(),
            request=message.value() or b"",
        )
        key, value, headers = str(at).encode(), self._codec.encode(parked), headers_of(message)
        if len(value) + sum(len(content or b"") for _, content in headers) > MAX_OUTCOME_BYTES:
            raise Malformed(OUTCOME_REFUSED)
        return Record(self._topic, at.partition, key, value, headers)

    def deadline_ms(self, message: Message) -> int:
        """The deadline of a request; if its producer set its time, a time in the future counts as now."""
        return self._policy.deadline_ms(min(append_time_of(message), self.broker_clock.now_ms))

    def tombstone(self, at: Coordinates) -> Record:
        """The record that removes the entry of a parked request, which has its outcome."""
        return Record(self._topic, at.partition, str(at).encode(), None)

    def due(self, limit: int, must_wait: Callable[[str], bool]) -> list[DueRequest]:
        """Up to `limit` due requests with their bodies; fewer if the bodies are large or slow to read.

        must_wait: whether requests of a scope must wait longer, even beyond their deadline.
        """
        taken = self._index.take_due(self.broker_clock.now_ms, limit)
        self.hold([entry for entry in taken if must_wait(entry.scope_key)])
        entries = [entry for entry in taken if not must_wait(entry.scope_key)]
        if not entries:
            return []
        reader = self._body_reader = self._body_reader or self._new_reader()
        wanted = {
            Coordinates(self._topic, entry.request_at.partition, entry.parked_offset): entry
            for entry in entries
        }
        due_requests = list(self._read_bodies(reader, wanted))
        self._index.requeue(wanted.values())  # those that were not read
        return due_requests

    def _read_bodies(
        self, reader: Consumer, wanted: dict[Coordinates, ParkedEntry]
    ) -> Iterator[DueRequest]:
        """The wanted entries with their bodies; each one that is read is removed from `wanted`."""
        read_bytes = 0
        for partition, first, last in runs_of(wanted):
            reader.assign([TopicPartition(*partition, first)])
            until = self._clock.monotonic() + READ_BODIES_S
            position = first
            while (
                position <= last
                and read_bytes < MAX_BODIES_BYTES
                and self._clock.monotonic() < until
            ):
                for message in poll_records(reader, 1, POLL_S):
                    position = (message.offset() or 0) + 1
                    entry = wanted.pop(coordinates_of(message), None)
                    if entry is not None:
                        read_bytes += len(message.value() or b"")
                        parked = self._codec.decode_as(ParkedRequest, message.value())
                        yield DueRequest(entry, parked, headers_of(message))
            for at in wanted:
                if at.partition == partition.partition and first <= at.offset < position:
                    raise Discrepancy(
                        f"{at} is a parked request that is due, but it is no longer in the log"
                    )
        reader.unassign()

    def keep_waiting(self, entries: Iterable[ParkedEntry]) -> None:
        """Let due requests wait again, because their context is not complete after all."""
        self._index.keep_waiting(entries)

    def hold(self, entries: Iterable[ParkedEntry]) -> None:
        """Let due requests wait, even beyond their deadline, until `release_held`."""
        self._index.hold(entries)

    def release_held(self, must_wait: Callable[[str], bool]) -> None:
        """Let `due` return the held requests again, but for those of scopes that must wait longer."""
        self._index.release_held(lambda entry: not must_wait(entry.scope_key))

    def clock_record(self) -> Record | None:
        """After a takeover with parked requests, one record whose append time is the broker's time."""
        if not self._clock_record_wanted:
            return None
        self._clock_record_wanted = False
        return Record(self._topic, min(self._index.partitions, default=0), CLOCK_KEY, None)

    def offsets_to_commit(self, partitions: Iterable[int]) -> Positions:
        """The offset of each partition's oldest entry, or the position read so far if it has no entry."""
        return {
            tp: self._positions[tp]
            if (oldest := self._index.oldest_offset(tp.partition)) is None
            else oldest
            for tp in (Partition(self._topic, number) for number in partitions)
        }

    def close(self) -> None:
        """Close the readers."""
        for consumer in (self._entry_reader, self._body_reader):
            if consumer is not None:
                consumer.close()
