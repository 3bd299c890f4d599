"""Group metadata is read before what it must protect, never afterwards."""

import struct
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, TopicPartition

from processors.batch_prep.request_consumer import consumed_requests
from processors.exactly_once.batch import Batch
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import GroupConsumer, is_member
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy


def metadata(generation: int) -> bytes:
    return b"CGMDv2:" + struct.pack("<i", generation) + b"group\0member\0\x01"


class FetchedMessage:
    """A fetched record with the methods that the consumer calls."""

    fetched_offset = 7

    def error(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.fetched_offset

    def timestamp(self) -> tuple[int, int]:
        return 2, 1_000


class ScriptedConsumer:
    """A consumer whose generation may change during a call, as that of a thawed member does."""

    def __init__(self, committed: int = 7) -> None:
        self.generation = 1
        self._offset = committed
        self.generation_changes_in: str | None = None
        self.has_left = False  # its group
        self._assigned: Callable[..., None]
        self._revoked: Callable[..., None]

    def subscribe(self, _: list[str], *, on_assign: Any, on_revoke: Any, **__: Any) -> None:
        self._assigned, self._revoked = on_assign, on_revoke

    def assign(self) -> None:
        self._assigned(self, [TopicPartition("cj.requests.v1", 0)])

    def close(self) -> None:
        self.has_left = True
        self._revoked(self, [TopicPartition("cj.requests.v1", 0)])

    def consumer_group_metadata(self) -> bytes:
        if self.has_left:
            raise RuntimeError("Consumer group metadata not available")
        return metadata(self.generation)

    def committed(self, request: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(tp.topic, tp.partition, self._offset) for tp in request]

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        return 0, 0

    def poll(self, _wait_s: float) -> Any:
        self._change_generation("poll")
        return FetchedMessage()

    def consume(self, _limit: int, _wait_s: float) -> list[Any]:
        return []

    def _change_generation(self, step: str) -> None:
        if step == self.generation_changes_in:
            self.generation += 1

    def _do_nothing(self, *_: Any) -> None:
        pass

    incremental_assign = incremental_unassign = seek = _do_nothing


def taken_over(state: Positions, _requests: Positions) -> set[Partition]:
    return {*state}


def no_reader() -> Consumer:
    raise AssertionError("the log is read although no record can have been skipped")


def consumer_of(client: ScriptedConsumer) -> GroupConsumer:
    return joined_consumer(client, lambda _batch: None)


def joined_consumer(client: ScriptedConsumer, commit: Callable[[Batch], None]) -> GroupConsumer:
    consumed = consumed_requests(Settings(), taken_over, no_reader, lambda _: [])
    consumer = GroupConsumer(consumed, cast(Consumer, client), FetchEpoch(), commit, limit=5000)
    consumer.join()
    client.assign()
    return consumer


def test_a_batch_carries_the_metadata_from_before_its_records_were_polled() -> None:
    client = ScriptedConsumer()
    consumer = consumer_of(client)
    assert consumer.poll(0) is None  # it seeks to the committed offsets first
    client.generation_changes_in = "poll"
    fetched = consumer.poll(0)
    assert fetched is not None
    assert (fetched.group, client.generation) == (metadata(1), 2)


def test_records_fetched_by_a_non_member_are_fetched_again() -> None:
    client = ScriptedConsumer()
    consumer = consumer_of(client)
    consumer.poll(0)
    client.generation = -1
    assert consumer.poll(0) is None
    client.generation = 2
    assert consumer.poll(0) is None  # it seeks to the committed offsets again
    fetched = consumer.poll(0)
    assert fetched is not None
    assert [*fetched.start.values()] == [7]


def test_a_client_that_does_not_continue_at_the_committed_offset_is_a_discrepancy() -> None:
    consumer = consumer_of(ScriptedConsumer(committed=8))
    consumer.poll(0)
    with pytest.raises(Discrepancy, match="must continue at 8, but the client continued at 7"):
        consumer.poll(0)


def test_metadata_of_a_member_is_recognized() -> None:
    assert is_member(metadata(0))
    assert not is_member(metadata(-1))
    assert not is_member(b"something else")


def test_nothing_is_committed_if_the_group_has_committed_offsets() -> None:
    committed = list[Batch]()
    client = ScriptedConsumer()
    joined_consumer(client, committed.append).poll(0)
    assert committed == []


def test_a_client_that_has_left_its_group_while_it_closes_gives_its_partitions_up() -> None:
    client = ScriptedConsumer()
    consumer = consumer_of(client)
    owned = list[set[Partition]]()
    revoked = list[set[Partition]]()
    consumer.on_rebalance = lambda now: owned.append({*now})
    consumer.before_revoke = lambda partitions, _group: revoked.append(partitions)
    consumer.close()
    assert owned == [set()]
    assert not revoked, "there is no group metadata that a commit could use"
