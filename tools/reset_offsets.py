"""`cjstream requests reset-offsets`: the offsets that batch preparation must continue from, found from the outcomes.

A group without members loses its committed offsets after a time (Kafka's `offsets.retention.minutes`, 7 days).
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import committed_offsets, group_state, set_committed_offsets
from processors.kafka.offsets import with_open_transactions
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import is_marker
from schemas.errors import Discrepancy, Refusal
from tools.audit.check.findings import Violation
from tools.audit.check.full_check import request_coordinates
from tools.following_parked import following_parked
from tools.printing import number_of

EVENT_ID = re.compile(rb"/\d{1,10}@(\d{1,19})")
MAX_EVENT_ID = 400  # bytes from the start of an outcome, in which its event id ends
FIRST_CHUNK = 20_000  # offsets
MAX_NAMED = 1000  # records that do not count


@dataclass(frozen=True, slots=True)
class FoundOffset:
    """The offset from which requests of a partition have no outcome, and the one that is committed."""

    partition: int
    committed: int | None
    log_start: int
    log_end: int
    last_done: int | None  # the highest request that has an outcome or is parked
    was_set: bool = False

    @property
    def offset(self) -> int:
        """The offset to continue from."""
        return self.log_start if self.last_done is None else max(self.log_start, self.last_done + 1)


@dataclass(frozen=True, slots=True)
class FoundOffsets:
    """What was found of each partition; strangers are records that do not count, with the reason."""

    members: int
    partitions: tuple[FoundOffset, ...]
    strangers: dict[Coordinates, str]


def reset_offsets(settings: Settings, *, yes: bool) -> FoundOffsets:
    """Find the offsets, and with `yes` commit those that differ from the committed ones.

    Raises Refusal if `yes` and the group has members, Discrepancy if an open transaction hides outcomes, Unreachable.
    """
    checked_topics(admin_client(settings), settings)
    found = _found_offsets(settings)
    if not yes:
        return found
    if found.members:
        raise Refusal(
            f"the group has {number_of(found.members, 'member')}: stop all workers first"
            f" (one that was killed counts for {settings.session_timeout_s} s)"
        )
    wanted = [one for one in found.partitions if one.committed != one.offset]
    if wanted:
        topic = settings.topics.requests.name
        offsets = {Partition(topic, one.partition): one.offset for one in wanted}
        set_committed_offsets(settings, settings.prep_group, offsets)
    return replace(
        found, partitions=tuple(replace(one, was_set=one in wanted) for one in found.partitions)
    )


def row_of(one: FoundOffset) -> tuple[int | str | None, ...]:
    """One partition for people, in the order of the command's columns."""
    offsets = (one.committed, one.log_start, one.log_end, one.last_done, one.offset)
    return (one.partition, *offsets, "yes" if one.was_set else "")


def document_of(found: FoundOffsets, *, dry_run: bool) -> dict[str, Any]:
    """The document for `--json`."""
    return {
        "dry_run": dry_run,
        "members": found.members,
        "partitions": [{**asdict(one), "offset": one.offset} for one in found.partitions],
        "strangers": {str(at): reason for at, reason in found.strangers.items()},
    }


def _found_offsets(settings: Settings) -> FoundOffsets:
    requests = settings.partitions_of(settings.topics.requests)
    group = retry_while_unreachable(
        lambda: group_state(settings, settings.prep_group, []), what="the group's coordinator"
    )
    committed = committed_offsets(settings, settings.prep_group, requests)
    with LogReader(settings, requests) as log:
        ranges = log.offset_ranges()
    ends = {partition: end for partition, (_, end) in ranges.items()}
    search = OutcomeSearch(settings, codec_for(settings), ends)
    search.run()
    last_done = search.last_done
    starts = {tp: max(low, last_done.get(tp, -1) + 1) for tp, (low, _) in ranges.items()}
    parked = following_parked(settings, starts, ends)
    last_done |= parked.last
    return FoundOffsets(
        group.members,
        tuple(
            FoundOffset(tp.partition, committed.get(tp), *ranges[tp], last_done.get(tp))
            for tp in requests
        ),
        search.strangers | parked.strangers,
    )


class OutcomeSearch:
    """The highest request of each partition that has a committed outcome."""

    def __init__(self, settings: Settings, codec: Codec, ends: dict[Partition, int]) -> None:
        self._settings = settings
        self._codec = codec
        self._ends = ends  # of the request partitions
        self._events = {settings.topics.batches.name, settings.topics.unresolved.name}
        self.last_done: dict[Partition, int] = {}
        self.strangers: dict[Coordinates, str] = {}

    def run(self) -> None:
        """Read the outcomes. Raises Discrepancy, Unreachable."""
        topics = self._settings.topics
        outcomes = self._settings.partitions_of(*topics.outcomes)
        parked = self._settings.partitions_of(topics.parked)
        if hidden := with_open_transactions(self._settings, [*outcomes, *parked]):
            raise Discrepancy(
                f"open transactions hide records in {', '.join(map(str, hidden))}: wait, or end them"
                " with `cjstream topics abort-transaction`"
            )
        with LogReader(self._settings, outcomes) as log:
            for record in _newest_first(log):
                self._add(record)

    def _add(self, record: LogRecord) -> None:
        partition = Partition(self._settings.topics.requests.name, record.at.partition)
        last = self.last_done.get(partition, -1)
        if record.at.topic in self._events and _claimed_offset(record.value or b"") <= last:
            return  # the usual case, as the newest outcomes are read first
        if is_marker(record.headers):
            return  # of a dead letter that was re-driven
        at = request_coordinates(record, self._codec, self._settings.topics)
        if isinstance(at, Violation):
            self._skip(record.at, at.sentence)
        elif (at.topic, at.partition) != partition or at.offset >= self._ends[partition]:
            self._skip(record.at, f"it names {at}, which is not a request of its partition")
        else:
            self.last_done[partition] = max(last, at.offset)

    def _skip(self, at: Coordinates, reason: str) -> None:
        if len(self.strangers) < MAX_NAMED:
            self.strangers[at] = reason


def _claimed_offset(outcome: bytes) -> int:
    """The request offset in an outcome's event id, without a check of the event; larger than any if there is none."""
    found = EVENT_ID.search(outcome[:MAX_EVENT_ID])
    return 1 << 63 if found is None else int(found[1])


def _newest_first(log: LogReader) -> Iterator[LogRecord]:
    """Every record, in chunks from the end of the log to its start."""
    ranges = log.offset_ranges()
    starts = {partition: end for partition, (_, end) in ranges.items()}
    lows = {partition: low for partition, (low, _) in ranges.items()}
    chunk = FIRST_CHUNK
    while starts != lows:
        stops = starts
        starts = {
            partition: max(lows[partition], stop - chunk) for partition, stop in stops.items()
        }
        log.seek(starts)
        yield from log.records_until(stops)
        chunk *= 2
