"""The gate before a pipeline: the readiness function decides, and each refusal is counted."""

import pytest

from tests.contract.api.calling import ADMIN, TASK, Api
from tests.support.tokens import hs256
from tools.api.services.metrics import MAX_PIPELINES

GATE = f"{ADMIN}/assignments/a1/gate"
BLOCKED = "huleedu_bcs_prompt_prerequisite_blocked_total"


def blocked(api: Api, pipeline: str) -> float:
    return api.metric(BLOCKED, pipeline_name=pipeline)


def test_an_assignment_without_its_prompt_is_refused_and_counted(api: Api) -> None:
    api.create_assignment()
    response = api("GET", f"{GATE}?pipeline=cj_assessment")
    document = response.json()
    assert (response.status_code, document["type"].rpartition(":")[2]) == (
        409,
        "prompt-prerequisite",
    )
    assert document["missing"] == ["student_prompt"]
    assert document["required"] == ["instructions", "student_prompt"]
    assert (document["assignment_id"], document["pipeline"]) == ("a1", "cj_assessment")
    assert blocked(api, "cj_assessment") == 1
    body = {"assignment_id": "a1", "prompt_text": TASK}
    assert api("POST", f"{ADMIN}/student-prompts", body).status_code == 200
    response = api("GET", f"{GATE}?pipeline=cj_assessment", token=hs256(roles=["service"]))
    assert (response.status_code, response.json()["ready"]) == (200, True)
    assert response.json() == api("GET", f"{ADMIN}/assignments/a1/readiness").json()
    assert blocked(api, "cj_assessment") == 1


def test_an_unknown_assignment_lacks_everything(api: Api) -> None:
    response = api("GET", f"{GATE}?pipeline=nlp")
    assert (response.status_code, response.json()["missing"]) == (
        409,
        ["instructions", "student_prompt"],
    )


@pytest.mark.parametrize("query", ["", "?pipeline=", "?pipeline=No", "?pipeline=nlp&ready=true"])
def test_a_pipeline_is_required_and_no_flag_of_the_caller_counts(api: Api, query: str) -> None:
    response = api("GET", f"{GATE}{query}")
    assert (response.status_code, len(response.json()["errors"])) == (422, 1)


def test_the_label_has_a_bounded_number_of_values(api: Api) -> None:
    for number in range(MAX_PIPELINES + 5):
        assert api("GET", f"{GATE}?pipeline=p{number}").status_code == 409
    assert blocked(api, f"p{MAX_PIPELINES - 1}") == 1
    assert blocked(api, f"p{MAX_PIPELINES}") == 0
    assert blocked(api, "other") == 5
    assert api("GET", f"{GATE}?pipeline=p0").status_code == 409
    assert blocked(api, "p0") == 2
