"""Waiting, with a bound: for a condition, and for a broker to answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import Unreachable

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Clock:
    """This machine's time, in seconds since whenever: how late it is, and how to let it pass."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


MACHINE = Clock()


def wait_until(
    condition: Callable[[], Answer],
    *,
    seconds: float,
    what: str,
    every_s: float = 0.05,
    clock: Clock = MACHINE,
) -> Answer:
    """The first true answer of the condition; Unreachable, naming what, when the time is up."""
    deadline = clock.monotonic() + seconds
    while not (answer := condition()):
        if clock.monotonic() > deadline:
            raise Unreachable(f"waited {seconds:g} s for {what}")
        clock.sleep(every_s)
    return answer


def metadata_answers(bootstrap_servers: str, *, timeout_s: float = 1.0) -> bool:
    """Whether a broker there answers a metadata request; an open port alone is not ready."""
    client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False
