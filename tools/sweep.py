"""`cjstream content sweep`: texts that nothing in the log names go to the trash, and from there, later, for good.

The store is listed first and the log is read after it, to ends taken then. A text is stored before its event is
appended, and made young when an event is to name one that is there already: what is old and unnamed is an orphan.
"""

import re
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
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

LEAST_GRACE = timedelta(hours=1)  # far more than a write takes from its text to its event
MOST_GRACE = timedelta(days=36_500)
DURATION = re.compile(r"([0-9]{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
ID_LENGTH = 64
HEX_RUN = re.compile(rb"[0-9a-f]{64,}")
Texts = tuple[ListedText, ...]


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What was moved, or would be in a dry run; listed and records are how many were looked at."""

    dry_run: bool
    listed: int
    records: int
    trashed: Texts  # orphans
    restored: Texts  # in the trash, and named again
    erased: Texts  # in the trash for a grace period, and not named


def grace_of(text: str) -> timedelta:
    """A grace period such as 7d, 36h, 90m or 7200s. Raises ValueError where it is none, or too short."""
    told = DURATION.fullmatch(text)
    if told is None:
        raise ValueError("a duration is a number and its unit: 7d, 36h, 90m, 7200s")
    grace = timedelta(**{UNITS[told[2]]: int(told[1])})
    if not LEAST_GRACE <= grace <= MOST_GRACE:
        raise ValueError("from an hour, as a text is stored before its event, to 36500 days")
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
    """Find what the log does not name, and move it if delete is set; one sweep at a time.

    patience_s is how long the reading may stand still, as before the end of an open transaction.

    1. list the store  2. read every topic, to ends taken now  3. plan  4. read what is to be moved  5. move it

    Raises Unreachable where a topic or a text cannot be read; nothing has been moved then.
    """
    listed, in_trash, before = tuple(store.listed()), tuple(store.trashed()), now - grace  # 1
    old = tuple(text for text in listed if text.stored_at <= before)
    with LogReader(settings, _every_partition(settings)) as log:
        records, named = names_in(
            _whole(settings, log, patience_s), {*map(_id, old), *map(_id, in_trash)}
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
        _refuse_unreadable(store, text)  # 4
    return _moved(store, planned) if delete else planned  # 5


def names_in(records: Iterable[LogRecord], wanted: Set[bytes]) -> tuple[int, Set[bytes]]:
    """How many records there are, and which of the wanted ids stand in a key, a value or a header of them."""
    count, named = 0, set[bytes]()
    for record in records:
        count += 1
        headers = (part for name, value in record.headers for part in (name.encode(), value))
        for part in (record.key, record.value, *headers):
            named.update(one for one in ids_in(part or b"") if one in wanted)
    return count, named


def ids_in(data: bytes) -> Iterator[bytes]:
    """Every 64 hex digits in a row; what follows an id in Avro may look like one more digit."""
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
    """The texts by what becomes of them."""
    return {"trashed": swept.trashed, "restored": swept.restored, "erased": swept.erased}


def _id(text: ListedText) -> bytes:
    return text.storage_id.encode()


def _every_partition(settings: Settings) -> list[Partition]:
    """Every partition there is of every topic of the catalogue, those that were added, too."""
    states = topic_states(admin_client(settings), settings)
    missing = [state.topic.name for state in states if state.topic_id is None]
    if missing:
        raise Unreachable(
            f"missing topics: {', '.join(missing)}; nothing can be told to be orphaned"
        )
    return [Partition(state.topic.name, one) for state in states for one in range(state.partitions)]


def _whole(settings: Settings, log: LogReader, patience_s: float) -> Iterator[LogRecord]:
    """Every retained record up to the high watermarks; an open transaction holds the reading up."""
    starts = {one: low for one, (low, _) in log.offset_ranges().items()}
    ends = high_watermarks_when_reachable(settings, starts)
    log.seek(starts)
    total = sum(ends[one] - start for one, start in starts.items())
    try:
        yield from bar(log.records_until(ends, seconds=patience_s), "records", total)
    except Discrepancy as fault:  # such as a segment that was deleted under the reader
        raise Unreachable(f"not all of the log could be read: {fault}; sweep again") from fault


def _refuse_unreadable(store: ContentStore, text: ListedText) -> None:
    try:
        with suppress(ContentCorrupt):  # damaged bytes are bytes: they are moved as they are
            store.get(text.storage_id)
    except Discrepancy as fault:
        raise Unreachable(f"not all of the store could be read: {fault}; sweep again") from fault


def _moved(store: ContentStore, planned: SweepReport) -> SweepReport:
    for text in planned.restored:
        store.restore(text.storage_id)
    for text in planned.erased:
        store.erase(text.storage_id)
    trashed = tuple(text for text in planned.trashed if store.trash(text))
    return replace(planned, trashed=trashed)
