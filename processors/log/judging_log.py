"""Results, unresolved batches and judging records, read outside any consumer group."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.log.record_lookup import records_at
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from schemas.judging_events import CJBatchJudged, JudgingEvent
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """A result and where it is."""

    result: CJBatchJudged
    at: Coordinates
    appended_at_ms: int


class JudgingLog:
    """Committed records, up to open transactions. Its methods raise Unreachable, Discrepancy."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def ranges_of(self, *topics: Topic) -> dict[Partition, tuple[int, int]]:
        """The log start and the end of each partition."""
        with LogReader(self.settings, self.settings.partitions_of(*topics)) as log:
            return log.offset_ranges()

    def high_watermarks(self, *topics: Topic) -> Positions:
        """The end of each partition, with open transactions: `records` waits for those."""
        return high_watermarks_when_reachable(self.settings, self.settings.partitions_of(*topics))

    def records(self, starts: Positions, ends: Positions) -> Iterator[LogRecord]:
        """Every record in these ranges, of each partition in log order."""
        with LogReader(self.settings, starts) as log:
            log.seek(starts)
            yield from log.records_until(ends)

    def records_at(self, wanted: Iterable[Coordinates]) -> Iterator[LogRecord]:
        """The records at these coordinates that are in the log."""
        return records_at(self.settings, wanted)

    def committed(self, topic: Topic) -> Positions:
        """The committed offsets of the judges' group; of judging partitions, no open run begins before them."""
        partitions = self.settings.partitions_of(topic)
        return committed_offsets(self.settings, self.settings.judge_group, partitions)


def result_of(record: LogRecord, codec: Codec) -> ResultRecord:
    """Raises BadRecord if it is no result."""
    event = codec.decode_as(CJBatchJudged, record.value)
    return ResultRecord(event, record.at, record.appended_at_ms)


def judging_event_of(record: LogRecord, codec: Codec) -> JudgingEvent:
    """Raises BadRecord if it is no judging record."""
    event = codec.decode(record.value)
    if not isinstance(event, JudgingEvent):
        raise Malformed(f"a {type(event).__name__}")
    if record.key != event.run_id.encode():
        raise Malformed("its key is not its run_id")
    return event
