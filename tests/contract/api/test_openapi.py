"""The OpenAPI document: complete, of version 3.1, and shown in development only."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api.calling import ADMIN, INSTRUCTIONS, made_api
from tools.api.services.metrics import OPERATIONS


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    api = made_api(tmp_path_factory.mktemp("api"), environment="development")
    found: dict[str, Any] = api("GET", "/openapi.json", token=None).json()
    return found


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def test_it_has_every_route_of_the_contract_and_no_other(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    content = {("POST", "/v1/content"), ("GET", CONTENT), ("HEAD", CONTENT)}
    assert set(operations(document)) == {*OPERATIONS, *content}


CONTENT = "/v1/content/{storage_id}"


def test_every_route_tells_its_refusals_as_problems(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        answers = operation["responses"]
        assert {"400", "401", "403", "405", "422", "429", "500", "503"} <= set(answers)
        for status, answer in answers.items():
            is_problem = "application/problem+json" in answer.get("content", {})
            assert is_problem == (int(status) >= 400), (operation["operationId"], status)


def test_every_route_needs_a_token_and_takes_a_correlation_id(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for operation in operations(document).values():
        assert operation["security"] == [{"bearer": []}]
        assert "X-Correlation-ID" in {one["name"] for one in operation["parameters"]}
        assert operation["description"]


def test_every_admin_write_takes_conditions_and_tells_of_202_and_412(
    document: dict[str, Any],
) -> None:
    for (method, path), operation in operations(document).items():
        names = {one["name"] for one in operation["parameters"]}
        is_write = method != "GET" and path.startswith(ADMIN)
        assert ({"If-Match", "If-None-Match"} <= names) == is_write
        assert ({"202", "412", "428"} <= set(operation["responses"])) == is_write


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for (_, path), operation in operations(document).items():
        if "requestBody" in operation and path.startswith(ADMIN):
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            name = schema["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][name]["examples"], name


def test_every_reference_is_there(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    named = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named <= set(document["components"]["schemas"])


def test_put_creates_and_post_does_not(document: dict[str, Any]) -> None:
    found = operations(document)
    put = found["PUT", f"{INSTRUCTIONS}/assignment/{{assignment_id}}"]
    assert "201" in put["responses"]
    assert "201" not in found["POST", INSTRUCTIONS]["responses"]


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc"])
def test_production_shows_none_of_it(tmp_path: Path, path: str) -> None:
    api = made_api(tmp_path)
    assert api("GET", path, token=None).json()["type"].endswith("route-not-found")
    shown = made_api(tmp_path, environment="development")("GET", path, token=None)
    assert shown.status_code == (404 if path == "/redoc" else 200)
