"""Transactions on a real broker: what fences a worker that lost its partitions, and a queue that is too small."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from confluent_kafka import Consumer, Producer

from processors.batch_prep.request_consumer import consumed_requests
from processors.exactly_once.assignment_epoch import AssignmentEpoch
from processors.exactly_once.batch import Batch
from processors.exactly_once.batch_producer import BatchProducer
from processors.exactly_once.group_consumer import FetchedRecords, GroupConsumer
from processors.kafka.clients import group_member, reader, transactional_producer
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import Aborted
from tests.faults.load import send
from tests.faults.reading import read_all
from tests.support.builders import requested
from tests.support.until import until


class Member:
    """A worker's fetching and committing, without the rest; the test is its only thread."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._batches = settings.topics.batches.name
        self.ownership = AssignmentEpoch()
        self.outbox = BatchProducer(
            lambda: transactional_producer(settings, f"{name}-{settings.prep_group}"), 10
        )
        consumed = consumed_requests(
            settings, lambda _: True, lambda: reader(settings, **{"auto.offset.reset": "earliest"})
        )
        consumer = group_member(settings, settings.prep_group)
        self.fetcher = GroupConsumer(
            consumed, consumer, self.ownership, self.outbox.commit, settings.batch_max
        )
        self.fetcher.join()

    def fetch(self) -> FetchedRecords | None:
        fetched = self.fetcher.poll(0.05)
        return fetched if fetched and fetched.messages else None

    def batch(self, fetched: FetchedRecords) -> Batch:
        """Its batch: the requests themselves, as if they were outcomes."""
        records = [
            Record(self._batches, one.partition() or 0, one.key(), str(one.offset()).encode())
            for one in fetched.messages
        ]
        return Batch(
            records, len(records), fetched.start, fetched.end, fetched.group, fetched.epoch
        )


@contextmanager
def member(settings: Settings, name: str) -> Iterator[Member]:
    one = Member(settings, name)
    try:
        yield one
    finally:
        one.outbox.close()
        one.fetcher.close()


def outcomes(settings: Settings) -> list[tuple[int, bytes | None]]:
    records = read_all(
        settings.bootstrap_servers, settings.topics.batches.name, settings.partitions
    )
    return [(one.at.partition, one.value) for one in records]


def test_a_batch_fetched_before_its_partition_moved_is_refused_although_its_worker_is_a_member(
    settings: Settings,
) -> None:
    send(settings, *(requested(batch_id=f"b-{number}") for number in range(40)))
    with member(settings, "a") as first:
        fetched: list[FetchedRecords] = []

        def all_fetched() -> bool:
            fetched.extend(filter(None, [first.fetch()]))
            return sum(len(one.messages) for one in fetched) == 40

        until(all_fetched)
        with member(settings, "b") as second:
            taken: dict[Partition, FetchedRecords] = {}

            def taken_over() -> bool:
                first.fetch()
                if one := second.fetch():
                    taken.update(dict.fromkeys(one.end, one))
                    second.outbox.commit(second.batch(one))
                return len(taken) >= 2

            until(taken_over)
            before = outcomes(settings)
            for late in fetched:
                if late.end.keys() & taken.keys():
                    with pytest.raises(Aborted):
                        first.outbox.commit(first.batch(late))
            assert outcomes(settings) == before
    assert len(set(before)) == len(before)


def test_no_record_is_dropped_where_a_batch_does_not_fit_the_producers_queue(
    settings: Settings,
) -> None:
    def small() -> Producer:
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
        outbox = BatchProducer(small, 30)
        outbox.commit(Batch(records, 5000, {}, end, group.consumer_group_metadata(), 0))
        outbox.close()
    until(lambda: len(outcomes(settings)) == 5000)  # the markers may be still on their way
