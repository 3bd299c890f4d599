"""The topic catalogue: every topic with its events and its retention. cjstream uses no other topic.

The broker sets every timestamp (LogAppendTime): compaction lag, deadlines and as-of by time depend on its clock.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal

from schemas.events import (
    AnchorsDeleted,
    AnchorsUploaded,
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
    InstructionsDeleted,
    InstructionsUploaded,
    JudgeRubricDeleted,
    JudgeRubricUploaded,
    ParkedRequest,
    StudentPromptDeleted,
    StudentPromptUploaded,
)
from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CallsIntended,
    CJBatchJudged,
    JudgingOpened,
    JudgingStopped,
    WavePlanned,
)

MIB = 1024 * 1024
MAX_REQUEST_BYTES = 640 * 1024
MAX_OUTCOME_BYTES = 2 * MIB
DAY_MS = 24 * 60 * 60 * 1000

# Kafka checks `max.message.bytes` on a batch as it stores it. Stored compressed, a few kilobytes become gigabytes in
# the memory of every consumer, at every start.
STORED = {"compression.type": "uncompressed"}

Retention = Literal["history", "table", "log", "dead letters", "parked"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: its name, its events and how long it keeps them."""

    name: str
    carries: tuple[type, ...]
    retention: Retention
    max_message_bytes: int = MIB

    def config(self, *, horizon_days: int, replication: int) -> dict[str, str]:
        """The topic's settings, with Kafka's names; horizon_days is the audit horizon."""
        horizon_ms = horizon_days * DAY_MS
        cleanup = {
            "history": {"cleanup.policy": "compact", "min.compaction.lag.ms": str(horizon_ms)},
            "table": {"cleanup.policy": "compact"},
            "log": {"cleanup.policy": "delete", "retention.ms": str(horizon_ms + 7 * DAY_MS)},
            "dead letters": {"cleanup.policy": "delete", "retention.ms": str(horizon_ms)},
            "parked": {
                "cleanup.policy": "compact",
                "segment.ms": str(60 * 60 * 1000),
                "min.cleanable.dirty.ratio": "0.1",
            },
        }[self.retention]
        return {
            **cleanup,
            **STORED,
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(self.max_message_bytes),
            "unclean.leader.election.enable": "false",
            "min.insync.replicas": str(max(1, replication - 1)),
        }


@dataclass(frozen=True)
class Topics:
    """The catalogue; `Topics()` has names without a prefix, `Topics().under(prefix)` those of an installation."""

    instructions: Topic = Topic(
        "assessment.instructions.v1", (InstructionsUploaded, InstructionsDeleted), "history"
    )
    student_prompts: Topic = Topic(
        "assessment.student-prompts.v1", (StudentPromptUploaded, StudentPromptDeleted), "history"
    )
    judge_rubrics: Topic = Topic(
        "assessment.judge-rubrics.v1", (JudgeRubricUploaded, JudgeRubricDeleted), "history"
    )
    anchors: Topic = Topic("assessment.anchors.v1", (AnchorsUploaded, AnchorsDeleted), "history")
    context: Topic = Topic("assessment.context.v1", (AssignmentContext,), "table", 2 * MIB)
    requests: Topic = Topic("cj.requests.v1", (CJAssessmentRequested,), "log")
    batches: Topic = Topic("cj.batches.v1", (CJBatchPrepared,), "log", MAX_OUTCOME_BYTES)
    unresolved: Topic = Topic(
        "cj.batches.unresolved.v1", (CJBatchUnresolved,), "log", MAX_OUTCOME_BYTES
    )
    parked: Topic = Topic("cj.requests.parked.v1", (ParkedRequest,), "parked", 2 * MIB)
    requests_dlq: Topic = Topic("cj.requests.dlq.v1", (), "dead letters", MAX_OUTCOME_BYTES)
    uploads_dlq: Topic = Topic("assessment.uploads.dlq.v1", (), "dead letters", MAX_OUTCOME_BYTES)
    judging: Topic = Topic(
        "cj.judging.v1",
        (JudgingOpened, WavePlanned, CallsIntended, CallAnswered, CallFailed, JudgingStopped),
        "log",
        MAX_OUTCOME_BYTES,
    )
    results: Topic = Topic("cj.results.v1", (CJBatchJudged,), "log", MAX_OUTCOME_BYTES)

    def under(self, prefix: str) -> "Topics":
        """The same catalogue with a prefix before every name."""
        return Topics(
            **{
                field.name: replace(topic, name=prefix + topic.name)
                for field, topic in zip(fields(self), self.all, strict=True)
            }
        )

    @cached_property
    def all(self) -> tuple[Topic, ...]:
        """Every topic, in the order of the data flow."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def uploads(self) -> tuple[Topic, ...]:
        """The three topics that the fold reads; with equal partition counts, so a scope has one partition number."""
        return (self.instructions, self.student_prompts, self.judge_rubrics)

    @cached_property
    def administered(self) -> tuple[Topic, ...]:
        """The topics that administrators write, one for each role: the uploads, and the anchors for the judge."""
        return (*self.uploads, self.anchors)

    @cached_property
    def outcomes(self) -> tuple[Topic, ...]:
        """The topics of outcomes: a request gets exactly one record in one of these three."""
        return (self.batches, self.unresolved, self.requests_dlq)
