"""Moments of a real log, found by time and by coordinates."""

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
    """The three uploads of one assignment, one after the other, in three partitions."""
    for event in assignment("a1"):
        send(settings, event)
        pause(0.01)  # an append time of its own
    with LogReader(settings, partitions(settings)) as log:
        retained = log.offset_ranges()
        log.seek({one: low for one, (low, _) in retained.items()})
        ends = {one: end for one, (_, end) in retained.items()}
        return sorted(log.records_until(ends), key=lambda record: record.appended_at_ms)


def partitions(settings: Settings) -> list[Partition]:
    return [
        Partition(topic.name, number)
        for topic in settings.topics.uploads
        for number in range(settings.partitions)
    ]


def whole(at: Coordinates) -> Partition:
    return Partition(at.topic, at.partition)


def test_a_moment_stands_at_its_records_and_excludes_what_comes_later(
    settings: Settings, uploads: list[LogRecord]
) -> None:
    first, second, third = uploads
    with LogReader(settings, partitions(settings)) as log:
        by_time, by_record = AtTime(second.appended_at_ms), AtRecords((second.at,))
        for moment in (by_time, by_record):
            after, before = positions_after(log, moment), positions_from(log, moment)
            assert [after[whole(one.at)] for one in uploads] == [1, 1, 0]
            assert [before[whole(one.at)] for one in uploads] == [1, 0, 0]
        assert third.appended_at_ms > second.appended_at_ms > first.appended_at_ms


def test_a_record_that_the_log_does_not_have_is_named(
    settings: Settings, uploads: list[LogRecord]
) -> None:
    beyond = Coordinates(uploads[0].at.topic, uploads[0].at.partition, 99)
    with (
        LogReader(settings, partitions(settings)) as log,
        pytest.raises(Discrepancy, match=r"@99 is not in the log: it has \[0, 1\)"),
    ):
        positions_after(log, AtRecords((beyond,)))
