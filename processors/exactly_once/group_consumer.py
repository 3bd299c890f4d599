"""Fetches requests as a member of the group, from committed positions, and knows what it may claim.

Group metadata is always taken before what it is to protect: before the committed offsets are read, and before
records are polled. A process frozen in between then holds metadata of an old generation, which the broker
refuses; taken after, it might be of a new one, which the broker would accept for records of the old.
"""

import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from processors.exactly_once.assignment_epoch import AssignmentEpoch
from processors.exactly_once.batch import Batch
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock, wait_until
from processors.kafka.offsets import log_start
from processors.log.record_lookup import last_committed_record
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy, Fenced, Unreachable

log = logging.getLogger("cjstream.fetch")
STABLE_MOST_S = 60.0
STABLE_S = 2.0  # asked again after serving the group: another's open transaction may take longer
GENERATION = struct.Struct("<i")
MAGIC = b"CGMDv2:"  # librdkafka's serialized group metadata: magic, generation, group, member


@dataclass(frozen=True, slots=True)
class FetchedRecords:
    """Requests in log order per partition, `[start, end)`, with the group metadata they came under.

    There may be none: held are the positions of all owned partitions, under which parked requests may be released.
    """

    messages: Sequence[Message]
    start: Positions
    end: Positions
    owned_positions: Positions
    appended_at_ms: int  # the newest; 0 where there is none
    group: bytes
    epoch: int


def is_member(group: bytes) -> bool:
    """Whether group metadata is that of a member: the broker does not fence anyone else."""
    return group.startswith(MAGIC) and GENERATION.unpack_from(group, len(MAGIC))[0] >= 0


@dataclass(frozen=True, slots=True)
class ConsumedTopic:
    """The topic that a group consumes, and what a new owner of one of its partitions needs."""

    topic: str
    state_topic: str  # partitioned alike; its offsets are committed by the same transactions
    group: str
    take_over: Callable[[Mapping[int, int]], bool]  # of state partitions, from committed offsets
    last_outcome: Callable[[int], str | None]  # coordinates of a partition's newest outcome
    new_reader: Callable[[], Consumer]  # outside the group, `auto.offset.reset` earliest


class GroupConsumer:
    """This worker's member of the group. One thread at a time calls it; callbacks run inside."""

    def __init__(
        self,
        consumed: ConsumedTopic,
        consumer: Consumer,
        epochs: AssignmentEpoch,
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
        self._begun_epoch = -1
        self._unchecked_after_seek: set[int] = set()  # their first record is still to come
        self.limit = limit  # of records in one poll
        self.rebalanced: Callable[[set[Partition]], None] = lambda _owned: None  # called after each

    def join(self) -> None:
        """Join the group; partitions come during fetches."""
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._revoked,
        )

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._epochs.end()
        self._owned |= {Partition(at.topic, at.partition) for at in partitions}
        # at definite offsets: a seek while the client still asks for a logical one is undone by the answer
        consumer.incremental_assign(self._starting_offsets(partitions))
        log.info("partitions assigned", extra={"partitions": _named(self._owned)})
        self.rebalanced(self._owned)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._epochs.end()  # waits for the open transaction
        self._owned -= {Partition(at.topic, at.partition) for at in partitions}
        consumer.incremental_unassign(partitions)
        log.info("partitions revoked", extra={"partitions": _named(self._owned)})
        self.rebalanced(self._owned)

    def poll(self, wait_s: float) -> FetchedRecords | None:
        """The next requests, at most `limit`; None where the epoch just ended or has not begun.

        Raises Discrepancy where committed offsets or requests are missing.
        """
        epoch = self._epochs.number
        group = self._consumer.consumer_group_metadata()
        if epoch != self._begun_epoch and self._owned:
            if not is_member(group) or not self._started_epoch(epoch, group):
                self._consumer.poll(wait_s)  # serve what made the epoch end
            return None
        first = self._consumer.poll(wait_s)
        found = [] if first is None else [first, *self._consumer.consume(self.limit - 1, 0)]
        messages = [message for message in found if _is_record(message)]
        if epoch != self._epochs.number or not is_member(group):
            if messages:
                self._epochs.end()  # fetch them again, from the committed positions
            return None
        if epoch != self._begun_epoch:
            return None  # no partition is owned
        try:
            return self._fetched(messages, group, epoch)
        except (
            Unreachable
        ) as fault:  # whether a request was skipped: fetch them again, and ask again
            log.warning("requests are fetched again", extra={"reason": str(fault)})
            self._epochs.end()
            return None

    def _fetched(self, messages: Sequence[Message], group: bytes, epoch: int) -> FetchedRecords:
        newest = dict[int, Message]()
        for message in messages:
            partition = message.partition() or 0
            if partition in self._unchecked_after_seek:
                self._check_no_record_skipped(partition, message.offset() or 0)
            newest[partition] = message
        end = {
            Partition(self._topic, partition): (message.offset() or 0) + 1
            for partition, message in newest.items()
        }
        start = {at: self._positions[at] for at in end}
        self._positions.update(end)
        appended_at_ms = max((message.timestamp()[1] for message in newest.values()), default=0)
        return FetchedRecords(
            messages, start, end, dict(self._positions), appended_at_ms, group, epoch
        )

    def _started_epoch(self, epoch: int, group: bytes) -> bool:
        """Put every owned partition to its committed offset; False where that has to be tried again."""
        try:
            committed = self._committed(self._owned)
            missing = {at for at, offset in committed.items() if offset == OFFSET_INVALID}
            if missing:
                self._commit_starts(missing, group, epoch)
                return False
            if not self._state_taken_over():
                return False
            for at, offset in committed.items():
                self._consumer.seek(TopicPartition(at.topic, at.partition, offset))
        except (
            KafkaException,
            Unreachable,
        ) as fault:  # no broker, or the assignment is just changing
            log.info("positions not settled yet", extra={"reason": str(fault)})
            return False
        told = [f"{at.partition}@{offset}" for at, offset in sorted(committed.items())]
        log.info("fetching from the committed offsets", extra={"at": told})
        self._positions = dict(committed)
        self._unchecked_after_seek = {at.partition for at in committed}
        self._epochs.begin(epoch, committed)
        self._begun_epoch = epoch
        return True

    def _state_taken_over(self) -> bool:
        state = {Partition(self._consumed.state_topic, at.partition) for at in self._owned}
        committed = self._committed(state)
        return self._consumed.take_over({at.partition: offset for at, offset in committed.items()})

    def _check_no_record_skipped(self, partition: int, first: int) -> None:
        """Whatever lies between the committed position and the first record fetched is no record.

        Raises Discrepancy where it is one: the client skipped it, and committing would seal that.
        """
        at = Partition(self._topic, partition)
        position = self._positions[at]
        self._unchecked_after_seek.discard(partition)
        if first == position:
            return
        if first < position or self._skipped(at, position, first):
            raise Discrepancy(
                f"{at.topic}/{at.partition} is to go on at {position}, the client went to {first}"
            )

    def _skipped(self, at: Partition, low: int, high: int) -> str | None:
        with closing(self._consumed.new_reader()) as consumer:
            return last_committed_record(consumer, at, low, high, self._clock)

    def _starting_offsets(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Committed offsets, or the log's start; waits for as long as they are not stable."""
        if not partitions:
            return []
        wanted = {Partition(at.topic, at.partition) for at in partitions}
        found = wait_until(
            lambda: self._stable(wanted),
            seconds=STABLE_MOST_S,
            what="stable committed offsets",
            clock=self._clock,
        )
        return [
            TopicPartition(
                at.topic,
                at.partition,
                log_start(self._consumer, at) if offset == OFFSET_INVALID else offset,
            )
            for at, offset in found.items()
        ]

    def _stable(self, partitions: set[Partition]) -> dict[Partition, int]:
        try:
            return self._committed(partitions)
        except KafkaException as fault:
            log.info("committed offsets not stable yet", extra={"code": fault.args[0].name()})
            return {}

    def _committed(self, partitions: set[Partition]) -> dict[Partition, int]:
        asked = [TopicPartition(at.topic, at.partition) for at in sorted(partitions)]
        answered = self._consumer.committed(asked, timeout=STABLE_S)  # stable ones: read_committed
        for at in answered:
            if at.error is not None:
                raise KafkaException(at.error)
        return {Partition(at.topic, at.partition): at.offset for at in answered}

    def _commit_starts(self, partitions: set[Partition], group: bytes, epoch: int) -> None:
        """A first start commits the log's start; where outcomes are there already, it refuses."""
        starts = {}
        for at in sorted(partitions):
            if outcome := self._consumed.last_outcome(at.partition):
                if self._committed({at})[at] != OFFSET_INVALID:
                    return  # another worker started it since we asked: this process stood still
                raise Discrepancy(
                    f"group {self._consumed.group} has no committed offset for {at.topic}/{at.partition}, "
                    f"yet it has outcomes, the last at {outcome}: set the offset by hand, or outcomes double"
                )
            starts[at] = log_start(self._consumer, at)
        self._commit(Batch((), 0, {}, starts, group, epoch))

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


def _is_record(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        raise Discrepancy(
            f"{message.topic()}/{message.partition()}: requests at the committed offset are gone from the log "
            "(retention, or the topic was made anew): set the group's offset by hand"
        )
    if error.fatal():
        raise Fenced(f"the group's member is finished: {error.name()}: {error.str()}")
    return False


def _named(partitions: set[Partition]) -> list[int]:
    return sorted(at.partition for at in partitions)
