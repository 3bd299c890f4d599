"""A batch while its requests are resolved one by one."""

from processors.kafka.records import Record
from schemas.coordinates import Coordinates


class BatchBuilder:
    """A batch while its requests are answered one by one."""

    def __init__(self, header: tuple[str, bytes]) -> None:
        self.header = header
        self.records: list[Record] = []
        self.requests = 0
        self.internal = 0
        self.parked_in: set[int] = set()  # partitions of the parked topic that it writes to
        self.only_request: Coordinates | None = None

    def add_outcome(self, at: Coordinates, record: Record) -> None:
        """A request's one record."""
        self.requests += 1
        self.only_request = at
        self.records.append(record)

    def park(self, at: Coordinates, entry: Record) -> None:
        """A request's one record is its entry in the parked topic."""
        self.add_outcome(at, entry)
        self.parked_in.add(entry.partition)

    def add_internal(self, record: Record) -> None:
        """A record of the parked topic that answers no request."""
        self.internal += 1
        self.records.append(record)
        self.parked_in.add(record.partition)
