"""`cjstream audit replay`: fold a range of the upload topics again, from the log alone and with a worker's fold."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from processors.log.offsets_at import positions_after, positions_from
from processors.log.reader import LogReader
from processors.log.set_aside import administered_topics_with_set_aside
from processors.log.upload_topics import upload_batch_without_headers, upload_topic_ids
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.events import ADMINISTERED_ROLES
from tables.context import component_of
from tables.history.bulk_fold import ALL_KEYS, BulkFold, Counts, FoldedScope
from tables.history.point_in_time import Moment
from tables.scan.plain import PLAIN_ENGINE
from tables.scan.scanner import Engine
from tools.audit.local_replicas import recreated_topics
from tools.audit.process_pool import in_processes, processes_for, split_evenly
from tools.audit.scan_engine import engine_for
from tools.audit_json import component_document, ids_of, positions_document

LINES = 200  # per message from a process
SAVED_US = 2.5  # of a record, by compiled functions


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """The range to replay: [starts, ends) of the partitions of every role; lows: the first offsets that the log has."""

    starts: Positions
    ends: Positions
    lows: Positions
    made_anew: frozenset[str] = frozenset()

    @property
    def records(self) -> int:
        """An upper bound of the number of records: transaction markers and compaction leave offsets unused."""
        return sum(end - self.starts[partition] for partition, end in self.ends.items())

    @property
    def read_from_start(self) -> frozenset[Partition]:
        """The partitions that are read from the first record that the log has."""
        return frozenset(
            partition for partition, low in self.lows.items() if self.starts[partition] <= low
        )

    def of_topics(self, names: Collection[str]) -> "ReplayRange":
        """The same range, for the partitions of these topics only."""

        return self._only(lambda partition: partition.topic in names)

    def restricted_to(self, numbers: Collection[int]) -> "ReplayRange":
        """The same range, for these partition numbers only."""
        return self._only(lambda partition: partition.partition in numbers)

    def _only(self, is_kept: Callable[[Partition], bool]) -> "ReplayRange":
        starts, ends, lows = (
            {tp: offset for tp, offset in positions.items() if is_kept(tp)}
            for positions in (self.starts, self.ends, self.lows)
        )
        return ReplayRange(starts, ends, lows, self.made_anew)


def range_of(settings: Settings, since: Moment | None, until: Moment | None) -> ReplayRange:
    """The range between two moments; by default the whole log. Raises Unreachable, Discrepancy."""
    recreated = frozenset(recreated_topics(settings, upload_topic_ids(settings)))
    with LogReader(settings, settings.administered_partitions) as log:
        retained = log.offset_ranges()
        lows = {partition: low for partition, (low, _) in retained.items()}
        starts = lows if since is None else positions_from(log, since)
        ends = {partition: end for partition, (_, end) in retained.items()}
        if until is not None:
            ends = dict(positions_after(log, until))
    ends = {partition: max(end, starts[partition]) for partition, end in ends.items()}
    return ReplayRange(starts, ends, lows, recreated)


@dataclass(frozen=True, slots=True)
class RecordsRead:
    """The number of records read since the last such message."""

    records: int


@dataclass(frozen=True, slots=True)
class ContextLines:
    """JSON lines, one context per line."""

    lines: bytes


WorkerMessage = RecordsRead | ContextLines | Counts


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """The result of a replay."""

    counts: Counts
    read_s: float  # until the last record was read and folded
    seconds: float
    replay_range: ReplayRange


def replay(
    settings: Settings,
    replay_range: ReplayRange,
    scope_keys: Collection[str] = (),
    *,
    shown: int | None = None,
    processes: int | None = None,
) -> Iterator[RecordsRead | ContextLines | ReplaySummary]:
    """Fold a range; yields contexts as JSON lines, up to `shown` from each process, and the summary last.

    Raises Unreachable, UnknownSchema.
    """
    counts = Counts()
    read_at = started_at = time.monotonic()
    count = processes or processes_for(replay_range.records)
    groups = split_evenly(range(settings.partitions), count)
    keys = frozenset(scope_key.encode() for scope_key in scope_keys)
    arguments = [(settings, replay_range.restricted_to(numbers), keys, shown) for numbers in groups]
    for message in in_processes(arguments, _replay_partitions):
        if isinstance(message, Counts):
            counts += message
            continue
        if isinstance(message, RecordsRead):
            read_at = time.monotonic()
        yield message
    yield ReplaySummary(counts, read_at - started_at, time.monotonic() - started_at, replay_range)


def _replay_partitions(
    settings: Settings, replay_range: ReplayRange, scope_keys: Collection[bytes], shown: int | None
) -> Iterator[WorkerMessage]:
    codec, left = codec_for(settings), shown
    # of a few scopes, the plain engine reads only their own records
    saved_us = 0 if scope_keys else replay_range.records * SAVED_US
    engine = engine_for(settings, saved_us)
    for progress in folds(settings, codec, replay_range, scope_keys, engine):
        if isinstance(progress, RecordsRead):
            yield progress
            continue
        yield progress.counts()
        lines = list[bytes]()
        for folded in progress.contexts() if left is None or left > 0 else ():
            lines.append(orjson.dumps({"context": document_of(folded)}) + b"\n")
            if len(lines) == LINES:
                yield ContextLines(b"".join(lines))
                lines.clear()
            if left is not None:
                left -= 1
                if left == 0:
                    break
        yield ContextLines(b"".join(lines))


def folds(
    settings: Settings,
    codec: Codec,
    replay_range: ReplayRange,
    scope_keys: Collection[bytes] = (),
    engine: Engine = PLAIN_ENGINE,
) -> Iterator[RecordsRead | BulkFold]:
    """Fold a range, one slice of the scope keys at a time; a single slice unless there are very many scopes."""
    slices, topics = [ALL_KEYS], administered_topics_with_set_aside(settings)
    while slices:
        fold = BulkFold(
            codec,
            topics,
            read_from_start=replay_range.read_from_start,
            key_slice=slices.pop(),
            scope_keys=scope_keys,
            engine=engine,
        )
        with LogReader(settings, replay_range.ends) as log:
            log.seek(replay_range.starts)
            for messages in log.messages_until(replay_range.ends):
                fold.add(upload_batch_without_headers(messages))
                yield RecordsRead(len(messages))
        yield fold
        slices += fold.remaining


def document_of(folded: FoldedScope) -> dict[str, Any]:
    """One scope as JSON; `broken` lists the roles of which the log no longer has every version."""
    context = folded.context
    components = {role: component_of(context, role) for role in ADMINISTERED_ROLES}
    return {
        "scope_key": context.scope_key,
        **ids_of(context.scope_key),
        **{
            role: component_document(component) if component else None
            for role, component in components.items()
        },
        "broken": list(folded.broken),
    }


def summary_document(summary: ReplaySummary) -> dict[str, Any]:
    """The summary as JSON."""
    counts = summary.counts
    return {
        "records": counts.records,
        "scopes": counts.scopes,
        "damaged": counts.damaged,
        "broken": counts.broken,
        "seconds": {"read": round(summary.read_s, 3), "all": round(summary.seconds, 3)},
        "from": positions_document(summary.replay_range.starts),
        "to": positions_document(summary.replay_range.ends),
        "gaps": gap_texts(summary.replay_range),
    }


def gap_texts(replay_range: ReplayRange) -> list[str]:
    """What the log no longer has: one line per truncated partition and per recreated topic."""
    truncated = [
        f"{partition} begins at offset {low}: earlier records are gone"
        for partition, low in sorted(replay_range.lows.items())
        if low > 0
    ]
    return truncated + [
        f"{name} was recreated: its earlier records are gone"
        for name in sorted(replay_range.made_anew)
    ]


def rows_of(lines: bytes) -> list[Mapping[str, Any]]:
    """The contexts in JSON lines."""
    return [orjson.loads(line)["context"] for line in lines.splitlines()]
