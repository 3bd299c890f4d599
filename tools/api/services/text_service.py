"""The texts of the routes, kept in the content store under the sha256 of their bytes."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.errors import ContentCorrupt, ContentFailed, ContentMissing, Malformed
from schemas.events import ROLES, AssignmentContext
from tables.commands import TextRef
from tables.content_store import PLAIN_TEXT
from tables.context import live
from tools.api.errors.problems import Problem
from tools.api.errors.validation_errors import Fault, fault_at, invalid
from tools.api.services.async_content_store import AsyncContentStore
from tools.audit.stored_text import TextState
from tools.text_formats import foreign_format
from tools.text_rules import MAX_TEXT_BYTES, broken_rule, minimum_of, trimmed

SLUGS = {"damaged": "content-corrupt", "unreadable": "content-backend-error"}
REASONS = {
    "missing": "is missing from the content store",
    "erased": "was erased",
    "damaged": "is damaged in the content store: its bytes have another sha256",
    "unreadable": "cannot be read from the content store",
    "elsewhere": "was stored elsewhere by another producer",
}


def ref_of(text: str) -> TextRef:
    """The reference to a text for an event; nothing is stored yet."""
    encoded = text.encode()
    sha256 = hashlib.sha256(encoded).hexdigest()
    return TextRef(storage_id=sha256, sha256=sha256, media_type=PLAIN_TEXT, size_bytes=len(encoded))


class StoredText(NamedTuple):
    """A text that a request names by its storage id, where in the request, and what it is: a role or `anchor`."""

    location: str
    storage_id: str
    kind: str


class TextService:
    """The texts in a content store; every method raises what AsyncContentStore raises for the store."""

    def __init__(self, contents: AsyncContentStore) -> None:
        self._contents = contents

    async def store(self, texts: Iterable[str], referenced: Iterable[TextRef]) -> None:
        """Store new texts, and reset the age of stored texts that an event is going to name."""
        await asyncio.gather(
            *(self._contents.put(text.encode()) for text in texts),
            *(self._contents.renew(ref.storage_id) for ref in referenced),
        )

    async def text_of(self, context: AssignmentContext, role: str) -> str:
        """The text of a live role. Raises a problem that names scope and role if the text cannot be read."""
        found = await self.state_of(context, role)
        if found is not None and found.text is not None:
            return found.text
        raise unreadable(context, role, found)

    async def state_of(self, context: AssignmentContext | None, role: str) -> TextState | None:
        """The text of a role, or why it cannot be read; None if the role is not live."""
        component = live(context, role)
        if component is None:
            return None
        storage_id = str(component.storage_id)
        try:
            text = (await self._contents.get(storage_id)).decode()
        except Malformed:  # another producer's id, which this store has never had
            return TextState("elsewhere")
        except ContentMissing:
            return TextState("missing")
        except ContentFailed:
            return TextState("unreadable")
        except (ContentCorrupt, UnicodeDecodeError):
            return TextState("damaged")
        return (
            TextState("present", text) if component.sha256 == storage_id else TextState("damaged")
        )

    async def states_of(
        self, wanted: Iterable[tuple[AssignmentContext | None, str]]
    ) -> list[TextState | None]:
        """The texts of several roles, fetched concurrently: one that cannot be read does not stop the others."""
        return await asyncio.gather(*(self.state_of(context, role) for context, role in wanted))

    async def states_by_role(self, context: AssignmentContext | None) -> dict[str, TextState]:
        """The texts of the live roles of a scope."""
        states = await self.states_of((context, role) for role in ROLES)
        return {role: state for role, state in zip(ROLES, states, strict=True) if state is not None}

    async def refs_of(self, storage_ids: Mapping[str, str]) -> dict[str, TextRef]:
        """References to stored texts by role, from storage ids by role. Raises 422 for a text unfit for its role."""
        refs = await self.stored_refs(
            StoredText(f"body/{role}_storage_id", storage_id, role)
            for role, storage_id in storage_ids.items()
        )
        return dict(zip(storage_ids, refs, strict=True))

    async def stored_refs(self, wanted: Iterable[StoredText]) -> list[TextRef]:
        """References to stored texts. Raises 422 for all texts that are unfit."""
        results = await asyncio.gather(*map(self._ref, wanted))
        faults = [result for result in results if not isinstance(result, TextRef)]
        if faults:
            raise invalid(faults)
        return [result for result in results if isinstance(result, TextRef)]

    async def _ref(self, wanted: StoredText) -> TextRef | Fault:
        location, storage_id = wanted.location, wanted.storage_id
        try:
            content = await self._contents.get(storage_id)
            stored = await self._contents.head(storage_id)
        except ContentMissing:
            return fault_at(location, "unknown_content")
        if not _is_text(content, wanted.kind):
            found = foreign_format(content)
            message = f"names {found}: upload its text" if found else None
            return fault_at(location, "invalid_content", message=message)
        return TextRef(
            storage_id=storage_id,
            sha256=storage_id,
            media_type=stored.media_type,
            size_bytes=stored.size_bytes,
        )


def unreadable(context: AssignmentContext, role: str, found: TextState | None) -> Problem:
    """The problem of a text that cannot be read: it names the scope and the role."""
    state = "missing" if found is None else found.state
    slug = SLUGS.get(state, "content-missing")
    component = live(context, role)
    return Problem(
        slug,
        f"{context.scope_key}: the text of its {role.replace('_', ' ')} {REASONS[state]}",
        storage_id=None if component is None else component.storage_id,
        scope_key=context.scope_key,
        role=role,
    )


def _is_text(stored: bytes, kind: str) -> bool:
    max_bytes = MAX_TEXT_BYTES[kind]
    try:
        text = stored.decode()
    except UnicodeDecodeError:
        return False
    return (
        len(stored) <= max_bytes and broken_rule(trimmed(text), max_bytes, minimum_of(kind)) is None
    )
