"""Partitions are revoked in the middle of a wave: calls in flight are waited for, and their outcomes committed."""

import struct
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from processors.exactly_once.committer import Committer
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import GroupConsumer
from processors.judging.batch_consumer import consumed_batches
from processors.judging.calls import CallToSend, EndedCall
from processors.judging.cycle.calls_in_flight import CallsInFlight
from processors.judging.cycle.cycle import Cycle, CycleParts
from processors.judging.cycle.draft import JudgingRecords
from processors.judging.cycle.draft_commit import DraftCommit
from processors.judging.cycle.endpoint_slots import EndpointSlots
from processors.judging.cycle.fetched_batches import FetchedBatches
from processors.judging.cycle.run_steps import RunSteps
from processors.judging.judges.judge import Answered, CallId, JudgeRequest
from processors.judging.observer import NoJudgingObserver
from processors.judging.open_runs import OpenRuns
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.transactional_producer import TransactionalProducer
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.judging_events import CallAnswered
from tables.judging.next_step import Intend, Plan, next_step
from tables.judging.run import Run, fold
from tests.support.judging_in_memory import NOW_MS, intended, opened, planned, prompt_sha256
from tests.unit.judging.test_asking import PROMPT

SETTINGS = Settings()
TOPICS, CODEC = SETTINGS.topics, Codec()
BATCHES = TopicPartition(TOPICS.batches.name, 0)
AFTER_REBALANCE = b"CGMDv2:" + struct.pack("<i", 2) + b"g\0member\0\0"
ANSWER = Answered(
    winner="first",
    confidence=None,
    justification=None,
    model="sim-1",
    provider_request_id=None,
    usage=None,
    response=b"",
)


class Client:
    """The client of a member; a poll first serves the rebalance that the test has planned."""

    def __init__(self) -> None:
        self.revokes: list[Callable[[], None]] = []
        self.revoke: Callable[[], None]

    def subscribe(self, _: list[str], *, on_assign: Any, on_revoke: Any, **__: Any) -> None:
        self.revoke = lambda: on_revoke(self, [BATCHES])
        on_assign(self, [BATCHES])

    def poll(self, _wait_s: float) -> None:
        if self.revokes:
            self.revokes.pop()()

    def consume(self, _limit: int, _wait_s: float) -> list[Message]:
        return []

    def consumer_group_metadata(self) -> bytes:
        return AFTER_REBALANCE

    def committed(self, request: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(tp.topic, tp.partition, 7) for tp in request]

    def _do_nothing(self, *_: Any) -> None:
        pass

    incremental_assign = incremental_unassign = seek = pause = resume = _do_nothing


class CommittingProducer:
    """A transactional producer whose commits succeed."""

    def __init__(self) -> None:
        self._open: list[bytes] = []
        self.committed: list[bytes] = []
        self.group = b""

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, **options: Any) -> None:
        self._open.append(value)
        options["on_delivery"](None, Message(topic, partition, 100 + len(self._open), key, value))

    def poll(self, _timeout: float) -> int:
        return 0

    def send_offsets_to_transaction(self, _offsets: Any, group: bytes, _timeout: float) -> None:
        self.group = group

    def commit_transaction(self, _timeout: float) -> None:
        self.committed += self._open
        self._open = []

    def _do_nothing(self, *_: Any) -> None:
        pass

    init_transactions = begin_transaction = flush = _do_nothing


def asked() -> tuple[Run, CallId]:
    """A run whose first call was sent."""
    run = fold(None, opened(6))
    plan = next_step(run, NOW_MS, lambda _first, _second: None, 1)
    assert isinstance(plan, Plan)
    run = fold(run, planned(run, plan))
    intend = next_step(run, NOW_MS, lambda _first, _second: None, 1)
    assert isinstance(intend, Intend)
    (call,) = intend.calls
    return fold(run, intended(run, intend.calls)), CallId(run.opened.run_id, call.number, 1)


class Story:
    """A judge process with one call in flight."""

    def __init__(self) -> None:
        self.client, self.producer, self.epochs = Client(), CommittingProducer(), FetchEpoch()
        self.run, self.call = asked()
        alive, broker_clock, observer = {self.call}, BrokerClock(), NoJudgingObserver()
        self.runs = OpenRuns(
            CODEC, broker_clock, cast(Any, None), cast(Any, None), alive.__contains__
        )
        transactions = TransactionalProducer(lambda: cast(Producer, self.producer), timeout_s=10)
        committer = Committer(self.epochs, transactions)
        consumed = consumed_batches(SETTINGS, self.take_over, cast(Any, None), lambda _: [])
        self.consumer = GroupConsumer(
            consumed, cast(Consumer, self.client), self.epochs, committer.commit, limit=10
        )
        batches = FetchedBatches(CODEC, cast(Any, None), cast(Any, None), broker_clock)
        slots = EndpointSlots(8)
        parts = CycleParts(
            self.consumer,
            broker_clock,
            self.runs,
            batches,
            CallsInFlight(self.runs, slots, alive),
            RunSteps(self.runs, cast(Any, None), slots, (), broker_clock),
            DraftCommit(
                JudgingRecords(TOPICS, CODEC), self.epochs, committer, self.runs, batches, observer
            ),
        )
        self.cycle = Cycle(parts, runs_max=4, drain_s=0.2, observer=observer)
        self.consumer.before_revoke = self.cycle.drain
        self.consumer.join()

    def take_over(self, state: Positions, _batches: Positions) -> set[Partition]:
        self.runs.written([(Message(TOPICS.judging.name, 0, 3, b"k", b"v"), self.run)])
        return {*state}

    def revoke(self) -> None:
        """The call ends while its partition is revoked."""
        request = JudgeRequest(
            call=self.call, prompt=PROMPT, max_output_tokens=1, first_text="", second_text=""
        )
        to_send = CallToSend(request, prompt_sha256(self.call.number), self.epochs.number, NOW_MS)
        self.cycle.note_ended(EndedCall(to_send, ANSWER, 1, None))
        self.client.revoke()

    def answers(self) -> list[int]:
        """The numbers of the comparisons whose answers were committed."""
        events = map(CODEC.decode, self.producer.committed)
        return [event.number for event in events if isinstance(event, CallAnswered)]


@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_an_answer_that_comes_while_partitions_are_revoked_is_committed(cycles: int) -> None:
    """After one cycle, the epoch has begun, and no cycle knows of it yet: rebalances follow each other."""
    story = Story()
    for _ in range(cycles):
        story.cycle.run()
    story.client.revokes.append(story.revoke)
    story.cycle.run()
    assert story.answers() == [story.call.number]
    assert story.producer.group == AFTER_REBALANCE
