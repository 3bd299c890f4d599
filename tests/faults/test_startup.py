"""What a worker refuses to start on: exit 3 and one line."""

from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.partitions import partitions_of
from processors.kafka.topic_admin import apply_topics
from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome, answer
from tests.faults.load import assignment, send
from tests.faults.reading import read_all
from tests.faults.running import Process, StartWorker
from tests.support.builders import requested
from tests.support.until import until


def refusal(worker: Process) -> str:
    """The one line of a worker that refuses to start."""
    assert worker.ended(30) == 3, worker.last_words()
    said = worker.last_words(1000).splitlines()
    assert "Traceback (most recent call last):" not in said
    lines = [line for line in said if not line.startswith("{")]
    assert len(lines) == 1, lines
    return lines[0]


def all_prepared(settings: Settings, start_worker: StartWorker) -> Process:
    """A worker that has prepared a few requests and was stopped."""
    send(settings, *assignment("a1"))
    send(settings, *(requested(batch_id=f"b-{number}") for number in range(20)))
    with Progress(settings) as progress:
        worker = start_worker(session_timeout_s=6)
        worker.wait_until_it_runs()
        progress.wait_for_the_end(worker)
    assert worker.stop() == 0
    worker.log.unlink()
    return worker


def test_missing_topics(settings: Settings, start_worker: StartWorker) -> None:
    assert "missing topics" in refusal(start_worker(topic_prefix="other-"))


def test_a_topic_that_contradicts_the_catalogue(
    settings: Settings, start_worker: StartWorker
) -> None:
    entry = ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(
        ResourceType.TOPIC, settings.topics.batches.name, incremental_configs=[entry]
    )
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    for future in admin.incremental_alter_configs([topic]).values():
        future.result()
    assert "cleanup.policy is compact" in refusal(start_worker())


def test_an_upload_topic_made_anew(settings: Settings, start_worker: StartWorker) -> None:
    worker = all_prepared(settings, start_worker)
    admin = admin_client(settings)
    name = settings.topics.instructions.name
    admin.delete_topics([name])[name].result()
    until(lambda: name not in admin.list_topics(timeout=10).topics)
    until(lambda: answer(lambda: apply_topics(admin, settings)))
    worker.start()
    assert "made anew" in refusal(worker)


def test_committed_offsets_that_are_gone(settings: Settings, start_worker: StartWorker) -> None:
    worker = all_prepared(settings, start_worker)
    admin = admin_client(settings)

    def deleted() -> bool:
        (future,) = admin.delete_consumer_groups([settings.prep_group]).values()
        return answer(lambda: [future.result()]) is not None

    until(deleted)  # the member lingers for its session
    requests = partitions_of([settings.topics.requests.name], settings)
    assert committed_offsets(settings, settings.prep_group, requests) == {}
    worker.start()
    assert f"the last at {settings.topics.batches.name}/" in refusal(worker)


def test_a_first_start_commits_where_the_log_begins(
    settings: Settings, start_worker: StartWorker, deleted_below: Callable[[int], None]
) -> None:
    send(settings, *assignment("a1"))
    send(settings, *(requested(batch_id=f"b-{number}") for number in range(40)))
    deleted_below(2)
    with Progress(settings) as progress:
        worker = start_worker(session_timeout_s=6)
        worker.wait_until_it_runs()
        progress.wait_for_the_end(worker)
    topics = settings.topics
    left = read_all(settings.bootstrap_servers, topics.requests.name, settings.partitions)
    assert 0 < len(left) < 40
    assert all_have_one_outcome(settings).counts["requests"] == len(left)


@pytest.fixture
def deleted_below(settings: Settings) -> Callable[[int], None]:
    """Deletes the first requests of every partition, as retention does."""

    def delete(offset: int) -> None:
        name = settings.topics.requests.name
        at = [TopicPartition(name, one, offset) for one in range(settings.partitions)]
        admin = admin_client(settings)  # it has to outlive its futures
        for future in admin.delete_records(at).values():
            future.result()

    return delete
