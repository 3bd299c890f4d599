"""Who names a text: scopes by their uploads, requests, and dead letters, which may come back to life."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import topic_states
from processors.log.reader import LogReader
from processors.outcomes.resolve import scope_key_for
from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.errors import BadRecord
from schemas.events import CJAssessmentRequested
from tables.history.text_references import ReferencedTexts
from tables.upload_record import UploadRecord, read_upload
from tools.audit.seal.seal_create import present
from tools.progress import bar
from tools.sweep import ids_in

PATIENCE_S = 30.0


def referrers_of(
    settings: Settings, codec: Codec, scope_key: str, texts: Set[str]
) -> Mapping[str, Set[str]]:
    """By storage id, who but the scope names one of these texts in the log as it is now.

    A scope names what its uploads name, until they are erased. A request of another scope names its ids for as long as
    the log has it; so does a dead letter, unless it has the scope's key, and what this release cannot read.
    Raises Unreachable, Discrepancy for a missing topic.
    """
    topics = settings.topics
    read = (*topics.uploads, topics.requests, topics.uploads_dlq, topics.requests_dlq)
    states = present(topic_states(admin_client(settings), settings), read)
    partitions = [Partition(one.topic.name, n) for one in states for n in range(one.partitions)]
    naming = TextReferrers(settings, codec, scope_key.encode(), {text.encode() for text in texts})
    with LogReader(settings, partitions) as log:
        starts = {one: low for one, (low, _) in log.offset_ranges().items()}
        ends = high_watermarks_when_reachable(settings, starts)
        log.seek(starts)
        total = sum(end - starts[one] for one, end in ends.items())
        for record in bar(log.records_until(ends, PATIENCE_S), "records", total):
            naming.take(record)
    return naming.by_text()


@dataclass(slots=True)
class TextReferrers:
    """What the records so far name of some texts; those of a partition come in log order."""

    settings: Settings
    codec: Codec
    own_key: bytes
    texts: Set[bytes]
    scopes: dict[bytes, ReferencedTexts] = field(default_factory=dict)
    others: dict[str, set[str]] = field(default_factory=dict)

    def take(self, record: LogRecord) -> None:
        """Take in the next record; one that has none of the texts' ids is decoded only where it may be an erasure."""
        found = {one for one in ids_in(record.value or b"") if one in self.texts}
        topics = self.settings.topics
        if record.at.topic == topics.requests.name:
            if found:
                self._name(found, self._requested_by(record))
        elif record.at.topic in (topics.uploads_dlq.name, topics.requests_dlq.name):
            if found and record.key != self.own_key:
                self._name(found, str(record.at))
        elif record.key != self.own_key and (found or record.key in self.scopes):
            self._upload(record, found)

    def _upload(self, record: LogRecord, found: Set[bytes]) -> None:
        stood = UploadRecord(record.at, record.key, record.value, record.appended_at_ms)
        try:
            event = read_upload(stood, self.codec, upload_topics(self.settings))
        except BadRecord:  # of a later release, too: what it says of erasures is not known
            self._name(found, str(record.at))
            return
        self.scopes.setdefault(record.key or b"", ReferencedTexts()).add(event)

    def _requested_by(self, record: LogRecord) -> str | None:
        """Whose a request is; None for the scope's own."""
        try:
            request = self.codec.decode_as(CJAssessmentRequested, record.value)
        except BadRecord:
            return str(record.at)
        scope_key = scope_key_for(request)
        return None if scope_key.encode() == self.own_key else f"a request of {scope_key}"

    def _name(self, found: Set[bytes], who: str | None) -> None:
        if who is not None:
            for one in found:
                self.others.setdefault(one.decode(), set()).add(who)

    def by_text(self) -> Mapping[str, Set[str]]:
        """By storage id, who names it."""
        named = {text: set(who) for text, who in self.others.items()}
        for key, of_scope in self.scopes.items():
            for text in of_scope.current:
                if text.encode() in self.texts:
                    named.setdefault(text, set()).add(key.decode())
        return named
