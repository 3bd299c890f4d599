"""Appends record batches that no client library would write, with a produce request of our own."""

import socket
import struct
from typing import Any

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from processors.kafka.records import Record
from schemas.coordinates import Coordinates

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PRODUCE, VERSION = 0, 7


class RawName(str):
    """A header name of any bytes, such as ones that are not UTF-8: `RawName.of(b"\\xff")`."""

    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> "RawName":
        """The name with these bytes."""
        name = cls(raw.decode(errors="replace"))
        name.raw = raw
        return name

    def encode(self, *_: Any) -> bytes:
        """The bytes."""
        return self.raw


def append_raw(
    bootstrap: str, record: Record, *, codec: str = "zstd", timestamp_ms: int = 1_700_000_000_000
) -> Coordinates:
    """Append one record as a compressed batch, whatever its size; returns its coordinates."""
    builder = _DefaultRecordBatchBuilderPy(2, CODECS[codec], False, -1, -1, -1, 2**31)
    builder.append(0, timestamp_ms, record.key, record.value, list(record.headers))
    batch = bytes(builder.build())
    topic = record.topic.encode()
    body = b"".join(
        (
            struct.pack(">hhih", PRODUCE, VERSION, 1, -1),  # correlation id 1, no client id
            struct.pack(">hhi", -1, -1, 30_000),  # no transaction, acks of all, timeout
            struct.pack(">ih", 1, len(topic)) + topic,
            struct.pack(">iii", 1, record.partition, len(batch)) + batch,
        )
    )
    host, _, port = bootstrap.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", _read(connection, 4))
        answer = _read(connection, size)
    # correlation id, one topic, its name, one partition: number, error, offset
    error, offset = struct.unpack_from(">hq", answer, 4 + 4 + 2 + len(topic) + 4 + 4)
    assert error == 0, f"the broker refused the batch: error {error}"
    return Coordinates(record.topic, record.partition, offset)


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        received = connection.recv(size - len(found))
        assert received, "the broker closed the connection"
        found += received
    return found
