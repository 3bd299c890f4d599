"""What one transaction of the judge process will write."""

from dataclasses import dataclass, field

from processors.judging.calls import CallToSend
from processors.judging.judges.judge import CallId
from processors.judging.observer import CommittedCall, CommittedResult
from processors.judging.open_runs import OpenRun
from processors.judging.record_checksum import checksum_headers
from processors.kafka.records import Record
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.judging_events import CJBatchJudged, JudgingEvent
from schemas.topics import Topics
from tables.judging.run import Run, fold


@dataclass(frozen=True, slots=True)
class JudgingRecords:
    """Judging events and results as records of their topics."""

    topics: Topics
    codec: Codec

    def of_event(self, event: JudgingEvent, number: int) -> Record:
        """number: of the partition."""
        value = self.codec.encode(event)
        topic = self.topics.judging.name
        return Record(topic, number, event.run_id.encode(), value, checksum_headers(value))

    def of_result(self, result: CJBatchJudged, number: int, key: bytes | None) -> Record:
        """number: of the partition; key: of the batch."""
        value = self.codec.encode(result)
        return Record(self.topics.results.name, number, key, value, checksum_headers(value))


@dataclass(slots=True)
class Draft:
    """Records in order, and what they change. runs: each changed run, None once it has stopped."""

    encoded: JudgingRecords
    records: list[Record] = field(default_factory=list)
    runs: dict[str, Run | None] = field(default_factory=dict)
    writers: list[str | None] = field(
        default_factory=list
    )  # of each record: its run, None for a result
    numbers: set[int] = field(default_factory=set)  # partitions
    next_offsets: dict[Partition, int] = field(default_factory=dict)  # of batches
    calls: list[CallToSend] = field(default_factory=list)
    ended: list[CallId] = field(default_factory=list)
    outcomes: list[CommittedCall] = field(default_factory=list)  # for metrics, as the next one
    results: list[CommittedResult] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.records and not self.next_offsets

    def run_of(self, one: OpenRun) -> Run | None:
        """An open run after the records so far."""
        return self.runs.get(one.run.opened.run_id, one.run)

    def consume(self, at: Coordinates) -> None:
        """Commit the position after a fetched batch."""
        self.next_offsets[Partition(at.topic, at.partition)] = at.offset + 1
        self.numbers.add(at.partition)

    def add(self, run: Run | None, event: JudgingEvent, number: int) -> Run:
        """Add a judging record; returns the run after it. Raises Discrepancy."""
        self._append(self.encoded.of_event(event, number), event.run_id)
        after = fold(run, event)
        self.runs[event.run_id] = after
        return after

    def add_result(self, committed: CommittedResult, number: int, key: bytes | None) -> None:
        """Add the result of a batch."""
        self._append(self.encoded.of_result(committed.result, number, key), None)
        self.results.append(committed)

    def _append(self, record: Record, writer: str | None) -> None:
        self.records.append(record)
        self.writers.append(writer)
        self.numbers.add(record.partition)
