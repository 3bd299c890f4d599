"""The broker freezes during writes: accepted writes are in the log once, refused writes never."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient

from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks
from processors.upload_log.upload_log import UploadLog, build_upload_log
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.errors import OutcomeUnknown, ReplicaBehind, Unreachable, WriterContended
from tables.commands import NewInstructions, TextRef, WriteCommand, WriteMetadata
from tests.faults.asking import pause
from tests.faults.test_two_writers import history
from tests.support.builders import sha256_of
from tests.support.installations import installation
from tests.support.run_command import ROOT
from tests.support.until import until
from tools.broker import Broker

METADATA = WriteMetadata(actor="admin", correlation_id="c-9", occurred_at_ms=1_800_000_000_000)
ASSIGNMENTS = 6


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker that these tests may freeze."""
    with Broker.temporary(ROOT / ".cjstream") as broker:
        yield broker


def new_instructions(assignment: str, text: str) -> WriteCommand:
    sha256 = sha256_of(text)
    stored = TextRef(storage_id=sha256, sha256=sha256, media_type="text/plain", size_bytes=1)
    return WriteCommand(
        assignment_id=assignment,
        course_id=None,
        instructions=NewInstructions(text=stored, grade_scale="swedish_8_anchor"),
        condition_on="instructions",
    )


async def write_until_stopped(
    log: UploadLog, assignment: str, outcomes: dict[str, str], stop: asyncio.Event
) -> None:
    """Write text after text to one assignment, and note the outcome of each write."""
    while not stop.is_set():
        text = f"{assignment} {uuid4()}"
        try:
            await log.write(new_instructions(assignment, text), METADATA)
            outcomes[sha256_of(text)] = "accepted"
        except OutcomeUnknown:
            outcomes[sha256_of(text)] = "unknown"
        except (ReplicaBehind, Unreachable, WriterContended):
            outcomes[sha256_of(text)] = "refused"


def accepted(outcomes: dict[str, str]) -> int:
    return Counter(outcomes.values())["accepted"]


async def write_while_broker_freezes(
    log: UploadLog, broker: Broker, outcomes: dict[str, str]
) -> None:
    """Write without a pause while the broker is frozen and thawed."""
    stop = asyncio.Event()
    writers = [
        asyncio.create_task(write_until_stopped(log, f"a{number}", outcomes, stop))
        for number in range(ASSIGNMENTS)
    ]

    async def wait_for_accepted_writes() -> None:
        goal = accepted(outcomes) + 50
        await asyncio.to_thread(until, lambda: accepted(outcomes) >= goal, 60)

    await wait_for_accepted_writes()
    await asyncio.to_thread(broker.pause)
    await asyncio.to_thread(pause, 4)
    await asyncio.to_thread(broker.resume)
    await wait_for_accepted_writes()
    stop.set()
    await asyncio.gather(*writers)


def test_the_high_watermarks_of_a_frozen_broker_are_unreachable(
    broker: Broker, tmp_path: Path
) -> None:
    settings = installation(broker, tmp_path)
    client, uploads = admin_client(settings), settings.upload_partitions
    broker.pause()
    try:
        with pytest.raises(Unreachable):
            high_watermarks(client, uploads)
    finally:
        broker.resume()
    ends = until(lambda: _high_watermarks_or_empty(client, uploads))
    assert ends == dict.fromkeys(uploads, 0)


def _high_watermarks_or_empty(client: AdminClient, uploads: list[Partition]) -> Positions:
    try:
        return high_watermarks(client, uploads)
    except Unreachable:
        return {}


def test_accepted_writes_are_in_the_log_once_and_refused_writes_never(
    broker: Broker, tmp_path: Path
) -> None:
    settings = installation(broker, tmp_path, write_timeout_s=2, fold_timeout_s=1)
    outcomes: dict[str, str] = {}
    faults: list[BaseException] = []

    async def run() -> None:
        log = build_upload_log(settings, faults.append, Codec())
        await log.start()
        try:
            await write_while_broker_freezes(log, broker, outcomes)
        finally:
            await log.stop()

    asyncio.run(run())
    assert faults == []
    print(Counter(outcomes.values()))  # noqa: T201
    by_assignment, _ = history(settings)
    for uploads in by_assignment.values():
        assert [upload.event.version for upload in uploads] == [*range(1, len(uploads) + 1)]
    logged = Counter(
        upload.event.sha256 for uploads in by_assignment.values() for upload in uploads
    )
    assert set(logged.values()) == {1}
    assert {
        sha256 for sha256, outcome in outcomes.items() if outcome == "accepted"
    } <= logged.keys()
    assert (
        not {sha256 for sha256, outcome in outcomes.items() if outcome == "refused"} & logged.keys()
    )
    assert "refused" in outcomes.values()
