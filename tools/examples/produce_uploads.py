"""Uploads instructions as an event: `python produce_uploads.py BROKERS TOPIC API_URL ASSIGNMENT_ID SCALE TEXT_FILE`.

TOKEN is a token of the admin API for the text, which goes to the content store. Needs confluent-kafka and fastavro.
"""

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import fastavro
from confluent_kafka import Producer

RECORD = "cjstream.InstructionsUploaded"


def main(brokers: str, topic: str, api: str, assignment_id: str, scale: str, file: str) -> None:
    """Store the text, then append the event that names it."""
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    headers["Content-Type"] = "text/plain; charset=utf-8"
    text = Path(file).read_bytes()
    with urlopen(Request(f"{api}/v1/content", text, headers), timeout=30) as answer:
        stored = json.load(
            answer
        )  # before the event, so that no event names a text that is nowhere
    subject = f"{api}/registry/subjects/{topic}-{RECORD}/versions/latest"
    with urlopen(subject, timeout=30) as answer:
        registered = json.load(answer)
    now_ms = int(time.time() * 1000)
    event: dict[str, Any] = {
        "event_id": str(uuid4()),
        "assignment_id": assignment_id,
        "course_id": None,
        "version": 1,  # the version that was read, plus 1: GET /admin/v1/assignments/{assignment_id}
        "previous_event_id": None,  # and the event id that was read
        "actor": "example",
        "correlation_id": str(uuid4()),
        "occurred_at_ms": now_ms,
        "created_at_ms": now_ms,
        "storage_id": stored["storage_id"],
        "sha256": stored["storage_id"],  # the store names a text by its sha256
        "media_type": stored["media_type"],
        "size_bytes": stored["size_bytes"],
        "grade_scale": scale,
        "context_origin": "research_experiment",
    }
    value = io.BytesIO(b"\0" + registered["id"].to_bytes(4, "big"))
    value.seek(0, io.SEEK_END)
    fastavro.schemaless_writer(value, json.loads(registered["schema"]), event)
    # the partition must be that of Kafka's Java client, where the other uploads of the assignment are
    config = {"partitioner": "murmur2_random", "enable.idempotence": True}
    producer = Producer({"bootstrap.servers": brokers, **config})
    producer.produce(topic, value.getvalue(), f"assignment:{assignment_id}", on_delivery=report)
    producer.flush()


def report(error: object, message: Any) -> None:
    """Print where the record is, or end with the error."""
    sys.exit(str(error)) if error else print(
        f"{message.topic()}/{message.partition()}@{message.offset()}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
