"""The types of single request values: normalized, then checked against the limits.

Texts and ids lose one leading byte-order mark and surrounding white space; ids are normalized to NFC.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from schemas.errors import Misconfigured
from schemas.field_limits import RULES, SHA256, IdLimit, PatternLimit, TextLimit
from schemas.scales import SCALES
from tables.history.point_in_time import Moment
from tools.api.errors.validation_errors import MESSAGES
from tools.text_rules import MAX_TEXT_BYTES, MIN_TEXT, trimmed
from tools.times import FORMS, point_in_time_from

ID_CORE = r"[^\s\x00-\x1f\x7f-\x9f/\\\ufeff.]"
INTEGER = re.compile(r"-?[0-9]{1,18}")
FLAGS = {"true": True, "false": False}


def rule_error(code: str, limit: int | None = None) -> PydanticCustomError:
    """The error of a rule that pydantic does not have."""
    # our messages have no braces, so pydantic inserts nothing into them
    context = None if limit is None else {"limit": limit}
    return PydanticCustomError(code, MESSAGES[code], context)


def _text_within(max_bytes: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        text = _trimmed_text(text)
        if not text:
            raise rule_error("blank")
        if len(text) < MIN_TEXT:
            raise rule_error("too_short", MIN_TEXT)
        if len(text.encode()) > max_bytes:
            raise rule_error("too_long", max_bytes)
        if "\0" in text:
            raise rule_error("invalid_characters")
        return text

    return check


def _trimmed_text(text: str) -> str:
    """A text without surrounding white space; raises for a lone surrogate, which JSON can escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise rule_error("invalid_characters") from None
    return trimmed(text)


def normalize_id(text: str) -> str:
    """An id as it is stored and compared."""
    return unicodedata.normalize("NFC", trimmed(text))


def _id(text: str) -> str:
    return normalize_id(_trimmed_text(text))


def _within(rule: TextLimit | IdLimit, normalize: Callable[[str], str]) -> Callable[[str], str]:
    """A check that normalizes a value and then applies the rule."""

    def check(text: str) -> str:
        text = normalize(text)
        if not text:
            raise rule_error("blank")
        if len(text) > rule.maximum:
            raise rule_error("too_long", rule.maximum)
        if rule.problem_with(text):
            raise rule_error("invalid_characters")
        return text

    return check


def _registered_scale(scale: str) -> str:
    scale = _trimmed_text(scale)
    if scale not in SCALES:
        raise rule_error("unknown_grade_scale")
    return scale


def _slug(rule: PatternLimit) -> Callable[[str], str]:
    def check(text: str) -> str:
        text = _trimmed_text(text)
        if not text:
            raise rule_error("blank")
        if rule.problem_with(text):
            raise rule_error("invalid_characters")
        return text

    return check


def _storage_id(text: str) -> str:
    text = _trimmed_text(text)
    if not SHA256.fullmatch(text):
        raise rule_error("unknown_content")  # the store has no other ids
    return text


def _integer_within(minimum: int, maximum: int) -> Callable[[Any], int]:
    def check(sent: Any) -> int:
        if not isinstance(sent, int) and not INTEGER.fullmatch(str(sent)):
            raise rule_error("wrong_type")
        if not minimum <= int(sent) <= maximum:
            raise rule_error("out_of_range", maximum if int(sent) > maximum else minimum)
        return int(sent)

    return check


def _moment(sent: Any) -> Moment:
    try:
        return point_in_time_from(str(sent), datetime.now(UTC), "moment")
    except Misconfigured:
        raise rule_error("invalid_time") from None


def _scope_key(text: str) -> str:
    kind, _, scope_id = _trimmed_text(text).partition(":")
    if kind not in ("assignment", "course"):
        raise rule_error("invalid_characters")
    return f"{kind}:{_within(ASSIGNMENT if kind == 'assignment' else COURSE, _id)(scope_id)}"


def _flag(sent: Any) -> bool:
    if isinstance(sent, bool):
        return sent
    if sent not in FLAGS:
        raise rule_error("wrong_type")
    return FLAGS[sent]


def _described(description: str, **rules: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description, **rules})


def _text_schema(max_bytes: int) -> WithJsonSchema:
    description = (
        f"at least {MIN_TEXT} characters, at most {max_bytes} bytes of UTF-8; "
        "surrounding white space is removed"
    )
    core = rf"[^\s\x00\ufeff][^\x00]{{{MIN_TEXT - 2},}}[^\s\x00]"
    return _described(
        description, minLength=MIN_TEXT, maxLength=max_bytes, pattern=rf"^\ufeff?\s*{core}\s*$"
    )


def _id_schema(rule: IdLimit) -> WithJsonSchema:
    description = (
        f"1 to {rule.maximum} characters; no control character, slash or backslash; not `.` or `..`"
    )
    inner, outer = r"[^\x00-\x1f\x7f-\x9f/\\]", r"[^\s\x00-\x1f\x7f-\x9f/\\\ufeff]"
    core = rf"{outer}({inner}{{0,{rule.maximum - 2}}}{outer})?"
    return _described(description, minLength=1, pattern=rf"^\ufeff?\s*(?!\.{{1,2}}\s*$){core}\s*$")


INSTRUCTIONS_BYTES = MAX_TEXT_BYTES["instructions"]
PROMPT_BYTES = MAX_TEXT_BYTES["student_prompt"]
ASSIGNMENT = cast(IdLimit, RULES["assignment_id"])
BATCH = cast(TextLimit, RULES["batch_id"])
COURSE = cast(IdLimit, RULES["course_id"])
ORIGIN = cast(PatternLimit, RULES["context_origin"])

InstructionsText = Annotated[
    str,
    Strict(),
    AfterValidator(_text_within(INSTRUCTIONS_BYTES)),
    _text_schema(INSTRUCTIONS_BYTES),
]
LongText = Annotated[
    str, Strict(), AfterValidator(_text_within(PROMPT_BYTES)), _text_schema(PROMPT_BYTES)
]
AssignmentId = Annotated[
    str, Strict(), AfterValidator(_within(ASSIGNMENT, _id)), _id_schema(ASSIGNMENT)
]
CourseId = Annotated[str, Strict(), AfterValidator(_within(COURSE, _id)), _id_schema(COURSE)]
GradeScaleId = Annotated[
    str,
    Strict(),
    AfterValidator(_registered_scale),
    _described("id of a registered grade scale", enum=sorted(SCALES)),
]
ContextOrigin = Annotated[
    str,
    Strict(),
    AfterValidator(_slug(ORIGIN)),
    _described(
        "where the assignment comes from; cannot change while the instructions are live",
        pattern=rf"^\s*{ORIGIN.pattern.pattern}\s*$",
    ),
]
StorageId = Annotated[
    str,
    Strict(),
    AfterValidator(_storage_id),
    _described("sha256 of a text in the content store", pattern=rf"^\s*{SHA256.pattern}\s*$"),
]
PageNumber = Annotated[
    int,
    BeforeValidator(_integer_within(1, 2**53)),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 2**53}),
]
PageSize = Annotated[
    int,
    BeforeValidator(_integer_within(1, 200)),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 200}),
]
Instant = Annotated[Moment, BeforeValidator(_moment), _described(FORMS)]
BatchId = Annotated[
    str,
    Strict(),
    AfterValidator(_within(BATCH, _trimmed_text)),
    _described("the batch id in the request", minLength=1, maxLength=BATCH.maximum),
]
ScopeKey = Annotated[
    str,
    Strict(),
    AfterValidator(_scope_key),
    _described(
        "assignment:<id> or course:<id>", pattern=rf"^(assignment|course):{ID_CORE}{{1,50}}$"
    ),
]
Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "boolean"})]
