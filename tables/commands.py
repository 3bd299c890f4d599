"""Write commands, and the decision on one: the events to append, or a refusal. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from schemas.errors import (
    ConditionRequired,
    Immutable,
    NotLive,
    TooManyAnchors,
    VersionConflict,
)
from schemas.events import (
    ADMINISTERED_ROLES,
    ANCHORS,
    ROLES,
    AnchorsDeleted,
    AnchorsUploaded,
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
from schemas.field_limits import MAX_ANCHORS, MAX_LONG, check_limits
from tables.anchor_changes import AnchorsChange, RemoveAnchors, anchors_after
from tables.context import component_of, is_live, live, live_anchors
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

ASSIGNMENT = "assignment"  # all roles at once
DEFAULT_ORIGIN = "research_experiment"
IMMUTABLE_FIELDS = ("grade_scale", "context_origin")  # until the instructions are deleted
NO_CONDITION = Condition()
NO_ANCHORS: Mapping[str, Any] = {"anchors": ()}
UPLOAD_EVENTS: Mapping[str, Callable[..., Upload]] = {
    "instructions": InstructionsUploaded,
    "student_prompt": StudentPromptUploaded,
    "judge_rubric": JudgeRubricUploaded,
    ANCHORS: AnchorsUploaded,
}
DELETION_EVENTS: Mapping[str, Callable[..., Deletion]] = {
    "instructions": InstructionsDeleted,
    "student_prompt": StudentPromptDeleted,
    "judge_rubric": JudgeRubricDeleted,
    ANCHORS: AnchorsDeleted,
}

WriteOutcome = Literal["created", "replaced", "unchanged", "deleted"]


class Delete(Enum):
    """`DELETE`: delete the role if it is live."""

    DELETE = "delete"


DELETE = Delete.DELETE


class Erase(Enum):
    """`audit erase`: delete the role, live or not, and mark its earlier texts as erased."""

    ERASE = "erase"


ERASE = Erase.ERASE


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRef:
    """A reference to a text in the content store."""

    storage_id: str
    sha256: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstructions:
    """New values of instructions; None keeps the live value."""

    text: TextRef | None = None
    grade_scale: str | None = None
    context_origin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteCommand:
    """A write to one scope; a role that is None stays as it is.

    needs_live and condition_on name a role, or `assignment` for the roles of a batch. Deleting an assignment's
    instructions also deletes its prompt, its rubric and its anchors.
    """

    assignment_id: str | None
    course_id: str | None
    instructions: NewInstructions | Delete | Erase | None = None
    student_prompt: TextRef | Delete | Erase | None = None
    judge_rubric: TextRef | Delete | Erase | None = None
    anchors: AnchorsChange | Delete | Erase | None = None
    needs_live: str | None = None
    condition_on: str
    condition: Condition = NO_CONDITION

    def __post_init__(self) -> None:
        if (self.assignment_id is None) == (self.course_id is None):
            raise ValueError("a write command names either an assignment or a course")
        of_assignment = (self.student_prompt, self.judge_rubric, self.anchors)
        if self.course_id is not None and any(of_assignment):
            raise ValueError("a course has instructions only")

    @property
    def scope_key(self) -> str:
        """`assignment:<id>` or `course:<id>`."""
        if self.assignment_id is not None:
            return f"assignment:{self.assignment_id}"
        return f"course:{self.course_id}"


def erase_command(scope_key: str) -> WriteCommand:
    """The command that erases every role of the scope that was ever uploaded and is not erased yet."""
    kind, _, scope_id = scope_key.partition(":")
    if kind == "course":
        return WriteCommand(
            assignment_id=None, course_id=scope_id, instructions=ERASE, condition_on="instructions"
        )
    return WriteCommand(
        assignment_id=scope_id,
        course_id=None,
        instructions=ERASE,
        student_prompt=ERASE,
        judge_rubric=ERASE,
        anchors=ERASE,
        condition_on=ASSIGNMENT,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteMetadata:
    """Actor, correlation id and time of a request; all its events have the same."""

    actor: str
    correlation_id: str
    occurred_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteDecision:
    """The events to append, in the order of the roles; the outcome for each role concerned, and for the command."""

    events: tuple[UploadEvent, ...]
    outcomes: Mapping[str, WriteOutcome]
    outcome: WriteOutcome


def decide(
    context: AssignmentContext | None,
    command: WriteCommand,
    metadata: WriteMetadata,
    new_id: Callable[[], str],
) -> WriteDecision:
    """Decide which events a command appends, given the current context of its scope.

    Raises NotLive, then Immutable, then ConditionRequired or VersionConflict, then TooManyAnchors; Malformed if an etag
    or a field breaks its rule; ValueError if a field is None and there is no live value to keep.
    """
    _require_live(context, command)
    _refuse_immutable_changes(context, command)
    _check_condition(context, command)
    events = list[UploadEvent]()
    outcomes = dict[str, WriteOutcome]()
    for role, wanted in _wanted(context, command).items():
        event = _event(context, command, role, wanted, metadata, new_id)
        if event is not None:
            check_limits(event)
            events.append(event)
        outcomes[role] = _outcome(event, was_live=is_live(context, role))
    outcome = _overall_outcome(context, command, events, outcomes)
    return WriteDecision(events=tuple(events), outcomes=outcomes, outcome=outcome)


def _is_any_live(context: AssignmentContext | None, role: str) -> bool:
    if role == ASSIGNMENT:
        return any(is_live(context, each) for each in ROLES)
    return is_live(context, role)


def _require_live(context: AssignmentContext | None, command: WriteCommand) -> None:
    role = command.needs_live
    if role is None or _is_any_live(context, role):
        _require_anchors(context, command)
        return
    roles = ROLES if role == ASSIGNMENT else (role,)
    raise NotLive(role, was_deleted=any(component_of(context, each) for each in roles))


def _require_anchors(context: AssignmentContext | None, command: WriteCommand) -> None:
    """Raise NotLive if the command removes anchors that are not there."""
    change, anchors = command.anchors, live_anchors(context)
    if isinstance(change, RemoveAnchors) and not any(map(change.names, anchors)):
        newest = component_of(context, ANCHORS)
        raise NotLive(ANCHORS, was_deleted=newest is not None and newest.is_deletion)


def _refuse_immutable_changes(context: AssignmentContext | None, command: WriteCommand) -> None:
    current = live(context, "instructions")
    if current is None or not isinstance(command.instructions, NewInstructions):
        return
    for field in IMMUTABLE_FIELDS:
        wanted, value = getattr(command.instructions, field), getattr(current, field)
        if wanted is not None and wanted != value:
            raise Immutable(field, value)


def _check_condition(context: AssignmentContext | None, command: WriteCommand) -> None:
    condition, role = command.condition, command.condition_on
    etag, version = _current(context, role)
    if condition.required and not condition.is_present:
        raise ConditionRequired(current_version=version, current_tag=str(etag), role=role)
    if not _condition_holds(context, command):
        raise VersionConflict(
            expected=str(condition), current_version=version, current_tag=str(etag), role=role
        )


def _current(context: AssignmentContext | None, role: str) -> tuple[ETag | AssignmentETag, int]:
    if role == ASSIGNMENT:
        assignment_etag = assignment_etag_of(context)
        return assignment_etag, assignment_etag.instructions.version
    etag = etag_of(component_of(context, role))
    return etag, etag.version


def _condition_holds(context: AssignmentContext | None, command: WriteCommand) -> bool:
    condition = command.condition
    is_any_live = _is_any_live(context, command.condition_on)
    if condition.if_none_match_any and is_any_live:
        return False
    if condition.if_match is None:
        return True
    return is_any_live and any(_is_current(text, context, command) for text in condition.if_match)


def _is_current(text: str, context: AssignmentContext | None, command: WriteCommand) -> bool:
    if text == ANY:
        return True
    deletes_other_roles = command.instructions is DELETE and command.assignment_id is not None
    if command.condition_on == ASSIGNMENT or (deletes_other_roles and text.startswith("i")):
        return parse_assignment_etag(text).offsets == assignment_etag_of(context).offsets
    expected = parse_etag(text).offset
    return expected == etag_of(component_of(context, command.condition_on)).offset


WantedState = NewInstructions | TextRef | AnchorsChange | Delete | Erase


def _wanted(context: AssignmentContext | None, command: WriteCommand) -> dict[str, WantedState]:
    """The wanted state of each role that the command changes, in the order of the roles."""
    wanted: dict[str, WantedState | None] = {
        role: getattr(command, role) for role in ADMINISTERED_ROLES
    }
    # if instructions are uploaded again later, an old prompt must not be live with them unnoticed
    if command.instructions is DELETE:
        wanted = {
            role: DELETE for role in ADMINISTERED_ROLES if wanted[role] or is_live(context, role)
        }
    return {role: state for role, state in wanted.items() if state is not None}


def _event(
    context: AssignmentContext | None,
    command: WriteCommand,
    role: str,
    wanted: WantedState,
    metadata: WriteMetadata,
    new_id: Callable[[], str],
) -> UploadEvent | None:
    """The event that brings a role to the wanted state; None if it already has that state."""
    newest, current = component_of(context, role), live(context, role)
    if isinstance(wanted, Erase):
        if newest is None or newest.erased:
            return None
        return DELETION_EVENTS[role](
            **_shared_fields(command, role, newest, metadata, new_id), erased=True
        )
    if isinstance(wanted, Delete):
        if current is None:
            return None
        return DELETION_EVENTS[role](**_shared_fields(command, role, newest, metadata, new_id))
    fields = _upload_fields(current, wanted)
    if fields == NO_ANCHORS:
        return DELETION_EVENTS[role](**_shared_fields(command, role, newest, metadata, new_id))
    if current is not None and _is_unchanged(current, fields):
        return None
    created_at_ms = metadata.occurred_at_ms if current is None else current.created_at_ms
    shared = _shared_fields(command, role, newest, metadata, new_id)
    return UPLOAD_EVENTS[role](**shared, **fields, created_at_ms=created_at_ms)


def _shared_fields(
    command: WriteCommand,
    role: str,
    newest: Component | None,
    metadata: WriteMetadata,
    new_id: Callable[[], str],
) -> dict[str, Any]:
    """The fields that uploads and deletions share."""
    scope = {"assignment_id": command.assignment_id}
    if role == "instructions":
        scope["course_id"] = command.course_id
    return {
        **scope,
        "event_id": new_id(),
        # a producer other than the API may have used the highest number; etags are compared by offset
        "version": 1 if newest is None else min(newest.version + 1, MAX_LONG),
        "previous_event_id": None if newest is None else newest.event_id,
        "actor": metadata.actor,
        "correlation_id": metadata.correlation_id,
        "occurred_at_ms": metadata.occurred_at_ms,
    }


def _upload_fields(
    current: Component | None, wanted: NewInstructions | TextRef | AnchorsChange
) -> dict[str, Any]:
    """The fields that only uploads of the role have."""
    match wanted:
        case NewInstructions():
            return _instructions_fields(current, wanted)
        case TextRef():
            return _text_fields(wanted)
        case change:
            anchors = anchors_after((current and current.anchors) or (), change)
            if len(anchors) > MAX_ANCHORS:
                raise TooManyAnchors(len(anchors), MAX_ANCHORS)
            return {"anchors": anchors}


def _text_fields(text: TextRef | Component) -> dict[str, Any]:
    return {
        "storage_id": text.storage_id,
        "sha256": text.sha256,
        "media_type": text.media_type,
        "size_bytes": text.size_bytes,
    }


def _instructions_fields(current: Component | None, wanted: NewInstructions) -> dict[str, Any]:
    text = wanted.text or current
    scale = wanted.grade_scale or (current and current.grade_scale)
    origin = wanted.context_origin or (current.context_origin if current else DEFAULT_ORIGIN)
    if text is None or scale is None:
        raise ValueError("instructions that are not live need a text and a grade scale")
    return {**_text_fields(text), "grade_scale": scale, "context_origin": origin}


def _is_unchanged(current: Component, fields: Mapping[str, Any]) -> bool:
    """Whether the write would change nothing; the same bytes with another media type are the same text."""
    compared = fields.keys() - {"media_type", "size_bytes"}
    return all(getattr(current, name) == fields[name] for name in compared)


def _outcome(event: UploadEvent | None, *, was_live: bool) -> WriteOutcome:
    if event is None:
        return "unchanged"
    if isinstance(event, Deletion):
        return "deleted"
    return "replaced" if was_live else "created"


def _overall_outcome(
    context: AssignmentContext | None,
    command: WriteCommand,
    events: list[UploadEvent],
    outcomes: Mapping[str, WriteOutcome],
) -> WriteOutcome:
    if not events:
        return "unchanged"
    if command.condition_on == ASSIGNMENT:
        return "replaced" if _is_any_live(context, ASSIGNMENT) else "created"
    outcome = outcomes.get(command.condition_on, "unchanged")
    return "replaced" if outcome == "unchanged" else outcome  # another role was changed
