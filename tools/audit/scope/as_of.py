"""`cjstream audit as-of`: the context of one scope at a past moment, with its texts."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.log.offsets_at import positions_after
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Positions
from schemas.errors import Discrepancy
from schemas.events import ADMINISTERED_ROLES, ROLES, Component
from tables.content_store import ContentStore
from tables.context import component_of
from tables.history.point_in_time import Moment
from tables.history.scope_history import ScopeAsOf, ScopeHistory, scope_as_of
from tools.audit.scope.history import gap_text, history
from tools.audit.stored_text import FAULTY_STATES, TextState, text_of
from tools.audit_json import (
    component_document,
    gap_document,
    ids_of,
    instant,
    positions_document,
)


@dataclass(frozen=True, slots=True)
class ScopeReport:
    """A scope as of these positions, with the texts of its live roles if they were requested."""

    positions: Positions
    state: ScopeAsOf
    texts: Mapping[str, TextState]

    def component(self, role: str) -> Component | None:
        """The role at that moment; None if it was never uploaded before, or if that is unknown."""
        hidden = role in self.state.hidden
        return None if hidden else component_of(self.state.context, role)


def reports_at(
    settings: Settings, scope_key: str, moments: Iterable[Moment], store: ContentStore | None
) -> list[ScopeReport]:
    """A report on the scope for each moment. Raises Unreachable, Discrepancy, UnknownSchema."""
    positions = [positions_at(settings, moment) for moment in moments]
    # read the history last, so that it covers all of these positions
    found = history(settings, scope_key, everywhere=False)
    return [scope_report(found, as_of, store) for as_of in positions]


def positions_at(settings: Settings, moment: Moment) -> Positions:
    """The position of every upload partition at a moment. Raises Unreachable, Discrepancy."""
    with LogReader(settings, settings.administered_partitions) as log:
        return positions_after(log, moment)


def scope_report(
    found: ScopeHistory, positions: Positions, store: ContentStore | None
) -> ScopeReport:
    """The scope as of these positions; texts are fetched if a store is given. Raises Unreachable."""
    state = scope_as_of(found, positions)
    without_texts = ScopeReport(positions, state, {})
    if store is None:
        return without_texts
    components = {role: without_texts.component(role) for role in ROLES}
    texts = {
        role: text_of(
            store, component.storage_id, str(component.sha256), role, component.source, found
        )
        for role, component in components.items()
        if component is not None and component.storage_id is not None
    }
    return ScopeReport(positions, state, texts)


def refuse_unknown(report: ScopeReport) -> None:
    """Raise Discrepancy if a role is unknown, or its text is missing or damaged."""
    scope_key = report.state.scope_key
    for role, gap in report.state.hidden.items():
        raise Discrepancy(f"history-compacted: {role} of {scope_key} is unknown: {gap_text(gap)}")
    for role, text in report.texts.items():
        if text.state in FAULTY_STATES:
            component = report.component(role)
            raise Discrepancy(
                f"the text of the {role} of {scope_key} is {text.state}: "
                f"content {component.storage_id if component else ''}"
            )


def document_of(report: ScopeReport) -> dict[str, Any]:
    """A report as JSON; a role is null if it was never uploaded, or if `unknown` lists it."""
    state = report.state
    return {
        "scope_key": state.scope_key,
        **ids_of(state.scope_key),
        "positions": positions_document(report.positions),
        "complete": not state.hidden,
        "unknown": sorted(state.hidden),
        "gaps": [gap_document(gap) for gap in state.hidden.values()],
        **{role: _role_document(report, role) for role in ADMINISTERED_ROLES},
    }


def _role_document(report: ScopeReport, role: str) -> dict[str, Any] | None:
    component, text = report.component(role), report.texts.get(role)
    if component is None:
        return None
    document = component_document(component)
    return document if text is None else {**document, "text_state": text.state, "text": text.text}


def changes(before: ScopeReport, after: ScopeReport) -> Iterator[dict[str, Any]]:
    """The change of each role from one moment to the other as JSON, with a unified diff of its texts."""
    for role in ADMINISTERED_ROLES:
        was, is_now = before.component(role), after.component(role)
        unknown = role in before.state.hidden or role in after.state.hidden
        what = "unknown" if unknown else _what(was, is_now)
        lines = () if what in ("unknown", "unchanged") else _diff(role, before, after)
        yield {
            "role": role,
            "change": what,
            "before": component_document(was) if was else None,
            "after": component_document(is_now) if is_now else None,
            "fields": _fields(was, is_now),
            "text_diff": "\n".join(lines),
        }


def _what(was: Component | None, is_now: Component | None) -> str:
    if was == is_now:
        return "unchanged"
    if is_now is None or is_now.is_deletion:
        return "deleted" if is_now else "not there yet"
    return "uploaded" if was is None or was.is_deletion else "replaced"


COMPARED_FIELDS = (
    "storage_id",
    "anchors",
    "grade_scale",
    "context_origin",
    "media_type",
    "created_at_ms",
)


def _fields(was: Component | None, is_now: Component | None) -> list[str]:
    if was is None or is_now is None:
        return []
    return [name for name in COMPARED_FIELDS if getattr(was, name) != getattr(is_now, name)]


def _diff(role: str, before: ScopeReport, after: ScopeReport) -> Iterator[str]:
    """A unified diff of the texts; empty if one of them was not fetched."""
    sides = [(report.texts.get(role), report.component(role)) for report in (before, after)]
    if any(
        component is not None and text is None and not component.is_deletion
        for text, component in sides
    ):
        return
    old, new = ((text.text or f"({text.state})").splitlines() if text else [] for text, _ in sides)
    was, is_now = (_label(role, component) for _, component in sides)
    yield from difflib.unified_diff(old, new, was, is_now, lineterm="")


def _label(role: str, component: Component | None) -> str:
    if component is None:
        return f"{role}, nothing"
    when = instant(component.occurred_at_ms)
    state = " (deleted)" if component.is_deletion else ""
    return f"{role} version {component.version}{state}, {component.actor}, {when}"
