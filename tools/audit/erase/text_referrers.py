"""Who names a text: scopes (in their uploads), requests, runs (responses), and dead letters, which may be re-driven."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import topic_states
from processors.log.reader import LogReader
from processors.log.set_aside import administered_topics_with_set_aside
from processors.log.upload_topics import upload_of
from processors.outcomes.resolve import scope_key_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import BadRecord
from schemas.events import CJAssessmentRequested
from tables.history.text_references import ReferencedTexts
from tables.upload_record import read_upload
from tools.audit.erase.run_responses import RunScopes
from tools.audit.seal.seal_create import present
from tools.progress import bar
from tools.sweep import ids_in

READ_TIMEOUT_S = 30.0


def referrers_of(
    settings: Settings, codec: Codec, scope_key: str, texts: Set[str]
) -> Mapping[str, Set[str]]:
    """By storage id, who other than the scope names one of these texts in the current log.

    Another scope names the texts of its uploads until they are erased. A request of another scope names its ids while
    the log has the request; so do a run of another scope, a dead letter without the scope's key, and a record that this
    release cannot read.
    Raises Unreachable, Discrepancy for a missing topic.
    """
    topics = settings.topics
    searched = (*topics.administered, topics.requests, topics.uploads_dlq, topics.requests_dlq)
    searched += (topics.judging,)
    states = present(topic_states(admin_client(settings), settings), searched)
    partitions = [partition for state in states for partition in state.all_partitions]
    referrers = TextReferrers(
        settings, codec, scope_key.encode(), {text.encode() for text in texts}
    )
    with LogReader(settings, partitions) as log:
        starts = {partition: low for partition, (low, _) in log.offset_ranges().items()}
        ends = high_watermarks_when_reachable(settings, starts)
        log.seek(starts)
        total = sum(end - starts[partition] for partition, end in ends.items())
        for record in bar(log.records_until(ends, READ_TIMEOUT_S), "records", total):
            referrers.add(record)
    return referrers.by_text()


@dataclass(slots=True)
class TextReferrers:
    """Who names these texts in the records added so far; the records of a partition come in log order."""

    settings: Settings
    codec: Codec
    own_key: bytes
    texts: Set[bytes]
    scopes: dict[bytes, ReferencedTexts] = field(default_factory=dict)
    others: dict[str, set[str]] = field(default_factory=dict)
    runs: RunScopes = field(init=False)

    def __post_init__(self) -> None:
        self.runs = RunScopes(self.codec)

    def add(self, record: LogRecord) -> None:
        """Add the next record; one without any of the texts' ids is decoded only if it may be an erasure."""
        found = {text for text in ids_in(record.value or b"") if text in self.texts}
        topics = self.settings.topics
        if record.at.topic == topics.requests.name:
            if found:
                self._note(found, self._requested_by(record))
        elif record.at.topic == topics.judging.name:
            if (scope_key := self.runs.scope_of(record)) != self.own_key.decode() and found:
                run = f"run {(record.key or b'').decode(errors='replace')}"
                self._note(found, run if scope_key is None else f"a run of {scope_key}")
        elif record.at.topic in (topics.uploads_dlq.name, topics.requests_dlq.name):
            if found and record.key != self.own_key:
                self._note(found, str(record.at))
        elif record.key != self.own_key and (found or record.key in self.scopes):
            self._add_upload(record, found)

    def _add_upload(self, record: LogRecord, found: Set[bytes]) -> None:
        upload = upload_of(record)
        try:
            event = read_upload(
                upload, self.codec, administered_topics_with_set_aside(self.settings)
            )
        except BadRecord:  # also one of a later release: it may or may not be an erasure
            self._note(found, str(record.at))
            return
        self.scopes.setdefault(record.key or b"", ReferencedTexts()).add(event)

    def _requested_by(self, record: LogRecord) -> str | None:
        """Who sent a request; None if it belongs to the scope itself."""
        try:
            request = self.codec.decode_as(CJAssessmentRequested, record.value)
        except BadRecord:
            return str(record.at)
        scope_key = scope_key_for(request)
        return None if scope_key.encode() == self.own_key else f"a request of {scope_key}"

    def _note(self, found: Set[bytes], who: str | None) -> None:
        if who is not None:
            for text in found:
                self.others.setdefault(text.decode(), set()).add(who)

    def by_text(self) -> Mapping[str, Set[str]]:
        """By storage id, who names it."""
        named = {text: set(who) for text, who in self.others.items()}
        for key, referenced in self.scopes.items():
            for text in referenced.current:
                if text.encode() in self.texts:
                    named.setdefault(text, set()).add(key.decode())
        return named
