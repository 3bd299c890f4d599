"""Follows a run in the log, from its request to its result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.errors import BadRecord, Discrepancy
from schemas.events import CJAssessmentRequested
from schemas.judging_events import JudgingEvent
from tools.runner.collected_run import CollectedRecord, CollectedRun
from tools.runner.run_records import RunRecords

CLOCKS_DIFFER_MS = 60_000  # of brokers, by which append times of two partitions may contradict
Progress = Callable[[RunRecords, JudgingEvent], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to follow: `now_s` is a monotonic clock."""

    until_s: float
    now_s: Callable[[], float]

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.now_s() >= self.until_s


def records_of(request: LogRecord, settings: Settings, codec: Codec) -> RunRecords:
    """The run of a request, of which nothing was read yet. Raises Discrepancy."""
    try:
        event = codec.decode_as(CJAssessmentRequested, request.value)
    except BadRecord as fault:
        raise Discrepancy(f"{request.at}: {fault}") from fault
    collected = CollectedRecord(request.at, request.appended_at_ms, event)
    return RunRecords(codec=codec, topics=settings.topics, request=collected)


def follow(settings: Settings, records: RunRecords, patience: Patience, on_event: Progress) -> None:
    """Read the run's records until it is over or time is up. Raises Discrepancy, Unreachable.

    While no broker answers, it goes on waiting: the client connects again by itself.
    """
    with LogReader(settings, _partitions(settings, records)) as log:
        log.seek(log.offsets_since(records.request.appended_at_ms - CLOCKS_DIFFER_MS))
        while not records.is_over and not patience.is_over:
            for record in log.read():
                event = records.take(record)
                if event is not None:
                    on_event(records, event)


def read_run(settings: Settings, records: RunRecords) -> None:
    """Read what the log has of a run now. Raises Discrepancy, Unreachable."""
    partitions = _partitions(settings, records)
    ends = high_watermarks_when_reachable(settings, partitions)
    with LogReader(settings, partitions) as log:
        log.seek(log.offsets_since(records.request.appended_at_ms - CLOCKS_DIFFER_MS))
        for record in log.records_until(ends):
            records.take(record)


def _partitions(settings: Settings, records: RunRecords) -> list[Partition]:
    """Where the records of a run are: in the partitions with the number of its request's."""
    topics, number = settings.topics, records.request.at.partition
    followed = (
        topics.batches,
        topics.unresolved,
        topics.requests_dlq,
        topics.judging,
        topics.results,
    )
    return [Partition(topic.name, number) for topic in followed]


def collected_run(
    manifest_id: str, manifest: Mapping[str, Any], records: RunRecords
) -> CollectedRun:
    """What was read of a run, for its artefact."""
    return CollectedRun(
        manifest_id=manifest_id,
        manifest=manifest,
        request=records.request,
        batch=records.batch,
        judging=tuple(records.judging),
        result=records.result,
    )
