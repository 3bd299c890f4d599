"""Judging is made again from the log: what is right has no finding, and each change is named by its coordinates."""

import copy
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from processors.judging.judges.simulated import SimulatedFaults
from processors.judging.run_opening import PreparedBatch
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Discrepancy
from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CallsIntended,
    CJBatchJudged,
    JudgingOpened,
    JudgingStopped,
    WavePlanned,
)
from tables.judging.run import Run
from tests.support.builders import sha256_of
from tests.support.judged_installation import CODEC, JudgedInstallation
from tools.audit.check.findings import Finding, Note, NotVerifiable, Violation
from tools.audit.judging.judging_range import ChosenBatches, judging_range_of
from tools.audit.judging.kept_texts import KeptTexts
from tools.audit.judging.partition_check import JudgingCheck
from tools.audit.judging.run_check import result_sha256
from tools.audit.judging.run_story import run_story
from tools.models.catalogue import price_rows

FAULTS = SimulatedFaults(rate_limited=0.1, server_error=0.1, timeout=0.05, garbage=0.1)
EVENTS = (
    *(JudgingOpened, WavePlanned, CallsIntended, CallAnswered),
    *(CallFailed, JudgingStopped, CJBatchJudged),
)


def installation(folder: Path) -> JudgedInstallation:
    return JudgedInstallation(Settings(data_dir=folder, partitions=1))


def findings(
    judged: JudgedInstallation, *, texts: bool = True, chosen: ChosenBatches | None = None
) -> list[Finding]:
    kept = KeptTexts(judged.store) if texts else None
    judging_range = replace(judging_range_of(judged.log), chosen=chosen)
    check = JudgingCheck(judged.log, Codec(), judging_range, 0, kept)
    return [finding for portion in check.run() for finding in portion.findings]


def violations(judged: JudgedInstallation) -> list[tuple[str, Coordinates]]:
    return [(one.kind, one.at) for one in findings(judged) if isinstance(one, Violation)]


@pytest.fixture(scope="module")
def of_module(tmp_path_factory: pytest.TempPathFactory) -> JudgedInstallation:
    judged = installation(tmp_path_factory.mktemp("judged"))
    judged.judge(judged.prepare("batch-1"), FAULTS)
    return judged


@pytest.fixture
def judged(of_module: JudgedInstallation) -> JudgedInstallation:
    """A run with faults and every kind of record; a test may change its records."""
    changed = copy.copy(of_module)
    changed.log = copy.copy(of_module.log)
    changed.log.topics = {name: list(records) for name, records in of_module.log.topics.items()}
    changed.log.committed_offsets = dict(of_module.log.committed_offsets)
    changed.log.log_starts = {}
    return changed


def test_runs_with_faults_overrides_and_refusals_have_no_finding(tmp_path: Path) -> None:
    judged = installation(tmp_path)
    judged.judge(judged.prepare("batch-1"), FAULTS)
    overrides = {
        "system_prompt_override": "Be brief.",
        "judge_rubric_override": "Structure first.",
        "judging": {"seed": 7, "max_comparisons": 9},
    }
    judged.judge(judged.prepare("batch-2", overrides=overrides))
    assert judged.judge(judged.prepare("batch-3", overrides={"surprise": 1})) is None
    judged.judge(judged.prepare("batch-4"), waves=2)  # still open
    assert findings(judged) == []
    assert findings(judged, texts=False) == []


def test_batches_are_read_only_where_a_judge_has_been(tmp_path: Path) -> None:
    judged = installation(tmp_path)
    judged.prepare("batch-1")
    assert records_read(judged) == 1
    assert [one.kind for one in findings(judged)] == ["not_judged"]
    judged.log.committed_offsets.clear()
    assert records_read(judged) == 0
    assert findings(judged) == []


def records_read(judged: JudgedInstallation) -> int:
    check = JudgingCheck(judged.log, Codec(), judging_range_of(judged.log), 0, None)
    return sum(portion.records for portion in check.run())


@pytest.mark.parametrize("kind", EVENTS)
def test_a_flipped_byte_of_any_record_is_named_by_its_coordinates(
    judged: JudgedInstallation, kind: type
) -> None:
    at = judged.find(kind)
    value = judged.record(at).value
    assert value is not None
    for position in range(0, len(value), 1 + len(value) // 12):
        flipped = bytes((*value[:position], value[position] ^ 1, *value[position + 1 :]))
        judged.replace(at, value=flipped)
        found = violations(judged)
        assert at in {where for _, where in found}, (position, found)


@pytest.mark.parametrize("kind", EVENTS)
def test_a_flipped_byte_of_a_key_or_header_is_named_by_its_coordinates(
    judged: JudgedInstallation, kind: type
) -> None:
    at = judged.find(kind)
    record = judged.record(at)
    judged.replace(at, key=b"another")
    assert at in {where for _, where in violations(judged)}
    ((name, checksum),) = record.headers
    judged.replace(at, key=record.key, headers=((name, b"x" + (checksum or b"")[1:]),))
    assert at in {where for _, where in violations(judged)}


def first_plan(judged: JudgedInstallation, number: int) -> WavePlanned:
    event = CODEC.decode(judged.record(judged.find(WavePlanned, number)).value)
    assert isinstance(event, WavePlanned)
    return event


def swapped(judged: JudgedInstallation) -> dict[str, Any]:
    one, *others = first_plan(judged, 0).comparisons
    return {"comparisons": (replace(one, first=one.second, second=one.first), *others)}


def dearer(judged: JudgedInstallation) -> dict[str, Any]:
    event = CODEC.decode(judged.record(judged.find(CallsIntended)).value)
    assert isinstance(event, CallsIntended)
    one, *others = event.calls
    return {"calls": (replace(one, bound_pusd=(one.bound_pusd or 0) + 1), *others)}


def other_prompt(judged: JudgedInstallation) -> dict[str, Any]:
    event = CODEC.decode(judged.record(judged.find(CallsIntended)).value)
    assert isinstance(event, CallsIntended)
    one, *others = event.calls
    return {"calls": (replace(one, prompt_sha256=sha256_of("another")), *others)}


def other_winner(judged: JudgedInstallation) -> dict[str, Any]:
    event = CODEC.decode(judged.record(judged.find(CallAnswered)).value)
    assert isinstance(event, CallAnswered)
    return {"winner": "second" if event.winner == "first" else "first"}


def with_other_prices(judged: JudgedInstallation) -> dict[str, Any]:
    event = CODEC.decode(judged.record(judged.find(JudgingOpened)).value)
    assert isinstance(event, JudgingOpened)
    assert event.judge.prices is not None
    prices = replace(event.judge.prices, output=event.judge.prices.output + 1)
    return {"judge": replace(event.judge, prices=prices)}


def with_a_listed_price(judged: JudgedInstallation) -> dict[str, Any]:
    """The judge is another one, with the id of its row in the price table, but with other prices."""
    row = price_rows()[0]
    judge = with_other_prices(judged)["judge"]
    return {"judge": replace(judge, provider=row.provider, model=row.model, price_id=row.price_id)}


@pytest.mark.parametrize(
    ("kind", "changes", "found"),
    [
        (JudgingOpened, with_other_prices, "wrong_price"),
        (JudgingOpened, with_a_listed_price, "wrong_price"),
        (JudgingOpened, {"seed": 8}, "wrong_opening"),
        (JudgingOpened, {"max_comparisons": 1000}, "wrong_opening"),
        (JudgingOpened, {"batch_id": "another"}, "wrong_opening"),
        (WavePlanned, swapped, "wrong_plan"),
        (CallsIntended, dearer, "wrong_bound"),
        (CallsIntended, other_prompt, "wrong_prompt"),
        (CallsIntended, {"mode": "batch"}, "wrong_mode"),
        (CallAnswered, other_winner, "wrong_winner"),
        (CallAnswered, {"confidence": 5}, "wrong_winner"),
        (CallAnswered, {"cost_pusd": 1}, "wrong_cost"),
        (CallAnswered, {"price_id": None}, "wrong_cost"),
        (CallAnswered, {"provider": "another"}, "wrong_provider"),
        (CallAnswered, {"first_id": "e-9"}, "contradiction"),
        (CallFailed, {"cost_pusd": 12345}, "wrong_cost"),
        (CallFailed, {"will_retry": False}, "wrong_retry"),
        (JudgingStopped, {"reason": "deadline"}, "wrong_stop"),
        (JudgingStopped, {"outcome": "failed", "reason": "no_signal"}, "wrong_stop"),
    ],
)
def test_a_change_with_its_own_checksum_contradicts_what_is_made_again(
    judged: JudgedInstallation,
    kind: type,
    changes: dict[str, Any] | Callable[[JudgedInstallation], dict[str, Any]],
    found: str,
) -> None:
    at = judged.find(kind)
    judged.change(at, **(changes(judged) if callable(changes) else changes))
    assert (found, at) in violations(judged)


def test_a_result_is_the_sum_of_its_log_to_the_pico_dollar(judged: JudgedInstallation) -> None:
    at, stopped_at = judged.find(CJBatchJudged), judged.find(JudgingStopped)
    result = CODEC.decode(judged.record(at).value)
    assert isinstance(result, CJBatchJudged)
    cost = replace(result.cost, spent_pusd=(result.cost.spent_pusd or 0) + 1)
    judged.change(at, cost=cost)
    assert violations(judged) == [("wrong_result", at)]
    # also if the last record of the run was changed to agree with it
    value = judged.record(at).value
    assert value is not None
    judged.change(stopped_at, result_sha256=result_sha256(value))
    assert violations(judged) == [("wrong_result", at)]


def test_a_difference_of_a_millionth_is_a_note(judged: JudgedInstallation) -> None:
    at = judged.find(CJBatchJudged)
    result = CODEC.decode(judged.record(at).value)
    assert isinstance(result, CJBatchJudged)
    assert result.reliability is not None
    nearly = replace(result.reliability, pr=result.reliability.pr + 1e-6)
    judged.change(at, reliability=nearly)
    judged.change(
        judged.find(JudgingStopped), result_sha256=result_sha256(judged.record(at).value or b"")
    )
    assert [(type(one), one.kind, one.at) for one in findings(judged)] == [(Note, "rounded", at)]


def test_one_result_or_open_run_for_each_batch_that_was_fetched(tmp_path: Path) -> None:
    judged = installation(tmp_path)
    left_alone = judged.prepare("before")
    judged.judge(judged.prepare("batch-1"))
    lost = judged.prepare("lost")
    judged.judge(judged.prepare("batch-2"), waves=1)
    assert [(type(one), one.kind, one.at) for one in findings(judged)] == [
        (Note, "not_judged", left_alone.at),
        (Violation, "unjudged", lost.at),
    ]
    judged.log.committed_offsets[Partition(judged.topics.batches.name, 0)] = lost.at.offset
    assert violations(judged) == []  # not fetched yet


def test_only_the_runs_of_chosen_batches_are_checked(tmp_path: Path) -> None:
    judged = installation(tmp_path)
    judged.judge(judged.prepare("early"))
    lost = judged.prepare("lost")
    wrong = judged.prepare("wrong")
    judged.judge(wrong)
    stopped_at, result_at = judged.find(JudgingStopped, 1), judged.find(CJBatchJudged, 1)
    judged.change(stopped_at, reason="budget")
    judged.change(result_at, engine=2)

    def found(chosen: ChosenBatches) -> list[Coordinates]:
        return [one.at for one in findings(judged, chosen=chosen) if isinstance(one, Violation)]

    def of_request(batch: PreparedBatch) -> ChosenBatches:
        at = batch.event.provenance.request
        tp = Partition(at.topic, at.partition)
        return ChosenBatches(requests={tp: (at.offset, at.offset + 1)})

    assert found(ChosenBatches(batch_ids=frozenset({"early"}))) == []
    assert found(ChosenBatches(batch_ids=frozenset({"lost"}))) == [lost.at]
    assert found(of_request(lost)) == [lost.at]
    assert set(found(of_request(wrong))) == {stopped_at, result_at}
    assert found(ChosenBatches(batch_ids=frozenset({"early", "lost", "wrong"}))) == [
        one.at for one in findings(judged) if isinstance(one, Violation)
    ]


def test_a_second_result_a_missing_one_and_one_without_a_run_are_found(
    judged: JudgedInstallation,
) -> None:
    at, stopped_at = judged.find(CJBatchJudged), judged.find(JudgingStopped)
    record = judged.record(at)
    again = judged.append(judged.topics.results, record.key, record.value or b"")
    assert violations(judged) == [("judged_twice", again)]
    judged.log.topics[judged.topics.results.name].clear()
    assert violations(judged) == [("no_result", stopped_at)]
    judged.append(judged.topics.results, record.key, record.value or b"")
    judged.log.topics[judged.topics.judging.name].pop()
    assert violations(judged) == [("no_run", at)]


def test_a_run_that_stops_while_its_log_is_read_has_its_result(judged: JudgedInstallation) -> None:
    range_before = judging_range_of(judged.log)
    at, stopped_at = judged.find(CJBatchJudged), judged.find(JudgingStopped)
    judging = Partition(stopped_at.topic, 0)
    early = replace(range_before, ends={**range_before.ends, judging: stopped_at.offset})

    def found() -> list[Finding]:
        check = JudgingCheck(judged.log, CODEC, early, 0, None)
        return [finding for portion in check.run() for finding in portion.findings]

    assert found() == []
    judged.change(stopped_at, result_sha256=sha256_of("another"))
    assert [(one.kind, one.at) for one in found()] == [("no_run", at)]


def test_a_refusal_is_made_again_from_its_batch(tmp_path: Path) -> None:
    judged = installation(tmp_path)
    judged.judge(judged.prepare("batch-1", overrides={"surprise": 1}))
    at = judged.find(CJBatchJudged)
    assert findings(judged) == []
    judged.change(at, flags=("order_effect",))
    assert violations(judged) == [("wrong_result", at)]


def test_what_the_log_or_the_store_has_lost_is_not_verifiable_and_no_fault(
    judged: JudgedInstallation, tmp_path: Path
) -> None:
    judged.log.log_starts[Partition(judged.topics.judging.name, 0)] = 5
    kinds = {(type(one), one.kind) for one in findings(judged)}
    assert kinds == {(NotVerifiable, "run_gone")}
    other = installation(tmp_path)
    run = other.judge(other.prepare("batch-1"))
    assert isinstance(run, Run)
    answered = next(one.answer for one in run.comparisons if one.answer)
    assert answered.response_storage_id is not None
    other.store.discard(answered.response_storage_id)
    assert {(type(one), one.kind) for one in findings(other)} == {(Note, "response_gone")}
    other.store.discard(run.items[0].storage_id)
    found = {(type(one), one.kind) for one in findings(other)}
    assert found == {(NotVerifiable, "texts_gone")}


def test_the_story_of_a_run_has_every_call_and_its_verdict(judged: JudgedInstallation) -> None:
    run_id = first_plan(judged, 0).run_id
    story = run_story(judged.log, CODEC, run_id, KeptTexts(judged.store))
    document = story.document
    assert (story.findings, document["verified"]) == ((), True)
    (result,) = document["results"]
    assert document["state"] == result["outcome"]
    assert len(document["calls"]) == result["counts"]["calls"]
    assert all(call["intended_at"] and call["outcome_at"] for call in document["calls"])
    spent = sum(Decimal(call["cost_usd"] or 0) for call in document["calls"])
    assert spent == Decimal(result["cost"]["spent_usd"])
    at = judged.find(CallAnswered)
    judged.change(at, **other_winner(judged))
    story = run_story(judged.log, CODEC, run_id, KeptTexts(judged.store))
    assert story.document["verified"] is False
    assert story.findings[0].at == at
    with pytest.raises(Discrepancy, match="neither a record nor a result of run another"):
        run_story(judged.log, CODEC, "another", None)
