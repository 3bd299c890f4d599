"""An outcome of which everything is checked but its context part.

An outcome consists of its frame and head, its context part, and the bytes of its request. Here all but the context
part is checked, against the requests alone; the context part needs the uploads of the scope, and is checked with them.
"""

from typing import NamedTuple

from processors.kafka.records import LogRecord
from processors.outcomes.encoding import encode_head
from processors.outcomes.positions_header import POSITIONS_HEADER
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import ScannedFields, scan_request
from processors.outcomes.resolve import scope_key_for
from schemas.codec import FRAME, Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord
from schemas.events import CJAssessmentRequested, CJBatchPrepared, CJBatchUnresolved
from schemas.topics import MAX_REQUEST_BYTES, Topics
from tools.audit.check.request_table import RequestTable

DIGITS = 20  # a number with so many digits or more is no offset
Headers = list[tuple[str, bytes | None]]


class OutcomeClaim(NamedTuple):
    """An outcome that is right if its context part is right, with all that the full check needs."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    positions: bytes  # the value of its positions header
    appended_at_ms: int
    request_topic: str
    request_offset: int
    requested_at_ms: int
    request_frame: bytes
    request_fields: ScannedFields
    context_start: int  # the context part ends at request_start
    request_start: int  # the request's bytes in the value, without its frame
    request_end: int

    @property
    def context_part(self) -> bytes:
        """The encoded context."""
        return self.value[self.context_start : self.request_start]

    def outcome(self) -> LogRecord:
        """The outcome as a record of the log."""
        return LogRecord(
            Coordinates(self.topic, self.partition, self.offset),
            self.key,
            self.value,
            ((POSITIONS_HEADER, self.positions),),
            self.appended_at_ms,
        )

    def request(self) -> LogRecord:
        """Its request without the headers, which only a dead letter has."""
        return LogRecord(
            Coordinates(self.request_topic, self.partition, self.request_offset),
            self.key,
            self.request_frame + self.value[self.request_start : self.request_end],
            (),
            self.requested_at_ms,
        )


class OutcomeWithRequest(NamedTuple):
    """An outcome that needs the full check, and its request."""

    outcome: LogRecord
    request: LogRecord


def scope_key_of(outcome: OutcomeWithRequest, codec: Codec) -> bytes:
    """The scope whose uploads the full check needs; empty if the request is not readable and it needs none."""
    try:
        return scope_key_for(codec.decode_as(CJAssessmentRequested, outcome.request.value)).encode()
    except BadRecord:
        return b""


class ClaimReader:
    """Turns the outcomes of one partition into claims, given its requests."""

    def __init__(
        self, codec: Codec, topics: Topics, requests: RequestTable, partition: int
    ) -> None:
        self._codec = codec
        self._requests = requests
        self._partition = partition
        self._topic = topics.requests.name
        self._prefix = f"{self._topic}/{partition}@".encode()
        self._frames = {
            topics.batches.name: codec.frame_of(CJBatchPrepared, RECIPES[RECIPE].outcome),
            topics.unresolved.name: codec.frame_of(CJBatchUnresolved, RECIPES[RECIPE].outcome),
        }

    def claim(
        self,
        topic: str,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        appended_at_ms: int,
    ) -> OutcomeClaim | None:
        """The outcome as a claim; None if it needs the full check."""
        frame = self._frames.get(topic)
        if value is None or frame is None or headers is None or len(headers) != 1:
            return None
        ((name, positions),) = headers
        if name != POSITIONS_HEADER or positions is None:
            return None
        request_offset = self.offset_in(value)
        if request_offset is None or request_offset not in self._requests:
            return None
        version = self._codec.version_of(
            CJAssessmentRequested, self._requests.frame(request_offset)
        )
        suffix = RECIPES[RECIPE].spliced.get(version)
        if suffix is None:
            return None
        request = self._requests.embedded_request(request_offset, key, value, len(suffix))
        if request is None or len(request) > MAX_REQUEST_BYTES:
            return None
        request_fields = scan_request(request, version)
        if request_fields is None:
            return None
        at = Coordinates(self._topic, self._partition, request_offset)
        head = frame + encode_head(at, RECIPE)
        if not (value.startswith(head) and value.endswith(suffix)):
            return None
        request_end = len(value) - len(suffix)
        request_start = request_end - len(request) + FRAME.size
        if request_start < len(head):
            return None
        return OutcomeClaim(
            topic,
            self._partition,
            offset,
            key,
            value,
            positions,
            appended_at_ms,
            self._topic,
            request_offset,
            self._requests.appended_at_ms(request_offset),
            request[: FRAME.size],
            request_fields,
            len(head),
            request_start,
            request_end,
        )

    def offset_in(self, value: bytes) -> int | None:
        """The offset in the event id, the first field: the request's coordinates as text; None if there is none."""
        start = FRAME.size + 1
        if len(value) <= start:
            return None
        size = value[start - 1]
        if size > 127:  # a varint of two bytes: the text has 64 bytes or more
            size += (value[start] - 1) << 7
            start += 1
        text = value[start : start + (size >> 1)]
        digits = text[len(self._prefix) :]
        is_of_this_partition = (
            text.startswith(self._prefix) and digits.isdigit() and len(digits) < DIGITS
        )
        return int(digits) if is_of_this_partition else None
