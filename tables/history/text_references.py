"""Which texts the uploads of a scope still name, and which were erased, according to the log. Pure.

An erasure is a deletion with `erased` set: it erases the texts named by earlier uploads of its scope and role. A later
upload may name such a text again. So a text of a scope is erased if, in every role that ever named it, an erasure
follows the last upload that names it. Uploads of other scopes that name the same text do not matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.events import ADMINISTERED_ROLES, Deletion, UploadEvent, role_of, texts_of


@dataclass(frozen=True, slots=True)
class MissingVersions:
    """Versions of a role that the log no longer has; after_version is 0 if the first ones are missing."""

    role: str
    after_version: int
    before_version: int


class ReferencedTexts:
    """The storage ids of the texts that one scope's uploads name; add the events of a role in log order."""

    def __init__(self) -> None:
        self._current: dict[str, set[str]] = {role: set() for role in ADMINISTERED_ROLES}
        self._ever = set[str]()

    def add(self, event: UploadEvent) -> None:
        """Add the next event of its role."""
        named_by_role = self._current[role_of(event)]
        if not isinstance(event, Deletion):
            named_by_role.update(texts_of(event))
            self._ever.update(texts_of(event))
        elif event.erased:
            named_by_role.clear()

    @property
    def ever(self) -> frozenset[str]:
        """Every text that an upload ever named."""
        return frozenset(self._ever)

    @property
    def current(self) -> frozenset[str]:
        """The texts named by an upload that no erasure follows."""
        return frozenset().union(*self._current.values())

    @property
    def erased(self) -> frozenset[str]:
        """The texts named only by erased uploads."""
        return self.ever - self.current


def erased_texts(events: Iterable[UploadEvent]) -> frozenset[str]:
    """The storage ids of the texts of one scope that are erased after these events."""
    texts = ReferencedTexts()
    for event in events:
        texts.add(event)
    return texts.erased


def gaps_in(events: Iterable[UploadEvent]) -> tuple[MissingVersions, ...]:
    """The missing versions of each role, before and between these events of one scope."""
    last, gaps = dict.fromkeys(ADMINISTERED_ROLES, 0), list[MissingVersions]()
    for event in events:
        role = role_of(event)
        if event.version > last[role] + 1:
            gaps.append(MissingVersions(role, last[role], event.version))
        last[role] = max(last[role], event.version)
    return tuple(gaps)
