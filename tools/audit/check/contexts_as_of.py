"""Contexts as they stood at upload positions, from the upload records themselves. Pure but for what it is lent.

Only the records that decide are read: per role the newest below the position that is an upload at all. The plain
fold over every record below the positions gives the same; a property test holds both equal.
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


Texts = dict[
    TextReference, Coordinates
]  # with the first of the uploads that name it, by coordinates


def note(texts: Texts, text: TextReference, at: Coordinates) -> None:
    """A text that an upload names; it does not matter in which order they are noted."""
    known = texts.get(text)
    if known is None or at < known:
        texts[text] = at


def add_component(texts: Texts, component: Component) -> None:
    """Note the text that a component names, if it has one."""
    if component.storage_id is not None and component.sha256 is not None:
        note(texts, TextReference(component.storage_id, component.sha256), component.source)


class ContextsAsOf:
    """What was known of any scope where the standing is. Raises UnknownSchema, whatever is asked.

    texts are told the text of every upload that was current in a context, and that upload.
    """

    def __init__(self, standing: UploadsAsOf, texts: Texts) -> None:
        self._standing = standing
        self._texts = texts

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The scope's context."""
        key, components = scope_key.encode(), dict[str, Component]()
        sides = self._standing.sides(key)
        for role, (topic, (before, _)) in zip(ROLES, sides, strict=True):
            read = partial(self._standing.upload, topic, key)
            if upload := self._standing.newest(topic, key, before, read):
                components[role] = component_from(*upload)
                add_component(self._texts, components[role])
        if not components:
            return None
        return AssignmentContext(scope_key=scope_key, fold_version=FOLD_VERSION, **components)

    def first_after(self, scope_key: str) -> Iterator[UploadAt]:
        """Of each role the first upload that the positions do not cover, where there is one."""
        key = scope_key.encode()
        for topic, (_, behind) in self._standing.sides(key):
            read = partial(self._standing.upload, topic, key)
            if upload := self._standing.first(topic, key, behind, read):
                yield upload

    def upload(self, scope_key: str, at: Coordinates) -> UploadAt | None:
        """The scope's upload that stands there, whatever the positions."""
        key = scope_key.encode()
        _, found = self._standing.beside(key, at)
        upload = found and self._standing.upload(at.topic, key, found)
        return upload if upload and upload.at == at else None

    def is_before_all(self, scope_key: str, at: Coordinates) -> bool:
        """Whether only later records of the scope are left: compaction takes the older ones first."""
        key = scope_key.encode()
        before, behind = self._standing.beside(key, at)
        is_its_partition = at.partition == self._standing.belongs(key)
        return (
            is_its_partition and before is None and behind is not None and behind.offset > at.offset
        )
