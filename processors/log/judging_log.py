"""Results, unresolved batches and judging records, read outside any consumer group, and the runs that they tell."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.log.record_lookup import records_at
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import BadRecord, Discrepancy, Malformed
from schemas.judging_events import CJBatchJudged, JudgingEvent, JudgingOpened, RecordRange
from schemas.topics import Topic
from tables.judging.run import Run, fold


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """A result and where it is."""

    result: CJBatchJudged
    at: Coordinates
    appended_at_ms: int


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """A run, and the coordinates and append time of its first record."""

    run: Run
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


def judged_run(log: JudgingLog, codec: Codec, judging: RecordRange, run_id: str) -> Run:
    """The run whose records are in this range. Raises Discrepancy if the log no longer has them, and Unreachable."""
    partition, key = Partition(judging.topic, judging.partition), run_id.encode()
    run: Run | None = None
    for record in log.records({partition: judging.start}, {partition: judging.end}):
        if record.key == key:
            run = folded(run, record, codec)
    if run is None:
        raise Discrepancy(f"run {run_id}: {partition} has no record of it")
    return run


def folded(run: Run | None, record: LogRecord, codec: Codec) -> Run:
    """The run after one more of its records. Raises Discrepancy, which names the record."""
    try:
        return fold(run, judging_event_of(record, codec))
    except (BadRecord, Discrepancy) as fault:
        raise Discrepancy(f"{record.at}: {fault}") from fault


def open_runs(log: JudgingLog, codec: Codec) -> list[LoggedRun]:
    """The runs that have not stopped. Raises Unreachable, Discrepancy.

    A record that contradicts its run is left out here: `audit verify` reports it.
    """
    topic = log.settings.topics.judging
    ranges, committed = log.ranges_of(topic), log.committed(topic)
    starts = {tp: min(max(low, committed.get(tp, low)), end) for tp, (low, end) in ranges.items()}
    runs = dict[bytes, LoggedRun]()
    for record in log.records(starts, {tp: end for tp, (_, end) in ranges.items()}):
        with suppress(BadRecord, Discrepancy):
            event, known = judging_event_of(record, codec), runs.get(record.key or b"")
            if known is not None:
                run = LoggedRun(fold(known.run, event), known.at, known.appended_at_ms)
            elif isinstance(event, JudgingOpened):
                run = LoggedRun(fold(None, event), record.at, record.appended_at_ms)
            else:
                continue  # of a run that had stopped before the committed offset
            runs[record.key or b""] = run
            if run.run.stopped is not None:
                del runs[record.key or b""]
    return list(runs.values())
