"""`cjstream audit history`: every version of every role of one scope, and what is known to be missing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from processors.log.reader import LogReader
from processors.log.upload_topics import records_of_key, upload_topic_ids
from processors.log.upload_uses import BatchUse, uses_of
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, upload_partitions, upload_topics
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
from tools.audit.local_replicas import made_anew
from tools.audit_json import event_document, gap_document, instant, source_document


def history(settings: Settings, scope_key: str, *, everywhere: bool = True) -> ScopeHistory:
    """The history of a scope, up to the log's end as it is now; everywhere: in whatever partition a record strayed.

    Raises Unreachable, Discrepancy where an upload topic is missing, UnknownSchema.
    """
    topic_ids, key = upload_topic_ids(settings), scope_key.encode()
    belongs = partition_for(key, settings.partitions)
    wanted = [one for one in upload_partitions(settings) if everywhere or one.partition == belongs]
    with LogReader(settings, wanted) as log:
        retained = log.offset_ranges()
        starts: Positions = {one: low for one, (low, _) in retained.items()}
        ends: Positions = {one: end for one, (_, end) in retained.items()}
        records = records_of_key(log, key, starts, ends)
    anew = made_anew(settings, topic_ids)
    return history_of(
        scope_key, records, starts, codec_for(settings), upload_topics(settings), anew
    )


@dataclass(frozen=True, slots=True)
class UploadUses:
    """How many prepared batches used each version; lost are uploads that batches name and the log no longer has."""

    by_source: dict[Coordinates, int]
    lost: tuple[tuple[str, BatchUse, int], ...]


def uses(settings: Settings, found: ScopeHistory) -> UploadUses:
    """Count the batches by the versions in their provenance; reads the whole topic of batches. Raises Unreachable."""
    known = {one.at: one.event.event_id for one in found.versions}
    counted = Counter(uses_of(settings, found.scope_key))
    lost = [
        (role, used, count)
        for (role, used), count in counted.items()
        if known.get(used.source) != used.event_id
    ]
    by_source = Counter[Coordinates]()
    for (_, used), count in counted.items():
        by_source[used.source] += count
    return UploadUses(dict(by_source), tuple(sorted(lost, key=lambda one: one[1].source)))


def refuse_gaps(found: ScopeHistory, used: UploadUses | None) -> None:
    """Raise Discrepancy, naming the first, where something is known to be missing."""
    told = [f"{gap.role}: {gap_text(gap)}" for gap in found.gaps]
    told += [
        f"{role}: version {used.version} at {used.source}, which {count} batches name, is not in the log"
        for role, used, count in (used.lost if used else ())
    ]
    if told:
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        raise Discrepancy(f"history-compacted: {found.scope_key}: {told[0]}{more}")


def gap_text(gap: VersionGap) -> str:
    """A gap in a line."""
    if gap.before is None:
        return f"{gap.reason}, and nothing came since"
    since = f"complete again from version {gap.before_version} at {gap.before} on"
    after = f"after version {gap.after_version}" if gap.after_version else "before the first known"
    return f"{after}: {gap.reason}; {since}"


def items(found: ScopeHistory) -> Iterator[UploadVersion | DamagedUpload]:
    """Versions and damaged records, newest first by the broker's clock."""
    both: list[UploadVersion | DamagedUpload] = [*found.versions, *found.damaged]
    yield from sorted(both, key=lambda one: (one.appended_at_ms, one.at), reverse=True)


def document_of(found: ScopeHistory, used: UploadUses | None) -> dict[str, Any]:
    """A history as JSON."""
    versions = [
        _version_document(one, used) for one in items(found) if isinstance(one, UploadVersion)
    ]
    damaged = [_damaged_document(one) for one in items(found) if isinstance(one, DamagedUpload)]
    lost = [
        {
            "role": role,
            "version": one.version,
            "event_id": one.event_id,
            "source": source_document(one.source),
            "batches": count,
        }
        for role, one, count in (used.lost if used else ())
    ]
    return {
        "scope_key": found.scope_key,
        "items": versions,
        "damaged": damaged,
        "complete": found.is_complete and not lost,
        "gaps": [gap_document(gap) for gap in found.gaps],
        "lost": lost,
    }


def _version_document(one: UploadVersion, used: UploadUses | None) -> dict[str, Any]:
    counted = {} if used is None else {"batches": used.by_source.get(one.at, 0)}
    return {
        "role": one.role,
        "event_type": type(one.event).__name__,
        "appended_at": instant(one.appended_at_ms),
        **event_document(one.event),
        "source": source_document(one.at),
        "mark": one.mark,
        "changed": list(one.changed),
        **counted,
    }


def _damaged_document(one: DamagedUpload) -> dict[str, Any]:
    return {
        "role": one.role,
        "appended_at": instant(one.appended_at_ms),
        "source": source_document(one.at),
        "value_bytes": one.value_bytes,
        "reason": one.reason,
    }
