"""A worker refuses to start if its topics or offsets are wrong: exit code 3 and one line."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import committed_offsets, set_committed_offsets
from processors.kafka.records import Record
from processors.kafka.topic_admin import apply_topics
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import dead_letter_headers
from schemas.errors import BadRecord, Malformed
from schemas.events import CJBatchPrepared
from tests.faults.asking import Progress, all_have_one_outcome, answer_or_none
from tests.faults.load import CODEC, append, assignment, send
from tests.faults.reading import read_all
from tests.faults.running import Process, StartWorker
from tests.support.builders import requested
from tests.support.installations import configure_topic
from tests.support.run_command import document_if_done, run_json, run_text
from tests.support.until import until

REFUSES_S = 90.0  # three test processes share two cores


def refusal(worker: Process) -> str:
    """The only line of a worker that refuses to start."""
    assert worker.wait_for_exit(REFUSES_S) == 3, worker.log_tail()
    lines = worker.log_tail(1000).splitlines()
    assert "Traceback (most recent call last):" not in lines
    messages = [line for line in lines if not line.startswith("{")]
    assert len(messages) == 1, messages
    return messages[0]


def stopped_worker(settings: Settings, start_worker: StartWorker) -> Process:
    """A worker that has prepared a few requests and has been stopped."""
    send(settings, *assignment("a1"))
    send(settings, *(requested(batch_id=f"b-{number}") for number in range(20)))
    with Progress(settings) as progress:
        worker = start_worker(session_timeout_s=6)
        worker.wait_until_it_runs()
        progress.wait_for_the_end(worker)
    assert worker.stop() == 0
    worker.log.unlink()
    return worker


def delete_group(settings: Settings) -> None:
    """Delete the group of batch preparation, and so its offsets."""
    admin = admin_client(settings)

    def is_deleted() -> bool:
        (future,) = admin.delete_consumer_groups([settings.prep_group]).values()
        return answer_or_none(lambda: [future.result()]) is not None

    until(is_deleted)  # the member stays in the group until its session times out


def decoded(settings: Settings, partitions: list[Partition]) -> list[str]:
    """The event ids of the events in these partitions."""
    found = []
    with LogReader(settings, partitions) as log:
        for record in log.records_until(log.seek_to_start()):
            with suppress(BadRecord):
                found.append(str(CODEC.decode_as(CJBatchPrepared, record.value).event_id))
    return found


def test_missing_topics(settings: Settings, start_worker: StartWorker) -> None:
    assert "missing topics" in refusal(start_worker(topic_prefix="other-"))


def test_a_topic_that_contradicts_the_catalogue(
    settings: Settings, start_worker: StartWorker
) -> None:
    configure_topic(settings, settings.topics.batches.name, cleanup_policy="compact")
    assert "cleanup.policy is compact" in refusal(start_worker())


@pytest.mark.thorough
@pytest.mark.parametrize("role", ["requests", "student_prompts"])
def test_partitions_that_a_topic_is_given_end_the_worker(
    settings: Settings, start_worker: StartWorker, role: str
) -> None:
    send(settings, *assignment("a1"))
    worker = start_worker()
    worker.wait_until_it_runs()
    name = getattr(settings.topics, role).name
    admin = admin_client(settings)
    admin.create_partitions([NewPartitions(name, 6)])[name].result()
    assert worker.wait_for_exit(60) == 3, worker.log_tail()
    lines = worker.log_tail(1000).splitlines()
    (message,) = [line for line in lines if not line.startswith("{")]
    assert f"{name} was given partitions, it has 6 instead of 4: nobody reads" in message
    assert "`cjstream topics apply`" in message
    worker.log.unlink()
    worker.start()
    assert "6 partitions, should be 4" in refusal(worker)


@pytest.mark.thorough
def test_a_recreated_upload_topic(settings: Settings, start_worker: StartWorker) -> None:
    worker = stopped_worker(settings, start_worker)
    admin = admin_client(settings)
    name = settings.topics.instructions.name
    admin.delete_topics([name])[name].result()
    until(lambda: name not in admin.list_topics(timeout=10).topics)
    until(lambda: answer_or_none(lambda: apply_topics(admin, settings)))
    worker.start()
    assert "was recreated" in refusal(worker)


@pytest.mark.thorough
def test_lost_committed_offsets(settings: Settings, start_worker: StartWorker) -> None:
    worker = stopped_worker(settings, start_worker)
    delete_group(settings)
    requests = settings.partitions_of(settings.topics.requests)
    assert committed_offsets(settings, settings.prep_group, requests) == {}
    worker.start()
    message = refusal(worker)
    assert f"the last at {settings.topics.batches.name}/" in message
    assert "`cjstream requests reset-offsets` sets it" in message

    reset = ("requests", "reset-offsets")
    exit_code, found, _ = run_json(settings, *reset)
    assert (exit_code, found["dry_run"], found["strangers"]) == (0, True, {})
    assert committed_offsets(settings, settings.prep_group, requests) == {}
    # the member stays in the group until its session times out
    done = until(lambda: document_if_done(settings, *reset, "--yes"))
    assert [one["was_set"] for one in done["partitions"]] == [True] * 4
    assert [*committed_offsets(settings, settings.prep_group, requests).values()] == [
        one["log_end"] for one in found["partitions"]
    ]
    worker.start()
    worker.wait_until_it_runs()
    send(settings, *(requested(batch_id=f"after-{number}") for number in range(20)))
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    exit_code, out, message = run_text(settings, *reset, "--yes")
    assert (exit_code, out) == (1, "")
    assert message.startswith("cjstream: the group has 1 member: stop all workers first")
    assert worker.stop() == 0
    assert all_have_one_outcome(settings).counts["requests"] == 40


def foreign_records(settings: Settings) -> list[Record]:
    """Records that name no request of their partition, in every topic that batch preparation writes."""
    topics = settings.topics
    elsewhere = Coordinates(topics.requests.name, 1, 0)
    letter = dead_letter_headers(elsewhere, 1, Malformed("x"))
    return [
        *(Record(topic.name, 0, b"k", b"garbage") for topic in (*topics.outcomes, topics.parked)),
        *(Record(topic.name, 0, b"k", None) for topic in (*topics.outcomes, topics.parked)),
        Record(topics.requests_dlq.name, 0, b"k", b"x", letter),
        Record(topics.parked.name, 0, str(elsewhere).encode(), None),
    ]


@pytest.mark.thorough
def test_foreign_records_before_the_first_start_are_named_and_skipped(
    settings: Settings, start_worker: StartWorker
) -> None:
    at = append(settings, foreign_records(settings))
    send(settings, *assignment("a1"))
    sent = send(settings, *(requested(batch_id=f"b-{number}") for number in range(20)))
    worker = start_worker()
    batches = settings.partitions_of(settings.topics.batches)
    until(lambda: len(decoded(settings, batches)) == len(sent), seconds=60)
    assert sorted(decoded(settings, batches)) == sorted(map(str, sent))
    [line] = [line for line in worker.log_tail(1000).splitlines() if "name no request" in line]
    assert f'"count":{len(at)}' in line
    assert all(f'"{one}"' in line for one in at)


@pytest.mark.thorough
def test_foreign_records_hide_no_outcome_from_the_start_decision(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = stopped_worker(settings, start_worker)
    append(settings, foreign_records(settings) * 60)
    foreign = Partition(settings.topics.requests.name, 0)
    requests = settings.partitions_of(settings.topics.requests)
    committed = dict(committed_offsets(settings, settings.prep_group, requests))
    assert committed.pop(foreign)
    delete_group(settings)
    set_committed_offsets(settings, settings.prep_group, committed)
    worker.start()
    assert f"the last at {settings.topics.batches.name}/0@" in refusal(worker)


@pytest.mark.thorough
def test_the_first_start_commits_the_start_of_the_log(
    settings: Settings, start_worker: StartWorker, delete_below: Callable[[int], None]
) -> None:
    send(settings, *assignment("a1"))
    send(settings, *(requested(batch_id=f"b-{number}") for number in range(40)))
    delete_below(2)
    with Progress(settings) as progress:
        worker = start_worker(session_timeout_s=6)
        worker.wait_until_it_runs()
        progress.wait_for_the_end(worker)
    topics = settings.topics
    remaining = read_all(settings.bootstrap_servers, topics.requests.name, settings.partitions)
    assert 0 < len(remaining) < 40
    assert all_have_one_outcome(settings).counts["requests"] == len(remaining)


@pytest.fixture
def delete_below(settings: Settings) -> Callable[[int], None]:
    """A function that deletes the first requests of every partition, as retention does."""

    def delete(offset: int) -> None:
        name = settings.topics.requests.name
        partitions = [TopicPartition(name, number, offset) for number in range(settings.partitions)]
        admin = admin_client(settings)  # must stay alive until its futures are done
        for future in admin.delete_records(partitions).values():
            future.result()

    return delete
