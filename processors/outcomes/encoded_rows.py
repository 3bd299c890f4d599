"""The context of a scope in the encoding of outcomes, from the replica's rows: nothing is decoded. Pure.

A row has the bytes of an upload, and an outcome has the same strings and numbers in the same encoding. A row that the
scan does not accept takes the slow path: it is decoded and encoded.
"""

from collections.abc import Callable, Sequence
from functools import cache

from processors.outcomes.encoding import (
    DELETED,
    EncodedContext,
    EncodedPart,
    encode_upload_used,
    uploaded_part,
)
from schemas.events import ROLE_OF, ROLES
from tables.replica import HEAD, ROW_CODEC
from tables.scan.layout import FRAME_BYTES, Layout, is_flat, layout_of
from tables.scan.plain import SHORT, Scan, compile_scan

# the rows of some scope keys, as many as there are roles for each; None for a role without an upload
RowsOf = Callable[[Sequence[bytes]], Sequence[bytes | None]]
CAPTURED = ("version", "event_id", "storage_id", "sha256", "grade_scale", "context_origin")


@cache
def row_layouts() -> list[tuple[bytes, Layout, int]]:
    """The frame of each kind of upload that a row may have, with its layout and the number of its role."""
    return [
        (frame, layout_of(schema, CAPTURED), ROLES.index(role))
        for frame, (event_class, schema) in ROW_CODEC.schemas().items()
        if (role := ROLE_OF.get(event_class)) in ROLES and is_flat(schema)
    ]


@cache
def _scans() -> dict[tuple[int, bytes], Scan]:
    return {(role, frame): compile_scan(layout) for frame, layout, role in row_layouts()}


def encoded_context(rows: Sequence[bytes | None], topics: Sequence[str]) -> EncodedContext | None:
    """The context of one scope with these rows, which come from these topics; None: take the slow path."""
    parts = list[EncodedPart | None]()
    for role, (row, topic) in enumerate(zip(rows, topics, strict=True)):
        part = None if row is None else _part(role, row, topic)
        if row is not None and part is None:
            return None
        parts.append(part)
    return EncodedContext(*parts)


def _part(role: int, row: bytes, topic: str) -> EncodedPart | None:
    upload = row[HEAD.size :]
    scan = _scans().get((role, upload[:FRAME_BYTES]))
    places = scan(upload) if scan is not None else None
    if places is None:
        return None
    partition, offset, _ = HEAD.unpack_from(row)
    return encoded_part(upload, places, topic, partition, offset)


def encoded_part(
    upload: bytes, places: Sequence[int], topic: str, partition: int, offset: int
) -> EncodedPart:
    """The upload or deletion at these coordinates, of which a scan found the places of `CAPTURED`."""
    version, version_end, event, event_end, text, text_end, sha256, sha256_end, *more = places
    if text < 0:
        return DELETED
    used = encode_upload_used(
        topic,
        partition,
        offset,
        upload[version:version_end],
        _text(upload, event, event_end),
        _text(upload, sha256, sha256_end),
    )
    scale, scale_end, origin, origin_end = more
    return uploaded_part(
        used,
        _text(upload, text, text_end),
        _text(upload, scale, scale_end),
        _text(upload, origin, origin_end),
    )


def _text(upload: bytes, start: int, end: int) -> bytes:
    """A captured text with its length before it; empty if there is none."""
    return upload[start - (1 if end - start < SHORT else 2) : end] if start >= 0 else b""
