"""Every kind of message that a poll may return."""

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, Message

from processors.kafka.poll import poll_records
from schemas.errors import Discrepancy, Fenced


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


def failed(code: int, *, fatal: bool = False) -> Message:
    return Message("t", 0, error=KafkaError(code, "scripted", fatal))


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


@pytest.mark.parametrize(
    "message",
    [failed(KafkaError._FATAL), failed(KafkaError.FENCED_INSTANCE_ID, fatal=True)],
    ids=["by its code", "by its mark"],
)
def test_a_fatal_error_is_not_left_out(message: Message) -> None:
    with pytest.raises(Fenced, match="fatal"):
        offsets(FetchedConsumer(record(7), message))
