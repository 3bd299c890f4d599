"""Transactions on a real broker: a worker that lost its partitions is fenced; a batch exceeds the producer queue."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from confluent_kafka import Consumer, Producer

from processors.batch_prep.request_consumer import consumed_requests
from processors.exactly_once.batch import Batch
from processors.exactly_once.committer import commit_batch
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import FetchedRecords, GroupConsumer
from processors.exactly_once.slot import slot_of
from processors.kafka.clients import group_member, reader, transactional_producer
from processors.kafka.records import Record
from processors.kafka.transactional_producer import TransactionalProducer
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import Aborted
from tests.faults.load import send
from tests.faults.reading import read_all
from tests.support.builders import requested
from tests.support.until import until


class Member:
    """Only the consumer and the producer of a worker, driven by the test's thread."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._batches = settings.topics.batches.name
        self.epochs = FetchEpoch()
        self.producer = TransactionalProducer(
            lambda: transactional_producer(settings, f"{name}-{settings.prep_group}"), 10
        )
        consumed = consumed_requests(
            settings,
            lambda state, _requests: {*state},
            lambda: reader(settings, **{"auto.offset.reset": "earliest"}),
            lambda _partitions: [],
            slot=slot_of(settings, settings.prep_group),
        )
        group_consumer = group_member(settings, settings.prep_group)
        self.consumer = GroupConsumer(
            consumed, group_consumer, self.epochs, self.commit, settings.batch_max
        )
        self.consumer.join()

    def commit(self, batch: Batch) -> None:
        commit_batch(self.producer, batch)

    def fetch(self) -> FetchedRecords | None:
        fetched = self.consumer.poll(0.05)
        return fetched if fetched and fetched.messages else None

    def batch(self, fetched: FetchedRecords) -> Batch:
        """A batch whose outcomes are the fetched requests themselves."""
        records = [
            Record(
                self._batches,
                message.partition() or 0,
                message.key(),
                str(message.offset()).encode(),
            )
            for message in fetched.messages
        ]
        return Batch(
            records, len(records), fetched.start, fetched.end, fetched.group, fetched.epoch
        )


@contextmanager
def member(settings: Settings, name: str) -> Iterator[Member]:
    worker = Member(settings, name)
    try:
        yield worker
    finally:
        worker.producer.close()
        worker.consumer.close()


def outcomes(settings: Settings) -> list[tuple[int, bytes | None]]:
    records = read_all(
        settings.bootstrap_servers, settings.topics.batches.name, settings.partitions
    )
    return [(record.at.partition, record.value) for record in records]


def test_a_batch_fetched_before_its_partition_moved_is_aborted_even_from_a_current_member(
    settings: Settings,
) -> None:
    send(settings, *(requested(batch_id=f"b-{number}") for number in range(40)))
    with member(settings, "a") as first:
        fetched: list[FetchedRecords] = []

        def all_fetched() -> bool:
            fetched.extend(filter(None, [first.fetch()]))
            return sum(len(records.messages) for records in fetched) == 40

        until(all_fetched)
        with member(settings, "b") as second:
            moved = set[Partition]()
            taken_over: list[FetchedRecords] = []

            def is_taken_over() -> bool:
                first.fetch()
                if records := second.fetch():
                    moved.update(records.end)
                    taken_over.append(records)
                    second.commit(second.batch(records))
                return len(moved) >= 2

            until(is_taken_over)
            committed = sum(len(records.messages) for records in taken_over)
            until(lambda: len(outcomes(settings)) == committed)  # markers follow the commit
            before = outcomes(settings)
            for stale in fetched:
                if stale.end.keys() & moved:
                    with pytest.raises(Aborted):
                        first.commit(first.batch(stale))
            assert outcomes(settings) == before
    assert len(set(before)) == len(before)


def test_no_record_is_dropped_if_a_batch_exceeds_the_producer_queue(
    settings: Settings,
) -> None:
    def small_producer() -> Producer:
        return Producer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "transactional.id": f"small-{settings.prep_group}",
                "queue.buffering.max.messages": 100,
            }
        )

    name = settings.topics.batches.name
    records = [Record(name, number % 4, b"k", b"%d" % number) for number in range(5000)]
    group = Consumer(
        {"bootstrap.servers": settings.bootstrap_servers, "group.id": settings.prep_group}
    )
    with closing(group):
        end = {Partition(settings.topics.requests.name, 0): 0}
        producer = TransactionalProducer(small_producer, 30)
        commit_batch(producer, Batch(records, 5000, {}, end, group.consumer_group_metadata(), 0))
        producer.close()
    until(lambda: len(outcomes(settings)) == 5000)  # the transaction markers may still be missing
