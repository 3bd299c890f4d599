"""Requests that cannot pass: damaged, or with an outcome that the broker refuses."""

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome
from tests.faults.load import CODEC, DAMAGED, append, assignment, record_of, request_record, send
from tests.faults.running import StartWorker
from tests.support.builders import essays, requested


def test_damaged_requests_are_dead_lettered_whole(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    whole = [requested(batch_id=f"b-{number}") for number in range(20)]
    records = [record_of(settings, request) for request in whole]
    damaged = [CODEC.encode(requested())[:length] for length in range(1, 60)]
    damaged += [CODEC.encode(assignment("a1")[0]), b"\0" * 700_000, *DAMAGED]
    records += [request_record(settings, value, f"d-{at}") for at, value in enumerate(damaged)]
    records += [request_record(settings, None, "tombstone")]
    append(settings, records)
    worker = start_worker()
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    found = all_have_one_outcome(settings)
    assert found.counts[settings.topics.requests_dlq.name[9:]] == len(damaged) + 1


def test_one_outcome_too_large_for_its_topic_does_not_hold_up_the_rest(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    # apart, so that ordinary outcomes share a record batch with the large one and without it
    sizes = [2] * 40 + [2500] + [2] * 40 + [2500] + [2] * 40
    with Progress(settings) as progress:
        worker = start_worker()
        worker.wait_until_it_runs()
        lower(settings, "max.message.bytes", 20_000)
        send(
            settings,
            *(requested(batch_id="same", essays=essays(count)) for count in sizes),
        )
        progress.wait_for_the_end(worker)
    found = all_have_one_outcome(settings)
    assert found.counts["cj.requests.dlq.v1"] == 2, str(found)


def lower(settings: Settings, name: str, value: int) -> None:
    """Change one setting of the topic of batches, behind the worker's back."""
    entry = ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(
        ResourceType.TOPIC, settings.topics.batches.name, incremental_configs=[entry]
    )
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    for future in admin.incremental_alter_configs([topic]).values():
        future.result()
