"""Partitions whose committed offset or state an open transaction hides: the others go on without them."""

import logging
import struct
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from processors.batch_prep.request_consumer import consumed_requests
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import RETRY_S, SETTLE_S, GroupConsumer
from processors.kafka.bounded_wait import Clock
from processors.settings import Settings
from schemas.coordinates import Partition, Positions

REQUESTS, PARKED = Settings().topics.requests.name, Settings().topics.parked.name
METADATA = b"CGMDv2:" + struct.pack("<i", 1) + b"group\0member\0\x01"
ONE, TWO = Partition(REQUESTS, 1), Partition(REQUESTS, 2)


class StubMember:
    """A member that owns two partitions; the committed offset of some is not stable."""

    def __init__(self) -> None:
        self.unstable: set[Partition] = set()
        self.paused: set[Partition] = set()
        self.sought: dict[Partition, int] = {}
        self._assigned: Callable[..., None]

    def subscribe(self, _topics: list[str], *, on_assign: Callable[..., None], **_: Any) -> None:
        self._assigned = on_assign

    def assign_both(self) -> None:
        self._assigned(self, [TopicPartition(*tp) for tp in (ONE, TWO)])

    def consumer_group_metadata(self) -> bytes:
        return METADATA

    def committed(self, request: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.unstable & {Partition(tp.topic, tp.partition) for tp in request}:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [TopicPartition(tp.topic, tp.partition, 7) for tp in request]

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        return 0, 10

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        pass

    def poll(self, _wait_s: float) -> None:
        return None

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused |= {Partition(tp.topic, tp.partition) for tp in partitions}

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused -= {Partition(tp.topic, tp.partition) for tp in partitions}

    def seek(self, tp: TopicPartition) -> None:
        self.sought[Partition(tp.topic, tp.partition)] = tp.offset


class Story:
    """A group consumer on a stub member, a clock that the test moves, and the state that it has taken over."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.member = StubMember()
        self.incomplete: set[Partition] = set()  # state that cannot be read to its end
        self.state: set[Partition] = set()
        consumed = consumed_requests(
            Settings(), self.take_over, cast(Any, None), lambda _: ["transactional id t1"]
        )
        self.consumer = GroupConsumer(
            consumed,
            cast(Consumer, self.member),
            FetchEpoch(),
            lambda _batch: None,
            limit=100,
            clock=Clock(lambda: self.now_s, lambda _: None),
        )
        self.consumer.join()

    def take_over(self, state: Positions, requests: Positions) -> set[Partition]:
        assert {tp.partition for tp in state} == {tp.partition for tp in requests}
        self.state = {*state}
        return {*state} - self.incomplete

    def fetches_from(self) -> set[Partition] | None:
        """The partitions that records are fetched from; None if none are fetched yet."""
        fetched = self.consumer.poll(0) or self.consumer.poll(0)
        return None if fetched is None else {*fetched.owned_positions}

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture(params=["offset", "offset of the state", "state"])
def story(request: pytest.FixtureRequest) -> Story:
    """A transaction hangs on something of partition 1."""
    story = Story()
    match request.param:
        case "offset":
            story.member.unstable = {ONE}
        case "offset of the state":
            story.member.unstable = {Partition(PARKED, 1)}
        case "state":
            story.incomplete = {Partition(PARKED, 1)}
    story.member.assign_both()
    return story


def test_all_partitions_wait_at_first_and_then_the_others_go_on(story: Story) -> None:
    assert story.fetches_from() is None
    story.wait(SETTLE_S)
    assert story.fetches_from() is None
    story.wait(1)
    assert story.fetches_from() == {TWO}
    assert (story.consumer.unsettled, story.member.paused) == (frozenset({ONE}), {ONE})
    assert story.state == {Partition(PARKED, 2)}
    assert story.member.sought == {TWO: 7}


def test_a_partition_is_fetched_from_again_once_its_transaction_has_ended(story: Story) -> None:
    story.fetches_from()
    story.wait(SETTLE_S + 1)
    assert story.fetches_from() == {TWO}
    story.wait(RETRY_S + 1)
    assert story.fetches_from() in ({TWO}, None)  # it is tried again, but still hangs
    assert story.fetches_from() == {TWO}
    story.member.unstable, story.incomplete = set(), set()
    story.wait(2 * RETRY_S + 1)
    story.fetches_from()
    assert story.fetches_from() == {ONE, TWO}
    assert (story.consumer.unsettled, story.member.paused) == (frozenset(), set())
    assert story.member.sought == {ONE: 7, TWO: 7}


def test_what_hangs_is_named_once_a_minute(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "cjstream.fetch")
    story.fetches_from()
    story.wait(SETTLE_S + 1)
    for _ in range(55):
        story.fetches_from()
        story.wait(1)
    assert caplog.messages == ["partitions wait for an open transaction"]
    assert vars(caplog.records[0])["partitions"] == [1]
    assert vars(caplog.records[0])["transactions"] == ["transactional id t1"]
    for _ in range(60):
        story.fetches_from()
        story.wait(1)
    assert len(caplog.messages) == 2


def test_a_worker_that_cannot_settle_any_partition_keeps_trying(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "cjstream.fetch")
    story = Story()
    story.member.unstable = {ONE, TWO}
    story.member.assign_both()
    for _ in range(30):
        assert story.fetches_from() is None
        story.wait(1)
    assert caplog.messages == ["partitions wait for an open transaction"]
    story.member.unstable = set()
    assert story.fetches_from() == {ONE, TWO}
