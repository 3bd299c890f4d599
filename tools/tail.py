"""`cjstream batches tail`: the outcomes in the log, decoded; without a consumer group, so no offset is committed."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from processors.kafka.clients import admin_client
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Positions
from schemas.dead_letters import is_marker
from schemas.errors import BadRecord
from schemas.events import ROLES, CJBatchPrepared, CJBatchUnresolved, Outcome

NEWEST = 10


@dataclass(frozen=True, slots=True)
class TailedRecord:
    """One outcome: a decoded event, or a dead letter, whose headers give its original coordinates and the error.

    problem: why the record is no outcome; some other producer wrote it.
    """

    record: LogRecord
    event: Outcome | None
    dead_letter: Mapping[str, str]
    problem: str | None = None


def tail_batches(
    settings: Settings,
    *,
    follow: bool = False,
    from_beginning: bool = False,
    limit: int | None = None,
    every_outcome: bool = False,
) -> Iterator[TailedRecord]:
    """Prepared batches, or every outcome, up to the end offsets at the start; with `follow` without end.

    `limit` is the total number if from_beginning is set, otherwise the number of newest ones, 10 by default.
    """
    checked_topics(admin_client(settings), settings)
    topics = settings.topics.outcomes if every_outcome else (settings.topics.batches,)
    partitions = settings.partitions_of(*topics)
    codec = codec_for(settings)
    with LogReader(settings, partitions) as log:
        ends = log.seek_to_start()
        if from_beginning:
            records = _without_end(log) if follow else _outcomes(log.records_until(ends))
            yield from islice((_tailed(record, codec) for record in records), limit)
            return
        for record in _newest(log, ends, NEWEST if limit is None else limit):
            yield _tailed(record, codec)
        if follow:
            log.seek(ends)
            yield from (_tailed(record, codec) for record in _without_end(log))


def _outcomes(records: Iterable[LogRecord]) -> Iterator[LogRecord]:
    """The records without the markers of re-driven dead letters."""
    return (record for record in records if not is_marker(record.headers))


def _without_end(log: LogReader) -> Iterator[LogRecord]:
    while True:
        yield from _outcomes(log.read())


def _newest(log: LogReader, ends: Positions, count: int) -> list[LogRecord]:
    """The newest records by append time; reads further back while markers and aborted records leave too few."""
    lows = {partition: low for partition, (low, _) in log.offset_ranges().items()}
    back = 2 * count
    while True:
        starts = {partition: max(low, ends[partition] - back) for partition, low in lows.items()}
        log.seek(starts)
        found = sorted(_outcomes(log.records_until(ends)), key=lambda record: record.appended_at_ms)
        if len(found) >= count or starts == lows:
            return found[-count:] if count else []
        back *= 4


def _tailed(record: LogRecord, codec: Codec) -> TailedRecord:
    dead_letter = {
        name.removeprefix("kafka_dlt-"): (value or b"").decode(errors="replace")
        for name, value in record.headers
        if name.startswith("kafka_dlt-")
    }
    if dead_letter:
        return TailedRecord(record, None, dead_letter)
    try:
        event = codec.decode(record.value)
    except BadRecord as fault:
        return TailedRecord(record, None, {}, str(fault))
    if not isinstance(event, CJBatchPrepared | CJBatchUnresolved):
        return TailedRecord(record, None, {}, f"a {type(event).__name__}")
    return TailedRecord(record, event, {})


def document_of(tailed: TailedRecord) -> dict[str, Any]:
    """One outcome as JSON."""
    record = tailed.record
    common = {
        "at": str(record.at),
        "appended_at_ms": record.appended_at_ms,
        "key": None if record.key is None else record.key.decode(errors="replace"),
    }
    if tailed.event is None:
        return {**common, "dead_letter": dict(tailed.dead_letter), "event": None}
    kind = type(tailed.event).__name__
    return {**common, "event_type": kind, "event": asdict(tailed.event)}


def line_of(tailed: TailedRecord) -> str:
    """One outcome as one line for people."""
    event, headers = tailed.event, defaultdict(lambda: "?", tailed.dead_letter)
    if event is None:
        names = ("original-topic", "original-partition", "original-offset", "exception-message")
        topic, partition, offset, message = (headers[name] for name in names)
        return f"{tailed.record.at}  dead letter of {topic}/{partition}@{offset}: {message}"
    request = event.request
    prefix = f"{tailed.record.at}  {request.batch_id}  {len(request.essays)} essays  "
    if isinstance(event, CJBatchUnresolved):
        return f"{prefix}unresolved: {event.scope_key} has no {', '.join(event.missing)}"
    metadata = event.processing_metadata
    used = [
        f"{role} v{upload.version}"
        for role in ROLES
        if (upload := getattr(event.provenance, role)) is not None
    ]
    return f"{prefix}{metadata.context_source}: {', '.join(used) or 'no context'}"
