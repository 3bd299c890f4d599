"""The changelog of the context table as compaction would leave it: the newest row of each key."""

from collections.abc import Callable, Iterable

from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition


def newest_rows(
    settings: Settings, partition_numbers: Iterable[int], is_wanted: Callable[[bytes], bool]
) -> dict[bytes, bytes]:
    """The newest row of each wanted key in these partitions, up to the current end. Raises Unreachable."""
    name = settings.topics.context.name
    rows: dict[bytes, bytes] = {}
    with LogReader(settings, [Partition(name, number) for number in partition_numbers]) as log:
        ends = log.seek_to_start()
        for messages in log.messages_until(ends):
            for message in messages:
                key, value = message.key() or b"", message.value()
                if not is_wanted(key):
                    continue
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value
    return rows
