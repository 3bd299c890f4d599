"""What the audit's routes answer: the same bodies as `cjstream audit … --json`."""

from typing import Literal

from pydantic import ConfigDict

from tools.api.responses.response_models import ResponseModel, Role, Source


class AuditModel(ResponseModel):
    """An event's own fields stand beside those listed here; later releases may add some."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Gap(ResponseModel):
    """Versions between these two are not in the log; it is complete again from complete_from on."""

    role: Role
    after_version: int
    before_version: int | None
    after: Source | None
    complete_from: Source | None
    reason: str


class ComponentDocument(AuditModel):
    """A role as it stood; text_state says what became of its text, where texts were asked for."""

    deleted: bool
    version: int
    event_id: str
    actor: str
    correlation_id: str
    occurred_at: str
    appended_at: str
    source: Source
    text_state: Literal["present", "erased", "missing", "damaged", "elsewhere"] = "present"
    text: str | None = None


class NextOffset(ResponseModel):
    """How far a partition counts: up to the record before this offset."""

    topic: str
    partition: int
    next_offset: int


class Change(ResponseModel):
    """What became of one role between two moments; text_diff is a unified diff."""

    role: Role
    change: str
    before: ComponentDocument | None
    after: ComponentDocument | None
    fields: list[str]
    text_diff: str


class AsOf(ResponseModel):
    """A scope as it stood; a role in `unknown` is null because gaps hide it."""

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
    diff: tuple[Change, ...] = ()


class Version(AuditModel):
    """One upload or deletion; mark tells of a number that repeats, falls or leaves some out."""

    role: Role
    event_type: str
    deleted: bool
    version: int
    event_id: str
    actor: str
    correlation_id: str
    occurred_at: str
    appended_at: str
    source: Source
    mark: str | None
    changed: list[str]
    batches: int = 0


class Damaged(ResponseModel):
    """A record of the scope's key that is no upload."""

    role: Role
    appended_at: str
    source: Source
    value_bytes: int | None
    reason: str


class Lost(ResponseModel):
    """An upload that batches name and the log no longer has."""

    role: Role
    version: int
    event_id: str
    source: Source
    batches: int


class History(ResponseModel):
    """Every version of every role, newest first, and what is known to be missing."""

    scope_key: str
    items: list[Version]
    damaged: list[Damaged]
    complete: bool
    gaps: list[Gap]
    lost: list[Lost]


class HistoryPage(ResponseModel):
    """One page of an assignment's history, newest first."""

    items: list[Version]
    total: int
    page: int
    page_size: int
    complete: bool
    gaps: list[Gap]
    damaged: list[Damaged]


class Request(AuditModel):
    """One request of a batch, and all that came of it; event is null where its bytes are none."""

    at: str
    appended_at: str
    key: str | None
    state: str
    verified: bool


class BatchDocument(ResponseModel):
    """Every request of one batch id."""

    batch_id: str
    requests: list[Request]
