"""An installation in memory whose outcomes the worker's own parts make, to be audited; it has one request partition."""

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
from schemas.dead_letters import dead_letter_headers
from schemas.errors import BadRecord, Malformed
from schemas.events import AssignmentContext, ParkedRequest, UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from tables.context import fold
from tables.upload_record import UploadRecord, UploadTopics, read_upload
from tests.support.builders import TOPIC_OF
from tools.audit.check.completeness import CompletenessCheck
from tools.audit.check.correctness import CorrectnessCheck
from tools.audit.check.findings import Finding, Tally, Violation
from tools.audit.check.scan_range import ScanRange
from tools.audit.check.upload_timelines import UploadTimelines

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
    """A message as librdkafka gives it."""
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
    """Uploads, requests and what came of them; every step is a second later than the one before."""

    policy: Policy = field(default_factory=Policy)
    now_ms: int = 1_700_000_000_000
    uploads: list[UploadRecord] = field(default_factory=list)
    requests: Messages = field(default_factory=list)
    outcomes: Messages = field(default_factory=list)
    waiting: dict[Coordinates, ParkedRequest] = field(default_factory=dict)
    entries: list[LogRecord] = field(default_factory=list)
    kept_since_ms: int = 0
    committed: int | None = None  # all that was requested, unless told

    def upload(self, event: UploadEvent, value: bytes | None = None) -> Coordinates:
        """Append an upload, with other bytes where it is to be a damaged one."""
        return self.append_upload(
            TOPIC_OF[role_of(event)], scope_key_of(event), value or CODEC.encode(event)
        )

    def append_upload(self, topic: str, scope_key: str, value: bytes | None) -> Coordinates:
        """Append any bytes under a scope's key."""
        self.now_ms += SECOND_MS
        key = scope_key.encode()
        number = partition_for(key, SETTINGS.partitions)
        offset = self.positions()[Partition(topic, number)]
        at = Coordinates(topic, number, offset)
        self.uploads.append(UploadRecord(at, key, value, self.now_ms))
        return at

    def positions(self) -> dict[Partition, int]:
        """Where the upload topics end."""
        ends = dict.fromkeys(
            (Partition(name, one) for name in UPLOADS.by_name for one in range(UPLOADS.partitions)),
            0,
        )
        for one in self.uploads:
            ends[Partition(one.at.topic, one.at.partition)] = one.at.offset + 1
        return ends

    def request(self, value: bytes | None, key: bytes | None = b"k") -> Message:
        """Append a request."""
        self.now_ms += SECOND_MS
        headers: Headers = [("trace", b"t-1")]
        asked = message(REQUESTS.topic, len(self.requests), key, value, headers, self.now_ms)
        self.requests.append(asked)
        return asked

    def join(
        self, asked: Message, *, park: bool = False, positions: Positions | None = None
    ) -> None:
        """Answer a request, or park it where it may wait, as batch preparation does."""
        self.now_ms += SECOND_MS
        record = log_record_of(asked)
        positions = positions or self.positions()
        answers = OutcomeBuilder(CODEC, self.policy, self.contexts(positions).get)
        try:
            answer = answers.build(record.value, record.at)
        except BadRecord as fault:
            told = dead_letter_headers(record.at, record.appended_at_ms, fault, record.headers)
            self.outcome(TOPICS.requests_dlq.name, record.key, record.value, told)
            return
        if isinstance(answer.resolution, Unresolved) and answer.resolution.may_wait and park:
            self._park(record, answer.resolution)
            return
        prepared = isinstance(answer.resolution, Prepared)
        topic = TOPICS.batches if prepared else TOPICS.unresolved
        self.outcome(topic.name, record.key, answer.value, self.header(positions))

    def header(self, positions: Positions | None = None) -> Headers:
        """An outcome's headers, of a join at these positions or at the ends."""
        told = encode_positions(positions or self.positions(), TOPICS, SETTINGS.partitions)
        return [(POSITIONS_HEADER, told)]

    def ask(self, value: bytes | None, key: bytes | None = b"k", *, park: bool = False) -> None:
        """Request and join."""
        self.join(self.request(value, key), park=park)

    def outcome(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers
    ) -> Message:
        """Append an outcome, whoever made it."""
        made = message(topic, len(self.outcomes), key, value, headers, self.now_ms)
        self.outcomes.append(made)
        return made

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
        self.waiting[record.at] = entry
        self._enter(record.at, CODEC.encode(entry))

    def release(self) -> None:
        """Answer every parked request."""
        for at in list(self.waiting):
            self.join(self.requests[at.offset])
            del self.waiting[at]
            self._enter(at, None)

    def _enter(self, at: Coordinates, value: bytes | None) -> None:
        stands = Coordinates(TOPICS.parked.name, 0, len(self.entries))
        self.entries.append(LogRecord(stands, str(at).encode(), value, (), self.now_ms))

    def contexts(self, positions: Positions | None = None) -> dict[str, AssignmentContext]:
        """The plain fold of every upload below the positions, or of all."""
        positions = positions or self.positions()
        rows = dict[str, AssignmentContext]()
        for one in self.uploads:
            if one.at.offset >= positions[Partition(one.at.topic, one.at.partition)]:
                continue
            try:
                event = read_upload(one, CODEC, UPLOADS)
            except Malformed:
                continue
            fold(rows, event, one.at, one.appended_at_ms)
        return rows

    def replace_outcome(self, number: int, **changes: object) -> Coordinates:
        """Have another outcome stand in the place of one."""
        stands = replace(log_record_of(self.outcomes[number]), **changes)  # type: ignore[arg-type]
        self.outcomes[number] = message(
            stands.at.topic,
            stands.at.offset,
            stands.key,
            stands.value,
            list(stands.headers),
            stands.appended_at_ms,
        )
        return stands.at

    def extent(self) -> ScanRange:
        """The whole of it."""
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

    def audit(self, settings: Settings = SETTINGS) -> tuple[list[Finding], Tally]:
        """All that verify has to say, and its counts."""
        timelines = UploadTimelines(UPLOADS)
        timelines.add_records(self.uploads)
        audit = CompletenessCheck(settings, CODEC, self.extent(), 0, InMemory(self), self.now_ms)
        said = CorrectnessCheck(settings, CODEC, self.positions(), {}).check(timelines, audit.run())
        remarks = [one for one in said if not isinstance(one, int)]
        for one in remarks:
            audit.tally.add(one)
        return remarks, audit.tally

    def findings(self) -> list[Violation]:
        """The findings alone."""
        return [one for one in self.audit()[0] if isinstance(one, Violation)]


@dataclass(frozen=True)
class InMemory:
    """What an audit reads of such an installation."""

    of: Installation

    def requests(self) -> Iterator[Messages]:
        yield self.of.requests

    def parked(self) -> Iterable[LogRecord]:
        return self.of.entries

    def outcomes(self) -> Iterator[Messages]:
        yield self.of.outcomes

    def parked_since(self) -> Iterable[LogRecord]:
        return ()

    def records_at(self, wanted: Iterable[Coordinates]) -> Iterator[LogRecord]:
        for at in sorted(wanted):
            if at.topic == REQUESTS.topic and at.offset < len(self.of.requests):
                yield log_record_of(self.of.requests[at.offset])

    def outcomes_complete_since_ms(self, now_ms: int) -> int:
        return min(self.of.kept_since_ms, now_ms)
