"""What tests on a real broker share: one broker, and an installation of its own for each test."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import apply_topics
from processors.settings import Settings
from tests.faults.running import WORKER, Process, StartWorker
from tools.broker import Broker


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--faults --minutes N --seed S`: the storms alone, for so long, by the seeds S, S + 1 ..."""
    storms = parser.getgroup("storms")
    storms.addoption(
        "--faults", action="store_true", help="the storms on three nodes, nothing else"
    )
    storms.addoption("--minutes", type=float, default=3.0, help="of storm in all (default 3)")
    storms.addoption("--seed", type=int, default=1, help="the first storm's (default 1)")
    parser.addoption(
        "--long", action="store_true", help="also the fault tests that the short run leaves out"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--faults`, leave out what is no storm; without `--long`, skip what takes long."""
    if config.getoption("--faults"):
        others = [item for item in items if item.get_closest_marker("storm") is None]
        items[:] = [item for item in items if item.get_closest_marker("storm") is not None]
        config.hook.pytest_deselected(items=others)
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="takes long: --long"))


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One embedded broker for the whole run."""
    with Broker.temporary(Path(__file__).parents[1] / ".cjstream") as broker:
        yield broker


@pytest.fixture
def settings(broker: Broker, tmp_path: Path) -> Settings:
    """An installation of its own, its topics made; nothing waits in it, unless the test says so."""
    own = Settings(
        bootstrap_servers=broker.bootstrap,
        topic_prefix=f"{uuid4().hex[:8]}-",
        data_dir=tmp_path,
        patience_s=0,
    )
    apply_topics(admin_client(own), own)
    return own


@pytest.fixture
def start_worker(settings: Settings, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts a worker of the test's installation: `start_worker("slot", batch_max=200)`."""
    processes = list[Process]()

    def start(slot: str = "one", command: Sequence[str] = WORKER, **knobs: Any) -> Process:
        own = settings.model_copy(update={"slot": slot, **knobs})
        process = Process(own, tmp_path / f"{slot or len(processes)}.log", command)
        processes.append(process)
        process.start()
        return process

    yield start
    for process in processes:
        process.thaw()
        if process.is_alive:
            process.kill()
        print(f"--- {process.log.name}, ended with {process.exit_code}\n{process.last_words()}")  # noqa: T201
