"""A worker whose watchdog reacts early; the part named on the command line, if any, stalls."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from faust.types import TP

from processors.app import Worker, build_worker, load_scan_engine
from processors.batch_prep.preparer import Preparer
from processors.exactly_once.batch import Batch
from processors.exactly_once.committer import Committer
from processors.exactly_once.group_consumer import GroupConsumer
from processors.fold import tracked_consumer
from processors.fold.bounded_channel import BoundedChannel
from processors.fold.changelog_repair import ChangelogRepair
from processors.fold.faust_app import build_app
from processors.fold.fold_agents import add_folding
from processors.fold.giving_way import GivingWay
from processors.fold.replica_feed import ReplicaFeed
from processors.fold.tracked_consumer import TrackedConsumerThread
from processors.monitoring.watchdog import STALLED_CHECKS
from processors.settings import settings_from_environment
from processors.shutdown import Shutdown
from processors.worker import run_built_worker
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.errors import CJStreamError
from tools.logs import log_to_stderr
from tools.progress import say

COMMAND = ("-m", "tests.faults.stalled_worker")
STALLED_CHECKS_SHORT = 8
NO_REST = GivingWay(lambda: False, idle=0, busy=0)
STALLED_CHECKS_SETTLING = 30  # more than partitions wait for one with an open transaction
STALLED_CHECKS_OF = {"transaction": STALLED_CHECKS, "settling": STALLED_CHECKS_SETTLING}


class DeafFeed(ReplicaFeed):
    """A replica feed that never advances."""

    def start(self, positions: Positions) -> None:
        self._replica.advance({tp: positions.get(tp, 0) for tp in self._partitions})

    def stop(self) -> None:
        """Do nothing: there is no thread."""


class HangingCommitter(Committer):
    """A committer whose first transaction never ends."""

    def commit(self, batch: Batch) -> None:
        self._producer.opened_at = time.monotonic()
        threading.Event().wait()


class DeafPreparer:
    """A preparer that fetches requests but prepares no batch."""

    def __init__(self, consumer: GroupConsumer) -> None:
        self._consumer = consumer

    def next_batch(self, wait_s: float) -> None:
        self._consumer.poll(wait_s)


class AbsentConsumer:
    """A consumer that is no member of its group, as after an error that nobody saw."""

    on_rebalance: Callable[[set[Partition]], None]
    unsettled: frozenset[Partition] = frozenset()

    def join(self) -> None:
        """Do nothing."""

    def poll(self, wait_s: float) -> None:
        threading.Event().wait(wait_s)

    def close(self) -> None:
        """Do nothing."""


async def failing_fetch(*_: Any, **__: Any) -> Any:
    """Fail as a bug in a library does."""
    raise RuntimeError("a bug")


async def never_acknowledged(*_: Any) -> None:
    """Send a dead letter that is never acknowledged."""
    await asyncio.Event().wait()


async def never_started() -> None:
    """Start nothing, as a Faust that waits for its coordinator for ever."""
    await asyncio.Event().wait()


class LateHighWatermarks(TrackedConsumerThread):
    """A consumer thread whose first requests for the changelog's ends take longer than aiokafka waits."""

    _failures = 2

    async def _highwaters(self, partitions: list[TP]) -> Any:
        consumer = self._ensure_consumer()
        patience_ms = consumer._request_timeout_ms  # noqa: SLF001
        if self._failures:
            self._failures -= 1
            consumer._request_timeout_ms = 0.001  # noqa: SLF001
        try:
            return await super()._highwaters(partitions)
        finally:
            consumer._request_timeout_ms = patience_ms  # noqa: SLF001


def with_stalled_part(worker: Worker, part: str) -> Worker:
    """The worker with one part replaced by one that stalls."""
    batch_prep = worker.batch_prep
    match part:
        case "replica":
            feed = DeafFeed(worker.settings, worker.replica, lambda _fault: None)
            return replace(worker, feed=feed)
        case "requests":
            deaf = cast(Preparer, DeafPreparer(batch_prep.consumer))
            return replace(worker, batch_prep=replace(batch_prep, preparer=deaf))
        case "member":
            absent = cast(GroupConsumer, AbsentConsumer())
            return replace(
                worker,
                batch_prep=replace(
                    batch_prep, consumer=absent, preparer=cast(Preparer, DeafPreparer(absent))
                ),
            )
        case "fetches":
            TrackedConsumerThread._fetch_records = failing_fetch  # type: ignore[method-assign]  # noqa: SLF001
        case "fold-member":
            worker.app.start = never_started  # type: ignore[method-assign]
        case "ends":
            tracked_consumer.TrackedConsumerThread = LateHighWatermarks  # type: ignore[misc]
        case "transaction":
            committer = HangingCommitter(batch_prep.epoch, batch_prep.producer)
            return replace(worker, batch_prep=replace(batch_prep, committer=committer))
        case "fold":
            app, codec = build_app(worker.settings), Codec()
            table = add_folding(
                app,
                worker.settings,
                codec,
                worker.replica,
                never_acknowledged,
                lambda _fault: None,
                NO_REST.rest_after,
            )
            repair = ChangelogRepair(
                app,
                worker.settings,
                codec,
                worker.replica,
                table,
                lambda _fault: None,
                NO_REST.rest_s,
            )
            return replace(
                worker, app=app, channel=BoundedChannel(app, maxsize=1), changelog_repair=repair
            )
    return worker


async def main(part: str = "") -> int:
    """Run until the watchdog ends the worker; returns the exit code."""
    log_to_stderr()
    shutdown = Shutdown(asyncio.get_running_loop())
    settings = settings_from_environment()
    engine = load_scan_engine(settings)
    worker = with_stalled_part(build_worker(settings, shutdown.fail, Codec(), engine), part)
    try:
        await run_built_worker(worker, shutdown, STALLED_CHECKS_OF.get(part, STALLED_CHECKS_SHORT))
    except CJStreamError as fault:
        say(f"cjstream: {fault}")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    code = asyncio.new_event_loop().run_until_complete(main(*sys.argv[1:]))
    sys.stderr.flush()
    os._exit(code)  # as the command does: Faust may leave tasks behind
