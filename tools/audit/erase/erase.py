"""`cjstream audit erase`: a scope's texts, gone for good; its versions and history stand.

Events come first, then the texts. Killed in between, it is gone on with by calling it again: roles that are erased
already get no second event, and texts that are gone already are no fault.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import checked_topics
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from processors.upload_log.scope_erasure import ScopeEvent, ScopeLog, append_erasure, events_of
from schemas.errors import CJStreamError, Misconfigured, Unreachable
from schemas.events import ROLES, role_of
from schemas.field_limits import NAME, SHA256
from tables.commands import WriteMetadata
from tables.content_store import ContentStore
from tables.context import component_of
from tables.history.text_references import MissingVersions, ReferencedTexts, gaps_in
from tools.audit.erase.text_referrers import referrers_of
from tools.times import DURATION, UNITS

SCOPE = re.compile(r"(assignment|course):[^\x00-\x1f]{1,100}")
REASON = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
Fate = Literal["erased", "absent", "kept", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseRequest:
    """Which scope, by whom, and why; texts written within grace are left, as somebody may be about to name them."""

    scope_key: str
    actor: str
    reason_code: str
    grace: timedelta


@dataclass(frozen=True, slots=True)
class TextFate:
    """What became of a text: erased, absent already, kept for those who name it, or left for another run."""

    storage_id: str
    fate: Fate
    named_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReport:
    """What an erasure did, or would do; roles are those that it appended an event for."""

    asked: EraseRequest
    writing: WriteMetadata
    is_dry_run: bool
    roles: tuple[str, ...]
    events: tuple[ScopeEvent, ...]
    texts: tuple[TextFate, ...]
    gaps: tuple[MissingVersions, ...]

    def of(self, fate: Fate) -> tuple[TextFate, ...]:
        """The texts that this became of."""
        return tuple(one for one in self.texts if one.fate == fate)


def erase_request(scope_key: str, actor: str, reason_code: str, grace: timedelta) -> EraseRequest:
    """The options' words, checked. Raises Misconfigured."""
    if not SCOPE.fullmatch(scope_key):
        raise Misconfigured("SCOPE: is assignment:<id> or course:<code>")
    if not actor.strip() or NAME.refusal(actor):
        raise Misconfigured("--actor: 1 to 255 characters")
    if not REASON.fullmatch(reason_code):
        raise Misconfigured("--reason-code: a-z, 0-9, - and _, at most 64 of them")
    return EraseRequest(scope_key=scope_key, actor=actor, reason_code=reason_code, grace=grace)


def grace_of(text: str) -> timedelta:
    """A span such as 1h or 0s. Raises Misconfigured."""
    told = DURATION.fullmatch(text)
    if told is None:
        raise Misconfigured("--grace: a number and its unit: 0s, 90m, 1h, 7d")
    return timedelta(**{UNITS[told[2]]: int(told[1])})


def erase(
    settings: Settings,
    store: ContentStore,
    asked: EraseRequest,
    *,
    yes: bool,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
) -> ErasureReport:
    """Erase a scope; unless yes, only say what would be done.

    1. append erasures of all that it ever had  2. find who else names its texts  3. erase those that nobody names

    Raises CJStreamError where the scope was never there; Unreachable, which says what is done already.
    """
    checked_topics(admin_client(settings), settings)
    codec = codec_for(settings)
    writing = WriteMetadata(
        actor=asked.actor,
        correlation_id=f"erasure-{asked.reason_code}-{new_id()}",
        occurred_at_ms=round(now().timestamp() * 1000),
    )
    with ScopeLog(settings, codec, asked.scope_key) as known:
        known.read()
        if known.context is None:
            raise CJStreamError(f"{asked.scope_key}: nothing was ever uploaded there")
        roles = _to_be_erased(known)
        if yes:
            store.probe()  # better nothing done than half of it
            append_erasure(settings, codec, known, writing, new_id)  # 1
        events = tuple(events_of(known, writing))
        try:
            texts = _named(known)
            elsewhere = referrers_of(settings, codec, asked.scope_key, texts)  # 2
            fates = tuple(_fates(store, texts, elsewhere, asked.grace, now, yes=yes))  # 3
        except Unreachable as fault:
            undone = "; the log says erased, but not every text is gone: call it again"
            raise Unreachable(f"{fault}{undone if yes else ''}") from fault
        return ErasureReport(
            asked=asked,
            writing=writing,
            is_dry_run=not yes,
            roles=tuple(role_of(one.event) for one in events) if yes else roles,
            events=events,
            texts=fates,
            gaps=gaps_in(one.event for one in known.events),
        )


def _to_be_erased(known: ScopeLog) -> tuple[str, ...]:
    components = {role: component_of(known.context, role) for role in ROLES}
    return tuple(role for role, one in components.items() if one is not None and not one.erased)


def _named(known: ScopeLog) -> Set[str]:
    """Every text that an upload of the scope ever named; ids of other stores are none of this one's."""
    named = ReferencedTexts()
    for one in known.events:
        named.add(one.event)
    return {text for text in named.ever if SHA256.fullmatch(text)}


def _fates(
    store: ContentStore,
    texts: Set[str],
    elsewhere: Mapping[str, Set[str]],
    grace: timedelta,
    now: Callable[[], datetime],
    *,
    yes: bool,
) -> Iterator[TextFate]:
    for text in sorted(texts):
        if named_by := elsewhere.get(text):
            yield TextFate(text, "kept", tuple(sorted(named_by)))
            continue
        stored_at = store.stored_at(text)
        if stored_at is not None and stored_at > now() - grace:
            yield TextFate(text, "left")
        elif yes:
            yield TextFate(text, "erased" if store.discard(text) else "absent")
        else:
            yield TextFate(text, "erased" if store.has(text) else "absent")


def rows_of(erased: ErasureReport) -> list[tuple[str, ...]]:
    """An erasure for people: a text a row."""
    return [(one.storage_id, one.fate, ", ".join(one.named_by)) for one in erased.texts]


def document_of(erased: ErasureReport) -> dict[str, Any]:
    """An erasure as JSON."""
    asked, writing = erased.asked, erased.writing
    return {
        "dry_run": erased.is_dry_run,
        "scope_key": asked.scope_key,
        "actor": asked.actor,
        "reason_code": asked.reason_code,
        "correlation_id": writing.correlation_id,
        "occurred_at_ms": writing.occurred_at_ms,
        "roles": list(erased.roles),
        "events": [
            {
                "event_type": type(one.event).__name__,
                "event_id": one.event.event_id,
                "version": one.event.version,
                "at": str(one.at),
            }
            for one in erased.events
        ],
        "erased": [one.storage_id for one in erased.of("erased")],
        "absent": [one.storage_id for one in erased.of("absent")],
        "kept": [
            {"storage_id": one.storage_id, "named_by": list(one.named_by)}
            for one in erased.of("kept")
        ],
        "left": [one.storage_id for one in erased.of("left")],
        "gaps": [
            {
                "role": gap.role,
                "after_version": gap.after_version,
                "before_version": gap.before_version,
            }
            for gap in erased.gaps
        ],
    }
