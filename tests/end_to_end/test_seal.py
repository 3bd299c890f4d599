"""Seals of a real log, and what becomes of them when somebody rewrites a segment of it."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.record.util import calc_crc32c
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from processors.kafka.clients import admin_client, plain_producer
from processors.kafka.offsets import high_watermarks
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.kafka.topic_admin import apply_topics
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.partitioner import partition_for
from tests.faults.asking import pause
from tests.faults.load import a_request, assignment, record_of, send, send_in_transaction
from tests.support.run_command import told
from tests.support.until import until
from tools.audit.seal.seal_verify import check_seals
from tools.broker import Broker

DAY_MS = 86_400_000
KEY = b"assignment:a1"


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker that these tests may stop."""
    quick = {"log.cleaner.backoff.ms": "100", "log.retention.check.interval.ms": "300"}
    with Broker.temporary(Path(__file__).parents[2] / ".cjstream", quick) as broker:
        yield broker


@pytest.fixture
def key(settings: Settings, tmp_path: Path) -> Path:
    """A key that signs."""
    code, document, _ = told(settings, "audit", "seal-key", "--out", str(tmp_path / "seal.pem"))
    assert (code, document["private"]) == (0, str(tmp_path / "seal.pem"))
    return tmp_path / "seal.pem"


def sealed(settings: Settings, key: Path, name: str, *options: str) -> tuple[Path, Any]:
    out = key.parent / name
    code, document, said = told(
        settings, "audit", "seal", "--key", str(key), "--out", str(out), *options
    )
    assert code == 0, said
    return out, document


def checked(settings: Settings, *seals: Path) -> tuple[int, Any, str]:
    public = next(iter(seals)).parent / "seal.pem.pub"
    files = [word for one in seals for word in ("--seal", str(one))]
    return told(settings, "audit", "verify", *files, "--public-key", str(public))


def filled(settings: Settings) -> None:
    """Uploads of five assignments, some in transactions, and requests."""
    for number in range(5):
        send(settings, *assignment(f"a{number}"))
    send_in_transaction(settings, assignment("a1", 2)[0])
    send(settings, *(a_request(number) for number in range(30)))


def test_a_seal_of_a_log_that_is_as_it_was_holds_and_a_chain_of_them_too(
    settings: Settings, key: Path
) -> None:
    filled(settings)
    first, document = sealed(settings, key, "first.seal")
    assert document["records"] == 46
    assert {one["topic"] for one in document["partitions"]} == {
        topic.name for topic in settings.topics.all
    } - {settings.topics.context.name, settings.topics.parked.name}
    send(settings, *assignment("a9"))
    second, document = sealed(settings, key, "second.seal", "--after", str(first))
    assert document["records"] == 3
    third, document = sealed(settings, key, "third.seal", "--after", str(second))
    assert document["records"] == 0
    code, document, said = checked(settings, first, second, third)
    assert (code, document["holds"], said) == (0, True, "")
    intact = [sum(one["intact"] for one in seal["partitions"]) for seal in document["seals"]]
    assert intact == [46, 3, 0]
    code, document, said = checked(settings, first, third)
    assert (code, document["holds"]) == (3, False)
    assert said.splitlines() == [
        f"{third}: it does not follow the seal before it: another one was left out"
    ]


def test_a_range_and_a_topic_of_choice_are_sealed(settings: Settings, key: Path) -> None:
    filled(settings)
    topic = settings.topics.instructions.name
    number = partition_for(KEY, settings.partitions)
    here = f"{topic}/{number}@0"
    _, document = sealed(settings, key, "one", "--topics", topic, "--to", here, "--from", here)
    assert {one["topic"] for one in document["partitions"]} == {topic}
    (one,) = [one for one in document["partitions"] if one["partition"] == number]
    assert (one["from"], one["to"], one["records"]) == (0, 1, 1)
    pause(0.01)
    _, document = sealed(settings, key, "later", "--from", "0s")
    assert document["records"] == 0
    for options in (
        ("--topics", "other"),
        ("--from", "tomorrow"),
        ("--after", str(key)),
        ("--from", here, "--to", "1h"),
    ):
        named = ("--key", str(key), "--out", str(key.parent / "none"))
        code, nothing, said = told(settings, "audit", "seal", *named, *options)
        assert (code, nothing, len(said.splitlines())) == (2, None, 1)
    assert not (key.parent / "none").exists()


def test_without_the_public_key_it_is_said_who_signed(settings: Settings, key: Path) -> None:
    seal, document = sealed(settings, key, "seal")
    code, _, said = told(settings, "audit", "verify", "--seal", str(seal))
    assert (code, said) == (
        0,
        f"signed by {document['key']}; --public-key proves whose that is\n",
    )
    told(settings, "audit", "seal-key", "--out", str(key.parent / "other.pem"))
    other = str(key.parent / "other.pem.pub")
    code, nothing, said = told(
        settings, "audit", "verify", "--seal", str(seal), "--public-key", other
    )
    assert (code, nothing, len(said.splitlines())) == (3, None, 1)
    assert "the seal of another key" in said


# A segment that somebody rewrites while the broker is stopped

BATCH = struct.Struct(">qiibI")  # base offset, length, leader epoch, magic, crc32c of what follows


def rewrite(segment: Path, text: bytes) -> int:
    """Flip one byte behind this text in a segment, and mend the sum of its batch; gives the batch's offset.

    Record batches are those of Kafka's format 2, not compressed.
    """
    data = bytearray(segment.read_bytes())
    start = 0
    while start < len(data):
        offset, length, *_ = BATCH.unpack_from(data, start)
        end = start + 12 + length
        if (place := data.find(text, start, end)) >= 0:
            data[place + len(text)] ^= 1
            crc = calc_crc32c(bytes(data[start + BATCH.size : end]))
            struct.pack_into(">I", data, start + BATCH.size - 4, crc)
            segment.write_bytes(data)
            return int(offset)
        start = end
    raise AssertionError("the text is not in the segment")


def segment_of(broker: Broker, at: Partition) -> Path:
    (segment,) = (broker.folder / "data" / f"{at.topic}-{at.partition}").glob("*.log")
    return segment


def test_a_byte_flipped_in_the_segment_of_a_stopped_broker_is_named_by_coordinates(
    broker: Broker, settings: Settings, key: Path
) -> None:
    filled(settings)
    plain = plain_producer(settings, **{"compression.type": "none", "linger.ms": 0})
    for version in range(2, 6):
        deliver(plain, [record_of(settings, assignment("a1", version)[1])])
    seal, _ = sealed(settings, key, "seal")
    at = Partition(settings.topics.student_prompts.name, partition_for(KEY, settings.partitions))
    before = values(settings, at)
    broker.stop()
    try:
        actor = b"teacher@school.exampl"  # and the byte behind it
        altered = rewrite(segment_of(broker, at), actor)
    finally:
        broker.start()
    after = values(settings, at)  # the broker and its clients notice nothing
    assert [offset for offset in before if before[offset] != after[offset]] == [altered]
    code, document, said = checked(settings, seal)
    there = str(Coordinates(*at, altered))
    assert (code, said) == (3, f"{seal}: {there} was altered\n")
    (found,) = [one for one in document["seals"][0]["partitions"] if one["first"]]
    assert (found["first"], found["findings"]) == ({"at": there, "was": "altered"}, {"altered": 1})


def values(settings: Settings, at: Partition) -> dict[int, bytes | None]:
    with LogReader(settings, [at]) as log:
        log.seek({at: 0})
        ends = {one: end for one, (_, end) in log.offset_ranges().items()}
        return {one.at.offset: one.value for one in log.records_until(ends)}


def test_a_log_whose_last_records_are_cut_off_is_found(
    broker: Broker, settings: Settings, key: Path
) -> None:
    filled(settings)
    plain = plain_producer(settings, **{"compression.type": "none", "linger.ms": 0})
    at = Partition(settings.topics.requests.name, 0)
    for number in range(3):
        deliver(plain, [Record(at.topic, 0, b"k", b"last %d" % number)])
    seal, _ = sealed(settings, key, "seal")
    end = high_watermarks(admin_client(settings), [at])[at]
    broker.kill()
    try:
        segment = segment_of(broker, at)
        data = segment.read_bytes()
        # a batch begins with the offset that its first record has, here its only one
        segment.write_bytes(data[: data.rfind(struct.pack(">q", end - 2))])
        for index in segment.parent.glob("*index"):
            index.unlink()
        for checkpoint in (broker.folder / "data").glob("*-checkpoint"):
            checkpoint.unlink()
    finally:
        broker.start()
    code, _, said = checked(settings, seal)
    assert code == 3
    assert f"{Coordinates(*at, end - 2)} was cut off, the first of 2 cut off" in said


def alter(settings: Settings, topic: str, **config: str) -> None:
    """Another configuration than the catalogue's."""
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    client = admin_client(settings)  # held until it has answered
    (future,) = client.incremental_alter_configs([resource]).values()
    future.result(10)


def test_what_compaction_took_is_told_from_what_was_removed(
    broker: Broker, settings: Settings, key: Path
) -> None:
    at = Partition(settings.topics.judge_rubrics.name, partition_for(KEY, settings.partitions))
    for version in range(1, 5):
        send(settings, assignment("a1", version)[2])
    seal, _ = sealed(settings, key, "seal")
    alter(
        settings,
        at.topic,
        min_compaction_lag_ms="0",
        min_cleanable_dirty_ratio="0.01",
        segment_ms="1000",
    )

    def is_compacted() -> bool:
        pause(1.1)
        send(settings, assignment("a1", 9)[2])  # only an append rolls the segment
        return not {0, 1, 2} & values(settings, at).keys()

    until(is_compacted, 60)
    (check,) = check_seals(settings, [seal], None, now_ms=2**41)  # long after the horizon
    (found,) = [one.comparison for one in check.partitions if one.sealed.end]
    assert (check.holds, found.first) == (True, None)
    assert found.compacted + found.intact == 4
    code, _, said = checked(settings, seal)  # within the horizon nothing may be compacted
    assert code == 3
    assert f"{Coordinates(*at, 0)} was removed" in said


def test_what_is_past_retention_is_no_finding(
    broker: Broker, settings: Settings, key: Path
) -> None:
    at = Partition(settings.topics.requests.name, 0)
    plain = plain_producer(settings)
    deliver(plain, [Record(at.topic, 0, b"k", b"first")])
    seal, _ = sealed(settings, key, "seal")
    alter(settings, at.topic, retention_ms="500", segment_ms="1000")

    def is_gone() -> bool:
        pause(1.1)
        deliver(plain, [Record(at.topic, 0, b"k", b"more")])
        with LogReader(settings, [at]) as log:
            return log.offset_ranges()[at][0] > 0

    until(is_gone, 60)
    (check,) = check_seals(settings, [seal], None, now_ms=2**41)
    assert check.holds
    assert sum(one.comparison.expired for one in check.partitions) == 1
    code, _, said = checked(settings, seal)  # it is not as old as the catalogue keeps it
    assert code == 3
    assert f"{Coordinates(*at, 0)} was removed" in said


def test_a_topic_that_was_made_anew_is_named(settings: Settings, key: Path) -> None:
    filled(settings)
    seal, _ = sealed(settings, key, "seal")
    client, name = admin_client(settings), settings.topics.requests.name
    client.delete_topics([name])[name].result(10)
    code, _, said = checked(settings, seal)
    assert code == 3
    assert f"{seal}: {name}/0 is missing" in said
    apply_topics(client, settings)
    code, _, said = checked(settings, seal)
    assert code == 3
    assert f"{seal}: {name} was made anew" in said
    assert f"{name}/0@0 was cut off" in said


def test_a_broker_that_is_away_and_files_that_are_no_seals_are_one_line(tmp_path: Path) -> None:
    away = Settings(bootstrap_servers="127.0.0.1:9", data_dir=tmp_path)
    key, seal = str(tmp_path / "key"), str(tmp_path / "seal")
    told(away, "audit", "seal-key", "--out", key)
    assert told(away, "audit", "seal", "--key", key, "--out", seal)[0] == 4
    assert not Path(seal).exists()
    for file in (key, str(tmp_path), seal):
        code, nothing, said = told(away, "audit", "verify", "--seal", file)
        assert (code, nothing, len(said.splitlines())) == (2, None, 1)
    again = told(away, "audit", "seal-key", "--out", key)
    assert (again[0], again[2]) == (1, f"cjstream: {key} is there already\n") or "pub" in again[2]
