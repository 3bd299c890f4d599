"""The parts of a worker that are to advance, as the watchdog sees them."""

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
    """A part that reads to the last stable offsets and passes markers: the replica, the fold."""

    name: str
    positions: Callable[[], Positions]

    def progress(self, stable: Positions, *, uploads_pass: bool) -> Mapping[Partition, Progress]:
        return {at: Progress(position, stable[at]) for at, position in self.positions().items()}

    def is_stalled(self, at: Partition, seen: Progress) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class BatchPrepProbe:
    """Commits the requests of its partitions; while uploads are not to be had it is meant to wait."""

    settings: Settings
    owned: Callable[[], Collection[Partition]]
    committed: Callable[[Collection[Partition]], Positions]
    name: str = "batch preparation"

    def progress(self, stable: Positions, *, uploads_pass: bool) -> Mapping[Partition, Progress]:
        owned = self.owned()
        if not uploads_pass or not owned:
            return {}
        committed = self.committed(owned)
        return {at: Progress(committed.get(at, 0), stable[at]) for at in owned}

    def is_stalled(self, at: Partition, seen: Progress) -> bool:
        """Markers are never committed: what lies in between counts where it is a request."""
        consumer = reader(self.settings, **{"auto.offset.reset": "earliest"})
        try:
            return last_committed_record(consumer, at, *seen, SYSTEM_CLOCK) is not None
        finally:
            consumer.close()


def fold_positions(app: CJStreamApp, topics: Collection[str]) -> Positions:
    """How far this worker's fold has come; nothing is told of partitions that are just being taken up."""
    consumer = app.tracked_consumer
    return {} if consumer is None else consumer.processed_positions(topics)
