"""What was given to a command, checked before anything is called."""

import sys
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import CJStreamError, Malformed, Misconfigured
from schemas.field_limits import RULES, SHA256
from schemas.scales import get_scale
from tables.etags import parse_assignment_etag, parse_etag
from tools.admin.failures import Usage
from tools.json_files import STDIN, name_of
from tools.text_rules import MAX_TEXT_BYTES, MIN_TEXT, trimmed
from tools.times import point_in_time_from

TEXTS = {"instructions": "instructions", "prompt": "student_prompt", "rubric": "judge_rubric"}


def scope_of(assignment_id: str | None, course_id: str | None) -> dict[str, str]:
    """The scope as a body names it. Raises Usage unless there is exactly one."""
    if (assignment_id is None) == (course_id is None):
        raise Usage("exactly one of an assignment id and --course-id")
    if assignment_id is not None:
        return {"assignment_id": checked("assignment_id", assignment_id)}
    return {"course_id": checked("course_id", course_id or "")}


def path_of(scope: Mapping[str, str]) -> tuple[str, str]:
    """The scope as a path names it."""
    [(name, scope_id)] = scope.items()
    return name.removesuffix("_id"), scope_id


def told(scope: Mapping[str, str]) -> str:
    """The scope in words."""
    return " ".join(path_of(scope))


def checked(name: str, value: str) -> str:
    """An id or slug within its limits; ids in NFC, as they are compared. Raises Usage."""
    value = unicodedata.normalize("NFC", trimmed(value))
    rule = RULES[name]
    if not _is_text(value) or (refusal := rule.refusal(value)):  # type: ignore[arg-type]
        raise Usage(f"{name}: {refusal if _is_text(value) else 'not text'}")
    return value


def storage_id(name: str, value: str) -> str:
    """The id of a text in the content store: the sha256 of its bytes. Raises Usage."""
    value = trimmed(value)
    if not SHA256.fullmatch(value):
        raise Usage(f"{name}: not a storage id, which is 64 digits, 0-9 and a-f")
    return value


def refuse_no_moment(text: str | None) -> None:
    """Raise Usage for what is no moment of the past."""
    try:
        if text is not None:
            point_in_time_from(text, datetime.now(UTC), "--as-of")
    except Misconfigured as fault:
        raise Usage(str(fault)) from None


def scale(scale_id: str) -> str:
    """A registered grade scale's id. Raises Usage."""
    try:
        return get_scale(trimmed(scale_id)).id
    except Malformed as fault:
        raise Usage(f"--grade-scale: {fault}") from None


def texts_of(**sources: tuple[str | None, str | None]) -> dict[str, str]:
    """The texts that were given: instructions, prompt, rubric, each from (file, text).

    Raises Usage for two sources or a text outside the limits, CJStreamError for a file that cannot be read.
    """
    for name, (file, text) in sources.items():
        if file is not None and text is not None:
            raise Usage(f"--{name}-file and --{name}-text: one of them")
    if [file for file, _ in sources.values()].count(STDIN) > 1:
        raise Usage("standard input can be read once only")
    return {
        name: _within_limits(name, _read(file) if file is not None else text or "")
        for name, (file, text) in sources.items()
        if file is not None or text is not None
    }


def condition_of(
    if_version: str | None, *, create_only: bool = False, of_assignment: bool = False
) -> dict[str, str]:
    """The header that a write is conditional on. Raises Usage.

    of_assignment: True where only an assignment's tag has a meaning.
    """
    if if_version is not None and create_only:
        raise Usage("--if-version and --create-only: one of them")
    if create_only:
        return {"If-None-Match": "*"}
    if if_version is None:
        return {}
    try:
        (parse_assignment_etag if of_assignment else parse_etag)(if_version)
    except Malformed as fault:
        raise Usage(f"--if-version: {fault}") from None
    return {"If-Match": f'"{if_version}"'}


def _read(file: str) -> str:
    """The text of a file or of standard input. Raises CJStreamError."""
    most = 2 * max(MAX_TEXT_BYTES.values())  # enough to see that it is too long
    try:
        if file == STDIN:
            return sys.stdin.buffer.read(most).decode()
        with Path(file).open("rb") as opened:
            return opened.read(most).decode()
    except UnicodeDecodeError:
        raise CJStreamError(f"cannot read {name_of(file)}: not UTF-8") from None
    except (OSError, ValueError) as fault:
        is_missing = isinstance(fault, FileNotFoundError)
        cause = "no such file" if is_missing else getattr(fault, "strerror", None) or "no file name"
        raise CJStreamError(f"cannot read {name_of(file)}: {cause}") from None


def _within_limits(name: str, text: str) -> str:
    text = trimmed(text)
    most = MAX_TEXT_BYTES[TEXTS[name]]
    if not text:
        raise Usage(f"{name}: blank")
    if not _is_text(text) or "\0" in text:
        raise Usage(f"{name}: characters that are not allowed")
    if len(text) < MIN_TEXT:
        raise Usage(f"{name}: {len(text)} characters, at least {MIN_TEXT}")
    if (size := len(text.encode())) > most:
        raise Usage(f"{name}: {size} bytes, at most {most}")
    return text


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # an argument that was not UTF-8
        return False
    return True
