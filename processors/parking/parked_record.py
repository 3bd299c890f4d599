"""Reads one record of the parked topic: which request it is about, and what it says about it. Pure.

Any producer may write to the topic, so nothing here is trusted: `entry_check` compares it with the request log.
"""

from typing import NamedTuple

from processors.outcomes.outcome_builder import check_size
from processors.outcomes.request_scan import scan_request
from processors.outcomes.resolve import RequestFields, scope_key_for
from processors.parking.parked_index import ParkedEntry
from schemas.codec import Codec
from schemas.coordinates import Coordinates, coordinates_from
from schemas.errors import BadRecord, Malformed
from schemas.events import CJAssessmentRequested, ParkedRequest

CLOCK_KEY = b"clock"  # key of a tombstone without an entry: its append time is the broker's time
MAX_PATIENCE_MS = 30 * 86_400_000  # the longest that the settings allow
CLOCK_TOLERANCE_MS = 60_000  # how much the clocks of brokers may differ
AT_ONCE = 0  # a deadline that has passed: the request is checked at once


class Waiting(NamedTuple):
    """A valid entry, and the fields of its request."""

    parked: ParkedRequest
    fields: RequestFields


def request_of_key(key: bytes | None, requests: str, partition: int) -> Coordinates:
    """The request that a record of this partition is about. Raises Malformed if its key names none."""
    try:
        at = coordinates_from((key or b"").decode())
    except (UnicodeDecodeError, Malformed):
        raise Malformed("its key is not the coordinates of a request") from None
    if (at.topic, at.partition) != (requests, partition) or str(at).encode() != key:
        raise Malformed("its key names no request of its partition")
    return at


def read_entry(value: bytes | None, at: Coordinates, codec: Codec) -> Waiting:
    """The entry of the request at these coordinates, which its key names. Raises BadRecord."""
    parked = codec.decode_as(ParkedRequest, value)
    if parked.request_at != at:
        raise Malformed("its key does not name its request")
    return Waiting(parked, request_fields(parked.request, codec))


def request_fields(request: bytes | None, codec: Codec) -> RequestFields:
    """The fields of a request that decide when it is due. Raises BadRecord if it is not valid."""
    check_size(request)
    payload = request or b""
    scanned = scan_request(payload, codec.version_of(CJAssessmentRequested, payload))
    return scanned or codec.decode_as(CJAssessmentRequested, request)


def content_of(key: bytes | None, request: bytes | None) -> int:
    """A hash of a request's key and value, for comparison within this process."""
    return hash((key, request))


def entry_of(waiting: Waiting, parked_offset: int, appended_at_ms: int) -> ParkedEntry:
    """The entry for the index; appended_at_ms: of the entry's own record, 0 if the broker did not set it.

    The scope is that of the request. A deadline that no setting can give is not believed.
    """
    parked, fields = waiting
    is_possible = 0 < parked.deadline_at_ms - parked.appended_at_ms <= MAX_PATIENCE_MS and (
        not appended_at_ms or parked.appended_at_ms <= appended_at_ms + CLOCK_TOLERANCE_MS
    )
    return ParkedEntry(
        request_at=parked.request_at,
        parked_offset=parked_offset,
        scope_key=scope_key_for(fields),
        brings_prompt=fields.student_prompt_ref is not None,
        deadline_at_ms=parked.deadline_at_ms if is_possible else AT_ONCE,
        content=content_of(parked.request_key, parked.request),
    )


def unreadable_entry(at: Coordinates, parked_offset: int) -> ParkedEntry:
    """The entry of a record that is no valid one; if its request does wait, the request log says for what."""
    return ParkedEntry(at, parked_offset, "", brings_prompt=False, deadline_at_ms=AT_ONCE)


def true_entry(
    entry: ParkedEntry,
    key: bytes | None,
    request: bytes | None,
    appended_at_ms: int,
    own_deadline_ms: int,
    codec: Codec,
) -> ParkedEntry:
    """The entry as its request in the log gives it.

    appended_at_ms: of the request, 0 if the broker did not set it. own_deadline_ms: the deadline under today's policy.
    """
    try:
        fields = request_fields(request, codec)
    except BadRecord:
        return entry  # it will be a dead letter
    waits_ms = entry.deadline_at_ms - appended_at_ms
    is_possible = 0 < waits_ms <= MAX_PATIENCE_MS
    if not appended_at_ms:
        is_possible = entry.deadline_at_ms != AT_ONCE
    return ParkedEntry(
        entry.request_at,
        entry.parked_offset,
        scope_key_for(fields),
        fields.student_prompt_ref is not None,
        entry.deadline_at_ms if is_possible else own_deadline_ms,
        content_of(key, request),
    )
