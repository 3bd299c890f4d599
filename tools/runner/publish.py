"""Publishes the one request of a run, and finds it again: never two requests, whenever the runner is killed."""

from collections.abc import Mapping
from typing import Any

from processors.kafka.clients import admin_client, plain_producer
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record, coordinates_of
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, coordinates_from
from schemas.errors import BadRecord, Discrepancy
from schemas.events import CJAssessmentRequested
from schemas.partitioner import partition_for
from schemas.topics import MAX_REQUEST_BYTES
from tools.runner.manifest import HEADER, Manifest, request_of
from tools.runner.run_folder import RunFolder

REQUEST = "request"  # the step that publishes
BY_KEY = -1  # the producer chooses the partition


def request_partition(settings: Settings, batch_id: str) -> Partition:
    """The partition of a batch's request; its outcome, judging and result have the same number."""
    number = partition_for(batch_id.encode(), settings.partitions)
    return Partition(settings.topics.requests.name, number)


def noted_end(settings: Settings, manifest: Manifest) -> Mapping[str, Any]:
    """Where the request will be: its partition, and the offset before which it cannot be. Raises Unreachable."""
    checked_topics(admin_client(settings), settings)
    partition = request_partition(settings, manifest.document["batch_id"])
    end = high_watermarks_when_reachable(settings, [partition])[partition]
    return {"topic": partition.topic, "partition": partition.partition, "end": end}


def publish_once(
    settings: Settings, codec: Codec, manifest: Manifest, noted: Mapping[str, Any]
) -> LogRecord:
    """The record of the run's request, which is published unless the log has it from the noted offset on.

    Raises Unreachable, Discrepancy, Malformed.
    """
    partition = Partition(noted["topic"], noted["partition"])
    if found := find_request(settings, codec, manifest, partition, noted["end"]):
        return found
    value = codec.encode(request_of(manifest))
    if len(value) > MAX_REQUEST_BYTES:
        raise Discrepancy(
            f"the request has {len(value)} bytes, at most {MAX_REQUEST_BYTES} are allowed"
        )
    record = _record(partition.topic, manifest, value)
    (message,) = deliver(plain_producer(settings), [record])
    at = coordinates_of(message)
    published = request_at(settings, at)
    if published is None:
        raise Discrepancy(f"{at}: the request was acknowledged, but the log does not have it")
    return published


def _record(topic: str, manifest: Manifest, value: bytes) -> Record:
    headers = [
        ("event_type", CJAssessmentRequested.__name__.encode()),
        ("correlation_id", request_of(manifest).correlation_id.encode()),
        (HEADER, manifest.id.encode()),
    ]
    key = manifest.document["batch_id"].encode()
    return Record(topic, BY_KEY, key, value, headers)


def request_at(settings: Settings, at: Coordinates) -> LogRecord | None:
    """The record at these coordinates; None if the log no longer has it. Raises Unreachable, Discrepancy."""
    partition = Partition(at.topic, at.partition)
    with LogReader(settings, [partition]) as log:
        low, _ = log.offset_ranges()[partition]
        if at.offset < low:
            return None
        log.seek({partition: at.offset})
        records = log.records_until({partition: at.offset + 1})
        return next((record for record in records if record.at == at), None)


def find_request(
    settings: Settings, codec: Codec, manifest: Manifest, partition: Partition, start: int
) -> LogRecord | None:
    """The run's request, if the log has it from an offset on. Raises Unreachable, Discrepancy."""
    end = high_watermarks_when_reachable(settings, [partition])[partition]
    with LogReader(settings, [partition]) as log:
        low, _ = log.offset_ranges()[partition]
        if low > start:
            raise Discrepancy(
                f"{partition}: the log begins at {low}, but the request may be from {start} on"
            )
        log.seek({partition: start})
        for record in log.records_until({partition: end}):
            if manifest_id_of(record) == manifest.id and _is_request(record, codec, manifest):
                return record
    return None


def request_of_batch(settings: Settings, batch_id: str) -> LogRecord:
    """The newest request with this batch id that the runner sent. Raises Discrepancy, Unreachable."""
    partition = request_partition(settings, batch_id)
    newest: LogRecord | None = None
    with LogReader(settings, [partition]) as log:
        for record in log.records_until(log.seek_to_start()):
            if record.key == batch_id.encode() and manifest_id_of(record) is not None:
                newest = record
    if newest is None:
        raise Discrepancy(f"the log has no request of a run with the batch id {batch_id}")
    return newest


def request_of_run(settings: Settings, folder: RunFolder) -> LogRecord:
    """The request that a run's folder names. Raises Discrepancy, Unreachable."""
    facts = folder.facts_of(REQUEST)
    if "at" not in facts:
        raise Discrepancy(f"{folder.path}: the run has not sent its request: resume it")
    at = coordinates_from(facts["at"])
    record = request_at(settings, at)
    if record is None:
        raise Discrepancy(f"{at}: the log no longer has the request of the run")
    return record


def _is_request(record: LogRecord, codec: Codec, manifest: Manifest) -> bool:
    try:
        event = codec.decode_as(CJAssessmentRequested, record.value)
    except BadRecord:
        return False
    return event.event_id == manifest.event_id


def manifest_id_of(record: LogRecord) -> str | None:
    """The id of the manifest that a request names; None if it was not sent by the runner."""
    value = next((value for name, value in record.headers if name == HEADER), None)
    return None if value is None else value.decode(errors="replace")
