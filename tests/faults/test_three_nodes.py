"""One of three brokers is away, or an answer of theirs is lost on the way."""

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

pytestmark = pytest.mark.timeout(900)  # making the three nodes counts
PATIENCE_S = 180  # where others use the machine, too


@pytest.fixture
def settings(cluster: Cluster, tmp_path: Path) -> Iterator[Settings]:
    """An installation of its own on three nodes, which are whole again afterwards."""
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
            cluster.bring_up(node)


@pytest.fixture
def worker(cluster: Cluster, settings: Settings, tmp_path: Path) -> Iterator[Process]:
    """A worker behind the proxies, not started yet."""
    knobs = {"slot": "one", "batch_max": 50, "session_timeout_s": 6, "transaction_timeout_s": 8}
    proxied = settings.model_copy(update={**knobs, "bootstrap_servers": cluster.proxied})
    process = Process(proxied, tmp_path / "one.log")
    yield process
    if process.is_alive:
        process.kill()
    print(process.last_words())  # noqa: T201


def test_a_worker_starts_and_prepares_while_one_broker_is_away(
    cluster: Cluster, settings: Settings, worker: Process
) -> None:
    away = cluster.nodes[cluster.leader_of(settings.topics.requests.name, 0)]
    with Progress(settings) as progress:
        with Flow(settings, 1000, 200):
            away.kill()
            worker.start()
            worker.wait_until_it_runs(PATIENCE_S)
        progress.wait_for_the_end(worker, seconds=PATIENCE_S)
    all_have_one_outcome(settings)


def test_topics_made_while_one_broker_is_away_are_kept_three_times_all_the_same(
    cluster: Cluster, settings: Settings
) -> None:
    elsewhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}more-"})
    cluster.nodes[0].kill()
    admin = admin_client(elsewhere)
    until(lambda: count_brokers(admin, elsewhere) == 2, PATIENCE_S)
    made = apply_topics(admin, elsewhere)
    assert {state.replication for state in made} == {3}
    cluster.bring_up(cluster.nodes[0])
    refuse_contradictions(topic_states(admin, elsewhere))


@pytest.mark.long
@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED])
@pytest.mark.parametrize("api_key", [END_TXN, TXN_OFFSET_COMMIT])
def test_a_lost_answer_to_a_commit_doubles_and_loses_nothing(
    cluster: Cluster, settings: Settings, worker: Process, api_key: int, fate: Fate
) -> None:
    def met() -> int:
        return sum(proxy.met[api_key, fate] for proxy in cluster.proxies)

    send(settings, *(event for number in range(20) for event in assignment(f"a{number}")))
    before = met()
    with Progress(settings) as progress:
        worker.start()
        worker.wait_until_it_runs(PATIENCE_S)
        for proxy in cluster.proxies:
            proxy.arm(api_key, fate)
        append(settings, (record_of(settings, a_request(number)) for number in range(500)))
        until(lambda: met() > before, PATIENCE_S)
        for proxy in cluster.proxies:
            proxy.calm()
        progress.wait_for_the_end(worker, seconds=PATIENCE_S)
    all_have_one_outcome(settings)
