"""Storms on a three-node cluster: a short one by default, longer ones by `--faults --minutes N --seed S`."""

import math
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from processors.settings import Settings
from tests.faults.cluster import Cluster
from tests.faults.storm import storm

SHORT_S = 20.0
LONG_S = 180.0
PATIENCE_S = 10


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One storm for each seed; together they take the requested minutes."""
    if "seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--seed")
        seconds = 60 * metafunc.config.getoption("--minutes")
        count = max(1, math.ceil(seconds / LONG_S))
        storms = [(first + number, seconds / count) for number in range(count)]
        if not metafunc.config.getoption("--faults"):
            storms = [(first, SHORT_S)]
        ids = [f"seed {seed}, {length:g} s" for seed, length in storms]
        metafunc.parametrize(("seed", "seconds"), storms, ids=ids)


@pytest.fixture
def settings(cluster: Cluster, tmp_path: Path, seed: int) -> Iterator[Settings]:
    """A separate installation on that cluster, connected directly and not through the proxies."""
    installation = cluster.installation(
        Settings(
            bootstrap_servers=cluster.bootstrap,
            topic_prefix=f"storm{seed}-",
            data_dir=tmp_path,
            patience_s=PATIENCE_S,
        )
    )
    yield installation
    deleted = cluster.admin.delete_topics([topic.name for topic in installation.topics.all])
    for future in deleted.values():
        future.result()


@pytest.mark.thorough
@pytest.mark.storm
@pytest.mark.timeout(3000)
def test_every_request_has_exactly_one_outcome_after_a_storm_of_faults(
    cluster: Cluster,
    settings: Settings,
    seed: int,
    seconds: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    aftermath = storm(cluster, settings, seed, seconds)
    with capsys.disabled():
        print("\n" + orjson.dumps(aftermath.line).decode())  # noqa: T201
    print(aftermath.log_excerpts)  # noqa: T201
    assert not aftermath.found.faults, str(aftermath.found)
