"""The types of single request values: normalized, then checked against the limits.

Texts and ids lose one leading byte-order mark and surrounding white space; ids are normalized to NFC.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, cast

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from schemas.errors import Misconfigured
from schemas.field_limits import (
    INVISIBLE,
    RULES,
    SHA256,
    IdLimit,
    PatternLimit,
    TextLimit,
    normal_id,
)
from schemas.scales import SCALES
from tables.history.point_in_time import Moment
from tools.api.errors.validation_errors import MESSAGES
from tools.text_rules import (
    AS_PLAIN_TEXT,
    MAX_TEXT_BYTES,
    MIN_ANCHOR,
    MIN_TEXT,
    broken_rule,
    format_of,
    trimmed,
)
from tools.times import FORMS, point_in_time_from

ID_CORE = r"[^\s\x00-\x1f\x7f-\x9f/\\\ufeff.]"
INTEGER = re.compile(r"-?[0-9]{1,18}")
FLAGS = {"true": True, "false": False}


def rule_error(code: str, limit: int | None = None) -> PydanticCustomError:
    """The error of a rule that pydantic does not have."""
    # our messages have no braces, so pydantic inserts nothing into them
    context = None if limit is None else {"limit": limit}
    return PydanticCustomError(code, MESSAGES[code], context)


class Rule(NamedTuple):
    """What breaks the rule, its code in the API contract, and the limit that the rule sets."""

    is_broken_by: Callable[[str], object]
    code: str
    limit: int | None = None


BLANK = Rule(lambda text: not text, "blank")


def _check(*rules: Rule, normalize: Callable[[str], str] | None = None) -> Callable[[str], str]:
    """A function that trims or otherwise normalizes a value, then applies the rules; the first broken one counts."""

    def check(text: str) -> str:
        text = (normalize or _trimmed_text)(text)
        for rule in rules:
            if rule.is_broken_by(text):
                raise rule_error(rule.code, rule.limit)
        return text

    return check


def _checked(*rules: Rule) -> AfterValidator:
    return AfterValidator(_check(*rules))


def _within(limit: TextLimit | IdLimit) -> tuple[Rule, ...]:
    return (
        BLANK,
        Rule(lambda text: len(text) > limit.maximum, "too_long", limit.maximum),
        Rule(limit.problem_with, "invalid_characters"),
    )


def _text(max_bytes: int, minimum: int = MIN_TEXT) -> AfterValidator:
    def check(text: str) -> str:
        text = _trimmed_text(text)
        if broken := broken_rule(text, max_bytes, minimum):
            code, limit = broken
            if code == "not_plain_text":
                message = f"is {format_of(text)}: {AS_PLAIN_TEXT}"
                raise PydanticCustomError(code, MESSAGES[code], {"message": message})
            raise rule_error(code, limit)
        return text

    return AfterValidator(check)


def _trimmed_text(text: str) -> str:
    """A text without surrounding white space; raises as `_encodable`."""
    return trimmed(_encodable(text))


def _encodable(text: str) -> str:
    """The text; raises for a lone surrogate, which JSON can escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise rule_error("invalid_characters") from None
    return text


def _id(text: str) -> str:
    return normal_id(_encodable(text))


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
    if kind not in CHECK_ID:
        raise rule_error("invalid_characters")
    return f"{kind}:{CHECK_ID[kind](scope_id)}"


def _flag(sent: Any) -> bool:
    if isinstance(sent, bool):
        return sent
    if sent not in FLAGS:
        raise rule_error("wrong_type")
    return FLAGS[sent]


def _described(description: str, **rules: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description, **rules})


def _text_schema(max_bytes: int, minimum: int = MIN_TEXT) -> WithJsonSchema:
    description = (
        f"at least {minimum} characters, at most {max_bytes} bytes of UTF-8; "
        "surrounding white space is removed"
    )
    core = rf"[^\s\x00\ufeff][^\x00]{{{minimum - 2},}}[^\s\x00]"
    return _described(
        description, minLength=minimum, maxLength=max_bytes, pattern=rf"^\ufeff?\s*{core}\s*$"
    )


def _id_schema(rule: IdLimit) -> WithJsonSchema:
    description = (
        f"1 to {rule.maximum} characters; no control or invisible character, slash or backslash;"
        " not `.` or `..`"
    )
    forbidden = rf"\x00-\x1f\x7f-\x9f/\\{INVISIBLE}"
    inner, outer = f"[^{forbidden}]", rf"[^\s{forbidden}]"
    core = rf"{outer}({inner}{{0,{rule.maximum - 2}}}{outer})?"
    return _described(description, minLength=1, pattern=rf"^\ufeff?\s*(?!\.{{1,2}}\s*$){core}\s*$")


INSTRUCTIONS_BYTES = MAX_TEXT_BYTES["instructions"]
PROMPT_BYTES = MAX_TEXT_BYTES["student_prompt"]
ASSIGNMENT = cast(IdLimit, RULES["assignment_id"])
ANCHOR = cast(IdLimit, RULES["anchor_id"])
ANCHOR_BYTES = MAX_TEXT_BYTES["anchor"]
BATCH = cast(TextLimit, RULES["batch_id"])
COURSE = cast(IdLimit, RULES["course_id"])
PIPELINE = re.compile("[a-z][a-z0-9_-]{0,49}")
ORIGIN = cast(PatternLimit, RULES["context_origin"])
GRADES = {
    grade
    for scale in SCALES.values()
    for grade in (*scale.grades, scale.below_lowest_grade)
    if grade
}
CHECK_ID = {
    "assignment": _check(*_within(ASSIGNMENT), normalize=_id),
    "course": _check(*_within(COURSE), normalize=_id),
}

InstructionsText = Annotated[str, _text(INSTRUCTIONS_BYTES), _text_schema(INSTRUCTIONS_BYTES)]
LongText = Annotated[str, _text(PROMPT_BYTES), _text_schema(PROMPT_BYTES)]
AnchorText = Annotated[str, _text(ANCHOR_BYTES, MIN_ANCHOR), _text_schema(ANCHOR_BYTES, MIN_ANCHOR)]
AnchorId = Annotated[
    str, AfterValidator(_check(*_within(ANCHOR), normalize=_id)), _id_schema(ANCHOR)
]
Grade = Annotated[
    str,
    _checked(Rule(lambda grade: grade not in GRADES, "unknown_grade")),
    _described("a grade of the grade scale; its grade below the lowest, too", enum=sorted(GRADES)),
]
AssignmentId = Annotated[str, AfterValidator(CHECK_ID["assignment"]), _id_schema(ASSIGNMENT)]
CourseId = Annotated[str, AfterValidator(CHECK_ID["course"]), _id_schema(COURSE)]
GradeScaleId = Annotated[
    str,
    _checked(Rule(lambda scale: scale not in SCALES, "unknown_grade_scale")),
    _described("id of a registered grade scale", enum=sorted(SCALES)),
]
ContextOrigin = Annotated[
    str,
    _checked(BLANK, Rule(ORIGIN.problem_with, "invalid_characters")),
    _described(
        "where the assignment comes from; cannot change while the instructions are live",
        pattern=rf"^\s*{ORIGIN.pattern.pattern}\s*$",
    ),
]
PipelineName = Annotated[
    str,
    _checked(Rule(lambda name: not PIPELINE.fullmatch(name), "invalid_characters")),
    _described("the name of a pipeline, such as cj_assessment", pattern=f"^{PIPELINE.pattern}$"),
]
StorageId = Annotated[
    str,
    # the store has no other ids
    _checked(Rule(lambda text: not SHA256.fullmatch(text), "unknown_content")),
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
    AfterValidator(_check(*_within(BATCH), normalize=_encodable)),
    _described("the batch id exactly as in the request", minLength=1, maxLength=BATCH.maximum),
]
RunId = Annotated[
    str,
    _checked(*_within(BATCH)),
    _described("the run_id of a result", minLength=1, maxLength=BATCH.maximum),
]
ScopeKey = Annotated[
    str,
    AfterValidator(_scope_key),
    _described(
        "assignment:<id> or course:<id>", pattern=rf"^(assignment|course):{ID_CORE}{{1,50}}$"
    ),
]
Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "boolean"})]
