"""The published changelog as compaction would leave it: the newest row of each key."""

from collections.abc import Callable, Iterable

from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition


def newest_rows(
    settings: Settings, numbers: Iterable[int], takes: Callable[[bytes], bool]
) -> dict[bytes, bytes]:
    """The rows of these partition numbers and of the keys that are taken, up to the end as it is now.

    Raises Unreachable.
    """
    name = settings.topics.context.name
    rows: dict[bytes, bytes] = {}
    with LogReader(settings, [Partition(name, number) for number in numbers]) as log:
        retained = log.offset_ranges()
        log.seek({one: low for one, (low, _) in retained.items()})
        for messages in log.messages_until({one: end for one, (_, end) in retained.items()}):
            for message in messages:
                key, value = message.key() or b"", message.value()
                if not takes(key):
                    continue
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value
    return rows
