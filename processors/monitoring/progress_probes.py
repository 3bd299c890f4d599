"""The parts of a worker that are to advance, as the watchdog sees them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from processors.fold.faust_app import App
from processors.kafka.bounded_wait import MACHINE
from processors.kafka.clients import reader
from processors.log.record_lookup import committed_record
from processors.monitoring.stall_detector import Seen
from processors.settings import Settings
from schemas.coordinates import Partition, Positions


@dataclass(frozen=True, slots=True)
class Reading:
    """A part that reads to the last stable offsets and passes markers: the replica, the fold."""

    name: str
    positions: Callable[[], Positions]

    def seen(self, stable: Positions, *, uploads_pass: bool) -> Mapping[Partition, Seen]:
        return {at: Seen(position, stable[at]) for at, position in self.positions().items()}

    def is_stalled(self, at: Partition, seen: Seen) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class BatchPreparation:
    """Commits the requests of its partitions; while uploads are not to be had it is meant to wait."""

    settings: Settings
    owned: Callable[[], Collection[Partition]]
    committed: Callable[[Collection[Partition]], Positions]
    name: str = "batch preparation"

    def seen(self, stable: Positions, *, uploads_pass: bool) -> Mapping[Partition, Seen]:
        owned = self.owned()
        if not uploads_pass or not owned:
            return {}
        committed = self.committed(owned)
        return {at: Seen(committed.get(at, 0), stable[at]) for at in owned}

    def is_stalled(self, at: Partition, seen: Seen) -> bool:
        """Markers are never committed: what lies in between counts where it is a request."""
        consumer = reader(self.settings, **{"auto.offset.reset": "earliest"})
        try:
            return committed_record(consumer, at, *seen, MACHINE) is not None
        finally:
            consumer.close()


def fold_positions(app: App, topics: Collection[str]) -> Positions:
    """How far this worker's fold has come; nothing is told of partitions that are just being taken up."""
    consumer = app.done_consumer
    return {} if consumer is None else consumer.done_positions(topics)
