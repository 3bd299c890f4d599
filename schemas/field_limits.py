"""The limits of the fields of upload events and requests.

Lengths are in Unicode code points, sizes in bytes. Invalid UTF-8 is refused before; U+0000 is refused everywhere.
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
    """A text of 1 to `maximum` characters without U+0000."""

    maximum: int

    def problem_with(self, value: str) -> str | None:
        """What is wrong with the value, or None."""
        if not 1 <= len(value) <= self.maximum:
            return f"{len(value)} characters, allowed are 1 to {self.maximum}"
        return "U+0000 in it" if "\0" in value else None


@dataclass(frozen=True, slots=True)
class IdLimit:
    """An id of 1 to `maximum` characters that can be used in a path: no slash, no control character."""

    maximum: int

    def problem_with(self, value: str) -> str | None:
        """What is wrong with the value, or None."""
        if not 1 <= len(value) <= self.maximum:
            return f"{len(value)} characters, allowed are 1 to {self.maximum}"
        if value in (".", "..") or FORBIDDEN_IN_IDS.search(value):
            return "not an id: a control character, a slash, a backslash, `.` or `..`"
        return None


@dataclass(frozen=True, slots=True)
class PatternLimit:
    """A text that matches a regular expression completely."""

    pattern: re.Pattern[str]

    def problem_with(self, value: str) -> str | None:
        """What is wrong with the value, or None."""
        return None if self.pattern.fullmatch(value) else f"does not match {self.pattern.pattern}"


@dataclass(frozen=True, slots=True)
class NumberLimit:
    """A whole number in [minimum, maximum]."""

    minimum: int
    maximum: int = MAX_LONG

    def problem_with(self, value: int) -> str | None:
        """What is wrong with the value, or None."""
        fits = self.minimum <= value <= self.maximum
        return None if fits else f"allowed are {self.minimum} to {self.maximum}"


@dataclass(frozen=True, slots=True)
class CountLimit:
    """A tuple of `minimum` to `maximum` items."""

    minimum: int
    maximum: int

    def problem_with(self, value: tuple[object, ...]) -> str | None:
        """What is wrong with the value, or None."""
        fits = self.minimum <= len(value) <= self.maximum
        return None if fits else f"{len(value)} items, allowed are {self.minimum} to {self.maximum}"


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
    """Check an upload event or a request. Raises Malformed, naming the field, if it breaks a limit."""
    for name, problem_with in _rules_of(type(event)):  # type: ignore[arg-type]
        value = getattr(event, name)
        if value is None:
            continue
        if problem := problem_with(value):
            raise Malformed(f"{type(event).__name__}.{name}: {problem}")
    for essay in getattr(event, "essays", ()):
        check_limits(essay)
    if hasattr(event, "course_id") and (event.assignment_id is None) == (event.course_id is None):
        raise Malformed(f"{type(event).__name__}: exactly one of assignment_id and course_id")


@cache
def _rules_of(event_class: Any) -> tuple[tuple[str, Callable[[Any], str | None]], ...]:
    names = (field.name for field in fields(event_class))
    return tuple((name, RULES[name].problem_with) for name in names if name in RULES)
