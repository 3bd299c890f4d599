"""Files that strangers hand in: upload lines and CJ requests, as JSON or JSON lines, checked whole.

A file is one JSON object, an array of them, or objects on lines of their own; `-` is standard input. Every
fault is Malformed and names file, line, field and rule, never the text.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from schemas.errors import Malformed
from schemas.events import CJAssessmentRequested, Essay
from schemas.field_limits import RULES
from schemas.scales import get_scale

T = TypeVar("T")
STDIN = "-"
MAX_FILE_BYTES = 256 * 1024 * 1024
MIN_TEXT = 10  # characters
MAX_TEXT_BYTES = {"instructions": 65_536, "student_prompt": 131_072, "judge_rubric": 131_072}
SPACE = re.compile(r"[ \t\r\n]*")
TELLABLE = re.compile(r"\w{1,40}")  # a field's name may be a text in the wrong place
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Document:
    """One JSON value of a file, and the line that it begins in."""

    file: str
    line: int
    value: object

    def fault(self, rule: str) -> Malformed:
        """What is wrong with it."""
        return Malformed(f"{name_of(self.file)}, line {self.line}: {rule}")


def name_of(file: str) -> str:
    """The file as messages name it."""
    return "standard input" if file == STDIN else file


def documents(file: str) -> list[Document]:
    """Every JSON value of a file. Raises Malformed, also where the file cannot be read."""
    text = _utf8(_bytes_of(file), name_of(file)).removeprefix("\ufeff")
    found = []
    line, counted = 1, 0
    for at, value in _values(text, name_of(file)):
        line += text.count("\n", counted, at)
        counted = at
        found.append(Document(file, line, value))
    if not found:
        raise Malformed(f"{name_of(file)}: nothing in it")
    return found


def _bytes_of(file: str) -> bytes:
    try:
        if file == STDIN:
            content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as fault:
        raise Malformed(f"cannot read {name_of(file)}: {fault.strerror}") from fault
    if len(content) > MAX_FILE_BYTES:
        raise Malformed(f"{name_of(file)}: more than {MAX_FILE_BYTES} bytes: split it")
    return content


def _utf8(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise Malformed(f"{name}, line {line}: not UTF-8 at byte {fault.start}") from None


def _values(text: str, name: str) -> Iterator[tuple[int, object]]:
    """Each value with the index that it begins at: an array's items, or values on lines of their own."""
    at = _past_space(text, 0)
    in_array = text.startswith("[", at)
    if in_array:
        at = _past_space(text, at + 1)
    while at < len(text) and not (in_array and text[at] == "]"):
        value, end = _decoded(text, at, name)
        yield at, value
        begins, at = at, _past_space(text, end)
        if in_array and text.startswith(",", at):
            at = _past_space(text, at + 1)
        elif in_array and not text.startswith("]", at):
            raise _no_json(text, at, name, "`,` or `]` is missing")
        elif not in_array and at < len(text) and "\n" not in text[end:at]:
            raise _no_json(text, begins, name, "more than one value in the line")
    if in_array and SPACE.sub("", text[at:]) != "]":
        raise _no_json(text, at, name, "the array does not end where the file ends")


def _past_space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _decoded(text: str, at: int, name: str) -> tuple[object, int]:
    try:
        value, end = DECODER.raw_decode(text, at)
        if "\\u" in text[at:end]:
            json.dumps(value, ensure_ascii=False).encode()  # finds lone surrogates
    except json.JSONDecodeError as fault:
        where = f"line {fault.lineno}, column {fault.colno}"
        raise _no_json(text, at, name, f"{fault.msg.partition(':')[0]} ({where})") from None
    except UnicodeEncodeError:
        raise _no_json(text, at, name, "a lone surrogate in it") from None
    except RecursionError:
        raise _no_json(text, at, name, "nested too deeply") from None
    except ValueError as fault:
        raise _no_json(text, at, name, str(fault)[:80]) from None
    return value, end


def _no_json(text: str, at: int, name: str, rule: str) -> Malformed:
    return Malformed(f"{name}, line {text.count(chr(10), 0, at) + 1}: not JSON: {rule}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, _ in pairs if sum(key == one for one, _ in pairs) > 1)
        raise ValueError(f"the field {_tellable(twice)} stands there twice")
    return found


def _no_number(_constant: str) -> object:
    raise ValueError("NaN and Infinity are no JSON numbers")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _tellable(name: str) -> str:
    return name if TELLABLE.fullmatch(name) else f"of a name of {len(name)} characters"


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _within(name: str) -> AfterValidator:
    """The limit of that field of the events."""

    def check(value: Any) -> Any:
        refusal = RULES[name].refusal(value)
        if refusal:
            raise ValueError(refusal)
        return value

    return AfterValidator(check)


def trimmed(text: str) -> str:
    """Without one leading byte-order mark and without white space around it."""
    return text.removeprefix("\ufeff").strip()


def _normal(an_id: str) -> str:
    return unicodedata.normalize("NFC", trimmed(an_id))


def _registered(scale_id: str) -> str:
    try:
        return get_scale(scale_id).id
    except Malformed as fault:
        raise ValueError(str(fault)) from fault


AssignmentId = Annotated[str, AfterValidator(_normal), _within("assignment_id")]
CourseId = Annotated[str, AfterValidator(_normal), _within("course_id")]
Name = Annotated[str, _within("batch_id")]
CorrelationId = Annotated[str, _within("correlation_id")]


class UploadLine(_Given):
    """One upload or deletion as it stands in a file."""

    type: Literal["instructions", "student_prompt", "judge_rubric"]
    assignment_id: AssignmentId | None = None
    course_id: CourseId | None = None
    text: str | None = None
    text_file: str | None = None
    grade_scale: Annotated[str, AfterValidator(trimmed), AfterValidator(_registered)] | None = None
    context_origin: Annotated[str, AfterValidator(trimmed), _within("context_origin")] = (
        "research_experiment"
    )
    actor: Annotated[str, AfterValidator(trimmed), _within("actor")] = "uploads-send"
    correlation_id: CorrelationId | None = None
    language: Annotated[str, AfterValidator(trimmed), _within("language")] | None = None
    delete: bool = False

    @model_validator(mode="after")
    def _agrees(self) -> "UploadLine":
        if fault := self._scope_fault() or self._content_fault():
            raise ValueError(fault)
        return self

    def _scope_fault(self) -> str | None:
        if (self.assignment_id is None) == (self.course_id is None):
            return "exactly one of assignment_id and course_id"
        if self.course_id is not None and self.type != "instructions":
            return f"course_id: a course has instructions only, no {self.type}"
        return None

    def _content_fault(self) -> str | None:
        of_instructions = {"grade_scale", "context_origin"} & self.model_fields_set
        of_a_text = {"text", "text_file", "language"} & self.model_fields_set
        of_uploads = of_a_text | of_instructions
        if self.delete:
            return f"{min(of_uploads)}: not in a deletion" if of_uploads else None
        if (self.text is None) == (self.text_file is None):
            return "exactly one of text and text_file"
        if self.language is not None and self.type != "student_prompt":
            return "language: a student prompt has it"
        if self.type != "instructions":
            return f"{min(of_instructions)}: instructions have it" if of_instructions else None
        return "grade_scale: missing" if self.grade_scale is None else None


@dataclass(frozen=True, slots=True)
class GivenUpload:
    """A checked upload line: its text in bytes, None for a deletion."""

    document: Document
    line: UploadLine
    text: bytes | None

    @property
    def scope_key(self) -> str:
        """The key of its record."""
        if self.line.assignment_id is not None:
            return f"assignment:{self.line.assignment_id}"
        return f"course:{self.line.course_id}"


def read_uploads(files: Sequence[str]) -> list[GivenUpload]:
    """Every upload of the files, all of them checked. Raises Malformed."""
    return _each(files, _upload)


def _upload(document: Document) -> GivenUpload:
    line = _model(UploadLine, document)
    if line.delete:
        return GivenUpload(document, line, None)
    field = "text" if line.text_file is None else "text_file"
    text = trimmed(line.text or "" if line.text_file is None else _beside(document, line.text_file))
    encoded = text.encode()
    most = MAX_TEXT_BYTES[line.type]
    if len(text) < MIN_TEXT:
        raise document.fault(f"{field}: {len(text)} characters, at least {MIN_TEXT}")
    if len(encoded) > most:
        raise document.fault(f"{field}: {len(encoded)} bytes, at most {most}")
    if "\0" in text:
        raise document.fault(f"{field}: U+0000 in it")
    return GivenUpload(document, line, encoded)


def _beside(document: Document, text_file: str) -> str:
    """The text of a file in or below the folder of the one that names it."""
    folder = Path() if document.file == STDIN else Path(document.file).parent
    try:
        path = (folder / text_file).resolve()
        if Path(text_file).is_absolute() or not path.is_relative_to(folder.resolve()):
            raise document.fault("text_file: not in the folder of the file that names it")
        with path.open("rb") as opened:
            return opened.read(max(MAX_TEXT_BYTES.values()) * 2).decode()
    except UnicodeDecodeError:
        raise document.fault("text_file: not UTF-8") from None
    except (OSError, ValueError) as fault:
        rule = getattr(fault, "strerror", None) or "no file name"
        raise document.fault(f"text_file: cannot be read: {rule}") from None


def _overrides(value: object) -> object:
    """A JSON object, or the text of one, as canonical text: keys sorted, no white space."""
    if isinstance(value, str):
        try:
            value = DECODER.decode(value)
        except (ValueError, RecursionError):
            raise ValueError("no JSON object") from None
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    if not isinstance(value, dict):
        return value
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (ValueError, RecursionError):
        raise ValueError("a number beyond all bounds, or nested too deeply") from None


Overrides = Annotated[
    Annotated[str, _within("llm_config_overrides")] | None, BeforeValidator(_overrides)
]


def _instant_ms(value: object) -> int:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError("no ISO 8601 time with a time zone")
    return (instant - EPOCH) // timedelta(milliseconds=1)


InstantMs = Annotated[int, BeforeValidator(_instant_ms), _within("occurred_at_ms")]


class EssayLine(_Given):
    """One essay of a request, by reference."""

    essay_id: Name
    text_storage_id: Name


class _Asking(_Given):
    """What both forms of a request say in the same words."""

    assignment_id: AssignmentId | None = None
    course_code: CourseId
    language: Annotated[str, _within("language")]
    student_prompt_ref: Name | None = None
    user_id: Name | None = None
    org_id: Name | None = None
    llm_config_overrides: Overrides = None


Essays = Annotated[list[EssayLine], _within("essays")]


class RequestLine(_Asking):
    """The plain form: the fields of CJAssessmentRequested."""

    event_id: Name | None = None
    occurred_at_ms: Annotated[int, _within("occurred_at_ms")] | None = None
    source_service: Name = "requests-send"
    correlation_id: CorrelationId | None = None
    batch_id: Name
    essays: Essays
    due_at_ms: Annotated[int, _within("due_at_ms")] | None = None


class EnvelopeData(_Asking):
    """What a JSON event envelope carries."""

    entity_id: Name
    essays_for_cj: Essays


class Envelope(_Given):
    """A CJ request as a JSON event; event_timestamp is ISO 8601."""

    event_id: Name
    event_type: Name
    event_timestamp: InstantMs
    source_service: Name
    correlation_id: CorrelationId
    data: EnvelopeData

    def plain(self) -> RequestLine:
        """The same request in the plain form."""
        said = self.data.model_dump(exclude={"entity_id", "essays_for_cj"})
        return RequestLine(
            **said,
            event_id=self.event_id,
            occurred_at_ms=self.event_timestamp,
            source_service=self.source_service,
            correlation_id=self.correlation_id,
            batch_id=self.data.entity_id,
            essays=list(self.data.essays_for_cj),
        )


@dataclass(frozen=True, slots=True)
class GivenRequest:
    """A checked request and where it was given."""

    document: Document
    request: CJAssessmentRequested


def read_requests(
    files: Sequence[str], now_ms: int, new_id: Callable[[], str]
) -> list[GivenRequest]:
    """Every request of the files, all of them checked; what was left out is filled in. Raises Malformed."""
    return _each(
        files, lambda document: GivenRequest(document, request_of(document, now_ms, new_id))
    )


def request_of(document: Document, now_ms: int, new_id: Callable[[], str]) -> CJAssessmentRequested:
    """One request in either form. Raises Malformed."""
    value = document.value
    if isinstance(value, dict) and "data" in value:
        line = _model(Envelope, document).plain()
    else:
        line = _model(RequestLine, document)
    said = line.model_dump(exclude={"essays", "event_id", "occurred_at_ms", "correlation_id"})
    return CJAssessmentRequested(
        **said,
        event_id=line.event_id or new_id(),
        occurred_at_ms=now_ms if line.occurred_at_ms is None else line.occurred_at_ms,
        correlation_id=line.correlation_id or new_id(),
        essays=tuple(
            Essay(essay_id=essay.essay_id, text_storage_id=essay.text_storage_id)
            for essay in line.essays
        ),
    )


def _each(files: Sequence[str], read: Callable[[Document], T]) -> list[T]:
    """Every document read; Malformed with the first fault and the number of the others."""
    if list(files).count(STDIN) > 1:
        raise Malformed("standard input can be read once only")
    good, faults = list[T](), list[Malformed]()
    for document in (document for file in files for document in documents(file)):
        try:
            good.append(read(document))
        except Malformed as fault:
            faults.append(fault)
    if faults:
        more = f" (and {len(faults) - 1} more faulty lines)" if len(faults) > 1 else ""
        raise Malformed(f"{faults[0]}{more}; nothing was sent")
    return good


Model = TypeVar("Model", bound=BaseModel)


def _model(model: type[Model], document: Document) -> Model:
    if not isinstance(document.value, dict):
        raise document.fault("no JSON object")
    try:
        return model.model_validate(document.value)
    except ValidationError as fault:
        told = fault.errors(include_url=False, include_input=False, include_context=False)
        raise document.fault("; ".join(map(_told, told[:5]))) from None


def _told(fault: ErrorDetails) -> str:
    path = ".".join(_tellable(str(part)) for part in fault["loc"])
    rule = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        rule = "no such field"
    elif fault["type"] == "missing":
        rule = "missing"
    return f"{path}: {rule}" if path else rule
