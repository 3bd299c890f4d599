"""`cjstream audit erase`: delete a scope's texts, and the responses of its judges, permanently; its history stays.

The events are appended first, then the texts are deleted. If the command is killed in between, run it again: roles
that are already erased get no second event, and texts that are already gone are not an error.
"""

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import checked_topics
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from processors.upload_log.scope_erasure import ScopeLog, append_erasure, events_of
from schemas.errors import CJStreamError, Misconfigured, Unreachable
from schemas.events import ADMINISTERED_ROLES, role_of
from schemas.field_limits import NAME, SHA256
from tables.commands import WriteMetadata
from tables.content_store import ContentStore
from tables.context import component_of
from tables.history.text_references import ReferencedTexts, gaps_in
from tools.audit.erase.run_responses import responses_of
from tools.audit.erase.text_referrers import referrers_of
from tools.times import DURATION, UNITS

SCOPE = re.compile(r"(assignment|course):[^\x00-\x1f]{1,100}")
REASON = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
Fate = Literal["erased", "absent", "kept", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseRequest:
    """The scope to erase, by whom and why; texts younger than `grace` are left, as a new event may name them soon."""

    scope_key: str
    actor: str
    reason_code: str
    grace: timedelta


def erase_request(scope_key: str, actor: str, reason_code: str, grace: timedelta) -> EraseRequest:
    """The checked options of the command. Raises Misconfigured."""
    if not SCOPE.fullmatch(scope_key):
        raise Misconfigured("SCOPE: must be assignment:<id> or course:<code>")
    if not actor.strip() or NAME.problem_with(actor):
        raise Misconfigured("--actor: must have 1 to 255 characters")
    if not REASON.fullmatch(reason_code):
        raise Misconfigured(
            "--reason-code: must be 1 to 64 characters of a-z, 0-9, - and _, and start with a-z or 0-9"
        )
    return EraseRequest(scope_key=scope_key, actor=actor, reason_code=reason_code, grace=grace)


def grace_of(text: str) -> timedelta:
    """A duration such as 1h or 0s. Raises Misconfigured."""
    duration = DURATION.fullmatch(text)
    if duration is None:
        raise Misconfigured("--grace: must be a number with a unit: 0s, 90m, 1h, 7d")
    return timedelta(**{UNITS[duration[2]]: int(duration[1])})


def erase(
    settings: Settings,
    store: ContentStore,
    request: EraseRequest,
    *,
    yes: bool,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
) -> dict[str, Any]:
    """Erase a scope, and return what was done as JSON; without `yes`, only what would be done.

    1. append an erasure for each role it ever had  2. find who else names its texts  3. erase those nobody names

    Raises CJStreamError if the scope was never uploaded; Unreachable, whose message says what is already done.
    """
    checked_topics(admin_client(settings), settings)
    codec = codec_for(settings)
    metadata = WriteMetadata(
        actor=request.actor,
        correlation_id=f"erasure-{request.reason_code}-{new_id()}",
        occurred_at_ms=round(now().timestamp() * 1000),
    )
    with ScopeLog(settings, codec, request.scope_key) as scope_log:
        scope_log.read()
        if scope_log.context(request.scope_key) is None:
            raise CJStreamError(f"{request.scope_key}: nothing was ever uploaded for this scope")
        roles = _roles_to_erase(scope_log)
        if yes:
            store.probe()  # before anything is appended: without the store, step 3 would fail
            append_erasure(settings, codec, scope_log, metadata, new_id)  # 1
        events = tuple(events_of(scope_log, metadata))
        try:
            texts = _texts_named_in(scope_log) | responses_of(settings, codec, request.scope_key)
            referrers = referrers_of(settings, codec, request.scope_key, texts)  # 2
            fates = {
                text: _fate(store, text, referrers, request.grace, now, yes=yes)
                for text in sorted(texts)
            }  # 3
        except Unreachable as fault:
            undone = "; the events are appended, but not every text is gone: run the command again"
            raise Unreachable(f"{fault}{undone if yes else ''}") from fault
    by_fate = {
        fate: [text for text, found in fates.items() if found == fate]
        for fate in ("erased", "absent", "kept", "left")
    }
    return {
        "dry_run": not yes,
        "scope_key": request.scope_key,
        "actor": request.actor,
        "reason_code": request.reason_code,
        "correlation_id": metadata.correlation_id,
        "occurred_at_ms": metadata.occurred_at_ms,
        "roles": [role_of(event.event) for event in events] if yes else roles,
        "events": [
            {
                "event_type": type(event.event).__name__,
                "event_id": event.event.event_id,
                "version": event.event.version,
                "at": str(event.at),
            }
            for event in events
        ],
        **by_fate,
        "kept": [
            {"storage_id": text, "named_by": sorted(referrers[text])} for text in by_fate["kept"]
        ],
        "gaps": [asdict(gap) for gap in gaps_in(event.event for event in scope_log.events)],
    }


def _roles_to_erase(scope_log: ScopeLog) -> list[str]:
    context = scope_log.context(scope_log.scope_key)
    components = {role: component_of(context, role) for role in ADMINISTERED_ROLES}
    return [role for role, component in components.items() if component and not component.erased]


def _texts_named_in(scope_log: ScopeLog) -> Set[str]:
    """Every text that an upload of the scope ever named; ids of other stores are left out."""
    named = ReferencedTexts()
    for event in scope_log.events:
        named.add(event.event)
    return {text for text in named.ever if SHA256.fullmatch(text)}


def _fate(
    store: ContentStore,
    text: str,
    referrers: Mapping[str, Set[str]],
    grace: timedelta,
    now: Callable[[], datetime],
    *,
    yes: bool,
) -> Fate:
    """Erase a text if `yes`: erased, already absent, kept because others name it, or left for another run."""
    if referrers.get(text):
        return "kept"
    stored_at = store.stored_at(text)
    if stored_at is not None and stored_at > now() - grace:
        return "left"
    is_there = store.discard(text) if yes else store.has(text)
    return "erased" if is_there else "absent"


def rows_of(erased: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """An erasure as a table for people, one row per text."""
    rows = [(text, fate, "") for fate in ("erased", "absent", "left") for text in erased[fate]]
    rows += [(kept["storage_id"], "kept", ", ".join(kept["named_by"])) for kept in erased["kept"]]
    return sorted(rows)
