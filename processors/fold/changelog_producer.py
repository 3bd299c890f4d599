"""Publishes rows in the changelog, and knows the offsets of those that this worker published as their owner."""

import threading
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from concurrent.futures import CancelledError

from confluent_kafka import KafkaError, KafkaException, Message

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import enqueue
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.errors import Unreachable

RESEND_S = 600  # how long a row is sent again, while brokers restart, before the worker gives up
POLL_S = 0.05
Rows = Mapping[bytes, bytes | None]  # by key; None: a tombstone


class OffsetRanges:
    """Offsets that are added in ascending order, as ranges."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, offsets: Iterable[int]) -> None:
        """Add offsets, each greater than every one before."""
        for offset in offsets:
            if self._ends and self._ends[-1] == offset:
                self._ends[-1] = offset + 1
            else:
                self._ends.append(offset + 1)
                self._starts.append(offset)

    def __contains__(self, offset: int) -> bool:
        number = bisect_right(self._starts, offset)
        return number > 0 and offset < self._ends[number - 1]


class ChangelogProducer:
    """Publishes rows, one call at a time; other threads may ask for its offsets."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topics.context.name
        self._producer = plain_producer(settings, **{"message.timeout.ms": RESEND_S * 1000})
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._published: dict[int, OffsetRanges] = {}
        self._generation = -1

    def publish(self, partition: int, rows: Rows, generation: int) -> int:
        """Publish rows in a partition that is assigned in this generation; returns the position after the last one.

        Returns once the broker has acknowledged all of them. Raises Unreachable if it does not do so, CancelledError
        after `stop`.
        """
        if generation != self._generation:
            self._published, self._generation = {}, generation
        reports = _Reports()
        self._idle.clear()
        try:
            for key, row in rows.items():
                record = Record(self._topic, partition, key, row)
                enqueue(self._producer, record, self.check_not_stopped, on_delivery=reports.note)
            while reports.count < len(rows):
                self._producer.poll(POLL_S)
                self.check_not_stopped()
            if reports.fault is not None:
                raise Unreachable(f"a row of {self._topic} was not published: {reports.fault}")
            self._published.setdefault(partition, OffsetRanges()).add(reports.offsets)
        except KafkaException as fault:
            raise Unreachable(f"{self._topic}: {fault.args[0].str()}") from fault
        finally:
            self._idle.set()
        return reports.offsets[-1] + 1

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def check_not_stopped(self) -> None:
        """Raise CancelledError after `stop`."""
        if self.is_stopped:
            raise CancelledError("the worker stops")

    def has_published(self, partition: int, offset: int, generation: int) -> bool:
        """Whether the record at this offset is a row that was published and acknowledged in this generation."""
        if generation != self._generation:
            return False
        return offset in self._published.get(partition, ())

    def wait_until_idle(self, seconds: float) -> None:
        """Wait until no row waits for its acknowledgement, for so long at most."""
        self._idle.wait(seconds)

    def stop(self) -> None:
        """End a `publish` that waits for acknowledgements."""
        self._stopping.set()


class _Reports:
    """The delivery reports of one call."""

    def __init__(self) -> None:
        self.count = 0
        self.offsets: list[int] = []
        self.fault: str | None = None

    def note(self, error: KafkaError | None, message: Message) -> None:
        self.count += 1
        if error is None:
            self.offsets.append(message.offset() or 0)
        else:
            self.fault = error.str()
