"""A dead-letter topic as records: which dead letters there are, and what became of each."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.partitions import partitions_of
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import DeadLetterHeaders, is_marker, read_marker, read_refusal
from schemas.errors import Malformed
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter without its value; died_at_ms is its own append time."""

    at: Coordinates
    died_at_ms: int
    key: bytes | None
    value_bytes: int
    sha256: str
    refusal: DeadLetterHeaders

    @property
    def what(self) -> tuple[Coordinates, int]:
        """The record that was refused: an upload may be dead-lettered more than once, and counts once.

        The append time tells records of a topic from those of one made anew under its name.
        """
        return self.refusal.at, self.refusal.appended_at_ms


@dataclass
class OpenLetters:
    """What dead-letter topics hold: dead letters oldest first, where the closed ones went, and strangers."""

    letters: list[DeadLetter] = field(default_factory=list)
    strangers: list[Coordinates] = field(default_factory=list)
    _known: dict[Coordinates, tuple[Coordinates, int]] = field(default_factory=dict)
    _seen: set[tuple[Coordinates, int]] = field(default_factory=set)
    _went: dict[tuple[Coordinates, int], str] = field(default_factory=dict)

    def learn(self, record: LogRecord) -> None:
        """One record of a dead-letter topic; those of a partition come in log order."""
        try:
            if is_marker(record.headers):
                of, went = read_marker(record.headers)
                if of in self._known:
                    self._went[self._known[of]] = went
                return
            letter = _letter(record)
        except Malformed:
            self.strangers.append(record.at)
            return
        self._known[letter.at] = letter.what
        if letter.what not in self._seen:
            self._seen.add(letter.what)
            self.letters.append(letter)

    def went(self, letter: DeadLetter) -> str | None:
        """Where a closed dead letter went, as its marker says; None while it is open."""
        return self._went.get(letter.what)

    @property
    def open(self) -> list[DeadLetter]:
        """Those without a marker."""
        return [letter for letter in self.letters if self.went(letter) is None]

    def at(self, at: Coordinates) -> DeadLetter | None:
        """The dead letter at these coordinates, or the first one of the same refused record."""
        what = self._known.get(at)
        return next((letter for letter in self.letters if letter.what == what), None)


def _letter(record: LogRecord) -> DeadLetter:
    value = record.value or b""
    return DeadLetter(
        record.at,
        record.appended_at_ms,
        record.key,
        len(value),
        hashlib.sha256(value).hexdigest(),
        read_refusal(record.headers),
    )


def read_dead_letters(settings: Settings, topics: Iterable[Topic]) -> OpenLetters:
    """Read dead-letter topics to their high watermarks: what was committed just now is seen. Raises Unreachable."""
    found = OpenLetters()
    partitions = partitions_of((topic.name for topic in topics), settings)
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek({one: low for one, (low, _) in log.offset_ranges().items()})
        for record in log.records_until(ends):
            found.learn(record)
    return found


def read_values(
    settings: Settings, letters: Iterable[DeadLetter]
) -> Mapping[Coordinates, bytes | None]:
    """The raw bytes of dead letters, by their coordinates. Raises Unreachable."""
    wanted = {letter.at for letter in letters}
    by_partition: dict[Partition, list[int]] = {}
    for at in wanted:
        by_partition.setdefault(Partition(at.topic, at.partition), []).append(at.offset)
    if not wanted:
        return {}
    with LogReader(settings, by_partition) as log:
        log.seek({one: min(offsets) for one, offsets in by_partition.items()})
        ends = {one: max(offsets) + 1 for one, offsets in by_partition.items()}
        return {
            record.at: record.value for record in log.records_until(ends) if record.at in wanted
        }
