"""The options of the suite, and fixtures for tests on a real broker: each test has an installation of its own on it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from processors.app import load_scan_engine
from processors.settings import Settings
from tests.faults.running import StartWorker, starting
from tests.support.installations import installation
from tools.broker import Broker
from tools.jars import locked

QUICK_EXAMPLES = 20  # of each property test, instead of 100

hypothesis_settings.register_profile("thorough", deadline=None, print_blob=True)
hypothesis_settings.load_profile("thorough")
hypothesis_settings.register_profile("quick", max_examples=QUICK_EXAMPLES)

# the second compiler of Java makes a server faster after minutes; the brokers of tests live for seconds
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
# Otherwise each installation of a test would compile anew. A digest, because numba compares a function in its cache
# with its own file only.
ROOT = Path(__file__).parents[1]
DATA_DIR = ROOT / ".cjstream"
KERNELS = (ROOT / "processors" / "outcomes").glob("*_kernels.py")
SOURCES = sorted([*(ROOT / "tables" / "scan").glob("*.py"), *KERNELS])
DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
os.environ.setdefault("NUMBA_CACHE_DIR", str(DATA_DIR / "numba" / DIGEST[:16]))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--long`, and `--faults --minutes N --seed S`: only the storms, N minutes in total, seeds S, S + 1 ..."""
    storms = parser.getgroup("storms")
    storms.addoption("--faults", action="store_true", help="run only the storms")
    storms.addoption(
        "--minutes", type=float, default=3.0, help="total length of the storms (default 3)"
    )
    storms.addoption("--seed", type=int, default=1, help="seed of the first storm (default 1)")
    parser.addoption("--long", action="store_true", help="also run the slow fault tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--faults`, deselect every test that is not a storm; without `--long`, skip the slow tests."""
    if config.getoption("--faults"):
        others = [item for item in items if item.get_closest_marker("storm") is None]
        items[:] = [item for item in items if item.get_closest_marker("storm") is not None]
        config.hook.pytest_deselected(items=others)
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="slow: run it with --long"))


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One embedded broker for the whole test run, and compiled functions in the cache: no worker must compile them."""
    DATA_DIR.mkdir(exist_ok=True)
    # one process compiles, the others load what it compiled
    with locked(DATA_DIR / "compile.lock"):
        load_scan_engine(Settings(data_dir=DATA_DIR))
    with Broker.temporary(DATA_DIR) as broker:
        yield broker


@pytest.fixture(scope="session")
def classic_broker() -> Iterator[Broker]:
    """A broker without KIP-848's group protocol, as those before Kafka 4.0."""
    properties = {"group.coordinator.rebalance.protocols": "classic"}
    with Broker.temporary(DATA_DIR, properties) as broker:
        yield broker


@pytest.fixture
def settings(broker: Broker, tmp_path: Path) -> Settings:
    """A separate installation with its topics; requests are not parked unless the test sets `patience_s`."""
    return installation(broker, tmp_path, patience_s=0)


@pytest.fixture
def start_worker(settings: Settings, tmp_path: Path) -> Iterator[StartWorker]:
    """A function that starts a worker of the test's installation: `start_worker("slot", batch_max=200)`."""
    with starting(settings, tmp_path) as start:
        yield start
