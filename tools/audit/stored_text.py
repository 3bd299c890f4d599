"""The text of a version, fetched from the content store and checked against its hash."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from schemas.coordinates import Coordinates
from schemas.errors import ContentCorrupt, ContentMissing
from schemas.field_limits import SHA256
from tables.content_store import ContentStore
from tables.history.scope_history import ScopeHistory

State = Literal["present", "erased", "missing", "damaged", "unreadable", "elsewhere"]
FAULTY_STATES = ("missing", "damaged")


@dataclass(frozen=True, slots=True)
class TextState:
    """A version's text, or why there is none; `elsewhere`: stored by another producer, its id is not a sha256."""

    state: State
    text: str | None = None


def text_of(
    store: ContentStore,
    storage_id: str,
    sha256: str,
    role: str,
    at: Coordinates,
    history: ScopeHistory,
) -> TextState:
    """The text of the version at these coordinates. Raises Unreachable."""
    if not SHA256.fullmatch(storage_id):
        return TextState("elsewhere")
    try:
        content = store.get(storage_id)
    except ContentMissing:
        return TextState("erased" if _erased_after(history, role, at) else "missing")
    except ContentCorrupt:
        return TextState("damaged")
    if hashlib.sha256(content).hexdigest() != sha256:
        return TextState("damaged")
    return TextState("present", content.decode(errors="replace"))


def _erased_after(history: ScopeHistory, role: str, at: Coordinates) -> bool:
    """Whether a later deletion says that the role's texts were erased."""
    return any(
        version.role == role
        and version.at.offset > at.offset
        and getattr(version.event, "erased", False)
        for version in history.versions
    )
