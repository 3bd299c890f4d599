"""`cjstream audit batch`: all that the log knows of one batch id: requests, waiting, outcomes, uploads, texts, verdict.

Requests are looked for in the partition of the id as a key, where our own tools put them, and everywhere where none is
there or that is wanted: a key may be any bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord, log_record_of
from processors.log.reader import LogReader, Messages
from processors.log.record_lookup import messages_containing
from processors.log.upload_topics import records_of_key
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, upload_partitions, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import read_refusal
from schemas.errors import BadRecord, Malformed
from schemas.events import (
    ROLES,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
    Outcome,
    UploadUsed,
)
from schemas.partitioner import partition_for
from tables.content_store import ContentStore
from tables.history.scope_history import ScopeHistory, UploadVersion, history_of
from tools.audit.check.completeness import CompletenessCheck
from tools.audit.check.contexts_as_of import Texts
from tools.audit.check.correctness import CorrectnessCheck
from tools.audit.check.findings import Finding, Tally
from tools.audit.check.partition_reader import PartitionReader
from tools.audit.check.scan_range import ScanRange
from tools.audit.check.upload_timelines import UploadTimelines
from tools.audit.stored_text import TextState, text_of


@dataclass(frozen=True, slots=True)
class UsedUpload:
    """An upload that an outcome names, as it stands in the log, and its text; no version where it is not there."""

    role: str
    named: UploadUsed
    version: UploadVersion | None
    text: TextState | None


@dataclass(frozen=True, slots=True)
class OutcomeStory:
    """One outcome: an event, or a dead letter, and the uploads that it names."""

    record: LogRecord
    event: Outcome | None
    used: tuple[UsedUpload, ...]


@dataclass(frozen=True, slots=True)
class BatchStory:
    """One request with the batch's id, and all that came of it; no event where its bytes are none."""

    record: LogRecord
    event: CJAssessmentRequested | None
    parking: tuple[LogRecord, ...]
    outcomes: tuple[OutcomeStory, ...]
    remarks: tuple[Finding, ...]
    tally: Tally


def batch(
    settings: Settings,
    extent: ScanRange,
    batch_id: str,
    now_ms: int,
    texts: Texts,
    *,
    everywhere: bool = False,
) -> list[BatchStory]:
    """Every request of a batch id with its story; none where there is none. Raises Unreachable, Discrepancy.

    texts are told those that the verdict rests on.
    """
    codec = codec_for(settings)
    return [
        _story(settings, extent, request, codec, now_ms, texts)
        for request in _requests(settings, extent, batch_id, codec, everywhere=everywhere)
    ]


def _requests(
    settings: Settings, extent: ScanRange, batch_id: str, codec: Codec, *, everywhere: bool
) -> list[LogRecord]:
    belongs = partition_for(batch_id.encode(), settings.partitions)
    asked = sorted(extent.requests, key=lambda one: one.partition != belongs)
    found = list[LogRecord]()
    for one in asked:
        if found and not everywhere:
            break
        span = {one: (extent.requests[one], extent.requests_end[one])}
        for message in messages_containing(settings, span, batch_id.encode()):
            record = log_record_of(message)
            if _is_of(record, batch_id, codec):
                found.append(record)
    return found


def _is_of(record: LogRecord, batch_id: str, codec: Codec) -> bool:
    """Whether it asks for that batch; of what is no request the key has to do."""
    event = _event_of(record, codec)
    return record.key == batch_id.encode() if event is None else event.batch_id == batch_id


def _event_of(record: LogRecord, codec: Codec) -> CJAssessmentRequested | None:
    try:
        return codec.decode_as(CJAssessmentRequested, record.value)
    except BadRecord:
        return None


def _story(
    settings: Settings,
    extent: ScanRange,
    request: LogRecord,
    codec: Codec,
    now_ms: int,
    texts: Texts,
) -> BatchStory:
    at, event = request.at, _event_of(request, codec)
    own = replace(
        extent,
        requests={**extent.requests, Partition(at.topic, at.partition): at.offset},
        requests_end={**extent.requests_end, Partition(at.topic, at.partition): at.offset + 1},
    )
    log = OneRequest(settings, own, request)
    scope_keys = (
        {f"assignment:{event.assignment_id}", f"course:{event.course_code}"} if event else ()
    )
    timelines, histories = _uploads(settings, scope_keys, codec)
    audit = CompletenessCheck(settings, codec, own, at.partition, log, now_ms)
    verdicts = CorrectnessCheck(settings, codec, own.uploads_end, texts)
    said = verdicts.of(timelines, audit.run())
    remarks = tuple(one for one in said if not isinstance(one, int))
    for one in remarks:
        audit.tally.add(one)
    outcomes = tuple(
        _ended(log_record_of(one), codec, histories, settings) for one in log.of_this_request
    )
    return BatchStory(request, event, tuple(log.entries), outcomes, remarks, audit.tally)


class OneRequest:
    """What an audit of a single request reads: of outcomes and entries those that name it."""

    def __init__(self, settings: Settings, extent: ScanRange, request: LogRecord) -> None:
        self._log = PartitionReader(settings, extent, request.at.partition)
        self._settings = settings
        self._extent = extent
        self._name = str(request.at).encode()
        self._request = request
        self.of_this_request: Messages = []
        self.entries: list[LogRecord] = []

    def requests(self) -> Iterator[Messages]:
        return self._log.requests()

    def parked(self) -> Iterator[LogRecord]:
        return self._kept(self._log.parked())

    def parked_since(self) -> Iterator[LogRecord]:
        return self._kept(self._log.parked_since())

    def _kept(self, records: Iterable[LogRecord]) -> Iterator[LogRecord]:
        for record in records:
            if record.key == self._name:
                self.entries.append(record)
                yield record

    def outcomes(self) -> Iterator[Messages]:
        number = self._request.at.partition
        span = {
            one: (begin, self._extent.outcomes_end[one])
            for one, begin in self._extent.outcomes.items()
            if one.partition == number
        }
        letters = self._settings.topics.requests_dlq.name
        for message in messages_containing(self._settings, span, self._name, whole=letters):
            if message.topic() != letters or _is_letter_of(
                log_record_of(message), self._request.at
            ):
                self.of_this_request.append(message)
                yield [message]

    def picked(self, wanted: Iterable[Coordinates]) -> Iterator[LogRecord]:
        return self._log.picked(wanted)

    def outcomes_kept_since_ms(self, now_ms: int) -> int:
        return self._log.outcomes_kept_since_ms(now_ms)


def _is_letter_of(record: LogRecord, at: Coordinates) -> bool:
    try:
        return read_refusal(record.headers).at == at
    except Malformed:
        return False


def _uploads(
    settings: Settings, scope_keys: Iterable[str], codec: Codec
) -> tuple[UploadTimelines, dict[str, ScopeHistory]]:
    """The records of these scopes alone, and their histories."""
    topics = upload_topics(settings)
    timelines, histories = UploadTimelines(topics), dict[str, ScopeHistory]()
    for scope_key in scope_keys:
        belongs = partition_for(scope_key.encode(), settings.partitions)
        wanted = [one for one in upload_partitions(settings) if one.partition == belongs]
        ends = high_watermarks_when_reachable(settings, wanted)
        with LogReader(settings, wanted) as log:
            starts = {one: low for one, (low, _) in log.offset_ranges().items()}
            records = list(records_of_key(log, scope_key.encode(), starts, ends))
        timelines.add_records(records)
        histories[scope_key] = history_of(scope_key, records, starts, codec, topics)
    return timelines, histories


def _ended(
    record: LogRecord, codec: Codec, histories: dict[str, ScopeHistory], settings: Settings
) -> OutcomeStory:
    try:
        event = codec.decode(record.value)
    except BadRecord:
        return OutcomeStory(record, None, ())
    if not isinstance(event, CJBatchPrepared | CJBatchUnresolved):
        return OutcomeStory(record, None, ())
    versions = {
        version.at: (version, history)
        for history in histories.values()
        for version in history.versions
    }
    store, used = ContentStore.at(settings.content), list[UsedUpload]()
    for role in ROLES:
        named: UploadUsed | None = getattr(event.provenance, role)
        if named is None:
            continue
        version, history = versions.get(named.source, (None, None))
        storage_id = getattr(version.event, "storage_id", None) if version else None
        text = None
        if storage_id is not None and history is not None:
            text = text_of(store, storage_id, named.sha256, role, named.source, history)
        used.append(UsedUpload(role, named, version, text))
    return OutcomeStory(record, event, tuple(used))
