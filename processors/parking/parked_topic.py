"""The parked topic: requests that arrive before their context wait in it until they are due.

The topic is the state: which requests are parked and released is known from reading it, during normal work and at
a takeover. Request bodies are not kept in memory; they are read again at release.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock, Repeats
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.offsets import log_start
from processors.kafka.poll import poll_records, read_positions
from processors.kafka.records import (
    Record,
    append_time_of,
    broker_time_of,
    coordinates_of,
    headers_of,
)
from processors.outcomes.resolve import Unresolved
from processors.parking.entry_check import DueRequest, EntryCheck
from processors.parking.open_requests import OpenRequests, RequestState
from processors.parking.parked_index import ParkedEntry, ParkedIndex
from processors.parking.parked_record import (
    CLOCK_KEY,
    Waiting,
    entry_of,
    read_entry,
    request_fields,
    request_of_key,
    unreadable_entry,
)
from processors.policy import Policy
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.dead_letters import OUTCOME_REFUSED
from schemas.errors import BadRecord, Malformed, Unreachable
from schemas.events import AssignmentContext, ParkedRequest
from schemas.topics import MAX_OUTCOME_BYTES, Topics
from tables.changed_scopes import ChangedScopes

log = logging.getLogger("cjstream.parking")
MAX_POLLED_RECORDS = 5000
TAKEOVER_S = 5.0  # then the group is served and the takeover repeated
UNMOVED_S = 2.0  # likewise: an open transaction may last
POLL_S = 0.05
FETCH_WAIT_WHILE_PARKED_S = 0.01
FETCH_WAIT_S = 1.0
MAX_NAMED = 20  # skipped records in one poll that are named one by one


class ParkedTopic:
    """The parked topic as the fetch thread reads it; it is partitioned like the request topic."""

    def __init__(
        self,
        topics: Topics,
        codec: Codec,
        policy: Policy,
        context_of: Callable[[str], AssignmentContext | None],
        changed_scopes: ChangedScopes,
        high_watermarks: Callable[[Sequence[Partition]], Positions],
        new_reader: Callable[[], Consumer],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._topic = topics.parked.name
        self._requests = topics.requests.name
        self._codec = codec
        self._policy = policy
        self._context_of = context_of
        self._changed_scopes = changed_scopes
        self.broker_clock = BrokerClock(clock.monotonic)
        self._high_watermarks = high_watermarks
        self._new_reader = new_reader
        self._clock = clock
        self._entry_reader: Consumer | None = None
        self._index = ParkedIndex()
        self._positions: dict[Partition, int] = {}
        self._open = OpenRequests()
        self._check = EntryCheck(
            topics, codec, self._open, self.deadline_ms, high_watermarks, new_reader, clock
        )
        self._clock_records_in: set[int] = set()  # partitions that a clock record is wanted in
        # partitions with entries of requests that another worker may have parked
        self._read_again: set[Partition] = set()
        self._skipped: list[tuple[str, str]] = []  # coordinates and reason, not logged yet
        self._named_until: dict[int, int] = {}  # by partition: offsets below it were named
        self._failed_reads = Repeats(tolerated=2)  # a partition gets a new leader
        self.parked_requests = 0  # as of the last `advance`
        self.oldest_deadline_ms: int | None = None  # likewise; of the request that waits longest

    @property
    def max_wait_s(self) -> float:
        """How long a fetch may wait without delaying parked requests whose context becomes complete."""
        if self._index.any_due:
            return 0
        return FETCH_WAIT_WHILE_PARKED_S if self._index else FETCH_WAIT_S

    def take_over(self, committed: Positions, requests_committed: Positions) -> set[Partition]:
        """Own exactly these partitions, and read them from their committed offsets to their high watermarks.

        requests_committed: the offsets from which the requests of the same partitions are fetched. Returns those that
        have been read; if some are missing, call it again, with or without them. It assumes that every batch prepared
        before is dropped. Raises Unreachable if no broker answers.
        """
        self._open.begin({tp.partition: offset for tp, offset in requests_committed.items()})
        self._check.begin()
        reader = self._entry_reader = self._entry_reader or self._new_reader()
        self._give_up(reader, (self._positions.keys() - committed.keys()) | self._read_again)
        starts = {
            tp: max(offset, log_start(reader, tp))
            for tp, offset in committed.items()
            if tp not in self._positions
        }
        reader.incremental_assign([TopicPartition(*tp, start) for tp, start in starts.items()])
        self._positions.update(starts)
        # not the last stable offsets: the transaction that committed the offsets may lack its marker here
        ends = self._high_watermarks([*committed])
        self._read_until(reader, ends)
        self._index.requeue()
        if self._index:
            self._clock_records_in.add(min(self._index.partitions))
        return {*committed} - self._behind(ends)

    def _read_until(self, reader: Consumer, ends: Positions) -> None:
        """Read up to these ends; stops early if that takes long, or if an open transaction lets no position move."""
        started_at = moved_at = self._clock.monotonic()
        last_positions = dict(self._positions)
        while self._behind(ends):
            self._read(reader, POLL_S)
            now = self._clock.monotonic()
            if self._positions != last_positions:
                last_positions, moved_at = dict(self._positions), now
            if now - started_at > TAKEOVER_S or now - moved_at > UNMOVED_S:
                return

    def _behind(self, ends: Positions) -> set[Partition]:
        return {tp for tp, end in ends.items() if self._positions[tp] < end}

    def _give_up(self, reader: Consumer, partitions: Collection[Partition]) -> None:
        if partitions:
            reader.incremental_unassign([TopicPartition(*tp) for tp in partitions])
        self._index.remove_partitions(tp.partition for tp in partitions)
        for tp in list(partitions):
            del self._positions[tp]
        self._read_again -= set(partitions)

    def advance(self) -> None:
        """Read which requests were parked and released, and find those whose context is now complete. Never waits."""
        if self._entry_reader is None or not self._positions:
            return
        self._read(self._entry_reader, 0)
        changed = self._changed_scopes.drain()
        for scope_key in self._index.scope_keys if changed is None else changed:
            self._index.context_changed(scope_key, self._is_complete)
        self.parked_requests = len(self._index)
        self.oldest_deadline_ms = self._index.oldest_deadline_ms

    def _read(self, reader: Consumer, wait_s: float) -> None:
        for message in poll_records(reader, MAX_POLLED_RECORDS, wait_s):
            self._apply(message)
        self._positions.update(read_positions(reader, self._positions))
        self._name_skipped()

    def _apply(self, message: Message) -> None:
        self.broker_clock.observe(broker_time_of(message))
        if message.key() == CLOCK_KEY and message.value() is None:
            return
        try:
            at = request_of_key(message.key(), self._requests, message.partition() or 0)
        except Malformed as fault:
            self._skip(message, str(fault))
            return
        if message.value() is None:
            self._index.remove(at)
            return
        entry = self._entry_from(message, at)
        known, state = self._index.entry(at), self._open.state_of(at)
        if state in (RequestState.ANSWERED, RequestState.NOT_PARKED):
            self._skip(message, state.value)
            if state is RequestState.NOT_PARKED:
                self._read_again.add(Partition(self._topic, at.partition))
            return
        own = self._open.own_entry(at, message.offset() or 0)
        if (known or own or entry).content != entry.content:
            self._skip(message, "another entry of its request counts")
        if known is not None:
            return
        entry = own or entry
        # check this entry only: older ones of the scope are checked when an upload changes it, all at once
        self._index.park(entry, is_complete=self._is_complete(entry))

    def _entry_from(self, message: Message, at: Coordinates) -> ParkedEntry:
        offset = message.offset() or 0
        try:
            waiting = read_entry(message.value(), at, self._codec)
        except BadRecord as fault:
            self._skip(message, f"it is not a parked request: {fault}")
            return unreadable_entry(at, offset)
        return entry_of(waiting, offset, broker_time_of(message))

    def _skip(self, message: Message, reason: str) -> None:
        """Name a record that does not count, unless it was read before, and let the committed offset pass it."""
        number, offset = message.partition() or 0, message.offset() or 0
        self._clock_records_in.add(number)
        if offset >= self._named_until.get(number, 0):
            self._named_until[number] = offset + 1
            self._skipped.append((str(coordinates_of(message)), reason))

    def _refuse(self, at: Coordinates, reason: str) -> None:
        """Remove the entry of a request that may not be released."""
        entry = self._index.entry(at)
        if entry is not None:
            self._index.remove(at)
            self._clock_records_in.add(at.partition)
            self._skipped.append((f"{self._topic}/{at.partition}@{entry.parked_offset}", reason))

    def _name_skipped(self) -> None:
        for at, reason in self._skipped[:MAX_NAMED]:
            log.warning(
                "a record of the parked topic is skipped", extra={"at": at, "reason": reason}
            )
        if more := len(self._skipped[MAX_NAMED:]):
            last = self._skipped[-1][0]
            log.warning(
                "more records of the parked topic are skipped", extra={"count": more, "last": last}
            )
        self._skipped = []

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
        fields = request_fields(parked.request, self._codec)
        own = entry_of(Waiting(parked, fields), 0, 0)
        self._open.park(replace(own, deadline_at_ms=parked.deadline_at_ms))
        return Record(self._topic, at.partition, key, value, headers)

    def deadline_ms(self, message: Message) -> int:
        """The deadline of a request; if its producer set its time, a time in the future counts as now."""
        return self._policy.deadline_ms(min(append_time_of(message), self.broker_clock.now_ms))

    def tombstone(self, at: Coordinates) -> Record:
        """The record that removes the entry of a parked request, which has its outcome in the same batch."""
        self._open.answer(at)
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
        try:
            checked = self._check.check(
                entries, self._index.requests_from, self.broker_clock.now_ms
            )
        except (KafkaException, Unreachable) as fault:
            level = self._failed_reads.next_level()
            log.log(level, "parked requests cannot be read", extra={"reason": str(fault)})
            self._index.requeue(entries)
            return []
        self._failed_reads.end()
        for at, reason in checked.refused:
            self._refuse(at, reason)
        for entry, corrected in checked.corrected:
            self._correct(entry, corrected)
        self._name_skipped()
        due = {one.entry.request_at for one in checked.due}
        self._index.requeue(entry for entry in entries if entry.request_at not in due)
        return checked.due

    def _correct(self, entry: ParkedEntry, corrected: ParkedEntry) -> None:
        if entry.content not in (None, corrected.content):
            at = f"{self._topic}/{entry.request_at.partition}@{entry.parked_offset}"
            self._skipped.append((at, f"it differs from its request {entry.request_at}"))
        self._index.correct(corrected, is_complete=self._is_complete(corrected))

    def oldest_age_s(self) -> float | None:
        """For how long the oldest parked request has been in the log; None if none waits. Any thread may ask."""
        deadline_ms = self.oldest_deadline_ms
        if deadline_ms is None:
            return None
        return self._policy.patience_s - (deadline_ms - self.broker_clock.now_ms) / 1000

    def keep_waiting(self, entries: Iterable[ParkedEntry]) -> None:
        """Let due requests wait again, because their context is not complete after all."""
        self._index.keep_waiting(entries)

    def hold(self, entries: Iterable[ParkedEntry]) -> None:
        """Let due requests wait, even beyond their deadline, until `release_held`."""
        self._index.hold(entries)

    def release_held(self, must_wait: Callable[[str], bool]) -> None:
        """Let `due` return the held requests again, but for those of scopes that must wait longer."""
        self._index.release_held(lambda entry: not must_wait(entry.scope_key))

    def clock_records(self) -> list[Record]:
        """After a takeover with parked requests, one record whose append time is the broker's time.

        After skipped records, one in their partition: its transaction commits an offset beyond them.
        """
        owned = {tp.partition for tp in self._positions}
        wanted, self._clock_records_in = self._clock_records_in & owned, set()
        return [Record(self._topic, number, CLOCK_KEY, None) for number in sorted(wanted)]

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
        self._check.close()
        if self._entry_reader is not None:
            self._entry_reader.close()
