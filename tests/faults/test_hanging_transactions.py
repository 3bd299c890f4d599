"""A worker goes on with the partitions that it can settle while transactions hang on others, and names those."""

from collections.abc import Iterator

import pytest

from processors.exactly_once.group_consumer import SETTLE_S
from processors.kafka.clients import transactional_producer
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.records import Record
from processors.kafka.transactions import (
    OFFSETS_TOPIC,
    OpenTransaction,
    internal_partition,
    open_transactions_or_none,
)
from processors.settings import Settings
from schemas.coordinates import Partition
from tests.faults.asking import Progress, all_have_one_outcome, pause
from tests.faults.load import CODEC, append, assignment, send
from tests.faults.running import StartWorker
from tests.faults.stalled_worker import COMMAND, STALLED_CHECKS_SETTLING
from tests.support.builders import requested
from tests.support.hanging_transaction import hang, hang_offsets, unverified_broker
from tests.support.run_command import run_json
from tests.support.until import until
from tools.broker import Broker

WAITS = '"partitions wait for an open transaction"'
EACH = 10


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with unverified_broker() as broker:
        yield broker


def append_requests(settings: Settings, name: str) -> None:
    topic = settings.topics.requests.name
    append(
        settings,
        [
            Record(topic, number, b"k", CODEC.encode(requested(batch_id=f"{name}-{number}-{one}")))
            for number in range(4)
            for one in range(EACH)
        ],
    )


@pytest.mark.thorough
def test_partitions_without_a_hanging_transaction_go_on(
    settings: Settings, start_worker: StartWorker
) -> None:
    requests = settings.partitions_of(settings.topics.requests)
    offsets_id, parked_id = f"{settings.topic_prefix}offsets", f"{settings.topic_prefix}parked"
    send(settings, *assignment("a1"))
    append_requests(settings, "before")
    first = start_worker(session_timeout_s=6)
    with Progress(settings) as progress:
        progress.wait_for_the_end(first)
    assert first.stop() == 0

    of_offsets = hang_offsets(settings, settings.prep_group, {requests[0]: 3}, offsets_id)
    of_parked = hang(settings, Partition(settings.topics.parked.name, 1), parked_id)
    append_requests(settings, "after")
    worker = start_worker(command=(*COMMAND, "settling"), session_timeout_s=6)
    assert all_but(settings, worker_end=2 * EACH, blocked=requests[:2], seconds=SETTLE_S + 45)
    pause(STALLED_CHECKS_SETTLING + 5)  # the watchdog takes nobody for stalled
    assert worker.is_alive
    assert worker.log_count(WAITS) == 1
    log = worker.log.read_text()
    offsets_at = f"{OFFSETS_TOPIC}/{internal_partition(settings.prep_group, 4)}"
    assert f"{offsets_at}@" in log
    assert f"transactional id {offsets_id}, producer id {of_offsets}, not at its coordin" in log
    assert f"transactional id {parked_id}, producer id {of_parked}, not at its coordin" in log
    committed = committed_offsets(settings, settings.prep_group, requests)
    assert [committed[tp] for tp in requests[:2]] == [EACH, EACH]

    ended = run_json(settings, "topics", "abort-transaction", "--yes")[1]["transactions"]
    assert [one["ended"] for one in ended] == [True, True]
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker, seconds=60)
    worker.kill()
    assert all_have_one_outcome(settings).counts["requests"] == 8 * EACH


def all_but(
    settings: Settings, *, worker_end: int, blocked: list[Partition], seconds: float
) -> bool:
    """Whether every other partition is committed to the end, at the latest after some seconds."""
    others = [tp for tp in settings.partitions_of(settings.topics.requests) if tp not in blocked]

    def is_complete() -> bool:
        committed = committed_offsets(settings, settings.prep_group, others)
        return all(committed[tp] >= worker_end for tp in others)

    return until(is_complete, seconds)


@pytest.mark.thorough
def test_no_transaction_is_taken_for_lost_while_a_restarted_broker_loads_its_coordinators(
    broker: Broker, settings: Settings
) -> None:
    partitions = settings.partitions_of(settings.topics.batches)
    producer = transactional_producer(
        settings, f"{settings.topic_prefix}live", **{"transaction.timeout.ms": 600_000}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for partition in partitions:
        producer.produce(partition.topic, b"x", b"key", partition.partition)
    assert producer.flush(30) == 0
    broker.kill()
    broker.start()
    seen = list[OpenTransaction]()

    def coordinator_has_loaded() -> bool:
        seen[:] = open_transactions_or_none(settings, partitions)
        assert all(one.ongoing_since_ms is not None for one in seen), seen
        return len(seen) == len(partitions)

    until(coordinator_has_loaded)
    producer.commit_transaction(30)
