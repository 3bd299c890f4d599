"""What is wrong with the values of a request: pydantic's errors as the contract's codes, all at once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tools.api.errors.problems import Problem

MOST = 100  # a body may have a thousand faults; nobody reads them
TELLABLE = re.compile(r"\w{1,40}", re.ASCII)  # a field's name may be a text in the wrong place
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
    "unknown_field": "is not known here",
    "wrong_type": "has the wrong type",
    "not_object": "is no JSON object",
    "not_nullable": "must not be null",
    "blank": "is blank",
    "too_short": "is too short",
    "too_long": "is too long",
    "invalid_characters": "has characters that are not allowed",
    "out_of_range": "is out of range",
    "invalid_time": "is no moment of the past: a time with its offset, a time ago as 2h, or topic/partition@offset",
    "unknown_position": "names no record that the log has",
    "invalid_digest": "is not the digest of the body",
    "scope_not_exclusive": "exactly one of assignment_id and course_id is to be given",
    "scope_mismatch": "is not the scope of the path",
    "assignment_scope_only": "is for assignments only",
    "unknown_grade_scale": "is no registered grade scale",
    "unknown_content": "names no stored content",
    "invalid_content": "names content that is no text within the limits",
}
Fault = dict[str, Any]


def fault_at(location: str, code: str, limit: int | None = None) -> Fault:
    """One entry of `errors`; location such as body/prompt_text."""
    fault: Fault = {"location": location, "code": code, "message": MESSAGES[code]}
    return fault if limit is None else {**fault, "limit": limit}


def invalid(faults: Sequence[Fault]) -> Problem:
    """422 with all faults, or the first hundred."""
    return Problem(
        "validation-failed",
        "1 value breaks a rule" if len(faults) == 1 else f"{len(faults)} values break a rule",
        errors=list(faults[:MOST]),
    )


def faults_of(errors: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """The faults that pydantic found, without what was given."""
    return [
        fault_at(_location(error), code_of(error), error.get("ctx", {}).get("limit"))
        for error in errors
    ]


def code_of(error: Mapping[str, Any]) -> str:
    """The contract's code of one of pydantic's errors; our own rules bear theirs."""
    kind = str(error["type"])
    if kind in MESSAGES:
        return kind
    if len(error["loc"]) == 1:  # the whole body: an empty one has been refused before
        return "not_object"
    if kind not in CODES and error.get("input") is None:
        return "not_nullable"
    return CODES.get(kind, "wrong_type")


def _location(error: Mapping[str, Any]) -> str:
    """Where a fault is, in names only that may be shown."""
    if error["type"] == "scope_not_exclusive":
        return "body"  # two fields, or none
    return "/".join(str(part) for part in error["loc"] if TELLABLE.fullmatch(str(part)))
