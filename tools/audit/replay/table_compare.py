"""`cjstream audit replay --compare`: the fold of the log held against the changelog and against replicas.

Each is compared at its own positions: the changelog at the log's ends as they were seen at the start, a replica
where it stands.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from processors.kafka.bounded_wait import wait_until
from processors.log.compacted_rows import newest_rows
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import BadRecord, Discrepancy, Unreachable
from schemas.events import AssignmentContext, Component
from schemas.partitioner import partition_for
from tables.context import FOLD_VERSION
from tables.history.bulk_fold import BulkFold
from tables.history.row_diff import RowDifference, differences
from tools.audit.local_replicas import LocalReplica, opened
from tools.audit.process_pool import in_processes, processes_for, shares
from tools.audit.replay.replay import RecordsRead, ReplayRange, folds
from tools.audit_json import source_document

PATIENCE_S = 5.0  # for a changelog that is still behind
Rows = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class CompareTarget:
    """What is compared: a replica's folder, or the changelog where there is none."""

    name: str
    of: ReplayRange
    folder: Path | None = None
    amiss: str | None = None  # why it cannot be compared


@dataclass(frozen=True, slots=True)
class ComparedRows:
    """So many rows were held against the fold."""

    target: str
    rows: int


@dataclass(frozen=True, slots=True)
class RowFinding:
    """A difference, and of what."""

    target: str
    difference: RowDifference


def targets(
    of: ReplayRange, settings: Settings, replicas: Collection[LocalReplica], ids: Mapping[str, str]
) -> list[CompareTarget]:
    """The changelog, and each replica at its own positions."""
    return [
        CompareTarget(settings.topics.context.name, of),
        *(_target(of, one, ids) for one in replicas),
    ]


def _target(of: ReplayRange, replica: LocalReplica, ids: Mapping[str, str]) -> CompareTarget:
    own = {one: replica.positions.get(one, 0) for one in of.ends}
    target = CompareTarget(str(replica.folder), replace(of, ends=own), replica.folder)
    for name, known in replica.topic_ids.items():
        if ids.get(name) != known:
            return replace(
                target, amiss=f"{name} was made anew since it was folded (its id was {known})"
            )
    for one, end in own.items():
        if end > of.ends[one]:
            return replace(
                target,
                amiss=f"it stands at {one.topic}/{one.partition}@{end}, the log ends at {of.ends[one]}",
            )
    if replica.fold_version != str(FOLD_VERSION):
        return replace(
            target, amiss=f"its rows are of fold {replica.fold_version}, this is {FOLD_VERSION}"
        )
    return target


def compared(
    settings: Settings, target: CompareTarget, *, processes: int | None = None
) -> Iterator[RecordsRead | ComparedRows | RowFinding]:
    """Hold one target against the fold. Raises Unreachable, UnknownSchema, Misconfigured."""
    count = processes or processes_for(target.of.records)
    groups = shares(range(settings.partitions), count)
    yield from in_processes(_compared_part, [(settings, target, numbers) for numbers in groups])


def _compared_part(
    settings: Settings, target: CompareTarget, numbers: list[int]
) -> Iterator[RecordsRead | ComparedRows | RowFinding]:
    codec = codec_for(settings)
    of = target.of.part(numbers)
    for said in folds(settings, codec, of):
        if isinstance(said, RecordsRead):
            yield said
            continue
        rows_now = partial(_rows, settings, target, numbers, said)
        rows = rows_now()
        count, differing = len(rows), _differing(said, rows, codec, of)
        if differing and target.folder is None:
            differing = _still_differing(differing, rows_now, codec, of)
        yield ComparedRows(target.name, count)
        for found in differing.values():
            yield from (RowFinding(target.name, one) for one in found[1])


Differing = dict[bytes, tuple[AssignmentContext | None, list[RowDifference]]]


def _rows(settings: Settings, target: CompareTarget, numbers: list[int], fold: BulkFold) -> Rows:
    if target.folder is None:
        return newest_rows(settings, numbers, fold.takes)
    with opened(target.folder) as store:
        return {
            key: row
            for name, row in store.rows()
            if fold.takes(key := name.encode())
            and partition_for(key, settings.partitions) in numbers
        }


def _differing(fold: BulkFold, rows: Rows, codec: Codec, of: ReplayRange) -> Differing:
    """The scopes whose rows are not as the fold says, rows of scopes that it does not know among them."""
    differing: Differing = {}
    unseen = set(rows)
    for one in fold.contexts():
        key = one.context.scope_key.encode()
        unseen.discard(key)
        _judge(differing, key, one.context, rows.get(key), codec, of)
    for key in unseen:
        _judge(differing, key, None, rows[key], codec, of)
    return differing


def _judge(
    differing: Differing,
    key: bytes,
    expected: AssignmentContext | None,
    row: bytes | None,
    codec: Codec,
    of: ReplayRange,
) -> None:
    if expected is not None and row == codec.encode(expected):
        return
    told = key.decode(errors="backslashreplace")
    found = list(differences(told, expected, _context_in(row, codec), of.ends))
    if found:
        differing[key] = (expected, found)


def _context_in(row: bytes | None, codec: Codec) -> AssignmentContext | None:
    """The row; one that cannot be read counts as none. A later release's schema is this release's limit."""
    with suppress(BadRecord):
        return None if row is None else codec.decode_as(AssignmentContext, row)
    return None


def _still_differing(
    differing: Differing, rows_now: Callable[[], Rows], codec: Codec, of: ReplayRange
) -> Differing:
    """What still differs after a while: the fold agents publish what they have folded a little later."""
    left = dict(differing)

    def settled() -> bool:
        rows, again = rows_now(), Differing()
        for key, (expected, _) in left.items():
            _judge(again, key, expected, rows.get(key), codec, of)
        left.clear()
        left.update(again)
        return not left

    with suppress(Unreachable):
        wait_until(settled, seconds=PATIENCE_S, what="the changelog", every_s=0.5)
    return left


def refuse_differences(count: int, amiss: Collection[CompareTarget]) -> None:
    """Raise Discrepancy where something differs, or could not be compared."""
    told = [f"{one.name} cannot be compared: {one.amiss}" for one in amiss]
    if count:
        told.insert(0, f"{count} roles are kept otherwise than the log says")
    if told:
        raise Discrepancy("; ".join(told))


def difference_document(found: RowFinding) -> dict[str, Any]:
    """A difference as JSON."""
    one = found.difference
    return {
        "target": found.target,
        "scope_key": one.scope_key,
        "role": one.role,
        "kind": one.kind,
        "expected": _brief(one.expected),
        "found": _brief(one.found),
    }


def _brief(component: Component | None) -> dict[str, Any] | None:
    if component is None:
        return None
    return {
        "version": component.version,
        "event_id": component.event_id,
        "source": source_document(component.source),
    }
