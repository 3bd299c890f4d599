"""`cjstream audit batch`: everything in the log about one batch id, from its requests to the verdict.

Requests are searched for in the partition of the id as a key, to which our own tools send them. If there is none, or
if the caller asks for it, all partitions are searched, because a request may have any key.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord, log_record_of
from processors.log.reader import LogReader, Messages
from processors.log.record_lookup import messages_containing
from processors.log.set_aside import upload_topics_with_set_aside
from processors.log.upload_topics import records_of_key
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import read_dead_letter_headers
from schemas.errors import BadRecord, Malformed
from schemas.events import CJAssessmentRequested, CJBatchPrepared
from schemas.partitioner import partition_for
from tables.history.scope_history import ScopeHistory, history_of
from tools.audit.batch.batch_json import entry_document, event_of, outcome_document
from tools.audit.check.completeness import CompletenessCheck
from tools.audit.check.contexts_as_of import Texts
from tools.audit.check.correctness import CorrectnessCheck, findings_of
from tools.audit.check.findings import Finding, Tally, copied
from tools.audit.check.partition_reader import PartitionReader
from tools.audit.check.scan_range import ScanRange
from tools.audit.check.upload_rows import UploadRows
from tools.audit_json import instant


@dataclass(frozen=True, slots=True)
class BatchStory:
    """Everything about one request with the batch's id, as JSON; and what its check found."""

    document: dict[str, Any]
    findings: tuple[Finding, ...]
    tally: Tally


def batch(
    settings: Settings,
    scan_range: ScanRange,
    batch_id: str,
    now_ms: int,
    texts: Texts,
    *,
    everywhere: bool = False,
    show_texts: bool = False,
) -> list[BatchStory]:
    """Every request of a batch id with its story. Raises Unreachable, Discrepancy.

    The texts on which the verdict depends are added to `texts`; `show_texts` puts them into the documents.
    """
    codec = codec_for(settings)
    return [
        _story(settings, scan_range, request, codec, now_ms, texts, show_texts=show_texts)
        for request in _requests(settings, scan_range, batch_id, codec, everywhere=everywhere)
    ]


def _requests(
    settings: Settings, scan_range: ScanRange, batch_id: str, codec: Codec, *, everywhere: bool
) -> list[LogRecord]:
    own_partition = partition_for(batch_id.encode(), settings.partitions)
    partitions = sorted(
        scan_range.requests, key=lambda partition: partition.partition != own_partition
    )
    found = list[LogRecord]()
    for partition in partitions:
        if found and not everywhere:
            break
        span = {partition: (scan_range.requests[partition], scan_range.requests_end[partition])}
        for message in messages_containing(settings, span, batch_id.encode()):
            record = log_record_of(message)
            if _is_request_of(record, batch_id, codec):
                found.append(record)
    return found


def _is_request_of(record: LogRecord, batch_id: str, codec: Codec) -> bool:
    """Whether this is a request of the batch; if it is not a valid request, its key decides."""
    event = _event_of(record, codec)
    return record.key == batch_id.encode() if event is None else event.batch_id == batch_id


def _event_of(record: LogRecord, codec: Codec) -> CJAssessmentRequested | None:
    try:
        return codec.as_earlier().decode_as(CJAssessmentRequested, record.value)
    except BadRecord:
        return None


def _story(
    settings: Settings,
    scan_range: ScanRange,
    request: LogRecord,
    codec: Codec,
    now_ms: int,
    texts: Texts,
    *,
    show_texts: bool,
) -> BatchStory:
    at, event = request.at, _event_of(request, codec)
    one_request = replace(
        scan_range,
        requests={**scan_range.requests, Partition(at.topic, at.partition): at.offset},
        requests_end={**scan_range.requests_end, Partition(at.topic, at.partition): at.offset + 1},
    )
    log = OneRequest(settings, one_request, request)
    scope_keys = (
        {f"assignment:{event.assignment_id}", f"course:{event.course_code}"} if event else ()
    )
    uploads, histories = _uploads(settings, scope_keys, codec)
    completeness = CompletenessCheck(settings, codec, one_request, at.partition, log, now_ms)
    correctness = CorrectnessCheck(settings, codec, one_request.uploads_end, texts)
    correctness.set_uploads(uploads)
    findings = findings_of(completeness, correctness)
    tally = completeness.tally
    outcomes = list(map(log_record_of, log.outcomes_read))
    if event is not None and not outcomes:
        for finding in log.copied_outcomes(event.batch_id, codec):
            tally.add(finding)
            findings.append(finding)
    document = {
        "at": str(at),
        "appended_at": instant(request.appended_at_ms),
        "key": None if request.key is None else request.key.decode(errors="replace"),
        "event": None if event is None else asdict(event),
        "state": _state(outcomes, codec, tally),
        "parking": [entry_document(entry, codec) for entry in log.entries],
        "outcomes": [
            outcome_document(outcome, codec, histories, settings, show_texts=show_texts)
            for outcome in outcomes
        ],
        "verdict": [
            {
                "says": type(finding).__name__,
                "kind": finding.kind,
                "at": str(finding.at),
                "sentence": finding.sentence,
            }
            for finding in findings
        ],
        "verified": bool(outcomes) and not tally.findings and not tally.not_verifiable,
    }
    return BatchStory(document, tuple(findings), tally)


def _state(outcomes: Sequence[LogRecord], codec: Codec, tally: Tally) -> str:
    """The state of a request in one word."""
    if not outcomes:
        states = ("waiting", "not_yet_prepared")
        return next((state for state in states if tally.requests[state]), "without_outcome")
    event = event_of(outcomes[0], codec)
    if event is None:
        return "dead_lettered"
    return "prepared" if isinstance(event, CJBatchPrepared) else "unresolved"


class OneRequest(PartitionReader):
    """Reads the records about a single request: of outcomes and parked entries, those that name it."""

    def __init__(self, settings: Settings, scan_range: ScanRange, request: LogRecord) -> None:
        super().__init__(settings, scan_range, request.at.partition)
        self._request_at = request.at
        self._name = str(request.at).encode()
        self.outcomes_read: Messages = []
        self.entries: list[LogRecord] = []

    def parked(self) -> Iterator[LogRecord]:
        return self._own_entries(super().parked())

    def parked_since(self) -> Iterator[LogRecord]:
        return self._own_entries(super().parked_since())

    def copied_outcomes(self, batch_id: str, codec: Codec) -> Iterator[Finding]:
        """The outcomes of this batch that name a request of another topic."""
        ends = self._range.outcomes_end
        span = {tp: (start, ends[tp]) for tp, start in self._of(self._range.outcomes).items()}
        for message in messages_containing(self._settings, span, batch_id.encode()):
            record = log_record_of(message)
            outcome = event_of(record, codec)
            if outcome is None or outcome.request.batch_id != batch_id:
                continue
            at = outcome.provenance.request
            if at.topic != self._request_at.topic:
                yield copied(record.at, at)

    def _own_entries(self, records: Iterable[LogRecord]) -> Iterator[LogRecord]:
        for record in records:
            if record.key == self._name:
                self.entries.append(record)
                yield record

    def outcomes(self) -> Iterator[Messages]:
        ends, dead_letters = self._range.outcomes_end, self._settings.topics.requests_dlq.name
        span = {
            partition: (start, ends[partition])
            for partition, start in self._of(self._range.outcomes).items()
        }
        for message in messages_containing(
            self._settings, span, self._name, whole_topic=dead_letters
        ):
            if message.topic() != dead_letters or _is_dead_letter_of(
                log_record_of(message), self._request_at
            ):
                self.outcomes_read.append(message)
                yield [message]


def _is_dead_letter_of(record: LogRecord, at: Coordinates) -> bool:
    try:
        return read_dead_letter_headers(record.headers).at == at
    except Malformed:
        return False


def _uploads(
    settings: Settings, scope_keys: Iterable[str], codec: Codec
) -> tuple[UploadRows, dict[str, ScopeHistory]]:
    """The upload records of these scopes, and the scopes' histories."""
    topics = upload_topics_with_set_aside(settings)
    uploads, histories = UploadRows(topics), dict[str, ScopeHistory]()
    for scope_key in scope_keys:
        number = partition_for(scope_key.encode(), settings.partitions)
        partitions = settings.upload_partitions_with(number)
        ends = high_watermarks_when_reachable(settings, partitions)
        with LogReader(settings, partitions) as log:
            starts = {partition: low for partition, (low, _) in log.offset_ranges().items()}
            records = list(records_of_key(log, scope_key.encode(), starts, ends))
        uploads.add_records(records)
        histories[scope_key] = history_of(scope_key, records, starts, codec.as_earlier(), topics)
    return uploads, histories


def document_of(batch_id: str, stories: Iterable[BatchStory]) -> dict[str, Any]:
    """The stories as one JSON document."""
    return {"batch_id": batch_id, "requests": [story.document for story in stories]}
