"""`cjstream parked list`: the requests that wait for their context, since when, and until when."""

from dataclasses import dataclass, replace

from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.errors import BadRecord, Discrepancy
from schemas.events import ParkedRequest


@dataclass(frozen=True, slots=True)
class Parked:
    """One parked request; times are the broker's, in ms since the epoch."""

    request_at: str
    scope_key: str
    missing: tuple[str, ...]
    appended_at_ms: int
    deadline_at_ms: int
    waits_s: float
    left_s: float  # below 0 once the deadline has passed


def parked_requests(settings: Settings, now_ms: int) -> list[Parked]:
    """Every parked request that was not released, oldest first. Raises Discrepancy for a record that is not one."""
    checked_topics(admin_client(settings), settings)
    codec = codec_for(settings)
    waiting: dict[bytes | None, ParkedRequest] = {}
    partitions = settings.partitions_of(settings.topics.parked)
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek_to_start()
        for record in log.records_until(ends):
            if record.value is None:  # released, or a record that only shows the broker's time
                waiting.pop(record.key, None)
                continue
            try:
                entry = codec.decode_as(ParkedRequest, record.value)
            except BadRecord as fault:
                raise Discrepancy(f"{record.at} is not a parked request: {fault}") from fault
            waiting[record.key] = replace(entry, request=b"")  # bodies may be large
    entries = sorted(waiting.values(), key=lambda entry: (entry.appended_at_ms, entry.request_at))
    return [_parked(entry, now_ms) for entry in entries]


def _parked(entry: ParkedRequest, now_ms: int) -> Parked:
    return Parked(
        str(entry.request_at),
        entry.scope_key,
        entry.missing,
        entry.appended_at_ms,
        entry.deadline_at_ms,
        (now_ms - entry.appended_at_ms) / 1000,
        (entry.deadline_at_ms - now_ms) / 1000,
    )
