"""The records of one partition number that verify reads, each topic up to the end that was taken."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader, Messages
from processors.log.record_lookup import records_at
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from tools.audit.check.scan_range import ScanRange, of_partition


class PartitionRecords(Protocol):
    """What an audit of one partition reads, in this order."""

    def requests(self) -> Iterable[Messages]:
        """The requests of the range, a fetch at a time."""

    def parked(self) -> Iterable[LogRecord]:
        """The parked topic, to the end that was taken before the outcomes'."""

    def outcomes(self) -> Iterable[Messages]:
        """Prepared, unresolved and dead letters, a fetch at a time."""

    def parked_since(self) -> Iterable[LogRecord]:
        """What has been parked and released since, to now."""

    def picked(self, wanted: Iterable[Coordinates]) -> Iterable[LogRecord]:
        """Those of these records that are in the log."""

    def outcomes_kept_since_ms(self, now_ms: int) -> int:
        """From when on every outcome is kept; now where that cannot be told; 0 where none was ever removed."""


class PartitionReader:
    """The same from Kafka. Raises Unreachable, Discrepancy."""

    def __init__(self, settings: Settings, extent: ScanRange, number: int) -> None:
        self._settings = settings
        self._extent = extent
        self._number = number

    def _of(self, positions: Positions) -> dict[Partition, int]:
        return of_partition(positions, self._number)

    def requests(self) -> Iterator[Messages]:
        return self._messages(self._extent.requests, self._extent.requests_end)

    def outcomes(self) -> Iterator[Messages]:
        return self._messages(self._extent.outcomes, self._extent.outcomes_end)

    def _messages(self, begin: Positions, end: Positions) -> Iterator[Messages]:
        with LogReader(self._settings, self._of(begin)) as log:
            log.seek(self._of(begin))
            yield from log.messages_until(self._of(end))

    def parked(self) -> Iterator[LogRecord]:
        return self._records(self._of(self._extent.parked), self._of(self._extent.parked_end))

    def parked_since(self) -> Iterator[LogRecord]:
        begin = self._of(self._extent.parked_end)
        return self._records(begin, high_watermarks_when_reachable(self._settings, begin))

    def _records(self, begin: Positions, end: Positions) -> Iterator[LogRecord]:
        with LogReader(self._settings, begin) as log:
            log.seek(begin)
            yield from log.records_until(end)

    def picked(self, wanted: Iterable[Coordinates]) -> Iterator[LogRecord]:
        return records_at(self._settings, wanted)

    def outcomes_kept_since_ms(self, now_ms: int) -> int:
        times = [0]
        for one, low in self._of(self._extent.outcomes_retained).items():
            if low:
                end = {one: self._extent.outcomes_end[one]}
                first = next(self._records({one: low}, end), None) if low < end[one] else None
                times.append(first.appended_at_ms if first else now_ms)
        return max(times)
