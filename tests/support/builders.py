"""Builders of events, and Hypothesis strategies for valid events of every shape and size."""

import hashlib
import operator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from hypothesis import strategies as st

from schemas.coordinates import Coordinates
from schemas.events import (
    NOT_IN_AVRO,
    Anchor,
    AnchorsDeleted,
    AnchorsUploaded,
    AssignmentContext,
    CJAssessmentRequested,
    Essay,
    InstructionsDeleted,
    InstructionsUploaded,
    JudgeRubricDeleted,
    JudgeRubricUploaded,
    StudentPromptDeleted,
    StudentPromptUploaded,
    UploadEvent,
    role_of,
)
from schemas.field_limits import (
    DEADLINE,
    MAX_ESSAYS,
    MAX_LONG,
    MAX_OVERRIDES,
    IdLimit,
    normal_id,
)
from schemas.released_schemas import released
from schemas.topics import Topics
from tables.context import fold
from tables.scan.layout import STABLE

TOPIC_OF = {
    "instructions": Topics().instructions.name,
    "student_prompt": Topics().student_prompts.name,
    "judge_rubric": Topics().judge_rubrics.name,
    "anchors": Topics().anchors.name,
}
# an upload of a release that has one schema more
OF_LATER_RELEASE = (
    b"\0" + (max(schema.schema_id for schema in released()) + 1).to_bytes(4, "big") + b"later"
)
REQUEST_AT = Coordinates(Topics().requests.name, 3, 41)


def sha256_of(text: str) -> str:
    """The storage id of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def upload_fields(text: str, media_type: str = "text/plain; charset=utf-8") -> dict[str, Any]:
    """What all uploads have: version 1 of this text, for assignment a1."""
    return {
        "assignment_id": "a1",
        "version": 1,
        "actor": "teacher@school.example",
        "occurred_at_ms": 1_700_000_000_000,
        "created_at_ms": 1_700_000_000_000,
        "storage_id": sha256_of(text),
        "sha256": sha256_of(text),
        "media_type": media_type,
        "size_bytes": len(text.encode()),
    }


DELETION_FIELDS: dict[str, Any] = {
    "assignment_id": "a1",
    "version": 2,
    "actor": "teacher@school.example",
    "occurred_at_ms": 1_700_000_100_000,
}


def instructions_uploaded(
    text: str = "Judge the argument.", **changes: Any
) -> InstructionsUploaded:
    """Instructions of assignment a1; with `assignment_id=None, course_id=…` those of a course."""
    scale = {"grade_scale": "swedish_8_anchor", "context_origin": "research_experiment"}
    ids = {"event_id": "i-1", "correlation_id": "c-1"}
    return InstructionsUploaded(**upload_fields(text) | scale | ids | changes)


def instructions_deleted(**changes: Any) -> InstructionsDeleted:
    """The deletion of assignment a1's instructions."""
    ids = {"event_id": "i-2", "previous_event_id": "i-1", "correlation_id": "c-2"}
    return InstructionsDeleted(**DELETION_FIELDS | ids | changes)


def prompt_uploaded(
    text: str = "Should homework be banned?", **changes: Any
) -> StudentPromptUploaded:
    """The student prompt of assignment a1."""
    ids = {"event_id": "p-1", "correlation_id": "c-3"}
    return StudentPromptUploaded(**upload_fields(text) | ids | changes)


def prompt_deleted(**changes: Any) -> StudentPromptDeleted:
    """The deletion of assignment a1's student prompt."""
    ids = {"event_id": "p-2", "previous_event_id": "p-1", "correlation_id": "c-4"}
    return StudentPromptDeleted(**DELETION_FIELDS | ids | changes)


def rubric_uploaded(text: str = "Weigh structure twice.", **changes: Any) -> JudgeRubricUploaded:
    """The judge rubric of assignment a1."""
    ids = {"event_id": "r-1", "correlation_id": "c-5"}
    return JudgeRubricUploaded(**upload_fields(text, "text/markdown") | ids | changes)


def rubric_deleted(**changes: Any) -> JudgeRubricDeleted:
    """The deletion of assignment a1's judge rubric."""
    ids = {"event_id": "r-2", "previous_event_id": "r-1", "correlation_id": "c-6", "erased": True}
    return JudgeRubricDeleted(**DELETION_FIELDS | ids | changes)


def anchor(
    anchor_id: str = "anchor-1", grade: str = "C", scale: str = "swedish_8_anchor", text: str = ""
) -> Anchor:
    """An anchor; by default its text is its id."""
    sha256 = sha256_of(text or anchor_id)
    return Anchor(
        anchor_id=anchor_id,
        grade_scale=scale,
        grade=grade,
        storage_id=sha256,
        sha256=sha256,
        size_bytes=len((text or anchor_id).encode()),
    )


def anchors_uploaded(*anchors: Anchor, **changes: Any) -> AnchorsUploaded:
    """The anchors of assignment a1; by default two."""
    values = {
        name: value
        for name, value in upload_fields("").items()
        if name not in ("storage_id", "sha256", "media_type", "size_bytes")
    }
    own = {"event_id": "k-1", "correlation_id": "c-8"}
    all_anchors = anchors or (anchor("anchor-1", "C"), anchor("anchor-2", "A"))
    return AnchorsUploaded(**values | own | {"anchors": all_anchors} | changes)


def anchors_deleted(**changes: Any) -> AnchorsDeleted:
    """The deletion of all anchors of assignment a1."""
    ids = {"event_id": "k-2", "previous_event_id": "k-1", "correlation_id": "c-9"}
    return AnchorsDeleted(**DELETION_FIELDS | ids | changes)


def essays(count: int = 2) -> tuple[Essay, ...]:
    """A number of essays."""
    return tuple(Essay(essay_id=f"e-{n}", text_storage_id=f"text-{n}") for n in range(count))


def requested(**changes: Any) -> CJAssessmentRequested:
    """A request with two essays for assignment a1."""
    request = CJAssessmentRequested(
        event_id="q-1",
        occurred_at_ms=1_700_000_200_000,
        source_service="batch-orchestrator",
        correlation_id="c-7",
        batch_id="batch-1",
        assignment_id="a1",
        course_code="ENG5",
        language="en",
        essays=essays(),
    )
    return replace(request, **changes)


def at(event: UploadEvent, offset: int, partition: int = 0) -> Coordinates:
    """The coordinates of an upload, in the topic of its role."""
    return Coordinates(TOPIC_OF[role_of(event)], partition, offset)


def context_after(*uploads: UploadEvent) -> AssignmentContext:
    """The context of one scope after these uploads, in this order."""
    rows: dict[str, AssignmentContext] = {}
    for offset, event in enumerate(uploads):
        fold(rows, event, at(event, offset), 1_700_000_000_000 + offset)
    (context,) = rows.values()
    return context


READY = (instructions_uploaded(), prompt_uploaded(), rubric_uploaded())
UPLOADS: tuple[UploadEvent, ...] = (
    *READY,
    instructions_deleted(),
    prompt_deleted(),
    rubric_deleted(),
    instructions_uploaded(assignment_id=None, course_id="ENG5"),
    instructions_deleted(assignment_id=None, course_id="ENG5", erased=True),
)


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
ID_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\")


def texts(maximum: int, alphabet: st.SearchStrategy[str] = CHARACTERS) -> st.SearchStrategy[str]:
    """Texts of 1 to `maximum` characters: short ones of any script, and the longest, of 1 to 4 bytes a character."""
    short = st.text(alphabet, min_size=1, max_size=min(maximum, 20))
    longest = st.sampled_from("xö\u20ac🎓").map(lambda character: character * maximum)
    return st.integers(0, 19).flatmap(lambda n: longest if n == 0 else short)


def ids(maximum: int) -> st.SearchStrategy[str]:
    """Ids of assignments and courses."""
    limit = IdLimit(maximum)
    normal = texts(maximum, ID_CHARACTERS).map(normal_id)
    return normal.filter(lambda value: limit.problem_with(value) is None)


def is_stable(an_id: str) -> bool:
    """Whether every text of the characters of an id is in normal form, so that a scan can accept it."""
    return all(any(first <= ord(one) <= last for first, last in STABLE) for one in an_id)


NAMES = texts(255)
TIMES = st.integers(0, 2**45) | st.just(MAX_LONG)
VERSIONS = st.integers(1, 1000) | st.just(MAX_LONG)
SHA256S = st.binary(max_size=8).map(lambda content: hashlib.sha256(content).hexdigest())
LANGUAGES = st.none() | st.sampled_from(["sv", "en", "zh-Hant-TW"])
ASSIGNMENTS, COURSES = ids(100), ids(50)
ANY_OR_NO_ASSIGNMENT = st.none() | ASSIGNMENTS
EVENT_FIELDS = {
    "event_id": NAMES,
    "version": VERSIONS,
    "previous_event_id": st.none() | NAMES,
    "actor": NAMES,
    "correlation_id": texts(200),
    "occurred_at_ms": TIMES,
}
CONTENT_FIELDS = {
    "created_at_ms": TIMES,
    "storage_id": NAMES,
    "sha256": SHA256S,
    "media_type": NAMES,
    "size_bytes": VERSIONS,
}
SCALE_FIELDS = {
    "grade_scale": st.from_regex(r"[a-z0-9][a-z0-9_]{0,49}", fullmatch=True),
    "context_origin": st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True),
}


def instructions_events(
    **scope: st.SearchStrategy[Any],
) -> st.SearchStrategy[InstructionsUploaded | InstructionsDeleted]:
    """Uploads and deletions of the instructions of a scope."""
    deleted = st.builds(InstructionsDeleted, **scope, **EVENT_FIELDS, erased=st.booleans())
    return (
        st.builds(InstructionsUploaded, **scope, **EVENT_FIELDS, **CONTENT_FIELDS, **SCALE_FIELDS)
        | deleted
    )


def uploads_of(assignment_ids: st.SearchStrategy[str]) -> st.SearchStrategy[UploadEvent]:
    """Uploads and deletions of all roles of these assignments."""
    scope = {"assignment_id": assignment_ids}
    return st.one_of(
        instructions_events(**scope, course_id=st.none()),
        st.builds(
            StudentPromptUploaded, **scope, **EVENT_FIELDS, **CONTENT_FIELDS, language=LANGUAGES
        ),
        st.builds(StudentPromptDeleted, **scope, **EVENT_FIELDS, erased=st.booleans()),
        st.builds(JudgeRubricUploaded, **scope, **EVENT_FIELDS, **CONTENT_FIELDS),
        st.builds(JudgeRubricDeleted, **scope, **EVENT_FIELDS, erased=st.booleans()),
    )


def uploads_of_courses(course_ids: st.SearchStrategy[str]) -> st.SearchStrategy[UploadEvent]:
    """Uploads and deletions of the instructions of these courses."""
    return instructions_events(assignment_id=st.none(), course_id=course_ids)


def uploads() -> st.SearchStrategy[UploadEvent]:
    """Any valid upload event."""
    return uploads_of(ASSIGNMENTS) | uploads_of_courses(COURSES)


@st.composite
def contexts_of_assignment(draw: st.DrawFn, assignment_id: str) -> AssignmentContext | None:
    """The context of one assignment after up to five uploads and deletions; None if there are none."""
    history = draw(st.lists(uploads_of(st.just(assignment_id)), max_size=5))
    return context_after(*history) if history else None


@st.composite
def contexts_of_course(draw: st.DrawFn, course_id: str) -> AssignmentContext | None:
    """The context of one course after up to two uploads and deletions; None if there are none."""
    history = draw(st.lists(uploads_of_courses(st.just(course_id)), max_size=2))
    return context_after(*history) if history else None


ESSAYS = st.builds(Essay, essay_id=NAMES, text_storage_id=NAMES)
ESSAY_ID = operator.attrgetter("essay_id")


def requests(
    assignment_ids: st.SearchStrategy[str | None] = ANY_OR_NO_ASSIGNMENT,
    course_codes: st.SearchStrategy[str] = COURSES,
) -> st.SearchStrategy[CJAssessmentRequested]:
    """Any valid request: usually with few essays, sometimes with the maximum."""
    few = st.lists(ESSAYS, min_size=2, max_size=6, unique_by=ESSAY_ID).map(tuple)
    many = st.sampled_from([63, 64, MAX_ESSAYS]).map(essays)
    return st.builds(
        CJAssessmentRequested,
        event_id=NAMES,
        occurred_at_ms=TIMES,
        source_service=NAMES,
        correlation_id=texts(200),
        batch_id=NAMES,
        assignment_id=assignment_ids,
        course_code=course_codes,
        language=texts(35),
        student_prompt_ref=st.none() | NAMES,
        user_id=st.none() | NAMES,
        org_id=st.none() | NAMES,
        due_at_ms=st.none() | st.integers(DEADLINE.minimum, DEADLINE.maximum),
        llm_config_overrides=st.none() | texts(MAX_OVERRIDES),
        essays=st.integers(0, 19).flatmap(lambda n: many if n == 0 else few),
    )


COORDINATES = st.builds(
    Coordinates,
    st.sampled_from([Topics().requests.name, Topics().under("pröv-").requests.name]),
    st.integers(0, 2**31 - 1),
    st.integers(0, MAX_LONG),
)


@st.composite
def damaged(draw: st.DrawFn, payload: bytes) -> bytes:
    """The payload after one to three changes: bytes are flipped, replaced, removed, repeated or cut off."""
    changed = bytearray(payload)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(changed)))
        end = min(len(changed), start + draw(st.integers(0, 6)))
        kind = draw(st.sampled_from(("flip", "put", "cut", "double", "end")))
        if kind == "flip" and start < len(changed):
            changed[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "put":
            changed[start:end] = draw(st.binary(max_size=3) | st.sampled_from(INVALID_BYTES))
        elif kind == "cut":
            del changed[start:end]
        elif kind == "double":
            changed[start:start] = changed[start:end]
        elif kind == "end":
            del changed[start:]
    return bytes(changed)


INVALID_BYTES = (
    b"\x00",
    b"\x01",  # -1
    b"\x80\x00",  # 0, padded
    b"\x84\x00",  # 2, padded
    b"\xff" * 10,
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # the most negative long
    b"\xed\xa0\x80",  # a lone surrogate
    b"\xc0\x80",  # U+0000, overlong
    b"\xe2\x82",  # the start of a character
    b"\xac",  # the end of one
)


def avro_long(value: int, padding: int = 0) -> bytes:
    """An Avro long with `padding` more bytes than it needs: legal, but not canonical."""
    remaining = (value << 1) ^ (value >> 63)
    groups = []
    while remaining > 0x7F:
        groups.append(remaining & 0x7F)
        remaining >>= 7
    groups += [remaining, *[0] * padding]
    return bytes([group | 0x80 for group in groups[:-1]] + [groups[-1]])


def avro_text(value: str | None, padding: int = 0) -> bytes:
    """An Avro string."""
    encoded = (value or "").encode()
    return avro_long(len(encoded), padding) + encoded


def handwritten(
    request: CJAssessmentRequested,
    version: int = 2,
    *,
    padding: int = 0,
    blocks: int = 1,
    with_block_sizes: bool = False,
) -> bytes:
    """A framed CJAssessmentRequested of this version, as another producer may write it.

    Every varint has `padding` more bytes than it needs, and the essays are in `blocks` blocks. If with_block_sizes is
    set, the blocks have negative counts and state their sizes in bytes.
    """

    def text(value: str | None) -> bytes:
        return avro_text(value, padding)

    def optional(value: str | None) -> bytes:
        return avro_long(0, padding) if value is None else avro_long(1, padding) + text(value)

    parts = [
        b"\x00" + {1: 1_000_000_008, 2: 1_000_000_012}[version].to_bytes(4, "big"),
        text(request.event_id),
        avro_long(request.occurred_at_ms, padding),
        *map(text, (request.source_service, request.correlation_id, request.batch_id)),
        optional(request.assignment_id),
        *map(text, (request.course_code, request.language)),
        *map(optional, (request.student_prompt_ref, request.user_id, request.org_id)),
        optional(request.llm_config_overrides),
    ]
    for n in range(blocks):
        block = _block(request.essays, n, blocks)
        if not block:
            continue
        body = b"".join(text(essay.essay_id) + text(essay.text_storage_id) for essay in block)
        if with_block_sizes:
            parts += [avro_long(-len(block), padding), avro_long(len(body), padding), body]
        else:
            parts += [avro_long(len(block), padding), body]
    parts.append(avro_long(0, padding))
    if version == 2:
        due_at_ms = request.due_at_ms
        parts.append(avro_long(0 if due_at_ms is None else 1, padding))
        parts.append(b"" if due_at_ms is None else avro_long(due_at_ms, padding))
    return b"".join(parts)


def _block(all_essays: tuple[Essay, ...], n: int, blocks: int) -> tuple[Essay, ...]:
    count = len(all_essays)
    return all_essays[count * n // blocks : count * (n + 1) // blocks]


def avro_fields(value: Any) -> Any:
    """An event as a dictionary of what its schema has, so without the anchors of a context and its components."""
    if isinstance(value, tuple):
        return [avro_fields(one) for one in value]
    if not is_dataclass(value):
        return value
    return {
        one.name: avro_fields(getattr(value, one.name))
        for one in fields(value)
        if one.metadata != NOT_IN_AVRO
    }
