"""Requests that cannot be prepared: damaged ones, and ones whose outcome the broker refuses."""

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome
from tests.faults.load import CODEC, DAMAGED, append, assignment, record_of, request_record, send
from tests.faults.running import StartWorker
from tests.support.builders import essays, requested
from tests.support.installations import configure_topic


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


@pytest.mark.thorough
def test_an_outcome_too_large_for_its_topic_does_not_block_other_requests(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    # spread out, so that normal outcomes occur in record batches with and without a large one
    sizes = [2] * 40 + [2500] + [2] * 40 + [2500] + [2] * 40
    with Progress(settings) as progress:
        worker = start_worker()
        worker.wait_until_it_runs()
        configure_topic(settings, settings.topics.batches.name, max_message_bytes=20_000)
        send(
            settings,
            *(requested(batch_id="same", essays=essays(count)) for count in sizes),
        )
        progress.wait_for_the_end(worker)
    found = all_have_one_outcome(settings)
    assert found.counts["cj.requests.dlq.v1"] == 2, str(found)
