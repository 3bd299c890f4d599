"""The texts that uploads name, read from the content store; each distinct text once."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.log.set_aside import upload_topics_with_set_aside
from processors.log.upload_topics import upload_of
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Positions
from schemas.errors import ContentCorrupt, ContentMissing, Malformed
from schemas.events import UploadEvent
from schemas.field_limits import SHA256
from tables.content_store import ContentStore
from tables.upload_record import UploadTopics, read_upload
from tools.audit.check.contexts_as_of import TextReference, Texts
from tools.audit.check.findings import Finding, Note, NotVerifiable, Violation

READERS = 8
BATCH_TEXTS = 1000  # texts that are passed to the readers at once


SENTENCES = {
    "text_missing": "its text {} is not in the content store",
    "text_damaged": "the content store has different bytes for its text {}",
    "text_elsewhere": "its text is stored elsewhere: the text's id is not its sha256",
}


def check_texts(settings: Settings, texts: Texts, upload_ends: Positions) -> Iterator[Finding]:
    """A finding for each text that is missing, damaged, erased by a deletion that says so, or stored elsewhere."""
    store, missing = ContentStore.open(settings.content), Texts()
    with ThreadPoolExecutor(READERS) as readers:
        remaining = iter(texts.items())
        while batch := list(islice(remaining, BATCH_TEXTS)):
            faults = readers.map(lambda item: fault_of(store, item[0]), batch)
            for (text, upload_at), kind in zip(batch, faults, strict=True):
                if kind == "text_missing":
                    missing[text] = upload_at
                elif kind is not None:
                    yield _finding(kind, text, upload_at)
    missing_ids = {text.storage_id for text in missing}
    erased = erasures_of(settings, missing_ids, upload_ends) if missing else {}
    for text, upload_at in missing.items():
        deletion_at = erased.get(text.storage_id)
        sentence = f"its text {text.storage_id} was erased by the deletion {deletion_at}"
        if deletion_at is None:
            yield _finding("text_missing", text, upload_at)
        else:
            yield Note("text_erased", upload_at, sentence)


def fault_of(store: ContentStore, text: TextReference) -> str | None:
    """What is wrong with a text in the store, as the kind of a finding; None if it is intact."""
    if text.sha256 != text.storage_id or not SHA256.fullmatch(text.storage_id):
        return "text_elsewhere"
    try:
        store.get(text.storage_id)
    except ContentMissing:
        return "text_missing"
    except ContentCorrupt:
        return "text_damaged"
    return None


def _finding(kind: str, text: TextReference, upload_at: Coordinates) -> Finding:
    finding = NotVerifiable if kind == "text_elsewhere" else Violation
    return finding(kind, upload_at, SENTENCES[kind].format(text.storage_id))


def erasures_of(
    settings: Settings, storage_ids: set[str], upload_ends: Positions
) -> dict[str, Coordinates]:
    """Which of these texts were erased, by the uploads below these ends; see `erasures_in`."""
    topics, codec = upload_topics_with_set_aside(settings), codec_for(settings)
    with LogReader(settings, upload_ends) as log:
        log.seek_to_start()
        records = log.records_until(upload_ends)
        return erasures_in(records, storage_ids, codec, topics)


def erasures_in(
    records: Iterable[LogRecord], storage_ids: set[str], codec: Codec, topics: UploadTopics
) -> dict[str, Coordinates]:
    """Which of these texts were erased, and the coordinates of the deletion that says so.

    A deletion with `erased` set erases the texts that earlier uploads of its scope and role named, but for those that
    an upload of another scope or role, or a later one, names.
    """
    named, erased = dict[tuple[bytes, str], set[str]](), dict[str, Coordinates]()
    for record in records:
        event = _event_of(record, codec, topics)
        scope_and_role = (record.key or b"", record.at.topic)
        if getattr(event, "storage_id", None) in storage_ids:
            named.setdefault(scope_and_role, set()).add(event.storage_id)  # type: ignore[union-attr]
        elif getattr(event, "erased", False):
            erased |= dict.fromkeys(named.pop(scope_and_role, ()), record.at)
    still_named = set[str]().union(*named.values())
    return {text: at for text, at in erased.items() if text not in still_named}


def _event_of(record: LogRecord, codec: Codec, topics: UploadTopics) -> UploadEvent | None:
    upload = upload_of(record)
    try:
        return read_upload(upload, codec, topics)
    except Malformed:
        return None
