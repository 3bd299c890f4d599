"""`cjstream parked list`: which requests wait for their context, how long already, and until when."""

from dataclasses import dataclass, replace

from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.partitions import partitions_of
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.errors import BadRecord, Discrepancy
from schemas.events import ParkedRequest


@dataclass(frozen=True, slots=True)
class Parked:
    """One request that waits; times are the broker's, in ms since the epoch."""

    request_at: str
    scope_key: str
    missing: tuple[str, ...]
    appended_at_ms: int
    deadline_at_ms: int
    waits_s: float
    left_s: float  # below 0 once the deadline has passed


def parked(settings: Settings, now_ms: int) -> list[Parked]:
    """Every parked request without a tombstone, the oldest first. Raises Discrepancy for one that is none."""
    checked_topics(admin_client(settings), settings)
    codec = codec_for(settings)
    live: dict[bytes | None, ParkedRequest] = {}
    partitions = partitions_of([settings.topics.parked.name], settings)
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek({one: low for one, (low, _) in log.offset_ranges().items()})
        for record in log.records_until(ends):
            if record.value is None:  # released, or a reading of the clock
                live.pop(record.key, None)
                continue
            try:
                entry = codec.decode_as(ParkedRequest, record.value)
            except BadRecord as fault:
                raise Discrepancy(f"{record.at} is no parked request: {fault}") from fault
            live[record.key] = replace(entry, request=b"")  # bodies may be large
    waiting = sorted(live.values(), key=lambda one: (one.appended_at_ms, one.request_at))
    return [_waiting(one, now_ms) for one in waiting]


def _waiting(one: ParkedRequest, now_ms: int) -> Parked:
    return Parked(
        str(one.request_at),
        one.scope_key,
        one.missing,
        one.appended_at_ms,
        one.deadline_at_ms,
        (now_ms - one.appended_at_ms) / 1000,
        (one.deadline_at_ms - now_ms) / 1000,
    )
