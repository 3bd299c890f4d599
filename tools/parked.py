"""`cjstream parked list`: the requests that wait for their context, since when, and until when."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from processors.kafka.clients import admin_client
from processors.kafka.offsets import readable_ends, with_open_transactions
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.parking.parked_record import CLOCK_KEY, content_of, read_entry, request_of_key
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import BadRecord, Unreachable
from schemas.events import ParkedRequest
from tools.unanswered import NOTHING_COMMITTED, Unanswered, unanswered

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


class WaitingRequest(NamedTuple):
    """The entry of a waiting request: without its body, which may be large, but with the hash of its key and body."""

    parked: ParkedRequest
    at: Coordinates
    content: int


@dataclass(slots=True)
class ParkedRecords:
    """What the records of the parked topic say.

    strangers: the coordinates of records that do not count, with the reason; up to MAX_NAMED of skipped ones.
    released: requests with a tombstone, and its append time. hidden: partitions in which an open transaction hides
    records that are needed.
    """

    waiting: dict[Coordinates, WaitingRequest] = field(default_factory=dict)
    strangers: dict[Coordinates, str] = field(default_factory=dict)
    skipped: int = 0
    released: dict[Coordinates, int] = field(default_factory=dict)
    hidden: list[Partition] = field(default_factory=list)

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
        content = content_of(parked.request_key, parked.request)
        waiting = WaitingRequest(replace(parked, request=b""), record.at, content)
        self.waiting.setdefault(at, waiting)

    def skip(self, at: Coordinates, reason: str) -> None:
        """Count a record that does not count as an entry."""
        self.skipped += 1
        if len(self.strangers) < MAX_NAMED:
            self.strangers[at] = reason

    def parked(self, now_ms: int) -> list[Parked]:
        """The waiting requests, oldest first."""
        entries = sorted(
            (waiting.parked for waiting in self.waiting.values()),
            key=lambda entry: (entry.appended_at_ms, entry.request_at),
        )
        return [_parked(entry, now_ms) for entry in entries]


def read_parked_records(settings: Settings, now_ms: int) -> ParkedRecords:
    """The records of the parked topic; an entry that is overdue counts only if its request has no outcome.

    Raises Unreachable, Discrepancy.
    """
    checked_topics(admin_client(settings), settings)
    found = parked_records(settings)
    overdue = [
        at
        for at, waiting in found.waiting.items()
        if waiting.parked.deadline_at_ms < now_ms - LATE_MS
    ]
    if overdue:
        _skip_answered(found, _unanswered_if_readable(settings, overdue, found).others)
    return found


def parked_records(settings: Settings) -> ParkedRecords:
    """The records of the parked topic that can be read. Raises Unreachable, Discrepancy."""
    found, codec = ParkedRecords(), codec_for(settings)
    partitions = settings.partitions_of(settings.topics.parked)
    ends, found.hidden = readable_ends(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek_to_start()
        for record in log.records_until(ends):
            found.add(record, codec, settings.topics.requests.name)
    return found


def _unanswered_if_readable(
    settings: Settings, requests: Iterable[Coordinates], found: ParkedRecords
) -> Unanswered:
    """Like `unanswered`, but nothing if an open transaction hides outcomes, which is noted in what was found."""
    try:
        return unanswered(settings, requests)
    except Unreachable:
        hidden = with_open_transactions(settings, settings.partitions_of(*settings.topics.outcomes))
        if not hidden:
            raise
        found.hidden += hidden
        return Unanswered()


def _skip_answered(found: ParkedRecords, others: Mapping[Coordinates, str]) -> None:
    for at, reason in others.items():
        if reason != NOTHING_COMMITTED:
            entry_at = found.waiting.pop(at).at
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
