"""The upload topics read for the audit: whole records, up to ends, and an index brought up to date with them."""

from collections.abc import Iterable

from processors.log import Log
from processors.replica_feed import record_of
from processors.settings import Settings
from tables.replica import Partition, Positions
from tables.upload_index import UploadIndex


def bring_up_to_date(
    index: UploadIndex, settings: Settings, partitions: Iterable[Partition], ends: Positions
) -> int:
    """Read on from the index's positions, or the log's start, up to these ends; gives how many records came.

    Raises Unreachable; Discrepancy where the log no longer has the index's position.
    """
    known, wanted, count = index.positions(), list(partitions), 0
    with Log(settings, wanted) as log:
        log.begin({one: known.get(one, low) for one, (low, _) in log.retained().items()})
        for messages in log.messages_to(ends):
            stands = {one: min(at, ends[one]) for one, at in log.positions().items()}
            index.add(map(record_of, messages), stands)
            count += len(messages)
    index.add((), {one: max(ends[one], known.get(one, 0)) for one in wanted})
    return count
