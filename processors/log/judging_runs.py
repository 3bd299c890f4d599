"""The runs that the judging log tells: folded from their records."""

from contextlib import suppress
from dataclasses import dataclass

from processors.kafka.records import LogRecord
from processors.log.judging_log import JudgingLog, judging_event_of
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import BadRecord, Discrepancy
from schemas.judging_events import JudgingOpened, RecordRange
from tables.judging.run import Run, fold


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """A run, and the coordinates and append time of its first record."""

    run: Run
    at: Coordinates
    appended_at_ms: int


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
