"""An index of upload records by record key, topic and offset: a scope's records, without reading the log again.

It holds every record whole, damaged ones and those of a wrong partition, too, and the positions it has been filled
to: both are written together. It judges nothing.

Format of a row's key: the record key's length (4 bytes) and bytes, so that a scope's roles are neighbours, the topic's
number (1), partition (4), offset (8); of its value: append time (8), then the record's value, if it has one, after a
byte 1.
"""

import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from schemas.coordinates import Coordinates, Partition, Positions
from tables.history.sorted_store import RocksSortedStore, SortedStore
from tables.upload_record import UploadRecord, UploadTopics

NO_KEY, POSITION = (
    2**32 - 1,
    2**32 - 2,
)  # as the length of a record key; of a position, topic and partition follow
SIZE = struct.Struct(">I")
TOPIC = struct.Struct(">B")
PLACED = struct.Struct(">Iq")
PARTITION = struct.Struct(">I")
TIMED = struct.Struct(">q")
CACHE_MB = 32


class UploadIndex:
    """Upload records of one installation. One thread adds, any may ask."""

    def __init__(self, rows: SortedStore, topics: UploadTopics) -> None:
        self._rows = rows
        self._names = tuple(topics.by_name)
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def add(self, records: Iterable[UploadRecord], positions: Positions) -> None:
        """Take records, in any order and however often, and stand at these positions then; all or nothing."""
        rows = {self._key_of(one): _value_of(one) for one in records}
        rows |= {self._key_at(one): TIMED.pack(end) for one, end in positions.items()}
        self._rows.write(rows)

    def positions(self) -> Positions:
        """How far every partition that was ever named has been read."""
        found = self._rows.ascending(SIZE.pack(POSITION), SIZE.pack(NO_KEY))
        return {self._partition_of(key): TIMED.unpack(value)[0] for key, value in found}

    def of(self, topic: str, scope_key: str) -> Iterator[UploadRecord]:
        """Every record of a key in log order, one partition after the other, wherever a producer put it."""
        scope = self._scope(topic, scope_key.encode())
        return self._read(topic, self._rows.ascending(scope, _after(scope)))

    def close(self) -> None:
        """Let go of the folder."""
        self._rows.close()

    def _scope(self, topic: str, key: bytes | None) -> bytes:
        size = SIZE.pack(NO_KEY if key is None else len(key))
        return b"".join((size, key or b"", TOPIC.pack(self._numbers[topic])))

    def _key_of(self, record: UploadRecord) -> bytes:
        at = record.at
        return self._scope(at.topic, record.key) + PLACED.pack(at.partition, at.offset)

    def _key_at(self, at: Partition) -> bytes:
        topic = TOPIC.pack(self._numbers[at.topic])
        return b"".join((SIZE.pack(POSITION), topic, PARTITION.pack(at.partition)))

    def _partition_of(self, key: bytes) -> Partition:
        partition: int = PARTITION.unpack_from(key, SIZE.size + TOPIC.size)[0]
        return Partition(self._names[key[SIZE.size]], partition)

    def _read(self, topic: str, rows: Iterable[tuple[bytes, bytes]]) -> Iterator[UploadRecord]:
        for key, value in rows:
            placed = len(key) - PLACED.size
            partition, offset = PLACED.unpack_from(key, placed)
            record_key = key[SIZE.size : placed - TOPIC.size]
            appended_at_ms, payload = _record_of(value)
            at = Coordinates(topic, partition, offset)
            yield UploadRecord(at, record_key, payload, appended_at_ms)


def _value_of(record: UploadRecord) -> bytes:
    stamp = TIMED.pack(record.appended_at_ms)
    return stamp if record.value is None else stamp + b"\1" + record.value


def _record_of(value: bytes) -> tuple[int, bytes | None]:
    """A record's append time and value, as `_value_of` has written them."""
    payload = value[TIMED.size + 1 :] if len(value) > TIMED.size else None
    return TIMED.unpack_from(value)[0], payload


def _after(scope: bytes) -> bytes:
    """The end of a scope's keys: no partition has so high a number."""
    return scope + b"\xff" * PLACED.size


@contextmanager
def temporary_index(topics: UploadTopics, within: Path | None = None) -> Iterator[UploadIndex]:
    """An index in a folder of its own, by default where temporary ones are made; gone with the block."""
    with (
        tempfile.TemporaryDirectory(prefix="cjstream-index-", dir=within) as folder,
        closing(UploadIndex(RocksSortedStore(Path(folder), cache_mb=CACHE_MB), topics)) as index,
    ):
        yield index
