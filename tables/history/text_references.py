"""Erasure, as the log tells it: which texts a scope's uploads still name, and which were erased. Pure.

An erasure is a deletion with `erased` set: it erases what the uploads of its scope and role before it named. An upload
after it names its text anew. So a scope's text is erased where, in every role that ever named it, an erasure follows
the last upload that did; another scope that names the same text says nothing of that.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.events import ROLES, Deletion, UploadEvent, role_of


@dataclass(frozen=True, slots=True)
class MissingVersions:
    """Versions of a role that the log no longer has; after is 0 where the first ones are missing."""

    role: str
    after_version: int
    before_version: int


class ReferencedTexts:
    """The texts that one scope's uploads name, by storage id; a role's events come in log order."""

    def __init__(self) -> None:
        self._current: dict[str, set[str]] = {role: set() for role in ROLES}
        self._ever = set[str]()

    def add(self, event: UploadEvent) -> None:
        """Take in the next event of its role."""
        of_role = self._current[role_of(event)]
        if not isinstance(event, Deletion):
            of_role.add(event.storage_id)
            self._ever.add(event.storage_id)
        elif event.erased:
            of_role.clear()

    @property
    def ever(self) -> frozenset[str]:
        """Every text that an upload named."""
        return frozenset(self._ever)

    @property
    def current(self) -> frozenset[str]:
        """Those named by an upload that no erasure follows."""
        return frozenset().union(*self._current.values())

    @property
    def erased(self) -> frozenset[str]:
        """Those named by erased uploads alone."""
        return self.ever - self.current


def erased_texts(events: Iterable[UploadEvent]) -> frozenset[str]:
    """The texts of one scope, by storage id, that are erased after these events of it."""
    named = ReferencedTexts()
    for event in events:
        named.add(event)
    return named.erased


def gaps_in(events: Iterable[UploadEvent]) -> tuple[MissingVersions, ...]:
    """Where versions of a scope's roles are missing between these events of it, or before them."""
    last, gaps = dict.fromkeys(ROLES, 0), list[MissingVersions]()
    for event in events:
        role = role_of(event)
        if event.version > last[role] + 1:
            gaps.append(MissingVersions(role, last[role], event.version))
        last[role] = max(last[role], event.version)
    return tuple(gaps)
