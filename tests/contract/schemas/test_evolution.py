"""Every schema version reads every other; a change that would break this gets a clear error sentence."""

from typing import Any

import orjson
import pytest

from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import request_layouts
from processors.policy import Policy
from schemas.codec import Codec
from schemas.errors import Malformed
from schemas.events import CJAssessmentRequested, CJBatchPrepared
from schemas.released_schemas import Released, released
from tests.contract.schemas.compatibility import full_transitive_faults, written_in
from tests.support.builders import READY, REQUEST_AT, context_after, requested

BY_VERSION = {f"{schema.name}.v{schema.version}": schema for schema in released()}
NAMES = sorted({schema.name for schema in released()})
V1, V2 = BY_VERSION["CJAssessmentRequested.v1"], BY_VERSION["CJAssessmentRequested.v2"]
FIELDS = {field["name"]: field for field in V2.schema["fields"]}
PRIORITY = {"name": "priority", "type": "int"}


def third(**changes: Any) -> Released:
    """An unreleased third version of the request: V2 with these fields changed; None removes a field."""
    changed = {**FIELDS, **changes}
    fields = [field for field in changed.values() if field is not None]
    return Released("CJAssessmentRequested", 3, 1_000_000_999, {**V2.schema, "fields": fields})


@pytest.mark.parametrize("name", NAMES)
def test_every_version_reads_every_other(name: str) -> None:
    assert full_transitive_faults([schema for schema in released() if schema.name == name]) == []


def with_type(name: str, new_type: Any) -> dict[str, Any]:
    return {name: {**FIELDS[name], "type": new_type}}


ANOTHER_NAME = Released("CJAssessmentRequested", 3, 0, {**V2.schema, "name": "CJAssessmentAsked"})
BREAKING = {
    "a field without a default": (
        third(priority=PRIORITY),
        "CJAssessmentRequested: v3 cannot read v2, because v3's field priority is not in v2 and has no default",
    ),
    "a removed field without a default": (
        third(language=None),
        "CJAssessmentRequested: v2 cannot read v3, because v2's field language is not in v3 and has no default",
    ),
    "another type": (
        third(**with_type("occurred_at_ms", "string")),
        "CJAssessmentRequested: v3 cannot read v2, because the field occurred_at_ms has another type "
        "(type_mismatch: reader type: string not compatible with writer type: long)",
    ),
    "a type that only new readers can read": (
        third(**with_type("occurred_at_ms", "double")),
        "CJAssessmentRequested: v2 cannot read v3, because the field occurred_at_ms has another type "
        "(type_mismatch: reader type: long not compatible with writer type: double)",
    ),
    "a field that was optional": (
        third(**with_type("user_id", "string")),
        "CJAssessmentRequested: v3 cannot read v2, because the field user_id has another type "
        "(type_mismatch: reader type: string not compatible with writer type: null)",
    ),
    "a field with another name": (
        third(language={**FIELDS["language"], "name": "tongue"}),
        "CJAssessmentRequested: v3 cannot read v2, because v3's field tongue is not in v2 and has no default",
    ),
    "another name": (
        ANOTHER_NAME,
        "CJAssessmentRequested: v3 cannot read v2, because the record has another name: "
        "expected: cjstream.CJAssessmentRequested",
    ),
}


@pytest.mark.parametrize(("broken", "sentence"), BREAKING.values(), ids=BREAKING.keys())
def test_the_sentence_names_schema_versions_field_and_reason(
    broken: Released, sentence: str
) -> None:
    assert sentence in full_transitive_faults([V2, broken])


def test_the_sentence_names_the_path_of_a_field_in_an_embedded_record() -> None:
    latest = BY_VERSION["CJBatchPrepared.v2"]
    schema = orjson.loads(orjson.dumps(latest.schema))
    (embedded,) = (field["type"] for field in schema["fields"] if field["name"] == "request")
    embedded["fields"].append(PRIORITY)
    assert full_transitive_faults([latest, Released(latest.name, 3, 0, schema)]) == [
        "CJBatchPrepared: v3 cannot read v2, because v3's field request.priority is not in v2 and has no default"
    ]


EXTENDED = third(priority={**PRIORITY, "type": ["null", "int"], "default": None})
SWAPPED = third(user_id=FIELDS["org_id"], org_id=FIELDS["user_id"])
REQUEST = requested(user_id="a user", org_id="an organisation", due_at_ms=1_900_000_000_007)
THIRDS: dict[str, tuple[Released, dict[str, Any]]] = {
    "extended": (EXTENDED, {"priority": 3}),
    "swapped": (SWAPPED, {}),
}


@pytest.mark.parametrize(("version", "extra"), THIRDS.values(), ids=THIRDS.keys())
def test_a_compatible_change_gives_no_sentence(version: Released, extra: dict[str, Any]) -> None:
    assert full_transitive_faults([V1, V2, version]) == []
    codec = Codec([*released(), version])
    assert (
        codec.decode(written_in(V2, REQUEST))
        == codec.decode(written_in(version, REQUEST, **extra))
        == REQUEST
    )


@pytest.mark.parametrize(("version", "extra"), THIRDS.values(), ids=THIRDS.keys())
def test_a_request_of_a_version_without_scan_takes_the_slow_path_to_the_same_outcome(
    version: Released, extra: dict[str, Any]
) -> None:
    table = {"assignment:a1": context_after(*READY)}
    codec = Codec([*released(), version])
    builder = OutcomeBuilder(codec, Policy(), table.get)
    payload = written_in(version, REQUEST, **extra)
    assert builder.spliced(payload, REQUEST_AT) is None
    value = builder.build(payload, REQUEST_AT).value
    assert codec.decode_as(CJBatchPrepared, value).request == REQUEST
    assert (
        value
        == OutcomeBuilder(Codec(), Policy(), table.get)
        .build(written_in(V2, REQUEST), REQUEST_AT)
        .value
    )


@pytest.mark.parametrize("name", ["CJBatchPrepared", "CJBatchUnresolved"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=str)
def test_outcomes_of_a_recipe_embed_the_request_version_of_the_recipe(
    name: str, recipe: Any
) -> None:
    outcome, request = BY_VERSION[f"{name}.v{recipe.outcome}"], recipe.request
    (embedded,) = (
        field["type"] for field in outcome.schema["fields"] if field["name"] == "request"
    )
    assert embedded == {
        key: value
        for key, value in BY_VERSION[f"CJAssessmentRequested.v{request}"].schema.items()
        if key != "namespace"
    }


def test_the_latest_request_version_takes_the_fast_path() -> None:
    latest = Codec().version_of(CJAssessmentRequested, Codec().encode(requested()))
    assert RECIPES[RECIPE].request == latest
    assert set(RECIPES[RECIPE].spliced) == set(request_layouts()) == {1, latest}


def test_an_event_is_not_encoded_in_a_version_that_cannot_hold_it() -> None:
    codec = Codec()
    assert codec.decode(codec.encode(requested(), 1)) == requested()
    with pytest.raises(Malformed, match=r"CJAssessmentRequested\.v1 does not hold all"):
        codec.encode(requested(due_at_ms=1_900_000_000_007), 1)
