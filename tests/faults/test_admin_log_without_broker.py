"""The broker freezes under writes: the accepted are in the log once, the refused never."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient

from processors.app import build_upload_log
from processors.kafka.clients import admin_client
from processors.kafka.offsets import high_watermarks
from processors.kafka.topic_admin import apply_topics
from processors.settings import Settings, upload_partitions
from processors.upload_log.upload_log import UploadLog
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.errors import OutcomeUnknown, ReplicaBehind, Unreachable, WriterContended
from tables.commands import NewInstructions, TextRef, WriteCommand, WriteMetadata
from tests.faults.asking import pause
from tests.faults.running import ROOT
from tests.faults.test_two_writers import history
from tests.support.builders import sha256_of
from tests.support.until import until
from tools.broker import Broker

WRITING = WriteMetadata(actor="admin", correlation_id="c-9", occurred_at_ms=1_800_000_000_000)
ASSIGNMENTS = 6


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker that these tests may freeze."""
    with Broker.temporary(ROOT / ".cjstream") as broker:
        yield broker


def change(assignment: str, text: str) -> WriteCommand:
    sha256 = sha256_of(text)
    stored = TextRef(storage_id=sha256, sha256=sha256, media_type="text/plain", size_bytes=1)
    return WriteCommand(
        assignment_id=assignment,
        course_id=None,
        instructions=NewInstructions(text=stored, grade_scale="swedish_8_anchor"),
        condition_on="instructions",
    )


async def write_on(
    log: UploadLog, assignment: str, answers: dict[str, str], end: asyncio.Event
) -> None:
    """Write text after text to one assignment, and keep what became of each."""
    while not end.is_set():
        text = f"{assignment} {uuid4()}"
        try:
            await log.write(change(assignment, text), WRITING)
            answers[sha256_of(text)] = "accepted"
        except OutcomeUnknown:
            answers[sha256_of(text)] = "unknown"
        except (ReplicaBehind, Unreachable, WriterContended):
            answers[sha256_of(text)] = "refused"


def accepted(answers: dict[str, str]) -> int:
    return Counter(answers.values())["accepted"]


async def storm(log: UploadLog, broker: Broker, answers: dict[str, str]) -> None:
    """Writes go on while the broker is frozen and thawed."""
    end = asyncio.Event()
    writers = [
        asyncio.create_task(write_on(log, f"a{number}", answers, end))
        for number in range(ASSIGNMENTS)
    ]

    async def goes_on() -> None:
        goal = accepted(answers) + 50
        await asyncio.to_thread(until, lambda: accepted(answers) >= goal, 60)

    await goes_on()
    await asyncio.to_thread(broker.pause)
    await asyncio.to_thread(pause, 4)
    await asyncio.to_thread(broker.resume)
    await goes_on()
    end.set()
    await asyncio.gather(*writers)


def test_a_frozen_broker_gives_no_watermarks(broker: Broker, tmp_path: Path) -> None:
    settings = Settings(
        bootstrap_servers=broker.bootstrap, topic_prefix=f"{uuid4().hex[:8]}-", data_dir=tmp_path
    )
    client, uploads = admin_client(settings), upload_partitions(settings)
    apply_topics(client, settings)
    broker.pause()
    try:
        with pytest.raises(Unreachable):
            high_watermarks(client, uploads)
    finally:
        broker.resume()
    ends = until(lambda: _answered(client, uploads))
    assert ends == dict.fromkeys(uploads, 0)


def _answered(client: AdminClient, uploads: list[Partition]) -> Positions:
    try:
        return high_watermarks(client, uploads)
    except Unreachable:
        return {}


def test_what_was_accepted_is_in_the_log_once_and_what_was_refused_is_not(
    broker: Broker, tmp_path: Path
) -> None:
    settings = Settings(
        bootstrap_servers=broker.bootstrap,
        topic_prefix=f"{uuid4().hex[:8]}-",
        data_dir=tmp_path,
        write_timeout_s=2,
        fold_timeout_s=1,
    )
    apply_topics(admin_client(settings), settings)
    answers: dict[str, str] = {}
    faults: list[BaseException] = []

    async def run() -> None:
        log = build_upload_log(settings, faults.append, Codec())
        await log.start()
        try:
            await storm(log, broker, answers)
        finally:
            await log.stop()

    asyncio.run(run())
    assert faults == []
    print(Counter(answers.values()))  # noqa: T201
    told, _ = history(settings)
    for uploads in told.values():
        assert [one.event.version for one in uploads] == [*range(1, len(uploads) + 1)]
    in_the_log = Counter(one.event.sha256 for uploads in told.values() for one in uploads)
    assert set(in_the_log.values()) == {1}
    assert {text for text, what in answers.items() if what == "accepted"} <= in_the_log.keys()
    assert not {text for text, what in answers.items() if what == "refused"} & in_the_log.keys()
    assert "refused" in answers.values()
