"""Every kind of message that a poll may return."""

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, Message

from processors.kafka.poll import poll_records
from schemas.errors import Discrepancy, Fenced
from tests.support.librdkafka import fail_fatally
from tests.support.until import until


class FetchedConsumer:
    """A consumer that has fetched these messages."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)

    def poll(self, _wait_s: float) -> Message | None:
        return self._messages.pop(0) if self._messages else None

    def consume(self, limit: int, _wait_s: float) -> list[Message]:
        taken, self._messages = self._messages[:limit], self._messages[limit:]
        return taken


def record(offset: int) -> Message:
    return Message("t", 0, offset, b"k", b"v")


def failed(code: int) -> Message:
    return Message("t", 0, error=KafkaError(code, "scripted"))


def offsets(consumer: FetchedConsumer, limit: int = 10) -> list[int | None]:
    polled = poll_records(cast(Consumer, consumer), limit, 0, if_lost="gone")
    return [message.offset() for message in polled]


def test_a_poll_returns_what_is_fetched_up_to_the_limit() -> None:
    consumer = FetchedConsumer(*map(record, range(4)))
    assert offsets(consumer, 3) == [0, 1, 2]
    assert offsets(consumer, 1) == [3]
    assert offsets(consumer) == []


@pytest.mark.parametrize(
    "code", [KafkaError._PARTITION_EOF, KafkaError._TRANSPORT, KafkaError._MAX_POLL_EXCEEDED]
)
def test_a_temporary_error_is_left_out(code: int) -> None:
    assert offsets(FetchedConsumer(failed(code), record(7))) == [7]


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE])
def test_a_position_that_is_not_in_the_log_is_a_discrepancy(code: int) -> None:
    with pytest.raises(Discrepancy, match="t/0: gone"):
        offsets(FetchedConsumer(record(7), failed(code)))


@pytest.fixture
def failing() -> Consumer:
    """A consumer that can be made to fail; it is not closed, which would wait for a broker."""
    consumer = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0})
    consumer.assign([])
    return consumer


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError.FENCED_INSTANCE_ID, "^slot one is taken$"),
        (KafkaError.UNRELEASED_INSTANCE_ID, r"^slot one is taken\. If it was killed, start again"),
        (KafkaError.UNSUPPORTED_VERSION, "^a consumer has a fatal error: .*not supported"),
    ],
)
def test_a_fatal_error_ends_the_consumer_and_says_why(
    failing: Consumer, code: int, expected: str
) -> None:
    fail_fatally(failing, code)
    with pytest.raises(Fenced, match=expected):
        until(lambda: poll_records(failing, 10, 0.1, if_fenced="slot one is taken"), 5)


def test_the_library_does_not_mark_a_fatal_error_of_a_message(failing: Consumer) -> None:
    fail_fatally(failing, KafkaError.FENCED_INSTANCE_ID)
    message = until(lambda: failing.poll(0.1), 5)
    assert message is not None
    error = message.error()
    assert error is not None
    assert (error.code(), error.fatal()) == (KafkaError._FATAL, False)
