"""One of three brokers is away, or an answer of theirs is lost on the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.clients import admin_client
from processors.cluster import apply_topics, reach, refuse_contradictions, topic_states
from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome, pause
from tests.faults.cluster import Cluster
from tests.faults.load import Flow
from tests.faults.proxy import END_TXN, TXN_OFFSET_COMMIT, Fate
from tests.faults.running import Process
from tests.waiting import until


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
    with Progress(settings) as progress, Flow(settings, 1000, 200):
        away.kill()
        worker.start()
        worker.wait_until_it_runs(60)
        progress.wait_for_the_end(worker, seconds=90)
    all_have_one_outcome(settings)


def test_topics_made_while_one_broker_is_away_are_kept_three_times_all_the_same(
    cluster: Cluster, settings: Settings
) -> None:
    elsewhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}more-"})
    cluster.nodes[0].kill()
    admin = admin_client(elsewhere)
    until(lambda: reach(admin, elsewhere) == 2, 60)
    made = apply_topics(admin, elsewhere)
    assert {state.replication for state in made} == {3}
    cluster.bring_up(cluster.nodes[0])
    refuse_contradictions(topic_states(admin, elsewhere))


def test_lost_answers_to_commits_double_and_lose_nothing(
    cluster: Cluster, settings: Settings, worker: Process
) -> None:
    with Progress(settings) as progress, Flow(settings, 6000, 400):
        worker.start()
        for api_key in (END_TXN, TXN_OFFSET_COMMIT):
            for fate in (Fate.LOST, Fate.UNANSWERED):
                progress.wait_for_more(100)
                before = sum(proxy.met[api_key, fate] for proxy in cluster.proxies)
                for proxy in cluster.proxies:
                    proxy.arm(api_key, fate)
                until(
                    lambda key=(api_key, fate), before=before: (  # type: ignore[misc]
                        sum(proxy.met[key] for proxy in cluster.proxies) > before
                    )
                )
                for proxy in cluster.proxies:
                    proxy.calm()
                pause(0.1)
        progress.wait_for_the_end(worker, seconds=90)
    all_have_one_outcome(settings)
