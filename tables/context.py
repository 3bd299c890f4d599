"""The fold: applies uploads to the context of their scope. Pure; each caller passes its own mapping of rows."""

from functools import cache
from operator import attrgetter
from typing import Any, Protocol

from schemas.coordinates import Coordinates
from schemas.events import (
    ADMINISTERED_ROLES,
    ANCHORS,
    Anchor,
    AssignmentContext,
    Component,
    UploadEvent,
    role_of,
    scope_key_of,
)

FOLD_VERSION = 1  # rows of another version are rebuilt
COMPONENT_FIELDS = tuple({*Component.__slots__} - {"source", "appended_at_ms", "is_deletion"})


class Rows(Protocol):
    """What the fold needs of a table; a dict has it."""

    def get(self, scope_key: str, /) -> AssignmentContext | None:
        """The row of one scope."""

    def __setitem__(self, scope_key: str, context: AssignmentContext, /) -> None:
        """Store the row of one scope."""


class Part(Protocol):
    """A role's newest upload or deletion, decoded or encoded."""

    @property
    def is_deletion(self) -> bool:
        """Whether it is a deletion."""


class Roles(Protocol):
    """A scope's context, decoded or encoded."""

    @property
    def instructions(self) -> Part | None: ...
    @property
    def student_prompt(self) -> Part | None: ...
    @property
    def judge_rubric(self) -> Part | None: ...


def fold(rows: Rows, event: UploadEvent, at: Coordinates, appended_at_ms: int) -> None:
    """Fold one upload into rows: a Faust table, rows of the replica or a dict."""
    scope_key = scope_key_of(event)
    known = rows.get(scope_key)
    folded = apply(known, event, at, appended_at_ms)
    if folded != known:
        rows[scope_key] = folded


def apply(
    context: AssignmentContext | None, event: UploadEvent, at: Coordinates, appended_at_ms: int
) -> AssignmentContext:
    """The context after one upload; an older or repeated upload changes nothing."""
    row = context_from(event, at, appended_at_ms)
    return row if context is None else merge(context, row)


def merge(first: AssignmentContext, second: AssignmentContext) -> AssignmentContext:
    """Merge two rows of one scope; for each role the higher offset wins. Idempotent, commutative, associative.

    If the offsets are equal, the row with the higher fold version wins. Raises ValueError for rows of different scopes
    and for components of one role from different partitions.
    """
    if first.scope_key != second.scope_key:
        raise ValueError(f"cannot merge {first.scope_key} with {second.scope_key}")
    if first.fold_version < second.fold_version:
        first, second = second, first
    return AssignmentContext(
        scope_key=first.scope_key,
        fold_version=first.fold_version,
        instructions=_newer(first.instructions, second.instructions),
        student_prompt=_newer(first.student_prompt, second.student_prompt),
        judge_rubric=_newer(first.judge_rubric, second.judge_rubric),
        anchors=_newer(first.anchors, second.anchors),
    )


def _newer(first: Component | None, second: Component | None) -> Component | None:
    if first is None or second is None:
        return first or second
    if (first.source.topic, first.source.partition) != (
        second.source.topic,
        second.source.partition,
    ):
        raise ValueError(f"cannot merge {first.source} with {second.source}: different partitions")
    return first if first.source.offset >= second.source.offset else second


def context_from(event: UploadEvent, at: Coordinates, appended_at_ms: int) -> AssignmentContext:
    """The context that contains one upload and nothing else."""
    by_role = {role_of(event): component_from(event, at, appended_at_ms)}
    return AssignmentContext(scope_key=scope_key_of(event), fold_version=FOLD_VERSION, **by_role)


def component_from(event: UploadEvent, at: Coordinates, appended_at_ms: int) -> Component:
    """The component of one upload."""
    names, values_of = _copied_fields(type(event))  # type: ignore[arg-type]
    return Component(
        source=at,
        appended_at_ms=appended_at_ms,
        is_deletion=is_deletion(type(event)),
        **dict(zip(names, values_of(event), strict=True)),
    )


def is_deletion(event_class: Any) -> bool:
    """Whether events of this class are deletions."""
    return hasattr(event_class, "erased")


@cache
def _copied_fields(event_class: Any) -> "tuple[tuple[str, ...], attrgetter[Any]]":
    """The fields that a component copies from an upload of this class, and what reads them all at once."""
    names = tuple(name for name in COMPONENT_FIELDS if name in event_class.__slots__)
    return names, attrgetter(*names)


def component_of(context: AssignmentContext | None, role: str) -> Component | None:
    """The newest upload or deletion of one role."""
    if context is None:
        return None
    if role not in ADMINISTERED_ROLES:
        raise ValueError(f"no role is called {role}")
    component: Component | None = getattr(context, role)
    return component


def live(context: AssignmentContext | None, role: str) -> Component | None:
    """The component of one role if it was uploaded and not deleted since."""
    component = component_of(context, role)
    return None if component is None or component.is_deletion else component


def live_anchors(context: AssignmentContext | None) -> tuple[Anchor, ...]:
    """The live anchors of an assignment, of every grade scale; empty if there are none."""
    component = live(context, ANCHORS)
    return component.anchors or () if component else ()


def is_live(context: Roles | None, role: str) -> bool:
    """Whether the role was uploaded and not deleted since."""
    if context is None:
        return False
    if role not in ADMINISTERED_ROLES:
        raise ValueError(f"no role is called {role}")
    component: Part | None = getattr(context, role)
    return component is not None and not component.is_deletion
