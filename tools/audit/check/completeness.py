"""The outcomes of one request partition held against its requests: none missing, none twice, each with its request.

Whether they are right takes the uploads, too: see `verdicts`. Memory: the ledger's 30 bytes for each offset of the
range, the requests that wait, and SUSPECTS outcomes whose requests are still to be read.
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
from tools.audit.check.full_check import request_of
from tools.audit.check.outcome_claim import ClaimReader, OutcomeClaim, OutcomeWithRequest
from tools.audit.check.partition_reader import PartitionRecords
from tools.audit.check.request_table import RequestTable
from tools.audit.check.scan_range import ScanRange
from tools.times import span_of

SUSPECTS = 1000
SUSPECT_BYTES = 32 * 1024 * 1024
LATE_MS = 60_000  # past its deadline, before a parked request is a finding


class OpenPark(NamedTuple):
    """A request in the parked topic."""

    entry_at: Coordinates
    deadline_at_ms: int


@dataclass(slots=True)
class SuspectOutcomes:
    """Outcomes that have to be judged in full, until their requests are read."""

    records: list[tuple[LogRecord, Coordinates]] = field(default_factory=list)
    held_bytes: int = 0

    def add(self, outcome: LogRecord, request_at: Coordinates) -> bool:
        """Take one; whether it is time to read their requests."""
        self.records.append((outcome, request_at))
        self.held_bytes += len(outcome.value or b"")
        return len(self.records) >= SUSPECTS or self.held_bytes >= SUSPECT_BYTES

    def taken(self) -> list[tuple[LogRecord, Coordinates]]:
        """All of them, and none are left."""
        records, self.records, self.held_bytes = self.records, [], 0
        return records


class CompletenessCheck:
    """One partition: `run` gives what is to be said or judged as it is found; its counts are in tally then."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        extent: ScanRange,
        number: int,
        log: PartitionRecords,
        now_ms: int,
    ) -> None:
        self.tally = Tally()
        self._log = log
        self._topics = topics = settings.topics
        self._extent = extent
        self._now_ms = now_ms
        self._at = Partition(topics.requests.name, number)
        self._codec = codec
        self._ledger = RequestTable(extent.requests[self._at], extent.requests_end[self._at])
        self._claims = ClaimReader(codec, topics, self._ledger, number)
        self._suspects = SuspectOutcomes()
        self._waiting: dict[Coordinates, OpenPark] = {}

    def run(self) -> Iterator[Finding | OutcomeClaim | OutcomeWithRequest | int]:
        """Remarks, what is left to be judged, and in between how many more outcomes were read."""
        for messages in self._log.requests():
            self.tally.requests["requests"] += len(messages)
            for message in messages:
                at_ms = message.timestamp()[1]
                self._ledger.add(message.offset() or 0, message.key(), message.value(), at_ms)
        yield from self._read_parked(self._log.parked())
        waited = dict(self._waiting)
        yield from self._read_outcomes()
        yield from self._cases()
        yield from self._judge_open(waited)
        yield from self._read_parked(self._log.parked_since())
        yield from self._judge_released(waited)

    def _read_parked(self, records: Iterable[LogRecord]) -> Iterator[Finding]:
        for record in records:
            if record.key == CLOCK_KEY:
                continue
            try:
                if record.value is None:
                    key = (record.key or b"").decode(errors="replace")
                    self._waiting.pop(coordinates_from(key), None)
                    continue
                entry = self._codec.decode_as(ParkedRequest, record.value)
            except BadRecord as fault:
                yield Violation("parked", record.at, f"it is no parked request: {fault}")
                continue
            at = entry.request_at
            if at.offset in self._ledger and Partition(at.topic, at.partition) == self._at:
                if not self._ledger.is_same(at.offset, entry.request_key, entry.request):
                    yield Violation("parked", record.at, f"it is not the request at {at}")
                self._waiting[at] = OpenPark(record.at, entry.deadline_at_ms)

    def _read_outcomes(self) -> Iterator[Finding | OutcomeClaim | OutcomeWithRequest | int]:
        claim_of, answer, counts = (
            self._claims.claim,
            self._ledger.mark_answered,
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
                if claim is not None and answer(claim.request_offset):
                    counts[topic] += 1
                    yield claim
                else:
                    yield from self._suspect(log_record_of(message))
            yield len(messages)

    def _suspect(self, outcome: LogRecord) -> Iterator[Finding | OutcomeWithRequest]:
        """Find whose outcome it is, and have its request read with others."""
        if outcome.at.topic == self._topics.requests_dlq.name and is_marker(outcome.headers):
            return
        at = request_of(outcome, self._codec, self._topics)
        if isinstance(at, Violation):
            self.tally.outcomes[outcome.at.topic] += 1
            yield at
            guess = self._claims.offset_in(outcome.value or b"")
            if guess is not None and guess in self._ledger:
                self._ledger.mark_answered(guess)  # so that its request is not missing as well
            return
        one = Partition(at.topic, at.partition)
        if one not in self._extent.retained:
            yield Violation("no_request", outcome.at, f"it is of {at}, where no requests are")
            return
        if at.offset < self._extent.retained[one]:
            told = f"its request {at} is not kept any more"
            yield NotVerifiable("request_gone", outcome.at, told)
            return
        if one == self._at and at.offset in self._ledger:
            if self._ledger.is_request(at.offset) and not self._ledger.mark_answered(at.offset):
                yield Violation("doubled", outcome.at, f"{at} has another outcome before this one")
        elif one == self._at and at.offset < self._extent.requests_high[one]:
            return  # of a request that is not looked at
        self.tally.outcomes[outcome.at.topic] += 1
        if self._suspects.add(outcome, at):
            yield from self._cases()

    def _cases(self) -> Iterator[Finding | OutcomeWithRequest]:
        """The suspects with their requests."""
        suspects = self._suspects.taken()
        wanted = {at for _, at in suspects}
        found = {record.at: record for record in self._log.picked(wanted)}
        for outcome, at in suspects:
            if at in found:
                yield OutcomeWithRequest(outcome, found[at])
            else:
                yield Violation("no_request", outcome.at, f"no committed request stands at {at}")

    def _judge_open(self, waited: dict[Coordinates, OpenPark]) -> Iterator[Finding]:
        """Requests without an outcome: they wait, are not reached yet, or have lost it."""
        committed = self._extent.committed.get(self._at)
        lost = list[Coordinates]()
        for offset in self._ledger.open():
            at = Coordinates(*self._at, offset)
            if at in waited:
                self.tally.wait(waited[at].deadline_at_ms)
                late_ms = self._now_ms - waited[at].deadline_at_ms
                if late_ms > LATE_MS:
                    self.tally.requests["late"] += 1
                    told = f"it waits {span_of(late_ms / 1000)} past its deadline"
                    yield Violation("late", at, told)
            elif committed is None or offset >= committed:
                self.tally.requests["not_yet_prepared"] += 1
            else:
                lost.append(at)
            if len(lost) >= SUSPECTS:
                yield from self._judge_lost(lost)
                lost = []
        yield from self._judge_lost(lost)

    def _judge_lost(self, lost: list[Coordinates]) -> Iterator[Finding]:
        """Missing, unless the outcomes of that time are not kept any more."""
        kept_since_ms = self._log.outcomes_kept_since_ms(self._now_ms) if lost else 0
        for request in self._log.picked(lost):
            if request.appended_at_ms <= kept_since_ms:
                told = "it has no outcome, and those of its time are not all kept any more"
                yield NotVerifiable("outcome_gone", request.at, told)
            else:
                self.tally.requests["missing"] += 1
                yield Violation(
                    "missing", request.at, "it has no outcome and does not wait for one"
                )

    def _judge_released(self, waited: dict[Coordinates, OpenPark]) -> Iterator[Finding]:
        """An outcome and the end of the waiting are one transaction."""
        for at in waited:
            if at in self._waiting and not self._ledger.is_open(at.offset):
                told = f"{at} has its outcome and waits all the same"
                yield Violation("not_released", self._waiting[at].entry_at, told)
