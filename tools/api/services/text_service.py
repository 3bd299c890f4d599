"""Texts as the routes speak of them, kept in the content store by the sha256 of their bytes."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping

from schemas.errors import ContentCorrupt, ContentMissing, Malformed
from schemas.events import Component
from tables.commands import TextRef
from tables.content_store import PLAIN_TEXT
from tools.api.errors.validation_errors import Fault, fault_at, invalid
from tools.api.services.async_content_store import AsyncContentStore
from tools.text_rules import MAX_TEXT_BYTES, MIN_TEXT, trimmed


def ref_of(text: str) -> TextRef:
    """What an event will say of a text; nothing is stored yet."""
    encoded = text.encode()
    sha256 = hashlib.sha256(encoded).hexdigest()
    return TextRef(storage_id=sha256, sha256=sha256, media_type=PLAIN_TEXT, size_bytes=len(encoded))


class TextService:
    """The texts in a content store; every method raises what Contents raises for the store."""

    def __init__(self, contents: AsyncContentStore) -> None:
        self._contents = contents

    async def keep(self, texts: Iterable[str], named: Iterable[TextRef]) -> None:
        """Store texts, and make those young that are there and are going to be named."""
        await asyncio.gather(
            *(self._contents.put(text.encode()) for text in texts),
            *(self._contents.renew(ref.storage_id) for ref in named),
        )

    async def text_of(self, component: Component | None) -> str | None:
        """The text of a live component; None for none. Raises ContentMissing and ContentCorrupt."""
        if component is None:
            return None
        storage_id = str(component.storage_id)
        try:
            stored = await self._contents.get(storage_id)
        except Malformed:  # a foreign producer's id: this store has never had it
            raise ContentMissing(storage_id) from None
        try:
            if component.sha256 == storage_id:
                return stored.decode()
        except UnicodeDecodeError:
            pass
        raise ContentCorrupt(storage_id)

    async def texts_of(self, components: Iterable[Component | None]) -> list[str | None]:
        """The texts of several, all asked for at once."""
        return await asyncio.gather(*map(self.text_of, components))

    async def is_there(self, component: Component) -> bool:
        """Whether the text of a component can be read."""
        try:
            await self.text_of(component)
        except (ContentMissing, ContentCorrupt):
            return False
        return True

    async def refs_of(self, named: Mapping[str, str]) -> dict[str, TextRef]:
        """Stored texts by role, from storage ids by role. Raises 422 for what no role can use."""
        found = await asyncio.gather(*(self._ref(role, an_id) for role, an_id in named.items()))
        faults = [one for one in found if not isinstance(one, TextRef)]
        if faults:
            raise invalid(faults)
        refs = (one for one in found if isinstance(one, TextRef))
        return dict(zip(named, refs, strict=True))

    async def _ref(self, role: str, storage_id: str) -> TextRef | Fault:
        location = f"body/{role}_storage_id"
        try:
            bytes_of_text = await self._contents.get(storage_id)
            stored = await self._contents.head(storage_id)
        except ContentMissing:
            return fault_at(location, "unknown_content")
        if not _is_text(bytes_of_text, MAX_TEXT_BYTES[role]):
            return fault_at(location, "invalid_content")
        return TextRef(
            storage_id=storage_id,
            sha256=storage_id,
            media_type=stored.media_type,
            size_bytes=stored.size_bytes,
        )


def _is_text(stored: bytes, most_bytes: int) -> bool:
    try:
        text = stored.decode()
    except UnicodeDecodeError:
        return False
    return len(stored) <= most_bytes and len(trimmed(text)) >= MIN_TEXT and "\0" not in text
