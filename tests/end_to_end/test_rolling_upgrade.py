"""A rolling upgrade: producers and consumers of both versions run together on the log of an earlier release."""

from typing import Any

import pytest

from processors.kafka.records import Record
from processors.settings import Settings
from schemas.events import CJAssessmentRequested, UploadEvent
from schemas.released_schemas import released
from tests.contract.schemas.compatibility import read_as, written_in
from tests.contract.schemas.samples import SAMPLES, sample_bytes
from tests.faults.asking import Progress, all_have_one_outcome
from tests.faults.load import append, record_of
from tests.faults.reading import read_all
from tests.faults.running import StartWorker
from tests.support.builders import instructions_uploaded, prompt_uploaded, requested
from tests.support.until import until
from tools.tail import tail_batches

BY_VERSION = {f"{schema.name}.v{schema.version}": schema for schema in released()}
DUE = 1_900_000_000_000
REQUESTS = 40


def record_in_version(
    version: int, settings: Settings, event: UploadEvent | CJAssessmentRequested
) -> Record:
    """The event's record from a producer that knows only that version of the schema."""
    name = type(event).__name__
    record = record_of(settings, event)
    value = written_in(BY_VERSION[f"{name}.v{version}"], event)
    return Record(record.topic, record.partition, record.key, value)


def request_records(settings: Settings, start: int, end: int) -> list[Record]:
    """Requests of an old and a new producer in turn; half of them name an assignment whose prompt comes later."""
    return [
        record_in_version(
            1 + number % 2,
            settings,
            requested(
                batch_id=f"b-{number}",
                assignment_id="late" if number % 4 < 2 else "a1",
                due_at_ms=DUE + number,
            ),
        )
        for number in range(start, end)
    ]


@pytest.mark.thorough
def test_old_and_new_producers_and_consumers_run_together(
    settings: Settings, start_worker: StartWorker
) -> None:
    topics = settings.topics
    # the log of an earlier release, byte for byte
    old_log = (
        (topics.instructions, "InstructionsUploaded.v1", b"assignment:a1"),
        (topics.student_prompts, "StudentPromptUploaded.v1", b"assignment:a1"),
        (topics.requests, "CJAssessmentRequested.v1", b"old"),
    )
    append(
        settings, [Record(topic.name, -1, key, sample_bytes(name)) for topic, name, key in old_log]
    )
    late = instructions_uploaded(assignment_id="late", event_id="l-1")
    append(settings, [record_of(settings, late), *request_records(settings, 0, REQUESTS // 2)])

    worker = start_worker(patience_s=600)
    worker.wait_until_it_runs()
    append(settings, request_records(settings, REQUESTS // 2, REQUESTS))
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    assert len(prepared(settings)) == 1 + REQUESTS // 2
    prompt = prompt_uploaded("New.", assignment_id="late", event_id="l-2", language="sv")
    append(settings, [record_in_version(2, settings, prompt)])
    until(lambda: len(prepared(settings)) == 1 + REQUESTS, seconds=60)
    all_have_one_outcome(settings.model_copy(update={"patience_s": 600}))

    seen_by_old, seen_by_new = prepared(settings, 1), prepared(settings, 2)
    assert all("due_at_ms" not in request for request in seen_by_old.values())
    due = {name: request.pop("due_at_ms") for name, request in seen_by_new.items()}
    assert seen_by_old == seen_by_new
    assert {name: due[name] for name in due if name.startswith("b-")} == {
        f"b-{number}": DUE + number if number % 2 else None for number in range(REQUESTS)
    }


def prepared(settings: Settings, reader: int = 2) -> dict[str, Any]:
    """The requests in prepared batches, by batch id, as a consumer of that schema version reads them."""
    version = BY_VERSION[f"CJBatchPrepared.v{reader}"]
    records = read_all(
        settings.bootstrap_servers, settings.topics.batches.name, settings.partitions
    )
    seen = [read_as(version, record.value) for record in records]
    assert {outcome["recipe"] for outcome in seen} <= {2}
    return {outcome["request"]["batch_id"]: outcome["request"] for outcome in seen}


def test_a_current_consumer_reads_the_outcomes_of_an_earlier_release(
    settings: Settings,
) -> None:
    topics = settings.topics
    old_outcomes = {
        topics.batches.name: ["CJBatchPrepared.v1", "CJBatchPrepared.v2"],
        topics.unresolved.name: ["CJBatchUnresolved.v1", "CJBatchUnresolved.v2"],
    }
    for topic, names in old_outcomes.items():
        append(settings, [Record(topic, 0, b"k", sample_bytes(name)) for name in names])
    tailed = tail_batches(settings, from_beginning=True, every_outcome=True)
    assert {(outcome.record.at.topic, outcome.event) for outcome in tailed} == {
        (topic, SAMPLES[name]) for topic, names in old_outcomes.items() for name in names
    }
