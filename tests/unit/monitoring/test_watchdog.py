"""When the watchdog considers a part stalled, and what it reports."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from processors.kafka.transactions import OpenTransaction
from processors.monitoring.progress_probes import (
    ConsumedGroup,
    batch_prep_probe,
    membership_probe,
    reader_probe,
)
from processors.monitoring.stall_detector import Progress, StallDetector
from processors.monitoring.watchdog import BLOCKED_CHECKS, Stalled, Watchdog, in_background
from processors.monitoring.worker_status import StatusFile, WorkerStatus, statuses
from processors.settings import Settings
from processors.shutdown import Shutdown
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable
from tests.support.run_command import ROOT

UPLOADS = Partition("uploads", 0)
REQUESTS = Partition("requests", 1)
CHECKS = 4


def test_only_observations_in_a_row_and_below_the_end_count() -> None:
    detector = StallDetector()
    counts = [
        detector.observe({UPLOADS: Progress(position, end)})
        for position, end in [(5, 9), (5, 9), (5, 12), (6, 12), (6, 12), (12, 12), (12, 13)]
    ]
    assert [count.get(UPLOADS) for count in counts] == [1, 2, 3, 1, 2, None, 1]
    assert detector.observe({}) == {}
    assert detector.observe({UPLOADS: Progress(12, 13)}) == {UPLOADS: 1}


class Broker:
    """The ends of the log and the positions of a worker, as a test sets them."""

    def __init__(self) -> None:
        self.high: Positions = {UPLOADS: 10, REQUESTS: 10}
        self.stable: Positions = {UPLOADS: 10, REQUESTS: 10}
        self.replica: Positions = {UPLOADS: 10}
        self.committed: Positions = {REQUESTS: 10}
        self.stopped: set[Partition] = set()
        self.is_away = self.coordinator_is_away = False

    def committed_offsets(self, _owned: Collection[Partition]) -> Positions:
        if self.coordinator_is_away:
            raise Unreachable("not coordinator")
        return self.committed

    def query(self, ends: Positions) -> Positions:
        if self.is_away:
            raise Unreachable("away")
        return ends


def open_on(partitions: Collection[Partition]) -> list[OpenTransaction]:
    return [OpenTransaction(tp, 7, 2, 0, 7, 1_000, "t1", "Ongoing", 500) for tp in partitions]


def watchdog_of(broker: Broker, records: bool = True) -> Watchdog:
    """A watchdog of the replica and batch preparation; `records` says whether a gap contains a record."""
    replica = reader_probe("the context replica", lambda: broker.replica)
    requests = batch_prep_probe(Settings(), lambda: {REQUESTS}, broker.committed_offsets)
    return Watchdog(
        [replica, replace(requests, is_stalled=lambda *_: records)],
        lambda: broker.query(broker.high),
        lambda: broker.query(broker.stable),
        [UPLOADS],
        lambda: broker.replica,
        lambda: broker.stopped,
        open_on,
        CHECKS,
    )


def check(watchdog: Watchdog, times: int = 3 * CHECKS) -> None:
    for _ in range(times):
        watchdog.check()


def test_a_worker_at_the_end_of_every_partition_is_not_stalled() -> None:
    check(watchdog_of(Broker()))


def test_a_replica_that_does_not_advance_to_the_end_is_named() -> None:
    broker = Broker()
    broker.replica = {UPLOADS: 7}
    watchdog = watchdog_of(broker)
    check(watchdog, CHECKS - 1)
    with pytest.raises(
        Stalled, match="the context replica makes no progress at uploads/0@7 for 4 s"
    ):
        watchdog.check()


def test_a_partition_that_an_upload_of_a_later_release_has_stopped_is_no_stall() -> None:
    broker = Broker()
    broker.replica, broker.stopped = {UPLOADS: 7}, {UPLOADS}
    check(watchdog_of(broker))
    broker.committed = {}  # of the other partitions' requests
    with pytest.raises(Stalled, match="batch preparation makes no progress at requests/1@0"):
        check(watchdog_of(broker))


def test_a_slow_replica_is_not_stalled() -> None:
    broker = Broker()
    watchdog = watchdog_of(broker)
    for position in range(3, 9):
        broker.replica = {UPLOADS: position}
        check(watchdog, CHECKS - 1)


def test_an_unreachable_broker_is_no_stall_and_restarts_the_count() -> None:
    broker = Broker()
    broker.replica = {UPLOADS: 7}
    watchdog = watchdog_of(broker)
    check(watchdog, CHECKS - 1)
    broker.is_away = True
    check(watchdog)
    broker.is_away = False
    check(watchdog, CHECKS - 1)


def test_a_coordinator_that_does_not_answer_is_no_stall_and_does_not_end_the_worker() -> None:
    broker = Broker()
    broker.committed, broker.coordinator_is_away = {}, True
    check(watchdog_of(broker))


def test_batch_preparation_that_does_not_commit_is_named() -> None:
    broker = Broker()
    broker.committed = {}
    with pytest.raises(Stalled, match="batch preparation makes no progress at requests/1@0"):
        check(watchdog_of(broker))


def members_watchdog(
    broker: Broker, owned: Positions, owners: set[Partition] | None, *, unread: bool = True
) -> Watchdog:
    """A watchdog of the membership in a group whose other members own the partitions in `owners`."""
    group = ConsumedGroup([REQUESTS], lambda _: broker.committed, lambda: owners)
    probe = membership_probe("batch preparation", group, lambda: owned, lambda *_: unread, CHECKS)
    return Watchdog(
        [probe],
        lambda: broker.query(broker.high),
        lambda: broker.query(broker.stable),
        [UPLOADS],
        lambda: broker.replica,
        lambda: broker.stopped,
        open_on,
        100,
    )


def test_a_worker_that_owns_nothing_while_requests_wait_that_nobody_owns_is_named() -> None:
    broker = Broker()
    broker.committed = {REQUESTS: 7}
    watchdog = members_watchdog(broker, {}, set())
    check(watchdog, CHECKS - 1)
    with pytest.raises(
        Stalled,
        match="batch preparation owns no partition, and makes no progress at requests/1@7 for 4 s",
    ):
        watchdog.check()


@pytest.mark.parametrize(
    ("owned", "owners", "committed", "unread"),
    [
        ({REQUESTS: 7}, set(), 7, True),
        ({}, {REQUESTS}, 7, True),
        ({}, None, 7, True),
        ({}, set(), 10, True),
        ({}, set(), 7, False),
    ],
    ids=["owns some", "a spare worker", "a rebalance", "nothing waits", "only markers wait"],
)
def test_a_worker_may_own_nothing(
    owned: Positions, owners: set[Partition] | None, committed: int, unread: bool
) -> None:
    broker = Broker()
    broker.committed = {REQUESTS: committed}
    check(members_watchdog(broker, owned, owners, unread=unread))


def test_a_worker_whose_replica_is_behind_may_own_nothing_yet() -> None:
    broker = Broker()
    broker.replica, broker.committed = {UPLOADS: 3}, {REQUESTS: 7}
    check(members_watchdog(broker, {}, set()))


def test_markers_after_the_last_request_are_no_stall() -> None:
    broker = Broker()
    broker.committed = {REQUESTS: 9}
    check(watchdog_of(broker, records=False))


def test_an_open_transaction_on_an_upload_partition_is_reported_once_and_is_no_stall(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cjstream.watchdog")
    broker = Broker()
    broker.stable, broker.replica = {UPLOADS: 7, REQUESTS: 10}, {UPLOADS: 7}
    broker.committed = {REQUESTS: 5}  # it must wait for the uploads
    watchdog = watchdog_of(broker)
    check(watchdog, BLOCKED_CHECKS - 1)
    assert caplog.messages == []
    check(watchdog)
    assert caplog.messages == ["partition blocked by an open transaction"]
    assert vars(caplog.records[0])["at"] == "uploads/0@7"
    assert vars(caplog.records[0])["transactions"] == [
        "uploads/0@7: transactional id t1, producer id 7, Ongoing"
    ]
    broker.stable, broker.replica, broker.committed = broker.high, {UPLOADS: 10}, {REQUESTS: 10}
    check(watchdog)
    assert caplog.messages[1:] == ["partition no longer blocked"]


def test_the_status_file_has_the_last_rebalance_and_a_damaged_file_is_ignored(
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path, topic_prefix="p-", slot="one")
    assert statuses(settings) == {}
    status = StatusFile(settings.worker_dir)
    status.rebalanced({REQUESTS, Partition("requests", 0)}, 1_000)
    status.rebalanced({REQUESTS}, 2_000)
    assert status.owned == {REQUESTS}
    (written,) = statuses(settings).values()
    assert written == WorkerStatus(written.pid, 2_000, 2, (1,))
    assert statuses(settings.model_copy(update={"topic_prefix": "other-"})) == {}
    (settings.worker_dir / "status.json").write_text("{")
    assert statuses(settings) == {}


def ends(watch: Callable[[], None]) -> str:
    """The fault that ends a process whose watch ends."""

    async def run() -> str:
        shutdown = Shutdown(asyncio.get_running_loop())
        in_background("watch-parts", watch, shutdown, grace_s=86_400)
        await asyncio.wait_for(shutdown.wait(), 30)
        return str(shutdown.fault)

    return asyncio.run(run())


@pytest.mark.parametrize("fault", [KeyError("x"), MemoryError(), SystemExit(1)])
def test_a_watch_that_ends_with_an_exception_ends_the_worker(fault: BaseException) -> None:
    def watch() -> None:
        raise fault

    assert ends(watch).startswith(f"watch-parts ended with {type(fault).__name__}")


def test_a_watch_that_returns_ends_the_worker() -> None:
    assert ends(lambda: None).startswith("watch-parts ended: restart")


def test_a_watch_that_names_its_fault_ends_the_worker_with_it() -> None:
    def watch() -> None:
        raise Stalled("the fold makes no progress")

    assert ends(watch) == "the fold makes no progress"


def test_a_process_whose_loop_hangs_ends_although_its_watch_is_dead() -> None:
    code = """
import asyncio, threading
from processors.monitoring.watchdog import in_background
from processors.shutdown import Shutdown

async def main():
    in_background("watch-parts", lambda: None, Shutdown(asyncio.get_running_loop()), grace_s=0.1)
    threading.Event().wait(60)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 1
