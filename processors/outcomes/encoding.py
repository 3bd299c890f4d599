"""Outcomes in Avro, piece by piece. Pure.

The layout of both outcome records is: head (event id, recipe, the request's coordinates), what its context says (the
middle), the request. A property test holds what is spelled here equal to what the codec encodes.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from processors.outcomes.resolve import Prepared, Unresolved
from schemas.coordinates import Coordinates
from schemas.events import AssignmentContext, Component
from tables.context import live

NULL, PRESENT = b"\0", b"\x02"  # the branches of an optional value
END_OF_ARRAY = b"\0"


class EncodedUpload(NamedTuple):
    """What outcomes tell of a live upload: the upload used, and what the metadata say of its text."""

    used: bytes
    storage_id: bytes
    grade_scale: bytes = NULL
    context_origin: bytes = NULL


class EncodedRoles(NamedTuple):
    """The same of each role."""

    instructions: EncodedUpload
    student_prompt: EncodedUpload
    judge_rubric: EncodedUpload


NOTHING = EncodedUpload(NULL, NULL)


def event_id_of(request_at: Coordinates) -> str:
    """The outcome's id: its request's coordinates, so that a repeat is told by it."""
    return str(request_at)


def encode_head(at: Coordinates, recipe: int) -> bytes:
    """Event id, recipe and request coordinates."""
    of_partition = _head_within(recipe, at.topic, at.partition)
    return b"".join((text(event_id_of(at)), of_partition, long(at.offset)))


@lru_cache(maxsize=1000)
def _head_within(recipe: int, topic: str, partition: int) -> bytes:
    return b"".join((long(recipe), text(topic), long(partition)))


def encode_context_part(
    resolution: Prepared[Any] | Unresolved[Any], told: EncodedRoles, *, brings_prompt: bool
) -> bytes:
    """What its context says; without the prompt that a request brings, which stands last."""
    instructions, prompt, rubric = told
    uploads = (instructions.used, NULL if brings_prompt else prompt.used, rubric.used)
    if isinstance(resolution, Unresolved):
        count = long(len(resolution.missing)) if resolution.missing else b""
        missing = (count, *map(text, resolution.missing), END_OF_ARRAY)
        return b"".join((*uploads, text(resolution.scope_key), *missing))
    found = "none" if prompt.storage_id == NULL else "assignment"
    return b"".join(
        (
            *uploads,
            word(resolution.source),
            instructions.storage_id,
            rubric.storage_id,
            instructions.grade_scale,
            instructions.context_origin,
            word("request" if brings_prompt else found),
            b"" if brings_prompt else prompt.storage_id,
        )
    )


def encode_roles(context: AssignmentContext) -> EncodedRoles:
    """What a context says, role by role."""
    return EncodedRoles(
        encode_upload(live(context, "instructions")),
        encode_upload(live(context, "student_prompt")),
        encode_upload(live(context, "judge_rubric")),
    )


def encode_upload(component: Component | None) -> EncodedUpload:
    """What outcomes tell of a live component, or of none."""
    if component is None:
        return NOTHING
    used = NULL
    if component.sha256 is not None:
        of_event = long(component.version), text(component.event_id), text(component.sha256)
        at = component.source
        used = used_at(at.topic, at.partition, at.offset, *of_event)
    return EncodedUpload(
        used,
        optional(component.storage_id),
        optional(component.grade_scale),
        optional(component.context_origin),
    )


def used_at(
    topic: str, partition: int, offset: int, version: bytes, event_id: bytes, sha256: bytes
) -> bytes:
    """An upload used, of that version and id and with that sum, each as its event has them in Avro."""
    return b"".join((_present_within(topic, partition), long(offset), version, event_id, sha256))


@lru_cache(maxsize=1000)
def _present_within(topic: str, partition: int) -> bytes:
    return b"".join((PRESENT, text(topic), long(partition)))


def long(value: int) -> bytes:
    """A long that is not negative: zigzag, then seven bits a byte, lowest first."""
    if value < 64:
        return bytes((value << 1,))
    left = value << 1
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def text(value: str) -> bytes:
    """A string: its length in bytes, and so many."""
    encoded = value.encode()
    return long(len(encoded)) + encoded


word = lru_cache(maxsize=100)(text)  # of a few


def optional(value: str | None) -> bytes:
    """A string or null."""
    return NULL if value is None else PRESENT + text(value)
