"""The routes under /registry: every released schema by id and by subject, and nothing else; nothing changes it."""

import json
from pathlib import Path
from typing import Any

import avro.schema
import httpx
import orjson
import pytest

from schemas.released_schemas import Released, released
from schemas.topics import Topics
from tests.contract.api.calling import Api, made_api

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
ALL = released()
TOPIC_OF = {kind.__name__: topic.name for topic in Topics().all for kind in topic.carries}
ONE = ALL[0]
UNKNOWN = {"type": "record", "name": "Unknown", "namespace": "cjstream", "fields": []}


def subject_of(one: Released) -> str:
    return f"{TOPIC_OF[one.name]}-cjstream.{one.name}"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return made_api(tmp_path_factory.mktemp("registry"))


def asked(api: Api, path: str, body: Any = None, **how: Any) -> httpx.Response:
    """The answer to someone without a token."""
    method = "GET" if body is None else "POST"
    answer = api(method, f"/registry{path}", body, **{"token": None, **how})
    assert answer.headers["content-type"] == MEDIA_TYPE
    return answer


def found(api: Api, path: str, body: Any = None) -> Any:
    answer = asked(api, path, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx.Response) -> tuple[int, int]:
    document = answer.json()
    assert set(document) == {"error_code", "message"}
    return answer.status_code, document["error_code"]


@pytest.mark.parametrize("one", ALL, ids=lambda one: f"{one.name}.v{one.version}")
def test_each_released_schema_is_found_by_its_id_and_by_its_subject(
    api: Api, one: Released
) -> None:
    subject, by_id = subject_of(one), f"/schemas/ids/{one.schema_id}"
    assert json.loads(found(api, by_id)["schema"]) == one.schema
    assert found(api, f"{by_id}/schema") == one.schema
    assert found(api, f"{by_id}/subjects") == [subject]
    assert found(api, f"{by_id}/versions") == [{"subject": subject, "version": one.version}]
    document = found(api, f"/subjects/{subject}/versions/{one.version}")
    assert json.loads(document.pop("schema")) == one.schema
    assert document == {"subject": subject, "version": one.version, "id": one.schema_id}
    assert found(api, f"/subjects/{subject}/versions/{one.version}/schema") == one.schema


def test_every_topic_that_carries_events_has_its_subjects_and_dead_letters_have_none(
    api: Api,
) -> None:
    subjects = found(api, "/subjects")
    assert subjects == sorted({subject_of(one) for one in ALL})
    assert not any("dlq" in subject for subject in subjects)
    for one in ALL:
        assert one.version in found(api, f"/subjects/{subject_of(one)}/versions")


def test_an_installations_prefix_stands_before_its_subjects(tmp_path: Path) -> None:
    subjects = found(made_api(tmp_path, topic_prefix="north-"), "/subjects")
    assert subjects
    assert all(subject.startswith("north-") for subject in subjects)


@pytest.mark.parametrize("latest", ["latest", "-1"])
def test_latest_is_the_newest(api: Api, latest: str) -> None:
    newest = max(one.version for one in ALL if one.name == ONE.name)
    document = found(api, f"/subjects/{subject_of(ONE)}/versions/{latest}")
    assert document["version"] == newest


def spellings(one: Released) -> list[str]:
    """The same schema as other libraries would write it."""
    plain = json.dumps(one.schema, indent=2, sort_keys=True)
    described = orjson.dumps({**one.schema, "doc": "said by somebody else"}).decode()
    named = {**one.schema, "name": f"{one.schema['namespace']}.{one.schema['name']}"}
    del named["namespace"]
    return [plain, described, json.dumps(named), str(avro.schema.parse(plain))]


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_a_schema_that_is_known_is_recognized_however_it_is_written(
    api: Api, one: Released
) -> None:
    path = f"/subjects/{subject_of(one)}"
    for spelling in spellings(one):
        body = {"schema": spelling, "schemaType": "AVRO", "references": []}
        assert found(api, path, body)["id"] == one.schema_id
        assert found(api, f"{path}/versions?normalize=True", body) == {"id": one.schema_id}


def test_a_schema_that_is_unknown_is_neither_found_nor_registered(api: Api) -> None:
    path, body = f"/subjects/{subject_of(ONE)}", {"schema": json.dumps(UNKNOWN)}
    before = found(api, "/subjects")
    assert refused(asked(api, path, body)) == (404, 40403)
    assert refused(asked(api, f"{path}/versions", body)) == (422, 42205)
    assert refused(asked(api, "/subjects/new/versions", body)) == (422, 42205)
    other = {"schema": json.dumps(dict(ALL[1].schema))}
    assert refused(asked(api, path, other)) == (404, 40403)
    assert found(api, "/subjects") == before
    assert found(api, f"{path}/versions") == [ONE.version]


BOTTOMLESS = '{"type":"array","items":' * 5_000 + '"string"' + "}" * 5_000
BAD_SCHEMAS = ["", "{", "{}", "null", "5", '"nonsense"', '{"type": "record"}', BOTTOMLESS]
BAD_SCHEMAS += ['{"__fastavro_parsed__": true}', '[[["null"]]', '{"type": {"type": {}}}']


@pytest.mark.parametrize("schema", BAD_SCHEMAS, ids=lambda schema: schema[:20])
def test_what_is_no_schema_is_told_so(api: Api, schema: str) -> None:
    for path in (f"/subjects/{subject_of(ONE)}", f"/subjects/{subject_of(ONE)}/versions"):
        assert refused(asked(api, path, {"schema": schema})) == (422, 42201)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"{}", b'{"schema": 5}', b"\xff"])
def test_a_body_without_a_schema_is_told_so(api: Api, body: bytes) -> None:
    path = f"/registry/subjects/{subject_of(ONE)}"
    assert refused(api("POST", path, content=body)) == (422, 42201)


def test_a_body_too_long_is_refused(api: Api) -> None:
    body = {"schema": " " * 1024 * 1024}
    assert refused(asked(api, f"/subjects/{subject_of(ONE)}", body)) == (413, 413)


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/schemas/ids/1", (404, 40403)),
        ("/schemas/ids/-1/schema", (404, 40403)),
        ("/schemas/ids/x/subjects", (404, 40403)),
        (f"/schemas/ids/{'9' * 5000}/versions", (404, 40403)),
        ("/subjects/nobody/versions", (404, 40401)),
        ("/subjects/nobody/versions/1", (404, 40401)),
        ("/config/nobody", (404, 40401)),
        (f"/subjects/{subject_of(ONE)}/versions/999", (404, 40402)),
        (f"/subjects/{subject_of(ONE)}/versions/0", (422, 42202)),
        (f"/subjects/{subject_of(ONE)}/versions/newest", (422, 42202)),
        (f"/subjects/{subject_of(ONE)}/versions/\u0661/schema", (422, 42202)),
        ("/schemas", (404, 404)),
        ("/subjects/a/b/c", (404, 404)),
        ("/..%2fhealthz", (404, 404)),
    ],
)
def test_what_is_not_there_has_the_code_that_clients_know(
    api: Api, path: str, refusal: tuple[int, int]
) -> None:
    assert refused(asked(api, path)) == refusal


def test_its_settings_never_change(api: Api) -> None:
    assert found(api, "/schemas/types") == ["AVRO"]
    assert found(api, "/mode") == {"mode": "READONLY"}
    level = {"compatibilityLevel": "FULL_TRANSITIVE"}
    assert found(api, "/config") == found(api, f"/config/{subject_of(ONE)}") == level


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", f"/subjects/{subject_of(ONE)}", "POST"),
        ("DELETE", f"/subjects/{subject_of(ONE)}/versions/1", "GET"),
        ("PUT", f"/subjects/{subject_of(ONE)}/versions", "GET, POST"),
        ("PUT", "/config", "GET"),
        ("PATCH", "/mode", "GET"),
    ],
)
def test_other_methods_are_refused(api: Api, method: str, path: str, allowed: str) -> None:
    answer = api(method, f"/registry{path}")
    assert refused(answer) == (405, 405)
    assert answer.headers["allow"] == allowed


def test_query_parameters_are_ignored(api: Api) -> None:
    plain = found(api, "/subjects")
    assert found(api, "/subjects?deleted=true&subjectPrefix=x") == plain


def test_where_it_asks_for_a_token_any_valid_one_will_do(tmp_path: Path) -> None:
    api = made_api(tmp_path, registry_auth=True)
    for token in (None, "nonsense"):
        answer = asked(api, "/subjects", token=token)
        assert refused(answer) == (401, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert asked(api, "/subjects", token="").status_code == 200


def test_beside_another_registry_there_is_none(tmp_path: Path) -> None:
    api = made_api(tmp_path, schema_registry_url="http://registry")
    assert api("GET", "/registry/subjects").json()["type"].endswith("route-not-found")
