"""When the watchdog takes a part to have stalled, and what it names."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from processors.monitoring.progress_probes import BatchPrepProbe, ReaderProbe
from processors.monitoring.stall_detector import Progress, StallDetector
from processors.monitoring.watchdog import HELD_CHECKS, Stalled, Watchdog
from processors.monitoring.worker_status import StatusFile, WorkerStatus, statuses
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable

UPLOADS = Partition("uploads", 0)
REQUESTS = Partition("requests", 1)
LOOKS = 4


def test_looks_count_in_a_row_and_only_below_the_end() -> None:
    standstill = StallDetector()
    told = [
        standstill.observe({UPLOADS: Progress(position, end)})
        for position, end in [(5, 9), (5, 9), (5, 12), (6, 12), (6, 12), (12, 12), (12, 13)]
    ]
    assert [looks.get(UPLOADS) for looks in told] == [1, 2, 3, 1, 2, None, 1]
    assert standstill.observe({}) == {}
    assert standstill.observe({UPLOADS: Progress(12, 13)}) == {UPLOADS: 1}


class Broker:
    """Ends as a test sets them, and a worker's own positions."""

    def __init__(self) -> None:
        self.high: Positions = {UPLOADS: 10, REQUESTS: 10}
        self.stable: Positions = {UPLOADS: 10, REQUESTS: 10}
        self.replica: Positions = {UPLOADS: 10}
        self.committed: Positions = {REQUESTS: 10}
        self.is_away = False

    def ask(self, ends: Positions) -> Positions:
        if self.is_away:
            raise Unreachable("away")
        return ends


class Requests:
    """Batch preparation, every gap of which has a record."""

    name = "batch preparation"

    def __init__(self, broker: Broker, records: bool = True) -> None:
        self._records = records
        self._watched = BatchPrepProbe(
            Settings(), lambda: {REQUESTS}, lambda _owned: broker.committed
        )

    def progress(self, stable: Positions, *, uploads_pass: bool) -> Mapping[Partition, Progress]:
        return self._watched.progress(stable, uploads_pass=uploads_pass)

    def is_stalled(self, at: Partition, seen: Progress) -> bool:
        return self._records


def watchdog(broker: Broker, records: bool = True) -> Watchdog:
    replica = ReaderProbe("the context replica", lambda: broker.replica)
    return Watchdog(
        [replica, Requests(broker, records)],
        lambda: broker.ask(broker.high),
        lambda: broker.ask(broker.stable),
        [UPLOADS],
        lambda: broker.replica,
        LOOKS,
    )


def look(watchdog: Watchdog, times: int = 3 * LOOKS) -> None:
    for _ in range(times):
        watchdog.check()


def test_a_worker_at_the_end_of_everything_is_left_alone() -> None:
    look(watchdog(Broker()))


def test_a_replica_that_stands_still_below_the_end_is_named() -> None:
    broker = Broker()
    broker.replica = {UPLOADS: 7}
    watching = watchdog(broker)
    look(watching, LOOKS - 1)
    with pytest.raises(Stalled, match="the context replica stands still at uploads/0@7 for 4 s"):
        watching.check()


def test_a_replica_that_moves_however_slowly_is_left_alone() -> None:
    broker = Broker()
    watching = watchdog(broker)
    for position in range(3, 9):
        broker.replica = {UPLOADS: position}
        look(watching, LOOKS - 1)


def test_a_broker_that_is_away_stalls_nobody_and_counting_starts_anew() -> None:
    broker = Broker()
    broker.replica = {UPLOADS: 7}
    watching = watchdog(broker)
    look(watching, LOOKS - 1)
    broker.is_away = True
    look(watching)
    broker.is_away = False
    look(watching, LOOKS - 1)


def test_requests_that_are_not_committed_are_named() -> None:
    broker = Broker()
    broker.committed = {}
    with pytest.raises(Stalled, match="batch preparation stands still at requests/1@0"):
        look(watchdog(broker))


def test_markers_below_the_end_of_the_requests_are_not_waited_for() -> None:
    broker = Broker()
    broker.committed = {REQUESTS: 9}
    look(watchdog(broker, records=False))


def test_an_open_transaction_on_an_upload_partition_is_named_once_and_stalls_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cjstream.watchdog")
    broker = Broker()
    broker.stable, broker.replica = {UPLOADS: 7, REQUESTS: 10}, {UPLOADS: 7}
    broker.committed = {REQUESTS: 5}  # meant to wait
    watching = watchdog(broker)
    look(watching, HELD_CHECKS - 1)
    assert caplog.messages == []
    look(watching)
    assert caplog.messages == ["partition held by an open transaction"]
    assert vars(caplog.records[0])["at"] == "uploads/0@7"
    broker.stable, broker.replica, broker.committed = broker.high, {UPLOADS: 10}, {REQUESTS: 10}
    look(watching)
    assert caplog.messages[1:] == ["partition no longer held"]


def test_a_rebalance_is_told_in_a_file_that_is_never_half_written(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, topic_prefix="p-", slot="one")
    assert statuses(settings) == {}
    status = StatusFile(settings.worker_dir)
    status.rebalanced({REQUESTS, Partition("requests", 0)}, 1_000)
    status.rebalanced({REQUESTS}, 2_000)
    assert status.owned == {REQUESTS}
    (told,) = statuses(settings).values()
    assert told == WorkerStatus(told.pid, 2_000, 2, (1,))
    assert statuses(settings.model_copy(update={"topic_prefix": "other-"})) == {}
    (settings.worker_dir / "status.json").write_text("{")
    assert statuses(settings) == {}
