"""Schemas match their classes, released schemas never change, and every version stays readable."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.codec import CLASSES, FRAME, Codec
from schemas.events import NOT_IN_AVRO
from schemas.released_schemas import released
from tests.contract.schemas.compatibility import read_as
from tests.contract.schemas.samples import SAMPLES, sample_bytes

SCHEMAS = Path(__file__).parents[3] / "schemas"
IDS = json.loads((SCHEMAS / "schema_ids.json").read_text())
BY_VERSION = {f"{schema.name}.v{schema.version}": schema for schema in released()}
LATEST = {schema.name: schema for schema in released()}  # ascending versions
FREQUENT = {name for name in LATEST if name.startswith("CJ")}
PINNED = {  # sha256 of each released schema, without its doc texts
    "AnchorsDeleted.v1": "e7626d6e5c2e83b59d9162a196b4f53ae89c2ea5141a070245d7e974eb704b2d",
    "AnchorsUploaded.v1": "5af03c169e1f2c11f39bd884ac109c48552c5eaf48940d75a2d7735413aad0af",
    "AssignmentContext.v1": "9394278d396d6258eed18a77294c53c5b1d9f7fa4b71034f57fd053a34e507d4",
    "CJAssessmentRequested.v1": "a15fe1f6f94dd0b3c32088bedc1ef3c7b2aa96643d05b6cfa693ca771d5a7f9d",
    "CJAssessmentRequested.v2": "d4dd736f0ef2d93032635a15e75f36005c31fa040caf203ff6647cef40cbb022",
    "CJBatchJudged.v1": "2f22d8a7891bae6dcd89733a7461fa9b90f282bb5683f8bc732c6a96265437cf",
    "CJBatchPrepared.v1": "bd8f249ecbc2ff0d3ee70836022600d756b22d6f340d39c9abc12a860bee46bf",
    "CJBatchPrepared.v2": "aff0332df5bbfcdf0b55c52538d6121189db449f8302bea212537de9df0052c8",
    "CJBatchUnresolved.v1": "0bc1d4b6eb4bd1ec758f087341ee0d06818370c7d9d4b3bb1f30e959005448b7",
    "CJBatchUnresolved.v2": "14d58b669cadb0ddee83e3a2c99e5ca457137c27ca9d079657d3980dae532eaa",
    "CallAnswered.v1": "807c234e380df357812c7686787e9f218b8af8790e652076e14ae8aaf0a9efd3",
    "CallFailed.v1": "747dc50f039e2589d1727b805a76143de17c68b80fce040a71c4459adce08bbc",
    "CallsIntended.v1": "e89457a31bfd4a6e126066382c9ee1b0b688650726f95da268c71fbb22b1884b",
    "InstructionsDeleted.v1": "2065792712fd9832a753386a22c9c67a5a5b10ec5488f82fd9e6d76640010b1e",
    "InstructionsUploaded.v1": "af618fb4664584f482641f21e2ed5c9eea2cd1596a0952cb480b53567c9eb99d",
    "JudgeRubricDeleted.v1": "5dba19dcb09ba4ed60bc972f4ef15d17b6bfbf25925f764d0da69afbe9ba3614",
    "JudgeRubricUploaded.v1": "4758b584cc631fef2dff7a0c01beedfa2d8a8af4feb08b6dae87171a21bf0eff",
    "JudgingOpened.v1": "2ce791c82a8e888d7c70493d39abae7d7528bb40df597ffc3257d8e4e50fb741",
    "JudgingStopped.v1": "d165e1da9251ba2e010b7c7b0e181b0942c856a3c8ca7e5957a0766dd36161ca",
    "ParkedRequest.v1": "32508a58920b602a5ed0d9c667f4e5f71b04b4469ce9b46a8cfe07a5c7b51339",
    "StudentPromptDeleted.v1": "b3cfbaf3cf9fe447a9e858cff88d43a3d0f12613826b2f96a15f87dd883b1343",
    "StudentPromptUploaded.v1": "939ae3f9e47e58683c38377761080e178a3e79a2e1b367297626ccbbd2c1947e",
    "StudentPromptUploaded.v2": "9873d11f91464bd34de20e9a6223c971363199e17a4a7b2db95b1d86a525e448",
    "WavePlanned.v1": "4cab89cc519269150a278a5fb7b4cce7c12df81f5b133234db2e42ff68e53158",
}

Schema = Mapping[str, Any]


def without_docs(schema: Any) -> Any:
    """A schema without its doc texts."""
    if isinstance(schema, dict):
        return {key: without_docs(value) for key, value in schema.items() if key != "doc"}
    return [without_docs(part) for part in schema] if isinstance(schema, list) else schema


def records_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Every record type that a schema defines: itself and the embedded ones."""
    if isinstance(schema, list):
        for part in schema:
            yield from records_in(part)
    elif isinstance(schema, dict):
        if schema.get("type") == "record":
            yield schema
        for key in ("type", "items", "fields"):
            yield from records_in(schema.get(key))


def in_avro(event_class: Any) -> list[Field[Any]]:
    """The fields of a class that its schema has."""
    return [field for field in fields(event_class) if field.metadata != NOT_IN_AVRO]


def fingerprint_of(schema: Schema) -> str:
    """The sha256 of a schema's names, types, order and defaults."""
    canonical_json = orjson.dumps(without_docs(dict(schema)), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical_json).hexdigest()


def test_every_schema_file_has_an_id_and_every_id_a_file() -> None:
    assert {path.name for path in SCHEMAS.glob("*.avsc")} == set(IDS)


def test_ids_are_unique_and_consecutive() -> None:
    assert sorted(IDS.values()) == list(range(1_000_000_001, 1_000_000_001 + len(IDS)))


@pytest.mark.parametrize("version", BY_VERSION)
def test_a_schema_file_has_the_name_of_its_record(version: str) -> None:
    schema = BY_VERSION[version].schema
    assert (schema["name"], schema["namespace"]) == (BY_VERSION[version].name, "cjstream")


@pytest.mark.parametrize("version", BY_VERSION)
def test_a_released_schema_is_never_edited(version: str) -> None:
    assert fingerprint_of(BY_VERSION[version].schema) == PINNED[version]


@pytest.mark.parametrize("name", LATEST)
def test_a_class_has_the_fields_of_its_latest_schema_in_order(name: str) -> None:
    for record in records_in(LATEST[name].schema):
        assert [field.name for field in in_avro(CLASSES[record["name"]])] == [
            field["name"] for field in record["fields"]
        ]


@pytest.mark.parametrize("name", LATEST)
def test_an_optional_field_of_a_class_has_a_default_in_its_schema(name: str) -> None:
    for record in records_in(LATEST[name].schema):
        event_class = CLASSES[record["name"]]
        in_class = {field.name for field in in_avro(event_class) if field.default in (None, False)}
        assert in_class == {field["name"] for field in record["fields"] if "default" in field}


def test_a_record_embedded_in_several_schemas_is_the_same_in_all() -> None:
    definitions: dict[str, Any] = {}
    for latest in LATEST.values():
        for record in records_in(latest.schema):
            plain = without_docs({**record, "namespace": "cjstream"})
            assert definitions.setdefault(record["name"], plain) == plain
    assert len(definitions) == len(LATEST) + 30


def test_frequent_events_have_no_logical_types() -> None:
    assert {
        name for name in FREQUENT if "logicalType" in json.dumps(dict(LATEST[name].schema))
    } == set()


@pytest.mark.parametrize("version", BY_VERSION)
def test_bytes_of_every_release_are_still_decoded(version: str) -> None:
    payload = sample_bytes(version)
    assert FRAME.unpack_from(payload) == (0, BY_VERSION[version].schema_id)
    assert Codec().decode(payload) == SAMPLES[version]


@pytest.mark.parametrize("name", LATEST)
def test_events_are_encoded_as_the_latest_release_encoded_them(name: str) -> None:
    version = f"{name}.v{LATEST[name].version}"
    assert Codec().encode(SAMPLES[version]) == sample_bytes(version)


@pytest.mark.parametrize("version", BY_VERSION)
def test_another_avro_library_reads_bytes_of_every_release_with_every_version(version: str) -> None:
    writer = BY_VERSION[version]
    for reader in released():
        if reader.name == writer.name:
            assert read_as(reader, sample_bytes(version))
