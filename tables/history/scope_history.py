"""The history of one scope: every version of every role, what is damaged, and what the log no longer has. Pure.

Compaction keeps the newest record of a key, so that the state at the log's end is always known. Before it, a state
is known only where nothing is missing between the upload that held and the next one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from schemas.events import ROLES, AssignmentContext, UploadEvent
from schemas.partitioner import partition_for
from tables.context import fold
from tables.history.version_chain import BEFORE, Link, joined, step
from tables.upload_record import UploadRecord, UploadTopics, read_upload

UNTOLD = ("event_id", "previous_event_id", "version", "correlation_id", "occurred_at_ms", "actor")


@dataclass(frozen=True, slots=True)
class Version:
    """One upload or deletion as the fold takes it; changed names the fields that differ from the one before."""

    role: str
    at: Coordinates
    appended_at_ms: int
    event: UploadEvent
    mark: str | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record of the scope's key that the fold leaves out, and why."""

    role: str
    at: Coordinates
    appended_at_ms: int
    value_bytes: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Versions of a role that the log no longer has: after one (0: the first of all), before another.

    before is where the log is complete again from; None where nothing of the role is left at all. hides_start
    says that what the role was at the log's very start is not known either.
    """

    role: str
    after_version: int
    before_version: int | None
    after: Coordinates | None
    before: Coordinates | None
    reason: str
    hides_start: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """Versions and damaged records in log order, role by role, and the gaps between them."""

    scope_key: str
    versions: tuple[Version, ...]
    damaged: tuple[Damaged, ...]
    gaps: tuple[Gap, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.gaps


def role_of_topic(topics: UploadTopics) -> dict[str, str]:
    """The role that each upload topic carries, by the topic's name."""
    return dict(zip(topics.by_name, ROLES, strict=True))


def history_of(
    scope_key: str,
    records: Iterable[UploadRecord],
    starts: Positions,
    codec: Codec,
    topics: UploadTopics,
    made_anew: Collection[str] = (),
) -> History:
    """The history that records of a scope's key tell, of logs that start there. Raises UnknownSchema.

    made_anew names upload topics that are known not to be the first of their name.
    """
    belongs = partition_for(scope_key.encode(), topics.partitions)
    of_topic: dict[str, list[Version | Damaged]] = {name: [] for name in topics.by_name}
    roles = role_of_topic(topics)
    for record in sorted(records, key=lambda one: one.at):
        name = record.at.topic
        of_topic[name].append(_judged(record, roles[name], codec, topics))
    versions, gaps = list[Version](), list[Gap]()
    for name, judged in of_topic.items():
        linked, found = _linked(judged, belongs)
        versions += linked
        gaps += found
        low = starts.get(Partition(name, belongs), 0)
        if name in made_anew:
            gaps.append(_nothing_before(roles[name], linked, "the topic was made anew", anew=True))
        elif low > 0 and not linked:
            gone = f"the log begins at offset {low}: what was below it is gone"
            gaps.append(_nothing_before(roles[name], linked, gone))
    damaged = (one for judged in of_topic.values() for one in judged if isinstance(one, Damaged))
    return History(scope_key, tuple(versions), tuple(damaged), tuple(gaps))


def _judged(
    record: UploadRecord, role: str, codec: Codec, topics: UploadTopics
) -> Version | Damaged:
    try:
        event = read_upload(record, codec, topics)
    except Malformed as fault:
        size = None if record.value is None else len(record.value)
        return Damaged(role, record.at, record.appended_at_ms, size, str(fault))
    return Version(role, record.at, record.appended_at_ms, event)


def _linked(judged: Iterable[Version | Damaged], belongs: int) -> tuple[list[Version], list[Gap]]:
    """Versions with their marks, and where the chain between them is broken."""
    chain, damaged = BEFORE, 0
    before: Version | None = None
    versions, gaps = list[Version](), list[Gap]()
    for one in judged:
        if isinstance(one, Damaged):
            damaged += one.at.partition == belongs  # a stray one is no link that is missing
            continue
        link = link_of(one.event)
        found = step(chain, link, damaged)
        if found.is_gap:
            gaps.append(_gap(before, one))
        versions.append(
            Version(
                one.role,
                one.at,
                one.appended_at_ms,
                one.event,
                found.mark,
                _changed(before.event if before else None, one.event),
            )
        )
        chain, damaged, before = joined(chain, link), 0, one
    return versions, gaps


def link_of(event: UploadEvent) -> Link:
    """What an upload says of its place in the chain."""
    return Link(event.version, event.event_id, event.previous_event_id)


def _gap(before: Version | None, after: Version) -> Gap:
    event = after.event
    named = f"its predecessor {event.previous_event_id}" if event.previous_event_id else "versions"
    return Gap(
        role=after.role,
        after_version=before.event.version if before else 0,
        before_version=event.version,
        after=before.at if before else None,
        before=after.at,
        reason=f"{named} between that and version {event.version} at {after.at} cannot be found",
    )


def _nothing_before(role: str, known: Sequence[Version], reason: str, *, anew: bool = False) -> Gap:
    first = known[0] if known else None
    version, at = (first.event.version, first.at) if first else (None, None)
    return Gap(role, 0, version, None, at, reason, hides_start=anew)


def _changed(before: UploadEvent | None, after: UploadEvent) -> tuple[str, ...]:
    """What is new: the state (uploaded, deleted) or the fields that differ."""
    is_deletion = hasattr(after, "erased")
    if before is None or hasattr(before, "erased") != is_deletion:
        return ("deleted",) if is_deletion else ("uploaded",)
    names = (field.name for field in fields(after) if field.name not in UNTOLD)
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


@dataclass(frozen=True, slots=True)
class Standing:
    """A scope as it stood at positions: its context, and the gaps that hide a role's state there.

    What is in a hidden role's place in the context is no answer.
    """

    scope_key: str
    context: AssignmentContext | None
    hidden: Mapping[str, Gap]


def standing_at(history: History, positions: Positions) -> Standing:
    """The context at these positions, by the one fold."""
    rows: dict[str, AssignmentContext] = {}
    for one in history.versions:
        if one.at.offset < positions[Partition(one.at.topic, one.at.partition)]:
            fold(rows, one.event, one.at, one.appended_at_ms)
    context = rows.get(history.scope_key)
    hidden = {gap.role: gap for gap in history.gaps if _hides(gap, positions)}
    return Standing(history.scope_key, context, hidden)


def _hides(gap: Gap, positions: Positions) -> bool:
    """Whether positions lie inside a gap: past what is before it by more than that, and not past what follows it."""
    known = gap.after or gap.before
    stands = positions[Partition(known.topic, known.partition)] if known else None
    if stands is None:
        return True
    first = gap.after.offset + 1 if gap.after else -int(gap.hides_start)
    return first < stands and (gap.before is None or stands <= gap.before.offset)
