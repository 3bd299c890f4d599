"""Versions beside each other: every one reads every other, and what would break that is told in a sentence."""

from typing import Any

import orjson
import pytest

from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import SCANNED_VERSIONS
from processors.policy import Policy
from schemas.codec import Codec
from schemas.errors import Malformed
from schemas.events import CJAssessmentRequested, CJBatchPrepared
from schemas.released_schemas import Released, released
from tests.contract.schemas.compatibility import full_transitive_faults, written_in
from tests.support.builders import READY, REQUEST_AT, context_after, requested

BY_VERSION = {f"{one.name}.v{one.version}": one for one in released()}
NAMES = sorted({one.name for one in released()})
V1, V2 = BY_VERSION["CJAssessmentRequested.v1"], BY_VERSION["CJAssessmentRequested.v2"]
FIELDS = {field["name"]: field for field in V2.schema["fields"]}
PRIORITY = {"name": "priority", "type": "int"}


def third(**changes: Any) -> Released:
    """A third version of the request, which is not released: V2 with these fields changed, or gone where None."""
    changed = {**FIELDS, **changes}
    fields = [field for field in changed.values() if field is not None]
    return Released("CJAssessmentRequested", 3, 1_000_000_999, {**V2.schema, "fields": fields})


@pytest.mark.parametrize("name", NAMES)
def test_every_version_reads_every_other(name: str) -> None:
    assert full_transitive_faults([one for one in released() if one.name == name]) == []


def typed(name: str, of: Any) -> dict[str, Any]:
    return {name: {**FIELDS[name], "type": of}}


ANOTHER_NAME = Released("CJAssessmentRequested", 3, 0, {**V2.schema, "name": "CJAssessmentAsked"})
BREAKING = {
    "a field without a default": (
        third(priority=PRIORITY),
        "CJAssessmentRequested: v3 cannot read v2, because v3's field priority is not in v2 and has no default",
    ),
    "a field gone that had no default": (
        third(language=None),
        "CJAssessmentRequested: v2 cannot read v3, because v2's field language is not in v3 and has no default",
    ),
    "another type": (
        third(**typed("occurred_at_ms", "string")),
        "CJAssessmentRequested: v3 cannot read v2, because the field occurred_at_ms has another type "
        "(type_mismatch: reader type: string not compatible with writer type: long)",
    ),
    "a type that only the new ones can read": (
        third(**typed("occurred_at_ms", "double")),
        "CJAssessmentRequested: v2 cannot read v3, because the field occurred_at_ms has another type "
        "(type_mismatch: reader type: long not compatible with writer type: double)",
    ),
    "a field that was optional": (
        third(**typed("user_id", "string")),
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
def test_a_breaking_change_is_told_by_schema_versions_field_and_reason(
    broken: Released, sentence: str
) -> None:
    assert sentence in full_transitive_faults([V2, broken])


def test_a_change_inside_an_embedded_record_is_named_by_its_path() -> None:
    one = BY_VERSION["CJBatchPrepared.v2"]
    schema = orjson.loads(orjson.dumps(one.schema))
    (embedded,) = (field["type"] for field in schema["fields"] if field["name"] == "request")
    embedded["fields"].append(PRIORITY)
    assert full_transitive_faults([one, Released(one.name, 3, 0, schema)]) == [
        "CJBatchPrepared: v3 cannot read v2, because v3's field request.priority is not in v2 and has no default"
    ]


EXTENDED = third(priority={**PRIORITY, "type": ["null", "int"], "default": None})
SWAPPED = third(user_id=FIELDS["org_id"], org_id=FIELDS["user_id"])
REQUEST = requested(user_id="a user", org_id="an organisation", due_at_ms=7)
THIRDS: dict[str, tuple[Released, dict[str, Any]]] = {
    "extended": (EXTENDED, {"priority": 3}),
    "swapped": (SWAPPED, {}),
}


@pytest.mark.parametrize(("version", "more"), THIRDS.values(), ids=THIRDS.keys())
def test_a_change_that_breaks_nothing_is_no_fault(version: Released, more: dict[str, Any]) -> None:
    assert full_transitive_faults([V1, V2, version]) == []
    codec = Codec([*released(), version])
    assert (
        codec.decode(written_in(V2, REQUEST))
        == codec.decode(written_in(version, REQUEST, **more))
        == REQUEST
    )


@pytest.mark.parametrize(("version", "more"), THIRDS.values(), ids=THIRDS.keys())
def test_a_request_of_a_version_that_is_not_walked_takes_the_slow_path_to_the_same_outcome(
    version: Released, more: dict[str, Any]
) -> None:
    table = {"assignment:a1": context_after(*READY)}
    codec = Codec([*released(), version])
    answers = OutcomeBuilder(codec, Policy(), table.get)
    payload = written_in(version, REQUEST, **more)
    assert answers.spliced(payload, REQUEST_AT) is None
    value = answers.build(payload, REQUEST_AT).value
    assert codec.decode_as(CJBatchPrepared, value).request == REQUEST
    assert (
        value
        == OutcomeBuilder(Codec(), Policy(), table.get)
        .build(written_in(V2, REQUEST), REQUEST_AT)
        .value
    )


@pytest.mark.parametrize("name", ["CJBatchPrepared", "CJBatchUnresolved"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=str)
def test_the_request_that_a_recipes_outcomes_embed_is_the_one_that_it_says(
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


def test_what_producers_of_the_day_send_goes_the_fast_path() -> None:
    latest = Codec().version_of(CJAssessmentRequested, Codec().encode(requested()))
    assert RECIPES[RECIPE].request == latest
    assert set(RECIPES[RECIPE].spliced) == set(SCANNED_VERSIONS) == {1, latest}


def test_an_older_version_that_cannot_hold_an_event_is_not_written() -> None:
    codec: Codec = Codec()
    assert codec.decode(codec.encode(requested(), 1)) == requested()
    with pytest.raises(Malformed, match=r"CJAssessmentRequested\.v1 does not hold all"):
        codec.encode(requested(due_at_ms=7), 1)
