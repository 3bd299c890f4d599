"""The response bodies of the audit routes, equal to the output of `cjstream audit … --json`."""

from typing import Literal

from pydantic import ConfigDict

from tools.api.responses.response_models import Page, ResponseModel, Role, Source


class AuditModel(ResponseModel):
    """The listed fields plus the event's own fields; later releases may add fields."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Gap(ResponseModel):
    """Missing versions of a role, between these two; from `complete_from` on the log is complete again."""

    role: Role
    after_version: int
    before_version: int | None
    after: Source | None
    complete_from: Source | None
    reason: str


class UploadEvent(AuditModel):
    """One upload or deletion."""

    deleted: bool
    version: int
    event_id: str
    actor: str
    correlation_id: str
    occurred_at: str
    appended_at: str
    source: Source


class ComponentDocument(UploadEvent):
    """A role at that moment; if texts were requested, `text_state` is the state of its text."""

    text_state: Literal["present", "erased", "missing", "damaged", "elsewhere"] = "present"
    text: str | None = None


class NextOffset(ResponseModel):
    """The records of a partition before this offset are included."""

    topic: str
    partition: int
    next_offset: int


class Change(ResponseModel):
    """The change of one role between two moments; `text_diff` is a unified diff."""

    role: Role
    change: str
    before: ComponentDocument | None
    after: ComponentDocument | None
    fields: list[str]
    text_diff: str


class AsOf(ResponseModel):
    """A scope at a moment; a role in `unknown` is null because a gap hides its state."""

    scope_key: str
    assignment_id: str | None
    course_id: str | None
    positions: list[NextOffset]
    complete: bool
    unknown: list[Role]
    gaps: list[Gap]
    instructions: ComponentDocument | None
    student_prompt: ComponentDocument | None
    judge_rubric: ComponentDocument | None
    anchors: ComponentDocument | None
    diff: tuple[Change, ...] = ()


class Version(UploadEvent):
    """One upload or deletion; `mark` is set if its version number repeats, decreases or skips numbers."""

    role: Role
    event_type: str
    mark: str | None
    changed: list[str]
    batches: int = 0


class Damaged(ResponseModel):
    """A record with the scope's key that cannot be read as an upload."""

    role: Role
    appended_at: str
    source: Source
    value_bytes: int | None
    reason: str


class Lost(ResponseModel):
    """An upload that batches refer to but that is no longer in the log."""

    role: Role
    version: int
    event_id: str
    source: Source
    batches: int


class Versions(ResponseModel):
    """Versions, newest first; if they are not `complete`, `gaps` are the ones known to be missing."""

    items: list[Version]
    complete: bool
    gaps: list[Gap]
    damaged: list[Damaged]


class History(Versions, Page):
    """One page of the versions of every role, newest first, and the versions that are known to be missing.

    `foreign_records`: coordinates of records in the batches topic that name the scope but are no batches.
    """

    scope_key: str
    lost: list[Lost]
    foreign_records: list[str]


class HistoryPage(Versions, Page):
    """One page of an assignment's history, newest first."""


class Request(AuditModel):
    """One request of a batch with its complete history; its event is null if its bytes are not an event."""

    at: str
    appended_at: str
    key: str | None
    state: str
    verified: bool


class BatchDocument(ResponseModel):
    """All requests with one batch id."""

    batch_id: str
    requests: list[Request]
