"""A batch while its requests are resolved one by one."""

from processors.kafka.records import Record
from schemas.coordinates import Coordinates


class _Growing:
    """A batch while its requests are answered one by one."""

    def __init__(self, header: tuple[str, bytes]) -> None:
        self.header = header
        self.records: list[Record] = []
        self.requests = 0
        self.tombstones = 0
        self.parked_in: set[int] = set()  # partitions of the parked topic that it writes to
        self.alone: Coordinates | None = None

    def answer(self, at: Coordinates, record: Record) -> None:
        """A request's one record."""
        self.requests += 1
        self.alone = at
        self.records.append(record)

    def park(self, at: Coordinates, entry: Record) -> None:
        """A request's one record is its entry in the parked topic."""
        self.answer(at, entry)
        self.parked_in.add(entry.partition)

    def beside(self, record: Record) -> None:
        """A record of the parked topic that answers no request."""
        self.tombstones += 1
        self.records.append(record)
        self.parked_in.add(record.partition)
