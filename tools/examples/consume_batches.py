"""Prints each prepared batch once, with its provenance: `python consume_batches.py BROKERS TOPIC REGISTRY_URL FILE`.

FILE keeps the event ids of printed batches. Needs confluent-kafka and fastavro.
"""

import io
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import fastavro
from confluent_kafka import Consumer

FRAME_BYTES = 5  # 0, and the schema id


@cache
def schema(registry: str, schema_id: int) -> Any:
    """The schema of an id; fetched once."""
    with urlopen(f"{registry}/schemas/ids/{schema_id}", timeout=10) as answer:
        return fastavro.parse_schema(json.loads(json.load(answer)["schema"]))


def main(brokers: str, topic: str, registry: str, file: str) -> None:
    """Consume until the process is stopped."""
    group = {"group.id": "example", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    # aborted transactions leave records that no outcome counts: only committed ones may be read
    consumer = Consumer(
        {"bootstrap.servers": brokers, "isolation.level": "read_committed", **group}
    )
    consumer.subscribe([topic])
    printed = Path(file)
    seen = set(printed.read_text().split()) if printed.exists() else set()
    while True:
        message = consumer.poll(1)
        if message is None or message.error() or not (value := message.value()):
            continue
        writer = schema(registry, int.from_bytes(value[1:FRAME_BYTES], "big"))
        batch: Any = fastavro.schemaless_reader(io.BytesIO(value[FRAME_BYTES:]), writer, None)
        # after a crash the offset is older than the work that was done: the event id tells what was done
        if batch["event_id"] not in seen:
            line = {name: batch[name] for name in ("event_id", "processing_metadata", "provenance")}
            print(json.dumps(line | {"batch_id": batch["request"]["batch_id"]}), flush=True)
            seen.add(batch["event_id"])
            with printed.open("a") as lines:
                lines.write(f"{batch['event_id']}\n")
        consumer.commit(message=message, asynchronous=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
