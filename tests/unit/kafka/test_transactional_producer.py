"""Takeovers, and records that are waited for; tests of the committer hold the rest of a transaction."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.kafka.bounded_wait import Clock
from processors.kafka.records import Record
from processors.kafka.transactional_producer import (
    TooLargeError,
    TransactionalProducer,
    kafka_error_of,
)
from schemas.errors import Aborted, Fenced, Unreachable
from tests.support.librdkafka import (
    PRODUCE,
    fenced_error,
    mock_producer,
    refuse_next,
    retriable_error,
)

RECORDS = [Record("t", 0, b"k", value) for value in (b"1", b"2", b"3")]
Report = Callable[[KafkaError | None, Message], None]


class ReportingProducer:
    """A producer whose polls bring one delivery report each, the last record's first."""

    def __init__(self, error: KafkaError | None = None, raised: KafkaError | None = None) -> None:
        self.begun = 0
        self._error = error  # of the last record
        self._raised = raised  # by the first poll
        self._reports: list[tuple[Report, bytes]] = []

    def init_transactions(self, _timeout_s: float) -> None:
        pass

    def begin_transaction(self) -> None:
        self.begun += 1

    def produce(self, *record: Any, on_delivery: Report, headers: object) -> None:
        self._reports.append((on_delivery, record[1]))

    def poll(self, _timeout_s: float) -> None:
        if self._raised is not None:
            raise KafkaException(self._raised)
        if self._reports:
            report, value = self._reports.pop()
            report(self._error, Message("t", 0, int(value), value=value))
            self._error = None


class UnansweredProducer(ReportingProducer):
    """A producer whose coordinator does not answer."""

    def init_transactions(self, _timeout_s: float) -> None:
        raise KafkaException(retriable_error())


def transactions_of(producer: ReportingProducer) -> TransactionalProducer:
    """The producer in virtual time: each look at the clock takes a second."""
    seconds = iter(range(1000))
    clock = Clock(lambda: float(next(seconds)))
    return TransactionalProducer(lambda: cast(Producer, producer), 20, clock)


def begun(producer: ReportingProducer) -> TransactionalProducer:
    transactions = transactions_of(producer)
    transactions.take_over(5)
    transactions.begin()
    assert producer.begun == 1
    return transactions


def test_messages_are_returned_in_the_order_of_their_records() -> None:
    messages = begun(ReportingProducer()).produce_and_wait(RECORDS)
    assert [message.value() for message in messages] == [b"1", b"2", b"3"]


def test_no_records_are_not_waited_for() -> None:
    assert begun(ReportingProducer()).produce_and_wait([]) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Aborted),
        (KafkaError.MSG_SIZE_TOO_LARGE, TooLargeError),
        (KafkaError.INVALID_PRODUCER_EPOCH, Fenced),
    ],
)
def test_a_record_that_is_refused_fails_the_transaction(
    code: int, expected: type[Exception]
) -> None:
    producer = mock_producer()
    transactions = TransactionalProducer(lambda: producer, 20)
    transactions.take_over(10)
    transactions.begin()
    refuse_next(producer, PRODUCE, code)
    with pytest.raises(expected) as raised:
        transactions.produce_and_wait(RECORDS)
    assert kafka_error_of(raised.value) is not None
    assert transactions.is_open == (expected is not Fenced)


def test_records_that_are_not_acknowledged_in_time_abort() -> None:
    class Silent(ReportingProducer):
        def poll(self, _timeout_s: float) -> None:
            pass

    transactions = begun(Silent())
    with pytest.raises(Aborted, match="in time"):
        transactions.produce_and_wait(RECORDS)
    assert transactions.is_open


def test_a_fenced_producer_is_dropped() -> None:
    transactions = begun(ReportingProducer(raised=fenced_error()))
    with pytest.raises(Fenced):
        transactions.produce_and_wait(RECORDS)
    assert (transactions.is_open, transactions.opened_at) == (False, None)


def test_a_takeover_with_a_time_limit_ends_without_an_answer() -> None:
    transactions = transactions_of(UnansweredProducer())
    with pytest.raises(Unreachable, match="init_transactions"):
        transactions.take_over(5)
    assert not transactions.is_open
