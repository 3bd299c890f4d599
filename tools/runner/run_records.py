"""The records of one run, taken from the log one by one: decoded, checked, and each once.

Records of other runs are passed over. A record of the run that is damaged, or that lacks what an artefact needs, is a
Discrepancy at its coordinates.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from processors.kafka.records import LogRecord
from processors.log.judging_log import judging_event_of
from processors.outcomes.answered_request import dead_lettered_offset, offset_in
from processors.outcomes.encoding import event_id_of
from schemas.codec import Codec
from schemas.dead_letters import read_dead_letter_headers
from schemas.errors import BadRecord, Discrepancy
from schemas.events import CJAssessmentRequested, CJBatchPrepared, CJBatchUnresolved
from schemas.judging_events import CallAnswered, CallFailed, CJBatchJudged, JudgingEvent
from schemas.topics import Topics
from tables.judging.run import Run, fold
from tools.runner.collected_run import CollectedRecord

E = TypeVar("E")


@dataclass(slots=True, kw_only=True)
class RunRecords:
    """What was read of a run so far.

    unprepared: why its request will never be judged. run: the fold of its judging records. duplicates: records that
    came again, which are dropped.
    """

    codec: Codec
    topics: Topics
    request: CollectedRecord[CJAssessmentRequested]
    batch: CollectedRecord[CJBatchPrepared] | None = None
    judging: list[CollectedRecord[JudgingEvent]] = field(default_factory=list)
    result: CollectedRecord[CJBatchJudged] | None = None
    unprepared: str | None = None
    run: Run | None = None
    duplicates: int = 0
    _known: set[JudgingEvent] = field(default_factory=set)

    @property
    def run_id(self) -> str:
        """The id of the run, which the coordinates of its request determine."""
        return event_id_of(self.request.at)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come: the result and the last judging record, or no batch."""
        if self.unprepared is not None:
            return True
        if self.result is None:
            return False
        is_refused = self.result.event.provenance.judging is None
        return is_refused or (self.run is not None and self.run.stopped is not None)

    def take(self, record: LogRecord) -> JudgingEvent | None:
        """Take a record of any topic; returns a new judging event of the run. Raises Discrepancy."""
        topics = self.topics
        try:
            match record.at.topic:
                case topics.judging.name:
                    return self._take_judging(record)
                case topics.results.name:
                    self._take_result(record)
                case topics.batches.name | topics.unresolved.name:
                    self._take_outcome(record)
                case topics.requests_dlq.name:
                    self._take_dead_letter(record)
        except (BadRecord, Discrepancy) as fault:
            raise Discrepancy(f"{record.at}: {fault}") from fault
        return None

    def _take_judging(self, record: LogRecord) -> JudgingEvent | None:
        if record.key != self.run_id.encode():
            return None
        event = judging_event_of(record, self.codec)
        if event in self._known:
            self.duplicates += 1
            return None
        check_complete(event)
        self.run = fold(self.run, event)
        self._known.add(event)
        self.judging.append(_collected(record, event))
        return event

    def _take_result(self, record: LogRecord) -> None:
        if self.run_id.encode() not in (record.value or b""):
            return
        event = self.codec.decode_as(CJBatchJudged, record.value)
        if event.run_id != self.run_id:
            return
        if self.result is None:
            self.result = _collected(record, event)
        elif self.result.event == event:
            self.duplicates += 1
        else:
            raise Discrepancy("a second, different result of the run")

    def _take_outcome(self, record: LogRecord) -> None:
        at = self.request.at
        prefix = f"{at.topic}/{at.partition}@".encode()
        if offset_in(record.value or b"", prefix) != at.offset:
            return
        event = self.codec.decode(record.value)
        if isinstance(event, CJBatchUnresolved):
            self.unprepared = (
                f"unresolved: no live {', '.join(event.missing)} at {event.scope_key} ({record.at})"
            )
        elif not isinstance(event, CJBatchPrepared):
            raise Discrepancy(f"not an outcome: a {type(event).__name__}")
        elif self.batch is None:
            self.batch = _collected(record, event)
        elif self.batch.event == event:
            self.duplicates += 1
        else:
            raise Discrepancy("a second, different batch of the request")

    def _take_dead_letter(self, record: LogRecord) -> None:
        at = self.request.at
        if dead_lettered_offset(record.headers, at.topic, at.partition) != at.offset:
            return
        letter = read_dead_letter_headers(record.headers)
        self.unprepared = f"dead-lettered: {letter.message} ({record.at})"


def check_complete(event: JudgingEvent) -> None:
    """Raises Discrepancy if an outcome of a call lacks its prompt's sha256, its judge or, if answered, its price."""
    if not isinstance(event, CallAnswered | CallFailed):
        return
    lacking = [name for name in ("prompt_sha256", "provider", "model") if not getattr(event, name)]
    if isinstance(event, CallAnswered) and event.cost_pusd is None:
        lacking.append("cost_pusd")
    if lacking:
        call = f"attempt {event.attempt} of comparison {event.number}"
        raise Discrepancy(f"{call} has no {', '.join(lacking)}")


def _collected(record: LogRecord, event: E) -> CollectedRecord[E]:
    return CollectedRecord(record.at, record.appended_at_ms, event)
