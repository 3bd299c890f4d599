"""`cjstream results tail`: an example of a consumer of results.

1. continue at the committed position of a group  2. decode each record by its schema  3. pass on each run once
4. commit the position after the result was passed on: after a crash it comes again, and is never lost

It joins no group: of one group, run one at a time.
"""

from collections.abc import Iterator
from contextlib import suppress

from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import committed_offsets, set_committed_offsets
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import checked_topics
from processors.log.judging_log import ResultRecord, result_of
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import BadRecord


def tail_results(settings: Settings, group: str, *, follow: bool) -> Iterator[ResultRecord]:
    """The results behind the group's position, each run once; with `follow` without end.

    The position of a result is committed when the next one is asked for. Raises Unreachable, Refusal, Discrepancy.
    """
    checked_topics(admin_client(settings), settings)
    partitions, codec = settings.partitions_of(settings.topics.results), codec_for(settings)
    passed_on = set[str]()
    with LogReader(settings, partitions) as log:
        ends = log.seek_to_start()
        starts = dict(log.positions()) | dict(committed_offsets(settings, group, partitions))
        log.seek(starts)  # 1
        for records in _polled(log, ends, follow=follow):
            for record in records:
                with suppress(BadRecord):  # `audit verify` reports what is no result
                    found = result_of(record, codec)  # 2
                    if found.result.run_id not in passed_on:
                        yield found  # 3
                        passed_on.add(found.result.run_id)
            if records:
                set_committed_offsets(settings, group, _positions_after(records))  # 4


def _polled(log: LogReader, ends: Positions, *, follow: bool) -> Iterator[list[LogRecord]]:
    positions = log.positions()
    while follow or any(positions[partition] < end for partition, end in ends.items()):
        yield log.read()
        positions = log.positions()


def _positions_after(records: list[LogRecord]) -> Positions:
    return {Partition(at.topic, at.partition): at.offset + 1 for at in (one.at for one in records)}
