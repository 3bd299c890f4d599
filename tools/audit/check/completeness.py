"""Whether the outcomes of one request partition are complete: none missing, none doubled, each with a request.

Whether they are right is checked in `correctness`, which needs the uploads, too. Memory: the request table's 30 bytes
for each offset of the range, the parked requests, and up to MAX_SUSPECTS outcomes whose requests are yet to be read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from processors.kafka.records import LogRecord, log_record_of
from processors.parking.parked_topic import CLOCK_KEY
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, coordinates_from
from schemas.dead_letters import is_marker
from schemas.errors import BadRecord
from schemas.events import ParkedRequest
from tools.audit.check.findings import Finding, NotVerifiable, Tally, Violation
from tools.audit.check.full_check import request_coordinates
from tools.audit.check.outcome_claim import ClaimReader, OutcomeClaim, OutcomeWithRequest
from tools.audit.check.partition_reader import PartitionRecords
from tools.audit.check.request_table import RequestTable
from tools.audit.check.scan_range import ScanRange
from tools.times import span_of

MAX_SUSPECTS = 1000
MAX_SUSPECT_BYTES = 32 * 1024 * 1024
MAX_LATE_MS = 60_000  # how long after its deadline a request may still be parked


class ParkedInLog(NamedTuple):
    """A parked request: the coordinates of its entry, and its deadline."""

    entry_at: Coordinates
    deadline_at_ms: int


@dataclass(slots=True)
class SuspectOutcomes:
    """Outcomes that need the full check, until their requests are read."""

    records: list[tuple[LogRecord, Coordinates]] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, outcome: LogRecord, request_at: Coordinates) -> bool:
        """Add one; returns whether the limit is reached, so that the requests must be read now."""
        self.records.append((outcome, request_at))
        self.size_bytes += len(outcome.value or b"")
        return len(self.records) >= MAX_SUSPECTS or self.size_bytes >= MAX_SUSPECT_BYTES

    def drain(self) -> list[tuple[LogRecord, Coordinates]]:
        """Remove and return all of them."""
        records, self.records, self.size_bytes = self.records, [], 0
        return records


class CompletenessCheck:
    """The check of one partition; `tally` is complete when `run` has ended."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        scan_range: ScanRange,
        number: int,
        log: PartitionRecords,
        now_ms: int,
    ) -> None:
        self.tally = Tally()
        self._log = log
        self._topics = topics = settings.topics
        self._range = scan_range
        self._now_ms = now_ms
        self._partition = Partition(topics.requests.name, number)
        self._codec = codec
        self._requests = RequestTable(
            scan_range.requests[self._partition], scan_range.requests_end[self._partition]
        )
        self._claim_reader = ClaimReader(codec, topics, self._requests, number)
        self._suspects = SuspectOutcomes()
        self._parked: dict[Coordinates, ParkedInLog] = {}

    def run(self) -> Iterator[Finding | OutcomeClaim | OutcomeWithRequest | int]:
        """Findings, outcomes that are yet to be checked for correctness, and numbers of further outcomes read."""
        for messages in self._log.requests():
            self.tally.requests["requests"] += len(messages)
            for message in messages:
                appended_at_ms = message.timestamp()[1]
                self._requests.add(
                    message.offset() or 0, message.key(), message.value(), appended_at_ms
                )
        yield from self._read_parked(self._log.parked())
        parked = dict(self._parked)
        yield from self._read_outcomes()
        yield from self._outcomes_with_requests()
        yield from self._check_open(parked)
        yield from self._read_parked(self._log.parked_since())
        yield from self._check_released(parked)

    def _read_parked(self, records: Iterable[LogRecord]) -> Iterator[Finding]:
        for record in records:
            if record.key == CLOCK_KEY:
                continue
            try:
                if record.value is None:
                    key = (record.key or b"").decode(errors="replace")
                    self._parked.pop(coordinates_from(key), None)
                    continue
                entry = self._codec.decode_as(ParkedRequest, record.value)
            except BadRecord as fault:
                yield Violation(
                    "parked", record.at, f"the record is not a valid parked request: {fault}"
                )
                continue
            at = entry.request_at
            if at.offset in self._requests and Partition(at.topic, at.partition) == self._partition:
                if not self._requests.is_same(at.offset, entry.request_key, entry.request):
                    yield Violation("parked", record.at, f"its copy differs from the request {at}")
                self._parked[at] = ParkedInLog(record.at, entry.deadline_at_ms)

    def _read_outcomes(self) -> Iterator[Finding | OutcomeClaim | OutcomeWithRequest | int]:
        claim_of, mark_outcome, counts = (
            self._claim_reader.claim,
            self._requests.mark_outcome,
            self.tally.outcomes,
        )
        for messages in self._log.outcomes():
            for message in messages:
                topic = str(message.topic())
                claim = claim_of(
                    topic,
                    message.offset() or 0,
                    message.key(),
                    message.value(),
                    message.headers(),  # type: ignore[arg-type]
                    message.timestamp()[1],
                )
                if claim is not None and mark_outcome(claim.request_offset):
                    counts[topic] += 1
                    yield claim
                else:
                    yield from self._check_suspect(log_record_of(message))
            yield len(messages)

    def _check_suspect(self, outcome: LogRecord) -> Iterator[Finding | OutcomeWithRequest]:
        """Find the request of an outcome that is no claim, and add the outcome to the suspects."""
        if outcome.at.topic == self._topics.requests_dlq.name and is_marker(outcome.headers):
            return
        at = request_coordinates(outcome, self._codec, self._topics)
        if isinstance(at, Violation):
            self.tally.outcomes[outcome.at.topic] += 1
            yield at
            offset = self._claim_reader.offset_in(outcome.value or b"")
            if offset is not None and offset in self._requests:
                self._requests.mark_outcome(
                    offset
                )  # so that its request is not reported as missing, too
            return
        partition = Partition(at.topic, at.partition)
        if partition not in self._range.retained:
            yield Violation(
                "no_request", outcome.at, f"its request {at} is not in a partition of requests"
            )
            return
        if at.offset < self._range.retained[partition]:
            sentence = f"its request {at} is no longer in the log"
            yield NotVerifiable("request_gone", outcome.at, sentence)
            return
        if partition == self._partition and at.offset in self._requests:
            if self._requests.is_request(at.offset) and not self._requests.mark_outcome(at.offset):
                yield Violation(
                    "doubled", outcome.at, f"its request {at} already has another outcome"
                )
        elif partition == self._partition and at.offset < self._range.requests_high[partition]:
            return  # its request is outside the range
        self.tally.outcomes[outcome.at.topic] += 1
        if self._suspects.add(outcome, at):
            yield from self._outcomes_with_requests()

    def _outcomes_with_requests(self) -> Iterator[Finding | OutcomeWithRequest]:
        """The suspects with their requests, which are read now."""
        suspects = self._suspects.drain()
        wanted = {at for _, at in suspects}
        found = {record.at: record for record in self._log.records_at(wanted)}
        for outcome, at in suspects:
            if at in found:
                yield OutcomeWithRequest(outcome, found[at])
            else:
                yield Violation("no_request", outcome.at, f"there is no committed request at {at}")

    def _check_open(self, parked: dict[Coordinates, ParkedInLog]) -> Iterator[Finding]:
        """Check the requests without an outcome: each is parked, not yet prepared, or has lost its outcome."""
        committed = self._range.committed.get(self._partition)
        lost = list[Coordinates]()
        for offset in self._requests.without_outcome():
            at = Coordinates(*self._partition, offset)
            if at in parked:
                self.tally.add_parked(parked[at].deadline_at_ms)
                late_ms = self._now_ms - parked[at].deadline_at_ms
                if late_ms > MAX_LATE_MS:
                    self.tally.requests["late"] += 1
                    sentence = f"it is still parked {span_of(late_ms / 1000)} after its deadline"
                    yield Violation("late", at, sentence)
            elif committed is None or offset >= committed:
                self.tally.requests["not_yet_prepared"] += 1
            else:
                lost.append(at)
            if len(lost) >= MAX_SUSPECTS:
                yield from self._check_lost(lost)
                lost = []
        yield from self._check_lost(lost)

    def _check_lost(self, lost: list[Coordinates]) -> Iterator[Finding]:
        """Report lost outcomes as missing, unless the log no longer has all outcomes of that time."""
        complete_since_ms = self._log.outcomes_complete_since_ms(self._now_ms) if lost else 0
        for request in self._log.records_at(lost):
            if request.appended_at_ms <= complete_since_ms:
                sentence = "it has no outcome, and the log no longer has all outcomes of its time"
                yield NotVerifiable("outcome_gone", request.at, sentence)
            else:
                self.tally.requests["missing"] += 1
                yield Violation("missing", request.at, "it has no outcome and is not parked")

    def _check_released(self, parked: dict[Coordinates, ParkedInLog]) -> Iterator[Finding]:
        """Check that no request with an outcome is still parked: outcome and release are one transaction."""
        for at in parked:
            if at in self._parked and not self._requests.lacks_outcome(at.offset):
                sentence = f"{at} has its outcome but is still parked"
                yield Violation("not_released", self._parked[at].entry_at, sentence)
