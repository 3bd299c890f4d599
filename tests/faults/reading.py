"""Reads an installation's topics back with a plain consumer and the `.avsc` files, without the product's code."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import orjson
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.support.until import until

SCHEMAS = Path(__file__).parents[2] / "schemas"
FRAME_BYTES = 5


class Coordinates(NamedTuple):
    """Topic, partition and offset of a record."""

    topic: str
    partition: int
    offset: int


class Read(NamedTuple):
    """A record as a plain consumer reads it."""

    at: Coordinates
    appended_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Decoded(NamedTuple):
    """A decoded value: the name of its schema, and its fields."""

    name: str
    fields: Mapping[str, Any]


def _schemas() -> dict[int, tuple[Any, Any]]:
    """By id: the schema that wrote a record, and the newest schema of that name, which reads it."""
    ids = orjson.loads((SCHEMAS / "schema_ids.json").read_bytes())
    parsed: dict[int, Any] = {
        number: fastavro.parse_schema(orjson.loads((SCHEMAS / name).read_bytes()))
        for name, number in sorted(ids.items(), key=lambda entry: entry[1])
    }
    newest = {schema["name"]: schema for schema in parsed.values()}
    return {number: (schema, newest[schema["name"]]) for number, schema in parsed.items()}


BY_ID = _schemas()


def decode_or_none(value: bytes | None) -> Decoded | None:
    """A value, decoded with the schema that its frame names; None if it cannot be decoded."""
    if value is None or value[:1] != b"\0":
        return None
    body = BytesIO(value)
    schemas = BY_ID.get(int.from_bytes(body.read(FRAME_BYTES)[1:], "big"))
    if schemas is None or len(value) < FRAME_BYTES:
        return None
    schema, newest = schemas
    try:
        fields: Any = fastavro.schemaless_reader(body, schema, newest)
    except Exception:  # noqa: BLE001 (damaged bytes can raise anything in the reader)
        return None
    return None if body.read(1) else Decoded(schema["name"].rpartition(".")[2], fields)


def decoded(value: bytes | None) -> Mapping[str, Any]:
    """The fields of a value; the test fails if it cannot be decoded."""
    found = decode_or_none(value)
    assert found is not None, "not an event"
    return found.fields


def committed_offsets(
    consumer: Consumer, partitions: Sequence[TopicPartition]
) -> dict[tuple[str, int], int]:
    """The committed offset of each partition in the consumer's group; negative if there is none."""
    committed = consumer.committed(list(partitions), timeout=10)
    return {(tp.topic, tp.partition): tp.offset for tp in committed}


def end_offsets(
    admin: AdminClient, partitions: Iterable[TopicPartition], isolation: IsolationLevel
) -> dict[tuple[str, int], int]:
    """The high watermark of each partition; with READ_COMMITTED its last stable offset."""
    query = {tp: OffsetSpec.latest() for tp in partitions}
    futures = admin.list_offsets(query, isolation_level=isolation, request_timeout=10)
    ends = {(tp.topic, tp.partition): future.result().offset for tp, future in futures.items()}
    if min(ends.values(), default=0) < 0:  # a leader died during the request
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    return ends


def read_all(bootstrap: str, topic: str, partitions: int, *, raw: bool = False) -> list[Read]:
    """Every committed record of a topic in log order; raw: those of open and aborted transactions, too."""
    isolation = "read_uncommitted" if raw else "read_committed"
    level = IsolationLevel.READ_UNCOMMITTED if raw else IsolationLevel.READ_COMMITTED
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    query = [TopicPartition(topic, number) for number in range(partitions)]
    ends = end_offsets(admin, query, level)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "checker",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    records = list[Read]()
    try:
        consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)]
        )
        until(lambda: _read_to_end(consumer, records, ends), seconds=60)
    finally:
        consumer.close()
    return sorted(record for record in records if record.at.offset < ends[record.at[:2]])


def _read_to_end(
    consumer: Consumer, records: list[Read], ends: Mapping[tuple[str, int], int]
) -> bool:
    records.extend(_records(consumer))
    positions = consumer.position([TopicPartition(*tp) for tp in ends])
    return all(max(tp.offset, 0) >= ends[tp.topic, tp.partition] for tp in positions)


def _records(consumer: Consumer) -> Iterator[Read]:
    for message in consumer.consume(10_000, 0.2):
        error = message.error()
        assert error is None or error.retriable(), error
        if error is None:
            at = Coordinates(
                str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
            )
            headers = [
                (str(name), value.encode() if isinstance(value, str) else value)
                for name, value in dict(message.headers() or ()).items()
            ]
            yield Read(at, message.timestamp()[1], message.key(), message.value(), headers)
