"""The positions of moments in the log of a real broker, by time and by coordinates."""

import pytest

from processors.kafka.records import LogRecord
from processors.log.offsets_at import positions_after, positions_from
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Discrepancy
from tables.history.point_in_time import AtRecords, AtTime
from tests.faults.asking import pause
from tests.faults.load import assignment, send


@pytest.fixture
def uploads(settings: Settings) -> list[LogRecord]:
    """The three uploads of one assignment, appended one after the other to three partitions."""
    for event in assignment("a1"):
        send(settings, event)
        pause(0.01)  # so that each upload has a different append time
    with LogReader(settings, partitions(settings)) as log:
        ranges = log.offset_ranges()
        log.seek({partition: start for partition, (start, _) in ranges.items()})
        ends = {partition: end for partition, (_, end) in ranges.items()}
        return sorted(log.records_until(ends), key=lambda record: record.appended_at_ms)


def partitions(settings: Settings) -> list[Partition]:
    return [
        Partition(topic.name, number)
        for topic in settings.topics.uploads
        for number in range(settings.partitions)
    ]


def partition_of(at: Coordinates) -> Partition:
    return Partition(at.topic, at.partition)


def test_a_moment_includes_its_records_and_excludes_later_ones(
    settings: Settings, uploads: list[LogRecord]
) -> None:
    first, second, third = uploads
    with LogReader(settings, partitions(settings)) as log:
        by_time, by_record = AtTime(second.appended_at_ms), AtRecords((second.at,))
        for moment in (by_time, by_record):
            after, before = positions_after(log, moment), positions_from(log, moment)
            assert [after[partition_of(record.at)] for record in uploads] == [1, 1, 0]
            assert [before[partition_of(record.at)] for record in uploads] == [1, 0, 0]
        assert third.appended_at_ms > second.appended_at_ms > first.appended_at_ms


def test_a_record_that_is_not_in_the_log_is_a_discrepancy(
    settings: Settings, uploads: list[LogRecord]
) -> None:
    past_the_end = Coordinates(uploads[0].at.topic, uploads[0].at.partition, 99)
    with (
        LogReader(settings, partitions(settings)) as log,
        pytest.raises(Discrepancy, match=r"@99 is not in the log, which has \[0, 1\)"),
    ):
        positions_after(log, AtRecords((past_the_end,)))
