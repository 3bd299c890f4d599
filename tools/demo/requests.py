"""The demo's 2,000 CJ requests, valid and damaged; the same seed gives the same requests. Pure.

They name the assignments of `demo_data`. Valid requests are made from plain events, from JSON event envelopes, and
in Avro encodings that are valid but not canonical, which take the slow path.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from uuid import UUID

from processors.outcomes.encoding import text
from schemas.codec import FRAME, Codec
from schemas.events import CJAssessmentRequested, Essay, StudentPromptDeleted
from schemas.field_limits import MAX_ESSAYS
from schemas.topics import MAX_REQUEST_BYTES
from tools.inputs import request_of
from tools.json_files import JsonValue

REQUESTS = 2000
PARTS = 3  # before the updates, around them, after the deletion
AUTUMN_MS = 1_788_250_000_000
BODY = FRAME.size  # the offset of the first field, event_id


@dataclass(frozen=True, slots=True)
class Task:
    """An assignment or only a course, its share of the requests, and how many of them bring their own prompt."""

    assignment_id: str | None
    course_code: str
    language: str
    weight: int
    explicit: float = 0.12


TASKS = (
    Task("eng5-letter-to-the-editor", "ENG5", "en", 30),
    Task("sve1-debattartikel", "SVE1", "sv", 25),
    Task("sve2-novellanalys", "SVE2", "sv", 15),
    Task("eng6-speech-analysis", "ENG6", "en", 10),
    # its prompt is uploaded late: its requests wait
    Task("his1b-kallkritik", "HIS1b", "sv", 6, 0.4),
    Task(None, "ENG5", "en", 7),  # resolved with the course's instructions
    Task(None, "FRA3", "fr", 4),  # guests: nothing was uploaded for the course
    Task("eng5-book-reveiw", "ENG5", "en", 3, 0.3),  # a typing error: nobody uploaded it
)


@dataclass(frozen=True, slots=True)
class StoryRequest:
    """One record to append: its part of the story, form, key and bytes, and how they are damaged."""

    part: int
    form: str
    key: bytes | None
    value: bytes | None
    damage: str | None = None


def story(seed: int, codec: Codec) -> list[StoryRequest]:
    """Every request, in sending order."""
    random = Random(seed)
    damaged_at = dict(
        zip(sorted(random.sample(range(REQUESTS), len(DAMAGES))), DAMAGES, strict=True)
    )
    return [
        _story_request(number, damaged_at.get(number), random, codec) for number in range(REQUESTS)
    ]


def _story_request(number: int, damage: str | None, random: Random, codec: Codec) -> StoryRequest:
    request = _request(number, random)
    part = number * PARTS // REQUESTS
    key = None if random.random() < 0.02 else request.batch_id.encode()  # any key works
    if damage is not None:
        return StoryRequest(part, "damaged", key, DAMAGES[damage](request, codec), damage)
    (form,) = random.choices(list(FORMS), weights=[70, 18, 4, 4, 4])
    return StoryRequest(part, form, key, FORMS[form](request, codec))


def _request(number: int, random: Random) -> CJAssessmentRequested:
    (task,) = random.choices(TASKS, weights=[task.weight for task in TASKS])
    school = random.randrange(1, 9)
    overrides = {"model": "judge-small", "temperature": random.randrange(0, 5) / 10}
    return CJAssessmentRequested(
        event_id=_uuid(random),
        occurred_at_ms=AUTUMN_MS + number * 1500 + random.randrange(1000),
        source_service="batch-orchestrator",
        correlation_id=_uuid(random),
        batch_id=f"{task.course_code.lower()}-{number:04d}",
        assignment_id=task.assignment_id,
        course_code=task.course_code,
        language=task.language,
        student_prompt_ref=random.randbytes(32).hex() if random.random() < task.explicit else None,
        user_id=f"teacher-{school}{random.randrange(10)}" if random.random() < 0.9 else None,
        org_id=f"school-{school}" if random.random() < 0.8 else None,
        llm_config_overrides=_json(overrides) if random.random() < 0.25 else None,
        essays=_essays(random.randrange(5, 31), random),
    )


def _uuid(random: Random) -> str:
    return str(UUID(bytes=random.randbytes(16), version=4))


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _essays(count: int, random: Random) -> tuple[Essay, ...]:
    return tuple(
        Essay(essay_id=f"essay-{number:02d}", text_storage_id=random.randbytes(32).hex())
        for number in range(1, count + 1)
    )


def _envelope(request: CJAssessmentRequested, codec: Codec) -> bytes:
    """The bytes of a request that arrived as a JSON event."""
    occurred_at = datetime.fromtimestamp(request.occurred_at_ms / 1000, UTC)
    document = {
        "event_id": request.event_id,
        "event_type": "CJAssessmentRequested",
        "event_timestamp": occurred_at.isoformat(timespec="milliseconds"),
        "source_service": request.source_service,
        "correlation_id": request.correlation_id,
        "data": {
            "entity_id": request.batch_id,
            "essays_for_cj": [
                {"essay_id": essay.essay_id, "text_storage_id": essay.text_storage_id}
                for essay in request.essays
            ],
            "language": request.language,
            "course_code": request.course_code,
            "student_prompt_ref": request.student_prompt_ref,
            "llm_config_overrides": json.loads(request.llm_config_overrides or "null"),
            "assignment_id": request.assignment_id,
            "user_id": request.user_id,
            "org_id": request.org_id,
        },
    }
    return codec.encode(request_of(JsonValue("demo", 1, document), 0, str).request)


def _padded(request: CJAssessmentRequested, codec: Codec) -> bytes:
    """The first length encoded in two bytes instead of one."""
    payload = codec.encode(request)
    return payload[:BODY] + bytes([payload[BODY] | 0x80, 0]) + payload[BODY + 1 :]


def _split(request: CJAssessmentRequested, codec: Codec) -> bytes:
    """The essays in two blocks."""
    head, essays = _head_and_essays(request, codec)
    half = len(essays) // 2
    first, second = essays[:half], essays[half:]
    return b"".join((head, _block(first), _block(second), b"\0"))


def _sized(request: CJAssessmentRequested, codec: Codec) -> bytes:
    """The essays in one block with its byte size: a negative count, then the size."""
    head, essays = _head_and_essays(request, codec)
    items = b"".join(essays)
    return b"".join((head, avro_long(-len(essays)), avro_long(len(items)), items, b"\0"))


def _head_and_essays(request: CJAssessmentRequested, codec: Codec) -> tuple[bytes, list[bytes]]:
    """The bytes before the essays, and the bytes of each essay, in schema version 1, where the essays come last."""
    essays = [text(essay.essay_id) + text(essay.text_storage_id) for essay in request.essays]
    return codec.encode(replace(request, essays=()), 1)[:-1], essays


def _block(items: list[bytes]) -> bytes:
    return avro_long(len(items)) + b"".join(items)


def avro_long(value: int) -> bytes:
    """Avro's long: zigzag, then seven bits per byte, lowest first."""
    left = value << 1 if value >= 0 else -value * 2 - 1
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


Form = Callable[[CJAssessmentRequested, Codec], bytes]
FORMS: dict[str, Form] = {
    "plain": lambda request, codec: codec.encode(request),
    "envelope": _envelope,
    "padded": _padded,
    "split": _split,
    "sized": _sized,
}


def _with_damaged_bytes(damage: Callable[[bytes], bytes | None]) -> Callable[..., bytes | None]:
    """Damage the bytes of a valid request."""
    return lambda request, codec: damage(codec.encode(request))


def _over_limit(**changes: object) -> Callable[..., bytes | None]:
    """Well-formed bytes of a request that exceeds a limit."""
    return lambda request, codec: codec.encode(replace(request, **changes))


def _essays_of_length(count: int, length: int = 1) -> tuple[Essay, ...]:
    return tuple(
        Essay(essay_id=str(number), text_storage_id="x" * length) for number in range(count)
    )


def _another_event(request: CJAssessmentRequested, codec: Codec) -> bytes:
    return codec.encode(
        StudentPromptDeleted(
            event_id=request.event_id,
            assignment_id="eng5-letter-to-the-editor",
            version=1,
            actor="english-team",
            correlation_id=request.correlation_id,
            occurred_at_ms=request.occurred_at_ms,
        )
    )


def _unknown_branch(request: CJAssessmentRequested, codec: Codec) -> bytes:
    head, essays = _head_and_essays(replace(request, llm_config_overrides=None), codec)
    return head[:-1] + avro_long(4) + _block(essays) + b"\0"


DAMAGES: dict[str, Callable[[CJAssessmentRequested, Codec], bytes | None]] = {
    "no value": _with_damaged_bytes(lambda payload: None),
    "empty": _with_damaged_bytes(lambda payload: b""),
    "cut inside the frame": _with_damaged_bytes(lambda payload: payload[:3]),
    "JSON where Avro belongs": lambda request, _: _json({"batch_id": request.batch_id}).encode(),
    "another magic byte": _with_damaged_bytes(lambda payload: b"\x01" + payload[1:]),
    "unknown schema id": _with_damaged_bytes(lambda payload: FRAME.pack(0, 42) + payload[BODY:]),
    "another event": _another_event,
    "cut in half": _with_damaged_bytes(lambda payload: payload[: len(payload) // 2]),
    "last byte missing": _with_damaged_bytes(lambda payload: payload[:-1]),
    "bytes left over": _with_damaged_bytes(lambda payload: payload + b"\0"),
    "not UTF-8": _with_damaged_bytes(
        lambda payload: payload[: BODY + 1] + b"\xff\xfe" + payload[BODY + 3 :]
    ),
    "negative length": _with_damaged_bytes(
        lambda payload: payload[:BODY] + avro_long(-37) + payload[BODY + 1 :]
    ),
    "length beyond the end": _with_damaged_bytes(
        lambda payload: payload[:BODY] + avro_long(1 << 40) + payload[BODY + 1 :]
    ),
    "length without an end": _with_damaged_bytes(
        lambda payload: payload[:BODY] + b"\xff" * 11 + payload[BODY + 1 :]
    ),
    "unknown union branch": _unknown_branch,
    "one essay": _over_limit(essays=_essays_of_length(1)),
    "too many essays": _over_limit(essays=_essays_of_length(MAX_ESSAYS + 1)),
    "course code too long": _over_limit(course_code="ENG5" * 13),
    "slash in the assignment": _over_limit(assignment_id="eng5/letter"),
    "more bytes than a request may have": _over_limit(
        essays=_essays_of_length(4000, MAX_REQUEST_BYTES // 4000)
    ),
}
