"""Everything that an artefact is made of: the records of one run and its manifest, as values.

The follower collects them from Kafka, the dry run in process; the artefact does not see the difference.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from schemas.coordinates import Coordinates, Partition
from schemas.events import CJAssessmentRequested, CJBatchPrepared
from schemas.judging_events import CJBatchJudged, JudgingEvent, RecordRange

E = TypeVar("E", covariant=True)


@dataclass(frozen=True, slots=True)
class CollectedRecord(Generic[E]):
    """One committed record, decoded; appended_at_ms is the broker's clock."""

    at: Coordinates
    appended_at_ms: int
    event: E


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedRun:
    """The manifest and the records of one run, as far as they were read.

    manifest: the JSON document that the content store has under manifest_id. The artefact reads these members of it:
    label, mode (execute or dry-run), versions, git_sha, git_dirty (or null), platform, packages, assignment_id (or
    null), grade_scale (or null), overrides (an object), estimate (`estimate_document`), timeout_seconds, and inputs:
    [{kind, id, file_name, file_sha256, size_bytes, storage_id, recipe, grade (of an anchor, else null)}], where kind is
    instructions, prompt, rubric, system, anchor or student. Nothing that is not in the log or the manifest may change
    the artefact, so that `run report` makes the same bytes elsewhere.

    judging: repeated records are dropped here, and order does not matter.
    batch, result: None if the run was given up before they came.
    """

    manifest_id: str
    manifest: Mapping[str, Any]
    request: CollectedRecord[CJAssessmentRequested]
    batch: CollectedRecord[CJBatchPrepared] | None = None
    judging: tuple[CollectedRecord[JudgingEvent], ...] = ()
    result: CollectedRecord[CJBatchJudged] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "judging", distinct(self.judging))

    @property
    def records(self) -> tuple[CollectedRecord[object], ...]:
        """Every record, each once."""
        others = (self.request, self.batch, self.result)
        return (*(record for record in others if record is not None), *self.judging)

    @property
    def is_partial(self) -> bool:
        """Whether the run has no result yet."""
        return self.result is None

    @property
    def generated_at_ms(self) -> int:
        """The append time of the last record."""
        return max(record.appended_at_ms for record in self.records)

    @property
    def offsets(self) -> tuple[RecordRange, ...]:
        """The smallest range [start, end) of each partition that holds all records: a reader needs nothing else."""
        offsets = dict[Partition, list[int]]()
        for record in self.records:
            partition = Partition(record.at.topic, record.at.partition)
            offsets.setdefault(partition, []).append(record.at.offset)
        return tuple(
            RecordRange(topic=topic, partition=number, start=min(found), end=max(found) + 1)
            for (topic, number), found in sorted(offsets.items())
        )


def distinct(
    records: Iterable[CollectedRecord[JudgingEvent]],
) -> tuple[CollectedRecord[JudgingEvent], ...]:
    """In log order, without repeats: of equal events the first one stays."""
    first = dict[JudgingEvent, CollectedRecord[JudgingEvent]]()
    for record in sorted(records, key=lambda record: record.at):
        first.setdefault(record.event, record)
    return tuple(first.values())
