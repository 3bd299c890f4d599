import random
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.judging.judges.simulated import SimulatedFaults
from schemas.canonical_json import canonical_json
from schemas.errors import Discrepancy
from schemas.judging_events import CallAnswered
from tests.support.simulated_runs import run_of
from tools.audit_json import instant
from tools.runner.artefact import CHECKSUM, artefact_bytes, artefact_of, checksum_of
from tools.runner.artefact_file import SCHEMA, check_artefact, read_artefact, write_artefact
from tools.runner.collected_run import CollectedRecord, CollectedRun

FAULTY = SimulatedFaults(server_error=0.1, timeout=0.2, garbage=0.3)


@cache
def whole_run() -> CollectedRun:
    return run_of()


@cache
def faulty_run() -> CollectedRun:
    return run_of(6, 2, faults=FAULTY)


def bytes_of(collected: CollectedRun) -> bytes:
    return artefact_bytes(artefact_of(collected))


def objects_in(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for member in schema.values():
            yield from objects_in(member)
    elif isinstance(schema, list):
        for member in schema:
            yield from objects_in(member)


def test_the_schema_allows_no_unknown_member_and_demands_every_known_one() -> None:
    objects = list(objects_in(orjson.loads(SCHEMA.read_bytes())))
    assert len(objects) > 20
    for described in objects:
        assert described["additionalProperties"] is False
        assert sorted(described["required"]) == sorted(described["properties"])


@settings(max_examples=4, deadline=None)
@given(st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_of_records_changes_a_byte(chosen: random.Random) -> None:
    collected = whole_run()
    records = [*collected.judging, *chosen.sample(collected.judging, 20)]
    # a record may also have been appended again, later
    records += [
        CollectedRecord(replace(one.at, offset=one.at.offset + 10_000), 1, one.event)
        for one in chosen.sample(collected.judging, 5)
    ]
    chosen.shuffle(records)
    assert bytes_of(replace(collected, judging=tuple(records))) == bytes_of(collected)


@settings(max_examples=4, deadline=None)
@given(st.data())
def test_a_run_that_was_given_up_has_a_valid_artefact_at_every_record(data: st.DataObject) -> None:
    collected = faulty_run()
    read = data.draw(st.integers(0, len(collected.judging)))
    partial = replace(collected, judging=collected.judging[:read], result=None)
    document = check_artefact(bytes_of(partial))
    assert document["validation"]["runner_status"] == {
        "partial_data": True,
        "timeout_seconds": 1800,
        "observed_events": read + 2,
    }
    assert document["metadata"]["outcome"] is None
    assert document["bt_summary"]["is_provisional"] is True


def test_a_run_without_a_batch_has_a_valid_artefact() -> None:
    collected = replace(whole_run(), batch=None, judging=(), result=None)
    document = check_artefact(bytes_of(collected))
    assert document["judging"] is None
    assert document["metadata"]["run_id"] is None


def test_a_comparison_without_an_answer_has_no_winner() -> None:
    document = artefact_of(faulty_run())
    lost = [one for one in document["llm_comparisons"] if one["state"] == "lost"]
    assert lost
    assert {one["winner_id"] for one in lost} == {None}
    assert all(one["failure"] for one in lost)


def test_every_answer_names_its_winner_prompt_and_coordinates() -> None:
    collected = faulty_run()
    by_number = {one["number"]: one for one in artefact_of(collected)["llm_comparisons"]}
    answers = [record for record in collected.judging if isinstance(record.event, CallAnswered)]
    for record in answers:
        assert isinstance(record.event, CallAnswered)
        one = by_number[record.event.number]
        winner = record.event.first_id if record.event.winner == "first" else record.event.second_id
        assert (one["winner_id"], one["prompt_sha256"]) == (winner, record.event.prompt_sha256)
        assert one["at"] == str(record.at)
    assert len(answers) == sum(one["state"] == "answered" for one in by_number.values())


def test_costs_add_up_to_what_the_result_says_exactly() -> None:
    collected = faulty_run()
    document = artefact_of(collected)
    costs = document["costs"]
    rows = sum(Decimal(row["cost_usd"]) for row in costs["rows"])
    assert rows + Decimal(costs["without_usage"]["bound_usd"]) == Decimal(costs["spent_usd"])
    assert collected.result is not None
    assert Decimal(costs["spent_usd"]) * 10**12 == collected.result.event.cost.spent_pusd
    in_doubt = collected.result.event.cost.in_doubt_pusd
    assert in_doubt
    assert Decimal(document["ledger"]["in_doubt_usd"]) * 10**12 == in_doubt
    assert costs["is_simulated"] is True


def test_the_time_of_an_artefact_is_that_of_its_last_record() -> None:
    collected = whole_run()
    assert collected.result is not None
    assert collected.generated_at_ms == collected.result.appended_at_ms
    assert artefact_of(collected)["metadata"]["generated_at"] == instant(
        collected.result.appended_at_ms
    )


def test_its_offsets_hold_every_record() -> None:
    collected = whole_run()
    ranges = {one["topic"]: one for one in artefact_of(collected)["validation"]["offsets"]}
    for record in collected.records:
        one = ranges[record.at.topic]
        assert one["partition"] == record.at.partition
        assert one["from"] <= record.at.offset < one["to"]


def test_the_bounds_of_the_last_wave_and_of_the_result_agree() -> None:
    scores = artefact_of(whole_run())["bt_summary"]
    assert scores["waves"][-1]["bound"] == scores["reliability"]["bound"]
    assert len(scores["waves"]) >= 4


def test_it_is_written_and_read_back_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "artefact.json"
    document = write_artefact(path, whole_run())
    assert path.read_bytes() == bytes_of(run_of())
    assert read_artefact(path) == document == artefact_of(whole_run())


def changed(path: tuple[str, ...], value: Any, *, is_sealed: bool) -> bytes:
    document = orjson.loads(bytes_of(whole_run()))
    part = document
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    if is_sealed:
        document["validation"][CHECKSUM] = checksum_of(document)
    return canonical_json(document)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (changed(("metadata", "label"), "another", is_sealed=False), "checksum"),
        (changed(("metadata", "surprise"), 1, is_sealed=True), "$.metadata"),
        (changed(("costs", "spent_usd"), 0.5, is_sealed=True), "$.costs.spent_usd"),
        (changed(("schema_version",), "1.0", is_sealed=True), "$.schema_version"),
        (bytes_of(whole_run()) + b"\n", "checksum"),
        (b"{", "not JSON"),
    ],
    ids=["label", "unknown member", "number for money", "version", "spaces", "half a file"],
)
def test_an_artefact_that_was_changed_is_refused(content: bytes, named: str) -> None:
    with pytest.raises(Discrepancy) as refused:
        check_artefact(content)
    assert named in str(refused.value)


def test_a_text_among_the_overrides_is_named_by_its_sha256() -> None:
    overrides = {"system_prompt_override": "Be strict, but fair.", "judging": {"seed": 5}}
    artefact = artefact_of(run_of(2, 0, overrides=overrides))
    assert check_artefact(artefact_bytes(artefact))["metadata"]["seed"] == 5
    assert b"strict" not in artefact_bytes(artefact)
    named = artefact["inputs"]["overrides"]["system_prompt_override"]
    assert named == artefact["judging"]["prompt"]["system"]


def test_records_that_contradict_each_other_are_named_by_coordinates() -> None:
    collected = whole_run()
    last = collected.judging[-2]
    assert isinstance(last.event, CallAnswered)
    other = "second" if last.event.winner == "first" else "first"
    at = replace(last.at, offset=9_999)
    forged = CollectedRecord(at, 1, replace(last.event, winner=other))
    with pytest.raises(Discrepancy, match="@9999"):
        artefact_of(replace(collected, judging=(*collected.judging, forged)))
