"""Encodes the parts of an outcome in Avro. Pure.

The layout of both outcome records is: head (event id, recipe, the request's coordinates), context part, request.
A property test checks that these bytes equal those of the codec.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from processors.outcomes.resolve import Prepared, Unresolved
from schemas.coordinates import Coordinates
from schemas.events import AssignmentContext, Component
from tables.context import live

NULL, PRESENT = b"\0", b"\x02"  # the union branches of an optional value
END_OF_ARRAY = b"\0"


class EncodedUpload(NamedTuple):
    """What an outcome contains about a live upload: its UploadUsed, and the metadata of its text."""

    used: bytes
    storage_id: bytes
    grade_scale: bytes = NULL
    context_origin: bytes = NULL


class EncodedRoles(NamedTuple):
    """The encoded upload of each role."""

    instructions: EncodedUpload
    student_prompt: EncodedUpload
    judge_rubric: EncodedUpload


class EncodedPart(NamedTuple):
    """One role's newest upload or deletion."""

    is_deletion: bool
    encoded: EncodedUpload


class EncodedContext(NamedTuple):
    """A scope's context, role by role."""

    instructions: EncodedPart | None
    student_prompt: EncodedPart | None
    judge_rubric: EncodedPart | None


NOTHING = EncodedUpload(NULL, NULL)
DELETED = EncodedPart(is_deletion=True, encoded=NOTHING)


def event_id_of(request_at: Coordinates) -> str:
    """The id of an outcome: the coordinates of its request, so that consumers recognize a duplicate."""
    return str(request_at)


def encode_head(at: Coordinates, recipe: int) -> bytes:
    """The event id, recipe and request coordinates of an outcome."""
    return encode_head_of(recipe, at.topic, at.partition, at.offset)


def encode_head_of(recipe: int, topic: str, partition: int, offset: int) -> bytes:
    """The same, of coordinates that are not an object: making one takes longer than this."""
    start_of_id, middle = _constants_of_head(recipe, topic, partition)
    event_id = b"%b%d" % (start_of_id, offset)
    return b"".join((long(len(event_id)), event_id, middle, long(offset)))


@lru_cache(maxsize=1000)
def _constants_of_head(recipe: int, topic: str, partition: int) -> tuple[bytes, bytes]:
    event_id = event_id_of(Coordinates(topic, partition, 0)).encode()
    return event_id.removesuffix(b"0"), b"".join((long(recipe), text(topic), long(partition)))


def encode_context_part(
    resolution: Prepared[Any] | Unresolved[Any], roles: EncodedRoles, *, brings_prompt: bool
) -> bytes:
    """The context part of an outcome; a prompt that the request brings is not in it but follows it."""
    instructions, prompt, rubric = roles
    uploads = (instructions.used, NULL if brings_prompt else prompt.used, rubric.used)
    if isinstance(resolution, Unresolved):
        return b"".join((*uploads, text(resolution.scope_key), encode_missing(resolution.missing)))
    has_prompt = prompt.storage_id != NULL
    return b"".join(
        (
            *uploads,
            word(resolution.source),
            instructions.storage_id,
            rubric.storage_id,
            instructions.grade_scale,
            instructions.context_origin,
            prompt_source(brings_prompt=brings_prompt, has_prompt=has_prompt),
            b"" if brings_prompt else prompt.storage_id,
        )
    )


def encode_missing(roles: Sequence[str]) -> bytes:
    """The roles that an unresolved batch lacks."""
    count = long(len(roles)) if roles else b""
    return b"".join((count, *map(text, roles), END_OF_ARRAY))


def prompt_source(*, brings_prompt: bool, has_prompt: bool) -> bytes:
    """Where the prompt of a prepared batch comes from: its request, or else its assignment."""
    return word("request" if brings_prompt else "assignment" if has_prompt else "none")


def encode_roles(context: AssignmentContext | None) -> EncodedRoles:
    """The encoded live upload of each role of a context."""
    return EncodedRoles(*(encode_upload(live(context, role)) for role in EncodedRoles._fields))


def encoded_roles(context: EncodedContext | None) -> EncodedRoles:
    """The encoded live upload of each role of an encoded context."""
    instructions, prompt, rubric = context or (None, None, None)
    return EncodedRoles(
        NOTHING if instructions is None else instructions.encoded,
        NOTHING if prompt is None else prompt.encoded,
        NOTHING if rubric is None else rubric.encoded,
    )


def encode_upload(component: Component | None) -> EncodedUpload:
    """The encoded upload of a live component, or of None."""
    if component is None:
        return NOTHING
    used = NULL
    if component.sha256 is not None:
        event_fields = long(component.version), text(component.event_id), text(component.sha256)
        at = component.source
        used = encode_upload_used(at.topic, at.partition, at.offset, *event_fields)
    return EncodedUpload(
        used,
        optional(component.storage_id),
        optional(component.grade_scale),
        optional(component.context_origin),
    )


def uploaded_part(
    used: bytes, storage_id: bytes, grade_scale: bytes, context_origin: bytes
) -> EncodedPart:
    """A live upload, of texts in the encoding of the upload's own bytes; those that it lacks are empty."""
    encoded = EncodedUpload(
        used,
        PRESENT + storage_id if storage_id else NULL,
        PRESENT + grade_scale if grade_scale else NULL,
        PRESENT + context_origin if context_origin else NULL,
    )
    return EncodedPart(is_deletion=False, encoded=encoded)


def encode_upload_used(
    topic: str, partition: int, offset: int, version: bytes, event_id: bytes, sha256: bytes
) -> bytes:
    """An UploadUsed; version, event id and sha256 are passed in Avro, as the upload event has them."""
    return b"".join((_present_partition(topic, partition), long(offset), version, event_id, sha256))


def encode_upload_start(topic: str) -> bytes:
    """How an UploadUsed begins, before the partition: as an optional value, with its topic."""
    return PRESENT + text(topic)


@lru_cache(maxsize=1000)
def _present_partition(topic: str, partition: int) -> bytes:
    return encode_upload_start(topic) + long(partition)


def long(value: int) -> bytes:
    """A non-negative Avro long: zigzag, then seven bits per byte, lowest first."""
    rest = value << 1
    if rest < 1 << 7:
        return bytes((rest,))
    if rest < 1 << 14:
        return bytes((rest & 0x7F | 0x80, rest >> 7))
    if rest < 1 << 21:
        return bytes((rest & 0x7F | 0x80, rest >> 7 & 0x7F | 0x80, rest >> 14))
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def text(value: str) -> bytes:
    """An Avro string: its length in bytes, then the bytes in UTF-8."""
    encoded = value.encode()
    return long(len(encoded)) + encoded


word = lru_cache(maxsize=100)(text)  # for strings with few distinct values


def optional(value: str | None) -> bytes:
    """An Avro union of null and string."""
    return NULL if value is None else PRESENT + text(value)
