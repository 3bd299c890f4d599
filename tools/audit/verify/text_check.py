"""The texts that uploads name, read from the content store; each distinct text once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Positions
from schemas.errors import ContentCorrupt, ContentMissing, Malformed
from schemas.events import UploadEvent
from schemas.field_limits import SHA256
from tables.content_store import ContentStore
from tables.upload_record import UploadRecord, UploadTopics, read_upload
from tools.audit.check.contexts_as_of import TextReference, Texts
from tools.audit.check.findings import Finding, Note, NotVerifiable, Violation

READERS = 8
BATCH_TEXTS = 1000  # texts that are passed to the readers at once


class TextFault(NamedTuple):
    """A text that cannot be read as it was stored."""

    text: TextReference
    upload_at: Coordinates
    kind: str


def check_texts(settings: Settings, texts: Texts, upload_ends: Positions) -> Iterator[Finding]:
    """A finding for each text that is missing, damaged, erased by a deletion that says so, or stored elsewhere."""
    store = ContentStore.open(settings.content)
    missing = list[TextFault]()
    with ThreadPoolExecutor(READERS) as readers:
        remaining = iter(texts.items())
        while batch := list(islice(remaining, BATCH_TEXTS)):
            for fault in readers.map(lambda item: fault_of(store, *item), batch):
                if fault is None:
                    continue
                if fault.kind == "text_missing":
                    missing.append(fault)
                else:
                    yield _finding(fault)
    if missing:
        erased = erasures_of(settings, {fault.text.storage_id for fault in missing}, upload_ends)
        for fault in missing:
            yield _erased(fault, erased) or _finding(fault)


def fault_of(store: ContentStore, text: TextReference, upload_at: Coordinates) -> TextFault | None:
    """What is wrong with a text in the store; None if it is intact."""
    if text.sha256 != text.storage_id or not SHA256.fullmatch(text.storage_id):
        return TextFault(text, upload_at, "text_elsewhere")
    try:
        store.get(text.storage_id)
    except ContentMissing:
        return TextFault(text, upload_at, "text_missing")
    except ContentCorrupt:
        return TextFault(text, upload_at, "text_damaged")
    return None


SENTENCES = {
    "text_missing": "its text {} is not in the content store",
    "text_damaged": "the content store has different bytes for its text {}",
    "text_elsewhere": "its text is stored elsewhere: the text's id is not its sha256",
}


def _finding(fault: TextFault) -> Finding:
    finding = NotVerifiable if fault.kind == "text_elsewhere" else Violation
    return finding(fault.kind, fault.upload_at, SENTENCES[fault.kind].format(fault.text.storage_id))


def _erased(fault: TextFault, erased: dict[str, Coordinates]) -> Note | None:
    deletion_at = erased.get(fault.text.storage_id)
    sentence = f"its text {fault.text.storage_id} was erased by the deletion {deletion_at}"
    return None if deletion_at is None else Note("text_erased", fault.upload_at, sentence)


def erasures_of(
    settings: Settings, storage_ids: set[str], upload_ends: Positions
) -> dict[str, Coordinates]:
    """Which of these texts were erased, and the coordinates of the deletion that says so.

    A deletion with `erased` set erases the texts that earlier uploads of its scope and role named.
    """
    topics = upload_topics(settings)
    codec, named, erased = (
        codec_for(settings),
        dict[tuple[str, bytes], set[str]](),
        dict[str, Coordinates](),
    )
    for record in _uploads(settings, upload_ends):
        event = _event_of(record, codec, topics)
        topic_and_key = record.at.topic, record.key or b""
        if getattr(event, "storage_id", None) in storage_ids:
            named.setdefault(topic_and_key, set()).add(event.storage_id)  # type: ignore[union-attr]
        elif getattr(event, "erased", False):
            erased |= dict.fromkeys(named.get(topic_and_key, ()), record.at)
    return erased


def _uploads(settings: Settings, ends: Positions) -> Iterator[LogRecord]:
    for partition, end in ends.items():
        with LogReader(settings, [partition]) as log:
            log.seek({partition: log.offset_ranges()[partition][0]})
            yield from log.records_until({partition: end})


def _event_of(record: LogRecord, codec: Codec, topics: UploadTopics) -> UploadEvent | None:
    upload = UploadRecord(record.at, record.key, record.value, record.appended_at_ms)
    try:
        return read_upload(upload, codec, topics)
    except Malformed:
        return None
