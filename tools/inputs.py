"""Input files: upload lines and CJ requests, as JSON or JSON lines, completely checked before anything is sent.

A file is one JSON object, an array of objects, or one object per line; `-` is standard input. Every error is
Malformed and names file, line, field and rule, never the text.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from schemas.errors import CJStreamError, Malformed
from schemas.events import CJAssessmentRequested, Essay
from schemas.field_limits import RULES, normal_id
from schemas.scales import get_scale
from tools.json_files import DECODER, STDIN, JsonValue, json_values, safe_name
from tools.text_files import text_in
from tools.text_rules import (
    AS_PLAIN_TEXT,
    MAX_TEXT_BYTES,
    MIN_TEXT,
    broken_rule,
    format_of,
    trimmed,
)
from tools.word_document import MAX_BYTES

T = TypeVar("T")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FaultyLines(Malformed):
    """Every faulty line of the input, one message each."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class _StrictModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _within(name: str) -> AfterValidator:
    """A validator with the limit of this event field."""

    def check(value: Any) -> Any:
        refusal = RULES[name].problem_with(value)
        if refusal:
            raise ValueError(refusal)
        return value

    return AfterValidator(check)


def _known_scale(scale_id: str) -> str:
    try:
        return get_scale(scale_id).id
    except Malformed as fault:
        raise ValueError(str(fault)) from fault


AssignmentId = Annotated[str, AfterValidator(normal_id), _within("assignment_id")]
CourseId = Annotated[str, AfterValidator(normal_id), _within("course_id")]
Name = Annotated[str, _within("batch_id")]
CorrelationId = Annotated[str, _within("correlation_id")]
Language = Annotated[str, AfterValidator(trimmed), _within("StudentPromptUploaded.language")]


class UploadLine(_StrictModel):
    """One upload or deletion in an input file."""

    type: Literal["instructions", "student_prompt", "judge_rubric"]
    assignment_id: AssignmentId | None = None
    course_id: CourseId | None = None
    text: str | None = None
    text_file: str | None = None
    grade_scale: Annotated[str, AfterValidator(trimmed), AfterValidator(_known_scale)] | None = None
    context_origin: Annotated[str, AfterValidator(trimmed), _within("context_origin")] = (
        "research_experiment"
    )
    actor: Annotated[str, AfterValidator(trimmed), _within("actor")] = "uploads-send"
    correlation_id: CorrelationId | None = None
    language: Language | None = None
    delete: bool = False

    @model_validator(mode="after")
    def _check_consistency(self) -> "UploadLine":
        if fault := self._scope_fault() or self._content_fault():
            raise ValueError(fault)
        return self

    def _scope_fault(self) -> str | None:
        if (self.assignment_id is None) == (self.course_id is None):
            return "exactly one of assignment_id and course_id"
        if self.course_id is not None and self.type != "instructions":
            return f"course_id: a course has only instructions, no {self.type}"
        return None

    def _content_fault(self) -> str | None:
        of_instructions = {"grade_scale", "context_origin"} & self.model_fields_set
        of_texts = {"text", "text_file", "language"} & self.model_fields_set
        of_uploads = of_texts | of_instructions
        if self.delete:
            return f"{min(of_uploads)}: not allowed in a deletion" if of_uploads else None
        if (self.text is None) == (self.text_file is None):
            return "exactly one of text and text_file"
        if self.language is not None and self.type != "student_prompt":
            return "language: only a student prompt has it"
        if self.type != "instructions":
            return f"{min(of_instructions)}: only instructions have it" if of_instructions else None
        return "grade_scale: missing" if self.grade_scale is None else None


@dataclass(frozen=True, slots=True)
class GivenUpload:
    """A checked upload line with its text in bytes; the text is None for a deletion."""

    document: JsonValue
    line: UploadLine
    text: bytes | None

    @property
    def scope_key(self) -> str:
        """The scope key, which is the key of the record."""
        if self.line.assignment_id is not None:
            return f"assignment:{self.line.assignment_id}"
        return f"course:{self.line.course_id}"


def read_uploads(files: Sequence[str]) -> list[GivenUpload]:
    """Every upload in the files, checked. Raises Malformed."""
    return _each(files, _upload)


def _upload(document: JsonValue) -> GivenUpload:
    line = _model(UploadLine, _without_nulls(document))
    if line.delete:
        return GivenUpload(document, line, None)
    return GivenUpload(document, line, _text(document, "", line, MAX_TEXT_BYTES[line.type]))


def _text(document: JsonValue, path: str, line: "UploadLine | EssayLine", max_bytes: int) -> bytes:
    """The text that a line has or names, trimmed and checked; `path` leads to the line. Raises Malformed."""
    if line.text_file is None:
        field, text = f"{path}text", trimmed(line.text or "")
    else:
        field = f"{path}text_file"
        text = trimmed(_file_text(document, field, line.text_file))
    encoded = text.encode()
    if broken := broken_rule(text, max_bytes):
        too_short = f"{len(text)} characters, at least {MIN_TEXT}"
        rules = {
            "blank": too_short,
            "too_short": too_short,
            "too_long": f"{len(encoded)} bytes, at most {max_bytes}",
            "invalid_characters": "contains U+0000",
            "not_plain_text": f"{format_of(text)}: {AS_PLAIN_TEXT}",
        }
        raise document.fault(f"{field}: {rules[broken[0]]}")
    return encoded


def _without_nulls(document: JsonValue) -> JsonValue:
    """The same without the fields that are null: programs that write lines give every field."""
    if not isinstance(document.value, dict):
        return document
    return replace(document, value={k: v for k, v in document.value.items() if v is not None})


def _file_text(document: JsonValue, field: str, text_file: str) -> str:
    """The text of a file, which must be in or below the folder of the input file that names it. Raises Malformed."""
    folder = Path() if document.file == STDIN else Path(document.file).parent
    try:
        path = (folder / text_file).resolve()
        if Path(text_file).is_absolute() or not path.is_relative_to(folder.resolve()):
            raise document.fault(f"{field}: not in or below the folder of the file that names it")
        with path.open("rb") as opened:
            return text_in(opened.read(MAX_BYTES + 1), text_file)
    except (OSError, ValueError) as fault:
        rule = getattr(fault, "strerror", None) or "not a file name"
        raise document.fault(f"{field}: cannot be read: {rule}") from None
    except Malformed:
        raise
    except CJStreamError as fault:
        raise document.fault(f"{field}: {fault}") from None


def _overrides(value: object) -> object:
    """A JSON object, or the text of one, as canonical JSON text: keys sorted, no white space."""
    if isinstance(value, str):
        try:
            value = DECODER.decode(value)
        except (ValueError, RecursionError):
            raise ValueError("not a JSON object") from None
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
    if not isinstance(value, dict):
        return value
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (ValueError, RecursionError):
        raise ValueError("a number out of range, or nested too deeply") from None


Overrides = Annotated[
    Annotated[str, _within("llm_config_overrides")] | None, BeforeValidator(_overrides)
]


def _instant_ms(value: object) -> int:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError("not an ISO 8601 time with a time zone")
    return (instant - EPOCH) // timedelta(milliseconds=1)


InstantMs = Annotated[int, BeforeValidator(_instant_ms), _within("occurred_at_ms")]


class EssayLine(_StrictModel):
    """One essay of a request: the storage id of its text, or the text, or its file."""

    essay_id: Name
    text_storage_id: Name | None = None
    text: str | None = None
    text_file: str | None = None

    @model_validator(mode="after")
    def _check_source(self) -> "EssayLine":
        if sum(one is not None for one in (self.text_storage_id, self.text, self.text_file)) != 1:
            raise ValueError("exactly one of text_storage_id, text and text_file")
        return self


class _RequestFields(_StrictModel):
    """The fields that both forms of a request share."""

    assignment_id: AssignmentId | None = None
    course_code: CourseId
    language: Language
    student_prompt_ref: Name | None = None
    user_id: Name | None = None
    org_id: Name | None = None
    llm_config_overrides: Overrides = None


Essays = Annotated[list[EssayLine], _within("essays")]


class RequestLine(_RequestFields):
    """The plain form of a request: the fields of CJAssessmentRequested."""

    event_id: Name | None = None
    occurred_at_ms: Annotated[int, _within("occurred_at_ms")] | None = None
    source_service: Name = "requests-send"
    correlation_id: CorrelationId | None = None
    batch_id: Name
    essays: Essays
    due_at_ms: Annotated[int, _within("due_at_ms")] | None = None


class EnvelopeData(_RequestFields):
    """The data of a JSON event envelope."""

    batch_id: Name = Field(alias="entity_id")
    essays: Essays = Field(alias="essays_for_cj")


class Envelope(_StrictModel):
    """A CJ request in a JSON event envelope."""

    event_id: Name
    event_type: Name
    occurred_at_ms: InstantMs = Field(alias="event_timestamp")  # ISO 8601
    source_service: Name
    correlation_id: CorrelationId
    data: EnvelopeData


@dataclass(frozen=True, slots=True)
class GivenRequest:
    """A checked request, the JSON value it was read from, and the texts that it brings: they must be stored."""

    document: JsonValue
    request: CJAssessmentRequested
    texts: tuple[bytes, ...]


def read_requests(
    files: Sequence[str], now_ms: int, new_id: Callable[[], str]
) -> list[GivenRequest]:
    """Every request in the files, checked, with defaults for omitted fields. Raises Malformed."""
    return _each(files, lambda document: request_of(document, now_ms, new_id))


def request_of(document: JsonValue, now_ms: int, new_id: Callable[[], str]) -> GivenRequest:
    """The request in a JSON value, in either form. Raises Malformed."""
    if isinstance(document.value, dict) and "data" in document.value:
        envelope = _model(Envelope, document)
        lines, path = envelope.data.essays, "data.essays_for_cj"
        given = envelope.model_dump(exclude={"event_type"})
        given |= given.pop("data")
    else:
        plain = _model(RequestLine, document)
        lines, path = plain.essays, "essays"
        given = plain.model_dump()
    defaults = {"event_id": new_id, "occurred_at_ms": lambda: now_ms, "correlation_id": new_id}
    for name, default in defaults.items():
        if given[name] is None:
            given[name] = default()
    texts = {
        line.essay_id: _text(document, f"{path}.{number}.", line, MAX_TEXT_BYTES["essay"])
        for number, line in enumerate(lines)
        if line.text_storage_id is None
    }
    given["essays"] = tuple(
        Essay(
            essay_id=line.essay_id,
            text_storage_id=line.text_storage_id or sha256(texts[line.essay_id]).hexdigest(),
        )
        for line in lines
    )
    return GivenRequest(document, CJAssessmentRequested(**given), tuple(texts.values()))


def _each(files: Sequence[str], read: Callable[[JsonValue], T]) -> list[T]:
    """Read every document. Raises FaultyLines."""
    if list(files).count(STDIN) > 1:
        raise Malformed("standard input can be read only once")
    items, faults = list[T](), list[Malformed]()
    for document in (document for file in files for document in json_values(file)):
        try:
            items.append(read(document))
        except Malformed as fault:
            faults.append(fault)
    if faults:
        raise FaultyLines([*map(str, faults), "nothing was sent"])
    return items


Model = TypeVar("Model", bound=BaseModel)


def _model(model: type[Model], document: JsonValue) -> Model:
    if not isinstance(document.value, dict):
        raise document.fault("not a JSON object")
    try:
        return model.model_validate(document.value)
    except ValidationError as fault:
        errors = fault.errors(include_url=False, include_input=False, include_context=False)
        raise document.fault("; ".join(map(_error_text, errors[:5]))) from None


def _error_text(fault: ErrorDetails) -> str:
    path = ".".join(safe_name(str(part)) for part in fault["loc"])
    rule = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        rule = "no such field"
    elif fault["type"] == "missing":
        rule = "missing"
    return f"{path}: {rule}" if path else rule
