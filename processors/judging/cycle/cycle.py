"""One cycle of the judge process: fetch, fold, decide, commit; only then are calls sent.

The cycle thread alone calls it. Texts are gathered and judges are asked elsewhere; what comes of it is passed to
`note_gathered` and `note_ended`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from processors.exactly_once.group_consumer import FetchedRecords, GroupConsumer
from processors.judging.calls import CallToSend, EndedCall
from processors.judging.cycle.calls_in_flight import CallsInFlight
from processors.judging.cycle.draft import Draft
from processors.judging.cycle.draft_commit import DraftCommit
from processors.judging.cycle.fetched_batches import BatchToGather, FetchedBatches
from processors.judging.cycle.run_steps import RunSteps
from processors.judging.observer import JudgingObserver
from processors.judging.open_runs import OpenRuns
from processors.judging.run_items import Gathered
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from processors.kafka.broker_clock import BrokerClock
from schemas.coordinates import Partition

CYCLE_S = 0.02


@dataclass(frozen=True, slots=True)
class ToDo:
    """What the event loop has to do after a cycle."""

    gather: tuple[BatchToGather, ...] = ()
    send: tuple[CallToSend, ...] = ()


@dataclass(frozen=True, slots=True)
class CycleParts:
    """What a cycle works on, all of it of the cycle thread."""

    consumer: GroupConsumer
    broker_clock: BrokerClock
    runs: OpenRuns
    batches: FetchedBatches
    calls: CallsInFlight
    steps: RunSteps
    commit: DraftCommit


class Cycle:
    """The judge process between two waits."""

    def __init__(
        self,
        parts: CycleParts,
        runs_max: int,
        drain_s: float,
        observer: JudgingObserver,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._parts = parts
        self._runs_max = runs_max
        self._drain_s = drain_s
        self._observer = observer
        self._clock = clock
        self._epoch = -1
        self.begun = 0  # how many cycles have begun; any thread may ask

    def run(self) -> ToDo:
        """One cycle; waits for records only if no outcome has come.

        1. fetch  2. open  3. fold, plan, intend, stop  4. produce, count, commit  5. what is to be sent

        Raises Fenced, Discrepancy.
        """
        self.begun += 1
        parts = self._parts
        is_full = len(parts.runs) + len(parts.batches) >= self._runs_max
        parts.consumer.hold(is_full or parts.steps.is_stopping)
        is_idle = parts.calls.ended.empty() and not parts.batches.gathered
        fetched = parts.consumer.poll(CYCLE_S if is_idle else 0)  # 1
        started_s = self._clock.monotonic()
        parts.calls.take_ended()
        if fetched is None:
            return ToDo()
        self._follow(fetched)
        parts.broker_clock.observe(fetched.appended_at_ms)
        gather = tuple(filter(None, map(parts.batches.accept, fetched.messages)))
        parts.batches.take_gathered()
        draft = parts.commit.new_draft()
        parts.batches.open_ready(draft, parts.runs)  # 2
        parts.calls.record_outcomes(draft)  # 3
        parts.steps.take(draft, self._epoch)
        send = self._commit(draft, fetched.group)  # 4, 5
        self._observer.cycle_took(self._clock.monotonic() - started_s)
        return ToDo(gather, send)

    def _follow(self, fetched: FetchedRecords) -> None:
        if fetched.epoch != self._epoch:
            self._epoch = fetched.epoch
            self._parts.batches.begin(fetched)

    def _commit(self, draft: Draft, group: bytes) -> tuple[CallToSend, ...]:
        """Commit the draft; returns the calls that may be sent now."""
        if draft.is_empty:
            return ()
        if not self._parts.commit.commit(draft, group, self._epoch):
            self._parts.calls.not_committed(draft)
            return ()
        self._parts.calls.committed(draft)
        return tuple(draft.calls)

    def drain(self, revoked: Collection[Partition], group: bytes) -> None:
        """Before partitions are given up: wait for their calls in flight, and commit the results.

        group: the metadata after the rebalance; until this returns, nobody else owns the partitions. Their other calls
        are in doubt.
        """
        parts, numbers = self._parts, {tp.partition for tp in revoked}
        # maybe since the last cycle, after an abort or another rebalance
        if begun := parts.consumer.begun(group):
            self._follow(begun)
        deadline = self._clock.monotonic() + self._drain_s
        while parts.commit.is_current(self._epoch) and parts.calls.are_of(numbers):
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                break
            parts.calls.wait_for_ended(left_s)
        if parts.commit.is_current(self._epoch):
            draft = parts.commit.new_draft()
            parts.calls.record_outcomes(draft)
            self._commit(draft, group)

    def note_gathered(self, batch: BatchToGather, texts: Gathered) -> None:
        """Pass on the texts of a batch; any thread may call it."""
        self._parts.batches.gathered.append((batch, texts))

    def note_ended(self, ended: EndedCall) -> None:
        """Pass on the outcome of a call; any thread may call it."""
        self._parts.calls.ended.put(ended)

    def stop_asking(self) -> None:
        """Fetch, open and ask nothing more: only outcomes are committed from now on."""
        self._parts.steps.is_stopping = True

    @property
    def calls_in_flight(self) -> int:
        """Calls that were sent and have no committed outcome."""
        return len(self._parts.calls)

    @property
    def open_runs(self) -> int:
        """Runs without a result; any thread may ask."""
        return len(self._parts.runs)
