"""The demo as a new user runs it, and its checks, which must find every wrong outcome."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processors.kafka.records import LogRecord
from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import Prepared
from schemas.codec import Codec
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Malformed
from schemas.events import CJBatchPrepared, Outcome, UploadEvent, UploadUsed
from tables.content_location import ContentLocation
from tables.content_store import ContentStore
from tests.support.builders import (
    READY,
    REQUEST_AT,
    at,
    context_after,
    instructions_uploaded,
    prompt_uploaded,
    requested,
)
from tools.demo.check import AvroReader, Evidence, Findings, OutcomeFound, SentRecord, found_in

ROOT = Path(__file__).parents[2]
CODEC = Codec()
READER = AvroReader(CODEC)
LETTER_AT = replace(REQUEST_AT, offset=42)
ACKNOWLEDGED = {("assignment:a1", "instructions"): 0, ("assignment:a1", "student_prompt"): 1}
SENT = {
    REQUEST_AT: SentRecord(b"b1", CODEC.encode(requested()), ACKNOWLEDGED),
    LETTER_AT: SentRecord(b"b2", b"damaged", ACKNOWLEDGED),
}
SENT_UPLOADS: tuple[UploadEvent, ...] = READY
UPLOADS = {
    at(event, offset): LogRecord(at(event, offset), b"", CODEC.encode(event), (), 0)
    for offset, event in enumerate(SENT_UPLOADS)
}
BATCH = outcome_of(requested(), REQUEST_AT, Prepared("assignment", context_after(*READY)))
Alter = Callable[[CJBatchPrepared], Outcome]


@pytest.fixture
def content() -> ContentStore:
    store = ContentStore.open(ContentLocation("memory:///"))
    for text in ("Judge the argument.", "Should homework be banned?", "Weigh structure twice."):
        store.put(text.encode())
    return store


def prepared(event: Outcome = BATCH, key: bytes = b"b1") -> OutcomeFound:
    value = CODEC.encode(event)
    return found_in(LogRecord(replace(REQUEST_AT, topic="out"), key, value, (), 0), READER)


def dead_letter(value: bytes = b"damaged") -> OutcomeFound:
    headers = tuple(dead_letter_headers(LETTER_AT, 1, Malformed("no framing")))
    return found_in(LogRecord(replace(LETTER_AT, topic="dlq"), b"b2", value, headers, 0), READER)


def check(
    content: ContentStore, *outcomes: OutcomeFound, uploads: Mapping[Any, LogRecord] = UPLOADS
) -> Findings:
    return Evidence(SENT, uploads, frozenset(), content, READER).check(outcomes, [])


def test_exactly_one_correct_outcome_per_request_has_no_findings(content: ContentStore) -> None:
    found = check(content, prepared(), dead_letter())
    assert (found.missing, found.duplicated, found.stale, found.faults) == (0, 0, 0, [])
    assert found.outcomes == {"prepared": 1, "dead_lettered": 1}


def test_missing_and_duplicate_outcomes_are_counted(content: ContentStore) -> None:
    found = check(content, prepared(), prepared(), prepared())
    assert (found.missing, found.duplicated) == (1, 2)


def without_prompt(batch: CJBatchPrepared) -> Outcome:
    context = context_after(instructions_uploaded())
    return outcome_of(requested(), REQUEST_AT, Prepared("assignment", context))


def test_an_outcome_that_missed_an_acknowledged_upload_is_stale(content: ContentStore) -> None:
    assert isinstance(BATCH, CJBatchPrepared)
    assert check(content, prepared(without_prompt(BATCH)), dead_letter()).stale == 1


def with_instructions(batch: CJBatchPrepared, **changes: Any) -> Outcome:
    used = batch.provenance.instructions
    assert isinstance(used, UploadUsed)
    provenance = replace(batch.provenance, instructions=replace(used, **changes))
    return replace(batch, provenance=provenance)


@pytest.mark.parametrize(
    ("alter", "fault"),
    [
        (lambda batch: replace(batch, request=requested(language="sv")), "not the request sent"),
        (lambda batch: with_instructions(batch, version=7), "there is another upload at"),
        (lambda batch: with_instructions(batch, sha256="0" * 64), "there is another upload at"),
        (lambda batch: with_instructions(batch, source=LETTER_AT), "there is no upload at"),
        (
            lambda batch: replace(
                batch,
                processing_metadata=replace(
                    batch.processing_metadata, judge_rubric_storage_id="0" * 64
                ),
            ),
            "its judge_rubric is not the one in its provenance",
        ),
    ],
)
def test_an_altered_batch_is_a_fault(content: ContentStore, alter: Alter, fault: str) -> None:
    assert isinstance(BATCH, CJBatchPrepared)
    (message,) = check(content, prepared(alter(BATCH)), dead_letter()).faults
    assert fault in message


def test_an_altered_key_dead_letter_text_or_upload_is_a_fault(content: ContentStore) -> None:
    assert check(content, prepared(key=b"b7"), dead_letter()).faults
    assert check(content, prepared(), dead_letter(b"repaired")).faults
    assert check(ContentStore.open(ContentLocation("memory:///")), prepared(), dead_letter()).faults
    upload_at = at(prompt_uploaded(), 1)
    other = replace(UPLOADS[upload_at], value=CODEC.encode(prompt_uploaded("Another text.")))
    assert check(content, prepared(), dead_letter(), uploads={**UPLOADS, upload_at: other}).faults


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_the_demo_verifies_one_outcome_for_every_request() -> None:
    command = [sys.executable, "-W", "error", "-m", "tools", "demo", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["missing"], report["duplicated"], report["stale"]) == (0, 0, 0)
    assert (report["verified"], report["faults"], report["violations"]) == (True, [], [])
    assert (report["uploads"], report["requests"], report["dead_lettered"]) == (20, 2001, 20)
    assert report["prepared"] + report["unresolved"] == 1981
    assert report["parked"] > report["released"] > 0
    assert report["context_sources"].keys() == {"assignment", "course", "guest"}
    assert min(report["unresolved"], report["slow_path"], *report["prompt_sources"].values()) > 50
    judging = report["judging"]
    assert (judging["essays"], judging["outcome"], judging["reason"]) == (
        30,
        "complete",
        "reliable",
    )
    assert (judging["anchors"], judging["grades"]) == (12, "graded")
    assert sum(judging["pupils_by_grade"].values()) == 30
    report_on_run = (ROOT / judging["report"]).read_text()
    assert all(name in report_on_run for name in ("anchor-12", "<svg"))
    assert judging["claimed_r2_at_least"] >= 0.7
    assert judging["true_r2"] >= 0.6
    assert judging["failed"].keys() & {"invalid_answer", "rate_limited", "provider_error"}
    failed = judging["failed"]
    killed = judging["in_doubt"] - failed.get("timeout", 0)
    assert judging["calls"] == judging["comparisons"] + sum(failed.values()) + killed
    assert "the judge is killed after" in done.stderr
