"""A record that hides a scope's good upload does not make it vanish: the partition's owner appends the upload anew."""

import pytest

from processors.fold.replica_feed import ReplicaFeed, open_replica
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord, Record
from processors.log.compacted_rows import newest_rows
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import FRAME
from schemas.coordinates import Partition
from schemas.events import AssignmentContext
from schemas.partitioner import partition_for
from tests.end_to_end.test_audit_compaction import SHORT
from tests.faults.load import CODEC, append, record_of, send
from tests.faults.running import StartWorker
from tests.support.builders import OF_LATER_RELEASE, prompt_deleted, prompt_uploaded
from tests.support.installations import configure_topic
from tests.support.until import until

KEY = b"assignment:a1"
NUMBER = partition_for(KEY, 4)
NEIGHBOUR = next(
    name
    for name in map("b{}".format, range(99))
    if partition_for(f"assignment:{name}".encode(), 4) == NUMBER
)
GARBAGE = {
    "a tombstone": None,
    "not framed": b"junk",
    "a truncated body": CODEC.encode(prompt_uploaded())[:-3],
    "an id of another registry": FRAME.pack(0, 7) + b"x",
    "another scope": CODEC.encode(prompt_uploaded(assignment_id="a2")),
}


def hide(settings: Settings, value: bytes | None) -> int:
    """Append a record that cannot be folded under the key of a1's prompt; returns its offset."""
    topic = settings.topics.student_prompts.name
    (at,) = append(settings, [Record(topic, NUMBER, KEY, value)])
    return at.offset


def records_of_key(settings: Settings) -> list[LogRecord]:
    partition = Partition(settings.topics.student_prompts.name, NUMBER)
    with LogReader(settings, [partition]) as log:
        return [one for one in log.records_until(log.seek_to_start()) if one.key == KEY]


def rebuilt(settings: Settings) -> dict[str, AssignmentContext]:
    """The contexts of a new replica."""
    replica = open_replica(settings, CODEC, settings.data_dir / "new")
    faults: list[BaseException] = []
    feed = ReplicaFeed(settings, replica, faults.append)
    feed.start(replica.open({}))
    ends = high_watermarks_when_reachable(settings, settings.upload_partitions)
    until(lambda: faults or not replica.wait_past(ends, 0))
    contexts = {context.scope_key: context for context in replica.contexts()}
    feed.stop()
    replica.close()
    assert not faults
    return contexts


@pytest.mark.thorough
def test_a_good_upload_survives_a_real_compaction_behind_a_record_that_hides_it(
    settings: Settings, start_worker: StartWorker
) -> None:
    good = record_of(settings, prompt_uploaded(version=3))
    send(settings, prompt_uploaded(version=3))
    hidden_by = [hide(settings, value) for value in GARBAGE.values()]
    worker = start_worker()
    until(lambda: records_of_key(settings)[-1].value == good.value)
    newest = records_of_key(settings)[-1]
    assert int(dict(newest.headers)["cjstream-restored-after"] or b"") in hidden_by
    assert newest.at.offset > hidden_by[-1]
    worker.stop()

    topic = settings.topics.student_prompts.name
    configure_topic(settings, topic, **SHORT)

    def is_compacted() -> bool:
        send(settings, prompt_uploaded(assignment_id=NEIGHBOUR))  # to roll the segment
        return len(records_of_key(settings)) == 1

    until(is_compacted, seconds=90)
    prompt = rebuilt(settings)[KEY.decode()].student_prompt
    assert prompt is not None
    assert (prompt.version, prompt.source.offset) == (3, newest.at.offset)


def test_nothing_is_appended_for_a_scope_without_an_upload_or_with_a_newer_one(
    settings: Settings, start_worker: StartWorker
) -> None:
    hide(settings, None)
    hide(settings, b"junk")
    send(settings, prompt_uploaded(version=1))
    other = record_of(settings, prompt_uploaded(assignment_id=NEIGHBOUR))
    append(settings, [Record(other.topic, (NUMBER + 1) % 4, other.key, b"misplaced"), other])
    worker = start_worker()
    until(lambda: worker.log_count("upload is not a valid event") == 3)
    hide(settings, b"later junk")
    until(lambda: len(records_of_key(settings)) == 5)  # only the last one hides something
    versions = [one.value for one in records_of_key(settings)]
    assert versions[-1] == versions[2] == CODEC.encode(prompt_uploaded(version=1))


def test_a_partition_that_an_upload_of_a_later_release_stops_holds_up_no_restore(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, prompt_uploaded(version=1), prompt_uploaded(assignment_id=NEIGHBOUR))
    hide(settings, b"junk")
    other = record_of(settings, prompt_uploaded(assignment_id=NEIGHBOUR))
    append(settings, [Record(other.topic, NUMBER, other.key, OF_LATER_RELEASE)])
    hidden_neighbour = Record(other.topic, NUMBER, other.key, b"junk")
    append(settings, [hidden_neighbour])  # behind the stop: nothing may be appended for it
    start_worker()
    until(lambda: records_of_key(settings)[-1].value == CODEC.encode(prompt_uploaded(version=1)))
    free = next(
        name
        for name in map("c{}".format, range(99))
        if partition_for(f"assignment:{name}".encode(), 4) != NUMBER
    )
    send(settings, prompt_uploaded(assignment_id=free))
    key = f"assignment:{free}".encode()
    until(lambda: key in newest_rows(settings, range(4), lambda _key: True).by_key)


@pytest.mark.parametrize("value", [None, b"junk"])
def test_a_deletion_is_appended_anew_too(
    settings: Settings, start_worker: StartWorker, value: bytes | None
) -> None:
    send(settings, prompt_uploaded(version=1), prompt_deleted(version=2))
    hide(settings, value)
    start_worker()
    until(lambda: records_of_key(settings)[-1].value == CODEC.encode(prompt_deleted(version=2)))
