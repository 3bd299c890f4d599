"""`cjstream audit as-of`: the context of one scope as it stood at a moment, with its texts."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.log.offsets_at import positions_after
from processors.log.reader import LogReader
from processors.settings import Settings, upload_partitions
from schemas.coordinates import Positions
from schemas.errors import Discrepancy
from schemas.events import ROLES, Component
from tables.content_store import ContentStore
from tables.context import component_of
from tables.history.point_in_time import Moment
from tables.history.scope_history import ScopeAsOf, ScopeHistory, scope_as_of
from tools.audit.scope.history import gap_text, history
from tools.audit.stored_text import AMISS, TextState, text_of
from tools.audit_json import (
    component_document,
    gap_document,
    ids_of,
    instant,
    positions_document,
)


@dataclass(frozen=True, slots=True)
class ScopeReport:
    """A scope as it stood at positions, and the texts of its live roles, where they were wanted."""

    positions: Positions
    standing: ScopeAsOf
    texts: Mapping[str, TextState]

    def component(self, role: str) -> Component | None:
        """What the role was; None where nothing was there, or nothing can be told."""
        hidden = role in self.standing.hidden
        return None if hidden else component_of(self.standing.context, role)


def asked(
    settings: Settings, scope_key: str, moments: Iterable[Moment], store: ContentStore | None
) -> list[ScopeReport]:
    """The scope at each of these moments. Raises Unreachable, Discrepancy, UnknownSchema."""
    positions = [positions_at(settings, one) for one in moments]
    found = history(settings, scope_key, everywhere=False)  # after them: it reaches beyond them all
    return [scope_report(found, one, store) for one in positions]


def positions_at(settings: Settings, moment: Moment) -> Positions:
    """The position of every upload partition at a moment. Raises Unreachable, Discrepancy."""
    with LogReader(settings, upload_partitions(settings)) as log:
        return positions_after(log, moment)


def scope_report(
    found: ScopeHistory, positions: Positions, store: ContentStore | None
) -> ScopeReport:
    """The scope at these positions; texts are fetched where there is a store to ask. Raises Unreachable."""
    standing = scope_as_of(found, positions)
    bare = ScopeReport(positions, standing, {})
    if store is None:
        return bare
    components = {role: bare.component(role) for role in ROLES}
    texts = {
        role: text_of(store, one.storage_id, str(one.sha256), role, one.source, found)
        for role, one in components.items()
        if one is not None and one.storage_id is not None
    }
    return ScopeReport(positions, standing, texts)


def refuse_unknown(found: ScopeReport) -> None:
    """Raise Discrepancy where a role cannot be told, or its text is missing or damaged."""
    for role, gap in found.standing.hidden.items():
        raise Discrepancy(
            f"history-compacted: {role} of {found.standing.scope_key} cannot be told: {gap_text(gap)}"
        )
    for role, text in found.texts.items():
        if text.state in AMISS:
            one = found.component(role)
            raise Discrepancy(
                f"the text of the {role} of {found.standing.scope_key} is {text.state}: "
                f"content {one.storage_id if one else ''}"
            )


def document_of(found: ScopeReport) -> dict[str, Any]:
    """A standing as JSON; a role in `unknown` is null because it cannot be told."""
    standing = found.standing
    return {
        "scope_key": standing.scope_key,
        **ids_of(standing.scope_key),
        "positions": positions_document(found.positions),
        "complete": not standing.hidden,
        "unknown": sorted(standing.hidden),
        "gaps": [gap_document(gap) for gap in standing.hidden.values()],
        **{role: _role_document(found, role) for role in ROLES},
    }


def _role_document(found: ScopeReport, role: str) -> dict[str, Any] | None:
    component, text = found.component(role), found.texts.get(role)
    if component is None:
        return None
    told = component_document(component)
    return told if text is None else {**told, "text_state": text.state, "text": text.text}


@dataclass(frozen=True, slots=True)
class RoleChange:
    """What became of one role between two moments; lines are a unified diff of its texts."""

    role: str
    what: str  # unchanged, uploaded, replaced, deleted, or unknown
    before: Component | None
    after: Component | None
    fields: tuple[str, ...]
    lines: tuple[str, ...]


def changes(before: ScopeReport, after: ScopeReport) -> Iterator[RoleChange]:
    """What became of each role from one moment to the other."""
    for role in ROLES:
        was, is_now = before.component(role), after.component(role)
        unknown = role in before.standing.hidden or role in after.standing.hidden
        what = "unknown" if unknown else _what(was, is_now)
        lines = () if what in ("unknown", "unchanged") else tuple(_diff(role, before, after))
        yield RoleChange(role, what, was, is_now, _fields(was, is_now), lines)


def _what(was: Component | None, is_now: Component | None) -> str:
    if was == is_now:
        return "unchanged"
    if is_now is None or is_now.is_deletion:
        return "deleted" if is_now else "not there yet"
    return "uploaded" if was is None or was.is_deletion else "replaced"


TOLD = ("storage_id", "grade_scale", "context_origin", "media_type", "created_at_ms")


def _fields(was: Component | None, is_now: Component | None) -> tuple[str, ...]:
    if was is None or is_now is None:
        return ()
    return tuple(name for name in TOLD if getattr(was, name) != getattr(is_now, name))


def _diff(role: str, before: ScopeReport, after: ScopeReport) -> Iterator[str]:
    """A unified diff of the texts, none where one of them was not fetched."""
    sides = [(one, one.texts.get(role), one.component(role)) for one in (before, after)]
    if any(
        component is not None and text is None and not component.is_deletion
        for _, text, component in sides
    ):
        return
    old, new = (
        (text.text or f"({text.state})").splitlines() if text else [] for _, text, _ in sides
    )
    was, is_now = (_named(role, component) for _, _, component in sides)
    yield from difflib.unified_diff(old, new, was, is_now, lineterm="")


def _named(role: str, component: Component | None) -> str:
    if component is None:
        return f"{role}, nothing"
    when = instant(component.occurred_at_ms)
    state = " (deleted)" if component.is_deletion else ""
    return f"{role} version {component.version}{state}, {component.actor}, {when}"


def change_document(change: RoleChange) -> dict[str, Any]:
    """A change as JSON."""
    return {
        "role": change.role,
        "change": change.what,
        "before": component_document(change.before) if change.before else None,
        "after": component_document(change.after) if change.after else None,
        "fields": list(change.fields),
        "text_diff": "\n".join(change.lines),
    }
