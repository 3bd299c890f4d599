"""The broker is killed under load, and is started again or stays down."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiokafka
import pytest

from processors.dead_letters.upload_dead_letters import put_upload_dead_letter
from processors.fold.patient_start import start_when_reachable
from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import DELIVERY_TIMEOUT_S
from processors.log.compacted_rows import newest_rows
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Malformed
from tables.upload_record import UploadRecord
from tests.faults.asking import Progress, all_have_one_outcome, pause
from tests.faults.load import Flow, send
from tests.faults.running import Process, StartWorker
from tests.support.builders import instructions_uploaded
from tests.support.installations import installation
from tests.support.run_command import ROOT
from tests.support.until import until
from tools.broker import Broker

CONTEXTS = 3000
OUTAGE_S = 40  # longer than a client waits for the answer to one request


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker that these tests may kill."""
    with Broker.temporary(ROOT / ".cjstream") as broker:
        yield broker


@pytest.fixture
def settings(broker: Broker, tmp_path: Path) -> Settings:
    """A separate installation on that broker, which is started again if it is down."""
    if not broker.pid:
        broker.start()
    return installation(broker, tmp_path)


def restart_if_ended(worker: Process) -> int:
    """Start the worker again if it has ended, and return the number of starts; it must end without a traceback."""
    if worker.is_alive:
        return 0
    assert worker.exit_code not in (0, None)
    assert "Traceback" not in worker.log_tail(), worker.log_tail()
    worker.start()
    return 1


@pytest.mark.thorough
def test_clients_of_the_fold_start_when_their_broker_is_back(
    broker: Broker, settings: Settings
) -> None:
    broker.kill()
    attempts = list[str]()

    async def start() -> None:
        attempts.append("start")
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
        try:
            await producer.start()
        finally:
            await producer.stop()

    async def start_while_it_comes_back() -> None:
        starting = asyncio.create_task(start_when_reachable(start, settings))
        await asyncio.to_thread(until, lambda: attempts)
        await asyncio.to_thread(broker.start)
        await asyncio.wait_for(starting, 60)

    asyncio.run(start_while_it_comes_back())
    assert len(attempts) > 1


@pytest.mark.long
def test_nothing_is_lost_or_doubled_if_the_broker_is_killed_and_restarted(
    broker: Broker, settings: Settings, start_worker: StartWorker
) -> None:
    restarts = 0
    with Progress(settings) as progress:
        with Flow(settings, 9_000, 500):
            worker = start_worker(batch_max=200, session_timeout_s=6)
            progress.wait_for_more(500)
            broker.kill()
            pause(2)
            broker.start()

        def is_complete() -> bool:
            nonlocal restarts
            restarts += restart_if_ended(worker)
            return progress.is_settled()

        until(is_complete, 120)
    print(f"{restarts} restarts, {all_have_one_outcome(settings)}")  # noqa: T201


@pytest.mark.thorough
def test_a_worker_keeps_its_slot_if_its_broker_is_away_for_longer_than_its_session(
    broker: Broker, settings: Settings, start_worker: StartWorker
) -> None:
    with Progress(settings) as progress:
        with Flow(settings, 4_000, 500):
            worker = start_worker(batch_max=200, session_timeout_s=6, transaction_timeout_s=60)
            progress.wait_for_more(500)
            broker.stop()
            pause(8)
            broker.start()
        progress.wait_for_the_end(worker, seconds=120)
    all_have_one_outcome(settings)


@pytest.mark.long
def test_sigterm_ends_a_worker_whose_broker_is_down(
    broker: Broker, settings: Settings, start_worker: StartWorker
) -> None:
    with Progress(settings) as progress, Flow(settings, 4_000, 1000):
        worker = start_worker(batch_max=100)
        progress.wait_for_more(500)
        broker.kill()
        pause(1)
        code = worker.stop(seconds=10)
        broker.start()
    print(f"ended with {code}")  # noqa: T201
    assert "Traceback" not in worker.log_tail()


def published(settings: Settings) -> int:
    """The number of rows in the changelog."""
    return len(newest_rows(settings, range(settings.partitions), lambda _key: True).by_key)


@pytest.mark.thorough
def test_the_fold_waits_with_full_batches_of_rows_until_the_broker_is_back(
    broker: Broker, settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *(instructions_uploaded(assignment_id=f"a{n}") for n in range(CONTEXTS)))
    worker = start_worker(session_timeout_s=6)
    until(lambda: published(settings) > 0, seconds=60)
    broker.kill()
    pause(OUTAGE_S)
    assert worker.is_alive, worker.log_tail(5)
    broker.start()
    until(lambda: published(settings) == CONTEXTS, seconds=90)
    assert worker.is_alive
    assert worker.log_count("Traceback") == 0


@pytest.mark.thorough
def test_a_dead_letter_of_an_upload_waits_for_its_broker(
    broker: Broker, settings: Settings
) -> None:
    name = settings.topics.uploads_dlq.name
    at = Coordinates(settings.topics.instructions.name, 0, 0)
    producer = plain_producer(settings)
    put = put_upload_dead_letter(
        name, producer, UploadRecord(at, b"k", b"damaged", 1), Malformed("x")
    )
    broker.pause()
    try:
        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(asyncio.run, put)
            pause(DELIVERY_TIMEOUT_S + 3)
            assert not written.done()
            broker.resume()
            written.result(60)
    finally:
        broker.resume()
    with LogReader(settings, [Partition(name, 0)]) as log:
        values = {record.value for record in log.records_until(log.seek_to_start())}
    assert values == {b"damaged"}
