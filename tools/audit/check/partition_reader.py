"""The records of one partition number that verify reads, each topic up to the end in the scan range."""

from collections.abc import Iterable, Iterator

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord, log_record_of
from processors.log.reader import LogReader, Messages
from processors.log.record_lookup import records_at
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from tools.audit.check.scan_range import ScanRange, of_partitions


class PartitionReader:
    """The records of one partition number, read in the order of these methods. Raises Unreachable, Discrepancy."""

    def __init__(self, settings: Settings, scan_range: ScanRange, number: int) -> None:
        self._settings = settings
        self._range = scan_range
        self._number = number

    def _of(self, positions: Positions) -> dict[Partition, int]:
        return of_partitions(positions, (self._number,))

    def requests(self) -> Iterator[Messages]:
        """The requests of the range, one fetch at a time."""
        return self._messages(self._range.requests, self._range.requests_end)

    def outcomes(self) -> Iterator[Messages]:
        """Prepared batches, unresolved batches and dead letters, one fetch at a time."""
        return self._messages(self._range.outcomes, self._range.outcomes_end)

    def _messages(self, start: Positions, end: Positions) -> Iterator[Messages]:
        starts = self._of(start)
        with LogReader(self._settings, starts) as log:
            log.seek(starts)
            yield from log.messages_until(self._of(end))

    def parked(self) -> Iterator[LogRecord]:
        """The parked topic, up to the end that was taken before the end of the outcomes."""
        return self._records(self._range.parked, self._range.parked_end)

    def parked_since(self) -> Iterator[LogRecord]:
        """The parked topic from there up to its current end."""
        start = self._of(self._range.parked_end)
        return self._records(start, high_watermarks_when_reachable(self._settings, start))

    def _records(self, start: Positions, end: Positions) -> Iterator[LogRecord]:
        for messages in self._messages(start, end):
            yield from map(log_record_of, messages)

    def records_at(self, wanted: Iterable[Coordinates]) -> Iterator[LogRecord]:
        """The records at these coordinates that are in the log."""
        return records_at(self._settings, wanted)

    def outcomes_complete_since_ms(self, now_ms: int) -> int:
        """The time since which every outcome is in the log; now if that is unknown; 0 if none was ever removed."""
        times_ms = [0]
        for partition, low in self._of(self._range.outcomes_retained).items():
            end = self._range.outcomes_end[partition]
            if low:
                records = (
                    self._records({partition: low}, {partition: end}) if low < end else iter(())
                )
                first = next(records, None)
                times_ms.append(first.appended_at_ms if first else now_ms)
        return max(times_ms)
