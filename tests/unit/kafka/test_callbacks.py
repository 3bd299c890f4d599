"""What a callback of the client raises reaches the caller of the client."""

import pytest
from confluent_kafka import Consumer

from processors.kafka.callbacks import raises_instances
from tests.support.librdkafka import CALL_S, SILENT


def note(_error: object) -> None:
    int("no number")  # raised by C code, with a plain string


def test_an_exception_of_c_code_reaches_the_caller_as_it_is() -> None:
    nowhere = {"bootstrap.servers": "127.0.0.1:1", "group.id": "tests", "logger": SILENT}
    consumer = Consumer(nowhere | {"error_cb": raises_instances(note)})
    with pytest.raises(ValueError, match="no number"):
        consumer.poll(CALL_S)
    consumer.close()
