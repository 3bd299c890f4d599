"""The types of single values as strangers send them: brought into form, then held to the limits.

Texts and ids lose one leading byte-order mark and the white space around them; ids are brought to NFC.
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
WHOLE = re.compile(r"-?[0-9]{1,18}")
FLAGS = {"true": True, "false": False}


def broken(code: str, limit: int | None = None) -> PydanticCustomError:
    """The error of a rule that pydantic does not know."""
    # the message is ours and has no braces, so pydantic puts nothing into it
    context = None if limit is None else {"limit": limit}
    return PydanticCustomError(code, MESSAGES[code], context)


def _text_within(most_bytes: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        text = _read(text)
        if not text:
            raise broken("blank")
        if len(text) < MIN_TEXT:
            raise broken("too_short", MIN_TEXT)
        if len(text.encode()) > most_bytes:
            raise broken("too_long", most_bytes)
        if "\0" in text:
            raise broken("invalid_characters")
        return text

    return check


def _read(text: str) -> str:
    """A text without what stands around it; JSON can escape half a character, which is none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise broken("invalid_characters") from None
    return trimmed(text)


def normal_id(text: str) -> str:
    """An id as it is kept and compared."""
    return unicodedata.normalize("NFC", trimmed(text))


def _id(text: str) -> str:
    return normal_id(_read(text))


def _within(rule: TextLimit | IdLimit, form: Callable[[str], str]) -> Callable[[str], str]:
    """Held to a rule, once it is brought into form."""

    def check(text: str) -> str:
        text = form(text)
        if not text:
            raise broken("blank")
        if len(text) > rule.most:
            raise broken("too_long", rule.most)
        if rule.refusal(text):
            raise broken("invalid_characters")
        return text

    return check


def _registered(scale: str) -> str:
    scale = _read(scale)
    if scale not in SCALES:
        raise broken("unknown_grade_scale")
    return scale


def _slug(rule: PatternLimit) -> Callable[[str], str]:
    def check(text: str) -> str:
        text = _read(text)
        if not text:
            raise broken("blank")
        if rule.refusal(text):
            raise broken("invalid_characters")
        return text

    return check


def _storage_id(text: str) -> str:
    text = _read(text)
    if not SHA256.fullmatch(text):
        raise broken("unknown_content")  # the store names nothing otherwise
    return text


def _whole_within(least: int, most: int) -> Callable[[Any], int]:
    def check(sent: Any) -> int:
        if not isinstance(sent, int) and not WHOLE.fullmatch(str(sent)):
            raise broken("wrong_type")
        if not least <= int(sent) <= most:
            raise broken("out_of_range", most if int(sent) > most else least)
        return int(sent)

    return check


def _moment(sent: Any) -> Moment:
    try:
        return point_in_time_from(str(sent), datetime.now(UTC), "moment")
    except Misconfigured:
        raise broken("invalid_time") from None


def _scope_key(text: str) -> str:
    kind, _, an_id = _read(text).partition(":")
    if kind not in ("assignment", "course"):
        raise broken("invalid_characters")
    return f"{kind}:{_within(ASSIGNMENT if kind == 'assignment' else COURSE, _id)(an_id)}"


def _flag(sent: Any) -> bool:
    if isinstance(sent, bool):
        return sent
    if sent not in FLAGS:
        raise broken("wrong_type")
    return FLAGS[sent]


def _described(description: str, **rules: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description, **rules})


def _text_schema(most_bytes: int) -> WithJsonSchema:
    told = f"{MIN_TEXT} characters to {most_bytes} bytes of UTF-8; white space around it is dropped"
    core = rf"[^\s\x00\ufeff][^\x00]{{{MIN_TEXT - 2},}}[^\s\x00]"
    return _described(
        told, minLength=MIN_TEXT, maxLength=most_bytes, pattern=rf"^\ufeff?\s*{core}\s*$"
    )


def _id_schema(rule: IdLimit) -> WithJsonSchema:
    told = f"1 to {rule.most} characters; no control character, slash or backslash; not `.` or `..`"
    inner, outer = r"[^\x00-\x1f\x7f-\x9f/\\]", r"[^\s\x00-\x1f\x7f-\x9f/\\\ufeff]"
    core = rf"{outer}({inner}{{0,{rule.most - 2}}}{outer})?"
    return _described(told, minLength=1, pattern=rf"^\ufeff?\s*(?!\.{{1,2}}\s*$){core}\s*$")


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
    AfterValidator(_registered),
    _described("id of a registered grade scale", enum=sorted(SCALES)),
]
ContextOrigin = Annotated[
    str,
    Strict(),
    AfterValidator(_slug(ORIGIN)),
    _described(
        "where the assignment comes from; fixed while the instructions live",
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
    BeforeValidator(_whole_within(1, 2**53)),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 2**53}),
]
PageSize = Annotated[
    int,
    BeforeValidator(_whole_within(1, 200)),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 200}),
]
Instant = Annotated[Moment, BeforeValidator(_moment), _described(FORMS)]
BatchId = Annotated[
    str,
    Strict(),
    AfterValidator(_within(BATCH, _read)),
    _described("as the request says it", minLength=1, maxLength=BATCH.most),
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
