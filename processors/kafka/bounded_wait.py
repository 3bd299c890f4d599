"""Waiting, with a bound: for a condition, and for a broker to answer."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from schemas.errors import Unreachable

T = TypeVar("T")
ANSWER_S = 10.0  # of one request to a broker


@dataclass(frozen=True, slots=True)
class Clock:
    """This machine's time, in seconds since whenever: how late it is, and how to let it pass."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


SYSTEM_CLOCK = Clock()


def wait_until(
    condition: Callable[[], T],
    *,
    seconds: float,
    what: str,
    every_s: float = 0.05,
    clock: Clock = SYSTEM_CLOCK,
) -> T:
    """The first true answer of the condition; Unreachable, naming what, when the time is up."""
    deadline = clock.monotonic() + seconds
    while not (answer := condition()):
        if clock.monotonic() > deadline:
            raise Unreachable(f"waited {seconds:g} s for {what}")
        clock.sleep(every_s)
    return answer


def result_of(future: "Future[T]") -> T:
    """What an admin request came to; KafkaException where it was refused or got no answer."""
    try:
        return future.result(timeout=ANSWER_S + 5)
    except TimeoutError as fault:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from fault


def retry_while_unreachable(
    asked: Callable[[], T], seconds: float = ANSWER_S, what: str = "a leader of every partition"
) -> T:
    """Ask again for a while: a partition just made or moved has no leader for a moment, a group no coordinator."""

    answers = list[T]()

    def tried() -> bool:
        with suppress(Unreachable):
            answers.append(asked())
        return bool(answers)

    wait_until(tried, seconds=seconds, what=what, every_s=0.1)
    return answers[0]
