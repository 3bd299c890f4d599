"""What becomes of a change that somebody asks for: events to append, or a refusal. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from schemas.errors import ConditionRequired, Immutable, NotLive, VersionConflict
from schemas.events import (
    ROLES,
    AssignmentContext,
    Component,
    Deletion,
    InstructionsDeleted,
    InstructionsUploaded,
    JudgeRubricDeleted,
    JudgeRubricUploaded,
    StudentPromptDeleted,
    StudentPromptUploaded,
    Upload,
    UploadEvent,
)
from schemas.field_limits import MAX_LONG, check_limits
from tables.context import component_of, is_live, live
from tables.etags import (
    ANY,
    AssignmentETag,
    Condition,
    ETag,
    assignment_etag_of,
    etag_of,
    parse_assignment_etag,
    parse_etag,
)

ASSIGNMENT = "assignment"  # every role at once
DEFAULT_ORIGIN = "research_experiment"
FIXED = ("grade_scale", "context_origin")  # while the instructions live
NO_CONDITION = Condition()
UPLOADED: Mapping[str, Callable[..., Upload]] = {
    "instructions": InstructionsUploaded,
    "student_prompt": StudentPromptUploaded,
    "judge_rubric": JudgeRubricUploaded,
}
DELETED: Mapping[str, Callable[..., Deletion]] = {
    "instructions": InstructionsDeleted,
    "student_prompt": StudentPromptDeleted,
    "judge_rubric": JudgeRubricDeleted,
}

Outcome = Literal["created", "replaced", "unchanged", "deleted"]


class Delete(Enum):
    """`DELETE`: the role is to be live no more."""

    DELETE = "delete"


DELETE = Delete.DELETE


class Erase(Enum):
    """`audit erase`: whatever the role ever was, its texts are to be gone, too."""

    ERASE = "erase"


ERASE = Erase.ERASE


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRef:
    """A text that is in the content store."""

    storage_id: str
    sha256: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstructions:
    """What instructions are to be; None keeps what is live."""

    text: TextRef | None = None
    grade_scale: str | None = None
    context_origin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteCommand:
    """What is asked for at one scope; roles that are None are not touched.

    needs_live and condition_on name a role, or `assignment` for all of them. Deleting an assignment's
    instructions deletes its prompt and rubric, too.
    """

    assignment_id: str | None
    course_id: str | None
    instructions: NewInstructions | Delete | Erase | None = None
    student_prompt: TextRef | Delete | Erase | None = None
    judge_rubric: TextRef | Delete | Erase | None = None
    needs_live: str | None = None
    condition_on: str
    condition: Condition = NO_CONDITION

    def __post_init__(self) -> None:
        if (self.assignment_id is None) == (self.course_id is None):
            raise ValueError("a change is of one assignment or of one course")
        if self.course_id is not None and (self.student_prompt or self.judge_rubric):
            raise ValueError("a course has instructions only")

    @property
    def scope_key(self) -> str:
        """`assignment:<id>` or `course:<id>`."""
        if self.assignment_id is not None:
            return f"assignment:{self.assignment_id}"
        return f"course:{self.course_id}"


def erasure_of(scope_key: str) -> WriteCommand:
    """The change that erases every role which the scope ever had and which is not erased."""
    kind, _, name = scope_key.partition(":")
    if kind == "course":
        return WriteCommand(
            assignment_id=None, course_id=name, instructions=ERASE, condition_on="instructions"
        )
    return WriteCommand(
        assignment_id=name,
        course_id=None,
        instructions=ERASE,
        student_prompt=ERASE,
        judge_rubric=ERASE,
        condition_on=ASSIGNMENT,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteMetadata:
    """Who asks and when: the same for all events of one request."""

    actor: str
    correlation_id: str
    occurred_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteDecision:
    """The events to append, in the order of roles, and what each role that was asked for comes to."""

    events: tuple[UploadEvent, ...]
    outcomes: Mapping[str, Outcome]
    outcome: Outcome


def decide(
    context: AssignmentContext | None,
    change: WriteCommand,
    writing: WriteMetadata,
    new_id: Callable[[], str],
) -> WriteDecision:
    """What a change comes to in the context that it meets.

    Raises NotLive, then Immutable, then ConditionRequired or VersionConflict; Malformed for a tag or a field that
    breaks its rule; ValueError where there is nothing to keep.
    """
    _refuse_what_needs_more(context, change)
    _refuse_what_is_fixed(context, change)
    _refuse_what_was_not_seen(context, change)
    events = list[UploadEvent]()
    outcomes = dict[str, Outcome]()
    for role, wanted in _wanted(context, change).items():
        event = _event(context, change, role, wanted, writing, new_id)
        if event is not None:
            check_limits(event)
            events.append(event)
        outcomes[role] = _outcome(event, was_live=is_live(context, role))
    outcome = _outcome_of_all(context, change, events, outcomes)
    return WriteDecision(events=tuple(events), outcomes=outcomes, outcome=outcome)


def _live_among(context: AssignmentContext | None, role: str) -> bool:
    if role == ASSIGNMENT:
        return any(is_live(context, one) for one in ROLES)
    return is_live(context, role)


def _refuse_what_needs_more(context: AssignmentContext | None, change: WriteCommand) -> None:
    role = change.needs_live
    if role is None or _live_among(context, role):
        return
    known = [component_of(context, one) for one in (ROLES if role == ASSIGNMENT else (role,))]
    raise NotLive(role, was_deleted=any(known))


def _refuse_what_is_fixed(context: AssignmentContext | None, change: WriteCommand) -> None:
    known = live(context, "instructions")
    if known is None or not isinstance(change.instructions, NewInstructions):
        return
    for field in FIXED:
        wanted, current = getattr(change.instructions, field), getattr(known, field)
        if wanted is not None and wanted != current:
            raise Immutable(field, current)


def _refuse_what_was_not_seen(context: AssignmentContext | None, change: WriteCommand) -> None:
    condition, role = change.condition, change.condition_on
    tag, version = _current(context, role)
    if condition.required and not condition.is_given:
        raise ConditionRequired(current_version=version, current_tag=str(tag), role=role)
    if not _holds(context, change):
        raise VersionConflict(
            expected=str(condition), current_version=version, current_tag=str(tag), role=role
        )


def _current(context: AssignmentContext | None, role: str) -> tuple[ETag | AssignmentETag, int]:
    if role == ASSIGNMENT:
        whole = assignment_etag_of(context)
        return whole, whole.instructions.version
    tag = etag_of(component_of(context, role))
    return tag, tag.version


def _holds(context: AssignmentContext | None, change: WriteCommand) -> bool:
    condition = change.condition
    something_lives = _live_among(context, change.condition_on)
    if condition.if_none_match_any and something_lives:
        return False
    if condition.if_match is None:
        return True
    return something_lives and any(_is_now(text, context, change) for text in condition.if_match)


def _is_now(text: str, context: AssignmentContext | None, change: WriteCommand) -> bool:
    if text == ANY:
        return True
    takes_the_rest_along = change.instructions is DELETE and change.assignment_id is not None
    if change.condition_on == ASSIGNMENT or (takes_the_rest_along and text.startswith("i")):
        return parse_assignment_etag(text).offsets == assignment_etag_of(context).offsets
    seen = parse_etag(text).offset
    return seen == etag_of(component_of(context, change.condition_on)).offset


Wanted = NewInstructions | TextRef | Delete | Erase


def _wanted(context: AssignmentContext | None, change: WriteCommand) -> dict[str, Wanted]:
    """What each role that the change touches is to be, in the order of roles."""
    wanted: dict[str, Wanted | None] = {role: getattr(change, role) for role in ROLES}
    if change.instructions is DELETE:  # made anew, they must not revive an old prompt unseen
        wanted = {role: DELETE for role in ROLES if wanted[role] or is_live(context, role)}
    return {role: one for role, one in wanted.items() if one is not None}


def _event(
    context: AssignmentContext | None,
    change: WriteCommand,
    role: str,
    wanted: Wanted,
    writing: WriteMetadata,
    new_id: Callable[[], str],
) -> UploadEvent | None:
    """The event that makes a role as wanted; None where it is so already."""
    known, living = component_of(context, role), live(context, role)
    if isinstance(wanted, Erase):
        if known is None or known.erased:
            return None
        return DELETED[role](**_said(change, role, known, writing, new_id), erased=True)
    if isinstance(wanted, Delete):
        if living is None:
            return None
        return DELETED[role](**_said(change, role, known, writing, new_id))
    fields = _instructions(living, wanted) if isinstance(wanted, NewInstructions) else _text(wanted)
    if living is not None and _is_as_wanted(living, fields):
        return None
    created_at_ms = writing.occurred_at_ms if living is None else living.created_at_ms
    said = _said(change, role, known, writing, new_id)
    return UPLOADED[role](**said, **fields, created_at_ms=created_at_ms)


def _said(
    change: WriteCommand,
    role: str,
    known: Component | None,
    writing: WriteMetadata,
    new_id: Callable[[], str],
) -> dict[str, Any]:
    """What uploads and deletions alike say."""
    scope = {"assignment_id": change.assignment_id}
    if role == "instructions":
        scope["course_id"] = change.course_id
    return {
        **scope,
        "event_id": new_id(),
        # a foreign producer may have used up the numbers; tags are compared by offset
        "version": 1 if known is None else min(known.version + 1, MAX_LONG),
        "previous_event_id": None if known is None else known.event_id,
        "actor": writing.actor,
        "correlation_id": writing.correlation_id,
        "occurred_at_ms": writing.occurred_at_ms,
    }


def _text(text: TextRef | Component) -> dict[str, Any]:
    return {
        "storage_id": text.storage_id,
        "sha256": text.sha256,
        "media_type": text.media_type,
        "size_bytes": text.size_bytes,
    }


def _instructions(living: Component | None, wanted: NewInstructions) -> dict[str, Any]:
    text = wanted.text or living
    scale = wanted.grade_scale or (living and living.grade_scale)
    origin = wanted.context_origin or (living.context_origin if living else DEFAULT_ORIGIN)
    if text is None or scale is None:
        raise ValueError("instructions that are not live need a text and a grade scale")
    return {**_text(text), "grade_scale": scale, "context_origin": origin}


def _is_as_wanted(living: Component, fields: Mapping[str, Any]) -> bool:
    """Whether nothing would change; the same bytes under another media type are the same text."""
    compared = fields.keys() - {"media_type", "size_bytes"}
    return all(getattr(living, name) == fields[name] for name in compared)


def _outcome(event: UploadEvent | None, *, was_live: bool) -> Outcome:
    if event is None:
        return "unchanged"
    if isinstance(event, Deletion):
        return "deleted"
    return "replaced" if was_live else "created"


def _outcome_of_all(
    context: AssignmentContext | None,
    change: WriteCommand,
    events: list[UploadEvent],
    outcomes: Mapping[str, Outcome],
) -> Outcome:
    if not events:
        return "unchanged"
    if change.condition_on == ASSIGNMENT:
        return "replaced" if _live_among(context, ASSIGNMENT) else "created"
    main = outcomes.get(change.condition_on, "unchanged")
    return "replaced" if main == "unchanged" else main  # what came along was changed
