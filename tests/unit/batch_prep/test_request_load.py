"""Batch preparation is busy while full fetches follow each other."""

from processors.batch_prep.request_load import BUSY_REQUESTS, BUSY_S, RequestLoad
from processors.kafka.bounded_wait import Clock


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def load(self, batch_max: int = 5000) -> RequestLoad:
        return RequestLoad(batch_max, Clock(lambda: self.now_s))


def test_a_large_fetch_makes_it_busy_for_a_second() -> None:
    time = Time()
    load = time.load()
    load.fetched(BUSY_REQUESTS)
    assert load.is_busy()
    time.now_s += BUSY_S / 2
    load.fetched(BUSY_REQUESTS)
    time.now_s += BUSY_S - 0.01
    assert load.is_busy()
    time.now_s += 0.02
    assert not load.is_busy()


def test_small_fetches_do_not() -> None:
    load = Time().load()
    load.fetched(BUSY_REQUESTS - 1)
    assert not load.is_busy()


def test_a_full_batch_of_a_small_limit_does() -> None:
    load = Time().load(batch_max=10)
    load.fetched(10)
    assert load.is_busy()
