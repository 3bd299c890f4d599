"""An outcome and its request, which is found in the outcome's own bytes: an outcome embeds its request."""

from typing import NamedTuple

from processors.kafka.records import LogRecord
from processors.outcomes.answered_request import offset_in
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import ScannedFields, scan_request
from processors.outcomes.resolve import scope_key_for
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord
from schemas.events import CJAssessmentRequested
from schemas.topics import Topics
from tools.audit.check.request_table import RequestTable

Headers = tuple[tuple[str, bytes | None], ...]
RecordFields = tuple[  # topic, partition, offset, key, value, headers, append time
    str, int, int, bytes | None, bytes | None, Headers, int
]


class OutcomeWithRequest(NamedTuple):
    """An outcome and its request, as plain tuples, because these are written to disk quickly."""

    outcome_fields: RecordFields
    request_fields: RecordFields
    scanned: ScannedFields | None  # of a canonical request; None: the outcome needs the full check

    @property
    def outcome(self) -> LogRecord:
        """The outcome as a record of the log."""
        return record_from(self.outcome_fields)

    @property
    def request(self) -> LogRecord:
        """The request as a record of the log; without its headers, which only a dead letter has, if it is scanned."""
        return record_from(self.request_fields)

    @property
    def size_bytes(self) -> int:
        """The number of bytes of both values."""
        return len(self.outcome_fields[4] or b"") + len(self.request_fields[4] or b"")

    def scope_key(self, codec: Codec) -> bytes:
        """The scope whose uploads the check needs; empty if the request is not readable and it needs none."""
        try:
            request = self.scanned or codec.as_earlier().decode_as(
                CJAssessmentRequested, self.request_fields[4]
            )
        except BadRecord:
            return b""
        return scope_key_for(request).encode()


def with_request(outcome: LogRecord, request: LogRecord) -> OutcomeWithRequest:
    """An outcome with the request that was read from the log."""
    return OutcomeWithRequest(_fields_of(outcome), _fields_of(request), None)


def _fields_of(record: LogRecord) -> RecordFields:
    at = (record.at.topic, record.at.partition, record.at.offset)
    return (*at, record.key, record.value, record.headers, record.appended_at_ms)


def record_from(fields: RecordFields) -> LogRecord:
    """The record with these fields."""
    return LogRecord(Coordinates(*fields[:3]), *fields[3:])


class EmbeddedRequests:
    """Finds the requests of one partition in their outcomes."""

    def __init__(
        self, codec: Codec, topics: Topics, requests: RequestTable, partition: int
    ) -> None:
        self._codec = codec
        self._requests = requests
        self._partition = partition
        self._topics = topics
        self._prefix = f"{topics.requests.name}/{partition}@".encode()

    def pair(self, outcome: RecordFields) -> OutcomeWithRequest | None:
        """The outcome with its request; None if the request has to be read from the log."""
        topic, _, _, key, value, _, _ = outcome
        if value is None or topic == self._topics.requests_dlq.name:
            return None
        offset = self.offset_in(value)
        if offset is None or offset not in self._requests:
            return None
        version = self._codec.version_of(CJAssessmentRequested, self._requests.frame(offset))
        suffix = RECIPES[RECIPE].spliced.get(version)
        if suffix is None:
            return None
        request = self._requests.embedded_request(offset, key, value, len(suffix))
        scanned = scan_request(request, version) if request else None
        if scanned is None:
            return None
        at = (self._topics.requests.name, self._partition, offset)
        appended_at_ms = self._requests.appended_at_ms(offset)
        return OutcomeWithRequest(outcome, (*at, key, request, (), appended_at_ms), scanned)

    def offset_in(self, value: bytes) -> int | None:
        """The offset in the event id, the first field: the request's coordinates as text; None if there is none."""
        return offset_in(value, self._prefix)
