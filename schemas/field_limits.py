"""The limits of the fields of upload events and requests.

Lengths are in Unicode code points, sizes in bytes. Invalid UTF-8 is refused before; U+0000 is refused everywhere.
Ids that look equal are equal: those of scopes must be in normal form, because people type them into the API and the
command line, which normalize what they are given. A record with any other id is refused and not normalized: its key,
and with that its partition, is made of the id by its producer.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from schemas.errors import Malformed

MAX_ESSAYS = 5000
MAX_ANCHORS = 200  # of an assignment, of all its grade scales together
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
    """An id of 1 to `maximum` characters that can be used in a path: no slash, no control character.

    is_normal: it must equal its `normal_id`, and nothing in it may be invisible.
    """

    maximum: int
    is_normal: bool = True

    def problem_with(self, value: str) -> str | None:
        """What is wrong with the value, or None."""
        if not 1 <= len(value) <= self.maximum:
            return f"{len(value)} characters, allowed are 1 to {self.maximum}"
        if value in (".", "..") or FORBIDDEN_IN_IDS.search(value):
            return "not an id: a control character, a slash, a backslash, `.` or `..`"
        if self.is_normal and value != normal_id(value):
            return "not in normal form: Unicode NFC, no blank at the beginning or end"
        if self.is_normal and (found := INVISIBLE_IN_IDS.search(value)):
            return f"an invisible character in it: U+{ord(found[0]):04X}"
        return None


@dataclass(frozen=True, slots=True)
class PatternLimit:
    """A text that matches a regular expression completely; `problem` says what it is not."""

    pattern: re.Pattern[str]
    problem: str | None = None

    def problem_with(self, value: str) -> str | None:
        """What is wrong with the value, or None."""
        if self.pattern.fullmatch(value):
            return None
        return self.problem or f"does not match {self.pattern.pattern}"


@dataclass(frozen=True, slots=True)
class NumberLimit:
    """A whole number in [minimum, maximum]; `unit` is named in the error."""

    minimum: int
    maximum: int = MAX_LONG
    unit: str = ""

    def problem_with(self, value: int) -> str | None:
        """What is wrong with the value, or None."""
        fits = self.minimum <= value <= self.maximum
        return None if fits else f"allowed are {self.minimum} to {self.maximum}{self.unit}"


@dataclass(frozen=True, slots=True)
class CountLimit:
    """A tuple of `minimum` to `maximum` items; no two of them have an equal field `distinct`."""

    minimum: int
    maximum: int
    distinct: str | None = None

    def problem_with(self, value: tuple[object, ...]) -> str | None:
        """What is wrong with the value, or None. Items are named by their numbers, which start at 0."""
        if not self.minimum <= len(value) <= self.maximum:
            return f"{len(value)} items, allowed are {self.minimum} to {self.maximum}"
        first = dict[object, int]()
        for number, item in enumerate(value if self.distinct else ()):
            earlier = first.setdefault(getattr(item, self.distinct or ""), number)
            if earlier != number:
                return f"items {earlier} and {number} have the same {self.distinct}"
        return None


FORBIDDEN_IN_IDS = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")
# Format characters that nobody sees, so that two ids look equal; but not U+200C and U+200D, which words of some scripts
# have. They come with text that is copied from web pages and documents.
INVISIBLE = r"\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
INVISIBLE_IN_IDS = re.compile(f"[{INVISIBLE}\U000e0000-\U000e007f]")
NAME = TextLimit(255)
SHA256 = re.compile(r"[0-9a-f]{64}")
LANGUAGE_TAG = re.compile(
    r"(?=[a-z0-9-]{2,35}\Z)(?:[a-z]{2,3}(-[a-z]{3}){0,3}(-[a-z]{4})?(-([a-z]{2}|[0-9]{3}))?"
    r"(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*(-[a-wy-z0-9](-[a-z0-9]{2,8})+)*(-x(-[a-z0-9]{1,8})+)?"
    r"|x(-[a-z0-9]{1,8})+)",
    re.IGNORECASE | re.ASCII,
)
LANGUAGE = PatternLimit(LANGUAGE_TAG, "not a BCP 47 language tag such as sv, en-GB or zh-Hant")
# From July 1970 to the year 10889: seconds are before it, microseconds after it. As varints, these are exactly the
# numbers of six or seven bytes, which costs the scan nothing.
DEADLINE = NumberLimit(2**34, 2**48 - 1, " ms since 1970")
Limit = TextLimit | IdLimit | PatternLimit | NumberLimit | CountLimit

RULES: Mapping[str, Limit] = {  # by field, or by record and field
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
    "due_at_ms": DEADLINE,
    "storage_id": NAME,
    "sha256": PatternLimit(SHA256),
    "media_type": NAME,
    "size_bytes": NumberLimit(1),
    "grade_scale": PatternLimit(re.compile(r"[a-z0-9][a-z0-9_]{0,49}")),
    "context_origin": PatternLimit(re.compile(r"[a-z][a-z0-9_]{0,63}")),
    "source_service": NAME,
    "batch_id": NAME,
    "language": TextLimit(35),
    "StudentPromptUploaded.language": LANGUAGE,
    "student_prompt_ref": NAME,
    "user_id": NAME,
    "org_id": NAME,
    "llm_config_overrides": TextLimit(MAX_OVERRIDES),
    "AnchorsUploaded.anchors": CountLimit(1, MAX_ANCHORS),
    "anchor_id": IdLimit(64),
    "Anchor.grade": TextLimit(50),
    "essays": CountLimit(2, MAX_ESSAYS, distinct="essay_id"),
    "essay_id": NAME,
    "text_storage_id": NAME,
}


# What earlier releases accepted, so the log may have it: audits read by these limits what was used before.
EARLIER_RULES: Mapping[str, Limit] = {
    **RULES,
    "assignment_id": IdLimit(100, is_normal=False),
    "course_id": IdLimit(50, is_normal=False),
    "course_code": IdLimit(50, is_normal=False),
    "due_at_ms": NumberLimit(0),
    "StudentPromptUploaded.language": TextLimit(35),
    "essays": CountLimit(2, MAX_ESSAYS),
}


def normal_id(text: str) -> str:
    """A scope's id as it is stored and compared: NFC, without a byte-order mark and blanks at its ends."""
    return unicodedata.normalize("NFC", text.removeprefix("\ufeff").strip())


def rule_of(record: str, field: str, rules: Mapping[str, Limit] = RULES) -> Limit | None:
    """The limit of a field of a record."""
    return rules.get(f"{record}.{field}") or rules.get(field)


def check_limits(event: Any, *, as_earlier: bool = False) -> None:
    """Check an upload event or a request. Raises Malformed, naming the field, if it breaks a limit.

    as_earlier: by the limits of earlier releases.
    """
    for name, problem_with in _rules_of(type(event), as_earlier):  # type: ignore[arg-type]
        value = getattr(event, name)
        if value is None:
            continue
        if problem := problem_with(value):
            raise Malformed(f"{type(event).__name__}.{name}: {problem}")
    for item in (*getattr(event, "essays", ()), *getattr(event, "anchors", ())):
        check_limits(item, as_earlier=as_earlier)
    if hasattr(event, "anchors") and (twice := repeated_anchor(event.anchors)):
        raise Malformed(f"{type(event).__name__}: anchor {twice} is there twice")
    if hasattr(event, "course_id") and (event.assignment_id is None) == (event.course_id is None):
        raise Malformed(f"{type(event).__name__}: exactly one of assignment_id and course_id")


def repeated_anchor(anchors: Iterable[Any]) -> str | None:
    """The id of an anchor that is there twice in one grade scale, or None."""
    seen = set[tuple[str, str]]()
    for anchor in anchors:
        named = (anchor.grade_scale, anchor.anchor_id)
        if named in seen:
            return str(anchor.anchor_id)
        seen.add(named)
    return None


@cache
def _rules_of(
    event_class: type[Any], as_earlier: bool
) -> tuple[tuple[str, Callable[[Any], str | None]], ...]:
    rules = EARLIER_RULES if as_earlier else RULES
    named = (
        (field.name, rule_of(event_class.__name__, field.name, rules))
        for field in fields(event_class)
    )
    return tuple((name, rule.problem_with) for name, rule in named if rule is not None)
