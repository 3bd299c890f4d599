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
)
from confluent_kafka import TopicPartition as At

from processors.exactly_once.assignment_epoch import Ownership
from processors.exactly_once.batch import Batch
from processors.kafka.bounded_wait import ANSWER_S, MACHINE, Clock, wait_until
from processors.kafka.clients import reader
from processors.kafka.offsets import log_start
from processors.log.record_lookup import committed_record
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy, Fenced, Unreachable
from schemas.topics import Topics

log = logging.getLogger("cjstream.fetch")
STABLE_MOST_S = 60.0
STABLE_S = 2.0  # asked again after serving the group: another's open transaction may take longer
GENERATION = struct.Struct("<i")
MAGIC = b"CGMDv2:"  # librdkafka's serialized group metadata: magic, generation, group, member


@dataclass(frozen=True, slots=True)
class Fetched:
    """Requests in log order per partition, `[start, end)`, with the group metadata they came under.

    There may be none: held are the positions of all owned partitions, under which parked requests may be released.
    """

    messages: Sequence[Message]
    start: Positions
    end: Positions
    held: Positions
    appended_at_ms: int  # the newest; 0 where there is none
    group: bytes
    epoch: int


def is_member(group: bytes) -> bool:
    """Whether group metadata is that of a member: the broker does not fence anyone else."""
    return group.startswith(MAGIC) and GENERATION.unpack_from(group, len(MAGIC))[0] >= 0


class Fetcher:
    """The group's member in this worker. One thread at a time calls it; callbacks run inside."""

    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        ownership: Ownership,
        commit: Callable[[Batch], None],
        take_over: Callable[[Mapping[int, int]], bool],
        new_reader: Callable[..., Consumer] = reader,
        clock: Clock = MACHINE,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._ownership = ownership
        self._commit = commit
        self._take_over = take_over  # of the parked partitions, from their committed offsets
        self._new_reader = new_reader
        self._clock = clock
        self._topic = settings.topics.requests.name
        self._parked_topic = settings.topics.parked.name
        self._owned: set[Partition] = set()
        self._positions: dict[Partition, int] = {}
        self._settled_epoch = -1
        self._unproven: set[int] = set()  # whose first record since the seek is still to come
        self.limit = settings.batch_max
        self.rebalanced: Callable[[set[Partition]], None] = lambda _owned: None  # told of each

    def join(self) -> None:
        """Join the group; partitions come during fetches."""
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._revoked,
        )

    def _assigned(self, consumer: Consumer, partitions: list[At]) -> None:
        self._ownership.end_epoch()
        self._owned |= {Partition(at.topic, at.partition) for at in partitions}
        # at definite offsets: a seek while the client still asks for a logical one is undone by the answer
        consumer.incremental_assign(self._starts(partitions))
        log.info("partitions assigned", extra={"partitions": _named(self._owned)})
        self.rebalanced(self._owned)

    def _revoked(self, consumer: Consumer, partitions: list[At]) -> None:
        self._ownership.end_epoch()  # waits for the open transaction
        self._owned -= {Partition(at.topic, at.partition) for at in partitions}
        consumer.incremental_unassign(partitions)
        log.info("partitions revoked", extra={"partitions": _named(self._owned)})
        self.rebalanced(self._owned)

    def fetch(self, wait_s: float) -> Fetched | None:
        """The next requests, at most `limit`; None where the epoch just ended or has not begun.

        Raises Discrepancy where committed offsets or requests are missing.
        """
        epoch = self._ownership.epoch
        group = self._consumer.consumer_group_metadata()
        if epoch != self._settled_epoch and self._owned:
            if not is_member(group) or not self._settled(epoch, group):
                self._consumer.poll(wait_s)  # serve what made the epoch end
            return None
        first = self._consumer.poll(wait_s)
        found = [] if first is None else [first, *self._consumer.consume(self.limit - 1, 0)]
        messages = [message for message in found if _is_request(message)]
        if epoch != self._ownership.epoch or not is_member(group):
            if messages:
                self._ownership.end_epoch()  # fetch them again, from the committed positions
            return None
        if epoch != self._settled_epoch:
            return None  # no partition is owned
        try:
            return self._fetched(messages, group, epoch)
        except (
            Unreachable
        ) as fault:  # whether a request was skipped: fetch them again, and ask again
            log.warning("requests are fetched again", extra={"reason": str(fault)})
            self._ownership.end_epoch()
            return None

    def _fetched(self, messages: Sequence[Message], group: bytes, epoch: int) -> Fetched:
        newest = dict[int, Message]()
        for message in messages:
            partition = message.partition() or 0
            if partition in self._unproven:
                self._prove(partition, message.offset() or 0)
            newest[partition] = message
        end = {
            Partition(self._topic, partition): (message.offset() or 0) + 1
            for partition, message in newest.items()
        }
        start = {at: self._positions[at] for at in end}
        self._positions.update(end)
        appended_at_ms = max((message.timestamp()[1] for message in newest.values()), default=0)
        return Fetched(messages, start, end, dict(self._positions), appended_at_ms, group, epoch)

    def _settled(self, epoch: int, group: bytes) -> bool:
        """Put every owned partition to its committed offset; False where that has to be tried again."""
        try:
            committed = self._committed(self._owned)
            missing = {at for at, offset in committed.items() if offset == OFFSET_INVALID}
            if missing:
                self._commit_starts(missing, group, epoch)
                return False
            if not self._parked_settled():
                return False
            for at, offset in committed.items():
                self._consumer.seek(At(at.topic, at.partition, offset))
        except (
            KafkaException,
            Unreachable,
        ) as fault:  # no broker, or the assignment is just changing
            log.info("positions not settled yet", extra={"reason": str(fault)})
            return False
        told = [f"{at.partition}@{offset}" for at, offset in sorted(committed.items())]
        log.info("fetching from the committed offsets", extra={"at": told})
        self._positions = dict(committed)
        self._unproven = {at.partition for at in committed}
        self._ownership.settle(epoch, committed)
        self._settled_epoch = epoch
        return True

    def _parked_settled(self) -> bool:
        parked = {Partition(self._parked_topic, at.partition) for at in self._owned}
        committed = self._committed(parked)
        return self._take_over({at.partition: offset for at, offset in committed.items()})

    def _prove(self, partition: int, first: int) -> None:
        """Whatever lies between the committed position and the first record fetched is no record.

        Raises Discrepancy where it is one: the client skipped it, and committing would seal that.
        """
        at = Partition(self._topic, partition)
        position = self._positions[at]
        self._unproven.discard(partition)
        if first == position:
            return
        if first < position or self._skipped(at, position, first):
            raise Discrepancy(
                f"{at.topic}/{at.partition} is to go on at {position}, the client went to {first}"
            )

    def _skipped(self, at: Partition, low: int, high: int) -> str | None:
        with closing(self._earliest()) as consumer:
            return committed_record(consumer, at, low, high, self._clock)

    def _starts(self, partitions: list[At]) -> list[At]:
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
            At(
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
        asked = [At(at.topic, at.partition) for at in sorted(partitions)]
        answered = self._consumer.committed(asked, timeout=STABLE_S)  # stable ones: read_committed
        for at in answered:
            if at.error is not None:
                raise KafkaException(at.error)
        return {Partition(at.topic, at.partition): at.offset for at in answered}

    def _commit_starts(self, partitions: set[Partition], group: bytes, epoch: int) -> None:
        """A first start commits the log's start; where outcomes are there already, it refuses."""
        starts = {}
        for at in sorted(partitions):
            if outcome := self._last_outcome(at.partition):
                if self._committed({at})[at] != OFFSET_INVALID:
                    return  # another worker started it since we asked: this process stood still
                raise Discrepancy(
                    f"group {self._settings.prep_group} has no committed offset for {at.topic}/{at.partition}, "
                    f"yet it has outcomes, the last at {outcome}: set the offset by hand, or outcomes double"
                )
            starts[at] = log_start(self._consumer, at)
        self._commit(Batch((), 0, {}, starts, group, epoch))

    def _last_outcome(self, partition: int) -> str | None:
        with closing(self._earliest()) as consumer:
            return last_outcome(consumer, self._settings.topics, partition, self._clock)

    def _earliest(self) -> Consumer:
        return self._new_reader(self._settings, **{"auto.offset.reset": "earliest"})

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


def _is_request(message: Message) -> bool:
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


def last_outcome(consumer: Consumer, topics: Topics, partition: int, clock: Clock) -> str | None:
    """Where the newest committed outcome or parked entry of a request partition stands, if there is any."""
    for topic in (*topics.outcomes, topics.parked):
        at = Partition(topic.name, partition)
        low, high = consumer.get_watermark_offsets(At(*at), timeout=ANSWER_S, cached=False)
        if newest := committed_record(consumer, at, low, high, clock):
            return newest
    return None


def _named(partitions: set[Partition]) -> list[int]:
    return sorted(at.partition for at in partitions)
