"""A process that is only a member of the fold group; on SIGTERM it leaves the group."""

import asyncio
import os
import signal
from functools import partial

from processors.dead_letters.upload_dead_letters import put_upload_dead_letter
from processors.fold.faust_app import build_app
from processors.fold.fold_agents import add_folding
from processors.fold.giving_way import GivingWay
from processors.fold.replica_feed import ReplicaFeed, open_replica
from processors.kafka.clients import plain_producer
from processors.settings import settings_from_environment
from schemas.codec import Codec


def exit_process(fault: BaseException) -> None:
    """End the process at once after a failure."""
    os._exit(1)


async def main() -> None:
    """Fold until SIGTERM."""
    settings = settings_from_environment()
    app = build_app(settings)
    put_dead_letter = partial(
        put_upload_dead_letter, settings.topics.uploads_dlq.name, plain_producer(settings)
    )
    codec = Codec()
    replica = open_replica(settings, codec, settings.worker_dir)
    pace = GivingWay(lambda: False, idle=0, busy=0)
    add_folding(app, settings, codec, replica, put_dead_letter, exit_process, pace.rest_after)
    ReplicaFeed(settings, replica, exit_process).start(replica.open({}))
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await app.start()
    await stopping.wait()
    await app.stop()


if __name__ == "__main__":
    asyncio.run(main())
