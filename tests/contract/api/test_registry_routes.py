"""The routes under /registry: they serve every released schema by id and by subject, and change nothing."""

import json
from pathlib import Path
from typing import Any

import avro.schema
import httpx
import orjson
import pytest

from schemas.released_schemas import Released, released
from schemas.topics import Topics
from tests.contract.api.calling import Api, make_api

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
ALL = released()
TOPIC_OF = {kind.__name__: topic.name for topic in Topics().all for kind in topic.carries}
FIRST = ALL[0]
UNKNOWN = {"type": "record", "name": "Unknown", "namespace": "cjstream", "fields": []}


def subject_of(schema: Released) -> str:
    return f"{TOPIC_OF[schema.name]}-cjstream.{schema.name}"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return make_api(tmp_path_factory.mktemp("registry"))


def call(api: Api, path: str, body: Any = None, **options: Any) -> httpx.Response:
    """The registry's response to a request, by default without a token."""
    method = "GET" if body is None else "POST"
    response = api(method, f"/registry{path}", body, **{"token": None, **options})
    assert response.headers["content-type"] == MEDIA_TYPE
    return response


def result_of(api: Api, path: str, body: Any = None) -> Any:
    response = call(api, path, body)
    assert response.status_code == 200, response.text
    return response.json()


def error(response: httpx.Response) -> tuple[int, int]:
    """The HTTP status and the registry's error code."""
    document = response.json()
    assert set(document) == {"error_code", "message"}
    return response.status_code, document["error_code"]


@pytest.mark.parametrize("release", ALL, ids=lambda release: f"{release.name}.v{release.version}")
def test_each_released_schema_is_found_by_its_id_and_by_its_subject(
    api: Api, release: Released
) -> None:
    subject, by_id = subject_of(release), f"/schemas/ids/{release.schema_id}"
    assert json.loads(result_of(api, by_id)["schema"]) == release.schema
    assert result_of(api, f"{by_id}/schema") == release.schema
    assert result_of(api, f"{by_id}/subjects") == [subject]
    assert result_of(api, f"{by_id}/versions") == [{"subject": subject, "version": release.version}]
    document = result_of(api, f"/subjects/{subject}/versions/{release.version}")
    assert json.loads(document.pop("schema")) == release.schema
    assert document == {"subject": subject, "version": release.version, "id": release.schema_id}
    assert (
        result_of(api, f"/subjects/{subject}/versions/{release.version}/schema") == release.schema
    )


def test_every_topic_that_carries_events_has_its_subjects_and_dead_letters_have_none(
    api: Api,
) -> None:
    subjects = result_of(api, "/subjects")
    assert subjects == sorted({subject_of(release) for release in ALL})
    assert not any("dlq" in subject for subject in subjects)
    for release in ALL:
        assert release.version in result_of(api, f"/subjects/{subject_of(release)}/versions")


def test_subjects_start_with_the_topic_prefix_of_the_installation(tmp_path: Path) -> None:
    subjects = result_of(make_api(tmp_path, topic_prefix="north-"), "/subjects")
    assert subjects
    assert all(subject.startswith("north-") for subject in subjects)


@pytest.mark.parametrize("latest", ["latest", "-1"])
def test_latest_is_the_newest_version(api: Api, latest: str) -> None:
    newest = max(release.version for release in ALL if release.name == FIRST.name)
    document = result_of(api, f"/subjects/{subject_of(FIRST)}/versions/{latest}")
    assert document["version"] == newest


def equal_schemas(release: Released) -> list[str]:
    """The same schema as other libraries could write it."""
    plain = json.dumps(release.schema, indent=2, sort_keys=True)
    described = orjson.dumps({**release.schema, "doc": "another description"}).decode()
    named = {**release.schema, "name": f"{release.schema['namespace']}.{release.schema['name']}"}
    del named["namespace"]
    return [plain, described, json.dumps(named), str(avro.schema.parse(plain))]


@pytest.mark.parametrize("release", ALL, ids=lambda release: release.name)
def test_a_known_schema_is_recognized_in_every_notation(api: Api, release: Released) -> None:
    path = f"/subjects/{subject_of(release)}"
    for schema in equal_schemas(release):
        body = {"schema": schema, "schemaType": "AVRO", "references": []}
        assert result_of(api, path, body)["id"] == release.schema_id
        assert result_of(api, f"{path}/versions?normalize=True", body) == {"id": release.schema_id}


def test_an_unknown_schema_is_neither_found_nor_registered(api: Api) -> None:
    path, body = f"/subjects/{subject_of(FIRST)}", {"schema": json.dumps(UNKNOWN)}
    before = result_of(api, "/subjects")
    assert error(call(api, path, body)) == (404, 40403)
    assert error(call(api, f"{path}/versions", body)) == (422, 42205)
    assert error(call(api, "/subjects/new/versions", body)) == (422, 42205)
    other = {"schema": json.dumps(dict(ALL[1].schema))}
    assert error(call(api, path, other)) == (404, 40403)
    assert result_of(api, "/subjects") == before
    assert result_of(api, f"{path}/versions") == [FIRST.version]


DEEPLY_NESTED = '{"type":"array","items":' * 5_000 + '"string"' + "}" * 5_000
INVALID_SCHEMAS = ["", "{", "{}", "null", "5", '"nonsense"', '{"type": "record"}', DEEPLY_NESTED]
INVALID_SCHEMAS += ['{"__fastavro_parsed__": true}', '[[["null"]]', '{"type": {"type": {}}}']


@pytest.mark.parametrize("schema", INVALID_SCHEMAS, ids=lambda schema: schema[:20])
def test_an_invalid_schema_is_refused(api: Api, schema: str) -> None:
    for path in (f"/subjects/{subject_of(FIRST)}", f"/subjects/{subject_of(FIRST)}/versions"):
        assert error(call(api, path, {"schema": schema})) == (422, 42201)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"{}", b'{"schema": 5}', b"\xff"])
def test_a_body_without_a_schema_is_refused(api: Api, body: bytes) -> None:
    path = f"/registry/subjects/{subject_of(FIRST)}"
    assert error(api("POST", path, content=body)) == (422, 42201)


def test_a_body_that_is_too_long_is_refused(api: Api) -> None:
    body = {"schema": " " * 1024 * 1024}
    assert error(call(api, f"/subjects/{subject_of(FIRST)}", body)) == (413, 413)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/schemas/ids/1", (404, 40403)),
        ("/schemas/ids/-1/schema", (404, 40403)),
        ("/schemas/ids/x/subjects", (404, 40403)),
        (f"/schemas/ids/{'9' * 5000}/versions", (404, 40403)),
        ("/subjects/nobody/versions", (404, 40401)),
        ("/subjects/nobody/versions/1", (404, 40401)),
        ("/config/nobody", (404, 40401)),
        (f"/subjects/{subject_of(FIRST)}/versions/999", (404, 40402)),
        (f"/subjects/{subject_of(FIRST)}/versions/0", (422, 42202)),
        (f"/subjects/{subject_of(FIRST)}/versions/newest", (422, 42202)),
        (f"/subjects/{subject_of(FIRST)}/versions/\u0661/schema", (422, 42202)),
        ("/schemas", (404, 404)),
        ("/subjects/a/b/c", (404, 404)),
        ("/..%2fhealthz", (404, 404)),
    ],
)
def test_an_unknown_resource_is_refused_with_confluents_error_code(
    api: Api, path: str, expected: tuple[int, int]
) -> None:
    assert error(call(api, path)) == expected


def test_the_settings_of_the_registry_are_fixed(api: Api) -> None:
    assert result_of(api, "/schemas/types") == ["AVRO"]
    assert result_of(api, "/mode") == {"mode": "READONLY"}
    level = {"compatibilityLevel": "FULL_TRANSITIVE"}
    assert result_of(api, "/config") == result_of(api, f"/config/{subject_of(FIRST)}") == level


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", f"/subjects/{subject_of(FIRST)}", "POST"),
        ("DELETE", f"/subjects/{subject_of(FIRST)}/versions/1", "GET"),
        ("PUT", f"/subjects/{subject_of(FIRST)}/versions", "GET, POST"),
        ("PUT", "/config", "GET"),
        ("PATCH", "/mode", "GET"),
    ],
)
def test_other_methods_are_refused(api: Api, method: str, path: str, allowed: str) -> None:
    response = api(method, f"/registry{path}")
    assert error(response) == (405, 405)
    assert response.headers["allow"] == allowed


def test_query_parameters_are_ignored(api: Api) -> None:
    without_parameters = result_of(api, "/subjects")
    assert result_of(api, "/subjects?deleted=true&subjectPrefix=x") == without_parameters


def test_if_a_token_is_required_every_valid_one_is_accepted(tmp_path: Path) -> None:
    api = make_api(tmp_path, registry_auth=True)
    for token in (None, "nonsense"):
        response = call(api, "/subjects", token=token)
        assert error(response) == (401, 401)
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert call(api, "/subjects", token="").status_code == 200


def test_with_an_external_registry_the_api_serves_none(tmp_path: Path) -> None:
    api = make_api(tmp_path, schema_registry_url="http://registry")
    assert api("GET", "/registry/subjects").json()["type"].endswith("route-not-found")
