"""A request's outcome in bytes, in two spellings: by decoding and encoding, and by splicing. Pure.

No clock and no random id: the same request against the same context gives the same bytes, whichever spelling
wrote them. The layout of both outcome records is: head (event id, recipe, the request's coordinates), what
its context says, the request.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from processors.recipes import RECIPE, RECIPES, Recipe
from processors.resolve import Policy, Prepared, Unresolved, resolve, scope_key_for
from processors.splice import FRAME_BYTES, walk
from schemas.codec import Codec
from schemas.errors import Malformed
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
    Coordinates,
    Outcome,
    ProcessingMetadata,
    Provenance,
    UploadUsed,
)
from schemas.topics import MAX_REQUEST_BYTES
from tables.context import live

CACHED = 20_000
NULL, PRESENT = b"\0", b"\x02"  # the branches of an optional value in Avro
END_OF_ARRAY = b"\0"
Resolution = Prepared | Unresolved


def event_id_of(request_at: Coordinates) -> str:
    """The outcome's id: its request's coordinates, so that a repeat is told by it."""
    return str(request_at)


def outcome_of(
    request: CJAssessmentRequested,
    at: Coordinates,
    resolution: Resolution,
    recipe: int = RECIPE,
) -> Outcome:
    """The outcome event of a resolved request; the plain spelling."""
    explicit = request.student_prompt_ref
    provenance = _provenance(at, resolution.context, brings_prompt=explicit is not None)
    if isinstance(resolution, Unresolved):
        return CJBatchUnresolved(
            event_id=event_id_of(at),
            recipe=recipe,
            provenance=provenance,
            scope_key=resolution.scope_key,
            missing=resolution.missing,
            request=request,
        )
    return CJBatchPrepared(
        event_id=event_id_of(at),
        recipe=recipe,
        provenance=provenance,
        processing_metadata=_metadata(resolution, explicit),
        request=request,
    )


def _provenance(
    at: Coordinates, context: AssignmentContext | None, *, brings_prompt: bool
) -> Provenance:
    return Provenance(
        request=at,
        instructions=_used(context, "instructions"),
        student_prompt=None if brings_prompt else _used(context, "student_prompt"),
        judge_rubric=_used(context, "judge_rubric"),
    )


def _used(context: AssignmentContext | None, role: str) -> UploadUsed | None:
    component = live(context, role)
    if component is None or component.sha256 is None:
        return None
    return UploadUsed(
        source=component.source,
        version=component.version,
        event_id=component.event_id,
        sha256=component.sha256,
    )


def _metadata(resolution: Prepared, explicit: str | None) -> ProcessingMetadata:
    instructions = live(resolution.context, "instructions")
    prompt = live(resolution.context, "student_prompt")
    rubric = live(resolution.context, "judge_rubric")
    found = prompt.storage_id if prompt else None
    return ProcessingMetadata(
        context_source=resolution.source,
        instructions_storage_id=instructions.storage_id if instructions else None,
        judge_rubric_storage_id=rubric.storage_id if rubric else None,
        grade_scale=instructions.grade_scale if instructions else None,
        context_origin=instructions.context_origin if instructions else None,
        prompt_source="request" if explicit else "assignment" if found else "none",
        student_prompt_storage_id=explicit or found,
    )


class Answer(NamedTuple):
    """An outcome as it goes out: what it rests on, and its framed bytes."""

    resolution: Resolution
    value: bytes


class _Spliced(NamedTuple):
    """The bytes of one context, kept for as long as the context is the same object."""

    context: AssignmentContext | None
    resolution: Resolution
    frame: bytes
    middle: bytes


class Answers:
    """Outcomes of requests against a table of contexts; the fast path where it holds.

    `context_of` gives the context of a scope key: the same object for as long as it is unchanged. Another recipe
    than that of the day makes an earlier release's outcomes again.
    """

    def __init__(
        self,
        codec: Codec,
        policy: Policy,
        context_of: Callable[[str], AssignmentContext | None],
        recipe: int = RECIPE,
    ) -> None:
        self._codec = codec
        self._policy = policy
        self._context_of = context_of
        self._recipe: Recipe = RECIPES[recipe]
        self._spliced: dict[tuple[str, bool], _Spliced] = {}

    def answer(self, payload: bytes | None, at: Coordinates) -> Answer:
        """The request's outcome. Raises BadRecord where the bytes are no valid request."""
        if payload is not None and len(payload) > MAX_REQUEST_BYTES:
            raise Malformed(f"too large: {len(payload)} bytes, allowed are {MAX_REQUEST_BYTES}")
        return self.spliced(payload, at) or self.encoded(payload, at)

    def encoded(self, payload: bytes | None, at: Coordinates) -> Answer:
        """The slow path, which takes every valid request: decode, resolve, encode."""
        request = self._codec.decode_as(CJAssessmentRequested, payload)
        context = self._context_of(scope_key_for(request))
        resolution = resolve(request, context, self._policy)
        outcome = outcome_of(request, at, resolution, self._recipe.number)
        return Answer(resolution, self._codec.encode(outcome, self._recipe.outcome))

    def spliced(self, payload: bytes | None, at: Coordinates) -> Answer | None:
        """The fast path: the request's own bytes behind those of its context, or None."""
        if payload is None:
            return None
        version = self._codec.version_of(CJAssessmentRequested, payload)
        behind = self._recipe.spliced.get(version)
        asked = None if behind is None else walk(payload, version)
        if behind is None or asked is None:
            return None
        scope_key = scope_key_for(asked)
        context = self._context_of(scope_key)
        explicit = asked.student_prompt_ref
        known = self._spliced.get((scope_key, explicit is not None))
        if known is None or known.context is not context:
            known = self._splice(
                scope_key, resolve(asked, context, self._policy), context, explicit
            )
        parts = [known.frame, head_of(at, self._recipe.number), known.middle]
        if explicit is not None and isinstance(known.resolution, Prepared):
            parts.append(_optional(explicit))
        parts += (payload[FRAME_BYTES:], behind)
        return Answer(known.resolution, b"".join(parts))

    def _splice(
        self,
        scope_key: str,
        resolution: Resolution,
        context: AssignmentContext | None,
        explicit: str | None,
    ) -> _Spliced:
        standing_in = replace(STAND_IN, student_prompt_ref=explicit)
        whole = outcome_of(standing_in, NOWHERE, resolution, self._recipe.number)
        frame = self._codec.frame_of(type(whole), self._recipe.outcome)
        middle = _middle_of(whole)
        spliced = _Spliced(context, resolution, frame, middle)
        if len(self._spliced) >= CACHED:
            self._spliced.clear()
        self._spliced[(scope_key, explicit is not None)] = spliced
        return spliced


NOWHERE = Coordinates("", 0, 0)
STAND_IN = CJAssessmentRequested(
    event_id="",
    occurred_at_ms=0,
    source_service="",
    correlation_id="",
    batch_id="",
    course_code="",
    language="",
    essays=(),
)


def head_of(at: Coordinates, recipe: int) -> bytes:
    """Event id, recipe and request coordinates in Avro."""
    of_partition = _head_within(recipe, at.topic, at.partition)
    return b"".join((_text(event_id_of(at)), of_partition, _long(at.offset)))


@lru_cache(maxsize=1000)
def _head_within(recipe: int, topic: str, partition: int) -> bytes:
    return b"".join((_long(recipe), _text(topic), _long(partition)))


def _middle_of(outcome: Outcome) -> bytes:
    """What its context says, in Avro; without the prompt that a request brings, which stands last."""
    told = outcome.provenance
    uploads = b"".join(map(_upload, (told.instructions, told.student_prompt, told.judge_rubric)))
    if isinstance(outcome, CJBatchUnresolved):
        count = _long(len(outcome.missing)) if outcome.missing else b""
        missing = b"".join((count, *map(_text, outcome.missing), END_OF_ARRAY))
        return b"".join((uploads, _text(outcome.scope_key), missing))
    metadata = outcome.processing_metadata
    brought = outcome.request.student_prompt_ref is not None
    return b"".join(
        (
            uploads,
            _text(metadata.context_source),
            _optional(metadata.instructions_storage_id),
            _optional(metadata.judge_rubric_storage_id),
            _optional(metadata.grade_scale),
            _optional(metadata.context_origin),
            _text(metadata.prompt_source),
            b"" if brought else _optional(metadata.student_prompt_storage_id),
        )
    )


def _upload(used: UploadUsed | None) -> bytes:
    if used is None:
        return NULL
    at = used.source
    return b"".join(
        (
            PRESENT,
            _text(at.topic),
            _long(at.partition),
            _long(at.offset),
            _long(used.version),
            _text(used.event_id),
            _text(used.sha256),
        )
    )


def _optional(value: str | None) -> bytes:
    return NULL if value is None else PRESENT + _text(value)


def _long(value: int) -> bytes:
    """Avro's long for a non-negative value: zigzag, then seven bits a byte, lowest first."""
    if value < 64:
        return bytes((value << 1,))
    left = value << 1
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _long(len(encoded)) + encoded
