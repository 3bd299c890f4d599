"""Records of the upload topics as columns, for the folds that take many at a time. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from schemas.coordinates import Coordinates
from tables.upload_record import UploadRecord


@dataclass(frozen=True, slots=True)
class UploadBatch:
    """Records in log order, partition by partition: one sequence per field of `UploadRecord`.

    sets_aside has only the records that have such a header, by their number.
    """

    topics: Sequence[str]
    partitions: Sequence[int]
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    times_ms: Sequence[int]
    sets_aside: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[UploadRecord]) -> "UploadBatch":
        """The batch of these records."""
        records = list(records)
        return cls(
            [record.at.topic for record in records],
            [record.at.partition for record in records],
            [record.at.offset for record in records],
            [record.key for record in records],
            [record.value for record in records],
            [record.appended_at_ms for record in records],
            {
                number: record.sets_aside
                for number, record in enumerate(records)
                if record.sets_aside is not None
            },
        )

    def only(self, numbers: Sequence[int]) -> "UploadBatch":
        """The batch of these records, which set nothing aside."""
        columns = (
            self.topics,
            self.partitions,
            self.offsets,
            self.keys,
            self.values,
            self.times_ms,
        )
        return UploadBatch(*([column[number] for number in numbers] for column in columns))  # type: ignore[arg-type]

    def record(self, number: int) -> UploadRecord:
        """One record."""
        return UploadRecord(
            Coordinates(self.topics[number], self.partitions[number], self.offsets[number]),
            self.keys[number],
            self.values[number],
            self.times_ms[number],
            self.sets_aside.get(number),
        )
