"""Results over HTTP: the list, single results, how far a batch is, comparisons and the ledger."""

from decimal import Decimal
from typing import Any

import pytest

from processors.judging.judges.simulated import SimulatedFaults
from schemas.coordinates import Coordinates, Partition
from schemas.events import CJBatchUnresolved, Provenance
from schemas.judging_events import CJBatchJudged
from tables.judging.run import Run
from tests.contract.api.calling import Api
from tests.support.builders import REQUEST_AT, requested
from tests.support.judged_installation import CODEC
from tests.support.tokens import hs256

RESULTS = "/results/v1/batches"
FAULTS = SimulatedFaults(rate_limited=0.1, server_error=0.1, timeout=0.05, garbage=0.1)


def get(api: Api, path: str) -> Any:
    response = api("GET", f"{RESULTS}{path}")
    assert response.status_code == 200, response.text
    return response.json()


def judged(api: Api, name: str, **changes: Any) -> Run:
    run = api.judged.judge(api.judged.prepare(name, **changes), FAULTS)
    assert run is not None
    return run


def test_results_are_listed_newest_first_in_pages_and_by_assignment(api: Api) -> None:
    assert get(api, "") == {"items": [], "total": 0, "page": 1, "page_size": 50}
    for number in range(3):
        judged(api, f"batch-{number}")
    judged(api, "another", assignment_id="a2")
    listed = get(api, "?page_size=3")
    assert [one["batch_id"] for one in listed["items"]] == ["another", "batch-2", "batch-1"]
    assert (listed["total"], listed["page"], listed["page_size"]) == (4, 1, 3)
    assert [one["batch_id"] for one in get(api, "?page_size=3&page=2")["items"]] == ["batch-0"]
    of_assignment = get(api, "?assignment_id=a2")
    assert ([one["batch_id"] for one in of_assignment["items"]], of_assignment["total"]) == (
        ["another"],
        1,
    )
    assert get(api, "?assignment_id=a3")["total"] == 0
    judged(api, "batch-9")  # what came since the last call is there, once
    assert (get(api, "")["total"], get(api, "")["items"][0]["batch_id"]) == (5, "batch-9")


def test_a_result_is_the_newest_of_its_batch_or_that_of_a_run(api: Api) -> None:
    first, second = judged(api, "batch-1"), judged(api, "batch-1")
    newest = get(api, "/batch-1")
    assert newest["run_id"] == second.opened.run_id
    assert newest["outcome"] in ("complete", "partial")
    assert {essay["essay_id"] for essay in newest["essays"]} == {f"e-{n}" for n in range(4)}
    assert newest["cost"]["spent_usd"] == str(Decimal(second.ledger.spent_pusd) * Decimal("1e-12"))
    assert get(api, f"/batch-1?run_id={first.opened.run_id}")["run_id"] == first.opened.run_id
    for path in ("/batch-2", "/batch-1?run_id=another"):
        response = api("GET", f"{RESULTS}{path}")
        assert (response.status_code, response.json()["resource_type"]) == (404, "result")


def test_a_refused_batch_has_a_result_with_details_and_no_run(api: Api) -> None:
    api.judged.judge(api.judged.prepare("batch-1", overrides={"surprise": 1}))
    result = get(api, "/batch-1")
    assert (result["outcome"], result["judge"]) == ("refused", None)
    assert result["details"] == [{"path": "llm_config_overrides.surprise", "code": "unknown_field"}]
    for name in ("comparisons", "ledger"):
        response = api("GET", f"{RESULTS}/batch-1/{name}")
        assert (response.status_code, response.json()["resource_type"]) == (404, "run")


def test_the_status_says_what_is_known_last(api: Api) -> None:
    assert get(api, "/batch-1/status") == {"batch_id": "batch-1", "state": "unknown", "since": None}
    request = requested(batch_id="batch-1")
    unresolved = CJBatchUnresolved(
        event_id="event-1",
        recipe=1,
        provenance=Provenance(request=REQUEST_AT),
        scope_key="assignment:a1",
        missing=("student_prompt",),
        request=request,
    )
    api.judged.append(api.judged.topics.unresolved, b"batch-1", CODEC.encode(unresolved))
    status = get(api, "/batch-1/status")
    assert (status["state"], status["unresolved"]["missing"]) == ("unresolved", ["student_prompt"])
    batch = api.judged.prepare("batch-1", essays=12)
    api.judged.judge(batch, waves=2)
    status = get(api, "/batch-1/status")
    assert status["state"] == "judging"
    assert (status["progress"]["waves"], status["progress"]["essays"]) == (3, 12)
    assert Decimal(status["progress"]["spent_usd"]) > 0
    assert "unresolved" not in status
    judged(api, "batch-2")
    status = get(api, "/batch-2/status")
    assert (status["state"], status["result"]["batch_id"]) == ("judged", "batch-2")


def test_comparisons_and_ledger_hold_every_question_and_call_in_pages(api: Api) -> None:
    run = judged(api, "batch-1")
    comparisons = get(api, "/batch-1/comparisons?page_size=200")
    assert comparisons["total"] == run.planned == len(comparisons["items"])
    for one in comparisons["items"]:
        if one["winner"]:
            expected = (one["winner"] == "first") - one["p_first"]
            assert one["residual"] == pytest.approx(expected, abs=2e-6)
    page = get(api, "/batch-1/comparisons?page_size=3&page=2")
    assert page["items"] == comparisons["items"][3:6]
    ledger = get(api, "/batch-1/ledger?page_size=200")
    costs = sum(Decimal(call["cost_usd"] or 0) for call in ledger["items"])
    assert Decimal(ledger["spent_usd"]) == costs == Decimal(run.ledger.spent_pusd).scaleb(-12)
    assert {call["state"] for call in ledger["items"]} == {"answered", "failed"}
    assert {call["reason"] for call in ledger["items"]} > {None}
    assert sum(call["in_doubt"] for call in ledger["items"]) == sum(
        call["reason"] == "timeout" for call in ledger["items"]
    )


def test_a_run_whose_records_the_log_has_lost_is_gone(api: Api) -> None:
    judged(api, "batch-1")
    api.judged.log.log_starts[Partition(api.judged.topics.judging.name, 0)] = 5
    response = api("GET", f"{RESULTS}/batch-1/comparisons")
    assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (
        410,
        "history-compacted",
    )
    assert get(api, "/batch-1")["batch_id"] == "batch-1"


def test_a_record_of_another_producer_hides_no_result(api: Api) -> None:
    judged(api, "batch-1")
    api.judged.append(api.judged.topics.results, b"batch-1", b"garbage")
    judged(api, "batch-2")
    assert get(api, "")["total"] == 2
    at = Coordinates(api.judged.topics.results.name, 0, 2)
    assert isinstance(CODEC.decode(api.judged.record(at).value), CJBatchJudged)


@pytest.mark.parametrize("role", ["admin", "auditor", "service"])
def test_every_role_may_read_results(api: Api, role: str) -> None:
    response = api("GET", RESULTS, token=hs256(roles=[role]))
    assert response.status_code == 200
    assert api("GET", RESULTS, token=None).status_code == 401
    assert api("GET", RESULTS, token=hs256(roles=["pupil"])).status_code == 403
