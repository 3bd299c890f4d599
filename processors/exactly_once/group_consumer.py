"""Fetches records as a member of the group, from committed offsets, and checks that no record was skipped.

Group metadata is always read before what it must protect: before the committed offsets are read, and before
records are polled. If the process freezes in between, it holds metadata of an old generation, which the broker
refuses. Metadata read afterwards might be of a new generation, and the broker would accept it for old records.
"""

import logging
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from processors.exactly_once.batch import Batch
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.slot import Slot
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock, Repeats, wait_until
from processors.kafka.callbacks import raises_instances
from processors.kafka.offsets import committed_by, log_start
from processors.kafka.poll import poll_records, read_positions
from processors.kafka.records import broker_time_of
from processors.kafka.topic_admin import more_partitions
from processors.log.record_lookup import last_committed_record
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy, SlotTaken, Unreachable

log = logging.getLogger("cjstream.fetch")
STABLE_CALL_S = 2.0  # then the group is served, and the call repeated: a transaction may be open
STABLE_CALL_OF_ONE_S = 0.5
LOG_START_S = 60.0
SETTLE_S = 15.0  # how long all partitions wait for one with an open transaction
RETRY_S = 10.0  # how long the others read before it is tried again, at first
MAX_RETRY_S = 60.0
REPORT_S = 60.0
SLOT_CALL_S = 1.0  # then a poll returns; the next one asks again who has the slot
SLOT_RETRY_S = 0.2
MAX_PARTITIONS = 2**31
IF_LOST = (
    "the records at the committed offset are no longer in the log (retention, or the topic was recreated): "
    "`cjstream requests reset-offsets` sets the group's offset"
)
GENERATION = struct.Struct("<i")
MAGIC = b"CGMDv2:"  # librdkafka's serialized group metadata: magic, generation, group, member


@dataclass(frozen=True, slots=True)
class FetchedRecords:
    """Records in log order per partition, positions `[start, end)`, and the group metadata of their fetch.

    It may have no messages. owned_positions has every owned partition: a batch may need to commit the position of
    one without fetched records.
    """

    messages: Sequence[Message]
    partitions: Sequence[int]  # of the messages
    offsets: Sequence[int]
    start: Positions
    end: Positions
    owned_positions: Positions
    appended_at_ms: int  # of the newest record; 0 if there is none
    group: bytes
    epoch: int


def is_member(group: bytes) -> bool:
    """Whether group metadata belongs to a group member: the broker fences nobody else."""
    return group.startswith(MAGIC) and GENERATION.unpack_from(group, len(MAGIC))[0] >= 0


def member_id_of(group: bytes) -> str:
    """The member id in group metadata; empty while there is none."""
    _group, member_id, *_ = group[len(MAGIC) + GENERATION.size :].split(b"\0")
    return member_id.decode()


def log_starts(consumer: Consumer, partitions: Collection[Partition]) -> Positions:
    """The start of the log of each partition. Raises KafkaException."""
    return {tp: log_start(consumer, tp) for tp in sorted(partitions)}


def no_wrong_offsets(_committed: Positions) -> list[str]:
    """For topics whose committed offsets are not compared with anything."""
    return []


@dataclass(frozen=True, slots=True)
class ConsumedTopic:
    """The topic that a group consumes, and what a new owner of one of its partitions needs."""

    topic: str
    state_topic: str  # has the same partitions; the same transactions commit its offsets
    group: str
    if_fenced: str  # what to say if another process takes this member's place
    # of state partitions, from their committed offsets, and those of the topic; returns the complete ones
    take_over: Callable[[Positions, Positions], set[Partition]]
    last_outcome: Callable[[int], str | None]  # coordinates of a partition's newest outcome
    new_reader: Callable[[], Consumer]  # outside the group, `auto.offset.reset` earliest
    # that hang on state partitions or on the group's offsets, for the log
    open_transactions: Callable[[Iterable[Partition]], list[str]]
    # where fetching starts in these partitions, which have no committed offset; maybe in others, too
    first_offsets: Callable[[Consumer, Collection[Partition]], Positions] = log_starts
    remedy: str = "`cjstream requests reset-offsets` sets it"  # if a committed offset is missing
    # what is wrong with the committed offsets of partitions that this member was given
    wrong_offsets: Callable[[Positions], list[str]] = no_wrong_offsets
    partitions: int = MAX_PARTITIONS  # that the state topic has, too
    slot: Slot | None = None  # of this process in the group


class GroupConsumer:
    """This worker's member of the group. Only one thread at a time may call it; callbacks run on that thread.

    A partition is *unsettled* while an open transaction hides its committed offset or its state. It is paused, and the
    others go on without it.
    """

    def __init__(
        self,
        consumed: ConsumedTopic,
        consumer: Consumer,
        epochs: FetchEpoch,
        commit: Callable[[Batch], None],
        limit: int,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._consumed = consumed
        self._consumer = consumer
        self._epochs = epochs
        self._commit = commit
        self._clock = clock
        self._topic = consumed.topic
        self._owned: set[Partition] = set()
        self._positions: dict[Partition, int] = {}
        self._started_epoch = -1
        self._refetches = Repeats(tolerated=2)  # a partition gets a new leader
        self.unsettled: frozenset[Partition] = frozenset()
        self._retried: frozenset[Partition] = frozenset()  # were unsettled: nothing waits for them
        self._waiting_since: float | None = None
        self._retry_at = self._report_at = 0.0
        self._retry_s = RETRY_S
        self._paused: set[Partition] = set()
        self._unchecked_after_seek: set[int] = set()  # partitions without a record since the seek
        self._held: set[Partition] = set()
        self._compared: set[Partition] = set()  # their committed offsets, since they were assigned
        self._failed_comparisons = Repeats(tolerated=2)
        self.limit = limit  # of records in one poll
        self.is_member = False  # of its group, at the last poll
        self._member_id = ""  # the newest one
        self._slot_taken: SlotTaken | None = None  # what a client has said that was closed
        # of the newest record fetched from each partition
        self.appended_at_ms: dict[Partition, int] = {}
        self.on_rebalance: Callable[[set[Partition]], None] = lambda _owned: None
        # gets the partitions, and the group metadata, which commits may use until it returns
        self.before_revoke: Callable[[set[Partition], bytes], None] = lambda _revoked, _group: None

    def join(self) -> None:
        """Join the group; partitions are assigned during later polls."""
        self._consumer.subscribe(
            [self._topic],
            on_assign=raises_instances(self._on_assign),
            on_revoke=raises_instances(self._on_revoke),
            on_lost=raises_instances(self._on_lost),
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._epochs.end()
        if (
            most := max((tp.partition for tp in partitions), default=0)
        ) >= self._consumed.partitions:
            raise Discrepancy(more_partitions(self._topic, most + 1, self._consumed.partitions))
        self._owned |= {Partition(tp.topic, tp.partition) for tp in partitions}
        self._waiting_since = None
        # concrete offsets: the late answer to a logical one (earliest) would override our seek
        consumer.incremental_assign(self._starting_offsets(partitions))
        log.info("partitions assigned", extra={"partitions": _numbers(self._owned)})
        self.on_rebalance(self._owned)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        revoked = {Partition(tp.topic, tp.partition) for tp in partitions}
        try:
            group = consumer.consumer_group_metadata()
        except RuntimeError as fault:  # a client that closes may have left during a rebalance
            log.info("no group metadata: nothing is committed", extra={"reason": str(fault)})
        else:
            self.before_revoke(revoked, group)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up({Partition(tp.topic, tp.partition) for tp in partitions})
        consumer.incremental_unassign(partitions)

    def _give_up(self, partitions: set[Partition]) -> None:
        self._epochs.end()  # waits for the open transaction
        self._owned -= partitions
        self.unsettled &= self._owned
        self._paused &= self._owned
        self._held &= self._owned
        self._compared &= self._owned
        log.info("partitions revoked", extra={"partitions": _numbers(self._owned)})
        self.on_rebalance(self._owned)

    def _end_membership(self, slot: Slot, fault: SlotTaken) -> None:
        """Replace the client, which is of no use any more; nothing that it fetched is committed."""
        log.warning("the client says that its slot is taken", extra={"member": self._member_id})
        self._slot_taken, self.is_member = fault, False
        self._give_up({*self._owned})  # first: callbacks of the close must not commit
        # before the close: other threads ask the client for its positions
        failed, self._consumer = self._consumer, slot.new_client()
        with suppress(KafkaException):
            failed.close()

    def _join_again(self, slot: Slot, fault: SlotTaken) -> None:
        """Join once nobody has the slot. Raises SlotTaken if another process has it."""

        def is_free() -> bool:
            holder = slot.member_id()
            if holder not in (None, self._member_id):
                raise fault
            # otherwise it is the old session of this process, which ends by itself
            return holder is None

        try:
            wait_until(
                is_free,
                seconds=SLOT_CALL_S,
                what="the slot",
                every_s=SLOT_RETRY_S,
                clock=self._clock,
            )
        except Unreachable as reason:
            log.info("slot not free yet", extra={"reason": str(reason)})
            return
        self._slot_taken = None
        log.info("joining the group again", extra={"group": self._consumed.group})
        self.join()

    def poll(self, wait_s: float) -> FetchedRecords | None:
        """The next records, up to `limit`; None if the epoch has just ended or has not started.

        Raises Discrepancy if committed offsets or records are missing, SlotTaken if another process has the slot.
        """
        if self._slot_taken is not None and self._consumed.slot is not None:
            self._join_again(self._consumed.slot, self._slot_taken)
            return None
        epoch = self._epochs.number
        group = self._consumer.consumer_group_metadata()
        self.is_member = is_member(group)
        if self.is_member:
            self._member_id = member_id_of(group) or self._member_id
        if epoch != self._started_epoch and self._owned:
            if not self.is_member or not self._start_epoch(epoch, group):
                self._poll_records(1, wait_s)  # serve the rebalance that ended the epoch
            return None
        if self.unsettled and self._retry_unsettled():
            return None
        messages = self._poll_records(self.limit, wait_s)
        if epoch != self._epochs.number or not self.is_member:
            if messages:
                self.fetch_again()
            return None
        if epoch != self._started_epoch:
            return None  # no partition is owned
        try:
            return self._fetched_records(messages, group, epoch)
        except Unreachable as fault:
            # it is unknown whether a record was skipped: fetch the records and check again
            level = self._refetches.next_level()
            log.log(level, "records are fetched again", extra={"reason": str(fault)})
            self.fetch_again()
            return None

    def begun(self, group: bytes) -> FetchedRecords | None:
        """The current epoch without records, from before its first fetch; None if it has not begun."""
        if self._started_epoch != self._epochs.number:
            return None
        positions = dict(self._positions)
        return FetchedRecords((), (), (), {}, {}, positions, 0, group, self._started_epoch)

    def is_fetched_to(self, partition: Partition, position: int) -> bool:
        """Whether nothing beyond this position has been fetched."""
        return self._positions.get(partition) == position

    def client_positions(self) -> Positions:
        """The client's next offsets, which pass markers as well; any thread may ask. Empty after `close`."""
        with suppress(KafkaException, RuntimeError):
            return read_positions(self._consumer, dict(self._positions))
        return {}

    def hold(self, is_held: bool) -> None:
        """Fetch nothing while it is held; polls still serve the group."""
        wanted = set(self._positions) & self._owned if is_held else set[Partition]()
        if paused := wanted - self._held:
            self._consumer.pause([TopicPartition(*tp) for tp in sorted(paused)])
        if resumed := (self._held - wanted) & self._owned - self._paused:
            self._consumer.resume([TopicPartition(*tp) for tp in sorted(resumed)])
        self._held = wanted

    def fetch_again(self) -> None:
        """Drop what was fetched but not committed, and fetch from the committed offsets again."""
        self._epochs.end()

    def _poll_records(self, limit: int, wait_s: float) -> list[Message]:
        try:
            return poll_records(
                self._consumer, limit, wait_s, if_lost=IF_LOST, if_fenced=self._consumed.if_fenced
            )
        except SlotTaken as fault:
            if self._consumed.slot is None:
                raise
            self._end_membership(self._consumed.slot, fault)
            return []

    def _fetched_records(
        self, messages: Sequence[Message], group: bytes, epoch: int
    ) -> FetchedRecords:
        if self.unsettled:  # they are paused, but what was fetched before may still arrive
            settled = {tp.partition for tp in self._positions}
            messages = [message for message in messages if message.partition() in settled]
        partitions = [message.partition() or 0 for message in messages]
        offsets = [message.offset() or 0 for message in messages]
        if self._unchecked_after_seek:
            first = dict(zip(reversed(partitions), reversed(offsets), strict=True))
            for number in self._unchecked_after_seek & first.keys():
                self._check_no_record_skipped(number, first[number])
        newest = dict(zip(partitions, messages, strict=True))
        end = {
            Partition(self._topic, number): (message.offset() or 0) + 1
            for number, message in newest.items()
        }
        start = {partition: self._positions[partition] for partition in end}
        self._refetches.end()
        self._positions.update(end)
        times = {Partition(self._topic, tp): broker_time_of(one) for tp, one in newest.items()}
        self.appended_at_ms.update(times)
        appended_at_ms = max(times.values(), default=0)
        return FetchedRecords(
            messages,
            partitions,
            offsets,
            start,
            end,
            dict(self._positions),
            appended_at_ms,
            group,
            epoch,
        )

    def _start_epoch(self, epoch: int, group: bytes) -> bool:
        """Seek every partition that is settled to its committed offset; False if this must be tried again."""
        try:
            committed = self._settled_offsets(epoch, group)
            if not committed:
                if self._has_waited():  # for all of them
                    self._report(self._owned)
                return False
            if not self._are_right(committed):
                return False
            self._seek(committed)
        except (KafkaException, Unreachable) as fault:  # no broker, or the assignment is changing
            log.info("starting positions not known yet", extra={"reason": str(fault)})
            return False
        starts = [f"{tp.partition}@{offset}" for tp, offset in sorted(committed.items())]
        log.info("fetching from the committed offsets", extra={"at": starts})
        self.unsettled = frozenset(self._owned - committed.keys())
        again = self._retried & self.unsettled
        self._retry_s = min(2 * self._retry_s, MAX_RETRY_S) if again else RETRY_S
        self._retry_at = self._clock.monotonic() + self._retry_s
        self._retried, self._waiting_since = frozenset(), None
        self._positions = dict(committed)
        self._unchecked_after_seek = {tp.partition for tp in committed}
        self._epochs.begin(epoch, committed)
        self._started_epoch = epoch
        if self.unsettled:
            self._report(self.unsettled)
        return True

    def _are_right(self, committed: Positions) -> bool:
        """Whether nothing is wrong with the offsets that were not compared yet; False: they changed meanwhile.

        Raises Discrepancy.
        """
        new = {tp: offset for tp, offset in committed.items() if tp not in self._compared}
        try:
            wrong = self._consumed.wrong_offsets(new)
        except Unreachable as fault:
            level = self._failed_comparisons.next_level()
            if level < logging.WARNING:
                raise
            # an open transaction of a stranger, for example, must not stop the worker
            log.log(level, "committed offsets are not compared", extra={"reason": str(fault)})
            wrong = []
        if wrong:
            # otherwise this process was frozen, and another worker has committed meanwhile
            if self._stable_offsets(new) == new:
                raise Discrepancy("; ".join(wrong))
            return False
        self._failed_comparisons.end()
        self._compared |= new.keys()
        return True

    def _seek(self, committed: Positions) -> None:
        """Fetch from these offsets, and nothing from other partitions."""
        paused = self._owned - committed.keys()
        if paused:
            self._consumer.pause([TopicPartition(*tp) for tp in sorted(paused)])
        if resumed := self._paused & committed.keys():
            self._consumer.resume([TopicPartition(*tp) for tp in sorted(resumed)])
        self._paused = paused
        for tp, offset in committed.items():
            self._consumer.seek(TopicPartition(*tp, offset))

    def _settled_offsets(self, epoch: int, group: bytes) -> Positions:
        """The committed offsets of the partitions that are settled; empty if this must be tried again.

        An open transaction usually ends soon, so all partitions wait for it at first.
        """
        wanted = self._owned - self.unsettled or self._owned
        committed = self._stable_offsets(wanted)
        missing = {tp for tp, offset in committed.items() if offset == OFFSET_INVALID}
        if missing:
            self._commit_log_starts(missing, group, epoch)
            return {}
        if self._must_wait_for(wanted - committed.keys()):
            return {}
        state = self._stable_offsets({self._state_of(tp) for tp in committed})
        if self._must_wait_for({tp for tp in committed if self._state_of(tp) not in state}):
            return {}
        ready = self._take_over(state, committed)
        if self._must_wait_for({tp for tp in committed if self._state_of(tp) not in ready}):
            return {}
        committed = {tp: offset for tp, offset in committed.items() if self._state_of(tp) in ready}
        if ready != state.keys():  # the state of the others must be given up first
            state = {tp: state[tp] for tp in ready}
            ready = self._take_over(state, committed)
        return committed if ready == state.keys() else {}

    def _take_over(self, state: Positions, committed: Positions) -> set[Partition]:
        requests = {tp: offset for tp, offset in committed.items() if self._state_of(tp) in state}
        return self._consumed.take_over(state, requests)

    def _state_of(self, tp: Partition) -> Partition:
        return Partition(self._consumed.state_topic, tp.partition)

    def _must_wait_for(self, missing: set[Partition]) -> bool:
        """Whether all partitions wait because these are not settled, for SETTLE_S at most."""
        if missing <= self._retried:
            return False
        if self._waiting_since is None:
            self._waiting_since = self._clock.monotonic()
        return not self._has_waited()

    def _has_waited(self) -> bool:
        since = self._waiting_since
        return since is not None and self._clock.monotonic() - since > SETTLE_S

    def _retry_unsettled(self) -> bool:
        """Now and then, end the epoch if an unsettled partition has a stable committed offset again."""
        now = self._clock.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + self._retry_s
        self._report(self.unsettled)
        self._retried = frozenset(self._stable_offsets(self.unsettled))
        if not self._retried:
            return False
        self.unsettled -= self._retried
        self.fetch_again()
        return True

    def _report(self, unsettled: Collection[Partition]) -> None:
        """Name the transactions that partitions wait for, once a minute at most."""
        now = self._clock.monotonic()
        if now < self._report_at:
            return
        self._report_at = now + REPORT_S
        transactions = self._consumed.open_transactions(map(self._state_of, unsettled))
        log.log(
            logging.WARNING if transactions else logging.INFO,  # none: perhaps no broker answers
            "partitions wait for an open transaction",
            extra={
                "partitions": _numbers(unsettled),
                "transactions": transactions,
                "remedy": "cjstream topics abort-transaction",
            },
        )

    def _check_no_record_skipped(self, number: int, first: int) -> None:
        """Check that no committed record lies between the committed offset and the first record fetched.

        Raises Discrepancy if one does: the client skipped it, and a commit would make the loss permanent.
        """
        tp = Partition(self._topic, number)
        position = self._positions[tp]
        self._unchecked_after_seek.discard(number)
        if first == position:
            return
        if first < position or self._skipped_record(tp, position, first):
            raise Discrepancy(
                f"{tp} must continue at {position}, but the client continued at {first}"
            )

    def _skipped_record(self, partition: Partition, low: int, high: int) -> str | None:
        with closing(self._consumed.new_reader()) as consumer:
            return last_committed_record(consumer, partition, low, high, self._clock)

    def _starting_offsets(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The committed offset of each partition, or the start of its log if it has none, or none that is stable."""
        wanted = {Partition(tp.topic, tp.partition) for tp in partitions}
        stable = self._stable_offsets(wanted)
        valid = {tp: offset for tp, offset in stable.items() if offset != OFFSET_INVALID}
        starts = {tp: self._log_start(tp) for tp in wanted - valid.keys()}
        return [TopicPartition(*tp, offset) for tp, offset in sorted({**starts, **valid}.items())]

    def _log_start(self, partition: Partition) -> int:
        def request() -> list[int]:
            with suppress(KafkaException):
                return [log_start(self._consumer, partition)]
            return []

        what = f"the start of {partition}"
        return wait_until(request, seconds=LOG_START_S, what=what, clock=self._clock)[0]

    def _stable_offsets(self, partitions: Collection[Partition]) -> Positions:
        """The committed offsets that are stable. One that is not fails the request for all: then ask one by one."""
        if not partitions:
            return {}
        try:
            return committed_by(self._consumer, sorted(partitions), STABLE_CALL_S)
        except KafkaException as fault:
            log.debug("committed offsets not stable yet", extra={"code": fault.args[0].name()})
        stable = dict[Partition, int]()
        for partition in sorted(partitions) if len(partitions) > 1 else ():
            with suppress(KafkaException):
                stable.update(committed_by(self._consumer, [partition], STABLE_CALL_OF_ONE_S))
        return stable

    def _commit_log_starts(self, partitions: set[Partition], group: bytes, epoch: int) -> None:
        """Commit where fetching starts at a first start; Discrepancy if there are outcomes already."""
        for tp in sorted(partitions):
            if outcome := self._consumed.last_outcome(tp.partition):
                if committed_by(self._consumer, [tp], STABLE_CALL_S)[tp] != OFFSET_INVALID:
                    return  # this process was frozen, and another worker has committed meanwhile
                raise Discrepancy(
                    f"group {self._consumed.group} has no committed offset for {tp}, but the "
                    f"partition has outcomes, the last at {outcome}: {self._consumed.remedy}"
                )
        starts = self._consumed.first_offsets(self._consumer, partitions)
        self._commit(Batch((), 0, {}, starts, group, epoch))

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


def _numbers(partitions: Collection[Partition]) -> list[int]:
    return sorted(tp.partition for tp in partitions)
