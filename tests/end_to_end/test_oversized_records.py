"""Records that cannot be copied as they are become truncated dead letters, and everything behind them goes on.

Kafka checks a topic's `max.message.bytes` on compressed batches: a few kilobytes may carry a value of any size.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processors.dead_letters.open_letters import read_dead_letters
from processors.kafka.records import UNREADABLE_HEADERS, Record
from processors.log.reader import LogReader
from processors.parking.parked_record import CLOCK_KEY
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.dead_letters import Headers
from schemas.partitioner import partition_for
from schemas.topics import MIB
from tests.end_to_end.serving import ready_api
from tests.faults.load import CODEC, append, assignment, record_of, send
from tests.faults.running import StartWorker
from tests.support.builders import requested
from tests.support.installations import allow_compressed_batches, configure_topic
from tests.support.raw_batches import RawName, append_raw
from tests.support.run_command import run_json
from tests.support.until import until
from tools.tail import tail_batches

pytestmark = pytest.mark.usefixtures("compressed_batches")
HUGE = bytes(3 * MIB)
NO_UTF_8 = [(RawName.of(b"\xff\xfe"), b"x")]
TOO_LARGE: Mapping[str, tuple[bytes | None, bytes | None, Headers]] = {
    "value": (b"k", HUGE, ()),
    "key": (HUGE, b"damaged", ()),
    "header": (b"k", b"damaged", [("h", HUGE)]),
    "many headers": (b"k", b"damaged", [(f"h{n}", bytes(50_000)) for n in range(60)]),
    "short headers": (b"k", b"damaged", [("h" * 20, None)] * 100_000),  # 2.0 MB and their lengths
    "huge value": (b"k", bytes(30 * MIB), ()),
}
KEPT: Mapping[str, tuple[bytes | None, bytes | None, Headers]] = {
    "no UTF-8": (b"k", b"damaged", NO_UTF_8),
    "zero byte": (b"k", b"damaged", [(RawName.of(b"a\0b"), b"x")]),
    "10,000 headers": (b"k", b"damaged", [("h", b"x")] * 10_000),
    "too many to be read": (b"k", b"damaged", [("", None)] * 700_000),
    "nothing": (None, None, [("h", None)]),
}


@pytest.fixture
def compressed_batches(settings: Settings) -> None:
    allow_compressed_batches(settings)


def truncated_letters(settings: Settings) -> dict[Coordinates, bool]:
    """Whether each open dead letter is truncated, by the coordinates of its record."""
    dead_letter_topics = (settings.topics.requests_dlq, settings.topics.uploads_dlq)
    found = read_dead_letters(settings, dead_letter_topics)
    assert found.foreign_records == []
    return {letter.refusal.at: letter.refusal.truncated is not None for letter in found.open}


def append_each(settings: Settings, topic: str) -> dict[Coordinates, bool]:
    """Append every damaged record; returns whether its dead letter must be truncated."""
    key_if_none = (
        None if topic == settings.topics.requests.name else b"k"
    )  # compacted topics need one
    return {
        append_raw(
            settings.bootstrap_servers,
            Record(topic, 0, poison[0] or key_if_none, *poison[1:]),
        ): is_truncated
        for poisons, is_truncated in ((TOO_LARGE, True), (KEPT, False))
        for poison in poisons.values()
    }


def prepared(settings: Settings) -> set[str]:
    """The batch ids of the outcomes that are no dead letters."""
    outcomes = tail_batches(settings, from_beginning=True, every_outcome=True)
    return {outcome.event.request.batch_id for outcome in outcomes if outcome.event}


def assert_only_texts_are_missing(settings: Settings) -> None:
    """`audit verify` finds every outcome right; the texts of these uploads were never stored."""
    found = run_json(settings, "audit", "verify")[1]
    assert found["findings_by_kind"].keys() == {"text_missing"}, found


def in_partition_0(settings: Settings, batch_id: str) -> Record:
    value = CODEC.encode(requested(batch_id=batch_id))
    return Record(settings.topics.requests.name, 0, batch_id.encode(), value)


def test_requests_that_cannot_be_copied_are_truncated_and_do_not_stop_their_partition(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    append(settings, [in_partition_0(settings, "before")])
    expected = append_each(settings, settings.topics.requests.name)
    append(settings, [in_partition_0(settings, "after")])
    worker = start_worker()
    until(lambda: not worker.is_alive or {"before", "after"} <= prepared(settings), 60)
    assert worker.is_alive
    assert truncated_letters(settings) == expected
    assert_only_texts_are_missing(settings)


@pytest.mark.thorough
def test_uploads_that_cannot_be_copied_are_truncated_and_do_not_stop_their_partition(
    settings: Settings, start_worker: StartWorker
) -> None:
    expected = append_each(settings, settings.topics.student_prompts.name)
    behind = next(
        name for n in range(99) if partition_for(f"assignment:{(name := f'a{n}')}".encode(), 4) == 0
    )
    send(settings, *assignment(behind), requested(batch_id="after", assignment_id=behind))
    worker = start_worker()
    until(lambda: not worker.is_alive or prepared(settings) == {"after"}, 60)
    until(lambda: not worker.is_alive or len(truncated_letters(settings)) >= len(expected), 60)
    assert worker.is_alive
    assert truncated_letters(settings) == expected


def valid(settings: Settings, batch_id: str, assignment_id: str) -> Record:
    value = CODEC.encode(requested(batch_id=batch_id, assignment_id=assignment_id))
    return Record(settings.topics.requests.name, 0, b"k", value)


@pytest.mark.thorough
def test_valid_requests_that_cannot_be_prepared_or_parked_are_truncated(
    settings: Settings, start_worker: StartWorker
) -> None:
    """An outcome carries the key of its request; an entry in the parked topic its key and its headers."""
    send(settings, *assignment("a1"))
    fits_parked = bytes(2 * MIB - len(valid(settings, "", "late").value or b"") - 600)
    requests: Mapping[str, tuple[str, str, Any]] = {
        "ready, key": ("a1", "key", HUGE),
        "ready, header": ("a1", "headers", [("h", HUGE)]),
        "late, key": ("late", "key", HUGE),
        "late, header": ("late", "headers", [("h", HUGE)]),
        "late, key of its outcome": ("late", "key", fits_parked),
        "late, short key": ("late", "key", HUGE[:MIB]),
        "late, no UTF-8": ("late", "headers", NO_UTF_8),
    }
    of_batch = {
        batch_id: append_raw(
            settings.bootstrap_servers,
            replace(valid(settings, batch_id, assignment_id), **{field: content}),
        )
        for batch_id, (assignment_id, field, content) in requests.items()
    }
    worker = start_worker(patience_s=600)
    letters = {"ready, key", "late, key", "late, header"}
    until(lambda: not worker.is_alive or len(truncated_letters(settings)) == 3, 60)
    send(settings, *assignment("late"))
    until(lambda: not worker.is_alive or len(prepared(settings)) == 3, 60)
    until(lambda: not worker.is_alive or len(truncated_letters(settings)) == 4, 60)
    assert worker.is_alive
    assert prepared(settings) == {"ready, header", "late, short key", "late, no UTF-8"}
    letters |= {"late, key of its outcome"}
    assert truncated_letters(settings) == {of_batch[batch_id]: True for batch_id in letters}
    assert worker.log_count("batch aborted") <= 3  # sizes at the limit are left to the client


@pytest.mark.thorough
def test_times_that_producers_set_stop_nothing_and_move_no_clock(
    settings: Settings, start_worker: StartWorker
) -> None:
    """Records keep such a time if their topic had `CreateTime` when they were appended."""
    requests, prompts = settings.topics.requests.name, settings.topics.student_prompts.name
    for topic in (requests, prompts):
        configure_topic(
            settings,
            topic,
            message_timestamp_type="CreateTime",
            message_timestamp_after_max_ms=2**63 - 1,
        )
    send(settings, assignment("a1")[0])
    prompt = record_of(settings, assignment("a1")[1])
    letters = {}
    for ms in (-1, 0, 2**62 + 1, 2**63 - 2):
        append_raw(
            settings.bootstrap_servers,
            replace(prompt, partition=partition_for(prompt.key or b"", 4)),
            timestamp_ms=ms,
        )
        for record in (
            valid(settings, f"known {ms}", "a1"),
            valid(settings, f"unknown {ms}", "unknown"),
        ):
            append_raw(settings.bootstrap_servers, record, timestamp_ms=ms)
        damaged = Record(requests, 0, b"k", b"damaged")
        letters[append_raw(settings.bootstrap_servers, damaged, timestamp_ms=ms)] = False
    newest = replace(valid(settings, "newest of its partition", "a1"), partition=1)
    append_raw(settings.bootstrap_servers, newest, timestamp_ms=2**63 - 2)
    for topic in (requests, prompts):
        configure_topic(settings, topic, message_timestamp_type="LogAppendTime")
    append(settings, [in_partition_0(settings, "after"), valid(settings, "waits", "unknown")])
    worker = start_worker(patience_s=20)
    until(lambda: not worker.is_alive or "after" in prepared(settings), 60)
    assert worker.is_alive
    assert "waits" not in prepared(settings)  # no time in the future was taken for the broker's
    assert truncated_letters(settings) == letters
    until(lambda: not worker.is_alive or len(prepared(settings)) == 11, 60)
    assert worker.is_alive
    code, report, _ = run_json(settings, "dlq", "redrive")
    assert (code, {one["fate"] for one in report["dead_letters"]}) == (0, {"redrive"})
    assert_only_texts_are_missing(settings)
    code, report, stderr = run_json(settings, "audit", "replay", "--compare")
    assert code == 0, (report, stderr)


def published_rows(settings: Settings) -> set[bytes | None]:
    """The keys of the changelog's rows."""
    partitions = settings.partitions_of(settings.topics.context)
    with LogReader(settings, partitions) as log:
        return {record.key for record in log.records_until(log.seek_to_start())}


@pytest.mark.thorough
def test_header_names_that_are_not_utf_8_stop_nothing_in_any_topic(
    settings: Settings, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Kafka accepts any bytes as a name; aiokafka reads no further, and librdkafka's binding gives null pointers."""
    topics = settings.topics
    scope = next(f"a{n}" for n in range(99) if partition_for(f"assignment:a{n}".encode(), 4) == 0)
    records = [
        replace(record_of(settings, upload), partition=0, headers=NO_UTF_8)
        for upload in assignment(scope)
    ]
    # many: the interpreter changes how it calls a method that it calls often
    records += [
        replace(valid(settings, f"b{n}", scope), headers=[("trace", b"x"), *NO_UTF_8])
        for n in range(30)
    ]
    records += [replace(valid(settings, "", scope), value=b"damaged", headers=NO_UTF_8)] * 30
    records += [Record(topics.context.name, 0, b"assignment:nobody", None, NO_UTF_8)]
    for record in records:
        append_raw(settings.bootstrap_servers, record)

    first = start_worker("first")
    until(lambda: not first.is_alive or len(prepared(settings)) == 30, 60)
    until(lambda: f"assignment:{scope}".encode() in published_rows(settings))
    others = (topics.batches, topics.unresolved, topics.requests_dlq, topics.uploads_dlq)
    for topic in others * 20:  # only now: outcomes without committed offsets stop a first start
        append_raw(settings.bootstrap_servers, Record(topic.name, 0, b"k", b"damaged", NO_UTF_8))
    append_raw(settings.bootstrap_servers, Record(topics.parked.name, 0, CLOCK_KEY, None, NO_UTF_8))
    first.kill()
    later = next(f"b{n}" for n in range(99) if partition_for(f"assignment:b{n}".encode(), 4) == 0)
    send(settings, *assignment(later))
    second = start_worker(
        "second", data_dir=tmp_path / "second"
    )  # reads the changelog from its start
    until(
        lambda: not second.is_alive or f"assignment:{later}".encode() in published_rows(settings),
        90,
    )
    assert second.is_alive
    with ready_api(settings.model_copy(update={"data_dir": tmp_path / "api"})) as api:
        assert api.is_ready()

    letters = read_dead_letters(settings, (topics.requests_dlq, topics.uploads_dlq))
    assert {tuple(letter.refusal.original_headers) for letter in letters.open} == {
        (UNREADABLE_HEADERS,)
    }
    assert (len(letters.open), len(letters.foreign_records)) == (30, 40)
    _, report, _ = run_json(settings, "dlq", "redrive")
    assert {one["fate"] for one in report["dead_letters"]} == {"redrive"}
    found = run_json(settings, "audit", "verify")[1]["findings_by_kind"]
    assert {kind: found[kind]["count"] for kind in found.keys() - {"text_missing"}} == {
        "unreadable": 60
    }
    assert run_json(settings, "audit", "replay", "--compare")[0] == 0


@pytest.mark.thorough
@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_a_record_of_120_mb_after_decompression_is_truncated(
    settings: Settings, start_worker: StartWorker, codec: str
) -> None:
    """A consumer's `receive.message.max.bytes`, by default 100 MB, bounds what it decompresses of a zstd batch."""
    topics, huge = settings.topics, bytes(120 * MIB)
    expected = {
        append_raw(settings.bootstrap_servers, Record(topic.name, 0, b"k", huge), codec=codec): True
        for topic in (topics.requests, topics.instructions)
    }
    send(settings, *assignment("a1"))
    append(settings, [in_partition_0(settings, "after")])
    worker = start_worker()
    until(lambda: not worker.is_alive or "after" in prepared(settings), 60)
    until(lambda: not worker.is_alive or len(truncated_letters(settings)) == 2, 60)
    assert worker.is_alive
    assert truncated_letters(settings) == expected
