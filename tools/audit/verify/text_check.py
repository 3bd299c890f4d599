"""The texts that uploads name, read from the content store: each distinct one once."""

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
AHEAD = 1000  # texts asked for at once


class TextFault(NamedTuple):
    """A text that cannot be read as it was stored."""

    text: TextReference
    upload_at: Coordinates
    kind: str


def check_texts(settings: Settings, texts: Texts, upload_ends: Positions) -> Iterator[Finding]:
    """What is to be said of texts: missing, damaged, erased by a deletion that says so, or stored elsewhere."""
    store = ContentStore.at(settings.content)
    missing = list[TextFault]()
    with ThreadPoolExecutor(READERS) as readers:
        left = iter(texts.items())
        while some := list(islice(left, AHEAD)):
            for fault in readers.map(lambda one: faulty(store, *one), some):
                if fault is None:
                    continue
                if fault.kind == "text_missing":
                    missing.append(fault)
                else:
                    yield _remark(fault)
    if missing:
        erased = erased_of(settings, {fault.text.storage_id for fault in missing}, upload_ends)
        for fault in missing:
            yield _erased(fault, erased) or _remark(fault)


def faulty(store: ContentStore, text: TextReference, upload_at: Coordinates) -> TextFault | None:
    """What is wrong with a text in the store."""
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
    "text_damaged": "its text {} stands in the content store with other bytes",
    "text_elsewhere": "its text's id is not the sha256 of a text in the content store",
}


def _remark(fault: TextFault) -> Finding:
    says = NotVerifiable if fault.kind == "text_elsewhere" else Violation
    return says(fault.kind, fault.upload_at, SENTENCES[fault.kind].format(fault.text.storage_id))


def _erased(fault: TextFault, erased: dict[str, Coordinates]) -> Note | None:
    by = erased.get(fault.text.storage_id)
    told = f"its text {fault.text.storage_id} was erased by {by}"
    return None if by is None else Note("text_erased", fault.upload_at, told)


def erased_of(
    settings: Settings, storage_ids: set[str], upload_ends: Positions
) -> dict[str, Coordinates]:
    """Which of these texts an erasing deletion of a scope and role that had named them has erased, and where it is."""
    topics = upload_topics(settings)
    codec, named, erased = (
        codec_for(settings),
        dict[tuple[str, bytes], set[str]](),
        dict[str, Coordinates](),
    )
    for record in _uploads(settings, upload_ends):
        event = _event_of(record, codec, topics)
        place = record.at.topic, record.key or b""
        if getattr(event, "storage_id", None) in storage_ids:
            named.setdefault(place, set()).add(event.storage_id)  # type: ignore[union-attr]
        elif getattr(event, "erased", False):
            erased |= dict.fromkeys(named.get(place, ()), record.at)
    return erased


def _uploads(settings: Settings, ends: Positions) -> Iterator[LogRecord]:
    for one, end in ends.items():
        with LogReader(settings, [one]) as log:
            log.seek({one: log.offset_ranges()[one][0]})
            yield from log.records_until({one: end})


def _event_of(record: LogRecord, codec: Codec, topics: UploadTopics) -> UploadEvent | None:
    upload = UploadRecord(record.at, record.key, record.value, record.appended_at_ms)
    try:
        return read_upload(upload, codec, topics)
    except Malformed:
        return None
