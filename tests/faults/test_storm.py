"""Storms on one broker and on three: short ones by default, longer ones by `--faults --minutes N --seed S`."""

import math
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from processors.settings import Settings
from tests.faults.cluster import Cluster
from tests.faults.storm import storm

SHORT_S = 20.0
LONG_S = 600.0
SHAPES = ("single_node", "cluster")
PATIENCE_S = 10


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Storms on one broker and on three in turn; together they take the requested minutes."""
    if "seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--seed")
        seconds = 60 * metafunc.config.getoption("--minutes")
        count = max(len(SHAPES), math.ceil(seconds / LONG_S))
        if not metafunc.config.getoption("--faults"):
            count, seconds = len(SHAPES), len(SHAPES) * SHORT_S
        storms = [
            (SHAPES[number % len(SHAPES)], first + number, seconds / count)
            for number in range(count)
        ]
        ids = [f"{shape}, seed {seed}, {length:g} s" for shape, seed, length in storms]
        metafunc.parametrize(("nodes", "seed", "seconds"), storms, ids=ids, indirect=["nodes"])


@pytest.fixture
def nodes(request: pytest.FixtureRequest) -> Cluster:
    """The cluster of the storm's shape."""
    cluster: Cluster = request.getfixturevalue(request.param)
    return cluster


@pytest.fixture
def settings(nodes: Cluster, tmp_path: Path, seed: int) -> Iterator[Settings]:
    """A separate installation on that cluster, connected directly and not through the proxies."""
    installation = nodes.installation(
        Settings(
            bootstrap_servers=nodes.bootstrap,
            topic_prefix=f"storm{seed}-",
            data_dir=tmp_path,
            patience_s=PATIENCE_S,
        )
    )
    yield installation
    deleted = nodes.admin.delete_topics([topic.name for topic in installation.topics.all])
    for future in deleted.values():
        future.result()


@pytest.mark.thorough
@pytest.mark.storm
@pytest.mark.timeout(3000)
def test_every_request_has_exactly_one_outcome_after_a_storm_of_faults(
    nodes: Cluster,
    settings: Settings,
    seed: int,
    seconds: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    aftermath = storm(nodes, settings, seed, seconds)
    with capsys.disabled():
        print("\n" + orjson.dumps(aftermath.line).decode())  # noqa: T201
    print(aftermath.log_excerpts)  # noqa: T201
    assert not aftermath.found.faults, str(aftermath.found)
    assert not aftermath.complaints
