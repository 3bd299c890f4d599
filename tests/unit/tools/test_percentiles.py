"""Percentiles, and the times of bench requests and recoveries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.coordinates import Coordinates
from tools.bench.outcomes import AnsweredRequest
from tools.bench.percentiles import Spread, percentile, spread_of
from tools.bench.recovery import recovery_of

VALUES = st.lists(st.integers(0, 1000), min_size=1).map(sorted)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7], 50, 7),
        ([7], 99, 7),
        ([1, 2], 50, 1),
        ([1, 2, 3], 50, 2),
        (range(1, 101), 99, 99),
        (range(1, 101), 100, 100),
        (range(1, 102), 99, 100),
        (range(1, 201), 99, 198),
    ],
)
def test_a_percentile_is_the_value_of_the_nearest_rank(
    values: list[int], percent: int, expected: int
) -> None:
    assert percentile(values, percent) == expected


@given(VALUES, st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_with_enough_values_up_to_it(
    values: list[int], percent: int
) -> None:
    result = percentile(values, percent)
    assert sum(value <= result for value in values) * 100 >= percent * len(values)
    assert sum(value < result for value in values) * 100 < percent * len(values)


def test_a_spread_sorts_and_rounds() -> None:
    assert spread_of([3.14159, 1.0, 2.0]) == Spread(3, p50=2.0, p99=3.1, max=3.1)


def test_the_spread_without_values_has_no_percentiles() -> None:
    assert spread_of([]) == Spread(0, None, None, None)


def request(appended_ms: int, seen_ms: int) -> AnsweredRequest:
    return AnsweredRequest(appended_ms, seen_ms - 1, seen_ms)


def test_a_recovery_is_measured_to_the_first_outcome_to_every_partition_and_to_being_caught_up() -> (
    None
):
    answers = {
        Coordinates("requests", 0, 0): request(90, 95),  # before the kill
        Coordinates("requests", 1, 0): request(99, 400),  # waiting when the kill came
        Coordinates("requests", 0, 1): request(101, 110),
        Coordinates("requests", 1, 1): request(102, 390),
        Coordinates("requests", 1, 2): request(103, 410),
        Coordinates("requests", 0, 2): request(395, 900),  # after the recovery
    }
    assert recovery_of(100, answers) == (10, 290, 310)


@pytest.mark.parametrize(
    ("appended_ms", "seen_ms", "expected"),
    [(0, 9, False), (0, 10, True), (12, 13, True), (0, 99, True), (20, 30, True), (21, 30, False)],
)
def test_a_request_is_within_a_window_if_it_waited_at_any_time_in_it(
    appended_ms: int, seen_ms: int, expected: bool
) -> None:
    assert request(appended_ms, seen_ms).is_within(10, 20) is expected
