"""One cycle of the judge process: fetch, fold, decide, commit; only then are calls sent.

The cycle thread alone calls it. Texts are gathered and judges are asked elsewhere; what comes of it is put into
`gathered` and `ended`.
"""

import hashlib
import logging
import random
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from confluent_kafka import Message

from processors.exactly_once.batch import Batch
from processors.exactly_once.committer import Committer
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import FetchedRecords, GroupConsumer
from processors.judging.calls import CallToSend, EndedCall, bounds_of, record_of, request_of
from processors.judging.endpoints import Endpoint, new_endpoint
from processors.judging.judge import CallId
from processors.judging.observer import (
    CommittedCall,
    CommittedResult,
    JudgingObserver,
    NoJudgingObserver,
)
from processors.judging.open_runs import OpenRun, OpenRuns
from processors.judging.prompt import prompt_sha256
from processors.judging.record_checksum import checksum_headers
from processors.judging.run_opening import (
    Gathered,
    JudgingPolicy,
    Opened,
    PreparedBatch,
    open_run,
)
from processors.judging.run_texts import RunTexts
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock, Repeats
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.plain_producer import Deliveries
from processors.kafka.records import Record, coordinates_of
from schemas.codec import FRAME, Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import (
    BadRecord,
    ContentCorrupt,
    ContentMissing,
    Malformed,
    Misconfigured,
    UnknownSchema,
    Unreachable,
)
from schemas.events import CJBatchPrepared
from schemas.judging_events import (
    CallsIntended,
    CJBatchJudged,
    IntendedCall,
    JudgingEvent,
    JudgingStopped,
    RecordRange,
    WavePlanned,
)
from schemas.topics import Topics
from tables.judging.next_step import Intend, Plan, next_step
from tables.judging.result import result_of
from tables.judging.run import Run, fold
from tables.judging.stopping_rule import Stop

log = logging.getLogger("cjstream.judging")
CYCLE_S = 0.02
EndpointName = tuple[str, str]  # provider, model


@dataclass(frozen=True, slots=True)
class BatchToGather:
    """A fetched batch whose texts are to be read, in the background."""

    batch: PreparedBatch
    epoch: int


@dataclass(frozen=True, slots=True)
class ToDo:
    """What the event loop has to do after a cycle."""

    gather: tuple[BatchToGather, ...] = ()
    send: tuple[CallToSend, ...] = ()


@dataclass(slots=True)
class _Fetched:
    """A fetched batch that no commit covers yet; opened: its first record or its refusal, once the texts are there."""

    at: Coordinates
    key: bytes | None
    opened: Opened | CJBatchJudged | None = None
    is_skipped: bool = False

    @property
    def is_ready(self) -> bool:
        return self.is_skipped or self.opened is not None


@dataclass(slots=True)
class _Draft:
    """What one transaction will write. runs: each changed run, None once it has stopped."""

    records: list[Record] = field(default_factory=list)
    runs: dict[str, Run | None] = field(default_factory=dict)
    writers: list[str | None] = field(
        default_factory=list
    )  # of each record: its run, None for a result
    numbers: set[int] = field(default_factory=set)  # partitions
    next_offsets: dict[Partition, int] = field(default_factory=dict)
    calls: list[CallToSend] = field(default_factory=list)
    ended: list[CallId] = field(default_factory=list)
    outcomes: list[CommittedCall] = field(default_factory=list)  # for metrics, as the next one
    results: list[CommittedResult] = field(default_factory=list)


class Cycle:
    """The judge process between two waits."""

    def __init__(
        self,
        topics: Topics,
        codec: Codec,
        consumer: GroupConsumer,
        epochs: FetchEpoch,
        committer: Committer,
        runs: OpenRuns,
        texts: RunTexts,
        policy: JudgingPolicy,
        known: Collection[EndpointName],
        broker_clock: BrokerClock,
        concurrency_max: int,
        runs_max: int,
        drain_s: float,
        alive: set[CallId],
        clock: Clock = SYSTEM_CLOCK,
        observer: JudgingObserver | None = None,
    ) -> None:
        self._observer = observer or NoJudgingObserver()
        self._topics = topics
        self._codec = codec
        self._consumer = consumer
        self._epochs = epochs
        self._committer = committer
        self._runs = runs
        self._texts = texts
        self._policy = policy
        self._known = known  # the judges that this process can ask
        self._broker_clock = broker_clock
        self._concurrency_max = concurrency_max
        self._runs_max = runs_max
        self._drain_s = drain_s
        self._alive = alive  # calls that were committed here and whose outcomes are not
        self._clock = clock
        self._random = random.Random()  # of pauses only; nothing that is recorded depends on it
        self._endpoints: dict[EndpointName, Endpoint] = {}
        self._ended: dict[CallId, EndedCall] = {}  # not committed yet
        self._fetched: dict[Partition, deque[_Fetched]] = {}
        self._committed: dict[Partition, int] = {}
        self._epoch = -1
        self._text_waits = Repeats(tolerated=3)
        self._waiting_runs = set[str]()  # that were logged
        self.gathered: deque[tuple[BatchToGather, Gathered]] = deque()
        self.ended: SimpleQueue[EndedCall] = SimpleQueue()
        self.is_stopping = False

    def run(self) -> ToDo:
        """One cycle; waits for records only if no outcome has come.

        1. fetch  2. open  3. fold, plan, intend, stop  4. produce, count, commit  5. what is to be sent

        Raises Fenced, Discrepancy.
        """
        self._consumer.hold(len(self._runs) + self._waiting >= self._runs_max or self.is_stopping)
        is_idle = self.ended.empty() and not self.gathered
        fetched = self._consumer.poll(CYCLE_S if is_idle else 0)  # 1
        started_s = self._clock.monotonic()
        self._take_ended()
        if fetched is None:
            return ToDo()
        if fetched.epoch != self._epoch:
            self._begin(fetched)
        self._broker_clock.observe(fetched.appended_at_ms)
        gather = tuple(filter(None, map(self._accept, fetched.messages)))
        self._take_gathered()
        draft = _Draft()
        self._open(draft)  # 2
        self._record_outcomes(draft)  # 3
        if self._broker_clock.now_ms:
            for one in self._runs.by_urgency():  # those that it opens begin in the next cycle
                self._advance(one, draft)
        send = self._commit(draft, fetched.group, fetched.epoch)  # 4, 5
        self._observer.cycle_took(self._clock.monotonic() - started_s)
        return ToDo(gather, send)

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._fetched.values()))

    @property
    def calls_in_flight(self) -> int:
        """Calls that were sent and have no committed outcome."""
        return len(self._alive)

    @property
    def open_runs(self) -> int:
        """Runs without a result; any thread may ask."""
        return len(self._runs)

    @property
    def endpoints(self) -> Mapping[EndpointName, Endpoint]:
        """What is known of the judges that were asked; any thread may ask."""
        return dict(self._endpoints)

    def _begin(self, fetched: FetchedRecords) -> None:
        """Forget what was fetched in the last epoch: it is fetched again."""
        self._epoch = fetched.epoch
        self._committed = {**fetched.owned_positions, **fetched.start}
        self._fetched = {tp: deque() for tp in self._committed}
        self.gathered.clear()

    def _accept(self, message: Message) -> BatchToGather | None:
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

    def _take_gathered(self) -> None:
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

    def _take_ended(self) -> None:
        """Take note of the calls that have ended."""
        while not self.ended.empty():
            self._note_ended(self.ended.get())

    def _note_ended(self, ended: EndedCall) -> None:
        """Free the slot of a call, and keep its outcome until it is committed."""
        call, name = ended.call.request.call, _endpoint_of_call(ended.call)
        endpoint = self._endpoint(name)
        if ended.outcome is None:
            self._endpoints[name] = endpoint.released(1)
            self._alive.discard(call)
            self._runs.abandon(call)
            return
        jitter, now_ms = self._random.uniform(0.5, 1.0), self._now_ms()
        self._endpoints[name] = endpoint.ended(
            ended.outcome, now_ms - ended.took_ms, now_ms, jitter
        )
        self._ended[call] = ended

    def drain(self, revoked: Collection[Partition], group: bytes) -> None:
        """Before partitions are given up: wait for their calls in flight, and commit the results.

        group: the metadata after the rebalance; until this returns, nobody else owns the partitions. Their other calls
        are in doubt.
        """
        numbers = {tp.partition for tp in revoked}
        deadline = self._clock.monotonic() + self._drain_s
        while self._epochs.number == self._epoch and self._is_asking(numbers):
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                break
            with suppress(Empty):
                self._note_ended(self.ended.get(timeout=left_s))
        if self._epochs.number == self._epoch:
            draft = _Draft()
            self._record_outcomes(draft)
            self._commit(draft, group, self._epoch)

    def _is_asking(self, numbers: Collection[int]) -> bool:
        """Whether a call of these partitions is in flight."""
        runs = (self._runs.get(call.run_id) for call in self._alive - self._ended.keys())
        return any(one is not None and one.number in numbers for one in runs)

    def _now_ms(self) -> int:
        return round(self._clock.monotonic() * 1000)

    def _endpoint(self, name: EndpointName) -> Endpoint:
        return self._endpoints.setdefault(name, new_endpoint(self._concurrency_max))

    def _open(self, draft: _Draft) -> None:
        """Open or refuse the batches that are ready; a batch is never passed by a later one of its partition."""
        for tp, waiting in self._fetched.items():
            for fetched in waiting:
                if not fetched.is_ready:
                    break
                draft.next_offsets[tp] = fetched.at.offset + 1
                draft.numbers.add(tp.partition)
                if isinstance(fetched.opened, CJBatchJudged):
                    self._add_result(draft, fetched.opened, tp.partition, fetched.key)
                    draft.results.append(CommittedResult(fetched.opened))
                elif fetched.opened is not None:
                    record = fetched.opened.record
                    if self._runs.get(record.run_id) or record.run_id in draft.runs:
                        log.warning("a batch came twice: skipped", extra={"at": str(fetched.at)})
                        continue
                    self._add(draft, None, record, tp.partition)

    def _record_outcomes(self, draft: _Draft) -> None:
        for call, ended in list(self._ended.items()):
            one = self._runs.get(call.run_id)
            run = draft.runs.get(call.run_id, one.run if one else None)
            record = record_of(run, ended) if run is not None else None
            if one is None or run is None or record is None:
                del self._ended[call]  # its run has another owner, or has ended, or the log has it
                self._alive.discard(call)
                continue
            self._add(draft, run, record, one.number)
            draft.ended.append(call)
            draft.outcomes.append(CommittedCall(*_endpoint_of_call(ended.call), record))

    def _advance(self, one: OpenRun, draft: _Draft) -> None:
        """Plan, intend and stop, as far as the run's records allow it now."""
        run_id = one.run.opened.run_id
        run = draft.runs.get(run_id, one.run)
        if run is None:
            return
        try:
            self._check_known(run)
            self._take_steps(one, run, draft)
            self._waiting_runs.discard(run_id)
        except (Unreachable, ContentMissing, ContentCorrupt, Malformed, Misconfigured) as fault:
            if run_id not in self._waiting_runs:
                fields = {"run_id": run_id, "reason": str(fault)}
                log.warning("a run cannot ask its judge", extra=fields)
                self._waiting_runs.add(run_id)
            now_ms = self._broker_clock.now_ms
            if now_ms >= run.opened.deadline_at_ms:  # its time goes on
                step = next_step(run, now_ms, slots=0)
                if isinstance(step, Stop):
                    self._stop(draft, run, step, one)

    def _check_known(self, run: Run) -> None:
        judge = run.opened.judge
        if (judge.provider, judge.model) not in self._known:
            raise Misconfigured(f"its judge {judge.provider}/{judge.model} is not configured here")

    def _take_steps(self, one: OpenRun, run: Run, draft: _Draft) -> None:
        bound_of = bounds_of(run, self._texts.get)
        name = (run.opened.judge.provider, run.opened.judge.model)
        while True:
            slots = 0 if self.is_stopping else self._endpoint(name).slots(self._now_ms())
            match next_step(run, self._broker_clock.now_ms, bound_of, slots):
                case Plan() as plan:
                    event = WavePlanned(
                        run_id=run.opened.run_id, wave=plan.wave, comparisons=plan.comparisons
                    )
                    run = self._add(draft, run, event, one.number)
                case Intend() as intend:
                    self._intend(draft, run, intend, one.number)
                    return
                case Stop() as stop:
                    self._stop(draft, run, stop, one)
                    return
                case _:
                    return

    def _intend(self, draft: _Draft, run: Run, step: Intend, number: int) -> None:
        requests = [request_of(run, call, self._texts.get) for call in step.calls]
        sums = [prompt_sha256(request.prompt) for request in requests]
        intended = tuple(
            IntendedCall(
                number=call.number,
                attempt=call.attempt,
                prompt_sha256=checksum,
                bound_pusd=call.bound_pusd,
            )
            for call, checksum in zip(step.calls, sums, strict=True)
        )
        event = CallsIntended(run_id=run.opened.run_id, mode="live", calls=intended)
        self._add(draft, run, event, number)
        name = (run.opened.judge.provider, run.opened.judge.model)
        self._endpoints[name] = self._endpoint(name).taken(len(requests))
        draft.calls += [
            CallToSend(request, checksum, self._epoch, self._broker_clock.now_ms)
            for request, checksum in zip(requests, sums, strict=True)
        ]

    def _stop(self, draft: _Draft, run: Run, stop: Stop, one: OpenRun) -> None:
        if run.opened.run_id in draft.runs:
            return  # in the next cycle: the result names the positions of all of its run's records
        judging = RecordRange(
            topic=self._topics.judging.name, partition=one.number, start=one.start, end=one.end
        )
        result = result_of(run, stop, judging)
        body = self._codec.encode(result)[FRAME.size :]
        event = JudgingStopped(
            run_id=run.opened.run_id,
            outcome=stop.outcome,
            reason=stop.reason,
            decided_at_ms=self._broker_clock.now_ms,
            result_sha256=hashlib.sha256(body).hexdigest(),
        )
        self._add(draft, run, event, one.number)
        draft.runs[run.opened.run_id] = None
        self._add_result(draft, result, one.number, run.opened.batch_key)
        seconds = (event.decided_at_ms - run.opened.opened_at_ms) / 1000
        draft.results.append(CommittedResult(result, seconds, run.opened.judge.provider))

    def _add(self, draft: _Draft, run: Run | None, event: JudgingEvent, number: int) -> Run:
        """Add a judging record; returns the run after it."""
        key, value = event.run_id.encode(), self._codec.encode(event)
        draft.records.append(
            Record(self._topics.judging.name, number, key, value, checksum_headers(value))
        )
        draft.writers.append(event.run_id)
        draft.numbers.add(number)
        run = fold(run, event)
        draft.runs[event.run_id] = run
        return run

    def _add_result(
        self, draft: _Draft, result: CJBatchJudged, number: int, key: bytes | None
    ) -> None:
        value = self._codec.encode(result)
        draft.records.append(
            Record(self._topics.results.name, number, key, value, checksum_headers(value))
        )
        draft.writers.append(None)
        draft.numbers.add(number)

    def _commit(self, draft: _Draft, group: bytes, epoch: int) -> tuple[CallToSend, ...]:
        """Commit the draft; returns the calls that may be sent now."""
        if not draft.records and not draft.next_offsets:
            return ()
        batches = self._topics.batches.name
        start = {
            Partition(batches, number): self._committed[Partition(batches, number)]
            for number in sorted(draft.numbers)
        }
        end = {**start, **draft.next_offsets}
        open_after = {run_id for run_id, run in self._all_runs(draft).items() if run is not None}
        deliveries = Deliveries()
        batch = Batch(
            draft.records,
            0,
            start,
            end,
            group,
            epoch,
            internal=len(draft.records),
            state_offsets={
                Partition(self._topics.judging.name, number): self._runs.offset_to_commit(
                    number, open_after
                )
                for number in sorted(draft.numbers)
            },
            deliveries=deliveries,
        )
        self._committer.commit(batch)
        if self._epochs.number != epoch:  # nothing was committed, as far as this process knows
            self._release(draft)
            return ()
        self._committed.update(end)
        for tp, position in draft.next_offsets.items():
            while self._fetched[tp] and self._fetched[tp][0].at.offset < position:
                self._fetched[tp].popleft()
        self._note_written(draft, deliveries)
        for call in draft.ended:
            del self._ended[call]
            self._alive.discard(call)
        self._alive.update(call.request.call for call in draft.calls)
        for outcome in draft.outcomes:
            self._observer.committed_call(outcome)
        for one in draft.results:
            self._observer.committed_result(one)
        return tuple(draft.calls)

    def _all_runs(self, draft: _Draft) -> Mapping[str, Run | None]:
        return {**{one.run.opened.run_id: one.run for one in self._runs.by_urgency()}, **draft.runs}

    def _note_written(self, draft: _Draft, deliveries: Deliveries) -> None:
        messages = zip(deliveries.messages, draft.writers, strict=True)
        self._runs.written(
            (message, draft.runs[run_id]) for message, run_id in messages if run_id is not None
        )
        self._runs.remove(run_id for run_id, run in draft.runs.items() if run is None)

    def _release(self, draft: _Draft) -> None:
        """Give back the slots of calls whose intention was not committed."""
        for call in draft.calls:
            name = _endpoint_of_call(call)
            self._endpoints[name] = self._endpoint(name).released(1)


def _endpoint_of_call(call: CallToSend) -> EndpointName:
    return call.request.prompt.provider, call.request.prompt.model
