"""What strangers send in bodies and queries. Every rule is a field's, so that all faults are found at once."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from tools.api.requests.field_types import (
    AssignmentId,
    BatchId,
    ContextOrigin,
    CourseId,
    Flag,
    GradeScaleId,
    Instant,
    InstructionsText,
    LongText,
    PageNumber,
    PageSize,
    ScopeKey,
    StorageId,
    broken,
)

Schema = dict[str, Any]


class RequestModel(BaseModel):
    """Frozen, strict, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Common(RequestModel):
    """The query of every route."""

    correlation_id: str | None = Field(None, description="where the header cannot be sent")


class Paging(Common):
    """Which page of a list, and of which scale."""

    page: PageNumber = 1
    page_size: PageSize = 50
    grade_scale: GradeScaleId | None = None


class WithTexts(Common):
    """Whether texts are wanted."""

    texts: Flag = True


class AssignmentQuery(WithTexts):
    """The assignment now, or as it stood."""

    as_of: Instant | None = None


class AsOfQuery(WithTexts):
    """Which moment, and what has changed since another one."""

    at: Instant
    diff: Instant | None = None


class HistoryQuery(Common):
    """Whether batches are to be counted: that reads their whole topic."""

    uses: Flag = False


class BatchQuery(Common):
    """Which batch, whether texts are told whole, and whether requests under other keys than its id are looked for."""

    batch_id: BatchId
    texts: Flag = False
    everywhere: Flag = False


SINCE = Field(None, alias="from")
UNTIL = Field(None, alias="to")


class RangeQuery(Common):
    """A part of the log; `to` is included."""

    since: Instant | None = SINCE
    until: Instant | None = UNTIL


class ReplayQuery(RangeQuery):
    """A part of the upload topics, of one scope or of all."""

    scope: ScopeKey | None = None


class VerifyQuery(RangeQuery):
    """Requests of a part of the log."""

    texts: Flag = True


class HistoryPaging(Common):
    """Which page of a history."""

    page: PageNumber = 1
    page_size: PageSize = 50


class ContentCheck(Common):
    """Whether the content store is to be asked, too."""

    check_content: Flag = False


EITHER_SCOPE: Schema = {
    "oneOf": [
        {
            "required": ["assignment_id"],
            "properties": {"assignment_id": {"type": "string"}, "course_id": {"type": "null"}},
        },
        {
            "required": ["course_id"],
            "properties": {
                "course_id": {"type": "string"},
                "assignment_id": {"type": "null"},
                "student_prompt_storage_id": {"type": "null"},
                "judge_rubric_storage_id": {"type": "null"},
            },
        },
    ]
}
INSTRUCTIONS: Schema = {
    "instructions_text": "Judge how clearly the argument is put.",
    "grade_scale": "swedish_8_anchor",
}
TASK = "Write about a rule that you would change."
ABSENT = Field(default_factory=str)  # empty: was not sent; null is refused


SCOPE = ("assignment_id", "course_id")
OF_ASSIGNMENTS = ("student_prompt_storage_id", "judge_rubric_storage_id")


def shown(example: Schema, hidden: tuple[str, ...] = (), **rules: Any) -> ConfigDict:
    """How a body is documented: hidden is what its path has said, and what it can do without."""

    def complete(schema: Schema) -> None:
        schema |= {"examples": [example], **rules}
        for name in hidden:
            schema["properties"].pop(name)

    return ConfigDict(json_schema_extra=complete)


class Scoped(RequestModel):
    """What may name a scope; a course has neither prompt nor rubric."""

    assignment_id: AssignmentId | None = None
    course_id: CourseId | None = None

    @field_validator(*OF_ASSIGNMENTS, check_fields=False)
    @classmethod
    def _has_assignment(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("course_id") is not None:
            raise broken("assignment_scope_only")
        return value


class PutInstructions(Scoped):
    """Whole instructions for the assignment of the path."""

    model_config = shown(INSTRUCTIONS, SCOPE)

    instructions_text: InstructionsText
    grade_scale: GradeScaleId
    context_origin: ContextOrigin = ABSENT
    student_prompt_storage_id: StorageId | None = None
    judge_rubric_storage_id: StorageId | None = None


class PutCourseInstructions(PutInstructions):
    """Whole instructions for the course of the path."""

    model_config = shown(INSTRUCTIONS, SCOPE + OF_ASSIGNMENTS)


class Instructions(PutInstructions):
    """Whole instructions with their scope."""

    model_config = shown({"assignment_id": "eng5-a1", **INSTRUCTIONS}, **EITHER_SCOPE)

    course_id: Annotated[CourseId | None, Field(validate_default=True)] = None

    @field_validator("course_id")
    @classmethod
    def _one_scope(cls, course_id: str | None, info: ValidationInfo) -> str | None:
        is_told = "assignment_id" in info.data  # else that is a fault already
        if is_told and (info.data["assignment_id"] is None) == (course_id is None):
            raise broken("scope_not_exclusive")
        return course_id


class PatchInstructions(Scoped):
    """Some parts of an assignment's instructions: what is absent stays, a storage id that is null is unset."""

    model_config = shown({"judge_rubric_storage_id": None}, SCOPE)

    instructions_text: InstructionsText = ABSENT
    grade_scale: GradeScaleId = ABSENT
    context_origin: ContextOrigin = ABSENT
    student_prompt_storage_id: StorageId | None = None
    judge_rubric_storage_id: StorageId | None = None


class PatchCourseInstructions(PatchInstructions):
    """Some parts of a course's instructions: what is absent stays."""

    model_config = shown(
        {"instructions_text": INSTRUCTIONS["instructions_text"]}, SCOPE + OF_ASSIGNMENTS
    )


class NewPrompt(RequestModel):
    """A student prompt for an assignment that has instructions."""

    model_config = shown({"assignment_id": "eng5-a1", "prompt_text": TASK})

    assignment_id: AssignmentId
    prompt_text: LongText


class NewRubric(RequestModel):
    """A judge rubric for an assignment that has instructions."""

    model_config = shown({"assignment_id": "eng5-a1", "rubric_text": "Weigh structure twice."})

    assignment_id: AssignmentId
    rubric_text: LongText


class NewAssignment(RequestModel):
    """A whole assignment; roles that are absent stay as they are."""

    model_config = shown({"assignment_id": "eng5-a1", **INSTRUCTIONS, "prompt_text": TASK})

    assignment_id: AssignmentId
    instructions_text: InstructionsText
    grade_scale: GradeScaleId
    context_origin: ContextOrigin = ABSENT
    student_prompt_storage_id: StorageId = ABSENT
    judge_rubric_storage_id: StorageId = ABSENT
    prompt_text: LongText = ABSENT
    rubric_text: LongText = ABSENT
