"""The catch-up of a replica: it is awaited, logged and displayed."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from processors.fold.catch_up import REPORT_S, wait_until_caught_up
from processors.kafka.bounded_wait import Clock
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.topics import Topics
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import UploadTopics

ONE, TWO = Partition("uploads", 0), Partition("uploads", 1)


class Shown:
    """A display that keeps the numbers that it got."""

    def __init__(self) -> None:
        self.totals: list[tuple[str, int]] = []
        self.done = 0

    @contextmanager
    def __call__(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        self.totals.append((what, total))
        yield self._add

    def _add(self, more: int) -> None:
        self.done += more


@pytest.fixture
def replica() -> ContextReplica:
    topics = Topics()
    by_name = {topic.name: topic for topic in topics.uploads}
    replica = ContextReplica(MemoryStore(), Codec(), UploadTopics(by_name, 4))
    replica.open({})
    return replica


def advancing(replica: ContextReplica, *steps: tuple[int, int]) -> Clock:
    """A clock whose every reading takes REPORT_S and advances the replica by one step; the last one stays."""
    left, now = list(steps), iter(range(10_000))

    def monotonic() -> float:
        if left:
            one, two = left.pop(0)
            replica.advance({ONE: one, TWO: two})
        return next(now) * REPORT_S

    return Clock(monotonic=monotonic)


def test_a_long_catch_up_is_logged_and_displayed(
    replica: ContextReplica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cjstream.replica")
    shown, clock = Shown(), advancing(replica, (100, 0), (300, 0), (1000, 150), (1000, 600))
    wait_until_caught_up(replica, {ONE: 1000, TWO: 500}, lambda: False, shown, clock)
    assert shown.totals == [("uploads", 1400)]
    assert shown.done == 1400  # what goes beyond the ends is not counted
    steps = [(record.message, getattr(record, "at", None)) for record in caplog.records]
    assert steps[0] == ("waiting for the replica to fold the uploads", None)
    assert ("the replica folds the uploads", 300) in steps
    assert steps[-1] == ("replica caught up", None)


def test_a_replica_that_is_there_logs_no_progress(
    replica: ContextReplica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cjstream.replica")
    replica.advance({ONE: 7})
    wait_until_caught_up(replica, {ONE: 7, TWO: 0}, lambda: False)
    assert len(caplog.records) == 2


def test_the_wait_ends_when_the_process_stops(
    replica: ContextReplica, caplog: pytest.LogCaptureFixture
) -> None:
    stopping = threading.Event()
    stopping.set()
    wait_until_caught_up(replica, {ONE: 7}, stopping.is_set)
    assert "replica caught up" not in caplog.text
