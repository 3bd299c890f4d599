"""The parts of a process that must advance, as the watchdog sees them."""

from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from processors.kafka.bounded_wait import SYSTEM_CLOCK
from processors.kafka.clients import reader
from processors.kafka.consumer_groups import committed_offsets, partitions_with_owner
from processors.log.record_lookup import last_committed_record
from processors.monitoring.stall_detector import Progress
from processors.settings import Settings
from schemas.coordinates import Partition, Positions

MEMBERSHIP_CHECKS = 30


@dataclass(frozen=True, slots=True)
class Probe:
    """A part of the worker that must advance.

    `progress` gets the last stable offsets, and whether the replica has reached the high watermarks of the uploads; it
    returns the part's positions and the ends that they should reach. `is_stalled` is whether there is really a record
    in between that the part does not read: markers are not records. `checks` is after how many checks without progress
    the worker ends, if it is another number than for other parts.
    """

    name: str
    progress: Callable[[Positions, bool], Mapping[Partition, Progress]]
    is_stalled: Callable[[Partition, Progress], bool] = lambda _partition, _progress: True
    checks: int | None = None


@dataclass(frozen=True, slots=True)
class ConsumedGroup:
    """A consumer group: the partitions that it consumes, and what the broker knows of them.

    `partitions_with_owner` are those that a member owns; None while the group rebalances.
    """

    partitions: Collection[Partition]
    committed: Callable[[Collection[Partition]], Positions]
    partitions_with_owner: Callable[[], Collection[Partition] | None]


def reader_probe(name: str, positions: Callable[[], Positions]) -> Probe:
    """A part that reads up to the last stable offsets and passes markers: the replica, the fold."""

    def progress(stable: Positions, _replica_caught_up: bool) -> Mapping[Partition, Progress]:
        return {
            partition: Progress(position, stable[partition])
            for partition, position in positions().items()
            if partition in stable  # a topic may be given more, which ends the worker soon
        }

    return Probe(name, progress)


def batch_prep_probe(
    settings: Settings,
    owned: Callable[[], Collection[Partition]],
    committed: Callable[[Collection[Partition]], Positions],
) -> Probe:
    """Batch preparation, which commits its partitions' requests; it may wait while the replica is behind."""

    def progress(stable: Positions, replica_caught_up: bool) -> Mapping[Partition, Progress]:
        partitions = owned()
        if not replica_caught_up or not partitions:
            return {}
        offsets = committed(partitions)
        return {tp: Progress(offsets.get(tp, 0), stable[tp]) for tp in partitions}

    return Probe("batch preparation", progress, partial(is_unread, settings))


def membership_probe(
    name: str,
    group: ConsumedGroup,
    owned: Callable[[], Collection[Partition]],
    is_unread: Callable[[Partition, Progress], bool],
    checks: int,
) -> Probe:
    """A member of a group that owns nothing, although records wait in a partition that no other member owns either.

    A worker without partitions is healthy where there are more workers than partitions.
    """

    def progress(stable: Positions, replica_caught_up: bool) -> Mapping[Partition, Progress]:
        if not replica_caught_up or owned():
            return {}
        offsets = group.committed(group.partitions)
        return {tp: Progress(offsets.get(tp, 0), stable[tp]) for tp in group.partitions}

    def is_stalled(partition: Partition, progress: Progress) -> bool:
        owners = group.partitions_with_owner()
        return owners is not None and partition not in owners and is_unread(partition, progress)

    return Probe(f"{name} owns no partition, and", progress, is_stalled, checks)


def group_of(settings: Settings, group: str, partitions: Collection[Partition]) -> ConsumedGroup:
    """A group and the partitions that it consumes, as the broker has them."""
    return ConsumedGroup(
        partitions,
        partial(committed_offsets, settings, group),
        partial(partitions_with_owner, settings, group),
    )


def membership_checks(settings: Settings) -> int:
    """For how many checks a member may own nothing although records wait: its session may have to end first."""
    return max(MEMBERSHIP_CHECKS, 2 * settings.session_timeout_s)


def is_unread(settings: Settings, partition: Partition, progress: Progress) -> bool:
    """Whether a committed record waits between position and end."""
    # markers are never committed: only a record between position and end counts
    with closing(reader(settings, **{"auto.offset.reset": "earliest"})) as consumer:
        return last_committed_record(consumer, partition, *progress, SYSTEM_CLOCK) is not None
