"""Bounded waits: for a condition, and for an answer of a broker."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from schemas.errors import Unreachable

T = TypeVar("T")
REQUEST_TIMEOUT_S = 10.0  # of one request to a broker
RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Clock:
    """A monotonic clock in seconds, and the sleep that belongs to it."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


SYSTEM_CLOCK = Clock()


class Repeats:
    """The log level of a wait or a retry: what a healthy system does up to `tolerated` times in a row is no warning."""

    def __init__(self, tolerated: int) -> None:
        self._tolerated = tolerated
        self._in_a_row = 0

    def next_level(self) -> int:
        """Count one more; its level."""
        self._in_a_row += 1
        return logging.INFO if self._in_a_row <= self._tolerated else logging.WARNING

    def end(self) -> None:
        """Note that it has succeeded."""
        self._in_a_row = 0


def wait_until(
    condition: Callable[[], T],
    *,
    seconds: float,
    what: str,
    every_s: float = 0.05,
    clock: Clock = SYSTEM_CLOCK,
) -> T:
    """The first true result of the condition. Raises Unreachable, naming `what`, when the time is up."""
    deadline = clock.monotonic() + seconds
    while not (result := condition()):
        if clock.monotonic() > deadline:
            raise Unreachable(f"waited {seconds:g} s for {what}")
        clock.sleep(every_s)
    return result


def result_of(future: "Future[T]") -> T:
    """The result of an admin request. Raises KafkaException if it was refused or was not answered in time."""
    try:
        return future.result(timeout=REQUEST_TIMEOUT_S + 5)
    except TimeoutError as fault:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from fault


def retry_while_unreachable(
    request: Callable[[], T],
    seconds: float = REQUEST_TIMEOUT_S,
    what: str = "a leader of every partition",
    may_wait: Callable[[], bool] = lambda: True,
) -> T:
    """The result of a request that is repeated while it raises Unreachable and may_wait allows it.

    Raises Unreachable, naming `what` when the time is up. A new or moved partition has no leader for a moment, and a
    group has no coordinator.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return request()
        except Unreachable as fault:
            if not may_wait():
                raise
            if time.monotonic() > deadline:
                raise Unreachable(f"waited {seconds:g} s for {what}") from fault
        time.sleep(RETRY_S)
