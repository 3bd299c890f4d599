"""A request sees every upload that was acknowledged before it was sent."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.settings import Settings
from schemas.events import UploadEvent
from tests.faults.asking import Progress, all_have_one_outcome
from tests.faults.checker import outcome_of
from tests.faults.load import assignment, record_of, send
from tests.faults.reading import Coordinates, read_all
from tests.faults.running import StartWorker
from tests.support.builders import requested
from tests.support.until import until

UPLOADS = 300


@pytest.fixture
def writer(settings: Settings) -> Iterator[Producer]:
    """A transactional upload writer, like that of the admin API."""
    producer = Producer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "transactional.id": f"{settings.topic_prefix}writer",
            "partitioner": "murmur2_random",
            "retry.backoff.ms": 2,
            "transaction.timeout.ms": 60_000,
        }
    )
    producer.init_transactions(30)
    yield producer
    producer.flush(10)


def begin_uploads(writer: Producer, settings: Settings, *events: UploadEvent) -> None:
    """Append events in a transaction and leave it open."""
    writer.begin_transaction()
    for event in events:
        record = record_of(settings, event)
        writer.produce(record.topic, record.value, record.key)
    assert writer.flush(30) == 0


def instructions_versions(settings: Settings) -> dict[Coordinates, int]:
    """The version of the instructions in each prepared batch, by the coordinates of its request."""
    records = read_all(
        settings.bootstrap_servers, settings.topics.batches.name, settings.partitions
    )
    outcomes = map(outcome_of, records)
    return {outcome.request_at: outcome.used["instructions"].version for outcome in outcomes}


def test_every_request_sees_the_uploads_acknowledged_before_it(
    settings: Settings, start_worker: StartWorker, writer: Producer
) -> None:
    send(settings, *(event for number in range(7) for event in assignment(f"a{number}")))
    expected = dict[Coordinates, int]()
    producer = plain_producer(settings, **{"linger.ms": 0})
    with Progress(settings) as progress:
        workers = [start_worker(slot, session_timeout_s=6) for slot in ("one", "two")]
        for worker in workers:
            worker.wait_until_it_runs()
        until(lambda: all(worker.log_count('"partitions assigned"') for worker in workers))
        for number in range(UPLOADS):
            name, version = f"a{number % 7}", 2 + number // 7
            begin_uploads(writer, settings, *assignment(name, version))
            writer.commit_transaction(30)
            request = requested(assignment_id=name, batch_id=f"b-{number}")
            (sent,) = deliver(producer, [record_of(settings, request)])
            at = Coordinates(str(sent.topic()), int(sent.partition() or 0), int(sent.offset() or 0))
            expected[at] = version
        progress.wait_for_the_end(*workers)
    found = instructions_versions(settings)
    older = {at: (found[at], version) for at, version in expected.items() if found[at] < version}
    assert not older, f"{len(older)} of {UPLOADS} (found, acknowledged): {list(older.items())[:5]}"
    all_have_one_outcome(settings)


@pytest.mark.thorough
def test_batches_wait_while_an_upload_transaction_is_open(
    settings: Settings, start_worker: StartWorker, writer: Producer
) -> None:
    send(settings, *assignment("a1"))
    with Progress(settings) as progress:
        worker = start_worker(session_timeout_s=6)
        worker.wait_until_it_runs()
        begin_uploads(writer, settings, *assignment("a1", 2))
        send(settings, requested())
        until(lambda: worker.log_count("batch waits for uploads") >= 2)
        assert not progress.is_complete()
        writer.commit_transaction(30)
        progress.wait_for_the_end(worker)
    assert list(instructions_versions(settings).values()) == [2]
    all_have_one_outcome(settings)
