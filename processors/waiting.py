"""Waiting, with a bound: for a condition, and for a broker to answer."""

import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import Unreachable

Answer = TypeVar("Answer")


def wait_until(
    condition: Callable[[], Answer], *, seconds: float, what: str, every_s: float = 0.05
) -> Answer:
    """The first true answer of the condition; Unreachable, naming what, when the time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise Unreachable(f"waited {seconds:g} s for {what}")
        time.sleep(every_s)
    return answer


def metadata_answers(bootstrap_servers: str, *, timeout_s: float = 1.0) -> bool:
    """Whether a broker there answers a metadata request; an open port alone is not ready."""
    client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False
