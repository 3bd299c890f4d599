"""Checks of command arguments, made before the API is called."""

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import CJStreamError, Malformed, Misconfigured
from schemas.field_limits import RULES, SHA256, normal_id
from schemas.scales import get_scale
from tables.etags import parse_assignment_etag, parse_etag
from tools.admin.failures import Usage
from tools.json_files import STDIN, name_of
from tools.text_files import text_in
from tools.text_rules import (
    AS_PLAIN_TEXT,
    MAX_TEXT_BYTES,
    broken_rule,
    format_of,
    minimum_of,
    trimmed,
)
from tools.times import point_in_time_from
from tools.word_document import MAX_BYTES

TEXTS = {
    "instructions": "instructions",
    "prompt": "student_prompt",
    "rubric": "judge_rubric",
    "essay": "anchor",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """An assignment or a course; as text, such as `assignment a1`."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def path(self) -> tuple[str, str]:
        """Its two path segments."""
        return self.kind, self.id

    @property
    def field(self) -> str:
        """The name of its id in documents."""
        return f"{self.kind}_id"

    @property
    def fields(self) -> dict[str, str]:
        """Its id as a field of a request body."""
        return {self.field: self.id}


def scope_of(assignment_id: str | None, course_id: str | None) -> Scope:
    """The scope with one of these ids. Raises Usage unless exactly one is given."""
    if (assignment_id is None) == (course_id is None):
        raise Usage("give exactly one of an assignment id and --course-id")
    if assignment_id is not None:
        return Scope("assignment", checked("assignment_id", assignment_id))
    return Scope("course", checked("course_id", course_id or ""))


def checked(name: str, value: str, shown: str = "") -> str:
    """An id or slug in normal form and within its limits. Raises Usage, which names it as it is shown."""
    value = normal_id(value)
    rule = RULES[name]
    if not _is_text(value) or (problem := rule.problem_with(value)):  # type: ignore[arg-type]
        raise Usage(f"{shown or name}: {problem if _is_text(value) else 'not text'}")
    return value


def storage_id(name: str, value: str) -> str:
    """The id of a text in the content store: the sha256 of its bytes. Raises Usage."""
    value = trimmed(value)
    if not SHA256.fullmatch(value):
        raise Usage(f"{name}: not a storage id (64 characters, 0-9 and a-f)")
    return value


def check_as_of(text: str | None) -> None:
    """Raise Usage unless the text is a point in time in the past."""
    try:
        if text is not None:
            point_in_time_from(text, datetime.now(UTC), "--as-of")
    except Misconfigured as fault:
        raise Usage(str(fault)) from None


def scale(scale_id: str) -> str:
    """The id of a registered grade scale. Raises Usage."""
    try:
        return get_scale(trimmed(scale_id)).id
    except Malformed as fault:
        raise Usage(f"--grade-scale: {fault}") from None


def texts_of(**sources: tuple[str | None, str | None]) -> dict[str, str]:
    """The given texts by name (instructions, prompt, rubric, essay), each read from its (file, text) pair.

    Raises Usage for two sources of one text or a text outside the limits, CJStreamError for a file that cannot be read.
    """
    for name, (file, text) in sources.items():
        if file is not None and text is not None:
            raise Usage(f"give only one of --{name}-file and --{name}-text")
    if [file for file, _ in sources.values()].count(STDIN) > 1:
        raise Usage("standard input can be read only once")
    return {
        name: _within_limits(name, _read(file) if file is not None else text or "")
        for name, (file, text) in sources.items()
        if file is not None or text is not None
    }


def condition_of(
    if_version: str | None, *, create_only: bool = False, assignment_etag: bool = False
) -> dict[str, str]:
    """The precondition header of a write; empty if there is none. Raises Usage.

    assignment_etag: whether --if-version must be the etag of a whole assignment.
    """
    if if_version is not None and create_only:
        raise Usage("give only one of --if-version and --create-only")
    if create_only:
        return {"If-None-Match": "*"}
    if if_version is None:
        return {}
    try:
        (parse_assignment_etag if assignment_etag else parse_etag)(if_version)
    except Malformed as fault:
        raise Usage(f"--if-version: {fault}") from None
    return {"If-Match": f'"{if_version}"'}


def _read(file: str) -> str:
    """The text of a file or of standard input. Raises CJStreamError."""
    try:
        with nullcontext(sys.stdin.buffer) if file == STDIN else Path(file).open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as fault:
        is_missing = isinstance(fault, FileNotFoundError)
        cause = (
            "no such file"
            if is_missing
            else getattr(fault, "strerror", None) or "not a valid file name"
        )
        raise CJStreamError(f"cannot read {name_of(file)}: {cause}") from None
    try:
        return text_in(content, name_of(file))
    except CJStreamError as fault:
        raise CJStreamError(f"cannot read {name_of(file)}: {fault}") from fault


def _within_limits(name: str, text: str) -> str:
    text = trimmed(text)
    broken: tuple[str, int | None] | None = ("invalid_characters", None)
    if _is_text(text):
        kind = TEXTS[name]
        broken = broken_rule(text, MAX_TEXT_BYTES[kind], minimum_of(kind))
    match broken:
        case "blank", _:
            raise Usage(f"{name}: blank")
        case "too_short", minimum:
            raise Usage(f"{name}: {len(text)} characters; the minimum is {minimum}")
        case "too_long", maximum:
            raise Usage(f"{name}: {len(text.encode())} bytes; the maximum is {maximum}")
        case "not_plain_text", _:
            raise Usage(f"{name}: {format_of(text)}: {AS_PLAIN_TEXT}")
        case "invalid_characters", _:
            raise Usage(f"{name}: contains characters that are not allowed")
    return text


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # the argument was not UTF-8
        return False
    return True
