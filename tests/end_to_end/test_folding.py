"""The fold over a real broker: transactional uploads in, the published view out."""

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
from processors.fold.faust_app import build_app
from processors.fold.fold_agents import add_folding
from processors.fold.tracked_consumer import TrackedConsumer
from processors.kafka.clients import plain_producer, reader
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.log.upload_topics import upload_record_of
from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import Malformed, UnknownSchema
from schemas.events import AssignmentContext, InstructionsUploaded
from schemas.partitioner import partition_for
from tables.context import fold
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import UploadRecord, read_upload
from tests.support.builders import instructions_uploaded
from tests.support.until import until

T = TypeVar("T")
CODEC = Codec()
UNKNOWN = b"\x00\x7f\xff\xff\xff" + b"later"


class Side:
    """What the fold told: dead letters and fatal faults."""

    def __init__(self) -> None:
        self.letters: list[Coordinates] = []
        self.faults: list[BaseException] = []

    async def dead_letter(self, record: UploadRecord, fault: Malformed, headers: Any) -> None:
        self.letters.append(record.at)


class Loop:
    """An event loop on a thread of its own, as in a worker."""

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


@contextmanager
def folding(loop: Loop, settings: Settings, side: Side) -> Iterator[faust.App]:
    async def build() -> faust.App:
        app = build_app(settings)
        add_folding(app, settings, CODEC, side.dead_letter, side.faults.append)
        return app

    with started(loop, loop.run(build())) as app:
        yield app


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
    """One record in a transaction of its own."""
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
    found: list[int] = []

    def is_answered() -> bool:
        asked = [TopicPartition(topic, one) for one in range(partitions)]
        with suppress(KafkaException):  # a new topic may have no leader yet
            found[:] = [consumer.get_watermark_offsets(at, timeout=10)[1] for at in asked]
        return bool(found)

    until(is_answered)
    return found


def read_all(settings: Settings, topic: str) -> list[Message]:
    """Every committed record of a topic."""
    consumer = reader(settings)
    target = ends(consumer, topic, settings.partitions)
    at = [TopicPartition(topic, one, 0) for one in range(settings.partitions)]
    consumer.assign(at)
    messages = []

    def has_read_all() -> bool:
        message = consumer.poll(0.05)
        if message is not None:  # a tombstone is falsy
            messages.append(message)
        behind = zip(consumer.position(at), target, strict=True)
        return all(max(here.offset, 0) >= end for here, end in behind)

    until(has_read_all)
    consumer.close()
    return messages


def published(settings: Settings) -> dict[str, AssignmentContext]:
    rows = read_all(settings, settings.topics.context.name)
    last = {(row.key() or b"").decode(): row.value() for row in rows}
    return {key: CODEC.decode_as(AssignmentContext, value) for key, value in last.items()}


def last_row(settings: Settings, key: bytes) -> bytes | None:
    """The bytes that compaction would keep."""
    rows = read_all(settings, settings.topics.context.name)
    return [row.value() for row in rows if row.key() == key][-1]


def folded(settings: Settings) -> dict[str, AssignmentContext]:
    """What the uploads come to by the one fold."""
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
        asked = [TopicPartition(topic, one) for one in range(settings.partitions)]
        return [max(0, at.offset) for at in consumer.committed(asked, timeout=10)]
    finally:
        consumer.close()


def test_a_seek_before_anything_was_committed_brings_the_first_upload_again(
    settings: Settings, loop: Loop
) -> None:
    """As a rebalance does whose records were dropped: a first start must not pass them by."""
    side = Side()

    async def build() -> faust.App:
        app = build_app(settings)
        app.conf.broker_commit_interval = 600  # nothing is committed here
        add_folding(app, settings, CODEC, side.dead_letter, side.faults.append)
        return app

    deliver(
        plain_producer(settings),
        [Record(settings.topics.instructions.name, 0, b"assignment:a1", b"no upload")],
    )
    with started(loop, loop.run(build())) as app:
        until(lambda: len(side.letters) == 1)
        loop.run(app.consumer.perform_seek())
        until(lambda: len(side.letters) == 2)
    assert side.faults == []


def damaged(settings: Settings, number: int) -> Record:
    return Record(settings.topics.instructions.name, number % 4, b"assignment:a1", b"no upload")


def test_uploads_that_only_an_abandoned_fetch_took_are_read_again(
    settings: Settings, loop: Loop
) -> None:
    """As after a rebalance that cancels whoever waited for the fetch, while the fetch goes on."""
    side, producer = Side(), plain_producer(settings)
    taken: list[int] = []
    sent = 0

    async def abandon(app: faust.App) -> None:
        consumer = cast(TrackedConsumer, app.consumer)
        active = consumer._get_active_partitions()  # noqa: SLF001 (what Faust does)
        fetched = await consumer._getmany(active, 0.2)  # noqa: SLF001
        taken.extend(record.offset for records in fetched.values() for record in records)

    with folding(loop, settings, side) as app:
        until(lambda: len(app.consumer.assignment()) == 16 and not app.rebalancing)
        while len(taken) < 20:
            deliver(producer, [damaged(settings, number) for number in range(4)])
            sent += 4
            loop.run(abandon(app))
        until(lambda: len(set(side.letters)) == sent)
    assert side.faults == []


def test_an_upload_is_not_dropped_because_faust_believes_it_was_read(
    settings: Settings, loop: Loop
) -> None:
    """A rebalance that overtakes a record in hand leaves the note of it standing after the seek."""
    side, producer = Side(), plain_producer(settings)
    with folding(loop, settings, side) as app:
        until(lambda: len(app.consumer.assignment()) == 16 and not app.rebalancing)
        notes = cast(TrackedConsumer, app.consumer)._read_offset  # noqa: SLF001 (Faust's)
        notes.update(dict.fromkeys(app.consumer.assignment(), 1_000_000))
        deliver(producer, [damaged(settings, number) for number in range(4)])
        until(lambda: len(side.letters) == 4)
    assert side.faults == []


def test_the_view_equals_the_fold_and_offsets_pass_markers_and_aborted_uploads(
    loop: Loop, settings: Settings, writer: Producer
) -> None:
    topic = settings.topics.instructions.name
    for number in range(40):
        event = upload(f"a{number % 10}", number + 1)
        key = f"assignment:a{number % 10}".encode()
        append(writer, topic, key, CODEC.encode(event), aborted=number % 5 == 4)
    with folding(loop, settings, Side()):
        until(lambda: is_all_committed(settings, topic), seconds=15)
        append(writer, topic, b"assignment:a0", CODEC.encode(upload("a0", 99)))
        until(lambda: is_all_committed(settings, topic), seconds=5)
    view = published(settings)
    assert view == folded(settings)
    assert {"assignment:a4", "assignment:a9"}.isdisjoint(view)  # their every upload was aborted


def test_a_damaged_upload_is_dead_lettered_and_the_fold_goes_on(
    loop: Loop, settings: Settings, writer: Producer
) -> None:
    topic = settings.topics.instructions.name
    key, side = b"assignment:a1", Side()
    append(writer, topic, key, b"rubbish")
    append(writer, topic, key, None)
    append(writer, topic, key, CODEC.encode(upload("a1", 7)))
    with folding(loop, settings, side):
        until(lambda: is_all_committed(settings, topic))
    partition = partition_for(key, settings.partitions)
    assert side.letters == [Coordinates(topic, partition, 0), Coordinates(topic, partition, 2)]
    assert [
        row.instructions and row.instructions.version for row in published(settings).values()
    ] == [7]


def test_an_upload_of_an_unknown_schema_is_fatal_and_never_committed(
    loop: Loop, settings: Settings, writer: Producer
) -> None:
    topic = settings.topics.instructions.name
    key, side = b"assignment:a1", Side()
    partition = partition_for(key, settings.partitions)
    append(writer, topic, key, CODEC.encode(upload("a1", 1)))
    append(writer, topic, key, UNKNOWN)
    append(writer, topic, key, CODEC.encode(upload("a1", 2)))
    with folding(loop, settings, side):
        until(lambda: side.faults)
        until(lambda: committed(settings, topic)[partition] == 2)
    assert isinstance(side.faults[0], UnknownSchema)
    assert committed(settings, topic)[partition] == 2  # after the stop's last commit, too
    again = Side()
    with folding(loop, settings, again):
        until(lambda: again.faults)


def test_an_older_row_that_a_zombie_wrote_is_reasserted(
    loop: Loop, settings: Settings, writer: Producer
) -> None:
    topic = settings.topics.instructions.name
    key, side = b"assignment:a1", Side()
    replica = ContextReplica(MemoryStore(), CODEC, upload_topics(settings))
    replica.open({})

    async def build() -> tuple[faust.App, ChangelogRepair]:
        app = build_app(settings)
        table = add_folding(app, settings, CODEC, side.dead_letter, side.faults.append)
        return app, ChangelogRepair(app, settings, CODEC, replica, table, side.faults.append)

    async def begin() -> "asyncio.Task[None]":
        return asyncio.create_task(reassertion.run())

    async def end() -> None:
        reassertion.stop()
        await running

    for version in (1, 2):
        append(writer, topic, key, CODEC.encode(upload("a1", version)))
    first, _ = uploads = [upload_record_of(message) for message in read_all(settings, topic)]
    replica.fold(uploads, {})
    app, reassertion = loop.run(build())
    with started(loop, app):
        until(lambda: is_all_committed(settings, topic))
        assert published(settings) == folded(settings)
        running = loop.run(begin())
        zombies: dict[str, AssignmentContext] = {}
        event = read_upload(first, CODEC, upload_topics(settings))
        fold(zombies, event, first.at, first.appended_at_ms)
        zombie = plain_producer(settings)
        truth = last_row(settings, key)
        for late in (CODEC.encode(zombies["assignment:a1"]), b"damaged", None):
            zombie.produce(settings.topics.context.name, key=key, value=late)
            zombie.flush()
            until(lambda: last_row(settings, key) == truth)
        loop.run(end())
    assert reassertion.count >= 3
    assert side.faults == []


def test_a_lane_keeps_every_item_in_order_through_two_rebalances(
    loop: Loop, settings: Settings, tmp_path: Path
) -> None:
    taken: list[int] = []
    given: list[int] = []

    async def take(stream: StreamT[int]) -> None:
        async for item in stream:
            taken.append(item)

    async def give(lane: BoundedChannel) -> None:
        for item in range(1_000_000):
            await lane.put(item)
            given.append(item)

    async def build() -> tuple[faust.App, "asyncio.Task[None]"]:
        app = build_app(settings)
        add_folding(app, settings, CODEC, Side().dead_letter, Side().faults.append)
        lane = BoundedChannel(app, maxsize=2)
        app.agent(lane, name="take")(take)
        return app, asyncio.create_task(give(lane))

    async def cancel() -> None:
        giving.cancel()

    app, giving = loop.run(build())
    neighbour = settings.model_copy(update={"data_dir": tmp_path / "neighbour"})
    with started(loop, app):
        with folding(loop, neighbour, Side()):
            until(lambda: 0 < len(app.consumer.assignment()) < 16)
        until(lambda: len(app.consumer.assignment()) == 16 and not app.rebalancing)
        so_far = len(taken)
        until(lambda: len(taken) > so_far + 100)
        assert not giving.done()
        loop.run(cancel())
    assert taken == given[: len(taken)]
    assert len(given) - len(taken) <= 3
