"""The one request of a run in the log, whenever the runner is stopped; and its run, followed there to its end."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from processors.kafka.clients import admin_client, plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record
from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import resolve
from processors.policy import Policy
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.errors import Discrepancy
from schemas.events import CJAssessmentRequested, CJBatchUnresolved
from schemas.topics import MAX_REQUEST_BYTES
from tests.faults.reading import read_all
from tests.support.builders import requested
from tests.support.judged_batches import CODEC
from tests.unit.runner.test_manifest import ENVIRONMENT, OPTIONS, text
from tools.runner.follow import Patience, follow, read_run, records_of
from tools.runner.inventory import Inventory
from tools.runner.manifest import HEADER, Manifest, build_manifest, request_of
from tools.runner.publish import (
    find_request,
    noted_end,
    publish_once,
    request_at,
    request_of_batch,
    request_of_run,
    request_partition,
)
from tools.runner.run_folder import RunFolder

INVENTORY = Inventory(tuple(text("student", name) for name in ("a", "b")))
MANIFEST = build_manifest(OPTIONS, INVENTORY, ENVIRONMENT, {})


def requests_in(settings: Settings) -> list[Any]:
    topic = settings.topics.requests.name
    return read_all(settings.bootstrap_servers, topic, settings.partitions)


def manifest_with(**options: Any) -> Manifest:
    return build_manifest(replace(OPTIONS, **options), INVENTORY, ENVIRONMENT, {})


def append_request(
    settings: Settings, partition: Partition, event: CJAssessmentRequested, manifest_id: str
) -> None:
    value = CODEC.encode(event)
    headers = [(HEADER, manifest_id.encode())]
    key = event.batch_id.encode()
    deliver(plain_producer(settings), [Record(*partition, key, value, headers)])


def test_a_request_is_published_once_with_its_manifest_in_its_batchs_partition(
    settings: Settings,
) -> None:
    noted = noted_end(settings, MANIFEST)
    first = publish_once(settings, CODEC, MANIFEST, noted)
    assert publish_once(settings, Codec(), MANIFEST, noted) == first
    (only,) = requests_in(settings)
    assert (noted["partition"], noted["end"]) == (first.at.partition, first.at.offset)
    assert first.key == b"first-1"
    assert CODEC.decode(first.value) == request_of(MANIFEST)
    assert dict(first.headers)[HEADER] == MANIFEST.id.encode()
    assert (only.key, only.value) == (first.key, first.value)
    assert request_at(settings, first.at) == first


def test_the_request_of_another_run_is_never_taken_for_ones_own(settings: Settings) -> None:
    noted, partition = noted_end(settings, MANIFEST), request_partition(settings, "first-1")
    own, other = request_of(MANIFEST), requested(batch_id="first-1")
    append_request(settings, partition, own, "0" * 64)  # another manifest
    append_request(settings, partition, other, MANIFEST.id)  # another event
    damaged = [(HEADER, MANIFEST.id.encode())]
    deliver(plain_producer(settings), [Record(*partition, b"first-1", b"\1?", damaged)])
    assert find_request(settings, CODEC, MANIFEST, partition, noted["end"]) is None
    published = publish_once(settings, CODEC, MANIFEST, noted)
    assert published.at.offset == noted["end"] + 3
    assert len(requests_in(settings)) == 4
    after = published.at.offset + 1
    assert find_request(settings, CODEC, MANIFEST, partition, after) is None


def test_a_request_that_the_log_may_have_lost_is_not_sent_again(settings: Settings) -> None:
    noted = noted_end(settings, MANIFEST)
    first = publish_once(settings, CODEC, MANIFEST, noted)
    partition = TopicPartition(first.at.topic, first.at.partition, first.at.offset + 1)
    admin = admin_client(settings)  # must stay alive until it has answered
    (deleted,) = admin.delete_records([partition]).values()
    deleted.result(30)
    with pytest.raises(Discrepancy, match="the log begins at 1, but the request may be from 0 on"):
        publish_once(settings, CODEC, MANIFEST, noted)
    assert request_at(settings, first.at) is None


def test_a_request_that_is_too_large_is_refused_before_it_is_sent(settings: Settings) -> None:
    texts = tuple(text("student", f"{n:064}") for n in range(5_000))
    large = build_manifest(OPTIONS, Inventory(texts), ENVIRONMENT, {})
    with pytest.raises(Discrepancy, match=f"bytes, at most {MAX_REQUEST_BYTES} are allowed"):
        publish_once(settings, CODEC, large, noted_end(settings, large))
    assert requests_in(settings) == []


def test_a_request_is_found_again_by_its_folder_and_by_its_batch(
    settings: Settings, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(Discrepancy, match="has not sent its request: resume it"):
        request_of_run(settings, folder)
    with pytest.raises(Discrepancy, match="no request of a run with the batch id first-1"):
        request_of_batch(settings, "first-1")
    older = publish_once(settings, CODEC, MANIFEST, noted_end(settings, MANIFEST))
    again = manifest_with(timeout_s=61)  # another run with the same batch id
    newer = publish_once(settings, CODEC, again, noted_end(settings, again))
    append_request(
        settings, request_partition(settings, "other"), requested(batch_id="other"), "0" * 64
    )
    assert request_of_batch(settings, "first-1") == newer
    folder.note("request", "done", at=str(older.at))
    assert request_of_run(settings, folder) == older


class Ticks:
    """A clock that moves on by a second each time it is asked, and the patience of one who looks at it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s

    def patience(self, seconds: float) -> Patience:
        return Patience(self.now_s + seconds, self)


def unresolved(request: LogRecord) -> CJBatchUnresolved:
    event = CODEC.decode_as(CJAssessmentRequested, request.value)
    outcome = outcome_of(event, request.at, resolve(event, None, Policy()))
    assert isinstance(outcome, CJBatchUnresolved)
    return outcome


def append_unresolved(settings: Settings, requests: Iterable[LogRecord]) -> None:
    topic = settings.topics.unresolved.name
    records = [
        Record(topic, one.at.partition, one.key, CODEC.encode(unresolved(one))) for one in requests
    ]
    deliver(plain_producer(settings), records)


def test_following_ends_with_the_run_or_when_the_time_is_up(settings: Settings) -> None:
    other = manifest_with(timeout_s=61)
    own, foreign = (
        publish_once(settings, CODEC, one, noted_end(settings, one)) for one in (MANIFEST, other)
    )
    append_unresolved(settings, [foreign])
    records = records_of(own, settings, CODEC)
    follow(settings, records, Ticks().patience(3), lambda *_: None)
    assert (records.is_over, records.unprepared) == (False, None)
    append_unresolved(settings, [own])
    follow(settings, records, Ticks().patience(1000), lambda *_: None)
    assert records.is_over
    assert (records.unprepared or "").startswith("unresolved: no live instructions")
    again = records_of(own, settings, CODEC)
    read_run(settings, again)
    assert again.unprepared == records.unprepared


def test_what_is_no_request_has_no_run(settings: Settings) -> None:
    published = publish_once(settings, CODEC, MANIFEST, noted_end(settings, MANIFEST))
    with pytest.raises(Discrepancy, match=str(published.at)):
        records_of(replace(published, value=b"\1?"), settings, CODEC)
