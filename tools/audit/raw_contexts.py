"""Contexts as they stood at upload positions, as far as outcomes tell them: in Avro, from the uploads' own bytes.

Nothing is decoded on the way from an upload to what an outcome tells of it, for both have the same texts and numbers.
A property test holds this equal to what the full contexts tell.
"""

from functools import partial
from typing import NamedTuple

from processors.spelling import NOTHING, NULL, PRESENT, Spelled, Told, spelled, used_at
from schemas.events import Coordinates
from tables.context import component_from
from tables.glance import Glance, Raw, Scope, scope_of, text_in
from tables.upload_index import Stood
from tools.audit.contexts import Text, Texts, tell
from tools.audit.standing import Standing

SCOPES = 50_000  # kept, about two kilobytes each
NEVER = 2**63


class RawPart(NamedTuple):
    """One role's newest upload or deletion."""

    is_deletion: bool
    told: Spelled


class RawContext(NamedTuple):
    """A scope's context."""

    instructions: RawPart | None
    student_prompt: RawPart | None
    judge_rubric: RawPart | None


def told_of(context: RawContext) -> Told:
    """What outcomes tell of it."""
    return Told(*(NOTHING if part is None else part.told for part in context))


class Stretch(NamedTuple):
    """A context, and between which records of its scope it stands: per role after the one, not after the other."""

    context: RawContext | None
    partition: int
    after: tuple[int, ...]
    until: tuple[int, ...]
    followed_ms: int  # when the first of the records that end it was appended

    def covers(self, below: tuple[int, ...]) -> bool:
        """Whether it is the context at these positions."""
        (a, b, c), (d, e, f), (x, y, z) = self.after, self.until, below
        return a < x <= d and b < y <= e and c < z <= f


class RawContexts:
    """What was known of any scope where the standing is. Holds at most so many scopes' contexts.

    texts are told the text of every upload that was current in a context, and that upload.
    """

    def __init__(
        self, standing: Standing, glance: Glance, texts: Texts, partitions: int, most: int = SCOPES
    ) -> None:
        self._standing = standing
        self._glance = glance
        self._texts = texts
        self._partitions = partitions
        self._most = most
        self._known: dict[str, Stretch] = {}

    def context(self, scope_key: str) -> RawContext | None:
        """The scope's context; the same object until a record of it comes between, or it is no longer kept."""
        return self._stretch(scope_key).context

    def is_settled(self, scope_key: str, by_ms: int) -> bool:
        """Whether no record of the scope that was appended before that time stands at the positions or later."""
        return self._stretch(scope_key).followed_ms >= by_ms

    def _stretch(self, scope_key: str) -> Stretch:
        known = self._known.get(scope_key)
        if known is None or not known.covers(self._standing.below(known.partition)):
            if len(self._known) >= self._most:
                self._known.clear()
            known = self._known[scope_key] = self._read(scope_key.encode())
        return known

    def _read(self, key: bytes) -> Stretch:
        partition, scope = self._standing.partition(key), scope_of(key, self._partitions)
        parts, after, until = list[RawPart | None](), list[int](), list[int]()
        followed_ms = NEVER
        for topic, (before, behind) in self._standing.sides(key, partition):
            after.append(-1 if before is None else before.offset)
            until.append(NEVER if behind is None else behind.offset)
            if behind is not None:
                followed_ms = min(followed_ms, behind.appended_at_ms)
            part = None if before is None else self._part(topic, key, scope, partition, before)
            if part is None and before is not None:  # a damaged one
                read = partial(self._part, topic, key, scope, partition)
                part = self._standing.newest(topic, key, before, read)
            parts.append(part)
        context = RawContext(*parts) if any(parts) else None
        return Stretch(context, partition, tuple(after), tuple(until), followed_ms)

    def _part(
        self, topic: str, key: bytes, scope: Scope | None, partition: int, stood: Stood
    ) -> RawPart | None:
        raw = self._glance.raw(topic, scope, stood.value) if scope else None
        if raw is None:
            return self._part_in_full(topic, key, stood)
        if raw.is_deletion:
            return RawPart(is_deletion=True, told=NOTHING)
        storage_id, sha256 = text_in(raw.storage_id), text_in(raw.sha256)
        text = Text(storage_id, storage_id if sha256 == storage_id else sha256)
        if text not in self._texts:
            self._texts[text] = Coordinates(topic, partition, stood.offset)
        return RawPart(is_deletion=False, told=_told(raw, topic, partition, stood.offset))

    def _part_in_full(self, topic: str, key: bytes, stood: Stood) -> RawPart | None:
        upload = self._standing.upload(topic, key, stood)
        if upload is None:
            return None
        one = component_from(*upload)
        if one.is_deletion:
            return RawPart(is_deletion=True, told=NOTHING)
        tell(self._texts, one)
        return RawPart(is_deletion=False, told=spelled(one))


def _told(raw: Raw, topic: str, partition: int, offset: int) -> Spelled:
    return Spelled(
        used_at(topic, partition, offset, raw.version, raw.event_id, raw.sha256),
        PRESENT + raw.storage_id,
        PRESENT + raw.grade_scale if raw.grade_scale else NULL,
        PRESENT + raw.context_origin if raw.context_origin else NULL,
    )
