"""The parts of a worker that must advance, as the watchdog sees them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from processors.fold.faust_app import CJStreamApp
from processors.kafka.bounded_wait import SYSTEM_CLOCK
from processors.kafka.clients import reader
from processors.log.record_lookup import last_committed_record
from processors.monitoring.stall_detector import Progress
from processors.settings import Settings
from schemas.coordinates import Partition, Positions


@dataclass(frozen=True, slots=True)
class ReaderProbe:
    """A part that reads up to the last stable offsets and passes markers: the replica, the fold."""

    name: str
    positions: Callable[[], Positions]

    def progress(
        self, stable: Positions, *, replica_caught_up: bool
    ) -> Mapping[Partition, Progress]:
        return {
            partition: Progress(position, stable[partition])
            for partition, position in self.positions().items()
        }

    def is_stalled(self, partition: Partition, progress: Progress) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class BatchPrepProbe:
    """Batch preparation, which commits its partitions' requests; it may wait while the replica is behind."""

    settings: Settings
    owned: Callable[[], Collection[Partition]]
    committed: Callable[[Collection[Partition]], Positions]
    name: str = "batch preparation"

    def progress(
        self, stable: Positions, *, replica_caught_up: bool
    ) -> Mapping[Partition, Progress]:
        owned = self.owned()
        if not replica_caught_up or not owned:
            return {}
        committed = self.committed(owned)
        return {
            partition: Progress(committed.get(partition, 0), stable[partition])
            for partition in owned
        }

    def is_stalled(self, partition: Partition, progress: Progress) -> bool:
        """Markers are never committed: only a request between position and end counts as a stall."""
        consumer = reader(self.settings, **{"auto.offset.reset": "earliest"})
        try:
            return last_committed_record(consumer, partition, *progress, SYSTEM_CLOCK) is not None
        finally:
            consumer.close()


def fold_positions(app: CJStreamApp, topics: Collection[str]) -> Positions:
    """The fold's position in each partition; partitions that are just being assigned are missing."""
    consumer = app.tracked_consumer
    return {} if consumer is None else consumer.processed_positions(topics)
