"""The texts of the routes, kept in the content store under the sha256 of their bytes."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping

from schemas.errors import ContentCorrupt, ContentMissing, Malformed
from schemas.events import Component
from tables.commands import TextRef
from tables.content_store import PLAIN_TEXT
from tools.api.errors.validation_errors import Fault, fault_at, invalid
from tools.api.services.async_content_store import AsyncContentStore
from tools.text_rules import MAX_TEXT_BYTES, broken_rule, trimmed


def ref_of(text: str) -> TextRef:
    """The reference to a text for an event; nothing is stored yet."""
    encoded = text.encode()
    sha256 = hashlib.sha256(encoded).hexdigest()
    return TextRef(storage_id=sha256, sha256=sha256, media_type=PLAIN_TEXT, size_bytes=len(encoded))


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

    async def text_of(self, component: Component | None) -> str | None:
        """The text of a live component; None if there is no component. Raises ContentMissing and ContentCorrupt."""
        if component is None:
            return None
        storage_id = str(component.storage_id)
        try:
            stored = await self._contents.get(storage_id)
        except Malformed:  # another producer's id, which this store has never had
            raise ContentMissing(storage_id) from None
        try:
            if component.sha256 == storage_id:
                return stored.decode()
        except UnicodeDecodeError:
            pass
        raise ContentCorrupt(storage_id)

    async def texts_of(self, components: Iterable[Component | None]) -> list[str | None]:
        """The texts of several components, fetched concurrently."""
        return await asyncio.gather(*map(self.text_of, components))

    async def is_readable(self, component: Component) -> bool:
        """Whether the text of a component can be read."""
        try:
            await self.text_of(component)
        except (ContentMissing, ContentCorrupt):
            return False
        return True

    async def refs_of(self, storage_ids: Mapping[str, str]) -> dict[str, TextRef]:
        """References to stored texts by role, from storage ids by role. Raises 422 for a text unfit for its role."""
        results = await asyncio.gather(
            *(self._ref(role, storage_id) for role, storage_id in storage_ids.items())
        )
        faults = [result for result in results if not isinstance(result, TextRef)]
        if faults:
            raise invalid(faults)
        refs = (result for result in results if isinstance(result, TextRef))
        return dict(zip(storage_ids, refs, strict=True))

    async def _ref(self, role: str, storage_id: str) -> TextRef | Fault:
        location = f"body/{role}_storage_id"
        try:
            content = await self._contents.get(storage_id)
            stored = await self._contents.head(storage_id)
        except ContentMissing:
            return fault_at(location, "unknown_content")
        if not _is_text(content, MAX_TEXT_BYTES[role]):
            return fault_at(location, "invalid_content")
        return TextRef(
            storage_id=storage_id,
            sha256=storage_id,
            media_type=stored.media_type,
            size_bytes=stored.size_bytes,
        )


def _is_text(stored: bytes, max_bytes: int) -> bool:
    try:
        text = stored.decode()
    except UnicodeDecodeError:
        return False
    return len(stored) <= max_bytes and broken_rule(trimmed(text), max_bytes) is None
