"""A batch under construction, while its requests are resolved one by one."""

from processors.kafka.records import Record
from schemas.coordinates import Coordinates


class BatchBuilder:
    """Collects the records of a batch while its requests are resolved one by one."""

    def __init__(self, header: tuple[str, bytes]) -> None:
        self.header = header
        self.records: list[Record] = []
        self.requests = 0
        self.internal = 0
        self.parked_in: set[int] = set()  # partitions of the parked topic that it writes to
        self.only_request: Coordinates | None = None

    def add_outcome(self, at: Coordinates, record: Record) -> None:
        """Add the one record of a request."""
        self.requests += 1
        self.only_request = at
        self.records.append(record)

    def park(self, at: Coordinates, entry: Record) -> None:
        """Add the one record of a request that is parked: its entry in the parked topic."""
        self.add_outcome(at, entry)
        self.parked_in.add(entry.partition)

    def add_internal(self, record: Record) -> None:
        """Add a record of the parked topic that is not the one record of a request."""
        self.internal += 1
        self.records.append(record)
        self.parked_in.add(record.partition)
