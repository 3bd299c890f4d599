"""If a part of a worker stalls, the worker names the part in one line and ends."""

import pytest
from confluent_kafka import Producer

from processors.kafka.clients import plain_producer
from processors.kafka.records import Record
from processors.log.reader import LogReader
from processors.settings import Settings
from tests.faults.asking import Progress, pause
from tests.faults.load import append, assignment, record_of, send, send_in_transaction
from tests.faults.running import Process, StartWorker
from tests.faults.stalled_worker import COMMAND, STALLED_CHECKS_SHORT
from tests.support.builders import prompt_uploaded, requested
from tests.support.until import until


def wait_for_failure(worker: Process, seconds: float = 60) -> str:
    """The log of a worker that must end by itself with exit code 1."""
    assert worker.wait_for_exit(seconds) == 1, worker.log_tail()
    log = worker.log_tail(500)
    assert "Traceback" not in log, log
    return log


@pytest.mark.thorough
def test_an_upload_partition_blocked_by_an_open_transaction_is_logged(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    record = record_of(settings, prompt_uploaded("Later", assignment_id="a1", version=2))
    writer: Producer = plain_producer(settings, **{"transactional.id": settings.topic_prefix})
    writer.init_transactions(30)
    writer.begin_transaction()
    writer.produce(record.topic, record.value, record.key)
    writer.flush(30)
    worker = start_worker(command=COMMAND)
    # a broker that is too busy to answer once starts the watchdog's count anew
    until(lambda: worker.log_count("partition blocked by an open transaction"), seconds=50)
    assert worker.log_count(f'"at":"{record.topic}/') == 1
    writer.commit_transaction(30)
    until(lambda: worker.log_count("partition no longer blocked"))
    worker.wait_until_it_runs()
    send(settings, requested(assignment_id="a1"))
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)


@pytest.mark.thorough
def test_a_consumer_of_requests_that_stalls_ends_the_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    worker = start_worker(command=(*COMMAND, "requests"))
    assert "cjstream: batch preparation makes no progress at " in wait_for_failure(worker)


@pytest.mark.thorough
def test_a_worker_that_is_no_member_of_its_group_ends_although_it_owns_nothing(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    worker = start_worker(command=(*COMMAND, "member"))
    assert "cjstream: batch preparation owns no partition, and makes no progress at " in (
        wait_for_failure(worker, 90)
    )


@pytest.mark.thorough
def test_a_fold_that_is_no_member_of_its_group_ends_the_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    worker = start_worker(command=(*COMMAND, "fold-member"))
    assert "cjstream: the fold owns no partition, and makes no progress at " in (
        wait_for_failure(worker, 90)
    )


@pytest.mark.thorough
def test_a_fold_whose_fetches_fail_ends_the_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = start_worker(command=(*COMMAND, "fetches"))
    assert worker.wait_for_exit(60) == 1, worker.log_tail()
    assert "cjstream: Faust crashed: RuntimeError('a bug')" in worker.log_tail(500)


@pytest.mark.thorough
def test_a_fold_that_waits_long_for_the_ends_of_the_changelog_goes_on(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = start_worker(command=(*COMMAND, "ends"))
    send(settings, *assignment("a1"))
    context = settings.partitions_of(settings.topics.context)

    def is_published() -> bool:
        assert worker.is_alive, worker.log_tail(5)
        with LogReader(settings, context) as log:
            return bool([*log.records_until(log.seek_to_start())])

    until(is_published, seconds=60)
    assert worker.log_count("ends of the changelog are not known yet") == 2


@pytest.mark.thorough
def test_a_fold_that_stalls_ends_the_worker(settings: Settings, start_worker: StartWorker) -> None:
    damaged = Record(settings.topics.instructions.name, 1, b"assignment:a1", b"no event")
    append(settings, [damaged])
    worker = start_worker(command=(*COMMAND, "fold"))
    assert f"cjstream: the fold makes no progress at {damaged.topic}/1@0 " in wait_for_failure(
        worker
    )


@pytest.mark.thorough
def test_requests_followed_by_a_transaction_marker_are_no_stall(
    settings: Settings, start_worker: StartWorker
) -> None:
    """A transaction ends with a marker, so the committed offset never reaches the end of the partition."""
    send(settings, *assignment("a1"))
    send_in_transaction(settings, requested(assignment_id="a1"))
    worker = start_worker(command=COMMAND)
    worker.wait_until_it_runs()
    with Progress(settings) as progress:
        until(lambda: progress.total() == 1)
    pause(STALLED_CHECKS_SHORT + 5)
    assert worker.is_alive, worker.log_tail()


@pytest.mark.thorough
def test_a_replica_that_no_longer_advances_ends_the_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    worker = start_worker(command=(*COMMAND, "replica"))
    assert "cjstream: the context replica makes no progress at " in wait_for_failure(worker)


@pytest.mark.thorough
def test_a_transaction_that_hangs_ends_the_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    worker = start_worker(command=(*COMMAND, "transaction"), transaction_timeout_s=2)
    assert "transaction hangs: the process ends" in wait_for_failure(worker)
