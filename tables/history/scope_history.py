"""The history of one scope: every version of every role, damaged records, and gaps in the log. Pure.

Compaction keeps the newest record of each key, so the state at the end of the log is always known. An earlier state is
known only if nothing is missing between the upload that was newest at the time and the next one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from schemas.events import AssignmentContext, UploadEvent
from schemas.partitioner import partition_for
from tables.context import fold
from tables.history.version_chain import EMPTY_CHAIN, VersionLink, extended, step
from tables.upload_record import UploadRecord, UploadTopics, read_upload

NOT_COMPARED = (
    "event_id",
    "previous_event_id",
    "version",
    "correlation_id",
    "occurred_at_ms",
    "actor",
)


@dataclass(frozen=True, slots=True)
class UploadVersion:
    """One upload or deletion that the fold applies; changed names the fields that differ from the version before."""

    role: str
    at: Coordinates
    appended_at_ms: int
    event: UploadEvent
    mark: str | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DamagedUpload:
    """A record with the scope's key that the fold skips, and the reason."""

    role: str
    at: Coordinates
    appended_at_ms: int
    value_bytes: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class VersionGap:
    """Versions of a role that the log no longer has: those between after_version and before_version.

    after_version is 0 if the first versions are missing. From before on the log is complete again; it is None if no
    upload of the role is left. hides_start says that the state of the role at the start of the log is unknown, too.
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
    """Versions, damaged records and gaps, role by role, each in log order."""

    scope_key: str
    versions: tuple[UploadVersion, ...]
    damaged: tuple[DamagedUpload, ...]
    gaps: tuple[VersionGap, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.gaps


def history_of(
    scope_key: str,
    records: Iterable[UploadRecord],
    starts: Positions,
    codec: Codec,
    topics: UploadTopics,
    recreated: Collection[str] = (),
) -> ScopeHistory:
    """The history of a scope from the records with its key and the first offsets of the log. Raises UnknownSchema.

    recreated names upload topics that are known to have replaced an older topic of the same name.
    """
    partition = partition_for(scope_key.encode(), topics.partitions)
    uploads_by_topic: dict[str, list[UploadVersion | DamagedUpload]] = {
        name: [] for name in topics.by_name
    }
    roles = topics.roles
    for record in sorted(records, key=lambda record: record.at):
        name = record.at.topic
        uploads_by_topic[name].append(_read(record, roles[name], codec, topics))
    versions, gaps = list[UploadVersion](), list[VersionGap]()
    for name, uploads in uploads_by_topic.items():
        topic_versions, topic_gaps = _link_versions(uploads, partition)
        versions += topic_versions
        gaps += topic_gaps
        start = starts.get(Partition(name, partition), 0)
        if name in recreated:
            gaps.append(
                _nothing_before(
                    roles[name], topic_versions, "the topic was recreated", hides_start=True
                )
            )
        elif start > 0 and not topic_versions:
            reason = f"the log begins at offset {start}; earlier records are gone"
            gaps.append(_nothing_before(roles[name], topic_versions, reason))
    damaged = (
        upload
        for uploads in uploads_by_topic.values()
        for upload in uploads
        if isinstance(upload, DamagedUpload)
    )
    return ScopeHistory(scope_key, tuple(versions), tuple(damaged), tuple(gaps))


def _read(
    record: UploadRecord, role: str, codec: Codec, topics: UploadTopics
) -> UploadVersion | DamagedUpload:
    try:
        event = read_upload(record, codec, topics)
    except Malformed as fault:
        size = None if record.value is None else len(record.value)
        return DamagedUpload(role, record.at, record.appended_at_ms, size, str(fault))
    return UploadVersion(role, record.at, record.appended_at_ms, event)


def _link_versions(
    uploads: Iterable[UploadVersion | DamagedUpload], partition: int
) -> tuple[list[UploadVersion], list[VersionGap]]:
    """The versions with their marks and changes, and the gaps in the chain between them."""
    chain, damaged = EMPTY_CHAIN, 0
    before: UploadVersion | None = None
    versions, gaps = list[UploadVersion](), list[VersionGap]()
    for upload in uploads:
        if isinstance(upload, DamagedUpload):
            # a record in a wrong partition is no missing link
            damaged += upload.at.partition == partition
            continue
        link = link_of(upload.event)
        chain_step = step(chain, link, damaged)
        if chain_step.is_gap:
            gaps.append(_gap(before, upload))
        changed = _changed(before.event if before else None, upload.event)
        versions.append(replace(upload, mark=chain_step.mark, changed=changed))
        chain, damaged, before = extended(chain, link), 0, upload
    return versions, gaps


def link_of(event: UploadEvent) -> VersionLink:
    """The place of an upload in its version chain."""
    return VersionLink(event.version, event.event_id, event.previous_event_id)


def _gap(before: UploadVersion | None, after: UploadVersion) -> VersionGap:
    event = after.event
    missing = (
        f"its predecessor {event.previous_event_id}" if event.previous_event_id else "versions"
    )
    return VersionGap(
        role=after.role,
        after_version=before.event.version if before else 0,
        before_version=event.version,
        after=before.at if before else None,
        before=after.at,
        reason=f"{missing} between that and version {event.version} at {after.at} cannot be found",
    )


def _nothing_before(
    role: str, topic_versions: Sequence[UploadVersion], reason: str, *, hides_start: bool = False
) -> VersionGap:
    first = topic_versions[0] if topic_versions else None
    version, at = (first.event.version, first.at) if first else (None, None)
    return VersionGap(role, 0, version, None, at, reason, hides_start=hides_start)


def _changed(before: UploadEvent | None, after: UploadEvent) -> tuple[str, ...]:
    """The new state (`uploaded` or `deleted`) if it changed, else the fields that differ."""
    is_deletion = hasattr(after, "erased")
    if before is None or hasattr(before, "erased") != is_deletion:
        return ("deleted",) if is_deletion else ("uploaded",)
    names = (field.name for field in fields(after) if field.name not in NOT_COMPARED)
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


@dataclass(frozen=True, slots=True)
class ScopeAsOf:
    """A scope as of given positions: its context, and the gaps that hide the state of a role there.

    The component of a hidden role in the context means nothing.
    """

    scope_key: str
    context: AssignmentContext | None
    hidden: Mapping[str, VersionGap]


def scope_as_of(history: ScopeHistory, positions: Positions) -> ScopeAsOf:
    """The scope as of these positions, computed with the same fold as everywhere."""
    rows: dict[str, AssignmentContext] = {}
    for version in history.versions:
        at = version.at
        if at.offset < positions[Partition(at.topic, at.partition)]:
            fold(rows, version.event, at, version.appended_at_ms)
    context = rows.get(history.scope_key)
    hidden = {gap.role: gap for gap in history.gaps if _hides(gap, positions)}
    return ScopeAsOf(history.scope_key, context, hidden)


def _hides(gap: VersionGap, positions: Positions) -> bool:
    """Whether the role's position is inside the gap: past its first offset, but not past the upload after it."""
    edge = gap.after or gap.before
    position = positions[Partition(edge.topic, edge.partition)] if edge else None
    if position is None:
        return True
    first = gap.after.offset + 1 if gap.after else -int(gap.hides_start)
    return first < position and (gap.before is None or position <= gap.before.offset)
