"""A batch: the outcomes of some input records, and the offsets that their transaction commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from processors.kafka.plain_producer import Deliveries
from processors.kafka.records import Record, RecordColumns
from schemas.coordinates import Coordinates, Partition


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction commits: the outcomes of some inputs, and offsets.

    start and end are the positions `[start, end)` in every input partition that the batch touches, also if its
    position does not move. group is the group metadata at the time of the fetch: metadata read at commit could
    belong to a later generation and would fence nobody.
    """

    records: Sequence[Record]
    inputs: int  # each input has exactly one record: its outcome, or its entry in the state topic
    start: Mapping[Partition, int]
    end: Mapping[Partition, int]
    group: bytes
    epoch: int
    internal: int = (
        0  # other records: tombstones, and a record whose append time tells the broker's time
    )
    # to commit in the state topic: the offset of each partition's oldest live entry
    state_offsets: Mapping[Partition, int] = field(default_factory=dict)
    only_input: Coordinates | None = None  # the input, if there is exactly one
    # of inputs, too; they are produced first
    outcomes: RecordColumns = field(default_factory=RecordColumns)
    deliveries: Deliveries | None = None  # gets the delivery reports of the records
    kinds: Mapping[str, int] = field(
        default_factory=dict
    )  # for metrics: inputs by what they became
    refusals: Mapping[str, int] = field(default_factory=dict)  # for metrics: dead letters by fault
