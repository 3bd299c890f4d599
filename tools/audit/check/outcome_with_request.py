"""An outcome and its request, which is found in the outcome's own bytes: an outcome embeds its request."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from processors.kafka.records import LogRecord
from processors.outcomes.answered_request import offset_in
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import RequestScanner, ScannedFields
from processors.outcomes.resolve import scope_key_for
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord
from schemas.events import CJAssessmentRequested
from schemas.topics import Topics
from tables.scan.scanner import Engine
from tools.audit.check.request_table import RequestTable

Headers = tuple[tuple[str, bytes | None], ...]
RecordFields = tuple[  # topic, partition, offset, key, value, headers, append time
    str, int, int, bytes | None, bytes | None, Headers, int
]


FIELDS = 7


class OutcomeWithRequest(NamedTuple):
    """An outcome and its request."""

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
    def row(self) -> tuple[Any, ...]:
        """All fields in one plain tuple: it is written to disk and read six times as quickly."""
        return (*self.outcome_fields, *self.request_fields, *(self.scanned or ()))

    @classmethod
    def of_row(cls, row: tuple[Any, ...]) -> "OutcomeWithRequest":
        """The outcome and request with such a row."""
        outcome, request, scanned = row[:FIELDS], row[FIELDS : 2 * FIELDS], row[2 * FIELDS :]
        return cls(outcome, request, ScannedFields(*scanned) if scanned else None)

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
        self, codec: Codec, topics: Topics, requests: RequestTable, partition: int, engine: Engine
    ) -> None:
        self._codec = codec
        self._scanner = RequestScanner(codec, engine)
        self._requests = requests
        self._partition = partition
        self._topics = topics
        self._prefix = f"{topics.requests.name}/{partition}@".encode()

    def pairs(self, outcomes: Sequence[RecordFields]) -> list[OutcomeWithRequest | None]:
        """Each outcome with its request; None if the request has to be read from the log."""
        embedded = list(map(self._embedded_in, outcomes))
        scanned = self._scanner.scan([b"" if one is None else one[1] for one in embedded])
        pairs = list[OutcomeWithRequest | None]()
        for outcome, request, fields in zip(outcomes, embedded, scanned, strict=True):
            if request is None or fields is None:
                pairs.append(None)
                continue
            offset, payload = request
            at = (self._topics.requests.name, self._partition, offset)
            appended_at_ms = self._requests.appended_at_ms(offset)
            request_fields = (*at, outcome[3], payload, (), appended_at_ms)
            pairs.append(OutcomeWithRequest(outcome, request_fields, fields))
        return pairs

    def _embedded_in(self, outcome: RecordFields) -> tuple[int, bytes] | None:
        """The offset and the bytes of the request that an outcome embeds."""
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
        return None if request is None else (offset, request)

    def offset_in(self, value: bytes) -> int | None:
        """The offset in the event id, the first field: the request's coordinates as text; None if there is none."""
        return offset_in(value, self._prefix)
