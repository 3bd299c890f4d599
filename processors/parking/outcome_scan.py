"""Reads the outcomes since some time, in short steps, for those of wanted requests."""

from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from processors.kafka.poll import poll_records, read_positions
from processors.kafka.records import headers_of
from processors.outcomes.answered_request import dead_lettered_offset, offset_in
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.topics import Topics

POLL_S = 0.05
MAX_POLLED_RECORDS = 5000
REQUEST_S = 2.0
TOLERANCE_MS = (
    60_000  # an outcome is appended after its request, but the clocks of brokers may differ
)


class OutcomeScan:
    """One scan, of the outcome partitions with the numbers of the wanted requests, up to their high watermarks."""

    def __init__(
        self,
        reader: Consumer,
        topics: Topics,
        wanted: Mapping[int, set[int]],
        since_ms: Mapping[int, int],
        high_watermarks: Callable[[list[Partition]], Positions],
    ) -> None:
        """wanted: offsets by partition; since_ms: the append time of the oldest one, 0 if unknown.

        Raises KafkaException, Unreachable.
        """
        self._reader = reader
        self._requests = topics.requests.name
        self._letters = topics.requests_dlq.name
        self._prefixes = {number: f"{self._requests}/{number}@".encode() for number in wanted}
        self._wanted = wanted
        self.answered = set[Coordinates]()
        partitions = [Partition(topic.name, n) for topic in topics.outcomes for n in wanted]
        # not the last stable offsets: the outcomes of a committed transaction may lack their marker
        self._ends = high_watermarks(partitions)
        starts = _offsets_since(
            reader, {tp: max(0, since_ms[tp.partition] - TOLERANCE_MS) for tp in partitions}
        )
        self._positions = {tp: start for tp, start in starts.items() if start < self._ends[tp]}
        reader.assign([TopicPartition(*tp, start) for tp, start in self._positions.items()])

    @property
    def wanted(self) -> set[Coordinates]:
        """The wanted requests."""
        return {
            Coordinates(self._requests, number, offset)
            for number, offsets in self._wanted.items()
            for offset in offsets
        }

    def is_finished(self, is_time_left: Callable[[], bool]) -> bool:
        """Read on while there is time; returns whether every outcome was read. Raises Discrepancy."""
        while behind := [
            tp for tp, position in self._positions.items() if position < self._ends[tp]
        ]:
            if not is_time_left():
                return False
            for message in poll_records(self._reader, MAX_POLLED_RECORDS, POLL_S):
                self._add(message)
            self._positions.update(read_positions(self._reader, behind))
        return True

    def _add(self, message: Message) -> None:
        number = message.partition() or 0
        if message.topic() == self._letters:
            offset = dead_lettered_offset(headers_of(message), self._requests, number)
        else:
            offset = offset_in(message.value() or b"", self._prefixes[number])
        if offset in self._wanted[number]:
            self.answered.add(Coordinates(self._requests, number, offset))


def _offsets_since(reader: Consumer, times_ms: Mapping[Partition, int]) -> Positions:
    """An offset of each partition before which every committed record was appended before that time."""
    # before the query, which finds nothing from the last stable offset on
    stable = {
        tp: reader.get_watermark_offsets(TopicPartition(*tp), timeout=REQUEST_S, cached=False)[1]
        for tp in times_ms
    }
    found = reader.offsets_for_times(
        [TopicPartition(*tp, ms) for tp, ms in times_ms.items()], timeout=REQUEST_S
    )
    for tp in found:
        if tp.error is not None:
            raise KafkaException(tp.error)
    offsets = {Partition(tp.topic, tp.partition): tp.offset for tp in found}
    return {tp: offsets[tp] if offsets[tp] >= 0 else end for tp, end in stable.items()}
