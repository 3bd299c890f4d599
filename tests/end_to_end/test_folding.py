"""The fold on a real broker: transactional uploads are read, the published view is written."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import faust
import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from faust.types import StreamT

from processors.fold.bounded_channel import BoundedChannel
from processors.fold.changelog_repair import ChangelogRepair
from processors.fold.context_table import ContextTable
from processors.fold.faust_app import build_app
from processors.fold.fold_agents import add_folding
from processors.fold.giving_way import GivingWay
from processors.fold.replica_feed import ReplicaFeed
from processors.fold.tracked_consumer import TrackedConsumer
from processors.kafka.clients import plain_producer, reader
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.log.upload_topics import upload_record_of
from processors.settings import Settings, upload_topics
from processors.upload_log.reappend import set_aside_headers
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Malformed
from schemas.events import AssignmentContext, InstructionsUploaded
from schemas.partitioner import partition_for
from tables.context import fold
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import UploadRecord, read_upload
from tests.support.builders import OF_LATER_RELEASE, instructions_uploaded
from tests.support.until import until

T = TypeVar("T")
CODEC = Codec()
BUSY_PACE = GivingWay(lambda: True, idle=0, busy=10)


class Reports:
    """The dead letters, the fatal faults and the rests between chunks that the fold reported."""

    def __init__(self) -> None:
        self.letters: list[Coordinates] = []
        self.faults: list[BaseException] = []
        self.rests_s: list[float] = []

    async def rest_after(self, took_s: float) -> None:
        self.rests_s.append(BUSY_PACE.rest_s(took_s))
        await BUSY_PACE.rest_after(took_s)

    async def dead_letter(self, record: UploadRecord, fault: Malformed, headers: Any) -> None:
        self.letters.append(record.at)


class Loop:
    """An event loop on its own thread, as in a worker."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def add_fold(
    app: faust.App, settings: Settings, replica: ContextReplica, reports: Reports
) -> ContextTable:
    """The fold of a worker whose batch preparation is always busy: it gives way after each chunk."""
    return add_folding(
        app,
        settings,
        CODEC,
        replica,
        reports.dead_letter,
        reports.faults.append,
        reports.rest_after,
    )


@contextmanager
def folding(loop: Loop, settings: Settings, reports: Reports) -> Iterator[faust.App]:
    async def build(replica: ContextReplica) -> faust.App:
        app = build_app(settings)
        add_fold(app, settings, replica, reports)
        return app

    with fed_replica(settings) as replica, started(loop, loop.run(build(replica))) as app:
        yield app


def new_replica(settings: Settings) -> ContextReplica:
    return ContextReplica(MemoryStore(), CODEC, upload_topics(settings))


@contextmanager
def fed_replica(settings: Settings) -> Iterator[ContextReplica]:
    """A replica in memory that follows the uploads."""
    replica = new_replica(settings)
    faults: list[BaseException] = []
    feed = ReplicaFeed(settings, replica, faults.append)
    feed.start(replica.open({}))
    try:
        yield replica
    finally:
        feed.stop()
    assert faults == []


@contextmanager
def started(loop: Loop, app: faust.App) -> Iterator[faust.App]:
    loop.run(app.start())
    try:
        yield app
    finally:
        loop.run(app.stop())


def upload(assignment_id: str, version: int) -> InstructionsUploaded:
    return instructions_uploaded(assignment_id=assignment_id, version=version)


def append(
    producer: Producer, topic: str, key: bytes, value: bytes | None, *, aborted: bool = False
) -> None:
    """Append one record in its own transaction."""
    producer.begin_transaction()
    producer.produce(topic, key=key, value=value)
    if aborted:
        producer.flush()
        producer.abort_transaction()
    else:
        producer.commit_transaction()


@pytest.fixture
def writer(settings: Settings) -> Producer:
    producer = plain_producer(settings, **{"transactional.id": settings.topic_prefix})
    producer.init_transactions(30)
    return producer


def ends(consumer: Consumer, topic: str, partitions: int) -> list[int]:
    offsets: list[int] = []

    def is_answered() -> bool:
        requested = [TopicPartition(topic, partition) for partition in range(partitions)]
        with suppress(KafkaException):  # a new topic may have no leader yet
            offsets[:] = [consumer.get_watermark_offsets(tp, timeout=10)[1] for tp in requested]
        return bool(offsets)

    until(is_answered)
    return offsets


def read_all(settings: Settings, topic: str) -> list[Message]:
    """Every committed record of a topic."""
    consumer = reader(settings)
    target = ends(consumer, topic, settings.partitions)
    assigned = [TopicPartition(topic, partition, 0) for partition in range(settings.partitions)]
    consumer.assign(assigned)
    messages = []

    def has_read_all() -> bool:
        message = consumer.poll(0.05)
        if message is not None:  # a tombstone is falsy
            messages.append(message)
        positions = zip(consumer.position(assigned), target, strict=True)
        return all(max(tp.offset, 0) >= end for tp, end in positions)

    until(has_read_all)
    consumer.close()
    return messages


def published(settings: Settings) -> dict[str, AssignmentContext]:
    rows = read_all(settings, settings.topics.context.name)
    last = {(row.key() or b"").decode(): row.value() for row in rows}
    return {key: CODEC.decode_as(AssignmentContext, value) for key, value in last.items()}


def last_row(settings: Settings, key: bytes) -> bytes | None:
    """The bytes that compaction would retain."""
    rows = read_all(settings, settings.topics.context.name)
    return [row.value() for row in rows if row.key() == key][-1]


def folded(settings: Settings) -> dict[str, AssignmentContext]:
    """The table that folding the uploads gives."""
    rows: dict[str, AssignmentContext] = {}
    for topic in settings.topics.uploads:
        for record in map(upload_record_of, read_all(settings, topic.name)):
            event = read_upload(record, CODEC, upload_topics(settings))
            fold(rows, event, record.at, record.appended_at_ms)
    return rows


def is_all_committed(settings: Settings, topic: str) -> bool:
    return committed(settings, topic) == end_offsets(settings, topic)


def end_offsets(settings: Settings, topic: str) -> list[int]:
    consumer = reader(settings)
    try:
        return ends(consumer, topic, settings.partitions)
    finally:
        consumer.close()


def committed(settings: Settings, topic: str) -> list[int]:
    consumer = reader(settings, **{"group.id": settings.fold_group})
    try:
        requested = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
        return [max(0, tp.offset) for tp in consumer.committed(requested, timeout=10)]
    finally:
        consumer.close()


def test_after_a_seek_without_a_committed_offset_the_first_upload_is_read_again(
    settings: Settings, loop: Loop
) -> None:
    """Like a rebalance that drops records: the first start must not skip them."""
    reports = Reports()

    async def build(replica: ContextReplica) -> faust.App:
        app = build_app(settings)
        app.conf.broker_commit_interval = 600  # nothing is committed here
        add_fold(app, settings, replica, reports)
        return app

    deliver(
        plain_producer(settings),
        [Record(settings.topics.instructions.name, 0, b"assignment:a1", b"no upload")],
    )
    with fed_replica(settings) as replica, started(loop, loop.run(build(replica))) as app:
        until(lambda: len(reports.letters) == 1)
        loop.run(app.consumer.perform_seek())
        until(lambda: len(reports.letters) == 2)
    assert reports.faults == []


def damaged(settings: Settings, number: int) -> Record:
    return Record(settings.topics.instructions.name, number % 4, b"assignment:a1", b"no upload")


@pytest.mark.thorough
def test_uploads_of_an_abandoned_fetch_are_read_again(settings: Settings, loop: Loop) -> None:
    """As after a rebalance that cancels the caller of a fetch, while the fetch itself continues."""
    reports, producer = Reports(), plain_producer(settings)
    fetched_offsets: list[int] = []
    sent = 0

    async def abandon(app: faust.App) -> None:
        consumer = cast(TrackedConsumer, app.consumer)
        active = consumer._get_active_partitions()  # noqa: SLF001 (what Faust does)
        fetched = await consumer._getmany(active, 0.2)  # noqa: SLF001
        fetched_offsets.extend(record.offset for records in fetched.values() for record in records)

    with folding(loop, settings, reports) as app:
        until(lambda: len(app.consumer.assignment()) == 16 and not app.rebalancing)
        while len(fetched_offsets) < 20:
            deliver(producer, [damaged(settings, number) for number in range(4)])
            sent += 4
            loop.run(abandon(app))
        until(lambda: len(set(reports.letters)) == sent)
    assert reports.faults == []


def test_an_upload_is_folded_even_if_faust_has_noted_it_as_read(
    settings: Settings, loop: Loop
) -> None:
    """If a rebalance overtakes a record that is being delivered, Faust still notes it as read after the seek."""
    reports, producer = Reports(), plain_producer(settings)
    with folding(loop, settings, reports) as app:
        until(lambda: len(app.consumer.assignment()) == 16 and not app.rebalancing)
        read_offsets = cast(TrackedConsumer, app.consumer)._read_offset  # noqa: SLF001 (Faust's)
        read_offsets.update(dict.fromkeys(app.consumer.assignment(), 1_000_000))
        deliver(producer, [damaged(settings, number) for number in range(4)])
        until(lambda: len(reports.letters) == 4)
    assert reports.faults == []


def test_the_published_view_equals_the_fold_and_offsets_pass_markers_and_aborted_uploads(
    loop: Loop, settings: Settings, writer: Producer
) -> None:
    topic = settings.topics.instructions.name
    for number in range(40):
        event = upload(f"a{number % 10}", number + 1)
        key = f"assignment:a{number % 10}".encode()
        append(writer, topic, key, CODEC.encode(event), aborted=number % 5 == 4)
    reports = Reports()
    with folding(loop, settings, reports):
        until(lambda: is_all_committed(settings, topic), seconds=15)
        until(lambda: len(reports.rests_s) > 0)
        assert min(reports.rests_s) > 0  # it gives way to batch preparation after each chunk
        append(writer, topic, b"assignment:a0", CODEC.encode(upload("a0", 99)))
        until(lambda: is_all_committed(settings, topic), seconds=5)
    view = published(settings)
    assert view == folded(settings)
    assert {"assignment:a4", "assignment:a9"}.isdisjoint(view)  # all their uploads were aborted


def test_a_damaged_upload_is_dead_lettered_and_the_fold_continues(
    loop: Loop, settings: Settings, writer: Producer
) -> None:
    topic = settings.topics.instructions.name
    key, reports = b"assignment:a1", Reports()
    append(writer, topic, key, b"rubbish")
    append(writer, topic, key, None)
    append(writer, topic, key, CODEC.encode(upload("a1", 7)))
    with folding(loop, settings, reports):
        until(lambda: is_all_committed(settings, topic))
    partition = partition_for(key, settings.partitions)
    assert reports.letters == [Coordinates(topic, partition, 0), Coordinates(topic, partition, 2)]
    assert [
        row.instructions and row.instructions.version for row in published(settings).values()
    ] == [7]


@pytest.mark.thorough
def test_an_upload_of_a_later_release_stops_its_partition_alone_and_is_never_committed(
    loop: Loop, settings: Settings, writer: Producer
) -> None:
    topic = settings.topics.instructions.name
    key, reports = b"assignment:a1", Reports()
    partition = partition_for(key, settings.partitions)
    others = [f"b{n}" for n in range(8)]
    here = [one for one in others if partition_for(f"assignment:{one}".encode(), 4) == partition]
    elsewhere = [one for one in others if one not in here]
    append(writer, topic, key, CODEC.encode(upload("a1", 1)))
    append(writer, topic, key, OF_LATER_RELEASE)
    append(writer, topic, key, CODEC.encode(upload("a1", 2)))
    for name in others:
        append(writer, topic, f"assignment:{name}".encode(), CODEC.encode(upload(name, 1)))
    for _ in range(2):  # also after a restart
        with folding(loop, settings, reports):
            until(lambda: len(published(settings)) == 1 + len(elsewhere))
        assert committed(settings, topic)[partition] <= 2  # also after the last commit, at the stop
    assert {row.scope_key for row in published(settings).values()} == {
        f"assignment:{name}" for name in ("a1", *elsewhere)
    }
    headers = set_aside_headers(2)
    deliver(plain_producer(settings), [Record(topic, partition, key, None, headers)])
    with folding(loop, settings, reports):
        until(lambda: is_all_committed(settings, topic))
    assert (reports.letters, reports.faults) == ([Coordinates(topic, partition, 2)], [])
    versions = {
        row.scope_key: row.instructions and row.instructions.version
        for row in published(settings).values()
    }
    assert versions == {"assignment:a1": 2, **{f"assignment:{name}": 1 for name in others}}


def test_an_older_row_that_a_zombie_wrote_late_is_repaired(
    loop: Loop, settings: Settings, writer: Producer
) -> None:
    topic = settings.topics.instructions.name
    key, reports = b"assignment:a1", Reports()
    replica = new_replica(settings)
    replica.open({})

    async def build() -> tuple[faust.App, ChangelogRepair]:
        app = build_app(settings)
        table = add_fold(app, settings, replica, reports)
        repair = ChangelogRepair(
            app, settings, CODEC, replica, table, reports.faults.append, BUSY_PACE.rest_s
        )
        return app, repair

    async def start_repair() -> "asyncio.Task[None]":
        return asyncio.create_task(repair.run())

    async def stop_repair() -> None:
        repair.stop()
        await running

    for version in (1, 2):
        append(writer, topic, key, CODEC.encode(upload("a1", version)))
    first, _ = uploads = [upload_record_of(message) for message in read_all(settings, topic)]
    partition = partition_for(key, settings.partitions)
    replica.fold(uploads, {Partition(topic, partition): end_offsets(settings, topic)[partition]})
    app, repair = loop.run(build())
    with started(loop, app):
        until(lambda: is_all_committed(settings, topic))
        assert published(settings) == folded(settings)
        running = loop.run(start_repair())
        zombie_rows: dict[str, AssignmentContext] = {}
        event = read_upload(first, CODEC, upload_topics(settings))
        fold(zombie_rows, event, first.at, first.appended_at_ms)
        zombie = plain_producer(settings)
        current_row = last_row(settings, key)
        for late in (CODEC.encode(zombie_rows["assignment:a1"]), b"damaged", None):
            zombie.produce(settings.topics.context.name, key=key, value=late)
            zombie.flush()
            until(lambda: last_row(settings, key) == current_row)
        loop.run(stop_repair())
    assert repair.count >= 3
    assert reports.faults == []


@pytest.mark.thorough
def test_a_bounded_channel_keeps_every_item_in_order_through_two_rebalances(
    loop: Loop, settings: Settings, tmp_path: Path
) -> None:
    received: list[int] = []
    sent: list[int] = []

    async def receive(stream: StreamT[int]) -> None:
        async for item in stream:
            received.append(item)

    async def send(channel: BoundedChannel) -> None:
        for item in range(1_000_000):
            await channel.put(item)
            sent.append(item)

    async def build() -> tuple[faust.App, "asyncio.Task[None]"]:
        app, replica = build_app(settings), new_replica(settings)
        add_fold(app, settings, replica, Reports())
        channel = BoundedChannel(app, maxsize=2)
        app.agent(channel, name="receive")(receive)
        return app, asyncio.create_task(send(channel))

    async def cancel() -> None:
        sending.cancel()

    app, sending = loop.run(build())
    neighbour = settings.model_copy(update={"data_dir": tmp_path / "neighbour"})
    with started(loop, app):
        with folding(loop, neighbour, Reports()):
            until(lambda: 0 < len(app.consumer.assignment()) < 16)
        until(lambda: len(app.consumer.assignment()) == 16 and not app.rebalancing)
        so_far = len(received)
        until(lambda: len(received) > so_far + 100)
        assert not sending.done()
        loop.run(cancel())
    assert received == sent[: len(received)]
    assert len(sent) - len(received) <= 3
