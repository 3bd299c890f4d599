"""Reads an installation's topics back, by a plain consumer and the `.avsc` files: nothing of the product."""

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
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Read(NamedTuple):
    """A record as a plain consumer got it."""

    at: Coordinates
    appended_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Decoded(NamedTuple):
    """A record's value: the name of its schema, and its fields."""

    name: str
    fields: Mapping[str, Any]


def _schemas() -> dict[int, tuple[Any, Any]]:
    """By id the schema that wrote a record, and the newest of its name, as which it is read."""
    ids = orjson.loads((SCHEMAS / "schema_ids.json").read_bytes())
    parsed: dict[int, Any] = {
        number: fastavro.parse_schema(orjson.loads((SCHEMAS / name).read_bytes()))
        for name, number in sorted(ids.items(), key=lambda one: one[1])
    }
    newest = {schema["name"]: schema for schema in parsed.values()}
    return {number: (schema, newest[schema["name"]]) for number, schema in parsed.items()}


BY_ID = _schemas()


def readable(value: bytes | None) -> Decoded | None:
    """What a value says, by the schema that its frame names; None where that is nothing."""
    if value is None or value[:1] != b"\0":
        return None
    body = BytesIO(value)
    schemas = BY_ID.get(int.from_bytes(body.read(FRAME_BYTES)[1:], "big"))
    if schemas is None or len(value) < FRAME_BYTES:
        return None
    schema, newest = schemas
    try:
        fields: Any = fastavro.schemaless_reader(body, schema, newest)
    except Exception:  # noqa: BLE001 (whatever damaged bytes make of a reader)
        return None
    return None if body.read(1) else Decoded(schema["name"].rpartition(".")[2], fields)


def decoded(value: bytes | None) -> Mapping[str, Any]:
    """The fields of a value that has to be readable."""
    found = readable(value)
    assert found is not None, "not an event"
    return found.fields


def committed_by(
    member: Consumer, partitions: Sequence[TopicPartition]
) -> dict[tuple[str, int], int]:
    """The committed offsets of the consumer's group; negative where there is none."""
    found = member.committed(list(partitions), timeout=10)
    return {(at.topic, at.partition): at.offset for at in found}


def ends_of(
    admin: AdminClient, partitions: Iterable[TopicPartition], isolation: IsolationLevel
) -> dict[tuple[str, int], int]:
    """Where partitions end; for committed readers, where the first open transaction begins."""
    asked = {at: OffsetSpec.latest() for at in partitions}
    futures = admin.list_offsets(asked, isolation_level=isolation, request_timeout=10)
    ends = {(at.topic, at.partition): one.result().offset for at, one in futures.items()}
    if min(ends.values(), default=0) < 0:  # its leader died while it was asked
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    return ends


def read_all(bootstrap: str, topic: str, partitions: int, *, raw: bool = False) -> list[Read]:
    """Every record of a topic in log order, committed ones only; raw: whatever became of them."""
    isolation = "read_uncommitted" if raw else "read_committed"
    level = IsolationLevel.READ_UNCOMMITTED if raw else IsolationLevel.READ_COMMITTED
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    asked = [TopicPartition(topic, one) for one in range(partitions)]
    ends = ends_of(admin, asked, level)
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
        consumer.assign([TopicPartition(topic, one, OFFSET_BEGINNING) for one in range(partitions)])
        until(lambda: _read_on(consumer, records, ends), seconds=60)
    finally:
        consumer.close()
    return sorted(one for one in records if one.at.offset < ends[one.at[:2]])


def _read_on(consumer: Consumer, records: list[Read], ends: Mapping[tuple[str, int], int]) -> bool:
    records.extend(_records(consumer))
    positions = consumer.position([TopicPartition(*at) for at in ends])
    return all(max(at.offset, 0) >= ends[at.topic, at.partition] for at in positions)


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
