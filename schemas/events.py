"""One frozen class per Avro record, with the fields of its latest schema in the same order; judging_events has more.

Times are milliseconds since the epoch. An event never contains texts, only their storage ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.coordinates import Coordinates
from schemas.judging_events import CJBatchJudged, JudgingEvent

ROLES = ("instructions", "student_prompt", "judge_rubric")  # of the context of a batch
ANCHORS = "anchors"  # for the judge alone: batch preparation neither reads nor waits for them
ADMINISTERED_ROLES = (*ROLES, ANCHORS)
NOT_IN_AVRO = {"avro": False}  # of a field: its schema lacks it, so it is None in what was decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionsUploaded:
    """The instructions of an assignment or a course were set or replaced."""

    event_id: str
    assignment_id: str | None = None
    course_id: str | None = None
    version: int
    previous_event_id: str | None = None
    actor: str
    correlation_id: str
    occurred_at_ms: int
    created_at_ms: int
    storage_id: str
    sha256: str
    media_type: str
    size_bytes: int
    grade_scale: str
    context_origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionsDeleted:
    """The instructions of an assignment or a course were deleted; an event, not a tombstone."""

    event_id: str
    assignment_id: str | None = None
    course_id: str | None = None
    version: int
    previous_event_id: str | None = None
    actor: str
    correlation_id: str
    occurred_at_ms: int
    erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentPromptUploaded:
    """The student prompt of an assignment was set or replaced."""

    event_id: str
    assignment_id: str
    version: int
    previous_event_id: str | None = None
    actor: str
    correlation_id: str
    occurred_at_ms: int
    created_at_ms: int
    storage_id: str
    sha256: str
    media_type: str
    size_bytes: int
    language: str | None = None  # BCP 47


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentPromptDeleted:
    """The student prompt of an assignment was deleted."""

    event_id: str
    assignment_id: str
    version: int
    previous_event_id: str | None = None
    actor: str
    correlation_id: str
    occurred_at_ms: int
    erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRubricUploaded:
    """The judge rubric of an assignment was set or replaced."""

    event_id: str
    assignment_id: str
    version: int
    previous_event_id: str | None = None
    actor: str
    correlation_id: str
    occurred_at_ms: int
    created_at_ms: int
    storage_id: str
    sha256: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRubricDeleted:
    """The judge rubric of an assignment was deleted."""

    event_id: str
    assignment_id: str
    version: int
    previous_event_id: str | None = None
    actor: str
    correlation_id: str
    occurred_at_ms: int
    erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """An essay with the grade that experts gave it, by reference; an id occurs once in a grade scale."""

    anchor_id: str
    grade_scale: str
    grade: str
    storage_id: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorsUploaded:
    """The anchors of an assignment were set or replaced; these are all of them, whatever their scale."""

    event_id: str
    assignment_id: str
    version: int
    previous_event_id: str | None = None
    actor: str
    correlation_id: str
    occurred_at_ms: int
    created_at_ms: int
    anchors: tuple[Anchor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorsDeleted:
    """All anchors of an assignment were deleted."""

    event_id: str
    assignment_id: str
    version: int
    previous_event_id: str | None = None
    actor: str
    correlation_id: str
    occurred_at_ms: int
    erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """The newest upload or deletion of one role at one scope.

    A deletion lacks the fields of the text; anchors have none of them, but `anchors`.
    """

    source: Coordinates
    appended_at_ms: int  # the broker's clock
    is_deletion: bool
    erased: bool = False
    version: int
    event_id: str
    previous_event_id: str | None = None
    actor: str
    correlation_id: str
    occurred_at_ms: int
    created_at_ms: int | None = None
    storage_id: str | None = None
    sha256: str | None = None
    media_type: str | None = None
    size_bytes: int | None = None
    grade_scale: str | None = None
    context_origin: str | None = None
    anchors: tuple[Anchor, ...] | None = field(default=None, metadata=NOT_IN_AVRO)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentContext:
    """The context of one scope: for each role the newest upload or deletion, or None.

    anchors are only known where their topic is read: in the API, the judge and the audit.
    """

    scope_key: str
    fold_version: int
    instructions: Component | None = None
    student_prompt: Component | None = None
    judge_rubric: Component | None = None
    anchors: Component | None = field(default=None, metadata=NOT_IN_AVRO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Essay:
    """One essay of a batch, by reference."""

    essay_id: str
    text_storage_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CJAssessmentRequested:
    """Somebody requested an assessment of a batch of essays; llm_config_overrides is a JSON object as text."""

    event_id: str
    occurred_at_ms: int
    source_service: str
    correlation_id: str
    batch_id: str
    assignment_id: str | None = None
    course_code: str
    language: str
    student_prompt_ref: str | None = None
    user_id: str | None = None
    org_id: str | None = None
    llm_config_overrides: str | None = None
    essays: tuple[Essay, ...]
    due_at_ms: int | None = None  # when the result is due; passed on, not used here


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadUsed:
    """An upload event that an outcome used."""

    source: Coordinates
    version: int
    event_id: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The request and the exact uploads that an outcome was made from."""

    request: Coordinates
    instructions: UploadUsed | None = None
    student_prompt: UploadUsed | None = None
    judge_rubric: UploadUsed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingMetadata:
    """The context for judging a batch.

    context_source is assignment, course or guest; prompt_source is request, assignment or none.
    """

    context_source: str
    instructions_storage_id: str | None = None
    judge_rubric_storage_id: str | None = None
    grade_scale: str | None = None
    context_origin: str | None = None
    prompt_source: str
    student_prompt_storage_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CJBatchPrepared:
    """A request with its context, for the judge; it depends only on the request and the context."""

    event_id: str
    recipe: int
    provenance: Provenance
    processing_metadata: ProcessingMetadata
    request: CJAssessmentRequested


@dataclass(frozen=True, slots=True, kw_only=True)
class CJBatchUnresolved:
    """A request whose context is incomplete, with the roles that are missing at scope_key."""

    event_id: str
    recipe: int
    provenance: Provenance
    scope_key: str
    missing: tuple[str, ...]
    request: CJAssessmentRequested


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedRequest:
    """A request that waits for its context until deadline_at_ms, with its framed bytes and its key."""

    request_at: Coordinates
    scope_key: str
    missing: tuple[str, ...]
    appended_at_ms: int
    deadline_at_ms: int
    request_key: bytes | None = None
    request: bytes


Upload = InstructionsUploaded | StudentPromptUploaded | JudgeRubricUploaded | AnchorsUploaded
Deletion = InstructionsDeleted | StudentPromptDeleted | JudgeRubricDeleted | AnchorsDeleted
UploadEvent = Upload | Deletion
ROLE_OF: Mapping[type, str] = {
    InstructionsUploaded: "instructions",
    InstructionsDeleted: "instructions",
    StudentPromptUploaded: "student_prompt",
    StudentPromptDeleted: "student_prompt",
    JudgeRubricUploaded: "judge_rubric",
    JudgeRubricDeleted: "judge_rubric",
    AnchorsUploaded: ANCHORS,
    AnchorsDeleted: ANCHORS,
}
Outcome = CJBatchPrepared | CJBatchUnresolved
Event = (
    UploadEvent
    | AssignmentContext
    | CJAssessmentRequested
    | Outcome
    | ParkedRequest
    | JudgingEvent
    | CJBatchJudged
)


def scope_key_of(event: UploadEvent) -> str:
    """The scope key of an upload event, which is its record key: `assignment:<id>` or `course:<id>`."""
    if event.assignment_id is not None:
        return f"assignment:{event.assignment_id}"
    return f"course:{event.course_id}"  # only instructions have one


def role_of(event: UploadEvent) -> str:
    """The role that an upload event is about."""
    return ROLE_OF[type(event)]


def texts_of(event: UploadEvent) -> tuple[str, ...]:
    """The storage ids of the texts that an upload event names; a deletion names none."""
    match event:
        case AnchorsUploaded():
            return tuple(anchor.storage_id for anchor in event.anchors)
        case InstructionsUploaded() | StudentPromptUploaded() | JudgeRubricUploaded():
            return (event.storage_id,)
    return ()
