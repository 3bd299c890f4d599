"""`cjstream batches tail`: outcomes as they stand in the log, decoded; no group, nothing is committed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from processors.kafka.clients import admin_client
from processors.kafka.partitions import partitions_of
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.dead_letters import is_marker
from schemas.errors import BadRecord, Discrepancy
from schemas.events import ROLES, CJBatchPrepared, CJBatchUnresolved, Outcome

NEWEST = 10


@dataclass(frozen=True, slots=True)
class TailedRecord:
    """One outcome: a decoded event, or a dead letter, whose headers say where it stood and why."""

    record: LogRecord
    event: Outcome | None
    dead_letter: Mapping[str, str]


def tail_batches(
    settings: Settings,
    *,
    follow: bool = False,
    from_beginning: bool = False,
    limit: int | None = None,
    every_outcome: bool = False,
) -> Iterator[TailedRecord]:
    """Prepared batches, or every outcome, up to the end offsets seen at start, or without end.

    From the beginning, limit is how many in all; otherwise it is how many of the newest, ten unless told.
    """
    checked_topics(admin_client(settings), settings)
    topics = settings.topics.outcomes if every_outcome else (settings.topics.batches,)
    partitions = partitions_of((topic.name for topic in topics), settings)
    codec = codec_for(settings)
    with LogReader(settings, partitions) as log:
        retained = log.offset_ranges()
        if from_beginning:
            records = _from_start(log, retained, follow=follow)
            yield from islice((_tailed(record, codec) for record in records), limit)
            return
        for record in _newest(log, retained, NEWEST if limit is None else limit):
            yield _tailed(record, codec)
        if follow:
            log.seek({one: end for one, (_, end) in retained.items()})
            yield from (_tailed(record, codec) for record in _without_end(log))


def _from_start(
    log: LogReader, retained: Mapping[Partition, tuple[int, int]], *, follow: bool
) -> Iterator[LogRecord]:
    log.seek({one: low for one, (low, _) in retained.items()})
    if follow:
        return _without_end(log)
    return _outcomes(log.records_until({one: end for one, (_, end) in retained.items()}))


def _outcomes(records: Iterable[LogRecord]) -> Iterator[LogRecord]:
    """Without the markers that say of a dead letter that it was re-driven."""
    return (record for record in records if not is_marker(record.headers))


def _without_end(log: LogReader) -> Iterator[LogRecord]:
    while True:
        yield from _outcomes(log.read())


def _newest(
    log: LogReader, retained: Mapping[Partition, tuple[int, int]], count: int
) -> list[LogRecord]:
    """The newest records by append time; looks back further while markers and aborts leave too few."""
    ends = {one: end for one, (_, end) in retained.items()}
    back = 2 * count
    while True:
        starts = {one: max(low, end - back) for one, (low, end) in retained.items()}
        log.seek(starts)
        found = sorted(_outcomes(log.records_until(ends)), key=lambda record: record.appended_at_ms)
        if len(found) >= count or all(starts[one] == low for one, (low, _) in retained.items()):
            return found[-count:] if count else []
        back *= 4


def _tailed(record: LogRecord, codec: Codec) -> TailedRecord:
    told = {
        name.removeprefix("kafka_dlt-"): (value or b"").decode(errors="replace")
        for name, value in record.headers
        if name.startswith("kafka_dlt-")
    }
    if told:
        return TailedRecord(record, None, told)
    try:
        event = codec.decode(record.value)
    except BadRecord as fault:
        raise Discrepancy(f"{record.at}: {fault}") from fault
    if not isinstance(event, CJBatchPrepared | CJBatchUnresolved):
        raise Discrepancy(f"{record.at}: a {type(event).__name__} is no outcome")
    return TailedRecord(record, event, {})


def document_of(tailed: TailedRecord) -> dict[str, Any]:
    """One outcome for machines."""
    record = tailed.record
    about = {
        "at": str(record.at),
        "appended_at_ms": record.appended_at_ms,
        "key": None if record.key is None else record.key.decode(errors="replace"),
    }
    if tailed.event is None:
        return {**about, "dead_letter": dict(tailed.dead_letter), "event": None}
    kind = type(tailed.event).__name__
    return {**about, "event_type": kind, "event": asdict(tailed.event)}


def line_of(tailed: TailedRecord) -> str:
    """One outcome in a line for people."""
    event, told = tailed.event, tailed.dead_letter
    if event is None:
        stood = "/".join(told.get(f"original-{name}", "?") for name in ("topic", "partition"))
        where = f"{stood}@{told.get('original-offset', '?')}"
        return f"{tailed.record.at}  dead letter of {where}: {told.get('exception-message', '?')}"
    asked = event.request
    said = f"{tailed.record.at}  {asked.batch_id}  {len(asked.essays)} essays  "
    if isinstance(event, CJBatchUnresolved):
        return f"{said}unresolved: {event.scope_key} has no {', '.join(event.missing)}"
    metadata = event.processing_metadata
    used = [
        f"{role} v{upload.version}"
        for role in ROLES
        if (upload := getattr(event.provenance, role)) is not None
    ]
    return f"{said}{metadata.context_source}: {', '.join(used) or 'nothing known'}"
