"""Records that cannot be copied as they are become truncated dead letters, and everything behind them goes on.

Kafka checks a topic's `max.message.bytes` on compressed batches: a few kilobytes may carry a value of any size.
"""

from collections.abc import Mapping

from processors.dead_letters.open_letters import read_dead_letters
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.dead_letters import Headers
from schemas.partitioner import partition_for
from schemas.topics import MIB
from tests.faults.load import CODEC, append, assignment, send
from tests.faults.running import StartWorker
from tests.support.builders import requested
from tests.support.raw_batches import RawName, append_raw
from tests.support.until import until
from tools.tail import tail_batches

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
