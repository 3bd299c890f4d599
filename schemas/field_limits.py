"""The limits of every field that crosses the wire, checked in one place.

Lengths are Unicode code points, sizes are bytes. Invalid UTF-8 never gets here; U+0000 is refused everywhere.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from schemas.errors import Malformed

MAX_ESSAYS = 5000
MAX_OVERRIDES = 64 * 1024
MAX_LONG = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TextLimit:
    """A text of 1 to `most` characters, none of them U+0000."""

    most: int

    def refusal(self, value: str) -> str | None:
        """What is wrong with the value, or None."""
        if not 1 <= len(value) <= self.most:
            return f"{len(value)} characters, allowed are 1 to {self.most}"
        return "U+0000 in it" if "\0" in value else None


@dataclass(frozen=True, slots=True)
class IdLimit:
    """An id of 1 to `most` characters that can stand in a path: no slash, no control character."""

    most: int

    def refusal(self, value: str) -> str | None:
        """What is wrong with the value, or None."""
        if not 1 <= len(value) <= self.most:
            return f"{len(value)} characters, allowed are 1 to {self.most}"
        if value in (".", "..") or FORBIDDEN_IN_IDS.search(value):
            return "not an id: a control character, a slash, a backslash, `.` or `..`"
        return None


@dataclass(frozen=True, slots=True)
class PatternLimit:
    """A text that a regular expression matches whole."""

    pattern: re.Pattern[str]

    def refusal(self, value: str) -> str | None:
        """What is wrong with the value, or None."""
        return None if self.pattern.fullmatch(value) else f"does not match {self.pattern.pattern}"


@dataclass(frozen=True, slots=True)
class NumberLimit:
    """A whole number in [least, most]."""

    least: int
    most: int = MAX_LONG

    def refusal(self, value: int) -> str | None:
        """What is wrong with the value, or None."""
        fits = self.least <= value <= self.most
        return None if fits else f"allowed are {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class CountLimit:
    """Between `least` and `most` items."""

    least: int
    most: int

    def refusal(self, value: tuple[object, ...]) -> str | None:
        """What is wrong with the value, or None."""
        fits = self.least <= len(value) <= self.most
        return None if fits else f"{len(value)} items, allowed are {self.least} to {self.most}"


FORBIDDEN_IN_IDS = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")
NAME = TextLimit(255)
SHA256 = re.compile(r"[0-9a-f]{64}")

RULES: Mapping[str, TextLimit | IdLimit | PatternLimit | NumberLimit | CountLimit] = {
    "event_id": NAME,
    "previous_event_id": NAME,
    "assignment_id": IdLimit(100),
    "course_id": IdLimit(50),
    "course_code": IdLimit(50),
    "version": NumberLimit(1),
    "actor": NAME,
    "correlation_id": TextLimit(200),
    "occurred_at_ms": NumberLimit(0),
    "created_at_ms": NumberLimit(0),
    "due_at_ms": NumberLimit(0),
    "storage_id": NAME,
    "sha256": PatternLimit(SHA256),
    "media_type": NAME,
    "size_bytes": NumberLimit(1),
    "grade_scale": PatternLimit(re.compile(r"[a-z0-9][a-z0-9_]{0,49}")),
    "context_origin": PatternLimit(re.compile(r"[a-z][a-z0-9_]{0,63}")),
    "source_service": NAME,
    "batch_id": NAME,
    "language": TextLimit(35),
    "student_prompt_ref": NAME,
    "user_id": NAME,
    "org_id": NAME,
    "llm_config_overrides": TextLimit(MAX_OVERRIDES),
    "essays": CountLimit(2, MAX_ESSAYS),
    "essay_id": NAME,
    "text_storage_id": NAME,
}


def check_limits(event: Any) -> None:
    """Raise Malformed, naming the field, where an upload event or a request breaks a limit."""
    for name, refusal in _rules_of(type(event)):  # type: ignore[arg-type]
        value = getattr(event, name)
        if value is None:
            continue
        if fault := refusal(value):
            raise Malformed(f"{type(event).__name__}.{name}: {fault}")
    for essay in getattr(event, "essays", ()):
        check_limits(essay)
    if hasattr(event, "course_id") and (event.assignment_id is None) == (event.course_id is None):
        raise Malformed(f"{type(event).__name__}: exactly one of assignment_id and course_id")


@cache
def _rules_of(event_class: Any) -> tuple[tuple[str, Callable[[Any], str | None]], ...]:
    names = (field.name for field in fields(event_class))
    return tuple((name, RULES[name].refusal) for name in names if name in RULES)
