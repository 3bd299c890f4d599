"""The sweep: texts that nothing in the log names go to the trash, and a grace period later they are deleted."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from processors.kafka.clients import admin_client, plain_producer, transactional_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import ContentFailed, ContentMissing, Unreachable
from tables.content_store import ContentStore, ListedText, StoredText
from tests.support.builders import instructions_uploaded
from tests.support.installations import installation
from tests.support.run_command import run_text
from tests.support.s3_stub import bucket_server
from tools.broker import Broker
from tools.sweep import SweepReport, grace_of, ids_in, names_in, sweep

ROOT = Path(__file__).parents[2]
WEEK = timedelta(days=7)
ORPHAN, NAMED = b"Nothing names this text.", b"Something names this text."


def id_of(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


@pytest.fixture
def store(settings: Settings) -> ContentStore:
    return ContentStore.open(settings.content)


@pytest.fixture
def run(settings: Settings, store: ContentStore) -> Callable[..., SweepReport]:
    """A function that sweeps as of some days from now."""

    def swept(days: float = 8, *, delete: bool = True, **options: Any) -> SweepReport:
        now = datetime.now(UTC) + timedelta(days=days)
        return sweep(settings, store, grace=WEEK, delete=delete, now=now, **options)

    return swept


def append(
    settings: Settings, topic: str, key: bytes | None, value: bytes | None, **options: Any
) -> None:
    headers = options.get("headers", [])
    deliver(
        plain_producer(settings), [Record(topic, options.get("partition", 0), key, value, headers)]
    )


def name_in_an_event(settings: Settings, text: bytes) -> None:
    event = instructions_uploaded(text.decode())
    append(settings, settings.topics.instructions.name, b"assignment:a1", Codec().encode(event))


def ids(texts: tuple[ListedText, ...]) -> set[str]:
    return {text.storage_id for text in texts}


def listed_ids(texts: Iterator[ListedText]) -> set[str]:
    return {text.storage_id for text in texts}


Run = Callable[..., SweepReport]


def test_an_orphan_goes_to_the_trash_stays_readable_and_is_erased_a_grace_period_later(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    for text in (ORPHAN, NAMED):
        store.put(text)
    name_in_an_event(settings, NAMED)

    listed = run(delete=False)
    assert (listed.dry_run, listed.listed, listed.records) == (True, 2, 1)
    assert ids(listed.trashed) == {id_of(ORPHAN)}
    assert listed_ids(store.list_trash()) == set()

    moved = run()
    assert (ids(moved.trashed), moved.restored, moved.erased) == ({id_of(ORPHAN)}, (), ())
    assert (listed_ids(store.list_texts()), listed_ids(store.list_trash())) == (
        {id_of(NAMED)},
        {id_of(ORPHAN)},
    )
    assert store.get(id_of(ORPHAN)) == ORPHAN

    assert run(days=6.9) == SweepReport(False, 1, 1, (), (), ())  # not long enough in the trash
    assert ids(run().erased) == {id_of(ORPHAN)}
    with pytest.raises(ContentMissing):
        store.get(id_of(ORPHAN))
    assert store.get(id_of(NAMED)) == NAMED


def test_a_young_text_is_not_moved(store: ContentStore, run: Run) -> None:
    store.put(ORPHAN)
    assert run(days=6.9).trashed == ()
    assert listed_ids(store.list_texts()) == {id_of(ORPHAN)}


def test_a_text_that_is_stored_again_is_young_again(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    renewals: tuple[Callable[[], StoredText], ...] = (
        lambda: store.put(ORPHAN),
        lambda: store.renew(id_of(ORPHAN)),
    )
    for renew in renewals:
        store.put(ORPHAN)
        folder = settings.data_dir / "content" / "sha256"
        os.utime(folder / id_of(ORPHAN)[:2] / id_of(ORPHAN), (0, 0))
        assert ids(run(days=0, delete=False).trashed) == {id_of(ORPHAN)}
        renew()
        assert run(days=0).trashed == ()


def test_an_id_is_found_in_every_part_of_a_record_and_in_every_topic(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    """In a key, a value, a header, a tombstone's key, a dead letter; whether it can be decoded or not."""
    topics = settings.topics
    texts = [b"text %d" % number for number in range(len(topics.all) + 4)]
    for text in (*texts, ORPHAN):
        store.put(text)
    named = iter(id_of(text).encode() for text in texts)
    for topic in topics.all:
        append(settings, topic.name, b"k", b"\xff" + next(named) + b"0\0")
    append(settings, topics.requests.name, next(named), b"?")
    append(settings, topics.parked.name, b"key-" + next(named), None)
    append(settings, topics.requests_dlq.name, b"k", b"?", headers=[("why", next(named))])
    append(settings, topics.uploads_dlq.name, b"k", b"?", headers=[(next(named).decode(), b"")])
    assert ids(run(delete=False).trashed) == {id_of(ORPHAN)}


def test_partitions_that_were_added_later_are_read_too(broker: Broker, tmp_path: Path) -> None:
    grown = installation(broker, tmp_path, partitions=4)
    before_growth = grown.model_copy(update={"partitions": 2})
    store = ContentStore.open(grown.content)
    store.put(NAMED)
    append(grown, grown.topics.requests.name, b"k", id_of(NAMED).encode(), partition=3)
    found = sweep(
        before_growth,
        store,
        grace=WEEK,
        delete=True,
        now=datetime.now(UTC) + timedelta(days=8),
    )
    assert (found.records, found.trashed) == (1, ())


def test_a_text_in_the_trash_that_is_named_again_is_restored(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    store.put(NAMED, "text/markdown")
    assert ids(run().trashed) == {id_of(NAMED)}
    name_in_an_event(settings, NAMED)
    assert ids(run(days=16, delete=False).restored) == {id_of(NAMED)}
    assert listed_ids(store.list_trash()) == {id_of(NAMED)}
    swept = run(days=16)
    assert (swept.trashed, ids(swept.restored), swept.erased) == ((), {id_of(NAMED)}, ())
    assert (listed_ids(store.list_texts()), listed_ids(store.list_trash())) == (
        {id_of(NAMED)},
        set(),
    )
    assert store.head(id_of(NAMED)).media_type == "text/markdown"


def test_a_text_that_is_stored_again_survives_the_erasure_of_its_copy_in_the_trash(
    store: ContentStore, run: Run
) -> None:
    store.put(ORPHAN)
    run()
    store.put(ORPHAN)
    swept = run(days=6.9)
    assert (swept.trashed, swept.erased) == ((), ())
    swept = run(days=8)  # both are old by now: the copy is erased, and the text goes to the trash
    assert (ids(swept.trashed), ids(swept.erased)) == ({id_of(ORPHAN)}, {id_of(ORPHAN)})
    assert store.get(id_of(ORPHAN)) == ORPHAN


def test_damaged_orphans_are_moved_unchanged(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    store.put(ORPHAN)
    path = Path("content", "sha256", id_of(ORPHAN)[:2], id_of(ORPHAN))
    (settings.data_dir / path).write_bytes(b"damaged")
    assert ids(run().trashed) == {id_of(ORPHAN)}
    moved = settings.data_dir / "content" / "trash" / path.parts[2] / path.name
    assert moved.read_bytes() == b"damaged"


# If anything cannot be read, nothing is moved


def delete_topic(settings: Settings, name: str) -> None:
    admin = admin_client(settings)
    admin.delete_topics([name])[name].result(10)


def test_with_a_missing_topic_nothing_is_moved(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    store.put(ORPHAN)
    missing = settings.topics.uploads_dlq.name
    delete_topic(settings, missing)
    with pytest.raises(Unreachable, match=missing):
        run()
    assert (listed_ids(store.list_texts()), listed_ids(store.list_trash())) == (
        {id_of(ORPHAN)},
        set(),
    )


def open_transaction(settings: Settings, text: bytes) -> Producer:
    """A producer whose open transaction names a text."""
    producer = transactional_producer(settings, f"{settings.topic_prefix}sweep")
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(settings.topics.batches.name, id_of(text).encode(), b"k", partition=0)
    producer.flush(10)
    return producer


def test_nothing_is_moved_before_an_open_transaction_ends(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    store.put(NAMED)
    producer = open_transaction(settings, NAMED)
    with pytest.raises(Unreachable, match="makes no progress"):
        run(patience_s=0.5)
    assert listed_ids(store.list_trash()) == set()
    producer.commit_transaction(10)
    assert run().trashed == ()


def test_an_aborted_transaction_names_nothing(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    store.put(ORPHAN)
    producer = open_transaction(settings, ORPHAN)
    producer.abort_transaction(10)
    assert ids(run().trashed) == {id_of(ORPHAN)}


def test_if_a_text_cannot_be_read_nothing_is_moved(settings: Settings) -> None:
    with bucket_server() as bucket:
        store = ContentStore(bucket.store())
        texts = [b"orphan %d" % number for number in range(3)]
        for text in texts:
            store.put(text)
        before = dict(bucket.objects)
        bucket.unreadable.add(f"sha256/{id_of(texts[1])[:2]}/{id_of(texts[1])}")
        for delete in (True, False):
            with pytest.raises(ContentFailed):
                sweep(
                    settings,
                    store,
                    grace=WEEK,
                    delete=delete,
                    now=datetime.now(UTC) + timedelta(days=8),
                )
        assert bucket.objects == before
        bucket.unreadable.clear()
        swept = sweep(
            settings, store, grace=WEEK, delete=True, now=datetime.now(UTC) + timedelta(days=8)
        )
        assert ids(swept.trashed) == {id_of(text) for text in texts}
        assert listed_ids(store.list_trash()) == ids(swept.trashed)


# The command


def command(settings: Settings, *options: str) -> tuple[int, str, str]:
    return run_text(settings, "content", "sweep", *options)


def test_the_command_lists_and_then_moves(settings: Settings, store: ContentStore) -> None:
    store.put(ORPHAN)
    path = settings.data_dir / "content" / "sha256" / id_of(ORPHAN)[:2] / id_of(ORPHAN)
    os.utime(path, (0, 0))
    orphans = {"count": 1, "bytes": len(ORPHAN), "ids": [id_of(ORPHAN)]}
    none = {"count": 0, "bytes": 0, "ids": []}
    expected = {"listed": 1, "records": 0, "trashed": orphans, "restored": none, "erased": none}
    for options, dry_run in (((), True), (("--delete", "--grace", "1h"), False)):
        code, document, messages = command(settings, "--json", *options)
        assert code == 0, messages
        assert json.loads(document) == {"dry_run": dry_run, **expected}
        assert path.exists() is dry_run
    code, shown, _ = command(settings)
    assert (code, "0 texts, 0 bytes" in shown) == (0, True)


def test_the_exit_code_is_4_if_the_log_cannot_be_read(settings: Settings) -> None:
    missing = settings.topics.parked.name
    delete_topic(settings, missing)
    code, shown, messages = command(settings, "--delete")
    assert (code, shown) == (4, "")
    assert missing in messages
    assert "Traceback" not in messages


@pytest.mark.parametrize(
    "grace", ["59m", "3599s", "0d", "-1d", "7", "7w", "1.5h", "", "9999999d", "36501d"]
)
def test_an_invalid_grace_period_is_refused(grace: str) -> None:
    with pytest.raises(ValueError, match=r"duration|hour"):
        grace_of(grace)


def test_a_grace_period_may_have_any_unit() -> None:
    assert [grace_of(text) for text in ("1h", "60m", "3600s")] == [timedelta(hours=1)] * 3
    assert grace_of("7d") == WEEK


def test_a_short_grace_period_is_a_usage_error(settings: Settings) -> None:
    assert command(settings, "--grace", "59m")[0] == 2


# Finding ids

HEX = st.text("0123456789abcdef", min_size=64, max_size=64).map(str.encode)
AROUND = st.binary(max_size=80) | st.text("0123456789abcdefg", max_size=80).map(str.encode)


@given(HEX, AROUND, AROUND)
def test_an_id_is_found_whatever_surrounds_it(text_id: bytes, before: bytes, after: bytes) -> None:
    data = before + text_id + after
    windows = [data[start : start + 64] for start in range(len(data) - 63)]
    assert list(ids_in(data)) == [
        window for window in windows if set(window) <= set(b"0123456789abcdef")
    ]
    at = Coordinates("t", 0, 0)
    for record in (
        LogRecord(at, data, None, (), 0),
        LogRecord(at, None, data, (), 0),
        LogRecord(at, None, None, (("h", None), ("h", data)), 0),
    ):
        assert names_in([record], {text_id, b"other"}) == (1, {text_id})
