"""The fold: uploads into the context of their scope. Pure; every driver lends it a mapping."""

from functools import cache
from typing import Any, Protocol

from schemas.coordinates import Coordinates
from schemas.events import ROLES, AssignmentContext, Component, UploadEvent, role_of, scope_key_of

FOLD_VERSION = 1  # rows of another version are rebuilt
TAKEN_OVER = tuple({*Component.__slots__} - {"source", "appended_at_ms", "is_deletion"})


class Rows(Protocol):
    """What the fold asks of a table; a dict is one."""

    def get(self, scope_key: str, /) -> AssignmentContext | None:
        """The row of one scope."""

    def __setitem__(self, scope_key: str, context: AssignmentContext, /) -> None:
        """Put the row of one scope."""


class Part(Protocol):
    """A role's newest upload or deletion, in whatever form."""

    @property
    def is_deletion(self) -> bool:
        """Whether it took the text away."""


class Roles(Protocol):
    """A scope's context, in whatever form."""

    @property
    def instructions(self) -> Part | None: ...
    @property
    def student_prompt(self) -> Part | None: ...
    @property
    def judge_rubric(self) -> Part | None: ...


def fold(rows: Rows, event: UploadEvent, at: Coordinates, appended_at_ms: int) -> None:
    """Fold one upload into rows: a Faust table, the replica or a dict."""
    scope_key = scope_key_of(event)
    known = rows.get(scope_key)
    folded = apply(known, event, at, appended_at_ms)
    if folded != known:
        rows[scope_key] = folded


def apply(
    context: AssignmentContext | None, event: UploadEvent, at: Coordinates, appended_at_ms: int
) -> AssignmentContext:
    """The context after one upload; an older or repeated upload changes nothing."""
    row = only(event, at, appended_at_ms)
    return row if context is None else merge(context, row)


def merge(one: AssignmentContext, other: AssignmentContext) -> AssignmentContext:
    """Role by role the newer offset wins, of equal ones the newer fold's: idempotent, commutative, associative.

    Raises ValueError where two scopes, or one role's components of two partitions, meet.
    """
    if one.scope_key != other.scope_key:
        raise ValueError(f"cannot merge {one.scope_key} with {other.scope_key}")
    if one.fold_version < other.fold_version:
        one, other = other, one
    return AssignmentContext(
        scope_key=one.scope_key,
        fold_version=one.fold_version,
        instructions=_newer(one.instructions, other.instructions),
        student_prompt=_newer(one.student_prompt, other.student_prompt),
        judge_rubric=_newer(one.judge_rubric, other.judge_rubric),
    )


def _newer(one: Component | None, other: Component | None) -> Component | None:
    if one is None or other is None:
        return one or other
    if (one.source.topic, one.source.partition) != (other.source.topic, other.source.partition):
        raise ValueError(f"cannot merge {one.source} with {other.source}: different partitions")
    return one if one.source.offset >= other.source.offset else other


def only(event: UploadEvent, at: Coordinates, appended_at_ms: int) -> AssignmentContext:
    """The context that knows one upload and nothing else."""
    by_role = {role_of(event): component_from(event, at, appended_at_ms)}
    return AssignmentContext(scope_key=scope_key_of(event), fold_version=FOLD_VERSION, **by_role)


def component_from(event: UploadEvent, at: Coordinates, appended_at_ms: int) -> Component:
    """What a role's row says of one upload."""
    return Component(
        source=at,
        appended_at_ms=appended_at_ms,
        is_deletion=is_deletion(type(event)),
        **{name: getattr(event, name) for name in component_fields_of(type(event))},  # type: ignore[arg-type]
    )


def is_deletion(event_class: Any) -> bool:
    """Whether events of this class take a text away."""
    return hasattr(event_class, "erased")


@cache
def component_fields_of(event_class: Any) -> tuple[str, ...]:
    """The fields of an upload of this class that its component has, too."""
    return tuple(name for name in TAKEN_OVER if name in event_class.__slots__)


def component_of(context: AssignmentContext | None, role: str) -> Component | None:
    """One role's newest upload or deletion."""
    if context is None:
        return None
    if role not in ROLES:
        raise ValueError(f"no role is called {role}")
    component: Component | None = getattr(context, role)
    return component


def live(context: AssignmentContext | None, role: str) -> Component | None:
    """One role's component if it was uploaded and not deleted since."""
    component = component_of(context, role)
    return None if component is None or component.is_deletion else component


def is_live(context: Roles | None, role: str) -> bool:
    """Whether the role was uploaded and not deleted since."""
    if context is None:
        return False
    if role not in ROLES:
        raise ValueError(f"no role is called {role}")
    part: Part | None = getattr(context, role)
    return part is not None and not part.is_deletion
