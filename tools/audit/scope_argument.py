"""Scopes as an auditor writes them: an assignment's id, `assignment:<id>` or `course:<id>`."""

from schemas.errors import Misconfigured
from schemas.field_limits import RULES, IdLimit

KINDS = {"assignment": "assignment_id", "course": "course_id"}


def scope_key_from(text: str) -> str:
    """The scope key. Raises Misconfigured for what cannot be one."""
    kind, colon, an_id = text.partition(":")
    if not colon or kind not in KINDS:
        kind, an_id = "assignment", text
    rule = RULES[KINDS[kind]]
    fault = rule.refusal(an_id) if isinstance(rule, IdLimit) else None
    if fault:
        raise Misconfigured(f"SCOPE: {kind} id: {fault}")
    return f"{kind}:{an_id}"
