"""What watches a judge process while it runs cycles."""

from collections.abc import Callable, Mapping
from functools import partial

from processors.exactly_once.group_consumer import GroupConsumer
from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks, last_stable_offsets
from processors.kafka.transactions import open_transactions_or_none
from processors.monitoring.cycle_watch import CycleWatch
from processors.monitoring.progress_probes import (
    group_of,
    is_unread,
    membership_checks,
    membership_probe,
)
from processors.monitoring.watchdog import STALLED_CHECKS, Watchdog
from processors.settings import Settings
from processors.shutdown import Shutdown
from schemas.coordinates import Partition


def judge_watches(
    settings: Settings,
    consumer: GroupConsumer,
    cycles_begun: Callable[[], int],
    shutdown: Shutdown,
    stalled_checks: int = STALLED_CHECKS,
) -> Mapping[str, Callable[[], None]]:
    """By name: a watch of the cycles, and one of the membership; each blocks until it ends the process.

    There is no watch of the committed positions: a judge with as many open runs as it may have fetches nothing.
    """
    cycles = CycleWatch(cycles_begun, stalled_checks)
    members = _membership_watchdog(settings, consumer)
    return {
        "watch-cycles": partial(cycles.run, shutdown),
        "watch-membership": partial(members.run, shutdown),
    }


def _membership_watchdog(settings: Settings, consumer: GroupConsumer) -> Watchdog:
    admin = admin_client(settings)  # of its own: the cycle's requests must not wait for it
    batches = settings.partitions_of(settings.topics.batches)
    owned = frozenset[Partition]()

    def note(now: set[Partition]) -> None:
        nonlocal owned
        owned = frozenset(now)

    consumer.on_rebalance = note
    membership = membership_probe(
        "the judge",
        group_of(settings, settings.judge_group, batches),
        lambda: owned,
        partial(is_unread, settings),
        membership_checks(settings),
    )
    return Watchdog(
        [membership],
        partial(high_watermarks, admin, batches),
        partial(last_stable_offsets, admin, batches),
        (),
        dict,
        tuple,
        partial(open_transactions_or_none, settings),
    )
