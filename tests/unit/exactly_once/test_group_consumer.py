"""When group metadata is taken: before what it is to protect, never after."""

import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, TopicPartition

from processors.batch_prep.request_consumer import consumed_requests
from processors.exactly_once.assignment_epoch import AssignmentEpoch
from processors.exactly_once.batch import Batch
from processors.exactly_once.group_consumer import GroupConsumer, is_member
from processors.settings import Settings
from schemas.errors import Discrepancy


def metadata(generation: int) -> bytes:
    return b"CGMDv2:" + struct.pack("<i", generation) + b"group\0member\0\x01"


class Request:
    """One fetched request, as far as fetching looks."""

    at = 7

    def error(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 2, 1_000


class Group:
    """A consumer whose generation moves on in the middle of a call, as a thawed member's may."""

    def __init__(self, committed: int = 7) -> None:
        self.generation = 1
        self._offset = committed
        self.moves_in: str | None = None
        self._assigned: Callable[..., None]

    def subscribe(self, _topics: list[str], *, on_assign: Callable[..., None], **_: Any) -> None:
        self._assigned = on_assign

    def assign(self) -> None:
        self._assigned(self, [TopicPartition("cj.requests.v1", 0)])

    def consumer_group_metadata(self) -> bytes:
        return metadata(self.generation)

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(at.topic, at.partition, self._offset) for at in asked]

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        return 0, 0

    def poll(self, _wait_s: float) -> Any:
        self._move("poll")
        return Request()

    def consume(self, _most: int, _wait_s: float) -> list[Any]:
        return []

    def _move(self, step: str) -> None:
        if step == self.moves_in:
            self.generation += 1

    def _nothing(self, *_: Any) -> None:
        pass

    incremental_assign = seek = _nothing


def taken_over(_committed: Mapping[int, int]) -> bool:
    return True


def no_reader() -> Consumer:
    raise AssertionError("the log is read, though no record may have been skipped")


def fetching(group: Group) -> GroupConsumer:
    return joined(group, lambda _batch: None)


def joined(group: Group, commit: Callable[[Batch], None]) -> GroupConsumer:
    consumed = consumed_requests(Settings(), taken_over, no_reader)
    fetcher = GroupConsumer(consumed, cast(Consumer, group), AssignmentEpoch(), commit, limit=5000)
    fetcher.join()
    group.assign()
    return fetcher


def test_a_batch_carries_the_metadata_from_before_its_records_were_polled() -> None:
    group = Group()
    fetcher = fetching(group)
    assert fetcher.poll(0) is None  # it settles its positions first
    group.moves_in = "poll"
    fetched = fetcher.poll(0)
    assert fetched is not None
    assert (fetched.group, group.generation) == (metadata(1), 2)


def test_records_fetched_while_no_member_are_fetched_again() -> None:
    group = Group()
    fetcher = fetching(group)
    fetcher.poll(0)
    group.generation = -1
    assert fetcher.poll(0) is None
    group.generation = 2
    assert fetcher.poll(0) is None  # it goes back to the committed positions
    fetched = fetcher.poll(0)
    assert fetched is not None
    assert [*fetched.start.values()] == [7]


def test_a_client_that_does_not_go_on_at_the_committed_position_is_stopped() -> None:
    fetcher = fetching(Group(committed=8))
    fetcher.poll(0)
    with pytest.raises(Discrepancy, match="is to go on at 8, the client went to 7"):
        fetcher.poll(0)


def test_metadata_of_no_member_is_told_from_a_members() -> None:
    assert is_member(metadata(0))
    assert not is_member(metadata(-1))
    assert not is_member(b"something else")


def test_nothing_is_committed_where_offsets_are_there() -> None:
    committed = list[Batch]()
    group = Group()
    joined(group, committed.append).poll(0)
    assert committed == []
