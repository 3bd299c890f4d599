"""A batch: the outcomes of some input records, and the positions that their transaction commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from processors.kafka.records import Record
from schemas.coordinates import Coordinates, Partition


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests, fetched or released, with their outcomes: what one transaction commits.

    start and end are the positions `[start, end)` in the request partitions, every one that is touched, moved or
    not; group is the metadata of the fetch: read at commit, it would be that of a later generation and fence nobody.
    """

    records: Sequence[Record]
    inputs: int  # each has one record: its outcome, or its entry in the parked topic
    start: Mapping[Partition, int]
    end: Mapping[Partition, int]
    group: bytes
    epoch: int
    internal: int = 0  # records beside: a released request's, and a question for the broker's time
    state_offsets: Mapping[Partition, int] = field(
        default_factory=dict
    )  # oldest live entries to commit
    only_input: Coordinates | None = None  # the request, where there is just one
