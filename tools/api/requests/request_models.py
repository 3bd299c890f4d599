"""Request bodies and queries. Every rule belongs to a field, so that all faults are found at once."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from schemas.field_limits import MAX_ANCHORS
from tools.api.requests import field_types as types
from tools.api.requests.field_types import rule_error

Schema = dict[str, Any]


class RequestModel(BaseModel):
    """Frozen and strict; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Common(RequestModel):
    """The query parameters of every route."""

    correlation_id: str | None = Field(
        None, description="for clients that cannot send the header X-Correlation-ID"
    )


NoQuery = Annotated[Common, Query()]


class Paging(Common):
    """The page of a list."""

    page: types.PageNumber = 1
    page_size: types.PageSize = 50


class InstructionPaging(Paging):
    """The page, and the grade scale and the beginning of the id to filter by."""

    grade_scale: types.GradeScaleId | None = None
    id_prefix: types.AssignmentId | None = None


class WithTexts(Common):
    """Whether texts are included."""

    texts: types.Flag = True


class AssignmentQuery(WithTexts):
    """The assignment now, or as of a point in time."""

    as_of: types.Instant | None = None


class AsOfQuery(WithTexts):
    """The point in time, and optionally another one from which changes are shown."""

    at: types.Instant
    diff: types.Instant | None = None


class HistoryQuery(Paging):
    """The page, and whether batches are counted, which reads their whole topic."""

    uses: types.Flag = False


class BatchQuery(Common):
    """The batch, whether full texts are included, and whether requests with other keys than its id are searched."""

    batch_id: types.BatchId
    texts: types.Flag = False
    everywhere: types.Flag = False


SINCE = Field(None, alias="from")
UNTIL = Field(None, alias="to")


class RunQuery(Common):
    """The run of a batch; by default the newest."""

    run_id: types.RunId | None = None


class RunPaging(Paging):
    """The run of a batch, by default the newest, and the page of its list."""

    run_id: types.RunId | None = None


class ResultsQuery(Paging):
    """The page, and the assignment to filter by."""

    assignment_id: types.AssignmentId | None = None


class RangeQuery(Common):
    """A range of the log; `to` is included."""

    since: types.Instant | None = SINCE
    until: types.Instant | None = UNTIL


class ReplayQuery(RangeQuery):
    """A range of the upload topics, for one scope or for all."""

    scope: types.ScopeKey | None = None


class VerifyQuery(RangeQuery):
    """The requests in a range of the log."""

    texts: types.Flag = True


class GateQuery(Common):
    """The pipeline that asks."""

    pipeline: types.PipelineName


class ContentCheck(Common):
    """Whether the content store is checked, too."""

    check_content: types.Flag = False


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
ABSENT = Field(default_factory=str)  # an empty string means "not sent"; null is refused


ONE_TEXT: Schema = {
    "oneOf": [
        {
            "required": ["essay_text"],
            "properties": {"essay_text": {"type": "string"}, "storage_id": {"type": "null"}},
        },
        {
            "required": ["storage_id"],
            "properties": {"storage_id": {"type": "string"}, "essay_text": {"type": "null"}},
        },
    ]
}
SCOPE = ("assignment_id", "course_id")
TEXT_ROLES = ("student_prompt", "judge_rubric")
ASSIGNMENT_ONLY = tuple(f"{role}_storage_id" for role in TEXT_ROLES)


def documented(example: Schema, hidden: tuple[str, ...] = (), **rules: Any) -> ConfigDict:
    """The OpenAPI documentation of a body, without the `hidden` fields: those in the path, or of assignments only."""

    def complete(schema: Schema) -> None:
        schema |= {"examples": [example], **rules}
        for name in hidden:
            schema["properties"].pop(name)

    return ConfigDict(json_schema_extra=complete)


class WithStoredTexts(RequestModel):
    """The storage ids of a prompt and a rubric; a course, whose id is validated before them, has neither."""

    student_prompt_storage_id: types.StorageId | None = None
    judge_rubric_storage_id: types.StorageId | None = None

    @property
    def storage_ids(self) -> dict[str, str]:
        """The storage ids in the body, by role."""
        ids = {role: getattr(self, f"{role}_storage_id") for role in TEXT_ROLES}
        return {role: storage_id for role, storage_id in ids.items() if storage_id}

    @field_validator(*ASSIGNMENT_ONLY)
    @classmethod
    def _has_assignment(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("course_id") is not None:
            raise rule_error("assignment_scope_only")
        return value


class Scoped(RequestModel):
    """The fields that can name a scope."""

    assignment_id: types.AssignmentId | None = None
    course_id: types.CourseId | None = None


class PutInstructions(WithStoredTexts, Scoped):
    """Complete instructions for the assignment in the path."""

    model_config = documented(INSTRUCTIONS, SCOPE)

    instructions_text: types.InstructionsText
    grade_scale: types.GradeScaleId
    context_origin: types.ContextOrigin = ABSENT


class PutCourseInstructions(PutInstructions):
    """Complete instructions for the course in the path."""

    model_config = documented(INSTRUCTIONS, SCOPE + ASSIGNMENT_ONLY)


class Instructions(PutInstructions):
    """Complete instructions with their scope."""

    model_config = documented({"assignment_id": "eng5-a1", **INSTRUCTIONS}, **EITHER_SCOPE)

    course_id: Annotated[types.CourseId | None, Field(validate_default=True)] = None

    @field_validator("course_id")
    @classmethod
    def _one_scope(cls, course_id: str | None, info: ValidationInfo) -> str | None:
        is_parsed = "assignment_id" in info.data  # otherwise it is a fault already
        if is_parsed and (info.data["assignment_id"] is None) == (course_id is None):
            raise rule_error("scope_not_exclusive")
        return course_id


class PatchInstructions(WithStoredTexts, Scoped):
    """Parts of an assignment's instructions: absent fields stay as they are, a storage id that is null is unset."""

    model_config = documented({"judge_rubric_storage_id": None}, SCOPE)

    instructions_text: types.InstructionsText = ABSENT
    grade_scale: types.GradeScaleId = ABSENT
    context_origin: types.ContextOrigin = ABSENT

    @property
    def unset_roles(self) -> list[str]:
        """The roles whose storage id is null in the body."""
        named = [role for role in TEXT_ROLES if f"{role}_storage_id" in self.model_fields_set]
        return [role for role in named if role not in self.storage_ids]


class PatchCourseInstructions(PatchInstructions):
    """Parts of a course's instructions: absent fields stay as they are."""

    model_config = documented(
        {"instructions_text": INSTRUCTIONS["instructions_text"]}, SCOPE + ASSIGNMENT_ONLY
    )


class NewPrompt(RequestModel):
    """A student prompt for an assignment that has instructions."""

    model_config = documented({"assignment_id": "eng5-a1", "prompt_text": TASK})

    assignment_id: types.AssignmentId
    prompt_text: types.LongText


class NewRubric(RequestModel):
    """A judge rubric for an assignment that has instructions."""

    model_config = documented({"assignment_id": "eng5-a1", "rubric_text": "Weigh structure twice."})

    assignment_id: types.AssignmentId
    rubric_text: types.LongText


class NewAssignment(WithStoredTexts):
    """A whole assignment; absent roles stay as they are."""

    model_config = documented({"assignment_id": "eng5-a1", **INSTRUCTIONS, "prompt_text": TASK})

    assignment_id: types.AssignmentId
    instructions_text: types.InstructionsText
    grade_scale: types.GradeScaleId
    context_origin: types.ContextOrigin = ABSENT
    student_prompt_storage_id: types.StorageId = ABSENT
    judge_rubric_storage_id: types.StorageId = ABSENT
    prompt_text: types.LongText = ABSENT
    rubric_text: types.LongText = ABSENT


ESSAY = "The council wants to close the youth centre. I think that this is wrong, because it is the only place for us."


class OfScale(Common):
    """The grade scale of the anchors; by default that of the live instructions."""

    grade_scale: types.GradeScaleId | None = None


class GradedText(RequestModel):
    """An anchor: its id, its grade, and its text or the storage id of its text."""

    anchor_id: types.AnchorId
    grade: types.Grade
    essay_text: types.AnchorText | None = None
    storage_id: Annotated[types.StorageId | None, Field(validate_default=True)] = None

    @field_validator("storage_id")
    @classmethod
    def _one_text(cls, storage_id: str | None, info: ValidationInfo) -> str | None:
        is_parsed = "essay_text" in info.data  # otherwise it is a fault already
        if is_parsed and (info.data["essay_text"] is None) == (storage_id is None):
            raise rule_error("text_not_exclusive")
        return storage_id


class NewAnchor(GradedText):
    """An anchor of an assignment that has instructions; without a grade scale, of that of the instructions."""

    model_config = documented(
        {"assignment_id": "eng5-a1", "anchor_id": "anchor-1", "grade": "C+", "essay_text": ESSAY},
        **ONE_TEXT,
    )

    assignment_id: types.AssignmentId
    grade_scale: types.GradeScaleId | None = None


class ListedAnchor(GradedText):
    """One of several anchors."""

    model_config = documented(
        {"anchor_id": "anchor-1", "grade": "C+", "essay_text": ESSAY}, **ONE_TEXT
    )


class AnchorSet(RequestModel):
    """All anchors of one grade scale."""

    model_config = documented(
        {"anchors": [{"anchor_id": "anchor-1", "grade": "C+", "essay_text": ESSAY}]}
    )

    anchors: list[ListedAnchor] = Field(min_length=1, max_length=MAX_ANCHORS)


class OverridesToCheck(RequestModel):
    """`llm_config_overrides` as a JSON object, and the origin of the assignment's instructions."""

    llm_config_overrides: Any = None
    context_origin: str | None = Field(None, max_length=64)
