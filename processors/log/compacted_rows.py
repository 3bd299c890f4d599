"""The changelog of the context table as compaction would leave it: the newest row of each key."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition
from tables.changelog_row import is_misplaced


@dataclass(slots=True)
class PublishedRows:
    """The newest row of each key in its partition, and the partitions and keys of rows that are elsewhere."""

    by_key: dict[bytes, bytes] = field(default_factory=dict)
    misplaced: set[tuple[int, bytes]] = field(default_factory=set)


def newest_rows(
    settings: Settings, partition_numbers: Iterable[int], is_wanted: Callable[[bytes], bool]
) -> PublishedRows:
    """The newest row of each wanted key in these partitions, up to the current end. Raises Unreachable."""
    name = settings.topics.context.name
    found = PublishedRows()
    with LogReader(settings, [Partition(name, number) for number in partition_numbers]) as log:
        ends = log.seek_to_start()
        for messages in log.messages_until(ends):
            for message in messages:
                key, value, partition = (
                    message.key() or b"",
                    message.value(),
                    message.partition() or 0,
                )
                if not is_wanted(key):
                    continue
                if is_misplaced(key, partition, settings.partitions):
                    found.misplaced.discard((partition, key))
                    if value is not None:
                        found.misplaced.add((partition, key))
                elif value is None:
                    found.by_key.pop(key, None)
                else:
                    found.by_key[key] = value
    return found
