"""An index of upload records by record key, topic and offset: finds a scope's records without reading the log again.

It contains every record unchanged and unchecked, including damaged ones and those in a wrong partition, and the
positions up to which it is filled. Records and positions are written together.

Key of a row: length of the record key (4 bytes), record key (so that the roles of a scope are neighbours), number of
the topic (1), partition (4), offset (8). Value of a row: append time (8); if the record has a value, a byte 1 and it.
"""

import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from schemas.coordinates import Coordinates, Partition, Positions
from tables.store import RocksStore, Store
from tables.upload_record import UploadRecord, UploadTopics

# in place of the length of a record key; after POSITION follow the number of the topic and the partition
NO_KEY, POSITION = (2**32 - 1, 2**32 - 2)
SIZE = struct.Struct(">I")
TOPIC = struct.Struct(">B")
PARTITION_AND_OFFSET = struct.Struct(">Iq")
PARTITION = struct.Struct(">I")
INT64 = struct.Struct(">q")
CACHE_MB = 32


class UploadIndex:
    """Upload records of one installation; only one thread may add, any thread may read."""

    def __init__(self, rows: Store, topics: UploadTopics) -> None:
        self._rows = rows
        self._names = tuple(topics.by_name)
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def add(self, records: Iterable[UploadRecord], positions: Positions) -> None:
        """Store records, in any order and repeated or not, and the new positions, all or nothing."""
        rows = {self._record_key(record): _value_of(record) for record in records}
        rows |= {
            self._position_key(partition): INT64.pack(end) for partition, end in positions.items()
        }
        self._rows.write(rows)

    def positions(self) -> Positions:
        """The position of every partition passed to `add` so far."""
        found = self._rows.ascending(SIZE.pack(POSITION), SIZE.pack(NO_KEY))
        return {self._partition_of(key): INT64.unpack(value)[0] for key, value in found}

    def records_of(self, topic: str, scope_key: str) -> Iterator[UploadRecord]:
        """Every record of a key in a topic, in whichever partition it is, partition by partition in log order."""
        prefix = self._prefix(topic, scope_key.encode())
        return self._read(topic, self._rows.ascending(prefix, _after(prefix)))

    def close(self) -> None:
        """Close the store."""
        self._rows.close()

    def _prefix(self, topic: str, key: bytes | None) -> bytes:
        size = SIZE.pack(NO_KEY if key is None else len(key))
        return b"".join((size, key or b"", TOPIC.pack(self._numbers[topic])))

    def _record_key(self, record: UploadRecord) -> bytes:
        at = record.at
        return self._prefix(at.topic, record.key) + PARTITION_AND_OFFSET.pack(
            at.partition, at.offset
        )

    def _position_key(self, partition: Partition) -> bytes:
        topic = TOPIC.pack(self._numbers[partition.topic])
        return b"".join((SIZE.pack(POSITION), topic, PARTITION.pack(partition.partition)))

    def _partition_of(self, key: bytes) -> Partition:
        partition: int = PARTITION.unpack_from(key, SIZE.size + TOPIC.size)[0]
        return Partition(self._names[key[SIZE.size]], partition)

    def _read(self, topic: str, rows: Iterable[tuple[bytes, bytes]]) -> Iterator[UploadRecord]:
        for key, value in rows:
            split = len(key) - PARTITION_AND_OFFSET.size
            partition, offset = PARTITION_AND_OFFSET.unpack_from(key, split)
            record_key = key[SIZE.size : split - TOPIC.size]
            appended_at_ms, payload = _time_and_value(value)
            at = Coordinates(topic, partition, offset)
            yield UploadRecord(at, record_key, payload, appended_at_ms)


def _value_of(record: UploadRecord) -> bytes:
    time = INT64.pack(record.appended_at_ms)
    return time if record.value is None else time + b"\1" + record.value


def _time_and_value(value: bytes) -> tuple[int, bytes | None]:
    """The append time and the value of a record, from the bytes that `_value_of` makes."""
    payload = value[INT64.size + 1 :] if len(value) > INT64.size else None
    return INT64.unpack_from(value)[0], payload


def _after(prefix: bytes) -> bytes:
    """The exclusive end of a scope's keys: no partition has so high a number."""
    return prefix + b"\xff" * PARTITION_AND_OFFSET.size


@contextmanager
def temporary_index(topics: UploadTopics, within: Path | None = None) -> Iterator[UploadIndex]:
    """An index in a temporary folder, which is made in `within` or the system's folder and deleted after the block."""
    with (
        tempfile.TemporaryDirectory(prefix="cjstream-index-", dir=within) as folder,
        closing(
            UploadIndex(
                RocksStore(Path(folder), what="the audit's index", cache_mb=CACHE_MB), topics
            )
        ) as index,
    ):
        yield index
