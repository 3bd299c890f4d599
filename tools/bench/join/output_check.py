"""Checks that a system's output is right: every request has exactly one outcome, in order, with the right context."""

from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from processors.kafka.records import append_time_of
from processors.log.reader import LogReader
from processors.outcomes.encoding import encode_head
from processors.outcomes.recipes import RECIPE
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Discrepancy
from tools.bench.join.input_log import InputLog, digest_of
from tools.bench.join.shape import Shape
from tools.progress import counted

Prefix = Callable[[Coordinates, int], bytes]


@dataclass(frozen=True, slots=True)
class Span:
    """The measured part of a run, by the append times of committed outputs."""

    outputs: int
    start_ms: int
    end_ms: int

    @property
    def per_second(self) -> float:
        """Outputs per second."""
        return self.outputs / max(1, self.end_ms - self.start_ms) * 1000


def measured_span(appended_ms: "array[int]", shape: Shape) -> Span:
    """From the append of the warm-up's last output to that of the last measured one.

    All records of a record batch have the same append time, so a few more or less than `shape.requests` lie between.
    """
    ordered = sorted(appended_ms)
    start_ms = ordered[shape.warm_up - 1]
    end_ms = ordered[shape.warm_up + shape.requests - 1]
    return Span(bisect_right(ordered, end_ms) - bisect_right(ordered, start_ms), start_ms, end_ms)


def copy_prefix(log: InputLog) -> Prefix:
    """What a copied request begins with: its own frame."""
    frame = log.request_frame
    return lambda _at, _number: frame


def outcome_prefix(log: InputLog) -> Prefix:
    """What the outcome of a request begins with: frame, head and context part."""
    frame = log.outcome_frame
    return lambda at, number: b"".join((frame, encode_head(at, RECIPE), log.context_part(number)))


class OutputCheck:
    """Compares the n-th committed output of each partition with what belongs to its n-th request after the starts."""

    def __init__(self, log: InputLog, prefix_of: Prefix, starts: Positions) -> None:
        self.appended_ms = array("q")
        self._log = log
        self._prefix_of = prefix_of
        self._next = {tp.partition: start for tp, start in starts.items()}
        (self._topic,) = {tp.topic for tp in starts}

    def add(self, partition: int, key: bytes | None, value: bytes | None, appended_ms: int) -> None:
        """Check the next output of a partition. Raises Discrepancy, which names its request."""
        offset = self._next[partition]
        self._next[partition] += 1
        written = self._log.requests[partition]
        at = Coordinates(self._topic, partition, offset)
        if offset >= len(written):
            raise Discrepancy(f"partition {partition} has more outputs than requests")
        prefix, value = self._prefix_of(at, written.assignments[offset]), value or b""
        if not value.startswith(prefix):
            raise Discrepancy(f"{at}: the next output is of another request or context")
        if digest_of(key, value[len(prefix) :]) != written.digests[offset]:
            raise Discrepancy(f"{at}: its output has another key or request")
        self.appended_ms.append(appended_ms)

    def end(self) -> None:
        """Raises Discrepancy if a request has no output."""
        for number, count in self._next.items():
            if count < len(self._log.requests[number]):
                at = Coordinates(self._topic, number, count)
                raise Discrepancy(f"{at} has no output, nor has any request after it")


def checked_append_times(
    settings: Settings, log: InputLog, output_topic: str, prefix_of: Prefix, starts: Positions
) -> "array[int]":
    """The append time in ms of each committed output. Raises Discrepancy at the first one that is not right."""
    check = OutputCheck(log, prefix_of, starts)
    partitions = [Partition(output_topic, number) for number in range(settings.partitions)]
    with LogReader(settings, partitions) as reader, counted("checked", log.shape.total) as count:
        for messages in reader.messages_until(reader.seek_to_start()):
            for message in messages:
                check.add(
                    message.partition() or 0,
                    message.key(),
                    message.value(),
                    append_time_of(message),
                )
            count(len(messages))
    check.end()
    return check.appended_ms
