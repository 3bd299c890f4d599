"""Validation errors of a request: pydantic's errors as the codes of the API contract, all at once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tools.api.errors.problems import Problem

MAX_FAULTS = 100  # a body may have a thousand
SHOWABLE_NAME = re.compile(r"\w{1,40}", re.ASCII)  # an unknown field's name may be private text
CODES = {
    "missing": "required",
    "extra_forbidden": "unknown_field",
    "model_type": "not_object",
    "model_attributes_type": "not_object",
    "dict_type": "not_object",
    "string_unicode": "invalid_characters",
}
MESSAGES = {
    "required": "is required",
    "unknown_field": "is not a known field",
    "wrong_type": "has the wrong type",
    "not_object": "is not a JSON object",
    "not_nullable": "must not be null",
    "blank": "is blank",
    "too_short": "is too short",
    "too_long": "is too long",
    "not_plain_text": "is not plain text",
    "invalid_characters": "has characters that are not allowed",
    "out_of_range": "is out of range",
    "invalid_time": "is not a time in the past: give a time with a UTC offset, an age as 2h or topic/partition@offset",
    "unknown_position": "names a record that is not in the log",
    "invalid_digest": "is not the digest of the body",
    "scope_not_exclusive": "exactly one of assignment_id and course_id is required",
    "scope_mismatch": "is not the scope in the path",
    "assignment_scope_only": "is allowed for assignments only",
    "unknown_grade_scale": "is not a registered grade scale",
    "unknown_grade": "is not a grade of the grade scale",
    "repeated": "is there twice",
    "text_not_exclusive": "exactly one of essay_text and storage_id is required",
    "unknown_content": "names content that is not stored",
    "invalid_content": "names content that is not a text within the limits",
}
Fault = dict[str, Any]


def fault_at(
    location: str, code: str, limit: int | None = None, message: str | None = None
) -> Fault:
    """One entry of `errors`; `location` is a path such as body/prompt_text."""
    fault: Fault = {"location": location, "code": code, "message": message or MESSAGES[code]}
    return fault if limit is None else {**fault, "limit": limit}


def invalid(faults: Sequence[Fault]) -> Problem:
    """A 422 problem with all faults, or the first MAX_FAULTS."""
    return Problem(
        "validation-failed",
        "1 value breaks a rule" if len(faults) == 1 else f"{len(faults)} values break a rule",
        errors=list(faults[:MAX_FAULTS]),
    )


def faults_of(errors: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """The faults that pydantic found, without the values of the request."""
    return [
        fault_at(
            _location(error),
            code_of(error),
            error.get("ctx", {}).get("limit"),
            error.get("ctx", {}).get("message"),
        )
        for error in errors
    ]


def code_of(error: Mapping[str, Any]) -> str:
    """The code of a pydantic error in the API contract; our own rules use these codes already."""
    kind = str(error["type"])
    if kind in MESSAGES:
        return kind
    if len(error["loc"]) == 1:  # the whole body: an empty one was refused earlier
        return "not_object"
    if kind not in CODES and error.get("input") is None:
        return "not_nullable"
    return CODES.get(kind, "wrong_type")


def _location(error: Mapping[str, Any]) -> str:
    """The location of a fault, without names that may not be shown."""
    if error["type"] == "scope_not_exclusive":
        return "body"  # both fields are given, or neither
    return "/".join(str(part) for part in error["loc"] if SHOWABLE_NAME.fullmatch(str(part)))
