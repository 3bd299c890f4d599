"""The only sleep of the tests."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def until(condition: Callable[[], Answer], seconds: float = 30) -> Answer:
    """The first true answer of the condition; the test fails when the time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)
    return answer
