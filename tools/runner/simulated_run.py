"""A whole simulated run in process: resolved, opened, judged and published into lists instead of Kafka.

The simulated judge stands in for whatever judge the manifest names: nothing is paid, and prices are simulated.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import orjson

from processors.judging.deciding_records import stopped_run
from processors.judging.judges.judge import Answered, Failed, JudgeRequest
from processors.judging.judges.simulated import (
    NO_FAULTS,
    SimulatedFaults,
    SimulatedJudge,
    SimulatedMind,
    simulated_model,
)
from processors.judging.run_items import Gathered
from processors.judging.run_opening import (
    JudgingPolicy,
    Opened,
    PreparedBatch,
    open_run,
)
from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import resolve
from processors.policy import Policy
from schemas.canonical_json import canonical_json
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import Discrepancy
from schemas.events import (
    Anchor,
    AnchorsUploaded,
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    InstructionsUploaded,
    JudgeRubricUploaded,
    StudentPromptUploaded,
    UploadEvent,
)
from schemas.judging_events import (
    CJBatchJudged,
    JudgingEvent,
    RecordRange,
)
from schemas.models import Models
from schemas.overrides import JudgingLimits
from schemas.topics import Topic, Topics
from tables.anchors import AnchorsFound, anchors_found
from tables.context import fold as fold_upload
from tables.judging.result import result_of
from tools.runner.collected_run import CollectedRecord, CollectedRun
from tools.runner.in_process_judging import SimulatedClock, judging_records

REFUSALS = {
    "too_many_items": "give fewer texts, or raise CJSTREAM_JUDGE_ITEMS_MAX, for judges, too",
    "texts_too_long": "shorten them, or choose a model with a larger context window",
}
KEPT_OVERRIDES = ("judging", "system_prompt_override", "judge_rubric_override")
ITEMS_MAX = 1_000
MAX_SECONDS = 3_600
E = TypeVar("E")
MIND = SimulatedMind()


@dataclass(frozen=True, slots=True)
class Simulation:
    """The simulated judge of a run, as `simulation_of` reads it from the settings."""

    mind: SimulatedMind = MIND
    faults: SimulatedFaults = NO_FAULTS
    thetas: Mapping[str, float] = field(default_factory=dict)  # known qualities by storage id


SIMULATION = Simulation()


@dataclass(slots=True)
class MemoryLog:
    """Records of one partition of each topic; every record moves the clock on by a millisecond."""

    clock: SimulatedClock
    topics: Topics = field(default_factory=Topics)
    ends: dict[str, int] = field(default_factory=dict)

    def next_at(self, topic: Topic) -> Coordinates:
        """Where the next record of a topic will be."""
        return Coordinates(topic.name, 0, self.ends.get(topic.name, 0))

    def append(self, topic: Topic, event: E) -> CollectedRecord[E]:
        """Append an event."""
        at = self.next_at(topic)
        self.ends[topic.name] = at.offset + 1
        self.clock.advance_to(self.clock.now_ms + 1)
        return CollectedRecord(at, self.clock.now_ms, event)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request, its batch, and the anchors of its assignment."""

    request: CollectedRecord[CJAssessmentRequested]
    batch: CollectedRecord[CJBatchPrepared]
    anchors: AnchorsFound


def simulated_policy(mind: SimulatedMind) -> JudgingPolicy:
    """An installation that judges by the simulated judge alone, without a limit of cost."""
    model = simulated_model(mind)
    return JudgingPolicy(
        models=Models((model,)),
        default=model,
        limits=JudgingLimits(max_cost_pusd=None, max_seconds=MAX_SECONDS),
        items_max=ITEMS_MAX,
        guests_allowed=True,
    )


def simulated_request(request: CJAssessmentRequested) -> CJAssessmentRequested:
    """The request without what it wants of a real judge."""
    wanted = orjson.loads(request.llm_config_overrides or "{}")
    kept = {name: wanted[name] for name in KEPT_OVERRIDES if name in wanted}
    overrides = canonical_json(kept).decode() if kept else None
    return replace(request, llm_config_overrides=overrides)


def simulated_run(
    manifest_id: str,
    manifest: Mapping[str, Any],
    request: CJAssessmentRequested,
    texts: Mapping[str, str],
    started_at_ms: int,
    simulation: Simulation = SIMULATION,
) -> CollectedRun:
    """Run it all. texts: of the inputs, by storage id. Raises Discrepancy if the batch cannot be prepared or opened."""
    log = MemoryLog(SimulatedClock(started_at_ms))
    prepared = _prepared(log, manifest, simulated_request(request))
    opened = _opened(prepared, texts, simulated_policy(simulation.mind))
    judging, result = _judged(log, opened, texts, simulation)
    return CollectedRun(
        manifest_id=manifest_id,
        manifest=manifest,
        request=prepared.request,
        batch=prepared.batch,
        judging=judging,
        result=result,
    )


def planned_opening(
    manifest: Mapping[str, Any],
    request: CJAssessmentRequested,
    texts: Mapping[str, str],
    policy: JudgingPolicy,
    opened_at_ms: int,
) -> Opened:
    """The first record that a judge with this policy would write for the request. Raises Discrepancy."""
    log = MemoryLog(SimulatedClock(opened_at_ms))
    return _opened(_prepared(log, manifest, request), texts, policy)


def _prepared(
    log: MemoryLog, manifest: Mapping[str, Any], request: CJAssessmentRequested
) -> _Prepared:
    """Upload, request and resolve. Raises Discrepancy if a role is missing."""
    context = _context(log, manifest, request)
    requested = log.append(log.topics.requests, request)
    resolution = resolve(request, context, Policy())
    outcome = outcome_of(request, requested.at, resolution)
    if not isinstance(outcome, CJBatchPrepared):
        raise Discrepancy(f"the batch is not prepared: no {', '.join(outcome.missing)}")
    anchors = anchors_found(context, log.next_at(log.topics.anchors).offset)
    return _Prepared(requested, log.append(log.topics.batches, outcome), anchors)


def _opened(prepared: _Prepared, texts: Mapping[str, str], policy: JudgingPolicy) -> Opened:
    """The first record of the run. Raises Discrepancy if the batch is refused."""
    record = prepared.batch
    batch = PreparedBatch(record.at, record.event.request.batch_id.encode(), record.event)
    gathered = Gathered(texts, {}, prepared.anchors)
    opened = open_run(batch, gathered, policy, record.appended_at_ms)
    if isinstance(opened, CJBatchJudged):
        details = "".join(f", {one.path}" for one in opened.details)
        remedy = REFUSALS.get(opened.reason)
        raise Discrepancy(
            f"the judge refuses the batch: {opened.reason}{details}"
            + (f": {remedy}" if remedy else "")
        )
    return opened


def _judged(
    log: MemoryLog, opened: Opened, texts: Mapping[str, str], simulation: Simulation
) -> tuple[tuple[CollectedRecord[JudgingEvent], ...], CollectedRecord[CJBatchJudged]]:
    own = {hashlib.sha256(text.encode()).hexdigest(): text for text in opened.own_texts}
    all_texts = {**texts, **own}
    judge = SimulatedJudge(_no_wait, simulation.thetas, simulation.faults)
    with asyncio.Runner() as runner:

        def ask(question: JudgeRequest) -> Answered | Failed:
            return runner.run(judge.ask(question, MAX_SECONDS))

        steps = judging_records(opened.record, ask, all_texts.__getitem__, log.clock, _sha256)
        records = list[CollectedRecord[JudgingEvent]]()
        try:
            while True:
                records.append(log.append(log.topics.judging, next(steps)))
        except StopIteration as ended:
            run, stop = ended.value
    end = log.next_at(log.topics.judging)
    judging = RecordRange(topic=end.topic, partition=0, start=0, end=end.offset)
    result = result_of(run, stop, judging)
    stopped = stopped_run(result, Codec(), log.clock.now_ms)
    records.append(log.append(log.topics.judging, stopped))
    return tuple(records), log.append(log.topics.results, result)


def _context(
    log: MemoryLog, manifest: Mapping[str, Any], request: CJAssessmentRequested
) -> AssignmentContext | None:
    """The context of the assignment after its uploads, with its anchors."""
    rows: dict[str, AssignmentContext] = {}
    for topic, event in _uploads(log.topics, manifest, request):
        record = log.append(topic, event)
        fold_upload(rows, record.event, record.at, record.appended_at_ms)
    return next(iter(rows.values()), None)


def _uploads(
    topics: Topics, manifest: Mapping[str, Any], request: CJAssessmentRequested
) -> Iterator[tuple[Topic, UploadEvent]]:
    """The uploads of a run's texts, each with its topic."""
    scale = manifest["grade_scale"]
    graded = {"grade_scale": scale, "context_origin": "research_experiment"}
    for topic, role, upload_class in (
        (topics.instructions, "instructions", InstructionsUploaded),
        (topics.student_prompts, "prompt", StudentPromptUploaded),
        (topics.judge_rubrics, "rubric", JudgeRubricUploaded),
    ):
        for one in _inputs(manifest, role):
            text = {
                "storage_id": one["storage_id"],
                "sha256": one["storage_id"],
                "media_type": "text/plain",
                "size_bytes": one["size_bytes"],
                **(graded if role == "instructions" else {}),
            }
            yield topic, upload_class(**_written(request, role), **text)
    anchors = tuple(
        Anchor(
            anchor_id=one["id"],
            grade_scale=scale,
            grade=one["grade"],
            storage_id=one["storage_id"],
            sha256=one["storage_id"],
            size_bytes=one["size_bytes"],
        )
        for one in _inputs(manifest, "anchor")
    )
    if anchors:
        yield topics.anchors, AnchorsUploaded(**_written(request, "anchors"), anchors=anchors)


def _written(request: CJAssessmentRequested, role: str) -> dict[str, Any]:
    """Who wrote an upload, and when."""
    return {
        "event_id": f"{request.event_id}/{role}",
        "assignment_id": request.assignment_id,
        "version": 1,
        "actor": request.source_service,
        "correlation_id": request.correlation_id,
        "occurred_at_ms": request.occurred_at_ms,
        "created_at_ms": request.occurred_at_ms,
    }


def _inputs(manifest: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [one for one in manifest["inputs"] if one["kind"] == kind]


def _sha256(response: bytes) -> str:
    return hashlib.sha256(response).hexdigest()


async def _no_wait(_seconds: float) -> None:
    pass
