"""An in-memory installation to audit, with one request partition; the worker's own code makes its outcomes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from confluent_kafka import Message

from processors.kafka.records import LogRecord, log_record_of
from processors.log.reader import Messages
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.positions_header import POSITIONS_HEADER, encode_positions
from processors.outcomes.resolve import Prepared, Unresolved
from processors.policy import Policy
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.dead_letters import Refused, dead_letter
from schemas.errors import BadRecord, Malformed
from schemas.events import AssignmentContext, ParkedRequest, UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from tables.context import fold
from tables.scan.plain import PLAIN_ENGINE
from tables.scan.scanner import Engine
from tables.upload_record import UploadRecord, UploadTopics, read_upload
from tests.support.builders import TOPIC_OF
from tools.audit.check.completeness import CompletenessCheck
from tools.audit.check.correctness import CorrectnessCheck, findings_of
from tools.audit.check.findings import Finding, Tally, Violation
from tools.audit.check.partition_reader import PartitionReader
from tools.audit.check.scan_range import ScanRange
from tools.audit.check.upload_rows import UploadRows

CODEC = Codec()
SETTINGS = Settings(partitions=2)
TOPICS = SETTINGS.topics
UPLOADS = UploadTopics({topic.name: topic for topic in TOPICS.uploads}, SETTINGS.partitions)
REQUESTS = Partition(TOPICS.requests.name, 0)
SECOND_MS = 1000
Headers = list[tuple[str, bytes | None]]


def message(
    topic: str,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    at_ms: int,
    partition: int = 0,
) -> Message:
    """A message as librdkafka returns it."""
    return Message(
        topic=topic,
        partition=partition,
        offset=offset,
        key=key,
        value=value,
        headers=headers or None,  # type: ignore[arg-type]
        timestamp=(2, at_ms),
    )


@dataclass
class Installation:
    """Uploads, requests and their outcomes; the clock moves by one second with every step.

    codec: of the release that makes the outcomes; today's release audits them.
    """

    policy: Policy = field(default_factory=Policy)
    codec: Codec = CODEC
    now_ms: int = 1_700_000_000_000
    uploads: list[UploadRecord] = field(default_factory=list)
    requests: Messages = field(default_factory=list)
    outcomes: Messages = field(default_factory=list)
    parked: dict[Coordinates, ParkedRequest] = field(default_factory=dict)
    entries: list[LogRecord] = field(default_factory=list)
    complete_since_ms: int = 0
    committed: int | None = None  # the committed offset of the requests; None: all of them

    def upload(self, event: UploadEvent, value: bytes | None = None) -> Coordinates:
        """Append an upload; `value` replaces its bytes, for example by damaged ones."""
        return self.append_upload(
            TOPIC_OF[role_of(event)], scope_key_of(event), value or CODEC.encode(event)
        )

    def append_upload(self, topic: str, scope_key: str, value: bytes | None) -> Coordinates:
        """Append any bytes with the key of a scope."""
        self.now_ms += SECOND_MS
        key = scope_key.encode()
        number = partition_for(key, SETTINGS.partitions)
        offset = self.positions()[Partition(topic, number)]
        at = Coordinates(topic, number, offset)
        self.uploads.append(UploadRecord(at, key, value, self.now_ms))
        return at

    def positions(self) -> dict[Partition, int]:
        """The end of each partition of the upload topics."""
        ends = dict.fromkeys(
            (
                Partition(name, number)
                for name in UPLOADS.by_name
                for number in range(UPLOADS.partitions)
            ),
            0,
        )
        for upload in self.uploads:
            ends[Partition(upload.at.topic, upload.at.partition)] = upload.at.offset + 1
        return ends

    def request(self, value: bytes | None, key: bytes | None = b"k") -> Message:
        """Append a request."""
        self.now_ms += SECOND_MS
        headers: Headers = [("trace", b"t-1")]
        request = message(REQUESTS.topic, len(self.requests), key, value, headers, self.now_ms)
        self.requests.append(request)
        return request

    def join(
        self, request: Message, *, park: bool = False, positions: Positions | None = None
    ) -> None:
        """Append the outcome of a request, or park it if it may wait and `park` is set, like batch preparation."""
        self.now_ms += SECOND_MS
        record = log_record_of(request)
        positions = positions or self.positions()
        builder = OutcomeBuilder(self.codec, self.policy, self.contexts(positions).get)
        try:
            built = builder.build(record.value, record.at)
        except BadRecord as fault:
            refused = Refused(record.key, record.value, record.headers)
            key, value, headers = dead_letter(record.at, record.appended_at_ms, fault, refused)
            self.outcome(TOPICS.requests_dlq.name, key, value, list(headers))
            return
        if isinstance(built.resolution, Unresolved) and built.resolution.may_wait and park:
            self._park(record, built.resolution)
            return
        prepared = isinstance(built.resolution, Prepared)
        topic = TOPICS.batches if prepared else TOPICS.unresolved
        self.outcome(topic.name, record.key, built.value, self.header(positions))

    def header(self, positions: Positions | None = None) -> Headers:
        """The headers of an outcome that was joined at these positions, or at the ends."""
        value = encode_positions(positions or self.positions(), TOPICS, SETTINGS.partitions)
        return [(POSITIONS_HEADER, value)]

    def request_and_join(
        self, value: bytes | None, key: bytes | None = b"k", *, park: bool = False
    ) -> None:
        """Append a request and its outcome."""
        self.join(self.request(value, key), park=park)

    def outcome(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers
    ) -> Message:
        """Append any outcome."""
        outcome = message(topic, len(self.outcomes), key, value, headers, self.now_ms)
        self.outcomes.append(outcome)
        return outcome

    def _park(self, record: LogRecord, resolution: Unresolved[AssignmentContext]) -> None:
        entry = ParkedRequest(
            request_at=record.at,
            scope_key=resolution.scope_key,
            missing=resolution.missing,
            appended_at_ms=record.appended_at_ms,
            deadline_at_ms=self.policy.deadline_ms(record.appended_at_ms),
            request_key=record.key,
            request=record.value or b"",
        )
        self.parked[record.at] = entry
        self._append_entry(record.at, CODEC.encode(entry))

    def release(self) -> None:
        """Release every parked request: append its outcome and a tombstone."""
        for at in list(self.parked):
            self.join(self.requests[at.offset])
            del self.parked[at]
            self._append_entry(at, None)

    def _append_entry(self, at: Coordinates, value: bytes | None) -> None:
        entry_at = Coordinates(TOPICS.parked.name, 0, len(self.entries))
        self.entries.append(LogRecord(entry_at, str(at).encode(), value, (), self.now_ms))

    def contexts(self, positions: Positions | None = None) -> dict[str, AssignmentContext]:
        """The contexts after folding every upload below the positions, or all uploads."""
        positions = positions or self.positions()
        rows = dict[str, AssignmentContext]()
        for upload in self.uploads:
            if upload.at.offset >= positions[Partition(upload.at.topic, upload.at.partition)]:
                continue
            try:
                event = read_upload(upload, self.codec, UPLOADS)
            except Malformed:
                continue
            fold(rows, event, upload.at, upload.appended_at_ms)
        return rows

    def replace_outcome(self, number: int, **changes: object) -> Coordinates:
        """Replace an outcome by a changed one; returns its coordinates."""
        changed = replace(log_record_of(self.outcomes[number]), **changes)  # type: ignore[arg-type]
        self.outcomes[number] = message(
            changed.at.topic,
            changed.at.offset,
            changed.key,
            changed.value,
            list(changed.headers),
            changed.appended_at_ms,
        )
        return changed.at

    def scan_range(self) -> ScanRange:
        """The range of the whole log."""
        end, outcomes = {REQUESTS: len(self.requests)}, {Partition(TOPICS.batches.name, 0): 0}
        return ScanRange(
            retained={REQUESTS: 0},
            requests={REQUESTS: 0},
            requests_end=end,
            requests_high=end,
            committed=end if self.committed is None else {REQUESTS: self.committed},
            parked={},
            parked_end={},
            outcomes=outcomes,
            outcomes_end=outcomes,
            outcomes_retained=outcomes,
            uploads_end=self.positions(),
        )

    def audit(
        self, settings: Settings = SETTINGS, engine: Engine = PLAIN_ENGINE
    ) -> tuple[list[Finding], Tally]:
        """All findings of `audit verify`, and its counts."""
        uploads = UploadRows(UPLOADS)
        uploads.add_records(self.uploads)
        audit = CompletenessCheck(
            settings, CODEC, self.scan_range(), 0, InMemory(self), self.now_ms, engine
        )
        correctness = CorrectnessCheck(settings, CODEC, self.positions(), {}, engine)
        correctness.set_uploads(uploads)
        return findings_of(audit, correctness), audit.tally

    def findings(self) -> list[Violation]:
        """The violations that `audit verify` finds."""
        return [finding for finding in self.audit()[0] if isinstance(finding, Violation)]


class InMemory(PartitionReader):
    """The reader that an audit uses, for such an installation."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation

    def requests(self) -> Iterator[Messages]:
        yield self.installation.requests

    def parked(self) -> Iterator[LogRecord]:
        return iter(self.installation.entries)

    def outcomes(self) -> Iterator[Messages]:
        yield self.installation.outcomes

    def parked_since(self) -> Iterator[LogRecord]:
        return iter(())

    def records_at(self, wanted: Iterable[Coordinates]) -> Iterator[LogRecord]:
        for at in sorted(wanted):
            if at.topic == REQUESTS.topic and at.offset < len(self.installation.requests):
                yield log_record_of(self.installation.requests[at.offset])

    def outcomes_complete_since_ms(self, now_ms: int) -> int:
        return min(self.installation.complete_since_ms, now_ms)
