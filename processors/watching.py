"""Sets the watchdog on a worker: its transactions, its parts, and the file that tells of its rebalances."""

import time
from functools import partial
from typing import cast

from processors.app import Worker
from processors.fold.faust_app import App
from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import high_watermarks, last_stable_offsets
from processors.kafka.partitions import partitions_of
from processors.monitoring.progress_probes import BatchPreparation, Reading, fold_positions
from processors.monitoring.watchdog import End, Watchdog, in_background, watch_transactions
from processors.monitoring.worker_status import StatusFile
from processors.settings import upload_partitions


def watch(worker: Worker, end: End, stalled_looks: int) -> None:
    """Watch until the worker ends."""
    settings = worker.settings
    status = StatusFile(settings.worker_dir)
    worker.fetcher.rebalanced = lambda owned: status.rebalanced(owned, round(time.time() * 1000))
    admin = admin_client(
        settings
    )  # its own: a question of batch preparation is not to wait for these
    uploads = upload_partitions(settings)
    everything = [*uploads, *partitions_of([settings.topics.requests.name], settings)]
    names = [topic.name for topic in settings.topics.uploads]
    watchdog = Watchdog(
        [
            Reading("the context replica", worker.replica.positions),
            Reading("the fold", partial(fold_positions, cast(App, worker.app), names)),
            BatchPreparation(
                settings,
                lambda: status.owned,
                partial(committed_offsets, settings, settings.prep_group),
            ),
        ],
        partial(high_watermarks, admin, everything),
        partial(last_stable_offsets, admin, everything),
        uploads,
        worker.replica.positions,
        stalled_looks,
    )
    in_background("watch-transactions", partial(watch_transactions, worker.outbox, end))
    in_background("watch-parts", partial(watchdog.run, end))
