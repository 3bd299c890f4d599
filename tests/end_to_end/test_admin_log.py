"""The upload log on a real broker: every instance reads what was written, and no decision is based on old data."""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from processors.fold.catch_up import Display, no_display
from processors.fold.replica_feed import ReplicaFeed, open_replica
from processors.kafka.clients import (
    admin_client,
    admin_transactional_id,
    plain_producer,
    transactional_producer,
)
from processors.kafka.offsets import high_watermarks, high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.settings import Settings
from processors.upload_log.fenced_producer import AppendedEvent, FencedProducer
from processors.upload_log.partition_writer import PartitionWriter, WriteRequest
from processors.upload_log.upload_log import UploadLog, WriteResult, build_upload_log
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Positions
from schemas.errors import (
    Fenced,
    NotLive,
    OutcomeUnknown,
    ReplicaBehind,
    Unreachable,
    VersionConflict,
)
from schemas.events import ROLES, InstructionsUploaded, UploadEvent
from schemas.partitioner import partition_for
from tables.commands import DELETE, NewInstructions, TextRef, WriteCommand, WriteMetadata
from tables.context import component_of
from tables.etags import Condition, etag_of
from tables.replica import ContextReplica
from tests.support.builders import instructions_uploaded, sha256_of
from tests.support.until import until

CODEC = Codec()
SCALE = "swedish_8_anchor"
METADATA = WriteMetadata(actor="admin", correlation_id="c-9", occurred_at_ms=1_800_000_000_000)


def text(content: str) -> TextRef:
    sha256 = sha256_of(content)
    return TextRef(
        storage_id=sha256, sha256=sha256, media_type="text/plain", size_bytes=len(content)
    )


def instructions(content: str, *tags: str, assignment_id: str = "a1", **more: Any) -> WriteCommand:
    return WriteCommand(
        assignment_id=assignment_id,
        course_id=None,
        instructions=NewInstructions(text=text(content), grade_scale=SCALE),
        condition_on="instructions",
        condition=Condition(if_match=tags or None),
        **more,
    )


def deletion(assignment_id: str = "a1") -> WriteCommand:
    return WriteCommand(
        assignment_id=assignment_id,
        course_id=None,
        instructions=DELETE,
        needs_live="instructions",
        condition_on="instructions",
    )


def tag(written: WriteResult) -> str:
    assert written.context is not None
    return str(etag_of(written.context.instructions))


def run_scenario(
    settings: Settings, scenario: Callable[..., Coroutine[Any, Any, None]], instances: int
) -> None:
    """Run a scenario with this number of API instances, each with its own replica."""

    async def run() -> None:
        faults: list[BaseException] = []
        started = list[UploadLog]()
        for number in range(instances):
            own = settings.model_copy(update={"slot": f"api{number}"})
            started.append(build_upload_log(own, faults.append, CODEC))
            await started[-1].start()
        try:
            await asyncio.to_thread(
                until, lambda: all(all(one.ready().values()) for one in started)
            )
            await scenario(*started)
        finally:
            for one in started:
                await one.stop()
        assert faults == []

    asyncio.run(run())


def records_in_log(settings: Settings) -> list[LogRecord]:
    """Every committed record of the instructions topic."""
    partitions = settings.partitions_of(settings.topics.instructions)
    with LogReader(settings, partitions) as log:
        log.seek(dict.fromkeys(partitions, 0))
        return list(log.records_until(high_watermarks_when_reachable(settings, partitions)))


def versions_in_log(settings: Settings) -> list[int]:
    events = [CODEC.decode_as(InstructionsUploaded, one.value) for one in records_in_log(settings)]
    return sorted(event.version for event in events)


def test_a_write_is_readable_at_once_with_its_coordinates(settings: Settings) -> None:
    async def scenario(log: UploadLog) -> None:
        written = await log.write(instructions("Judge clarity."), METADATA)
        assert (written.decision.outcome, written.folded) == ("created", True)
        reading = await log.read("assignment:a1")
        assert reading == written.context
        assert reading is not None
        component = reading.instructions
        assert component is not None
        assert written.positions == (component.source,)
        assert component.sha256 == sha256_of("Judge clarity.")
        assert await log.read("course:ENG5") is None

    run_scenario(settings, scenario, 1)
    (record,) = records_in_log(settings)
    assert dict(record.headers) == {
        "event_type": b"InstructionsUploaded",
        "correlation_id": b"c-9",
    }


def test_an_unchanged_write_appends_nothing_and_returns_the_known_coordinates(
    settings: Settings,
) -> None:
    async def scenario(log: UploadLog) -> None:
        first = await log.write(instructions("Judge clarity."), METADATA)
        again = await log.write(instructions("Judge clarity."), METADATA)
        assert again.decision.outcome == "unchanged"
        assert (again.context, again.positions) == (first.context, first.positions)

    run_scenario(settings, scenario, 1)
    assert versions_in_log(settings) == [1]


def test_the_events_of_one_request_are_in_one_partition_and_are_deleted_together(
    settings: Settings,
) -> None:
    async def scenario(log: UploadLog) -> None:
        command = replace(
            instructions("Judge clarity."),
            student_prompt=text("Is rain good?"),
            judge_rubric=text("Weigh structure."),
            condition_on="assignment",
        )
        written = await log.write(command, METADATA)
        number = partition_for(b"assignment:a1", settings.partitions)
        assert written.positions == tuple(
            Coordinates(topic.name, number, 0) for topic in settings.topics.uploads
        )
        gone = await log.write(deletion(), METADATA)
        assert gone.decision.outcomes == dict.fromkeys(ROLES, "deleted")
        reading = await log.read("assignment:a1")
        assert reading == gone.context
        with pytest.raises(NotLive) as refusal:
            await log.check(deletion())
        assert refusal.value.was_deleted

    run_scenario(settings, scenario, 1)


def test_another_instance_sees_the_last_write_and_takes_over_the_partition(
    settings: Settings,
) -> None:
    async def scenario(one: UploadLog, other: UploadLog) -> None:
        seen = "0"
        for number in range(6):
            writer, reader = (one, other) if number % 2 else (other, one)
            change = instructions(f"Judge {number}", *([seen] if number else []))
            written = await writer.write(change, METADATA)
            assert await reader.read("assignment:a1") == written.context
            with pytest.raises(VersionConflict) as refusal:
                await reader.write(instructions("Judge late", "9-99"), METADATA)
            assert refusal.value.current_tag == tag(written)
            seen = tag(written)
        assert one.fenced + other.fenced >= 4

    run_scenario(settings, scenario, 2)
    assert versions_in_log(settings) == [1, 2, 3, 4, 5, 6]


def test_of_many_writes_with_the_same_etag_one_is_accepted(settings: Settings) -> None:
    async def scenario(log: UploadLog) -> None:
        seen = tag(await log.write(instructions("Judge clarity."), METADATA))
        changes = [instructions(f"Judge {number}", seen) for number in range(12)]
        answers = await asyncio.gather(
            *(log.write(change, METADATA) for change in changes), return_exceptions=True
        )
        accepted = [one for one in answers if isinstance(one, WriteResult)]
        refused = [one for one in answers if isinstance(one, VersionConflict)]
        assert (len(accepted), len(refused)) == (1, 11)
        assert {one.current_tag for one in refused} == {tag(accepted[0])}

    run_scenario(settings, scenario, 1)


def test_each_of_many_concurrent_writes_gets_its_own_version(settings: Settings) -> None:
    async def scenario(log: UploadLog) -> None:
        changes = [instructions(f"Judge {number}", assignment_id="a1") for number in range(6)]
        others = [instructions("Judge clarity.", assignment_id=f"b{n}") for n in range(30)]
        await asyncio.gather(*(log.write(one, METADATA) for one in (*changes, *others)))
        page = await log.page(page=1, page_size=200, grade_scale=SCALE)
        assert page.total == len(page.items) == 31

    run_scenario(settings, scenario, 1)
    assert versions_in_log(settings) == sorted([1, 2, 3, 4, 5, 6, *[1] * 30])


def test_an_upload_of_another_producer_counts_and_is_listed(settings: Settings) -> None:
    async def scenario(log: UploadLog) -> None:
        await log.write(instructions("Judge clarity."), METADATA)
        foreign = instructions_uploaded("Judge otherwise.", version=7, occurred_at_ms=2**42)
        append(plain_producer(settings), settings, foreign)
        written = await log.write(instructions("Judge clarity.", assignment_id="a2"), METADATA)
        page = await log.page(page=1, page_size=1, grade_scale=None)
        assert [one.scope_key for one in page.items] == ["assignment:a1"]
        assert page.total == 2
        written = await log.write(instructions("Judge structure."), METADATA)
        component = component_of(written.context, "instructions")
        assert component is not None
        assert (component.version, component.previous_event_id) == (8, foreign.event_id)

    run_scenario(settings, scenario, 1)


def append(producer: Producer, settings: Settings, event: InstructionsUploaded) -> None:
    """Append as a producer other than the API does."""
    key = f"assignment:{event.assignment_id}".encode()
    number = partition_for(key, settings.partitions)
    producer.produce(settings.topics.instructions.name, CODEC.encode(event), key, number)
    producer.flush(10)


def test_the_open_transaction_of_a_dead_instance_is_ended_before_the_first_decision(
    settings: Settings,
) -> None:
    dead = dead_instance(settings)
    append(dead, settings, instructions_uploaded("Never committed.", version=1))

    async def scenario(log: UploadLog) -> None:
        written = await log.write(instructions("Judge clarity."), METADATA)
        component = component_of(written.context, "instructions")
        assert component is not None
        assert (component.version, component.previous_event_id) == (1, None)

    run_with_one_instance(settings, scenario)


def dead_instance(settings: Settings) -> Producer:
    """A dead instance's producer: it owns the partition of assignment a1 and has a transaction open."""
    number = partition_for(b"assignment:a1", settings.partitions)
    producer = transactional_producer(settings, admin_transactional_id(settings, number))
    producer.init_transactions(30)
    producer.begin_transaction()
    return producer


def run_with_one_instance(
    settings: Settings,
    scenario: Callable[[UploadLog], Coroutine[Any, Any, None]],
    display: Display = no_display,
) -> None:
    """Run a scenario with one instance, without waiting until it is ready."""

    async def run() -> None:
        alone = settings.model_copy(update={"slot": "alone"})
        log = build_upload_log(alone, print, CODEC, display)
        await log.start()
        try:
            await scenario(log)
        finally:
            await log.stop()

    asyncio.run(run())


def test_an_instance_that_has_just_started_decides_by_the_earlier_uploads(
    settings: Settings,
) -> None:
    async def before(log: UploadLog) -> None:
        await log.write(instructions("Judge clarity."), METADATA)

    async def after(log: UploadLog) -> None:
        written = await log.write(instructions("Judge structure."), METADATA)
        component = component_of(written.context, "instructions")
        assert component is not None
        assert component.version == 2

    run_scenario(settings, before, 1)
    displayed = list[tuple[str, int]]()

    def display(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        displayed.append((what, total))
        return no_display(what, total)

    run_with_one_instance(settings, after, display)
    assert [what for what, total in displayed if total > 0] == ["uploads"]


def test_reads_and_writes_wait_for_an_open_transaction(settings: Settings) -> None:
    producer = plain_producer(settings, **{"transactional.id": f"{settings.topic_prefix}foreign"})
    producer.init_transactions(30)

    async def scenario(log: UploadLog) -> None:
        producer.begin_transaction()
        append(producer, settings, instructions_uploaded("Judge otherwise.", event_id="foreign"))
        with pytest.raises(ReplicaBehind):
            await log.read("assignment:a1")
        with pytest.raises(ReplicaBehind):
            await log.write(instructions("Judge clarity."), METADATA)
        producer.commit_transaction(10)
        reading = await log.read("assignment:a1")
        component = component_of(reading, "instructions")
        assert component is not None
        assert component.event_id == "foreign"

    run_scenario(
        settings.model_copy(update={"fold_timeout_s": 0.7, "write_timeout_s": 1.5}), scenario, 1
    )


def test_a_restart_continues_from_the_stored_replica(settings: Settings) -> None:
    async def before(log: UploadLog) -> None:
        await log.write(instructions("Judge clarity."), METADATA)
        await log.write(instructions("Judge clarity.", assignment_id="a2"), METADATA)

    async def after(log: UploadLog) -> None:
        await log.write(deletion("a2"), METADATA)
        page = await log.page(page=1, page_size=50, grade_scale=None)
        assert [one.scope_key for one in page.items] == ["assignment:a1"]

    run_scenario(settings, before, 1)
    run_scenario(settings, after, 1)


@pytest.mark.thorough
def test_without_a_broker_reads_and_writes_raise_unreachable(tmp_path: Path) -> None:
    nowhere = Settings(
        bootstrap_servers="127.0.0.1:9",
        data_dir=tmp_path,
        fold_timeout_s=0.5,
        write_timeout_s=1.0,
    )

    async def scenario(log: UploadLog) -> None:
        with pytest.raises(Unreachable):
            await log.read("assignment:a1")
        with pytest.raises(Unreachable):
            await log.page(page=1, page_size=50, grade_scale=None)
        with pytest.raises(Unreachable):
            await log.write(instructions("Judge clarity."), METADATA)
        assert log.ready() == {"replica": False, "kafka": False}

    run_with_one_instance(nowhere, scenario)


class LosesCommitAnswer(FencedProducer):
    """A producer whose first commit gets no answer: it was committed, or it was not."""

    def __init__(self, settings: Settings, number: int, *, committed: bool) -> None:
        super().__init__(settings, CODEC, number)
        self._committed = committed
        self._lost = False

    def append(self, events: Sequence[UploadEvent], until: float) -> list[AppendedEvent]:
        if self._lost:
            return super().append(events, until)
        self._lost = True
        if self._committed:
            super().append(events, until)
        self.close()
        raise Fenced("no answer")


class LosesCommitAnswerAndLog(LosesCommitAnswer):
    """A producer that cannot read the log afterwards, either."""

    def find(
        self, event_ids: Collection[str], starts: Positions, ends: Positions
    ) -> list[AppendedEvent]:
        raise Unreachable("no answer")


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_without_an_answer_is_settled_by_reading_the_log(
    settings: Settings, committed: bool
) -> None:
    number = partition_for(b"assignment:a1", settings.partitions)
    fenced_producer = LosesCommitAnswer(settings, number, committed=committed)
    request = WriteRequest(instructions("Judge clarity."), METADATA, in_seconds(30))
    run_writer(settings, fenced_producer, request)
    appended = request.future.result(0)
    component = component_of(appended.context, "instructions")
    assert component is not None
    assert component.version == 1
    assert [one.at for one in appended.appended] == [component.source]
    assert [record.at for record in records_in_log(settings)] == [component.source]


def test_a_commit_that_cannot_be_settled_in_time_has_an_unknown_outcome(settings: Settings) -> None:
    number = partition_for(b"assignment:a1", settings.partitions)
    fenced_producer = LosesCommitAnswerAndLog(settings, number, committed=True)
    request = WriteRequest(instructions("Judge clarity."), METADATA, in_seconds(3))
    run_writer(settings, fenced_producer, request)
    assert isinstance(request.future.exception(0), OutcomeUnknown)


def in_seconds(seconds: float) -> float:
    return time.monotonic() + seconds


def run_writer(settings: Settings, fenced_producer: FencedProducer, request: WriteRequest) -> None:
    """Let a writer decide a request, with a replica that is fed as in the API."""
    faults: list[BaseException] = []
    replica = open_replica(settings, CODEC, settings.api_dir)
    replica.open({})
    feed = ReplicaFeed(settings, replica, faults.append)
    feed.start({})
    client = admin_client(settings)
    writer = writer_of(
        settings, fenced_producer, replica, lambda partitions: high_watermarks(client, partitions)
    )
    writer.start()
    writer.submit(request)
    until(request.future.done)
    writer.stop()
    writer.join(10)
    feed.stop()
    replica.close()
    assert faults == []


def writer_of(
    settings: Settings,
    fenced_producer: FencedProducer,
    replica: ContextReplica,
    watermarks: Callable[..., Positions],
) -> PartitionWriter:
    number = partition_for(b"assignment:a1", settings.partitions)
    partitions = settings.administered_partitions_with(number)
    return PartitionWriter(fenced_producer, replica, partitions, watermarks, lambda: str(uuid4()))
