"""Prepared batches of one partition and their judging, in memory; the judge process's own code makes every record."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from processors.judging.deciding_records import stopped_run
from processors.judging.judges.simulated import (
    NO_FAULTS,
    SimulatedFaults,
    SimulatedJudge,
    SimulatedMind,
    simulated_model,
)
from processors.judging.record_checksum import checksum_headers
from processors.judging.run_items import gather
from processors.judging.run_opening import (
    JudgingPolicy,
    Opened,
    PreparedBatch,
    open_run,
)
from processors.judging.run_texts import RunTexts
from processors.kafka.records import LogRecord
from processors.log.judging_log import JudgingLog
from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import resolve
from processors.policy import Policy
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.events import AnchorsDeleted, AnchorsUploaded, CJBatchPrepared, Essay, scope_key_of
from schemas.judging_events import (
    CJBatchJudged,
    JudgingEvent,
    RecordRange,
)
from schemas.models import PUSD_PER_USD, Models
from schemas.overrides import JudgingLimits
from schemas.topics import Topic
from tables.anchors import AnchorsFound
from tables.content_store import ContentStore
from tables.judging.result import result_of
from tables.judging.run import Run, abandon_calls, fold
from tables.judging.stopping_rule import Stop
from tests.support.builders import (
    anchor,
    anchors_uploaded,
    context_after,
    instructions_uploaded,
    prompt_uploaded,
    requested,
)
from tools.audit.judging.anchors_as_of import AnchorsAsOf
from tools.runner.in_process_judging import SimulatedClock, judging_records

CODEC = Codec()
TASK, CRITERIA = "Should homework be banned?", "Judge the argument."
MODEL = simulated_model(SimulatedMind())
LIMITS = JudgingLimits(max_cost_pusd=PUSD_PER_USD, max_seconds=3600)
SECOND_MS = 1000


class MemoryJudgingLog(JudgingLog):
    """The records of an installation in memory, each topic in one partition, whatever the settings say."""

    def __init__(self, settings: Settings, topics: dict[str, list[LogRecord]]) -> None:
        super().__init__(settings.model_copy(update={"partitions": 1}))
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
        self.thetas = dict[str, float]()  # known qualities, by storage id
        self.log = MemoryJudgingLog(self.settings, {topic.name: [] for topic in self.topics.all})

    def append(
        self, topic: Topic, key: bytes | None, value: bytes | None, *, has_checksum: bool = True
    ) -> Coordinates:
        """Append a record of judging, or with has_checksum False any other."""
        self.now_ms += 1
        records = self.log.topics[topic.name]
        at = Coordinates(topic.name, 0, len(records))
        headers = tuple(checksum_headers(value)) if has_checksum and value is not None else ()
        records.append(LogRecord(at, key, value, headers, self.now_ms))
        return at

    def prepare(
        self,
        name: str,
        essays: int = 4,
        overrides: Any = None,
        texts: Sequence[str] = (),
        scale: str = "swedish_8_anchor",
        **changes: Any,
    ) -> PreparedBatch:
        """Append a prepared batch of assignment a1; its texts are stored."""
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
        context = context_after(
            instructions_uploaded(CRITERIA, grade_scale=scale), prompt_uploaded(TASK)
        )
        offset = len(self.log.topics[self.topics.batches.name])
        at = Coordinates(self.topics.requests.name, 0, offset)
        event = outcome_of(request, at, resolve(request, context, Policy()))
        assert isinstance(event, CJBatchPrepared)
        value = CODEC.encode(event)
        batch_at = self.append(self.topics.batches, name.encode(), value, has_checksum=False)
        self.log.committed_offsets[Partition(self.topics.batches.name, 0)] = batch_at.offset + 1
        return PreparedBatch(batch_at, name.encode(), event)

    def upload_anchors(
        self, *graded: tuple[str, str], scale: str = "swedish_8_anchor", version: int = 1
    ) -> Coordinates:
        """Set the anchors of assignment a1, given by text and grade; their ids are k-0, k-1 and so on."""
        anchors = tuple(
            anchor(f"k-{number}", grade, scale, text) for number, (text, grade) in enumerate(graded)
        )
        for text, _ in graded:
            self.store.put(text.encode())
        return self.append_anchors(anchors_uploaded(*anchors, version=version))

    def append_anchors(self, event: AnchorsUploaded | AnchorsDeleted) -> Coordinates:
        """Append an event about the anchors of an assignment."""
        key = scope_key_of(event).encode()
        return self.append(self.topics.anchors, key, CODEC.encode(event), has_checksum=False)

    def find_anchors(self, assignment_id: str) -> AnchorsFound:
        """The anchors of an assignment at the end of the log."""
        end = len(self.log.topics[self.topics.anchors.name])
        return AnchorsAsOf(self.log, CODEC).find(assignment_id, end)

    def judge(
        self, batch: PreparedBatch, faults: SimulatedFaults = NO_FAULTS, *, waves: int = 1000
    ) -> Run | None:
        """Judge a batch to its result, or until so many waves are over; returns its run, None if it is refused."""
        gathered = gather(batch.event, self.store, self.find_anchors)
        opened = open_run(batch, gathered, self.policy, self.now_ms)
        if not isinstance(opened, Opened):
            self.append(self.topics.results, batch.key, CODEC.encode(opened))
            return None
        for text in opened.own_texts:
            self.texts.put(text)
        start = len(self.log.topics[self.topics.judging.name])
        judge = SimulatedJudge(_no_wait, self.thetas, faults)
        clock = SimulatedClock(self.now_ms)
        run: Run | None = None
        with asyncio.Runner() as runner:
            records = judging_records(
                opened.record,
                lambda question: runner.run(judge.ask(question, 10)),
                self.texts.get,
                clock,
                lambda response: self.store.put(response).storage_id,
            )
            try:
                while run is None or len(run.waves) <= waves:
                    self.now_ms = max(self.now_ms, clock.now_ms)
                    run = self._write(run, next(records))
                    clock.advance_to(self.now_ms)
            except StopIteration as ended:
                run, stop = ended.value
                return self._stop(run, stop, start, batch.key)
        return run

    def _stop(self, run: Run, stop: Stop, start: int, key: bytes | None) -> Run:
        end = len(self.log.topics[self.topics.judging.name])
        judging = RecordRange(topic=self.topics.judging.name, partition=0, start=start, end=end)
        result = result_of(abandon_calls(run), stop, judging)
        stopped = stopped_run(result, CODEC, self.now_ms)
        run = self._write(run, stopped)
        self.append(self.topics.results, key, CODEC.encode(result))
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
