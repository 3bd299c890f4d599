"""What an outcome says, once all of it is seen to be right but what it tells of its context. Pure.

An outcome is its frame and head, what it tells of its context (the middle), and its request's own bytes. Everything but
the middle is checked here, against the requests alone; that is left to whoever has the uploads of the scope.
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

DIGITS = 20  # and more are no offset
Headers = list[tuple[str, bytes | None]]


class OutcomeClaim(NamedTuple):
    """An outcome that is right if its context is; with all that it takes to judge it in full."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    positions: bytes  # the header's
    appended_at_ms: int
    request_topic: str
    request_offset: int
    requested_at_ms: int
    request_frame: bytes
    asked: ScannedFields
    middle_at: int
    request_at: int  # where its bytes begin, and end
    request_end: int

    @property
    def middle(self) -> bytes:
        """What it tells of its context."""
        return self.value[self.middle_at : self.request_at]

    def outcome(self) -> LogRecord:
        """The outcome as it stands in the log."""
        return LogRecord(
            Coordinates(self.topic, self.partition, self.offset),
            self.key,
            self.value,
            ((POSITIONS_HEADER, self.positions),),
            self.appended_at_ms,
        )

    def request(self) -> LogRecord:
        """Its request; without the headers, which only a dead letter tells."""
        return LogRecord(
            Coordinates(self.request_topic, self.partition, self.request_offset),
            self.key,
            self.request_frame + self.value[self.request_at : self.request_end],
            (),
            self.requested_at_ms,
        )


class OutcomeWithRequest(NamedTuple):
    """An outcome that has to be judged in full, and its request."""

    outcome: LogRecord
    request: LogRecord


def scope_key_of(case: OutcomeWithRequest, codec: Codec) -> bytes:
    """The scope whose uploads it takes to judge it; empty where it takes none."""
    try:
        return scope_key_for(codec.decode_as(CJAssessmentRequested, case.request.value)).encode()
    except BadRecord:
        return b""


class ClaimReader:
    """Reads the outcomes of one partition as claims, given its requests."""

    def __init__(self, codec: Codec, topics: Topics, ledger: RequestTable, partition: int) -> None:
        self._codec = codec
        self._ledger = ledger
        self._partition = partition
        self._topic = topics.requests.name
        self._begins = f"{self._topic}/{partition}@".encode()
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
        """What the outcome claims; None where more than that has to be judged."""
        frame = self._frames.get(topic)
        if value is None or frame is None or headers is None or len(headers) != 1:
            return None
        ((name, positions),) = headers
        if name != POSITIONS_HEADER or positions is None:
            return None
        request_offset = self.offset_in(value)
        if request_offset is None or request_offset not in self._ledger:
            return None
        version = self._codec.version_of(CJAssessmentRequested, self._ledger.frame(request_offset))
        behind = RECIPES[RECIPE].spliced.get(version)
        if behind is None:
            return None
        request = self._ledger.embedded(request_offset, key, value, len(behind))
        if request is None or len(request) > MAX_REQUEST_BYTES:
            return None
        asked = scan_request(request, version)
        if asked is None:
            return None
        at = Coordinates(self._topic, self._partition, request_offset)
        head = frame + encode_head(at, RECIPE)
        if not (value.startswith(head) and value.endswith(behind)):
            return None
        request_end = len(value) - len(behind)
        request_at = request_end - len(request) + FRAME.size
        if request_at < len(head):
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
            self._ledger.appended_at_ms(request_offset),
            request[: FRAME.size],
            asked,
            len(head),
            request_at,
            request_end,
        )

    def offset_in(self, value: bytes) -> int | None:
        """The offset in the event id, which is the first field: the request's coordinates as text."""
        start = FRAME.size + 1
        if len(value) <= start:
            return None
        size = value[start - 1]
        if size > 127:  # of 64 characters or more
            size += (value[start] - 1) << 7
            start += 1
        text = value[start : start + (size >> 1)]
        digits = text[len(self._begins) :]
        is_of_here = text.startswith(self._begins) and digits.isdigit() and len(digits) < DIGITS
        return int(digits) if is_of_here else None
