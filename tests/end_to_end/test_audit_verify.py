"""Commands verify the outcomes of a real worker against the log, and report each forged outcome."""

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.events import UploadEvent
from schemas.topics import Topic
from tables.content_store import ContentStore
from tests.faults.asking import Progress, members_of
from tests.faults.load import DAMAGED, append, record_of, request_record, send
from tests.faults.running import StartWorker
from tests.support.builders import (
    instructions_deleted,
    instructions_uploaded,
    prompt_uploaded,
    requested,
    rubric_uploaded,
)
from tests.support.run_command import run_json
from tests.support.until import until
from tools.audit.check.findings import Finding, Tally
from tools.audit.verify.verify import VerifyReport, verify

TEXTS = ("Judge it.", "Judge it well.", "Write.", "Weigh.")
DAMAGED_UPLOAD = b"\1nonsense"


def uploads() -> list[UploadEvent]:
    judge, judge_well, write, weigh = TEXTS
    return [
        instructions_uploaded(judge),
        instructions_uploaded(judge_well, version=2, event_id="i-2", previous_event_id="i-1"),
        prompt_uploaded(write),
        rubric_uploaded(weigh),
    ]


@pytest.fixture
def patient(settings: Settings) -> Settings:
    """The installation with a patience long enough for requests to stay parked."""
    return settings.model_copy(update={"patience_s": 600})


@pytest.fixture
def audited(patient: Settings, start_worker: StartWorker) -> Settings:
    """An installation with stored texts, whose worker has answered requests of every kind; one stays parked."""
    store = ContentStore.open(patient.content)
    for text in TEXTS:
        store.put(text.encode())
    send(patient, *uploads())
    damaged = Record(patient.topics.instructions.name, -1, b"assignment:a1", DAMAGED_UPLOAD)
    append(patient, [damaged])
    worker = start_worker(patience_s=600)
    rows: dict[str, dict[str, Any]] = {
        "plain": {},
        "explicit": {"student_prompt_ref": "own"},
        "late": {"assignment_id": "late"},
        "waits": {"assignment_id": "nobody-knows"},
        "guest": {"assignment_id": None, "course_code": "GUEST"},
    }
    valid = [record_of(patient, requested(batch_id=name, **row)) for name, row in rows.items()]
    invalid = [request_record(patient, value, "bad") for value in DAMAGED]
    append(patient, [*valid, *invalid])
    with Progress(patient) as progress:
        progress.wait_for_the_end(worker)
        send(patient, instructions_uploaded(TEXTS[0], assignment_id="late", event_id="l-1"))
        send(patient, prompt_uploaded(TEXTS[2], assignment_id="late", event_id="l-2"))
        until(lambda: len(records_of(patient, patient.topics.batches)) == 4)
    assert worker.stop() == 0
    return patient


def records_of(settings: Settings, topic: Topic) -> list[LogRecord]:
    """The records of a topic."""
    with LogReader(settings, settings.partitions_of(topic)) as log:
        ends = log.seek_to_start()
        return list(log.records_until(ends))


def batch_of(settings: Settings, key: bytes) -> LogRecord:
    """The prepared batch with this key."""
    (batch,) = (
        record for record in records_of(settings, settings.topics.batches) if record.key == key
    )
    return batch


def forge(settings: Settings, record: LogRecord, value: bytes | None) -> str:
    """Append a forged outcome; returns its coordinates."""
    forged = Record(record.at.topic, record.at.partition, record.key, value, record.headers)
    (message,) = deliver(plain_producer(settings), [forged])
    return f"{message.topic()}/{message.partition()}@{message.offset()}"


def test_the_outcomes_of_a_worker_are_verified(audited: Settings) -> None:
    code, document, stderr = run_json(audited, "audit", "verify")
    assert (code, stderr, document["findings"]) == (0, "", [])
    assert document["not_verifiable"] == document["notes"] == {}
    names = audited.topics
    assert document["outcomes"] == {
        names.batches.name: 4,
        names.requests_dlq.name: len(DAMAGED),
    }
    assert document["counts"] == {"requests": 5 + len(DAMAGED), "waiting": 1}
    assert document["texts"] == len(TEXTS)


def test_forged_doubled_and_missing_outcomes_are_reported(audited: Settings) -> None:
    plain, guest = batch_of(audited, b"plain"), batch_of(audited, b"guest")
    value = bytearray(plain.value or b"")
    value[len(value) // 2] ^= 1
    altered = forge(audited, plain, bytes(value))
    doubled = forge(audited, guest, guest.value)
    skipped = record_of(audited, requested(batch_id="skipped"))
    (missing,) = append(audited, [skipped])
    commit_for_group(audited, missing.partition, missing.offset + 1)
    code, document, _ = run_json(audited, "audit", "verify", "--no-texts")
    found = {(finding["kind"], finding["at"]) for finding in document["findings"]}
    assert code == 3
    assert ("doubled", altered) in found
    assert ("doubled", doubled) in found
    assert ("missing", str(missing)) in found
    assert any(at == altered and kind != "doubled" for kind, at in found)
    assert {at for _, at in found} == {altered, doubled, str(missing)}
    assert document["texts"] is None

    code, document, _ = run_json(audited, "audit", "batch", "plain")
    (request,) = document["requests"]
    assert (code, request["verified"], len(request["outcomes"])) == (3, False, 2)
    code, document, _ = run_json(audited, "audit", "verify", "--batch", "guest", "--batch", "late")
    assert code == 3
    assert [(finding["kind"], finding["at"]) for finding in document["findings"]] == [
        ("doubled", doubled)
    ]


@pytest.mark.thorough
def test_the_findings_do_not_depend_on_the_number_of_processes_and_buckets(
    audited: Settings,
) -> None:
    plain, late = batch_of(audited, b"plain"), batch_of(audited, b"late")
    for outcome in (plain, late):
        value = bytearray(outcome.value or b"")
        value[-1] ^= 1
        forge(audited, outcome, bytes(value))

    def found(processes: int, buckets: int) -> tuple[set[Finding], Tally, int, int | None]:
        *items, report = verify(audited, 2**41, processes=processes, buckets=buckets)
        assert isinstance(report, VerifyReport)
        findings = {item for item in items if isinstance(item, Finding)}
        return findings, report.tally, report.uploads, report.texts

    single = found(1, 1)
    assert len(single[0]) > 2
    parallel = found(2, 7)
    assert (parallel[0], *parallel[2:]) == (single[0], *single[2:])
    assert parallel[1].outcomes == single[1].outcomes
    assert parallel[1].requests == single[1].requests
    counts = [
        {kind: group.count for kind, group in result[1].findings.items()}
        for result in (single, parallel)
    ]
    assert counts[0] == counts[1]


def commit_for_group(settings: Settings, partition: int, offset: int) -> None:
    """Commit an offset for the group, as if every request below had its outcome."""
    until(
        lambda: members_of(settings, settings.prep_group) == 0
    )  # a static member stays until its session expires
    group = {"bootstrap.servers": settings.bootstrap_servers, "group.id": settings.prep_group}
    consumer = Consumer(group)
    position = TopicPartition(settings.topics.requests.name, partition, offset)
    consumer.commit(offsets=[position], asynchronous=False)
    consumer.close()


@pytest.mark.thorough
def test_damaged_and_missing_texts_in_the_content_store_are_reported(
    audited: Settings, tmp_path: Path
) -> None:
    well, weigh = (
        instructions_uploaded(TEXTS[1]).storage_id,
        rubric_uploaded(TEXTS[3]).storage_id,
    )
    store = tmp_path / "content" / "sha256"
    (store / well[:2] / well).write_bytes(b"Judge it hell.")
    (store / weigh[:2] / weigh).unlink()
    code, document, _ = run_json(audited, "audit", "verify")
    sentences = {finding["kind"]: finding["sentence"] for finding in document["findings"]}
    assert code == 3
    assert well in sentences.pop("text_damaged")
    assert weigh in sentences.pop("text_missing")
    assert sentences == {}


@pytest.mark.thorough
def test_an_erased_text_is_reported_as_erased(audited: Settings, tmp_path: Path) -> None:
    well = instructions_uploaded(TEXTS[1]).storage_id
    send(audited, instructions_deleted(version=3, event_id="i-3", erased=True))
    (tmp_path / "content" / "sha256" / well[:2] / well).unlink()
    code, document, _ = run_json(audited, "audit", "verify")
    assert (code, document["findings"]) == (0, [])
    assert document["notes"]["text_erased"]["count"] == 1


@pytest.mark.thorough
def test_everything_about_one_batch_is_shown(audited: Settings) -> None:
    code, document, _ = run_json(audited, "audit", "batch", "late", "--texts")
    (request,) = document["requests"]
    assert (code, request["state"], request["verified"]) == (0, "prepared", True)
    assert [entry["is"] for entry in request["parking"]] == ["parked", "released"]
    (outcome,) = request["outcomes"]
    used = {upload["role"]: upload for upload in outcome["uploads"]}
    assert used["instructions"]["event_id"] == "l-1"
    assert used["instructions"]["event"]["actor"] == "teacher@school.example"
    assert [upload["text"] for upload in outcome["uploads"]] == [TEXTS[0], TEXTS[2]]
    assert {upload["text_state"] for upload in outcome["uploads"]} == {"present"}

    code, document, _ = run_json(audited, "audit", "batch", "waits")
    (request,) = document["requests"]
    assert (code, request["state"], request["outcomes"]) == (0, "waiting", [])

    code, document, _ = run_json(audited, "audit", "batch", "bad")
    assert code == 0
    assert [request["state"] for request in document["requests"]] == ["dead_lettered"] * len(
        DAMAGED
    )

    code, _, stderr = run_json(audited, "audit", "batch", "none-such")
    assert (code, "the log has no request of batch none-such" in stderr) == (3, True)


@pytest.mark.thorough
def test_a_batch_under_another_key_is_found(audited: Settings) -> None:
    stray = request_record(audited, record_of(audited, requested(batch_id="stray")).value, "x")
    copies = [Record(stray.topic, partition, b"x", stray.value) for partition in range(2)]
    append(audited, copies)
    code, document, _ = run_json(audited, "audit", "batch", "stray", "--everywhere")
    assert code == 0
    assert {request["at"].partition("/")[2][0] for request in document["requests"]} == {"0", "1"}
    assert {request["state"] for request in document["requests"]} == {"not_yet_prepared"}


@pytest.mark.thorough
def test_a_range_excludes_other_requests(audited: Settings) -> None:
    first = min(record.at for record in records_of(audited, audited.topics.requests))
    code, document, _ = run_json(audited, "audit", "verify", "--to", str(first), "--no-texts")
    assert code == 0
    ranges = document["requests"]
    assert ranges[f"{first.topic}/{first.partition}"]["to"] == first.offset + 1
    assert (
        sum(span["to"] - span["from"] for span in ranges.values()) == document["counts"]["requests"]
    )
    code, document, _ = run_json(audited, "audit", "verify", "--from", "0s", "--no-texts")
    assert (code, document["counts"]["requests"]) == (0, 0)


@pytest.mark.thorough
def test_an_unreachable_broker_ends_the_commands_with_exit_code_4(settings: Settings) -> None:
    unreachable = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    for command in (("verify",), ("batch", "b-1")):
        code, _, stderr = run_json(unreachable, "audit", *command)
        assert (code, stderr.count("\n")) == (4, 1)
