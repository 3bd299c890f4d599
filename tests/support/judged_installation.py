"""Prepared batches of one partition and their judging, in memory; the judge process's own code makes every record."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from processors.judging.calls import (
    CallToSend,
    EndedCall,
    bounds_of,
    record_of,
    request_of,
)
from processors.judging.prompt import prompt_sha256
from processors.judging.record_checksum import checksum_headers
from processors.judging.run_opening import (
    JudgingPolicy,
    Opened,
    PreparedBatch,
    gather,
    open_run,
    texts_of,
)
from processors.judging.run_texts import RunTexts
from processors.judging.simulated import (
    NO_FAULTS,
    SimulatedFaults,
    SimulatedJudge,
    SimulatedMind,
    simulated_model,
)
from processors.kafka.records import LogRecord
from processors.log.judging_log import JudgingLog
from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import resolve
from processors.policy import Policy
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.events import CJBatchPrepared, Essay
from schemas.judging_events import (
    CallsIntended,
    CJBatchJudged,
    IntendedCall,
    JudgingEvent,
    JudgingStopped,
    RecordRange,
    WavePlanned,
)
from schemas.models import PUSD_PER_USD, Models
from schemas.overrides import JudgingLimits
from schemas.topics import Topic
from tables.content_store import ContentStore
from tables.judging.next_step import Call, Intend, Plan, next_step
from tables.judging.result import result_of
from tables.judging.run import Run, abandon_calls, fold
from tables.judging.stopping_rule import Stop
from tests.support.builders import (
    context_after,
    instructions_uploaded,
    prompt_uploaded,
    requested,
)
from tools.audit.judging.run_check import result_sha256

CODEC = Codec()
TASK, CRITERIA = "Should homework be banned?", "Judge the argument."
MODEL = simulated_model(SimulatedMind())
LIMITS = JudgingLimits(max_cost_pusd=PUSD_PER_USD, max_seconds=3600)
SECOND_MS = 1000


class MemoryJudgingLog(JudgingLog):
    """The records of an installation in memory."""

    def __init__(self, settings: Settings, topics: dict[str, list[LogRecord]]) -> None:
        super().__init__(settings)
        self.topics = topics
        self.committed_offsets: dict[Partition, int] = {}
        self.log_starts: dict[Partition, int] = {}

    def ranges_of(self, *topics: Topic) -> dict[Partition, tuple[int, int]]:
        return {
            tp: (self.log_starts.get(tp, 0), end)
            for tp, end in self.high_watermarks(*topics).items()
        }

    def high_watermarks(self, *topics: Topic) -> Positions:
        return {Partition(topic.name, 0): len(self.topics[topic.name]) for topic in topics}

    def records(self, starts: Positions, ends: Positions) -> Iterator[LogRecord]:
        for tp, start in starts.items():
            yield from self.topics[tp.topic][max(start, self.log_starts.get(tp, 0)) : ends[tp]]

    def records_at(self, wanted: Iterable[Coordinates]) -> Iterator[LogRecord]:
        for at in sorted(wanted):
            low = self.log_starts.get(Partition(at.topic, at.partition), 0)
            if low <= at.offset < len(self.topics[at.topic]):
                yield self.topics[at.topic][at.offset]

    def committed(self, topic: Topic) -> Positions:
        return {tp: at for tp, at in self.committed_offsets.items() if tp.topic == topic.name}


@dataclass
class JudgedInstallation:
    """One partition of everything; the clock moves with every record."""

    settings: Settings
    now_ms: int = 1_700_000_000_000
    policy: JudgingPolicy = field(
        default_factory=lambda: JudgingPolicy(
            models=Models((MODEL,)),
            default=MODEL,
            limits=LIMITS,
            items_max=1000,
            guests_allowed=True,
        )
    )

    def __post_init__(self) -> None:
        self.topics = self.settings.topics
        self.store = ContentStore.open(self.settings.content)
        self.texts = RunTexts(self.store)
        self.log = MemoryJudgingLog(self.settings, {topic.name: [] for topic in self.topics.all})

    def append(
        self, topic: Topic, key: bytes | None, value: bytes, *, has_checksum: bool = True
    ) -> Coordinates:
        """Append a record of judging, or with has_checksum False any other."""
        self.now_ms += 1
        records = self.log.topics[topic.name]
        at = Coordinates(topic.name, 0, len(records))
        headers = tuple(checksum_headers(value)) if has_checksum else ()
        records.append(LogRecord(at, key, value, headers, self.now_ms))
        return at

    def prepare(
        self,
        name: str,
        essays: int = 4,
        overrides: Any = None,
        texts: Sequence[str] = (),
        **changes: Any,
    ) -> PreparedBatch:
        """Append a prepared batch; its texts are stored."""
        for text in (TASK, CRITERIA):
            self.store.put(text.encode())
        written = texts or [f"Essay {number} of {name}." for number in range(essays)]
        ids = [self.store.put(text.encode()).storage_id for text in written]
        request = requested(
            batch_id=name,
            essays=tuple(
                Essay(essay_id=f"e-{number}", text_storage_id=storage_id)
                for number, storage_id in enumerate(ids)
            ),
            llm_config_overrides=None if overrides is None else orjson.dumps(overrides).decode(),
            **changes,
        )
        context = context_after(instructions_uploaded(CRITERIA), prompt_uploaded(TASK))
        offset = len(self.log.topics[self.topics.batches.name])
        at = Coordinates(self.topics.requests.name, 0, offset)
        event = outcome_of(request, at, resolve(request, context, Policy()))
        assert isinstance(event, CJBatchPrepared)
        value = CODEC.encode(event)
        batch_at = self.append(self.topics.batches, name.encode(), value, has_checksum=False)
        self.log.committed_offsets[Partition(self.topics.batches.name, 0)] = batch_at.offset + 1
        return PreparedBatch(batch_at, name.encode(), event)

    def judge(
        self, batch: PreparedBatch, faults: SimulatedFaults = NO_FAULTS, *, waves: int = 1000
    ) -> Run | None:
        """Judge a batch to its result, or until so many waves are over; returns its run, None if it is refused."""
        gathered = gather(self.store, texts_of(batch.event))
        opened = open_run(batch, gathered, self.policy, self.now_ms)
        if not isinstance(opened, Opened):
            self.append(self.topics.results, batch.key, CODEC.encode(opened))
            return None
        for text in opened.own_texts:
            self.texts.put(text)
        start = len(self.log.topics[self.topics.judging.name])
        run = self._write(None, opened.record)
        judge = SimulatedJudge(_no_wait, {}, faults)
        while len(run.waves) <= waves:
            step = next_step(run, self.now_ms, bounds_of(run, self.texts.get), 8)
            match step:
                case Plan():
                    event = WavePlanned(
                        run_id=run.opened.run_id, wave=step.wave, comparisons=step.comparisons
                    )
                    run = self._write(run, event)
                case Intend():
                    run = self._ask(run, step.calls, judge)
                case Stop():
                    return self._stop(run, step, start, batch.key)
                case _:
                    assert step.until_ms is not None
                    self.now_ms = step.until_ms
        return run

    def _ask(self, run: Run, calls: Sequence[Call], judge: SimulatedJudge) -> Run:
        requests = [request_of(run, call, self.texts.get) for call in calls]
        sums = [prompt_sha256(request.prompt) for request in requests]
        intended = tuple(
            IntendedCall(
                number=call.number,
                attempt=call.attempt,
                prompt_sha256=checksum,
                bound_pusd=call.bound_pusd,
            )
            for call, checksum in zip(calls, sums, strict=True)
        )
        run = self._write(run, CallsIntended(run_id=run.opened.run_id, mode="live", calls=intended))
        for request, checksum in zip(requests, sums, strict=True):
            outcome = asyncio.run(judge.ask(request, 10))
            kept = self.store.put(outcome.response).storage_id if outcome.response else None
            sent = CallToSend(request, checksum, 0, self.now_ms)
            record = record_of(run, EndedCall(sent, outcome, 5, kept))
            assert record is not None
            run = self._write(run, record)
        return run

    def _stop(self, run: Run, stop: Stop, start: int, key: bytes | None) -> Run:
        end = len(self.log.topics[self.topics.judging.name])
        judging = RecordRange(topic=self.topics.judging.name, partition=0, start=start, end=end)
        value = CODEC.encode(result_of(abandon_calls(run), stop, judging))
        stopped = JudgingStopped(
            run_id=run.opened.run_id,
            outcome=stop.outcome,
            reason=stop.reason,
            decided_at_ms=self.now_ms,
            result_sha256=result_sha256(value),
        )
        run = self._write(run, stopped)
        self.append(self.topics.results, key, value)
        return run

    def _write(self, run: Run | None, event: JudgingEvent) -> Run:
        self.append(self.topics.judging, event.run_id.encode(), CODEC.encode(event))
        return fold(run, event)

    def record(self, at: Coordinates) -> LogRecord:
        """The record at these coordinates."""
        return self.log.topics[at.topic][at.offset]

    def find(self, kind: type, number: int = 0) -> Coordinates:
        """The coordinates of one of the records with an event of this class."""
        topic = self.topics.results if kind is CJBatchJudged else self.topics.judging
        found = [
            record.at
            for record in self.log.topics[topic.name]
            if isinstance(CODEC.decode(record.value), kind)
        ]
        return found[number]

    def change(self, at: Coordinates, **changes: Any) -> None:
        """Replace an event by a changed one, with the checksum that belongs to it."""
        event: Any = CODEC.decode(self.record(at).value)
        value = CODEC.encode(replace(event, **changes))
        self.replace(at, value=value, headers=tuple(checksum_headers(value)))

    def replace(self, at: Coordinates, **changes: Any) -> None:
        """Replace parts of a record."""
        self.log.topics[at.topic][at.offset] = replace(self.record(at), **changes)


async def _no_wait(_seconds: float) -> None:
    pass
