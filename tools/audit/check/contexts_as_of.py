"""Contexts as they were at upload positions, from the upload records themselves.

Only the deciding records are read: for each role, the newest one below the position that is a valid upload. The plain
fold of every record below the positions gives the same contexts; a property test compares the two.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from schemas.coordinates import Coordinates
from schemas.events import ROLES, AssignmentContext, Component
from tables.context import FOLD_VERSION, component_from
from tools.audit.check.uploads_as_of import UploadAt, UploadsAsOf


class TextReference(NamedTuple):
    """A text as an upload names it."""

    storage_id: str
    sha256: str


Texts = dict[  # with the first upload that names the text, in the order of coordinates
    TextReference, Coordinates
]


def add_text(texts: Texts, text: TextReference, at: Coordinates) -> None:
    """Add a text that the upload at these coordinates names; the order of the calls does not matter."""
    known = texts.get(text)
    if known is None or at < known:
        texts[text] = at


def add_component(texts: Texts, component: Component) -> None:
    """Add the text that a component names, if it names one."""
    if component.storage_id is not None and component.sha256 is not None:
        add_text(texts, TextReference(component.storage_id, component.sha256), component.source)


class ContextsAsOf:
    """The context of any scope as of the positions of `uploads`. Every method can raise UnknownSchema.

    The text of every upload that was current in a context is added to `texts`.
    """

    def __init__(self, uploads: UploadsAsOf, texts: Texts) -> None:
        self._uploads = uploads
        self._texts = texts

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The scope's context."""
        key, components = scope_key.encode(), dict[str, Component]()
        by_topic = self._uploads.at_positions(key)
        for role, (topic, (below, _)) in zip(ROLES, by_topic, strict=True):
            read = partial(self._uploads.upload, topic, key)
            if upload := self._uploads.newest_readable(topic, key, below, read):
                components[role] = component_from(*upload)
                add_component(self._texts, components[role])
        if not components:
            return None
        return AssignmentContext(scope_key=scope_key, fold_version=FOLD_VERSION, **components)

    def first_beyond(self, scope_key: str) -> Iterator[UploadAt]:
        """For each role, the scope's first upload at or beyond the positions, if there is one."""
        key = scope_key.encode()
        for topic, (_, beyond) in self._uploads.at_positions(key):
            read = partial(self._uploads.upload, topic, key)
            if upload := self._uploads.first_readable(topic, key, beyond, read):
                yield upload

    def upload(self, scope_key: str, at: Coordinates) -> UploadAt | None:
        """The scope's upload at these coordinates; ignores the positions."""
        key = scope_key.encode()
        _, found = self._uploads.neighbours(key, at)
        upload = found and self._uploads.upload(at.topic, key, found)
        return upload if upload and upload.at == at else None

    def has_only_later(self, scope_key: str, at: Coordinates) -> bool:
        """Whether the scope has only records after these coordinates: compaction removes the older ones first."""
        key = scope_key.encode()
        below, beyond = self._uploads.neighbours(key, at)
        is_its_partition = at.partition == self._uploads.partition_of(key)
        return (
            is_its_partition and below is None and beyond is not None and beyond.offset > at.offset
        )
