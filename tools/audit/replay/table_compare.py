"""`cjstream audit replay --compare`: the fold of the log compared with the changelog and with replicas.

Each is compared at its own positions: the changelog at the ends of the log as read at the start, a replica at
the positions stored in it. Each has the roles of the topics that it is folded from: the changelog and the replicas of
workers have no anchors, those of API processes do.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from processors.kafka.bounded_wait import wait_until
from processors.log.compacted_rows import newest_rows
from processors.log.reader import LogReader
from processors.log.set_aside import administered_topics_with_set_aside
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Positions
from schemas.errors import BadRecord, Discrepancy, Malformed, UnknownSchema, Unreachable
from schemas.events import ADMINISTERED_ROLES, AssignmentContext, Component
from schemas.partitioner import partition_for
from tables.context import component_of
from tables.history.bulk_fold import BulkFold
from tables.history.row_diff import RowDifference, differences
from tables.replica import ROWS_VERSION, read_contexts
from tools.audit.local_replicas import LocalReplica, open_read_only
from tools.audit.process_pool import in_processes, processes_for, split_evenly
from tools.audit.replay.replay import RecordsRead, ReplayRange, folds
from tools.audit_json import source_document

CHANGELOG_WAIT_S = 5.0  # for a changelog that still lags behind
Difference = dict[str, Any]  # as JSON


@dataclass(frozen=True, slots=True)
class CompareTarget:
    """What is compared with the fold: the replica in `folder`, or the changelog if `folder` is None."""

    name: str
    replay_range: ReplayRange
    folder: Path | None = None
    problem: str | None = None  # why it cannot be compared


@dataclass(frozen=True, slots=True)
class ComparedRows:
    """The number of rows of a target that were compared with the fold."""

    target: str
    rows: int


def targets(
    replay_range: ReplayRange,
    settings: Settings,
    replicas: Collection[LocalReplica],
    topic_ids: Mapping[str, str],
) -> list[CompareTarget]:
    """The changelog, and each replica at its own positions."""
    return [
        CompareTarget(
            settings.topics.context.name,
            replay_range.of_topics([topic.name for topic in settings.topics.uploads]),
        ),
        *(_target(replay_range, replica, topic_ids) for replica in replicas),
    ]


def _target(
    replay_range: ReplayRange, replica: LocalReplica, topic_ids: Mapping[str, str]
) -> CompareTarget:
    metadata = replica.metadata
    # 0 where it reads a topic not yet, or not at all, as the worker the anchors: nothing is expected of it
    ends = {partition: metadata.positions.get(partition, 0) for partition in replay_range.ends}
    target = CompareTarget(str(replica.folder), replace(replay_range, ends=ends), replica.folder)
    for name, known in metadata.topic_ids.items():
        if topic_ids.get(name) != known:
            return replace(
                target, problem=f"{name} was recreated since it was folded (its id was {known})"
            )
    for partition, end in ends.items():
        if end > replay_range.ends[partition]:
            where = f"{partition}@{end}"
            return replace(
                target,
                problem=f"its position is {where}, the log ends at {replay_range.ends[partition]}",
            )
    if metadata.rows_version not in (None, ROWS_VERSION):  # None: nothing is flushed yet
        return replace(
            target,
            problem=f"its rows have version {metadata.rows_version}, those of this release {ROWS_VERSION}",
        )
    return target


def compared(
    settings: Settings, target: CompareTarget, *, processes: int | None = None
) -> Iterator[RecordsRead | ComparedRows | Difference]:
    """Compare one target with the fold. Raises Unreachable, UnknownSchema, Misconfigured."""
    count = processes or processes_for(target.replay_range.records)
    groups = split_evenly(range(settings.partitions), count)
    arguments = [(settings, target, numbers) for numbers in groups]
    yield from in_processes(arguments, _compare_partitions)


def _compare_partitions(
    settings: Settings, target: CompareTarget, numbers: list[int]
) -> Iterator[RecordsRead | ComparedRows | Difference]:
    codec = codec_for(settings)
    replay_range = target.replay_range.restricted_to(numbers)
    for progress in folds(settings, codec, replay_range):
        if isinstance(progress, RecordsRead):
            yield progress
            continue
        rows_now = partial(_rows, settings, target, numbers, progress, codec)
        rows = rows_now()
        count, differing = len(rows.by_key), _differing(progress, rows, codec, replay_range)
        if differing and target.folder is None:
            differing = _still_differing(differing, rows_now, codec, replay_range)
        yield ComparedRows(target.name, count)
        for _, found in differing.values():
            yield from (_document_of(target, difference) for difference in found)
        for partition, key in sorted(rows.misplaced):
            yield _document_of(target, _misplaced(partition, key))


Differing = dict[bytes, tuple[AssignmentContext | None, list[RowDifference]]]


@dataclass(frozen=True, slots=True)
class StoredRows:
    """The encoded contexts by scope key, rows that are misplaced, and the ends of the log when these were read.

    anchors: also by scope key, because encoded contexts have none.
    """

    by_key: dict[bytes, bytes]
    anchors: Mapping[bytes, Component] = field(default_factory=dict)
    misplaced: Collection[tuple[int, bytes]] = ()
    log_ends: Positions | None = None


def _misplaced(partition: int, key: bytes) -> RowDifference:
    scope_key = key.decode(errors="backslashreplace")
    return RowDifference(scope_key, None, "misplaced", None, None, partition)


def _rows(
    settings: Settings, target: CompareTarget, numbers: list[int], fold: BulkFold, codec: Codec
) -> StoredRows:
    """The rows of a target; of a damaged row of a replica no bytes."""
    if target.folder is None:
        published = newest_rows(settings, numbers, fold.contains)
        return StoredRows(
            published.by_key, misplaced=published.misplaced, log_ends=_log_ends(settings)
        )

    def is_wanted(key: bytes) -> bool:
        return fold.contains(key) and partition_for(key, settings.partitions) in numbers

    by_key, anchors = dict[bytes, bytes](), dict[bytes, Component]()
    with open_read_only(target.folder) as store:
        topics = administered_topics_with_set_aside(settings)
        for key, context in read_contexts(store, topics, is_wanted):
            if isinstance(context, BadRecord):
                by_key[key] = b""
                continue
            by_key[key] = codec.encode(context)
            if context.anchors is not None:
                anchors[key] = context.anchors
    return StoredRows(by_key, anchors)


def _log_ends(settings: Settings) -> Positions:
    with LogReader(settings, settings.upload_partitions) as log:
        return {partition: end for partition, (_, end) in log.offset_ranges().items()}


def _differing(
    fold: BulkFold, rows: StoredRows, codec: Codec, replay_range: ReplayRange
) -> Differing:
    """The scopes whose rows differ from the fold, including rows of scopes that the fold does not have."""
    differing: Differing = {}
    unseen = set(rows.by_key)
    for folded in fold.contexts():
        key = folded.context.scope_key.encode()
        unseen.discard(key)
        _compare_row(differing, key, folded.context, rows, codec, replay_range)
    for key in unseen:
        _compare_row(differing, key, None, rows, codec, replay_range)
    return differing


def _compare_row(
    differing: Differing,
    key: bytes,
    expected: AssignmentContext | None,
    rows: StoredRows,
    codec: Codec,
    replay_range: ReplayRange,
) -> None:
    row, anchors = rows.by_key.get(key), rows.anchors.get(key)
    if expected is not None and (row, anchors) == (codec.encode(expected), expected.anchors):
        return
    scope_key = key.decode(errors="backslashreplace")
    try:
        context = _context_in(key, row, anchors, codec)
    except Malformed:
        found = [RowDifference(scope_key, None, "damaged", None, None)]
    else:
        found = list(differences(scope_key, expected, context, replay_range.ends, rows.log_ends))
        if expected is None and context and not _has_any_role(context):
            found = [RowDifference(scope_key, None, "ahead", None, None)]
    if found:
        differing[key] = (expected, found)


def _has_any_role(context: AssignmentContext) -> bool:
    return any(component_of(context, role) for role in ADMINISTERED_ROLES)


def _context_in(
    key: bytes, row: bytes | None, anchors: Component | None, codec: Codec
) -> AssignmentContext | None:
    """The row's context; None if there is no row, or one of a later release. Raises Malformed."""
    if row is None:
        return None
    try:
        context = codec.decode_as(AssignmentContext, row)
    except UnknownSchema as fault:
        if fault.may_be_later:
            return None
        raise Malformed(str(fault)) from fault
    if context.scope_key.encode() != key:
        raise Malformed(f"the row of {context.scope_key}")
    return replace(context, anchors=anchors)


def _still_differing(
    differing: Differing,
    rows_now: Callable[[], StoredRows],
    codec: Codec,
    replay_range: ReplayRange,
) -> Differing:
    """What still differs after a wait: the fold agents publish their rows shortly after they fold."""
    left = dict(differing)

    def settled() -> bool:
        rows, again = rows_now(), Differing()
        for key, (expected, _) in left.items():
            _compare_row(again, key, expected, rows, codec, replay_range)
        left.clear()
        left.update(again)
        return not left

    with suppress(Unreachable):
        wait_until(settled, seconds=CHANGELOG_WAIT_S, what="the changelog", every_s=0.5)
    return left


def refuse_differences(count: int, skipped: Collection[CompareTarget]) -> None:
    """Raise Discrepancy if something differs, or could not be compared."""
    problems = [f"{target.name} cannot be compared: {target.problem}" for target in skipped]
    if count:
        problems.insert(0, f"{count} roles differ from what the log says")
    if problems:
        raise Discrepancy("; ".join(problems))


def _document_of(target: CompareTarget, difference: RowDifference) -> Difference:
    return {
        "target": target.name,
        "scope_key": difference.scope_key,
        "role": difference.role,
        "kind": difference.kind,
        "expected": _summary(difference.expected),
        "found": _summary(difference.found),
    } | ({} if difference.partition is None else {"partition": difference.partition})


def _summary(component: Component | None) -> dict[str, Any] | None:
    if component is None:
        return None
    return {
        "version": component.version,
        "event_id": component.event_id,
        "source": source_document(component.source),
    }
