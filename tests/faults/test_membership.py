"""A worker that cannot be a member of its group, or is no member any more, ends with one line instead of idling."""

from pathlib import Path

import pytest

from processors.kafka.broker_features import NO_CONSUMER_PROTOCOL
from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import apply_topics
from processors.settings import Settings
from tests.faults.asking import Progress, answer_or_none
from tests.faults.load import assignment, send
from tests.faults.running import Process, StartWorker
from tests.support.builders import requested
from tests.support.installations import installation
from tests.support.until import until
from tools.broker import Broker


def last_line(worker: Process, exit_code: int, seconds: float = 30) -> str:
    """The only line, beside its log, of a worker that must end by itself with this exit code."""
    assert worker.wait_for_exit(seconds) == exit_code, worker.log_tail()
    lines = worker.log_tail(1000).splitlines()
    assert "Traceback (most recent call last):" not in lines
    (line,) = (line for line in lines if not line.startswith("{"))
    return line


@pytest.mark.parametrize(
    "protocol", ["classic", pytest.param("consumer", marks=pytest.mark.thorough)]
)
def test_of_two_workers_with_one_slot_one_ends_and_one_works(
    settings: Settings, start_worker: StartWorker, tmp_path: Path, protocol: str
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    two = [
        Process(
            settings.model_copy(
                update={"slot": "one", "data_dir": tmp_path / name, "group_protocol": protocol}
            ),
            tmp_path / f"{name}.log",
        )
        for name in ("first", "second")
    ]
    try:
        with Progress(settings) as progress:
            two[0].start()
            until(lambda: progress.total() == 1, seconds=40)
            two[1].start()
            ended = until(lambda: [worker for worker in two if not worker.is_alive], seconds=40)
            assert "another process uses slot one" in last_line(ended[0], 1)
            (survivor,) = (worker for worker in two if worker not in ended)
            send(settings, requested(assignment_id="a1"))
            progress.wait_for_the_end(survivor)
    finally:
        for worker in two:
            worker.end()


def test_a_worker_names_a_group_protocol_that_the_broker_does_not_have(
    classic_broker: Broker, tmp_path: Path
) -> None:
    settings = installation(classic_broker, tmp_path, slot="one", group_protocol="consumer")
    worker = Process(settings, tmp_path / "worker.log")
    worker.start()
    try:
        assert last_line(worker, 2) == f"cjstream: {NO_CONSUMER_PROTOCOL}"
        assert not worker.log_count("FATAL")
    finally:
        worker.end()


@pytest.mark.thorough
def test_a_frozen_worker_whose_slot_was_taken_ends_when_it_is_thawed(
    settings: Settings, start_worker: StartWorker, tmp_path: Path
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    first = start_worker("one")
    with Progress(settings) as progress:
        until(lambda: progress.total() == 1, seconds=40)
        first.freeze()
        second = Process(
            settings.model_copy(update={"slot": "one", "data_dir": tmp_path / "second"}),
            tmp_path / "second.log",
        )
        second.start()
        try:
            send(settings, requested(assignment_id="a1"))
            until(lambda: progress.total() == 2, seconds=40)
            first.thaw()
            assert "another process uses slot one" in last_line(first, 1)
            send(settings, requested(assignment_id="a1"))
            until(lambda: progress.total() == 3, seconds=40)
        finally:
            second.end()


@pytest.mark.thorough
def test_a_worker_whose_group_was_deleted_while_it_was_frozen_ends_and_names_the_way_out(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    worker = start_worker(session_timeout_s=6)
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    worker.freeze()
    admin = admin_client(settings)

    def group_is_deleted() -> bool:
        (future,) = admin.delete_consumer_groups([settings.prep_group]).values()
        return answer_or_none(lambda: [future.result()]) is not None

    until(group_is_deleted, seconds=40)  # the member stays in the group until its session times out
    worker.thaw()
    assert "`cjstream requests reset-offsets` sets it" in last_line(worker, 3, 60)


def delete_topic(settings: Settings, name: str) -> None:
    admin = admin_client(settings)
    admin.delete_topics([name])[name].result(30)
    until(lambda: name not in admin.list_topics(timeout=10).topics)


@pytest.mark.thorough
@pytest.mark.parametrize("topic", ["requests", "student_prompts"])
def test_a_worker_whose_topic_is_deleted_ends_and_names_it(
    settings: Settings, start_worker: StartWorker, topic: str
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    worker = start_worker()
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    name: str = getattr(settings.topics, topic).name
    delete_topic(settings, name)
    assert last_line(worker, 3, 60).startswith(f"cjstream: {name} was deleted while the worker ran")


@pytest.mark.thorough
def test_a_worker_whose_topic_is_created_again_ends_although_its_offsets_exist(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    worker = start_worker()
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    worker.freeze()
    name = settings.topics.instructions.name
    delete_topic(settings, name)
    until(lambda: answer_or_none(lambda: apply_topics(admin_client(settings), settings)))
    send(settings, *assignment("a1"), *assignment("a1"))
    worker.thaw()
    assert name in last_line(worker, 3, 60)
