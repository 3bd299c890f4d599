"""How far a reader is behind, from samples."""

from processors.monitoring.lag_watch import MAX_SAMPLES, Lag, LagWatch
from schemas.coordinates import Partition

TP = Partition("requests", 0)


def lag_after(*samples: tuple[float, int, int], now_s: float, read_until_s: float = 0) -> Lag:
    """The lag after samples of time, position and end."""
    watch = LagWatch()
    for sampled_s, position, end in samples:
        watch.observe(sampled_s, {TP: position}, {TP: end})
    read = {TP: read_until_s} if read_until_s else {}
    return watch.lags(now_s, read)[TP]


def test_a_reader_at_the_end_has_no_lag() -> None:
    assert lag_after((10, 5, 5), now_s=99) == Lag(0, 0)


def test_the_age_counts_from_when_the_oldest_unread_record_was_first_seen() -> None:
    assert lag_after((10, 5, 5), (11, 5, 7), (12, 5, 9), now_s=20) == Lag(4, 9)


def test_what_was_read_in_between_does_not_count() -> None:
    assert lag_after((10, 5, 5), (11, 5, 7), (12, 7, 9), now_s=20) == Lag(2, 8)


def test_a_record_after_a_long_pause_is_not_as_old_as_the_one_before_it() -> None:
    assert lag_after((10, 5, 5), (900, 5, 6), now_s=901, read_until_s=3) == Lag(1, 1)


def test_the_age_of_a_backlog_from_before_the_start_is_that_of_the_newest_record_read() -> None:
    """The oldest unread record is not older than that by much, and nothing else tells its age."""
    assert lag_after((10, 5, 100), (11, 50, 100), now_s=20, read_until_s=4) == Lag(50, 16)


def test_a_backlog_of_which_nothing_was_read_counts_from_the_start() -> None:
    assert lag_after((10, 5, 100), now_s=20) == Lag(95, 10)


def test_a_partition_that_is_no_longer_owned_is_forgotten() -> None:
    watch = LagWatch()
    watch.observe(10, {TP: 0}, {TP: 9})
    watch.observe(11, {}, {TP: 9})
    assert watch.lags(12, {}) == {}
    watch.observe(20, {TP: 0}, {TP: 9})
    assert watch.lags(21, {}) == {TP: Lag(9, 1)}


def test_a_lag_of_days_needs_bounded_memory_and_keeps_its_age() -> None:
    watch, seconds = LagWatch(), 20 * MAX_SAMPLES
    for second in range(seconds):
        watch.observe(second, {TP: 0}, {TP: second + 1})
    assert len(watch) <= MAX_SAMPLES
    assert watch.lags(seconds, {}) == {TP: Lag(seconds, seconds)}
