"""Up to where the audit of judging reads each topic; taken once, in this order, before anything is read.

1. The committed offsets of the batches: every batch below them has its result or its run.
2. The high watermarks of the judging log, and of the batches: each run's batch is below them.
3. The high watermarks of the results: a run that has stopped below 2 has its result below them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from processors.log.judging_log import JudgingLog
from schemas.coordinates import Partition, Positions
from schemas.events import CJBatchPrepared
from schemas.topics import Topics


@dataclass(frozen=True, slots=True)
class ChosenBatches:
    """Which batches are checked: those of the requests `[start, end)` of each partition, or with one of these ids."""

    requests: Mapping[Partition, tuple[int, int]] = field(default_factory=dict)
    batch_ids: frozenset[str] = frozenset()

    def has(self, batch: CJBatchPrepared) -> bool:
        """Whether a batch is one of them."""
        at = batch.provenance.request
        start, end = self.requests.get(Partition(at.topic, at.partition), (0, 0))
        return start <= at.offset < end or batch.request.batch_id in self.batch_ids


@dataclass(frozen=True, slots=True)
class JudgingRange:
    """Positions by partition, as `[starts, ends)` of the three topics; chosen None: all batches are checked."""

    committed: Positions
    starts: Positions
    ends: Positions
    chosen: ChosenBatches | None = None

    def of(self, topic: str, number: int) -> tuple[Partition, int, int]:
        """One partition with its range."""
        partition = Partition(topic, number)
        start = self.starts[partition]
        return partition, start, max(start, self.ends[partition])

    def has_judging(self, topics: Topics, number: int) -> bool:
        """Whether a judge has fetched a batch of this partition, or written anything there."""
        written = (
            self.ends[Partition(topic.name, number)] for topic in (topics.judging, topics.results)
        )
        return self.committed.get(Partition(topics.batches.name, number), 0) > 0 or any(written)

    @property
    def records(self) -> int:
        """An upper bound of the number of records."""
        return sum(end - self.starts[partition] for partition, end in self.ends.items())


def judging_range_of(log: JudgingLog) -> JudgingRange:
    """The current range. Raises Unreachable."""
    topics = log.settings.topics
    committed = log.committed(topics.batches)  # 1
    ends = dict(log.high_watermarks(topics.judging, topics.batches))  # 2
    ends |= log.high_watermarks(topics.results)  # 3
    starts = {
        partition: start
        for partition, (start, _) in log.ranges_of(
            topics.batches, topics.judging, topics.results
        ).items()
    }
    return JudgingRange(committed, starts, ends)
