"""A part of a worker that does nothing any more: named in one line, and the process ends."""

from confluent_kafka import Producer

from processors.kafka.clients import plain_producer
from processors.kafka.records import Record
from processors.settings import Settings
from tests.faults.asking import Progress, pause
from tests.faults.load import append, assignment, record_of, send, send_in_transaction
from tests.faults.running import Process, StartWorker
from tests.faults.stalled_worker import COMMAND, LOOKS
from tests.support.builders import prompt_uploaded, requested
from tests.support.until import until


def ended(worker: Process, seconds: float = 60) -> str:
    """What a worker said last, which had to end by itself with a fault's exit code."""
    assert worker.ended(seconds) == 1, worker.last_words()
    words = worker.last_words(500)
    assert "Traceback" not in words, words
    return words


def test_an_upload_partition_held_by_an_open_transaction_is_named(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    record = record_of(settings, prompt_uploaded("Later", assignment_id="a1", version=2))
    holder: Producer = plain_producer(settings, **{"transactional.id": settings.topic_prefix})
    holder.init_transactions(30)
    holder.begin_transaction()
    holder.produce(record.topic, record.value, record.key)
    holder.flush(30)
    worker = start_worker(command=COMMAND)
    until(lambda: worker.said("partition blocked by an open transaction"))
    assert worker.said(f'"at":"{record.topic}/') == 1
    holder.commit_transaction(30)
    until(lambda: worker.said("partition no longer blocked"))
    worker.wait_until_it_runs()
    send(settings, requested(assignment_id="a1"))
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)


def test_a_consumer_of_requests_that_stalls_ends_the_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    worker = start_worker(command=(*COMMAND, "requests"))
    assert "cjstream: batch preparation makes no progress at " in ended(worker)


def test_a_fold_that_stalls_ends_the_worker(settings: Settings, start_worker: StartWorker) -> None:
    damaged = Record(settings.topics.instructions.name, 1, b"assignment:a1", b"no event")
    append(settings, [damaged])
    worker = start_worker(command=(*COMMAND, "fold"))
    assert f"cjstream: the fold makes no progress at {damaged.topic}/1@0 " in ended(worker)


def test_requests_with_markers_behind_them_are_no_stall(
    settings: Settings, start_worker: StartWorker
) -> None:
    """A transaction of requests ends with a marker, which no committed offset ever passes."""
    send(settings, *assignment("a1"))
    send_in_transaction(settings, requested(assignment_id="a1"))
    worker = start_worker(command=COMMAND)
    worker.wait_until_it_runs()
    with Progress(settings) as progress:
        until(lambda: progress.total() == 1)
    pause(LOOKS + 5)
    assert worker.is_alive, worker.last_words()


def test_a_replica_that_no_longer_advances_ends_the_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    worker = start_worker(command=(*COMMAND, "replica"))
    assert "cjstream: the context replica makes no progress at " in ended(worker)


def test_a_transaction_that_hangs_ends_the_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"), requested(assignment_id="a1"))
    worker = start_worker(command=(*COMMAND, "transaction"), transaction_timeout_s=2)
    assert "transaction hangs: the process ends" in ended(worker)
