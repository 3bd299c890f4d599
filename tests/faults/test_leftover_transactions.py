"""A transaction that lacks its last marker is ended before the next one of its transactional id decides its fate."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from processors.kafka.clients import transactional_id
from processors.kafka.records import Record
from processors.kafka.transactional_producer import TransactionalProducer, producer_with_id
from processors.log.leftover_transactions import end_leftovers
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition
from tests.faults.asking import Progress, all_have_one_outcome
from tests.faults.load import assignment, send
from tests.faults.running import StartWorker
from tests.support.builders import requested
from tests.support.hanging_transaction import hang, log_decision, unverified_broker
from tests.support.until import until
from tools.broker import Broker


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with unverified_broker() as broker:
        yield broker


def values_in(settings: Settings, partition: Partition) -> list[bytes | None]:
    with LogReader(settings, [partition]) as log:
        return [record.value for record in log.records_until(log.seek_to_start())]


def producer_of(settings: Settings, partition: Partition) -> TransactionalProducer:
    name = f"{settings.topic_prefix}lost"
    return producer_with_id(settings, name, partial(end_leftovers, settings, name, [partition]))


@pytest.mark.parametrize("was_committed", [True, False])
def test_the_next_transaction_does_not_decide(settings: Settings, was_committed: bool) -> None:
    partition = Partition(settings.topics.batches.name, 1)
    name = f"{settings.topic_prefix}lost"
    producer_id = hang(settings, partition, name, b"old")
    if was_committed:
        log_decision(settings, name, producer_id, partition)
    with closing(producer_of(settings, partition)) as producer:
        producer.take_over(30)
        producer.begin()
        producer.produce_and_wait([Record(*partition, b"key", b"new")])
        if was_committed:
            producer.abort()
        else:
            producer.commit()
    assert values_in(settings, partition) == [b"old" if was_committed else b"new"]


@pytest.mark.thorough
def test_a_worker_does_not_bring_back_an_aborted_outcome(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    send(settings, *(requested(batch_id=f"before-{number}") for number in range(20)))
    worker = start_worker("one", session_timeout_s=6)
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    assert worker.stop() == 0
    name = transactional_id(settings.model_copy(update={"slot": "one"}))
    for partition in settings.partitions_of(settings.topics.batches):
        for outcome in values_in(settings, partition)[:1]:
            hang(settings, partition, name, outcome or b"")

    send(settings, *(requested(batch_id=f"after-{number}") for number in range(20)))
    worker.start()
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    assert all_have_one_outcome(settings).counts["requests"] == 40
    assert worker.log_count("a transaction that lacked its last marker was ended") > 0


@pytest.mark.thorough
def test_a_producer_takes_over_again_after_its_only_broker_was_away(
    broker: Broker, settings: Settings
) -> None:
    partition = Partition(settings.topics.batches.name, 1)
    with closing(producer_of(settings, partition)) as producer:
        producer.take_over(30)
        producer.begin()
        producer.produce_and_wait([Record(*partition, b"key", b"one")])
        producer.commit()
        assert producer.is_open
        broker.kill()
        try:
            until(lambda: not producer.is_open)
        finally:
            broker.start()
        producer.take_over(60)
        assert producer.is_open
