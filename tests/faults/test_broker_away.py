"""A broker that dies under load and comes back, and one that does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import apply_topics
from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome, pause
from tests.faults.load import Flow
from tests.faults.running import ROOT, Process, StartWorker
from tests.support.until import until
from tools.broker import Broker

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker that these tests may kill."""
    with Broker.temporary(ROOT / ".cjstream") as broker:
        yield broker


@pytest.fixture
def settings(broker: Broker, tmp_path: Path) -> Settings:
    """An installation of its own on that broker, which is up again."""
    if not broker.pid:
        broker.start()
    own = Settings(bootstrap_servers=broker.bootstrap, topic_prefix="own-", data_dir=tmp_path)
    own = own.model_copy(update={"topic_prefix": f"{tmp_path.name[-12:]}-"})
    apply_topics(admin_client(own), own)
    return own


def supervised(worker: Process) -> int:
    """Start it again where it has ended; gives how often it was. It may only end with a word why."""
    if worker.is_alive:
        return 0
    assert worker.exit_code not in (0, None)
    assert "Traceback" not in worker.last_words(), worker.last_words()
    worker.start()
    return 1


def test_a_broker_that_is_killed_and_comes_back_costs_nothing(
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
            restarts += supervised(worker)
            return progress.is_complete()

        until(is_complete, 120)
    print(f"{restarts} restarts, {all_have_one_outcome(settings)}")  # noqa: T201


def test_sigterm_ends_a_worker_whose_broker_is_gone(
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
    assert "Traceback" not in worker.last_words()
