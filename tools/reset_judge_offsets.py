"""`cjstream batches reset-offsets`: the offsets that the judges must continue from, found from runs and results.

A group without members loses its committed offsets after a time (Kafka's `offsets.retention.minutes`, 7 days).
"""

from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import committed_offsets, group_state, set_committed_offsets
from processors.kafka.offsets import with_open_transactions
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import checked_topics
from processors.log.judging_log import JudgingLog, judging_event_of, result_of
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import BadRecord, Discrepancy, Refusal
from schemas.judging_events import JudgingOpened, JudgingStopped
from tools.printing import number_of

CLOCK_TOLERANCE_MS = 60_000  # brokers' clocks may differ


@dataclass(frozen=True, slots=True)
class FoundOffsets:
    """Where the judges must continue in one partition: with the next batch, and in the log with its oldest open run.

    last_judged: the highest batch that has a run or a result.
    """

    partition: int
    committed: int | None
    log_start: int
    log_end: int
    last_judged: int | None
    offset: int
    judging_committed: int | None
    judging_offset: int
    was_set: bool = False

    @property
    def is_right(self) -> bool:
        """Whether the committed offsets are these; an open run may begin behind the judging log's offset."""
        is_low = (
            self.judging_committed is not None and self.judging_committed <= self.judging_offset
        )
        return self.committed == self.offset and is_low


@dataclass(slots=True)
class _Judged:
    """What the runs and results of one partition say."""

    last: int | None = None
    open_runs: dict[str, int] = field(default_factory=dict)  # where each begins
    first_ms: int | None = None  # append time of the first record

    def add(self, batch: Coordinates, partition: Partition, appended_at_ms: int) -> None:
        """Note a batch that has a run or a result."""
        if (batch.topic, batch.partition) == partition:
            self.last = max(batch.offset, -1 if self.last is None else self.last)
            self.first_ms = min(appended_at_ms, self.first_ms or appended_at_ms)


def reset_offsets(settings: Settings, *, yes: bool) -> tuple[int, list[FoundOffsets]]:
    """The number of members, and what was found; with `yes`, offsets that differ are committed.

    Raises Refusal if `yes` and the group has members, Discrepancy if an open transaction hides records, Unreachable.
    """
    checked_topics(admin_client(settings), settings)
    topics = settings.topics
    hidden = with_open_transactions(
        settings, settings.partitions_of(topics.judging, topics.results)
    )
    if hidden:
        raise Discrepancy(
            f"open transactions hide records in {', '.join(map(str, hidden))}: wait, or end them"
            " with `cjstream topics abort-transaction`"
        )
    members = retry_while_unreachable(
        lambda: group_state(settings, settings.judge_group, []), what="the group's coordinator"
    ).members
    found = _found(settings)
    wanted = [one for one in found if not one.is_right]
    if not yes:
        return members, found
    if members:
        raise Refusal(
            f"the group has {number_of(members, 'member')}: stop all judges first"
            f" (one that was killed counts for {settings.session_timeout_s} s)"
        )
    offsets = {Partition(topics.batches.name, one.partition): one.offset for one in wanted}
    offsets |= {Partition(topics.judging.name, one.partition): one.judging_offset for one in wanted}
    if wanted:
        set_committed_offsets(settings, settings.judge_group, offsets)
    return members, [replace(one, was_set=one in wanted) for one in found]


def document_of(members: int, found: list[FoundOffsets], *, dry_run: bool) -> dict[str, Any]:
    """The document for `--json`."""
    return {"dry_run": dry_run, "members": members, "partitions": list(map(asdict, found))}


def _found(settings: Settings) -> list[FoundOffsets]:
    topics, log, codec = settings.topics, JudgingLog(settings), codec_for(settings)
    batches = log.ranges_of(topics.batches)
    judging, results = log.ranges_of(topics.judging), log.ranges_of(topics.results)
    committed = committed_offsets(settings, settings.judge_group, [*batches, *judging])
    judged = {number: _Judged() for number in range(settings.partitions)}
    for ranges in (judging, results):
        starts = {tp: start for tp, (start, end) in ranges.items() if start < end}
        if starts:
            for record in log.records(starts, {tp: ranges[tp][1] for tp in starts}):
                _add(judged[record.at.partition], record, codec, settings)
    first_ms = min((one.first_ms for one in judged.values() if one.first_ms), default=None)
    since = _offsets_since(settings, first_ms)
    found = []
    for partition, (low, end) in batches.items():
        of_partition = judged[partition.partition]
        judging_partition = Partition(topics.judging.name, partition.partition)
        start = since.get(partition, low if settings.judge_first_start == "beginning" else end)
        last = of_partition.last
        found.append(
            FoundOffsets(
                partition.partition,
                committed.get(partition),
                low,
                end,
                last,
                max(low, start if last is None else last + 1),
                committed.get(judging_partition),
                min([*of_partition.open_runs.values(), judging[judging_partition][1]]),
            )
        )
    return found


def _add(judged: _Judged, record: LogRecord, codec: Codec, settings: Settings) -> None:
    partition = Partition(settings.topics.batches.name, record.at.partition)
    with suppress(BadRecord):  # which `audit verify` reports
        if record.at.topic == settings.topics.results.name:
            result = result_of(record, codec).result
            judged.add(result.provenance.batch, partition, record.appended_at_ms)
            return
        event = judging_event_of(record, codec)
        if isinstance(event, JudgingOpened):
            judged.add(event.batch, partition, record.appended_at_ms)
            judged.open_runs.setdefault(event.run_id, record.at.offset)
        elif isinstance(event, JudgingStopped):
            judged.open_runs.pop(event.run_id, None)


def _offsets_since(settings: Settings, first_ms: int | None) -> dict[Partition, int]:
    """The first batch of each partition that is not older than the first run of all: older ones are left alone."""
    if first_ms is None or settings.judge_first_start == "beginning":
        return {}
    with LogReader(settings, settings.partitions_of(settings.topics.batches)) as log:
        return log.offsets_since(first_ms - CLOCK_TOLERANCE_MS)
