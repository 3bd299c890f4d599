"""Moments as an auditor writes them in options."""

from datetime import UTC, datetime

import pytest

from schemas.coordinates import Coordinates
from schemas.errors import Misconfigured
from tables.history.point_in_time import AtRecords, AtTime, Moment
from tools.times import point_in_time_from

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", AtTime(NOW_MS)),
        ("2026-03-01T12:00:00.250+01:00", AtTime(NOW_MS - 3_599_750)),
        ("2h", AtTime(NOW_MS - 7_200_000)),
        ("t/1@7", AtRecords((Coordinates("t", 1, 7),))),
        ("t/1@7, u/2@0", AtRecords((Coordinates("t", 1, 7), Coordinates("u", 2, 0)))),
    ],
)
def test_times_and_records_are_parsed_as_moments(text: str, moment: Moment) -> None:
    assert point_in_time_from(text, NOW, "--at") == moment


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-03-01T12:00:00", "2026-03-01T12:00:01Z", "t/1@", "t@7", "t/1@7,"],
)
def test_an_invalid_moment_is_refused_with_the_name_of_the_option(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"^--at: "):
        point_in_time_from(text, NOW, "--at")


def test_now_is_not_in_the_future_if_it_has_microseconds() -> None:
    assert point_in_time_from("0s", NOW.replace(microsecond=900), "--at") == AtTime(NOW_MS + 1)
