"""`cjstream audit replay`: the upload topics of a range folded again, by the one fold, from the log alone."""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from processors.log.offsets_at import positions_after, positions_from
from processors.log.reader import LogReader
from processors.log.upload_topics import upload_topic_ids
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, upload_partitions, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.events import ROLES
from tables.context import component_of
from tables.history.bulk_fold import ALL, BulkFold, Counts, FoldedScope
from tables.history.point_in_time import Moment
from tools.audit.local_replicas import made_anew
from tools.audit.process_pool import in_processes, processes_for, shares
from tools.audit_json import component_document, ids_of, positions_document

LINES = 200  # in one message of a process


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """What is replayed: [starts, ends) of every upload partition; whole are those from the log's very start."""

    starts: Positions
    ends: Positions
    lows: Positions
    made_anew: frozenset[str] = frozenset()

    @property
    def records(self) -> int:
        """At most so many."""
        return sum(end - self.starts[one] for one, end in self.ends.items())

    @property
    def whole(self) -> frozenset[Partition]:
        """The partitions that are read from the first record that the log has."""
        return frozenset(one for one, low in self.lows.items() if self.starts[one] <= low)

    def part(self, numbers: Collection[int]) -> "ReplayRange":
        """The same range of these partition numbers alone."""

        def of(positions: Positions) -> Positions:
            return {one: at for one, at in positions.items() if one.partition in numbers}

        return ReplayRange(of(self.starts), of(self.ends), of(self.lows), self.made_anew)


def range_of(settings: Settings, since: Moment | None, until: Moment | None) -> ReplayRange:
    """The range between two moments, or from the log's start, to its end. Raises Unreachable, Discrepancy."""
    anew = frozenset(made_anew(settings, upload_topic_ids(settings)))
    with LogReader(settings, upload_partitions(settings)) as log:
        retained = log.offset_ranges()
        lows = {one: low for one, (low, _) in retained.items()}
        starts = lows if since is None else positions_from(log, since)
        ends = {one: end for one, (_, end) in retained.items()}
        if until is not None:
            ends = dict(positions_after(log, until))
    return ReplayRange(
        starts, {one: max(end, starts[one]) for one, end in ends.items()}, lows, anew
    )


@dataclass(frozen=True, slots=True)
class RecordsRead:
    """So many more records have been read."""

    records: int


@dataclass(frozen=True, slots=True)
class ContextLines:
    """JSON lines, a context each."""

    lines: bytes


Said = RecordsRead | ContextLines | Counts


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """What a replay came to."""

    counts: Counts
    read_s: float  # until the last record was read and folded
    seconds: float
    of: ReplayRange


def replay(
    settings: Settings,
    of: ReplayRange,
    scope_keys: Collection[str] = (),
    *,
    shown: int | None = None,
    processes: int | None = None,
) -> Iterator[RecordsRead | ContextLines | ReplaySummary]:
    """Fold a range: contexts as JSON lines, at most `shown` of them from each process; the summary is last.

    Raises Unreachable, UnknownSchema.
    """
    counts = Counts()
    read_at = began = time.monotonic()
    count = processes or processes_for(of.records)
    groups = shares(range(settings.partitions), count)
    keys = frozenset(one.encode() for one in scope_keys)
    given = [(settings, of.part(numbers), keys, shown) for numbers in groups]
    for said in in_processes(_replayed_part, given):
        if isinstance(said, Counts):
            counts += said
            continue
        if isinstance(said, RecordsRead):
            read_at = time.monotonic()
        yield said
    yield ReplaySummary(counts, read_at - began, time.monotonic() - began, of)


def _replayed_part(
    settings: Settings, of: ReplayRange, scope_keys: Collection[bytes], shown: int | None
) -> Iterator[Said]:
    codec, left = codec_for(settings), shown
    for said in folds(settings, codec, of, scope_keys):
        if isinstance(said, RecordsRead):
            yield said
            continue
        yield said.counts()
        lines = list[bytes]()
        for one in said.contexts() if left is None or left > 0 else ():
            lines.append(orjson.dumps({"context": document_of(one)}) + b"\n")
            if len(lines) == LINES:
                yield ContextLines(b"".join(lines))
                lines.clear()
            if left is not None:
                left -= 1
                if left == 0:
                    break
        yield ContextLines(b"".join(lines))


def folds(
    settings: Settings, codec: Codec, of: ReplayRange, scope_keys: Collection[bytes] = ()
) -> Iterator[RecordsRead | BulkFold]:
    """Fold a range slice by slice; one slice holds it all, unless there are very many scopes."""
    slices, topics = [ALL], upload_topics(settings)
    while slices:
        one = BulkFold(codec, topics, whole=of.whole, of=slices.pop(), scope_keys=scope_keys)
        with LogReader(settings, of.ends) as log:
            log.seek(of.starts)
            for messages in log.messages_until(of.ends):
                for message in messages:
                    at = (message.topic(), message.partition(), message.offset())
                    one.add(at, message.key(), message.value(), message.timestamp()[1])  # type: ignore[arg-type]
                yield RecordsRead(len(messages))
        yield one
        slices += one.rest


def document_of(folded: FoldedScope) -> dict[str, Any]:
    """One scope as JSON; a role in `broken` had versions that the log no longer has."""
    context = folded.context
    told = {role: component_of(context, role) for role in ROLES}
    return {
        "scope_key": context.scope_key,
        **ids_of(context.scope_key),
        **{role: component_document(one) if one else None for role, one in told.items()},
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
        "from": positions_document(summary.of.starts),
        "to": positions_document(summary.of.ends),
        "gaps": gap_texts(summary.of),
    }


def gap_texts(of: ReplayRange) -> list[str]:
    """What the log no longer has at all, partition by partition and topic by topic."""
    told = [
        f"{one.topic}/{one.partition} begins at offset {low}: what was below it is gone"
        for one, low in sorted(of.lows.items())
        if low > 0
    ]
    return told + [
        f"{name} was made anew: what it held before is gone" for name in sorted(of.made_anew)
    ]


def rows_of(lines: bytes) -> list[Mapping[str, Any]]:
    """The contexts of JSON lines."""
    return [orjson.loads(line)["context"] for line in lines.splitlines()]
