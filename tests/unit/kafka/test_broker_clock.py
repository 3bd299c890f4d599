"""The estimate of the broker's time is never ahead, for append times in any order."""

from hypothesis import given
from hypothesis import strategies as st

from processors.kafka.broker_clock import BrokerClock


class Stopwatch:
    """A monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_the_time_advances_from_the_newest_append_time() -> None:
    watch = Stopwatch()
    clock = BrokerClock(watch)
    clock.observe(50_000)
    watch.seconds += 2
    clock.observe(50_500)  # appended long before it was observed
    assert clock.now_ms == 52_000
    clock.observe(60_000)
    assert clock.now_ms == 60_000


def test_no_deadline_has_passed_before_the_first_record_is_observed() -> None:
    assert BrokerClock().now_ms == 0


@given(st.integers(0, 2**41), st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50))))
def test_the_estimate_is_never_ahead_of_the_broker(
    ahead_ms: int, steps: list[tuple[float, float]]
) -> None:
    watch = Stopwatch()
    clock = BrokerClock(watch)
    for elapsed_s, late_s in steps:
        watch.seconds += elapsed_s
        clock.observe(ahead_ms + int((watch.seconds - late_s) * 1000))
        assert clock.now_ms <= ahead_ms + watch.seconds * 1000 + 1
