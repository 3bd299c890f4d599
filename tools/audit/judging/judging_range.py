"""Up to where the audit of judging reads each topic; taken once, in this order, before anything is read.

1. The committed offsets of the batches: every batch below them has its result or its run.
2. The high watermarks of the judging log, and of the batches: each run's batch is below them.
3. The high watermarks of the results: a run that has stopped below 2 has its result below them.
"""

from dataclasses import dataclass

from processors.log.judging_log import JudgingLog
from schemas.coordinates import Partition, Positions


@dataclass(frozen=True, slots=True)
class JudgingRange:
    """Positions by partition, as `[starts, ends)` of the three topics."""

    committed: Positions
    starts: Positions
    ends: Positions

    def of(self, topic: str, number: int) -> tuple[Partition, int, int]:
        """One partition with its range."""
        partition = Partition(topic, number)
        start = self.starts[partition]
        return partition, start, max(start, self.ends[partition])

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
