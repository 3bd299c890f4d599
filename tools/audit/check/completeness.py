"""Whether the outcomes of one request partition are complete: none missing, none doubled, each with a request.

Whether they are right is checked in `correctness`, which needs the uploads, too. Memory: the request table's 30 bytes
for each offset of the range, the parked requests, and up to MAX_UNPAIRED outcomes whose requests are yet to be read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from processors.kafka.records import LogRecord, append_time_of, headers_of
from processors.log.reader import Messages
from processors.parking.parked_record import CLOCK_KEY, read_entry, request_of_key
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import is_marker
from schemas.errors import BadRecord
from tables.scan.plain import PLAIN_ENGINE
from tables.scan.scanner import Engine
from tools.audit.check.findings import Finding, NotVerifiable, Tally, Violation, copied
from tools.audit.check.full_check import request_coordinates
from tools.audit.check.outcome_with_request import (
    EmbeddedRequests,
    OutcomeWithRequest,
    record_from,
    with_request,
)
from tools.audit.check.partition_reader import PartitionReader
from tools.audit.check.request_table import RequestTable
from tools.audit.check.scan_range import ScanRange
from tools.times import span_of

MAX_FINDINGS = 1000  # of one portion
MAX_UNPAIRED = 1000
MAX_UNPAIRED_BYTES = 32 * 1024 * 1024
MAX_LATE_MS = 60_000  # how long after its deadline a request may still be parked


class ParkedInLog(NamedTuple):
    """A parked request: the coordinates of its entry, and its deadline."""

    entry_at: Coordinates
    deadline_at_ms: int


@dataclass(slots=True)
class Portion:
    """What was found in one portion of the log; the outcomes are yet to be checked for correctness."""

    outcomes: list[OutcomeWithRequest] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    outcomes_read: int = 0


class CompletenessCheck:
    """The check of one partition; `tally` has all counts but those of findings when `run` has ended."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        scan_range: ScanRange,
        number: int,
        log: PartitionReader,
        now_ms: int,
        engine: Engine = PLAIN_ENGINE,
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
        self._embedded = EmbeddedRequests(codec, topics, self._requests, number, engine)
        self._unpaired: list[tuple[LogRecord, Coordinates]] = []
        self._unpaired_bytes = 0
        self._parked: dict[Coordinates, ParkedInLog] = {}
        self._portion = Portion()

    def run(self) -> Iterator[Portion]:
        """The findings, and the outcomes with their requests."""
        for _ in self._steps():
            portion = self._portion
            if portion.outcomes_read or len(portion.findings) >= MAX_FINDINGS:
                yield portion
                self._portion = Portion()
        yield self._portion

    def _steps(self) -> Iterator[None]:
        """The steps of the check; what each finds is added to the portion."""
        for messages in self._log.requests():
            self.tally.requests["requests"] += len(messages)
            for message in messages:
                appended_at_ms = append_time_of(message)
                self._requests.add(
                    message.offset() or 0, message.key(), message.value(), appended_at_ms
                )
        yield from map(self._read_parked, self._log.parked())
        parked = dict(self._parked)
        for messages in self._log.outcomes():
            self._read_outcomes(messages)
            self._portion.outcomes_read = len(messages)
            yield
        self._read_requests_of_unpaired()
        yield from self._check_open(parked)
        yield from map(self._read_parked, self._log.parked_since())
        self._check_released(parked)

    def _report(self, finding: Finding) -> None:
        self._portion.findings.append(finding)

    def _read_parked(self, record: LogRecord) -> None:
        if record.key == CLOCK_KEY and record.value is None:
            return
        try:
            at = request_of_key(record.key, *self._partition)
            if record.value is None:
                self._parked.pop(at, None)
                return
            entry = read_entry(record.value, at, self._codec).parked
        except BadRecord as fault:
            sentence = f"the record is not a valid parked request: {fault}"
            self._report(Violation("parked", record.at, sentence))
            return
        if at.offset in self._requests:
            if not self._requests.is_same(at.offset, entry.request_key, entry.request):
                sentence = f"its copy differs from the request {at}"
                self._report(Violation("parked", record.at, sentence))
            self._parked[at] = ParkedInLog(record.at, entry.deadline_at_ms)

    def _read_outcomes(self, messages: Messages) -> None:
        number = self._partition.partition
        outcomes = [
            (
                str(message.topic()),
                number,
                message.offset() or 0,
                message.key(),
                message.value(),
                headers_of(message),
                append_time_of(message),
            )
            for message in messages
        ]
        for outcome, pair in zip(outcomes, self._embedded.pairs(outcomes), strict=True):
            if pair is not None and self._requests.mark_outcome(pair.request_fields[2]):
                self.tally.outcomes[outcome[0]] += 1
                self._portion.outcomes.append(pair)
            else:
                self._find_request(record_from(outcome))

    def _find_request(self, outcome: LogRecord) -> None:
        """Find the request of an outcome that embeds none of this partition, or one that has an outcome already."""
        if outcome.at.topic == self._topics.requests_dlq.name and is_marker(outcome.headers):
            return
        at = request_coordinates(outcome, self._codec, self._topics)
        if isinstance(at, Violation):
            self.tally.outcomes[outcome.at.topic] += 1
            self._report(at)
            offset = self._embedded.offset_in(outcome.value or b"")
            if offset is not None and offset in self._requests:
                # so that its request is not reported as missing, too
                self._requests.mark_outcome(offset)
            return
        partition = Partition(at.topic, at.partition)
        if at.topic != self._topics.requests.name:
            self._report(copied(outcome.at, at))
            return
        if partition not in self._range.retained:
            sentence = f"its request {at} is not in a partition of requests"
            self._report(Violation("no_request", outcome.at, sentence))
            return
        if at.offset < self._range.retained[partition]:
            sentence = f"its request {at} is no longer in the log"
            self._report(NotVerifiable("request_gone", outcome.at, sentence))
            return
        if partition == self._partition and at.offset in self._requests:
            if self._requests.is_request(at.offset) and not self._requests.mark_outcome(at.offset):
                sentence = f"its request {at} already has another outcome"
                self._report(Violation("doubled", outcome.at, sentence))
        elif partition == self._partition and at.offset < self._range.requests_high[partition]:
            return  # its request is outside the range
        self.tally.outcomes[outcome.at.topic] += 1
        self._unpaired.append((outcome, at))
        self._unpaired_bytes += len(outcome.value or b"")
        if len(self._unpaired) >= MAX_UNPAIRED or self._unpaired_bytes >= MAX_UNPAIRED_BYTES:
            self._read_requests_of_unpaired()

    def _read_requests_of_unpaired(self) -> None:
        """Read the requests that were not found in their outcomes."""
        unpaired, self._unpaired, self._unpaired_bytes = self._unpaired, [], 0
        found = {record.at: record for record in self._log.records_at({at for _, at in unpaired})}
        for outcome, at in unpaired:
            if at in found:
                self._portion.outcomes.append(with_request(outcome, found[at]))
            else:
                sentence = f"there is no committed request at {at}"
                self._report(Violation("no_request", outcome.at, sentence))

    def _check_open(self, parked: dict[Coordinates, ParkedInLog]) -> Iterator[None]:
        """Check the requests without an outcome: each is parked, not yet prepared, or has lost its outcome."""
        committed = self._range.committed.get(self._partition)
        lost = list[Coordinates]()
        for offset in self._requests.without_outcome():
            at = Coordinates(*self._partition, offset)
            if at in parked:
                self._check_deadline(at, parked[at].deadline_at_ms)
            elif committed is None or offset >= committed:
                self.tally.requests["not_yet_prepared"] += 1
            else:
                lost.append(at)
            if len(lost) >= MAX_FINDINGS:
                self._check_lost(lost)
                lost = []
            yield
        self._check_lost(lost)

    def _check_deadline(self, at: Coordinates, deadline_at_ms: int) -> None:
        self.tally.add_parked(deadline_at_ms)
        late_ms = self._now_ms - deadline_at_ms
        if late_ms > MAX_LATE_MS:
            self.tally.requests["late"] += 1
            sentence = f"it is still parked {span_of(late_ms / 1000)} after its deadline"
            self._report(Violation("late", at, sentence))

    def _check_lost(self, lost: Iterable[Coordinates]) -> None:
        """Report lost outcomes as missing, unless the log no longer has all outcomes of that time."""
        complete_since_ms = self._log.outcomes_complete_since_ms(self._now_ms) if lost else 0
        for request in self._log.records_at(lost):
            if request.appended_at_ms <= complete_since_ms:
                sentence = "it has no outcome, and the log no longer has all outcomes of its time"
                self._report(NotVerifiable("outcome_gone", request.at, sentence))
            else:
                self.tally.requests["missing"] += 1
                sentence = (
                    "it has no outcome and is not parked: `cjstream parked restore` parks it again"
                )
                self._report(Violation("missing", request.at, sentence))

    def _check_released(self, parked: Iterable[Coordinates]) -> None:
        """Check that no request with an outcome is still parked: outcome and release are one transaction."""
        for at in parked:
            if at in self._parked and not self._requests.lacks_outcome(at.offset):
                sentence = f"{at} has its outcome but is still parked"
                self._report(Violation("not_released", self._parked[at].entry_at, sentence))
