"""A worker whose watchdog is impatient, and one part of which may do nothing: the one that it is called with."""

import asyncio
import os
import sys
import threading
import time
from dataclasses import replace
from typing import Any, cast

from processors.app import Worker, build_worker
from processors.batch_prep.preparer import Preparer
from processors.exactly_once.batch import Batch
from processors.exactly_once.committer import Committer
from processors.exactly_once.group_consumer import GroupConsumer
from processors.fold.bounded_channel import BoundedChannel
from processors.fold.changelog_repair import ChangelogRepair
from processors.fold.faust_app import build_app
from processors.fold.fold_agents import add_folding
from processors.fold.replica_feed import ReplicaFeed
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
LOOKS = 8


class DeafFeed(ReplicaFeed):
    """Stands where it was started."""

    def start(self, partitions: list[Partition], positions: Positions) -> None:
        self._replica.advance({at: positions.get(at, 0) for at in partitions})

    def stop(self) -> None:
        """There is no thread."""


class HangingCommitter(Committer):
    """Its first transaction never ends."""

    def commit(self, batch: Batch) -> None:
        self._producer.opened_at = time.monotonic()
        threading.Event().wait()


class DeafPreparer:
    """Fetches, and makes nothing of it."""

    def __init__(self, consumer: GroupConsumer) -> None:
        self._consumer = consumer

    def next_batch(self, wait_s: float) -> None:
        self._consumer.poll(wait_s)


async def unanswered(*_: Any) -> None:
    """A dead letter that no broker acknowledges."""
    await asyncio.Event().wait()


def with_a_fault(worker: Worker, part: str) -> Worker:
    """The worker with one part lent that stalls."""
    parts = worker.batch_prep
    match part:
        case "replica":
            feed = DeafFeed(worker.settings, worker.replica, lambda _fault: None)
            return replace(worker, feed=feed)
        case "requests":
            deaf = cast(Preparer, DeafPreparer(parts.consumer))
            return replace(worker, batch_prep=replace(parts, preparer=deaf))
        case "transaction":
            committer = HangingCommitter(parts.epoch, parts.producer)
            return replace(worker, batch_prep=replace(parts, committer=committer))
        case "fold":
            app, codec = build_app(worker.settings), Codec()
            table = add_folding(app, worker.settings, codec, unanswered, lambda _fault: None)
            repair = ChangelogRepair(
                app, worker.settings, codec, worker.replica, table, lambda _fault: None
            )
            return replace(
                worker, app=app, channel=BoundedChannel(app, maxsize=1), changelog_repair=repair
            )
    return worker


async def main(part: str = "") -> int:
    """Run until the watchdog ends it; gives the exit code."""
    log_to_stderr()
    shutdown = Shutdown(asyncio.get_running_loop())
    worker = with_a_fault(build_worker(settings_from_environment(), shutdown.fail, Codec()), part)
    try:
        await run_built_worker(worker, shutdown, STALLED_CHECKS if part == "transaction" else LOOKS)
    except CJStreamError as fault:
        say(f"cjstream: {fault}")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    code = asyncio.new_event_loop().run_until_complete(main(*sys.argv[1:]))
    sys.stderr.flush()
    os._exit(code)  # as the command does: Faust may leave tasks behind
