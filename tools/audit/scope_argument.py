"""Scopes on the command line: an assignment's id, `assignment:<id>` or `course:<id>`."""

from schemas.errors import Misconfigured
from schemas.field_limits import RULES, IdLimit, normal_id

KINDS = {"assignment": "assignment_id", "course": "course_id"}


def scope_key_from(text: str) -> str:
    """The scope key, with the id in normal form. Raises Misconfigured if the id is not valid."""
    kind, colon, scope_id = text.partition(":")
    if not colon or kind not in KINDS:
        kind, scope_id = "assignment", text
    scope_id = normal_id(scope_id)
    rule = RULES[KINDS[kind]]
    fault = rule.problem_with(scope_id) if isinstance(rule, IdLimit) else None
    if fault:
        raise Misconfigured(f"SCOPE: {kind} id: {fault}")
    return f"{kind}:{scope_id}"
