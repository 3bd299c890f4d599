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
from tables.history.version_chain import BEFORE, VersionLink, joined, step
from tables.upload_record import UploadRecord, UploadTopics, read_upload

UNTOLD = ("event_id", "previous_event_id", "version", "correlation_id", "occurred_at_ms", "actor")


@dataclass(frozen=True, slots=True)
class UploadVersion:
    """One upload or deletion as the fold takes it; changed names the fields that differ from the one before."""

    role: str
    at: Coordinates
    appended_at_ms: int
    event: UploadEvent
    mark: str | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DamagedUpload:
    """A record of the scope's key that the fold leaves out, and why."""

    role: str
    at: Coordinates
    appended_at_ms: int
    value_bytes: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class VersionGap:
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
class ScopeHistory:
    """Versions and damaged records in log order, role by role, and the gaps between them."""

    scope_key: str
    versions: tuple[UploadVersion, ...]
    damaged: tuple[DamagedUpload, ...]
    gaps: tuple[VersionGap, ...]

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
) -> ScopeHistory:
    """The history that records of a scope's key tell, of logs that start there. Raises UnknownSchema.

    made_anew names upload topics that are known not to be the first of their name.
    """
    belongs = partition_for(scope_key.encode(), topics.partitions)
    of_topic: dict[str, list[UploadVersion | DamagedUpload]] = {name: [] for name in topics.by_name}
    roles = role_of_topic(topics)
    for record in sorted(records, key=lambda one: one.at):
        name = record.at.topic
        of_topic[name].append(_judged(record, roles[name], codec, topics))
    versions, gaps = list[UploadVersion](), list[VersionGap]()
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
    damaged = (
        one for judged in of_topic.values() for one in judged if isinstance(one, DamagedUpload)
    )
    return ScopeHistory(scope_key, tuple(versions), tuple(damaged), tuple(gaps))


def _judged(
    record: UploadRecord, role: str, codec: Codec, topics: UploadTopics
) -> UploadVersion | DamagedUpload:
    try:
        event = read_upload(record, codec, topics)
    except Malformed as fault:
        size = None if record.value is None else len(record.value)
        return DamagedUpload(role, record.at, record.appended_at_ms, size, str(fault))
    return UploadVersion(role, record.at, record.appended_at_ms, event)


def _linked(
    judged: Iterable[UploadVersion | DamagedUpload], belongs: int
) -> tuple[list[UploadVersion], list[VersionGap]]:
    """Versions with their marks, and where the chain between them is broken."""
    chain, damaged = BEFORE, 0
    before: UploadVersion | None = None
    versions, gaps = list[UploadVersion](), list[VersionGap]()
    for one in judged:
        if isinstance(one, DamagedUpload):
            damaged += one.at.partition == belongs  # a stray one is no link that is missing
            continue
        link = link_of(one.event)
        found = step(chain, link, damaged)
        if found.is_gap:
            gaps.append(_gap(before, one))
        versions.append(
            UploadVersion(
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


def link_of(event: UploadEvent) -> VersionLink:
    """What an upload says of its place in the chain."""
    return VersionLink(event.version, event.event_id, event.previous_event_id)


def _gap(before: UploadVersion | None, after: UploadVersion) -> VersionGap:
    event = after.event
    named = f"its predecessor {event.previous_event_id}" if event.previous_event_id else "versions"
    return VersionGap(
        role=after.role,
        after_version=before.event.version if before else 0,
        before_version=event.version,
        after=before.at if before else None,
        before=after.at,
        reason=f"{named} between that and version {event.version} at {after.at} cannot be found",
    )


def _nothing_before(
    role: str, known: Sequence[UploadVersion], reason: str, *, anew: bool = False
) -> VersionGap:
    first = known[0] if known else None
    version, at = (first.event.version, first.at) if first else (None, None)
    return VersionGap(role, 0, version, None, at, reason, hides_start=anew)


def _changed(before: UploadEvent | None, after: UploadEvent) -> tuple[str, ...]:
    """What is new: the state (uploaded, deleted) or the fields that differ."""
    is_deletion = hasattr(after, "erased")
    if before is None or hasattr(before, "erased") != is_deletion:
        return ("deleted",) if is_deletion else ("uploaded",)
    names = (field.name for field in fields(after) if field.name not in UNTOLD)
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


@dataclass(frozen=True, slots=True)
class ScopeAsOf:
    """A scope as it stood at positions: its context, and the gaps that hide a role's state there.

    What is in a hidden role's place in the context is no answer.
    """

    scope_key: str
    context: AssignmentContext | None
    hidden: Mapping[str, VersionGap]


def scope_as_of(history: ScopeHistory, positions: Positions) -> ScopeAsOf:
    """The context at these positions, by the one fold."""
    rows: dict[str, AssignmentContext] = {}
    for one in history.versions:
        if one.at.offset < positions[Partition(one.at.topic, one.at.partition)]:
            fold(rows, one.event, one.at, one.appended_at_ms)
    context = rows.get(history.scope_key)
    hidden = {gap.role: gap for gap in history.gaps if _hides(gap, positions)}
    return ScopeAsOf(history.scope_key, context, hidden)


def _hides(gap: VersionGap, positions: Positions) -> bool:
    """Whether positions lie inside a gap: past what is before it by more than that, and not past what follows it."""
    known = gap.after or gap.before
    stands = positions[Partition(known.topic, known.partition)] if known else None
    if stands is None:
        return True
    first = gap.after.offset + 1 if gap.after else -int(gap.hides_start)
    return first < stands and (gap.before is None or stands <= gap.before.offset)
