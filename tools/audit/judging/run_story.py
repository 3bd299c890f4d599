"""`cjstream audit run`: every record of one run, its calls with their costs, its result and the verdict."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from processors.kafka.records import LogRecord
from processors.log.judging_log import JudgingLog, judging_event_of, result_of
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.errors import BadRecord, Discrepancy
from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CallsIntended,
    JudgingOpened,
)
from schemas.topics import Topic
from tables.judging.run import Run, fold
from tools.audit.check.findings import Finding, Violation
from tools.audit.judging.judging_range import JudgingRange, judging_range_of
from tools.audit.judging.kept_texts import KeptTexts
from tools.audit.judging.partition_check import JudgingCheck
from tools.audit_json import instant
from tools.results.documents import call_documents, ledger_document, result_document

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunStory:
    """A run as JSON, and what its check found."""

    document: Document
    findings: tuple[Finding, ...]


def run_story(log: JudgingLog, codec: Codec, run_id: str, texts: KeptTexts | None) -> RunStory:
    """Raises Discrepancy if the log has nothing of this run, and Unreachable."""
    judging_range, topics = judging_range_of(log), log.settings.topics
    records = [
        record
        for record in _all(log, judging_range, topics.judging)
        if record.key == run_id.encode()
    ]
    results = [
        record
        for record in _all(log, judging_range, topics.results)
        if run_id.encode() in (record.value or b"") and _run_id_of(record, codec) == run_id
    ]
    if not records and not results:
        raise Discrepancy(f"the log has neither a record nor a result of run {run_id}")
    number = (records or results)[0].at.partition
    check = JudgingCheck(log, codec, judging_range, number, texts)
    batch = _batch_of(log, codec, records, results)
    findings = tuple(check.of_run(batch, records, results))
    return RunStory(_document(run_id, records, results, codec, findings), findings)


def _all(log: JudgingLog, judging_range: JudgingRange, topic: Topic) -> Iterator[LogRecord]:
    for number in range(log.settings.partitions):
        partition, start, end = judging_range.of(topic.name, number)
        if start < end:
            yield from log.records({partition: start}, {partition: end})


def _run_id_of(record: LogRecord, codec: Codec) -> str | None:
    with suppress(BadRecord):
        return result_of(record, codec).result.run_id
    return None


def _batch_of(
    log: JudgingLog, codec: Codec, records: list[LogRecord], results: list[LogRecord]
) -> LogRecord | None:
    """The prepared batch that the run's first record names, or its result."""
    with suppress(BadRecord):
        opened = judging_event_of(records[0], codec) if records else None
        if isinstance(opened, JudgingOpened):
            at = opened.batch
        elif results:
            at = result_of(results[0], codec).result.provenance.batch
        else:
            return None
        batches = log.settings.partitions_of(log.settings.topics.batches)
        if Partition(at.topic, at.partition) in batches:
            return next(iter(log.records_at([at])), None)
    return None


def _document(
    run_id: str,
    records: list[LogRecord],
    results: list[LogRecord],
    codec: Codec,
    findings: tuple[Finding, ...],
) -> Document:
    run, at_of = _folded(records, codec)
    calls = [
        {
            **call,
            "intended_at": at_of.get((call["number"], call["attempt"], "intended")),
            "outcome_at": at_of.get((call["number"], call["attempt"], "outcome")),
        }
        for call in (call_documents(run) if run else ())
    ]
    return {
        "run_id": run_id,
        "batch_id": run.opened.batch_id if run else None,
        "state": _state(run, results, codec),
        "opened_at": instant(records[0].appended_at_ms) if records else None,
        "records": [
            {
                "at": str(record.at),
                "appended_at": instant(record.appended_at_ms),
                "event_type": _type_of(record, codec),
            }
            for record in records
        ],
        "waves": len(run.waves) if run else 0,
        "calls": calls,
        "ledger": ledger_document(run) if run else None,
        "results": [result_document(result_of(record, codec)) for record in results],
        "verdict": [
            {
                "says": type(finding).__name__,
                "kind": finding.kind,
                "at": str(finding.at),
                "sentence": finding.sentence,
            }
            for finding in findings
        ],
        "verified": not any(isinstance(finding, Violation) for finding in findings),
    }


def _folded(
    records: list[LogRecord], codec: Codec
) -> tuple[Run | None, dict[tuple[int, int, str], str]]:
    """The run up to the first record that contradicts it, and where each call was intended and ended."""
    run: Run | None = None
    at_of = dict[tuple[int, int, str], str]()
    with suppress(BadRecord, Discrepancy):
        for record in records:
            event = judging_event_of(record, codec)
            run = fold(run, event)
            match event:
                case CallsIntended():
                    for call in event.calls:
                        at_of.setdefault((call.number, call.attempt, "intended"), str(record.at))
                case CallAnswered() | CallFailed():
                    at_of.setdefault((event.number, event.attempt, "outcome"), str(record.at))
                case _:
                    pass
    return run, at_of


def _state(run: Run | None, results: list[LogRecord], codec: Codec) -> str:
    if results:
        return result_of(results[0], codec).result.outcome
    return run.stopped.outcome if run and run.stopped else "judging"


def _type_of(record: LogRecord, codec: Codec) -> str | None:
    with suppress(BadRecord):
        return type(judging_event_of(record, codec)).__name__
    return None
