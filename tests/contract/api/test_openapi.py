"""The OpenAPI document: it is complete, has version 3.1, and is served in development only."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api.calling import ADMIN, INSTRUCTIONS, make_api
from tools.api.services.metrics import OPERATIONS


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    api = make_api(tmp_path_factory.mktemp("api"), environment="development")
    openapi: dict[str, Any] = api("GET", "/openapi.json", token=None).json()
    return openapi


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def test_it_has_every_route_of_the_contract_and_no_other(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    content = {("POST", "/v1/content"), ("GET", CONTENT), ("HEAD", CONTENT)}
    judges = {("POST", "/v1/judges/check")}
    assert set(operations(document)) == {*OPERATIONS, *content, *judges}


CONTENT = "/v1/content/{storage_id}"


def test_every_route_documents_its_errors_as_problems(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        responses = operation["responses"]
        assert {"400", "401", "403", "405", "422", "429", "500", "503"} <= set(responses)
        for status, response in responses.items():
            is_problem = "application/problem+json" in response.get("content", {})
            assert is_problem == (int(status) >= 400), (operation["operationId"], status)


def test_every_route_needs_a_token_and_accepts_a_correlation_id(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for operation in operations(document).values():
        assert operation["security"] == [{"bearer": []}]
        assert "X-Correlation-ID" in {parameter["name"] for parameter in operation["parameters"]}
        assert operation["description"]


def test_every_admin_write_accepts_conditions_and_documents_202_and_412(
    document: dict[str, Any],
) -> None:
    for (method, path), operation in operations(document).items():
        names = {parameter["name"] for parameter in operation["parameters"]}
        is_write = method != "GET" and path.startswith(ADMIN)
        assert ({"If-Match", "If-None-Match"} <= names) == is_write
        assert ({"202", "412", "428"} <= set(operation["responses"])) == is_write


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for (_, path), operation in operations(document).items():
        if "requestBody" in operation and path.startswith(ADMIN):
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            name = schema["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][name]["examples"], name


def test_every_referenced_schema_exists(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    referenced = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert referenced <= set(document["components"]["schemas"])


def test_put_documents_201_and_post_does_not(document: dict[str, Any]) -> None:
    documented = operations(document)
    put = documented["PUT", f"{INSTRUCTIONS}/assignment/{{assignment_id}}"]
    assert "201" in put["responses"]
    assert "201" not in documented["POST", INSTRUCTIONS]["responses"]


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc"])
def test_the_document_is_not_served_in_production(tmp_path: Path, path: str) -> None:
    api = make_api(tmp_path)
    assert api("GET", path, token=None).json()["type"].endswith("route-not-found")
    response = make_api(tmp_path, environment="development")("GET", path, token=None)
    assert response.status_code == (404 if path == "/redoc" else 200)
