"""Outcomes of a real worker held against the log, by commands; then forged ones, each of which is named."""

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from processors.kafka.clients import plain_producer
from processors.kafka.partitions import partitions_of
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.events import UploadEvent
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
from tests.support.run_command import told
from tests.support.until import until
from tools.audit.check.findings import Finding, Note, NotVerifiable, Tally, Violation
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
    """The installation, in which requests wait for their context."""
    return settings.model_copy(update={"patience_s": 600})


@pytest.fixture
def audited(patient: Settings, start_worker: StartWorker) -> Settings:
    """Its texts stored, its requests of every kind answered by a worker that has ended; one request waits."""
    store = ContentStore.at(patient.content)
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
    asked = [record_of(patient, requested(batch_id=name, **row)) for name, row in rows.items()]
    append(patient, [*asked, *(request_record(patient, one, "bad") for one in DAMAGED)])
    with Progress(patient) as progress:
        progress.wait_for_the_end(worker)
        send(patient, instructions_uploaded(TEXTS[0], assignment_id="late", event_id="l-1"))
        send(patient, prompt_uploaded(TEXTS[2], assignment_id="late", event_id="l-2"))
        until(lambda: len(standing(patient, patient.topics.batches.name)) == 4)
    assert worker.stop() == 0
    return patient


def standing(settings: Settings, topic: str) -> list[LogRecord]:
    """What a topic holds."""
    with LogReader(settings, partitions_of([topic], settings)) as log:
        retained = log.offset_ranges()
        log.seek({one: low for one, (low, _) in retained.items()})
        return list(log.records_until({one: end for one, (_, end) in retained.items()}))


def batch_of(settings: Settings, key: bytes) -> LogRecord:
    """The prepared batch of a key."""
    (found,) = (one for one in standing(settings, settings.topics.batches.name) if one.key == key)
    return found


def forge(settings: Settings, record: LogRecord, value: bytes | None) -> str:
    """Append an outcome as a forger would; gives where it stands."""
    forged = Record(record.at.topic, record.at.partition, record.key, value, record.headers)
    (message,) = deliver(plain_producer(settings), [forged])
    return f"{message.topic()}/{message.partition()}@{message.offset()}"


def test_what_a_worker_made_is_verified(audited: Settings) -> None:
    code, document, grumbled = told(audited, "audit", "verify")
    assert (code, grumbled, document["findings"]) == (0, "", [])
    assert document["not_verifiable"] == document["notes"] == {}
    names = audited.topics
    assert document["outcomes"] == {
        names.batches.name: 4,
        names.requests_dlq.name: len(DAMAGED),
    }
    assert document["counts"] == {"requests": 5 + len(DAMAGED), "waiting": 1}
    assert document["texts"] == len(TEXTS)


def test_forged_doubled_and_missing_outcomes_are_named(audited: Settings) -> None:
    plain, guest = batch_of(audited, b"plain"), batch_of(audited, b"guest")
    value = bytearray(plain.value or b"")
    value[len(value) // 2] ^= 1
    altered = forge(audited, plain, bytes(value))
    doubled = forge(audited, guest, guest.value)
    passed_over = record_of(audited, requested(batch_id="passed-over"))
    (lost,) = append(audited, [passed_over])
    pass_over(audited, lost.partition, lost.offset + 1)
    code, document, _ = told(audited, "audit", "verify", "--no-texts")
    found = {(one["kind"], one["at"]) for one in document["findings"]}
    assert code == 3
    assert ("doubled", altered) in found
    assert ("doubled", doubled) in found
    assert ("missing", str(lost)) in found
    assert any(at == altered and kind != "doubled" for kind, at in found)
    assert {at for _, at in found} == {altered, doubled, str(lost)}
    assert document["texts"] is None

    code, document, _ = told(audited, "audit", "batch", "plain")
    (request,) = document["requests"]
    assert (code, request["verified"], len(request["outcomes"])) == (3, False, 2)
    code, document, _ = told(audited, "audit", "verify", "--batch", "guest", "--batch", "late")
    assert code == 3
    assert [(one["kind"], one["at"]) for one in document["findings"]] == [("doubled", doubled)]


def test_two_processes_and_many_buckets_find_what_one_finds(audited: Settings) -> None:
    plain, late = batch_of(audited, b"plain"), batch_of(audited, b"late")
    for outcome in (plain, late):
        value = bytearray(outcome.value or b"")
        value[-1] ^= 1
        forge(audited, outcome, bytes(value))

    def found(processes: int, buckets: int) -> tuple[set[Finding], Tally, int, int | None]:
        *told, report = verify(audited, 2**41, processes=processes, buckets=buckets)
        assert isinstance(report, VerifyReport)
        remarks = {one for one in told if isinstance(one, Violation | NotVerifiable | Note)}
        return remarks, report.tally, report.uploads, report.texts

    alone = found(1, 1)
    assert len(alone[0]) > 2
    apart = found(2, 7)
    assert (apart[0], *apart[2:]) == (alone[0], *alone[2:])
    assert apart[1].outcomes == alone[1].outcomes
    assert apart[1].requests == alone[1].requests
    counts = [
        {kind: one.count for kind, one in both[1].findings.items()} for both in (alone, apart)
    ]
    assert counts[0] == counts[1]


def pass_over(settings: Settings, partition: int, offset: int) -> None:
    """Commit an offset for the group, as if what lies below had its outcome."""
    until(lambda: members_of(settings, settings.prep_group) == 0)  # a slot stays for its session
    group = {"bootstrap.servers": settings.bootstrap_servers, "group.id": settings.prep_group}
    consumer = Consumer(group)
    at = TopicPartition(settings.topics.requests.name, partition, offset)
    consumer.commit(offsets=[at], asynchronous=False)
    consumer.close()


def test_a_flipped_byte_in_the_content_store_is_named(audited: Settings, tmp_path: Path) -> None:
    well, weigh = (
        instructions_uploaded(TEXTS[1]).storage_id,
        rubric_uploaded(TEXTS[3]).storage_id,
    )
    store = tmp_path / "content" / "sha256"
    (store / well[:2] / well).write_bytes(b"Judge it hell.")
    (store / weigh[:2] / weigh).unlink()
    code, document, _ = told(audited, "audit", "verify")
    found = {one["kind"]: one["sentence"] for one in document["findings"]}
    assert code == 3
    assert well in found.pop("text_damaged")
    assert weigh in found.pop("text_missing")
    assert found == {}


def test_an_erased_text_is_told_as_erased(audited: Settings, tmp_path: Path) -> None:
    well = instructions_uploaded(TEXTS[1]).storage_id
    send(audited, instructions_deleted(version=3, event_id="i-3", erased=True))
    (tmp_path / "content" / "sha256" / well[:2] / well).unlink()
    code, document, _ = told(audited, "audit", "verify")
    assert (code, document["findings"]) == (0, [])
    assert document["notes"]["text_erased"]["count"] == 1


def test_one_batch_is_told_whole(audited: Settings) -> None:
    code, document, _ = told(audited, "audit", "batch", "late", "--texts")
    (request,) = document["requests"]
    assert (code, request["state"], request["verified"]) == (0, "prepared", True)
    assert [entry["is"] for entry in request["parking"]] == ["parked", "released"]
    (outcome,) = request["outcomes"]
    used = {one["role"]: one for one in outcome["uploads"]}
    assert used["instructions"]["event_id"] == "l-1"
    assert used["instructions"]["event"]["actor"] == "teacher@school.example"
    assert [one["text"] for one in outcome["uploads"]] == [TEXTS[0], TEXTS[2]]
    assert {one["text_state"] for one in outcome["uploads"]} == {"present"}

    code, document, _ = told(audited, "audit", "batch", "waits")
    (request,) = document["requests"]
    assert (code, request["state"], request["outcomes"]) == (0, "waiting", [])

    code, document, _ = told(audited, "audit", "batch", "bad")
    assert code == 0
    assert [one["state"] for one in document["requests"]] == ["dead_lettered"] * len(DAMAGED)

    code, _, said = told(audited, "audit", "batch", "none-such")
    assert (code, "no request of batch none-such" in said) == (3, True)


def test_a_batch_under_another_key_is_found(audited: Settings) -> None:
    stray = request_record(audited, record_of(audited, requested(batch_id="stray")).value, "x")
    elsewhere = [Record(stray.topic, one, b"x", stray.value) for one in range(2)]
    append(audited, elsewhere)
    code, document, _ = told(audited, "audit", "batch", "stray", "--everywhere")
    assert code == 0
    assert {one["at"].partition("/")[2][0] for one in document["requests"]} == {"0", "1"}
    assert {one["state"] for one in document["requests"]} == {"not_yet_prepared"}


def test_a_range_leaves_out_what_is_not_in_it(audited: Settings) -> None:
    first = min(one.at for one in standing(audited, audited.topics.requests.name))
    code, document, _ = told(audited, "audit", "verify", "--to", str(first), "--no-texts")
    assert code == 0
    spans = document["requests"]
    assert spans[f"{first.topic}/{first.partition}"]["to"] == first.offset + 1
    assert sum(one["to"] - one["from"] for one in spans.values()) == document["counts"]["requests"]
    code, document, _ = told(audited, "audit", "verify", "--from", "0s", "--no-texts")
    assert (code, document["counts"]["requests"]) == (0, 0)


def test_a_broker_that_is_away_is_unreachable(settings: Settings) -> None:
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    for command in (("verify",), ("batch", "b-1")):
        code, _, said = told(away, "audit", *command)
        assert (code, said.count("\n")) == (4, 1)
