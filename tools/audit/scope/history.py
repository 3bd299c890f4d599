"""`cjstream audit history`: every version of every role of one scope, and what is known to be missing."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from processors.log.reader import LogReader
from processors.log.set_aside import administered_topics_with_set_aside
from processors.log.upload_topics import records_of_key, upload_topic_ids
from processors.log.upload_uses import BatchUse, count_uses
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Coordinates, Positions
from schemas.errors import Discrepancy
from schemas.partitioner import partition_for
from tables.history.scope_history import (
    DamagedUpload,
    ScopeHistory,
    UploadVersion,
    VersionGap,
    history_of,
)
from tools.audit.check.findings import COPIED
from tools.audit.local_replicas import recreated_topics
from tools.audit_json import event_document, gap_document, instant, source_document


def history(settings: Settings, scope_key: str, *, everywhere: bool = True) -> ScopeHistory:
    """The history of a scope, up to the current end of the log; `everywhere` also reads the wrong partitions.

    Raises Unreachable, Discrepancy if an upload topic is missing, UnknownSchema.
    """
    topic_ids, key = upload_topic_ids(settings), scope_key.encode()
    own_partitions = settings.administered_partitions_with(partition_for(key, settings.partitions))
    partitions = settings.administered_partitions if everywhere else own_partitions
    with LogReader(settings, partitions) as log:
        retained = log.offset_ranges()
        starts: Positions = {partition: low for partition, (low, _) in retained.items()}
        ends: Positions = {partition: end for partition, (_, end) in retained.items()}
        records = records_of_key(log, key, starts, ends)
    recreated = recreated_topics(settings, topic_ids)
    return history_of(
        scope_key,
        records,
        starts,
        codec_for(settings),
        administered_topics_with_set_aside(settings),
        recreated,
    )


@dataclass(frozen=True, slots=True)
class UploadUses:
    """How many prepared batches used each version; `lost` are uploads that batches name but the log no longer has."""

    by_source: dict[Coordinates, int]
    lost: tuple[tuple[str, BatchUse, int], ...]
    foreign_records: tuple[Coordinates, ...]  # in the batches topic, which are no batches


def uses(settings: Settings, found: ScopeHistory) -> UploadUses:
    """Count the batches by the versions in their provenance; reads the whole batches topic. Raises Unreachable."""
    known = {version.at: version.event.event_id for version in found.versions}
    counted = count_uses(settings, found.scope_key)
    lost = [
        (role, used, count)
        for (role, used), count in counted.batches.items()
        if known.get(used.source) != used.event_id
    ]
    by_source = Counter[Coordinates]()
    for (_, used), count in counted.batches.items():
        by_source[used.source] += count
    in_order = tuple(sorted(lost, key=lambda entry: entry[1].source))
    return UploadUses(dict(by_source), in_order, tuple(counted.foreign_records))


def refuse_gaps(
    found: ScopeHistory, used: UploadUses | None, upload_topics: Collection[str]
) -> None:
    """Raise Discrepancy if something is known to be missing; the message names the first loss."""
    copied_to = {version.event.event_id: version.at for version in found.versions}
    losses = [("history-compacted", f"{gap.role}: {gap_text(gap)}") for gap in found.gaps]
    for role, use, count in used.lost if used else ():
        named = f"{role}: version {use.version} at {use.source}, which {count} batches name"
        if use.event_id in copied_to:
            at = copied_to[use.event_id]
            losses.append(("records-copied", f"{named}, is at {at} here: {COPIED}"))
        elif use.source.topic not in upload_topics:
            losses.append(
                ("records-copied", f"{named}, is in no topic of this installation: {COPIED}")
            )
        else:
            losses.append(("history-compacted", f"{named}, is not in the log"))
    if losses:
        (kind, first), *others = losses
        more = f" (and {len(others)} more)" if others else ""
        raise Discrepancy(f"{kind}: {found.scope_key}: {first}{more}")


def gap_text(gap: VersionGap) -> str:
    """A gap as one line of text."""
    if gap.before is None:
        return f"{gap.reason}, and nothing was uploaded since"
    since = f"complete again from version {gap.before_version} at {gap.before}"
    after = (
        f"after version {gap.after_version}"
        if gap.after_version
        else "before the first known version"
    )
    return f"{after}: {gap.reason}; {since}"


def items(found: ScopeHistory) -> Iterator[UploadVersion | DamagedUpload]:
    """Versions and damaged records, newest first by the broker's clock."""
    both: list[UploadVersion | DamagedUpload] = [*found.versions, *found.damaged]
    yield from sorted(both, key=lambda item: (item.appended_at_ms, item.at), reverse=True)


def document_of(
    found: ScopeHistory, used: UploadUses | None, *, page: int, page_size: int
) -> dict[str, Any]:
    """One page of a history as JSON; versions and damaged records share the pages, and `total` counts both."""
    everything = list(items(found))
    shown = everything[(page - 1) * page_size : page * page_size]
    versions = [_version_document(item, used) for item in shown if isinstance(item, UploadVersion)]
    damaged = [_damaged_document(item) for item in shown if isinstance(item, DamagedUpload)]
    lost = [
        {
            "role": role,
            "version": upload.version,
            "event_id": upload.event_id,
            "source": source_document(upload.source),
            "batches": count,
        }
        for role, upload, count in (used.lost if used else ())
    ]
    return {
        "scope_key": found.scope_key,
        "items": versions,
        "damaged": damaged,
        "complete": found.is_complete and not lost,
        "gaps": [gap_document(gap) for gap in found.gaps],
        "lost": lost,
        "foreign_records": list(map(str, used.foreign_records)) if used else [],
        "total": len(everything),
        "page": page,
        "page_size": page_size,
    }


def _version_document(version: UploadVersion, used: UploadUses | None) -> dict[str, Any]:
    batches = {} if used is None else {"batches": used.by_source.get(version.at, 0)}
    return {
        "role": version.role,
        "event_type": type(version.event).__name__,
        "appended_at": instant(version.appended_at_ms),
        **event_document(version.event),
        "source": source_document(version.at),
        "mark": version.mark,
        "changed": list(version.changed),
        **batches,
    }


def _damaged_document(damaged: DamagedUpload) -> dict[str, Any]:
    return {
        "role": damaged.role,
        "appended_at": instant(damaged.appended_at_ms),
        "source": source_document(damaged.at),
        "value_bytes": damaged.value_bytes,
        "reason": damaged.reason,
    }
