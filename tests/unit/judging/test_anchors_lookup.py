"""The judge finds the anchors that were acknowledged before it looked, and says up to where it looked."""

import threading
from collections.abc import Iterable

import pytest

from processors.judging.anchors_lookup import AnchorsLookup
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import ReplicaBehind, Unreachable
from schemas.events import UploadEvent, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.anchors import AnchorsFound
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import UploadRecord, UploadTopics
from tests.support.builders import OF_LATER_RELEASE, anchor, anchors_deleted, anchors_uploaded

ANCHORS = Topics().anchors
NUMBER = partition_for(b"assignment:a1", 4)
PARTITION = Partition(ANCHORS.name, NUMBER)


class Log:
    """A replica of the anchors topic, and the end of the log, which may be ahead of it."""

    def __init__(self) -> None:
        topics = UploadTopics({ANCHORS.name: ANCHORS}, partitions=4)
        self.replica = ContextReplica(MemoryStore(), Codec(), topics)
        self.replica.open({ANCHORS.name: "id"})
        self.end = 0

    def lookup(self, fold_timeout_s: float = 5.0) -> AnchorsLookup:
        return AnchorsLookup(self.replica, self._ends, fold_timeout_s)

    def _ends(self, partitions: Iterable[Partition]) -> Positions:
        assert list(partitions) == [PARTITION]
        return {PARTITION: self.end}

    def fold(self, event: UploadEvent | bytes, offset: int) -> None:
        value = event if isinstance(event, bytes) else Codec().encode(event)
        key = b"assignment:a1" if isinstance(event, bytes) else scope_key_of(event).encode()
        record = UploadRecord(Coordinates(ANCHORS.name, NUMBER, offset), key, value, 1)
        self.replica.fold([record], {PARTITION: offset + 1})


def test_without_anchors_nothing_is_found_at_the_position_that_was_read() -> None:
    log = Log()
    assert log.lookup().find("a1") == AnchorsFound((), None, 0)
    log.replica.advance({PARTITION: 7})
    log.end = 7
    assert log.lookup().find("a1") == AnchorsFound((), None, 7)


def test_live_anchors_are_found_with_their_source_until_they_are_deleted() -> None:
    log = Log()
    log.fold(anchors_uploaded(version=1), 3)
    log.fold(newer := anchors_uploaded(anchor("z", "B"), version=2), 5)
    log.end = 6
    assert log.lookup().find("a1") == AnchorsFound(
        newer.anchors, Coordinates(ANCHORS.name, NUMBER, 5), 6
    )
    log.fold(anchors_deleted(version=3), 6)
    assert log.lookup().find("a1") == AnchorsFound((), None, 7)


def test_it_waits_for_the_end_of_the_log_before_it_answers() -> None:
    log = Log()
    log.end = 1
    found: list[AnchorsFound] = []
    thread = threading.Thread(target=lambda: found.append(log.lookup().find("a1")))
    thread.start()
    log.fold(uploaded := anchors_uploaded(), 0)
    thread.join(10)
    assert [one.anchors for one in found] == [uploaded.anchors]


def test_it_does_not_answer_from_a_replica_that_is_behind() -> None:
    log = Log()
    log.fold(anchors_uploaded(), 0)
    log.end = 2
    with pytest.raises(ReplicaBehind):
        log.lookup(0.01).find("a1")


def test_it_does_not_answer_behind_an_upload_of_a_later_release() -> None:
    log = Log()
    log.fold(anchors_uploaded(), 0)
    log.fold(OF_LATER_RELEASE, 1)
    log.end = 2
    with pytest.raises(ReplicaBehind, match="deploy a release"):
        log.lookup(0.01).find("a1")


def test_a_log_whose_end_is_not_known_is_unreachable() -> None:
    def ends(partitions: Iterable[Partition]) -> Positions:
        raise Unreachable("no leader")

    with pytest.raises(Unreachable):
        AnchorsLookup(Log().replica, ends).find("a1")
