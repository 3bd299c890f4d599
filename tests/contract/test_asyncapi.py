"""The AsyncAPI document: valid by the specification's own JSON Schema, complete, and the same at the API."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas.released_schemas import released
from schemas.topics import Topics
from tests.contract.api.calling import make_api
from tests.support.tokens import hs256
from tools.asyncapi import asyncapi

SPECIFICATION = "@asyncapi/specs@6.11.1"
SHA512 = "A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ=="


def document(prefix: str = "") -> dict[str, Any]:
    return asyncapi(Topics().under(prefix), horizon_days=400, partitions=4)


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON Schema of AsyncAPI 3.0.0, from npm."""
    if shutil.which("npm") is None:
        pytest.skip("no npm, which fetches the JSON Schema of AsyncAPI")
    folder = tmp_path_factory.mktemp("asyncapi")
    command = ["npm", "pack", "--silent", SPECIFICATION]
    packed = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    if packed.returncode:
        pytest.skip(f"npm cannot fetch {SPECIFICATION}")
    archive = folder / packed.stdout.strip()
    assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == SHA512
    with tarfile.open(archive) as files:
        member = files.extractfile("package/schemas/3.0.0.json")
        assert member is not None
        schema: dict[str, Any] = json.load(member)
    return schema


def test_the_document_is_valid_by_the_specification(specification: dict[str, Any]) -> None:
    validator = jsonschema.Draft7Validator(specification)
    assert [fault.message for fault in validator.iter_errors(document("a-"))] == []
    broken = document()
    broken["operations"]["send_batches"]["action"] = "append"
    assert not validator.is_valid(broken)


def test_it_has_every_topic_with_every_event_in_its_newest_schema() -> None:
    channels, messages = document()["channels"], document()["components"]["messages"]
    newest = {schema.name: schema.schema for schema in released()}
    topics = Topics()
    assert [channel["address"] for channel in channels.values()] == [
        topic.name for topic in topics.all
    ]
    for topic, channel in zip(topics.all, channels.values(), strict=True):
        events = [event.__name__ for event in topic.carries]
        assert list(channel["messages"]) == (events or ["DeadLetter", "RedriveMarker"])
        for event in events:
            assert messages[event]["payload"]["schema"] == newest[event]


def test_every_reference_leads_to_a_part_of_the_document() -> None:
    found = document()
    for reference in references_in(found):
        part: Any = found
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
        assert part


def references_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [one for each in value.values() for one in references_in(each)]
    return [one for each in value for one in references_in(each)] if isinstance(value, list) else []


def test_the_api_serves_it_with_the_names_of_the_installation(tmp_path: Path) -> None:
    api = make_api(tmp_path / "open", topic_prefix="school-")
    assert api("GET", "/asyncapi.json", token=None).json() == document("school-")
    closed = make_api(tmp_path / "closed", registry_auth=True)
    assert closed("GET", "/asyncapi.json", token=None).status_code == 401
    assert closed("GET", "/asyncapi.json", token=hs256()).status_code == 200
