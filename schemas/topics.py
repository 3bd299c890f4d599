"""The topic catalogue: what flows where, how long it is kept. What it does not list does not exist.

Every topic is stamped by the broker (LogAppendTime): compaction lag, deadlines and as-of by time rest on its clock.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal

from schemas.events import (
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

MIB = 1024 * 1024
MAX_REQUEST_BYTES = 640 * 1024
MAX_OUTCOME_BYTES = 2 * MIB
DAY_MS = 24 * 60 * 60 * 1000

Kept = Literal["history", "table", "log", "dead letters", "parked"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: its name, the events it carries and how long it keeps them."""

    name: str
    carries: tuple[type, ...]
    kept: Kept
    max_message_bytes: int = MIB

    def config(self, *, horizon_days: int, replication: int) -> dict[str, str]:
        """The topic's settings, as Kafka names them; horizon_days is the audit horizon."""
        horizon_ms = horizon_days * DAY_MS
        kept = {
            "history": {"cleanup.policy": "compact", "min.compaction.lag.ms": str(horizon_ms)},
            "table": {"cleanup.policy": "compact"},
            "log": {"cleanup.policy": "delete", "retention.ms": str(horizon_ms + 7 * DAY_MS)},
            "dead letters": {"cleanup.policy": "delete", "retention.ms": str(horizon_ms)},
            "parked": {
                "cleanup.policy": "compact",
                "segment.ms": str(60 * 60 * 1000),
                "min.cleanable.dirty.ratio": "0.1",
            },
        }[self.kept]
        return {
            **kept,
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(self.max_message_bytes),
            "unclean.leader.election.enable": "false",
            "min.insync.replicas": str(max(1, replication - 1)),
        }


@dataclass(frozen=True)
class Topics:
    """The catalogue. `Topics()` has the plain names, `Topics().under(prefix)` an installation's."""

    instructions: Topic = Topic(
        "assessment.instructions.v1", (InstructionsUploaded, InstructionsDeleted), "history"
    )
    student_prompts: Topic = Topic(
        "assessment.student-prompts.v1", (StudentPromptUploaded, StudentPromptDeleted), "history"
    )
    judge_rubrics: Topic = Topic(
        "assessment.judge-rubrics.v1", (JudgeRubricUploaded, JudgeRubricDeleted), "history"
    )
    context: Topic = Topic("assessment.context.v1", (AssignmentContext,), "table", 2 * MIB)
    requests: Topic = Topic("cj.requests.v1", (CJAssessmentRequested,), "log")
    batches: Topic = Topic("cj.batches.v1", (CJBatchPrepared,), "log", MAX_OUTCOME_BYTES)
    unresolved: Topic = Topic(
        "cj.batches.unresolved.v1", (CJBatchUnresolved,), "log", MAX_OUTCOME_BYTES
    )
    parked: Topic = Topic("cj.requests.parked.v1", (ParkedRequest,), "parked", 2 * MIB)
    requests_dlq: Topic = Topic("cj.requests.dlq.v1", (), "dead letters", MAX_OUTCOME_BYTES)
    uploads_dlq: Topic = Topic("assessment.uploads.dlq.v1", (), "dead letters", MAX_OUTCOME_BYTES)

    def under(self, prefix: str) -> "Topics":
        """The same catalogue with every name prefixed."""
        return Topics(
            **{
                field.name: replace(topic, name=prefix + topic.name)
                for field, topic in zip(fields(self), self.all, strict=True)
            }
        )

    @cached_property
    def all(self) -> tuple[Topic, ...]:
        """Every topic, in the order of the flow."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def uploads(self) -> tuple[Topic, ...]:
        """The three topics that the fold reads; cut alike, so that one scope has one partition."""
        return (self.instructions, self.student_prompts, self.judge_rubrics)

    @cached_property
    def outcomes(self) -> tuple[Topic, ...]:
        """Where a request ends: exactly one record over these three topics."""
        return (self.batches, self.unresolved, self.requests_dlq)
