"""What becomes of a change that somebody asks for: events to append, or a refusal. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from schemas.events import AssignmentContext, UploadEvent
from tables.tags import Condition

ASSIGNMENT = "assignment"  # every role at once
DEFAULT_ORIGIN = "research_experiment"

Outcome = Literal["created", "replaced", "unchanged", "deleted"]


class Delete(Enum):
    """`DELETE`: the role is to be live no more."""

    DELETE = "delete"


DELETE = Delete.DELETE


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
class Change:
    """What is asked for at one scope; roles that are None are not touched.

    needs_live and condition_on name a role, or `assignment` for all of them. Deleting an assignment's
    instructions deletes its prompt and rubric, too.
    """

    assignment_id: str | None
    course_id: str | None
    instructions: NewInstructions | Delete | None = None
    student_prompt: TextRef | Delete | None = None
    judge_rubric: TextRef | Delete | None = None
    needs_live: str | None = None
    condition_on: str
    condition: Condition = Condition()

    @property
    def scope_key(self) -> str:
        """`assignment:<id>` or `course:<id>`."""
        if self.assignment_id is not None:
            return f"assignment:{self.assignment_id}"
        return f"course:{self.course_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Who asks and when: the same for all events of one request."""

    actor: str
    correlation_id: str
    occurred_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The events to append, in the order of roles, and what each role that was asked for comes to."""

    events: tuple[UploadEvent, ...]
    outcomes: Mapping[str, Outcome]
    outcome: Outcome


def decide(
    context: AssignmentContext | None,
    change: Change,
    writing: Writing,
    new_id: Callable[[], str],
) -> Decision:
    """What a change comes to in the context that it meets.

    Raises NotLive, then Immutable, then ConditionRequired or VersionConflict; Malformed for a tag or a field that
    breaks its rule.
    """
    raise NotImplementedError
