"""The response documents of the API, one class each. Times are RFC 3339, UTC, with milliseconds."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from tables.commands import WriteOutcome
from tools.audit.stored_text import State

Role = Literal["instructions", "student_prompt", "judge_rubric", "anchors"]


class ResponseModel(BaseModel):
    """A response document; every field is in every response, except where its class says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class Source(ResponseModel):
    """Coordinates of one event."""

    topic: str
    partition: int
    offset: int


class Uploaded(ResponseModel):
    """What an instruction, a prompt and a rubric say about the upload that made them live."""

    version: int
    event_id: str
    sha256: str
    size_bytes: int
    created_at: str
    updated_at: str
    updated_by: str
    source: Source


class Page(ResponseModel):
    """One page of a list."""

    total: int
    page: int
    page_size: int


class Readiness(ResponseModel):
    """Whether an assignment has every role that the policy requires; `ready` is null for a course."""

    assignment_id: str | None
    ready: bool | None
    has_instructions: bool
    has_student_prompt: bool
    has_judge_rubric: bool
    required: list[str]
    missing: list[str]
    warnings: list[str]
    tag: str


class Instruction(Uploaded):
    """The live instructions of one scope; a text that cannot be read is null, and `text_state` says why."""

    scope_key: str
    assignment_id: str | None
    course_id: str | None
    instructions_text: str | None
    text_state: State
    grade_scale: str
    context_origin: str
    student_prompt_storage_id: str | None
    judge_rubric_storage_id: str | None
    storage_id: str
    readiness: Readiness


class InstructionList(Page):
    """One page of live instructions, newest updated_at first."""

    items: list[Instruction]


class OfAssignment(Uploaded):
    """The common fields of a live prompt and a live rubric.

    `instructions_text`, its state and `grade_scale` are null if the assignment has no live instructions.
    """

    assignment_id: str
    instructions_text: str | None
    instructions_text_state: State | None
    grade_scale: str | None
    media_type: str


class Prompt(OfAssignment):
    """A live student prompt."""

    student_prompt_storage_id: str
    prompt_text: str


class Rubric(OfAssignment):
    """A live judge rubric."""

    judge_rubric_storage_id: str
    rubric_text: str


class Event(ResponseModel):
    """The common fields of an upload and a deletion."""

    event_id: str
    assignment_id: str
    course_id: None
    version: int
    previous_event_id: str | None
    actor: str
    correlation_id: str
    occurred_at: str
    source: Source


class Deletion(Event):
    """A role that was deleted."""

    deleted: Literal[True]
    erased: bool


class Upload(Event):
    """A live role; `text` and its state are left out if texts were not requested, `text` also if it cannot be read."""

    deleted: Literal[False]
    created_at: str
    storage_id: str
    sha256: str
    media_type: str
    size_bytes: int
    text: str = ""
    text_state: State = "present"


class InstructionsUpload(Upload):
    """Live instructions."""

    grade_scale: str
    context_origin: str


class AnchorRef(ResponseModel):
    """One anchor; its text is at `/v1/content/{storage_id}`."""

    anchor_id: str
    grade_scale: str
    grade: str
    storage_id: str
    sha256: str
    size_bytes: int


class AnchorsUpload(Event):
    """The live anchors of every grade scale."""

    deleted: Literal[False]
    created_at: str
    anchors: list[AnchorRef]


class Assignment(ResponseModel):
    """All roles of one assignment; a role is null if it was never uploaded."""

    assignment_id: str
    scope_key: str
    tag: str
    readiness: Readiness
    instructions: InstructionsUpload | Deletion | None
    student_prompt: Upload | Deletion | None
    judge_rubric: Upload | Deletion | None
    anchors: AnchorsUpload | Deletion | None


class Wrote(ResponseModel):
    """The additional fields after a write; `folded` is false if the replica does not have the events yet."""

    outcome: WriteOutcome
    folded: bool
    position: list[Source]


class WroteSeveral(Wrote):
    """The additional fields after a write that may change several roles."""

    outcomes: dict[Role, WriteOutcome]


class InstructionWritten(Instruction, WroteSeveral):
    """Instructions after a write."""


class PromptWritten(Prompt, Wrote):
    """A student prompt after a write."""


class RubricWritten(Rubric, Wrote):
    """A judge rubric after a write."""


class AnchorCounts(ResponseModel):
    """How many anchors an assignment has: of this grade scale, in total, and by scale; `tag` is that of all of them."""

    assignment_id: str
    grade_scale: str
    anchor_count: int
    anchor_count_total: int
    anchor_count_by_scale: dict[str, int]
    tag: str


class Anchors(AnchorCounts):
    """The live anchors of one grade scale, by id; the version is that of the anchors of every scale."""

    anchors: list[AnchorRef]
    version: int
    event_id: str
    created_at: str
    updated_at: str
    updated_by: str
    source: Source


class AnchorsWritten(Anchors, Wrote):
    """The anchors of one grade scale after a write."""


class AnchorsRemoved(AnchorCounts, Wrote):
    """What is left after anchors were removed; the outcome is `deleted` if nothing is."""


class AssignmentWritten(Assignment, WroteSeveral):
    """An assignment after a write."""


class Deleted(WroteSeveral):
    """The deleted roles of a scope; only one of the two ids is present."""

    status: Literal["deleted"]
    assignment_id: str = ""
    course_id: str = ""
    deleted: list[Role]


class Scale(ResponseModel):
    """One grade scale; grades from lowest to highest, `priors` is null if all grades are equally likely."""

    id: str
    display_name: str
    description: str
    grades: list[str]
    priors: dict[str, float] | None
    allows_below_lowest: bool
    below_lowest_grade: str | None


class Scales(ResponseModel):
    """All grade scales."""

    items: list[Scale]


class OverrideFault(ResponseModel):
    """One override that a judge refuses."""

    path: str
    code: str


class OverridesChecked(ResponseModel):
    """Whether a judge accepts the overrides, and which one they name; `judge` is null if it does not."""

    ok: bool
    faults: list[OverrideFault]
    judge: str | None
    warnings: list[str]
