"""Compares committed offsets of the request topic with the newest outcomes and parked entries.

Offsets and outcomes are committed together, so every request below the offset has an outcome or an entry, and none
above it has an outcome. An offset that somebody has set does not fit: going on from it would prepare requests twice, or
lose some. The newest records decide; older ones are read only as long as they leave it open.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from processors.batch_prep.request_consumer import request_offset
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.outcomes.encoding import event_id_of
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import BadRecord
from schemas.events import CJBatchPrepared, CJBatchUnresolved

TAILS = (
    20,
    500,
    20_000,
)  # offsets from the end of each partition; if they do not decide, nothing is reported
NO_PROGRESS_S = 3.0
TOLERANCE_MS = 60_000  # the clocks of brokers may differ
REMEDY = (
    "somebody has set the offset; stop all workers, and set the right one with "
    "`cjstream requests reset-offsets`"
)


@dataclass(slots=True)
class _Found:
    """What was found of one request partition."""

    committed: int
    end: int
    last: int | None = None  # the newest request below the committed offset, and its append time
    last_ms: int = 0
    is_done: bool = False  # that request has an outcome or an entry
    beyond: str | None = None  # a request at or above the offset that has an outcome
    oldest_ms: dict[str, int] = field(default_factory=dict)  # by topic, of the records read


def wrong_offsets(
    settings: Settings,
    codec: Codec,
    committed: Positions,
    high_watermarks: Callable[[list[Partition]], Positions],
) -> list[str]:
    """One sentence for each request partition whose committed offset is wrong. Raises Unreachable, Discrepancy."""
    check = _OffsetCheck(settings, codec, committed, high_watermarks)
    return check.run() if committed else []


class _OffsetCheck:
    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        committed: Positions,
        high_watermarks: Callable[[list[Partition]], Positions],
    ) -> None:
        topics = settings.topics
        self._settings, self._codec, self._topics = settings, codec, topics
        self._requests = [*committed]
        self._answers = [
            Partition(topic.name, tp.partition)
            for topic in (*topics.outcomes, topics.parked)
            for tp in committed
        ]
        ends = high_watermarks([*self._requests, *self._answers])
        self._starts = {tp: ends[tp] for tp in self._answers}
        self._starts |= {tp: min(offset, ends[tp]) for tp, offset in committed.items()}
        self._found = {tp.partition: _Found(offset, ends[tp]) for tp, offset in committed.items()}

    def run(self) -> list[str]:
        sentences = list[str]()
        with LogReader(self._settings, [*self._requests, *self._answers]) as log:
            lows = {tp: low for tp, (low, _) in log.offset_ranges().items()}
            for tail in TAILS:
                self._read(
                    log, self._requests, lows, tail
                )  # first: the others are compared with them
                self._read(log, self._answers, lows, tail)
                for number in [*self._found]:
                    if (sentence := self._decision(number, lows)) is not None:
                        sentences += [sentence] if sentence else []
                        del self._found[number]
        return sentences

    def _read(
        self, log: LogReader, partitions: Iterable[Partition], lows: Positions, tail: int
    ) -> None:
        """Read this many offsets before those that were read; of partitions that are decided, none."""
        ends = {tp: self._starts[tp] for tp in partitions if tp.partition in self._found}
        starts = {tp: max(min(lows[tp], end), end - tail) for tp, end in ends.items()}
        self._starts.update(starts)
        ends = {tp: end for tp, end in ends.items() if starts[tp] < end}
        if not ends:
            return
        log.seek({tp: starts[tp] for tp in ends})
        for record in log.records_until(ends, NO_PROGRESS_S):
            self._add(record, self._found[record.at.partition])

    def _add(self, record: LogRecord, found: _Found) -> None:
        topic, offset = record.at.topic, record.at.offset
        if topic == self._topics.requests.name:
            if found.last is None or offset > found.last:
                found.last, found.last_ms = offset, record.appended_at_ms
            return
        found.oldest_ms[topic] = min(
            found.oldest_ms.get(topic, record.appended_at_ms), record.appended_at_ms
        )
        named = request_offset(record, self._topics)
        if named is None:
            return
        if named == found.last:
            found.is_done = True
        elif found.committed <= named < found.end and self._is_outcome(record):
            found.beyond = f"{self._topics.requests.name}/{record.at.partition}@{named}"

    def _is_outcome(self, record: LogRecord) -> bool:
        """Whether it is an outcome, and no entry or forged record, of the request that it names."""
        if record.at.topic == self._topics.parked.name:
            return False
        if record.at.topic == self._topics.requests_dlq.name:
            return True
        with suppress(BadRecord):
            event = self._codec.decode(record.value)
            if isinstance(event, CJBatchPrepared | CJBatchUnresolved):
                return event.event_id == event_id_of(event.provenance.request)
        return False

    def _decision(self, number: int, lows: Positions) -> str | None:
        """What is wrong with an offset; empty: nothing. None: read more."""
        found = self._found[number]
        tp = Partition(self._topics.requests.name, number)
        start = f"group {self._settings.prep_group} has {found.committed} committed for {tp}, but"
        if found.beyond is not None:
            return f"{start} {found.beyond} has an outcome already: {REMEDY}"
        if found.last is None and self._starts[tp] > lows[tp]:
            return None
        if found.last is None or found.is_done:
            return ""
        answers = [one for one in self._answers if one.partition == number]
        if all(self._is_covered(one, found, lows) for one in answers):
            at = Coordinates(*tp, found.last)
            return f"{start} {at}, before it, has neither an outcome nor a parked entry: {REMEDY}"
        return None if any(self._starts[one] > lows[one] for one in answers) else ""

    def _is_covered(self, tp: Partition, found: _Found, lows: Positions) -> bool:
        """Whether every record that was appended after the request was read, and none was deleted."""
        is_whole = self._starts[tp] <= lows[tp] and (
            lows[tp] == 0 or tp.topic == self._topics.parked.name
        )
        oldest_ms = found.oldest_ms.get(tp.topic)
        return is_whole or (oldest_ms is not None and oldest_ms < found.last_ms - TOLERANCE_MS)
