"""`cjstream content sweep`: move texts that nothing in the log names to the trash, and delete them later.

The store is listed first; the log is read afterwards, up to its ends at that time. A text is stored before its event
is appended, and an existing text gets a new time before a new event names it. So an old, unnamed text is an orphan.
"""

import re
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import topic_states
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import ContentCorrupt, Discrepancy, Unreachable
from tables.content_store import ContentStore, ListedText
from tools.progress import bar
from tools.times import duration_of

MIN_GRACE = timedelta(hours=1)  # a write needs far less time between its text and its event
MAX_GRACE = timedelta(days=36_500)
ID_LENGTH = 64
HEX_RUN = re.compile(rb"[0-9a-f]{64,}")
Texts = tuple[ListedText, ...]


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What was moved, or would be moved in a dry run; `listed` and `records` count the texts and records examined."""

    dry_run: bool
    listed: int
    records: int
    trashed: Texts  # orphans
    restored: Texts  # in the trash, but named again
    erased: Texts  # in the trash for at least the grace period, and not named


def grace_of(text: str) -> timedelta:
    """A grace period such as 7d, 36h, 90m or 7200s. Raises ValueError if it is not a duration, or out of range."""
    grace = duration_of(text)
    if grace is None:
        raise ValueError("must be a duration, a number with a unit: 7d, 36h, 90m, 7200s")
    if not MIN_GRACE <= grace <= MAX_GRACE:
        raise ValueError(
            "must be at least an hour, as a text is stored before its event, and at most 36500 days"
        )
    return grace


def sweep(
    settings: Settings,
    store: ContentStore,
    *,
    grace: timedelta,
    delete: bool,
    now: datetime,
    patience_s: float = 30.0,
) -> SweepReport:
    """Find the texts that the log does not name, and move them if `delete` is set; run one sweep at a time.

    patience_s is how long reading may make no progress, for example before the end of an open transaction.

    1. list the store  2. read every topic up to its current end  3. plan  4. read the texts to move  5. move them

    Raises Unreachable if a topic or a text cannot be read, before anything is moved.
    """
    listed, in_trash, before = (
        tuple(store.list_texts()),
        tuple(store.list_trash()),
        now - grace,
    )  # 1
    old = tuple(text for text in listed if text.stored_at <= before)
    with LogReader(settings, _every_partition(settings)) as log:
        records, named = names_in(
            _all_records(settings, log, patience_s), {*map(_id, old), *map(_id, in_trash)}
        )  # 2
    planned = SweepReport(
        dry_run=not delete,
        listed=len(listed),
        records=records,
        trashed=tuple(text for text in old if _id(text) not in named),
        restored=tuple(text for text in in_trash if _id(text) in named),
        erased=tuple(
            text for text in in_trash if text.stored_at <= before and _id(text) not in named
        ),
    )  # 3
    for text in (*planned.trashed, *planned.restored, *planned.erased):
        with _complete("store"), suppress(ContentCorrupt):  # damaged texts are moved as they are
            store.get(text.storage_id)  # 4
    return _move(store, planned) if delete else planned  # 5


def names_in(records: Iterable[LogRecord], wanted: Set[bytes]) -> tuple[int, Set[bytes]]:
    """The number of records, and those of the wanted ids that occur in a key, a value or a header."""
    count, named = 0, set[bytes]()
    for record in records:
        count += 1
        headers = (part for name, value in record.headers for part in (name.encode(), value))
        for part in (record.key, record.value, *headers):
            named.update(text_id for text_id in ids_in(part or b"") if text_id in wanted)
    return count, named


def ids_in(data: bytes) -> Iterator[bytes]:
    """Every run of 64 hex digits, overlapping ones too: the byte next to an id in Avro may look like a digit."""
    for run in HEX_RUN.finditer(data):
        for start in range(run.start(), run.end() - ID_LENGTH + 1):
            yield data[start : start + ID_LENGTH]


def document_of(swept: SweepReport) -> dict[str, Any]:
    """A sweep as JSON."""
    return {
        "dry_run": swept.dry_run,
        "listed": swept.listed,
        "records": swept.records,
        **{
            name: {
                "count": len(texts),
                "bytes": sum(text.size_bytes for text in texts),
                "ids": [text.storage_id for text in texts],
            }
            for name, texts in moves(swept).items()
        },
    }


def moves(swept: SweepReport) -> dict[str, Texts]:
    """The texts by kind of move."""
    return {"trashed": swept.trashed, "restored": swept.restored, "erased": swept.erased}


def _id(text: ListedText) -> bytes:
    return text.storage_id.encode()


def _every_partition(settings: Settings) -> list[Partition]:
    """Every existing partition of every topic of the catalogue, including partitions that were added later."""
    states = topic_states(admin_client(settings), settings)
    missing = [state.topic.name for state in states if state.topic_id is None]
    if missing:
        raise Unreachable(
            f"missing topics: {', '.join(missing)}; without them no text is known to be an orphan"
        )
    return [partition for state in states for partition in state.all_partitions]


def _all_records(settings: Settings, log: LogReader, patience_s: float) -> Iterator[LogRecord]:
    """Every retained record up to the high watermarks; an open transaction delays the reading."""
    starts = {partition: low for partition, (low, _) in log.offset_ranges().items()}
    ends = high_watermarks_when_reachable(settings, starts)
    log.seek(starts)
    total = sum(ends[partition] - start for partition, start in starts.items())
    with _complete("log"):  # for example, a segment may be deleted during the reading
        yield from bar(log.records_until(ends, seconds=patience_s), "records", total)


@contextmanager
def _complete(what: str) -> Iterator[None]:
    """Raise Unreachable if something cannot be read: nothing may be moved then."""
    try:
        yield
    except Discrepancy as fault:
        raise Unreachable(
            f"not all of the {what} could be read: {fault}; run the sweep again"
        ) from fault


def _move(store: ContentStore, planned: SweepReport) -> SweepReport:
    for text in planned.restored:
        store.restore(text.storage_id)
    for text in planned.erased:
        store.erase(text.storage_id)
    trashed = tuple(text for text in planned.trashed if store.trash(text))
    return replace(planned, trashed=trashed)
