"""The parts of a worker that must advance, as the watchdog sees them."""

from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass

from processors.fold.faust_app import CJStreamApp
from processors.kafka.bounded_wait import SYSTEM_CLOCK
from processors.kafka.clients import reader
from processors.log.record_lookup import last_committed_record
from processors.monitoring.stall_detector import Progress
from processors.settings import Settings
from schemas.coordinates import Partition, Positions


@dataclass(frozen=True, slots=True)
class Probe:
    """A part of the worker that must advance.

    `progress` gets the last stable offsets, and whether the replica has reached the high watermarks of the uploads; it
    returns the part's positions and the ends that they should reach. `is_stalled` is whether there is really a record
    in between that the part does not read: markers are not records.
    """

    name: str
    progress: Callable[[Positions, bool], Mapping[Partition, Progress]]
    is_stalled: Callable[[Partition, Progress], bool] = lambda _partition, _progress: True


def reader_probe(name: str, positions: Callable[[], Positions]) -> Probe:
    """A part that reads up to the last stable offsets and passes markers: the replica, the fold."""

    def progress(stable: Positions, _replica_caught_up: bool) -> Mapping[Partition, Progress]:
        return {
            partition: Progress(position, stable[partition])
            for partition, position in positions().items()
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

    def is_stalled(partition: Partition, progress: Progress) -> bool:
        # markers are never committed: only a request between position and end counts
        with closing(reader(settings, **{"auto.offset.reset": "earliest"})) as consumer:
            return last_committed_record(consumer, partition, *progress, SYSTEM_CLOCK) is not None

    return Probe("batch preparation", progress, is_stalled)


def fold_positions(app: CJStreamApp, topics: Collection[str]) -> Positions:
    """The fold's position in each partition; partitions that are just being assigned are missing."""
    consumer = app.tracked_consumer
    return {} if consumer is None else consumer.processed_positions(topics)
