"""Requests a comparative judgement.

`python produce_requests.py BROKERS TOPIC REGISTRY_URL ASSIGNMENT_ID ESSAY_ID=STORAGE_ID…`; the essays' texts are in
the content store already. Needs confluent-kafka and fastavro.
"""

import io
import json
import sys
import time
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import fastavro
from confluent_kafka import Producer

RECORD = "cjstream.CJAssessmentRequested"


def main(brokers: str, topic: str, registry: str, assignment_id: str, *essays: str) -> None:
    """Append one request for all essays; each is `essay_id=storage_id`."""
    with urlopen(f"{registry}/subjects/{topic}-{RECORD}/versions/latest", timeout=30) as answer:
        registered = json.load(answer)
    batch_id = str(uuid4())
    request: dict[str, Any] = {
        "event_id": str(uuid4()),
        "occurred_at_ms": int(time.time() * 1000),
        "source_service": "example",
        "correlation_id": str(uuid4()),
        "batch_id": batch_id,
        "assignment_id": assignment_id,
        "course_code": "ENG5",
        "language": "en",
        "student_prompt_ref": None,  # a storage id here overrides the assignment's prompt
        "user_id": None,
        "org_id": None,
        "llm_config_overrides": None,
        "essays": [
            dict(zip(("essay_id", "text_storage_id"), essay.split("="), strict=True))
            for essay in essays
        ],
        "due_at_ms": None,
    }
    value = io.BytesIO(b"\0" + registered["id"].to_bytes(4, "big"))
    value.seek(0, io.SEEK_END)
    fastavro.schemaless_writer(value, json.loads(registered["schema"]), request)
    # an idempotent producer: a retry after a lost answer does not append the request twice
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    producer.produce(topic, value.getvalue(), batch_id, on_delivery=report)
    producer.flush()


def report(error: object, message: Any) -> None:
    """Print where the record is, or end with the error."""
    sys.exit(str(error)) if error else print(
        f"{message.topic()}/{message.partition()}@{message.offset()}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
