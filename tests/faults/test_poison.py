"""Requests that cannot be prepared: damaged ones, and ones whose outcome the broker refuses."""

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


def test_damaged_requests_are_dead_lettered_byte_for_byte(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    valid = [requested(batch_id=f"b-{number}") for number in range(20)]
    records = [record_of(settings, request) for request in valid]
    damaged = [CODEC.encode(requested())[:length] for length in range(1, 60)]
    damaged += [CODEC.encode(assignment("a1")[0]), b"\0" * 700_000, *DAMAGED]
    records += [
        request_record(settings, value, f"d-{number}") for number, value in enumerate(damaged)
    ]
    records += [request_record(settings, None, "tombstone")]
    append(settings, records)
    worker = start_worker()
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    found = all_have_one_outcome(settings)
    assert found.counts[settings.topics.requests_dlq.name[9:]] == len(damaged) + 1


def test_an_outcome_too_large_for_its_topic_does_not_block_other_requests(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    # spread out, so that normal outcomes occur in record batches with and without a large one
    sizes = [2] * 40 + [2500] + [2] * 40 + [2500] + [2] * 40
    with Progress(settings) as progress:
        worker = start_worker()
        worker.wait_until_it_runs()
        set_on_batches_topic(settings, "max.message.bytes", 20_000)
        send(
            settings,
            *(requested(batch_id="same", essays=essays(count)) for count in sizes),
        )
        progress.wait_for_the_end(worker)
    found = all_have_one_outcome(settings)
    assert found.counts["cj.requests.dlq.v1"] == 2, str(found)


def set_on_batches_topic(settings: Settings, name: str, value: int) -> None:
    """Change one setting of the batches topic while the worker runs."""
    entry = ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(
        ResourceType.TOPIC, settings.topics.batches.name, incremental_configs=[entry]
    )
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    for future in admin.incremental_alter_configs([topic]).values():
        future.result()
