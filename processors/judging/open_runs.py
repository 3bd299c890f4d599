"""The open runs of the owned partitions, as the judging log tells them."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from confluent_kafka import Consumer, Message, TopicPartition

from processors.judging.judges.judge import CallId
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.offsets import log_start
from processors.kafka.poll import poll_records, read_positions
from processors.kafka.records import broker_time_of, coordinates_of
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.errors import BadRecord, UnknownSchema
from schemas.judging_events import JudgingEvent, JudgingOpened
from tables.judging.run import Run, fold

log = logging.getLogger("cjstream.judging")
MAX_POLLED_RECORDS = 5000
TAKEOVER_S = 5.0  # then the group is served, and the takeover repeated
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not stopped, the number of its partition, and the positions `[start, end)` of its records."""

    run: Run
    number: int
    start: int
    end: int


class OpenRuns:
    """The runs by id, and the end of each partition; the cycle thread alone uses it.

    is_alive: whether the outcome of a call may still come in this process.
    """

    def __init__(
        self,
        codec: Codec,
        broker_clock: BrokerClock,
        high_watermarks: Callable[[Sequence[Partition]], Positions],
        new_reader: Callable[[], Consumer],
        is_alive: Callable[[CallId], bool],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._codec = codec
        self._broker_clock = broker_clock
        self._high_watermarks = high_watermarks
        self._new_reader = new_reader
        self._is_alive = is_alive
        self._clock = clock
        self._ends: dict[int, int] = {}
        self._by_id: dict[str, OpenRun] = {}

    def get(self, run_id: str) -> OpenRun | None:
        """The open run with this id."""
        return self._by_id.get(run_id)

    def by_urgency(self) -> list[OpenRun]:
        """The open runs, the earliest deadline first, then the oldest."""
        return sorted(
            self._by_id.values(),
            key=lambda one: (one.run.opened.deadline_at_ms, one.run.opened.opened_at_ms, one.start),
        )

    def __len__(self) -> int:
        return len(self._by_id)

    def offset_to_commit(self, number: int, open_after: Collection[str]) -> int:
        """From where a new owner must read a partition, if these runs are open then; new ones begin at its end."""
        starts = [
            one.start
            for run_id, one in self._by_id.items()
            if one.number == number and run_id in open_after
        ]
        return min([*starts, self._ends[number]])

    def written(self, messages: Iterable[tuple[Message, Run | None]]) -> None:
        """After a commit: its judging records in order, each with its run, None if that has stopped."""
        for message, run in messages:
            at = coordinates_of(message)
            self._broker_clock.observe(broker_time_of(message))
            self._ends[at.partition] = at.offset + 1
            if run is not None:
                self._put(run, at.partition, at.offset)

    def abandon(self, call: CallId) -> None:
        """Note that no outcome of a call will come: it is asked again."""
        known = self._by_id.get(call.run_id)
        if known is not None:
            one = known.run.comparison(call.number)
            if one.is_open and len(one.attempts) == call.attempt:
                run = known.run.with_comparison(replace(one, is_abandoned=True))
                self._by_id[call.run_id] = replace(known, run=run)

    def remove(self, run_ids: Iterable[str]) -> None:
        """Forget runs that have stopped."""
        for run_id in run_ids:
            self._by_id.pop(run_id, None)

    def _put(self, run: Run, number: int, offset: int) -> None:
        run_id = run.opened.run_id
        known = self._by_id.get(run_id)
        start = known.start if known else offset
        self._by_id[run_id] = OpenRun(run, number, start, offset + 1)

    def take_over(self, committed: Positions, _batches: Positions) -> set[Partition]:
        """Own exactly these judging partitions, and fold them from their committed offsets to their high watermarks.

        Returns those that have been read; if some are missing, call it again. Raises Unreachable, Discrepancy.
        """
        self._by_id, self._ends = {}, {}
        with closing(self._new_reader()) as reader:
            starts = {tp: max(offset, log_start(reader, tp)) for tp, offset in committed.items()}
            reader.assign([TopicPartition(*tp, start) for tp, start in starts.items()])
            ends = self._high_watermarks([*committed])
            positions = self._read(reader, starts, ends)
        complete = {tp for tp, end in ends.items() if positions[tp] >= end}
        self._ends = {tp.partition: positions[tp] for tp in complete}
        self._by_id = {
            run_id: replace(one, run=self._without_dead_calls(one.run))
            for run_id, one in self._by_id.items()
            if one.number in self._ends and one.run.stopped is None
        }
        log.info("open runs are known", extra={"runs": len(self._by_id)})
        return complete

    def _read(
        self, reader: Consumer, starts: Positions, ends: Positions
    ) -> Mapping[Partition, int]:
        positions = dict(starts)
        started_at = self._clock.monotonic()
        while any(positions[tp] < end for tp, end in ends.items()):
            for message in poll_records(reader, MAX_POLLED_RECORDS, POLL_S):
                self._apply(message)
            positions.update(read_positions(reader, positions))
            if self._clock.monotonic() - started_at > TAKEOVER_S:
                break
        return positions

    def _apply(self, message: Message) -> None:
        self._broker_clock.observe(broker_time_of(message))
        at = coordinates_of(message)
        try:
            event = self._codec.decode(message.value())
        except BadRecord as fault:
            if isinstance(fault, UnknownSchema) and fault.may_be_later:
                raise UnknownSchema(f"{at}: {fault}: upgrade the judges first") from fault
            log.warning("not a judging record", extra={"at": str(at), "reason": str(fault)})
            return
        if not isinstance(event, JudgingEvent):
            log.warning("not a judging record", extra={"at": str(at)})
            return
        known = self._by_id.get(event.run_id)
        if known is None and not isinstance(event, JudgingOpened):
            return  # of a run that had stopped before the committed offset
        self._put(fold(known.run if known else None, event), at.partition, at.offset)

    def _without_dead_calls(self, run: Run) -> Run:
        """The run in which every open call is asked again whose outcome cannot come any more."""
        for one in list(run.comparisons):
            call = CallId(run.opened.run_id, one.plan.number, len(one.attempts))
            if one.is_open and not self._is_alive(call):
                run = run.with_comparison(replace(one, is_abandoned=True))
        return run
