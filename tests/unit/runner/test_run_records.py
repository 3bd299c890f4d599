"""The records of one run as they come from the log: own ones, each once, complete, in any order of topics."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from processors.kafka.records import LogRecord
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Discrepancy, Malformed
from schemas.events import CJBatchUnresolved, Provenance
from schemas.judging_events import CallAnswered, CallFailed, CJBatchJudged
from schemas.topics import Topics
from tests.support.simulated_runs import run_of
from tools.runner.collected_run import CollectedRecord, CollectedRun
from tools.runner.run_end import end_of
from tools.runner.run_records import RunRecords

CODEC, TOPICS = Codec(), Topics()


@pytest.fixture(scope="module")
def collected() -> CollectedRun:
    return run_of(essays=6, anchors=0, seed=3)


def empty(collected: CollectedRun) -> RunRecords:
    return RunRecords(codec=CODEC, topics=TOPICS, request=collected.request)


def record_of(collected: CollectedRecord[Any], **changes: Any) -> LogRecord:
    """The record of an event, as the log has it."""
    event = replace(collected.event, **changes)
    run_id = getattr(event, "run_id", None)
    key = b"key" if run_id is None or isinstance(event, CJBatchJudged) else run_id.encode()
    return LogRecord(collected.at, key, CODEC.encode(event), (), collected.appended_at_ms)


def all_of(collected: CollectedRun) -> Iterator[LogRecord]:
    for record in (collected.batch, *collected.judging, collected.result):
        assert record is not None
        yield record_of(record)


def taken(collected: CollectedRun, *records: LogRecord) -> RunRecords:
    records_so_far = empty(collected)
    for record in records:
        records_so_far.take(record)
    return records_so_far


def test_a_run_is_over_with_its_result_and_its_last_judging_record(collected: CollectedRun) -> None:
    records = empty(collected)
    overs = []
    for record in all_of(collected):
        records.take(record)
        overs.append(records.is_over)
    assert overs == [False] * (len(overs) - 1) + [True]
    assert records.judging == list(collected.judging)
    assert (records.batch, records.result) == (collected.batch, collected.result)


def test_the_result_may_come_before_the_judging_records(collected: CollectedRun) -> None:
    batch, *judging, result = all_of(collected)
    records = taken(collected, batch, result)
    assert not records.is_over
    for record in judging:
        records.take(record)
    assert records.is_over
    assert records.duplicates == 0


def test_what_comes_again_is_counted_and_dropped(collected: CollectedRun) -> None:
    all_records = list(all_of(collected))
    again = [
        replace(one, at=replace(one.at, offset=one.at.offset + 1000)) for one in all_records[:4]
    ]
    again.append(replace(all_records[-1], at=replace(all_records[-1].at, offset=77)))
    records = taken(collected, *all_records, *again)
    assert records.duplicates == 5
    assert records.judging == list(collected.judging)


def test_records_of_other_runs_are_passed_over(collected: CollectedRun) -> None:
    assert collected.batch is not None
    assert collected.result is not None
    other = "cj.requests.v1/0@99"
    others = [
        record_of(collected.judging[0], run_id=other),
        record_of(collected.result, run_id=other),
        record_of(collected.batch, event_id=other),
        LogRecord(Coordinates(TOPICS.judging.name, 0, 5), b"x", b"garbage", (), 1),
        LogRecord(Coordinates(TOPICS.batches.name, 0, 5), b"x", None, (), 1),
        LogRecord(Coordinates(TOPICS.requests_dlq.name, 0, 5), b"x", b"y", (), 1),
    ]
    records = taken(collected, *others)
    assert (records.judging, records.batch, records.result) == ([], None, None)
    assert records.unprepared is None


@pytest.mark.parametrize(
    ("kind", "changes", "lacking"),
    [
        (CallAnswered, {"prompt_sha256": ""}, "prompt_sha256"),
        (CallAnswered, {"provider": ""}, "provider"),
        (CallAnswered, {"model": ""}, "model"),
        (CallAnswered, {"cost_pusd": None}, "cost_pusd"),
    ],
)
def test_an_outcome_that_lacks_what_an_artefact_needs_is_named_by_its_coordinates(
    collected: CollectedRun, kind: type, changes: dict[str, Any], lacking: str
) -> None:
    number = next(n for n, one in enumerate(collected.judging) if isinstance(one.event, kind))
    records = taken(collected, *map(record_of, collected.judging[:number]))
    incomplete = record_of(collected.judging[number], **changes)
    with pytest.raises(Discrepancy, match=lacking) as raised:
        records.take(incomplete)
    assert str(raised.value).startswith(f"{incomplete.at}: ")


def test_a_failed_call_may_have_no_cost(collected: CollectedRun) -> None:
    answer = next(one.event for one in collected.judging if isinstance(one.event, CallAnswered))
    names = [name for name in CallFailed.__dataclass_fields__ if hasattr(answer, name)]
    fields = {name: getattr(answer, name) for name in names} | {"cost_pusd": None}
    failed = CallFailed(**fields, reason="timeout", will_retry=True)
    records = empty(collected)
    for record in collected.judging:
        if record.event == answer:
            records.take(record_of(CollectedRecord(record.at, 1, failed)))
            break
        records.take(record_of(record))
    assert records.judging[-1].event == failed


def test_a_contradiction_and_damage_are_discrepancies_at_their_coordinates(
    collected: CollectedRun,
) -> None:
    records = taken(collected, *all_of(collected))
    assert collected.result is not None
    second = record_of(collected.result, outcome="failed")
    with pytest.raises(Discrepancy, match="second, different result"):
        records.take(second)
    damaged = replace(record_of(collected.judging[0]), value=b"\0garbage")
    with pytest.raises(Discrepancy, match=str(damaged.at)):
        records.take(damaged)


def test_a_request_that_is_not_prepared_ends_the_run_at_once(collected: CollectedRun) -> None:
    request = collected.request
    unresolved = CJBatchUnresolved(
        event_id=str(request.at),
        recipe=1,
        provenance=Provenance(request=request.at),
        scope_key="assignment:a1",
        missing=("student_prompt",),
        request=request.event,
    )
    at = Coordinates(TOPICS.unresolved.name, 0, 4)
    records = taken(collected, LogRecord(at, b"key", CODEC.encode(unresolved), (), 1))
    assert records.is_over
    assert records.unprepared == f"unresolved: no live student_prompt at assignment:a1 ({at})"
    assert (end_of(records).exit_code, end_of(records).outcome) == (1, "unprepared")

    headers = tuple(dead_letter_headers(request.at, 1, Malformed("too large")))
    at = Coordinates(TOPICS.requests_dlq.name, 0, 4)
    records = taken(collected, LogRecord(at, b"key", b"value", headers, 1))
    assert records.unprepared == f"dead-lettered: too large ({at})"


@pytest.mark.parametrize(
    ("outcome", "reason", "exit_code"),
    [
        ("complete", "reliable", 0),
        ("complete", "grades_certain", 0),
        ("partial", "unreachable", 5),
        ("partial", "deadline", 5),
        ("partial", "comparisons", 5),
        ("partial", "exhausted", 5),
        ("partial", "budget", 6),
        ("failed", "no_signal", 7),
        ("failed", "provider_refused", 7),
        ("failed", "provider_failing", 1),
        ("failed", "too_few_answers", 1),
        ("refused", "overrides_refused", 2),
        ("refused", "price_unknown", 2),
        ("refused", "texts_missing", 1),
    ],
)
def test_the_exit_code_tells_how_a_run_ended(
    collected: CollectedRun, outcome: str, reason: str, exit_code: int
) -> None:
    assert collected.result is not None
    records = taken(collected, record_of(collected.result, outcome=outcome, reason=reason))
    end = end_of(records)
    assert (end.exit_code, end.outcome, end.reason) == (exit_code, outcome, reason)


def test_without_a_result_a_run_is_partial(collected: CollectedRun) -> None:
    batch, *judging, _ = all_of(collected)
    end = end_of(taken(collected, batch, *judging))
    assert (end.exit_code, end.reason) == (5, "timeout")
