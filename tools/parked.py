"""`cjstream parked list`: the requests that wait for their context, since when, and until when."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.parking.parked_record import CLOCK_KEY, read_entry, request_of_key
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord
from schemas.events import ParkedRequest
from tools.unanswered import NOTHING_COMMITTED, unanswered

LATE_MS = 60_000  # no parked request should be overdue for longer
MAX_NAMED = 1000


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


@dataclass(slots=True)
class ParkedRecords:
    """What the records of the parked topic say.

    strangers: the coordinates of records that do not count, with the reason; up to MAX_NAMED of skipped ones.
    released: requests with a tombstone, and its append time.
    """

    waiting: dict[Coordinates, tuple[ParkedRequest, Coordinates]] = field(default_factory=dict)
    strangers: dict[Coordinates, str] = field(default_factory=dict)
    skipped: int = 0
    released: dict[Coordinates, int] = field(default_factory=dict)

    def add(self, record: LogRecord, codec: Codec, requests: str) -> None:
        """Add one record; those of a partition must come in log order."""
        if record.key == CLOCK_KEY and record.value is None:
            return
        try:
            at = request_of_key(record.key, requests, record.at.partition)
            if record.value is None:
                self.waiting.pop(at, None)
                self.released[at] = record.appended_at_ms
                return
            parked, _ = read_entry(record.value, at, codec)
        except BadRecord as fault:
            self.skip(record.at, str(fault))
            return
        self.released.pop(at, None)
        # bodies may be large
        self.waiting.setdefault(at, (replace(parked, request=b""), record.at))

    def skip(self, at: Coordinates, reason: str) -> None:
        """Count a record that does not count as an entry."""
        self.skipped += 1
        if len(self.strangers) < MAX_NAMED:
            self.strangers[at] = reason

    def parked(self, now_ms: int) -> list[Parked]:
        """The waiting requests, oldest first."""
        entries = sorted(
            (entry for entry, _ in self.waiting.values()),
            key=lambda entry: (entry.appended_at_ms, entry.request_at),
        )
        return [_parked(entry, now_ms) for entry in entries]


def read_parked_records(settings: Settings, now_ms: int) -> ParkedRecords:
    """The records of the parked topic; an entry that is overdue counts only if its request has no outcome.

    Raises Unreachable, Discrepancy.
    """
    checked_topics(admin_client(settings), settings)
    found, codec = ParkedRecords(), codec_for(settings)
    partitions = settings.partitions_of(settings.topics.parked)
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek_to_start()
        for record in log.records_until(ends):
            found.add(record, codec, settings.topics.requests.name)
    overdue = [
        at for at, (entry, _) in found.waiting.items() if entry.deadline_at_ms < now_ms - LATE_MS
    ]
    if overdue:
        _skip_answered(found, unanswered(settings, overdue).others)
    return found


def _skip_answered(found: ParkedRecords, others: Mapping[Coordinates, str]) -> None:
    for at, reason in others.items():
        if reason != NOTHING_COMMITTED:
            _, entry_at = found.waiting.pop(at)
            found.skip(entry_at, f"of request {at}: {reason}")


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
