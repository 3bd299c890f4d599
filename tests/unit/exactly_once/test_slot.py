"""A client says that its slot is taken: the process ends only if another one really has it."""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from processors.batch_prep.request_consumer import consumed_requests
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import GroupConsumer, member_id_of
from processors.exactly_once.slot import Slot, slot_of
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import SlotTaken, Unreachable

FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()


class Client:
    """A client of a member with a slot; its library may forget the member id, and then fail."""

    def __init__(self, member_id: str) -> None:
        self.member_id = member_id
        self.is_fenced = self.is_joined = self.is_closed = False
        self._lost: Callable[..., None]

    def subscribe(self, _: list[str], *, on_assign: Any, on_lost: Any, **__: Any) -> None:
        self.is_joined, self._lost = True, on_lost
        on_assign(self, [TopicPartition("cj.requests.v1", 0)])

    def consumer_group_metadata(self) -> bytes:
        return b"CGMDv2:" + struct.pack("<i", 1) + f"g\0{self.member_id}\0g-one\0".encode()

    def committed(self, request: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(tp.topic, tp.partition, 7) for tp in request]

    def poll(self, _wait_s: float) -> Message | None:
        if not self.is_fenced:
            return None
        return Message(error=KafkaError(KafkaError._FATAL, f"Fatal error: {FENCED}"))

    def consume(self, _limit: int, _wait_s: float) -> list[Any]:
        return []

    def close(self) -> None:
        self._lost(self, [TopicPartition("cj.requests.v1", 0)])
        self.is_closed = True

    def _do_nothing(self, *_: Any) -> None:
        pass

    incremental_assign = incremental_unassign = seek = _do_nothing


class Story:
    """A group consumer with a slot, and what the coordinator says of the slot."""

    def __init__(self) -> None:
        self.holders: list[str | Unreachable | None] = []  # the last one is repeated
        self.clients = [Client("first")]
        consumed = consumed_requests(
            Settings(), lambda state, _: {*state}, cast(Any, None), lambda _: []
        )
        consumed = replace(consumed, slot=Slot(self.holder, self.new_client))
        first = cast(Consumer, self.clients[0])
        self.consumer = GroupConsumer(consumed, first, FetchEpoch(), lambda _: None, limit=10)
        self.consumer.join()
        self.consumer.poll(0)

    def holder(self) -> str | None:
        holder = self.holders.pop(0) if len(self.holders) > 1 else self.holders[0]
        if isinstance(holder, Unreachable):
            raise holder
        return holder

    def new_client(self) -> Consumer:
        self.clients.append(Client("second"))
        return cast(Consumer, self.clients[-1])

    def fail(self) -> None:
        """The library forgets its member id, and later says that the slot is taken."""
        self.clients[-1].member_id = ""
        self.consumer.poll(0)
        self.clients[-1].is_fenced = True
        assert self.consumer.poll(0) is None


def test_a_member_whose_old_session_ends_joins_again_with_a_new_client() -> None:
    story = Story()
    story.fail()
    assert story.clients[0].is_closed
    assert not story.consumer.is_member
    story.holders = [Unreachable("no coordinator"), "first", "first", None]
    assert story.consumer.poll(0) is None  # no answer
    assert not story.clients[1].is_joined
    assert story.consumer.poll(0) is None
    assert story.clients[1].is_joined
    assert story.consumer.poll(0) is None  # it seeks to the committed offsets
    fetched = story.consumer.poll(0)
    assert fetched is not None
    assert member_id_of(fetched.group) == "second"
    assert fetched.owned_positions == {Partition("cj.requests.v1", 0): 7}


def test_a_member_waits_while_its_old_session_lasts() -> None:
    story = Story()
    story.fail()
    story.holders = ["first"]
    assert story.consumer.poll(0) is None
    assert not story.clients[1].is_joined


def test_a_member_whose_slot_another_process_has_ends() -> None:
    story = Story()
    story.fail()
    story.holders = ["another"]
    with pytest.raises(SlotTaken, match=r"^another process uses slot"):
        story.consumer.poll(0)
    assert not story.clients[1].is_joined


def test_a_process_without_a_slot_has_none_to_lose() -> None:
    assert slot_of(Settings(), "g") is None
