"""Fetched batches that no commit covers yet, while their texts are gathered; the cycle thread alone uses them."""

import logging
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from confluent_kafka import Message

from processors.exactly_once.group_consumer import FetchedRecords
from processors.judging.cycle.draft import Draft
from processors.judging.observer import CommittedResult
from processors.judging.open_runs import OpenRuns
from processors.judging.run_items import Gathered
from processors.judging.run_opening import (
    JudgingPolicy,
    Opened,
    PreparedBatch,
    open_run,
)
from processors.judging.run_texts import RunTexts
from processors.kafka.bounded_wait import Repeats
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.records import coordinates_of
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import BadRecord, UnknownSchema, Unreachable
from schemas.events import CJBatchPrepared
from schemas.judging_events import CJBatchJudged

log = logging.getLogger("cjstream.judging")


@dataclass(frozen=True, slots=True)
class BatchToGather:
    """A fetched batch whose texts are to be read, in the background."""

    batch: PreparedBatch
    epoch: int


@dataclass(slots=True)
class _Fetched:
    """A batch; opened: its first record or its refusal, once the texts are there."""

    at: Coordinates
    key: bytes | None
    opened: Opened | CJBatchJudged | None = None
    is_skipped: bool = False

    @property
    def is_ready(self) -> bool:
        return self.is_skipped or self.opened is not None


class FetchedBatches:
    """The batches of one epoch in log order, and the committed position of each of their partitions."""

    def __init__(
        self, codec: Codec, texts: RunTexts, policy: JudgingPolicy, broker_clock: BrokerClock
    ) -> None:
        self._codec = codec
        self._texts = texts
        self._policy = policy
        self._broker_clock = broker_clock
        self._epoch = -1
        self._committed: dict[Partition, int] = {}
        self._fetched: dict[Partition, deque[_Fetched]] = {}
        self._text_waits = Repeats(tolerated=3)
        self.gathered: deque[tuple[BatchToGather, Gathered]] = deque()  # any thread may append

    def __len__(self) -> int:
        return sum(map(len, self._fetched.values()))

    def begin(self, fetched: FetchedRecords) -> None:
        """Forget what was fetched in the last epoch: it is fetched again."""
        self._epoch = fetched.epoch
        self._committed = {**fetched.owned_positions, **fetched.start}
        self._fetched = {tp: deque() for tp in self._committed}
        self.gathered.clear()

    def accept(self, message: Message) -> BatchToGather | None:
        """Note a fetched batch; one that is no valid batch is named and skipped."""
        at = coordinates_of(message)
        fetched = _Fetched(at, message.key())
        self._fetched[Partition(at.topic, at.partition)].append(fetched)
        try:
            event = self._codec.decode_as(CJBatchPrepared, message.value())
        except BadRecord as fault:
            if isinstance(fault, UnknownSchema) and fault.may_be_later:
                raise UnknownSchema(f"{at}: {fault}: upgrade the judges first") from fault
            log.warning("not a batch: skipped", extra={"at": str(at), "reason": str(fault)})
            fetched.is_skipped = True
            return None
        return BatchToGather(PreparedBatch(at, message.key(), event), self._epoch)

    def take_gathered(self) -> None:
        """Prepare the first record or the refusal of each batch whose texts have come."""
        while self.gathered:
            wanted, gathered = self.gathered[0]
            if wanted.epoch == self._epoch:
                try:
                    self._prepare(wanted.batch, gathered)
                except Unreachable as fault:  # the request's own texts must be stored first
                    fields = {"batch": str(wanted.batch.at), "reason": str(fault)}
                    log.log(
                        self._text_waits.next_level(), "a batch waits for the store", extra=fields
                    )
                    return
            self.gathered.popleft()

    def _prepare(self, batch: PreparedBatch, gathered: Gathered) -> None:
        for fetched in self._fetched[Partition(batch.at.topic, batch.at.partition)]:
            if fetched.at == batch.at:
                opened = open_run(batch, gathered, self._policy, self._broker_clock.now_ms)
                if isinstance(opened, Opened):
                    self._texts.add(gathered.texts)
                    for text in opened.own_texts:
                        self._texts.put(text)
                fetched.opened = opened

    def open_ready(self, draft: Draft, runs: OpenRuns) -> None:
        """Open or refuse the batches that are ready; a batch is never passed by a later one of its partition."""
        for waiting in self._fetched.values():
            for fetched in waiting:
                if not fetched.is_ready:
                    break
                draft.consume(fetched.at)
                number = fetched.at.partition
                if isinstance(fetched.opened, CJBatchJudged):
                    draft.add_result(CommittedResult(fetched.opened), number, fetched.key)
                elif fetched.opened is not None:
                    record = fetched.opened.record
                    if runs.get(record.run_id) or record.run_id in draft.runs:
                        log.warning("a batch came twice: skipped", extra={"at": str(fetched.at)})
                        continue
                    draft.add(None, record, number)

    def committed_positions(self, topic: str, numbers: Collection[int]) -> Positions:
        """The committed positions of these partitions."""
        partitions = (Partition(topic, number) for number in sorted(numbers))
        return {tp: self._committed[tp] for tp in partitions}

    def committed(self, next_offsets: Mapping[Partition, int]) -> None:
        """After a commit: forget the batches before these positions."""
        self._committed.update(next_offsets)
        for tp, position in next_offsets.items():
            while self._fetched[tp] and self._fetched[tp][0].at.offset < position:
                self._fetched[tp].popleft()
