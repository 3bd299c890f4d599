"""Reads dead-letter topics: which dead letters there are, and what happened to each."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.log.record_lookup import records_at
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import (
    DeadLetterHeaders,
    Refused,
    is_marker,
    read_dead_letter_headers,
    read_marker,
)
from schemas.errors import Discrepancy, Malformed
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter without its value; `dead_lettered_at_ms` is its own append time."""

    at: Coordinates
    dead_lettered_at_ms: int
    key: bytes | None
    value_bytes: int
    sha256: str
    refusal: DeadLetterHeaders
    has_value: bool = True  # False: the value is null, not empty

    @property
    def content(self) -> Refused:
        """Key, sha256 of the value (None if that is null) and headers of the record that was refused."""
        sha256 = self.sha256.encode() if self.has_value else None
        return Refused(self.key, sha256, tuple(self.refusal.original_headers))

    @property
    def refused_record(self) -> tuple[Coordinates, int]:
        """The coordinates and append time of the refused record; an upload dead-lettered twice counts once.

        The append time distinguishes the records of a topic from those of a new topic with the same name.
        """
        return self.refusal.at, self.refusal.appended_at_ms


@dataclass
class OpenLetters:
    """The dead letters of some topics in read order, where the closed ones went, and foreign records."""

    letters: list[DeadLetter] = field(default_factory=list)
    foreign_records: list[Coordinates] = field(default_factory=list)
    _record_of: dict[Coordinates, tuple[Coordinates, int]] = field(default_factory=dict)
    _seen: set[tuple[Coordinates, int, Refused]] = field(default_factory=set)
    _destinations: dict[tuple[Coordinates, int], str] = field(default_factory=dict)

    def add(self, record: LogRecord) -> None:
        """Add one record of a dead-letter topic; those of a partition must come in log order."""
        try:
            if is_marker(record.headers):
                of, destination = read_marker(record.headers)
                if of in self._record_of:
                    self._destinations[self._record_of[of]] = destination
                return
            letter = _letter(record)
        except Malformed:
            self.foreign_records.append(record.at)
            return
        self._record_of[letter.at] = letter.refused_record
        seen = (*letter.refused_record, letter.content)
        if seen not in self._seen:  # a forged letter of the same record counts, too
            self._seen.add(seen)
            self.letters.append(letter)

    def destination(self, letter: DeadLetter) -> str | None:
        """Where a closed dead letter went, according to its marker; None while it is open."""
        return self._destinations.get(letter.refused_record)

    @property
    def open(self) -> list[DeadLetter]:
        """The dead letters without a marker."""
        return [letter for letter in self.letters if self.destination(letter) is None]

    def find(self, at: Coordinates) -> DeadLetter | None:
        """The dead letter at these coordinates, or the first one of the same refused record."""
        record = self._record_of.get(at)
        same = [letter for letter in self.letters if letter.refused_record == record]
        return min(same, key=lambda letter: letter.at != at, default=None)


def _letter(record: LogRecord) -> DeadLetter:
    value = record.value or b""
    return DeadLetter(
        record.at,
        record.appended_at_ms,
        record.key,
        len(value),
        hashlib.sha256(value).hexdigest(),
        read_dead_letter_headers(record.headers),
        record.value is not None,
    )


def read_dead_letters(settings: Settings, topics: Iterable[Topic]) -> OpenLetters:
    """Read dead-letter topics up to their high watermarks, so that recent commits are seen. Raises Unreachable."""
    found = OpenLetters()
    partitions = settings.partitions_of(*topics)
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek_to_start()
        for record in log.records_until(ends):
            found.add(record)
    return found


def read_dead_letter(
    settings: Settings, at: Coordinates
) -> tuple[DeadLetter, str | None, bytes | None] | None:
    """The dead letter at these coordinates, where it went, and its value; None if there is none. Raises Unreachable.

    Reads its partition from there on, because the marker that closes it comes later.
    """
    partition, found = Partition(at.topic, at.partition), OpenLetters()
    ends = high_watermarks_when_reachable(settings, [partition])
    value: bytes | None = None
    with LogReader(settings, [partition]) as log:
        low, _ = log.offset_ranges()[partition]
        if not low <= at.offset < ends[partition]:
            return None
        log.seek({partition: at.offset})
        for record in log.records_until(ends):
            found.add(record)
            if record.at == at:
                value = record.value
    letter = next((one for one in found.letters if one.at == at), None)
    return None if letter is None else (letter, found.destination(letter), value)


def read_values(
    settings: Settings, letters: Iterable[DeadLetter]
) -> Mapping[Coordinates, bytes | None]:
    """The raw bytes of dead letters, by their coordinates. Raises Unreachable, Discrepancy."""
    wanted = [letter.at for letter in letters]
    values = {record.at: record.value for record in records_at(settings, wanted)}
    if missing := sorted(set(wanted) - values.keys()):
        raise Discrepancy(f"{missing[0]} is no longer in the log")
    return values
