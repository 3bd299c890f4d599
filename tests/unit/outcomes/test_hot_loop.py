"""How many bytecode instructions a request takes in the hot loop: unlike a time, the same on every machine.

Versions of Python differ a little, hence the tolerance. Who makes the loop dearer on purpose changes the figure.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
from confluent_kafka import Producer

from processors.kafka.records import RecordColumns
from processors.kafka.transactional_producer import TransactionalProducer
from processors.outcomes.batch_splicer import BatchSplicer, OutcomeParts
from processors.outcomes.compiled_splicer import CHUNK, CompiledSplicer
from processors.outcomes.plain_splicer import PlainSplicer
from processors.policy import Policy
from schemas.codec import Codec
from schemas.topics import Topics
from tests.support.builders import READY, context_after, essays, requested

ROOT = Path(__file__).parents[3]
PRODUCT = tuple(str(ROOT / name) for name in ("schemas", "tables", "processors"))
GENERATED = "<scan>"
ESSAYS = tuple(replace(one, text_storage_id=64 * "0") for one in essays(10))  # as a SHA-256
REQUEST = Codec().encode(requested(essays=ESSAYS))
TABLE = {"assignment:a1": context_after(*READY)}
TOLERANCE = 1.2


def instructions_in(call: Callable[[], object]) -> int:
    """The bytecode instructions of the product that a call executes."""
    count = 0

    def in_frame(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        return in_frame

    def at_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith((*PRODUCT, GENERATED)):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return in_frame

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def instructions_per_request(splicer: BatchSplicer) -> float:
    """What one more request takes: the difference between two batches of several chunks."""

    def splice(count: int) -> int:
        numbers = list(range(count))
        return instructions_in(lambda: splicer.splice([REQUEST] * count, [0] * count, numbers))

    splice(1)  # prepares the context
    small, large = 2 * CHUNK, 4 * CHUNK
    return (splice(large) - splice(small)) / (large - small)


def parts() -> OutcomeParts:
    return OutcomeParts(Codec(), Policy(), TABLE.get, lambda keys: [b""] * 3, Topics())


@pytest.mark.parametrize(
    ("splicer", "figure"),
    [(CompiledSplicer(parts(), 1 << 20), 15), (PlainSplicer(parts(), 1 << 20), 1200)],
    ids=["numba", "plain"],
)
def test_a_request_is_spliced_in_so_many_instructions(splicer: BatchSplicer, figure: float) -> None:
    assert instructions_per_request(splicer) <= figure * TOLERANCE


class Counted:
    """A producer that counts records."""

    def __init__(self) -> None:
        self.records = 0

    def init_transactions(self, _timeout: float) -> None:
        pass

    def produce(self, *_: Any, **__: Any) -> None:
        self.records += 1


def test_a_record_is_produced_without_an_instruction() -> None:
    counted = Counted()
    producer = TransactionalProducer(lambda: cast(Producer, counted), 10)
    producer.take_over()

    def produce(count: int) -> int:
        columns = RecordColumns(["t"] * count, [b"v"] * count, [b"k"] * count, [0] * count)
        return instructions_in(lambda: producer.produce_columns(columns))

    assert produce(1000) == produce(10)
    assert counted.records == 1010
