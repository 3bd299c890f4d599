"""The sweep: what nothing in the log names goes to the trash and, a grace period later, for good."""

import hashlib
import json
import os
import subprocess
import sys
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
from processors.kafka.topic_admin import apply_topics
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import ContentFailed, ContentMissing, Unreachable
from tables.content_store import ContentStore, ListedText, StoredText
from tests.support.builders import instructions_uploaded
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
    return ContentStore.at(settings.content)


@pytest.fixture
def run(settings: Settings, store: ContentStore) -> Callable[..., SweepReport]:
    """A sweep so many days from now."""

    def swept(days: float = 8, *, delete: bool = True, **how: Any) -> SweepReport:
        now = datetime.now(UTC) + timedelta(days=days)
        return sweep(settings, store, grace=WEEK, delete=delete, now=now, **how)

    return swept


def append(
    settings: Settings, topic: str, key: bytes | None, value: bytes | None, **more: Any
) -> None:
    headers = more.get("headers", [])
    deliver(
        plain_producer(settings), [Record(topic, more.get("partition", 0), key, value, headers)]
    )


def name_in_an_event(settings: Settings, text: bytes) -> None:
    event = instructions_uploaded(text.decode())
    append(settings, settings.topics.instructions.name, b"assignment:a1", Codec().encode(event))


def ids(texts: tuple[ListedText, ...]) -> set[str]:
    return {text.storage_id for text in texts}


def there(texts: Iterator[ListedText]) -> set[str]:
    return {text.storage_id for text in texts}


Run = Callable[..., SweepReport]


def test_an_orphan_goes_to_the_trash_is_read_from_there_and_is_erased_a_grace_period_later(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    for text in (ORPHAN, NAMED):
        store.put(text)
    name_in_an_event(settings, NAMED)

    listed = run(delete=False)
    assert (listed.dry_run, listed.listed, listed.records) == (True, 2, 1)
    assert ids(listed.trashed) == {id_of(ORPHAN)}
    assert there(store.trashed()) == set()

    moved = run()
    assert (ids(moved.trashed), moved.restored, moved.erased) == ({id_of(ORPHAN)}, (), ())
    assert (there(store.listed()), there(store.trashed())) == ({id_of(NAMED)}, {id_of(ORPHAN)})
    assert store.get(id_of(ORPHAN)) == ORPHAN

    assert run(days=6.9) == SweepReport(False, 1, 1, (), (), ())  # not long enough in the trash
    assert ids(run().erased) == {id_of(ORPHAN)}
    with pytest.raises(ContentMissing):
        store.get(id_of(ORPHAN))
    assert store.get(id_of(NAMED)) == NAMED


def test_what_is_young_is_left_alone(store: ContentStore, run: Run) -> None:
    store.put(ORPHAN)
    assert run(days=6.9).trashed == ()
    assert there(store.listed()) == {id_of(ORPHAN)}


def test_what_is_stored_again_is_young_again(
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


def test_an_id_is_found_wherever_it_stands(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    """In a key, a value, a header, a tombstone's key, a dead letter; decodable or not; in any topic."""
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


def test_partitions_that_were_added_are_read_too(broker: Broker, tmp_path: Path) -> None:
    whole = Settings(
        bootstrap_servers=broker.bootstrap, topic_prefix="grown-", data_dir=tmp_path, partitions=4
    )
    apply_topics(admin_client(whole), whole)
    before_it_grew = whole.model_copy(update={"partitions": 2})
    store = ContentStore.at(whole.content)
    store.put(NAMED)
    append(whole, whole.topics.requests.name, b"k", id_of(NAMED).encode(), partition=3)
    found = sweep(
        before_it_grew,
        store,
        grace=WEEK,
        delete=True,
        now=datetime.now(UTC) + timedelta(days=8),
    )
    assert (found.records, found.trashed) == (1, ())


def test_what_is_named_again_is_put_back(settings: Settings, store: ContentStore, run: Run) -> None:
    store.put(NAMED, "text/markdown")
    assert ids(run().trashed) == {id_of(NAMED)}
    name_in_an_event(settings, NAMED)
    assert ids(run(days=16, delete=False).restored) == {id_of(NAMED)}
    assert there(store.trashed()) == {id_of(NAMED)}
    swept = run(days=16)
    assert (swept.trashed, ids(swept.restored), swept.erased) == ((), {id_of(NAMED)}, ())
    assert (there(store.listed()), there(store.trashed())) == ({id_of(NAMED)}, set())
    assert store.head(id_of(NAMED)).media_type == "text/markdown"


def test_a_text_stored_anew_keeps_its_name_when_its_copy_in_the_trash_is_erased(
    store: ContentStore, run: Run
) -> None:
    store.put(ORPHAN)
    run()
    store.put(ORPHAN)
    swept = run(days=6.9)
    assert (swept.trashed, swept.erased) == ((), ())
    swept = run(days=8)  # both are old by now: the copy goes, the text takes its place
    assert (ids(swept.trashed), ids(swept.erased)) == ({id_of(ORPHAN)}, {id_of(ORPHAN)})
    assert store.get(id_of(ORPHAN)) == ORPHAN


def test_damaged_orphans_are_moved_as_they_are(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    store.put(ORPHAN)
    kept = Path("content", "sha256", id_of(ORPHAN)[:2], id_of(ORPHAN))
    (settings.data_dir / kept).write_bytes(b"damaged")
    assert ids(run().trashed) == {id_of(ORPHAN)}
    moved = settings.data_dir / "content" / "trash" / kept.parts[2] / kept.name
    assert moved.read_bytes() == b"damaged"


# Nothing is moved when anything cannot be read


def delete_topic(settings: Settings, name: str) -> None:
    admin = admin_client(settings)
    admin.delete_topics([name])[name].result(10)


def test_a_missing_topic_moves_nothing(settings: Settings, store: ContentStore, run: Run) -> None:
    store.put(ORPHAN)
    gone = settings.topics.uploads_dlq.name
    delete_topic(settings, gone)
    with pytest.raises(Unreachable, match=gone):
        run()
    assert (there(store.listed()), there(store.trashed())) == ({id_of(ORPHAN)}, set())


def in_transaction(settings: Settings, text: bytes) -> Producer:
    """A producer whose open transaction names a text."""
    producer = transactional_producer(settings, f"{settings.topic_prefix}sweep")
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(settings.topics.batches.name, id_of(text).encode(), b"k", partition=0)
    producer.flush(10)
    return producer


def test_an_open_transaction_moves_nothing_and_its_end_is_waited_for(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    store.put(NAMED)
    producer = in_transaction(settings, NAMED)
    with pytest.raises(Unreachable, match="stands still"):
        run(patience_s=0.5)
    assert there(store.trashed()) == set()
    producer.commit_transaction(10)
    assert run().trashed == ()


def test_what_an_aborted_transaction_named_is_not_named(
    settings: Settings, store: ContentStore, run: Run
) -> None:
    store.put(ORPHAN)
    producer = in_transaction(settings, ORPHAN)
    producer.abort_transaction(10)
    assert ids(run().trashed) == {id_of(ORPHAN)}


def test_a_text_that_cannot_be_read_moves_nothing(settings: Settings) -> None:
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
        assert there(store.trashed()) == ids(swept.trashed)


# The command


def command(settings: Settings, *options: str) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if "CJSTREAM" not in name}
    variables |= {
        "CJSTREAM_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "CJSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "CJSTREAM_DATA_DIR": str(settings.data_dir),
        "PYTHONPATH": str(ROOT),
    }
    asked = [sys.executable, "-m", "tools.cli", "content", "sweep", *options]
    return subprocess.run(asked, cwd=ROOT, env=variables, capture_output=True, text=True)


def test_the_command_lists_and_then_moves(settings: Settings, store: ContentStore) -> None:
    store.put(ORPHAN)
    kept = settings.data_dir / "content" / "sha256" / id_of(ORPHAN)[:2] / id_of(ORPHAN)
    os.utime(kept, (0, 0))
    orphans = {"count": 1, "bytes": len(ORPHAN), "ids": [id_of(ORPHAN)]}
    none = {"count": 0, "bytes": 0, "ids": []}
    told = {"listed": 1, "records": 0, "trashed": orphans, "restored": none, "erased": none}
    for options, dry_run in (((), True), (("--delete", "--grace", "1h"), False)):
        ended = command(settings, "--json", *options)
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout) == {"dry_run": dry_run, **told}
        assert kept.exists() is dry_run
    people = command(settings)
    assert (people.returncode, "0 texts, 0 bytes" in people.stdout) == (0, True)


def test_the_command_ends_with_4_where_the_log_cannot_be_read(settings: Settings) -> None:
    gone = settings.topics.parked.name
    delete_topic(settings, gone)
    ended = command(settings, "--delete")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert gone in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "grace", ["59m", "3599s", "0d", "-1d", "7", "7w", "1.5h", "", "9999999d", "36501d"]
)
def test_a_grace_period_under_an_hour_or_none_is_refused(grace: str) -> None:
    with pytest.raises(ValueError, match=r"duration|hour"):
        grace_of(grace)


def test_a_grace_period_may_be_told_in_any_unit() -> None:
    assert [grace_of(text) for text in ("1h", "60m", "3600s")] == [timedelta(hours=1)] * 3
    assert grace_of("7d") == WEEK


def test_the_command_refuses_a_short_grace_as_usage(settings: Settings) -> None:
    assert command(settings, "--grace", "59m").returncode == 2


# Finding ids

HEX = st.text("0123456789abcdef", min_size=64, max_size=64).map(str.encode)
AROUND = st.binary(max_size=80) | st.text("0123456789abcdefg", max_size=80).map(str.encode)


@given(HEX, AROUND, AROUND)
def test_an_id_is_found_whatever_stands_around_it(one: bytes, before: bytes, after: bytes) -> None:
    data = before + one + after
    places = [data[start : start + 64] for start in range(len(data) - 63)]
    assert list(ids_in(data)) == [
        place for place in places if set(place) <= set(b"0123456789abcdef")
    ]
    at = Coordinates("t", 0, 0)
    for record in (
        LogRecord(at, data, None, (), 0),
        LogRecord(at, None, data, (), 0),
        LogRecord(at, None, None, (("h", None), ("h", data)), 0),
    ):
        assert names_in([record], {one, b"other"}) == (1, {one})
