"""Finds results in the log: those of one batch, or the newest."""

from collections.abc import Iterator
from contextlib import suppress
from heapq import nlargest

from processors.kafka.records import LogRecord
from processors.log.judging_log import JudgingLog, ResultRecord, result_of
from processors.log.judging_runs import LoggedRun, judged_run, open_runs
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.errors import BadRecord, Discrepancy
from schemas.partitioner import partition_for
from tables.judging.run import Run

Range = tuple[int, int]


def results_of_batch(log: JudgingLog, codec: Codec, batch_id: str) -> list[ResultRecord]:
    """The results of a batch id, oldest first. Raises Unreachable, Discrepancy.

    Searches the partition of the id as a key, to which our own tools send the request; if it has none, all of them.
    """
    ranges = log.ranges_of(log.settings.topics.results)
    number = partition_for(batch_id.encode(), log.settings.partitions)
    own = {tp: span for tp, span in ranges.items() if tp.partition == number}
    others = {tp: span for tp, span in ranges.items() if tp.partition != number}
    for searched in (own, others):
        found = [
            result
            for record in _records_in(log, searched)
            if batch_id.encode() in (record.value or b"")
            and (result := _result(record, codec)) is not None
            and result.result.batch_id == batch_id
        ]
        if found:
            return sorted(found, key=lambda one: one.appended_at_ms)
    return []


def result_of_batch(
    log: JudgingLog, codec: Codec, batch_id: str, run_id: str | None = None
) -> ResultRecord | None:
    """The newest result of a batch id, or that of a run; None if there is none. Raises Unreachable, Discrepancy."""
    found = results_of_batch(log, codec, batch_id)
    wanted = [one for one in found if run_id in (None, one.result.run_id)]
    return wanted[-1] if wanted else None


def open_run_of_batch(
    log: JudgingLog, codec: Codec, batch_id: str, run_id: str | None = None
) -> LoggedRun | None:
    """The newest open run of a batch id, or the one with this id. Raises Unreachable, Discrepancy."""
    runs = [
        one
        for one in open_runs(log, codec)
        if one.run.opened.batch_id == batch_id and run_id in (None, one.run.opened.run_id)
    ]
    return max(runs, key=lambda one: one.appended_at_ms, default=None)


def newest_results(
    log: JudgingLog, codec: Codec, limit: int, assignment_id: str | None = None
) -> list[ResultRecord]:
    """The newest results, newest first, of one assignment or of all. Raises Unreachable, Discrepancy.

    Reads each partition backwards until it has `limit` of them: together they hold the newest of all.
    """
    found = list[ResultRecord]()
    for partition, (low, end) in log.ranges_of(log.settings.topics.results).items():
        chunk, stop, kept = 2 * limit, end, list[ResultRecord]()
        while stop > low and len(kept) < limit:
            start = max(low, stop - chunk)
            results = _results_in(log, codec, {partition: (start, stop)})
            kept = [
                one for one in results if assignment_id in (None, one.result.context.assignment_id)
            ] + kept
            stop, chunk = start, 2 * chunk
        found += kept[-limit:] if limit else []
    return nlargest(limit, found, key=lambda one: (one.appended_at_ms, one.at))


def _results_in(
    log: JudgingLog, codec: Codec, ranges: dict[Partition, Range]
) -> list[ResultRecord]:
    found = (_result(record, codec) for record in _records_in(log, ranges))
    return [one for one in found if one is not None]


def _records_in(log: JudgingLog, ranges: dict[Partition, Range]) -> Iterator[LogRecord]:
    starts = {tp: start for tp, (start, end) in ranges.items() if start < end}
    if starts:
        yield from log.records(starts, {tp: ranges[tp][1] for tp in starts})


def _result(record: LogRecord, codec: Codec) -> ResultRecord | None:
    """The result in a record; None if some other producer wrote it, which `audit verify` reports."""
    with suppress(BadRecord):
        return result_of(record, codec)
    return None


def run_of_batch(
    log: JudgingLog, codec: Codec, batch_id: str, run_id: str | None = None
) -> tuple[Run, ResultRecord | None]:
    """The run of a batch, and its result if it has one. Raises Discrepancy if there is no run, and Unreachable."""
    found = result_of_batch(log, codec, batch_id, run_id)
    if found is None:
        logged = open_run_of_batch(log, codec, batch_id, run_id)
        if logged is None:
            raise Discrepancy(f"the log has neither a result nor an open run of batch {batch_id}")
        return logged.run, None
    judging = found.result.provenance.judging
    if judging is None:
        raise Discrepancy(
            f"batch {batch_id} was refused ({found.result.reason}): nothing was compared"
        )
    return judged_run(log, codec, judging, found.result.run_id), found
