"""The topics, their records and their headers as one AsyncAPI 3 document, from the catalogue and the schemas. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from processors.judging.record_checksum import CHECKSUM_HEADER
from processors.outcomes.positions_header import POSITIONS_HEADER
from schemas import dead_letters
from schemas.released_schemas import Released, released
from schemas.topics import Topic, Topics

Document = dict[str, Any]
AVRO = "application/vnd.apache.avro"
SCHEMA_FORMAT = f"{AVRO}+json;version=1.9.0"  # the newest that the specification names
KAFKA_BINDING = "0.5.0"
HEADERS = {
    "event_type": "name of the record, such as StudentPromptUploaded",
    "correlation_id": "of the request that caused the record",
    POSITIONS_HEADER: "up to where the uploads had been folded: per upload topic the next offset of each partition, "
    "and a checksum",
    dead_letters.ATTEMPT: "of a re-driven record: 1, 2, 3 …",
    dead_letters.REDRIVEN_FROM: "of a re-driven record: coordinates of its dead letter",
    dead_letters.ORIGIN: "of a re-driven record: coordinates and append time of the refused record",
    dead_letters.MARKER: "coordinates of the dead letter that was re-driven",
    CHECKSUM_HEADER: "sha256 of the record's value, in hex",
    dead_letters.REDRIVEN_TO: "coordinates of the re-driven record, or `superseded`",
}
HEADERS |= dict.fromkeys(
    (dead_letters.PREFIX + part for part in dead_letters.NAMES), "of the refused record, as text"
)
HEADERS |= dict.fromkeys(
    dead_letters.TRUNCATED, "size and sha256 of what did not fit into a record"
)
REDRIVEN = (dead_letters.ATTEMPT, dead_letters.REDRIVEN_FROM, dead_letters.ORIGIN)
UPLOAD_HEADERS = ("event_type", "correlation_id", *REDRIVEN)
DEAD_LETTER = "DeadLetter"
MARKER = "RedriveMarker"
ROLES: Mapping[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    # field of the catalogue: what it holds, the key of its records, what cjstream does with them, headers
    "instructions": (
        "Instructions, uploaded and deleted.",
        "scope",
        ("receive", "send"),
        UPLOAD_HEADERS,
    ),
    "student_prompts": (
        "Student prompts, uploaded and deleted.",
        "scope",
        ("receive", "send"),
        UPLOAD_HEADERS,
    ),
    "judge_rubrics": (
        "Judge rubrics, uploaded and deleted.",
        "scope",
        ("receive", "send"),
        UPLOAD_HEADERS,
    ),
    "anchors": (
        "Anchors of assignments, uploaded and deleted: essays whose grades experts gave, for the judge alone.",
        "scope",
        ("receive", "send"),
        UPLOAD_HEADERS,
    ),
    "context": (
        "The current context of each assignment and course, folded from the uploads.",
        "scope",
        ("send",),
        (),
    ),
    "requests": (
        "Requests for comparative judgement: one names one batch of essays.",
        "batch",
        ("receive",),
        ("event_type", "correlation_id", *REDRIVEN),
    ),
    "batches": (
        "Outcomes: requests with their context. Read committed records only.",
        "batch",
        ("send",),
        (POSITIONS_HEADER,),
    ),
    "unresolved": (
        "Outcomes: requests whose context was not complete in time. Read committed records only.",
        "batch",
        ("send",),
        (POSITIONS_HEADER,),
    ),
    "parked": (
        "Requests that wait for their context; a record without a value ends the wait. Of cjstream alone.",
        "coordinates",
        ("send", "receive"),
        (),
    ),
    "requests_dlq": ("Outcomes: requests that cannot be read.", "raw", ("send",), ()),
    "uploads_dlq": ("Uploads that cannot be read.", "raw", ("send",), ()),
    "judging": (
        "What the judges are asked and answer, run by run.",
        "run",
        ("send", "receive"),
        (CHECKSUM_HEADER,),
    ),
    "results": ("Results of judged batches.", "batch", ("send",), (CHECKSUM_HEADER,)),
}
KEYS = {
    "scope": "assignment:<assignment_id> or course:<course_id>",
    "batch": "the key of the request: its producer's choice, the batch_id by convention",
    "run": "the run_id, which is the event_id of the CJBatchPrepared",
    "coordinates": "coordinates of the request, topic/partition@offset",
    "raw": "the key of the refused record, as it was",
}


def asyncapi(topics: Topics, *, horizon_days: int, partitions: int) -> Document:
    """The document of an installation with these topic names; JSON-serializable."""
    channels, operations, messages = Document(), Document(), Document()
    for name, unprefixed, topic in zip(ROLES, Topics().all, topics.all, strict=True):
        holds, key, actions, headers = ROLES[name]
        carried = dict(_messages(unprefixed, key, headers))
        messages |= carried
        channels[name] = {
            "address": topic.name,
            "description": holds,
            "messages": {each: {"$ref": f"#/components/messages/{each}"} for each in carried},
            "bindings": {"kafka": _kafka_channel(topic, horizon_days, partitions)},
        }
        for action in actions:
            operations[f"{action}_{name}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": f"cjstream {'appends to' if action == 'send' else 'reads'} {topic.name}",
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "cjstream topics",
            "version": "1",  # of the contract, as in the topics' names
            "description": "Uploads and requests in, outcomes and results out. Values are framed as Confluent's "
            "serializers do: one byte 0, the schema id (4 bytes, big endian), the Avro body. Producers must partition "
            "by murmur2 of the key. Records are written in transactions: read them with `read_committed`.",
        },
        "defaultContentType": AVRO,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def _messages(topic: Topic, key: str, headers: tuple[str, ...]) -> Iterator[tuple[str, Document]]:
    for event_class in topic.carries:
        versions = [schema for schema in released() if schema.name == event_class.__name__]
        yield event_class.__name__, _message(versions, key, headers)
    if not topic.carries:
        originals = tuple(dead_letters.PREFIX + name for name in dead_letters.NAMES)
        yield DEAD_LETTER, _raw("A refused record, byte for byte.", key, originals)
        marked = (dead_letters.MARKER, dead_letters.REDRIVEN_TO)
        yield MARKER, _raw("A dead letter was re-driven; skip it. It has no value.", key, marked)


def _message(versions: list[Released], key: str, headers: tuple[str, ...]) -> Document:
    latest = versions[-1]
    ids = ", ".join(f"{each.schema_id} (version {each.version})" for each in versions)
    return {
        "name": latest.name,
        "title": f"{latest.name}, version {latest.version}",
        "summary": latest.schema.get("doc", latest.name),
        "description": f"Schema ids without an external registry: {ids}.",
        "contentType": AVRO,
        **_headers(headers),
        "payload": {"schemaFormat": SCHEMA_FORMAT, "schema": latest.schema},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": KEYS[key]},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _raw(summary: str, key: str, headers: tuple[str, ...]) -> Document:
    return {
        "summary": summary,
        "contentType": "application/octet-stream",
        **_headers(headers),
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": KEYS[key]},
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _headers(names: tuple[str, ...]) -> Document:
    if not names:
        return {}
    properties = {name: {"type": "string", "description": HEADERS[name]} for name in names}
    return {"headers": {"type": "object", "properties": properties}}


def _kafka_channel(topic: Topic, horizon_days: int, partitions: int) -> Document:
    config = topic.config(horizon_days=horizon_days, replication=3)
    named: Document = {"cleanup.policy": [config["cleanup.policy"]]}
    for name in ("retention.ms", "max.message.bytes"):
        if name in config:
            named[name] = int(config[name])
    return {
        "topic": topic.name,
        "partitions": partitions,
        "topicConfiguration": named,
        "bindingVersion": KAFKA_BINDING,
    }
