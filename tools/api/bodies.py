"""What strangers send in bodies and queries. Every rule is a field's, so that all faults are found at once."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from tools.api.values import (
    AssignmentId,
    ContextOrigin,
    CourseId,
    Flag,
    GradeScaleId,
    InstructionsText,
    LongText,
    PageNumber,
    PageSize,
    StorageId,
    broken,
)

Schema = dict[str, Any]


class Sent(BaseModel):
    """Frozen, strict, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Common(Sent):
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


class Scoped(Sent):
    """What names a scope; a course has neither prompt nor rubric."""

    assignment_id: AssignmentId | None = None
    course_id: CourseId | None = None

    @field_validator("student_prompt_storage_id", "judge_rubric_storage_id", check_fields=False)
    @classmethod
    def _has_assignment(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("course_id") is not None:
            raise broken("assignment_scope_only")
        return value


class ReplacingInstructions(Scoped):
    """Whole instructions for the scope of the path; a scope in the body is that one."""

    model_config = ConfigDict(json_schema_extra={"examples": [INSTRUCTIONS]})

    instructions_text: InstructionsText
    grade_scale: GradeScaleId
    context_origin: ContextOrigin = ABSENT
    student_prompt_storage_id: StorageId | None = None
    judge_rubric_storage_id: StorageId | None = None


class Instructions(ReplacingInstructions):
    """Whole instructions with their scope."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"assignment_id": "eng5-a1", **INSTRUCTIONS}],
            **EITHER_SCOPE,
        }
    )

    course_id: Annotated[CourseId | None, Field(validate_default=True)] = None

    @field_validator("course_id")
    @classmethod
    def _one_scope(cls, course_id: str | None, info: ValidationInfo) -> str | None:
        is_told = "assignment_id" in info.data  # else that is a fault already
        if is_told and (info.data["assignment_id"] is None) == (course_id is None):
            raise broken("scope_not_exclusive")
        return course_id


class ChangingInstructions(Scoped):
    """Some parts of instructions: what is absent stays, a storage id that is null is unset."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"instructions_text": INSTRUCTIONS["instructions_text"]}]}
    )

    instructions_text: InstructionsText = ABSENT
    grade_scale: GradeScaleId = ABSENT
    context_origin: ContextOrigin = ABSENT
    student_prompt_storage_id: StorageId | None = None
    judge_rubric_storage_id: StorageId | None = None


class NewPrompt(Sent):
    """A student prompt for an assignment that has instructions."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"assignment_id": "eng5-a2", "prompt_text": TASK}]}
    )

    assignment_id: AssignmentId
    prompt_text: LongText


class NewRubric(Sent):
    """A judge rubric for an assignment that has instructions."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"assignment_id": "eng5-a2", "rubric_text": "Weigh structure twice, spelling once."}
            ]
        }
    )

    assignment_id: AssignmentId
    rubric_text: LongText


class NewAssignment(Sent):
    """A whole assignment; roles that are absent stay as they are."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "assignment_id": "eng5-a1",
                    **INSTRUCTIONS,
                    "prompt_text": TASK,
                }
            ]
        }
    )

    assignment_id: AssignmentId
    instructions_text: InstructionsText
    grade_scale: GradeScaleId
    context_origin: ContextOrigin = ABSENT
    student_prompt_storage_id: StorageId = ABSENT
    judge_rubric_storage_id: StorageId = ABSENT
    prompt_text: LongText = ABSENT
    rubric_text: LongText = ABSENT
