"""An outcome and its request, which is found in the outcome's own bytes: an outcome embeds its request."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from processors.kafka.records import LogRecord
from processors.outcomes.answered_request import offset_in
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.request_scan import RequestScanner, ScannedFields
from processors.outcomes.resolve import scope_key_for
from schemas.codec import FRAME, Codec
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


Row = tuple[RecordFields, tuple[Any, ...], tuple[Any, ...] | None]


class OutcomeWithRequest(NamedTuple):
    """An outcome and its request.

    place: where the request is in the outcome's value, without its frame; None if it was read from the log.
    """

    outcome_fields: RecordFields
    request_fields: RecordFields
    scanned: ScannedFields | None = None  # of a canonical request; else it needs the full check
    place: tuple[int, int] | None = None

    @property
    def outcome(self) -> LogRecord:
        """The outcome as a record of the log."""
        return record_from(self.outcome_fields)

    @property
    def request(self) -> LogRecord:
        """The request as a record of the log; without its headers, which only a dead letter has, if it is scanned."""
        return record_from(self.request_fields)

    @property
    def row(self) -> Row:
        """All of it in plain tuples, which are written to disk and read six times as quickly; bytes only once."""
        topic, _, offset, _, payload, _, appended_at_ms = self.request_fields
        if self.place is None or self.scanned is None or payload is None:
            return self.outcome_fields, self.request_fields, None
        frame = payload[: FRAME.size]
        return (
            self.outcome_fields,
            (topic, offset, appended_at_ms, frame, *self.place),
            tuple(self.scanned),
        )

    @classmethod
    def of_row(cls, row: Row) -> "OutcomeWithRequest":
        """The outcome and request with such a row."""
        outcome, request, scanned = row
        if scanned is None:
            return cls(outcome, request)
        topic, offset, appended_at_ms, frame, start, end = request
        payload = frame + (outcome[4] or b"")[start:end]
        fields = (topic, outcome[1], offset, outcome[3], payload, (), appended_at_ms)
        return cls(outcome, fields, ScannedFields(*scanned), (start, end))

    @property
    def size_bytes(self) -> int:
        """The number of bytes of the values in its row."""
        size = len(self.outcome_fields[4] or b"")
        return size if self.place else size + len(self.request_fields[4] or b"")

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
    return OutcomeWithRequest(_fields_of(outcome), _fields_of(request))


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
            offset, payload, place = request
            at = (self._topics.requests.name, self._partition, offset)
            appended_at_ms = self._requests.appended_at_ms(offset)
            request_fields = (*at, outcome[3], payload, (), appended_at_ms)
            pairs.append(OutcomeWithRequest(outcome, request_fields, fields, place))
        return pairs

    def _embedded_in(self, outcome: RecordFields) -> tuple[int, bytes, tuple[int, int]] | None:
        """The offset, the bytes and the place of the request that an outcome embeds."""
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
        if request is None:
            return None
        end = len(value) - len(suffix)
        return offset, request, (end - len(request) + FRAME.size, end)

    def offset_in(self, value: bytes) -> int | None:
        """The offset in the event id, the first field: the request's coordinates as text; None if there is none."""
        return offset_in(value, self._prefix)
