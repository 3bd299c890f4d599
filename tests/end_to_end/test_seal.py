"""Seals of a real log, and what `verify --seal` finds after somebody rewrote a segment of the log."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.record.util import calc_crc32c

from processors.kafka.clients import admin_client, plain_producer
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.kafka.topic_admin import apply_topics
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.partitioner import partition_for
from tests.faults.asking import pause
from tests.faults.load import a_request, assignment, record_of, send, send_in_transaction
from tests.support.installations import configure_topic
from tests.support.run_command import run_json
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
    """The file of a signing key."""
    code, document, _ = run_json(settings, "audit", "seal-key", "--out", str(tmp_path / "seal.pem"))
    assert (code, document["private"]) == (0, str(tmp_path / "seal.pem"))
    return tmp_path / "seal.pem"


def sealed(settings: Settings, key: Path, name: str, *options: str) -> tuple[Path, Any]:
    out = key.parent / name
    code, document, messages = run_json(
        settings, "audit", "seal", "--key", str(key), "--out", str(out), *options
    )
    assert code == 0, messages
    return out, document


def checked(settings: Settings, *seals: Path) -> tuple[int, Any, str]:
    public = next(iter(seals)).parent / "seal.pem.pub"
    files = [word for seal in seals for word in ("--seal", str(seal))]
    return run_json(settings, "audit", "verify", *files, "--public-key", str(public))


def fill(settings: Settings) -> None:
    """Send uploads of five assignments, one more upload in a transaction, and requests."""
    for number in range(5):
        send(settings, *assignment(f"a{number}"))
    send_in_transaction(settings, assignment("a1", 2)[0])
    send(settings, *(a_request(number) for number in range(30)))


@pytest.mark.thorough
def test_a_seal_of_an_unchanged_log_holds_and_so_does_a_chain_of_seals(
    settings: Settings, key: Path
) -> None:
    fill(settings)
    first, document = sealed(settings, key, "first.seal")
    assert document["records"] == 46
    assert {each["topic"] for each in document["partitions"]} == {
        topic.name for topic in settings.topics.all
    } - {settings.topics.context.name, settings.topics.parked.name}
    send(settings, *assignment("a9"))
    second, document = sealed(settings, key, "second.seal", "--after", str(first))
    assert document["records"] == 3
    third, document = sealed(settings, key, "third.seal", "--after", str(second))
    assert document["records"] == 0
    code, document, messages = checked(settings, first, second, third)
    assert (code, document["holds"], messages) == (0, True, "")
    intact = [sum(each["intact"] for each in seal["partitions"]) for seal in document["seals"]]
    assert intact == [46, 3, 0]
    alone, together = (
        list(check_seals(settings, [first], None, now_ms=2**41, processes=count))
        for count in (1, 2)
    )
    assert alone == together
    code, document, messages = checked(settings, first, third)
    assert (code, document["holds"]) == (3, False)
    assert messages.splitlines() == [
        f"{third}: it does not follow the seal given before it: a seal in between is missing"
    ]


@pytest.mark.thorough
def test_a_selected_range_of_a_selected_topic_is_sealed(settings: Settings, key: Path) -> None:
    fill(settings)
    topic = settings.topics.instructions.name
    number = partition_for(KEY, settings.partitions)
    here = f"{topic}/{number}@0"
    _, document = sealed(settings, key, "one", "--topics", topic, "--to", here, "--from", here)
    assert {each["topic"] for each in document["partitions"]} == {topic}
    (partition,) = [each for each in document["partitions"] if each["partition"] == number]
    assert (partition["from"], partition["to"], partition["records"]) == (0, 1, 1)
    pause(0.01)
    _, document = sealed(settings, key, "later", "--from", "0s")
    assert document["records"] == 0
    for options in (
        ("--topics", "other"),
        ("--from", "tomorrow"),
        ("--after", str(key)),
        ("--from", here, "--to", "1h"),
    ):
        files = ("--key", str(key), "--out", str(key.parent / "none"))
        code, problem, messages = run_json(settings, "audit", "seal", *files, *options)
        assert (code, problem["exit_code"], len(messages.splitlines())) == (2, 2, 1)
    assert not (key.parent / "none").exists()


def test_without_the_public_key_the_signer_is_printed(settings: Settings, key: Path) -> None:
    seal, document = sealed(settings, key, "seal")
    code, _, messages = run_json(settings, "audit", "verify", "--seal", str(seal))
    assert (code, messages) == (
        0,
        f"signed by {document['key']}; use --public-key to check whose key that is\n",
    )
    run_json(settings, "audit", "seal-key", "--out", str(key.parent / "other.pem"))
    other = str(key.parent / "other.pem.pub")
    code, problem, messages = run_json(
        settings, "audit", "verify", "--seal", str(seal), "--public-key", other
    )
    assert (code, problem["exit_code"], len(messages.splitlines())) == (3, 3, 1)
    assert "the seal was signed by another key" in messages


# Somebody rewrites a segment while the broker is stopped

BATCH = struct.Struct(">qiibI")  # base offset, length, leader epoch, magic, crc32c of the rest


def rewrite(segment: Path, text: bytes) -> int:
    """Flip the byte after this text in a segment, and correct the checksum of its batch; returns the batch's offset.

    The record batches are in Kafka's format 2, uncompressed.
    """
    data = bytearray(segment.read_bytes())
    start = 0
    while start < len(data):
        offset, length, *_ = BATCH.unpack_from(data, start)
        end = start + 12 + length
        if (index := data.find(text, start, end)) >= 0:
            data[index + len(text)] ^= 1
            crc = calc_crc32c(bytes(data[start + BATCH.size : end]))
            struct.pack_into(">I", data, start + BATCH.size - 4, crc)
            segment.write_bytes(data)
            return int(offset)
        start = end
    raise AssertionError("the text is not in the segment")


def segment_of(broker: Broker, partition: Partition) -> Path:
    folder = broker.folder / "data" / f"{partition.topic}-{partition.partition}"
    (segment,) = folder.glob("*.log")
    return segment


@pytest.mark.thorough
def test_a_record_altered_in_the_segment_of_a_stopped_broker_is_named_by_coordinates(
    broker: Broker, settings: Settings, key: Path
) -> None:
    fill(settings)
    plain = plain_producer(settings, **{"compression.type": "none", "linger.ms": 0})
    for version in range(2, 6):
        deliver(plain, [record_of(settings, assignment("a1", version)[1])])
    seal, _ = sealed(settings, key, "seal")
    partition = Partition(
        settings.topics.student_prompts.name, partition_for(KEY, settings.partitions)
    )
    before = values(settings, partition)
    broker.stop()
    try:
        actor = b"teacher@school.exampl"  # rewrite() flips the byte after it
        altered = rewrite(segment_of(broker, partition), actor)
    finally:
        broker.start()
    after = values(settings, partition)  # broker and clients accept the altered record
    assert [offset for offset in before if before[offset] != after[offset]] == [altered]
    code, document, messages = checked(settings, seal)
    altered_at = str(Coordinates(*partition, altered))
    assert (code, messages) == (3, f"{seal}: {altered_at} was altered\n")
    (found,) = [each for each in document["seals"][0]["partitions"] if each["first"]]
    assert (found["first"], found["findings"]) == (
        {"at": altered_at, "was": "altered"},
        {"altered": 1},
    )


def values(settings: Settings, partition: Partition) -> dict[int, bytes | None]:
    with LogReader(settings, [partition]) as log:
        log.seek({partition: 0})
        ends = {each: end for each, (_, end) in log.offset_ranges().items()}
        return {record.at.offset: record.value for record in log.records_until(ends)}


@pytest.mark.thorough
def test_cut_off_last_records_are_found(broker: Broker, settings: Settings, key: Path) -> None:
    fill(settings)
    plain = plain_producer(settings, **{"compression.type": "none", "linger.ms": 0})
    partition = Partition(settings.topics.requests.name, 0)
    for number in range(3):
        deliver(plain, [Record(partition.topic, 0, b"k", b"last %d" % number)])
    seal, _ = sealed(settings, key, "seal")
    end = high_watermarks_when_reachable(settings, [partition])[partition]
    broker.kill()
    try:
        segment = segment_of(broker, partition)
        data = segment.read_bytes()
        # a batch begins with the offset of its first record, here its only one
        segment.write_bytes(data[: data.rfind(struct.pack(">q", end - 2))])
        for index in segment.parent.glob("*index"):
            index.unlink()
        for checkpoint in (broker.folder / "data").glob("*-checkpoint"):
            checkpoint.unlink()
    finally:
        broker.start()
    code, _, messages = checked(settings, seal)
    assert code == 3
    assert f"{Coordinates(*partition, end - 2)} was cut off, the first of 2 cut off" in messages


@pytest.mark.thorough
def test_compacted_records_are_distinguished_from_removed_ones(
    broker: Broker, settings: Settings, key: Path
) -> None:
    partition = Partition(
        settings.topics.judge_rubrics.name, partition_for(KEY, settings.partitions)
    )
    for version in range(1, 5):
        send(settings, assignment("a1", version)[2])
    seal, _ = sealed(settings, key, "seal")
    configure_topic(
        settings,
        partition.topic,
        min_compaction_lag_ms="0",
        min_cleanable_dirty_ratio="0.01",
        segment_ms="1000",
    )

    def is_compacted() -> bool:
        pause(1.1)
        send(settings, assignment("a1", 9)[2])  # only an append rolls the segment
        return not {0, 1, 2} & values(settings, partition).keys()

    until(is_compacted, 60)
    (check,) = check_seals(settings, [seal], None, now_ms=2**41)  # long after the horizon
    (found,) = [each for each in check["partitions"] if each["to"]]
    assert (check["holds"], found["first"]) == (True, None)
    assert found["compacted"] + found["intact"] == 4
    code, _, messages = checked(settings, seal)  # within the horizon nothing may be compacted
    assert code == 3
    assert f"{Coordinates(*partition, 0)} was removed" in messages


@pytest.mark.thorough
def test_records_past_retention_are_not_findings(
    broker: Broker, settings: Settings, key: Path
) -> None:
    partition = Partition(settings.topics.requests.name, 0)
    plain = plain_producer(settings)
    deliver(plain, [Record(partition.topic, 0, b"k", b"first")])
    seal, _ = sealed(settings, key, "seal")
    configure_topic(settings, partition.topic, retention_ms="500", segment_ms="1000")

    def is_gone() -> bool:
        pause(1.1)
        deliver(plain, [Record(partition.topic, 0, b"k", b"more")])
        with LogReader(settings, [partition]) as log:
            return log.offset_ranges()[partition][0] > 0

    until(is_gone, 60)
    (check,) = check_seals(settings, [seal], None, now_ms=2**41)
    assert check["holds"]
    assert sum(each["past_retention"] for each in check["partitions"]) == 1
    code, _, messages = checked(
        settings, seal
    )  # the record is younger than the catalogue's retention
    assert code == 3
    assert f"{Coordinates(*partition, 0)} was removed" in messages


@pytest.mark.thorough
def test_a_recreated_topic_is_named(settings: Settings, key: Path) -> None:
    fill(settings)
    seal, _ = sealed(settings, key, "seal")
    client, name = admin_client(settings), settings.topics.requests.name
    client.delete_topics([name])[name].result(10)
    code, _, messages = checked(settings, seal)
    assert code == 3
    assert f"{seal}: {name}/0 is missing" in messages
    apply_topics(client, settings)
    code, _, messages = checked(settings, seal)
    assert code == 3
    assert f"{seal}: {name} was recreated" in messages
    assert f"{name}/0@0 was cut off" in messages


@pytest.mark.thorough
def test_an_unreachable_broker_and_invalid_seal_files_are_one_line_errors(tmp_path: Path) -> None:
    away = Settings(bootstrap_servers="127.0.0.1:9", data_dir=tmp_path)
    key, seal = str(tmp_path / "key"), str(tmp_path / "seal")
    run_json(away, "audit", "seal-key", "--out", key)
    assert run_json(away, "audit", "seal", "--key", key, "--out", seal)[0] == 4
    assert not Path(seal).exists()
    for file in (key, str(tmp_path), seal):
        code, problem, messages = run_json(away, "audit", "verify", "--seal", file)
        assert (code, problem["exit_code"], len(messages.splitlines())) == (2, 2, 1)
    again = run_json(away, "audit", "seal-key", "--out", key)
    assert (again[0], again[2]) == (1, f"cjstream: {key} exists already\n") or "pub" in again[2]
