"""One of three brokers is down, or a request or response is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import (
    apply_topics,
    count_brokers,
    refuse_contradictions,
    topic_states,
)
from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome
from tests.faults.cluster import Cluster
from tests.faults.load import Flow, a_request, append, assignment, record_of, send
from tests.faults.proxy import END_TXN, TXN_OFFSET_COMMIT, Fate
from tests.faults.running import Process
from tests.support.until import until

pytestmark = pytest.mark.timeout(900)  # includes starting the three nodes
PATIENCE_S = 180  # long enough for a busy machine


@pytest.fixture
def settings(cluster: Cluster, tmp_path: Path) -> Iterator[Settings]:
    """A separate installation on three nodes; all nodes run again afterwards."""
    yield cluster.installation(
        Settings(
            bootstrap_servers=cluster.bootstrap,
            topic_prefix=f"{tmp_path.name[-12:]}-",
            data_dir=tmp_path,
            patience_s=0,
        )
    )
    for node in cluster.nodes:
        if not node.pid:
            cluster.start_and_wait(node)


@pytest.fixture
def worker(cluster: Cluster, settings: Settings, tmp_path: Path) -> Iterator[Process]:
    """A worker that connects through the proxies, not yet started."""
    overrides = {"slot": "one", "batch_max": 50, "session_timeout_s": 6, "transaction_timeout_s": 8}
    proxied = settings.model_copy(update={**overrides, "bootstrap_servers": cluster.proxied})
    process = Process(proxied, tmp_path / "one.log")
    yield process
    process.end()


@pytest.mark.thorough
def test_a_worker_starts_and_prepares_while_one_broker_is_down(
    cluster: Cluster, settings: Settings, worker: Process
) -> None:
    down = cluster.nodes[cluster.leader_of(settings.topics.requests.name, 0)]
    with Progress(settings) as progress:
        with Flow(settings, 1000, 200):
            down.kill()
            worker.start()
            worker.wait_until_it_runs(PATIENCE_S)
        progress.wait_for_the_end(worker, seconds=PATIENCE_S)
    all_have_one_outcome(settings)


@pytest.mark.thorough
def test_topics_created_while_one_broker_is_down_have_three_replicas(
    cluster: Cluster, settings: Settings
) -> None:
    other_installation = settings.model_copy(
        update={"topic_prefix": f"{settings.topic_prefix}more-"}
    )
    cluster.nodes[0].kill()
    admin = admin_client(other_installation)
    until(lambda: count_brokers(admin, other_installation) == 2, PATIENCE_S)
    states = apply_topics(admin, other_installation)
    assert {state.replication for state in states} == {3}
    cluster.start_and_wait(cluster.nodes[0])
    refuse_contradictions(topic_states(admin, other_installation))


@pytest.mark.long
@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED])
@pytest.mark.parametrize("api_key", [END_TXN, TXN_OFFSET_COMMIT])
def test_a_lost_commit_request_or_response_loses_and_doubles_nothing(
    cluster: Cluster, settings: Settings, worker: Process, api_key: int, fate: Fate
) -> None:
    def fate_count() -> int:
        return sum(proxy.fate_counts[api_key, fate] for proxy in cluster.proxies)

    send(settings, *(event for number in range(20) for event in assignment(f"a{number}")))
    before = fate_count()
    with Progress(settings) as progress:
        worker.start()
        worker.wait_until_it_runs(PATIENCE_S)
        for proxy in cluster.proxies:
            proxy.arm(api_key, fate)
        append(settings, (record_of(settings, a_request(number)) for number in range(500)))
        until(lambda: fate_count() > before, PATIENCE_S)
        for proxy in cluster.proxies:
            proxy.reset()
        progress.wait_for_the_end(worker, seconds=PATIENCE_S)
    all_have_one_outcome(settings)
